"""Samples: content once, held-out sets whole, a projection that can be rebuilt."""

from synth.records import Draft, Retrieval, Source, Sts, Use, key_of, new_id, text_id
from synth.store import samples, sources
from synth.store.connection import Store
from synth.store.sources import NewPassage
from tests.synth.store.test_minings import mined


def add(store: Store, *drafts: Draft) -> int:
    with store.write() as cursor:
        return samples.add_drafts(cursor, drafts, new_id())


def rows(store: Store, query: str) -> list[tuple[object, ...]]:
    with store.read() as cursor:
        return cursor.execute(query).fetchall()


def test_the_same_content_is_stored_once_within_a_batch_and_across_batches(
    store: Store, training_source: Source
) -> None:
    draft = Draft(Retrieval("what purrs?", ("A cat purrs.",)), training_source.source_id, "query")
    spaced = Draft(Retrieval("what  purrs?", ("A cat\npurrs.",)), training_source.source_id, "ingest")
    assert add(store, draft, spaced) == 1
    assert add(store, spaced) == 0
    assert rows(store, "SELECT count(*) FROM samples") == [(1,)]


def test_content_of_a_training_source_known_from_another_one_is_not_stored_again(
    store: Store, training_source: Source
) -> None:
    other = Source("other", "train", Use.TRAIN, "pairs", "a test", "CC0-1.0", "1")
    with store.write() as cursor:
        sources.add_source(cursor, other, new_id())
    assert add(store, Draft(Sts("a", "b", 1), training_source.source_id, "ingest")) == 1
    assert add(store, Draft(Sts("a", "b", 1), other.source_id, "ingest")) == 0


def test_a_held_out_set_stays_whole_even_if_its_content_is_known(
    store: Store, training_source: Source, held_out_source: Source
) -> None:
    content = Retrieval("what purrs?", ("A cat purrs.",))
    assert add(store, Draft(content, training_source.source_id, "ingest")) == 1
    assert add(store, Draft(content, held_out_source.source_id, "ingest")) == 1
    assert add(store, Draft(content, held_out_source.source_id, "ingest")) == 0


def test_the_projection_equals_what_the_logs_say(store: Store, training_source: Source) -> None:
    add(store, Draft(Retrieval("what purrs?", ("A cat purrs.",)), training_source.source_id, "query"))
    add(store, Draft(Sts("a", "b", 1), training_source.source_id, "ingest"))
    mined(store, key_of("one"))
    assert rows(store, "SELECT max(num_negatives) FROM samples") == [(1,)]
    assert samples.rebuild_state(store) == 0
    with store.write() as cursor:
        cursor.execute("UPDATE sample_state SET status = 'approved', num_negatives = 7")
    assert samples.rebuild_state(store) > 0
    assert rows(store, "SELECT DISTINCT status FROM samples") == [("pending",)]


def test_a_passage_of_two_corpora_is_stored_once_and_held_out_if_one_of_them_is(
    store: Store, training_source: Source
) -> None:
    other = Source("other", "corpus", Use.EVAL, "documents", "a test", "CC0-1.0", "1")
    passage = NewPassage(text_id("t"), "t", "", "1")
    with store.write() as cursor:
        sources.add_source(cursor, other, new_id())
        assert sources.add_passages(cursor, training_source.source_id, [passage, passage]) == 1
        assert sources.add_passages(cursor, other.source_id, [passage]) == 1
    assert rows(store, "SELECT count(*) FROM text") == [(1,)]
    assert set(sources.corpora(store)) == {"guide", "other"}
    assert sources.corpora(store, declared_use=Use.TRAIN) == {}
