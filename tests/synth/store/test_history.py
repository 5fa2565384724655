"""The life of a sample, from its source to its releases, and of runs, texts, calls and releases."""

from dataclasses import dataclass, replace
from uuid import UUID

import pytest

from synth.records import (
    Draft,
    FoundBy,
    Negative,
    Retrieval,
    ReviewEvent,
    Source,
    StoreError,
    UserError,
    Verdict,
    key_of,
    new_id,
    text_id,
)
from synth.store import minings, reviews, runs, samples, sources
from synth.store.calls import Call, add_calls
from synth.store.connection import Store
from synth.store.history import life
from synth.store.made import add_finished
from synth.store.minings import Fallen, Mined
from synth.store.rows import insert, now
from synth.store.sources import NewPassage
from tests.synth.store.finishing import done

SEED, WRONG, CLOSE = "Cats\nA cat purrs when it is content.", "A dog barks.", "Lions roar and purr."
CALL = Call(
    key_of("asked"),
    text_id(SEED),
    "test-model",
    "query-1",
    {"temperature": 1.0},
    0,
    "used",
    100,
    20,
    0.002,
    0.5,
    server="http://127.0.0.1:8000/v1",
    asked="test-model",
)


@dataclass(frozen=True)
class Told:
    """A store with one sample that everything happened to."""

    store: Store
    sample_id: UUID
    run_id: UUID
    release_id: UUID
    events: list[ReviewEvent]


@pytest.fixture
def told(store: Store, training_source: Source) -> Told:
    passages = [NewPassage(text_id(text), text, text.partition("\n")[0], "") for text in (SEED, WRONG, CLOSE)]
    with runs.recorded(store, "generate", {"per_seed": 1}, model="test-model", prompt_version="query-1") as run:
        draft = Draft(
            Retrieval("what purrs?", (SEED,)),
            training_source.source_id,
            "query",
            "llm",
            text_id(SEED),
            "test-model",
            "query-1",
            call_id=CALL.call_id,
        )
        with store.write() as cursor:
            sources.add_passages(cursor, training_source.source_id, passages)
            add_finished(cursor, key_of("g"), run.run_id, [done(text_id(SEED), [draft], {"copied": 2})])
            add_calls(cursor, [CALL], run.run_id)
        run.count(stored=1)
        run.cost = 0.002
    [sample] = minings.minable(store, key_of("m"))
    found = [
        Negative(sample.sample_id, sample.revision_id, text_id(text), "mined", rank, score, 0.8, *known)
        for rank, (text, score, *known) in enumerate([(CLOSE, 0.7, (FoundBy("bm25", 1, 7.5),)), (WRONG, 0.3)], start=2)
    ]
    fallen = (Fallen(text_id(SEED), 1, 0.9, "capped"),)
    mined = Mined(sample, "short", "2 of 3", 1, tuple(found), 9, 1, 0.8, {"capped": 1}, fallen)
    with runs.recorded(store, "mine", {}, model="bag-of-words") as mining:
        for number in (2, 3):
            with mining.step("search", number, "cpu"):
                pass
        with store.write() as cursor:
            minings.add_mined(cursor, key_of("m"), mining.run_id, [mined])
    events = judged(store, sample)
    return Told(store, sample.sample_id, run.run_id, released(store, sample), events)


def judged(store: Store, sample: minings.Minable) -> list[ReviewEvent]:
    """Approved, one negative dropped, rejected and that undone, edited."""
    with store.read() as cursor:
        [(negative,)] = cursor.execute("SELECT negative_id FROM negatives WHERE text = ?", [CLOSE]).fetchall()
    blank = ReviewEvent(
        new_id(), "ann", sample.sample_id, sample.revision_id, Verdict.APPROVE, difficulty=2, seconds=3.5
    )
    rejection = replace(blank, review_id=new_id(), verdict=Verdict.REJECT, reasons=("too-easy",), note="hm")
    events = [
        blank,
        replace(blank, review_id=new_id(), reviewer="ben", verdict=Verdict.FALSE_NEGATIVE, negative_id=negative),
        rejection,
        replace(rejection, review_id=new_id(), verdict=Verdict.SKIP, reasons=(), undoes=rejection.review_id),
        replace(
            blank, review_id=new_id(), edited_id=new_id(), edit=Retrieval("what purrs?", (SEED, "Kittens purr too."))
        ),
    ]
    for event in events:
        reviews.add_reviews(store, [event])
    return events


def released(store: Store, sample: minings.Minable) -> UUID:
    release_id = new_id()
    row = {"release_id": release_id, "name": "first", "digest": "d", "policy": "{}", "counts": '{"retrieval": 1}'}
    item = {"release_id": release_id, "sample_id": sample.sample_id, "revision_id": sample.revision_id}
    with store.write() as cursor:
        insert(cursor, "release", [row | {"path": "/releases/first", "run_id": new_id(), "created_at": now()}])
        insert(cursor, "release_item", [item | {"negative_ids": []}])
        finding = {"run_id": new_id(), "sample_id": sample.sample_id, "revision_id": sample.revision_id}
        insert(cursor, "near_duplicate", [finding | {"kept_id": new_id(), "similarity": 0.9, "created_at": now()}])
    return release_id


def test_a_samples_life_goes_from_its_source_to_its_releases(told: Told) -> None:
    found = life(told.store, str(told.sample_id))
    assert (found["thing"], found["task"], found["status"]) == ("sample", "retrieval", "approved")
    assert (found["source"]["name"], found["source"]["licence"]) == ("guide", "CC0-1.0")
    assert (found["seed"]["text"], found["seed"]["title"]) == (SEED, "Cats")
    first, edit = found["revisions"]
    assert first["content"] == {"instruction": "", "query": "what purrs?", "positives": [SEED]}
    assert (first["run"]["run_id"], first["run"]["kind"]) == (told.run_id, "generate")
    assert first["call"] == {
        "call_id": CALL.call_id,
        "attempt": 0,
        "turn": 0,
        "outcome": "used",
        "sampling": {"temperature": 1.0},
        "tokens_in": 100,
        "tokens_out": 20,
        "cost": 0.002,
        "seconds": 0.5,
    }
    assert (edit["parent_id"], edit["actor"], edit["withdrawn"]) == (first["revision_id"], "ann", False)
    assert edit["changes"] == {"positives": [[SEED], [SEED, "Kittens purr too."]]}
    assert edit["edited_by"] == {"reviewer": "ann", "review_id": told.events[-1].review_id, "verdict": "approve"}
    assert [each["name"] for each in found["releases"]] == ["first"]
    assert [each["similarity"] for each in found["near_duplicates"]] == [0.9]


def test_negatives_say_how_they_were_found_and_who_dropped_them(told: Told) -> None:
    found = life(told.store, str(told.sample_id))
    by_text = {each["text"]: each for each in found["negatives"] if each["revision_id"] == told.sample_id}
    assert (by_text[CLOSE]["rank"], by_text[CLOSE]["score"], by_text[CLOSE]["miner"]) == (2, 0.7, "bag-of-words")
    assert by_text[CLOSE]["verdicts"] == [{"reviewer": "ben", "verdict": "false_negative", "drops": True}]
    assert (by_text[CLOSE]["is_dropped"], by_text[WRONG]["is_dropped"]) == (True, False)
    assert by_text[CLOSE]["miners"] == [{"miner": "bm25", "rank": 1, "score": 7.5}]
    [mined] = found["minings"]
    assert (mined["status"], mined["num_candidates"], mined["fallen"]) == ("short", 9, {"capped": 1})
    assert [(each["text"], each["reason"]) for each in mined["candidates"]] == [(SEED, "capped")]


def test_a_run_tells_its_steps_each_once_with_all_its_time(told: Told) -> None:
    [run_id] = [each["run_id"] for each in life(told.store, str(told.sample_id))["minings"]]
    [step] = life(told.store, str(run_id))["steps"]
    assert step.pop("seconds") > 0
    assert step == {"step": "search", "times": 2, "number": 5, "detail": "cpu"}


def test_a_negative_names_the_releases_that_hold_it_and_a_release_its_judges(told: Told) -> None:
    with told.store.write() as cursor:
        cursor.execute(
            "UPDATE release_item SET negative_ids = (SELECT list(negative_id) FROM negative n"
            " WHERE n.text_id = $wrong AND n.revision_id = release_item.revision_id)",
            {"wrong": text_id(WRONG)},
        )
        cursor.execute('UPDATE release SET policy = \'{"judged": "all"}\'')
    found = life(told.store, str(told.sample_id))
    held = {(each["text"], each["revision_id"] == told.sample_id): each["releases"] for each in found["negatives"]}
    assert held == {(CLOSE, True): [], (WRONG, True): ["first"], (CLOSE, False): [], (WRONG, False): []}
    assert (found["releases"][0]["num_negatives"], found["releases"][0]["judged"]) == (1, "all")


def judge(told: Told, revision_id: UUID, *grades: tuple[str, int, bool], by: str = "judge-7b") -> UUID:
    """Store what a judge said of passages of a revision: text, grade, and whether it is the positive."""
    said = {"sample_id": told.sample_id, "revision_id": revision_id, "stage_key": key_of(by), "judge": by}
    words = {"judge_kind": "llm", "version": "v1", "reason": "it says so"}
    with runs.recorded(told.store, "judge", {}) as run, told.store.write() as cursor:
        for text, grade, is_positive in grades:
            own = {"judgement_id": new_id(), "text_id": text_id(text), "grade": grade, "is_positive": is_positive}
            insert(cursor, "judgement", [{**said, **words, **own, "run_id": run.run_id, "created_at": now()}])
    return run.run_id


def test_what_a_judge_said_is_told_with_what_follows_and_whether_people_overruled_it(told: Told) -> None:
    latest = told.events[-1].edited_id
    assert latest is not None
    judge(told, told.sample_id, (SEED, 2, True))
    run_id = judge(told, latest, (CLOSE, 3, False), (WRONG, 2, False), (SEED, 1, True))
    judge(told, latest, (SEED, 3, True), by="a judge")
    found = life(told.store, str(told.sample_id))["judgements"]
    columns = ("judge", "text", "is_positive", "grade", "positive_grade", "suggestion", "is_overruled", "is_of_latest")
    assert [tuple(each[name] for name in columns) for each in found] == [
        ("a judge", SEED, True, 3, 3, None, None, True),
        ("judge-7b", SEED, True, 1, 1, "drop_sample", True, True),
        ("judge-7b", CLOSE, False, 3, 1, "promote", None, True),  # dropped by ben: nothing is left to overrule
        ("judge-7b", WRONG, False, 2, 1, "drop_negative", True, True),
        ("judge-7b", SEED, True, 2, 2, None, None, False),
    ]
    assert (found[0]["reason"], found[0]["judge_kind"], found[1]["run_id"]) == ("it says so", "llm", run_id)
    assert life(told.store, str(run_id))["made"]["judgements"] == [
        {"judge": "judge-7b", "is_positive": is_positive, "grade": grade, "n": 1}
        for is_positive, grade in ((False, 2), (False, 3), (True, 1))
    ]


def test_a_suggestion_that_nobody_spoke_against_stands(told: Told) -> None:
    reviews.add_reviews(
        told.store,
        [
            replace(each, review_id=new_id(), verdict=Verdict.SKIP, undoes=each.review_id, edit=None, edited_id=None)
            for each in (told.events[-1], told.events[0])
        ],
    )
    judge(told, told.sample_id, (SEED, 1, True))
    other = new_id()
    with told.store.write() as cursor:  # what was said of another sample is no part of this one's life
        cursor.execute(
            "INSERT INTO revision BY NAME SELECT * REPLACE ($id AS revision_id, $id AS sample_id)"
            " FROM revision WHERE revision_id = $of",
            {"id": other, "of": told.sample_id},
        )
        cursor.execute(
            "INSERT INTO judgement BY NAME SELECT * REPLACE ($id AS judgement_id, $id AS revision_id, $id AS sample_id)"
            " FROM judgement",
            {"id": other},
        )
    [said] = life(told.store, str(told.sample_id))["judgements"]
    assert (said["suggestion"], said["is_overruled"]) == ("drop_sample", False)


def test_a_relabelling_is_told_with_its_candidates_and_their_texts_best_first(told: Told) -> None:
    candidates = [
        {"text_id": str(text_id(text)), "rank": 1, "score": 0.5, "likelihood": 2, "grade": grade, "place": place}
        for text, grade, place in ((SEED, 1, 3), (CLOSE, 3, 1), ("gone", None, 2))
    ]
    row = {"stage_key": key_of("r"), "sample_id": told.sample_id, "revision_id": told.sample_id, "num_negatives": 4}
    row |= {"outcome": "moved", "moved_to": new_id(), "passage_from": text_id(SEED), "passage_to": text_id(CLOSE)}
    with runs.recorded(told.store, "relabel", {}) as run, told.store.write() as cursor:
        insert(cursor, "relabelled", [row | {"candidates": candidates, "run_id": run.run_id, "created_at": now()}])
    [found] = life(told.store, str(told.sample_id))["relabellings"]
    assert (found["outcome"], found["moved_to"], found["num_negatives"]) == ("moved", row["moved_to"], 4)
    assert (found["passage_from"], found["passage_to"]) == (text_id(SEED), text_id(CLOSE))
    told_of = [(each["text"], each["grade"], each["place"]) for each in found["candidates"]]
    assert told_of == [(CLOSE, 3, 1), (None, None, 2), (SEED, 1, 3)]
    assert life(told.store, str(run.run_id))["made"]["relabellings"] == [{"outcome": "moved", "n": 1}]


def test_the_view_of_verdicts_on_negatives_drops_what_releases_drop(told: Told) -> None:
    with told.store.read() as cursor:
        dropped = cursor.execute(reviews.DROPPED).fetchall()
        shown = cursor.execute("SELECT DISTINCT sample_id, text_id FROM negative_verdicts WHERE drops").fetchall()
    assert dropped == shown == [(told.sample_id, text_id(CLOSE))]


def test_every_event_is_told_the_undone_ones_too(told: Told) -> None:
    events = life(told.store, str(told.sample_id))["reviews"]
    assert [(each["reviewer"], each["verdict"], each["is_undone"]) for each in events] == [
        ("ann", "approve", False),
        ("ben", "false_negative", False),
        ("ann", "reject", True),
        ("ann", "skip", False),
        ("ann", "approve", False),
    ]
    assert (events[2]["reasons"], events[2]["note"], events[0]["difficulty"], events[0]["seconds"]) == (
        ["too-easy"],
        "hm",
        2,
        3.5,
    )


def test_a_revision_a_review_and_a_negative_are_told_as_their_sample(told: Told) -> None:
    asked = {"revision": told.events[-1].edited_id, "review": told.events[0].review_id}
    asked["negative"] = life(told.store, str(told.sample_id))["negatives"][0]["negative_id"]
    for kind, given in asked.items():
        found = life(told.store, str(given))
        assert (found["thing"], found["id"], found["asked"]) == ("sample", told.sample_id, {kind: given})


def test_a_run_tells_what_it_made(told: Told) -> None:
    found = life(told.store, str(told.run_id))
    assert [found[key] for key in ("thing", "kind", "status", "cost")] == ["run", "generate", "done", 0.002]
    assert found["counts"] == {"stored": 1}
    assert found["config"] == {"per_seed": 1}
    made = found["made"]
    assert made["samples"] == [{"source": "guide", "task": "retrieval", "operation": "query", "method": "llm", "n": 1}]
    assert made["rejected"] == [{"reason": "copied", "n": 2}]
    assert (made["calls"][0]["outcome"], made["calls"][0]["n"]) == ("used", 1)
    assert "negatives" not in made


def test_a_text_tells_where_it_is_used(told: Told) -> None:
    seed = life(told.store, str(text_id(SEED)))
    assert (seed["text"], seed["passages"][0]["source"]) == (SEED, "guide")
    assert [seed[use]["num_samples"] for use in ("seed_of", "positive_of", "negative_of")] == [1, 1, 0]
    assert life(told.store, str(text_id(WRONG)))["negative_of"]["samples"][0]["sample_id"] == told.sample_id


def test_a_call_and_a_release_are_told(told: Told) -> None:
    call = life(told.store, str(CALL.call_id))
    assert (call["seed_text"], call["made"]["num_samples"], call["sampling"]) == (SEED, 1, {"temperature": 1.0})
    release = life(told.store, "first")
    assert release == life(told.store, str(told.release_id))
    assert (release["num_samples"], release["samples"][0]["licence"]) == (1, "CC0-1.0")


def test_the_beginning_of_an_id_will_do_with_or_without_dashes_in_any_case(told: Told) -> None:
    whole = str(text_id(SEED))
    for given in (whole[:6], whole[:11], whole.replace("-", ""), whole.upper(), f" {whole[:8]} "):
        assert life(told.store, given)["id"] == text_id(SEED)


def test_an_id_that_several_things_begin_with_is_refused_with_what_they_are(told: Told) -> None:
    with pytest.raises(UserError, match=r"may be \w+ [0-9a-f-]{36}, .*; give more digits"):
        life(told.store, str(told.sample_id)[:6])


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("", "it is no id"),
        ("abc", "6 or more"),
        ("no such release", "no release is called 'no such release'"),
        ("'; DROP TABLE run; --", "no release is called"),
        ("\x1b[31m" + "x" * 5000, "no release is called"),
        ("f" * 32, "begins or, of a run, ends so"),
        ("f" * 33, "it is no id"),
        ("%", "it is no id"),
        ("ffffff", "nothing is 'ffffff'"),
    ],
)
def test_what_is_not_there_is_one_short_line(told: Told, given: str, said: str) -> None:
    with pytest.raises(UserError, match=said) as refused:
        life(told.store, given)
    assert len(str(refused.value)) < 300 and "\n" not in str(refused.value)


def test_a_sample_made_from_another_one_names_it_and_is_named_by_it(told: Told, training_source: Source) -> None:
    made = new_id()
    with told.store.write() as cursor:
        cursor.execute(
            "INSERT INTO revision BY NAME SELECT * REPLACE ($made AS revision_id, $made AS sample_id,"
            " sample_id AS parent_id, 'paraphrase' AS operation, 'what purrs softly?' AS query)"
            " FROM revision WHERE revision_id = $id",
            {"made": made, "id": told.sample_id},
        )
        samples.refresh_state(cursor, [made])
    [parent] = life(told.store, str(made))["made_from"]
    assert (parent["sample_id"], parent["text"]) == (told.sample_id, "what purrs?")
    assert [each["sample_id"] for each in life(told.store, str(told.sample_id))["made_of_it"]] == [made]


def test_a_sample_without_its_state_or_its_source_is_one_line_with_the_remedy(told: Told) -> None:
    for table, remedy in (("source", "synth store verify"), ("sample_state", "synth store rebuild")):
        with told.store.write() as cursor:
            cursor.execute(f"DELETE FROM {table}")
        with pytest.raises(StoreError, match=remedy):
            life(told.store, str(told.sample_id))
