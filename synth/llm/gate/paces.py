"""How fast requests may follow each other: a pace that was learnt or said, and the ceilings that the user states."""

import math
from collections import deque

GRAIN = 0.004  # seconds; what is due within so long goes together: a timer for each request costs more than it is worth
LEAST_LEARNT = 3 / 60  # requests per second; no server is known that takes less
MINUTE = 60.5  # seconds; requests do not arrive as evenly as they are sent


class Pace:
    """
    At most `rate` units a second, and `burst` at once. What is larger than that waits for a full bucket and leaves a
    debt.
    """

    __slots__ = ("_at", "burst", "level", "rate")

    def __init__(self, rate: float, burst: float) -> None:
        self.rate, self.burst, self.level, self._at = rate, burst, burst, -math.inf

    def delay(self, now: float, units: float) -> float:
        """Seconds until so many units may go."""
        self.level = min(self.burst, self.level + (now - self._at) * self.rate)
        self._at = now
        missing = min(units, self.burst) - self.level
        return missing / self.rate if missing > 1e-9 else 0.0

    def take(self, units: float) -> None:
        """Spend units, of which the delay is over; negative ones come back."""
        self.level -= units

    def change(self, rate: float) -> None:
        """Go on at another rate, but not so slowly that nothing would be learnt any more."""
        self.rate = max(rate, LEAST_LEARNT)
        self.burst = max(1.0, self.rate / 50)

    def start(self, now: float, rate: float, level: float) -> None:
        """Begin anew, with so many that may go at once."""
        self.change(rate)
        self.level, self._at = level, now


class Ceiling:
    """So many units in any minute and no more, spread evenly: at most a second's worth goes at once."""

    __slots__ = ("_pace", "_per_minute", "_spent", "_total")

    def __init__(self, per_minute: float) -> None:
        self._per_minute = per_minute
        self._pace = Pace(per_minute / MINUTE, max(1.0, per_minute / 60))
        self._spent: deque[tuple[float, float]] = deque()  # of the last minute: when, and how much
        self._total = 0.0

    def delay(self, now: float, units: float) -> float:
        """Seconds until so many units may go; what is more than the ceiling goes alone in its minute."""
        delay = self._pace.delay(now, units)
        while self._spent and self._spent[0][0] <= now - MINUTE:
            self._total -= self._spent.popleft()[1]
        excess = self._total + units - self._per_minute
        for at, spent in self._spent:  # until enough of it is a minute old
            if excess <= 1e-6:
                break
            delay = max(delay, at + MINUTE - now)
            excess -= spent
        return delay

    def take(self, now: float, units: float) -> None:
        """Spend units, of which the delay is over."""
        self._pace.take(units)
        self._total += units
        self._spent.append((now, units))
