"""The advisory lock beside a store: shared to read, exclusive to write, first come first served."""

import errno
import fcntl
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import UUID

from synth.records import StoreError, StoreLocked


@contextmanager
def locked(path: Path, *, exclusive: bool, timeout: float) -> Iterator[None]:
    """
    Hold the lock file beside the store at `path`; it is let go when the process ends, however it ends.

    Raises StoreLocked after `timeout` seconds of waiting, StoreError if the lock file cannot be made.
    """
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
        fcntl.flock(descriptor, fcntl.LOCK_UN)  # a child forked meanwhile has the descriptor too, and would keep it
        os.close(descriptor)


@contextmanager
def sole(path: Path, key: UUID, doing: str) -> Iterator[None]:
    """Only one process at a time may be in here with the same store and key. Raises StoreLocked at once if one is."""
    work = path.with_name(f"{path.name}.work")
    try:
        file = work.open("ab")
    except OSError as error:
        raise StoreError(f"{work}: cannot be opened ({error.strerror}); work needs a writable folder") from None
    with file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, key.int % (1 << 62))
        except OSError:
            raise StoreLocked(
                f"{path}: another process is at it ({doing} with the same settings); wait for it to end"
            ) from None
        yield


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
    """Wait in a thread for the lock, which the kernel hands out; one that comes after we gave up is let go at once."""
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
