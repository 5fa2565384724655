"""
Ctrl-C on a run that pays for what it asks: once, and it finishes what is in flight; twice, and it stops now.

SIGTERM (a scheduler, `kill`) and SIGHUP (the terminal went away) are the first Ctrl-C, however often they come. What
was started with a signal ignored (`nohup`) keeps ignoring it.
"""

import asyncio
import gc
import signal
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, TypeVar

T = TypeVar("T")
Handler = Callable[[int, FrameType | None], Any] | int | signal.Handlers | None  # as the signal module has them

# One press can arrive twice: from the terminal, and from a wrapper (uv, make, a supervisor) that passes it on.
SAME_PRESS_SECONDS = 0.2
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Stop:
    """The wish to end a run early. `event` is for tasks that wait, `requested` for those that look."""

    def __init__(self) -> None:
        self.event = asyncio.Event()

    @property
    def requested(self) -> bool:
        """Whether no further work is to be begun."""
        return self.event.is_set()


def stopping_line(in_flight: int, most_seconds: float) -> str:
    """What to tell people at the first Ctrl-C; `most_seconds`: what one request may take."""
    if not in_flight:
        return "stopping; Ctrl-C again to stop now"
    waited_for = "1 request" if in_flight == 1 else f"{in_flight:,} requests"
    return f"stopping: {waited_for} in flight will be finished (at most {most_seconds:g} s); Ctrl-C again to stop now"


def run_stoppable(main: Callable[[Stop], Coroutine[Any, Any, T]], *, on_first: Callable[[], object]) -> T:
    """
    Run a coroutine to its end as asyncio.run does, on uvloop where that is installed; Ctrl-C asks it to stop.

    `main` gets the Stop: once that is requested, it is to begin nothing new, to finish what is in flight and to return.
    In a thread that is not the main one no signal can be heard, and it just runs.

    Args:
        on_first: called once, when a signal first asks to stop: the place to say so.

    Raises:
        KeyboardInterrupt: a second Ctrl-C; `main` was cancelled and has cleaned up. (A third does not wait for that.)
    """
    with rare_garbage(), _Watch(on_first) as watch, asyncio.Runner(loop_factory=_loop_factory()) as runner:
        try:
            return runner.run(watch.over(main))
        except asyncio.CancelledError:
            if watch.stops_now:
                raise KeyboardInterrupt from None
            raise


@contextmanager
def rare_garbage() -> Iterator[None]:
    """
    Have Python look for garbage more rarely, and not in modules: it took a fifth of the processor time of a run, whose
    requests in flight are many objects and no garbage.
    """
    thresholds = gc.get_threshold()
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, *thresholds[1:])
    try:
        yield
    finally:
        gc.set_threshold(*thresholds)
        gc.unfreeze()


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:  # not for every system
        return None
    return uvloop.new_event_loop


class _Watch:
    """
    Hears the signals while a coroutine runs, and before: one that comes while the loop is being made waits until it is,
    since neither asyncio nor uvloop can be interrupted there.
    """

    def __init__(self, on_first: Callable[[], object]) -> None:
        self.stops_now = False
        self._on_first = on_first
        self._first_at = 0.0
        self._early: list[signal.Signals] = []
        self._replaced = replaceable()

    def __enter__(self) -> "_Watch":
        for number in self._replaced:
            signal.signal(number, lambda heard, _: self._early.append(signal.Signals(heard)))
        return self

    def __exit__(self, *_: object) -> None:
        self._put_back()

    async def over(self, main: Callable[[Stop], Coroutine[Any, Any, T]]) -> T:
        stop, loop, task = Stop(), asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None
        for number in self._replaced:
            loop.add_signal_handler(number, self._heard, number, stop, loop, task)
        for number in self._early:
            self._heard(number, stop, loop, task)
        try:
            return await main(stop)
        finally:
            for number in self._replaced:
                loop.remove_signal_handler(number)
            self._put_back()

    def _heard(
        self, number: signal.Signals, stop: Stop, loop: asyncio.AbstractEventLoop, task: "asyncio.Task[Any]"
    ) -> None:
        if not stop.requested:
            self._first_at = loop.time()
            stop.event.set()
            self._on_first()
        elif number == signal.SIGINT and loop.time() - self._first_at > SAME_PRESS_SECONDS:
            self.stops_now = True
            loop.remove_signal_handler(signal.SIGINT)  # the next one is Python's own: it interrupts whatever hangs
            task.cancel()

    def _put_back(self) -> None:
        for number, handler in self._replaced.items():
            signal.signal(number, handler)


def replaceable() -> dict[signal.Signals, Handler]:
    """The handlers of SIGNALS that may be replaced: in the main thread, and if they are not ignored."""
    if threading.current_thread() is not threading.main_thread():
        return {}
    found = {number: signal.getsignal(number) for number in SIGNALS}
    # None: not set by Python, which could not put it back
    return {number: handler for number, handler in found.items() if handler not in (None, signal.SIG_IGN)}
