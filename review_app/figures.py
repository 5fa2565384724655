"""What the Progress page shows, asked in SQL of the store's documented views."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from synth.store.connection import Store
from synth.store.console import queries, query

if TYPE_CHECKING:
    import pyarrow

# The verdicts on samples that count: no undo, nothing undone, not the negatives.
STANDING = "FROM reviews WHERE negative_id IS NULL AND NOT is_undo AND NOT is_undone"
OUTCOMES = """
    count(*) FILTER (status = 'approved') AS approved, count(*) FILTER (status = 'rejected') AS rejected,
    count(*) FILTER (status = 'disputed') AS disputed, count(*) FILTER (status = 'pending') AS pending"""
TOTALS = f"""
SELECT count(*) AS samples, {OUTCOMES},
       count(*) FILTER (sample_id IN (
           SELECT sample_id {STANDING} AND reviewer_kind = 'human' AND verdict <> 'skip'
       )) AS judged_by_people
FROM statuses WHERE declared_use = 'train'
"""
REVIEWERS = f"""
SELECT reviewer, reviewer_kind AS kind, count(*) FILTER (verdict = 'approve') AS approved,
       count(*) FILTER (verdict = 'reject') AS rejected, count(*) FILTER (verdict = 'skip') AS skipped,
       round(avg(difficulty), 1) AS mean_difficulty, round(median(seconds), 1) AS median_seconds,
       round(3600 * count(seconds) / nullif(sum(seconds), 0)) AS per_hour, max(created_at) AS latest
{STANDING} GROUP BY ALL ORDER BY kind, approved + rejected + skipped DESC, reviewer
"""
SOURCES = f"""
SELECT source, task, operation, count(*) AS samples, {OUTCOMES},
       round(100.0 * count(*) FILTER (status <> 'pending') / count(*), 1) AS decided_percent
FROM statuses WHERE declared_use = 'train' GROUP BY ALL ORDER BY source, task, operation
"""
REASONS = f"""
WITH standing AS (SELECT unnest(reasons) AS reason {STANDING} AND verdict = 'reject' AND reviewer_kind = 'human'),
dropped AS (
    SELECT count(DISTINCT negative_id) AS times FROM reviews
    WHERE negative_id IS NOT NULL AND verdict NOT IN ('keep', 'skip') AND NOT is_undo AND NOT is_undone
)
SELECT reason, count(*) AS times FROM standing GROUP BY ALL
UNION ALL SELECT 'negative dropped', times FROM dropped WHERE times > 0 ORDER BY times DESC, reason
"""


@dataclass(frozen=True, slots=True)
class Progress:
    """
    How far the reviews are, in one state of the store, of the samples to train on.

    Attributes:
        totals: samples by status, and how many people judged (`judged_by_people`).
        reviewers: verdicts of each, people before policies. `per_hour` is verdicts per hour of reading, from the
            seconds that each card was looked at; null for policies.
        sources: what became of the samples, per source, task and operation.
        reasons: why people rejected samples, and how many negatives they dropped.
    """

    totals: dict[str, int]
    reviewers: "pyarrow.Table"
    sources: "pyarrow.Table"
    reasons: "pyarrow.Table"


def progress(store: Store) -> Progress:
    """What the Progress page shows."""
    totals, reviewers, sources, reasons = queries(store, [TOTALS, REVIEWERS, SOURCES, REASONS])
    return Progress(totals.to_pylist()[0], reviewers, sources, reasons)


def num_samples_by_task(store: Store) -> dict[str, int]:
    """How many samples to train on the store has of each task."""
    rows = query(store, "SELECT task, count(*) AS num FROM statuses WHERE declared_use = 'train' GROUP BY ALL")
    return {row["task"]: row["num"] for row in rows.to_pylist()}
