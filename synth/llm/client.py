"""
One POST to an OpenAI-compatible chat server: a Completion, or the fault sorted by what is to be done about it.

The openai package gives the client, its settings and its errors; the request goes through its low-level `post` over its
aiohttp transport, with its own retries off and the reply parsed here: building its reply objects doubled the cost.
Importing this file imports openai; the engine does so when it opens.
"""

import asyncio
import json
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any

import aiohttp
import httpx2
import openai

from synth.llm.faults import Fault, Refused, Rejected, TimedOut, Transient, Unreachable
from synth.records import normalise

CONNECT_SECONDS = 4.0
_MOST_SAID = 300
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
    """The parts of a chat completion that are used; `model` as the server names it, "" where it does not."""

    text: str
    model: str
    finish_reason: str
    tokens_in: int
    tokens_out: int
    seconds: float


class ChatClient:
    """One server, one key. `connections`: the most that are open at once."""

    def __init__(self, base_url: str, key: str, *, connections: int, timeout_seconds: float) -> None:
        self._key = key
        self._timeout_seconds = timeout_seconds
        timeout = httpx2.Timeout(timeout_seconds, connect=CONNECT_SECONDS)
        # a redirect would carry texts to a server that nobody configured
        http_client = openai.DefaultAioHttpClient(
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
            Transient, TimedOut, Refused, Unreachable, Rejected: see each.
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
        except (aiohttp.ClientError, httpx2.HTTPError, OSError) as error:  # what the transport does not translate
            raise Transient(self._line(str(error) or type(error).__name__)) from None
        return self._completion(response, time.monotonic() - started)

    def _completion(self, response: httpx2.Response, seconds: float) -> Completion:
        try:
            body = json.loads(response.content)
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
        return Completion(self._without_key(text), model, finish_reason, tokens_in, tokens_out, seconds)

    def _sorted(self, error: openai.APIStatusError) -> Fault:
        status, said = error.status_code, self._line(_message(error))
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

    def _line(self, text: str) -> str:
        """At most 300 characters on one line, the key taken out first: a cut key would still be most of a key."""
        line = normalise(self._without_key(text))
        return line if len(line) <= _MOST_SAID else line[: _MOST_SAID - 1] + "…"

    def _without_key(self, text: str) -> str:
        return text.replace(self._key, "***") if self._key else text


def _message(error: openai.APIStatusError) -> str:
    """What the server said, wherever it put it; its body as it is where that is no JSON."""
    body = error.body
    if isinstance(body, dict):
        for name in ("message", "error", "detail"):
            if isinstance(body.get(name), str):
                return str(body[name])
    return error.response.reason_phrase if body in (None, "") else str(body)


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
    return value if type(value) is int and value > 0 else 0
