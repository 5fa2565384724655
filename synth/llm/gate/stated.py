"""The pace that a server's own x-ratelimit-* headers allow, where they make sense."""

import math

from synth.llm.gate.paces import Pace

LONGEST_WINDOW = 90.0  # seconds; what headers say of longer windows (a day's quota) tells no pace
LONGEST_DEBT = 60.0  # seconds; no request is held back for longer, whatever those before it took
SHORTEST_DEBT = 1.0  # seconds; a bucket that is nearly full knows nothing of what is under way
LEAST_SAID = 10 / 60  # units per second that are sent whatever headers say, to find out whether they lie


class Stated:
    """
    Of one unit (requests or tokens): what is left, spread over the time until all is there again. That fits fixed
    windows, which it spreads evenly, and buckets, which it holds at half.
    """

    __slots__ = ("_bound", "_checked_until", "_debt", "believed", "limit", "pace", "taken")

    def __init__(self) -> None:
        self.pace: Pace | None = None
        self.limit = 0
        self.believed = True
        self.taken = 0.0  # units served, in all
        self._bound, self._checked_until = math.inf, -math.inf
        self._debt = LONGEST_DEBT  # seconds: the most that is ever owed

    def heed(self, now: float, limit: int | None, left: int | None, reset: float | None, under_way: float) -> None:
        """What one response says; nonsense, and windows longer than about a minute, are passed over."""
        if limit is None or left is None or reset is None or not self.believed:
            return
        if not (0 < limit < 1e12 and 0 <= left <= limit and 0 < reset <= LONGEST_WINDOW):
            return
        if now > self._checked_until:
            # what is under way was taken from one window or two, if it is true
            self._bound, self._checked_until = self.taken + left + limit + min(under_way, 2 * limit), now + 55
        elif self.taken > self._bound:  # more was served in a minute than it said there was
            self._disbelieve()
            return
        rate = max((left - under_way) / reset, limit / 60, LEAST_SAID)
        self.limit = limit
        if self.pace is None:
            self.pace = Pace(rate, 1.0)
        self.pace.rate, self.pace.burst = rate, max(1.0, rate / 4)
        self._debt = min(max(reset, SHORTEST_DEBT), LONGEST_DEBT)  # when all is there again, nothing is owed
        self.take(0)

    def take(self, units: float) -> None:
        """Spend units; negative ones come back."""
        if self.pace is not None:
            self.pace.take(units)
            self.pace.level = max(self.pace.level, -self.pace.rate * self._debt)

    def served(self, units: float, expected: float) -> None:
        """One request was served, for which `expected` units were spent."""
        self.taken += units
        self.take(units - expected)
        if self.pace is not None and units > self.limit:  # one request passes it: that is no limit
            self._disbelieve()

    def _disbelieve(self) -> None:
        self.believed, self.pace = False, None

    def found(self, of_what: str) -> str:
        """One line for people, "" where it says nothing, or far more than is sent."""
        if self.pace is None or self.pace.rate * 60 >= 2 * self.limit:
            return ""
        return f"takes {self.limit} {of_what} per minute (as it says itself)"
