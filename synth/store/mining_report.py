"""What a mine run did and found, and what it did not take: the store's part of its report."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import duckdb

from synth.store.connection import Store
from synth.store.sample_history import Row, read_rows

DEEP = 50  # the rank below which a positive makes a bad pair (KaLM-Embedding: filter_topk 50)
REVIEWERS = "reviewers"
FIRST_MINER = "dense"  # whose ranks and scores negatives have; where it did not find one, the rank is another miner's
# An edit that leaves the query takes negatives along, under the run that found them: those count once.
OF_RUN = "negative n WHERE n.run_id = $id AND n.original_id IS NULL"
# A step may be taken many times: the last one tells the most memory.
STEPS = """
SELECT step, coalesce(max_by(detail, created_at), '') AS detail, sum(seconds) AS seconds,
       coalesce(sum(number), 0)::BIGINT AS number
FROM run_step WHERE run_id = $id GROUP BY step ORDER BY min(created_at), step
"""
OUTCOMES = """
SELECT s.name AS source, m.status, count(*) AS num_samples, sum(m.num_negatives)::BIGINT AS num_negatives,
       sum(m.num_candidates)::BIGINT AS num_candidates
FROM mined m JOIN revision r USING (revision_id) JOIN source s USING (source_id)
WHERE m.run_id = $id GROUP BY ALL ORDER BY s.name, m.status
"""
FALLEN = """
SELECT source, each.key AS reason, sum(each.value)::BIGINT AS num
FROM (
    SELECT s.name AS source, unnest(map_entries(m.fallen::MAP(VARCHAR, BIGINT))) AS each
    FROM mined m JOIN revision r USING (revision_id) JOIN source s USING (source_id) WHERE m.run_id = $id
)
GROUP BY ALL HAVING num > 0 ORDER BY source, num DESC, reason
"""
# Reasons that differ in their numbers alone are one.
WANTING = """
SELECT regexp_replace(reason, '[0-9][0-9.,]*[0-9]|[0-9]', 'N', 'g') AS reason, count(*) AS num
FROM mined WHERE run_id = $id AND status IN ('short', 'none') GROUP BY ALL ORDER BY num DESC, reason LIMIT $limit
"""
DRAWN_WANTING = """
SELECT m.sample_id, m.status, m.reason, m.num_negatives, r.query, m.candidates
FROM mined m JOIN revision r USING (revision_id) WHERE m.run_id = $id AND m.status IN ('short', 'none')
ORDER BY sha256($seed::VARCHAR || m.revision_id::VARCHAR), m.revision_id LIMIT $limit
"""
# A rank of 0 is none: nothing was searched.
POSITIVE_RANKS = f"""
SELECT count(*) AS num, count(*) FILTER (positive_rank > {DEEP}) AS num_deep, median(positive_rank) AS median
FROM mined WHERE run_id = $id AND positive_rank > 0
"""
# The lowest score of a positive; an earlier version kept it with the negatives alone.
POSITIVE_SCORES = f"""
SELECT m.*, coalesce(m.positive_score, n.positive_score) AS lowest FROM mined m LEFT JOIN (
    SELECT revision_id, min(positive_score) AS positive_score FROM {OF_RUN} GROUP BY 1
) n USING (revision_id) WHERE m.run_id = $id
"""
DEEPEST = f"""
SELECT m.sample_id, r.query, r.positives[1] AS positive, m.positive_rank AS rank, m.lowest AS score, m.num_candidates
FROM ({POSITIVE_SCORES}) m JOIN revision r USING (revision_id) WHERE m.positive_rank > {DEEP}
ORDER BY m.positive_rank DESC, m.revision_id LIMIT $limit
"""
DRAWN_SCORES = f"""
SELECT lowest AS score FROM ({POSITIVE_SCORES}) WHERE isfinite(lowest)
ORDER BY sha256($seed::VARCHAR || revision_id::VARCHAR) LIMIT $limit
"""
FOUND_BY = "coalesce(nullif(array_to_string(list_sort([m.miner FOR m IN n.miners]), ' and '), ''), n.origin)"
# Who found a negative that the first miner did not find; "" if that did, or nothing is known of miners.
FOUND_BY_OTHERS = f"""
(CASE WHEN coalesce(len(n.miners), 0) = 0 OR list_contains([m.miner FOR m IN n.miners], '{FIRST_MINER}') THEN ''
     ELSE {FOUND_BY} END)
"""
DRAWN_NEGATIVES = f"""
SELECT {FOUND_BY} AS found_by, n.score, n.positive_score FROM {OF_RUN} AND isfinite(n.score)
ORDER BY sha256($seed::VARCHAR || n.negative_id::VARCHAR) LIMIT $limit
"""
FLAGS = f"""
SELECT 'flag' AS of, flag AS name, count(*) AS num FROM (SELECT unnest(n.flags) AS flag FROM {OF_RUN}) GROUP BY ALL
UNION ALL
SELECT 'relaxed', rule, count(*) FROM (SELECT unnest(n.relaxed) AS rule FROM {OF_RUN}) GROUP BY ALL
UNION ALL
SELECT 'flagged', '', count(*) FROM {OF_RUN} AND len(n.flags) > 0
ORDER BY of, num DESC, name
"""
# By rank and, where the first miner did not find them, by who did: how many negatives each judge graded and how many of
# them it takes for answers, at least in part (grade 2); and what people said, who judge all that they leave in a sample
# that they approve.
JUDGED = f"""
WITH found AS (
    SELECT n.sample_id, n.text_id, n.rank, {FOUND_BY_OTHERS} AS found_by, n.created_at FROM {OF_RUN}
),
graded AS (
    SELECT judge, sample_id, text_id, grade FROM judgement SEMI JOIN found USING (sample_id, text_id)
    QUALIFY row_number() OVER (
        PARTITION BY judge, sample_id, text_id ORDER BY created_at DESC, judgement_id DESC
    ) = 1
),
word AS (
    SELECT sample_id, text_id, bool_or(verdict IN ('false_negative', 'partial', 'promote')) AS is_false
    FROM negative_verdicts SEMI JOIN found USING (sample_id, text_id) WHERE reviewer_kind = 'human' GROUP BY ALL
),
approval AS (
    SELECT sample_id, max(created_at) AS last_at FROM reviews SEMI JOIN found USING (sample_id)
    WHERE verdict = 'approve' AND reviewer_kind = 'human' AND negative_id IS NULL AND NOT is_undo AND NOT is_undone
    GROUP BY sample_id
),
said AS (
    SELECT 'judge ' || g.judge AS judged_by, f.rank, f.found_by, g.grade >= 2 AS is_false
    FROM found f JOIN graded g USING (sample_id, text_id) WHERE g.grade IS NOT NULL
    UNION ALL
    SELECT '{REVIEWERS}', f.rank, f.found_by, coalesce(w.is_false, false)
    FROM found f LEFT JOIN word w USING (sample_id, text_id) LEFT JOIN approval a USING (sample_id)
    WHERE w.text_id IS NOT NULL OR f.created_at <= a.last_at
)
SELECT judged_by, found_by, rank, count(*) AS num, count(*) FILTER (is_false) AS num_false FROM said
GROUP BY ALL ORDER BY judged_by, found_by, rank
"""
RANKS = f"SELECT {FOUND_BY_OTHERS} AS found_by, n.rank, count(*) AS num FROM {OF_RUN} GROUP BY ALL ORDER BY ALL"
# A run encodes the corpus of one source after the other, in the order of their names.
CORPORA = """
SELECT number AS num_passages FROM run_step WHERE run_id = $id AND step = 'encode passages' ORDER BY created_at
"""
DRAWN = f"""
SELECT m.sample_id, m.revision_id, m.status, m.positive_rank, m.lowest AS positive_score, r.query,
       r.positives[1] AS positive, len(r.positives) AS num_positives
FROM ({POSITIVE_SCORES}) m JOIN revision r USING (revision_id)
ORDER BY sha256($seed::VARCHAR || m.revision_id::VARCHAR), m.revision_id LIMIT $limit
"""
NEGATIVES = f"""
SELECT n.revision_id, t.text, n.rank, n.score, coalesce(n.miners, []) AS miners, coalesce(n.flags, []) AS flags,
       coalesce(n.relaxed, []) AS relaxed, n.relevance, n.positive_relevance, n.positive_similarity, n.overlap
FROM (FROM {OF_RUN}) n JOIN text t USING (text_id) WHERE n.revision_id IN (SELECT unnest($ids::UUID[]))
ORDER BY n.revision_id, n.rank, n.score DESC, n.text_id
"""


@dataclass(frozen=True, slots=True)
class Candidate:
    """One of the best candidates of a sample with fewer negatives than asked for, and why it was not taken."""

    text: str
    rank: int
    score: float
    reason: str


@dataclass(frozen=True, slots=True)
class Wanting:
    """A sample with fewer negatives than asked for."""

    sample_id: UUID
    status: str  # short or none
    reason: str
    num_negatives: int
    query: str
    candidates: Sequence[Candidate]


@dataclass(frozen=True, slots=True)
class DeepPositive:
    """A sample whose positive has a rank above DEEP, with the score of the lowest of its positives."""

    sample_id: UUID
    query: str
    positive: str
    rank: int
    score: float | None
    num_candidates: int | None


@dataclass(frozen=True, slots=True)
class FoundNegative:
    """A negative with all that mining knows of it; None and nothing is what it did not look at."""

    text: str
    rank: int
    score: float
    miners: Sequence[Mapping[str, Any]]  # miner, rank of its own, score
    flags: Sequence[str]
    relaxed: Sequence[str]
    relevance: float | None
    positive_relevance: float | None
    positive_similarity: float | None
    overlap: float | None


@dataclass(frozen=True, slots=True)
class MinedSample:
    """A mined sample with the first of its positives and its negatives, by rank."""

    sample_id: UUID
    status: str
    query: str
    positive: str
    num_positives: int
    positive_rank: int | None
    positive_score: float | None
    negatives: Sequence[FoundNegative]


def mining_counts(store: Store, run_id: UUID) -> Row:
    """
    The mine run as a row of the view `runs`, with what it did and found, each a list of rows: `steps`, `outcomes` (by
    source and status), `fallen` (by source and reason), `flags`, `ranks` (negatives by rank and, where the first miner
    did not find them, who did), `judged` (the same by who judged) and `corpora` (passages, in the order of sources'
    names); and `positives`, one row.
    """
    with store.read() as cursor:
        [run] = read_rows(cursor, "FROM runs WHERE run_id = $id", id=run_id)
        [positives] = read_rows(cursor, POSITIVE_RANKS, id=run_id)
        lists = {
            "steps": STEPS,
            "outcomes": OUTCOMES,
            "fallen": FALLEN,
            "flags": FLAGS,
            "ranks": RANKS,
            "corpora": CORPORA,
        }
        found = {name: read_rows(cursor, sql, id=run_id) for name, sql in {**lists, "judged": JUDGED}.items()}
    return {**run, **found, "positives": positives}


def wanting(store: Store, run_id: UUID, *, num_reasons: int, limit: int, seed: int) -> tuple[list[Row], list[Wanting]]:
    """The most frequent reasons why samples have fewer negatives than asked for; and so many such samples, drawn."""
    with store.read() as cursor:
        reasons = read_rows(cursor, WANTING, id=run_id, limit=num_reasons)
        rows = read_rows(cursor, DRAWN_WANTING, id=run_id, limit=limit, seed=seed)
        ids = {str(each["text_id"]) for row in rows for each in row["candidates"] or ()}
        texts = _texts(cursor, sorted(ids))
    for row in rows:
        row["candidates"] = [
            Candidate(texts.get(each["text_id"], ""), each["rank"], each["score"], each["reason"])
            for each in sorted(row["candidates"] or (), key=lambda each: (each["rank"] or 0, each["text_id"]))
        ]
    return reasons, [Wanting(**row) for row in rows]


def deepest_positives(store: Store, run_id: UUID, *, limit: int) -> list[DeepPositive]:
    """The samples whose positives have the highest ranks above DEEP, the highest first."""
    with store.read() as cursor:
        return [DeepPositive(**row) for row in read_rows(cursor, DEEPEST, id=run_id, limit=limit)]


def drawn_scores(
    store: Store, run_id: UUID, *, limit: int, seed: int
) -> tuple[list[float], list[tuple[str, float, float | None]]]:
    """
    So many scores of positives (the lowest of each sample), and of negatives, each with who found it and the score of
    the lowest positive.
    """
    with store.read() as cursor:
        positives = read_rows(cursor, DRAWN_SCORES, id=run_id, limit=limit, seed=seed)
        negatives = read_rows(cursor, DRAWN_NEGATIVES, id=run_id, limit=limit, seed=seed)
    return [row["score"] for row in positives], [
        (row["found_by"], row["score"], row["positive_score"]) for row in negatives
    ]


def drawn_samples(store: Store, run_id: UUID, *, limit: int, seed: int) -> list[MinedSample]:
    """So many of the samples that a run mined, drawn at random, in the order of the draw."""
    with store.read() as cursor:
        rows = read_rows(cursor, DRAWN, id=run_id, limit=limit, seed=seed)
        ids = [str(row["revision_id"]) for row in rows]
        negatives: dict[UUID, list[FoundNegative]] = {}
        for row in read_rows(cursor, NEGATIVES, id=run_id, ids=ids):
            negatives.setdefault(row.pop("revision_id"), []).append(FoundNegative(**row))
    for row in rows:
        row["negatives"] = negatives.get(row.pop("revision_id"), [])
    return [MinedSample(**row) for row in rows]


def _texts(cursor: duckdb.DuckDBPyConnection, ids: Sequence[str]) -> dict[UUID, str]:
    rows = read_rows(cursor, "SELECT text_id, text FROM text WHERE text_id IN (SELECT unnest($ids::UUID[]))", ids=ids)
    return {row["text_id"]: row["text"] for row in rows}
