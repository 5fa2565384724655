"""The store's side of checks: slices of samples, findings kept once, and which similar texts count."""

import json
from uuid import UUID

from synth.records import Draft, Retrieval, Source, new_id
from synth.store import overlaps, runs, samples
from synth.store.connection import Store
from synth.store.overlaps import STANDING_SIMILAR, FoundDuplicate, FoundOverlap


def add_samples(store: Store, source: Source, number: int) -> None:
    drafts = (Draft(Retrieval(f"question {n}?", (f"passage {n}",)), source.source_id, "ingest") for n in range(number))
    with store.write() as cursor:
        samples.add_drafts(cursor, drafts, new_id())


def found(value: float, *, revision_id: UUID, kind: str = "similar") -> FoundOverlap:
    return FoundOverlap(revision_id, revision_id, "query", UUID(int=1), UUID(int=2), kind, value)


def standing(store: Store) -> set[float]:
    with store.read() as cursor:
        return {value for (value,) in cursor.execute(f"SELECT value FROM ({STANDING_SIMILAR})").fetchall()}


def test_slices_hold_every_sample_to_train_on_once_in_order(
    store: Store, training_source: Source, held_out_source: Source
) -> None:
    add_samples(store, training_source, 25)
    add_samples(store, held_out_source, 3)
    slices = list(overlaps.training_slices(store, 10))
    assert [len(rows) for rows in slices] == [10, 10, 5]
    ids = [row["sample_id"] for rows in slices for row in rows]
    assert ids == sorted(set(ids))
    assert {row["source"] for rows in slices for row in rows} == {"guide"}
    assert overlaps.num_training(store) == 25


def test_evaluation_texts_are_those_of_the_held_out_samples(
    store: Store, training_source: Source, held_out_source: Source
) -> None:
    add_samples(store, training_source, 2)
    add_samples(store, held_out_source, 3)
    [eval_set] = overlaps.eval_sets(store)
    assert (eval_set.name, eval_set.split, eval_set.num_samples) == ("guide", "test", 3)
    texts = overlaps.eval_texts(store, [eval_set.source_id])
    assert sorted(text for _, _, text in texts) == [f"question {n}?" for n in range(3)]
    assert overlaps.eval_texts(store, []) == []


def test_a_finding_is_stored_once_and_again_for_another_revision(store: Store) -> None:
    first, second = new_id(), new_id()
    with store.write() as cursor:
        assert overlaps.add_overlaps(cursor, new_id(), [found(0.9, revision_id=first)] * 2) == 1
        assert overlaps.add_overlaps(cursor, new_id(), [found(0.8, revision_id=first)]) == 0
        assert overlaps.add_overlaps(cursor, new_id(), [found(0.9, revision_id=second)]) == 1
        assert overlaps.add_overlaps(cursor, new_id(), [found(0.9, revision_id=first, kind="ngram")]) == 1
        assert overlaps.add_overlaps(cursor, new_id(), []) == 0
        duplicate = FoundDuplicate(first, first, second, 0.95)
        assert overlaps.add_near_duplicates(cursor, new_id(), [duplicate]) == 1
        assert overlaps.add_near_duplicates(cursor, new_id(), [duplicate]) == 0


def test_similar_texts_count_from_the_cosine_of_the_latest_finished_check(store: Store) -> None:
    def check(similar: float | None, *values: float) -> None:
        with runs.recorded(store, "check", {"similar": similar}) as run, store.write() as cursor:
            overlaps.add_overlaps(cursor, run.run_id, [found(value, revision_id=new_id()) for value in values])

    assert standing(store) == set()
    check(0.5, 0.55, 0.75, 0.95)
    assert standing(store) == {0.55, 0.75, 0.95}
    check(0.9)
    assert standing(store) == {0.95}
    check(None)
    assert standing(store) == {0.95}
    with store.write() as cursor:  # one that was stopped or killed
        cursor.execute(
            "INSERT INTO run BY NAME SELECT uuid() AS run_id, 'check' AS kind, '2999-01-01'::TIMESTAMP AS started_at,"
            " ?::JSON AS config",
            [json.dumps({"similar": 0.1})],
        )
    assert standing(store) == {0.95}
    check(0.7)
    assert standing(store) == {0.75, 0.95}
