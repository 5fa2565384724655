"""
What the card sends: events made in the browser, sent again until they are acknowledged, stored once each.

The browser is as little trusted as any other input. An event that can never be stored is refused with the reason, so
that it does not block the ones behind it.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from synth.records import ReviewEvent, UserError, Verdict
from synth.store.connection import Store
from synth.store.reviews import add_reviews

REASONS = ("off-topic query", "positive does not answer", "false negative", "duplicate", "meaning drift", "other")
DIFFICULTIES = range(1, 5)
LONGEST_SECONDS = 24 * 3600.0


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
    events: list[ReviewEvent] = []
    refused: dict[str, str] = {}
    for fields in sent if isinstance(sent, list) else ():
        try:
            events.append(event_of(fields, reviewer))
        except UserError as error:
            if isinstance(fields, dict):
                refused[str(fields.get("review_id"))] = str(error)
    try:
        add_reviews(store, events)
    except UserError:  # one of them names a sample that is not here: find it, keep the others
        events = [event for event in events if _stored(store, event, refused)]
    return Receipt(tuple(str(event.review_id) for event in events), refused)


def _stored(store: Store, event: ReviewEvent, refused: dict[str, str]) -> bool:
    try:
        add_reviews(store, [event])
    except UserError as error:
        refused[str(event.review_id)] = str(error)
        return False
    return True


def event_of(fields: Any, reviewer: str) -> ReviewEvent:
    """One event as the card writes it. Raises UserError if it is none."""
    try:
        return ReviewEvent(
            review_id=UUID(fields["review_id"]),
            reviewer=reviewer,
            sample_id=UUID(fields["sample_id"]),
            revision_id=UUID(fields["revision_id"]),
            verdict=Verdict(fields["verdict"]),
            negative_id=_optional_id(fields.get("negative_id")),
            reasons=tuple(REASONS[REASONS.index(reason)] for reason in fields.get("reasons") or ()),
            difficulty=_difficulty(fields.get("difficulty")),
            seconds=_seconds(fields.get("seconds")),
            undoes=_optional_id(fields.get("undoes")),
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"the browser sent an event that is none ({error!r}); it was left out") from None


def _optional_id(value: Any) -> UUID | None:
    return None if value is None else UUID(value)


def _difficulty(value: Any) -> int | None:
    if value is None:
        return None
    if type(value) is not int or value not in DIFFICULTIES:
        raise ValueError(f"difficulty {value!r}")
    return value


def _seconds(value: Any) -> float | None:
    if value is None:
        return None
    seconds = float(value)
    if not math.isfinite(seconds) or not 0 <= seconds <= LONGEST_SECONDS:
        raise ValueError(f"seconds {value!r}")
    return round(seconds, 3)
