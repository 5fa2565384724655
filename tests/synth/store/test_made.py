"""What seeds gave: samples, and negatives written for them, each with all that is known of it; stored once."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest

from synth.records import Draft, Retrieval, Sample, Source, Written, key_of, new_id, text_id
from synth.store import samples
from synth.store.connection import Store
from synth.store.console import query
from synth.store.made import MOST_KEPT, Finished, Rejected, Stored, add_finished, any_done
from synth.store.seeds import Seeds
from synth.store.verify import verify

KEY, RUN, CALL = key_of("a configuration"), new_id(), key_of("a request")
PURRS = Retrieval("what purrs?", ("A cat purrs.",))
BARK = Written("Dogs\nThey bark.", "other_aspect", "another animal", CALL)
NEGATIVES = (
    "SELECT query, text, origin, kind, requirement, call_id, run_id, rank, score FROM negatives ORDER BY query, text"
)


@pytest.fixture
def seed(store: Store, training_source: Source) -> Sample:
    """A sample to start from, made of a passage."""
    draft = Draft(PURRS, training_source.source_id, "query", seed_id=text_id("A cat purrs."))
    with store.write() as cursor:
        samples.add_drafts(cursor, [draft], new_id())
    of = Seeds("samples")
    [found] = of.load(store, of.pending(store, KEY, limit=None))
    assert isinstance(found, Sample)
    return found


def draft(seed: Sample, asked: str, *written: Written) -> Draft:
    content = Retrieval(asked, (f"The answer to {asked}",))
    return Draft(content, seed.source_id, "augment", parent_id=seed.revision_id, call_id=CALL, written=written)


def store_all(store: Store, *finished: Finished, key: UUID = KEY) -> Stored:
    with store.write() as cursor:
        return add_finished(cursor, key, RUN, finished)


def rows(store: Store, sql: str) -> list[dict[str, Any]]:
    return query(store, sql).to_pylist()


def negative(asked: str, text: str, written: Written) -> dict[str, Any]:
    told = {"query": asked, "text": text, "origin": "generated", "kind": written.kind}
    unknown = {"rank": None, "score": None}
    return told | unknown | {"requirement": written.requirement, "call_id": str(CALL), "run_id": str(RUN)}


def test_negatives_of_a_seed_and_of_a_new_sample_are_stored_with_kind_requirement_and_call(
    store: Store, seed: Sample
) -> None:
    howl = Written("Wolves howl.", "inadequate", "", CALL)
    made: Sequence[Draft | Written] = [BARK, draft(seed, "who howls?", howl), howl]
    assert store_all(store, Finished(seed, made)) == Stored(1, 3)
    assert rows(store, NEGATIVES) == [
        negative("what purrs?", BARK.text, BARK),
        negative("what purrs?", "Wolves howl.", howl),
        negative("who howls?", "Wolves howl.", howl),
    ]
    assert rows(store, "SELECT query, num_negatives FROM samples ORDER BY query") == [
        {"query": "what purrs?", "num_negatives": 2},
        {"query": "who howls?", "num_negatives": 1},
    ]
    with store.read() as cursor:  # one that is of two samples is one text
        assert cursor.execute("SELECT text FROM text ORDER BY text").fetchall() == [(BARK.text,), ("Wolves howl.",)]


def test_a_sample_made_of_a_sample_leads_to_it(store: Store, seed: Sample) -> None:
    store_all(store, Finished(seed, [draft(seed, "who howls?")]))
    [made] = rows(store, "SELECT parent_id, made_from, number FROM lineage WHERE operation = 'augment'")
    assert made == {"parent_id": str(seed.revision_id), "made_from": str(seed.sample_id), "number": 1}


def test_a_negative_that_its_sample_has_already_is_not_stored_again(store: Store, seed: Sample) -> None:
    spaced = replace(BARK, text="Dogs  They bark.", kind="inadequate")
    assert store_all(store, Finished(seed, [BARK, spaced])) == Stored(0, 1)
    assert store_all(store, Finished(seed, [spaced]), key=key_of("another")) == Stored(0, 0)
    assert len(rows(store, NEGATIVES)) == 1


def test_known_content_is_not_stored_again_nor_what_was_written_for_it(store: Store, seed: Sample) -> None:
    again = replace(draft(seed, "any", BARK), content=seed.content)
    twice = [draft(seed, "who howls?", BARK), draft(seed, "who  howls?", replace(BARK, text="Owls hoot."))]
    assert store_all(store, Finished(seed, [again, *twice])) == Stored(1, 1)
    assert rows(store, NEGATIVES) == [negative("who howls?", BARK.text, BARK)]


def test_what_was_rejected_is_kept_with_its_reason_and_reply(store: Store, seed: Sample) -> None:
    rejections = [Rejected("length", "x" * 5000, "far too long", CALL), Rejected("length", "short", "too short")]
    store_all(store, Finished(seed, [], [*rejections, Rejected("copied", "A cat purrs.", "it is the passage")]))
    kept = rows(store, "SELECT reason, found, text, seed_id, call_id, run_id FROM rejections ORDER BY ALL")
    seed_and_run = {"seed_id": str(seed.seed_id), "run_id": str(RUN)}
    copied = {"reason": "copied", "found": "it is the passage", "text": "A cat purrs.", "call_id": None}
    long = {"reason": "length", "found": "far too long", "text": "x" * MOST_KEPT, "call_id": str(CALL)}
    short = {"reason": "length", "found": "too short", "text": "short", "call_id": None}
    assert kept == [each | seed_and_run for each in (copied, long, short)]
    [done] = rows(store, "SELECT num_samples, rejections->>'length' AS n FROM generations")
    assert done == {"num_samples": 0, "n": "2"}


def test_a_seed_that_another_process_finished_meanwhile_is_passed_over(store: Store, seed: Sample) -> None:
    assert not any_done(store, KEY)
    store_all(store, Finished(seed, [draft(seed, "who howls?")]))
    other = Finished(seed, [BARK, draft(seed, "who hoots?")], [Rejected("length", "a", "short")])
    assert store_all(store, other) == Stored(0, 0)
    assert rows(store, NEGATIVES) == rows(store, "FROM rejections") == []
    assert any_done(store, KEY) and not any_done(store, key_of("another"))


def test_the_logs_say_what_the_projection_says(store: Store, seed: Sample) -> None:
    store_all(store, Finished(seed, [BARK, draft(seed, "who howls?", BARK)]))
    assert samples.rebuild_state(store) == 0
    # what has no run and no call here is this test's doing
    assert [each.rule for each in verify(store) if "run_id" not in each.rule and "call_id" not in each.rule] == []
