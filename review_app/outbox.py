"""
What the card sends: events made in the browser, sent again until they are acknowledged, stored once each.

The browser is as little trusted as any other input. An event that can never be stored is refused with the reason, so
that it does not block the ones behind it.
"""

from collections.abc import Mapping
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


def receive(store: Store, reviewer: str, sent: object) -> Receipt:
    """
    Store the events that a reviewer's browser sent, each once however often it is sent.

    Raises StoreError (nothing is acknowledged, the browser keeps the events) if the store cannot be written now.
    """
    events: dict[str, ReviewEvent] = {}  # by the id as the browser writes it, which it waits for
    refused: dict[str, str] = {}
    for fields in sent if isinstance(sent, list) else ():
        if isinstance(fields, dict):
            sent_id = str(fields.get("review_id"))
            try:
                events[sent_id] = event_of(fields, reviewer)
            except UserError as error:
                refused[sent_id] = str(error)
    try:
        add_reviews(store, list(events.values()))
    except UserError:  # one of them breaks a rule of the store: find it, keep the others
        events = {sent_id: event for sent_id, event in events.items() if _stored(store, sent_id, event, refused)}
    return Receipt(tuple(events), refused)


def _stored(store: Store, sent_id: str, event: ReviewEvent, refused: dict[str, str]) -> bool:
    try:
        add_reviews(store, [event])
    except UserError as error:
        refused[sent_id] = str(error)
        return False
    return True


def event_of(fields: Any, reviewer: str) -> ReviewEvent:
    """One event as the card writes it. Raises UserError if it is none."""
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


def _optional_id(value: Any) -> UUID | None:
    return None if value is None else UUID(value)


def _rounded(seconds: Any) -> Any:
    return round(seconds, 3) if isinstance(seconds, float) else seconds  # what is no duration, check_event refuses
