"""The queues of cards: what is shown, to whom, in which order, and that two people are never shown the same."""

from datetime import timedelta
from uuid import UUID

import pytest

from synth.records import Retrieval, ReviewEvent, Verdict, new_id
from synth.store import queues, reviews, rows
from synth.store.connection import Store
from synth.store.queues import Queue, ReviewProgress, cards, review_progress
from tests.review_app.seeding import add_samples, approve_by_policy

QUARTER = timedelta(minutes=15)

pytestmark = pytest.mark.usefixtures("plain_queues")


@pytest.fixture
def ids(store: Store) -> list[UUID]:
    """Five mined samples, most contested first."""
    return add_samples(store, [f"When does harbour {number} open?" for number in range(5)])


def say(store: Store, sample_id: UUID, verdict: Verdict, reviewer: str = "ann") -> ReviewEvent:
    event = ReviewEvent(new_id(), reviewer, sample_id, sample_id, verdict)
    reviews.add_reviews(store, [event])
    return event


def shown(store: Store, reviewer: str, limit: int = 25, **options: object) -> list[UUID]:
    return [card.sample_id for card in cards(store, reviewer=reviewer, limit=limit, **options)]  # type: ignore[arg-type]


def test_a_card_holds_the_sample_and_its_negatives_hardest_first(store: Store, ids: list[UUID]) -> None:
    card = cards(store, reviewer="ann")[0]
    assert card.content == Retrieval("When does harbour 0 open?", ("The harbour opens at six.",))
    assert (card.source, card.operation, card.method, card.decided_by) == ("guide", "query", "llm", None)
    assert [(each.text, each.rank) for each in card.negatives] == [
        ("The harbour closes at nine.", 1), ("Boats are painted in March.", 2),
    ]  # fmt: skip


def test_a_labelled_negative_has_no_scores_and_stands_last(store: Store, ids: list[UUID]) -> None:
    with store.write() as cursor:
        cursor.execute("INSERT INTO text VALUES (uuid(), 'It rains.', now()::TIMESTAMP)")
        cursor.execute(
            "INSERT INTO negative BY NAME SELECT uuid() AS negative_id, $id::UUID AS sample_id,"
            " $id::UUID AS revision_id, text_id, 'labelled' AS origin FROM text WHERE text = 'It rains.'",
            {"id": ids[0]},
        )
    last = cards(store, reviewer="ann", limit=1)[0].negatives[-1]
    assert (last.text, last.origin, last.rank, last.score, last.positive_score) == (
        "It rains.",
        "labelled",
        *[None] * 3,
    )


def test_the_most_contested_come_first_and_none_that_are_held_or_judged(store: Store, ids: list[UUID]) -> None:
    assert shown(store, "ann") == ids
    assert shown(store, "ann", limit=2, except_for=ids[:1]) == ids[1:3]
    say(store, ids[0], Verdict.APPROVE)
    assert shown(store, "bob") == ids[1:]


def test_a_skip_decides_nothing_but_is_not_shown_again_to_who_skipped(store: Store, ids: list[UUID]) -> None:
    skip = say(store, ids[0], Verdict.SKIP)
    assert (shown(store, "ann"), shown(store, "bob")) == (ids[1:], ids)
    reviews.add_reviews(store, [ReviewEvent(new_id(), "ann", ids[0], ids[0], Verdict.SKIP, undoes=skip.review_id)])
    assert shown(store, "ann") == ids


def test_the_audit_queue_shows_what_only_a_policy_approved(store: Store, ids: list[UUID]) -> None:
    approve_by_policy(store, ids[:2])
    [first, _] = cards(store, reviewer="ann", queue=Queue.AUDIT)
    assert (first.sample_id, first.decided_by) == (ids[0], "policy:everything")
    assert shown(store, "ann") == ids[2:]
    say(store, ids[0], Verdict.APPROVE)
    assert shown(store, "bob", queue=Queue.AUDIT) == [ids[1]]


def test_a_disputed_sample_is_shown_to_who_has_not_judged_it(store: Store, ids: list[UUID]) -> None:
    say(store, ids[3], Verdict.APPROVE, "ann")
    say(store, ids[3], Verdict.REJECT, "bob")
    asked = {who: shown(store, who, queue=Queue.DISPUTED) for who in ("ann", "bob", "eve")}
    assert asked == {"ann": [], "bob": [], "eve": [ids[3]]}
    assert shown(store, "eve") == [ids[0], ids[1], ids[2], ids[4]]
    say(store, ids[3], Verdict.REJECT, "eve")
    assert shown(store, "dan", queue=Queue.DISPUTED) == []


def test_an_edited_sample_is_shown_again_to_whoever_judged_it_before(store: Store, ids: list[UUID]) -> None:
    say(store, ids[0], Verdict.SKIP, "bob")
    negative = cards(store, reviewer="ann")[0].negatives[0]
    promotion = ReviewEvent(
        new_id(), "ann", ids[0], ids[0], Verdict.PROMOTE, negative_id=negative.negative_id, edited_id=new_id()
    )
    reviews.add_reviews(store, [promotion])
    assert ids[0] in shown(store, "bob")
    assert ids[0] in shown(store, "ann")


def test_what_one_reviewer_has_nobody_else_is_shown(store: Store, ids: list[UUID]) -> None:
    assert shown(store, "ann", limit=2, claim_for=QUARTER) == ids[:2]
    assert shown(store, "bob", limit=2, claim_for=QUARTER) == ids[2:4]
    assert shown(store, "ann", limit=5, claim_for=QUARTER) == [ids[0], ids[1], ids[4]]  # her own again
    assert shown(store, "eve") == []


def test_whoever_has_judged_a_sample_keeps_nobody_from_it(store: Store, ids: list[UUID]) -> None:
    shown(store, "ann", claim_for=QUARTER)
    say(store, ids[0], Verdict.FLAG)
    assert shown(store, "bob", queue=Queue.ADJUDICATION) == ids[:1]
    assert shown(store, "bob") == []


def test_only_samples_that_are_here_are_claimed(store: Store, ids: list[UUID]) -> None:
    shown(store, "ann", limit=0, except_for=[new_id(), ids[0]], claim_for=QUARTER)
    with store.read() as cursor:
        assert cursor.execute("SELECT sample_id FROM claim").fetchall() == [(ids[0],)]


def test_a_claim_that_ran_out_is_free_and_one_that_was_renewed_is_not(
    store: Store, ids: list[UUID], monkeypatch: pytest.MonkeyPatch
) -> None:
    start = rows.now()

    def after(minutes: int) -> None:
        monkeypatch.setattr(queues, "now", lambda: start + timedelta(minutes=minutes))

    after(0)
    shown(store, "ann", limit=3, claim_for=QUARTER)
    after(10)
    assert shown(store, "ann", limit=0, except_for=ids[:1], claim_for=QUARTER) == []
    after(20)
    assert shown(store, "bob", claim_for=QUARTER) == ids[1:]
    shown(store, "ann", limit=0, except_for=ids[:2], claim_for=QUARTER)  # the second is bob's by now
    assert shown(store, "bob") == ids[1:]
    with store.read() as cursor:
        held = cursor.execute("SELECT reviewer, count(*) FROM claim GROUP BY ALL ORDER BY ALL").fetchall()
    assert held == [("ann", 1), ("bob", 4)]


def test_a_verdict_on_a_card_that_somebody_else_has_is_stored(store: Store, ids: list[UUID]) -> None:
    shown(store, "ann", claim_for=QUARTER)
    say(store, ids[0], Verdict.APPROVE, "bob")
    assert shown(store, "ann") == ids[1:]


def test_progress_counts_one_reviewers_standing_verdicts_and_what_is_left(store: Store, ids: list[UUID]) -> None:
    approval = say(store, ids[0], Verdict.APPROVE)
    say(store, ids[1], Verdict.SKIP)
    shown(store, "bob", limit=1, claim_for=QUARTER)
    assert review_progress(store, reviewer="ann", queue=Queue.UNREVIEWED) == ReviewProgress(1, 0, 1, 3, 0)
    assert review_progress(store, reviewer="eve", queue=Queue.UNREVIEWED) == ReviewProgress(0, 0, 0, 3, 1)
    reviews.add_reviews(store, [ReviewEvent(new_id(), "ann", ids[0], ids[0], Verdict.SKIP, undoes=approval.review_id)])
    assert review_progress(store, reviewer="ann", queue=Queue.UNREVIEWED) == ReviewProgress(0, 0, 1, 4, 0)


def test_held_out_samples_have_no_card(store: Store) -> None:
    add_samples(store, ["When does it open?"])
    with store.write() as cursor:
        cursor.execute("UPDATE sample_state SET declared_use = 'eval'")
    assert shown(store, "ann") == []


def test_whoever_skipped_far_more_than_are_shown_at_once_gets_the_next(store: Store) -> None:
    ids = add_samples(store, [f"When does harbour {number} open?" for number in range(60)])
    for sample_id in shown(store, "ann", limit=50):
        say(store, sample_id, Verdict.SKIP)
    left = shown(store, "bob", limit=60)[50:]
    assert set(left) < set(ids)
    for limit in (1, 3, 10):
        assert shown(store, "ann", limit=limit) == left[:limit]
    assert shown(store, "ann", limit=1, except_for=left) == []
