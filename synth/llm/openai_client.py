"""
One OpenAI-compatible server through the openai package: where requests go, how much of an answer is read, and the fault
(faults.py) that becomes of what breaks. Importing this file imports openai, which takes a second.

Nothing is sent twice by itself: whoever asks knows whether it would be paid for twice.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from types import TracebackType
from typing import Any, Self

import aiohttp
import httpx2
import openai
from yarl import URL

from synth.llm.client import proxy_for
from synth.llm.completion import Reader
from synth.llm.config import Endpoint
from synth.llm.faults import Fault, TimedOut, Transient, Unreachable, Unusable
from synth.llm.ratelimits import retry_after

CONNECT_SECONDS = 15.0
_KEPT_HEADERS = ("content-type", "retry-after", "retry-after-ms")


class OpenAIClient:
    """
    One server, one key ("" for none). Open it with `async with`.

    Args:
        silent_seconds: at most so long without a byte.
        most_bytes: of one answer that is read, except of a file that is being downloaded.
    """

    def __init__(self, endpoint: Endpoint, key: str, *, silent_seconds: float, most_bytes: int) -> None:
        self.reader = Reader(key)
        proxy = proxy_for(URL(endpoint.base_url))
        self._client = openai.AsyncOpenAI(
            api_key=key or "none",  # the package wants one; a server that needs none takes any
            base_url=endpoint.base_url,
            timeout=httpx2.Timeout(silent_seconds, connect=CONNECT_SECONDS),
            max_retries=0,
            http_client=_Bounded(
                most_bytes,
                follow_redirects=False,  # it would carry texts to a server that nobody configured
                trust_env=False,
                proxy=str(proxy) if proxy else None,
                verify=ssl.create_default_context(),
            ),
        )
        # Of the environment the package takes these two; asked for chat, a server is not told of them either.
        self._client.organization = self._client.project = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        await self._client.close()

    @asynccontextmanager
    async def _asking(self, seconds: float) -> AsyncIterator[None]:
        """Within it, what the package and the connection raise becomes a fault; so many seconds for all of it."""
        try:
            async with asyncio.timeout(seconds):  # of the whole: a server may drip a byte at a time
                yield
        except TimeoutError:
            raise TimedOut(f"no whole answer within {seconds:g} s") from None
        except openai.APIStatusError as error:
            raise self._fault(error) from None
        except openai.APIConnectionError as error:
            raise self._broken(error.__cause__ or error) from None
        except (openai.OpenAIError, httpx2.HTTPError, aiohttp.ClientError, ConnectionError) as error:
            raise self._broken(error) from None

    def _fault(self, error: openai.APIStatusError) -> Fault:
        return self.reader.fault(
            error.status_code,
            error.body or "",
            reason=error.message,
            seconds=retry_after(error.response.headers),
        )

    def _broken(self, error: BaseException) -> Fault:
        # The transport reports a refused or broken connection as a timeout: what it was is in the cause.
        origin = error.__cause__ or error
        said = self.reader.line(str(origin) or type(origin).__name__)
        if isinstance(origin, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError):
            return Unreachable(said)
        if isinstance(origin, aiohttp.SocketTimeoutError):
            return TimedOut("no answer in time")
        return Transient(said, "reset", paid=True)


class _Bounded(openai.DefaultAioHttpClient):
    """Reads no more of an answer than it may."""

    def __init__(self, most_bytes: int, **options: Any) -> None:
        super().__init__(**options)
        self._most_bytes = most_bytes

    async def send(self, request: httpx2.Request, *, stream: bool = False, **options: Any) -> httpx2.Response:
        response = await super().send(request, stream=True, **options)
        if stream and response.is_success:
            return response
        content = bytearray()
        try:
            async with aclosing(response.aiter_bytes()) as chunks:
                async for chunk in chunks:
                    content += chunk
                    if len(content) > self._most_bytes:
                        raise Unusable(f"an answer of more than {self._most_bytes >> 20} MB")
        finally:
            await response.aclose()
        headers = {name: response.headers[name] for name in _KEPT_HEADERS if name in response.headers}
        return httpx2.Response(response.status_code, headers=headers, content=bytes(content), request=request)
