"""
One request in, one reply out, from any OpenAI-compatible server: a hosted API, vLLM, Ollama, llama.cpp.

A stage asks from as many tasks as it likes; the engine bounds what is under way (gate/) and what it may cost
(budget.py), asks again what broke, writes each reply to the journal (journal.py) before anyone reads it, and asks
nothing that the journal can answer. Of several endpoints it asks the ones that serve (server.py).

Two kinds of error come out. LLMError: no server is of use as configured; the run should stop, and every later request
of this engine fails at once with the same words. NoReply: this one request; the run goes on.
"""

import asyncio
import hashlib
import json
import math
from collections.abc import Callable, Iterable, Mapping
from contextlib import AsyncExitStack
from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING, Any
from uuid import UUID

import orjson
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, wait_random_exponential

from synth.llm.budget import Budget
from synth.llm.ceilings import Ceilings
from synth.llm.config import Endpoint, LLMConfig
from synth.llm.crew import Crew
from synth.llm.faults import Fault, TimedOut, Transient, Unreachable, Unusable
from synth.llm.formats import Formats
from synth.llm.journal import Journal, Reply
from synth.llm.prompt_size import most_tokens
from synth.llm.receipts import NoReply, Receipt, explained, fault_of, told
from synth.llm.server import Messages, OutOfService, Question, Server, reply_of
from synth.llm.tally import Tally
from synth.llm.usage import Usage
from synth.records import FailureKind, LLMError, Stopped, new_id

if TYPE_CHECKING:
    from synth.llm.client import Completion

# A request that gets no reply in time may be paid each time, and its like tends to time out again.
MOST_TIMEOUTS = 2
UNCOUNTED = "the server does not say what a reply took: each counts as the most that it can have taken"
CHARACTERS_PER_TOKEN = 3  # about, for tokens_per_minute, until the first replies have shown it
# Raised when a key is made of other things than before: replies of an older journal would be found by the wrong key.
KEY_VERSION = 1

_BACKOFF = wait_random_exponential(multiplier=0.5, max=20)
_BETWEEN_CONNECTIONS = wait_random_exponential(multiplier=0.5, max=1)


class Engine:
    """
    Asks the servers of `config`. Open it with `async with`: that reads the keys. For one event loop and any number of
    tasks. The attributes are for the other modules of this package.

    Args:
        config: which servers and models.
        journal: an open journal; the engine neither opens nor closes it.
        budget: what may be spent; nothing is held back without one.
        hopeless: requests, by key, of which an earlier run learnt that no reply comes, and why; they are not sent.
        on_note: told, in one line, of the first fault of each kind and of what is found out about the servers.
    """

    def __init__(
        self,
        config: LLMConfig,
        journal: Journal,
        *,
        budget: Budget | None = None,
        hopeless: Mapping[UUID, tuple[FailureKind, str]] | None = None,
        on_note: Callable[[str], None] = lambda text: None,
    ) -> None:
        self.config = config
        self.tally = Tally(config.endpoints, on_note)
        self.journal = journal
        self.budget = budget or Budget(Ceilings())
        self._hopeless = hopeless or {}
        self._broken = ""  # what every later request is told
        self.crew = Crew(sum(endpoint.concurrency for endpoint in config.endpoints))
        self.stopping = self.crew.stopping
        self._asking: dict[UUID, asyncio.Event | None] = {}  # None: nobody else waits for it
        self._open = AsyncExitStack()
        formats = Formats(journal.folder)
        self.servers = [
            Server(endpoint, config, formats, self.tally, self.budget, self.crew) for endpoint in config.endpoints
        ]
        self._shares = {
            model: sum(endpoint.weight for endpoint in config.endpoints if endpoint.model == model)
            for model in config.models
        }
        self._names = {model: f"{model}\0".encode() for model in self._shares}
        # by whose prices the most that a request can cost is reckoned
        priced = [endpoint for endpoint in config.endpoints if endpoint.cost(0, 0) is not None]
        self._dearest = None
        if len(priced) == len(config.endpoints):
            prices_in, prices_out = (max(getattr(each, name) for each in priced) for name in ("price_in", "price_out"))
            self._dearest = replace(priced[0], price_in=prices_in, price_out=prices_out)
        self._digests: dict[int, tuple[object, bytes]] = {}  # of schemas, by id; the schema keeps its id taken

    async def __aenter__(self) -> "Engine":
        async with AsyncExitStack() as opened:
            for server in self.servers:
                await opened.enter_async_context(server)
            self._open = opened.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        await self._open.aclose()

    async def complete(
        self,
        messages: Messages,
        attempt: int = 0,
        *,
        schema: Mapping[str, Any] | None = None,
        seed_id: UUID | None = None,
    ) -> Reply:
        """
        The reply to these messages: from the journal if it was ever paid for, else from a server. It may be cut at
        max_tokens (`finish_reason` "length").

        Args:
            messages: as in OpenAI's chat API, {"role": ..., "content": ...} each.
            attempt: ask the same again under another number to get another reply.
            schema: the JSON schema that the reply should have; a server that knows of schemas is held to it.
            seed_id: what the reply is about, for its receipt.

        Raises:
            LLMError: no server is of use as it is configured; stop.
            NoReply: no usable reply to this request; go on with others.
            BudgetSpent: this request could cost more than is left.
            Stopped: `stop` was called before this request was sent.
            SkiffError: the reply could not be written to the journal.
        """
        text = canonical(messages)
        keys = self._keys(text, schema, attempt)
        reply = self._paid_for(keys) or await self._bought_once(messages, text, schema, keys, attempt, seed_id)
        assert reply.call_id is not None
        fault = fault_of(reply)
        self.tally.receipt(Receipt(reply.call_id, seed_id, attempt, fault, reply))
        if fault:
            raise NoReply(
                explained(fault, reply),
                fault,
                reply.call_id,
                asked=reply.asked,
                server=reply.server,
                num_attempts=0 if reply.replayed else 1,
            )
        return reply

    def stop(self) -> None:
        """Send nothing more: requests in flight are finished, all others raise Stopped."""
        self.stopping.set()
        for server in self.servers:
            server.gate.release()

    def take_receipts(self) -> list[Receipt]:
        """One receipt for each reply since they were last taken, those from the journal included."""
        return self.tally.take_receipts()

    @property
    def usage(self) -> Usage:
        """What was done so far, and is being done now."""
        tally, spent = self.tally, self.budget.spent
        gates = [server.gate for server in self.servers]
        in_flight = sum(gate.in_flight for gate in gates)
        return Usage(
            requests=tally.requests,
            replies=tally.replies,
            replayed=tally.replayed,
            in_flight=in_flight,
            waiting=len(self._asking) - in_flight,
            limit=max(in_flight, sum(gate.limit for gate in gates)),
            retries=dict(tally.retries),
            tokens_in=tally.tokens_in,
            tokens_out=tally.tokens_out,
            cost=tally.cost if tally.has_prices else None,
            lost=tally.lost,
            lost_tokens=spent.lost_tokens,
            lost_cost=spent.lost_cost if tally.has_prices else None,
            excess=self.budget.excess,
            last_error=tally.last_error,
            out={f"{each.endpoint.model} at {each.endpoint.base_url}": each.why for each in self.servers if each.why},
        )

    @property
    def found(self) -> list[str]:
        """What was found out about the servers' limits, one line each."""
        found = [(server.endpoint, server.gate.found()) for server in self.servers]
        return [f"{endpoint.model} at {endpoint.base_url} {text}" for endpoint, text in found if text]

    def first_asked(
        self, messages: Messages, attempt: int = 0, *, schema: Mapping[str, Any] | None = None
    ) -> tuple[str, UUID | None]:
        """The model that is asked this first, and the request's key; None if nothing would be asked."""
        keys = self._keys(canonical(messages), schema, attempt)
        model, key = next(iter(keys.items()))
        is_known = key in self._hopeless or any(self.journal.has(each) for each in keys.values())
        return model, None if is_known else key

    def _keys(self, text: bytes, schema: Mapping[str, Any] | None, attempt: int) -> dict[str, UUID]:
        """The request's key for each model, in the order in which they are to be asked: the same on every machine."""
        settings, keys = self._settings(schema), {}
        for model, name in self._names.items():
            asked = b"%s%s %d %s" % (name, settings, attempt, text)
            keys[model] = UUID(bytes=hashlib.sha256(asked).digest()[:16])
        if len(keys) == 1:
            return keys

        def turn(model: str) -> float:  # weighted rendezvous: each model is first for its share of the requests
            return -math.log((int.from_bytes(keys[model].bytes[:7]) + 1) / (1 << 56)) / self._shares[model]

        return {model: keys[model] for model in sorted(keys, key=turn)}

    def _settings(self, schema: Mapping[str, Any] | None) -> bytes:
        found = self._digests.get(id(schema))
        if found is None:
            settings = json.dumps([KEY_VERSION, self.config.sampling, schema], sort_keys=True)
            found = schema, hashlib.sha256(settings.encode()).digest()
            self._digests[id(schema)] = found
        return found[1]

    def _paid_for(self, keys: Mapping[str, UUID]) -> Reply | None:
        for key in keys.values():
            reply = self.journal.get(key)
            if reply is not None:
                self.tally.replayed += 1
                return reply
        return None

    async def _bought_once(
        self,
        messages: Messages,
        text: bytes,
        schema: Mapping[str, Any] | None,
        keys: Mapping[str, UUID],
        attempt: int,
        seed_id: UUID | None,
    ) -> Reply:
        model, key = next(iter(keys.items()))
        if self._hopeless and key in self._hopeless:
            kind, reason = self._hopeless[key]
            raise NoReply(reason, kind, key, asked=model)
        while key in self._asking:  # somebody asks the same right now
            done = self._asking[key] = self._asking[key] or asyncio.Event()
            await done.wait()
            reply = self._paid_for(keys)
            if reply is not None:
                return reply
        if self.stopping.is_set():
            raise Stopped("stopped before it was asked")
        self.journal.prepare()
        self._asking[key] = None
        try:
            return await self._bought(Question(messages, text, schema, self._expected(text)), keys, attempt, seed_id)
        finally:
            waited_for = self._asking.pop(key)
            if waited_for is not None:
                waited_for.set()

    def _expected(self, text: bytes) -> int:
        """About how many tokens a request will take in all."""
        tally = self.tally
        replied = tally.tokens_out // tally.replies if tally.replies else self.config.max_tokens // 4
        return len(text) // CHARACTERS_PER_TOKEN + replied

    async def _bought(self, question: Question, keys: Mapping[str, UUID], attempt: int, seed_id: UUID | None) -> Reply:
        tokens_in, most = most_tokens(question.messages, question.schema), self.config.max_tokens
        cost = None if self._dearest is None else self._dearest.cost(tokens_in, most)
        question.reservation = reservation = await self.budget.reserve(tokens=tokens_in + most, cost=cost)
        with reservation:  # what leaves it without a word may have been paid for
            try:
                try:
                    completion, server = await self._asked(question, keys)
                except Fault as fault:
                    completion, server = await self._asked_often(question, keys, fault, attempt, seed_id)
            except (NoReply, LLMError, Stopped, asyncio.CancelledError):
                if not reservation.is_in_flight:
                    self._release(question)
                raise
            key = keys[server.endpoint.model]
            reply = reply_of(completion, server.endpoint, key)
            if completion.usage_known:
                reservation.settle(reply.tokens_in + reply.tokens_out, reply.cost)
            else:
                self.tally.note(UNCOUNTED, once="uncounted")
                reservation.lose()
        self.tally.replies += 1
        self.tally.bought(reply.tokens_in, reply.tokens_out, reply.cost)
        self.journal.append(key, reply)
        return reply

    def _release(self, question: Question) -> None:
        """Nothing was charged for it, if that is not known to be otherwise."""
        if question.reservation.held:
            question.reservation.release(sent=question.num_sent > 0)

    async def _asked(self, question: Question, keys: Mapping[str, UUID]) -> "tuple[Completion, Server]":
        """One attempt, at whichever server serves."""
        while True:
            server = self._pick(keys)
            question.server = server
            server.num_asked += 1
            try:
                return await server.ask(question), server
            except OutOfService:
                continue
            except Unreachable as fault:
                if any(not other.is_out for other in self.servers if other is not server):
                    server.take_out(f"cannot be reached: {fault}; start it, or correct base_url")
                raise
            finally:
                server.num_asked -= 1

    async def _asked_often(
        self, question: Question, keys: Mapping[str, UUID], fault: Fault, attempt: int, seed_id: UUID | None
    ) -> "tuple[Completion, Server]":
        """
        As often as the first fault and those that follow allow.

        Raises NoReply if the request failed for good, LLMError if no server is left to ask.
        """
        while True:
            if isinstance(fault, Transient | Unreachable):
                try:
                    return await self._asked_again(question, keys, fault)
                except Fault as last:
                    fault = last
            self.tally.last_error = str(fault)
            server = question.server
            if isinstance(fault, Unusable):
                self._unusable(question, server.endpoint, fault, attempt, seed_id)
            self._release(question)  # the question that finds out what is wrong may need what is set aside here
            if await server.judge(fault):
                raise self._failed(question, server.endpoint, fault, keys)
            try:  # the server is of no use, and out: is there another?
                return await self._asked(question, keys)
            except Fault as another:
                fault = another

    async def _asked_again(
        self, question: Question, keys: Mapping[str, UUID], fault: Fault
    ) -> "tuple[Completion, Server]":
        """As often as the policy allows; the last fault is raised."""
        first = iter([fault])

        async def ask() -> "tuple[Completion, Server]":
            for earlier in first:
                raise earlier
            return await self._asked(question, keys)

        # the policy takes over only after a fault: it costs as much as all the rest of a request
        policy = AsyncRetrying(
            retry=retry_if_exception_type((Transient, Unreachable)),
            stop=lambda state: self._gives_up(state, question),
            wait=_wait,
            sleep=self.crew.pause,
            reraise=True,
        )
        return await policy(ask)

    def _pick(self, order: Iterable[str]) -> Server:
        """The server to ask: of the first model that has one, the one with least to do."""
        if self._broken:
            raise LLMError(self._broken)
        servers = self.servers
        if len(servers) == 1 and not servers[0].is_out:
            return servers[0]
        for model in order:
            ready = [server for server in servers if server.endpoint.model == model and not server.is_out]
            if ready:
                return min(ready, key=lambda server: server.load)
        self._broken = "; ".join(server.why for server in servers)
        raise LLMError(self._broken)

    def _gives_up(self, state: RetryCallState, question: Question) -> bool:
        fault = state.outcome and state.outcome.exception()
        assert isinstance(fault, Fault)
        if isinstance(fault, Unreachable):
            given_up = question.server.gives_up(fault)
        else:
            most = self.config.max_retries
            given_up = state.attempt_number > (min(most, MOST_TIMEOUTS) if isinstance(fault, TimedOut) else most)
        if not given_up:
            self.tally.fault(fault)
        return given_up

    def _failed(self, question: Question, endpoint: Endpoint, fault: Fault, keys: Mapping[str, UUID]) -> NoReply:
        kind, said = told(fault, endpoint.model)
        self.tally.note(said, once=f"failed {kind} {fault.cause}")
        return NoReply(
            said,
            kind,
            keys[endpoint.model],
            asked=endpoint.model,
            server=endpoint.base_url,
            num_attempts=question.num_sent,
        )

    def _unusable(
        self, question: Question, endpoint: Endpoint, fault: Unusable, attempt: int, seed_id: UUID | None
    ) -> None:
        """A reply that must not be kept is paid for: the next one to the same request will be another call."""
        tokens_in, tokens_out = fault.tokens_in, fault.tokens_out
        cost = endpoint.cost(tokens_in, tokens_out)
        reply = Reply("", endpoint.model, "", tokens_in, tokens_out, 0.0, endpoint.model, endpoint.base_url, cost)
        self.tally.bought(tokens_in, tokens_out, cost)
        self.tally.receipt(Receipt(new_id(), seed_id, attempt, "unusable", reply))
        if tokens_in and tokens_out:
            question.reservation.settle(tokens_in + tokens_out, cost)
        else:  # the server does not say
            question.reservation.lose()


def canonical(messages: Messages) -> bytes:
    """The messages as they are sent: JSON, equal for equal messages."""
    return orjson.dumps(messages, default=dict, option=orjson.OPT_SORT_KEYS)


def _wait(state: RetryCallState) -> float:
    fault = state.outcome and state.outcome.exception()
    return _BETWEEN_CONNECTIONS(state) if isinstance(fault, Unreachable) else _BACKOFF(state)
