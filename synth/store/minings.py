"""Mining's side of the store: which samples it is for, and of each what it found, and what it did not take and why."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal
from uuid import UUID

import duckdb

from synth.records import Negative, new_id
from synth.store.connection import Store
from synth.store.rows import insert, now
from synth.store.samples import done_meanwhile, refresh_state
from synth.store.sources import store_brought

# A paraphrase asks the matter of the sample that it was made from, every other sample its own query. What answers any
# query of a matter, or (grade 2 of relabelling) a part of it, answers all of them. Short targets are not mined for:
# whole passages beside them would tell nothing.
MINABLE = """
WITH head AS (
    SELECT r.* FROM sample_state st JOIN revision r USING (revision_id) WHERE st.task = 'retrieval'
),
known AS (SELECT query, list_distinct(flatten(list(positives))) AS answers FROM head GROUP BY query),
graded AS (
    SELECT r.query, flatten(list([c.text_id FOR c IN b.candidates IF c.grade >= 2])) AS text_ids
    FROM relabelled b JOIN revision r USING (revision_id) GROUP BY r.query
),
matter AS (
    SELECT h.sample_id, h.query, coalesce(o.query, h.query) AS matter
    FROM head h
    LEFT JOIN revision f ON f.sample_id = h.sample_id AND f.number = 1 AND f.operation = 'paraphrase'
    LEFT JOIN revision p ON p.revision_id = f.parent_id
    LEFT JOIN head o ON o.sample_id = p.sample_id
),
answered AS (
    SELECT m.matter, list_distinct(flatten(list(k.answers))) AS answers,
           list_distinct(flatten(list(g.text_ids) FILTER (g.query IS NOT NULL))) AS graded
    FROM (SELECT DISTINCT matter, query FROM matter) m JOIN known k USING (query) LEFT JOIN graded g USING (query)
    GROUP BY m.matter
)
SELECT h.sample_id, h.revision_id, h.query, h.positives, a.answers, a.graded, h.seed_id, s.name
FROM head h JOIN matter m USING (sample_id) JOIN answered a USING (matter) JOIN source s ON s.source_id = h.source_id
ANTI JOIN (SELECT revision_id FROM mined WHERE stage_key = $key) d ON d.revision_id = h.revision_id
WHERE s.declared_use = 'train' AND h.query NOT IN
    (SELECT e.query FROM head e JOIN source o ON o.source_id = e.source_id WHERE o.declared_use = 'eval')
  AND (len($names) = 0 OR s.name IN (SELECT unnest($names)))
  AND h.sample_id NOT IN
    (SELECT f.sample_id FROM revision f WHERE f.number = 1 AND f.operation IN ('long-short', 'short-short'))
ORDER BY s.name, h.content_hash
"""


@dataclass(frozen=True, slots=True)
class Minable:
    """A retrieval sample as mining needs it."""

    sample_id: UUID
    revision_id: UUID
    query: str
    positives: tuple[str, ...]
    answers: tuple[str, ...]  # the positives of every sample that asks this or a paraphrase of it, held-out ones too
    graded: tuple[UUID, ...]  # what relabelling found to answer one of these queries, at least in part: ids of texts
    seed_id: UUID | None
    source: str  # name: its corpus is searched


def minable(store: Store, stage_key: UUID, names: Sequence[str] = ()) -> list[Minable]:
    """
    The retrieval samples to train on that a mine stage of this configuration has not finished, in a fixed order. One
    whose query a held-out set asks too (it may have been declared held out later) is not among them.
    """
    with store.read() as cursor:
        rows = cursor.execute(MINABLE, {"key": stage_key, "names": list(names)}).fetchall()
    return [
        Minable(sample, revision, query, tuple(positives), tuple(answers), tuple(graded or ()), seed, source)
        for sample, revision, query, positives, answers, graded, seed, source in rows
    ]


# Which run mined a revision last, also where it found nothing: its negatives stand, those of earlier runs are history.
# Ids of runs are in the order of time.
LATEST_MINING = """
SELECT revision_id, max(run_id) AS run_id FROM (
    SELECT revision_id, run_id FROM mined UNION ALL SELECT revision_id, run_id FROM negative WHERE origin = 'mined'
) GROUP BY revision_id
"""
# Of the latest revisions that a mining finished: how many a later one with other settings mined since, and its own
# last run.
OVERTAKEN = f"""
WITH own AS (SELECT DISTINCT revision_id, run_id FROM mined WHERE stage_key = $key)
SELECT count(*), (SELECT max(run_id) FROM own)
FROM ({LATEST_MINING}) l SEMI JOIN own ON own.revision_id = l.revision_id
JOIN sample_state st ON st.revision_id = l.revision_id
WHERE l.run_id NOT IN (SELECT run_id FROM own)
"""
NUM_MINED = """
SELECT count(*) FROM mined m JOIN revision r USING (revision_id) JOIN source s ON s.source_id = r.source_id
WHERE m.stage_key = $key AND (len($names) = 0 OR s.name IN (SELECT unnest($names)))
"""
Status = Literal["full", "widened", "short", "none"]
MOST_CANDIDATES = 20  # that fell, kept of a sample for which negatives are wanting


@dataclass(frozen=True, slots=True)
class Overtaken:
    """Of how many samples a later mining's negatives stand in place of a mining's own, and the last run of that one."""

    num_samples: int
    run_id: UUID


def num_mined(store: Store, stage_key: UUID, names: Sequence[str] = ()) -> int:
    """How many revisions of these sources (none means all) a mine stage of this configuration has finished."""
    with store.read() as cursor:
        [(number,)] = cursor.execute(NUM_MINED, {"key": stage_key, "names": list(names)}).fetchall()
    return int(number)


def overtaken(store: Store, stage_key: UUID) -> Overtaken | None:
    """Of the mining of this configuration; None where all that it mined is in force, or it mined nothing."""
    with store.read() as cursor:
        [(num_samples, run_id)] = cursor.execute(OVERTAKEN, {"key": stage_key}).fetchall()
    return Overtaken(num_samples, run_id) if num_samples else None


@dataclass(frozen=True, slots=True)
class Fallen:
    """A candidate that was not taken. `rank` is among the corpus, as a negative's, and `score` its cosine."""

    text_id: UUID
    rank: int
    score: float
    reason: str  # one word: capped, above_window, ...


@dataclass(frozen=True, slots=True)
class Mined:
    """
    What mining one sample gave. `positive_rank` is the rank in the corpus, from 1, of the positive that the cap goes
    by: the lowest one, unless the settings take the highest.

    `status` is full, widened (a rule was given up for some negatives), short or none; `reason` says why in words, ""
    where nothing is wanting. Of the candidates `num_capped` score at or above the cap; `fallen` says how many fell for
    which reason. `candidates` are the best that fell, best first, of a sample with fewer negatives than were asked for.
    `positive_score` is the lowest cosine of the query and one of its positives.
    """

    sample: Minable
    status: Status
    reason: str
    positive_rank: int
    negatives: tuple[Negative, ...]
    num_candidates: int | None = None
    num_capped: int | None = None
    positive_score: float | None = None
    fallen: Mapping[str, int] = field(default_factory=dict)
    candidates: tuple[Fallen, ...] = ()


def add_mined(cursor: duckdb.DuckDBPyConnection, stage_key: UUID, run_id: UUID, results: Sequence[Mined]) -> int:
    """
    Store the negatives found, the first MOST_CANDIDATES of the candidates that fell, the texts of both if only samples
    have them yet, and that these revisions are done; one that another process finished meanwhile is passed over.
    Returns how many negatives were stored.
    """
    revisions = [result.sample.revision_id for result in results]
    meanwhile = done_meanwhile(cursor, "mined", "revision_id", stage_key, revisions)
    results = [result for result in results if result.sample.revision_id not in meanwhile]
    names = sorted({result.sample.source for result in results})
    text_ids = [negative.text_id for result in results for negative in result.negatives]
    text_ids += [candidate.text_id for result in results for candidate in result.candidates[:MOST_CANDIDATES]]
    store_brought(cursor, names, text_ids)
    created_at = now()
    negatives = [
        {"negative_id": new_id(), "run_id": run_id, "created_at": created_at} | _negative_row(negative)
        for result in results
        for negative in result.negatives
    ]
    insert(cursor, "negative", negatives)
    done = [_row(result) | {"stage_key": stage_key, "run_id": run_id, "created_at": created_at} for result in results]
    insert(cursor, "mined", done)
    refresh_state(cursor, [result.sample.sample_id for result in results])
    return len(negatives)


NEGATIVE_FIELDS = tuple(each.name for each in fields(Negative) if each.name != "miners")


def _negative_row(negative: Negative) -> dict[str, Any]:
    row = {name: getattr(negative, name) for name in NEGATIVE_FIELDS}  # asdict copies each value, and takes a third
    return row | {"miners": [{"miner": each.miner, "rank": each.rank, "score": each.score} for each in negative.miners]}


def _row(result: Mined) -> dict[str, Any]:
    kept = result.candidates[:MOST_CANDIDATES]
    return {
        "revision_id": result.sample.revision_id,
        "sample_id": result.sample.sample_id,
        "status": result.status,
        "reason": result.reason,
        "positive_rank": result.positive_rank,
        "num_negatives": len(result.negatives),
        "num_candidates": result.num_candidates,
        "num_capped": result.num_capped,
        "positive_score": result.positive_score,
        "fallen": json.dumps(result.fallen, sort_keys=True),
        "candidates": [asdict(each) | {"text_id": str(each.text_id)} for each in kept],
    }
