"""
A small OpenAI-compatible chat server for the tests: real HTTP on loopback, replies by function, faults on request.

In a test:        async with ChatServer(faults={Fault.REFUSED: 0.1}, seed=7) as server: ... server.base_url
In a subprocess:  python tests/chat_server.py --port-file FILE [--latency 0.2] [--fault refused=0.1] [--at-once 4]
                  GET /stats then answers {"asked": ..., "paid": ..., "faults": {...}, "most_at_once": ...}.

It counts like a provider: a reply that was generated is paid, even if the connection broke before it arrived.
"""

import argparse
import asyncio
import json
import random
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any

from aiohttp import web

Messages = list[dict[str, str]]


class Fault(StrEnum):
    """What can go wrong with one request."""

    REFUSED = "refused"  # 429 with Retry-After, at once
    BUSY = "busy"  # 503, at once
    BROKEN = "broken"  # 500, at once
    RESET = "reset"  # the connection is reset before anything is generated
    RESET_AFTER = "reset-after"  # ... after generation: paid
    CUT_BODY = "cut-body"  # 200, JSON that ends half way: paid
    NOT_JSON = "not-json"  # 200, the HTML of some proxy
    NO_CHOICES = "no-choices"  # 200, JSON with an error inside
    CUT_REPLY = "cut-reply"  # finish_reason "length": paid
    HANGS = "hangs"  # no answer for a minute


PAID_FAULTS = {Fault.RESET_AFTER, Fault.CUT_BODY, Fault.CUT_REPLY}


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
    ones, drawn with `seed`. With `at_once`, a request beyond so many is refused. With `key`, any other key gets 401.
    `error` may answer a request by its body with a status and a body of its own, or with a whole response.
    """

    def __init__(
        self,
        reply: Callable[[Messages], str] = queries_about,
        *,
        latency: float = 0.0,
        script: Sequence[Fault | None] = (),
        faults: Mapping[Fault, float] | None = None,
        seed: int = 0,
        at_once: int | None = None,
        retry_after: str | None = "0.05",
        key: str = "",
        error: Callable[[dict[str, Any]], tuple[int, Any] | web.Response | None] = lambda body: None,
    ) -> None:
        self.asked: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.paid = 0
        self.done: Counter[str] = Counter()
        self.most_at_once = 0
        self._reply, self._latency, self._key, self._error = reply, latency, key, error
        self._script, self._faults, self._random = list(script), dict(faults or {}), random.Random(seed)
        self._at_once, self._retry_after = at_once, retry_after
        self._generating = 0
        self.base_url = ""

    async def __aenter__(self) -> "ChatServer":
        app = web.Application()
        app.router.add_post("/v1/chat/completions", self._chat)
        app.router.add_get("/v1/models", self._models)
        app.router.add_get("/stats", self._stats)
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

    async def _models(self, _: web.Request) -> web.Response:
        return web.json_response({"object": "list", "data": [{"id": "test-model", "object": "model"}]})

    async def _stats(self, _: web.Request) -> web.Response:
        return web.json_response(self.stats())

    async def _chat(self, request: web.Request) -> web.Response:
        body = await request.json()
        self.asked.append(body)
        self.headers.append(dict(request.headers))
        if error := self._error(body):
            if isinstance(error, web.Response):
                return error
            status, content = error
            if isinstance(content, str):
                return web.Response(status=status, text=content)
            return web.json_response(content, status=status)
        if self._key and request.headers.get("Authorization") != f"Bearer {self._key}":
            said = f"Incorrect API key provided: {request.headers.get('Authorization')}"
            return web.json_response({"error": {"message": said, "code": "invalid_api_key"}}, status=401)
        fault = self._draw()
        if fault is None and self._at_once is not None and self._generating >= self._at_once:
            fault = Fault.REFUSED
        if fault is not None:
            self.done[fault] += 1
        return await self._answer(request, body, fault)

    def _draw(self) -> Fault | None:
        if self._script:
            return self._script.pop(0)
        drawn = self._random.random()
        for fault, chance in self._faults.items():
            drawn -= chance
            if drawn < 0:
                return fault
        return None

    async def _answer(self, request: web.Request, body: dict[str, Any], fault: Fault | None) -> web.Response:
        if fault in (Fault.REFUSED, Fault.BUSY):
            status = 429 if fault is Fault.REFUSED else 503
            headers = {} if self._retry_after is None else {"Retry-After": self._retry_after}
            return web.json_response({"error": {"message": "slow down"}}, status=status, headers=headers)
        if fault is Fault.BROKEN:
            return web.json_response({"error": {"message": "out of memory"}}, status=500)
        if fault is Fault.NOT_JSON:
            return web.Response(text="<html>a proxy speaks</html>", content_type="text/html")
        if fault is Fault.NO_CHOICES:
            return web.json_response({"error": {"message": "upstream failed", "code": 502}})
        if fault is not Fault.RESET:
            await self._generate(fault)
        if fault in (Fault.RESET, Fault.RESET_AFTER):
            assert request.transport is not None
            request.transport.abort()
            return web.Response()
        reply = self._completion(body, fault)
        if fault is Fault.CUT_BODY:
            reply = reply[: len(reply) // 2]
        return web.Response(body=reply, content_type="application/json")

    async def _generate(self, fault: Fault | None) -> None:
        self._generating += 1
        self.most_at_once = max(self.most_at_once, self._generating)
        try:
            await asyncio.sleep(60 if fault is Fault.HANGS else self._latency)
        finally:
            self._generating -= 1
        self.paid += fault is None or fault in PAID_FAULTS

    def _completion(self, body: dict[str, Any], fault: Fault | None) -> bytes:
        text = self._reply(body["messages"])
        if fault is Fault.CUT_REPLY:
            text = text[: len(text) // 2]
        tokens_in = sum(len(message["content"]) for message in body["messages"]) // 4
        usage = {"prompt_tokens": tokens_in, "completion_tokens": len(text) // 4}
        finish_reason = "length" if fault is Fault.CUT_REPLY else "stop"
        return json.dumps(completion(text, finish_reason, model=body["model"], usage=usage)).encode()


def _fault(option: str) -> tuple[Fault, float]:
    name, _, chance = option.partition("=")
    return Fault(name), float(chance)


async def _serve(options: argparse.Namespace) -> None:
    server = ChatServer(
        latency=options.latency,
        faults=dict(options.fault),
        seed=options.seed,
        at_once=options.at_once,
        retry_after=options.retry_after,
        key=options.key,
    )
    async with server:
        # the file appears whole: a reader that finds it may connect
        partial = options.port_file.with_suffix(".partial")
        partial.write_text(server.base_url.removesuffix("/v1").rpartition(":")[2])
        partial.rename(options.port_file)
        await asyncio.Event().wait()


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="An OpenAI-compatible chat server for tests; Ctrl-C ends it.")
    parser.add_argument("--port-file", type=Path, required=True, help="where to write the port, once it listens")
    parser.add_argument("--latency", type=float, default=0.0, help="seconds that a reply takes")
    parser.add_argument("--fault", type=_fault, action="append", default=[], metavar="NAME=CHANCE")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--at-once", type=int, default=None, help="refuse what is more than so many at a time")
    parser.add_argument("--retry-after", default="0.05", help="what a refusal says")
    parser.add_argument("--key", default="", help="the only key that is let in")
    return parser.parse_args()


if __name__ == "__main__":
    asyncio.run(_serve(_options()))
