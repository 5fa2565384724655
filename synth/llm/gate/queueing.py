"""Whether replies take longer the more requests are under way: then they queue inside the server."""

import math
from collections.abc import Sequence

SLOW = 1.0  # seconds; whether shorter replies queue is of no interest to any timeout
QUEUES = 0.6  # slope of time by level, in logarithms: 1 where all queue, 0 where none does
LEVELS_APART = math.log(1.5)  # two levels that are nearer to each other cannot be compared
FIRST_ROUND = 12  # answers


class Queueing:
    """
    Compares one round of answers with another at a different level, in logarithms (times are lognormal: a mean of
    seconds would be that of the longest).
    """

    __slots__ = ("_base", "_before", "_last", "_round", "is_sure")

    def __init__(self) -> None:
        self._round: list[tuple[float, float]] = []  # logarithms of: requests under way when it was sent, seconds
        self._last: tuple[float, float] | None = None  # of a round at which nothing queued
        self._before: tuple[float, float] | None = None  # of the round at which it seemed to queue, until that is sure
        self.is_sure = False  # what seemed to queue was looked at again, and still seems so
        self._base = 0.0  # seconds of a reply that did not queue

    def start_round(self) -> None:
        """Another limit holds from now on: what was heard so far is of another level."""
        self._round = []

    def heard(self, level: int, seconds: float, limit: int) -> float | None:
        """
        One more answer. If the round that it completes says that replies queue: how many at once are enough; if it says
        that they do not, though they seemed to: how many it was before. Else None.
        """
        self._round.append((math.log(level), math.log(max(seconds, 1e-3))))
        if len(self._round) < (FIRST_ROUND if self._last is None else max(16, limit)):
            return None
        answers, self._round = sorted(self._round), []
        now = _mean(answers)
        if self._before is not None:
            before, self._before = self._before, None
            self.is_sure = _slope(now, before) >= QUEUES / 2
            if not self.is_sure:
                self._last = before
                return math.exp(before[0])
        queues = self._first_ones_queued(answers) if self._last is None else self._rose(now)
        if queues is None:
            return None
        if not queues or now[1] < math.log(SLOW):
            self._last = now
            return None
        enough = LEVELS_APART + now[0] + self._base - now[1]  # Little's law, and half as many in wait
        self._last, self._before = (enough, self._base + LEVELS_APART), now
        return math.exp(enough)

    def _first_ones_queued(self, answers: Sequence[tuple[float, float]]) -> bool:
        """They were sent together, so that those sent last have queued longest."""
        half = len(answers) // 2
        low, high = _mean(answers[:half]), _mean(answers[half:])
        queued = high[1] - low[1] > max(0.55, QUEUES * (high[0] - low[0]))
        self._base = _mean(answers[: half // 2] if queued else answers)[1]
        return queued

    def _rose(self, now: tuple[float, float]) -> bool | None:
        assert self._last is not None
        return None if now[0] - self._last[0] < LEVELS_APART else _slope(self._last, now) > QUEUES


def _slope(low: tuple[float, float], high: tuple[float, float]) -> float:
    """How much longer replies take at the higher level; 1 if there is too little between the levels to say."""
    apart = high[0] - low[0]
    return (high[1] - low[1]) / apart if apart >= LEVELS_APART else 1.0


def _mean(pairs: Sequence[tuple[float, float]]) -> tuple[float, float]:
    return sum(pair[0] for pair in pairs) / len(pairs), sum(pair[1] for pair in pairs) / len(pairs)
