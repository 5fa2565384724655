"""
A chat server with the files and batches of OpenAI's API: /v1/files, /v1/files/ID/content, /v1/batches.

In a test:        async with BatchServer(lasts={"in_progress": 0.2}) as server: ... server.base_url
In a subprocess:  python tests/batch_server.py --port-file FILE [--lasts in_progress=2] [--most-enqueued 100]
                  GET /stats then answers with "bought" too, how often each request was paid for.

It counts like a provider: what is answered in a batch is paid for, whoever may fetch it.
"""

import argparse
import asyncio
import json
import random
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from aiohttp import web

if __name__ == "__main__":  # run as a file, it finds its neighbours where the tests do
    sys.path.insert(0, str(Path(__file__).parent.parent))

from tests.chat_server import ChatServer, serve_for_ever

ACTIVE = ("validating", "in_progress", "finalizing", "cancelling")


class Fate(StrEnum):
    """What becomes of a batch."""

    COMPLETED = "completed"
    EXPIRED = "expired"  # half of it was done
    FAILED = "failed"  # found invalid, as `problems` say
    NO_ROOM = "no room"  # failed: too much is enqueued already


class Trouble(StrEnum):
    """What may happen at a point of the server's work, beside an HTTP status."""

    HANGS = "hangs"  # no answer for a minute
    RESET = "reset"  # the connection breaks
    TORN = "torn"  # ... after half of a file's content
    SHORT = "short"  # half of a file's content passes for the whole


POINTS = ("upload", "create", "created", "look", "list", "cancel", "download")  # "create" is before, "created" after


@dataclass
class _Batch:
    name: str
    file_id: str
    metadata: Mapping[str, str]
    lines: list[dict[str, Any]]
    fate: Fate
    created: float = field(default_factory=time.monotonic)
    created_at: int = field(default_factory=lambda: int(time.time()))
    cancelled: float | None = None
    status: str = "validating"
    num_done: int = 0
    replies: list[bytes] = field(default_factory=list)
    errors: list[bytes] = field(default_factory=list)
    results: dict[str, str] = field(default_factory=dict)


class BatchServer(ChatServer):
    """
    `lasts`: seconds of each status that passes. `fates`: of the first batches, in the order in which they are made.
    `most_enqueued`: requests in batches under way; a batch beyond it finds no room. `troubles`: what happens the first
    times that a point (POINTS) is passed, None for nothing. `results` may change the lines of a file of replies.
    `keeps_metadata`: some servers forget it. `lists`: what it says the first times that it is asked for a list.
    Requests that the chat server answers with an error fail in their batch.
    """

    def __init__(
        self,
        *,
        lasts: Mapping[str, float] | None = None,
        fates: Sequence[Fate] = (),
        problems: Sequence[Mapping[str, Any]] = (),
        most_enqueued: int | None = None,
        troubles: Mapping[str, Sequence[Trouble | int | None]] | None = None,
        results: Callable[[list[bytes]], list[bytes]] = lambda lines: lines,
        keeps_metadata: bool = True,
        lists: Sequence[str] = (),
        **options: Any,
    ) -> None:
        super().__init__(extend=self._routes, **options)
        self.files: dict[str, bytes] = {}
        self.batches: list[_Batch] = []  # as they were made
        self.bought: Counter[str] = Counter()  # by custom_id
        self.passed: Counter[str] = Counter()
        self.reached: dict[str, asyncio.Event] = defaultdict(asyncio.Event)  # where it hangs
        self._lasts, self._fates, self._problems = dict(lasts or {}), list(fates), list(problems)
        self._most_enqueued, self._results, self._keeps_metadata = most_enqueued, results, keeps_metadata
        self._lists = list(lists)
        self._troubles = {point: list(each) for point, each in (troubles or {}).items()}
        assert set(self._troubles) <= set(POINTS)
        self._shuffled = random.Random(0)

    def stats(self) -> dict[str, Any]:
        statuses = Counter(batch.status for batch in self.batches)
        return super().stats() | {"bought": dict(self.bought), "batches": dict(statuses)}

    def trouble(self, point: str, *troubles: Trouble | int | None) -> None:
        """What shall happen from now on at a point."""
        self._troubles[point] = list(troubles)

    def let_end(self) -> None:
        """From now on nothing takes time."""
        self._lasts.clear()

    def begin_again(self, fates: Sequence[Fate]) -> None:
        """As if it had never been asked anything."""
        self.bought.clear()
        self.batches.clear()
        self.files.clear()
        self._fates = list(fates)

    def _routes(self, app: web.Application) -> None:
        app.router.add_post("/v1/files", self._upload)
        app.router.add_get("/v1/files/{name}/content", self._content)
        app.router.add_post("/v1/batches", self._create)
        app.router.add_get("/v1/batches", self._list)
        app.router.add_get("/v1/batches/{name}", self._look)
        app.router.add_post("/v1/batches/{name}/cancel", self._cancel)

    async def _upload(self, request: web.Request) -> web.StreamResponse:
        form = {part.name: bytes(await part.read()) async for part in await request.multipart()}
        assert form["purpose"] == b"batch"
        name = f"file-{len(self.files)}"
        self.files[name] = form["file"]
        answer = {"id": name, "object": "file", "created_at": int(time.time()), "purpose": "batch"}
        return await self._pass(request, "upload") or web.json_response(answer)

    async def _create(self, request: web.Request) -> web.StreamResponse:
        wanted = await request.json()
        if trouble := await self._pass(request, "create"):
            return trouble
        file_id = wanted["input_file_id"]
        if file_id not in self.files:
            return _error(400, f"No such File object: {file_id}")
        lines = [json.loads(line) for line in self.files[file_id].splitlines()]
        self._age()
        fate = self._fates.pop(0) if self._fates else Fate.COMPLETED
        enqueued = sum(len(batch.lines) for batch in self.batches if batch.status in ACTIVE)
        if self._most_enqueued is not None and enqueued + len(lines) > self._most_enqueued:
            fate = Fate.NO_ROOM
        metadata = wanted.get("metadata", {}) if self._keeps_metadata else {}
        batch = _Batch(f"batch_{len(self.batches)}", file_id, metadata, lines, fate)
        self.batches.append(batch)
        return await self._pass(request, "created") or self._told(batch)

    async def _look(self, request: web.Request) -> web.StreamResponse:
        batch = self._named(request)
        return await self._pass(request, "look") or (self._told(batch) if batch else _error(404, "No batch found"))

    async def _cancel(self, request: web.Request) -> web.StreamResponse:
        batch = self._named(request)
        if trouble := await self._pass(request, "cancel"):
            return trouble
        if batch is None:
            return _error(404, "No batch found")
        self._age()
        if batch.status not in ACTIVE:
            return _error(400, f"Cannot cancel a batch with status '{batch.status}'.")
        batch.cancelled = batch.cancelled or time.monotonic()
        return self._told(batch)

    async def _list(self, request: web.Request) -> web.StreamResponse:
        if trouble := await self._pass(request, "list"):
            return trouble
        if self._lists:
            return web.Response(text=self._lists.pop(0), content_type="application/json")
        self._age()
        newest = self.batches[::-1]
        if after := request.query.get("after"):
            newest = newest[[batch.name for batch in newest].index(after) + 1 :]
        limit = min(int(request.query.get("limit", 20)), 100)
        data = [self._as_json(batch) for batch in newest[:limit]]
        return web.json_response({"object": "list", "data": data, "has_more": len(newest) > limit})

    async def _content(self, request: web.Request) -> web.StreamResponse:
        content = self.files.get(request.match_info["name"])
        if content is None:
            return _error(404, "No such file")
        trouble = self._next_trouble("download")
        if trouble is None:
            return web.Response(body=content)
        if trouble is Trouble.SHORT:
            return web.Response(body=content[: len(content) // 2])
        if isinstance(trouble, int):
            return _error(trouble, "trouble on demand")
        response = web.StreamResponse(headers={"Content-Length": str(len(content))})
        await response.prepare(request)
        await response.write(content[: len(content) // 2])
        await asyncio.sleep(0.05)  # the half shall arrive
        await self._suffer(request, "download", trouble)
        return response

    async def _pass(self, request: web.Request, point: str) -> web.Response | None:
        trouble = self._next_trouble(point)
        if unauthorised := self._without_key(request):
            return web.json_response(unauthorised[1], status=unauthorised[0])
        return None if trouble is None else await self._suffer(request, point, trouble)

    def _next_trouble(self, point: str) -> Trouble | int | None:
        self.passed[point] += 1
        planned = self._troubles.get(point)
        return planned.pop(0) if planned else None

    async def _suffer(self, request: web.Request, point: str, trouble: Trouble | int) -> web.Response:
        if isinstance(trouble, int):
            return _error(trouble, "trouble on demand")
        if trouble is Trouble.HANGS:
            self.reached[point].set()
            await asyncio.sleep(60)
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    def _named(self, request: web.Request) -> _Batch | None:
        return next((batch for batch in self.batches if batch.name == request.match_info["name"]), None)

    def _told(self, batch: _Batch) -> web.Response:
        self._age()
        return web.json_response(self._as_json(batch))

    def _age(self) -> None:
        """Every batch is where it has come by now."""
        for batch in self.batches:
            if batch.status in ACTIVE:
                self._age_one(batch)

    def _age_one(self, batch: _Batch) -> None:
        age = time.monotonic() - batch.created
        validated = age - self._lasts.get("validating", 0.0)
        in_progress = self._lasts.get("in_progress", 0.0)
        if validated < 0:
            batch.status = "validating"
        elif batch.fate in (Fate.FAILED, Fate.NO_ROOM):
            batch.status = "failed"
            return
        else:
            share = min(1.0, validated / in_progress if in_progress else 1.0)
            most = len(batch.lines) // 2 if batch.fate is Fate.EXPIRED else len(batch.lines)
            if batch.cancelled is None:
                self._answer(batch, int(share * most))
            over = validated - in_progress - self._lasts.get("finalizing", 0.0)
            batch.status = "in_progress" if share < 1 else "finalizing" if over < 0 else str(batch.fate)
        if batch.cancelled is not None:
            is_over = time.monotonic() - batch.cancelled >= self._lasts.get("cancelling", 0.0)
            batch.status = "cancelled" if is_over else "cancelling"
        if batch.status not in ACTIVE:
            self._close(batch)

    def _answer(self, batch: _Batch, up_to: int) -> None:
        for line in batch.lines[batch.num_done : up_to]:
            status, body = self.answer(line["body"])
            result = {
                "id": f"batch_req_{batch.num_done}",
                "custom_id": line["custom_id"],
                "response": {"status_code": status, "request_id": "req_0", "body": body},
                "error": None,
            }
            (batch.replies if status == 200 else batch.errors).append(json.dumps(result).encode())
            self.bought[line["custom_id"]] += status == 200
            batch.num_done += 1

    def _close(self, batch: _Batch) -> None:
        code = "batch_cancelled" if batch.status == "cancelled" else "batch_expired"
        message = "This request could not be executed."
        for line in batch.lines[batch.num_done :]:
            error = {"id": "none", "custom_id": line["custom_id"], "response": None}
            error |= {"error": {"code": code, "message": message}}
            batch.errors.append(json.dumps(error).encode())
        self._shuffled.shuffle(batch.replies)
        for kind, lines in (("output_file_id", self._results(batch.replies)), ("error_file_id", batch.errors)):
            if lines:
                name = f"file-{len(self.files)}"
                self.files[name] = b"".join(line + b"\n" for line in lines)
                batch.results[kind] = name

    def _as_json(self, batch: _Batch) -> dict[str, Any]:
        told: dict[str, Any] = {
            "id": batch.name,
            "object": "batch",
            "endpoint": "/v1/chat/completions",
            "completion_window": "24h",
            "input_file_id": batch.file_id,
            "created_at": batch.created_at,
            "status": batch.status,
            "metadata": batch.metadata,
            "output_file_id": None,
            "error_file_id": None,
            "request_counts": {
                "total": len(batch.lines),
                "completed": len(batch.replies),
                "failed": batch.num_done - len(batch.replies),
            },
        }
        if batch.status == "failed":
            full = {"code": "token_limit_exceeded", "message": "Enqueued token limit reached", "line": None}
            told["errors"] = {"object": "list", "data": [full] if batch.fate is Fate.NO_ROOM else self._problems}
            told["request_counts"] = {"total": 0, "completed": 0, "failed": 0}
        return told | batch.results


def _error(status: int, message: str) -> web.Response:
    return web.json_response({"error": {"message": message, "type": "invalid_request_error"}}, status=status)


def _lasting(option: str) -> tuple[str, float]:
    status, _, seconds = option.partition("=")
    return status, float(seconds)


async def _serve(options: argparse.Namespace) -> None:
    server = BatchServer(lasts=dict(options.lasts), most_enqueued=options.most_enqueued, key=options.key)
    await serve_for_ever(server, options.port_file)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="A chat server with the Batch API for tests; Ctrl-C ends it.")
    parser.add_argument("--port-file", type=Path, required=True, help="where to write the port, once it listens")
    parser.add_argument("--lasts", type=_lasting, action="append", default=[], metavar="STATUS=SECONDS")
    parser.add_argument("--most-enqueued", type=int, default=None, help="requests in batches that are under way")
    parser.add_argument("--key", default="", help="the only key that is let in")
    return parser.parse_args()


if __name__ == "__main__":
    asyncio.run(_serve(_options()))
