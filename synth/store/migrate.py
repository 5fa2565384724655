"""
The schema as a numbered history: migrations/NNNN_name.sql, applied once each, in order, in one transaction.

Every applied file's checksum is kept, and a store that holds a file or a checksum that this code does not know is
refused: it was made by a newer (or another) Skiff. Two files are no history but this code's word on what follows from
it: state.sql, which derives `sample_state`, and views.sql. Whenever they change, both are made anew.
"""

import hashlib
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import duckdb

from synth.records import StoreError, StoreTooNew

FOLDER = Path(__file__).parent
STATE = "state.sql"
VIEWS = "views.sql"


@dataclass(frozen=True)
class Migration:
    """One file of the history; what follows from it (`STATE`, `VIEWS`) has the number 0."""

    number: int
    name: str
    sql: str

    @property
    def checksum(self) -> str:
        """SHA-256 of the file."""
        return hashlib.sha256(self.sql.encode()).hexdigest()


def history(folder: Path = FOLDER) -> list[Migration]:
    """The migrations this code knows, in order."""
    paths = sorted((folder / "migrations").glob("*.sql"))
    return [Migration(int(path.name[:4]), path.name, path.read_text(encoding="utf-8")) for path in paths]


def behind(cursor: duckdb.DuckDBPyConnection, path: Path) -> list[Migration]:
    """
    What the store at `path` lacks of this code's history, in the order to apply it; none if nothing.

    Raises StoreTooNew if it holds a migration this code does not know, StoreError if it is no store of ours.
    """
    if not cursor.execute(
        "SELECT 1 FROM duckdb_tables() WHERE database_name = 'store' AND table_name = 'schema_migration'"
    ).fetchall():
        raise StoreError(f"{path}: a DuckDB file, but not a Skiff store; choose another folder")
    known = {migration.number: migration for migration in history()}
    applied = cursor.execute("SELECT number, name, checksum FROM schema_migration WHERE number > 0 ORDER BY ALL")
    for number, name, checksum in applied.fetchall():
        if number not in known:
            raise StoreTooNew(f"{path}: written by a newer Skiff (it has {name}); upgrade skiff-embeddings to open it")
        if known[number].checksum != checksum:
            raise StoreTooNew(
                f"{path}: written by another Skiff, or a newer one (its {name} differs from this one's); open it with "
                "the version that made it, or upgrade skiff-embeddings"
            )
    return _pending(cursor)


def _pending(cursor: duckdb.DuckDBPyConnection, folder: Path = FOLDER) -> list[Migration]:
    rows = cursor.execute("SELECT number, name, checksum FROM schema_migration ORDER BY applied_at").fetchall()
    applied = {number for number, _, _ in rows}
    checksums = {name: checksum for _, name, checksum in rows}
    pending = [migration for migration in history(folder) if migration.number not in applied]
    consequences = [Migration(0, name, (folder / name).read_text(encoding="utf-8")) for name in (STATE, VIEWS)]
    return pending + [each for each in consequences if pending or checksums.get(each.name) != each.checksum]


def migrate(cursor: duckdb.DuckDBPyConnection, *, backup: Path | None, folder: Path = FOLDER) -> None:
    """
    Apply what is pending in one transaction. `backup` is where the store was copied before.

    Raises StoreError, with the store as it was, if a migration fails.
    """
    name = ""
    cursor.execute("BEGIN TRANSACTION")
    try:
        cursor.execute(
            "CREATE TABLE IF NOT EXISTS schema_migration"
            " (number INTEGER, name VARCHAR, checksum VARCHAR, applied_at TIMESTAMP)"
        )
        for migration in _pending(cursor, folder):
            name = migration.name
            _apply(cursor, migration)
            # After all others, whatever the clock says: the last row of a name is what is there.
            cursor.execute(
                "INSERT INTO schema_migration SELECT ?, ?, ?, greatest(current_timestamp AT TIME ZONE 'UTC',"
                " max(applied_at) + INTERVAL 1 MICROSECOND) FROM schema_migration",
                [migration.number, migration.name, migration.checksum],
            )
        cursor.execute("COMMIT")
    except duckdb.Error as error:
        with suppress(duckdb.Error):  # a failed commit has ended the transaction itself
            cursor.execute("ROLLBACK")
        kept = f", and a copy made before is {backup}" if backup else ""
        reason = str(error).splitlines()[0]
        raise StoreError(
            f"the store could not be brought up to date ({name}: {reason}); it is as it was{kept}"
        ) from None


def _apply(cursor: duckdb.DuckDBPyConnection, migration: Migration) -> None:
    if migration.name == STATE:
        cursor.execute("DELETE FROM sample_state")
        derived = migration.sql.format(ids="(SELECT DISTINCT sample_id FROM revision)")
        cursor.execute(f"INSERT INTO sample_state BY NAME {derived}")
        return
    if migration.name == VIEWS:  # also those that it no longer makes
        views = "SELECT view_name FROM duckdb_views() WHERE database_name = 'store' AND NOT internal"
        for (name,) in cursor.execute(views).fetchall():
            cursor.execute(f'DROP VIEW "{name}"')
    cursor.execute(migration.sql)
