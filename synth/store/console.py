"""
SQL over the store, for people: one statement that reads, in a sandbox, with a time limit.

`query` runs in this process, for statements of our own. `query_apart` is for what a person typed: it runs in a process
of its own (this file's `main`), which the kernel ends when its time is up, for DuckDB cannot be interrupted within one
call of a function. The lock on the store is that process's, and goes with it.
"""

import csv
import ctypes
import errno
import io
import json
import os
import re
import resource
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb

from synth.records import SkiffError, StoreError, UserError
from synth.screen import printable
from synth.settings import CONFIG
from synth.store.connection import Store
from synth.store.engine import is_unreadable
from synth.units import finite

if TYPE_CHECKING:
    import pyarrow

LONGEST = 86_400.0  # seconds that a query may be given
MEMORY_SHARE = 0.6  # of the machine's memory that a person's query may take
MAX_RESULT = 1 << 30  # bytes that a person's query may return
PR_SET_PDEATHSIG = 1  # of Linux's prctl
SLICE = 2000  # rows of a result that are written at a time
FAILED = 3  # exit code of the process of a query for a failure, beside 2 for a wrong statement; 1 is Python's for a bug
KEPT = (
    CONFIG,
    "journal",
    "releases",
    "embeddings",
    "models",
    "batches",
    "recipes",
)  # in the store's folder; never a query's output
# The file system says: not there, not like that. Anything else (a full disk, a broken one) is a failure.
WRONG_PATH = {
    errno.EACCES,
    errno.EINVAL,
    errno.EISDIR,
    errno.ELOOP,
    errno.ENAMETOOLONG,
    errno.ENOENT,
    errno.ENOTDIR,
    errno.EPERM,
    errno.EROFS,
}
# How a plan is asked for: of the statement, as it was run, in another format.
EXPLAIN = re.compile(
    r"(?:\s|--[^\n]*\n)*EXPLAIN\b\s*(?P<how>ANALYZE\b|\((?:\s|\w|,)*\)(?=\s*(?:SELECT|FROM|WITH)\b))?"
    r"(?P<explained>.*)",
    re.IGNORECASE | re.DOTALL,
)
# DuckDB's types whose every value Python can hold; what is made of them alone, it can hold too.
PLAIN = {
    *("boolean", "tinyint", "smallint", "integer", "bigint", "utinyint", "usmallint", "uinteger", "ubigint"),
    *("float", "double", "decimal", "hugeint", "uuid", "varchar", "null"),
}


def query(store: Store, sql: str, *, timeout: float = 60.0) -> "pyarrow.Table":
    """
    The result of one SELECT (or EXPLAIN, DESCRIBE, SUMMARIZE, SHOW) over the store's tables and views.

    Raises UserError if it is no such statement, names something unknown, tries to write or to reach outside the store,
    and StoreError if it takes longer than `timeout` seconds (writers wait as long as a query runs), which are only
    looked at between two steps of the query.
    """
    return queries(store, [sql], timeout=timeout)[0]


def queries(store: Store, statements: Sequence[str], *, timeout: float = 60.0) -> list["pyarrow.Table"]:
    """What `query` gives for each of the statements, all from one state of the store; raises what `query` does."""
    with store.sandbox() as connection:
        timer = threading.Timer(timeout, connection.interrupt)
        timer.start()
        try:
            return [_read(connection, sql) for sql in statements]
        except duckdb.InterruptException:
            raise _too_long(timeout) from None
        finally:
            timer.cancel()


def query_apart(store: Store, sql: str, *, timeout: float) -> "pyarrow.Table":
    """
    What `query` gives, from a process of its own, which ends after `timeout` seconds whatever it does.

    Raises what `query` does; UserError if `timeout` is not within 0.1 s and a day, StoreError if the query takes more
    than 60 % of the machine's memory or returns more than 1 GiB.
    """
    from pyarrow import ipc

    if not 0.1 <= timeout <= LONGEST:  # nan is not
        raise UserError(f"a timeout of {timeout:g} s cannot be kept; give 0.1 to {LONGEST:g}")
    asked = {"sql": sql, "timeout": timeout, "parent": os.getpid()}
    request = json.dumps({"path": str(store.path), "lock_timeout": store.lock_timeout, **asked})
    # -P: a module beside the user's files is not ours
    command = [sys.executable, "-P", "-m", "synth.store.console"]
    done = subprocess.run(command, input=request.encode(), capture_output=True, check=False)
    message = done.stderr.decode(errors="replace")
    if done.returncode == 0:
        return ipc.open_stream(done.stdout).read_all()
    if done.returncode == -signal.SIGALRM:
        raise _too_long(timeout)
    if done.returncode == UserError.exit_code:
        raise UserError(message)
    if done.returncode == FAILED:
        raise StoreError(message)
    if done.returncode < 0:
        raise StoreError(
            f"the query's process was ended by signal {-done.returncode}; did it take too much memory? narrow the query"
        )
    raise RuntimeError(f"the query's process failed: {message}")


def main() -> None:
    """The process of `query_apart`: a request as JSON on standard input, an Arrow stream on standard output."""
    from pyarrow import ipc

    request = json.load(sys.stdin)
    _end_with(request["parent"])
    _limit_memory()
    try:
        with Store(Path(request["path"]), lock_timeout=request["lock_timeout"]).sandbox() as connection:
            signal.signal(signal.SIGALRM, signal.SIG_DFL)  # ends the process, in the middle of anything
            signal.setitimer(signal.ITIMER_REAL, request["timeout"])
            result = _read(connection, request["sql"])
            signal.setitimer(signal.ITIMER_REAL, 0)
        if result.nbytes > MAX_RESULT:
            raise StoreError(
                f"the result has {result.nbytes >> 20} MiB, and {MAX_RESULT >> 20} are the most; narrow it"
            )
    except SkiffError as error:
        sys.stderr.buffer.write(str(error).encode(errors="replace"))
        sys.exit(error.exit_code if isinstance(error, UserError) else FAILED)
    except MemoryError:
        sys.stderr.write("the query needs more memory than it may take; narrow it")
        sys.exit(FAILED)
    with ipc.new_stream(sys.stdout.buffer, result.schema) as stream:
        stream.write_table(result)


def _end_with(parent: int) -> None:
    """
    End this process when the one that asked is killed: nobody would read the answer, and the store is held for it. Only
    Linux can be asked for that; elsewhere the time limit ends it.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it was killed before we could ask
            os._exit(FAILED)


def _limit_memory() -> None:
    """Keep this process, results and texts in the making included, to its share of the machine's memory."""
    memory = int(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") * MEMORY_SHARE)
    _, most = resource.getrlimit(resource.RLIMIT_AS)
    memory = memory if most == resource.RLIM_INFINITY else min(memory, most)
    resource.setrlimit(resource.RLIMIT_AS, (memory, most))


def _read(connection: duckdb.DuckDBPyConnection, sql: str) -> "pyarrow.Table":
    try:
        found = connection.sql(_that_reads(connection, sql))
        names = _unique(found.columns)
        kinds = [_mapped(kind, lambda name: name != "uhugeint") for kind in found.types]  # Arrow has no such numbers
        if kinds != found.types:
            found = found.project(
                ", ".join(f"CAST(#{place} AS {kind}) AS c{place}" for place, kind in enumerate(kinds, 1))
            )
        return found.to_arrow_table().rename_columns(names)
    except duckdb.InterruptException:
        raise
    except duckdb.OutOfMemoryException:
        raise StoreError("the query needs more memory than it may take; narrow it") from None
    except duckdb.Error as error:
        if is_unreadable(error):  # `Store.sandbox` says what that means
            raise
        raise UserError(f"the SQL does not run: {_reason(error)}") from None


def _that_reads(connection: duckdb.DuckDBPyConnection, sql: str) -> str:
    """
    The statement to run: one SELECT, or the plan of one. EXPLAIN ANALYZE runs what it explains, COPY too: so of an
    EXPLAIN what follows it is looked at alone, and run as it was looked at.
    """
    kind = _kind(connection, sql)
    if kind == "SELECT":
        return sql
    found = EXPLAIN.match(sql) if kind == "EXPLAIN" else None
    if found and _kind(connection, found["explained"]) == "SELECT":
        return f"EXPLAIN {found['how'] or ''} {found['explained']}"
    what = {"EXPLAIN": "EXPLAIN of another one", "MULTI": "several in one (a PIVOT without IN (...)?)"}.get(kind, kind)
    raise UserError(f"only statements that read can be run here; this is {what}")


def _kind(connection: duckdb.DuckDBPyConnection, sql: str) -> str:
    statements = connection.extract_statements(sql)
    if len(statements) != 1:
        raise UserError(f"one SQL statement at a time, please; this has {len(statements)}")
    try:
        return str(statements[0].type.name)
    except ValueError:  # one that the Python package has no name for
        return "of another kind"


def _too_long(timeout: float) -> StoreError:
    return StoreError(
        f"the query ran longer than {timeout:g} s and was stopped; narrow it (`synth sql --timeout` allows more)"
    )


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


def rows_of(result: "pyarrow.Table") -> list[dict[str, Any]]:
    """
    The rows, for people: numbers, texts, lists and structs as Python's own; dates, times, intervals, bytes and unions
    as the text that DuckDB writes, since Python has no infinity and no year 290000.
    """
    with duckdb.connect(":memory:") as connection:
        numbered = connection.from_arrow(result.rename_columns([f"c{number}" for number in range(result.num_columns)]))
        held = [_mapped(kind, PLAIN.__contains__) for kind in numbered.types]
        if held == numbered.types:
            return result.to_pylist()  # type: ignore[no-any-return]
        columns = [
            duckdb.ColumnExpression(name).cast(kind).alias(name)
            for name, kind in zip(numbered.columns, held, strict=True)
        ]
        return numbered.select(*columns).to_arrow_table().rename_columns(result.column_names).to_pylist()  # type: ignore[no-any-return]


def _mapped(kind: Any, holds: Callable[[str], bool]) -> Any:
    """One of DuckDB's types with text for whatever in it is of a type that cannot be held."""
    if kind.id == "list":
        return duckdb.list_type(_mapped(kind.children[0][1], holds))
    if kind.id == "array":
        return duckdb.array_type(_mapped(kind.children[0][1], holds), kind.children[1][1])
    if kind.id == "map":
        return duckdb.map_type(*(_mapped(child, holds) for _, child in kind.children))
    if kind.id == "struct" and kind.children:
        return duckdb.struct_type({name: _mapped(child, holds) for name, child in kind.children})
    return kind if kind.id == "struct" or holds(kind.id) else duckdb.sqltypes.VARCHAR


def refuse_output(output: Path, store: Store) -> None:
    """Raises UserError unless a query's result may be written there: to a file, and to none of the workspace's own."""
    target = Path(os.path.realpath(output))
    # The store may be a link: what belongs to it lies beside the link, or beside the file.
    for home in (Path(os.path.realpath(store.path)), Path(os.path.realpath(store.path.parent)) / store.path.name):
        if target.is_relative_to(home.parent) and target != home.parent:
            first = target.relative_to(home.parent).parts[0].casefold()
            if first.startswith(home.name.casefold()) or first in KEPT:
                raise UserError(f"{output}: belongs to the workspace, and would be lost; name another file")
    with suppress(OSError):  # what cannot be looked at is told when it is written
        if not stat.S_ISREG(output.stat().st_mode):
            raise UserError(f"{output}: is no file (a folder, a device?); name a file")


def write_result(result: "pyarrow.Table", output_format: str, output: Path | None) -> None:
    """
    Write a result as csv, json (an array of objects) or parquet: to a file that appears when it is complete, or (not
    parquet) to standard output. Texts go out as they are, but for characters that a terminal would obey or hide where
    standard output is one: they become escapes. JSON has no NaN and no infinity: they become null.

    Raises UserError if parquet has no file to go to or no room for a type, or the file cannot be there; StoreError if
    the disk fails.
    """
    if output is None:
        if output_format == "parquet":
            raise UserError("parquet is not for the screen; name a file with --output FILE")
        unicode = (sys.stdout.encoding or "").lower().startswith("utf")
        for text in _as_text(result, output_format, ensure_ascii=not unicode, for_terminal=sys.stdout.isatty()):
            sys.stdout.write(text)
        return
    partial = output.with_name(f".{output.name}.partial")
    try:
        if output_format == "parquet":
            _write_parquet(result, partial)
        else:
            with partial.open("w", encoding="utf-8") as file:
                file.writelines(_as_text(result, output_format, ensure_ascii=False, for_terminal=False))
        partial.replace(output)
    except OSError as error:
        kind = UserError if error.errno in WRONG_PATH else StoreError
        raise kind(f"{output}: cannot be written ({error.strerror})") from None
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)


def _write_parquet(result: "pyarrow.Table", path: Path) -> None:
    import pyarrow
    from pyarrow import parquet

    try:
        parquet.write_table(result, path, compression="zstd")
    except (pyarrow.ArrowInvalid, pyarrow.ArrowNotImplementedError) as error:
        raise UserError(f"parquet cannot hold this result: {error}; cast the column to VARCHAR") from None


def _as_text(result: "pyarrow.Table", output_format: str, *, ensure_ascii: bool, for_terminal: bool) -> Iterator[str]:
    """The text of a file, in pieces: no more than some thousand rows are Python's objects at a time."""
    slices = (rows_of(result.slice(start, SLICE)) for start in range(0, result.num_rows, SLICE))

    def as_json(value: Any, indent: int | None = None) -> str:
        text = json.dumps(finite(value), ensure_ascii=ensure_ascii, default=str, indent=indent, allow_nan=False)
        return _visible_json(text) if for_terminal else text

    if output_format == "json":
        before = "[\n "
        for rows in slices:
            for row in rows:
                yield before + as_json(row, indent=1).replace("\n", "\n ")
                before = ",\n "
        yield "\n]\n" if result.num_rows else "[]\n"
        return

    def as_field(value: Any) -> Any:
        if isinstance(value, (list, dict)):
            return as_json(value)
        return printable(value) if for_terminal and isinstance(value, str) else value

    for names_or_rows in ([dict(zip(result.column_names, result.column_names, strict=True))], *slices):
        yield "".join(_csv_line(map(as_field, row.values())) for row in names_or_rows)


def _csv_line(fields: Iterable[Any]) -> str:
    """A line that ends as shells expect it. (A writer told so would leave a carriage return in a text unquoted.)"""
    line = io.StringIO()
    csv.writer(line).writerow(fields)
    return line.getvalue().removesuffix("\r\n") + "\n"


def _visible_json(text: str) -> str:
    """The same JSON with what a terminal would obey or hide as JSON's own escapes."""
    return "".join(char if printable(char) == char else json.dumps(char)[1:-1] for char in text)


def _reason(error: duckdb.Error) -> str:
    lines = [line.strip() for line in str(error).splitlines()]
    return " ".join(line for line in lines if line and not line.startswith(("LINE ", "^")))


if __name__ == "__main__":
    main()
