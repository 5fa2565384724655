"""The advisory lock beside a store: shared to read, exclusive to write, first come first served."""

import errno
import fcntl
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from uuid import UUID

from synth.records import StoreError, StoreLocked

FLAGS = os.O_CLOEXEC | os.O_NONBLOCK
PATIENCE = 0.5  # seconds for which others queue behind one who waits; a long reader then holds up only writers
LONGEST_TURN = 5.0  # seconds that anybody waits for a turn; who held it that long has been stopped
SILENCE = 2.0  # seconds of waiting after which somebody is told

Tell = Callable[[str], None]


@contextmanager
def locked(path: Path, *, exclusive: bool, timeout: float, on_wait: Tell | None = None) -> Iterator[None]:
    """
    Hold the lock file beside the store at `path`; it is let go when the process ends, however it ends.

    The kernel would let readers who overlap keep a writer out for good. So whoever waits for the lock holds, while they
    wait, a second one (the turn) that all pass before the lock: for PATIENCE at a time. `on_wait` is told once, in a
    line, when it takes longer than SILENCE.

    Raises StoreLocked after `timeout` seconds of waiting, StoreError if the lock file cannot be made.
    """
    wait = _Wait(timeout, partial(on_wait, f"waiting for another process to be done with {path}") if on_wait else None)
    mode = fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH
    with ExitStack() as held:
        with _turn(path, mode, wait):
            request = _Request(_open_lock(path.with_name(f"{path.name}.lock"), exclusive=exclusive), mode)
            held.callback(request.end)
            wait.until(request, PATIENCE)
        while not wait.until(request, PATIENCE):
            if wait.is_over:
                raise StoreLocked(
                    f"{path}: another process has kept the store for {timeout:g} s; wait for it, or stop it, and run"
                    " again"
                )
            with _turn(path, mode, wait):
                wait.until(request, PATIENCE)
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
    """A descriptor of the lock file; who may not write here reads without a lock of their own, if there is none."""
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | FLAGS, 0o644)
    except OSError as error:
        if not exclusive and error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
            return os.open(path if path.exists() else os.devnull, os.O_RDONLY | FLAGS)
        raise StoreError(f"{path}: cannot be opened ({error.strerror}); the store needs a writable folder") from None


@contextmanager
def _turn(path: Path, mode: int, wait: "_Wait") -> Iterator[None]:
    """Wait for the turn and hold it. Where its file cannot be opened (a folder that we only read), we go without."""
    try:
        descriptor = os.open(path.with_name(f"{path.name}.turn"), os.O_RDWR | os.O_CREAT | FLAGS, 0o644)
    except OSError:
        yield
        return
    request = _Request(descriptor, mode)
    try:
        wait.until(request, LONGEST_TURN)
        yield
    finally:
        request.end()


class _Request:
    """A lock asked for, which the kernel hands out in its own time; one no longer wanted is let go once it comes."""

    def __init__(self, descriptor: int, mode: int) -> None:
        self._descriptor = descriptor
        self.granted, self._guard, self._over = threading.Event(), threading.Lock(), False
        try:
            fcntl.flock(descriptor, mode | fcntl.LOCK_NB)
        except BlockingIOError:
            threading.Thread(target=self._wait, args=(mode,), daemon=True).start()
        else:
            self.granted.set()

    def _wait(self, mode: int) -> None:
        fcntl.flock(self._descriptor, mode)
        with self._guard:
            self.granted.set()
            if self._over:
                self._let_go()

    def end(self) -> None:
        """Let go, now or as soon as it is granted."""
        with self._guard:
            self._over = True
            if self.granted.is_set():
                self._let_go()

    def _let_go(self) -> None:
        # A child forked meanwhile has the descriptor too, and would keep what is merely closed.
        fcntl.flock(self._descriptor, fcntl.LOCK_UN)
        os.close(self._descriptor)


class _Wait:
    """The time that one lease may wait, and whom to tell when it takes long."""

    def __init__(self, timeout: float, on_wait: Callable[[], None] | None) -> None:
        self._start = time.monotonic()
        self._timeout = timeout
        self._on_wait = on_wait

    @property
    def is_over(self) -> bool:
        """Whether there is no time left."""
        return time.monotonic() >= self._start + self._timeout

    def until(self, request: _Request, seconds: float) -> bool:
        """Wait until it is granted, at most so long and within what is left. Returns whether it is."""
        stop = min(time.monotonic() + seconds, self._start + self._timeout)
        told_at = self._start + SILENCE
        if self._on_wait and told_at < stop:
            if request.granted.wait(max(0.0, told_at - time.monotonic())):
                return True
            self._on_wait()
            self._on_wait = None
        return request.granted.wait(max(0.0, stop - time.monotonic()))
