"""
The budget of a run: ceilings on money, tokens and requests that are never passed, counting what is in flight.

A request reserves the most that it can take before it is sent, and settles for what it took. It is sent only if what is
spent, what others hold in reserve and its own reservation fit below every ceiling together. Near a ceiling fewer and
fewer requests are in flight, since each may still take its most; the run ends when not even one more would fit.
"""

import asyncio
import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType

from synth.llm.account import Account, Totals
from synth.llm.ceilings import MOST_COUNT, MOST_DOLLARS, Ceilings
from synth.records import BudgetSpent

# Money is counted in whole millionths of a millionth of a dollar: sums are exact, in whatever order replies come.
PICODOLLARS = 10**12


@dataclass(frozen=True, slots=True)
class Spent:
    """
    Where a budget stands, earlier runs and what they may have lost included. Costs are in US dollars, None where a
    price was not stated.

    `lost_*` is the most that broken requests of this run can have taken, `in_flight_*` the most that those under way
    can take; both are in none of the other numbers.
    """

    cost: float | None
    tokens: int
    requests: int
    lost_cost: float | None
    lost_tokens: int
    in_flight_cost: float | None
    in_flight_tokens: int


class _Meter:
    """
    One kind of thing that is spent, in whole numbers.

    `excess`: how many times its reservation the worst request took, 1 as long as all kept to theirs. What is held or
    asked for counts as so many times its amount. `lost` includes `lost_earlier`, what earlier runs lost.
    """

    __slots__ = ("excess", "held", "lost", "lost_earlier", "most", "spent")

    def __init__(self, most: int | None, spent: int, lost_earlier: int, excess: float) -> None:
        self.most = most
        self.spent = spent
        self.lost = self.lost_earlier = lost_earlier
        self.held = 0
        self.excess = excess  # 1, a whole number, as long as it can be, so that sums stay exact

    def fits(self, amount: int) -> bool:
        """Whether so much more fits beside what is held."""
        return self.most is None or self.spent + self.lost + (self.held + amount) * self.excess <= self.most

    def can_fit(self, amount: int) -> bool:
        """Whether so much more would fit if all that is held came back."""
        return self.most is None or self.spent + self.lost + amount * self.excess <= self.most

    def worst(self, amount: int) -> int:
        """The most that a reservation of so much can take."""
        return math.ceil(amount * self.excess)

    def learn(self, reserved: int, taken: int) -> bool:
        """Look at what one request took of its reservation; returns whether the others must now expect more."""
        if not 0 < reserved * self.excess < taken:
            return False
        self.excess = taken / reserved
        return True


class Reservation:
    """
    The most that one request can take, kept free until it is known what it took.

    Use it as a context manager around the sending: what is left without a word, by an error or a cancellation, is lost.
    Say `sending` each time before it is sent, and then what became of it.
    """

    __slots__ = ("_budget", "cost", "held", "is_in_flight", "tokens")

    def __init__(self, budget: "Budget", tokens: int, cost: int) -> None:
        self._budget = budget
        self.tokens = tokens
        self.cost = cost  # in PICODOLLARS
        self.held = False
        self.is_in_flight = False

    def sending(self) -> None:
        """It is sent now. Raises SkiffError if that cannot be written to the account of the run: then it may not be."""
        self._budget._send(self)

    def answered(self) -> None:
        """It was refused or rejected, and nothing charged; it is held until it is sent again, or released."""
        self._budget._land(self)

    def unsent(self) -> None:
        """It never left this machine."""
        self._budget._unsend(self)

    def still_fits(self) -> bool:
        """
        To be asked just before it is sent: whether it may be, after all that was learnt since it was reserved.

        It may not where another request took so much more than its own reservation that what is held could pass a
        ceiling. Then `release` it and wait for room with `again`, with no place at a server kept meanwhile.
        """
        return self._budget._still_fits()

    def settle(self, tokens: int | None, cost: float | None) -> None:
        """
        The reply is here and took so much. None: the server or the price list does not say, and the reservation counts.

        More than was reserved is taken as it is, and what others hold in reserve counts as so many times more.
        """
        self._budget._settle(self, tokens, cost)

    def lose(self) -> None:
        """The reply broke on the way or never came: the server may charge for it, so it counts in full."""
        self._budget._lose(self)

    def release(self, *, sent: bool = True) -> None:
        """Nothing was charged: the server refused or rejected it, or (`sent` False) was never asked."""
        self._budget._release(self, sent=sent)

    async def again(self) -> None:
        """
        To be sent once more: that is one more request, and if nothing is held any more (it was lost or released), it is
        reserved anew, ahead of those that come for the first time.

        Raises:
            BudgetSpent: as `Budget.reserve`; nothing is held then.
        """
        await self._budget._reserve_again(self)

    def __enter__(self) -> "Reservation":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if self.held:
            self.lose()


class Budget:
    """
    What is left below the ceilings, for any number of tasks of one event loop.

    What earlier runs of the same configuration spent is handed in, and apart from it what they may have lost: running
    a command again does not fill the budget again. So is `excess`: how many times its reservation the worst of their
    requests took; below 1 it says nothing.

    Args:
        account: where what this run spends is written as it does, for the next one if it is killed.
    """

    def __init__(
        self,
        ceilings: Ceilings,
        *,
        spent_cost: float = 0.0,
        spent_tokens: int = 0,
        spent_requests: int = 0,
        lost_cost: float = 0.0,
        lost_tokens: int = 0,
        excess: float = 1,
        account: Account | None = None,
    ) -> None:
        self._account = account
        self._own = account.totals if account else Totals()
        self._notes: dict[str, str] = {}  # by kind: each is said once
        self._has_ceilings = ceilings != Ceilings()
        most_cost = None if ceilings.max_cost is None else _picodollars(ceilings.max_cost)
        excess = min(excess, MOST_COUNT) if excess > 1 else 1
        self._money = _Meter(most_cost, _picodollars(spent_cost), _picodollars(lost_cost), excess)
        self._tokens = _Meter(ceilings.max_tokens, spent_tokens, lost_tokens, excess)
        self._requests = _Meter(ceilings.max_requests, spent_requests, 0, 1)  # spent as soon as they may be sent
        resumed = spent_cost or spent_tokens or spent_requests or lost_cost or lost_tokens
        self._since = " (earlier runs of the same settings included)" if resumed else ""
        if excess > 1:
            self._note(
                "earlier excess",
                f"a request of an earlier run took {excess:.3g} times the most it should take (does the server keep to"
                " max_tokens?); the budget keeps so many times more free for each request",
            )
        self._is_priced = True
        self._over = ""  # the line that every task is told, once one request did not fit
        self._refused: Reservation | None = None  # which did not
        self._waiting: deque[tuple[Reservation, asyncio.Future[None]]] = deque()

    @property
    def notes(self) -> Sequence[str]:
        """Why the budget may end early, one line each; nothing where there is no ceiling."""
        return list(self._notes.values())

    @property
    def spent(self) -> Spent:
        """Where it stands now."""
        money, tokens = self._money, self._tokens
        cost, lost_cost, in_flight_cost = (
            amount / PICODOLLARS if self._is_priced else None
            for amount in (
                money.spent + money.lost_earlier,
                money.lost - money.lost_earlier,
                money.worst(money.held),
            )
        )
        return Spent(
            cost=cost,
            tokens=tokens.spent + tokens.lost_earlier,
            requests=self._requests.spent,
            lost_cost=lost_cost,
            lost_tokens=min(tokens.lost - tokens.lost_earlier, MOST_COUNT),
            in_flight_cost=in_flight_cost,
            in_flight_tokens=tokens.worst(tokens.held),
        )

    @property
    def over(self) -> str:
        """Which ceiling ended it, in one line by the sums as they are now; "" as long as none has."""
        return (self._passed_by(self._refused) or self._over) if self._refused else ""

    @property
    def excess(self) -> float:
        """How many times its reservation the worst request took, in earlier runs or in this one; at least 1."""
        return max(self._money.excess, self._tokens.excess)

    async def reserve(self, *, tokens: int, cost: float | None) -> Reservation:
        """
        Keep free what a request can take at most; first come, first served, until it fits beside what is in flight.

        Args:
            tokens: of prompt and reply together (`most_tokens` and the longest reply allowed).
            cost: of these tokens, in US dollars, at the dearest endpoint that may be asked; None: no price is stated.

        Raises:
            BudgetSpent: it could pass a ceiling even with nothing else in flight. From then on nobody is let through.
        """
        reservation = Reservation(self, tokens, self._picodollars(cost))
        if self._waiting or not self._enter(reservation):
            await self._wait(reservation, ahead=False)
        return reservation

    def reserve_now(self, *, tokens: int, cost: float | None) -> Reservation | None:
        """
        As `reserve`, but without waiting: None if it does not fit beside what is in flight.

        For a batch, which holds what it has reserved for hours, and for whoever holds a reservation already: two such
        could wait for each other for ever.
        """
        reservation = Reservation(self, tokens, self._picodollars(cost))
        if not self._waiting and self._enter(reservation):
            return reservation
        if self._over:
            raise BudgetSpent(self._over)
        return None

    def add_earlier(self, tokens: int, cost: float | None, *, num_requests: int = 1) -> None:
        """Requests and their replies, bought by an earlier run that could not record them any more."""
        self._requests.spent += num_requests
        self._tokens.spent += tokens
        self._money.spent += self._picodollars(cost)
        self._own.requests += num_requests
        self._spend(tokens, self._picodollars(cost))
        self._admit()

    def _still_fits(self) -> bool:
        return not self._has_ceilings or (self._money.fits(0) and self._tokens.fits(0))

    def _settle(self, reservation: Reservation, tokens: int | None, cost: float | None) -> None:
        if tokens is None:
            self._note("usage", "the server does not say what a reply takes: each counts as the most that it can take")
        taken = reservation.tokens if tokens is None else min(tokens, MOST_COUNT)
        paid = reservation.cost if cost is None else self._picodollars(cost)
        self._leave(reservation)
        self._tokens.spent += taken
        self._money.spent += paid
        if taken > reservation.tokens and self._tokens.learn(reservation.tokens, taken):
            self._note_excess(f"{taken:,} tokens", f"{reservation.tokens:,}")
        if paid > reservation.cost and self._money.learn(reservation.cost, paid):
            self._note_excess(dollars(paid / PICODOLLARS), dollars(reservation.cost / PICODOLLARS))
        self._spend(taken, paid)
        self._admit()

    def _lose(self, reservation: Reservation) -> None:
        self._leave(reservation)
        tokens, cost = self._tokens.worst(reservation.tokens), self._money.worst(reservation.cost)
        self._tokens.lost += tokens
        self._money.lost += cost
        self._own.lost_tokens += tokens
        self._own.lost_cost += cost
        self._changed()
        self._admit()

    def _release(self, reservation: Reservation, *, sent: bool) -> None:
        self._leave(reservation)
        if not sent:
            self._requests.spent -= 1
        self._admit()

    async def _reserve_again(self, reservation: Reservation) -> None:
        if not reservation.held:
            if not self._enter(reservation):
                await self._wait(reservation, ahead=True)
        elif self._requests.can_fit(1):
            self._requests.spent += 1
        else:
            self._end(self._passed_by(reservation), reservation)
            self._release(reservation, sent=True)
            raise BudgetSpent(self._over)

    def _enter(self, reservation: Reservation) -> bool:
        """Hold a reservation if it fits now. If it never can, the budget is over, for all who wait too."""
        if self._has_ceilings:
            passed = self._over or self._passed_by(reservation)
            if passed:
                self._end(passed, reservation)
                return False
            if not (self._money.fits(reservation.cost) and self._tokens.fits(reservation.tokens)):
                return False
        self._requests.spent += 1
        self._tokens.held += reservation.tokens
        self._money.held += reservation.cost
        reservation.held = True
        return True

    def _leave(self, reservation: Reservation) -> None:
        assert reservation.held, "a reservation is settled, lost or released once for each time that it was made"
        self._land(reservation)
        reservation.held = False
        self._tokens.held -= reservation.tokens
        self._money.held -= reservation.cost

    def _send(self, reservation: Reservation) -> None:
        reservation.is_in_flight = True
        own = self._own
        own.requests += 1
        own.in_flight_tokens += reservation.tokens
        own.in_flight_cost += reservation.cost
        self._changed()

    def _land(self, reservation: Reservation) -> None:
        if reservation.is_in_flight:
            reservation.is_in_flight = False
            self._own.in_flight_tokens -= reservation.tokens
            self._own.in_flight_cost -= reservation.cost

    def _unsend(self, reservation: Reservation) -> None:
        self._land(reservation)
        self._own.requests -= 1

    def _spend(self, tokens: int, cost: int) -> None:
        self._own.tokens += tokens
        self._own.cost += cost
        self._changed()

    def _changed(self) -> None:
        if self._account is not None:
            self._account.changed()

    async def _wait(self, reservation: Reservation, *, ahead: bool) -> None:
        if not self._over:
            place = asyncio.get_running_loop().create_future()
            (self._waiting.appendleft if ahead else self._waiting.append)((reservation, place))
            try:
                await place
            except asyncio.CancelledError:
                if reservation.held:  # let through and cancelled in one breath
                    self._release(reservation, sent=False)
                else:
                    self._admit()  # it may have been what the others waited behind
                raise
        if not reservation.held:
            raise BudgetSpent(self._over)

    def _admit(self) -> None:
        while self._waiting:
            reservation, place = self._waiting[0]
            if not place.done():  # a cancelled one waits no longer
                if not self._enter(reservation):
                    return
                place.set_result(None)
            self._waiting.popleft()

    def _end(self, line: str, reservation: Reservation) -> None:
        self._over = line
        self._refused = self._refused or reservation
        while self._waiting:
            _, place = self._waiting.popleft()
            if not place.done():
                place.set_result(None)

    def _passed_by(self, reservation: Reservation) -> str:
        """Which ceiling a request could pass even if all that is in flight came back; "" if none. One line."""
        if not self._money.can_fit(reservation.cost):
            return self._line("--max-cost", self._money, reservation.cost, lambda amount: dollars(amount / PICODOLLARS))
        if not self._tokens.can_fit(reservation.tokens):
            return self._line("--max-tokens", self._tokens, reservation.tokens, "{:,} tokens".format)
        if not self._requests.can_fit(1):
            sent = f"{self._requests.spent:,} requests are sent{self._since}; raise it to go on"
            return f"--max-requests {self._requests.most:,} is reached: {sent}"
        return ""

    def _line(self, option: str, meter: _Meter, amount: int, said: Callable[[int], str]) -> str:
        lost = f", up to {said(meter.lost)} more may be charged for replies that were lost" if meter.lost else ""
        return (
            f"the next request could pass {option}: of {said(meter.most or 0)}, {said(meter.spent)} are"
            f" spent{lost}{self._since}, and it may take up to {said(meter.worst(amount))}; raise {option}, or lower"
            " max_tokens in synth.toml: the longest reply allowed has to fit"
        )

    def _picodollars(self, cost: float | None) -> int:
        if cost is None:
            assert self._money.most is None, "a ceiling on money needs prices: see Ceilings.check_prices"
            self._is_priced = False
            return 0
        return _picodollars(cost)

    def _note_excess(self, taken: str, reserved: str) -> None:
        self._own.excess = self.excess
        self._note(
            "excess",
            f"a request took {taken} where {reserved} is the most it should take (does the server keep to max_tokens?);"
            " from now on the budget keeps as many times more free for each",
        )

    def _note(self, kind: str, line: str) -> None:
        if self._has_ceilings:
            self._notes.setdefault(kind, line)


def _picodollars(cost: float) -> int:
    return round(cost * PICODOLLARS) if cost < MOST_DOLLARS else MOST_DOLLARS * PICODOLLARS  # more, or no number


def dollars(amount: float) -> str:
    """An amount of US dollars for people: cents, or of small amounts the first three digits."""
    digits = 2 if amount >= 1 or amount <= 0 else min(12, 2 - math.floor(math.log10(amount)))
    return f"${amount:,.{digits}f}"
