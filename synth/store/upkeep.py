"""
Upkeep: a copy of the store elsewhere, and the store without the free space that many small commits leave behind.

Both keep everybody else out while they work, and can be stopped at any moment: the store is whole, and what was half
made is removed by the next run.
"""

import os
import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb

from synth.records import StoreError, UserError
from synth.store.connection import Store
from synth.store.copies import (
    copy_file,
    copy_lake_files,
    held,
    partial_of,
    put,
    require_room,
    size_of,
)
from synth.store.engine import (
    STORAGE_VERSION,
    Damaged,
    attach,
    detach,
    explained,
    is_lake,
    quoted,
    read_every_value,
    tables_of,
)
from synth.store.rows import now

LIVE_CLAIMS = "expires_at > $now"


@dataclass(frozen=True, slots=True)
class Backup:
    """A copy that was made: where, its bytes and its rows (of all tables)."""

    path: Path
    size: int
    num_rows: int


@dataclass(frozen=True, slots=True)
class Compacted:
    """What `compact` did: bytes before and after, and how many expired claims are gone."""

    size_before: int
    size_after: int
    num_claims_dropped: int


def back_up(store: Store, target: Path) -> Backup:
    """
    Copy the store to `target`, which appears when the copy is complete, on the disk, and every value of it was read.
    A damaged store is not copied.

    To restore it, put it in the store's place while no command runs, and delete the store's log (.wal) if there is one.

    Raises UserError if something is there or its folder is not, StoreError if there is no room, the disk fails or the
    store is damaged.
    """
    if target.suffix != store.path.suffix:
        raise UserError(f"{target}: a copy of {store.path.name} must end in {store.path.suffix} to be opened again")
    if not target.parent.is_dir():
        raise UserError(f"{target}: its folder is not there; make it first")
    with store.exclusive() as cursor:
        if os.path.lexists(target):
            raise UserError(f"{target} is there already; name another file")
        require_room(target.parent, size_of(store.path))
        counts = _read_whole(cursor, store.path)
        with partial_of(target) as partial:
            copy_file(store.path, partial)
            if is_lake(store.path):
                copy_lake_files(store.path, partial)
            try:
                copied = _read_whole(cursor, partial)
            except Damaged as error:
                raise StoreError(
                    f"{target}: the copy cannot be read ({error.reason}); is its disk sound? nothing of it is kept"
                ) from None
            if copied != counts:
                raise StoreError(f"{target}: the copy differs from the store; is the disk sound? nothing of it is kept")
            put(partial, target)
    return Backup(target, size_of(target), sum(counts.values()))


def compact(store: Store) -> Compacted:
    """
    Write the store anew without free space and expired claims, compare the two, and put the new file in its place.

    Raises UserError for a DuckLake, StoreError if there is no room for a second file or the two differ.
    """
    if is_lake(store.path):
        raise UserError(
            f"{store.path}: a DuckLake is not compacted here; see DuckLake's own ducklake_merge_adjacent_files"
        )
    path = store.path.resolve()  # a link stays a link
    with store.exclusive() as cursor:
        _remove_spills(store.path)
        before = path.stat()
        require_room(path.parent, before.st_size)
        with partial_of(path) as partial:
            attach(cursor, path, writing=False)
            num_dropped = _write_anew(cursor, path, partial)
            detach(cursor, path)
            with held(path, writing=True):
                after = path.stat()
                if (after.st_size, after.st_mtime_ns) != (before.st_size, before.st_mtime_ns):
                    raise StoreError(f"{path}: was changed by a program outside Skiff meanwhile; run again")
                shutil.copymode(path, partial)
                with suppress(PermissionError):  # only root can give a file to others
                    os.chown(partial, before.st_uid, before.st_gid)
                put(partial, path)
    return Compacted(before.st_size, path.stat().st_size, num_dropped)


def _write_anew(cursor: duckdb.DuckDBPyConnection, path: Path, fresh: Path) -> int:
    """Copy the attached store at `path` to the file `fresh`. Returns how many expired claims were left out."""
    moment = now()
    try:
        cursor.execute(f"ATTACH {quoted(str(fresh))} AS fresh (STORAGE_VERSION '{STORAGE_VERSION}')")
        try:
            cursor.execute("COPY FROM DATABASE store TO fresh")
            [dropped] = cursor.execute(f"DELETE FROM fresh.claim WHERE NOT {LIVE_CLAIMS}", {"now": moment}).fetchall()
            if _layout(cursor, "fresh") != _layout(cursor, "store") or _counts(cursor, "fresh") != {
                **_counts(cursor, "store"),
                "claim": _count(cursor, "store.claim", LIVE_CLAIMS, {"now": moment}),
            }:
                raise StoreError(
                    f"{fresh}: the new file differs from the store, which is as it was; is the disk sound?"
                )
        except duckdb.Error:
            with suppress(duckdb.Error):  # DuckDB 1.5 leaves the transaction of a COPY that failed open
                cursor.execute("ROLLBACK")
            raise
        finally:
            cursor.execute("DETACH fresh")
    except duckdb.Error as error:
        raise explained(error, path) from None
    return int(dropped[0])


def _read_whole(cursor: duckdb.DuckDBPyConnection, path: Path) -> dict[str, int]:
    """The number of rows of every table, after every value was read. Raises Damaged if one cannot be."""
    attach(cursor, path, writing=False)
    try:
        return {table: read_every_value(cursor, table) for table in tables_of(cursor, "store")}
    except duckdb.Error as error:
        raise explained(error, path) from None
    finally:
        detach(cursor, path)


def _counts(cursor: duckdb.DuckDBPyConnection, database: str) -> dict[str, int]:
    """The number of rows of every table."""
    return {table: _count(cursor, f'{database}."{table}"') for table in tables_of(cursor, database)}


def _count(
    cursor: duckdb.DuckDBPyConnection, table: str, condition: str = "true", values: Mapping[str, Any] | None = None
) -> int:
    [row] = cursor.execute(f"SELECT count(*) FROM {table} WHERE {condition}", values).fetchall()
    return int(row[0])


def _layout(cursor: duckdb.DuckDBPyConnection, database: str) -> list[tuple[Any, ...]]:
    """The columns of every table and view, and the macros."""
    return cursor.execute(
        "SELECT table_name, column_name, column_index, data_type, column_default FROM duckdb_columns()"
        " WHERE database_name = $database UNION ALL"
        " SELECT function_name, array_to_string(parameters, ','), 0, macro_definition, NULL FROM duckdb_functions()"
        " WHERE database_name = $database AND NOT internal ORDER BY ALL",
        {"database": database},
    ).fetchall()


def _remove_spills(path: Path) -> None:
    """Remove what killed processes spilled to the disk (`engine.new_instance` names the folders by process)."""
    for folder in path.parent.glob(f".{path.name}.*.spill"):
        process_id = folder.name.split(".")[-2]
        if process_id.isdigit() and not _is_alive(int(process_id)):
            shutil.rmtree(folder, ignore_errors=True)


def _is_alive(process_id: int) -> bool:
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
