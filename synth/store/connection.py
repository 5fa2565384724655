"""
How a process reaches the store: short leases on one DuckDB file that nobody holds.

DuckDB lets one process write and locks out every other one, readers too, for as long as the file is open. So each
process keeps one in-memory instance and, for the time of one lease, attaches the file under an advisory lock on a file
beside it: shared to read, exclusive to write. Nothing slow (an LLM call, an encoding, a person) belongs inside a lease.
Nobody else may open the file, not even to copy it: closing any handle on it drops DuckDB's own lock.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from uuid import UUID

import duckdb

from synth.records import StoreError, StoreLocked
from synth.store.copies import copy_store, remove
from synth.store.engine import (
    HeldOutside,
    attach,
    close_sandbox,
    detach,
    explained,
    fold_log,
    is_damage,
    lake_files,
    new_instance,
    new_sandbox,
)
from synth.store.locks import SILENCE, Tell, locked, sole
from synth.store.migrate import behind, migrate

Cursor = duckdb.DuckDBPyConnection  # what a lease gives

LOCK_TIMEOUT = 60.0  # seconds; a checkpoint that merges row groups can hold a writer for several
LONGEST_PAUSE = 0.5  # seconds between two looks whether a program outside Skiff has closed the file


class Store:
    """
    The sample store at `path`: a DuckDB file, or a DuckLake if it ends in .ducklake. `read` and `write` give a cursor
    for one lease; the functions of this package take the store as their first argument.

    Safe to share between threads: the leases of one process follow one another.
    """

    def __init__(self, path: Path, *, lock_timeout: float = LOCK_TIMEOUT, on_wait: Tell | None = None) -> None:
        """`on_wait` is told in a line, once for every lease that waits long, whom it waits for."""
        self.path = path
        self.lock_timeout = lock_timeout
        self._on_wait = on_wait
        self._instance = new_instance(path)
        self._one_lease = threading.Lock()

    @classmethod
    def create(cls, path: Path) -> "Store":
        """
        Make the store with its tables; it gets its name when it is complete. A store that is there is kept.

        Raises StoreError if it cannot be written, UserError if it is a DuckLake and the extension is not installed.
        """
        store = cls(path)
        with locked(path, exclusive=True, timeout=LOCK_TIMEOUT):
            if not path.exists() or path.stat().st_size == 0:
                partial = path.with_name(f".partial.{path.name}")
                remove(partial)
                with closing(store._instance.cursor()) as cursor:
                    attach(cursor, partial, writing=True, files=lake_files(path))
                    try:
                        with _told(path):
                            migrate(cursor, backup=None)
                    finally:
                        detach(cursor, partial)
                partial.replace(path)
        return store

    @classmethod
    def open(cls, path: Path, *, lock_timeout: float = LOCK_TIMEOUT, on_wait: Tell | None = None) -> "Store":
        """
        Open an existing store, bringing its tables up to date (after a copy of the file) if it is older than this code.

        Raises StoreError if there is none, StoreTooNew if it was written by a newer Skiff, StoreLocked if another
        process keeps it for longer than `lock_timeout` seconds.
        """
        if not path.is_file():
            raise StoreError(f"{path}: there is no store here; run `synth init {path.parent}` first")
        store = cls(path, lock_timeout=lock_timeout, on_wait=on_wait)
        with store.read() as cursor:
            pending = behind(cursor, path)
        if pending:
            store._bring_up_to_date()
        return store

    def _bring_up_to_date(self) -> None:
        with self.exclusive() as cursor:
            attach(cursor, self.path, writing=True)
            pending = behind(cursor, self.path)  # again: another process may have been here first
            backup = None
            if any(migration.number for migration in pending):  # views carry no data
                backup = self.path.with_name(f"{self.path.name}.before-migration")
                detach(cursor, self.path)
                copy_store(self.path, backup)
                attach(cursor, self.path, writing=True)
            if pending:
                migrate(cursor, backup=backup)

    @contextmanager
    def read(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """A lease to read: the cursor sees one state of the store, and cannot write. StoreError if it is damaged."""
        with self._lease(writing=False) as cursor:
            yield cursor

    @contextmanager
    def write(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """A lease to write, as one transaction: committed at the end, undone if the body raises."""
        with self._lease(writing=True) as cursor:
            cursor.execute("BEGIN TRANSACTION")
            committed = False
            try:
                yield cursor
                cursor.execute("COMMIT")
                committed = True
            finally:
                if not committed:
                    with suppress(duckdb.Error):  # a failed commit has ended the transaction itself
                        cursor.execute("ROLLBACK")

    @contextmanager
    def exclusive(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """
        A lease for upkeep: nobody else is in the store, its log is folded into the file, and the file is attached
        nowhere, so that it may be opened, copied and replaced. The cursor is for `attach` and `detach`.
        """
        with self._lease(writing=True) as cursor:
            detach(cursor, self.path)
            fold_log(cursor, self.path)
            yield cursor

    @contextmanager
    def sandbox(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """
        A lease to read for SQL that we did not write: a connection of its own that can neither write, nor reach a file,
        another database or an extension, nor see this process's variables, nor undo any of this.
        """
        with (
            closing(new_sandbox(self.path)) as connection,
            self._admitted(lambda: attach(connection, self.path, writing=False), exclusive=False),
            closing(connection),  # before the lock is let go
        ):
            close_sandbox(connection, self.path)
            with _told(self.path):
                yield connection

    @contextmanager
    def sole(self, key: UUID, doing: str) -> Iterator[None]:
        """
        Only one process at a time may be in here with the same key: long work that another one would pay for again.

        Raises StoreLocked at once if another one is. Ends with the process, however that ends.
        """
        with sole(self.path, key, doing):
            yield

    @contextmanager
    def _lease(self, *, writing: bool) -> Iterator[duckdb.DuckDBPyConnection]:
        if not self._one_lease.acquire(timeout=self.lock_timeout):
            raise StoreLocked(f"{self.path}: another thread kept the store for {self.lock_timeout:g} s; try again")
        try:
            with (
                closing(self._instance.cursor()) as cursor,
                self._admitted(lambda: self._attach(cursor, writing=writing), exclusive=writing),
            ):
                try:
                    with _told(self.path):
                        yield cursor
                finally:
                    detach(cursor, self.path)
        finally:
            self._one_lease.release()

    def _attach(self, cursor: duckdb.DuckDBPyConnection, *, writing: bool) -> None:
        if not self.path.exists():  # DuckDB would make an empty one
            raise StoreError(f"{self.path}: the store is not there any more; put it back, then run the same again")
        attach(cursor, self.path, writing=writing)

    def _admitted(self, enter: Callable[[], None], *, exclusive: bool) -> ExitStack:
        """
        Take the lock and attach. A program that holds the file outside Skiff is waited for, with the lock let go in
        between, so that whoever it does not hinder goes on. Returns what holds the lock.
        """
        start = time.monotonic()
        on_wait, pause = self._on_wait, 0.01
        while True:
            with ExitStack() as held:
                held.enter_context(
                    locked(self.path, exclusive=exclusive, timeout=self.lock_timeout, on_wait=self._on_wait)
                )
                try:
                    enter()
                    return held.pop_all()
                except HeldOutside as outside:
                    waited = time.monotonic() - start
                    if on_wait and waited >= SILENCE:
                        on_wait(f"waiting for {outside.who} to close {self.path}, which it opened outside Skiff")
                        on_wait = None
                    if waited >= self.lock_timeout:
                        raise StoreLocked(
                            f"{self.path}: {outside.who} has the file open outside Skiff, and did not close it within "
                            f"{self.lock_timeout:g} s; close it (a `duckdb` shell?) and run again"
                        ) from None
            time.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """Raises StoreError, one line, where the disk or the file makes DuckDB fail; a mistake of ours stays as it is."""
    try:
        yield
    except duckdb.Error as error:
        if not is_damage(error):
            raise
        raise explained(error, path) from None
