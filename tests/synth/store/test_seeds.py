"""Seeds: which passages and samples a generate stage starts from, and in which order."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from synth.records import (
    Classification,
    Content,
    Draft,
    Passage,
    Retrieval,
    ReviewEvent,
    Sample,
    Source,
    Sts,
    Task,
    Use,
    Verdict,
    key_of,
    new_id,
    text_id,
)
from synth.store import reviews, samples, sources
from synth.store.connection import Store
from synth.store.failures import Failure, add_failures
from synth.store.seeds import Seeds
from synth.store.sources import NewPassage
from tests.synth.store.finishing import finish

KEY = key_of("a configuration")
PURRS = Retrieval("what purrs?", ("A cat purrs.", "Kittens purr."), "Find animals.")
SAMPLES = Seeds("samples")


def add(store: Store, source: Source, *contents: Content, operation: str = "ingest") -> None:
    with store.write() as cursor:
        samples.add_drafts(cursor, [Draft(each, source.source_id, operation) for each in contents], new_id())


def loaded(store: Store, seeds: Seeds) -> list[Sample]:
    found = seeds.load(store, seeds.pending(store, KEY, limit=None))
    return [each for each in found if isinstance(each, Sample)]


def contents(store: Store, seeds: Seeds) -> list[Content]:
    return [each.content for each in loaded(store, seeds)]


def judge(store: Store, seed: Sample, *verdicts: Verdict) -> None:
    for number, verdict in enumerate(verdicts):
        reviews.add_reviews(
            store, [ReviewEvent(new_id(), f"reviewer {number}", seed.sample_id, seed.revision_id, verdict)]
        )


def passages(store: Store, source: Source, texts: Sequence[str]) -> None:
    with store.write() as cursor:
        sources.add_source(cursor, source, new_id())
        sources.add_passages(cursor, source.source_id, [NewPassage(text_id(text), text, "", "") for text in texts])


@pytest.mark.parametrize("content", [PURRS, Sts("a", "b", 2.5, "Compare."), Classification("a", "b", "Sort.")])
def test_the_samples_of_a_task_are_its_seeds_whole(store: Store, training_source: Source, content: Content) -> None:
    add(store, training_source, PURRS, Sts("a", "b", 2.5, "Compare."), Classification("a", "b", "Sort."))
    task = {Retrieval: Task.RETRIEVAL, Sts: Task.STS, Classification: Task.CLASSIFICATION}[type(content)]
    [seed] = loaded(store, Seeds("samples", task))
    assert (seed.content, seed.source_id, seed.seed_id) == (content, training_source.source_id, seed.revision_id)


def test_a_sample_that_was_made_of_a_passage_names_it(store: Store, training_source: Source) -> None:
    draft = Draft(PURRS, training_source.source_id, "query", seed_id=text_id("A cat purrs."))
    with store.write() as cursor:
        samples.add_drafts(cursor, [draft], new_id())
    assert [seed.passage_id for seed in loaded(store, SAMPLES)] == [text_id("A cat purrs.")]


def test_what_was_made_of_a_sample_is_no_seed_though_it_was_edited(store: Store, training_source: Source) -> None:
    add(store, training_source, PURRS)
    [seed] = loaded(store, SAMPLES)
    said_again = Retrieval("which animal purrs?", ("Cats purr.",))
    draft = Draft(said_again, training_source.source_id, "paraphrase", parent_id=seed.revision_id)
    with store.write() as cursor:
        samples.add_drafts(cursor, [draft], new_id())
        [(made,)] = cursor.execute("SELECT sample_id FROM samples WHERE operation = 'paraphrase'").fetchall()
    assert contents(store, SAMPLES) == [PURRS]
    edit = replace(said_again, query="which animals purr?")
    event = ReviewEvent(new_id(), "ann", made, made, Verdict.APPROVE, edited_id=new_id(), edit=edit)
    reviews.add_reviews(store, [event])
    assert contents(store, SAMPLES) == [PURRS]


def test_a_rejected_or_disputed_sample_is_no_seed_and_an_approved_one_is(store: Store, training_source: Source) -> None:
    add(store, training_source, *[replace(PURRS, query=f"query {number}") for number in range(4)])
    by_query = {str(getattr(seed.content, "query", "")): seed for seed in loaded(store, SAMPLES)}
    judge(store, by_query["query 0"], Verdict.REJECT)
    judge(store, by_query["query 1"], Verdict.REJECT, Verdict.APPROVE)
    judge(store, by_query["query 2"], Verdict.APPROVE)
    found = contents(store, SAMPLES)
    assert len(found) == 2 and set(found) == {replace(PURRS, query="query 2"), replace(PURRS, query="query 3")}


def test_an_edited_sample_is_another_seed(store: Store, training_source: Source) -> None:
    add(store, training_source, PURRS)
    [seed] = loaded(store, SAMPLES)
    edit = replace(PURRS, query="what purrs at night?")
    event = ReviewEvent(
        new_id(), "ann", seed.sample_id, seed.revision_id, Verdict.APPROVE, edited_id=new_id(), edit=edit
    )
    with store.write() as cursor:
        finish(cursor, KEY, seed.seed_id)
    assert loaded(store, SAMPLES) == []
    reviews.add_reviews(store, [event])
    [edited] = loaded(store, SAMPLES)
    assert (edited.content, edited.revision_id, edited.sample_id) == (edit, event.edited_id, seed.sample_id)
    assert SAMPLES.load(store, [seed.seed_id]) == []  # it was edited since


@pytest.mark.parametrize(
    ("asked", "other"),
    [
        (PURRS, Retrieval("what barks?", ("A dog.",))),
        (Sts("a", "b", 1.0), Sts("a", "c", 1.0)),
        (Classification("a", "x"), Classification("b", "x")),
    ],
)
def test_what_a_held_out_set_asks_is_no_seed_of_any_source(
    store: Store, training_source: Source, held_out_source: Source, asked: Content, other: Content
) -> None:
    add(store, training_source, asked, other)
    add(store, held_out_source, replace(asked, instruction="Another."))
    task = {Retrieval: Task.RETRIEVAL, Sts: Task.STS, Classification: Task.CLASSIFICATION}[type(asked)]
    assert contents(store, Seeds("samples", task)) == [other]


def test_samples_are_those_of_the_named_sources(store: Store, training_source: Source) -> None:
    other = Source("other", "train", Use.TRAIN, "retrieval", "a test", "CC0-1.0", "1")
    passages(store, other, [])
    add(store, training_source, PURRS)
    add(store, other, replace(PURRS, query="who purrs?"))
    assert contents(store, replace(SAMPLES, names=("other",))) == [replace(PURRS, query="who purrs?")]
    assert not replace(SAMPLES, task=Task.STS).exist(store) and SAMPLES.exist(store)


def test_a_limit_takes_samples_of_all_sources_and_not_the_first_that_came_in(
    store: Store, training_source: Source
) -> None:
    other = Source("other", "train", Use.TRAIN, "retrieval", "a test", "CC0-1.0", "1")
    passages(store, other, [])
    for source in (training_source, other):
        add(store, source, *[replace(PURRS, query=f"{source.name} {number}") for number in range(40)])
    taken = SAMPLES.load(store, SAMPLES.pending(store, KEY, limit=20))
    assert len(taken) == 20 and {seed.source_id for seed in taken} == {training_source.source_id, other.source_id}


def test_what_people_labelled_edited_or_approved_comes_before_what_was_generated(
    store: Store, training_source: Source
) -> None:
    generated = [replace(PURRS, query=f"generated {number}") for number in range(12)]
    add(store, training_source, *generated, operation="query")
    add(store, training_source, *[replace(PURRS, query=f"labelled {number}") for number in range(12)])
    for seed in loaded(store, SAMPLES):
        if seed.content == generated[7]:
            judge(store, seed, Verdict.APPROVE)
    pending = SAMPLES.pending(store, KEY, limit=None)
    first = {str(getattr(seed.content, "query", "")) for seed in SAMPLES.load(store, pending[:13])}
    assert first == {*(f"labelled {number}" for number in range(12)), "generated 7"}
    assert (SAMPLES.num_unproven(store, pending), SAMPLES.num_unproven(store, pending[:13])) == (11, 0)
    chosen = replace(SAMPLES, chosen=frozenset(pending[11:15]))
    assert sorted(chosen.pending(store, KEY, limit=None)) == sorted(pending[11:15]) == chosen.untried(store, KEY)


@pytest.mark.parametrize("kind", ["passages", "samples"])
def test_what_is_done_is_not_pending_and_what_failed_comes_last(
    store: Store, training_source: Source, kind: str
) -> None:
    add(store, training_source, *[replace(PURRS, query=f"query {number}") for number in range(4)])
    passages(store, replace(training_source, version="2"), [f"passage {number}" for number in range(4)])
    seeds = Seeds("passages") if kind == "passages" else SAMPLES
    done, broken, hopeless, new = seeds.pending(store, KEY, limit=None)
    failure = Failure(KEY, hopeless, new_id(), "m", "", "", 0, "empty", "empty", permanent=True, attempts=1)
    with store.write() as cursor:
        finish(cursor, KEY, done)
        add_failures(cursor, [failure, replace(failure, seed_id=broken, kind="broken", permanent=False)], new_id())
    assert seeds.pending(store, KEY, limit=None) == [new, broken, hopeless]
    assert seeds.pending(store, KEY, limit=2) == [new, broken]
    assert seeds.untried(store, KEY) == [new]
    assert len(seeds.pending(store, key_of("another"), limit=None)) == 4


def test_passages_are_those_to_train_on_each_once_and_no_held_out_one(store: Store, training_source: Source) -> None:
    held_out = Source("exam", "corpus", Use.EVAL, "documents", "a test", "CC0-1.0", "1")
    other = replace(training_source, name="other")
    passages(store, replace(training_source, version="2"), ["Cats purr.", "Dogs bark."])
    passages(store, other, ["Cats purr.", "Owls hoot."])
    passages(store, held_out, ["Owls hoot."])
    found = Seeds().load(store, Seeds().pending(store, KEY, limit=None))
    assert sorted(each.text for each in found if isinstance(each, Passage)) == ["Cats purr.", "Dogs bark."]
    assert len(Seeds(names=("other",)).pending(store, KEY, limit=None)) == 1
    assert not Seeds(names=("exam",)).exist(store)
