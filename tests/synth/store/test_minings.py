"""What mining found for each sample, all that is known of it, and what it did not take and why."""

import json
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest

from synth.records import Draft, FoundBy, Negative, Retrieval, ReviewEvent, Source, Verdict, key_of, new_id, text_id
from synth.store import minings, samples, sources
from synth.store.connection import Store
from synth.store.console import query
from synth.store.made import add_finished
from synth.store.minings import MOST_CANDIDATES, Fallen, Minable, Mined
from synth.store.reviews import add_reviews
from synth.store.sources import NewPassage
from tests.synth.store.finishing import done

QUESTION = Retrieval("what purrs?", ("A cat purrs.",))
BARKS, MOOS = "A dog barks.", "A cow moos."
KNOWN = {
    "miners": [{"miner": "dense", "rank": 12, "score": 0.7}, {"miner": "bm25", "rank": 3, "score": 9.5}],
    "num_votes": 2,
    "relevance": 0.91,
    "positive_relevance": 0.88,
    "positive_similarity": 0.97,
    "overlap": 0.5,
    "flags": ["near_positive", "above_reranker"],
    "relaxed": ["cap"],
}


@pytest.fixture
def asked(store: Store, training_source: Source) -> Minable:
    """A sample to mine for, in a corpus of two passages."""
    with store.write() as cursor:
        samples.add_drafts(cursor, [Draft(QUESTION, training_source.source_id, "query")], new_id())
        passages = [NewPassage(text_id(text), text, "", "") for text in (BARKS, MOOS)]
        sources.add_passages(cursor, training_source.source_id, passages)
    [found] = minings.minable(store, key_of("never"))
    return found


def negative(asked: Minable, text: str, **known: Any) -> Negative:
    return replace(Negative(asked.sample_id, asked.revision_id, text_id(text), "mined", 3, 0.4, 0.8), **known)


def known(asked: Minable, text: str) -> Negative:
    """A negative with all that KNOWN says of it."""
    return negative(
        asked,
        text,
        miners=(FoundBy("dense", 12, 0.7), FoundBy("bm25", 3, 9.5)),
        relevance=0.91,
        positive_relevance=0.88,
        positive_similarity=0.97,
        overlap=0.5,
        flags=("near_positive", "above_reranker"),
        relaxed=("cap",),
    )


def add(store: Store, *drafts: Draft) -> int:
    with store.write() as cursor:
        return samples.add_drafts(cursor, drafts, new_id())


def rows(store: Store, sql: str) -> list[tuple[object, ...]]:
    with store.read() as cursor:
        return cursor.execute(sql).fetchall()


def store_mined(store: Store, *found: Mined, stage: str = "m") -> UUID:
    """Store what a run found; its id."""
    run_id = new_id()
    with store.write() as cursor:
        minings.add_mined(cursor, key_of(stage), run_id, found)
    return run_id


def told(store: Store, columns: Any = KNOWN, of: str = "negatives") -> dict[str, dict[str, Any]]:
    """Columns of a view, by text."""
    rows = query(store, f"SELECT text, {', '.join(columns)} FROM {of} ORDER BY ALL").to_pylist()
    return {row.pop("text"): row for row in rows}


def test_all_that_is_known_of_a_negative_is_told_and_of_others_nothing_is(store: Store, asked: Minable) -> None:
    store_mined(store, Mined(asked, "full", "", 1, (known(asked, BARKS), negative(asked, MOOS))))
    found = told(store)
    assert found[BARKS] == KNOWN
    assert not any(found[MOOS].values())
    assert found[MOOS]["num_votes"] is None  # not 0: who found it was not stored


def test_a_batch_of_which_nothing_more_is_known_is_stored_too(store: Store, asked: Minable) -> None:
    store_mined(store, Mined(asked, "full", "", 1, (negative(asked, BARKS), negative(asked, MOOS))))
    assert query(store, "SELECT typeof(miners) AS t, typeof(flags) AS f FROM negatives").to_pylist()[0] == {
        "t": "STRUCT(miner VARCHAR, rank INTEGER, score DOUBLE)[]",
        "f": "VARCHAR[]",
    }


def test_what_is_known_goes_along_with_an_edit(store: Store, asked: Minable) -> None:
    store_mined(store, Mined(asked, "full", "", 1, (known(asked, BARKS),)))
    edit = replace(QUESTION, positives=("A cat purrs.", "So does a lion."))
    event = ReviewEvent(new_id(), "ann", asked.sample_id, asked.revision_id, Verdict.APPROVE, edited_id=new_id())
    add_reviews(store, [replace(event, edit=edit)])
    assert told(store, of=f"(FROM negatives WHERE revision_id = '{event.edited_id}')")[BARKS] == KNOWN


def test_a_mining_tells_how_many_candidates_fell_and_why(store: Store, asked: Minable) -> None:
    fallen = {"capped": 12, "above_window": 9}
    store_mined(store, Mined(asked, "full", "", 4, (), 100, 12, 0.8, fallen))
    store_mined(store, Mined(asked, "full", "", 4, ()), stage="older")
    columns = "positive_rank, positive_score, num_candidates, num_capped, fallen"
    one, other = query(store, f"SELECT {columns} FROM minings ORDER BY created_at").to_pylist()
    assert json.loads(one.pop("fallen")) == fallen
    assert one == {"positive_rank": 4, "positive_score": 0.8, "num_candidates": 100, "num_capped": 12}
    assert other == {"positive_rank": 4, "positive_score": None, "num_candidates": None, "num_capped": None,
                     "fallen": "{}"}  # fmt: skip


def test_each_candidate_that_fell_is_told_with_its_reason(store: Store, asked: Minable) -> None:
    candidates = (Fallen(text_id(BARKS), 2, 0.79, "capped"), Fallen(text_id(MOOS), 31, 0.3, "below_window"))
    run_id = store_mined(store, Mined(asked, "none", "2 candidates, none is left", 1, (), candidates=candidates))
    assert told(store, ("query", "rank", "score", "reason", "run_id"), "mining_candidates") == {
        BARKS: {"query": "what purrs?", "rank": 2, "score": 0.79, "reason": "capped", "run_id": str(run_id)},
        MOOS: {"query": "what purrs?", "rank": 31, "score": 0.3, "reason": "below_window", "run_id": str(run_id)},
    }


def test_no_more_than_the_best_candidates_are_kept(store: Store, asked: Minable) -> None:
    candidates = tuple(Fallen(text_id(BARKS), rank, 0.5, "capped") for rank in range(1, MOST_CANDIDATES + 5))
    store_mined(store, Mined(asked, "none", "", 1, (), candidates=candidates))
    ranks = query(store, "SELECT rank FROM mining_candidates ORDER BY rank").column("rank").to_pylist()
    assert ranks == list(range(1, MOST_CANDIDATES + 1))


def test_the_text_of_a_candidate_that_only_samples_have_is_stored(store: Store, training_source: Source) -> None:
    drafts = [
        Draft(Retrieval(asked, (answer,)), training_source.source_id, "ingest")
        for asked, answer in (("what purrs?", "A cat purrs."), ("what barks?", BARKS))
    ]
    with store.write() as cursor:
        samples.add_drafts(cursor, drafts, new_id())
    [purrs] = [each for each in minings.minable(store, key_of("m")) if each.query == "what purrs?"]
    store_mined(store, Mined(purrs, "none", "", 1, (), candidates=(Fallen(text_id(BARKS), 1, 0.5, "capped"),)))
    assert list(told(store, ("reason",), "mining_candidates")) == [BARKS]


def mined(store: Store, key: UUID, *, status: str = "full") -> list[minings.Minable]:
    found = minings.minable(store, key)
    passage = NewPassage(text_id("A dog barks."), "A dog barks.", "", "1")
    with store.write() as cursor:
        results = []
        for sample in found:
            sources.add_passages(cursor, key_of(1), [passage])
            negative = Negative(sample.sample_id, sample.revision_id, passage.text_id, "mined", 3, 0.4, 0.8)
            results.append(Mined(sample, status, "", 1, (negative,)))
        minings.add_mined(cursor, key, new_id(), results)
    return found


def test_a_sample_is_mined_once_for_each_configuration(store: Store, training_source: Source) -> None:
    add(store, Draft(Retrieval("what purrs?", ("A cat purrs.",)), training_source.source_id, "query"))
    assert len(mined(store, key_of("one"))) == 1
    assert mined(store, key_of("one")) == []
    assert len(mined(store, key_of("two"))) == 1
    assert rows(store, "SELECT count(*) FROM negatives") == [(2,)]
    assert rows(store, "SELECT num_negatives, round(hardness, 3) FROM samples") == [(1, -0.4)]


def test_what_another_process_finished_meanwhile_is_not_stored_again(store: Store, training_source: Source) -> None:
    add(store, Draft(Retrieval("what purrs?", ("A cat purrs.",)), training_source.source_id, "query"))
    [sample] = mined(store, key_of("one"))
    again = Negative(sample.sample_id, sample.revision_id, text_id("A dog barks."), "mined", 3, 0.4, 0.8)
    seed = text_id("A cat purrs.")
    drafts = [Draft(Retrieval(f"query {n}?", ("A cat purrs.",)), training_source.source_id, "query") for n in (1, 2)]
    with store.write() as cursor:
        assert minings.add_mined(cursor, key_of("one"), new_id(), [Mined(sample, "full", "", 1, (again,))]) == 0
        assert add_finished(cursor, key_of("g"), new_id(), [done(seed, drafts[:1])]).num_samples == 1
        assert add_finished(cursor, key_of("g"), new_id(), [done(seed, drafts[1:])]).num_samples == 0
    assert rows(store, "SELECT count(*) FROM negatives") == [(1,)]


def test_held_out_samples_are_never_mined(store: Store, held_out_source: Source) -> None:
    add(store, Draft(Retrieval("what purrs?", ("A cat purrs.",)), held_out_source.source_id, "ingest"))
    assert minings.minable(store, key_of("one")) == []
