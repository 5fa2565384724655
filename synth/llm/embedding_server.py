"""
One embeddings server at work: many texts in requests that it takes, several at a time, and what broke asked again.

How many texts a server takes at once is found out: a request that it refuses for its size, or that takes too long, is
sent again in halves. Shapes: N texts, P probes, D dimensions.
"""

import asyncio
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, wait_random_exponential

from synth.llm.config import Endpoint
from synth.llm.embedding_client import Embedded, EmbeddingClient, VectorFormat
from synth.llm.faults import Fault, Refused, Rejected, TimedOut, Transient, Unreachable, Unusable
from synth.llm.known_models import PROBES, SAME, agreement, recognised, remember
from synth.llm.server import REFUSED_SECONDS, UNREACHABLE_SECONDS, key_of
from synth.records import LLMError, UserError

# A request holds as many texts, and about as many tokens, as a hosted API answers within seconds; OpenAI takes 2048 and
# 300,000. A token is three bytes or more in nearly every text.
MOST_TEXTS, REQUEST_TOKENS, BYTES_PER_TOKEN = 128, 100_000, 3
IN_FLIGHT = 8
TIMEOUT_SECONDS = 120.0
MAX_RETRIES, MOST_TIMEOUTS = 6, 2  # of a request that broke on the way; of one text that gets no answer in time
_BACKOFF = wait_random_exponential(multiplier=0.5, max=20)
_BETWEEN_CONNECTIONS = wait_random_exponential(multiplier=0.5, max=1)
_OF_ITS_TEXTS = (400, 413, 422)
_CREDIT = "the account of the key in {env} has no credit left: add some, then run the same command again"
_REMEDIES = {
    401: "set the environment variable {env} to a key that this server takes",
    402: _CREDIT,
    403: "ask its owner to let the key in {env} use this model",
    404: "check the name of the model, and that base_url is the server's OpenAI-compatible one (often it ends in /v1)",
    429: _CREDIT,
}
_REMEDY = "check the name of the model, base_url and dimensions"


@dataclass(slots=True)
class Spent:
    """What a server was asked, the probes included. `tokens` as it counts them: 0 where it does not."""

    requests: int = 0  # those that it refused, too
    texts: int = 0
    tokens: int = 0
    cut: int = 0  # texts that it took only the start of

    def __str__(self) -> str:
        tokens = f", {self.tokens:,} tokens" if self.tokens else ""
        cut = f"; {self.cut:,} were too long for it, and cut" if self.cut else ""
        return f"{self.texts:,} texts in {self.requests:,} requests{tokens}{cut}"


class EmbeddingServer:
    """
    One model at one server: what is asked of it, what was found out about it.

    Args:
        endpoint: the address, the model and the variable that holds the key.
        dimensions: asked for, of models whose vectors can be shortened; None: the model's own.
        folder: of the cache of vectors, where models are recognised by theirs.

    Raises:
        UserError: the key has characters that no key has.
    """

    def __init__(self, endpoint: Endpoint, dimensions: int | None, folder: Path) -> None:
        self.endpoint = endpoint
        self.spent = Spent()
        self._dimensions, self._folder = dimensions, folder
        self._key = key_of(endpoint)
        self._dimension: int | None = None  # of all its vectors, once it gave one
        self._most_texts = MOST_TEXTS
        self._format: VectorFormat = "base64"
        self._quiet_until = 0.0  # by time.monotonic

    @cached_property
    def probe_PD(self) -> NDArray[np.float32]:
        """The vectors of the probes, L2-normalised, asked for once."""
        vectors_PD = self.vectors(PROBES)
        if self._dimensions not in (None, vectors_PD.shape[1]):
            raise UserError(
                f"{self._name} gives {vectors_PD.shape[1]} dimensions and not the {self._dimensions} asked for: leave "
                "dimensions out, or ask a model that can shorten its vectors"
            )
        return vectors_PD

    @cached_property
    def identity(self) -> str:
        """
        The id of the model behind the name, by its vectors: the same wherever the server is, another once it has
        another model.

        Raises:
            UserError: the model gives a text another vector each time it is asked.
        """
        name = recognised(self.probe_PD, self._folder, self.endpoint.model)
        if name:
            return name
        cosine = agreement(self.vectors(PROBES), self.probe_PD)
        if cosine < SAME:
            raise UserError(
                f"{self._name} gives the same text different vectors (cosine {cosine:.3f} from one request to the "
                "next): scores would be chance; take another model or server"
            )
        return remember(self.probe_PD, self._folder, self.endpoint.model)

    def vectors(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """
        The texts' vectors (N, D), L2-normalised. Blocks until all are there; what is in flight when one fails is lost.

        Raises:
            LLMError: the server cannot be reached, refuses, or gives no usable vectors.
        """
        return asyncio.run(self._vectors(texts))

    async def _vectors(self, texts: Sequence[str]) -> NDArray[np.float32]:
        found: list[NDArray[np.float32]] = [np.empty(0, dtype=np.float32)] * len(texts)
        batches = _batches(texts, self._most_texts)

        async def worker() -> None:
            for rows in batches:  # one shared iterator: each batch goes to exactly one worker
                vectors, _ = await self._embedded(client, [texts[row] for row in rows])
                for row, vector_D in zip(rows, vectors, strict=True):
                    found[row] = vector_D

        async with EmbeddingClient(
            self.endpoint, self._key, dimensions=self._dimensions, timeout_seconds=TIMEOUT_SECONDS
        ) as client:
            try:
                async with asyncio.TaskGroup() as group:
                    for _ in range(IN_FLIGHT):
                        group.create_task(worker())
            except ExceptionGroup as errors:  # workers fail alike: show it once
                raise errors.exceptions[0] from None
        return np.stack(found) if found else np.empty((0, self._dimension or 0), dtype=np.float32)

    async def _embedded(self, client: EmbeddingClient, texts: list[str]) -> tuple[list[NDArray[np.float32]], bool]:
        """The vectors of some texts, and whether the server took them as they came."""
        most = self._most_texts
        if len(texts) > most:  # others found that out meanwhile
            parts = [await self._embedded(client, texts[start : start + most]) for start in range(0, len(texts), most)]
            return [vector_D for vectors, _ in parts for vector_D in vectors], False
        try:
            embedded = await self._asked(client, texts)
        except Fault as fault:
            if not self._may_be_size(fault, texts):
                raise self._failed(fault, client, texts) from None
            if len(texts) == 1:
                return await self._embedded_in_part(client, texts[0], fault)
        else:
            self.spent.texts += len(texts)
            return self._usable(embedded, texts, client), True
        half = (len(texts) + 1) // 2
        first, is_first_whole = await self._embedded(client, texts[:half])
        last, is_last_whole = await self._embedded(client, texts[half:])
        if is_first_whole and is_last_whole:  # it was their number, and not one of them
            self._most_texts = min(self._most_texts, half)
        return first + last, False

    async def _embedded_in_part(
        self, client: EmbeddingClient, text: str, fault: Fault
    ) -> tuple[list[NDArray[np.float32]], bool]:
        """The vector of as much of a text as the server takes: its first half, quarter, ..."""
        part = text
        while len(part) > 1 and self._may_be_size(fault, [part]):
            part = part[: len(part) // 2]
            try:
                embedded = await self._asked(client, [part])
            except Fault as again:
                fault = again
            else:
                self.spent.texts += 1
                self.spent.cut += 1
                return self._usable(embedded, [part], client), False
        raise self._failed(fault, client, [text])

    def _may_be_size(self, fault: Fault, texts: Sequence[str]) -> bool:
        """Whether fewer texts may be taken, or less of one: once a text was, settings are not what is wrong."""
        match fault:
            case TimedOut():
                return len(texts) > 1
            case Rejected() if fault.kind == "too_long" or (fault.kind == "rejected" and fault.status in _OF_ITS_TEXTS):
                return len(texts) > 1 or self._dimension is not None
        return False

    async def _asked(self, client: EmbeddingClient, texts: Sequence[str]) -> Embedded:
        """One request, as often as its faults allow; the last is raised."""

        async def ask() -> Embedded:
            await asyncio.sleep(max(0.0, self._quiet_until - time.monotonic()))
            self.spent.requests += 1
            try:
                embedded = await client.post([text or " " for text in texts], self._format)
            except Refused as fault:  # of all requests, not of this one alone
                if fault.seconds and fault.seconds <= REFUSED_SECONDS:
                    until = time.monotonic() + fault.seconds * random.uniform(1.0, 1.1)
                    self._quiet_until = max(self._quiet_until, until)
                raise
            except Rejected as fault:
                if self._format == "float" or not any(word in str(fault) for word in ("base64", "encoding")):
                    raise
                self._format = "float"  # it knows no other
                return await ask()
            self.spent.tokens += embedded.tokens
            return embedded

        policy = AsyncRetrying(
            retry=retry_if_exception_type((Transient, Unreachable, Refused)),
            stop=lambda state: _gives_up(state, len(texts)),
            wait=_wait,
            reraise=True,
        )
        return await policy(ask)

    def _usable(self, embedded: Embedded, texts: Sequence[str], client: EmbeddingClient) -> list[NDArray[np.float32]]:
        """The vectors, L2-normalised. Raises LLMError if one of them cannot be, or has another dimension."""
        vectors_ND = embedded.vectors_ND.astype(np.float64)  # squares of what float32 holds may pass it
        length_N = np.linalg.norm(vectors_ND, axis=1)
        bad_N = ~(np.isfinite(length_N) & (length_N > 0))
        if bad_N.any():
            first = client.reader.line(texts[int(bad_N.argmax())], most=60)
            raise self._error(
                f"gives no usable vector for {int(bad_N.sum())} of {len(texts)} texts (not finite, or of length 0), "
                f"the first: {first!r}; see to the server, or leave the text out"
            )
        self._dimension = self._dimension or vectors_ND.shape[1]
        if vectors_ND.shape[1] != self._dimension:
            raise self._error(f"gives {vectors_ND.shape[1]} dimensions, and gave {self._dimension}; see to the server")
        return list((vectors_ND / length_N[:, None]).astype(np.float32))

    def _failed(self, fault: Fault, client: EmbeddingClient, texts: Sequence[str]) -> LLMError:
        match fault:
            case Unreachable():
                return self._error(f"cannot be reached: {fault}; start it, or correct base_url")
            case Rejected() if self._dimension is not None and (fault.alone or fault.status in _OF_ITS_TEXTS):
                first = client.reader.line(texts[0], most=60)
                return self._error(f"does not take a text ({fault.status}): {fault}; mend or leave out {first!r}")
            case Rejected():
                remedy = _REMEDIES.get(fault.status, _REMEDY).format(env=self.endpoint.api_key_env)
                return self._error(f"rejects the request ({fault.status}): {fault}; {remedy}")
            case Refused():
                wait = f"wait {fault.seconds:.0f} s" if fault.seconds else "wait"
                return self._error(f"takes no more requests for now ({fault}); {wait}, then run the same command")
            case Unusable():
                return self._error(f"gives no usable vectors: {fault}; see to the server")
        return self._error(f"fails again and again; the last: {fault}; see to the server, then run the same command")

    def _error(self, what: str) -> LLMError:
        return LLMError(f"{self._name} {what}")

    @property
    def _name(self) -> str:
        return f"the embeddings server at {self.endpoint.base_url}, asked for model {self.endpoint.model},"


def _batches(texts: Sequence[str], most_texts: int) -> Iterator[list[int]]:
    """Rows of texts, longest first, in requests of at most so many texts and REQUEST_TOKENS; a longer text is alone."""
    batch: list[int] = []
    tokens = 0
    for row in sorted(range(len(texts)), key=lambda row: -len(texts[row])):
        size = len(texts[row].encode(errors="surrogatepass")) // BYTES_PER_TOKEN + 1
        if batch and (len(batch) == most_texts or tokens + size > REQUEST_TOKENS):
            yield batch
            batch, tokens = [], 0
        batch.append(row)
        tokens += size
    if batch:
        yield batch


def _gives_up(state: RetryCallState, num_texts: int) -> bool:
    fault = state.outcome and state.outcome.exception()
    match fault:
        case Unreachable():
            return (state.seconds_since_start or 0) > UNREACHABLE_SECONDS
        case Refused():
            return (fault.seconds or 0) > REFUSED_SECONDS or (state.seconds_since_start or 0) > REFUSED_SECONDS
        case TimedOut():
            return num_texts > 1 or state.attempt_number > MOST_TIMEOUTS  # several go on in halves
    return state.attempt_number > MAX_RETRIES


def _wait(state: RetryCallState) -> float:
    match state.outcome and state.outcome.exception():
        case Unreachable():
            return _BETWEEN_CONNECTIONS(state)
        case Refused() as fault if fault.seconds and state.attempt_number <= 3:
            return 0.0  # all wait together, for as long as it said
    return _BACKOFF(state)
