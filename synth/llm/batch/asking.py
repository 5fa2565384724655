"""
Asking through the Batch API: what an engine would ask online goes to the desks of its servers (desk.py) first, and is
found in the journal when it is asked for.

Ceilings hold for batches too. Each request holds the most that it can take, so far fewer fit than will be paid for:
when a batch is fetched, what it did not take is free for another one. That is done a few times, not until the last
request fits: each batch may take a day.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

from synth.llm.batch.booking import book_fetched
from synth.llm.batch.desk import POLL_SECONDS, Batch, BatchDesk, Settled, was_asked
from synth.llm.batch.files import BatchFolder, Request, Step, kept_batches
from synth.llm.budget import Reservation, dollars
from synth.llm.ceilings import Ceilings
from synth.llm.config import Endpoint
from synth.llm.engine import UNCOUNTED, Engine, canonical
from synth.llm.faults import Fault, Rejected
from synth.llm.journal import Reply
from synth.llm.prompt_size import most_tokens
from synth.llm.receipts import Receipt
from synth.llm.server import Messages, Question, Server, key_of
from synth.records import BudgetSpent, UserError, new_id

MOST_ROUNDS = 5  # of batches after one another, because of a ceiling
LEAST_SHARE = 10  # one that is smaller than a tenth of the largest is not worth its day
_YIELD_EVERY = 200  # questions between two turns of everybody else


@dataclass(frozen=True, slots=True)
class Asked:
    """What `Engine.complete` will be asked; `seed_id` is what it is about."""

    messages: Messages
    attempt: int
    schema: Mapping[str, Any] | None
    seed_id: UUID | None = None


async def ask_in_batches(
    engine: Engine,
    questions: Callable[[], Iterator[Asked]],
    folder: Path,
    *,
    ceilings: Ceilings,
    state: Callable[[str], None],
) -> None:
    """
    Put the replies to these questions into the engine's journal, as far as batches bring them; batches of earlier runs
    are waited for too. A request is handed in once: what its batch does not answer is left to be asked online.

    Args:
        questions: gives them all, as often as it is called: they are too many to keep.
        folder: of the workspace's batches.
        ceilings: those of the engine's budget, to name them.
        state: told in a line how far the servers are.

    Raises:
        BudgetSpent: no further batch that is worth it fits below a ceiling, or there were enough for one run.
        Stopped: the batches go on at the server.
        LLMError: a server does not take batches, or does not let us in.
        UserError: batches of the same model are under way at an address that is not configured any more.
    """
    firsts = {server.endpoint.model: server for server in reversed(engine.servers)}
    _refuse_elsewhere(folder, engine)
    book_fetched(folder, engine)
    async with AsyncExitStack() as stack:
        desks = {}
        for server in engine.servers:
            if server is firsts[server.endpoint.model] or _pending(BatchFolder(folder, server.endpoint).batches()):
                desk = BatchDesk(
                    server.endpoint, key_of(server.endpoint), folder, engine.journal, on_note=engine.tally.note
                )
                desks[server] = await stack.enter_async_context(desk)
        stopping = asyncio.create_task(_stop_with(engine.stopping, list(desks.values())))
        rounds = _Rounds(engine, questions, desks, list(firsts.values()), ceilings, state)
        try:
            while await rounds.another():
                pass
            rounds.tell_left()
        finally:
            stopping.cancel()
            state("")


def refuse_pending(folder: Path, engine: Engine) -> None:
    """
    See that nothing is asked online that a batch may bring, and count what batches took, as `book_fetched`.

    Raises UserError if requests of an earlier run are in batches: asked online now, they would be paid for twice.
    """
    for batch in _pending_of(folder, engine.config.models):
        if batch.status in ("cancelling", "cancelled"):
            raise UserError(
                f"batch {batch.name} was cancelled; the same command with --batch, or `synth batches cancel"
                f" {batch.name}` again, fetches what was done of it ({batch.done:,}) first"
            )
        raise UserError(
            f"{batch.num_requests:,} requests for model {batch.model} are in batch {batch.name} at {batch.base_url}"
            f" since an earlier run; take it up with --batch, or give it up with `synth batches cancel {batch.name}`"
        )
    book_fetched(folder, engine)


@dataclass(slots=True)
class _Sent:
    """A request in a batch, and the most that it can take. Without a reservation, it was on its way already."""

    endpoint: Endpoint
    attempt: int
    seed_id: UUID | None
    tokens: int
    cost: float | None
    reservation: Reservation | None = None


@dataclass(slots=True)
class _Held:
    """What one round may hand in, and why the rest has to wait: the budget is spent, or None, held by the others."""

    keys: set[UUID] = field(default_factory=set)
    num_left: int = 0
    why: BudgetSpent | None = None


class _Rounds:
    """Batches after one another, each as large as what is left allows."""

    def __init__(
        self,
        engine: Engine,
        questions: Callable[[], Iterator[Asked]],
        desks: Mapping[Server, BatchDesk],
        firsts: Sequence[Server],
        ceilings: Ceilings,
        state: Callable[[str], None],
    ) -> None:
        self._engine, self._questions, self._state = engine, questions, state
        self._desks, self._firsts, self._ceilings = desks, firsts, ceilings
        self._sent: dict[UUID, _Sent] = {}
        self._unanswered: dict[UUID, str] = {}  # of those handed in now: why their batch has no reply
        self._num = self._most = 0  # rounds so far; requests of the largest
        self._has_told = False

    async def another(self) -> bool:
        """Hand in what fits, and wait for all that is under way. Returns whether there may be more to hand in."""
        earlier = self._pending_keys()
        held = await self._hold(earlier)
        self._most = max(self._most, len(held.keys) + len(earlier & self._sent.keys()))
        if held.num_left and self._is_too_little(held.keys):
            num_fitting = len(held.keys)
            for key in held.keys:
                self._release(self._sent.pop(key))
            held.keys.clear()
            if not earlier:
                raise self._ended(num_fitting, held.why)
        elif held.num_left and not self._has_told:
            self._has_told = True
            self._tell_first(len(held.keys), held.num_left)
        self._num += 1
        settled = Settled()
        try:
            for server in self._firsts:
                await self._desks[server].submit(self._requests(server, held.keys))
            self._tell_state()
            await self._settle_all(settled)
        finally:
            again = self._book(earlier | held.keys, held.keys, settled)
        return held.num_left > 0 or again

    def tell_left(self) -> None:
        """Say what is asked online now, and at which price."""
        if not self._unanswered:
            return
        causes = ", ".join(f"{number:,} {cause}" for cause, number in Counter(self._unanswered.values()).most_common(3))
        models = {self._sent[key].endpoint.model for key in self._unanswered}
        prices = "; ".join(_price(server.endpoint) for server in self._firsts if server.endpoint.model in models)
        number = "1 request" if len(self._unanswered) == 1 else f"{len(self._unanswered):,} requests"
        self._engine.tally.note(
            f"{number} of {len(self._sent):,} got no reply in a batch ({causes}): asked online now, at {prices}"
        )

    async def _hold(self, earlier: Collection[UUID]) -> _Held:
        """Reserve for all that is on its way, and then for as many new requests as fit."""
        held = _Held()
        for is_earlier in (True, False) if earlier else (False,):
            for number, asked in enumerate(self._questions(), start=1):
                if number % _YIELD_EVERY == 0:
                    await asyncio.sleep(0)
                    self._refuse_stopped()
                model, key = self._engine.first_asked(asked.messages, asked.attempt, schema=asked.schema)
                if key is None or key in self._sent or (key in earlier) is not is_earlier:
                    continue
                if is_earlier:
                    self._sent[key] = self._reserved(asked, model, held)
                elif held.num_left:
                    held.num_left += 1
                elif (sent := self._reserved(asked, model, held)).reservation is None:
                    held.num_left = 1
                else:
                    self._sent[key] = sent
                    held.keys.add(key)
        return held

    def _reserved(self, asked: Asked, model: str, held: _Held) -> _Sent:
        endpoint = next(server.endpoint for server in self._firsts if server.endpoint.model == model)
        tokens_in, most = most_tokens(asked.messages, asked.schema), self._engine.config.max_tokens
        cost = endpoint.cost(tokens_in, most, batch=True)
        sent = _Sent(endpoint, asked.attempt, asked.seed_id, tokens_in + most, cost)
        try:
            sent.reservation = self._engine.budget.reserve_now(tokens=sent.tokens, cost=cost)
        except BudgetSpent as error:
            held.why = error
        return sent

    def _is_too_little(self, keys: Collection[UUID]) -> bool:
        """Whether so few of those that are left are not worth a batch."""
        return not keys or len(keys) * LEAST_SHARE < self._most or self._num >= MOST_ROUNDS

    def _ended(self, num_fitting: int, why: BudgetSpent | None) -> BudgetSpent:
        """Why there is no further batch."""
        if num_fitting and self._num >= MOST_ROUNDS:
            return BudgetSpent(
                f"batches were waited for {MOST_ROUNDS} times after one another, as often as one run does;"
                f" {self._standing()}, and more requests fit: the same command goes on as it is"
            )
        if why:
            return why
        options = " or ".join(option for option, most in self._options() if most is not None) or "the ceiling"
        return BudgetSpent(
            f"only {num_fitting:,} more fit below the ceiling now, with a reply of max_tokens ="
            f" {self._engine.config.max_tokens:,} set aside for each: too few for another batch, which may take a day;"
            f" {self._standing()}; raise {options}, or lower max_tokens in synth.toml"
        )

    def _options(self) -> list[tuple[str, float | None]]:
        ceilings = self._ceilings
        return [
            ("--max-cost", ceilings.max_cost),
            ("--max-tokens", ceilings.max_tokens),
            ("--max-requests", ceilings.max_requests),
        ]

    def _standing(self) -> str:
        """What is spent of each ceiling."""
        spent, ceilings, parts = self._engine.budget.spent, self._ceilings, []
        if ceilings.max_cost is not None and spent.cost is not None:
            parts.append(f"{dollars(spent.cost)} of --max-cost {dollars(ceilings.max_cost)}")
        if ceilings.max_tokens is not None or not parts:
            of = "" if ceilings.max_tokens is None else f" of --max-tokens {ceilings.max_tokens:,}"
            parts.append(f"{spent.tokens:,} tokens{of}")
        if ceilings.max_requests is not None:
            parts.append(f"{spent.requests:,} requests of --max-requests {ceilings.max_requests:,}")
        lost = f", beside at most {spent.lost_tokens:,} tokens of lost replies" if spent.lost_tokens else ""
        return f"{' and '.join(parts)} are spent{lost}"

    def _tell_first(self, num_fitting: int, num_left: int) -> None:
        most = self._engine.config.max_tokens
        self._engine.tally.note(
            f"{num_fitting:,} of {num_fitting + num_left:,} requests fit below the ceiling in the worst case, a reply"
            f" of max_tokens = {most:,} for each; of the rest, what fits then follows in at most {MOST_ROUNDS - 1} more"
            " batches after one another, each of which may take a day: raise the ceiling, or lower max_tokens"
        )

    def _requests(self, server: Server, keys: Collection[UUID]) -> Iterator[Request | None]:
        """Those of a round that this server is to be asked, and a None now and then."""
        if not keys:
            return
        for number, asked in enumerate(self._questions(), start=1):
            if number % _YIELD_EVERY == 0:
                yield None
            model, key = self._engine.first_asked(asked.messages, asked.attempt, schema=asked.schema)
            if key is not None and key in keys and model == server.endpoint.model:
                question = Question(asked.messages, canonical(asked.messages), asked.schema, self._sent[key].tokens)
                yield Request(key, server.body(question))

    async def _settle_all(self, settled: Settled) -> None:
        def tell(_: Sequence[Batch]) -> None:
            self._tell_state()

        try:
            async with asyncio.TaskGroup() as group:
                for desk in self._desks.values():
                    group.create_task(desk.settle(tell, poll_seconds=POLL_SECONDS, settled=settled))
        except ExceptionGroup as errors:  # one server is enough to end the run
            raise errors.exceptions[0] from None

    def _book(self, keys: set[UUID], new: Collection[UUID], settled: Settled) -> bool:
        """
        Count what was paid for those of the requests that are not under way any more. Returns whether some of earlier
        runs may be handed in again.
        """
        tally, again = self._engine.tally, False
        tally.requests += settled.num_asked
        tally.replies += settled.replied
        tally.lost += len(settled.lost)
        tally.bought(settled.tokens_in, settled.tokens_out, settled.cost)
        tally.has_prices = tally.has_prices and settled.cost is not None
        lost = set(settled.lost)
        for key in keys - self._pending_keys():
            fault, sent = settled.failed.get(key), self._sent.get(key)
            reply = settled.unkept.get(key) if fault else self._engine.journal.get(key)
            if sent is None:
                if reply is not None:
                    self._engine.budget.add_earlier(reply.tokens_in + reply.tokens_out, reply.cost or 0.0)
                continue
            self._pay(sent, reply, fault, is_lost=key in lost)
            if fault is None or key in new or isinstance(fault, Rejected):
                if fault or reply is None:
                    self._unanswered[key] = fault.cause if fault else "not sent"
            else:
                del self._sent[key]
                again = True
        for desk in self._desks.values():  # last: if we are killed before, it is counted twice rather than never
            desk.booked()
        return again

    def _pay(self, sent: _Sent, reply: Reply | None, fault: Fault | None, *, is_lost: bool) -> None:
        """Settle for what one request took; where the server does not say what, for the most that it can take."""
        budget, reservation = self._engine.budget, sent.reservation
        is_asked = reply is not None or is_lost or (fault is not None and was_asked(fault))
        if reservation is not None and is_asked:
            reservation.sending()  # the run's account counts it from now on: until now its batch said that it is paid
        if reply is None and not is_lost:
            self._release(sent, sent_to_server=is_asked)
            return
        tokens: int | None = None
        cost: float | None = None
        if reply is not None and reply.tokens_in > 0 and (reply.tokens_out > 0 or not (reply.text or fault)):
            tokens, cost = reply.tokens_in + reply.tokens_out, reply.cost
        if reply is not None and fault is not None:
            receipt = Receipt(new_id(), sent.seed_id, sent.attempt, "unusable", reply)
            self._engine.tally.receipt(receipt)
        if reservation is None:
            budget.add_earlier(sent.tokens if tokens is None else tokens, sent.cost if cost is None else cost)
        elif tokens is None:
            if reply is not None:
                self._engine.tally.note(UNCOUNTED, once="uncounted")
            reservation.lose()  # the next run has to know of it too, and the store says only what was counted
        else:
            reservation.settle(tokens, cost)

    def _release(self, sent: _Sent, *, sent_to_server: bool = False) -> None:
        if sent.reservation is not None:
            sent.reservation.release(sent=sent_to_server)

    def _pending_keys(self) -> set[UUID]:
        return {key for desk in self._desks.values() for key in desk.pending()}

    def _refuse_stopped(self) -> None:
        for desk in self._desks.values():
            desk.refuse_stopped()

    def _tell_state(self) -> None:
        batches = [batch for desk in self._desks.values() for batch in _pending(desk.batches)]
        if batches:
            done, of = sum(batch.done for batch in batches), sum(batch.num_requests for batch in batches)
            number = "1 batch" if len(batches) == 1 else f"{len(batches)} batches"
            self._state(f"waiting for {number}: {done:,} of {of:,} done at the server")


def _refuse_elsewhere(folder: Path, engine: Engine) -> None:
    ours = {BatchFolder(folder, server.endpoint).path for server in engine.servers}
    for batch in _pending_of(folder, engine.config.models, but_not=ours):
        raise UserError(
            f"{batch.num_requests:,} requests for model {batch.model} are in batch {batch.name} at {batch.base_url}"
            " since an earlier run: name that address in [llm] of synth.toml to fetch them, or to give them up with"
            f" `synth batches cancel {batch.name}`"
        )


def _pending_of(root: Path, models: Sequence[str], but_not: Collection[Path] = ()) -> list[Batch]:
    """Batches for these models that are not fetched, whatever the server: requests go by the model alone."""
    kept = [batch for folder, batches in kept_batches(root).items() if folder not in but_not for batch in batches]
    return [batch for batch in _pending(kept) if batch.model in models]


def _pending(batches: Sequence[Batch]) -> list[Batch]:
    return [batch for batch in batches if batch.step is not Step.FETCHED]


def _price(endpoint: Endpoint) -> str:
    if endpoint.price_in is None or endpoint.price_out is None:
        return f"prices of {endpoint.model} that are not stated"
    prices = f"{dollars(endpoint.price_in)} (prompts) and {dollars(endpoint.price_out)} (replies)"
    return f"{prices} per million tokens of {endpoint.model}"


async def _stop_with(event: asyncio.Event, desks: Sequence[BatchDesk]) -> None:
    await event.wait()
    for desk in desks:
        desk.stop()
