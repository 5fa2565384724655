"""
What DuckDB is told and what it answers: attaching a store to an in-memory instance, and its failures as one line each.

A store is one DuckDB file, or (a path that ends in .ducklake) a DuckLake: a catalogue file, and a folder of Parquet
files beside it, named like it with .files.
"""

import os
import re
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

import duckdb

from synth.records import StoreError, StoreLocked, UserError

STORAGE_VERSION = "v1.5.0"  # so that every DuckDB from 1.5 on can read the file
# A quarter of DuckDB's own: a lease of a bulk import fills four, and every core compresses one. With DuckDB's own an
# import of 100,000 samples takes 1.4 times as long on two cores; these take 2 % more space, until it is compacted.
ROW_GROUP = 30_720
LAKE_SUFFIX = ".ducklake"
LAKE_REMEDY = "install it with: pip install 'skiff-embeddings[lake]'"
MEMORY_SHARE = 0.6  # of the machine's memory that SQL we did not write may take
# What a full disk, a truncated file or flipped bits make DuckDB raise, beside what `is_unreadable` knows; anything else
# is a mistake of ours.
DAMAGE = (
    duckdb.IOException,
    duckdb.FatalException,
    duckdb.InternalException,
    duckdb.OutOfMemoryException,
    duckdb.SerializationException,
    duckdb.TransactionException,
)
LOG_START = b"\x64\x00\x62"  # the first record of DuckDB's write-ahead log: its version


class HeldOutside(StoreLocked):
    """A program that knows nothing of our lock has the file open. `who` names it."""

    def __init__(self, path: Path, who: str) -> None:
        super().__init__(f"{path}: {who} has the file open outside Skiff; close it and run again")
        self.who = who


class Damaged(StoreError):
    """The store's file fails, or does not hold what was written to it. `reason` is DuckDB's."""

    def __init__(self, message: str, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


def is_lake(path: Path) -> bool:
    """Whether the store at this path is a DuckLake."""
    return path.suffix == LAKE_SUFFIX


def lake_files(path: Path) -> Path:
    """The folder of a DuckLake's Parquet files."""
    return path.with_name(f"{path.name}.files")


def new_instance(path: Path) -> duckdb.DuckDBPyConnection:
    """
    An in-memory instance for a store; results that do not fit into memory go to a folder beside it, of this process.

    Raises UserError if the store is a DuckLake and DuckDB's extension for it is not installed.
    """
    spill = path.with_name(f".{path.name}.{os.getpid()}.spill")
    return _instance(path, {"temp_directory": str(spill)})


def new_sandbox(path: Path) -> duckdb.DuckDBPyConnection:
    """An in-memory instance that reaches no variable of this process, writes nothing, and has its share of memory."""
    memory = int(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") * MEMORY_SHARE)
    settings: dict[str, str | bool] = {
        "python_enable_replacements": False,
        "temp_directory": "",
        "memory_limit": f"{memory >> 20}MiB",
    }
    return _instance(path, settings)


def close_sandbox(connection: duckdb.DuckDBPyConnection, path: Path) -> None:
    """Take away all but the store that is attached: files, other databases, extensions, and the way back."""
    if is_lake(path):
        catalogue = path.resolve()
        connection.execute(f"SET allowed_directories = [{quoted(f'{lake_files(catalogue)}/')}]")
        connection.execute(f"SET allowed_paths = [{quoted(str(catalogue))}, {quoted(f'{catalogue}.wal')}]")
    connection.execute("SET enable_external_access = false")
    if not is_lake(path):  # what is attached stays readable, but not as a file: that would open it a second time
        connection.execute("SET disabled_filesystems = 'LocalFileSystem'")
    connection.execute("SET lock_configuration = true")


def _instance(path: Path, settings: Mapping[str, str | bool]) -> duckdb.DuckDBPyConnection:
    # Nothing is fetched from the network behind the user's back.
    instance = duckdb.connect(":memory:", config={"autoinstall_known_extensions": False, **settings})
    if is_lake(path):
        _load_lake(instance)
    return instance


def _load_lake(instance: duckdb.DuckDBPyConnection) -> None:
    """Load DuckDB's ducklake extension: the packaged one if it fits this DuckDB, else one that was installed."""
    package = find_spec("duckdb_extension_ducklake")
    folders = package.submodule_search_locations or () if package else ()
    places = [Path(each) / "extensions" / f"v{duckdb.__version__}" / "ducklake.duckdb_extension" for each in folders]
    packaged = next((place for place in places if place.is_file()), None)
    try:
        instance.execute(f"LOAD {quoted(str(packaged))}" if packaged else "LOAD ducklake")
    except duckdb.Error:
        raise UserError(
            f"a DuckLake store needs DuckDB's ducklake extension for DuckDB {duckdb.__version__}; {LAKE_REMEDY}"
        ) from None


def attach(cursor: duckdb.DuckDBPyConnection, path: Path, *, writing: bool, files: Path | None = None) -> None:
    """
    Attach the store at `path` as `store` and use it. `files` is the folder of a DuckLake's files, if not the usual one.

    Raises HeldOutside if another program has it open, StoreError if it is damaged or no database.
    """
    refuse_foreign_log(path)
    options = [] if writing else ["READ_ONLY"]
    name = str(path)
    if is_lake(path):
        name = f"ducklake:{name}"
        options += [f"DATA_PATH {quoted(f'{files or lake_files(path)}/')}", "OVERRIDE_DATA_PATH true"]
    elif writing:
        options += [f"ROW_GROUP_SIZE {ROW_GROUP}"]
        options += [f"STORAGE_VERSION '{STORAGE_VERSION}'"] if not path.exists() else []
    stated = f"({', '.join(options)})" if options else ""
    try:
        cursor.execute(f"ATTACH {quoted(name)} AS store {stated}")
        cursor.execute("USE store")
    except duckdb.Error as error:
        raise explained(error, path) from None


def detach(cursor: duckdb.DuckDBPyConnection, path: Path) -> None:
    """Let go of the store, if it is attached; what is in its log goes into the file. StoreError if it cannot."""
    try:
        cursor.execute("USE memory")
        cursor.execute("DETACH DATABASE IF EXISTS store")
    except duckdb.Error as error:
        raise explained(error, path) from None


def fold_log(cursor: duckdb.DuckDBPyConnection, path: Path) -> None:
    """
    Bring the file of a store that is attached nowhere, and locked, to a state in which it needs no log beside it.

    Raises StoreError if there is no room for that.
    """
    try:
        cursor.execute(f"ATTACH {quoted(str(path))} AS file")
        try:
            cursor.execute("CHECKPOINT file")
        finally:
            cursor.execute("DETACH file")
    except duckdb.Error as error:
        raise explained(error, path) from None
    # A log that is still there holds no commit (a crash left it), and would not fit another file of this name.
    path.with_name(f"{path.name}.wal").unlink(missing_ok=True)


def tables_of(cursor: duckdb.DuckDBPyConnection, database: str) -> list[str]:
    """The names of the tables of an attached database."""
    names = cursor.execute(
        "SELECT table_name FROM duckdb_tables() WHERE database_name = ? ORDER BY table_name", [database]
    ).fetchall()
    return [str(name) for (name,) in names]


def read_every_value(cursor: duckdb.DuckDBPyConnection, table: str) -> int:
    """
    Read every value of a table of the attached store, for DuckDB looks at a block's checksum when it reads the block.
    Returns the number of rows.
    """
    [row] = cursor.execute(f'SELECT count(*), bit_xor(hash(COLUMNS(*))) FROM store."{table}"').fetchall()
    return int(row[0])


def refuse_foreign_log(path: Path) -> None:
    """
    Raises StoreError if the log beside the store is not one that DuckDB wrote: DuckDB would pass it over in silence,
    and with it what was committed last. A log of zeros, or of a few bytes, is what a crash left before any commit.
    """
    log = path.with_name(f"{path.name}.wal")
    try:
        with log.open("rb") as file:
            start = file.read(len(LOG_START))
    except FileNotFoundError:
        return
    except OSError as error:
        raise StoreError(f"{log}: cannot be read ({error.strerror}); check its owner and permissions") from None
    if len(start) == len(LOG_START) and start != LOG_START and any(start):
        raise StoreError(
            f"{log}: not a log of DuckDB, so what was committed last may be lost; move it away, run again and look with"
            " `synth store verify`"
        )


def is_damage(error: duckdb.Error) -> bool:
    """Whether the disk or the file made DuckDB fail, not our SQL."""
    first = _first(error)
    return isinstance(first, DAMAGE) or is_unreadable(first)


def is_unreadable(error: duckdb.Error) -> bool:
    """Whether DuckDB could not read the store's files, whatever SQL it ran."""
    text = str(error)
    if type(error) is duckdb.Error:  # DuckDB's class for corrupt data has none in Python
        return "corrupt" in text.lower()
    in_lake_file = isinstance(error, duckdb.InvalidInputException) and f"{LAKE_SUFFIX}.files/" in text
    return isinstance(error, duckdb.IOException) or in_lake_file


def _first(error: duckdb.Error) -> duckdb.Error:
    """What failed first: tidying up in a transaction that failed fails too, and would hide it."""
    while isinstance(error.__context__, duckdb.Error):
        error = error.__context__
    return error


def explained(error: duckdb.Error, path: Path) -> StoreError:
    """One line for a failure of DuckDB: what, where and the remedy."""
    error = _first(error)
    text = str(error)
    first_line = text.split("\n", 1)[0].removeprefix("IO Error: ").removeprefix("TransactionContext Error: ")
    if "Could not set lock" in text or "Conflicting lock" in text:
        holder = re.search(r"\(PID (\d+)\)", text)
        return HeldOutside(path, f"process {holder[1]}" if holder else "another program")
    if "Unique file handle conflict" in text:
        return StoreLocked(f"{path}: this program has the file open outside Skiff (duckdb.connect?); close that first")
    if "not a valid DuckDB database" in text:
        return StoreError(
            f"{path}: not a Skiff store (not a DuckDB file); restore a copy, or move it away and start anew"
        )
    if "corrupt database file" in text.lower():
        return Damaged(f"{path}: is damaged ({first_line}); go back to a backup, as docs/store.md says", first_line)
    if "WAL" in text and "CHECKPOINT" not in text:
        return StoreError(
            f"{path}.wal: does not belong to the store beside it, or is damaged; if the store was put there from a"
            " copy, delete this file, else restore a copy"
        )
    if "CHECKPOINT" in text:
        return StoreError(
            f"{path}: no room to finish writing; what was committed is kept: free some disk and run again"
        )
    if re.search("no space left|disk space", text, re.IGNORECASE):
        return StoreError(f"{path}: the disk is full ({first_line}); free some and run again")
    return Damaged(
        f"{path}: the store failed: {first_line}; check disk and permissions, and if it fails again, restore a copy",
        first_line,
    )


def quoted(text: str) -> str:
    """A text as SQL writes it."""
    return "'" + text.replace("'", "''") + "'"
