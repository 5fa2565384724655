"""Upkeep: what `backup` and `compact` make is the store, and nobody ever sees half of it."""

import os
import random
import subprocess
import sys
import threading
import time
from datetime import timedelta
from pathlib import Path

import duckdb
import pytest

from synth.records import Draft, Retrieval, Source, StoreError, StoreLocked, UserError, new_id
from synth.store import copies, samples
from synth.store.connection import Store
from synth.store.rows import insert, now
from synth.store.upkeep import back_up, compact
from synth.store.verify import verify
from tests.synth.store.damaging import damage, damage_table, fill, num_blocks


def add(store: Store, source: Source, start: int, number: int) -> None:
    drafts = [
        Draft(Retrieval(f"query {index}", (f"passage {index} " * 50,)), source.source_id, "query")
        for index in range(start, start + number)
    ]
    with store.write() as cursor:
        samples.add_drafts(cursor, drafts, new_id())


def num_samples(store: Store) -> int:
    with store.read() as cursor:
        return len(cursor.execute("SELECT sample_id FROM samples").fetchall())


@pytest.fixture
def filled(store: Store, training_source: Source) -> Store:
    """A store with free space in it: many small commits, and what was thrown away since."""
    with store.write() as cursor:
        cursor.execute(
            "CREATE TABLE rubbish AS SELECT uuid() AS id, repeat(uuid()::VARCHAR, 50) AS text FROM range(3000)"
        )
    for index in range(5):
        add(store, training_source, 40 * index, 40)
    with store.write() as cursor:
        cursor.execute("DROP TABLE rubbish")
    return store


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_compacted_store_is_smaller_and_the_same(filled: Store) -> None:
    def everything() -> list[object]:
        with filled.read() as cursor:
            tables = ("revision", "sample_state", "source", "schema_migration", "samples")
            return [cursor.execute(f"FROM {table} ORDER BY ALL").fetchall() for table in tables]

    before = everything()
    os.chmod(filled.path, 0o640)
    outcome = compact(filled)
    assert outcome.size_after < outcome.size_before / 2
    assert outcome.size_after == filled.path.stat().st_size
    assert everything() == before
    assert filled.path.stat().st_mode & 0o777 == 0o640
    assert names(filled.path.parent) == ["store.duckdb", "store.duckdb.lock", "store.duckdb.turn"]
    assert num_samples(Store.open(filled.path)) == 200
    with filled.read() as cursor:
        tags = cursor.execute("SELECT tags['storage_version'] FROM duckdb_databases() WHERE database_name = 'store'")
        assert tags.fetchall()[0][0].startswith("v1.5.0")


def test_compacting_drops_claims_that_expired_and_keeps_the_others(filled: Store) -> None:
    with filled.write() as cursor:
        rows = [
            {"sample_id": new_id(), "reviewer": name, "expires_at": now() + timedelta(minutes=minutes)}
            for name, minutes in (("ada", -5), ("bo", 5), ("cy", -1))
        ]
        insert(cursor, "claim", rows)
    assert compact(filled).num_claims_dropped == 2
    with filled.read() as cursor:
        assert cursor.execute("SELECT reviewer FROM claim").fetchall() == [("bo",)]


def test_a_compacted_store_is_where_other_open_stores_look(filled: Store, training_source: Source) -> None:
    other = Store.open(filled.path)
    assert num_samples(other) == 200
    compact(filled)
    add(other, training_source, 1000, 1)
    assert num_samples(filled) == 201


def test_a_link_to_the_store_stays_a_link(filled: Store, tmp_path: Path) -> None:
    elsewhere = tmp_path / "disk"
    elsewhere.mkdir()
    filled.path.rename(elsewhere / "store.duckdb")
    filled.path.symlink_to(elsewhere / "store.duckdb")
    compact(filled)
    assert filled.path.is_symlink()
    assert num_samples(filled) == 200


def test_compacting_waits_for_who_is_inside(filled: Store) -> None:
    compacting = threading.Thread(target=compact, args=(Store(filled.path),))
    with filled.read() as cursor:
        compacting.start()
        compacting.join(timeout=0.3)
        assert compacting.is_alive()
        assert len(cursor.execute("SELECT sample_id FROM samples").fetchall()) == 200
    compacting.join()


def test_a_program_outside_skiff_that_opens_the_file_meanwhile_stops_the_copy(filled: Store, tmp_path: Path) -> None:
    script = "import duckdb, sys, time\nheld = duckdb.connect(sys.argv[1])\nprint('open', flush=True)\ntime.sleep(60)\n"
    with filled.exclusive():
        shell = subprocess.Popen([sys.executable, "-c", script, str(filled.path)], stdout=subprocess.PIPE)
        assert shell.stdout is not None
        shell.stdout.readline()
        try:
            with pytest.raises(StoreLocked, match="a program outside Skiff has opened the file"):
                copies.copy_store(filled.path, tmp_path / "copy.duckdb")
        finally:
            shell.kill()
            shell.wait()
            shell.stdout.close()


def test_without_room_for_a_second_store_nothing_begins(
    filled: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = type("Usage", (), {"free": 1000})
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage)
    for work in (lambda: compact(filled), lambda: back_up(filled, tmp_path / "copy.duckdb")):
        with pytest.raises(StoreError, match=r"a copy needs [\d.]+ MB of disk, and 0\.0 MB are free"):
            work()
    assert names(tmp_path) == ["store.duckdb", "store.duckdb.lock", "store.duckdb.turn"]


def test_a_backup_is_the_store_at_that_moment(filled: Store, training_source: Source, tmp_path: Path) -> None:
    outcome = back_up(filled, tmp_path / "copy.duckdb")
    assert outcome.size == filled.path.stat().st_size
    assert outcome.num_rows > 400
    add(filled, training_source, 1000, 3)
    assert num_samples(Store.open(tmp_path / "copy.duckdb")) == 200
    assert num_samples(filled) == 203


def test_a_backup_has_what_a_killed_writer_left_in_the_log(filled: Store, tmp_path: Path) -> None:
    script = (
        "import duckdb, os, signal, sys\nconnection = duckdb.connect(sys.argv[1])\n"
        "connection.execute('UPDATE sample_state SET difficulty = 3')\nos.kill(os.getpid(), signal.SIGKILL)\n"
    )
    subprocess.run([sys.executable, "-c", script, str(filled.path)], check=False)
    assert filled.path.with_name("store.duckdb.wal").exists()
    back_up(filled, tmp_path / "copy.duckdb")
    with duckdb.connect(str(tmp_path / "copy.duckdb"), read_only=True) as connection:
        assert connection.execute("SELECT DISTINCT difficulty FROM sample_state").fetchall() == [(3,)]


def test_of_a_damaged_store_no_copy_is_made_and_nothing_is_left(store: Store, tmp_path: Path) -> None:
    fill(store)
    damage_table(store, "text", "text")
    before = store.path.read_bytes()
    for work in (lambda: compact(store), lambda: back_up(store, tmp_path / "copy.duckdb")):
        with pytest.raises(StoreError, match=r"/store\.duckdb: is damaged \(Corrupt .*\); go back to a backup"):
            work()
    assert names(tmp_path) == ["store.duckdb", "store.duckdb.lock", "store.duckdb.turn"]
    assert store.path.read_bytes() == before


def test_a_copy_that_its_disk_damages_gets_no_name(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(store)

    def copy_badly(path: Path, copy: Path) -> None:
        copies.copy_file(path, copy)
        damage(copy, num_blocks(copy) - 1)

    monkeypatch.setattr("synth.store.upkeep.copy_file", copy_badly)
    with pytest.raises(StoreError, match=r"copy\.duckdb: the copy cannot be read \(Corrupt .*nothing of it is kept"):
        back_up(store, tmp_path / "copy.duckdb")
    assert names(tmp_path) == ["store.duckdb", "store.duckdb.lock", "store.duckdb.turn"]


@pytest.mark.parametrize(
    ("target", "line"),
    [
        ("taken.duckdb", "is there already; name another file"),
        ("dangling.duckdb", "is there already"),
        ("nowhere/copy.duckdb", "its folder is not there"),
        ("copy.zip", r"must end in \.duckdb"),
        ("copy.ducklake", r"must end in \.duckdb"),
    ],
)
def test_a_backup_that_cannot_be_is_one_line_and_overwrites_nothing(
    filled: Store, tmp_path: Path, target: str, line: str
) -> None:
    (tmp_path / "taken.duckdb").write_text("mine")
    (tmp_path / "dangling.duckdb").symlink_to(tmp_path / "nowhere")
    with pytest.raises(UserError, match=line):
        back_up(filled, tmp_path / target)
    assert (tmp_path / "taken.duckdb").read_text() == "mine"


def test_copies_killed_at_any_moment_leave_a_whole_store_and_the_next_one_tidies_up(
    filled: Store, tmp_path: Path
) -> None:
    seed = random.SystemRandom().randrange(1 << 30)
    print(f"seed {seed}")  # noqa: T201, shown when the test fails
    chance = random.Random(seed)
    script = (
        "import sys\nfrom pathlib import Path\nfrom synth.store.connection import Store\n"
        "from synth.store.upkeep import back_up, compact\n"
        "store = Store(Path(sys.argv[1]))\nprint('ready', flush=True)\n"
        "while True:\n    compact(store)\n    copy = Path(sys.argv[1]).with_name('copy.duckdb')\n"
        "    back_up(store, copy)\n    copy.unlink()\n"
    )
    for _ in range(8):
        process = subprocess.Popen([sys.executable, "-c", script, str(filled.path)], stdout=subprocess.PIPE)
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(chance.uniform(0, 0.2))
        process.kill()
        process.wait()
        process.stdout.close()
        copy = tmp_path / "copy.duckdb"
        if copy.exists():
            assert num_samples(Store.open(copy)) == 200
            copy.unlink()
        assert num_samples(Store.open(filled.path)) == 200
    back_up(filled, tmp_path / "copy.duckdb")
    (tmp_path / f".store.duckdb.{2**22 + 1}.spill").mkdir()  # no process has such a number
    compact(filled)
    assert [name for name in names(tmp_path) if "partial" in name or "spill" in name or "wal" in name] == []
    assert [problem for problem in verify(filled) if "run" not in problem.rule] == []
