"""Programs that know nothing of our leases: a duckdb shell, a copy of the file, a log of somebody else."""

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb
import pytest

from synth.records import Draft, Retrieval, Source, StoreError, StoreLocked, new_id
from synth.store import samples
from synth.store.connection import Store


def add(store: Store, source: Source, *names: str) -> None:
    drafts = [Draft(Retrieval(name, ("passage",)), source.source_id, "query") for name in names]
    with store.write() as cursor:
        samples.add_drafts(cursor, drafts, new_id())


def queries(store: Store) -> set[str]:
    with store.read() as cursor:
        return {query for (query,) in cursor.execute("SELECT query FROM revision").fetchall()}


@contextmanager
def opened_elsewhere(path: Path, *, seconds: float, read_only: bool = False) -> Iterator[subprocess.Popen[str]]:
    """Another process that opens the file with DuckDB and keeps it."""
    script = (
        "import duckdb, sys, time\n"
        f"held = duckdb.connect(sys.argv[1], read_only={read_only})\nprint('open', flush=True)\ntime.sleep({seconds})\n"
    )
    process = subprocess.Popen([sys.executable, "-c", script, str(path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "open\n"
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def test_a_duckdb_shell_that_keeps_the_file_is_named_with_the_wait_and_the_remedy(store: Store) -> None:
    with opened_elsewhere(store.path, seconds=60) as shell:
        started = time.monotonic()
        line = rf"process {shell.pid} has the file open outside Skiff, and did not close it within 0\.5 s; close it"
        with pytest.raises(StoreLocked, match=line):
            Store.open(store.path, lock_timeout=0.5)
        assert time.monotonic() - started >= 0.5


def test_a_shell_that_closes_the_file_in_time_is_waited_for(store: Store, training_source: Source) -> None:
    with opened_elsewhere(store.path, seconds=0.5):
        add(store, training_source, "after the shell")
    assert queries(store) == {"after the shell"}


def test_who_waits_for_a_reading_shell_to_write_keeps_no_reader_out(store: Store, training_source: Source) -> None:
    with opened_elsewhere(store.path, seconds=60, read_only=True):
        writer = threading.Thread(
            target=lambda: add(Store(store.path, lock_timeout=20), training_source, "written after the shell")
        )
        writer.start()
        time.sleep(0.3)
        started = time.monotonic()
        assert queries(store) == set()
        assert time.monotonic() - started < 5
        assert writer.is_alive()
    writer.join()
    assert queries(store) == {"written after the shell"}


def test_a_connection_of_this_very_process_is_told_apart(store: Store) -> None:
    with duckdb.connect(str(store.path)), pytest.raises(StoreLocked, match="this program has the file open"):
        Store.open(store.path, lock_timeout=0.2)


def log_of(path: Path, statement: str) -> bytes:
    """The log that a process leaves which is killed after a commit."""
    script = (
        "import duckdb, os, signal, sys\n"
        "connection = duckdb.connect(sys.argv[1])\nconnection.execute(sys.argv[2])\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    subprocess.run([sys.executable, "-c", script, str(path), statement], check=False)
    return Path(f"{path}.wal").read_bytes()


def test_a_log_that_is_none_of_duckdbs_is_refused_rather_than_passed_over(store: Store) -> None:
    log = store.path.with_name("store.duckdb.wal")
    log.write_bytes(b"what was here was overwritten" * 10)
    with pytest.raises(StoreError, match=r"store\.duckdb\.wal: not a log of DuckDB.*move it away"):
        Store.open(store.path)
    assert log.exists()
    log.unlink()
    assert queries(Store.open(store.path)) == set()


@pytest.mark.parametrize("leftover", [b"", b"\0" * 500, b"\x64"])
def test_a_log_that_a_crash_left_before_any_commit_is_in_nobodys_way(
    store: Store, training_source: Source, leftover: bytes
) -> None:
    store.path.with_name("store.duckdb.wal").write_bytes(leftover)
    add(store, training_source, "one")
    assert queries(Store.open(store.path)) == {"one"}


def test_a_log_of_another_store_is_one_line_and_nothing_of_it_gets_in(store: Store, tmp_path: Path) -> None:
    other = Store.create(tmp_path / "other.duckdb")
    foreign = log_of(other.path, "DELETE FROM schema_migration")
    store.path.with_name("store.duckdb.wal").write_bytes(foreign)
    with pytest.raises(StoreError, match=r"store\.duckdb\.wal: does not belong to the store beside it"):
        Store.open(store.path)


def test_a_log_that_is_newer_than_a_copy_put_back_is_one_line(store: Store, training_source: Source) -> None:
    before = store.path.read_bytes()
    add(store, training_source, "one")
    newer = log_of(store.path, "DELETE FROM source")
    store.path.write_bytes(before)
    store.path.with_name("store.duckdb.wal").write_bytes(newer)
    with pytest.raises(StoreError, match=r"if the store was put there from a copy, delete this file"):
        Store.open(store.path)


def test_damage_in_the_middle_of_a_log_is_told(store: Store, training_source: Source) -> None:
    log = log_of(store.path, "BEGIN; DELETE FROM source; COMMIT; CREATE TABLE extra (number INTEGER)")
    flipped = bytearray(log)
    flipped[90] ^= 255
    store.path.with_name("store.duckdb.wal").write_bytes(flipped)
    with pytest.raises(StoreError, match=r"store\.duckdb\.wal: does not belong to the store beside it, or is damaged"):
        Store.open(store.path)
    store.path.with_name("store.duckdb.wal").write_bytes(log)
    with store.read() as cursor:
        assert cursor.execute("SELECT count(*) FROM source").fetchall() == [(0,)]


def test_copying_the_file_by_hand_under_load_loses_no_row(store: Store, training_source: Source) -> None:
    """Closing any handle on the file drops DuckDB's own lock in this process; ours stands."""
    script = (
        "import sys\nfrom pathlib import Path\nfrom uuid import UUID\n"
        "from synth.records import Draft, Retrieval, new_id\nfrom synth.store import samples\n"
        "from synth.store.connection import Store\nfrom threading import Thread\nimport shutil\n"
        "path, source, name = Path(sys.argv[1]), UUID(sys.argv[2]), sys.argv[3]\nstore = Store.open(path)\n"
        "def copy():\n"
        "    while not done:\n"
        "        path.open('rb').close()\n        shutil.copy(path, f'{path}.{name}.copy')\n"
        "done = []\ncopier = Thread(target=copy)\ncopier.start()\n"
        "for index in range(25):\n"
        "    draft = Draft(Retrieval(f'{name} {index}', ('passage',)), source, 'query')\n"
        "    with store.write() as cursor:\n        samples.add_drafts(cursor, [draft], new_id())\n"
        "done.append(True)\ncopier.join()\n"
    )
    arguments = [sys.executable, "-c", script, str(store.path), str(training_source.source_id)]
    writers = [subprocess.Popen([*arguments, name]) for name in ("one", "two")]
    assert [writer.wait() for writer in writers] == [0, 0]
    assert queries(store) == {f"{name} {index}" for name in ("one", "two") for index in range(25)}
