"""
What the card sends: events made in the browser, sent again until they are acknowledged, stored once each.

The browser is as little trusted as any other input. An event that can never be stored is refused with the reason, so
that it does not block the ones behind it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from synth.records import Classification, Content, Retrieval, ReviewEvent, Sts, Task, UserError, Verdict
from synth.store.connection import Store
from synth.store.reviews import add_reviews
from synth.store.verdicts import check_event


@dataclass(frozen=True, slots=True)
class Receipt:
    """What became of events, by review id: stored (now or earlier), or refused and why."""

    stored: tuple[str, ...] = ()
    refused: Mapping[str, str] = field(default_factory=dict)


MOST_EVENTS = 500  # of a message; a browser that has more of them sends the rest again
DEEPEST = 6  # lists and objects within each other


def receive(store: Store, reviewer: str, sent: object) -> Receipt:
    """
    Store the events that a reviewer's browser sent, each once however often it is sent.

    Raises StoreError (nothing is acknowledged, the browser keeps the events) if the store cannot be written now.
    """
    events: dict[str, ReviewEvent] = {}  # by the id as the browser writes it, which it waits for
    refused: dict[str, str] = {}
    for fields in sent[:MOST_EVENTS] if isinstance(sent, list) else ():
        if isinstance(fields, dict):
            sent_id = fields.get("review_id")
            if not isinstance(sent_id, str | int | None):
                continue  # nothing that it could be told of
            sent_id = str(sent_id)
            try:
                events[sent_id] = event_of(fields, reviewer)
            except UserError as error:
                refused[sent_id] = str(error)
    return Receipt(tuple(_stored(store, list(events.items()), refused)), refused)


def _stored(store: Store, sent: Sequence[tuple[str, ReviewEvent]], refused: dict[str, str]) -> list[str]:
    """Store events; where one of them breaks a rule of the store, look for it in either half, and keep the others."""
    try:
        add_reviews(store, [event for _, event in sent])
    except UserError as error:
        if len(sent) > 1:
            half = len(sent) // 2
            return _stored(store, sent[:half], refused) + _stored(store, sent[half:], refused)
        refused[sent[0][0]] = str(error)
        return []
    return [sent_id for sent_id, _ in sent]


def event_of(fields: Any, reviewer: str) -> ReviewEvent:
    """One event as the card writes it. Raises UserError if it is none."""
    if _depth(fields) > DEEPEST:
        raise UserError("the browser sent an event that is none (lists within lists); it was left out")
    try:
        event = ReviewEvent(
            review_id=UUID(fields["review_id"]),
            reviewer=reviewer,
            sample_id=UUID(fields["sample_id"]),
            revision_id=UUID(fields["revision_id"]),
            verdict=Verdict(fields["verdict"]),
            negative_id=_optional_id(fields.get("negative_id")),
            reasons=tuple(fields.get("reasons") or ()),
            difficulty=fields.get("difficulty"),
            seconds=_rounded(fields.get("seconds")),
            undoes=_optional_id(fields.get("undoes")),
            note=str(fields.get("note") or ""),
            edited_id=_optional_id(fields.get("edited_id")),
            edit=_content(fields.get("edit")),
            grade=fields.get("grade"),
            own_score=fields.get("own_score"),
            saw_scores=fields.get("saw_scores"),
            num_shown=fields.get("num_shown"),
            adjudicates=fields.get("adjudicates", False),
            guideline=fields.get("guideline"),
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"the browser sent an event that is none ({error!r:.200}); it was left out") from None
    check_event(event)
    return event


def _content(fields: Any) -> Content | None:
    """The sample as an edit says it shall be. Raises KeyError, TypeError or ValueError if it is no content."""
    if fields is None:
        return None
    instruction = fields.get("instruction") or ""
    match Task(fields["task"]):
        case Task.RETRIEVAL:
            if not isinstance(fields["positives"], list):
                raise TypeError("an edit's positives are a list")
            return Retrieval(fields["query"], tuple(fields["positives"]), instruction)
        case Task.STS:
            return Sts(fields["text1"], fields["text2"], fields["score"], instruction)
        case Task.CLASSIFICATION:
            return Classification(fields["text"], fields["label"], instruction)


def _depth(value: Any) -> int:
    """How many lists and objects are within each other; more than DEEPEST are not counted."""
    level, depth = [value], 0
    while depth <= DEEPEST and (level := [each for each in level if isinstance(each, (list, dict))]):
        depth += 1
        level = [inner for each in level for inner in (each.values() if isinstance(each, dict) else each)]
    return depth


def _optional_id(value: Any) -> UUID | None:
    return None if value is None else UUID(value)


def _rounded(seconds: Any) -> Any:
    return round(seconds, 3) if isinstance(seconds, float) else seconds  # what is no duration, check_event refuses
