"""
One POST to an OpenAI-compatible chat server: a Completion, or the fault sorted by what is to be done about it.

Plain aiohttp: the SDK of OpenAI and httpx cost three to ten times the CPU per request. What the answers say is read in
completion.py; here are the connection and what can break on it.
"""

import io
import json
import time
import urllib.request
from ipaddress import ip_address
from types import TracebackType
from typing import Any

import aiohttp
from aiohttp.payload import BytesPayload
from yarl import URL

from synth.llm.completion import Completion, Reader
from synth.llm.config import Endpoint
from synth.llm.faults import Fault, TimedOut, Transient, Unreachable, Unusable
from synth.llm.journal import MOST_BYTES
from synth.llm.ratelimits import limits_of, retry_after
from synth.records import UserError

__all__ = ["ChatClient", "Completion"]

# Of one address of the server; of looking up its name, all its addresses and the handshake of TLS together.
ADDRESS_SECONDS, CONNECT_SECONDS = 4.0, 15.0
# Uvicorn, which vLLM and many others run on, closes a connection that is idle for 5 s. Whoever writes at that moment
# does not know whether the server has read it; so it is closed here before.
IDLE_SECONDS = 4.0
_LARGE_BODY = 1 << 20  # aiohttp wants to write larger ones in pieces


class ChatClient:
    """
    One endpoint, one key ("" for none), at most `endpoint.concurrency` connections. Open it with `async with`.

    A proxy is taken from HTTPS_PROXY, HTTP_PROXY, ALL_PROXY and NO_PROXY (or the system's settings on macOS and
    Windows); nothing else of the environment is read.
    """

    def __init__(self, endpoint: Endpoint, key: str, *, timeout_seconds: float) -> None:
        self._url = URL(endpoint.base_url.rstrip("/") + "/chat/completions")
        self._connections = endpoint.concurrency
        self._timeout_seconds = timeout_seconds
        self._reader = Reader(key)
        # With each request and not the session's own: aiohttp sends the session's headers to the proxy as well.
        self._headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})

    async def __aenter__(self) -> "ChatClient":
        """
        Raises:
            UserError: the proxy that the environment names is of a kind that cannot be used.
        """
        self._proxy = proxy_for(self._url)
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=self._connections, keepalive_timeout=IDLE_SECONDS),
            timeout=aiohttp.ClientTimeout(  # the total is of the whole: a server may drip a byte at a time
                total=self._timeout_seconds, connect=CONNECT_SECONDS, sock_connect=ADDRESS_SECONDS
            ),
            # a reply is small: packing it would cost more than it saves
            headers={"User-Agent": "skiff-embeddings", "Accept-Encoding": "identity"},
            cookie_jar=aiohttp.DummyCookieJar(),
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._session.close()

    async def post(self, body: bytes) -> Completion:
        """
        Send one chat request; `body` is its JSON.

        Raises:
            Transient, TimedOut, Refused, Unreachable, Rejected, Unusable: see each.
        """
        started = time.monotonic()
        try:
            try:
                response, content = await self._exchange(body)
            except aiohttp.ClientOSError as error:
                if not _is_unsent(error):
                    raise
                # the server had just hung up on a connection that was idle: it has not seen the request
                response, content = await self._exchange(body)
        except (aiohttp.ClientError, OSError, UnicodeError) as error:
            raise self._broken(error) from None
        if not 200 <= response.status < 300:
            raise self._fault(response, content)
        if len(content) > MOST_BYTES:
            raise Unusable(f"a reply of more than the {MOST_BYTES >> 20} MB that it may have")
        return self._reader.read(content, time.monotonic() - started, limits_of(response.headers))

    async def _exchange(self, body: bytes) -> tuple[aiohttp.ClientResponse, bytes]:
        async with self._session.post(
            self._url,
            # named as what it is, since finding that out takes as long as sending it
            data=BytesPayload(body) if len(body) <= _LARGE_BODY else io.BytesIO(body),
            headers=self._headers,
            proxy=self._proxy,
            allow_redirects=False,  # it would carry texts to a server that nobody configured
        ) as response:
            return response, await _read(response)

    def _fault(self, response: aiohttp.ClientResponse, content: bytes) -> Fault:
        text = content.decode(errors="replace")
        try:
            body = json.loads(text)
        except (ValueError, RecursionError):
            body = text
        headers = response.headers
        return self._reader.fault(
            response.status,
            body,
            reason=response.reason or "",
            seconds=retry_after(headers),
            limits=limits_of(headers),
        )

    def _broken(self, error: Exception) -> Fault:
        said = self._reader.line(str(error) or type(error).__name__)
        match error:
            case aiohttp.ClientHttpProxyError():
                return self._unreachable(f"it answers {error.status}: {error.message}", self._proxy)
            case aiohttp.ClientConnectorError():
                why = error.os_error.strerror or str(error.os_error)
                if self._proxy and (error.host, error.port) == (self._proxy.raw_host, self._proxy.port):
                    return self._unreachable(why, self._proxy)
                return self._unreachable(f"{error.host}:{error.port}: {why}")
            case aiohttp.ConnectionTimeoutError():
                return self._unreachable("no connection in time", self._proxy)
            case TimeoutError():
                return TimedOut(f"no whole reply within {self._timeout_seconds:g} s")
            case aiohttp.ClientPayloadError():
                return Transient(f"a reply that breaks off: {said}", "cut body", paid=True)
            case aiohttp.ClientResponseError():
                return Transient(f"no HTTP: {self._reader.line(error.message)}", "no HTTP", paid=True)
        if _is_unsent(error):
            return Transient("the server hangs up before it has read the request", "reset")
        return Transient(f"the connection broke: {said}", "reset", paid=True)

    def _unreachable(self, why: str, proxy: URL | None = None) -> Unreachable:
        if proxy:  # by its address alone: it may have a password
            names = f"HTTPS_PROXY, HTTP_PROXY or ALL_PROXY; add {self._url.host} to NO_PROXY to go past it"
            why = f"the proxy {proxy.host}:{proxy.port}, which the environment names ({names}): {why}"
        return Unreachable(self._reader.line(why))


async def _read(response: aiohttp.ClientResponse) -> bytes:
    """The body, unpacked; of one that has more than MOST_BYTES, a little more than these."""
    chunks, size = [], 0
    while size <= MOST_BYTES and (chunk := await response.content.readany()):
        chunks.append(chunk)
        size += len(chunk)
    return b"".join(chunks)


def _is_unsent(error: Exception) -> bool:
    """Whether it is sure that the server never had the whole request: there was more to write, and nowhere to."""
    return isinstance(error.__cause__, aiohttp.ClientConnectionResetError)


def proxy_for(url: URL) -> URL | None:
    """
    The proxy through which a server is to be asked, None for directly: servers on this machine always are.

    Raises:
        UserError: it is of a kind that cannot be used.
    """
    host = url.host or ""
    proxies: dict[str, Any] = urllib.request.getproxies()
    said = proxies.get(url.scheme) or proxies.get("all")
    if not said or _is_this_machine(host) or urllib.request.proxy_bypass(f"{host}:{url.port}"):
        return None
    try:
        proxy = URL(said if "://" in said else f"http://{said}")
    except ValueError:
        proxy = URL()
    if proxy.scheme not in ("http", "https") or not proxy.host:
        raise UserError(
            f"the environment names a proxy for {host} that is none of HTTP (HTTPS_PROXY, HTTP_PROXY or ALL_PROXY);"
            f" set it to http://..., or add {host} to NO_PROXY"
        )
    return proxy


def _is_this_machine(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
