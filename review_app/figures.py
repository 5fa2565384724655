"""What the Progress page shows, asked in SQL of the store's documented views."""

from typing import TYPE_CHECKING

from synth.store.connection import Store
from synth.store.console import query

if TYPE_CHECKING:
    import pyarrow

# The verdicts on samples that count: no undo, nothing undone, not the negatives.
STANDING = "FROM reviews WHERE negative_id IS NULL AND NOT is_undo AND NOT is_undone"
VERDICTS = """
    count(*) FILTER (verdict = 'approve') AS approved, count(*) FILTER (verdict = 'reject') AS rejected,
    count(*) FILTER (verdict = 'skip') AS skipped"""


def num_samples_by_task(store: Store) -> dict[str, int]:
    """How many samples to train on the store has of each task."""
    rows = query(store, "SELECT task, count(*) AS num FROM samples WHERE declared_use = 'train' GROUP BY ALL")
    return {row["task"]: row["num"] for row in rows.to_pylist()}


def totals(store: Store) -> dict[str, int]:
    """Samples to train on by status, and how many of the approved ones only a policy approved."""
    rows = query(
        store,
        "SELECT count(*) AS samples, count(*) FILTER (status = 'approved') AS approved,"
        " count(*) FILTER (status = 'rejected') AS rejected, count(*) FILTER (status = 'disputed') AS disputed,"
        " count(*) FILTER (status = 'pending') AS pending,"
        " count(*) FILTER (sample_id IN (SELECT sample_id"
        f" {STANDING} AND reviewer_kind = 'human' AND verdict <> 'skip')) AS judged_by_people"
        " FROM samples WHERE declared_use = 'train'",
    )
    totals: dict[str, int] = rows.to_pylist()[0]
    return totals


def by_reviewer(store: Store) -> "pyarrow.Table":
    """
    Verdicts per reviewer, people before policies. `per_hour` is verdicts per hour of reading, from the seconds that
    each card was looked at; null for policies.
    """
    return query(
        store,
        f"SELECT reviewer, reviewer_kind AS kind, {VERDICTS},"
        " round(avg(difficulty), 1) AS mean_difficulty, round(median(seconds), 1) AS median_seconds,"
        " round(3600 * count(seconds) / nullif(sum(seconds), 0)) AS per_hour, max(created_at) AS latest"
        f" {STANDING} GROUP BY ALL ORDER BY kind, approved + rejected + skipped DESC, reviewer",
    )


def by_source(store: Store) -> "pyarrow.Table":
    """What became of the samples to train on, per source, task and operation."""
    return query(
        store,
        "SELECT source, task, operation, count(*) AS samples, count(*) FILTER (status = 'approved') AS approved,"
        " count(*) FILTER (status = 'rejected') AS rejected, count(*) FILTER (status = 'disputed') AS disputed,"
        " count(*) FILTER (status = 'pending') AS pending,"
        " round(100.0 * count(*) FILTER (status <> 'pending') / count(*), 1) AS decided_percent"
        " FROM samples WHERE declared_use = 'train' GROUP BY ALL ORDER BY source, task, operation",
    )


def by_reason(store: Store) -> "pyarrow.Table":
    """Why people rejected samples, and how many negatives they dropped."""
    return query(
        store,
        f"WITH standing AS (SELECT unnest(reasons) AS reason {STANDING} AND verdict = 'reject'"
        " AND reviewer_kind = 'human'), dropped AS (SELECT count(DISTINCT negative_id) AS times FROM reviews"
        " WHERE negative_id IS NOT NULL AND verdict NOT IN ('keep', 'skip') AND NOT is_undo AND NOT is_undone)"
        " SELECT reason, count(*) AS times FROM standing GROUP BY ALL"
        " UNION ALL SELECT 'negative dropped', times FROM dropped WHERE times > 0 ORDER BY times DESC, reason",
    )
