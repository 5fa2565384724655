"""Samples and their revisions, what is derived of them (`sample_state`), and what the stages have finished."""

from collections.abc import Iterable, Sequence
from importlib.resources import files
from typing import Any
from uuid import UUID

import duckdb
import pyarrow

from synth.records import TASK_OF, Draft, Task
from synth.store.bulk import DESCRIPTION, LINKS, REQUIRED, add_rows
from synth.store.connection import Store
from synth.store.rows import batch, first


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
