"""
One request in, one reply out, from any OpenAI-compatible server: a hosted API, vLLM, Ollama, llama.cpp.

A stage asks from as many tasks as it likes; the engine bounds what is under way (limiter.py), asks again what broke,
writes each reply to the journal (journal.py) before anyone reads it, and asks nothing that the journal can answer.
Two kinds of error come out. LLMError: the server is of no use as configured; the run should stop, and every later
request of this engine fails at once with the same words. BadReply: this one request; the run goes on.
"""

import asyncio
import ipaddress
import math
import os
import random
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal
from uuid import UUID

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, wait_random_exponential

from synth.llm.faults import Fault, Refused, Rejected, TimedOut, Transient, Unreachable, Unusable
from synth.llm.journal import MOST_NAME, Journal, Reply
from synth.llm.limiter import Gate
from synth.records import BadReply, LLMError, UserError, key_of, new_id

if TYPE_CHECKING:
    from synth.llm.client import Completion

Messages = Sequence[Mapping[str, str]]

# No connection at all for this long, from any task: the server is not there.
UNREACHABLE_SECONDS = 8.0
# Nothing but refusals for this long, or one that asks to wait longer: a quota is spent, not a burst too many.
REFUSED_SECONDS = 600.0
# So many requests failing one after the other, none served between them: it is the server, not the requests.
FAILED_IN_A_ROW = 3
# A request that gets no reply in time may be paid each time, and its like tends to time out again.
MOST_TIMEOUTS = 2
# Asked once, if a request fails before any was served: it tells wrong settings from a passage that no server takes.
PROBE: Messages = ({"role": "user", "content": "Reply with the JSON object {}."},)

MOST_PRICE = 1_000_000  # US dollars per million tokens; anything above is a slip, and its sums would not be numbers

_BACKOFF = wait_random_exponential(multiplier=0.5, max=20)
_CREDIT = "the account of the key in {env} has no credit left: add some, then run the same command again"
_ADDRESS = re.compile(r"https?://(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::([0-9]{1,5}))?(?:/[!-~]*)?")
_LONGEST_ADDRESS = 1000  # characters; servers take no longer ones
_REMEDIES = {
    401: "set the environment variable {env} to a key that this server takes",
    402: _CREDIT,
    403: "ask its owner to let the key in {env} use this model",
    404: "check the name of the model, and that base_url is the server's OpenAI-compatible one (often it ends in /v1)",
    429: _CREDIT,  # only where the server says that the quota is spent; any other 429 is waited out
    **dict.fromkeys((301, 302, 303, 307, 308), "it redirects: set base_url to where it wants to be asked"),
}
_REMEDY = "check model, temperature and max_tokens; if it knows no JSON mode, set response_format to none"


@dataclass(frozen=True, slots=True)
class LLMConfig:
    """
    Which server and model to ask, and how. The key itself is never here: `api_key_env` names where it is read from.

    Raises:
        UserError: a value makes no sense.
    """

    base_url: str
    model: str
    api_key_env: str = "OPENAI_API_KEY"
    temperature: float = 1.0  # E5-Mistral's synthesis; the only value that reasoning models take
    max_tokens: int = 2048
    concurrency: int = 16  # most requests under way at once
    timeout_seconds: float = 120.0  # of one request, from sending to the whole reply
    max_retries: int = 6  # of one request that broke on the way
    response_format: Literal["json_object", "none"] = "json_object"  # none: for a server without JSON mode
    price_in: float | None = None  # US dollars per million tokens; 0 is a price, None is unknown
    price_out: float | None = None

    def __post_init__(self) -> None:
        faults = {
            # first, and without its value: it is where a key is pasted by mistake
            "api_key_env must name an environment variable, in capitals, and not be the key": not re.fullmatch(
                r"[A-Z_][A-Z0-9_]*", self.api_key_env
            ),
            "base_url must be a server's address in ASCII, like http://localhost:8000/v1, without user, key or query": (
                not _is_address(self.base_url)
            ),
            f"model must be named, in at most {MOST_NAME} printable characters": (
                not (self.model.strip() and self.model.isprintable() and len(self.model) <= MOST_NAME)
            ),
            "temperature must be 0 or more": not 0 <= self.temperature < math.inf,
            "max_tokens must be 1 or more": self.max_tokens < 1,
            "concurrency must be 1 or more": self.concurrency < 1,
            "timeout_seconds must be more than 0": not 0 < self.timeout_seconds < math.inf,
            "max_retries must be 0 or more": self.max_retries < 0,
            f"price_in and price_out must be 0 to {MOST_PRICE:,} dollars per million tokens": not all(
                price is None or 0 <= price <= MOST_PRICE for price in (self.price_in, self.price_out)
            ),
            "price_in and price_out go together: state both (0 for what is free), or none": (
                (self.price_in is None) != (self.price_out is None)
            ),
        }
        for fault, found in faults.items():
            if found:
                raise UserError(f"the settings of the LLM: {fault}")

    @property
    def sampling(self) -> dict[str, float | int | str]:
        """What, beside the messages and the model, decides what a reply may be."""
        return {
            "temperature": self.temperature,
            "max_tokens": self.max_tokens,
            "response_format": self.response_format,
        }

    def cost(self, tokens_in: int, tokens_out: int) -> float | None:
        """What so many tokens cost, in US dollars; None where no price is stated."""
        if self.price_in is None or self.price_out is None:
            return None
        return (tokens_in * self.price_in + tokens_out * self.price_out) / 1e6


@dataclass(frozen=True, slots=True)
class Usage:
    """
    What an engine did since it opened. Tokens are those bought now, of replies that were not kept too: a replayed reply
    was paid for earlier.
    """

    requests: int = 0  # sent, the refused and broken ones too
    refusals: int = 0
    replies: int = 0  # bought and journalled
    replayed: int = 0
    tokens_in: int = 0
    tokens_out: int = 0


@dataclass(frozen=True, slots=True)
class Receipt:
    """
    One reply that was paid for, now or (from the journal) earlier.

    `call_id` is the key of its request; a reply that no journal keeps has an id of its own. `fault` says why nobody was
    handed the reply: `cut` at max_tokens, `withheld` by a content filter, `empty`, `unusable` (too large, or with the
    key in it), or `probe`, the engine's own question; "" where somebody was. `seconds` is None where nobody measured.
    """

    call_id: UUID
    seed_id: UUID | None
    attempt: int
    model: str
    tokens_in: int
    tokens_out: int
    seconds: float | None
    fault: str


@dataclass(frozen=True, slots=True)
class _Request:
    messages: Messages
    attempt: int = 0
    seed_id: UUID | None = None


class Engine:
    """
    Asks one server. Open it with `async with`: that reads the key. For one event loop, any number of tasks.

    Args:
        config: which server and model.
        journal: an open journal; the engine neither opens nor closes it.
    """

    def __init__(self, config: LLMConfig, journal: Journal) -> None:
        self.config = config
        self.usage = Usage()
        self._receipts: list[Receipt] = []
        self._journal = journal
        self._gate = Gate(config.concurrency)
        self._broken = ""  # what every later request is told
        self._unreachable_since: float | None = None
        self._refused_since: float | None = None
        self._failed_in_a_row = 0
        self._served_once = False
        self._probing = asyncio.Lock()
        self._limit_name = "max_tokens"

    async def __aenter__(self) -> "Engine":
        from synth.llm.client import ChatClient

        config = self.config
        self._client = ChatClient(
            config.base_url, _key(config), connections=config.concurrency, timeout_seconds=config.timeout_seconds
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        await self._client.close()

    async def complete(self, messages: Messages, attempt: int = 0, *, seed_id: UUID | None = None) -> Reply:
        """
        The reply to these messages: from the journal if it was ever paid for, else from the server.

        Args:
            messages: as in OpenAI's chat API, {"role": ..., "content": ...} each.
            attempt: ask the same again under another number to get another reply.
            seed_id: what the reply is about, for its receipt.

        Raises:
            LLMError: the server is of no use as it is configured; stop.
            BadReply: no usable reply to this request; go on with others.
            SkiffError: the reply could not be written to the journal.
        """
        config = self.config
        sampling = {"temperature": config.temperature, "max_tokens": config.max_tokens}
        key = key_of(config.model, list(messages), sampling, config.response_format, attempt)
        reply = self._journal.get(key)
        request = _Request(messages, attempt, seed_id)
        if reply is not None:
            self._count(replayed=1)
        else:
            reply = replace(_reply(await self._buy(request), config), call_id=key)
            self._journal.append(key, reply)
            self._count(replies=1, tokens_in=reply.tokens_in, tokens_out=reply.tokens_out)
        fault = _fault_of(reply)
        self._receipts.append(_receipt(key, request, reply, fault))
        if fault:
            raise BadReply(_explained(fault, reply, config))
        return reply

    def take_receipts(self) -> list[Receipt]:
        """One receipt for each reply since they were last taken, those from the journal included."""
        taken, self._receipts = self._receipts, []
        return taken

    async def _buy(self, request: _Request) -> "Completion":
        policy = AsyncRetrying(
            retry=retry_if_exception_type((Transient, Unreachable)), stop=self._gives_up, wait=_wait, reraise=True
        )
        try:
            completion: Completion = await policy(self._served, request)
        except Rejected as fault:
            raise await self._rejected(fault) from None
        except Unreachable as fault:
            raise self._no_use(f"cannot be reached: {fault}; start it, or correct base_url") from None
        except Unusable as fault:
            raise await self._failed(fault, f"no usable reply of model {self.config.model}: {fault}") from None
        except Transient as fault:
            said = f"no reply of model {self.config.model} after several attempts; the last: {fault}"
            raise await self._failed(fault, said) from None
        self._failed_in_a_row = 0
        return completion

    async def _served(self, request: _Request) -> "Completion":
        """One attempt, through the gate, for as long as the server says to come later."""
        refusals = 0
        while True:
            async with self._gate.turn() as turn:
                if self._broken:
                    raise LLMError(self._broken)
                try:
                    return await self._post(request)
                except Refused as fault:
                    refusals += 1
                    turn.refused_for = self._wait_asked(fault, refusals)
            # not all at the same moment, once the time is over
            await asyncio.sleep(turn.refused_for * random.uniform(1.0, 1.25))

    async def _post(self, request: _Request) -> "Completion":
        self._count(requests=1)
        body = self._body(request.messages)
        try:
            completion = await self._client.post(body)
        except Unreachable:
            self._unreachable_since = self._unreachable_since or time.monotonic()
            raise
        except Fault as fault:
            self._unreachable_since = None
            if isinstance(fault, Unusable):
                self._count(tokens_in=fault.tokens_in, tokens_out=fault.tokens_out)
                self._receipts.append(_receipt_of_none(request, fault, self.config))
            # newer models of OpenAI take the same limit under another name only
            if isinstance(fault, Rejected) and "max_tokens" in body and "max_completion_tokens" in str(fault):
                self._limit_name = "max_completion_tokens"
                return await self._post(request)
            raise
        self._unreachable_since = self._refused_since = None
        self._served_once = True
        return completion

    async def _serves(self) -> bool:
        """Whether the server ever served this engine; if not yet, a request that no server minds finds out."""
        async with self._probing:
            if not (self._served_once or self._broken):
                probe = _Request(PROBE)
                try:
                    completion = await self._served(probe)
                except (Fault, LLMError):
                    return False
                reply = _reply(completion, self.config)
                self._count(tokens_in=reply.tokens_in, tokens_out=reply.tokens_out)
                self._receipts.append(_receipt(new_id(), probe, reply, "probe"))
        return self._served_once

    def _body(self, messages: Messages) -> dict[str, Any]:
        config = self.config
        body: dict[str, Any] = {"model": config.model, "messages": messages, "temperature": config.temperature}
        body[self._limit_name] = config.max_tokens
        if config.response_format != "none":
            body["response_format"] = {"type": config.response_format}
        return body

    def _wait_asked(self, fault: Refused, refusals: int) -> float:
        """Seconds to wait after a refusal: what the server asks for, else twice as long each time."""
        self._count(refusals=1)
        now = time.monotonic()
        self._refused_since = self._refused_since or now
        doubled = 2.0 ** min(refusals - 1, 8)
        # a server that says "at once" each time is not taken at its word for long
        seconds = min(30.0, 0.5 * doubled) if fault.seconds is None else max(fault.seconds, 0.02 * doubled)
        if seconds > REFUSED_SECONDS or now - self._refused_since > REFUSED_SECONDS:
            raise self._no_use(
                f"takes no more requests for now ({fault}); wait {seconds:.0f} s, then run the same command"
            )
        return seconds

    def _gives_up(self, state: RetryCallState) -> bool:
        fault = state.outcome and state.outcome.exception()
        if isinstance(fault, Unreachable):
            since = self._unreachable_since  # of any task; None if another one has got through meanwhile
            return since is not None and time.monotonic() - since > UNREACHABLE_SECONDS
        most = self.config.max_retries
        return state.attempt_number > (min(most, MOST_TIMEOUTS) if isinstance(fault, TimedOut) else most)

    async def _rejected(self, fault: Rejected) -> LLMError | BadReply:
        # once this engine was served, its settings are right: what is wrong with a request now is its own
        if (fault.alone or fault.status in (400, 422)) and await self._serves():
            return BadReply(f"model {self.config.model} does not take this request ({fault.status}): {fault}")
        remedy = _REMEDIES.get(fault.status, _REMEDY).format(env=self.config.api_key_env)
        return self._no_use(f"rejects the request ({fault.status}): {fault}; {remedy}")

    async def _failed(self, fault: Fault, said: str) -> LLMError | BadReply:
        self._failed_in_a_row += 1
        if self._failed_in_a_row < FAILED_IN_A_ROW and await self._serves():
            return BadReply(said)
        return self._no_use(f"fails again and again; the last: {fault}; see to the server, then run the same command")

    def _no_use(self, what: str) -> LLMError:
        if not self._broken:  # all tasks say the same
            self._broken = f"the LLM server at {self.config.base_url}, asked for model {self.config.model}, {what}"
        return LLMError(self._broken)

    def _count(self, **more: int) -> None:
        self.usage = replace(self.usage, **{name: getattr(self.usage, name) + count for name, count in more.items()})


def _is_address(url: str) -> bool:
    """Whether a URL is one that every layer below can parse: each has its own error for what it cannot."""
    found = _ADDRESS.fullmatch(url)
    if not found or re.search("[?#@]", url) or len(url) > _LONGEST_ADDRESS:
        return False
    host, port = found.groups()
    if port and not 1 <= int(port) <= 65535:
        return False
    try:
        if host[0] == "[":
            ipaddress.IPv6Address(host[1:-1])
        elif host.replace(".", "").isdigit():
            ipaddress.IPv4Address(host)
    except ValueError:
        return False
    labels = host.removesuffix(".").split(".")
    return host[0] == "[" or (len(host) <= 253 and all(1 <= len(label) <= 63 for label in labels))


def _key(config: LLMConfig) -> str:
    key = os.environ.get(config.api_key_env, "").strip()
    if not (key.isascii() and key.isprintable()) or " " in key:
        raise UserError(f"the key in the environment variable {config.api_key_env} has characters that no key has")
    return key


def _wait(state: RetryCallState) -> float:
    fault = state.outcome and state.outcome.exception()
    return random.uniform(0.5, 1.0) if isinstance(fault, Unreachable) else _BACKOFF(state)


def _reply(completion: "Completion", config: LLMConfig) -> Reply:
    return Reply(
        text=completion.text,
        model=completion.model or config.model,
        finish_reason=completion.finish_reason,
        tokens_in=completion.tokens_in,
        tokens_out=completion.tokens_out,
        seconds=completion.seconds,
    )


def _receipt(call_id: UUID, request: _Request, reply: Reply, fault: str) -> Receipt:
    return Receipt(
        call_id,
        request.seed_id,
        request.attempt,
        reply.model,
        reply.tokens_in,
        reply.tokens_out,
        reply.seconds,
        fault,
    )


def _receipt_of_none(request: _Request, fault: Unusable, config: LLMConfig) -> Receipt:
    """Of a reply that must not be kept: the next one to the same request will be another call."""
    return Receipt(
        new_id(),
        request.seed_id,
        request.attempt,
        config.model,
        fault.tokens_in,
        fault.tokens_out,
        None,
        "unusable",
    )


def _fault_of(reply: Reply) -> str:
    """Why nobody can be handed this reply; "" if somebody can."""
    if reply.finish_reason == "length":
        return "cut"
    if reply.finish_reason == "content_filter":
        return "withheld"
    return "" if reply.text.strip() else "empty"


def _explained(fault: str, reply: Reply, config: LLMConfig) -> str:
    return {
        "cut": f"the reply of {reply.model} was cut at max_tokens = {config.max_tokens}; raise max_tokens",
        "withheld": f"the content filter of {reply.model} withheld the reply",
        "empty": f"the reply of {reply.model} is empty (finish_reason {reply.finish_reason!r})",
    }[fault]
