"""A full disk and a folder that cannot be written: one clear line, nothing lost, and it works when there is room."""

import os
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest

from synth.records import Draft, Retrieval, Source, StoreError, Use, new_id
from synth.store import samples, sources
from synth.store.connection import Store
from synth.store.engine import explained
from synth.store.upkeep import back_up, compact
from tests.conftest import REPOSITORY

REFUSED = r"needs a writable folder|cannot be written|check disk and permissions"
SOURCE = Source("guide", "train", Use.TRAIN, "retrieval", "a test", "CC0-1.0", "1")


def add(store: Store, batch: int) -> list[str]:
    """Store a batch that DuckDB cannot compress to nothing. Returns its queries."""
    queries = [f"{batch}/{number}" for number in range(100)]
    drafts = [Draft(Retrieval(query, (os.urandom(600).hex(),)), SOURCE.source_id, "query") for query in queries]
    with store.write() as cursor:
        samples.add_drafts(cursor, drafts, new_id())
    return queries


def queries_of(store: Store) -> list[str]:
    with store.read() as cursor:
        return [query for (query,) in cursor.execute("SELECT query FROM samples").fetchall()]


def fill(store: Store) -> tuple[list[str], str]:
    """Add until it fails. Returns what was acknowledged, and the line."""
    acknowledged: list[str] = []
    for batch in range(1000):
        try:
            acknowledged += add(store, batch)
        except StoreError as error:
            return acknowledged, str(error)
    raise AssertionError("the disk was never full")


def run_apart(*arguments: str) -> None:
    """Run `main` of this file in a process of its own, for what a process could not take back; it must succeed."""
    command = [sys.executable, "-m", "tests.faults.test_disk", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=REPOSITORY, timeout=60)
    assert done.returncode == 0, done.stderr


def started(folder: Path) -> Store:
    store = Store.create(folder / "store.duckdb")
    with store.write() as cursor:
        sources.add_source(cursor, SOURCE, new_id())
    return store


def test_a_full_disk_is_one_line_loses_nothing_and_works_again_with_room(small_disk: Path) -> None:
    store = started(small_disk)
    acknowledged, line = fill(store)
    assert line.startswith(str(store.path))
    assert "disk" in line
    assert "\n" not in line
    assert set(acknowledged) <= set(queries_of(store))
    assert set(acknowledged) <= set(queries_of(Store.open(store.path)))
    subprocess.run(["mount", "-o", "remount,size=64m", str(small_disk)], check=True)
    acknowledged += add(store, 2000)
    found = queries_of(Store.open(store.path))
    assert set(acknowledged) <= set(found)
    assert len(found) == len(set(found))


def test_a_batch_that_the_disk_has_no_room_for_is_told_as_that_and_not_as_damage(small_disk: Path) -> None:
    store = started(small_disk)
    add(store, 0)
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(shutil.disk_usage(small_disk).free - (60 << 10)))
    with pytest.raises(StoreError, match=r"^\S+: the disk is full \(.*No space left.*\); free some and run again$"):
        add(store, 1)
    ballast.unlink()
    assert len(queries_of(store)) == 100
    assert set(add(store, 1)) <= set(queries_of(store))


def test_a_broken_disk_is_no_full_one_whatever_the_folder_is_called() -> None:
    path = Path("/home/ann/workspace/store.duckdb")
    said = explained(duckdb.IOException(f'IO Error: Could not read from file "{path}": Input/output error'), path)
    assert "the store failed" in str(said) and "full" not in str(said)


def test_a_full_disk_stops_upkeep_before_it_begins(small_disk: Path, tmp_path: Path) -> None:
    store = started(small_disk)
    for batch in range(20):
        add(store, batch)
    (small_disk / "ballast").write_bytes(bytes(shutil.disk_usage(small_disk).free))
    for work in (lambda: compact(store), lambda: back_up(store, small_disk / "copy.duckdb")):
        with pytest.raises(StoreError, match="free some and run again"):
            work()
    assert sorted(path.name for path in small_disk.iterdir()) == [
        "ballast",
        "store.duckdb",
        "store.duckdb.lock",
        "store.duckdb.turn",
    ]
    assert back_up(store, tmp_path / "copy.duckdb").num_rows > 2000
    assert len(queries_of(store)) == 2000


def test_a_limit_on_the_size_of_files_is_met_like_a_full_disk(tmp_path: Path) -> None:
    """What a quota does; and it needs no root."""
    started(tmp_path)
    run_apart("limited", str(tmp_path / "store.duckdb"))


def limited(path: Path) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (4 << 20, 64 << 20))
    store = Store.open(path)
    acknowledged, line = fill(store)
    assert str(path) in line, line
    assert "\n" not in line
    assert set(acknowledged) <= set(queries_of(store))
    resource.setrlimit(resource.RLIMIT_FSIZE, (64 << 20, 64 << 20))
    acknowledged += add(Store.open(path), 2000)
    assert set(acknowledged) <= set(queries_of(Store.open(path)))


@pytest.fixture
def read_only(tmp_path: Path) -> Iterator[Path]:
    """A folder with a store of 100 samples, on a disk that cannot be written."""
    folder = tmp_path / "folder"
    folder.mkdir()
    add(started(folder), 0)
    bind = ["mount", "--bind", str(folder), str(folder)]
    if shutil.which("mount") is None or subprocess.run(bind, capture_output=True, check=False).returncode:
        pytest.skip("a folder can only be mounted read-only by root")
    subprocess.run(["mount", "-o", "remount,bind,ro", str(folder)], check=True)
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_a_read_only_disk_is_read_and_every_change_is_one_line(read_only: Path, tmp_path: Path) -> None:
    store = Store.open(read_only / "store.duckdb")
    assert len(queries_of(store)) == 100
    for work in (lambda: add(store, 1), lambda: compact(store), lambda: back_up(store, tmp_path / "copy.duckdb")):
        with pytest.raises(StoreError, match=REFUSED) as failed:
            work()
        assert "\n" not in str(failed.value)
    assert len(queries_of(store)) == 100


def test_a_folder_that_only_others_may_write_is_read_and_every_change_is_one_line() -> None:
    if os.getuid():
        pytest.skip("only root can become somebody else")
    folder = Path(tempfile.mkdtemp(prefix="skiff-"))  # pytest's own folders are closed to others
    try:
        add(started(folder), 0)
        folder.chmod(0o755)
        run_apart("as_nobody", str(folder / "store.duckdb"))
        assert len(queries_of(Store.open(folder / "store.duckdb"))) == 100
    finally:
        shutil.rmtree(folder)


def as_nobody(path: Path) -> None:
    os.setuid(65534)
    store = Store.open(path)
    assert len(queries_of(store)) == 100
    with pytest.raises(StoreError, match=REFUSED) as failed:
        add(store, 1)
    assert "\n" not in str(failed.value)
    with pytest.raises(StoreError, match="cannot be opened"):
        Store.create(path.with_name("other.duckdb"))


def test_the_command_says_so_in_one_line_too(read_only: Path) -> None:
    command = [sys.executable, "-c", "from synth.cli import main; main()", "store", "rebuild", "-w", str(read_only)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=REPOSITORY)
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert len(done.stderr.splitlines()) == 1


if __name__ == "__main__":
    {"limited": limited, "as_nobody": as_nobody}[sys.argv[1]](Path(sys.argv[2]))
