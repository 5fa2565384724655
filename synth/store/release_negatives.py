"""The negatives that a release may choose of, and those that it leaves out on a judge's word or for a flag."""

from pathlib import Path

import duckdb

from synth.store.minings import LATEST_MINING
from synth.store.reviews import DROPPED

# What the judges whose word the policy asks for would leave out, but for what a person said otherwise of; with "all",
# what every judge would that graded it.
LEFT_OUT = """
SELECT s.sample_id, s.revision_id, s.text_id, s.negative_id IS NULL AS is_positive
FROM suggestions s JOIN (
    SELECT revision_id, text_id, count(DISTINCT judge) AS num_judges FROM judgement GROUP BY ALL
) g USING (revision_id, text_id)
WHERE NOT s.is_overruled AND $judged IN ('any', 'all', s.judge)
GROUP BY ALL HAVING $judged <> 'all' OR count(DISTINCT s.judge) = any_value(g.num_judges)
"""
# Whose mined negatives a revision has under a policy that names a mining: those of its run that mined the revision. To
# one that it did not mine, an edit or relabelling has taken copies along, which have the run of whoever found the text
# last: those texts stand that the mining had found for the sample, too, and are of its run.
NAMED = "SELECT revision_id, run_id FROM mined WHERE stage_key = $mining"
CARRIED = f"""
SELECT c.negative_id, max(f.run_id) AS run_id FROM negative c
JOIN (
    SELECT n.sample_id, n.text_id, n.run_id FROM negative n
    JOIN ({NAMED}) m ON m.revision_id = n.revision_id AND m.run_id = n.run_id WHERE n.origin = 'mined'
) f ON f.sample_id = c.sample_id AND f.text_id = c.text_id
ANTI JOIN ({NAMED}) m ON m.revision_id = c.revision_id
WHERE c.origin = 'mined' AND c.original_id IS NOT NULL GROUP BY c.negative_id
"""
# The negatives of what is taken that no reviewer objects to: which a judge whose word the policy asks for does
# (by_judges; those of samples that people approved need none, nor do texts of other classes), and which are flagged and
# to be left out for it. Of those mined, one mining's alone: what it did not take, another must not bring back. Of texts
# of other classes, mining sets aside (with a flag) what says nearly the same as the text: its class is in doubt.
OFFERED = f"""
WITH dropped AS ({DROPPED}),
advised AS (SELECT DISTINCT sample_id, text_id FROM ({LEFT_OUT}) WHERE NOT is_positive),
latest AS ({LATEST_MINING}),
named AS ({NAMED}),
carried AS ({CARRIED}),
kept AS (
    SELECT DISTINCT sample_id, text_id FROM negative_verdicts WHERE verdict = 'keep' AND reviewer_kind = 'human'
)
SELECT n.sample_id, n.negative_id, n.text_id, n.origin, n.rank, n.score, n.positive_score,
       coalesce(c.run_id, n.run_id) AS run_id,
       j.task = 'classification' AND coalesce(len(n.flags), 0) > 0 AS is_aside,
       $flagged_negatives = 'leave_out' AND j.task = 'retrieval' AND coalesce(len(n.flags), 0) > 0
           AND k.sample_id IS NULL AS is_flagged,
       a.sample_id IS NOT NULL OR NOT (
           $judged = '' OR j.decided_kind = 'human' OR j.task = 'classification' OR EXISTS (
               SELECT 1 FROM judgement g
               WHERE g.revision_id = n.revision_id AND g.text_id = n.text_id AND $judged IN ('any', 'all', g.judge)
           )
       ) AS by_judges
FROM negative n JOIN judged j ON j.revision_id = n.revision_id AND j.reason IS NULL
SEMI JOIN text t ON t.text_id = n.text_id
ANTI JOIN dropped d ON d.sample_id = n.sample_id AND d.text_id = n.text_id
LEFT JOIN advised a ON a.sample_id = n.sample_id AND a.text_id = n.text_id
LEFT JOIN kept k ON k.sample_id = n.sample_id AND k.text_id = n.text_id
LEFT JOIN latest l ON l.revision_id = n.revision_id
LEFT JOIN named m ON m.revision_id = n.revision_id
LEFT JOIN carried c ON c.negative_id = n.negative_id
WHERE n.origin <> 'mined'
   OR CASE WHEN j.task = $mining_task THEN n.run_id = m.run_id OR c.negative_id IS NOT NULL ELSE n.run_id = l.run_id END
"""
# Of a release's samples ($chosen): negatives left out, a text once, by the first reason that holds, and samples without
# mined negatives because the mining that the policy names did not mine them.
COUNTS = """
WITH released AS (
    SELECT s.sample_id, s.positive_ids, s.is_unmined FROM read_parquet($samples, hive_partitioning = false) s
    SEMI JOIN read_parquet($chosen, hive_partitioning = false) c ON c.sample_id = s.sample_id
),
offered AS (SELECT * FROM read_parquet($negatives, hive_partitioning = false)),
texts AS (
    SELECT o.sample_id, o.text_id, bool_or(o.by_judges) AS by_judges,
           bool_or(o.is_flagged) AND NOT bool_or(o.origin = 'labelled') AS is_flagged
    FROM offered o JOIN released r ON r.sample_id = o.sample_id
    WHERE NOT coalesce(list_contains(r.positive_ids, o.text_id), false) GROUP BY ALL
)
SELECT (SELECT count(*) FROM texts WHERE by_judges) AS by_judges,
       (SELECT count(*) FROM texts WHERE is_flagged AND NOT by_judges) AS flagged,
       (SELECT count(*) FROM released r ANTI JOIN (FROM offered WHERE origin = 'mined') o ON o.sample_id = r.sample_id
        WHERE r.is_unmined) AS samples_not_mined
"""


def left_out_counts(cursor: duckdb.DuckDBPyConnection, files: dict[str, Path]) -> dict[str, int]:
    """
    How many negatives of a release's samples are left out, `by_judges` and as `flagged`, and how many samples have no
    mined negatives because the mining that the policy names did not mine them (`samples_not_mined`).

    `files` are `samples`, `negatives` and `chosen`, as synth/store/selection.py writes them.
    """
    row = cursor.execute(COUNTS, {name: str(path) for name, path in files.items()}).fetchall()[0]
    return dict(zip(("by_judges", "flagged", "samples_not_mined"), row, strict=True))
