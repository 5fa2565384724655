"""Samples, their revisions, their negatives, and what the stages have finished."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from importlib.resources import files
from typing import Any
from uuid import UUID

import duckdb
import pyarrow

from synth.records import TASK_OF, Draft, Negative, Task, new_id
from synth.store.bulk import DESCRIPTION, LINKS, REQUIRED, add_rows
from synth.store.connection import Store
from synth.store.rows import batch, first, insert, now
from synth.store.sources import store_brought


def add_drafts(cursor: duckdb.DuckDBPyConnection, drafts: Iterable[Draft], run_id: UUID) -> int:
    """
    Store each draft as the first revision of a new sample, unless its content is there already. Returns how many.

    Content is the same in the whole store for samples to train on, but within its source for held-out ones, so that
    every evaluation set stays whole (bulk.add_rows, which does the work).
    """
    alike: dict[tuple[Task, UUID, str], list[Draft]] = {}
    for draft in drafts:
        alike.setdefault((TASK_OF[type(draft.content)], draft.source_id, draft.operation), []).append(draft)
    return sum(
        add_rows(cursor, task, _table(task, found), source_id=source_id, run_id=run_id, operation=operation).num_new
        for (task, source_id, operation), found in alike.items()
    )


def _table(task: Task, drafts: Sequence[Draft]) -> pyarrow.Table:
    columns: dict[str, list[Any]] = {
        name: [getattr(draft.content, name) for draft in drafts] for name in (*REQUIRED[task], "instruction")
    }
    columns |= {name: [getattr(draft, name) for draft in drafts] for name in DESCRIPTION}
    columns |= {name: [str(value) if (value := getattr(draft, name)) else None for draft in drafts] for name in LINKS}
    types = {"positives": pyarrow.list_(pyarrow.string()), "score": pyarrow.float64()}
    return pyarrow.table(
        {name: pyarrow.array(values, types.get(name, pyarrow.string())) for name, values in columns.items()}
    )


def refresh_state(cursor: duckdb.DuckDBPyConnection, sample_ids: Sequence[UUID]) -> None:
    """Derive the rows of sample_state anew for these samples, from the logs."""
    if not sample_ids:
        return
    with batch(cursor, [{"sample_id": sample_id} for sample_id in set(sample_ids)], "touched"):
        ids = "(SELECT sample_id::UUID AS sample_id FROM touched)"
        cursor.execute(f"DELETE FROM sample_state WHERE sample_id IN {ids}")
        cursor.execute(f"INSERT INTO sample_state BY NAME {_state_sql().format(ids=ids)}")


def rebuild_state(store: Store) -> int:
    """Derive the whole of sample_state from the logs. Returns how many samples' rows differed."""
    derived = _state_sql().format(ids="(SELECT DISTINCT sample_id FROM revision)")
    with store.write() as cursor:
        cursor.execute(f"CREATE TEMP TABLE derived AS {derived}")
        row = first(
            cursor.execute(
                "SELECT count(DISTINCT sample_id) FROM ((FROM derived EXCEPT FROM sample_state)"
                " UNION ALL (FROM sample_state EXCEPT FROM derived))"
            )
        )
        cursor.execute("DELETE FROM sample_state")
        cursor.execute("INSERT INTO sample_state BY NAME FROM derived ORDER BY sample_id")
        cursor.execute("DROP TABLE derived")
    return int(row[0]) if row else 0


def _state_sql() -> str:
    return files("synth.store").joinpath("state.sql").read_text(encoding="utf-8")


def done_meanwhile(
    cursor: duckdb.DuckDBPyConnection, table: str, column: str, stage_key: UUID, ids: Sequence[UUID]
) -> set[UUID]:
    """Which of these ids a stage of this configuration has finished."""
    rows = cursor.execute(
        f"SELECT {column} FROM {table} WHERE stage_key = $key AND {column} IN (SELECT unnest($ids::UUID[]))",
        {"key": stage_key, "ids": [str(each) for each in ids]},
    ).fetchall()
    return {found for (found,) in rows}


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


@dataclass(frozen=True, slots=True)
class Mined:
    """What mining one sample gave. `positive_rank` is the best positive's rank in the corpus, from 1."""

    sample: Minable
    status: str  # full, short or none
    reason: str
    positive_rank: int
    negatives: tuple[Negative, ...]


def add_mined(cursor: duckdb.DuckDBPyConnection, stage_key: UUID, run_id: UUID, results: Sequence[Mined]) -> int:
    """
    Store the negatives found, their texts if only samples have them yet, and that these revisions are done; one that
    another process finished meanwhile is passed over. Returns how many negatives were stored.
    """
    revisions = [result.sample.revision_id for result in results]
    meanwhile = done_meanwhile(cursor, "mined", "revision_id", stage_key, revisions)
    results = [result for result in results if result.sample.revision_id not in meanwhile]
    names = sorted({result.sample.source for result in results})
    store_brought(cursor, names, [negative.text_id for result in results for negative in result.negatives])
    created_at = now()
    negatives = [
        {"negative_id": new_id(), "run_id": run_id, "created_at": created_at} | asdict(negative)
        for result in results
        for negative in result.negatives
    ]
    insert(cursor, "negative", negatives)
    done = [
        {
            "stage_key": stage_key,
            "revision_id": result.sample.revision_id,
            "sample_id": result.sample.sample_id,
            "run_id": run_id,
            "status": result.status,
            "reason": result.reason,
            "positive_rank": result.positive_rank,
            "num_negatives": len(result.negatives),
            "created_at": created_at,
        }
        for result in results
    ]
    insert(cursor, "mined", done)
    refresh_state(cursor, [result.sample.sample_id for result in results])
    return len(negatives)
