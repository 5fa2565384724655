"""
One POST to an OpenAI-compatible chat server: a Completion, or the fault sorted by what is to be done about it.

The openai package gives the client, its settings and its errors; the request goes through its low-level `post` over its
aiohttp transport, with its own retries off and the reply parsed here: building its reply objects doubled the cost.
Importing this file imports openai; the engine does so when it opens.
"""

import asyncio
import json
import math
import re
import time
from collections.abc import Mapping
from contextlib import aclosing
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any

import aiohttp
import httpx2
import openai

from synth.llm.faults import Fault, Refused, Rejected, TimedOut, Transient, Unreachable, Unusable
from synth.llm.journal import HALF_A_PAIR, MOST_BYTES, MOST_NAME, MOST_TOKENS
from synth.records import normalise

CONNECT_SECONDS = 4.0
_MOST_SAID = 300
# A key of fewer characters is a dummy ("EMPTY", "none"): taken out, it would spoil what is said and protect nothing.
_SHORTEST_MASKED = 8
# A reply that happens to contain so long a key does not exist: such a reply has the key from us.
_SHORTEST_REAL = 16
_HEADERS = {b"retry-after", b"retry-after-ms"}  # those that are read here
_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|([\"\\/]))")
_AGAIN = {408, 409, 425}  # a request timeout, a lock, "too early": the same request may be served next time
# What servers say when it is this request's text that they will not take, not its settings.
_ALONE = (
    "context_length",
    "context length",
    "maximum context",
    "context size",
    "context window",
    "too many tokens",
    "content_filter",
    "content_policy",
)


@dataclass(frozen=True, slots=True)
class Completion:
    """
    The parts of a chat completion that are used, each as the journal wants it; `model` as the server names it, "" where
    it does not.
    """

    text: str
    model: str
    finish_reason: str
    tokens_in: int
    tokens_out: int
    seconds: float


class _BoundedClient(openai.DefaultAioHttpClient):
    """
    Reads at most MOST_BYTES of a body, after decompression; text is UTF-8, whatever the header says of it.

    The server decides how large its body is, how far it swells and which codec its header names: none of it is trusted.
    """

    async def send(self, request: httpx2.Request, *, stream: bool = False, **options: Any) -> httpx2.Response:
        response = await super().send(request, stream=True, **options)
        content = bytearray()
        try:
            async with aclosing(response.aiter_bytes()) as chunks:
                async for chunk in chunks:
                    content += chunk
                    if len(content) > MOST_BYTES:
                        break
        finally:
            await response.aclose()
        if len(content) > MOST_BYTES and response.is_success:
            raise Unusable(f"a reply of more than the {MOST_BYTES >> 20} MB that it may have")
        return httpx2.Response(
            response.status_code,
            headers=[(name, value) for name, value in response.headers.raw if name.lower() in _HEADERS],
            content=bytes(content),
            request=request,
            extensions={"reason_phrase": response.extensions.get("reason_phrase", b"")},
        )


class ChatClient:
    """One server, one key. `connections`: the most that are open at once."""

    def __init__(self, base_url: str, key: str, *, connections: int, timeout_seconds: float) -> None:
        self._key = key
        self._timeout_seconds = timeout_seconds
        timeout = httpx2.Timeout(timeout_seconds, connect=CONNECT_SECONDS)
        # a redirect would carry texts to a server that nobody configured
        http_client = _BoundedClient(
            timeout=timeout, limits=httpx2.Limits(max_connections=connections), follow_redirects=False
        )
        self._client = openai.AsyncOpenAI(
            api_key=key or "none",  # a server that needs no key takes any
            base_url=base_url,
            timeout=timeout,
            max_retries=0,
            http_client=http_client,
        )

    async def close(self) -> None:
        await self._client.close()

    async def post(self, body: Mapping[str, Any]) -> Completion:
        """
        Send one chat request.

        Raises:
            Transient, TimedOut, Refused, Unreachable, Rejected, Unusable: see each.
        """
        started = time.monotonic()
        try:
            async with asyncio.timeout(self._timeout_seconds):  # of the whole: a server may drip a byte at a time
                response = await self._client.post("/chat/completions", body=body, cast_to=httpx2.Response)
        except openai.APIStatusError as error:
            raise self._sorted(error) from None
        except openai.APIConnectionError as error:
            raise self._broken(error.__cause__) from None
        except TimeoutError:
            raise TimedOut(f"no whole reply within {self._timeout_seconds:g} s") from None
        except UnicodeError:  # of the transport, which encodes the status line again
            raise Transient("a reply whose status line is no text") from None
        except (aiohttp.ClientError, httpx2.HTTPError, OSError) as error:  # what the transport does not translate
            raise Transient(self._line(str(error) or type(error).__name__)) from None
        return self._completion(response, time.monotonic() - started)

    def _completion(self, response: httpx2.Response, seconds: float) -> Completion:
        try:
            body = json.loads(response.content.decode("utf-8-sig"))
            choice = body["choices"][0]
            text = choice["message"]["content"] or ""
            finish_reason = choice.get("finish_reason") or ""
            model = body.get("model") or ""
        except (ValueError, RecursionError):
            raise Transient(self._line(f"a reply that is no JSON: {response.text}")) from None
        except (KeyError, IndexError, TypeError, AttributeError):
            raise Transient(self._line(f"a reply without choices: {response.text}")) from None
        if not (isinstance(text, str) and isinstance(finish_reason, str) and isinstance(model, str)):
            raise Transient(self._line(f"a reply whose content is no text: {response.text}"))
        usage = body.get("usage")
        tokens_in, tokens_out = (_count(usage, name) for name in ("prompt_tokens", "completion_tokens"))
        if fault := self._unfit(text):
            raise Unusable(fault, tokens_in, tokens_out)
        model, finish_reason = (self._line(name, most=MOST_NAME) for name in (model, finish_reason))
        return Completion(text, model, finish_reason, tokens_in, tokens_out, seconds)

    def _unfit(self, text: str) -> str:
        """Why a reply's text must not be kept, "" if it may. It is never rewritten: it may become training data."""
        if HALF_A_PAIR.search(text):
            return "a reply with half a surrogate pair, which is no text"
        # as it is, and as a recipe will see it, who reads the text as JSON and normalises what is in there
        forms = (text, normalise(_unescaped(text)))
        if len(self._key) >= _SHORTEST_REAL and any(self._key in form for form in forms):
            return "a reply that contains the key of the server"
        return ""

    def _sorted(self, error: openai.APIStatusError) -> Fault:
        status = error.status_code
        said = self._line(_message(error)).removeprefix(f"{status}: ")  # many say it themselves
        if error.code == "insufficient_quota":  # a 429 that no waiting heals
            return Rejected(said, status)
        if status in (429, 503):
            return Refused(f"{status}: {said}", _retry_after(error.response.headers))
        if status >= 500 or status in _AGAIN:
            return Transient(f"{status}: {said}")
        alone = status == 413 or any(words in f"{error.code} {said}".lower() for words in _ALONE)
        return Rejected(said, status, alone=alone)

    def _broken(self, cause: BaseException | None) -> Fault:
        # The transport reports a refused or broken connection as a timeout: what it was is in the cause of the cause.
        origin = cause.__cause__ if cause is not None and cause.__cause__ is not None else cause
        said = self._line(str(origin) or type(origin).__name__)
        if isinstance(origin, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError):
            return Unreachable(said)
        if isinstance(origin, aiohttp.SocketTimeoutError):
            return TimedOut(f"no reply within {self._timeout_seconds:g} s")
        return Transient(said)

    def _line(self, text: str, most: int = _MOST_SAID) -> str:
        """One printable line, the key taken out before it is cut: a cut key would still be most of a key."""
        line = normalise(text)
        if len(self._key) >= _SHORTEST_MASKED:
            line = line.replace(self._key, "***")
        line = "".join(char if char.isprintable() else "\ufffd" for char in line[: most + 1])
        return line if len(line) <= most else line[: most - 1] + "…"


def _message(error: openai.APIStatusError) -> str:
    """What the server said, wherever it put it; its body as it is where that is no JSON."""
    body = error.body
    if isinstance(body, dict):
        for name in ("message", "error", "detail"):
            if isinstance(body.get(name), str):
                return str(body[name])
    return error.response.reason_phrase if body in (None, "") else str(body)


def _unescaped(text: str) -> str:
    """The text with JSON's escapes of printable characters undone, wherever they stand."""
    return _ESCAPE.sub(lambda found: chr(int(found[1], 16)) if found[1] else found[2], text)


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds from now by `retry-after-ms` or `Retry-After` (seconds or a date), None where neither makes sense."""
    for name, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        value = headers.get(name, "")
        try:
            seconds = float(value) * unit
        except ValueError:
            continue
        return max(0.0, seconds) if math.isfinite(seconds) else None
    try:
        return max(0.0, parsedate_to_datetime(headers.get("retry-after", "")).timestamp() - time.time())
    except (ValueError, OverflowError):
        return None


def _count(usage: object, name: str) -> int:
    value = usage.get(name) if isinstance(usage, dict) else None
    return min(value, MOST_TOKENS) if type(value) is int and value > 0 else 0
