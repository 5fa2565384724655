"""
The pace of requests that a server takes, learnt from what it serves between one time that it refuses all and the next.

A block is such a time: from the first of the refusals until something is served again. What was served from the end of
one block to the end of the next is what the server takes in that time, be it a bucket or a window.
"""

import math
import random

from synth.llm.gate.paces import Pace

NEAR = 0.95  # of a pace that was refused
CAUTIOUS = 8.0  # requests per second after a block, until one is served
LONGEST_COUNTED = 75.0  # seconds; a wait that is longer is not for a rate's sake
LONGEST_PAUSE = 120.0  # seconds; then one request asks whether the server meant it
LONG = 4.0  # seconds; a block that lasts longer is the end of a window's quota, or the server was out of order
LONGEST_PATIENCE = 120.0  # seconds between two attempts at a pace that was refused
AFFORDABLE = 0.03  # refusals, of what was served: so many may be spent on finding out once more
LEAST_SEEN = 15.0  # seconds at a learnt pace, before it is told
MOST_REFUSED = 0.1  # of what was served at a learnt pace; where more is refused, it is not for the pace's sake


class Rate:
    """What is known of it, and the pace that follows; `pace` is None while nothing speaks for a rate."""

    __slots__ = (
        "_after",
        "_before",
        "_blocks",
        "_forgiven",
        "_good",
        "_long",
        "_measured",
        "_paced_refused",
        "_paced_served",
        "_paced_since",
        "_patience",
        "_raise_at",
        "_refused",
        "_served",
        "_since",
        "_step",
        "_wall",
        "blocked_since",
        "ended_at",
        "pace",
    )

    def __init__(self) -> None:
        self.pace: Pace | None = None
        self.blocked_since: float | None = None
        self.ended_at = 0.0  # when the last block is to end, or ended
        self._blocks = 0  # in a row, with nothing served between them
        self._served = self._refused = 0  # since the last block
        self._after = 0.0  # the rate to follow as soon as something is served
        self._before = 0.0  # the rate at which it refused all, if there was a pace
        self._measured = self._long = self._forgiven = False
        self._good = self._wall = 0.0  # rates that were taken, and refused
        self._step, self._patience, self._raise_at = 0.01, 10.0, 0.0
        self._paced_since, self._paced_served, self._paced_refused, self._since = 0.0, 0, 0, 0.0

    def start(self, now: float) -> None:
        """The first request goes."""
        self._since = now

    # ---- what is heard

    def served(self, now: float, *, current: bool) -> bool:
        """A reply came; `current`: sent since the last decrease. Whether that ends a block that needs no pace."""
        if self.pace is not None:
            self._paced_served += 1
        if current and self.blocked_since is not None:
            return self._end_block(now)
        self._served += 1
        return False

    def refused(self) -> None:
        """One more refusal."""
        self._refused += 1
        self._paced_refused += 1

    def _end_block(self, now: float) -> bool:
        assert self.blocked_since is not None
        long = self.ended_at - self.blocked_since > LONG
        cheap = self._refused < AFFORDABLE * self._served
        self.blocked_since, self._blocks = None, 0
        self._forgiven = long and cheap and not self._forgiven and not self._measured
        self._since, self._served, self._refused = self.ended_at, 1, 0
        if self._forgiven:  # it may have been out of order; if it was a quota, that is found out the next time
            self.pace = None
            return True
        if self.pace is not None:
            self.pace.change(self._after)
            if not self._measured:
                self._paced_since, self._paced_served, self._paced_refused = now, 0, 0
        return False

    def block(self, now: float, asked: float | None, in_flight: int) -> float:
        """
        Nearly all is refused. Returns when the next request may go.

        Args:
            asked: seconds, of Retry-After.
            in_flight: requests that may still be served.
        """
        if self.blocked_since is None:
            self.blocked_since = now
            self._before = self._wall if self.pace is not None else 0.0
        self._blocks += 1
        since = now - self.blocked_since
        if asked is None:
            wait = max(1.0, min(since, 8.0), since / 8)
        else:
            wait = max(asked, 0.5 * 2 ** min(self._blocks - 1, 6))
        self.ended_at = now + min(wait, LONGEST_PAUSE) * random.uniform(1.0, 1.02)
        served = self._served + in_flight
        if served:
            self._follow(served, wait)
        return self.ended_at

    @property
    def knows_none(self) -> bool:
        """Whether nothing was ever served before it refused all."""
        return self.pace is None

    def _follow(self, served: int, wait: float) -> None:
        assert self.blocked_since is not None
        blocked = self.ended_at - self.blocked_since
        rate = served / (max(self.blocked_since - self._since, 0.01) + min(blocked, LONGEST_COUNTED))
        if self._before:  # this block is not the first
            rate = min(rate, NEAR * self._before)
            self._measured = True
        if self.pace is None:
            self.pace = Pace(rate, 1.0)
        self._after, self._long = rate, blocked > LONG
        self._good = rate if self._measured else 0.0
        self._wall = min(self._before, 1.5 * rate) if blocked <= LONG and self._before else rate
        self.pace.start(self.ended_at, min(rate, CAUTIOUS), level=1.0)
        self._step = 0.01
        self._raise_at = self.ended_at + (10.0 if self._measured else 3.0)

    # ---- the pace

    def forget(self) -> None:
        """It holds nothing back any more."""
        self.pace, self._measured = None, False

    def lower(self, now: float, rate: float) -> None:
        """Some were refused at this pace: go on at a lower one."""
        assert self.pace is not None
        self._wall = self.pace.rate
        self.pace.start(now, rate, level=0.0)

    def restore(self, rate: float) -> None:
        """They were refused by chance."""
        assert self.pace is not None
        self.pace.change(rate)

    def hold(self, now: float) -> None:
        """No refusals any more: this is what it takes."""
        assert self.pace is not None
        self._good, self._step, self._measured = self.pace.rate, 0.01, True
        self._raise_at = now + self._patience
        self._patience = min(2 * self._patience, LONGEST_PATIENCE)

    def grow(self, now: float, seconds: float) -> None:
        """Try a little more, if it is time; `seconds`: of a reply."""
        pace = self.pace
        if pace is None or now < self._raise_at or pace.level > pace.burst / 2:  # else something else holds back
            return
        if self._measured and pace.rate < NEAR * self._wall:  # between what was taken and what was not
            pace.change(pace.rate + (self._wall - pace.rate) / 4)
            self._raise_at = now + max(5.0, 5 / pace.rate)
            return
        pace.change(pace.rate * (1 + self._step))
        most, pause = (0.08, 10.0) if self._measured else (1.0, 6.0) if self._long else (0.5, 1.0)
        self._step = min(2 * self._step, most)
        self._raise_at = now + max(pause, 2 * seconds, 5 / pace.rate)

    def found(self, now: float) -> str:
        """One line for people, of what was really served at a pace that was found."""
        seconds = now - self._paced_since
        if self.pace is None or not self._measured or seconds < LEAST_SEEN or not self._paced_served:
            return ""
        if self._paced_refused > MOST_REFUSED * self._paced_served:
            return ""
        per_minute = 60 * self._paced_served / seconds
        digits = 1 - math.floor(math.log10(per_minute))
        return f"takes about {round(per_minute, digits):g} requests per minute"
