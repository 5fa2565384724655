import json
from typing import Any
from uuid import UUID

import pytest

from review_app.outbox import event_of, receive
from synth.records import UserError, Verdict, new_id
from synth.store.connection import Store
from synth.store.queues import cards
from tests.review_app.seeding import add_samples, num_events, verdicts

ID = str(new_id())
DEEP = json.loads(f"{'[' * 50}{']' * 50}")


def sent(sample_id: UUID | str, **fields: Any) -> dict[str, Any]:
    event: dict[str, Any] = {
        "review_id": str(new_id()),
        "sample_id": str(sample_id),
        "revision_id": str(sample_id),
        "negative_id": None,
        "verdict": "approve",
        "reasons": [],
        "difficulty": None,
        "seconds": 2.5,
    }
    event = json.loads(json.dumps(event | fields))  # as it comes from the browser
    return event


def test_every_field_of_an_event_is_stored(store: Store) -> None:
    (sample,) = add_samples(store, ["When does it open?"])
    negative = cards(store, reviewer="ada")[0].negatives[0]
    verdict = sent(sample, verdict="reject", reasons=["false-negative"], difficulty=3)
    drop = sent(sample, verdict="reject", negative_id=str(negative.negative_id))
    assert set(receive(store, "ada", [verdict, drop]).stored) == {verdict["review_id"], drop["review_id"]}
    with store.read() as cursor:
        rows = cursor.execute(
            "SELECT reviewer, reviewer_kind, verdict, reasons, difficulty, seconds, negative_id FROM reviews"
            " ORDER BY negative_id NULLS FIRST"
        ).fetchall()
    assert rows == [
        ("ada", "human", "reject", ["false-negative"], 3, 2.5, None),
        ("ada", "human", "reject", [], None, 2.5, negative.negative_id),
    ]


def test_what_was_seen_and_said_beside_the_verdict_is_stored(store: Store) -> None:
    (sample,) = add_samples(store, ["When does it open?"])
    negative = cards(store, reviewer="ada")[0].negatives[0]
    seen = {"saw_scores": True, "guideline": 2}
    kept = sent(sample, verdict="keep", negative_id=str(negative.negative_id), grade=1, **seen)
    verdict = sent(sample, note="It is late.", num_shown=2, own_score=3.5, adjudicates=True, **seen)
    assert receive(store, "ada", [verdict, kept]).refused == {}
    with store.read() as cursor:
        rows = cursor.execute(
            "SELECT note, num_shown, own_score, adjudicates, grade, saw_scores, guideline FROM reviews"
            " ORDER BY negative_id NULLS FIRST"
        ).fetchall()
    assert rows == [("It is late.", 2, 3.5, True, None, True, 2), ("", None, None, False, 1, True, 2)]


def test_a_promotion_and_the_verdict_on_what_it_makes_come_in_one_batch(store: Store) -> None:
    (sample,) = add_samples(store, ["When does it open?"])
    promoted = new_id()
    negative = str(cards(store, reviewer="ada")[0].negatives[0].negative_id)
    promotion = sent(sample, verdict="promote", negative_id=negative, grade=3, edited_id=str(promoted))
    verdict = sent(sample, revision_id=str(promoted))
    assert receive(store, "ada", [promotion, verdict]).refused == {}
    with store.read() as cursor:
        [(revision, status, positives)] = cursor.execute(
            "SELECT revision_id, status, len(positives) FROM samples"
        ).fetchall()
    assert (revision, status, positives) == (promoted, "approved", 2)


def test_events_sent_again_are_acknowledged_again_and_stored_once(store: Store) -> None:
    first, second = add_samples(store, ["When does it open?", "When does it close?"])
    events = [sent(first), sent(second)]
    assert receive(store, "ada", events[:1]).stored == receive(store, "ada", events[:1]).stored
    assert len(receive(store, "ada", events).stored) == 2
    assert num_events(store) == 2


def test_an_undo_brings_the_sample_back(store: Store) -> None:
    (sample,) = add_samples(store, ["When does it open?"])
    approve = sent(sample)
    receive(store, "ada", [approve])
    assert cards(store, reviewer="ada") == []
    receive(store, "ada", [sent(sample, verdict="skip", undoes=approve["review_id"])])
    assert verdicts(store) == []
    assert [card.sample_id for card in cards(store, reviewer="ada")] == [sample]


def test_an_event_of_a_sample_that_is_not_here_is_refused_and_the_others_are_stored(store: Store) -> None:
    (sample,) = add_samples(store, ["When does it open?"])
    stray, good = sent(new_id()), sent(sample)
    receipt = receive(store, "ada", [stray, good])
    assert receipt.stored == (good["review_id"],)
    assert "no sample" in receipt.refused[stray["review_id"]]
    assert num_events(store) == 1


@pytest.mark.parametrize(
    "fields",
    [
        {"review_id": "not an id"},
        {"review_id": 7},
        {"verdict": "perhaps"},
        {"reasons": ["because"]},
        {"reasons": 3},
        {"difficulty": 5},
        {"difficulty": True},
        {"seconds": -1},
        {"seconds": "NaN"},
        {"seconds": 1e9},
        {"seconds": 10**400},
        {"seconds": [1]},
        {"reasons": [["x"]]},
        {"verdict": "keep"},
        {"verdict": []},
        {"undoes": "everything"},
        {"negative_id": ["x"]},
        {"note": "x" * 2001},
        {"grade": 1},
        {"own_score": "five"},
        {"own_score": 10**400},
        {"own_score": 2**63},
        {"own_score": float("nan")},
        {"guideline": 2**31},
        {"saw_scores": 1},
        {"adjudicates": 0},
        {"reasons": ["other"] * 21},
        {"note": DEEP},
        {"reasons": DEEP},
        {"seconds": DEEP},
        {"grade": DEEP},
        {"edited_id": ID, "edit": {"task": "sts", "text1": "x", "text2": "y", "score": 10**20}},
        {"edited_id": ID, "edit": {"task": "sts", "text1": "x", "text2": "y", "score": -1e308}},
        {"edited_id": ID, "edit": {"task": "classification", "text": "x" * 1_000_001, "label": "y"}},
        {"edited_id": ID, "edit": {"task": "retrieval", "query": "Who?", "positives": ["Ada."] * 1001}},
        {"saw_scores": "yes"},
        {"num_shown": -1},
        {"guideline": 0},
        {"adjudicates": 3},
        {"edited_id": "x"},
        {"edit": {"task": "retrieval", "query": "Who?", "positives": ["Ada."]}},
        {"edited_id": ID, "edit": {"task": "poem", "text": "x"}},
        {"edited_id": ID, "edit": {"task": "retrieval", "query": "Who?", "positives": "Ada."}},
        {"edited_id": ID, "edit": {"task": "retrieval", "query": "Who?", "positives": []}},
        {"edited_id": ID, "edit": {"task": "retrieval", "query": ["Who?"], "positives": ["Ada."]}},
        {"edited_id": ID, "edit": {"task": "retrieval", "query": "\ud800", "positives": ["Ada."]}},
        {"edited_id": ID, "edit": {"task": "sts", "text1": "x", "text2": "y", "score": "3"}},
        {"edited_id": ID, "edit": {"task": "classification", "text": "x"}},
        {"edited_id": ID, "edit": "Who?"},
        {"edited_id": ID, "edit": []},
    ],
)
def test_what_is_no_event_is_refused_by_its_id(store: Store, fields: dict[str, Any]) -> None:
    (sample,) = add_samples(store, ["When does it open?"])
    bad = sent(sample, **fields)
    receipt = receive(store, "ada", [bad])
    assert receipt.stored == ()
    assert list(receipt.refused) == [str(bad["review_id"])]
    assert num_events(store) == 0


def test_a_message_of_thousands_stores_its_first_part_and_the_rest_with_the_next(store: Store) -> None:
    (sample,) = add_samples(store, ["When does it open?"])
    events = [sent(sample, verdict="skip") for _ in range(501)]
    first = receive(store, "ada", events)
    assert len(first.stored) == 500
    assert receive(store, "ada", events[500:]).stored == (events[500]["review_id"],)


def test_a_refused_undo_does_not_keep_the_events_behind_it(store: Store) -> None:
    (sample,) = add_samples(store, ["When does it open?"])
    of_bob = sent(sample)
    receive(store, "bob", [of_bob])
    undos = [
        sent(sample, verdict="skip", undoes=str(new_id())),
        sent(sample, verdict="skip", undoes=of_bob["review_id"]),
    ]
    good = sent(sample)
    receipt = receive(store, "ada", [*undos, good])
    assert receipt.stored == (good["review_id"],)
    assert list(receipt.refused) == [each["review_id"] for each in undos]
    assert "only bob can undo it" in receipt.refused[undos[1]["review_id"]]


def test_an_event_is_acknowledged_by_the_id_that_the_browser_wrote(store: Store) -> None:
    (sample,) = add_samples(store, ["When does it open?"])
    event = sent(sample, review_id=str(new_id()).upper())
    assert receive(store, "ada", [event]).stored == (event["review_id"],)


@pytest.mark.parametrize("nonsense", [None, "text", {"events": []}, [None, 3, "x", ["y"]], []])
def test_nonsense_stores_nothing(store: Store, nonsense: object) -> None:
    assert receive(store, "ada", nonsense).stored == ()


def test_the_reviewer_is_the_sessions_and_not_the_events(store: Store) -> None:
    event = event_of(sent(new_id(), reviewer="mallory", reviewer_kind="policy"), "ada")
    assert (event.reviewer, event.reviewer_kind, event.verdict) == ("ada", "human", Verdict.APPROVE)


def test_the_error_names_what_was_wrong() -> None:
    with pytest.raises(UserError, match="perhaps"):
        event_of(sent(new_id(), verdict="perhaps"), "ada")
