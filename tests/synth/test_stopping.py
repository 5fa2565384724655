"""Ctrl-C by real signals to a real process: once finishes what is in flight, twice stops now."""

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from synth.commands.stopping import SIGNALS, Stop, run_stoppable, stopping_line
from synth.records import BudgetSpent
from tests.conftest import REPOSITORY

PROGRAM = Path(__file__).parent / "stoppable.py"
LAST_LINE = "stopped; what was done is kept, run the same command again to go on"
LOOPS = pytest.mark.parametrize("loop", [[], ["--plain-loop"]], ids=["uvloop", "asyncio"])


class Running:
    """The command, up to where its loop begins."""

    def __init__(self, *options: str, ignored: str = "") -> None:
        self._process = subprocess.Popen(
            ["sh", "-c", 'test -z "$0" || trap "" "$0"; exec "$@"', ignored, sys.executable, str(PROGRAM), *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
        )
        assert self._process.stdout and self._process.stdout.readline() == "ready\n"
        self._since = time.monotonic()

    def send(self, number: signal.Signals, after: float) -> None:
        """Send a signal so many seconds after the last one (or the beginning)."""
        time.sleep(after)
        self._process.send_signal(number)
        self._since = time.monotonic()

    def end(self) -> tuple[int, str, str, float]:
        """Exit code, standard output, standard error, and the seconds since the last signal."""
        out, err = self._process.communicate(timeout=20)
        return self._process.returncode, out, err, time.monotonic() - self._since

    def kill(self) -> None:
        self._process.kill()
        self._process.communicate()


@LOOPS
@pytest.mark.parametrize("number", SIGNALS)
def test_one_signal_finishes_what_is_in_flight_and_says_so(number: signal.Signals, loop: list[str]) -> None:
    running = Running("--seconds", "0.8", *loop)
    running.send(number, after=0.4)
    code, out, err, seconds = running.end()
    assert (code, out) == (130, "sent 8, lost 0\n")
    said = "stopping: 8 requests in flight will be finished (at most 120 s); Ctrl-C again to stop now"
    assert err.splitlines() == [said, "cleaned up", LAST_LINE]
    assert seconds < 5


@LOOPS
def test_a_second_ctrl_c_stops_now(loop: list[str]) -> None:
    running = Running("--seconds", "60", *loop)
    running.send(signal.SIGINT, after=0.4)
    running.send(signal.SIGINT, after=0.4)
    code, out, err, seconds = running.end()
    assert (code, out) == (130, "")
    assert err.splitlines()[1:] == ["cleaned up", LAST_LINE]
    assert seconds < 5


@LOOPS
def test_a_third_ctrl_c_does_not_wait_for_what_hangs_at_the_end(loop: list[str]) -> None:
    running = Running("--seconds", "60", "--stuck-at-the-end", *loop)
    for _ in range(3):
        running.send(signal.SIGINT, after=0.4)
    code, _, err, seconds = running.end()
    assert (code, err.splitlines()[-1]) == (130, LAST_LINE)
    assert "Traceback" not in err
    assert seconds < 5


def test_ctrl_c_after_sigterm_stops_now() -> None:
    running = Running("--seconds", "60")
    running.send(signal.SIGTERM, after=0.4)
    running.send(signal.SIGINT, after=0.4)
    assert running.end()[:2] == (130, "")


def test_sigterm_and_sighup_never_cut_off_what_is_in_flight() -> None:
    running = Running("--seconds", "1.5")
    for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGTERM):
        running.send(number, after=0.3)
    assert running.end()[:2] == (130, "sent 8, lost 0\n")


def test_one_press_that_arrives_twice_is_one() -> None:
    running = Running("--seconds", "0.8")
    running.send(signal.SIGINT, after=0.4)
    running.send(signal.SIGINT, after=0.02)
    code, out, err, _ = running.end()
    assert (code, out, err.count("stopping")) == (130, "sent 8, lost 0\n", 1)


@LOOPS
@pytest.mark.parametrize("after", [0.0, 0.01, 0.05])
def test_ctrl_c_as_the_loop_begins_is_no_traceback(after: float, loop: list[str]) -> None:
    running = Running("--seconds", "0.1", *loop)
    running.send(signal.SIGINT, after=after)
    code, _, err, seconds = running.end()
    assert (code, err.splitlines()[-1], "Traceback" in err) == (130, LAST_LINE, False)
    assert seconds < 5


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_that_was_ignored_before_stays_ignored(number: signal.Signals) -> None:
    running = Running("--seconds", "0.6", "--total", "8", ignored=number.name.removeprefix("SIG"))
    running.send(number, after=0.3)
    assert running.end()[:3] == (0, "sent 8, lost 0\n", "cleaned up\n")


def test_nothing_in_flight_is_not_waited_for() -> None:
    assert stopping_line(0, 120) == "stopping; Ctrl-C again to stop now"
    assert "1 request in flight will be finished (at most 7.5 s)" in stopping_line(1, 7.5)


@pytest.fixture
def handlers() -> Iterator[dict[signal.Signals, object]]:
    """A handler of somebody else's for each signal, and what stands there in the end."""
    before = {number: signal.signal(number, lambda *_: None) for number in SIGNALS}
    yield {number: signal.getsignal(number) for number in SIGNALS}
    for number, handler in before.items():
        signal.signal(number, handler)


async def answer(_: Stop) -> int:
    return 42


def test_the_handlers_of_others_are_put_back(handlers: dict[signal.Signals, object]) -> None:
    assert run_stoppable(answer, on_first=lambda: None) == 42
    assert {number: signal.getsignal(number) for number in SIGNALS} == handlers


def test_python_s_own_handler_is_put_back_after_a_signal_and_an_error() -> None:
    async def main(stop: Stop) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        await stop.event.wait()
        raise BudgetSpent("spent")

    before = [signal.getsignal(number) for number in SIGNALS]
    with pytest.raises(BudgetSpent):
        run_stoppable(main, on_first=lambda: None)
    assert [signal.getsignal(number) for number in SIGNALS] == before


def test_a_thread_that_hears_no_signals_just_runs() -> None:
    found: list[int] = []
    thread = threading.Thread(target=lambda: found.append(run_stoppable(answer, on_first=lambda: None)))
    thread.start()
    thread.join()
    assert found == [42]


def test_a_cancelled_run_that_nobody_stopped_is_no_ctrl_c() -> None:
    async def main(_: Stop) -> None:
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        run_stoppable(main, on_first=lambda: None)
