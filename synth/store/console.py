"""SQL over the store, for people: one statement that reads, in a sandbox, with a time limit."""

import csv
import io
import json
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import duckdb

from synth.records import StoreError, UserError
from synth.store.connection import Store

if TYPE_CHECKING:
    import pyarrow


def query(store: Store, sql: str, *, timeout: float = 60.0) -> "pyarrow.Table":
    """
    The result of one SELECT (or EXPLAIN, DESCRIBE, SUMMARIZE, SHOW) over the store's tables and views.

    Raises UserError if it is no such statement, names something unknown, tries to write or to reach outside the store,
    and StoreError if it takes longer than `timeout` seconds (writers wait as long as a query runs).
    """
    with store.sandbox() as connection:
        timer = threading.Timer(timeout, connection.interrupt)
        try:
            statements = connection.extract_statements(sql)
            if len(statements) != 1:
                raise UserError(f"one SQL statement at a time, please; this has {len(statements)}")
            if statements[0].type not in (duckdb.StatementType.SELECT, duckdb.StatementType.EXPLAIN):
                raise UserError(f"only statements that read can be run here; this is {statements[0].type.name}")
            timer.start()
            result = connection.sql(sql).to_arrow_table()
            return result.rename_columns(_unique(result.column_names))
        except duckdb.InterruptException:
            raise StoreError(
                f"the query ran longer than {timeout:g} s and was stopped; narrow it, or raise --timeout"
            ) from None
        except duckdb.Error as error:
            raise UserError(f"the SQL does not run: {_reason(error)}") from None
        finally:
            timer.cancel()


def _unique(names: Sequence[str]) -> list[str]:
    """The names with `_1`, `_2`, ... behind those that came before: a row becomes a dict, which keeps one of each."""
    taken: dict[str, None] = {}
    for name in names:
        fresh, number = name, 0
        while fresh in taken:
            number += 1
            fresh = f"{name}_{number}"
        taken[fresh] = None
    return list(taken)


def write_result(result: "pyarrow.Table", output_format: str, output: Path | None) -> None:
    """
    Write a result as csv, json (an array of objects) or parquet: to a file that appears when it is complete, or (not
    parquet) to standard output.

    Raises UserError if parquet has no file to go to, or the file cannot be written.
    """
    if output is None:
        if output_format == "parquet":
            raise UserError("parquet is not for the screen; name a file with --output FILE")
        sys.stdout.write(_as_text(result, output_format))
        return
    partial = output.with_name(f".{output.name}.partial")
    try:
        if output_format == "parquet":
            from pyarrow import parquet

            parquet.write_table(result, partial, compression="zstd")
        else:
            partial.write_text(_as_text(result, output_format), encoding="utf-8")
        partial.replace(output)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise UserError(f"{output}: cannot be written ({error.strerror})") from None


def _as_text(result: "pyarrow.Table", output_format: str) -> str:
    rows = result.to_pylist()
    if output_format == "json":
        return json.dumps(rows, ensure_ascii=False, default=str, indent=1) + "\n"
    lines = io.StringIO()
    writer = csv.writer(lines)
    writer.writerow(result.column_names)
    for row in rows:
        writer.writerow(
            json.dumps(value, ensure_ascii=False, default=str) if isinstance(value, (list, dict)) else value
            for value in row.values()
        )
    return lines.getvalue()


def _reason(error: duckdb.Error) -> str:
    lines = [line.strip() for line in str(error).splitlines()]
    return " ".join(line for line in lines if line and not line.startswith(("LINE ", "^")))
