"""Kill -9 of writers at random moments: what was acknowledged is there, once, and nothing names what is not there."""

import itertools
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from synth.records import Source, Use, text_id
from synth.store import runs, sources
from synth.store.connection import Store
from synth.store.verify import verify
from tests.conftest import REPOSITORY

pytestmark = pytest.mark.slow
NUM_KILLS = 100  # at least
NUM_ACKNOWLEDGED = 40  # batches, at least, so that the kills fell into work on a slow machine too
SERVER = "tests.faults.store_writer"


@pytest.fixture
def begun(tmp_path: Path) -> Store:
    """A store with a source, passages and a run, for the writers to write about."""
    store = Store.create(tmp_path / "store.duckdb")
    source = Source("guide", "train", Use.TRAIN, "retrieval", "a test", "CC0-1.0", "1")
    with runs.recorded(store, "ingest", {}) as run, store.write() as cursor:
        sources.add_source(cursor, source, run.run_id)
        texts = [f"passage {number}" for number in range(20)]
        passages = [sources.NewPassage(text_id(text), text, "", text) for text in texts]
        sources.add_passages(cursor, source.source_id, passages)
    return store


@contextmanager
def writers_of(store: Store, folder: Path) -> Iterator[Callable[[str], int]]:
    """Gives a function that starts the writer of a name and returns its process id."""
    command = [sys.executable, "-m", SERVER, str(store.path), str(folder)]
    server = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=REPOSITORY)
    assert server.stdin is not None
    assert server.stdout is not None
    taking, telling = server.stdin, server.stdout

    def start(name: str) -> int:
        taking.write(f"{name}\n")
        taking.flush()
        return int(telling.readline())

    with taking, telling:
        yield start
        taking.close()
        assert server.wait() == 0


@contextmanager
def read_all_the_time(store: Store, seen: list[int]) -> Iterator[None]:
    """A reader beside; `seen` grows by what it counts."""
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            with store.read() as cursor:
                seen.extend(number for (number,) in cursor.execute("SELECT count(*) FROM samples").fetchall())
            time.sleep(0.02)

    reader = threading.Thread(target=read)
    reader.start()
    try:
        yield
    finally:
        done.set()
        reader.join()


def acknowledged_in(folder: Path) -> list[list[str]]:
    """The batches that writers acknowledged: kind and ids of each. A line that was cut short is none."""
    lines = [line for path in folder.iterdir() for line in path.read_text().splitlines(keepends=True)]
    return [line.split() for line in lines if line.endswith("\n")]


def test_a_hundred_kills_of_two_writers_lose_and_double_nothing(begun: Store, tmp_path: Path) -> None:
    seed = random.SystemRandom().randrange(1 << 30)
    print(f"seed {seed}")  # noqa: T201, shown when the test fails
    chance = random.Random(seed)
    folder = tmp_path / "acknowledged"
    folder.mkdir()
    seen = list[int]()
    with writers_of(begun, folder) as start, read_all_the_time(Store.open(begun.path), seen):
        writers = [start("first-0"), start("first-1")]
        for number in itertools.count():
            if number >= NUM_KILLS and len(acknowledged_in(folder)) >= NUM_ACKNOWLEDGED:
                break
            time.sleep(chance.uniform(0, 0.6))
            victim = chance.randrange(2)
            os.kill(writers[victim], signal.SIGKILL)
            begun.path.open("rb").close()  # drops DuckDB's own lock, if this process had it
            writers[victim] = start(f"{number}-{victim}")
        for writer in writers:
            os.kill(writer, signal.SIGKILL)
    acknowledged = acknowledged_in(folder)
    assert seen == sorted(seen)  # what a reader saw once stays
    assert len(seen) > 20
    assert {kind for kind, *_ in acknowledged} == {"drafts", "mined", "reviews"}
    _assert_all_there(Store.open(begun.path), acknowledged)


def _assert_all_there(store: Store, acknowledged: list[list[str]]) -> None:
    with store.read() as cursor:
        stored = {
            kind: [str(each) for (each,) in cursor.execute(f"SELECT {column} FROM {table}").fetchall()]
            for kind, table, column in (
                ("drafts", "revision", "query"),
                ("mined", "mined", "revision_id"),
                ("reviews", "review", "review_id"),
            )
        }
        negatives = "SELECT 1 FROM negative GROUP BY revision_id, text_id HAVING count(*) > 1"
        assert cursor.execute(negatives).fetchall() == []
    for kind, there in stored.items():
        assert len(there) == len(set(there))
        promised = {each for told, *ids in acknowledged if told == kind for each in ids}
        assert promised - set(there) == set()
    assert verify(store) == []
