"""Review events, and the queue of cards that reviewers judge."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from uuid import UUID

import duckdb

from synth.records import ReviewEvent, UserError
from synth.store.connection import Store
from synth.store.rows import batch, first, insert, now
from synth.store.samples import refresh_state


class Queue(StrEnum):
    """What a reviewer is shown: what nobody decided yet, or what only a policy approved."""

    UNREVIEWED = "unreviewed"
    AUDIT = "audit"


QUEUE_CONDITION = {
    Queue.UNREVIEWED: "st.status = 'pending'",
    Queue.AUDIT: "st.status = 'approved' AND st.decided_kind = 'policy'",
}
# What a reviewer did and did not undo. $reviewer is bound by the caller.
STANDING = (
    "SELECT sample_id, revision_id, negative_id, verdict FROM review v WHERE v.reviewer = $reviewer"
    " AND v.undoes IS NULL AND v.review_id NOT IN (SELECT undoes FROM review WHERE undoes IS NOT NULL)"
)


@dataclass(frozen=True, slots=True)
class CardNegative:
    """One negative on a card. `score` and `positive_score` are cosines."""

    negative_id: UUID
    text: str
    origin: str
    rank: int
    score: float
    positive_score: float


@dataclass(frozen=True, slots=True)
class Card:
    """A retrieval sample as a reviewer sees it; negatives hardest first."""

    sample_id: UUID
    revision_id: UUID
    source: str
    operation: str
    method: str
    decided_by: str | None
    query: str
    positives: tuple[str, ...]
    negatives: tuple[CardNegative, ...]


@dataclass(frozen=True, slots=True)
class ReviewProgress:
    """How far one reviewer is in one queue."""

    approved: int
    rejected: int
    skipped: int
    left: int


def cards(
    store: Store, *, reviewer: str, queue: Queue = Queue.UNREVIEWED, limit: int = 25, except_for: Sequence[UUID] = ()
) -> list[Card]:
    """
    The next retrieval samples for a reviewer to judge, most contested first (the negative that comes nearest to the
    positive), ties by id. None that this reviewer judged already, none of `except_for`.
    """
    with store.read() as cursor:
        chosen = cursor.execute(
            "SELECT st.sample_id, st.revision_id, s.name, st.operation, st.decided_by FROM sample_state st"
            f" JOIN source s USING (source_id) ANTI JOIN ({STANDING}) mine ON mine.revision_id = st.revision_id"
            " WHERE st.task = 'retrieval' AND st.declared_use = 'train'"
            " AND NOT list_contains($except_for, st.sample_id)"
            f" AND {QUEUE_CONDITION[queue]} ORDER BY st.hardness DESC NULLS LAST, st.sample_id LIMIT $limit",
            {"reviewer": reviewer, "limit": limit, "except_for": list(except_for)},
        ).fetchall()
        contents = _contents(cursor, [row[1] for row in chosen])
        negatives = _negatives(cursor, [row[1] for row in chosen])
    return [
        Card(sample_id, revision_id, source, operation, method, decided_by, query, tuple(positives), found)
        for sample_id, revision_id, source, operation, decided_by in chosen
        for (query, positives, method), found in [(contents[revision_id], tuple(negatives.get(revision_id, ())))]
    ]


def _contents(cursor: duckdb.DuckDBPyConnection, ids: Sequence[UUID]) -> dict[UUID, tuple[str, list[str], str]]:
    rows = cursor.execute(
        "SELECT revision_id, query, positives, method FROM revision WHERE revision_id IN (SELECT unnest($ids::UUID[]))",
        {"ids": [str(each) for each in ids]},
    ).fetchall()
    return {row[0]: (row[1], row[2], row[3]) for row in rows}


def _negatives(cursor: duckdb.DuckDBPyConnection, ids: Sequence[UUID]) -> dict[UUID, list[CardNegative]]:
    rows = cursor.execute(
        "SELECT n.revision_id, n.negative_id, t.text, n.origin, n.rank, n.score, n.positive_score"
        " FROM negative n JOIN text t USING (text_id) WHERE n.revision_id IN (SELECT unnest($ids::UUID[]))"
        " QUALIFY row_number() OVER (PARTITION BY n.revision_id, n.text_id ORDER BY n.negative_id DESC) = 1"
        " ORDER BY n.revision_id, n.score DESC, n.text_id",
        {"ids": [str(each) for each in ids]},
    ).fetchall()
    found: dict[UUID, list[CardNegative]] = {}
    for revision_id, *fields in rows:
        found.setdefault(revision_id, []).append(CardNegative(*fields))
    return found


def review_progress(store: Store, *, reviewer: str, queue: Queue) -> ReviewProgress:
    """How many retrieval samples this reviewer approved, rejected and skipped, and how many the queue still has."""
    with store.read() as cursor:
        verdicts = dict(
            cursor.execute(
                f"SELECT verdict, count(*) FROM ({STANDING}) WHERE negative_id IS NULL GROUP BY 1",
                {"reviewer": reviewer},
            ).fetchall()
        )
        left = first(
            cursor.execute(
                f"SELECT count(*) FROM sample_state st ANTI JOIN ({STANDING}) mine ON mine.revision_id = st.revision_id"
                f" WHERE st.task = 'retrieval' AND st.declared_use = 'train' AND {QUEUE_CONDITION[queue]}",
                {"reviewer": reviewer},
            )
        )
    return ReviewProgress(
        verdicts.get("approve", 0), verdicts.get("reject", 0), verdicts.get("skip", 0), left[0] if left else 0
    )


def add_reviews(store: Store, events: Sequence[ReviewEvent], *, run_id: UUID | None = None) -> int:
    """
    Store review events, each once however often it is sent, and of a policy only what differs from what it said last
    of the same revision. Returns how many are new.

    Raises UserError, storing none, if an event names a sample that this store does not have.
    """
    if not events:
        return 0
    rows = [asdict(event) | {"created_at": now(), "run_id": run_id} for event in events]
    for row in rows:
        del row["edit"]
    with store.write() as cursor:
        with batch(cursor, rows):
            unknown = first(
                cursor.execute(
                    "SELECT sample_id FROM batch b WHERE NOT EXISTS"
                    " (SELECT 1 FROM sample_state st WHERE st.sample_id = b.sample_id::UUID) LIMIT 1"
                )
            )
            known = {
                str(review_id)
                for (review_id,) in cursor.execute(
                    "SELECT b.review_id FROM batch b WHERE EXISTS (SELECT 1 FROM review v"
                    " WHERE v.review_id = b.review_id::UUID) OR (b.reviewer_kind = 'policy' AND b.verdict ="
                    " (SELECT arg_max(v.verdict, v.review_id) FROM review v WHERE v.reviewer_kind = 'policy'"
                    " AND v.revision_id = b.revision_id::UUID))"
                ).fetchall()
            }
        if unknown:
            raise UserError(f"no sample {unknown[0]} in {store.path}; was the event meant for another store?")
        fresh = {row["review_id"]: row for row in rows if str(row["review_id"]) not in known}
        insert(cursor, "review", list(fresh.values()))
        refresh_state(cursor, [row["sample_id"] for row in fresh.values()])
    return len(fresh)


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


def undecided(store: Store) -> list[Candidate]:
    """Every sample to train on that no person has decided, with what its latest mining found."""
    with store.read() as cursor:
        rows = cursor.execute(
            "SELECT st.sample_id, st.revision_id, st.task, st.operation, m.positive_rank, st.num_negatives, st.status"
            " FROM sample_state st LEFT JOIN (SELECT * FROM mined QUALIFY row_number() OVER"
            " (PARTITION BY revision_id ORDER BY created_at DESC, stage_key) = 1) m ON m.revision_id = st.revision_id"
            " WHERE st.decided_kind IS DISTINCT FROM 'human' AND st.declared_use = 'train' ORDER BY st.sample_id"
        ).fetchall()
    return [Candidate(*row) for row in rows]
