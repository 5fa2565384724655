"""The advisory lock beside a store: shared to read, exclusive to write, first come first served."""

import errno
import fcntl
import math
import os
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from uuid import UUID

from synth.records import StoreError, StoreLocked

FLAGS = os.O_CLOEXEC | os.O_NONBLOCK
PATIENCE = 0.5  # seconds for which others queue behind one who waits; a long reader then holds up only writers


@contextmanager
def locked(path: Path, *, exclusive: bool, timeout: float) -> Iterator[None]:
    """
    Hold the lock file beside the store at `path`; it is let go when the process ends, however it ends.

    The kernel would let readers who overlap keep a writer out for good. So whoever waits for the lock holds, while they
    wait, a second one (the turn) that all pass before the lock: for PATIENCE at a time.

    Raises StoreLocked after `timeout` seconds of waiting, StoreError if the lock file cannot be made.
    """
    deadline = time.monotonic() + timeout
    mode = fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH
    with ExitStack() as held:
        with _turn(path, mode, deadline):
            request = _Request(_open_lock(path.with_name(f"{path.name}.lock"), exclusive=exclusive), mode)
            held.callback(request.end)
            request.granted_within(PATIENCE, deadline)
        while not request.granted_within(PATIENCE, deadline):
            if time.monotonic() >= deadline:
                raise StoreLocked(
                    f"{path}: another process has kept the store for {timeout:g} s; wait for it, or stop it, and run"
                    " again"
                )
            with _turn(path, mode, deadline):
                request.granted_within(PATIENCE, deadline)
        yield


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
            raise StoreLocked(f"{path}: another process is at it ({doing}); wait for it to end") from None
        yield


def _open_lock(path: Path, *, exclusive: bool) -> int:
    """A descriptor of the lock file; on a read-only disk, where nobody writes, readers do without their own."""
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | FLAGS, 0o644)
    except OSError as error:
        if not exclusive and (error.errno == errno.EROFS or path.exists()):
            return os.open(path if path.exists() else os.devnull, os.O_RDONLY | FLAGS)
        raise StoreError(f"{path}: cannot be opened ({error.strerror}); the store needs a writable folder") from None


@contextmanager
def _turn(path: Path, mode: int, deadline: float) -> Iterator[None]:
    """Wait for the turn and hold it. Where its file cannot be opened (a folder that we only read), we go without."""
    try:
        descriptor = os.open(path.with_name(f"{path.name}.turn"), os.O_RDWR | os.O_CREAT | FLAGS, 0o644)
    except OSError:
        yield
        return
    request = _Request(descriptor, mode)
    try:
        request.granted_within(math.inf, deadline)
        yield
    finally:
        request.end()


class _Request:
    """A lock asked for, which the kernel hands out in its own time; one no longer wanted is let go once it comes."""

    def __init__(self, descriptor: int, mode: int) -> None:
        self._descriptor = descriptor
        self._granted, self._guard, self._over = threading.Event(), threading.Lock(), False
        try:
            fcntl.flock(descriptor, mode | fcntl.LOCK_NB)
        except BlockingIOError:
            threading.Thread(target=self._wait, args=(mode,), daemon=True).start()
        else:
            self._granted.set()

    def _wait(self, mode: int) -> None:
        fcntl.flock(self._descriptor, mode)
        with self._guard:
            self._granted.set()
            if self._over:
                self._let_go()

    def granted_within(self, seconds: float, deadline: float) -> bool:
        """Wait at most so long, and not beyond the deadline."""
        return self._granted.wait(max(0.0, min(seconds, deadline - time.monotonic())))

    def end(self) -> None:
        """Let go, now or as soon as it is granted."""
        with self._guard:
            self._over = True
            if self._granted.is_set():
                self._let_go()

    def _let_go(self) -> None:
        fcntl.flock(
            self._descriptor, fcntl.LOCK_UN
        )  # a child forked meanwhile has the descriptor too, and would keep it
        os.close(self._descriptor)
