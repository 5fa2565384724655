"""Migrations: each once, in order, all or nothing, from every version; a store from the future is refused."""

import random
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import duckdb
import pytest

from synth.records import Draft, Retrieval, ReviewEvent, Source, StoreError, StoreTooNew, Verdict, new_id
from synth.store import migrate, samples
from synth.store.connection import Store
from synth.store.engine import attach
from synth.store.queues import Queue, cards
from synth.store.reviews import add_reviews
from synth.store.seeds import Seeds
from synth.store.verify import verify
from tests.conftest import REPOSITORY

OLD_ROWS = Path(__file__).with_name("store_0001.sql")
VERSIONS = [migration.number for migration in migrate.history()]
OPEN = (
    "import sys\nfrom pathlib import Path\nfrom synth.store.connection import Store\n"
    "print('ready', flush=True)\nStore.open(Path(sys.argv[1]))\n"
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the schema's history, to be added to."""
    copy = tmp_path / "history"
    copy.mkdir()
    shutil.copytree(migrate.FOLDER / "migrations", copy / "migrations")
    for name in (migrate.STATE, migrate.VIEWS):
        shutil.copy(migrate.FOLDER / name, copy)
    return copy


def old_store(path: Path, version: int = 1) -> Path:
    """A store with real rows, as the code of that version left it."""
    with duckdb.connect() as connection:
        connection.execute(f"ATTACH '{path}' AS store (STORAGE_VERSION 'v1.5.0')")
        connection.execute("USE store")
        first, *others = migrate.history()
        connection.execute(first.sql)
        connection.execute(OLD_ROWS.read_text(encoding="utf-8"))
        for migration in others:
            if migration.number <= version:
                connection.execute(migration.sql)
                row = [migration.number, migration.name, migration.checksum]
                connection.execute("INSERT INTO schema_migration VALUES (?, ?, ?, now()::TIMESTAMP)", row)
    return path


def columns(store: Store, table: str) -> set[str]:
    with store.read() as cursor:
        rows = cursor.execute("SELECT column_name FROM duckdb_columns() WHERE table_name = ?", [table]).fetchall()
    return {name for (name,) in rows}


def asked(store: Store, sql: str) -> list[tuple[Any, ...]]:
    with store.read() as cursor:
        return cursor.execute(sql).fetchall()


@pytest.mark.parametrize("version", VERSIONS)
def test_a_store_of_every_version_is_brought_up_to_date_and_works(tmp_path: Path, version: int) -> None:
    store = Store.open(old_store(tmp_path / "store.duckdb", version))
    assert {number for (number,) in asked(store, "SELECT DISTINCT number FROM schema_migration")} == {0, *VERSIONS}
    for (view,) in asked(store, "SELECT view_name FROM duckdb_views() WHERE database_name = 'store' AND NOT internal"):
        asked(store, f"FROM {view}")
    assert verify(store) == []
    assert asked(store, "SELECT count(*) FROM samples WHERE status = 'approved'") > [(20,)]


def test_what_people_said_before_a_migration_counts_after_it_and_can_be_released(tmp_path: Path) -> None:
    store = Store.open(old_store(tmp_path / "store.duckdb"))
    said = asked(store, "SELECT status, count(*) FROM samples WHERE decided_by = 'ada' GROUP BY ALL ORDER BY ALL")
    assert said == [("approved", 4), ("rejected", 1)]
    [(sample_id, revision_id)] = asked(store, "SELECT sample_id, revision_id FROM samples WHERE status = 'rejected'")
    for reviewer in ("bo", "cy"):
        add_reviews(store, [ReviewEvent(new_id(), reviewer, sample_id, revision_id, Verdict.APPROVE)])
    assert asked(store, "SELECT count(*) FROM samples WHERE status = 'rejected'") == [(0,)]
    command = "from synth.cli import main; main()"
    release = [sys.executable, "-c", command, "release", "create", "second", "-w", str(tmp_path)]
    subprocess.run(release, cwd=REPOSITORY, check=True, capture_output=True)
    assert asked(store, "SELECT name FROM releases ORDER BY created_at") == [("first",), ("second",)]


def test_passages_that_were_done_before_samples_could_be_seeds_are_done_after(tmp_path: Path) -> None:
    store = Store.open(old_store(tmp_path / "store.duckdb", version=6))
    [(stage_key, num_done)] = asked(store, "SELECT stage_key, count(DISTINCT seed_id) FROM generated GROUP BY ALL")
    num_pending = [len(Seeds().pending(store, key, limit=None)) for key in (new_id(), stage_key)]
    assert num_done > 0 and num_pending[0] - num_pending[1] == num_done
    assert asked(store, "SELECT count(*) FROM generations JOIN passages ON text_id = seed_id") == [(num_done,)]


def test_negatives_and_minings_of_before_say_nothing_of_what_is_stored_since(tmp_path: Path) -> None:
    store = Store.open(old_store(tmp_path / "store.duckdb", version=10))
    since = "miners, num_votes, relevance, positive_relevance, positive_similarity, overlap, flags, relaxed"
    assert set(asked(store, f"SELECT {since} FROM negatives")) == {(None,) * 8}
    since = "positive_score, num_candidates, num_capped, fallen"
    assert set(asked(store, f"SELECT {since} FROM minings")) == {(None,) * 4}
    assert asked(store, "FROM mining_candidates") == asked(store, "FROM run_steps") == []
    assert cards(store, reviewer="cy", queue=Queue.FLAGGED) == []
    assert {each.flags for card in cards(store, reviewer="cy") for each in card.negatives} <= {()}


def test_the_copy_made_before_is_the_old_store(tmp_path: Path) -> None:
    path = old_store(tmp_path / "store.duckdb")
    Store.open(path)
    with duckdb.connect(str(path.with_name("store.duckdb.before-migration")), read_only=True) as connection:
        assert connection.execute("SELECT max(number) FROM schema_migration").fetchall() == [(1,)]
        assert connection.execute("SELECT count(*) FROM revision").fetchall() == [(40,)]


def test_two_processes_that_open_an_old_store_at_once_migrate_it_once(tmp_path: Path) -> None:
    path = old_store(tmp_path / "store.duckdb")
    processes = [subprocess.Popen([sys.executable, "-c", OPEN, str(path)], stdout=subprocess.DEVNULL) for _ in range(2)]
    assert [process.wait() for process in processes] == [0, 0]
    numbers = asked(Store.open(path), "SELECT number FROM schema_migration WHERE number > 0 ORDER BY ALL")
    assert [number for (number,) in numbers] == VERSIONS
    with duckdb.connect(str(path.with_name("store.duckdb.before-migration")), read_only=True) as connection:
        assert connection.execute("SELECT max(number) FROM schema_migration").fetchall() == [(1,)]


def test_a_migration_killed_at_any_moment_leaves_the_old_store_or_the_new_one(tmp_path: Path) -> None:
    path = tmp_path / "store.duckdb"
    seed = random.SystemRandom().randrange(1 << 30)
    print(f"seed {seed}")  # noqa: T201, shown when the test fails
    chance = random.Random(seed)
    for _ in range(8):
        for leftover in tmp_path.iterdir():
            leftover.unlink()
        old_store(path)
        process = subprocess.Popen([sys.executable, "-c", OPEN, str(path)], stdout=subprocess.PIPE)
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(chance.uniform(0, 0.25))
        process.kill()
        process.wait()
        process.stdout.close()
        store = Store.open(path)
        assert asked(store, "SELECT count(*) FROM revision") == [(40,)]
        assert verify(store) == []


def test_a_migration_that_fails_keeps_the_file_and_the_copy_and_says_where(tmp_path: Path) -> None:
    path = old_store(tmp_path / "store.duckdb")
    with duckdb.connect(str(path)) as connection:
        connection.execute("ALTER TABLE review ADD COLUMN note VARCHAR")  # as 0002 will
    before = path.read_bytes()
    with pytest.raises(StoreError, match=r"0002_\S+: .*it is as it was, and a copy made before is .*before-migration"):
        Store.open(path)
    assert path.read_bytes() == before
    assert path.with_name("store.duckdb.before-migration").read_bytes() == before


def test_a_new_migration_is_applied_once_and_keeps_the_data(store: Store, folder: Path) -> None:
    (folder / "migrations" / "0099_mood.sql").write_text("ALTER TABLE review ADD COLUMN mood VARCHAR DEFAULT 'calm';")
    for _ in range(2):
        with store.exclusive() as cursor:
            attach(cursor, store.path, writing=True)
            migrate.migrate(cursor, backup=None, folder=folder)
    assert "mood" in columns(store, "review")


def test_of_several_migrations_none_is_kept_if_one_fails(store: Store, folder: Path) -> None:
    before = columns(store, "review")
    (folder / "migrations" / "0098_fine.sql").write_text("ALTER TABLE review ADD COLUMN mood VARCHAR;")
    (folder / "migrations" / "0099_broken.sql").write_text("ALTER TABLE nonsense ADD COLUMN mood VARCHAR;")
    with pytest.raises(StoreError, match=r"could not be brought up to date \(0099_broken"), store.exclusive() as cursor:
        attach(cursor, store.path, writing=True)
        migrate.migrate(cursor, backup=None, folder=folder)
    assert columns(store, "review") == before


@pytest.mark.parametrize(
    ("row", "line"),
    [
        ("(99, '0099_future.sql', 'x', now()::TIMESTAMP)", "written by a newer Skiff"),
        ("(1, '0001_initial.sql', 'y', now()::TIMESTAMP)", "its 0001_initial.sql differs from this one's"),
    ],
)
def test_a_store_from_a_newer_skiff_is_refused(store: Store, row: str, line: str) -> None:
    with store.write() as cursor:
        cursor.execute(f"INSERT INTO schema_migration VALUES {row}")
    with pytest.raises(StoreTooNew, match=line):
        Store.open(store.path)


def test_older_views_are_made_anew_and_dropped_ones_go_without_a_copy_of_the_file(store: Store) -> None:
    with store.write() as cursor:
        cursor.execute("DROP VIEW lineage")
        cursor.execute("CREATE VIEW forgotten AS SELECT 1 AS one")
        cursor.execute("INSERT INTO schema_migration VALUES (0, 'views.sql', 'older', now()::TIMESTAMP)")
    reopened = Store.open(store.path)
    assert asked(reopened, "FROM lineage") == []
    with pytest.raises(duckdb.CatalogException, match="forgotten"):
        asked(reopened, "FROM forgotten")
    assert not store.path.with_name("store.duckdb.before-migration").exists()


def test_statuses_are_derived_anew_when_what_derives_them_changes(store: Store, training_source: Source) -> None:
    with store.write() as cursor:
        draft = Draft(Retrieval("q", ("p",)), training_source.source_id, "query")
        samples.add_drafts(cursor, [draft], new_id())
        cursor.execute("UPDATE sample_state SET status = 'as it was once called'")
        cursor.execute("INSERT INTO schema_migration VALUES (0, 'state.sql', 'older', now()::TIMESTAMP)")
    assert asked(Store.open(store.path), "SELECT status FROM samples") == [("pending",)]


def test_the_file_can_be_read_by_duckdb_1_5(store: Store) -> None:
    sql = "SELECT tags['storage_version'] FROM duckdb_databases() WHERE database_name = 'store'"
    assert asked(store, sql)[0][0].startswith("v1.5.0")


def test_views_are_not_made_anew_for_ever_after_the_clock_went_back(store: Store) -> None:
    with store.write() as cursor:
        cursor.execute(
            "UPDATE schema_migration SET applied_at = applied_at + INTERVAL 1 DAY, checksum = 'old'"
            " WHERE name = 'views.sql'"
        )
    Store.open(store.path)
    once = asked(store, "SELECT count(*) FROM schema_migration WHERE name = 'views.sql'")
    Store.open(store.path)
    assert asked(store, "SELECT count(*) FROM schema_migration WHERE name = 'views.sql'") == once == [(2,)]
