"""Review events on their way into the store: what they refer to must be here, and they count in order of arrival."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import duckdb

from synth.records import ReviewEvent, UserError
from synth.store.edits import Edits
from synth.store.rows import batch, now

TICK = timedelta(microseconds=1)  # what a TIMESTAMP can tell apart


@dataclass(frozen=True, slots=True)
class Said:
    """An event that an undo may name."""

    reviewer: str
    reviewer_kind: str
    sample_id: UUID
    is_undo: bool
    edited_id: UUID | None


@dataclass(frozen=True, slots=True)
class Known:
    """What the store has of all that a batch of events refers to; grows with the events that are stored."""

    path: Path
    revisions: set[tuple[UUID, UUID]]  # (sample id, revision id)
    negatives: dict[UUID, tuple[UUID, UUID]]  # its sample's and its text's id
    said: dict[UUID, Said]
    latest: dict[UUID, datetime]  # the time of a sample's last event


def rows_of(
    cursor: duckdb.DuckDBPyConnection, events: Sequence[ReviewEvent], *, run_id: UUID | None, path: Path
) -> list[dict[str, Any]]:
    """
    The rows of `review` for new events, in order; what they edit or promote is stored on the way. Times are the
    store's: each is later than the one before of the same sample, whatever any clock says.

    Raises UserError, in one line, if an event refers to what is not in the store at `path`, or undoes what it may not.
    """
    known = _known(cursor, events, path)
    edited = {event.sample_id for event in events if event.edited_id is not None}
    edits = Edits(cursor, edited) if edited else None
    start = now()
    rows = []
    for place, event in enumerate(events):
        _refuse_stray(event, known)
        when = max(start + place * TICK, known.latest.get(event.sample_id, start) + TICK)
        made = None
        if edits is not None and event.edited_id is not None:
            promoted = known.negatives[event.negative_id][1] if event.negative_id is not None else None
            made = event.edited_id if edits.carry_out(event, promoted, when, run_id) else None
        if edits is not None and event.undoes is not None:
            edits.withdraw(known.said[event.undoes].edited_id)  # for what is edited later in the batch
        if made is not None:
            known.revisions.add((event.sample_id, made))
        known.latest[event.sample_id] = when
        known.said[event.review_id] = Said(
            event.reviewer, event.reviewer_kind, event.sample_id, event.undoes is not None, made
        )
        row = asdict(event) | {"edited_id": made, "created_at": when, "run_id": run_id}
        del row["edit"]
        rows.append(row)
    return rows


def _known(cursor: duckdb.DuckDBPyConnection, events: Sequence[ReviewEvent], path: Path) -> Known:
    names = ("sample_id", "revision_id", "negative_id", "undoes")
    negatives: list[tuple[Any, ...]] = []
    said: list[tuple[Any, ...]] = []
    with batch(cursor, [{name: getattr(event, name) for name in names} for event in events]):
        revisions = cursor.execute(
            "SELECT r.sample_id, r.revision_id FROM revision r SEMI JOIN batch b ON r.revision_id = b.revision_id::UUID"
        ).fetchall()
        latest = cursor.execute(
            "SELECT v.sample_id, max(v.created_at) FROM review v SEMI JOIN batch b ON v.sample_id = b.sample_id::UUID"
            " GROUP BY v.sample_id"
        ).fetchall()
        if any(event.negative_id is not None for event in events):
            negatives = cursor.execute(
                "SELECT n.negative_id, n.sample_id, n.text_id FROM negative n"
                " SEMI JOIN batch b ON n.negative_id = b.negative_id::UUID"
            ).fetchall()
        if any(event.undoes is not None for event in events):
            said = cursor.execute(
                "SELECT v.review_id, v.reviewer, v.reviewer_kind, v.sample_id, v.undoes IS NOT NULL, v.edited_id"
                " FROM review v SEMI JOIN batch b ON v.review_id = b.undoes::UUID"
            ).fetchall()
    return Known(
        path,
        set(revisions),
        {negative_id: (sample_id, text_id) for negative_id, sample_id, text_id in negatives},
        {review_id: Said(*fields) for review_id, *fields in said},
        dict(latest),
    )


def _refuse_stray(event: ReviewEvent, known: Known) -> None:
    if (event.sample_id, event.revision_id) not in known.revisions:
        raise UserError(
            f"no sample {event.sample_id} with a revision {event.revision_id} in {known.path};"
            " was the event meant for another store?"
        )
    if event.negative_id is not None and known.negatives.get(event.negative_id, (None,))[0] != event.sample_id:
        raise UserError(f"sample {event.sample_id} has no negative {event.negative_id}; look at the sample again")
    if event.undoes is None:
        return
    target = known.said.get(event.undoes)
    if target is None:
        raise UserError(f"there is no review event {event.undoes} to undo; it may never have been stored")
    if (target.reviewer, target.reviewer_kind) != (event.reviewer, event.reviewer_kind):
        raise UserError(f"review event {event.undoes} is {target.reviewer}'s; only {target.reviewer} can undo it")
    if target.is_undo:
        raise UserError(f"review event {event.undoes} is an undo; say the verdict again instead")
    if target.sample_id != event.sample_id:
        raise UserError(f"review event {event.undoes} is of sample {target.sample_id}, not of {event.sample_id}")
