"""Review events, and the queues of cards that reviewers judge. docs/reviews.md states the rules."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from importlib.resources import files
from typing import Any
from uuid import UUID

import duckdb

from synth.records import FoundBy, NegativeFlag, RelaxedRule, ReviewEvent
from synth.store.connection import Store
from synth.store.events import rows_of
from synth.store.minings import LATEST_MINING
from synth.store.rows import batch, insert, now
from synth.store.samples import refresh_state
from synth.store.verdicts import check_event

Chosen = tuple[UUID, UUID, str, str, str | None]  # ids of sample and revision, operation, status, decided_by


class Queue(StrEnum):
    """
    What a reviewer is shown: what nobody decided yet, what only a policy approved, what people disagree on, what a
    judge has a suggestion about and no person decided, or what has a flagged negative that no person has judged.
    """

    UNREVIEWED = "unreviewed"
    AUDIT = "audit"
    DISPUTED = "disputed"
    SUGGESTED = "suggested"
    FLAGGED = "flagged"


# Revisions with a negative that mining flagged when it found it last, and that no person has judged: with a verdict of
# its own, or by approving the revision after it was found.
FLAGGED = f"""
WITH latest AS ({LATEST_MINING}),
flagged AS (
    SELECT DISTINCT n.sample_id, n.text_id FROM negative n JOIN latest USING (revision_id, run_id)
    WHERE len(n.flags) > 0
),
found AS (
    SELECT n.sample_id, n.revision_id, n.text_id, n.flags,
           min(n.created_at) OVER (PARTITION BY n.sample_id, n.text_id) AS first_at
    FROM negative n SEMI JOIN flagged USING (sample_id, text_id)
    QUALIFY row_number() OVER (
        PARTITION BY n.revision_id, n.text_id ORDER BY n.origin = 'labelled' DESC, n.negative_id DESC
    ) = 1
),
approval AS (
    SELECT coalesce(edited_id, revision_id) AS revision_id, max(created_at) AS last_at FROM reviews
    WHERE verdict = 'approve' AND reviewer_kind = 'human' AND negative_id IS NULL AND NOT is_undo AND NOT is_undone
    GROUP BY 1
)
SELECT f.revision_id FROM found f LEFT JOIN approval a ON a.revision_id = f.revision_id
ANTI JOIN (SELECT sample_id, text_id FROM negative_verdicts WHERE reviewer_kind = 'human') v
ON v.sample_id = f.sample_id AND v.text_id = f.text_id
WHERE len(f.flags) > 0 AND NOT coalesce(f.first_at <= a.last_at, false)
"""
QUEUE_CONDITION = {
    Queue.UNREVIEWED: "st.status = 'pending'",
    Queue.AUDIT: "st.status = 'approved' AND st.decided_kind = 'policy'",
    Queue.DISPUTED: "st.status = 'disputed'",
    Queue.SUGGESTED: "st.decided_kind IS DISTINCT FROM 'human'"
    " AND st.sample_id IN (SELECT g.sample_id FROM suggestions g WHERE NOT g.is_overruled)",
    Queue.FLAGGED: f"st.status <> 'rejected' AND st.revision_id IN ({FLAGGED})",
}
# After which of a reviewer's own words a sample that is in the queue is not shown to them: an approval from before a
# flagged negative was found is no reason.
QUEUE_WORDS = {
    Queue.UNREVIEWED: "verdict = 'skip'",
    Queue.AUDIT: "verdict = 'skip'",
    Queue.DISPUTED: "sample_id IN (SELECT st.sample_id FROM sample_state st WHERE st.status = 'disputed')",
    Queue.SUGGESTED: "verdict = 'skip'",
    Queue.FLAGGED: "verdict = 'skip'",
}
# The negatives that are left out, as (sample_id, text_id), by the rule that sample_state counts by.
DROPPED = (
    files("synth.store").joinpath("state.sql").read_text(encoding="utf-8").partition(",\n-- (DROPPED")[0]
    + "\nSELECT sample_id, text_id FROM dropped"
).format(ids="(SELECT DISTINCT sample_id FROM review WHERE negative_id IS NOT NULL)")
# What a reviewer said of samples and did not undo, by the revision it counts for. $reviewer is bound by the caller.
STANDING = (
    "SELECT v.sample_id, coalesce(v.edited_id, v.revision_id) AS revision_id, v.verdict FROM review v"
    " ANTI JOIN (SELECT u.undoes AS review_id FROM review u WHERE u.reviewer = $reviewer AND u.undoes IS NOT NULL) u"
    " USING (review_id) WHERE v.reviewer = $reviewer AND v.undoes IS NULL AND v.negative_id IS NULL"
)
# The rows of some revisions. Wide columns are read by row number: asked for them by id, DuckDB decompresses far more,
# and takes twice the time at a million samples. $ids is bound by the caller.
ROWS = "SELECT x.rowid FROM {table} x WHERE x.revision_id IN (SELECT unnest($ids::UUID[]))"
LOOKED_AT = 8  # times as many as are wanted: most reviewers have skipped, and others hold, only a few of the hardest
# What somebody else has before them. $reviewer and $now are bound by the caller.
TAKEN = "SELECT sample_id FROM claim WHERE reviewer <> $reviewer AND expires_at > $now"


@dataclass(frozen=True, slots=True)
class CardNegative:
    """
    One negative on a card. `score` and `positive_score` are cosines; what people labelled has none, and no rank. What
    follows those is as in `Negative`, empty or None where it is not known.
    """

    negative_id: UUID
    text: str
    origin: str
    rank: int | None
    score: float | None
    positive_score: float | None
    relevance: float | None
    positive_relevance: float | None
    positive_similarity: float | None
    overlap: float | None
    miners: tuple[FoundBy, ...]
    flags: tuple[NegativeFlag, ...]
    relaxed: tuple[RelaxedRule, ...]


@dataclass(frozen=True, slots=True)
class Card:
    """A retrieval sample as a reviewer sees it; negatives hardest first."""

    sample_id: UUID
    revision_id: UUID
    source: str
    operation: str
    method: str
    status: str
    decided_by: str | None
    query: str
    positives: tuple[str, ...]
    negatives: tuple[CardNegative, ...]


@dataclass(frozen=True, slots=True)
class ReviewProgress:
    """How far one reviewer is in one queue: `left` for them to judge, and `claimed` by others meanwhile."""

    approved: int
    rejected: int
    skipped: int
    left: int
    claimed: int


def cards(
    store: Store,
    *,
    reviewer: str,
    queue: Queue = Queue.UNREVIEWED,
    limit: int = 25,
    except_for: Sequence[UUID] = (),
    claim_for: timedelta | None = None,
) -> list[Card]:
    """
    The next retrieval samples for a reviewer to judge, most contested first (the negative that comes nearest to the
    positive), ties by id. None that this reviewer judged already, none that somebody else has claimed, none of
    `except_for`.

    With `claim_for` they, and those of `except_for`, are the reviewer's for so long: nobody else is given them.
    """
    asked = {"reviewer": reviewer, "except_for": [str(each) for each in except_for], "now": now()}
    if claim_for is None:
        with store.read() as cursor:
            return _read_cards(cursor, _choose(cursor, queue, limit, asked))
    with store.write() as cursor:
        chosen = _choose(cursor, queue, limit, asked)
        _claim(cursor, [*except_for, *(sample_id for sample_id, *_ in chosen)], reviewer, now() + claim_for)
        return _read_cards(cursor, chosen)


def _choose(cursor: duckdb.DuckDBPyConnection, queue: Queue, limit: int, asked: Mapping[str, Any]) -> list[Chosen]:
    """
    The top of the queue, from the narrow table alone; what is passed over is looked for only among a few more than are
    wanted, and among more of them where those do not suffice. Joined to the whole queue, it takes DuckDB several times
    as long at a million samples.
    """
    chosen: list[Chosen] = []
    most = limit
    while len(chosen) < limit:
        most *= LOOKED_AT
        top = cursor.execute(
            "SELECT st.sample_id, st.revision_id, st.operation, st.status, st.decided_by FROM sample_state st"
            f" WHERE st.task = 'retrieval' AND st.declared_use = 'train' AND {QUEUE_CONDITION[queue]}"
            f" ORDER BY st.hardness DESC NULLS LAST, st.sample_id LIMIT {most}"
        ).fetchall()
        among = "sample_id IN (SELECT unnest($looked_at::UUID[]))"
        passed_over = set(
            cursor.execute(
                f"SELECT sample_id, revision_id FROM ({STANDING}) WHERE {QUEUE_WORDS[queue]} AND {among}"
                f" UNION ALL SELECT sample_id, NULL FROM ({TAKEN}) WHERE {among}"
                " UNION ALL SELECT unnest($except_for::UUID[]), NULL",
                {**asked, "looked_at": [str(row[0]) for row in top]},
            ).fetchall()
        )
        chosen = [row for row in top if passed_over.isdisjoint([row[:2], (row[0], None)])][:limit]
        if len(top) < most:
            break
    return chosen


def _claim(cursor: duckdb.DuckDBPyConnection, ids: Sequence[UUID], reviewer: str, until: datetime) -> None:
    """Renew or begin claims on the samples that nobody else holds; forget all that ran out."""
    asked = {"reviewer": reviewer, "now": now(), "until": until, "ids": [str(each) for each in ids]}
    free = "SELECT unnest($ids::UUID[]) AS sample_id"
    cursor.execute(
        "DELETE FROM claim WHERE expires_at <= $now OR (reviewer = $reviewer AND sample_id IN"
        " (SELECT unnest($ids::UUID[])))",
        {key: asked[key] for key in ("reviewer", "now", "ids")},
    )
    cursor.execute(
        "INSERT INTO claim BY NAME SELECT DISTINCT sample_id, $reviewer AS reviewer, $until::TIMESTAMP AS expires_at"
        f" FROM ({free}) ANTI JOIN claim USING (sample_id)",
        {key: asked[key] for key in ("reviewer", "until", "ids")},
    )


def _read_cards(cursor: duckdb.DuckDBPyConnection, chosen: Sequence[Chosen]) -> list[Card]:
    if not chosen:
        return []
    ids = [str(revision_id) for _, revision_id, *_ in chosen]
    rows = cursor.execute(
        "SELECT r.revision_id, s.name, r.method, r.query, r.positives FROM revision r"
        f" JOIN source s ON s.source_id = r.source_id WHERE r.rowid IN ({ROWS.format(table='revision')})",
        {"ids": ids},
    ).fetchall()
    contents = {revision_id: fields for revision_id, *fields in rows}
    negatives = _negatives(cursor, ids)
    return [
        Card(sample_id, revision_id, source, operation, method, status, decided_by, query, tuple(positives), found)
        for sample_id, revision_id, operation, status, decided_by in chosen
        for (source, method, query, positives), found in [
            (contents[revision_id], tuple(negatives.get(revision_id, ())))
        ]
    ]


def _negatives(cursor: duckdb.DuckDBPyConnection, ids: Sequence[str]) -> dict[UUID, list[CardNegative]]:
    """
    Of each revision the negatives, hardest first, those without a score last. A text counts once, as people labelled it
    before as it was mined; of what was mined the latest mining's alone, as in a release.
    """
    rows = cursor.execute(
        "SELECT n.revision_id, n.text_id, n.miners, n.flags, n.relaxed, n.negative_id, n.origin, n.rank, n.score,"
        " n.positive_score, n.relevance, n.positive_relevance, n.positive_similarity, n.overlap FROM negative n"
        " LEFT JOIN (SELECT revision_id, max(run_id) AS run_id FROM mined"
        " WHERE revision_id IN (SELECT unnest($ids::UUID[])) GROUP BY 1) m ON m.revision_id = n.revision_id"
        f" WHERE n.rowid IN ({ROWS.format(table='negative')})"
        " QUALIFY n.origin <> 'mined' OR n.run_id >= coalesce(m.run_id, n.run_id)"
        " AND n.run_id = max(n.run_id) FILTER (n.origin = 'mined') OVER (PARTITION BY n.revision_id)"
        " ORDER BY n.origin = 'labelled', n.negative_id",
        {"ids": ids},
    ).fetchall()
    latest = {(revision_id, text_id): fields for revision_id, text_id, *fields in rows}
    # Texts in a query of their own: joined, DuckDB reads far more of them.
    texts = dict(
        cursor.execute(
            "SELECT text_id, text FROM text WHERE rowid IN"
            " (SELECT x.rowid FROM text x WHERE x.text_id IN (SELECT unnest($ids::UUID[])))",
            {"ids": sorted({str(text_id) for _, text_id in latest})},
        ).fetchall()
    )
    found: dict[UUID, list[CardNegative]] = {}
    for (revision_id, text_id), (miners, flags, relaxed, negative_id, *fields) in latest.items():
        found_by = tuple(FoundBy(**each) for each in miners or ())
        known = (*fields, found_by, tuple(flags or ()), tuple(relaxed or ()))
        found.setdefault(revision_id, []).append(CardNegative(negative_id, texts[text_id], *known))
    for each in found.values():
        each.sort(key=lambda negative: (negative.score is None, -(negative.score or 0.0), negative.text))
    return found


def review_progress(store: Store, *, reviewer: str, queue: Queue) -> ReviewProgress:
    """How many retrieval samples this reviewer approved, rejected and skipped, and how many the queue still has."""
    with store.read() as cursor:
        verdicts = dict(
            cursor.execute(f"SELECT verdict, count(*) FROM ({STANDING}) GROUP BY 1", {"reviewer": reviewer}).fetchall()
        )
        # Counted apart, so that only what is small is joined.
        queued = f"st.task = 'retrieval' AND st.declared_use = 'train' AND {QUEUE_CONDITION[queue]}"
        mine = f"(SELECT sample_id, revision_id FROM ({STANDING}) WHERE {QUEUE_WORDS[queue]})"
        [(total, judged, claimed)] = cursor.execute(
            f"SELECT (SELECT count(*) FROM sample_state st WHERE {queued}),"
            f" (SELECT count(*) FROM sample_state st SEMI JOIN {mine} m USING (sample_id, revision_id) WHERE {queued}),"
            f" (SELECT count(*) FROM (SELECT st.* FROM sample_state st SEMI JOIN ({TAKEN}) t USING (sample_id)"
            f" WHERE {queued}) ANTI JOIN {mine} m USING (sample_id, revision_id))",
            {"reviewer": reviewer, "now": now()},
        ).fetchall()
    return ReviewProgress(
        approved=verdicts.get("approve", 0),
        rejected=verdicts.get("reject", 0),
        skipped=verdicts.get("skip", 0),
        left=total - judged - claimed,
        claimed=claimed,
    )


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
        insert(cursor, "review", rows_of(cursor, fresh, run_id=run_id, path=store.path))
        refresh_state(cursor, [event.sample_id for event in fresh])
    return len(fresh)


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
