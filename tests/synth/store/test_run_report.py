"""What a report reads of the store: texts beside what they were made from, drawn by a seed."""

import pytest

from synth.records import Classification, Retrieval, Sts, Written
from synth.store import runs
from synth.store.connection import Store
from synth.store.made import Finished
from synth.store.reported_runs import find_reported_run
from synth.store.run_report import (
    Scope,
    accepted,
    pairs,
    rejected,
    run_counts,
    written_and_real,
)
from tests.synth.stages.reporting import (
    HARBOUR,
    OTHER,
    TOWER,
    a_run,
    added,
    draft,
    passage,
    with_sources,
)
from tests.synth.stages.reporting import rejected as refused

ASKED = Retrieval("who dug the harbour?", (HARBOUR,))
REWRITTEN = Retrieval("by whom was it dug?", ("By hand it was dug, in 1780.",))
WORSE = Written("The harbour of Birch was dug much later.", "other_aspect", "the harbour of Alder")


@pytest.fixture(autouse=True)
def sources(store: Store) -> None:
    with_sources(store)


def test_a_run_of_the_extractive_engine_brought_samples_without_a_reply(store: Store) -> None:
    seed = passage()
    run_id = a_run(store, Finished(seed, [draft(ASKED, seed, operation="query")]), turns=())
    with runs.recorded(store, "generate", {}):
        pass
    assert find_reported_run(store, "last") == (run_id, "generate")


def test_a_rewriting_stands_beside_its_original_and_what_stayed_is_left_out(store: Store) -> None:
    asked, scored, labelled = added(store, ASKED, Sts("A boat.", "A ship.", 4.2), Classification("no card", "card"))
    run_id = a_run(
        store,
        Finished(asked, [draft(REWRITTEN, asked)]),
        Finished(scored, [draft(Sts("A boat.", "A vessel.", 4.2), scored)]),
        Finished(labelled, [draft(Classification("the card is missing", "card"), labelled)]),
    )
    found = {each.parts[0].name: each for each in accepted(store, run_id, limit=10, seed=0)}
    assert [(part.name, part.text, part.original, part.is_rewriting) for part in found["query"].parts] == [
        ("query", REWRITTEN.query, ASKED.query, True),
        ("passage", REWRITTEN.positives[0], HARBOUR, True),
    ]
    assert [(part.text, part.original) for part in found["text 2"].parts] == [("A vessel.", "A ship.")]
    assert found["text 2"].notes == ("score: 4.2",) and found["text"].notes == ("label: card",)


def test_a_query_stands_beside_the_passage_it_is_about(store: Store) -> None:
    seed = passage()
    run_id = a_run(store, Finished(seed, [draft(ASKED, seed, operation="query")]), operation="query")
    [shown] = accepted(store, run_id, limit=10, seed=0)
    assert [(part.name, part.original, part.is_rewriting) for part in shown.parts] == [("query", HARBOUR, False)]


def test_a_negative_stands_beside_what_the_checks_compare_it_with_and_with_the_sample_it_came_with(
    store: Store,
) -> None:
    [asked] = added(store, ASKED)
    alone = a_run(store, Finished(asked, [WORSE]), operation="hard-negative")
    [negative] = accepted(store, alone, limit=10, seed=0)
    assert (negative.thing, negative.parts[0].text, negative.parts[0].original) == ("negative", WORSE.text, HARBOUR)
    assert negative.notes == ("query: who dug the harbour?", "other aspect, lacks: the harbour of Alder")
    together = a_run(store, Finished(asked, [draft(REWRITTEN, asked, operation="augment", written=[WORSE])]))
    [sample] = accepted(store, together, limit=10, seed=0)
    assert [part.name for part in sample.parts] == ["query", "passage", "hard negative"]
    assert sample.parts[2].original == HARBOUR  # and not the new positive
    seed = passage(TOWER)
    made = draft(Retrieval("who lit the tower?", (TOWER,)), seed, operation="short-long", written=[WORSE])
    [sample] = accepted(store, a_run(store, Finished(seed, [made])), limit=10, seed=0)
    assert sample.parts[1].original == TOWER


def test_a_rejected_text_stands_beside_all_of_its_seed(store: Store) -> None:
    [asked] = added(store, ASKED)
    run_id = a_run(
        store,
        Finished(asked, [], [refused("length", "by whom?", "far shorter")]),
        Finished(passage(TOWER), [], [refused("language", "what is it made of?")]),
    )
    found = {each.reason: each for each in rejected(store, run_id, limit=10, seed=0)}
    assert found["length"].parts[0].original == f"query: {ASKED.query}\npassage: {HARBOUR}"
    assert (found["length"].parts[0].text, found["length"].notes) == ("by whom?", ("far shorter",))
    assert found["language"].parts[0].original == TOWER


def test_the_same_seed_draws_the_same_and_a_smaller_draw_begins_a_larger_one(store: Store) -> None:
    seed = passage()
    drafts = [draft(Retrieval(f"query {number}", (HARBOUR,)), seed, operation="query") for number in range(30)]
    refusals = [refused("length", f"text {number}") for number in range(30)]
    run_id = a_run(store, Finished(seed, drafts, refusals))
    for of in (accepted, rejected):
        drawn = of(store, run_id, limit=10, seed=1)
        assert drawn == of(store, run_id, limit=20, seed=1)[:10]
        assert drawn != of(store, run_id, limit=10, seed=2)


def test_seeds_are_counted_by_what_became_of_them(store: Store) -> None:
    asked, again = added(store, ASKED, Retrieval("who guides the skiffs?", (HARBOUR,)))
    run_id = a_run(
        store,
        Finished(asked, [draft(REWRITTEN, asked), WORSE], [refused("length", "a"), refused("length", "b")]),
        Finished(again, [draft(REWRITTEN, again)]),  # known by now
        num_seeds=5,
        turns=(0, 1, 2),
    )
    told = run_counts(store, run_id)
    assert (told["num_done"], told["num_accepted"], told["num_short"], told["num_failed"]) == (2, 3, 1, 0)
    assert (told["num_samples"], told["num_negatives"], told["counts"]["known"]) == (1, 1, 1)
    assert told["tries"] == {3: 2}
    assert told["rejections"] == [{"reason": "length", "n": 2}]


def test_a_seed_that_was_asked_about_and_is_not_done_is_begun(store: Store) -> None:
    asked, other = added(store, ASKED, Retrieval("who guides the skiffs?", (HARBOUR,)))
    run_id = a_run(store, Finished(asked, []), Finished(other, []), num_seeds=5, turns=(0, 1))
    with store.write() as cursor:
        cursor.execute("DELETE FROM generated WHERE run_id = ? AND seed_id = ?", [run_id, other.seed_id])
    told = run_counts(store, run_id)
    assert (told["num_done"], told["num_failed"], told["num_begun"], told["tries"]) == (1, 0, 1, {2: 2})


def test_a_written_passage_stands_beside_the_real_one_and_no_real_one_stands_twice(store: Store) -> None:
    [asked] = added(store, ASKED)
    seed = passage(TOWER)
    queries = a_run(store, Finished(seed, [draft(Retrieval("由什么砌成？", (TOWER,)), seed, operation="query")]))
    assert written_and_real(store, Scope(queries), limit=10) == []  # nobody wrote a passage
    run_id = a_run(store, Finished(asked, [draft(REWRITTEN, asked), WORSE]))
    [(written, real)] = written_and_real(store, Scope(run_id), limit=10)
    assert written in (REWRITTEN.positives[0], WORSE.text) and real == HARBOUR
    with_own = Retrieval("塔有多高？", ("塔高十米，由石头砌成。",))
    other = a_run(store, Finished(seed, [draft(with_own, seed, operation="long-long")]))
    assert written_and_real(store, Scope(other), limit=10) == [(with_own.positives[0], TOWER)]
    assert len(written_and_real(store, Scope(run_id, ("guide",)), limit=10)) == 2
    assert written_and_real(store, Scope(run_id, ("atlas",)), limit=10) == []


def test_pairs_are_of_the_runs_samples_and_of_those_it_wrote_negatives_for(store: Store) -> None:
    asked, unasked = added(store, ASKED, Retrieval("who guides the skiffs?", (HARBOUR,)))
    added(store, Retrieval("what is an atlas?", ("A book of maps.",)), source=OTHER)
    run_id = a_run(store, Finished(asked, [WORSE]), Finished(unasked, [draft(REWRITTEN, unasked)]))
    found = {pair.query: pair for pair in pairs(store, Scope(run_id), limit=10)}
    assert found.keys() == {ASKED.query, REWRITTEN.query}
    assert found[ASKED.query].negatives == [("generated", "other_aspect", WORSE.text)]
    assert [pair.query for pair in pairs(store, Scope(run_id, ("atlas",)), limit=10)] == ["what is an atlas?"]
    assert len(pairs(store, Scope(run_id), limit=1)) == 1
