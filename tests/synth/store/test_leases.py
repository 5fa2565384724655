"""Leases: several processes and threads share one store, and nothing is lost or locked out."""

import fcntl
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import UUID

import duckdb
import pytest

from synth.records import Draft, Retrieval, Source, StoreError, StoreLocked, UserError, new_id
from synth.store import locks, samples
from synth.store.connection import Store
from synth.store.console import query, query_apart
from tests.synth.store.damaging import damage_table, fill


def add_samples(path: Path, source: Source, start: int, number: int) -> None:
    store = Store.open(path)
    for index in range(start, start + number):
        draft = Draft(Retrieval(f"query {index}", (f"passage {index}",)), source.source_id, "query")
        with store.write() as cursor:
            samples.add_drafts(cursor, [draft], new_id())


def count(store: Store) -> int:
    with store.read() as cursor:
        return len(cursor.execute("SELECT sample_id FROM samples").fetchall())


def test_two_processes_and_a_reader_share_the_store_without_losing_a_row(store: Store, training_source: Source) -> None:
    script = (
        "import sys\nfrom pathlib import Path\nfrom uuid import UUID\n"
        "from synth.records import Draft, Retrieval, new_id\nfrom synth.store import samples\n"
        "from synth.store.connection import Store\nstore = Store.open(Path(sys.argv[1]))\n"
        "for index in range(15):\n"
        "    content = Retrieval(f'query {sys.argv[3]} {index}', ('passage',))\n"
        "    with store.write() as cursor:\n"
        "        samples.add_drafts(cursor, [Draft(content, UUID(sys.argv[2]), 'query')], new_id())\n"
    )
    arguments = [sys.executable, "-c", script, str(store.path), str(training_source.source_id)]
    writers = [subprocess.Popen([*arguments, name]) for name in ("one", "two")]
    while any(writer.poll() is None for writer in writers):
        count(store)
        time.sleep(0.02)
    assert [writer.returncode for writer in writers] == [0, 0]
    assert count(store) == 30


def test_threads_of_one_process_take_turns(store: Store, training_source: Source) -> None:
    threads = [threading.Thread(target=add_samples, args=(store.path, training_source, 100 * n, 5)) for n in range(3)]
    readers = [threading.Thread(target=count, args=(store,)) for _ in range(3)]
    for thread in threads + readers:
        thread.start()
    for thread in threads + readers:
        thread.join()
    assert count(store) == 15


def test_readers_who_overlap_do_not_keep_a_writer_out(store: Store) -> None:
    over = threading.Event()

    def read_on_and_on(number: int) -> None:
        reader = Store.open(store.path)
        while not over.is_set():
            with reader.read():
                time.sleep(0.03 + 0.01 * number)

    readers = [threading.Thread(target=read_on_and_on, args=(number,)) for number in range(4)]
    for reader in readers:
        reader.start()
    try:
        time.sleep(0.2)
        writer = Store.open(store.path, lock_timeout=3)
        for _ in range(5):
            with writer.write() as cursor:
                cursor.execute("DELETE FROM source")
    finally:
        over.set()
        for reader in readers:
            reader.join()


def test_a_writer_who_waits_for_a_long_reader_does_not_keep_the_others_out(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locks, "LONGEST_TURN", 60)

    def write() -> None:
        with Store.open(store.path).write() as cursor:
            cursor.execute("DELETE FROM source")

    writer = threading.Thread(target=write)
    reader = threading.Thread(target=count, args=(Store(store.path),))
    with store.read():
        writer.start()
        time.sleep(0.5)
        reader.start()
        reader.join(20)
        assert (writer.is_alive(), reader.is_alive()) == (True, False)
    writer.join()


def test_whoever_waits_long_is_told_once_for_what(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "SILENCE", 0.1)
    told: list[str] = []
    with store.write(), pytest.raises(StoreLocked), Store(store.path, lock_timeout=1.5, on_wait=told.append).read():
        pass
    assert told == [f"waiting for another process to be done with {store.path}"]
    with Store.open(store.path, on_wait=told.append).read():
        assert len(told) == 1


def test_whoever_is_stopped_while_they_hold_the_turn_keeps_nobody_out(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locks, "LONGEST_TURN", 0.2)
    reader = threading.Thread(target=count, args=(Store(store.path),))
    with store.path.with_name("store.duckdb.turn").open("ab") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)
        reader.start()
        reader.join(20)
        assert not reader.is_alive()
    reader.join()


def test_a_transaction_that_raises_leaves_nothing(store: Store, training_source: Source) -> None:
    draft = Draft(Retrieval("q", ("p",)), training_source.source_id, "query")
    with pytest.raises(ZeroDivisionError), store.write() as cursor:
        samples.add_drafts(cursor, [draft], new_id())
        raise ZeroDivisionError
    assert count(store) == 0


def test_a_writer_killed_inside_its_transaction_leaves_nothing_and_no_lock(
    store: Store, training_source: Source
) -> None:
    script = (
        "import sys, time\nfrom pathlib import Path\nfrom synth.store.connection import Store\n"
        "store = Store.open(Path(sys.argv[1]))\n"
        "with store.write() as cursor:\n"
        "    cursor.execute('DELETE FROM source')\n"
        "    print('inside', flush=True)\n"
        "    time.sleep(60)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", script, str(store.path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "inside\n"
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()
    with store.read() as cursor:
        assert len(cursor.execute("SELECT * FROM source").fetchall()) == 1


@contextmanager
def kept_by_another_process(path: Path) -> Iterator[None]:
    script = (
        "import fcntl, sys, time\n"
        "lock = open(sys.argv[1], 'a')\nfcntl.flock(lock, fcntl.LOCK_EX)\nprint('locked', flush=True)\ntime.sleep(60)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", script, f"{path}.lock"], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "locked\n"
    try:
        yield
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def test_a_locked_store_is_one_line_after_the_time_limit_and_works_again_afterwards(store: Store) -> None:
    with kept_by_another_process(store.path), pytest.raises(StoreLocked, match="another process has kept the store"):
        Store.open(store.path, lock_timeout=0.2)
    assert count(Store.open(store.path, lock_timeout=5)) == 0


def test_a_waiting_lease_gets_the_lock_when_it_is_let_go(store: Store) -> None:
    entered = threading.Event()
    with kept_by_another_process(store.path):
        waiting = threading.Thread(target=lambda: (count(Store.open(store.path)), entered.set()))
        waiting.start()
        assert not entered.wait(0.3)
    waiting.join(timeout=10)
    assert entered.is_set()


def test_a_truncated_store_is_one_line_that_names_it(store: Store, training_source: Source) -> None:
    add_samples(store.path, training_source, 0, 3)
    store.path.write_bytes(store.path.read_bytes()[:300_000])
    with pytest.raises(StoreError, match="restore a copy"):
        count(Store.open(store.path))


def test_a_damaged_block_is_one_line_with_the_remedy_in_every_lease(store: Store) -> None:
    fill(store)
    damage_table(store, "text", "text")
    line = r"store\.duckdb: is damaged \(Corrupt .*\); go back to a backup"
    for lease in (store.read, store.write, store.sandbox):
        with pytest.raises(StoreError, match=line), lease() as cursor:
            cursor.execute("SELECT sum(length(text)) FROM text").fetchall()
    with pytest.raises(StoreError, match=line):
        query(store, "SELECT sum(length(text)) FROM text")
    with pytest.raises(StoreError, match=line):
        query_apart(store, "SELECT sum(length(text)) FROM text", timeout=60)
    with store.read() as cursor:
        assert cursor.execute("SELECT count(*) FROM revision").fetchall() == [(600,)]


def test_tidying_up_after_damage_does_not_hide_it(store: Store) -> None:
    fill(store)
    damage_table(store, "text", "text")
    with pytest.raises(StoreError, match="is damaged"), store.write() as cursor:
        try:
            cursor.execute("SELECT sum(length(text)) FROM text").fetchall()
        finally:
            cursor.execute("DROP TABLE IF EXISTS nonsense")


def test_a_mistake_in_sql_is_not_taken_for_damage(store: Store) -> None:
    for sql in ("SELECT error('Corrupt database file')", "FROM nonsense"):
        with pytest.raises(duckdb.Error), store.read() as cursor:
            cursor.execute(sql).fetchall()
        with pytest.raises(UserError, match="the SQL does not run"):
            query(store, sql)


def test_a_store_half_made_when_killed_is_made_anew(tmp_path: Path) -> None:
    path = tmp_path / "store.duckdb"
    (tmp_path / ".partial.store.duckdb").write_bytes(b"half a database")
    path.write_bytes(b"")
    assert count(Store.create(path)) == 0
    assert sorted(each.name for each in tmp_path.iterdir()) == [
        "store.duckdb",
        "store.duckdb.lock",
        "store.duckdb.turn",
    ]


def test_a_child_that_was_forked_inside_a_lease_does_not_keep_the_lock(store: Store) -> None:
    with store.read():
        child = os.fork()
        if child == 0:
            time.sleep(60)
            os._exit(0)
    try:
        with Store.open(store.path, lock_timeout=2).write() as cursor:
            cursor.execute("DELETE FROM source")
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def test_two_stores_of_one_process_read_at_the_same_time(store: Store) -> None:
    with store.read() as one, Store.open(store.path).read() as other:
        assert one.execute("SELECT 1").fetchall() == other.execute("SELECT 1").fetchall()


def test_the_same_work_is_refused_to_a_second_process_and_free_after_a_kill(store: Store) -> None:
    script = (
        "import sys, time\nfrom pathlib import Path\nfrom uuid import UUID\n"
        "from synth.store.connection import Store\n"
        "with Store.open(Path(sys.argv[1])).sole(UUID(int=7), 'generating'):\n"
        "    print('inside', flush=True)\n    time.sleep(60)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", script, str(store.path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "inside\n"
    with pytest.raises(StoreLocked, match=r"at it \(generating\)"), store.sole(UUID(int=7), "generating"):
        pass
    with store.sole(UUID(int=8), "generate"):
        pass
    process.kill()
    process.wait()
    process.stdout.close()
    with store.sole(UUID(int=7), "generate"):
        pass


@pytest.mark.parametrize("content", [b"", b"this is not a database" * 1000])
def test_a_file_that_is_no_store_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "store.duckdb"
    path.write_bytes(content)
    with pytest.raises(StoreError, match=r"store\.duckdb"):
        Store.open(path)


def test_a_database_of_somebody_else_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "store.duckdb"
    with duckdb.connect(str(path)) as connection:
        connection.execute("CREATE TABLE recipes (name VARCHAR)")
    before = path.read_bytes()
    with pytest.raises(StoreError, match="not a Skiff store"):
        Store.open(path)
    assert path.read_bytes() == before


def test_a_store_that_was_taken_away_is_not_made_anew(store: Store) -> None:
    away = store.path.rename(store.path.with_suffix(".away"))
    with pytest.raises(StoreError, match="is not there any more"), store.write():
        pass
    assert not store.path.exists()
    away.rename(store.path)
    with store.read():
        pass
