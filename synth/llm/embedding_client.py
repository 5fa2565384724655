"""
One POST to an OpenAI-compatible embeddings server, through the openai package: vectors, or the fault (faults.py) sorted
by what is to be done about it. Importing this file imports openai, which takes a second.

What a server says is hostile input: whatever comes out of here is finite numbers in the shape that was asked for.
"""

import asyncio
import base64
import ssl
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Literal

import aiohttp
import httpx2
import numpy as np
import openai
import orjson
from numpy.typing import NDArray
from yarl import URL

from synth.llm.client import proxy_for
from synth.llm.completion import Reader
from synth.llm.config import Endpoint
from synth.llm.faults import Fault, Rejected, TimedOut, Transient, Unreachable, Unusable
from synth.llm.journal import MOST_TOKENS
from synth.llm.ratelimits import retry_after

VectorFormat = Literal["base64", "float"]

CONNECT_SECONDS = 15.0
MOST_BYTES = 256 << 20  # of one reply: 128 vectors of 16,384 numbers, written out in full, are 50 MB
_KEPT_HEADERS = ("content-type", "retry-after", "retry-after-ms")
# llama.cpp says so with a 500: a text of more tokens than its physical batch
_TOO_LONG = "too large to process"


@dataclass(frozen=True, slots=True)
class Embedded:
    """The vectors of one request, (N, D), as the server gave them; `tokens` as it counts them, 0 where it does not."""

    vectors_ND: NDArray[np.float32]
    tokens: int


class _Client(openai.DefaultAioHttpClient):
    """Reads at most MOST_BYTES of an answer."""

    async def send(self, request: httpx2.Request, *, stream: bool = False, **options: Any) -> httpx2.Response:
        response = await super().send(request, stream=True, **options)
        content = bytearray()
        try:
            async with aclosing(response.aiter_bytes()) as chunks:
                async for chunk in chunks:
                    content += chunk
                    if len(content) > MOST_BYTES:
                        raise Unusable(f"an answer of more than {MOST_BYTES >> 20} MB")
        finally:
            await response.aclose()
        headers = {name: response.headers[name] for name in _KEPT_HEADERS if name in response.headers}
        return httpx2.Response(response.status_code, headers=headers, content=bytes(content), request=request)


class EmbeddingClient:
    """One server, one key ("" for none). Open it with `async with`."""

    def __init__(self, endpoint: Endpoint, key: str, *, dimensions: int | None, timeout_seconds: float) -> None:
        self.reader = Reader(key)
        self._model, self._dimensions, self._timeout_seconds = endpoint.model, dimensions, timeout_seconds
        self._headers = {} if key else {"Authorization": openai.Omit()}
        proxy = proxy_for(URL(endpoint.base_url))
        self._client = openai.AsyncOpenAI(
            api_key=key or "none",  # the package wants one
            base_url=endpoint.base_url,
            timeout=httpx2.Timeout(timeout_seconds, connect=CONNECT_SECONDS),
            max_retries=0,
            http_client=_Client(
                follow_redirects=False,  # it would carry texts to a server that nobody configured
                trust_env=False,
                proxy=str(proxy) if proxy else None,
                verify=ssl.create_default_context(),
            ),
        )
        # Of the environment the package takes these two; asked for chat, a server is not told of them either.
        self._client.organization = self._client.project = None

    async def __aenter__(self) -> "EmbeddingClient":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        await self._client.close()

    async def post(self, texts: Sequence[str], vector_format: VectorFormat) -> Embedded:
        """
        Send one request.

        Args:
            texts: N texts, none of them empty.
            vector_format: how the vectors are asked for; a server may give them as it likes.

        Returns:
            Vectors (N, D), in the order of the texts. They may be of any length, and hold NaN.

        Raises:
            Transient, TimedOut, Refused, Unreachable, Rejected, Unusable: see each.
        """
        async with self._asking():
            answer = await self._client.embeddings.with_raw_response.create(
                model=self._model,
                input=list(texts),
                dimensions=openai.omit if self._dimensions is None else self._dimensions,
                encoding_format=vector_format,  # stated, or the package would make lists of what it is given
                extra_headers=self._headers,
            )
            content = answer.content
        return self._read(content, len(texts))

    @asynccontextmanager
    async def _asking(self) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(self._timeout_seconds):  # of the whole: a server may drip a byte at a time
                yield
        except TimeoutError:
            raise TimedOut(f"no whole answer within {self._timeout_seconds:g} s") from None
        except openai.APIStatusError as error:
            raise self._fault(error) from None
        except openai.APIConnectionError as error:
            raise self._broken(error.__cause__ or error) from None
        except (openai.OpenAIError, httpx2.HTTPError, aiohttp.ClientError, ConnectionError) as error:
            raise self._broken(error) from None

    def _fault(self, error: openai.APIStatusError) -> Fault:
        fault = self.reader.fault(
            error.status_code,
            error.body or "",
            reason=error.message,
            seconds=retry_after(error.response.headers),
        )
        if isinstance(fault, Transient) and _TOO_LONG in str(fault):
            return Rejected(str(fault), error.status_code, alone=True, kind="too_long")
        return fault

    def _broken(self, error: BaseException) -> Fault:
        # The transport reports a refused or broken connection as a timeout: what it was is in the cause.
        origin = error.__cause__ or error
        said = self.reader.line(str(origin) or type(origin).__name__)
        if isinstance(origin, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError):
            return Unreachable(said)
        if isinstance(origin, aiohttp.SocketTimeoutError):
            return TimedOut("no answer in time")
        return Transient(f"the connection broke: {said}", "reset", paid=True)

    def _read(self, content: bytes, num_texts: int) -> Embedded:
        try:
            body = orjson.loads(content)
        except orjson.JSONDecodeError:
            said = self.reader.line(content.decode(errors="replace"))
            raise Transient(f"a reply that is no JSON: {said}", "no JSON", paid=True) from None
        rows = body.get("data") if isinstance(body, dict) else None
        if not isinstance(rows, list):
            said = self.reader.line(str(body))
            paid = not (isinstance(body, dict) and body.get("error"))
            raise Transient(f"a reply without vectors: {said}", "no vectors", paid=paid)
        tokens = _tokens(body.get("usage"))
        if len(rows) != num_texts:
            raise Unusable(f"{len(rows)} vectors for {num_texts} texts", tokens)
        vectors = [_vector(row.get("embedding") if isinstance(row, dict) else None) for row in rows]
        if len({vector.shape for vector in vectors}) != 1 or vectors[0].ndim != 1 or not vectors[0].size:
            raise Unusable("vectors that are no lists of as many numbers each", tokens)
        vectors_ND = np.empty((num_texts, vectors[0].size), dtype=np.float32)
        vectors_ND[_places(rows, tokens)] = vectors
        return Embedded(vectors_ND, tokens)


def _vector(found: Any) -> NDArray[np.float32]:
    """A vector in base64 (little-endian float32) or as a list; of what is none, an empty one. null becomes NaN."""
    try:
        if isinstance(found, str):
            return np.frombuffer(base64.b64decode(found, validate=True), dtype="<f4").astype(np.float32)
        with np.errstate(over="ignore"):  # what float32 cannot hold is infinite, and told of as that
            return np.asarray(found if isinstance(found, list) else [], dtype=np.float32)
    except (ValueError, TypeError, OverflowError):
        return np.empty(0, dtype=np.float32)


def _places(rows: Sequence[Mapping[str, Any]], tokens: int) -> list[int]:
    """Which text each vector belongs to, by its `index`; where none has one, they stand in the order of the texts."""
    places = [row.get("index") for row in rows]
    if all(place is None for place in places):
        return list(range(len(rows)))
    wanted = set(range(len(rows)))
    if any(type(place) is not int for place in places) or set(places) != wanted:
        raise Unusable("vectors whose `index` does not say which text they belong to", tokens)
    return [int(place) for place in places if place is not None]


def _tokens(usage: Any) -> int:
    found = usage.get("prompt_tokens") if isinstance(usage, dict) else None
    return found if type(found) is int and 0 < found <= MOST_TOKENS else 0
