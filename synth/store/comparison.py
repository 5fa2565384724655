"""Comparing two releases by the files of their folders alone, in a DuckDB of its own that reads nothing else."""

from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import duckdb

from synth.records import UserError
from synth.store.selection import records

# A sample of a release, whatever its task: which revision of it, and hashes of its negatives in order.
SIDE = """
SELECT sample_id, any_value(revision_id) AS revision_id, any_value(content_hash) AS content_hash,
       any_value(dataset) AS source, any_value(operation) AS operation, any_value(task) AS task,
       any_value(negatives) AS negatives
FROM ({rows}) GROUP BY sample_id
"""
COMPARED = """
CREATE TEMP TABLE compared AS
SELECT coalesce(a.sample_id, b.sample_id) AS sample_id, coalesce(b.task, a.task) AS task,
       coalesce(b.source, a.source) AS source, coalesce(b.operation, a.operation) AS operation,
       CASE WHEN a.sample_id IS NULL THEN 'added' WHEN b.sample_id IS NULL THEN 'removed'
            WHEN a.revision_id <> b.revision_id OR a.content_hash <> b.content_hash THEN 'changed'
            WHEN a.negatives IS DISTINCT FROM b.negatives THEN 'negatives' ELSE 'same' END AS change,
       len(list_filter(b.negatives, lambda n: NOT list_contains(a.negatives, n))) AS negatives_added,
       len(list_filter(a.negatives, lambda n: NOT list_contains(b.negatives, n))) AS negatives_removed,
       a.revision_id AS revision_a, b.revision_id AS revision_b
FROM a FULL JOIN b ON a.sample_id = b.sample_id
"""
TOTALS = "SELECT change, count(*) AS num_samples FROM compared GROUP BY change ORDER BY change"
COUNTED = """
SELECT change, source, operation, count(*) AS num_samples,
       coalesce(sum(negatives_added) FILTER (change IN ('changed', 'negatives')), 0)::BIGINT AS negatives_added,
       coalesce(sum(negatives_removed) FILTER (change IN ('changed', 'negatives')), 0)::BIGINT AS negatives_removed
FROM compared WHERE change <> 'same' GROUP BY ALL ORDER BY ALL
"""
ROWS = "SELECT change, task, source, operation, sample_id, revision_a, revision_b, negatives_added, negatives_removed"


def compare(a: Mapping[str, Path], b: Mapping[str, Path], *, rows: bool) -> tuple[list[dict[str, Any]], ...]:
    """
    What differs between two releases, given as task -> Parquet file of its samples: totals by kind of change (same ones
    too), counts by change, source and operation, and (if `rows`) every sample that differs.

    `changed` is another revision of the same sample, `negatives` the same revision with other negatives, or the same
    in another order.

    Raises UserError if a file is no Parquet or lacks a column.
    """
    with (
        TemporaryDirectory(prefix="skiff-") as spill,
        closing(duckdb.connect(":memory:", config={"temp_directory": spill})) as connection,
    ):
        try:
            for name, files in (("a", a), ("b", b)):
                side = SIDE.format(rows=_union(connection, files))
                connection.execute(f"CREATE TEMP TABLE {name} AS {side}", _paths(files))
            connection.execute(COMPARED)
        except duckdb.Error as error:
            reason = str(error).split("\n", 1)[0]
            raise UserError(f"the releases cannot be compared: {reason}; `synth release verify` says more") from None
        totals = records(connection.execute(TOTALS))
        counts = records(connection.execute(COUNTED))
        listed = f"{ROWS} FROM compared WHERE change <> 'same' ORDER BY change, task, source, sample_id"
        return totals, counts, records(connection.execute(listed)) if rows else []


def _paths(files: Mapping[str, Path]) -> Sequence[str]:
    return [str(path) for path in files.values()]


def _union(connection: duckdb.DuckDBPyConnection, files: Mapping[str, Path]) -> str:
    hashes = "list_transform(negatives, lambda n: md5_number(n.text))"
    columns = "sample_id::VARCHAR AS sample_id, revision_id::VARCHAR AS revision_id, content_hash, dataset, operation"
    parts = [
        f"SELECT {columns}, '{task}' AS task,"
        f" {hashes if _has_negatives(connection, task, path) else '[]::UHUGEINT[]'} AS negatives"
        " FROM read_parquet(?, hive_partitioning = false)"
        for task, path in files.items()
    ]
    none = f"SELECT {columns}, '' AS task, []::UHUGEINT[] AS negatives FROM (SELECT '' AS sample_id, '' AS revision_id,"
    return " UNION ALL ".join([*parts, f"{none} '' AS content_hash, '' AS dataset, '' AS operation) WHERE false"])


def _has_negatives(connection: duckdb.DuckDBPyConnection, task: str, path: Path) -> bool:
    """Whether a task's file holds negatives; of texts with a class, one made before classes were mined does not."""
    if task != "classification":
        return task == "retrieval"
    names = connection.execute("SELECT name FROM parquet_schema(?)", [str(path)]).fetchall()
    return ("negatives",) in names
