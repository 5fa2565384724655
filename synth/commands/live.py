"""
What people see while a run asks an LLM, on standard error.

On a terminal: three lines that are drawn anew a few times a second, with notes above them as they come. Elsewhere (CI,
nohup, cron) one line now and then, without control characters; with --json the same as JSON, one object a line.

All of it is drawn by a thread, never by the event loop: a terminal that takes nothing (Ctrl-S) holds up no request, and
a loop that is busy storing still shows that it is alive.
"""

import json
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from synth.commands.figures import Figures, as_json, line
from synth.commands.pace import Pace
from synth.screen import console, warn
from synth.units import finite

if TYPE_CHECKING:
    from synth.commands.frames import Frames
    from synth.llm.budget import Spent
    from synth.llm.ceilings import Ceilings
    from synth.llm.usage import Usage

FRAME_SECONDS = 0.25
FIRST_SECONDS = 2.0  # until the first plain line: short runs need none


class Live:
    """A run's display. For the task or thread that works; nothing here waits for the screen."""

    def __init__(
        self, total: int, read: "Callable[[], Usage]", left: Callable[[], dict[str, float]], unpriced: Sequence[str]
    ) -> None:
        self._total, self._read, self._left, self._unpriced = total, read, left, unpriced
        self._done = self._failed = 0
        self._state = ""
        self._noted: set[str] = set()
        self._unsaid: deque[str] = deque()
        self._replayed = 0
        self._began = time.monotonic()
        self._pace = Pace(self._began)

    def advance(self, step: int = 1) -> None:
        """So many more seeds are done."""
        self._done += step

    def fail(self, step: int = 1) -> None:
        """So many of the seeds that are done gave nothing: they are left for another run."""
        self._failed += step

    def note(self, text: str) -> None:
        """Something that people should know now, in one line; the same is said once."""
        if text not in self._noted:
            self._noted.add(text)
            self._unsaid.append(text)

    def state(self, text: str) -> None:
        """What the run waits for, if that is more than replies; "" when it goes on."""
        self._state = text

    def look(self, *, over: bool = False) -> Figures:
        """The figures of this moment."""
        now, usage = time.monotonic(), self._read()
        seen = Figures(
            self._done,
            self._total,
            now - self._began,
            usage,
            state=self._state,
            left=self._left(),
            over=over,
            failed=self._failed,
        )
        if usage.replayed > self._replayed:  # replies from the journal come at a pace that will not last
            self._replayed = usage.replayed
            self._pace.skip(now)
        self._pace.saw(now, seen.made, in_flight=usage.in_flight, at_once=usage.limit)
        if usage.requests and usage.cost is None:
            of = f" of {', '.join(self._unpriced)}" if self._unpriced else ""
            self.note(
                f"unknown price{of}: tokens only; state price_in and price_out in synth.toml to see what they cost"
            )
        return replace(seen, per_second=self._pace.per_second())

    def take_notes(self) -> Iterator[str]:
        """The notes that were not yet said."""
        while self._unsaid:
            yield " ".join(self._unsaid.popleft().split())


@contextmanager
def live(
    description: str,
    total: int,
    read: "Callable[[], Usage]",
    *,
    as_json: bool,
    ceilings: "Ceilings | None" = None,
    spent: "Callable[[], Spent] | None" = None,
    unpriced: Sequence[str] = (),
    every_seconds: float = 10.0,
) -> Iterator[Live]:
    """
    Show a run while it goes on; the last figures stay on the screen when it ends, however it ends.

    Args:
        description: what the run does, and with what, in a few words.
        total: seeds.
        read: what the engine did so far. Called by another thread than the one that works: it may only read.
        as_json: lines of JSON: the figures, and notes as {"note": ...}.
        ceilings: what may be spent in all; what is left of it is shown, as `spent` tells.
        spent: where the budget stands, earlier runs included; called as `read` is.
        unpriced: the endpoints that have no price.
        every_seconds: from one line to the next where standard error is no terminal.
    """
    shown = Live(total, read, lambda: _left(ceilings, spent), unpriced)
    over = threading.Event()

    def draw() -> None:
        while not over.wait(FRAME_SECONDS):
            _show(screen, shown)

    drawing = threading.Thread(target=draw, name="progress", daemon=True)  # a stuck terminal must not keep the process
    screen = _screen(description, as_json, every_seconds)
    try:
        drawing.start()
        yield shown
    finally:
        over.set()
        try:
            drawing.join()
        finally:  # Ctrl-C once more: the terminal still gets its cursor back
            _show(screen, shown, over=True)


def _left(ceilings: "Ceilings | None", spent: "Callable[[], Spent] | None") -> dict[str, float]:
    """What is left below each ceiling, what was lost counted as spent; earlier runs may have passed it."""
    if ceilings is None or spent is None:
        return {}
    now = spent()
    left = {
        "cost": None if ceilings.max_cost is None else ceilings.max_cost - (now.cost or 0.0) - (now.lost_cost or 0.0),
        "tokens": None if ceilings.max_tokens is None else ceilings.max_tokens - now.tokens - now.lost_tokens,
        "requests": None if ceilings.max_requests is None else ceilings.max_requests - now.requests,
    }
    return {name: max(amount, 0) for name, amount in left.items() if amount is not None}


def _show(screen: "_Lines | Frames", shown: Live, *, over: bool = False) -> None:
    figures = shown.look(over=over)
    for note in shown.take_notes():
        screen.note(note)
    screen.show(figures)


def _screen(description: str, as_json: bool, every_seconds: float) -> "_Lines | Frames":
    # What a person asks of colours (FORCE_COLOR) makes no terminal of a file.
    if not as_json and sys.stderr.isatty() and (sys.stderr.encoding or "").lower().startswith("utf"):
        terminal = console(stderr=True)
        if terminal.is_terminal and terminal.is_interactive:
            from synth.commands.frames import Frames  # rich takes a while to import

            return Frames(description, terminal)
    return _Lines(description, as_json, every_seconds)


class _Lines:
    """One line of text, or of JSON, now and then."""

    def __init__(self, description: str, as_json: bool, every_seconds: float) -> None:
        self._description, self._as_json, self._every_seconds = description, as_json, every_seconds
        self._next = min(FIRST_SECONDS, every_seconds)

    def note(self, text: str) -> None:
        warn(json.dumps({"note": text}) if self._as_json else text)

    def show(self, figures: Figures) -> None:
        if figures.seconds < self._next and not figures.over:
            return
        self._next = figures.seconds + self._every_seconds
        warn(json.dumps(finite(as_json(figures))) if self._as_json else f"{self._description}: {line(figures)}")
