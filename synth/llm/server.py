"""
One endpoint at work: its connection, its gate, and whether it is of use.

What goes wrong with a request comes out as a fault (faults.py). When it is the server that is of no use (its key, its
model, its address, failing again and again) it is taken out, with one line that says why and what to do: OutOfService.
"""

import asyncio
import json
import os
import time
from collections.abc import Coroutine, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any
from uuid import UUID

from synth.llm.budget import Budget, Reservation
from synth.llm.config import Endpoint, LLMConfig
from synth.llm.crew import Crew
from synth.llm.faults import Fault, Refused, Rejected, Transient, Unreachable, Unusable
from synth.llm.formats import Formats
from synth.llm.gate.gate import Gate
from synth.llm.journal import Reply
from synth.llm.prompt_size import most_tokens
from synth.llm.receipts import Receipt
from synth.llm.tally import Tally
from synth.records import Stopped, UserError, new_id

if TYPE_CHECKING:
    from synth.llm.client import Completion

Messages = Sequence[Mapping[str, str]]

# No connection at all for this long, from any task: the server is not there.
UNREACHABLE_SECONDS = 8.0
# Nothing but refusals for this long, or one that asks to wait longer: a quota is spent, not a burst too many.
REFUSED_SECONDS = 600.0
# So many requests failing one after the other, none served between them: is it the server, or the requests?
FAILED_IN_A_ROW = 3
# A server that was taken out while others serve is tried again after so long, each time twice as long, at most an hour.
OUT_SECONDS, MOST_OUT_SECONDS = 30.0, 3600.0
# Asked when it is not clear whether the server or the request is at fault: no server minds it.
PROBE: Messages = ({"role": "user", "content": "Reply with the JSON object {}."},)

PROBE_SCHEMA: Mapping[str, Any] = {
    "title": "Probe",
    "type": "object",
    "properties": {},
    "required": [],
    "additionalProperties": False,
}

_CREDIT = "the account of the key in {env} has no credit left: add some, then run the same command again"
_REMEDIES = {
    401: "set the environment variable {env} to a key that this server takes",
    402: _CREDIT,
    403: "ask its owner to let the key in {env} use this model",
    404: "check the name of the model, and that base_url is the server's OpenAI-compatible one (often it ends in /v1)",
    429: _CREDIT,  # only where the server says that the quota is spent; any other 429 is waited out
    **dict.fromkeys((301, 302, 303, 307, 308), "it redirects: set base_url to where it wants to be asked"),
}
_REMEDY = "check model, temperature and max_tokens; if it knows no JSON mode, set response_format to none"


class OutOfService(Exception):
    """This server is of no use for now; its `why` says so in one line."""


class Question:
    """
    What is sent, whoever is asked, and what has become of it so far. `text` is the messages as JSON; `tokens`: about
    how many it takes in all, prompt and reply.
    """

    __slots__ = (
        "is_reserved",
        "messages",
        "num_sent",
        "reservation",
        "schema",
        "server",
        "text",
        "tokens",
    )

    def __init__(self, messages: Messages, text: bytes, schema: Mapping[str, Any] | None, tokens: int) -> None:
        self.messages, self.text, self.schema, self.tokens = messages, text, schema, tokens
        self.num_sent = 0
        self.reservation: Reservation
        self.is_reserved = True  # for the next time that it is sent
        self.server: Server  # the last one that was asked


class Server:
    """One endpoint at work. Open it with `async with`: that reads the key."""

    def __init__(
        self,
        endpoint: Endpoint,
        config: LLMConfig,
        formats: Formats,
        tally: Tally,
        budget: Budget,
        crew: Crew,
    ) -> None:
        self.endpoint = endpoint
        self.gate = Gate(
            endpoint.concurrency,
            requests_per_minute=endpoint.requests_per_minute,
            tokens_per_minute=endpoint.tokens_per_minute,
        )
        self.num_asked = 0  # requests that are at this server, those that wait for a place included
        self.why = ""  # it is out; one line
        self.out_until = 0.0
        self._out_seconds = OUT_SECONDS
        self._config = config
        self._frames: dict[tuple[str, int, str | None], tuple[bytes, bytes]] = {}  # what stands around the messages
        self._format = formats.of(endpoint, config.response_format)
        self._tally = tally
        self._budget = budget
        self._crew = crew
        self._unreachable_since: float | None = None
        self._refused_since: float | None = None
        self._failed_in_a_row = 0
        self._served_at = 0  # how many it had served when it last failed or was probed
        self._num_served = 0
        self._probing = asyncio.Lock()
        self._limit_name = "max_tokens"

    async def __aenter__(self) -> "Server":
        from synth.llm.client import ChatClient

        self._client = ChatClient(self.endpoint, key_of(self.endpoint), timeout_seconds=self._config.timeout_seconds)
        await self._client.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._client.__aexit__(kind, error, trace)

    @property
    def is_out(self) -> bool:
        return bool(self.why) and time.monotonic() < self.out_until

    @property
    def load(self) -> float:
        """What it has to do, in units of what it takes at once, and of its weight."""
        return self.num_asked / (self.gate.limit * self.endpoint.weight)

    def ask(self, question: Question) -> "Coroutine[Any, Any, Completion]":
        """
        The reply, after as many refusals as the server has to give.

        Raises:
            Fault: what went wrong with this request. OutOfService: the server is of no use. Stopped. BudgetSpent.
        """
        if question.schema is None or self._format.is_known:
            return self._served(question)
        return self._scouted(question)

    async def _scouted(self, question: Question) -> "Completion":
        async with self._format.scouting():
            return await self._served(question)

    async def _served(self, question: Question) -> "Completion":
        while True:
            if not question.reservation.held:  # lost, or no longer enough: wait for room before taking a place
                await question.reservation.again()
                question.is_reserved = True
            async with self.gate.turn(question.tokens, again=question.num_sent > 0) as turn:
                if self._crew.stopping.is_set():
                    raise Stopped("stopped before it was asked")
                if self.why and self.is_out:
                    raise OutOfService
                if not question.reservation.still_fits():  # another reply took more than anybody thought
                    question.reservation.release(sent=not question.is_reserved)
                    continue
                if not question.is_reserved:
                    await question.reservation.again()  # it is held, so this does not wait while a place is taken
                question.is_reserved = False
                question.num_sent += 1
                self._tally.requests += 1
                limit_name, sent = self._limit_name, self._format.wire(question.schema)
                question.reservation.sending()
                try:
                    completion = await self._client.post(self._body(question, limit_name, sent))
                except Refused as fault:
                    question.reservation.answered()
                    self._unreachable_since = None
                    self._tally.fault(fault)
                    seconds = turn.refused(fault.seconds, fault.limits)
                    self._refuse_long(fault, seconds)
                except Fault as fault:
                    self._count(question, fault)
                    if not self._is_mended(question, fault, limit_name, sent):
                        raise
                    continue
                else:
                    turn.served(tokens=completion.tokens_in + completion.tokens_out, limits=completion.limits)
                    self._format.served(sent)
                    self._is_back()
                    return completion
            await self._crew.pause(seconds)

    def _is_mended(self, question: Question, fault: Fault, limit_name: str, sent: Mapping[str, Any] | None) -> bool:
        """Whether the same request may be served when it is put in other words."""
        if isinstance(fault, Unreachable):  # nothing has left this machine
            question.num_sent -= 1
            question.is_reserved = True
            self._tally.requests -= 1
            self._unreachable_since = self._unreachable_since or time.monotonic()
            return False
        self._unreachable_since = None
        # newer models of OpenAI take the same limit under another name only
        if limit_name == "max_tokens" and "max_completion_tokens" in str(fault):
            self._limit_name = "max_completion_tokens"
            return True
        return self._format.downgrade(sent, fault)

    def _count(self, question: Question, fault: Fault) -> None:
        """What the answer may have cost. What an unusable one took is settled by whoever asked."""
        if isinstance(fault, Unreachable):
            question.reservation.unsent()
        elif isinstance(fault, Transient) and fault.paid:
            self._tally.lost += 1
            question.reservation.lose()
        elif not isinstance(fault, Unusable):
            question.reservation.answered()

    def body(self, question: Question) -> bytes:
        """What would be posted now."""
        return self._body(question, self._limit_name, self._format.wire(question.schema))

    def _body(self, question: Question, limit_name: str, response_format: Mapping[str, Any] | None) -> bytes:
        # all but the messages is the same for thousands of requests
        what = (limit_name, id(question.schema) if response_format else 0, (response_format or {}).get("type"))
        frame = self._frames.get(what)
        if frame is None:
            rest: dict[str, Any] = {"temperature": self._config.temperature, limit_name: self._config.max_tokens}
            if response_format is not None:
                rest["response_format"] = response_format
            start = f'{{"model": {json.dumps(self.endpoint.model)}, "messages": '
            frame = self._frames[what] = start.encode(), f", {json.dumps(rest)[1:]}".encode()
        return frame[0] + question.text + frame[1]

    def _is_back(self) -> None:
        self._unreachable_since = self._refused_since = None
        self._num_served += 1
        self._failed_in_a_row = 0
        if self.why:
            self._tally.note(f"{self._name} serves again")
            self.why, self._out_seconds = "", OUT_SECONDS

    def gives_up(self, fault: Fault) -> bool:
        """Whether a server that cannot be reached is to be given up: if nobody got through for so long."""
        since = self._unreachable_since
        return isinstance(fault, Unreachable) and since is not None and time.monotonic() - since > UNREACHABLE_SECONDS

    async def judge(self, fault: Fault) -> bool:
        """
        Whether it is the request that failed for good, and not the server; if it is not clear, a question that no
        server minds finds out. A server that is of no use is taken out.
        """
        if self._crew.stopping.is_set():
            raise Stopped("stopped before it was clear what is wrong")
        match fault:
            case Unreachable():
                return self.take_out(f"cannot be reached: {fault}; start it, or correct base_url")
            case Rejected():
                # once it has served, the settings are right: what is wrong with a request now is its own
                if (fault.alone or fault.status in (400, 422)) and await self._serves():
                    return True
                remedy = _REMEDIES.get(fault.status, _REMEDY).format(env=self.endpoint.api_key_env)
                return self.take_out(f"rejects the request ({fault.status}): {fault}; {remedy}")
            case _:
                self._failed_in_a_row += 1
                if self._failed_in_a_row % FAILED_IN_A_ROW == 0:
                    self._served_at = self._num_served  # in doubt again, whatever it served earlier
                if await self._serves():
                    return True
                return self.take_out(
                    f"fails again and again; the last: {fault}; see to the server, then run the same command"
                )

    def take_out(self, what: str) -> bool:
        """Out it goes, for the stated reason; False."""
        if not self.is_out:  # all tasks say the same
            self.why = f"{self._name} {what}"
            self.out_until = time.monotonic() + self._out_seconds
            self._out_seconds = min(2 * self._out_seconds, MOST_OUT_SECONDS)
        return False

    @property
    def _name(self) -> str:
        return f"the LLM server at {self.endpoint.base_url}, asked for model {self.endpoint.model},"

    async def _serves(self) -> bool:
        async with self._probing:
            if self._num_served > self._served_at:
                return True
            if self.is_out:
                return False
            # a format that was set, and not found out, may be what is wrong
            schema = None if self._config.response_format == "auto" else PROBE_SCHEMA
            question = Question(PROBE, json.dumps(PROBE).encode(), schema, tokens=64)
            tokens_in, most = most_tokens(PROBE, schema), self._config.max_tokens
            question.reservation = await self._budget.reserve(
                tokens=tokens_in + most, cost=self.endpoint.cost(tokens_in, most)
            )
            with question.reservation as reservation:
                try:
                    completion = await self.ask(question)
                except (Fault, OutOfService) as fault:
                    if reservation.held and not isinstance(fault, Unusable):
                        reservation.release()
                    return False
                call_id = new_id()
                reply = reply_of(completion, self.endpoint, call_id)
                self._tally.bought(reply.tokens_in, reply.tokens_out, reply.cost)
                self._tally.receipt(Receipt(call_id, None, 0, "probe", reply))
                tokens = reply.tokens_in + reply.tokens_out if completion.usage_known else None
                reservation.settle(tokens, reply.cost if completion.usage_known else None)
            return True

    def _refuse_long(self, fault: Refused, seconds: float) -> None:
        now = time.monotonic()
        self._refused_since = self._refused_since or now
        asked = seconds if fault.seconds is None else fault.seconds
        if asked > REFUSED_SECONDS or now - self._refused_since > REFUSED_SECONDS:
            self.take_out(f"takes no more requests for now ({fault}); wait {asked:.0f} s, then run the same command")
            raise OutOfService


def reply_of(completion: "Completion", endpoint: Endpoint, call_id: UUID, *, batch: str = "") -> Reply:
    """A completion as the journal keeps it."""
    return Reply(
        text=completion.text,
        model=completion.model or endpoint.model,
        finish_reason=completion.finish_reason,
        tokens_in=completion.tokens_in,
        tokens_out=completion.tokens_out,
        seconds=completion.seconds,
        asked=endpoint.model,
        server=endpoint.base_url,
        cost=endpoint.cost(completion.tokens_in, completion.tokens_out, batch=bool(batch)),
        batch=batch,
        call_id=call_id,
    )


def key_of(endpoint: Endpoint) -> str:
    """
    The key of an endpoint, "" if it has none.

    Raises:
        UserError: it has characters that no key has; the key itself is not shown.
    """
    key = os.environ.get(endpoint.api_key_env, "").strip()
    if not (key.isascii() and key.isprintable()) or " " in key:
        raise UserError(f"the key in the environment variable {endpoint.api_key_env} has characters that no key has")
    return key
