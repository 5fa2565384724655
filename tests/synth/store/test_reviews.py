"""Review events: append-only, idempotent, undoable; a person's verdict counts before a policy's."""

import time
from dataclasses import replace
from uuid import UUID

import pytest

from synth.records import Draft, Negative, Retrieval, ReviewEvent, Source, UserError, Verdict, key_of, new_id, text_id
from synth.store import releases, reviews, samples, sources
from synth.store.connection import Store
from synth.store.reviews import Queue, cards
from synth.store.samples import Mined
from synth.store.sources import NewPassage


@pytest.fixture
def sample(store: Store, training_source: Source) -> samples.Minable:
    """A mined sample with one negative."""
    passage = NewPassage(text_id("A dog barks."), "A dog barks.", "", "1")
    with store.write() as cursor:
        draft = Draft(Retrieval("what purrs?", ("A cat purrs.",)), training_source.source_id, "query")
        samples.add_drafts(cursor, [draft], new_id())
        sources.add_passages(cursor, training_source.source_id, [passage])
    [found] = samples.minable(store, key_of("k"))
    negative = Negative(found.sample_id, found.revision_id, passage.text_id, "mined", 3, 0.4, 0.8)
    with store.write() as cursor:
        samples.add_mined(cursor, key_of("k"), new_id(), [Mined(found, "full", "", 1, (negative,))])
    return found


def event(sample: samples.Minable, verdict: Verdict, reviewer: str = "ann", **fields: object) -> ReviewEvent:
    made = ReviewEvent(new_id(), reviewer, sample.sample_id, sample.revision_id, verdict)
    time.sleep(0.002)  # events of one reviewer are ordered by time
    return replace(made, **fields)


def status(store: Store) -> tuple[str, str | None]:
    with store.read() as cursor:
        [row] = cursor.execute("SELECT status, decided_by FROM samples").fetchall()
    return row[0], row[1]


def test_an_event_sent_twice_is_stored_once(store: Store, sample: samples.Minable) -> None:
    approval = event(sample, Verdict.APPROVE)
    assert [reviews.add_reviews(store, [approval, approval]), reviews.add_reviews(store, [approval])] == [1, 0]
    assert status(store) == ("approved", "ann")


def test_the_latest_verdict_counts_and_undo_brings_the_one_before_back(store: Store, sample: samples.Minable) -> None:
    approval, rejection = event(sample, Verdict.APPROVE), event(sample, Verdict.REJECT)
    reviews.add_reviews(store, [approval])
    reviews.add_reviews(store, [rejection])
    assert status(store)[0] == "rejected"
    reviews.add_reviews(store, [event(sample, Verdict.SKIP, undoes=rejection.review_id)])
    assert status(store)[0] == "approved"
    reviews.add_reviews(store, [event(sample, Verdict.SKIP, undoes=approval.review_id)])
    assert status(store) == ("pending", None)


def test_a_person_overrules_a_policy_whoever_came_last(store: Store, sample: samples.Minable) -> None:
    reviews.add_reviews(store, [event(sample, Verdict.REJECT)])
    reviews.add_reviews(store, [event(sample, Verdict.APPROVE, "policy:all", reviewer_kind="policy")])
    assert status(store) == ("rejected", "ann")


def test_a_policy_changes_its_mind_and_another_policys_but_no_persons(store: Store, sample: samples.Minable) -> None:
    def policy(name: str, verdict: Verdict) -> int:
        return reviews.add_reviews(store, [event(sample, verdict, f"policy:{name}", reviewer_kind="policy")])

    assert [policy("one", Verdict.REJECT), policy("one", Verdict.REJECT)] == [1, 0]
    assert (policy("two", Verdict.APPROVE), status(store)) == (1, ("approved", "policy:two"))
    assert len(reviews.undecided(store)) == 1
    reviews.add_reviews(store, [event(sample, Verdict.REJECT)])
    assert (reviews.undecided(store), status(store)) == ([], ("rejected", "ann"))


def test_a_skip_decides_nothing_but_is_not_shown_again_to_who_skipped(store: Store, sample: samples.Minable) -> None:
    reviews.add_reviews(store, [event(sample, Verdict.SKIP)])
    assert status(store)[0] == "pending"
    assert cards(store, reviewer="ann") == []
    assert len(cards(store, reviewer="bob")) == 1


def test_the_audit_queue_shows_what_only_a_policy_approved(store: Store, sample: samples.Minable) -> None:
    assert cards(store, reviewer="ann", queue=Queue.AUDIT) == []
    reviews.add_reviews(store, [event(sample, Verdict.APPROVE, "policy:all", reviewer_kind="policy")])
    assert cards(store, reviewer="ann") == []
    [card] = cards(store, reviewer="ann", queue=Queue.AUDIT)
    assert (card.query, card.positives, card.decided_by) == ("what purrs?", ("A cat purrs.",), "policy:all")
    assert [(n.text, n.rank, n.score) for n in card.negatives] == [("A dog barks.", 3, 0.4)]
    reviews.add_reviews(store, [event(sample, Verdict.APPROVE)])
    assert cards(store, reviewer="bob", queue=Queue.AUDIT) == []


def test_a_card_asked_for_is_not_given_twice_while_it_is_held(store: Store, sample: samples.Minable) -> None:
    assert cards(store, reviewer="ann", except_for=[sample.sample_id]) == []


def test_a_dropped_negative_stays_out_of_releases_until_undone(store: Store, sample: samples.Minable) -> None:
    [card] = cards(store, reviewer="ann")
    drop = event(sample, Verdict.REJECT, negative_id=card.negatives[0].negative_id)
    reviews.add_reviews(store, [event(sample, Verdict.APPROVE), drop])
    assert status(store)[0] == "approved"
    assert [row["negatives"] for row in releases.approved(store)] == [[]]
    reviews.add_reviews(store, [event(sample, Verdict.SKIP, undoes=drop.review_id)])
    assert [n["text"] for row in releases.approved(store) for n in row["negatives"]] == ["A dog barks."]


def test_progress_counts_one_reviewers_standing_verdicts_and_what_is_left(
    store: Store, sample: samples.Minable
) -> None:
    before = reviews.review_progress(store, reviewer="ann", queue=Queue.UNREVIEWED)
    approval = event(sample, Verdict.APPROVE)
    reviews.add_reviews(store, [approval])
    after = reviews.review_progress(store, reviewer="ann", queue=Queue.UNREVIEWED)
    reviews.add_reviews(store, [event(sample, Verdict.SKIP, undoes=approval.review_id)])
    undone = reviews.review_progress(store, reviewer="ann", queue=Queue.UNREVIEWED)
    assert (before.approved, before.left, after.approved, after.left) == (0, 1, 1, 0)
    assert undone == before


def test_an_event_of_an_unknown_sample_is_refused_and_nothing_of_its_batch_is_kept(
    store: Store, sample: samples.Minable
) -> None:
    stranger = replace(event(sample, Verdict.APPROVE), sample_id=UUID(int=1))
    with pytest.raises(UserError, match="no sample"):
        reviews.add_reviews(store, [event(sample, Verdict.APPROVE), stranger])
    assert status(store)[0] == "pending"


def test_the_projection_agrees_with_the_logs_after_every_kind_of_event(store: Store, sample: samples.Minable) -> None:
    approval = event(sample, Verdict.APPROVE, difficulty=3)
    reviews.add_reviews(store, [approval, event(sample, Verdict.SKIP, "bob"), event(sample, Verdict.REJECT, "eve")])
    reviews.add_reviews(store, [event(sample, Verdict.SKIP, undoes=approval.review_id)])
    assert samples.rebuild_state(store) == 0
