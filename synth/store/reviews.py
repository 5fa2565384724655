"""Review events on their way into the store, and what policies see. docs/reviews.md states the rules."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from uuid import UUID

import duckdb

from synth.records import ReviewEvent, UserError
from synth.store.connection import Store
from synth.store.events import rows_of
from synth.store.roles import Role, role_of
from synth.store.rows import batch, insert
from synth.store.samples import refresh_state
from synth.store.verdicts import check_event

# The negatives that are left out, as (sample_id, text_id), by the rule that sample_state counts by.
DROPPED = (
    files("synth.store").joinpath("state.sql").read_text(encoding="utf-8").partition(",\n-- (DROPPED")[0]
    + "\nSELECT sample_id, text_id FROM dropped"
).format(ids="(SELECT DISTINCT sample_id FROM review WHERE negative_id IS NOT NULL)")


def add_reviews(store: Store, events: Sequence[ReviewEvent], *, run_id: UUID | None = None) -> int:
    """
    Store review events in the order given, each once however often it is sent, and of a policy only what differs from
    what it said last of the same revision. An edit or a promotion makes its revision; one that changes nothing makes
    none, and its verdict counts for the revision that it judged. Returns how many events are new.

    Raises UserError, storing none, if one of them breaks a rule of docs/reviews.md or is of a sample, a revision, a
    negative or an event that is not here.
    """
    for event in events:
        check_event(event)
    if not events:
        return 0
    with store.write() as cursor:
        fresh = _without_known(cursor, events)
        if not fresh:
            return 0
        _refuse_adjudicating(cursor, fresh)
        insert(cursor, "review", rows_of(cursor, fresh, run_id=run_id, path=store.path))
        refresh_state(cursor, [event.sample_id for event in fresh])
        _let_go(cursor, fresh)
    return len(fresh)


def _let_go(cursor: duckdb.DuckDBPyConnection, events: Sequence[ReviewEvent]) -> None:
    """Who has judged a sample keeps nobody from it: what is disputed now has an adjudicator waiting."""
    judged = [event for event in events if event.negative_id is None and event.undoes is None]
    if judged:
        with batch(cursor, [{"sample_id": each.sample_id, "reviewer": each.reviewer} for each in judged]):
            cursor.execute(
                "DELETE FROM claim WHERE (sample_id, reviewer) IN (SELECT b.sample_id::UUID, b.reviewer FROM batch b)"
            )


def _refuse_adjudicating(cursor: duckdb.DuckDBPyConnection, events: Sequence[ReviewEvent]) -> None:
    for event in events:
        if event.adjudicates and role_of(cursor, event.reviewer) is Role.REVIEWER:
            raise UserError(f"{event.reviewer} is no adjudicator; an admin can make them one on the page Guidelines")


def _without_known(cursor: duckdb.DuckDBPyConnection, events: Sequence[ReviewEvent]) -> list[ReviewEvent]:
    fresh: dict[UUID, ReviewEvent] = {}
    for event in events:
        fresh.setdefault(event.review_id, event)
    policies_words = [event for event in fresh.values() if _is_policys_word(event)]
    with batch(cursor, [{"review_id": review_id} for review_id in fresh]):
        known = cursor.execute(
            "SELECT v.review_id FROM review v SEMI JOIN batch b ON v.review_id = b.review_id::UUID"
        ).fetchall()
    if policies_words:
        with batch(cursor, [{"revision_id": event.revision_id} for event in policies_words]):
            said = dict(
                cursor.execute(
                    "SELECT v.revision_id, arg_max(v.verdict, (v.created_at, v.review_id)) FROM review v"
                    " SEMI JOIN batch b ON v.revision_id = b.revision_id::UUID"
                    " WHERE v.reviewer_kind = 'policy' AND v.negative_id IS NULL AND v.undoes IS NULL AND v.review_id"
                    " NOT IN (SELECT u.undoes FROM review u WHERE u.undoes IS NOT NULL) GROUP BY v.revision_id"
                ).fetchall()
            )
        known += [(event.review_id,) for event in policies_words if said.get(event.revision_id) == event.verdict]
    for (review_id,) in known:
        fresh.pop(review_id, None)
    return list(fresh.values())


def _is_policys_word(event: ReviewEvent) -> bool:
    return event.reviewer_kind == "policy" and event.negative_id is None and event.undoes is None


@dataclass(frozen=True, slots=True)
class Candidate:
    """What a policy sees of a sample that no person decided. The rank is None for what is not mined."""

    sample_id: UUID
    revision_id: UUID
    task: str
    operation: str
    positive_rank: int | None
    num_negatives: int
    status: str  # pending, or what a policy said of it last
    source: str = ""
    decided_by: str | None = None  # the policy that said so
    is_flagged: bool = False  # an adjudicator is asked


def undecided(store: Store) -> list[Candidate]:
    """Every sample to train on that no person has decided, with what its latest mining found."""
    with store.read() as cursor:
        rows = cursor.execute(
            "SELECT st.sample_id, st.revision_id, st.task, st.operation, m.positive_rank, st.num_negatives, st.status,"
            " s.name, st.decided_by, st.adjudication IS NOT NULL"
            " FROM sample_state st JOIN source s ON s.source_id = st.source_id"
            " LEFT JOIN (SELECT * FROM mined QUALIFY row_number() OVER"
            " (PARTITION BY revision_id ORDER BY created_at DESC, stage_key) = 1) m ON m.revision_id = st.revision_id"
            " WHERE st.decided_kind IS DISTINCT FROM 'human' AND st.declared_use = 'train' ORDER BY st.sample_id"
        ).fetchall()
    return [Candidate(*row) for row in rows]
