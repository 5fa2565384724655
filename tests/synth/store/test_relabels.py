"""Relabelling in the store: a positive that moves is a new revision, and what people said is left alone."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from uuid import UUID

import pytest

from synth.records import (
    Draft,
    Negative,
    Retrieval,
    ReviewEvent,
    Source,
    Use,
    UserError,
    Verdict,
    Written,
    key_of,
    new_id,
    text_id,
)
from synth.store import minings, queues, reviews, samples, sources
from synth.store.connection import Store
from synth.store.console import query
from synth.store.made import Finished, add_finished
from synth.store.minings import Mined
from synth.store.relabels import Relabelable, Relabelled, Stored, add_relabelled, relabelable
from synth.store.sources import NewPassage

CATS, SLEEP, DOGS, SLEDGES, SKIFF = TEXTS = (
    "A cat purrs when it is content.",
    "Cats sleep for most of the day.",
    "A dog barks at strangers.",
    "Dogs pull sledges in the snow.",
    "A skiff is rowed by one person.",
)
KEY = key_of("a stage")
WHY = Retrieval("why does a cat purr?", (SLEEP,))


@pytest.fixture
def corpus(store: Store, training_source: Source) -> Source:
    """Five passages to train on."""
    with store.write() as cursor:
        passages = [NewPassage(text_id(text), text, "", "") for text in TEXTS]
        sources.add_passages(cursor, training_source.source_id, passages)
    return training_source


def add(store: Store, source: Source, *contents: Retrieval, operation: str = "query") -> None:
    drafts = [Draft(each, source.source_id, operation, "llm", text_id(each.positives[0])) for each in contents]
    with store.write() as cursor:
        samples.add_drafts(cursor, drafts, new_id())


def found(
    each: Relabelable, *positives: str, outcome: str = "moved", answers: Sequence[str] = (), negatives: str = ""
) -> Relabelled:
    sample = each.sample
    assert isinstance(sample.content, Retrieval)
    rows = [
        Negative(sample.sample_id, sample.revision_id, text_id(text), "relabelled", 3, 0.2, 0.8)
        for text in (negatives,)
        if text
    ]
    candidate = {
        "text_id": str(text_id(SLEEP)), "rank": 2, "score": 0.4, "likelihood": 1, "grade": 1, "place": 2
    }  # fmt: skip
    content = replace(sample.content, positives=positives or sample.content.positives)
    answers_ids = [text_id(text) for text in (*positives, *answers)]
    return Relabelled(sample, content, outcome, [candidate], answers_ids, rows, "judge", "p1", None)


def keep(store: Store, *relabelled: Relabelled, key: UUID = KEY) -> Stored:
    with store.write() as cursor:
        return add_relabelled(cursor, key, new_id(), relabelled)


def queries(store: Store, key: UUID = KEY, names: Sequence[str] = ()) -> set[str]:
    contents = [each.sample.content for each in relabelable(store, key, names)]
    return {content.query for content in contents if isinstance(content, Retrieval)}


def said(store: Store, verdict: Verdict, reviewer: str = "ann", **fields: object) -> None:
    """A verdict on the one sample's latest revision."""
    [row] = query(store, "SELECT sample_id, revision_id FROM samples").to_pylist()
    event = ReviewEvent(new_id(), reviewer, UUID(row["sample_id"]), UUID(row["revision_id"]), verdict)
    reviews.add_reviews(store, [replace(event, **fields)])  # type: ignore[arg-type]


def test_a_positive_that_moves_is_a_new_revision_that_nobody_has_judged(store: Store, corpus: Source) -> None:
    add(store, corpus, WHY)
    said(store, Verdict.APPROVE, "policy:everything", reviewer_kind="policy")
    [before] = query(store, "SELECT revision_id, status FROM samples").to_pylist()
    [each] = relabelable(store, KEY)
    assert keep(store, found(each, CATS)) == Stored({"moved": 1}, 0)
    [after] = query(store, "SELECT * FROM samples").to_pylist()
    assert (before["status"], after["status"]) == ("approved", "pending")
    assert (after["positives"], after["operation"], after["method"]) == ([CATS], "relabel", "llm")
    assert (after["query"], after["model"], after["prompt_version"]) == (WHY.query, "judge", "p1")
    [line] = query(store, "SELECT parent_id, seed_text, number, actor FROM lineage WHERE number > 1").to_pylist()
    assert line == {"parent_id": before["revision_id"], "seed_text": SLEEP, "number": 2, "actor": "judge"}
    [row] = query(store, "SELECT outcome, moved, passage_from, passage_to, candidates FROM relabellings").to_pylist()
    assert (row["outcome"], row["moved"], row["passage_to"]) == ("moved", True, str(text_id(CATS)))
    assert row["passage_from"] == str(text_id(SLEEP))
    assert [(each["grade"], each["likelihood"], each["rank"]) for each in row["candidates"]] == [(1, 1, 2)]


def test_one_that_does_not_move_keeps_its_revision_and_its_status_and_may_get_negatives(
    store: Store, corpus: Source
) -> None:
    add(store, corpus, WHY)
    said(store, Verdict.APPROVE, "policy:everything", reviewer_kind="policy")
    [each] = relabelable(store, KEY)
    assert keep(store, found(each, outcome="stayed", negatives=DOGS)) == Stored({"stayed": 1}, 1)
    [row] = query(store, "SELECT status, operation, num_negatives FROM samples").to_pylist()
    assert row == {"status": "approved", "operation": "query", "num_negatives": 1}
    [negative] = query(store, "SELECT text, origin, rank, score FROM negatives").to_pylist()
    assert negative == {"text": DOGS, "origin": "relabelled", "rank": 3, "score": 0.2}


def test_a_sample_is_done_once_for_a_stage_whether_it_moved_or_not(store: Store, corpus: Source) -> None:
    add(store, corpus, WHY, Retrieval("how long do cats sleep?", (SLEEP,)))
    both = relabelable(store, KEY)
    first = [found(each, CATS) if each.sample.content == WHY else found(each, outcome="stayed") for each in both]
    keep(store, *first)
    assert not relabelable(store, KEY)
    assert keep(store, *first) == Stored({}, 0)  # as another process would that had asked at the same time
    assert query(store, "SELECT count(*) AS n FROM revisions").to_pylist() == [{"n": 3}]
    assert queries(store, key_of("another")) == {WHY.query, "how long do cats sleep?"}


def test_what_a_person_decided_or_edited_is_left_alone(store: Store, corpus: Source) -> None:
    add(store, corpus, WHY)
    [each] = relabelable(store, KEY)
    said(store, Verdict.REJECT)
    assert not relabelable(store, KEY)
    assert keep(store, found(each, CATS)) == Stored({"overtaken": 1}, 0)
    said(store, Verdict.APPROVE, edit=replace(WHY, query="what makes a cat purr?"), edited_id=new_id())
    assert not relabelable(store, KEY)
    assert keep(store, found(each, CATS)) == Stored({"overtaken": 1}, 0)
    assert query(store, "SELECT count(*) AS n FROM relabellings").to_pylist() == [{"n": 0}]


def test_what_a_reviewer_has_before_them_stays_as_it_is_and_is_taken_up_later(store: Store, corpus: Source) -> None:
    add(store, corpus, WHY)
    [each] = relabelable(store, KEY)
    [card] = queues.cards(store, reviewer="ann", claim_for=timedelta(minutes=15))
    assert keep(store, found(each, CATS, negatives=DOGS)) == Stored({"overtaken": 1}, 0)
    assert [again.sample for again in relabelable(store, KEY)] == [each.sample]
    reviews.add_reviews(store, [ReviewEvent(new_id(), "ann", card.sample_id, card.revision_id, Verdict.APPROVE)])
    [row] = query(store, "SELECT status, decided_by, positives FROM samples").to_pylist()
    assert row == {"status": "approved", "decided_by": "ann", "positives": [SLEEP]}


def test_a_claim_that_ran_out_keeps_no_positive_from_moving(store: Store, corpus: Source) -> None:
    add(store, corpus, WHY)
    [each] = relabelable(store, KEY)
    queues.cards(store, reviewer="ann", claim_for=timedelta(seconds=-1))
    assert keep(store, found(each, CATS)).outcomes == {"moved": 1}


@pytest.mark.parametrize("verdict", [Verdict.APPROVE, Verdict.REJECT, Verdict.SKIP])
def test_a_verdict_that_comes_after_the_move_is_kept_and_the_reviewer_is_shown_what_the_sample_says_now(
    store: Store, corpus: Source, verdict: Verdict
) -> None:
    add(store, corpus, WHY)
    [each] = relabelable(store, KEY)
    [before] = queues.cards(store, reviewer="ann")
    keep(store, found(each, CATS))
    assert reviews.add_reviews(store, [ReviewEvent(new_id(), "ann", before.sample_id, before.revision_id, verdict)])
    [row] = query(store, "SELECT status, num_reviews FROM samples").to_pylist()
    assert row == {"status": "pending", "num_reviews": 1}
    [after] = queues.cards(store, reviewer="ann")
    assert (before.content.positives, after.content.positives) == ((SLEEP,), (CATS,))
    assert queues.review_progress(store, reviewer="ann", queue=queues.Queue.UNREVIEWED).left == 1


def test_an_edit_of_what_moved_meanwhile_is_refused_with_the_revision_to_look_at(store: Store, corpus: Source) -> None:
    add(store, corpus, WHY)
    [each] = relabelable(store, KEY)
    keep(store, found(each, CATS))
    [row] = query(store, "SELECT revision_id FROM samples").to_pylist()
    edit = replace(WHY, query="what makes a cat purr?")
    event = ReviewEvent(new_id(), "ann", each.sample.sample_id, each.sample.revision_id, Verdict.APPROVE)
    with pytest.raises(UserError, match=f"changed meanwhile; look at its revision {row['revision_id']}"):
        reviews.add_reviews(store, [replace(event, edited_id=new_id(), edit=edit)])


def test_what_a_policy_rejected_may_move(store: Store, corpus: Source) -> None:
    add(store, corpus, WHY)
    said(store, Verdict.REJECT, "policy:consistent", reviewer_kind="policy")
    assert queries(store) == {WHY.query}


def test_only_generated_samples_whose_positive_is_a_passage_to_train_on_are_relabelled(
    store: Store, corpus: Source, held_out_source: Source
) -> None:
    other = Source("others", "corpus", Use.TRAIN, "documents", "a test", "CC0-1.0", "1")
    with store.write() as cursor:
        sources.add_source(cursor, other, new_id())
        held_out = [NewPassage(text_id(SKIFF), SKIFF, "", "")]
        sources.add_passages(cursor, held_out_source.source_id, held_out)
    add(store, corpus, WHY, Retrieval("who rows a skiff?", (SKIFF,)))
    add(store, corpus, Retrieval("a rewritten one?", ("Cats sleep for many hours.",)), operation="paraphrase")
    add(store, corpus, Retrieval("a real one?", (CATS,)), operation="ingest")
    add(store, other, Retrieval("of another corpus?", (CATS,)))
    add(store, corpus, Retrieval("asked in the test?", (CATS,)))
    add(store, held_out_source, Retrieval("asked in the test?", (DOGS,)), operation="ingest")
    assert queries(store) == {WHY.query}
    assert queries(store, names=["guide"]) == {WHY.query}
    assert queries(store, names=["others"]) == set()


def test_one_that_would_say_what_another_says_stays(store: Store, corpus: Source) -> None:
    add(store, corpus, WHY, replace(WHY, positives=(CATS,)))
    [each] = [each for each in relabelable(store, KEY) if each.sample.content == WHY]
    assert keep(store, found(each, CATS, negatives=SKIFF)) == Stored({"duplicate": 1}, 0)
    [row] = query(store, "SELECT outcome, moved, passage_to, num_negatives FROM relabellings").to_pylist()
    assert row == {"outcome": "duplicate", "moved": False, "passage_to": str(text_id(SLEEP)), "num_negatives": 0}
    assert query(store, "SELECT count(*) AS n FROM revisions").to_pylist() == [{"n": 2}]


def test_two_that_move_to_the_same_are_one_that_moves(store: Store, corpus: Source) -> None:
    add(store, corpus, WHY, replace(WHY, positives=(DOGS,)))
    assert keep(store, *[found(each, CATS) for each in relabelable(store, KEY)]).outcomes == {
        "moved": 1,
        "duplicate": 1,
    }


def test_written_negatives_go_along_unless_they_answer_and_mined_ones_stay_behind(store: Store, corpus: Source) -> None:
    add(store, corpus, WHY)
    [each] = relabelable(store, KEY)
    written = [Written(SKIFF, "other_aspect"), Written(SLEDGES, "unnecessary")]
    with store.write() as cursor:
        add_finished(cursor, key_of("written"), new_id(), [Finished(each.sample, written)])
    [minable] = minings.minable(store, key_of("mine"))
    mined = Negative(minable.sample_id, minable.revision_id, text_id(DOGS), "mined", 1, 0.5, 0.8)
    with store.write() as cursor:
        minings.add_mined(cursor, key_of("mine"), new_id(), [Mined(minable, "full", "", 1, (mined,))])
    keep(store, found(each, CATS, answers=[SKIFF], negatives=DOGS))
    rows = query(
        store,
        "SELECT n.text, n.origin, n.kind, r.number FROM negatives n JOIN revisions r USING (revision_id) ORDER BY ALL",
    ).to_pylist()
    after = [(row["text"], row["origin"], row["kind"]) for row in rows if row["number"] == 2]
    assert after == [(DOGS, "relabelled", None), (SLEDGES, "generated", "unnecessary")]
    assert len(rows) == 5
    assert query(store, "SELECT num_negatives FROM samples").to_pylist() == [{"num_negatives": 2}]


def test_what_the_state_says_of_a_moved_sample_is_what_the_logs_say(store: Store, corpus: Source) -> None:
    add(store, corpus, WHY)
    [each] = relabelable(store, KEY)
    keep(store, found(each, CATS, negatives=DOGS))
    assert samples.rebuild_state(store) == 0
