"""
A command for the tests of Ctrl-C: workers that each have a request in flight, and a display.

python tests/synth/stoppable.py [--seconds OF-ONE-REQUEST] [--total N] [--live] [--plain-loop] [--stuck-at-the-end]
"""

import asyncio
import contextlib
import sys
from collections.abc import Iterator
from typing import Annotated

import typer

from synth.commands.live import live
from synth.commands.stopping import Stop, run_stoppable, stopping_line
from synth.llm.usage import Usage
from synth.screen import run_app, say, warn

WORKERS = 8
app = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False, add_completion=False)


class Requests:
    """A server that takes its time, and what was asked of it."""

    def __init__(self, seconds: float, *, stuck_at_the_end: bool) -> None:
        self.seconds, self.stuck_at_the_end = seconds, stuck_at_the_end
        self.sent = self.replies = self.lost = 0

    def usage(self) -> Usage:
        flying = self.sent - self.replies - self.lost
        return Usage(
            requests=self.sent,
            replies=self.replies,
            in_flight=flying,
            limit=WORKERS,
            tokens_in=400 * self.replies,
            tokens_out=100 * self.replies,
            cost=0.001 * self.replies,
        )

    async def ask(self) -> None:
        self.sent += 1
        try:
            await asyncio.sleep(self.seconds)
            self.replies += 1
        except asyncio.CancelledError:
            self.lost += 1
            if self.stuck_at_the_end:
                await asyncio.sleep(60)
            raise


@app.command()
def work(
    seconds: float = 0.3,
    total: int = 10_000,
    shows: Annotated[bool, typer.Option("--live")] = False,
    plain_loop: bool = False,
    stuck_at_the_end: bool = False,
) -> None:
    """Ask until all is done or it is to stop."""
    if plain_loop:
        sys.modules["uvloop"] = None  # type: ignore[assignment]
    requests = Requests(seconds, stuck_at_the_end=stuck_at_the_end)
    with live("ask", total, requests.usage, as_json=False) if shows else contextlib.nullcontext() as shown:

        async def worker(seeds: Iterator[int], stop: Stop) -> None:
            for _ in seeds:
                if stop.requested:
                    return
                await requests.ask()
                if shown:
                    shown.advance()

        async def main(stop: Stop) -> bool:
            seeds = iter(range(total))
            try:
                await asyncio.gather(*(worker(seeds, stop) for _ in range(WORKERS)))
            finally:
                if not shown:
                    warn("cleaned up")
            return stop.requested

        def on_first() -> None:
            (shown.note if shown else warn)(stopping_line(requests.usage().in_flight, 120))

        say("ready")
        sys.stdout.flush()
        stopped = run_stoppable(main, on_first=on_first)
        say(f"sent {requests.sent}, lost {requests.sent - requests.replies}")
        sys.stdout.flush()
    if stopped:
        raise typer.Exit(130)


if __name__ == "__main__":
    run_app(app)
