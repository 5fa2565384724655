"""
How a process reaches the store: short leases on one DuckDB file that nobody holds.

DuckDB lets one process write and locks out every other one, readers too, for as long as the file is open. So each
process keeps one in-memory instance and, for the time of one lease, attaches the file under an advisory lock on a file
beside it: shared to read, exclusive to write. Nothing slow (an LLM call, an encoding, a person) belongs inside a lease.
Nobody else may open the file, not even to copy it: closing any handle on it drops DuckDB's own lock.
"""

import errno
import fcntl
import os
import re
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from uuid import UUID

import duckdb

from synth.records import StoreError, StoreLocked
from synth.store.migrate import migrate, refuse_unless_current

STORAGE_VERSION = "v1.5.0"  # so that every DuckDB from 1.5 on can read the file
# What a full disk, a truncated file or flipped bits make DuckDB raise; anything else is a mistake of ours.
DAMAGE = (
    duckdb.IOException,
    duckdb.FatalException,
    duckdb.InternalException,
    duckdb.OutOfMemoryException,
    duckdb.SerializationException,
    duckdb.TransactionException,
)
LOCK_TIMEOUT = 60.0  # seconds; a checkpoint that merges row groups can hold a writer for several


class Store:
    """
    The sample store at `path`. `read` and `write` give a cursor for one lease; the functions of this package take the
    store as their first argument.

    Safe to share between threads: the leases of one process follow one another.
    """

    def __init__(self, path: Path, *, lock_timeout: float = LOCK_TIMEOUT) -> None:
        self.path = path
        self.lock_timeout = lock_timeout
        self._instance = duckdb.connect(":memory:")
        self._one_lease = threading.Lock()

    @classmethod
    def create(cls, path: Path) -> "Store":
        """
        Make the file with its tables; it gets its name when it is complete. A store that is there is kept.

        Raises StoreError if it cannot be written.
        """
        with _locked(path, exclusive=True, timeout=LOCK_TIMEOUT):
            if not path.exists() or path.stat().st_size == 0:
                partial = path.with_name(f".{path.name}.partial")
                for leftover in (partial, partial.with_name(f"{partial.name}.wal")):
                    leftover.unlink(missing_ok=True)
                for cursor in cls(partial)._attached(writing=True):
                    migrate(cursor, backup=None)
                partial.replace(path)
        return cls(path)

    @classmethod
    def open(cls, path: Path, *, lock_timeout: float = LOCK_TIMEOUT) -> "Store":
        """
        Open an existing store, bringing its tables up to date (after a copy of the file) if it is older than this code.

        Raises StoreError if there is none, StoreTooNew if it was written by a newer Skiff, StoreLocked if another
        process keeps it for longer than `lock_timeout` seconds.
        """
        if not path.is_file():
            raise StoreError(f"{path}: there is no store here; run `synth init {path.parent}` first")
        store = cls(path, lock_timeout=lock_timeout)
        with store._lease(writing=False) as cursor:
            current = refuse_unless_current(cursor, path)
        if not current:
            backup = path.with_name(f"{path.name}.before-migration")
            with store._lease(writing=True, copy_to=backup) as cursor:
                migrate(cursor, backup=backup)
        return store

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
            try:
                yield cursor
                cursor.execute("COMMIT")
            except BaseException:
                with suppress(duckdb.Error):  # a failed commit has ended the transaction itself
                    cursor.execute("ROLLBACK")
                raise

    @contextmanager
    def sole(self, key: UUID, doing: str) -> Iterator[None]:
        """
        Only one process at a time may be in here with the same key: long work that another one would pay for again.

        Raises StoreLocked at once if another one is. Ends with the process, however that ends.
        """
        path = self.path.with_name(f"{self.path.name}.work")
        try:
            file = path.open("ab")
        except OSError as error:
            raise StoreError(f"{path}: cannot be opened ({error.strerror}); work needs a writable folder") from None
        with file:
            try:
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, key.int % (1 << 62))
            except OSError:
                raise StoreLocked(
                    f"{self.path}: another process is at it ({doing} with the same settings); wait for it to end"
                ) from None
            yield

    @contextmanager
    def sandbox(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """
        A lease to read for SQL that we did not write: a connection of its own that can neither write, nor reach a file,
        another database or an extension, nor see this process's variables, nor undo any of this.
        """
        settings: dict[str, str | bool | int | float | list[str]] = {
            "python_enable_replacements": False,
            "autoinstall_known_extensions": False,
            "temp_directory": "",
            "memory_limit": "60%",
        }
        with (
            _locked(self.path, exclusive=False, timeout=self.lock_timeout),
            closing(duckdb.connect(":memory:", config=settings)) as connection,
        ):
            try:
                connection.execute(f"ATTACH {_quoted(str(self.path))} AS store (READ_ONLY)")
            except duckdb.Error as error:
                raise _explained(error, self.path) from None
            connection.execute("USE store")
            connection.execute("SET enable_external_access = false")
            connection.execute("SET lock_configuration = true")
            yield connection

    @contextmanager
    def _lease(self, *, writing: bool, copy_to: Path | None = None) -> Iterator[duckdb.DuckDBPyConnection]:
        if not self._one_lease.acquire(timeout=self.lock_timeout):
            raise StoreLocked(f"{self.path}: another thread kept the store for {self.lock_timeout:g} s; try again")
        try:
            with _locked(self.path, exclusive=writing, timeout=self.lock_timeout):
                if copy_to is not None:
                    copy_to.write_bytes(self.path.read_bytes())  # the file is attached nowhere: the lock is exclusive
                yield from self._attached(writing=writing)
        finally:
            self._one_lease.release()

    def _attached(self, *, writing: bool) -> Iterator[duckdb.DuckDBPyConnection]:
        options = f"(STORAGE_VERSION '{STORAGE_VERSION}')" if writing and not self.path.exists() else ""
        if not writing:
            options = "(READ_ONLY)"
        with closing(self._instance.cursor()) as cursor:
            try:
                cursor.execute(f"ATTACH {_quoted(str(self.path))} AS store {options}")
            except duckdb.Error as error:
                raise _explained(error, self.path) from None
            try:
                cursor.execute("USE store")
                yield cursor
            except DAMAGE as error:
                raise _explained(error, self.path) from None
            finally:
                cursor.execute("USE memory")
                try:
                    cursor.execute("DETACH store")
                except duckdb.Error as error:
                    raise _explained(error, self.path) from None


@contextmanager
def _locked(path: Path, *, exclusive: bool, timeout: float) -> Iterator[None]:
    """Hold the lock file beside the store. Waiting is done by the kernel, first come first served, in a thread."""
    lock_path = path.with_name(f"{path.name}.lock")
    descriptor = _open_lock(lock_path, exclusive=exclusive)
    mode = fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH
    try:
        fcntl.flock(descriptor, mode | fcntl.LOCK_NB)
    except BlockingIOError:
        _wait_for(descriptor, mode, path, timeout)
    try:
        yield
    finally:
        os.close(descriptor)


def _open_lock(path: Path, *, exclusive: bool) -> int:
    """A descriptor of the lock file; on a read-only disk, where nobody writes, readers do without their own."""
    flags = os.O_CLOEXEC | os.O_NONBLOCK
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | flags, 0o644)
    except OSError as error:
        if not exclusive and (error.errno == errno.EROFS or path.exists()):
            return os.open(path if path.exists() else os.devnull, os.O_RDONLY | flags)
        raise StoreError(f"{path}: cannot be opened ({error.strerror}); the store needs a writable folder") from None


def _wait_for(descriptor: int, mode: int, path: Path, timeout: float) -> None:
    """Wait in a thread for the lock; one that comes after we gave up is let go at once."""
    taken, gave_up, guard = threading.Event(), threading.Event(), threading.Lock()

    def wait() -> None:
        fcntl.flock(descriptor, mode)
        with guard:
            if gave_up.is_set():
                os.close(descriptor)
            taken.set()

    threading.Thread(target=wait, daemon=True).start()
    try:
        taken.wait(timeout)
    finally:  # also on Ctrl-C
        with guard:
            if not taken.is_set():
                gave_up.set()
    if gave_up.is_set():
        raise StoreLocked(
            f"{path}: another process has kept the store for {timeout:g} s; wait for it, or stop it, and run again"
        )


def _explained(error: duckdb.Error, path: Path) -> StoreError:
    text = str(error)
    first_line = text.split("\n", 1)[0].removeprefix("IO Error: ")
    if "Could not set lock" in text or "Conflicting lock" in text:
        holder = re.search(r"\(PID (\d+)\)", text)
        who = f"process {holder[1]}" if holder else "another program"
        return StoreLocked(f"{path}: {who} has the file open outside Skiff; close it (a `duckdb` shell?) and run again")
    if "not a valid DuckDB database" in text:
        return StoreError(
            f"{path}: not a Skiff store (not a DuckDB file); restore a copy, or move it away and start anew"
        )
    if "CHECKPOINT" in text:
        return StoreError(
            f"{path}: no room to finish writing; what was committed is kept: free some disk and run again"
        )
    if isinstance(error, (duckdb.IOException, duckdb.OutOfMemoryException)) and "space" in text.lower():
        return StoreError(f"{path}: the disk is full ({first_line}); free some and run again")
    return StoreError(
        f"{path}: the store failed: {first_line}; check disk and permissions, and if it fails again, restore a copy"
    )


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
