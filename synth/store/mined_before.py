"""Two minings of the same samples, with other settings or another encoder: what changed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from synth.store.connection import Store
from synth.store.mining_report import DEEP, FOUND_BY_OTHERS
from synth.store.sample_history import read_rows

# The mining of the same revisions before this one that has most of them in common, the latest of those with as many.
# One mining, which its settings and its encoder name, may have taken several runs; it mines no revision twice.
EARLIER = """
SELECT e.stage_key, list(DISTINCT e.run_id ORDER BY e.run_id) AS run_ids, count(*) AS num
FROM mined e JOIN mined m ON m.run_id = $id AND e.revision_id = m.revision_id
WHERE e.created_at < m.created_at
GROUP BY e.stage_key ORDER BY num DESC, max(e.created_at) DESC LIMIT 1
"""
ENCODERS = "SELECT DISTINCT model FROM run WHERE run_id IN (SELECT unnest($ids::UUID[])) ORDER BY model"
# The runs of one mining may differ in what decides no negative, such as the search: the last one counts.
CONFIGS = """
SELECT config FROM run WHERE run_id = $id OR run_id = (SELECT max(id) FROM (SELECT unnest($ids::UUID[]) AS id))
ORDER BY run_id = $id
"""
# Both minings of what they have in common, and the negatives of both, once each, with their rank by the first miner.
BOTH = f"""
WITH shared AS (
    SELECT m.revision_id FROM mined m SEMI JOIN (FROM mined WHERE stage_key = $key) e ON e.revision_id = m.revision_id
    WHERE m.run_id = $id
),
mining AS MATERIALIZED (
    SELECT if(run_id = $id, 'now', 'before') AS time, revision_id, run_id, status, positive_rank, positive_score
    FROM mined SEMI JOIN shared USING (revision_id) WHERE run_id = $id OR stage_key = $key
),
found AS MATERIALIZED (
    SELECT g.time, n.revision_id, n.text_id, min(CASE WHEN {FOUND_BY_OTHERS} = '' THEN n.rank END) AS rank,
           min(CASE WHEN isfinite(n.score) THEN n.score END) AS score, min(n.positive_score) AS positive_score
    FROM mining g JOIN negative n ON n.revision_id = g.revision_id AND n.run_id = g.run_id AND n.original_id IS NULL
    GROUP BY ALL
)
"""
SIDES = f"""
{BOTH},
lowest AS (SELECT time, revision_id, min(positive_score) AS score FROM found GROUP BY ALL),
of_samples AS (
    SELECT g.time, avg(nullif(g.positive_rank, 0)) AS positive_rank,
           count(*) FILTER (g.positive_rank > {DEEP}) AS num_deep,
           avg(coalesce(g.positive_score, l.score)) AS positive_score,
           count(*) FILTER (g.status IN ('short', 'none')) AS num_wanting
    FROM mining g LEFT JOIN lowest l USING (time, revision_id) GROUP BY g.time
),
of_negatives AS (
    SELECT time, count(*) AS num_negatives, avg(score) AS negative_score, avg(positive_score - score) AS distance
    FROM found GROUP BY time
)
SELECT s.positive_rank, s.num_deep, s.positive_score, s.num_wanting, coalesce(n.num_negatives, 0) AS num_negatives,
       n.negative_score, n.distance
FROM of_samples s LEFT JOIN of_negatives n USING (time) ORDER BY s.time
"""
KEPT = f"""
{BOTH}
SELECT count(*) AS num_kept, count(*) FILTER (n.rank < b.rank) AS num_nearer,
       count(*) FILTER (n.rank > b.rank) AS num_farther, count(*) FILTER (n.rank = b.rank) AS num_same
FROM found b JOIN found n USING (revision_id, text_id) WHERE b.time = 'before' AND n.time = 'now'
"""


@dataclass(frozen=True, slots=True)
class Side:
    """
    One of two minings of the same samples: means of the positives' ranks and of their scores (of several positives the
    lowest), of the negatives' scores, and of the `distance` from a positive's score down to a negative's; how many
    positives have a rank above DEEP, and how many samples fewer negatives than asked for. None: nothing to take it of.
    """

    positive_rank: float | None
    num_deep: int
    positive_score: float | None
    num_wanting: int
    num_negatives: int
    negative_score: float | None
    distance: float | None


@dataclass(frozen=True, slots=True)
class Change:
    """A setting that two runs have, each with another value."""

    name: str
    before: Any
    now: Any


@dataclass(frozen=True, slots=True)
class MinedBefore:
    """
    The earlier mining of `num_samples` samples of a run, by whose encoders and in which runs, the settings that differ
    from those of its last run (none: the weights of a model do, or the precision), and both sides of it. Of its
    negatives `num_kept` were found anew: `num_nearer` at a better rank, `num_farther` at a worse one, `num_same` at the
    same one; the others have a rank by the first miner on one side at most.
    """

    encoders: Sequence[str]
    run_ids: Sequence[UUID]
    num_samples: int
    changes: Sequence[Change]
    before: Side
    now: Side
    num_kept: int
    num_nearer: int
    num_farther: int
    num_same: int


def mined_before(store: Store, run_id: UUID) -> MinedBefore | None:
    """What changed since an earlier mining of the same revisions of samples; None if there was none."""
    with store.read() as cursor:
        found = read_rows(cursor, EARLIER, id=run_id)
        if not found:
            return None
        [earlier] = found
        values = {"id": run_id, "key": earlier["stage_key"]}
        before, now = (Side(**row) for row in read_rows(cursor, SIDES, **values))
        [kept] = read_rows(cursor, KEPT, **values)
        ids = [str(each) for each in earlier["run_ids"]]
        encoders = read_rows(cursor, ENCODERS, ids=ids)
        configs = [row["config"] or {} for row in read_rows(cursor, CONFIGS, id=run_id, ids=ids)]
    names = [row["model"] for row in encoders]
    changes = _changes(configs[0], configs[-1])
    return MinedBefore(names, earlier["run_ids"], earlier["num"], changes, before, now, **kept)


def _changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[Change]:
    """A setting that one of them does not know is of another version, and no change."""
    return [Change(name, before[name], now[name]) for name in now if name in before and before[name] != now[name]]
