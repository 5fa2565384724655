"""
The gate in front of one LLM server: who is let through, and when. How many may be under way, and how fast they may
follow each other, is learnt from what the server refuses and how long it takes (pushback.py), from what it says of
itself (stated.py), and bounded by what the user states (paces.py).
"""

import asyncio
import math
import random
from collections import deque
from types import TracebackType

from synth.llm.faults import Limits
from synth.llm.gate.paces import Ceiling
from synth.llm.gate.pushback import Pushback
from synth.llm.gate.rates import LONGEST_PAUSE
from synth.llm.gate.stated import Stated

SHORTEST_ALARM = 0.002  # seconds between two looks at who is due; uvloop's timers know milliseconds only
NEAR_ALARM = 0.05  # seconds; who waits for less than that need not be looked at sooner


class Turn:
    """
    One request's time inside the gate: `async with gate.turn() as turn`. Say how it went before leaving; leaving
    without a word (a broken connection) says nothing about the server's limits.
    """

    __slots__ = ("_gate", "again", "level", "number", "place", "started", "tokens")

    def __init__(self, gate: "Gate", tokens: int, again: bool) -> None:
        self._gate, self.tokens, self.again = gate, tokens, again
        self.place: asyncio.Future[None] | None = None
        self.number = self.level = 0  # once let through: how many were before it, how many are under way
        self.started = 0.0

    async def __aenter__(self) -> "Turn":
        if not self._gate._enter(self):
            await self._gate._wait(self)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._gate._leave()

    def served(self, *, tokens: int = 0, limits: Limits | None = None) -> None:
        """A reply came. `tokens`: of prompt and reply, as the server counts them; 0 if it does not say."""
        self._gate._served(self, tokens, limits)

    def refused(self, seconds: float | None, limits: Limits | None = None) -> float:
        """
        The server said 429 or 503, and Retry-After, if so. Returns the seconds that this request should wait before it
        comes again; 0 if the gate itself makes everybody wait.
        """
        return self._gate._refused(self, seconds, limits)


class Gate:
    """
    Lets requests through to one server and model: at most `limit` at once, first come first served, at the pace that
    the server takes and within the ceilings that the user states. For one event loop and any number of tasks.

    Args:
        most: `limit` never passes this.
        requests_per_minute, tokens_per_minute: never passed in any minute; tokens as each turn expects them.
    """

    def __init__(
        self, most: int, *, requests_per_minute: float | None = None, tokens_per_minute: float | None = None
    ) -> None:
        self._pushback = Pushback(most)
        self._first: deque[Turn] = deque()
        self._again: deque[Turn] = deque()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._alarm: asyncio.Handle | None = None
        self._alarm_at = 0.0
        self._released = False
        self._unserved_since: float | None = None  # the first refusal after which nothing was served
        self._ceiling = Ceiling(requests_per_minute) if requests_per_minute else None
        self._token_ceiling = Ceiling(tokens_per_minute) if tokens_per_minute else None
        self._stated, self._stated_tokens = Stated(), Stated()

    @property
    def limit(self) -> int:
        """How many requests may be under way at once now."""
        return self._pushback.limit

    @property
    def in_flight(self) -> int:
        """How many are under way."""
        return self._pushback.in_flight

    @property
    def waiting(self) -> int:
        """How many wait to be let through."""
        return len(self._first) + len(self._again)

    def turn(self, tokens: int = 0, *, again: bool = False) -> Turn:
        """
        Wait to be let through, then hold a place, inside `async with`.

        Args:
            tokens: what the request is expected to take, prompt and reply.
            again: it was sent before, and goes ahead of those that come for the first time.
        """
        return Turn(self, tokens, again)

    def release(self) -> None:
        """Let everybody through, now and from now on: nothing more is to be sent, and they are to find that out."""
        self._released = True
        if self._loop is not None:
            self._admit()

    def found(self) -> str:
        """What was found of the server, in one line for people; "" if it takes all."""
        return (
            (self._pushback.rate.found(self._loop.time()) if self._loop is not None else "")
            or self._stated.found("requests")
            or self._stated_tokens.found("tokens")
            or self._pushback.found()
        )

    # ---- letting through

    def _enter(self, turn: Turn) -> bool:
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
            self._pushback.rate.start(self._loop.time())
        now = self._loop.time()
        if not self._released:
            if self._first or self._again or self._pushback.in_flight >= self._pushback.limit:
                return False
            if self._delay(now, turn.tokens) > 0:
                return False
        self._let(turn, now)
        return True

    async def _wait(self, turn: Turn) -> None:
        assert self._loop is not None
        turn.place = self._loop.create_future()
        queue = self._again if turn.again else self._first
        queue.append(turn)
        if turn.again or len(queue) == 1:
            self._admit()  # it may be the first of all, and then sets the alarm
        try:
            await turn.place
        except asyncio.CancelledError:
            if turn.place.cancelled():
                if turn in queue:  # else it was passed over already
                    queue.remove(turn)
                self._admit()
            else:  # let through and cancelled in one breath: pass the place on
                self._leave()
            raise

    def _let(self, turn: Turn, now: float) -> None:
        pushback = self._pushback
        pushback.in_flight += 1
        pushback.num_sent += 1
        turn.number, turn.level, turn.started = pushback.num_sent, pushback.in_flight, now
        for pace in (pushback.spread, pushback.rate.pace):
            if pace is not None:
                pace.take(1)
        self._stated.take(1)
        self._stated_tokens.take(turn.tokens)
        if self._ceiling is not None:
            self._ceiling.take(now, 1)
        if self._token_ceiling is not None:
            self._token_ceiling.take(now, turn.tokens)

    def _leave(self) -> None:
        self._pushback.in_flight -= 1
        if not (self._first or self._again):
            return
        assert self._loop is not None
        if self._alarm is None or self._alarm_at - self._loop.time() > NEAR_ALARM:
            self._admit()  # what the alarm was set for may have changed with this answer; a near one will look itself

    def _admit(self) -> None:
        assert self._loop is not None
        pushback, now = self._pushback, self._loop.time()
        while (queue := self._again or self._first) and (pushback.in_flight < pushback.limit or self._released):
            turn = queue[0]
            delay = 0.0 if self._released else self._delay(now, turn.tokens)
            if delay > 0:
                self._set_alarm(now + max(delay, SHORTEST_ALARM))
                return
            queue.popleft()
            if turn.place is not None and not turn.place.done():  # else cancelled, and about to find out
                self._let(turn, now)
                turn.place.set_result(None)

    def _delay(self, now: float, tokens: int) -> float:
        """Seconds until a request of so many tokens may go."""
        pushback = self._pushback
        delay = pushback.paused_until - now
        if pushback.spread is not None:
            delay = max(delay, pushback.spread.delay(now, 1))
        if pushback.rate.pace is not None:
            delay = max(delay, pushback.rate.pace.delay(now, 1))
        if self._stated.pace is not None:
            delay = max(delay, self._stated.pace.delay(now, 1))
        if self._stated_tokens.pace is not None:
            delay = max(delay, self._stated_tokens.pace.delay(now, tokens))
        if self._ceiling is not None:
            delay = max(delay, self._ceiling.delay(now, 1))
        if self._token_ceiling is not None:
            delay = max(delay, self._token_ceiling.delay(now, tokens))
        return delay

    def _set_alarm(self, when: float) -> None:
        assert self._loop is not None
        if self._alarm is not None:
            if self._alarm_at <= when:
                return  # it will look again
            self._alarm.cancel()
        self._alarm, self._alarm_at = self._loop.call_at(when, self._ring), when

    def _ring(self) -> None:
        self._alarm = None
        self._admit()

    # ---- what an answer tells

    def _served(self, turn: Turn, tokens: int, limits: Limits | None) -> None:
        assert self._loop is not None
        now = self._loop.time()
        self._unserved_since = None
        if limits is not None:
            self._heed(now, turn, limits)
        self._stated.served(1, 1)
        self._stated_tokens.served(tokens or turn.tokens, turn.tokens)
        self._pushback.served(turn, now, waiting=bool(self._first or self._again))

    def _refused(self, turn: Turn, seconds: float | None, limits: Limits | None) -> float:
        assert self._loop is not None
        now, pushback = self._loop.time(), self._pushback
        asked = seconds if seconds is not None and 0 <= seconds < math.inf else None
        if self._unserved_since is None:
            self._unserved_since = now
        if limits is not None:
            self._heed(now, turn, limits)
        pushback.refused(turn, now, asked)
        if pushback.paused_until - now > 1.0 and pushback.rate.blocked_since is not None:
            return 0.0
        shortest = max(
            0.25 * (now - self._unserved_since), min(1.0, max(0.05, pushback.seconds)) if asked is None else 0.02
        )
        return min(max(asked or 0.0, min(shortest, 30.0)), LONGEST_PAUSE) * random.uniform(1.0, 1.1)

    def _heed(self, now: float, turn: Turn, limits: Limits) -> None:
        others = self._pushback.in_flight - 1
        self._stated.heed(now, limits.requests, limits.requests_left, limits.requests_reset, others)
        self._stated_tokens.heed(now, limits.tokens, limits.tokens_left, limits.tokens_reset, others * turn.tokens)
