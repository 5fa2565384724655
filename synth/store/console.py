"""SQL over the store, for people: one statement that reads, in a sandbox, with a time limit."""

import threading
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
            return connection.sql(sql).to_arrow_table()
        except duckdb.InterruptException:
            raise StoreError(
                f"the query ran longer than {timeout:g} s and was stopped; narrow it, or raise --timeout"
            ) from None
        except duckdb.Error as error:
            raise UserError(f"the SQL does not run: {_reason(error)}") from None
        finally:
            timer.cancel()


def _reason(error: duckdb.Error) -> str:
    lines = [line.strip() for line in str(error).splitlines()]
    return " ".join(line for line in lines if line and not line.startswith(("LINE ", "^")))
