"""
What the chat server of the tests takes: how many requests at a time, how many by the minute, how long each takes.

All of it is arithmetic on times that are handed in, so that a test may run through an hour in a moment.
"""

import math
import random
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Latency:
    """
    How long a reply takes: `median` seconds, drawn from a lognormal distribution of that `sigma` (0: always the same),
    and `per_token` seconds for each token of the reply.
    """

    median: float = 0.0
    sigma: float = 0.0
    per_token: float = 0.0

    def seconds(self, chance: random.Random, tokens: int) -> float:
        drawn = self.median * math.exp(chance.gauss(0.0, self.sigma)) if self.sigma else self.median
        return drawn + self.per_token * tokens


@dataclass
class _Window:
    """At most `most` in each window of `seconds`; what is left is lost when the next one begins."""

    most: float
    seconds: float
    used: float = 0.0
    began: float = -math.inf

    def wait(self, amount: float, now: float) -> float:
        """Seconds until `amount` may be taken, 0 for now."""
        if now - self.began >= self.seconds:
            self.began, self.used = now, 0.0
        return 0.0 if self.used + min(amount, self.most) <= self.most else self.began + self.seconds - now

    def take(self, amount: float) -> None:
        self.used += amount

    def left(self, now: float) -> float:
        return max(0.0, self.most - self.used)

    def reset(self, now: float) -> float:
        """Seconds until it is whole again."""
        return max(0.0, self.began + self.seconds - now)


@dataclass
class _Bucket:
    """A bucket of `most` that fills at `most` per `seconds`, and holds `burst` at most."""

    most: float
    seconds: float
    burst: float
    held: float = field(init=False)
    seen: float = field(init=False, default=math.nan)

    def __post_init__(self) -> None:
        self.held = self.burst

    def wait(self, amount: float, now: float) -> float:
        self._fill(now)
        missing = min(amount, self.burst) - self.held
        return 0.0 if missing <= 1e-9 else missing * self.seconds / self.most

    def take(self, amount: float) -> None:
        self.held -= amount  # below nothing by a request of more than the bucket holds

    def left(self, now: float) -> float:
        self._fill(now)
        return max(0.0, self.held)

    def reset(self, now: float) -> float:
        self._fill(now)
        return (self.burst - self.held) * self.seconds / self.most

    def _fill(self, now: float) -> None:
        if not math.isnan(self.seen):
            self.held = min(self.burst, self.held + (now - self.seen) * self.most / self.seconds)
        self.seen = now


@dataclass(frozen=True)
class Rate:
    """
    So many requests, and tokens of prompt and reply, per `seconds`: in windows that begin with their first request, or
    with `burst` (a share of the limit) from a bucket that fills all the time. `headers`: whether responses tell of it.
    """

    requests: int | None = None
    tokens: int | None = None
    seconds: float = 60.0
    burst: float | None = None
    headers: bool = False

    def meter(self) -> "RateMeter":
        return RateMeter(self)


class RateMeter:
    """A Rate at work."""

    def __init__(self, rate: Rate) -> None:
        self._rate = rate
        self._limits: dict[str, _Window | _Bucket] = {}
        for name, most in (("requests", rate.requests), ("tokens", rate.tokens)):
            if most is not None and rate.burst is None:
                self._limits[name] = _Window(most, rate.seconds)
            elif most is not None and rate.burst is not None:
                self._limits[name] = _Bucket(most, rate.seconds, max(1.0, most * rate.burst))

    def admit(self, tokens: int, now: float) -> float:
        """0 if a request of so many tokens is taken, and counted; else the seconds after which it may be."""
        amounts = {"requests": 1, "tokens": tokens}
        wait = max((limit.wait(amounts[name], now) for name, limit in self._limits.items()), default=0.0)
        if not wait:
            for name, limit in self._limits.items():
                limit.take(amounts[name])
        return wait

    def headers(self, now: float) -> dict[str, str]:
        """The x-ratelimit-* headers as OpenAI writes them."""
        if not self._rate.headers:
            return {}
        said = {}
        for name, limit in self._limits.items():
            said[f"x-ratelimit-limit-{name}"] = f"{limit.most:.0f}"
            said[f"x-ratelimit-remaining-{name}"] = f"{math.floor(limit.left(now))}"
            said[f"x-ratelimit-reset-{name}"] = span(limit.reset(now))
        return said


@dataclass(frozen=True)
class Capacity:
    """
    What a server takes: a request beyond `at_once` is refused, one beyond `slots` waits for another to end, one beyond
    `rate` is refused with the right Retry-After. None: no such limit.
    """

    at_once: int | None = None
    slots: int | None = None
    rate: Rate | None = None


@dataclass(frozen=True)
class Move:
    """The capacity that a server has after so many requests and so many seconds from the first of them."""

    to: Capacity
    after_requests: int = 0
    after_seconds: float = 0.0


def span(seconds: float) -> str:
    """6m0s, 1.5s or 120ms."""
    if seconds < 1:
        return f"{round(seconds * 1000)}ms"
    minutes, rest = divmod(seconds, 60)
    return f"{minutes:.0f}m{rest:.3g}s" if minutes else f"{rest:.3g}s"
