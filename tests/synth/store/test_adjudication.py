"""What people disagree on, and who settles it."""

from typing import Any
from uuid import UUID

import pytest

from synth.records import ReviewEvent, UserError, Verdict, new_id
from synth.store.connection import Store
from synth.store.queues import Queue, cards
from synth.store.reviews import add_reviews
from tests.review_app.seeding import add_samples

pytestmark = pytest.mark.usefixtures("plain_queues")


@pytest.fixture
def sample_id(store: Store) -> UUID:
    [sample_id, _] = add_samples(store, ["When does it open?", "When does it close?"])
    return sample_id


def say(store: Store, sample_id: UUID, reviewer: str, verdict: Verdict, **fields: Any) -> ReviewEvent:
    event = ReviewEvent(new_id(), reviewer, sample_id, sample_id, verdict, **fields)
    add_reviews(store, [event])
    return event


def state(store: Store, sample_id: UUID) -> tuple[Any, ...]:
    with store.read() as cursor:
        [row] = cursor.execute(
            "SELECT status, decided_by, adjudication FROM samples WHERE sample_id = ?", [sample_id]
        ).fetchall()
    return tuple(row)


def shown(store: Store, reviewer: str, queue: Queue = Queue.ADJUDICATION) -> list[UUID]:
    return [card.sample_id for card in cards(store, reviewer=reviewer, queue=queue)]


def test_an_adjudicators_word_decides_whatever_others_said(store: Store, sample_id: UUID) -> None:
    say(store, sample_id, "ann", Verdict.APPROVE)
    say(store, sample_id, "bob", Verdict.REJECT)
    assert state(store, sample_id) == ("disputed", "ann, bob", "tie")
    assert shown(store, "eve") == [sample_id]
    settled = say(store, sample_id, "eve", Verdict.REJECT, adjudicates=True)
    assert state(store, sample_id) == ("rejected", "bob, eve", None)
    say(store, sample_id, "dan", Verdict.APPROVE)
    say(store, sample_id, "dora", Verdict.APPROVE)
    assert state(store, sample_id) == ("rejected", "bob, eve", None)
    say(store, sample_id, "eve", Verdict.SKIP, undoes=settled.review_id)
    assert state(store, sample_id) == ("approved", "ann, dan, dora", None)


def test_the_last_adjudicator_has_the_last_word(store: Store, sample_id: UUID) -> None:
    say(store, sample_id, "eve", Verdict.REJECT, adjudicates=True)
    say(store, sample_id, "dan", Verdict.APPROVE, adjudicates=True)
    assert state(store, sample_id) == ("approved", "dan", None)


def test_a_flagged_sample_is_an_adjudicators_and_nobody_elses(store: Store, sample_id: UUID) -> None:
    flag = say(store, sample_id, "ann", Verdict.FLAG, note="Which harbour?")
    assert state(store, sample_id) == ("pending", None, "flag")
    assert sample_id not in shown(store, "bob", Queue.UNREVIEWED)
    [card] = cards(store, reviewer="bob", queue=Queue.ADJUDICATION)
    [word] = card.words
    assert (word.reviewer, word.verdict, word.note) == ("ann", "flag", "Which harbour?")
    say(store, sample_id, "ann", Verdict.SKIP, undoes=flag.review_id)
    assert state(store, sample_id) == ("pending", None, None)
    assert sample_id in shown(store, "bob", Queue.UNREVIEWED)


def test_grades_far_apart_are_for_an_adjudicator(store: Store, sample_id: UUID) -> None:
    negative = cards(store, reviewer="ann", limit=1)[0].negatives[0]
    for reviewer, grade, verdict in (("ann", 0, Verdict.KEEP), ("bob", 1, Verdict.KEEP), ("eve", 2, Verdict.PARTIAL)):
        say(store, sample_id, reviewer, verdict, negative_id=negative.negative_id, grade=grade)
        say(store, sample_id, reviewer, Verdict.APPROVE)
        assert state(store, sample_id)[2] == ("grades" if reviewer == "eve" else None)
    [card] = cards(store, reviewer="dan", queue=Queue.ADJUDICATION)
    assert [(word.reviewer, word.grades) for word in card.words] == [
        ("ann", ((negative.text_id, 0),)),
        ("bob", ((negative.text_id, 1),)),
        ("eve", ((negative.text_id, 2),)),
    ]
    say(store, sample_id, "dan", Verdict.APPROVE, adjudicates=True)
    assert state(store, sample_id)[2] is None


def test_others_words_are_on_no_other_card(store: Store, sample_id: UUID) -> None:
    say(store, sample_id, "ann", Verdict.APPROVE)
    say(store, sample_id, "bob", Verdict.REJECT)
    [card] = cards(store, reviewer="eve", queue=Queue.DISPUTED)
    assert card.words == ()


def test_only_who_was_made_an_adjudicator_settles_once_anybody_has_a_role(store: Store, sample_id: UUID) -> None:
    with store.write() as cursor:
        cursor.execute("INSERT INTO role VALUES ('eve', 'adjudicator', 'ada', now()::TIMESTAMP)")
    with pytest.raises(UserError, match="bob is no adjudicator; an admin can make them one"):
        say(store, sample_id, "bob", Verdict.APPROVE, adjudicates=True)
    say(store, sample_id, "eve", Verdict.APPROVE, adjudicates=True)
    assert state(store, sample_id)[0] == "approved"


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"grade": 2}, "the grade 2 does not go with approve of a sample"),
        ({"own_score": float("nan")}, "is no number"),
        ({"num_shown": -1}, "-1 negatives were not shown"),
        ({"guideline": 0}, "the guideline 0 is no number of one"),
        ({"saw_scores": "yes"}, "true or false"),
        ({"adjudicates": True, "reviewer_kind": "policy"}, "a policy settles nothing"),
    ],
)
def test_what_no_card_can_say_is_refused(store: Store, sample_id: UUID, fields: dict[str, Any], why: str) -> None:
    with pytest.raises(UserError, match=why):
        say(store, sample_id, "ann", Verdict.APPROVE, **fields)


@pytest.mark.parametrize(
    ("grade", "verdict", "fits"),
    [
        (0, Verdict.KEEP, True),
        (1, Verdict.KEEP, True),
        (1, Verdict.PARTIAL, False),
        (2, Verdict.PARTIAL, True),
        (3, Verdict.FALSE_NEGATIVE, True),
        (3, Verdict.KEEP, False),
        (4, Verdict.KEEP, False),
        (True, Verdict.KEEP, False),
    ],
)
def test_a_grade_goes_with_its_verdict(
    store: Store, sample_id: UUID, grade: int, verdict: Verdict, *, fits: bool
) -> None:
    negative = cards(store, reviewer="ann", limit=1)[0].negatives[0].negative_id
    if fits:
        say(store, sample_id, "ann", verdict, negative_id=negative, grade=grade)
    else:
        with pytest.raises(UserError, match="does not go with"):
            say(store, sample_id, "ann", verdict, negative_id=negative, grade=grade)
