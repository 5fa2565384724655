"""Triage's side of the store: what is known of negatives and rewrites, what was found suspicious, and how much."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

import duckdb

from synth.records import Content, Task
from synth.store.connection import Store
from synth.store.edits import content_of
from synth.store.minings import LATEST_MINING
from synth.store.rows import insert, now
from synth.store.sample_history import Row, read_rows
from synth.store.samples import refresh_state

# $names (none means all) is bound by the caller of each.
HEAD = """
SELECT st.sample_id, st.revision_id, s.name AS source, st.hardness
FROM sample_state st JOIN source s USING (source_id)
WHERE st.task = '{task}' AND st.declared_use = 'train' AND st.status <> 'rejected'
  AND (len($names) = 0 OR s.name IN (SELECT unnest($names)))
"""
NUM_OF_TASKS = """
SELECT st.task, count(*) FROM sample_state st JOIN source s USING (source_id)
WHERE st.declared_use = 'train' AND st.status <> 'rejected'
  AND (len($names) = 0 OR s.name IN (SELECT unnest($names)))
GROUP BY 1
"""
# A negative of which a person has said what it is makes nothing suspicious any more. Of what was mined the latest
# mining's alone stand, as on a card and in a release. A judge suggests something about a positive that does not
# answer (below 2) or a negative that does (above 1).
NEGATIVES = f"""
WITH head AS MATERIALIZED ({HEAD.format(task=Task.RETRIEVAL)}),
latest AS ({LATEST_MINING}),
looked_at AS (SELECT DISTINCT sample_id, text_id FROM negative_verdicts WHERE reviewer_kind = 'human' OR drops),
standing AS MATERIALIZED (
    SELECT n.revision_id, n.text_id, n.positive_similarity, n.relevance - n.positive_relevance AS margin, n.flags
    FROM negative n SEMI JOIN head h ON h.revision_id = n.revision_id
    LEFT JOIN latest l ON l.revision_id = n.revision_id
    ANTI JOIN looked_at v ON v.sample_id = n.sample_id AND v.text_id = n.text_id
    WHERE n.origin <> 'mined' OR n.run_id = l.run_id
),
measured AS (
    SELECT revision_id, max(positive_similarity) AS similarity,
           CASE WHEN max(margin) IS NOT NULL THEN greatest(max(margin), 0) END AS reranker,
           count(DISTINCT text_id) FILTER (len(flags) > 0)::DOUBLE AS flagged
    FROM standing GROUP BY 1
),
judged AS (
    SELECT revision_id, avg(worst)::DOUBLE AS judge FROM (
        SELECT j.revision_id, j.judge,
               max(CASE WHEN j.suggestion IS NULL THEN 0
                        WHEN j.is_positive THEN 2 - j.grade ELSE j.grade - 1 END) AS worst
        FROM judgements j SEMI JOIN head h ON h.revision_id = j.revision_id
        LEFT JOIN (SELECT DISTINCT revision_id, text_id FROM standing) n
        ON n.revision_id = j.revision_id AND n.text_id = j.text_id
        WHERE j.is_positive OR n.text_id IS NOT NULL GROUP BY ALL
    ) GROUP BY 1
)
SELECT h.source, h.sample_id, h.revision_id, m.similarity, m.reranker, j.judge, m.flagged,
       CASE WHEN m.similarity IS NULL AND m.reranker IS NULL AND j.judge IS NULL THEN h.hardness END AS hardness
FROM head h LEFT JOIN measured m ON m.revision_id = h.revision_id LEFT JOIN judged j ON j.revision_id = h.revision_id
ORDER BY h.source, h.revision_id
"""
EVIDENCE = ("similarity", "reranker", "judge", "flagged", "hardness")
CONTENT_FIELDS = ("task", "instruction", "query", "positives", "text1", "text2", "score", "text", "label")
# An edited rewrite is compared with what it was first made from.
REWRITES = """
WITH head AS ({head})
SELECT h.revision_id, f.operation, {own}, {original}
FROM head h JOIN revision r USING (revision_id) JOIN revision f ON f.sample_id = h.sample_id AND f.number = 1
JOIN revision p ON p.revision_id = f.parent_id AND p.sample_id <> h.sample_id
WHERE h.revision_id IN (SELECT unnest($ids::UUID[])) ORDER BY h.revision_id
"""
SIDES = {"own": "r", "original": "p"}
REWRITE_IDS = """
WITH head AS ({head})
SELECT h.revision_id, f.operation FROM head h JOIN revision f ON f.sample_id = h.sample_id AND f.number = 1
JOIN revision p ON p.revision_id = f.parent_id AND p.sample_id <> h.sample_id
"""
STORED = """
WITH head AS ({head})
SELECT t.revision_id, t.stage_key, t.priority, t.parts, t.labels FROM triage t SEMI JOIN head USING (revision_id)
QUALIFY row_number() OVER (PARTITION BY t.revision_id ORDER BY t.created_at DESC, t.run_id DESC) = 1
"""
FOUND = """
SELECT p.name, count(*) AS number, avg(p.value) AS mean, max(p.value) AS most,
       count(*) FILTER (p.score >= $far) AS num_far
FROM (SELECT unnest(t.parts) AS p FROM triages t SEMI JOIN ({head}) h ON h.revision_id = t.revision_id)
GROUP BY 1 ORDER BY 1
"""
MOST_SUSPICIOUS = """
SELECT t.sample_id::VARCHAR AS sample_id, h.source, t.priority, t.parts, coalesce(r.query, r.text, r.text1) AS text
FROM triages t JOIN ({head}) h ON h.revision_id = t.revision_id JOIN revision r ON r.revision_id = t.revision_id
WHERE t.priority > 0 ORDER BY t.priority DESC, t.sample_id LIMIT $limit
"""


@dataclass(frozen=True, slots=True)
class Evidence:
    """
    What is known of a retrieval sample, each part None where nothing is.

    Attributes:
        similarity: the highest cosine of a negative and a positive.
        reranker: by how much a negative is more relevant than the positive to a reranker, at least 0.
        judge: how far a judge's worst grade is from where it should be, the mean of all judges; 0: no objection.
        flagged: negatives that mining flagged.
        hardness: the nearest negative's cosine with the query minus the positive's, where none of the others is known.
    """

    sample_id: UUID
    revision_id: UUID
    similarity: float | None
    reranker: float | None
    judge: float | None
    flagged: float | None
    hardness: float | None


@dataclass(frozen=True, slots=True)
class Rewrite:
    """A sample that was made from another one, as it is now, beside what that said then."""

    revision_id: UUID
    operation: str
    content: Content
    original: Content


@dataclass(frozen=True, slots=True)
class Part:
    """One reason: what was measured, and how far above the mean of its kind that is, in standard deviations."""

    name: str
    value: float
    score: float


@dataclass(frozen=True, slots=True)
class Triaged:
    """How suspicious a revision is. `labels`: of a labelled text the likeliest ones, likeliest first."""

    sample_id: UUID
    revision_id: UUID
    priority: float
    parts: tuple[Part, ...]
    labels: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Stored:
    """The latest triage of a revision, and the key of the stage that it was made by."""

    stage_key: UUID
    priority: float
    parts: Mapping[str, float]  # values by name
    labels: tuple[str, ...]


def num_of_tasks(store: Store, names: Sequence[str]) -> dict[Task, int]:
    """How many samples there are to triage, by task."""
    with store.read() as cursor:
        rows = cursor.execute(NUM_OF_TASKS, {"names": list(names)}).fetchall()
    return {Task(task): number for task, number in rows}


def evidence(store: Store, names: Sequence[str]) -> dict[str, list[Evidence]]:
    """What is known of the retrieval samples to train on that nobody rejected, by source."""
    with store.read() as cursor:
        rows = cursor.execute(NEGATIVES, {"names": list(names)}).fetchall()
    found: dict[str, list[Evidence]] = {}
    for source, *fields in rows:
        found.setdefault(source, []).append(Evidence(*fields))
    return found


def rewritten(store: Store, task: Task, name: str) -> dict[UUID, str]:
    """The revisions of a source's samples that were made from another sample, each with the operation that made it."""
    with store.read() as cursor:
        rows = cursor.execute(REWRITE_IDS.format(head=HEAD.format(task=task)), {"names": [name]}).fetchall()
    return dict(rows)


def rewrites(store: Store, task: Task, name: str, ids: Sequence[UUID]) -> list[Rewrite]:
    """These of them, each beside what it was made from."""
    columns = {side: ", ".join(f"{letter}.{each}" for each in CONTENT_FIELDS) for side, letter in SIDES.items()}
    sql = REWRITES.format(head=HEAD.format(task=task), **columns)
    with store.read() as cursor:
        rows = cursor.execute(sql, {"names": [name], "ids": [str(each) for each in ids]}).fetchall()
    return [_rewrite(*row) for row in rows]


def _rewrite(revision_id: UUID, operation: str, *fields: object) -> Rewrite:
    number = len(CONTENT_FIELDS)
    own, original = (dict(zip(CONTENT_FIELDS, each, strict=True)) for each in (fields[:number], fields[number:]))
    return Rewrite(revision_id, operation, content_of(own), content_of(original))


def stored(store: Store, task: Task, name: str) -> dict[UUID, Stored]:
    """The latest triages of a source's samples, by revision."""
    with store.read() as cursor:
        rows = cursor.execute(STORED.format(head=HEAD.format(task=task)), {"names": [name]}).fetchall()
    return {
        revision_id: Stored(key, priority, {part["name"]: part["value"] for part in parts or ()}, tuple(labels or ()))
        for revision_id, key, priority, parts, labels in rows
    }


def add_triaged(cursor: duckdb.DuckDBPyConnection, stage_key: UUID, run_id: UUID, triaged: Sequence[Triaged]) -> None:
    """Store how suspicious these are, and put the samples in their place in the queues."""
    made = {"stage_key": stage_key, "run_id": run_id, "created_at": now()}
    rows = [
        {
            "sample_id": each.sample_id,
            "revision_id": each.revision_id,
            "priority": each.priority,
            "parts": [{"name": part.name, "value": part.value, "score": part.score} for part in each.parts],
            "labels": list(each.labels),
        }
        | made
        for each in triaged
    ]
    insert(cursor, "triage", rows)
    refresh_state(cursor, [each.sample_id for each in triaged])


def found_of(store: Store, task: Task, names: Sequence[str], *, far: float) -> list[Row]:
    """
    Of each part that was measured of the samples of a task: its name, of how many, the mean and the most, and of how
    many it is at least so far above the mean.
    """
    with store.read() as cursor:
        return read_rows(cursor, FOUND.format(head=HEAD.format(task=task)), names=list(names), far=far)


def most_suspicious(store: Store, task: Task, names: Sequence[str], *, limit: int) -> list[Row]:
    """The most suspicious samples of a task that nobody rejected: id, source, priority, parts, and a text."""
    with store.read() as cursor:
        return read_rows(cursor, MOST_SUSPICIOUS.format(head=HEAD.format(task=task)), names=list(names), limit=limit)
