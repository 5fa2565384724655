"""
The schema as a numbered history: migrations/NNNN_name.sql, applied once each, in order, in one transaction.

Every applied file's checksum is kept, and a store that holds a number or a checksum that this code does not know is
refused: it was made by a newer (or another) Skiff. Views carry no data and are made anew whenever views.sql changes.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import duckdb

from synth.records import StoreError, StoreTooNew

FOLDER = Path(__file__).parent
VIEWS = "views.sql"


@dataclass(frozen=True)
class Migration:
    """One file of the history."""

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


def _views(folder: Path = FOLDER) -> Migration:
    return Migration(0, VIEWS, (folder / VIEWS).read_text(encoding="utf-8"))


def refuse_unless_current(cursor: duckdb.DuckDBPyConnection, path: Path) -> bool:
    """
    Whether the store is up to date with this code.

    Raises StoreTooNew if it holds a migration this code does not know, StoreError if it is no store of ours.
    """
    tables = {name for (name,) in cursor.execute("SELECT table_name FROM duckdb_tables()").fetchall()}
    if "schema_migration" not in tables:
        raise StoreError(f"{path}: a DuckDB file, but not a Skiff store; choose another folder")
    known = {migration.number: migration for migration in history()}
    applied = _applied(cursor)
    for number, (name, checksum) in applied.items():
        if number and (number not in known or known[number].checksum != checksum):
            raise StoreTooNew(f"{path}: written by a newer Skiff (it has {name}); upgrade skiff-embeddings to open it")
    return set(known) <= set(applied) and applied.get(0, ("", ""))[1] == _views().checksum


def _applied(cursor: duckdb.DuckDBPyConnection) -> dict[int, tuple[str, str]]:
    rows = cursor.execute("SELECT number, name, checksum FROM schema_migration ORDER BY applied_at").fetchall()
    return {number: (name, checksum) for number, name, checksum in rows}


def migrate(cursor: duckdb.DuckDBPyConnection, *, backup: Path | None, folder: Path = FOLDER) -> None:
    """
    Apply what is pending, and the views, in one transaction. `backup` is where the store was copied before.

    Raises StoreError, with the store as it was, if a migration fails.
    """
    cursor.execute("BEGIN TRANSACTION")
    try:
        cursor.execute(
            "CREATE TABLE IF NOT EXISTS schema_migration"
            " (number INTEGER, name VARCHAR, checksum VARCHAR, applied_at TIMESTAMP)"
        )
        applied = _applied(cursor)
        for migration in [*(m for m in history(folder) if m.number not in applied), _views(folder)]:
            cursor.execute(migration.sql)
            cursor.execute(
                "INSERT INTO schema_migration VALUES (?, ?, ?, current_timestamp AT TIME ZONE 'UTC')",
                [migration.number, migration.name, migration.checksum],
            )
        cursor.execute("COMMIT")
    except duckdb.Error as error:
        cursor.execute("ROLLBACK")
        kept = f"; a copy made before is {backup}" if backup else ""
        raise StoreError(f"the store could not be brought up to date: {str(error).splitlines()[0]}{kept}") from None
