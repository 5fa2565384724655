"""
A small OpenAI-compatible chat server for the tests: real HTTP on loopback, replies by function, faults on request,
limits that a client has to find out.

In a test:        async with ChatServer(faults={Fault.REFUSED: 0.1}, seed=7) as server: ... server.base_url
In a subprocess:  python tests/chat_server.py --port-file FILE [--latency 0.2] [--fault refused=0.1] [--at-once 4]
                  GET /stats then answers {"asked": ..., "paid": ..., "faults": {...}, "most_at_once": ...}.

It counts like a provider: a reply that was generated is paid, even if the connection broke before it arrived.
"""

import argparse
import asyncio
import json
import math
import random
import re
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Any

from aiohttp import web

if __name__ == "__main__":  # run as a file, it finds its neighbours where the tests do
    sys.path.insert(0, str(Path(__file__).parent.parent))

from tests.chat_formats import Takes, refusal, structured
from tests.chat_limits import Capacity, Latency, Move, Rate

Messages = list[dict[str, str]]
DRIP_SECONDS = 0.01  # between two bytes of a reply that drips


class Fault(StrEnum):
    """What can go wrong with one request."""

    REFUSED = "refused"  # 429 with Retry-After, at once
    BUSY = "busy"  # 503, at once
    BROKEN = "broken"  # 500, at once
    RESET = "reset"  # the connection is reset before anything is generated
    RESET_AFTER = "reset-after"  # ... after generation: paid
    RESET_MID_BODY = "reset-mid-body"  # ... after half of the body: paid
    CUT_BODY = "cut-body"  # 200, JSON that ends half way: paid
    DRIP = "drip"  # a byte at a time: paid
    WRONG_TYPE = "wrong-type"  # a good reply that calls itself a picture: paid
    NOT_JSON = "not-json"  # 200, the HTML of some proxy
    NO_CHOICES = "no-choices"  # 200, JSON with an error inside
    CUT_REPLY = "cut-reply"  # finish_reason "length": paid
    WITHHELD = "withheld"  # finish_reason "content_filter", no text: paid
    HANGS = "hangs"  # no answer for a minute


FREE_FAULTS = {
    Fault.REFUSED,
    Fault.BUSY,
    Fault.BROKEN,
    Fault.RESET,
    Fault.NOT_JSON,
    Fault.NO_CHOICES,
    Fault.HANGS,
}
PAID_FAULTS = set(Fault) - FREE_FAULTS


def queries_about(messages: Messages) -> str:
    """
    A stand-in for a model: as many queries as the last message asks for (its first number), each four words in
    disorder from what stands between two lines of dashes, or from the whole message. The same messages, the same reply.
    """
    text = messages[-1]["content"]
    asked = re.search(r"\d+", text)
    parts = re.split(r"^-----.*$", text, flags=re.MULTILINE)
    words = sorted(set(re.findall(r"[^\W\d_]{2,8}", parts[1] if len(parts) > 2 else text)))
    chance = random.Random(text)
    number = int(asked.group()) if asked else 1
    queries = [" ".join(chance.sample(words, k=min(4, len(words)))) for _ in range(number)]
    return json.dumps({"queries": queries}, ensure_ascii=False)


def completion(text: str, finish_reason: str = "stop", **fields: Any) -> dict[str, Any]:
    """The body of a reply; `fields` stand beside the choices: model, usage."""
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": finish_reason}
    return {"object": "chat.completion", "choices": [choice], **fields}


class ChatServer:
    """
    POST /v1/chat/completions, GET /v1/models and GET /stats on 127.0.0.1, on a port of the system's choice.

    `script` names the faults of the first requests in order (None: served), `faults` the chance of each for all later
    ones, drawn with `seed`. `latency`: seconds, or a Latency. `capacity` is what it takes (`at_once` alone for short),
    `moves` what that changes to, in this order. A refusal says `retry_after`, or what is right where it is known; None:
    it never says anything. With `key`, any other key gets 401; with `models`, any other model 404; `takes` says which
    kinds of response_format it knows.

    `error` may answer a request by its body with a status and a body of its own, or with a whole response. `extend` may
    add routes before the server starts; `answer` gives them replies.
    """

    def __init__(
        self,
        reply: Callable[[Messages], str] = queries_about,
        *,
        latency: float | Latency = 0.0,
        script: Sequence[Fault | None] = (),
        faults: Mapping[Fault, float] | None = None,
        seed: int = 0,
        at_once: int | None = None,
        capacity: Capacity | None = None,
        moves: Sequence[Move] = (),
        retry_after: str | None = "0.05",
        key: str = "",
        models: Sequence[str] = (),
        takes: Takes = Takes.ANYTHING,
        error: Callable[[dict[str, Any]], tuple[int, Any] | web.Response | None] = lambda body: None,
        extend: Callable[[web.Application], None] = lambda app: None,
    ) -> None:
        self.asked: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.connections: set[tuple[str, int]] = set()  # the addresses that asked
        self.paid = 0
        self.done: Counter[str] = Counter()
        self.most_at_once = 0
        self.base_url = ""
        self._reply, self._key, self._models, self._takes = reply, key, models, takes
        self._latency = latency if isinstance(latency, Latency) else Latency(latency)
        self._error, self._extend = error, extend
        self._script, self._faults, self._random = list(script), dict(faults or {}), random.Random(seed)
        self._retry_after = retry_after
        self._moves = list(moves)
        self._began: float | None = None
        self._under_way = self._working = 0
        self._slot = asyncio.Condition()
        self._have(capacity or Capacity(at_once=at_once))

    async def __aenter__(self) -> "ChatServer":
        app = web.Application(client_max_size=64 << 20)
        app.router.add_post("/v1/chat/completions", self._chat)
        app.router.add_get("/v1/models", self._list_models)
        app.router.add_get("/stats", self._stats)
        self._extend(app)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0, backlog=1024)
        await site.start()
        port = self._runner.addresses[0][1]
        self.base_url = f"http://127.0.0.1:{port}/v1"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    def stats(self) -> dict[str, Any]:
        return {
            "asked": len(self.asked),
            "paid": self.paid,
            "faults": dict(self.done),
            "most_at_once": self.most_at_once,
        }

    def answer(self, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        """The status and body that a request gets without HTTP, limits, latency and faults; counted like the others."""
        self.asked.append(body)
        error = self._error(body) or self._turned_away(body)
        if isinstance(error, tuple):
            return error
        self.paid += 1
        return 200, self._completion(body, self._text(body), None)

    async def _list_models(self, _: web.Request) -> web.Response:
        data = [{"id": model, "object": "model"} for model in self._models or ["test-model"]]
        return web.json_response({"object": "list", "data": data})

    async def _stats(self, _: web.Request) -> web.Response:
        return web.json_response(self.stats())

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.asked.append(body)
        self.headers.append(dict(request.headers))
        self.connections.add(request.get_extra_info("peername"))
        self._move()
        error = self._error(body) or self._without_key(request) or self._turned_away(body)
        if isinstance(error, web.Response):
            return error
        if error:
            status, content = error
            if isinstance(content, str):
                return web.Response(status=status, text=content)
            return web.json_response(content, status=status)
        fault = self._draw()
        if fault in FREE_FAULTS:
            return await self._free_fault(request, fault)
        return await self._admit(request, body, fault)

    def _without_key(self, request: web.Request) -> tuple[int, dict[str, Any]] | None:
        said = request.headers.get("Authorization")
        if not self._key or said == f"Bearer {self._key}":
            return None
        return 401, {"error": {"message": f"Incorrect API key provided: {said}", "code": "invalid_api_key"}}

    def _turned_away(self, body: dict[str, Any]) -> tuple[int, dict[str, Any]] | None:
        if self._models and body["model"] not in self._models:
            said = f"The model {body['model']!r} does not exist"
            return 404, {"error": {"message": said, "code": "model_not_found"}}
        if said := refusal(self._takes, body):
            return 400, {"error": {"message": said, "param": "response_format", "code": "unsupported_value"}}
        return None

    def _draw(self) -> Fault | None:
        if self._script:
            return self._script.pop(0)
        drawn = self._random.random()
        for fault, chance in self._faults.items():
            drawn -= chance
            if drawn < 0:
                return fault
        return None

    def _have(self, capacity: Capacity) -> None:
        self._capacity = capacity
        self._meter = (capacity.rate or Rate()).meter()

    def _move(self) -> None:
        now = time.monotonic()
        self._began = now if self._began is None else self._began
        while self._moves:
            move = self._moves[0]
            if len(self.asked) <= move.after_requests or now - self._began < move.after_seconds:
                break
            self._have(self._moves.pop(0).to)

    async def _free_fault(self, request: web.Request, fault: Fault) -> web.StreamResponse:
        self.done[fault] += 1
        match fault:
            case Fault.REFUSED | Fault.BUSY:
                return self._refusal(429 if fault is Fault.REFUSED else 503, self._retry_after)
            case Fault.BROKEN:
                return web.json_response({"error": {"message": "out of memory"}}, status=500)
            case Fault.NOT_JSON:
                return web.Response(text="<html>a proxy speaks</html>", content_type="text/html")
            case Fault.NO_CHOICES:
                return web.json_response({"error": {"message": "upstream failed", "code": 502}})
            case Fault.HANGS:
                with self._counted():
                    await asyncio.sleep(60)
        return _reset(request)

    def _refusal(self, status: int, retry_after: str | None) -> web.Response:
        headers = self._meter.headers(time.monotonic())
        if retry_after is not None:
            headers["Retry-After"] = retry_after
        return web.json_response({"error": {"message": "slow down"}}, status=status, headers=headers)

    async def _admit(self, request: web.Request, body: dict[str, Any], fault: Fault | None) -> web.StreamResponse:
        text = self._text(body)
        tokens = _tokens_in(body) + _tokens(text)
        at_once = self._capacity.at_once
        if at_once is not None and self._under_way >= at_once:
            self.done[Fault.REFUSED] += 1
            return self._refusal(429, self._retry_after)
        if wait := self._meter.admit(tokens, time.monotonic()):
            self.done[Fault.REFUSED] += 1
            return self._refusal(429, self._retry_after and f"{math.ceil(wait * 1000) / 1000:.3f}")
        if fault is not None:
            self.done[fault] += 1
        await self._generate(_tokens(text))
        self.paid += 1
        return await self._send(request, self._completion(body, text, fault), fault)

    async def _generate(self, tokens: int) -> None:
        with self._counted():
            async with self._slot:
                await self._slot.wait_for(self._has_slot)
                self._working += 1
                if self._has_slot():  # there are more of them since the last request ended
                    self._slot.notify()
            try:
                await asyncio.sleep(self._latency.seconds(self._random, tokens))
            finally:
                self._working -= 1
            async with self._slot:
                self._slot.notify()

    def _has_slot(self) -> bool:
        return self._capacity.slots is None or self._working < self._capacity.slots

    @contextmanager
    def _counted(self) -> Iterator[None]:
        self._under_way += 1
        self.most_at_once = max(self.most_at_once, self._under_way)
        try:
            yield
        finally:
            self._under_way -= 1

    async def _send(self, request: web.Request, reply: dict[str, Any], fault: Fault | None) -> web.StreamResponse:
        body = json.dumps(reply).encode()
        headers = self._meter.headers(time.monotonic())
        match fault:
            case Fault.RESET_AFTER:
                return _reset(request)
            case Fault.RESET_MID_BODY | Fault.DRIP:
                return await _send_slowly(request, body, fault)
            case Fault.CUT_BODY:
                body = body[: len(body) // 2]
        content_type = "image/png" if fault is Fault.WRONG_TYPE else "application/json"
        return web.Response(body=body, content_type=content_type, headers=headers)

    def _text(self, body: dict[str, Any]) -> str:
        text = structured(self._takes, body)
        return self._reply(body["messages"]) if text is None else text

    def _completion(self, body: dict[str, Any], text: str, fault: Fault | None) -> dict[str, Any]:
        finish_reason = "stop"
        if fault is Fault.CUT_REPLY:
            text, finish_reason = text[: len(text) // 2], "length"
        usage = {"prompt_tokens": _tokens_in(body), "completion_tokens": _tokens(text)}
        if fault is Fault.WITHHELD:
            text, finish_reason = "", "content_filter"
        return completion(text, finish_reason, model=body["model"], usage=usage)


def _tokens_in(body: Mapping[str, Any]) -> int:
    return sum(len(message["content"]) for message in body["messages"]) // 4


def _tokens(text: str) -> int:
    return len(text) // 4


def _reset(request: web.Request) -> web.Response:
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


async def _send_slowly(request: web.Request, body: bytes, fault: Fault) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "application/json", "Content-Length": str(len(body))})
    await response.prepare(request)
    if fault is Fault.RESET_MID_BODY:
        await response.write(body[: len(body) // 2])
        await asyncio.sleep(DRIP_SECONDS)  # half of it shall arrive
        _reset(request)
        return response
    for index in range(len(body)):
        await response.write(body[index : index + 1])
        await asyncio.sleep(DRIP_SECONDS)
    return response


def _fault(option: str) -> tuple[Fault, float]:
    name, _, chance = option.partition("=")
    return Fault(name), float(chance)


async def _serve(options: argparse.Namespace) -> None:
    rate = Rate(
        options.requests_per_minute, options.tokens_per_minute, burst=options.burst, headers=options.limit_headers
    )
    server = ChatServer(
        latency=Latency(options.latency, options.sigma, options.per_token),
        faults=dict(options.fault),
        seed=options.seed,
        capacity=Capacity(options.at_once, options.slots, rate),
        retry_after=options.retry_after,
        key=options.key,
        models=options.model,
        takes=options.takes,
    )
    await serve_for_ever(server, options.port_file)


async def serve_for_ever(server: ChatServer, port_file: Path) -> None:
    """Serve, and write the port to a file once it listens."""
    async with server:
        # the file appears whole: a reader that finds it may connect
        partial = port_file.with_suffix(".partial")
        partial.write_text(server.base_url.removesuffix("/v1").rpartition(":")[2])
        partial.rename(port_file)
        await asyncio.Event().wait()


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="An OpenAI-compatible chat server for tests; Ctrl-C ends it.")
    parser.add_argument("--port-file", type=Path, required=True, help="where to write the port, once it listens")
    parser.add_argument("--latency", type=float, default=0.0, help="seconds that a reply takes, in the median")
    parser.add_argument("--sigma", type=float, default=0.0, help="of the lognormal distribution of these; 0: all alike")
    parser.add_argument("--per-token", type=float, default=0.0, help="seconds more for each token of the reply")
    parser.add_argument("--fault", type=_fault, action="append", default=[], metavar="NAME=CHANCE")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--at-once", type=int, default=None, help="refuse what is more than so many at a time")
    parser.add_argument("--slots", type=int, default=None, help="let wait what is more than so many at a time")
    parser.add_argument("--requests-per-minute", type=int, default=None)
    parser.add_argument("--tokens-per-minute", type=int, default=None)
    parser.add_argument("--burst", type=float, default=None, help="share of a minute's rate that may come at once")
    parser.add_argument("--limit-headers", action="store_true", help="tell of the rate in x-ratelimit headers")
    parser.add_argument("--retry-after", default="0.05", help="what a refusal says where nothing better is known")
    parser.add_argument("--key", default="", help="the only key that is let in")
    parser.add_argument("--model", action="append", default=[], help="the only models that there are")
    parser.add_argument("--takes", type=Takes, default=Takes.ANYTHING, help="kinds of response_format it knows")
    return parser.parse_args()


if __name__ == "__main__":
    asyncio.run(_serve(_options()))
