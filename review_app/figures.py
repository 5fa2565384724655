"""How far the reviews are: what the Dashboard shows first, asked in SQL of the store's documented views."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from review_app.agreement import FEW, FEWEST
from synth.store.connection import Store
from synth.store.console import queries, query

if TYPE_CHECKING:
    import pyarrow

IDLE = 60  # seconds: whoever looks longer at a card is most likely not there
FAST = 1.5  # seconds: too short to read a card
# The verdicts on samples that count: no undo, nothing undone, not the negatives.
STANDING = "FROM reviews WHERE negative_id IS NULL AND NOT is_undo AND NOT is_undone"
OUTCOMES = """
    count(*) FILTER (status = 'approved') AS approved, count(*) FILTER (status = 'rejected') AS rejected,
    count(*) FILTER (status = 'disputed') AS disputed, count(*) FILTER (status = 'pending') AS pending"""
TOTALS = f"""
SELECT count(*) AS samples, {OUTCOMES},
       count(*) FILTER (sample_id IN (
           SELECT sample_id {STANDING} AND reviewer_kind = 'human' AND verdict IN ('approve', 'reject')
       )) AS judged_by_people
FROM statuses WHERE declared_use = 'train'
"""
REVIEWERS = f"""
SELECT reviewer, reviewer_kind AS kind, count(*) FILTER (verdict = 'approve') AS approved,
       count(*) FILTER (verdict = 'reject') AS rejected, count(*) FILTER (verdict IN ('skip', 'flag')) AS skipped,
       round(avg(difficulty), 1) AS mean_difficulty, round(median(seconds), 1) AS median_seconds,
       round(3600 * count(seconds) FILTER (verdict IN ('approve', 'reject'))
             / nullif(sum(least(seconds, {IDLE})), 0)) AS per_hour,
       round(100 * avg((seconds < {FAST})::INTEGER), 1) AS fast_percent, max(created_at) AS latest,
       CASE WHEN reviewer_kind = 'human' AND count(seconds) < {FEWEST} THEN '{FEW}' ELSE '' END AS note
{STANDING} GROUP BY reviewer, reviewer_kind ORDER BY kind, approved + rejected + skipped DESC, reviewer
"""
# How long people take for a decision: what they skipped takes time as well.
PACE = f"""
SELECT count(*) FILTER (verdict IN ('approve', 'reject')) AS num_decisions,
       coalesce(sum(least(seconds, {IDLE})), 0)::DOUBLE AS seconds
{STANDING} AND reviewer_kind = 'human' AND seconds IS NOT NULL
"""
SOURCES = f"""
SELECT source, task, operation, count(*) AS samples, {OUTCOMES},
       round(100.0 * count(*) FILTER (status <> 'pending') / count(*), 1) AS decided_percent
FROM statuses WHERE declared_use = 'train' GROUP BY ALL ORDER BY source, task, operation
"""
REASONS = f"""
WITH said AS (
    SELECT 'sample' AS of_a, verdict, reasons {STANDING} AND verdict <> 'approve' AND reviewer_kind = 'human'
    UNION ALL SELECT 'negative', verdict, reasons FROM negative_verdicts WHERE reviewer_kind = 'human'
)
SELECT of_a, verdict, reason, count(*) AS times
FROM (SELECT of_a, verdict, unnest(if(len(reasons) > 0, reasons, ['none given'])) AS reason FROM said)
GROUP BY of_a, verdict, reason ORDER BY of_a DESC, times DESC, verdict, reason
"""


@dataclass(frozen=True, slots=True)
class Progress:
    """
    How far the reviews are, in one state of the store, of the samples to train on.

    Attributes:
        totals: samples by status, and how many people judged (`judged_by_people`).
        hours_left: how long one person would read what is pending; None while too little is known of people's pace.
        reviewers: verdicts of each, people before policies. `per_hour` is decisions per hour of reading, from the
            seconds that each card was looked at, of each at most 60; null for policies. `fast_percent` of the cards
            had less than 1.5 seconds.
        sources: what became of the samples, per source, task and operation.
        reasons: why people did not approve samples, and what they said of negatives.
    """

    totals: dict[str, int]
    hours_left: float | None
    reviewers: "pyarrow.Table"
    sources: "pyarrow.Table"
    reasons: "pyarrow.Table"


def progress(store: Store) -> Progress:
    """How far the reviews are."""
    totals, pace, *tables = queries(store, [TOTALS, PACE, REVIEWERS, SOURCES, REASONS])
    counts, people = totals.to_pylist()[0], pace.to_pylist()[0]
    known = people["num_decisions"] >= FEWEST
    hours = counts["pending"] * people["seconds"] / people["num_decisions"] / 3600 if known else None
    return Progress(counts, hours, *tables)


def num_samples_by_task(store: Store) -> dict[str, int]:
    """How many samples to train on the store has of each task."""
    rows = query(store, "SELECT task, count(*) AS num FROM statuses WHERE declared_use = 'train' GROUP BY ALL")
    return {row["task"]: row["num"] for row in rows.to_pylist()}
