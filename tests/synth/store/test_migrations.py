"""Migrations: each once, in order, all or nothing; a store from the future is refused."""

import shutil
from pathlib import Path

import pytest

from synth.records import StoreError, StoreTooNew
from synth.store import migrate
from synth.store.connection import Store


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the schema's history, to be added to."""
    copy = tmp_path / "history"
    copy.mkdir()
    shutil.copytree(migrate.FOLDER / "migrations", copy / "migrations")
    shutil.copy(migrate.FOLDER / migrate.VIEWS, copy)
    return copy


def columns(store: Store, table: str) -> set[str]:
    with store.read() as cursor:
        rows = cursor.execute("SELECT column_name FROM duckdb_columns() WHERE table_name = ?", [table]).fetchall()
    return {name for (name,) in rows}


def test_a_new_migration_is_applied_once_and_keeps_the_data(store: Store, folder: Path) -> None:
    (folder / "migrations" / "0099_mood.sql").write_text("ALTER TABLE review ADD COLUMN mood VARCHAR DEFAULT 'calm';")
    for _ in range(2):
        with store._lease(writing=True) as cursor:
            migrate.migrate(cursor, backup=None, folder=folder)
    assert "mood" in columns(store, "review")


def test_a_migration_that_fails_leaves_the_store_as_it_was(store: Store, folder: Path) -> None:
    before = columns(store, "review")
    (folder / "migrations" / "0098_fine.sql").write_text("ALTER TABLE review ADD COLUMN mood VARCHAR;")
    (folder / "migrations" / "0099_broken.sql").write_text("ALTER TABLE nonsense ADD COLUMN mood VARCHAR;")
    with pytest.raises(StoreError, match="could not be brought up to date"), store._lease(writing=True) as cursor:
        migrate.migrate(cursor, backup=None, folder=folder)
    assert columns(store, "review") == before


@pytest.mark.parametrize(
    "row", ["(99, '0099_future.sql', 'x', now()::TIMESTAMP)", "(1, 'x.sql', 'y', now()::TIMESTAMP)"]
)
def test_a_store_from_a_newer_skiff_is_refused(store: Store, row: str) -> None:
    with store.write() as cursor:
        cursor.execute(f"INSERT INTO schema_migration VALUES {row}")
    with pytest.raises(StoreTooNew, match="written by a newer Skiff"):
        Store.open(store.path)


def test_a_store_with_older_views_is_brought_up_to_date_after_a_copy(store: Store) -> None:
    with store.write() as cursor:
        cursor.execute("DROP VIEW lineage")
        cursor.execute("INSERT INTO schema_migration VALUES (0, 'views.sql', 'older', now()::TIMESTAMP)")
    reopened = Store.open(store.path)
    with reopened.read() as cursor:
        cursor.execute("FROM lineage").fetchall()
    assert store.path.with_name("store.duckdb.before-migration").exists()


def test_the_file_can_be_read_by_duckdb_1_5(store: Store) -> None:
    with store.read() as cursor:
        rows = cursor.execute("SELECT tags['storage_version'] FROM duckdb_databases() WHERE database_name = 'store'")
        assert rows.fetchall()[0][0].startswith("v1.5.0")
