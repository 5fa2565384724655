"""
The gate in front of the LLM server: how many requests may be under way at once, learnt from the server's refusals.

Additive increase, multiplicative decrease, judged once per round trip. A round trip is the first `limit` requests sent
since the last judgement; when they have been answered, the limit grows by one if nearly all were served, else it falls
to what was served. The place of a refused request (HTTP 429 or 503) stays empty until then, or one place too many would
be refused again and again. When most of a round trip is refused, the server is full or has spent its quota: the limit
is halved and nobody is let through until the time that the server asked for (Retry-After) is over. A refusal here and
there concerns that request alone.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

# Up to this share of refusals a round trip passes for served: behind a load balancer one full replica refuses a few
# whatever we send, and a gate that shrinks for each of them ends at one request at a time.
TOLERATED = 1 / 6
# A round trip is judged without its last answers: one reply that takes minutes must not hold the others up.
STRAGGLERS = 1 / 4


@dataclass(slots=True)
class Turn:
    """One request's time inside the gate. Set `refused_for` if the server said no: the seconds it asked to wait."""

    round_trip: int
    counts: bool  # one of the first `limit` requests of its round trip
    refused_for: float | None = None


class Gate:
    """
    Admits at most `limit` requests at once, first come first served; `limit` moves between 1 and `most`.

    For one event loop and any number of tasks. It starts at `most`: a server that takes it all is never held back, and
    with one that does not the limit is halved at each round trip until most is served.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._limit = most
        self._in_flight = 0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._pause: asyncio.TimerHandle | None = None
        self._round_trip = 0
        self._sent = self._answered = self._refused = self._empty = 0  # of this round trip

    @property
    def limit(self) -> int:
        """How many requests may be under way at once now."""
        return self._limit

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[Turn]:
        """Wait to be let through, then hold a place. An exception leaves the gate as an answer, not as a refusal."""
        await self._enter()
        self._sent += 1
        turn = Turn(self._round_trip, counts=self._sent <= self._limit)
        try:
            yield turn
        finally:
            self._in_flight -= 1
            if turn.round_trip == self._round_trip:
                self._leave(turn)
            self._admit()

    async def _enter(self) -> None:
        if not self._waiting and self._is_open():
            self._in_flight += 1
            return
        place = asyncio.get_running_loop().create_future()
        self._waiting.append(place)
        try:
            await place
        except asyncio.CancelledError:
            if place.done() and not place.cancelled():  # let through and cancelled in one breath: pass the place on
                self._in_flight -= 1
                self._admit()
            raise

    def _is_open(self) -> bool:
        return self._pause is None and self._in_flight + self._empty < self._limit

    def _admit(self) -> None:
        while self._waiting and self._is_open():
            place = self._waiting.popleft()
            if not place.done():  # a cancelled one waits no longer
                self._in_flight += 1
                place.set_result(None)

    def _leave(self, turn: Turn) -> None:
        refused = turn.refused_for is not None
        self._empty += refused
        if not turn.counts:
            return
        self._answered += 1
        self._refused += refused
        if self._refused > self._limit / 2:
            self._close(turn.refused_for or 0.0)
            self._start_round_trip(self._limit // 2)
        elif self._answered >= self._limit - int(self._limit * STRAGGLERS):
            tolerated = max(1, int(self._limit * TOLERATED)) if self._limit > 2 else 0
            self._start_round_trip(self._limit + 1 if self._refused <= tolerated else self._limit - self._refused)

    def _close(self, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        until = loop.time() + seconds
        if self._pause is not None:
            until = max(until, self._pause.when())
            self._pause.cancel()
        self._pause = loop.call_at(until, self._reopen)

    def _reopen(self) -> None:
        self._pause = None
        self._admit()

    def _start_round_trip(self, limit: int) -> None:
        self._limit = max(1, min(limit, self._most))
        self._round_trip += 1
        self._sent = self._answered = self._refused = self._empty = 0
