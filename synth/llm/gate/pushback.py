"""
How many requests may be under way at a server, and how fast they may follow each other: what its refusals and the time
that its replies take make of that.

- The level starts low and rises by two for each reply, until something pushes back. What is sent meanwhile is spread
  over half of a round trip, so that the first refusals are heard before much more is sent.
- A refusal at a level that was never served is a suspicion. The level goes down to what the server holds just then, and
  the next answers are watched. If the refusals stop, that was the server's limit: it is held, and one more is tried now
  and then, more rarely after each failure.
- A refusal at a level that was served before is no wall. If nearly all that follows is refused as well, the limit has
  fallen (half as many are tried, once), or it is a rate, or a quota is spent: rates.py. If not, it was chance (one full
  replica behind a load balancer): it concerns its own request alone.
- Where replies take long, and longer the more are under way, the level goes back to where they did not: queueing.py.

A decrease counts once: what was sent before it says nothing of the new level.
"""

import math
from typing import Protocol

from synth.llm.gate.paces import GRAIN, Pace
from synth.llm.gate.queueing import Queueing
from synth.llm.gate.rates import Rate

START = 16  # requests at once, before anything is known
WATCHED = 40  # answers without a refusal that make a level safe
BLOCKED = 3  # refusals that make a block, if they are most of what was sent meanwhile
UNDECIDED = 5  # refusals after which they are chance, or else a block
SEEN_SINCE_HALVED = 500  # requests, before it may seem again that it takes fewer at once than before
MOST_CHANCE = 0.2  # share of refusals that may be chance
LOWERED = (0.96, 0.9, 0.82, 0.72, 0.6)  # of a pace, at the first refusal and at those that follow
LONGEST_HOLD = 200  # answers between two attempts at more


class Sent(Protocol):
    """A request that was let through: how many were before it, how many were under way with it, when."""

    number: int
    level: int
    started: float


class _Watch:
    """What became of a suspicion: since which request, and what it was before."""

    __slots__ = ("by_pace", "halved", "known", "last", "limit", "rate", "refused", "since")

    def __init__(self, since: int, limit: int, *, known: bool = False, rate: float = 0.0, halved: bool = False) -> None:
        self.since, self.limit, self.known, self.rate, self.halved = since, limit, known, rate, halved
        self.by_pace = rate > 0
        self.refused, self.last = 0, since


class Pushback:
    """The state of it, for one server. The gate says what was sent and what came of it, and obeys."""

    def __init__(self, most: int) -> None:
        self.limit = min(START, most)
        self.in_flight = self.num_sent = 0
        self.paused_until = -math.inf
        self.spread: Pace | None = None  # so that what follows a bunch of replies is no bunch again
        self.rate = Rate()
        self.seconds = 0.0  # that a reply takes, about
        self._most = most
        self._climbing = True  # nothing has pushed back yet
        self._safe = 0  # the highest level that was served
        self._wall = 0  # the most at once, after more was refused
        self._confirmed = False  # more than the wall was tried again, and refused again
        self._hold, self._backoff, self._step, self._target = 0, 0, 1, 0
        self._calm = 0  # answers since the last decrease or attempt
        self._queueing, self._slower_above = Queueing(), 0
        self._lowered_at = 0  # the number of the last request before the last decrease
        self._halved_at = -SEEN_SINCE_HALVED
        self._watch: _Watch | None = None
        self._chance: float | None = None  # share of refusals that are chance
        self._looked_at = self._refused_of_them = 0

    # ---- what a reply tells

    def served(self, turn: Sent, now: float, *, waiting: bool) -> None:
        """A reply came; `waiting`: others would go, if they were let."""
        seconds = now - turn.started
        self.seconds += 0.1 * (seconds - self.seconds) if self.seconds else seconds
        current = turn.number > self._lowered_at
        if self.rate.served(now, current=current):
            self._start_again()
        if not current:
            return
        self._calm += 1
        if turn.level > self._safe:
            self._safe = turn.level
        if self._watch is not None:
            enough = 10 if self._watch.known else min(WATCHED, 8 + 4 * self.limit)
            if self._calm >= enough and turn.number > self._watch.since:
                self._settle(self._watch, now)
            return
        if self._chance is not None:
            self._count_chance(0)
        spreads = waiting and self.spread is not None and self.rate.pace is None
        if self.in_flight >= self.limit or spreads or (self._climbing and 2 * turn.level > self.limit):
            self._grow(turn, now, seconds)
        else:
            if self._calm > 2 * self.limit:
                self.spread = None
            self.rate.grow(now, self.seconds)

    def _grow(self, turn: Sent, now: float, seconds: float) -> None:
        if self.rate.pace is not None and self._calm > 2 * self.limit + WATCHED:
            self.rate.forget()
        enough = self._queueing.heard(turn.level, seconds, self.limit)
        if enough is not None:
            self._heed_queueing(round(enough))
        elif self._climbing or self.limit < self._target:
            self._raise()
        elif self._calm > self._hold and self.limit < self._most:
            self._calm, self._hold = 0, self.limit + self._step
            self._target = self.limit + self._step
            self._step *= 1 if self._slower_above else 2
            self._raise()
        elif self._calm > 2 * self.limit:
            self.spread = None

    def _raise(self) -> None:
        if self.limit >= self._most:
            self._climbing, self._target = False, 0
            self._spread_out()
            return
        self.limit = min(self._most, self.limit + (2 if self._climbing else 1))
        self._spread_out()

    def _spread_out(self) -> None:
        """What is sent in bunches is refused in bunches, before the first of the refusals is heard."""
        if not self.seconds:
            return
        rate = (1.25 if self.limit >= self._most else 2.0) * self.limit / max(self.seconds, 1e-3)
        if self.spread is None:
            self.spread = Pace(rate, 1.0)
        self.spread.rate, self.spread.burst = rate, max(1.0, rate * GRAIN)

    def _start_again(self) -> None:
        self.limit, self._climbing = min(START, self._most), True

    def _heed_queueing(self, enough: int) -> None:
        if enough > self.limit:  # it only seemed so
            self._slower_above, self.limit = 0, min(enough, self._most)
            self._hold, self._backoff, self._step = self.limit, 0, 1
            return
        self._climbing, self._target = False, 0
        self.limit = self._slower_above = max(1, enough)
        self._lowered_at = self.num_sent
        self._hold_back()

    def _hold_back(self) -> None:
        """The level was too high: stay below it, and longer than the last time."""
        self._backoff = min(max(self.limit, 2 * self._backoff), LONGEST_HOLD)
        self._hold, self._step, self._calm = self._backoff, 1, 0
        self._queueing.start_round()

    # ---- what a refusal tells

    def refused(self, turn: Sent, now: float, asked: float | None) -> None:
        """The server takes no more, for now; `asked`: seconds, of Retry-After."""
        self.rate.refused()
        watch, current = self._watch, turn.number > self._lowered_at
        if self.rate.blocked_since is not None:
            if current:
                self._block(now, asked)  # nothing was served since the last one
        elif watch is not None:
            if turn.number > watch.since:
                watch.refused += 1
                if self._is_judged(watch, turn.number, now, asked):
                    return
            if watch.by_pace or (not watch.known and turn.level > self._known):
                self._lower(watch, now, current=current)
        elif current and (self._chance is None or not self._is_chance()):
            self._suspect(turn, now)

    @property
    def _known(self) -> int:
        """A level that it surely takes: one more than the wall may be served by luck, while another is refused."""
        return min(self._safe, self._wall) if self._wall else self._safe

    def _suspect(self, turn: Sent, now: float) -> None:
        self._chance = None
        pace = self.rate.pace
        if pace is not None and self.in_flight < self.limit:
            self._watch = _Watch(self.num_sent, self.limit, rate=pace.rate)
            self._lower(self._watch, now)
        elif turn.level <= self._known:
            self._watch = _Watch(turn.number - 1, self.limit, known=True)
            self._watch.refused = 1
            self._calm = 0
        else:
            self._confirmed = self._is_near_the_wall(turn.level)
            self._watch = _Watch(self.num_sent, self.limit)
            self._lower(self._watch, now)
        self._pause(now + min(now - turn.started, 1.0))  # refusals of what is under way are still to come

    def _is_judged(self, watch: _Watch, number: int, now: float, asked: float | None) -> bool:
        share = watch.refused / (number - watch.since)  # of what was sent up to this one: replies are still to come
        if (watch.refused >= BLOCKED and share > 0.5) or (watch.refused >= UNDECIDED and share > MOST_CHANCE):
            self._refuses_all(watch, now, asked)
        elif watch.refused >= UNDECIDED:
            if watch.by_pace and number - watch.last > 2 * (watch.last - watch.since) / (watch.refused - 1):
                self._settle(watch, now)  # they are much fewer than before
            else:
                self._end_by_chance(watch, share)
        else:
            watch.last = number
            return False
        return True

    def _lower(self, watch: _Watch, now: float, *, current: bool = True) -> None:
        if not current:
            if not watch.by_pace:
                self.limit = max(1, self._known, self.limit - 1)  # the server did not hold it when it was lowered
            return
        if watch.by_pace:
            self.rate.lower(now, watch.rate * LOWERED[watch.refused])
        else:
            self.limit = max(1, self._known, min(self.in_flight - 1, self.limit - watch.refused))
        self._mark_decrease()

    def _mark_decrease(self) -> None:
        self._lowered_at, self._calm, self._target = self.num_sent, 0, 0

    def _refuses_all(self, watch: _Watch, now: float, asked: float | None) -> None:
        lately = self.num_sent - self._halved_at < SEEN_SINCE_HALVED
        if not (watch.halved or watch.by_pace or lately) and (asked or 0.0) <= 1.0 and self.in_flight > 3:
            # it may take fewer at once than before, and still be busy with those it took
            self._watch = _Watch(self.num_sent, watch.limit, halved=True)
            self.limit = self.in_flight // 2
            self._halved_at = self.num_sent
            self._mark_decrease()
            self._pause(now + min(self.seconds, 2.0))
            self._spread_out()
            return
        self._watch = None
        self.limit = watch.limit
        self._block(now, asked)

    def _block(self, now: float, asked: float | None) -> None:
        self._pause(self.rate.block(now, asked, self.in_flight - 1))
        self._mark_decrease()
        if self.rate.knows_none:
            self.limit, self._climbing = 1, True

    def _pause(self, until: float) -> None:
        self.paused_until = max(self.paused_until, until)

    # ---- chance

    def _is_chance(self) -> bool:
        self._count_chance(1)
        return self._chance is not None and self._refused_of_them <= WATCHED * min(2 * self._chance + 0.1, 0.35)

    def _count_chance(self, refused: int) -> None:
        assert self._chance is not None
        self._looked_at += 1
        self._refused_of_them += refused
        if self._looked_at >= WATCHED:
            share = self._refused_of_them / self._looked_at
            self._chance = min(0.7 * self._chance + 0.3 * share, MOST_CHANCE)
            self._looked_at = self._refused_of_them = 0
            if self._chance < 0.005:
                self._chance = None

    def _expect_chance(self, share: float) -> None:
        self._chance, self._looked_at, self._refused_of_them = share, 0, 0

    def _end_by_chance(self, watch: _Watch, share: float) -> None:
        self._watch = None
        self._expect_chance(share)
        self.limit = watch.limit
        if watch.by_pace:
            self.rate.restore(watch.rate)

    def _settle(self, watch: _Watch, now: float) -> None:
        """The refusals have ended."""
        self._watch = None
        if watch.by_pace:
            self.rate.hold(now)
        elif watch.known:
            self._expect_chance(1 / WATCHED)
            if self._wall:  # it refuses below the wall: there is none
                self._wall, self._climbing, self._backoff = 0, True, 0
        else:
            self._climbing, self._slower_above = False, 0
            self._confirmed = self._confirmed and self._is_near_the_wall(self.limit)
            self._wall = self._safe = self.limit
            self._hold_back()

    def _is_near_the_wall(self, level: int) -> bool:
        return self._wall > 0 and abs(level - self._wall) <= max(1, self._wall // 8)

    def found(self) -> str:
        """One line for people, "" if it takes all, or may do so: one wall may be chance."""
        if self._confirmed and self._is_near_the_wall(self._safe):
            return f"takes {self._wall} request{'s' if self._wall > 1 else ''} at a time"
        if self._slower_above and self._queueing.is_sure and self.limit <= 4 * self._slower_above:
            return f"gets slower above {self._slower_above} at a time"
        return ""
