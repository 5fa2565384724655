"""The workers of an engine: never fewer than may be in flight, and no more than that without a reason."""

import asyncio
from collections.abc import Awaitable, Callable

from synth.records import Stopped


class Crew:
    """
    `size` workers, and one more for each whose request has to wait by itself before it is sent again: another goes in
    its place meanwhile. More would only wait for their turn, and waking whoever waited costs a tenth of a request.

    `stopping`: nothing more is to be sent.
    """

    def __init__(self, size: int) -> None:
        self.stopping = asyncio.Event()
        self._size = size
        self._working = self._pausing = 0
        self._hire: Callable[[], None] = _nobody

    async def work(self, one: Callable[[], Awaitable[bool]]) -> None:
        """
        Do one after the other, `size` at a time, until one returns False: nothing is left. Those begun are finished.

        Raises:
            ExceptionGroup: one raised; the others are cancelled.
        """
        is_left = True

        async def worker() -> None:
            nonlocal is_left
            try:
                while is_left and self._working <= self._size + self._pausing:
                    is_left = await one() and is_left
            finally:
                self._working -= 1

        def hire() -> None:
            if is_left and self._working < self._size + self._pausing <= 2 * self._size:
                self._working += 1
                group.create_task(worker())

        try:
            async with asyncio.TaskGroup() as group:
                self._hire = hire
                for _ in range(self._size):
                    hire()
        finally:
            self._hire = _nobody

    async def pause(self, seconds: float) -> None:
        """Sleep, unless Stopped. For a worker that holds no place at a server."""
        self._pausing += 1
        self._hire()
        try:
            await asyncio.wait_for(self.stopping.wait(), seconds)
        except TimeoutError:
            return
        finally:
            self._pausing -= 1
        raise Stopped("stopped before it was asked again")


def _nobody() -> None:
    """Hires when there is nothing to do."""
