"""
Simulated LLM servers of every kind of limit, in virtual time: a run of minutes takes a fraction of a second.

`run` sends requests through a gate to a server until each is served, as the engine does, and says how it went.
"""

import asyncio
import math
import random
import selectors
from collections import deque
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, TypeVar

from synth.llm.faults import Limits
from synth.llm.gate.gate import Gate

Latency = Callable[[], float]
Result = TypeVar("Result")


class _Jump(selectors.SelectSelector):
    """Nothing comes from outside: to wait is to set the clock forward."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise RuntimeError("everybody waits, and nothing is going to happen")
        self.now += max(0.0, timeout)
        return super().select(0)


class VirtualLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._jump = _Jump()
        super().__init__(self._jump)

    def time(self) -> float:
        return self._jump.now


def in_virtual_time(coroutine: Coroutine[Any, Any, Result]) -> Result:
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(coroutine)


def lognormal(median: float, sigma: float = 0.5, seed: int = 0) -> Latency:
    chance = random.Random(seed)
    return lambda: chance.lognormvariate(math.log(median), sigma)


def constant(seconds: float) -> Latency:
    return lambda: seconds


def _now() -> float:
    return asyncio.get_running_loop().time()


class Server:
    """Takes all. `retry_after`: what a refusal says; "exact": when the next request would be taken."""

    def __init__(
        self, latency: Latency, *, refusal: float = 0.02, retry_after: float | str | None = None, headers: bool = False
    ) -> None:
        self.latency, self.refusal, self.retry_after, self.headers = latency, refusal, retry_after, headers
        self.under_way = 0

    def takes(self, tokens: int) -> bool:
        return True

    def next_in(self) -> float:
        return 0.0

    def limits(self) -> Limits | None:
        return None

    async def work(self) -> None:
        await asyncio.sleep(self.latency())

    async def ask(self, tokens: int) -> tuple[bool, float | None, Limits | None]:
        taken = self.takes(tokens)
        limits = self.limits() if self.headers else None
        if not taken:
            seconds = self.next_in() if self.retry_after == "exact" else self.retry_after
            await asyncio.sleep(self.refusal)
            return False, seconds if not isinstance(seconds, str) else None, limits
        self.under_way += 1
        try:
            await self.work()
        finally:
            self.under_way -= 1
        return True, None, limits


class AtOnce(Server):
    """Refuses what is more than so many at a time, as a function of the time."""

    def __init__(self, number: Callable[[float], int], latency: Latency, **settings: Any) -> None:
        super().__init__(latency, **settings)
        self.number = number

    def takes(self, tokens: int) -> bool:
        return self.under_way < self.number(_now())


class Chance(Server):
    """Refuses a share of the requests, whatever is sent."""

    def __init__(self, share: float, latency: Latency, *, seed: int = 1, **settings: Any) -> None:
        super().__init__(latency, **settings)
        self.share, self.chance = share, random.Random(seed)

    def takes(self, tokens: int) -> bool:
        return self.chance.random() >= self.share


class Out(Server):
    """Refuses all for a while."""

    def __init__(self, since: float, until: float, latency: Latency, **settings: Any) -> None:
        super().__init__(latency, **settings)
        self.since, self.until = since, until

    def takes(self, tokens: int) -> bool:
        return not self.since <= _now() < self.until


class Bucket(Server):
    """So many requests (or tokens) per minute, `burst` at once."""

    def __init__(
        self, per_minute: int, burst: int, latency: Latency, *, by_tokens: bool = False, **settings: Any
    ) -> None:
        super().__init__(latency, **settings)
        self.per_minute, self.burst, self.by_tokens = per_minute, burst, by_tokens
        self.level, self.at, self.asked = float(burst), 0.0, 1

    def takes(self, tokens: int) -> bool:
        self.level = min(self.burst, self.level + (_now() - self.at) * self.per_minute / 60)
        self.at, self.asked = _now(), tokens if self.by_tokens else 1
        if self.level < self.asked:
            return False
        self.level -= self.asked
        return True

    def next_in(self) -> float:
        return (self.asked - self.level) / (self.per_minute / 60)

    def limits(self) -> Limits:
        said = self.per_minute, int(self.level), max(0.001, (self.burst - self.level) / (self.per_minute / 60))
        return Limits(None, None, None, *said) if self.by_tokens else Limits(*said)


class Window(Server):
    """So many requests per minute of the clock, all of them at once if you like; the clock starts at `offset`."""

    def __init__(self, per_minute: int, latency: Latency, *, offset: float = 0.0, **settings: Any) -> None:
        super().__init__(latency, **settings)
        self.per_minute, self.offset, self.minute, self.used = per_minute, offset, -1, 0

    def takes(self, tokens: int) -> bool:
        minute = int((_now() + self.offset) // 60)
        if minute != self.minute:
            self.minute, self.used = minute, 0
        if self.used == self.per_minute:
            return False
        self.used += 1
        return True

    def next_in(self) -> float:
        return math.ceil(60 - (_now() + self.offset) % 60)

    def limits(self) -> Limits:
        return Limits(self.per_minute, self.per_minute - self.used, 60 - (_now() + self.offset) % 60)


class Sliding(Server):
    """So many requests in any 60 seconds."""

    def __init__(self, per_minute: int, latency: Latency, **settings: Any) -> None:
        super().__init__(latency, **settings)
        self.per_minute, self.taken = per_minute, deque[float]()

    def takes(self, tokens: int) -> bool:
        while self.taken and self.taken[0] <= _now() - 60:
            self.taken.popleft()
        if len(self.taken) >= self.per_minute:
            return False
        self.taken.append(_now())
        return True

    def next_in(self) -> float:
        return self.taken[0] + 60 - _now()


class Slots(Server):
    """Refuses nothing: works at so many at a time, and lets the others wait."""

    def __init__(self, number: int, latency: Latency, **settings: Any) -> None:
        super().__init__(latency, **settings)
        self.slots = asyncio.Semaphore(number)

    async def work(self) -> None:
        async with self.slots:
            await asyncio.sleep(self.latency())


@dataclass
class Outcome:
    """How a run went: when each request was sent and each reply came, how long they took, what the gate found."""

    gate: Gate
    sent: list[float] = field(default_factory=list)
    replied: list[float] = field(default_factory=list)
    took: list[float] = field(default_factory=list)
    refused: int = 0
    found: str = ""

    @property
    def seconds(self) -> float:
        return self.replied[-1]

    @property
    def share_refused(self) -> float:
        return self.refused / len(self.sent)

    @property
    def steady_rate(self) -> float:
        """Replies per second, from the first tenth of them to the last twentieth: without start and end."""
        first, last = len(self.replied) // 10, int(len(self.replied) * 0.95) - 1
        return (last - first) / (self.replied[last] - self.replied[first])


def run(
    make: Callable[[], Server],
    number: int,
    *,
    most: int = 64,
    tasks: int | None = None,
    tokens: Callable[[], int] = lambda: 0,
    seed: int = 3,
    **ceilings: float,
) -> Outcome:
    """`number` requests of `tasks` tasks (as many as the gate lets through at most), each until it is served."""

    async def all_of_them() -> Outcome:
        random.seed(seed)  # of the gate's waiting times
        server, outcome, pending = make(), Outcome(Gate(most, **ceilings)), iter(range(number))

        async def worker() -> None:
            for _ in pending:
                await _until_served(server, outcome, tokens())

        async with asyncio.TaskGroup() as group:
            for _ in range(tasks or most):
                group.create_task(worker())
        outcome.found = outcome.gate.found()
        return outcome

    return in_virtual_time(all_of_them())


async def _until_served(server: Server, outcome: Outcome, tokens: int) -> None:
    again = False
    while True:
        async with outcome.gate.turn(tokens, again=again) as turn:
            sent = _now()
            outcome.sent.append(sent)
            taken, seconds, limits = await server.ask(tokens)
            if taken:
                turn.served(tokens=tokens, limits=limits)
                outcome.replied.append(_now())
                outcome.took.append(_now() - sent)
                return
            outcome.refused += 1
            wait, again = turn.refused(seconds, limits), True
        await asyncio.sleep(wait)
