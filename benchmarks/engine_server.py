"""
The benchmark's LLM server: OpenAI's chat API by hand on uvloop, so that it is not what is measured; faults, limits.

Example: python benchmarks/engine_server.py --latency 0.2 --faults

Prints its port as its first line. GET /stats answers with what it has counted. It counts like a provider at its worst:
a request that is taken is paid, whether or not the client is still there when the reply is ready.
"""

import argparse
import asyncio
import json
import math
import random
import socket
import struct
import sys
import time
from collections import Counter
from collections.abc import Callable
from typing import Any, cast

import uvloop
from engine_job import RETRY_AFTER, fault_of, row_in
from engine_writer import Writer, Written, fixed

RESET = struct.pack("ii", 1, 0)  # SO_LINGER: a closed connection is reset
STATUS = {200: "OK", 400: "Bad Request", 404: "Not Found", 429: "Too Many Requests", 500: "Internal Server Error"}


class Limit:
    """What a server takes: everything, unless a subclass says less."""

    def refuses(self, now: float, in_flight: int) -> float | None:
        """The seconds after which to come again, None where the request is taken."""
        return None

    def headers(self, now: float) -> str:
        """What every response says about it."""
        return ""


class AtOnce(Limit):
    """So many requests at a time."""

    def __init__(self, most: int) -> None:
        self._most = most

    def refuses(self, now: float, in_flight: int) -> float | None:
        return 1.0 if in_flight >= self._most else None


class Bucket(Limit):
    """A token bucket of `burst` requests that fills at a steady rate; says nothing of itself but Retry-After."""

    def __init__(self, per_minute: int, burst: int) -> None:
        self._rate, self._burst, self._left, self._at = per_minute / 60, burst, float(burst), 0.0

    def refuses(self, now: float, in_flight: int) -> float | None:
        self._left = min(self._burst, self._left + (now - self._at) * self._rate)
        self._at = now
        if self._left < 1:
            return (1 - self._left) / self._rate
        self._left -= 1
        return None


class Window(Limit):
    """So many requests in every minute since the first; says so in the headers that OpenAI sends."""

    def __init__(self, per_minute: int) -> None:
        self._most, self._left, self._ends = per_minute, 0, 0.0

    def refuses(self, now: float, in_flight: int) -> float | None:
        if now >= self._ends:
            elapsed = now - self._ends if self._ends else 0.0
            self._left, self._ends = self._most, now + 60 - elapsed % 60
        if not self._left:
            return self._ends - now
        self._left -= 1
        return None

    def headers(self, now: float) -> str:
        return (
            f"x-ratelimit-limit-requests: {self._most}\r\nx-ratelimit-remaining-requests: {self._left}\r\n"
            f"x-ratelimit-reset-requests: {max(0.0, self._ends - now):.3f}s\r\n"
        )


class Server:
    """What all connections share: the settings and the counts."""

    def __init__(
        self,
        *,
        latency: float,
        spread: float,
        faults: bool,
        limit: Limit,
        write: Callable[[list[dict[str, str]]], Written],
    ) -> None:
        self._latency, self._spread, self._chance = latency, spread, random.Random(0)
        self.limit = limit
        self._faults, self._write = faults, write
        self._asked: Counter[str] = Counter()
        self._paid: Counter[str] = Counter()
        self._fault_counts: Counter[str] = Counter()
        self._tokens_in = self._tokens_out = 0
        self.refused = self.connections = self.busy_connections = self.in_flight = self._most_in_flight = 0

    def latency(self) -> float:
        """Seconds that the next reply takes."""
        return self._latency * (1 + self._chance.uniform(-self._spread, self._spread))

    def stats(self) -> dict[str, Any]:
        """
        All counts. `paid_again`: what was paid beyond once for each row; `busy_connections`: those that are open and
        have asked, each with a request or its reply under way where the client has no fewer rows than connections.
        """
        return {
            "asked": self._asked.total(),
            "paid": self._paid.total(),
            "paid_again": self._paid.total() - len(self._paid),
            "refused": self.refused,
            "faults": dict(self._fault_counts),
            "connections": self.connections,
            "busy_connections": self.busy_connections,
            "most_in_flight": self._most_in_flight,
            "tokens_in": self._tokens_in,
            "tokens_out": self._tokens_out,
            "cpu": time.process_time(),
        }

    def taken(self, body: bytes) -> tuple[str, str | None]:
        """The row that is asked for, and what will go wrong with it."""
        row = row_in(json.loads(body)["messages"])
        attempt = self._asked[row]
        self._asked[row] += 1
        fault = fault_of(row, attempt) if self._faults else None
        if fault:
            self._fault_counts[fault] += 1
        return row, fault

    def starts(self, row: str) -> None:
        """A reply is begun, and paid from now on."""
        self.in_flight += 1
        self._most_in_flight = max(self._most_in_flight, self.in_flight)
        self._paid[row] += 1

    def ends(self) -> None:
        """A reply is finished."""
        self.in_flight -= 1

    def completion(self, body: bytes) -> bytes:
        """The body of a whole reply."""
        written = self._write(json.loads(body)["messages"])
        self._tokens_in += written.tokens_in
        self._tokens_out += written.tokens_out
        return (
            '{"id": "bench", "object": "chat.completion", "created": 0, "model": "bench-model", '
            '"choices": [{"index": 0, '
            f'"message": {{"role": "assistant", "content": {json.dumps(written.text)}}}, "finish_reason": "stop"}}], '
            f'"usage": {{"prompt_tokens": {written.tokens_in}, "completion_tokens": {written.tokens_out}, '
            f'"total_tokens": {written.tokens_in + written.tokens_out}}}}}'
        ).encode()


class Connection(asyncio.Protocol):
    """One connection: a request, its reply, the next request."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._received = b""
        self._has_asked = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by its class
        self._server.connections += 1

    def connection_lost(self, error: Exception | None) -> None:
        self._server.busy_connections -= self._has_asked

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, blank, rest = self._received.partition(b"\r\n\r\n")
        if not blank:
            return
        _, named, length = head.lower().partition(b"content-length:")
        expected = int(length.split(b"\r\n", 1)[0]) if named else 0
        if len(rest) < expected:
            return
        body, self._received = rest[:expected], rest[expected:]
        self._answer(head, body)

    def _answer(self, head: bytes, body: bytes) -> None:
        if head.startswith(b"GET /stats "):
            self._send(200, json.dumps(self._server.stats()).encode())
        elif head.startswith(b"GET /v1/models "):
            self._send(200, b'{"object": "list", "data": [{"id": "bench-model", "object": "model"}]}')
        elif head.startswith(b"POST /v1/chat/completions "):
            self._chat(body)
        else:
            self._send(404, b'{"error": {"message": "no such page", "code": "not_found"}}')

    def _chat(self, body: bytes) -> None:
        server = self._server
        if b'"messages": []' in body:  # curator asks so, to read the headers of the answer
            self._send(400, b'{"error": {"message": "messages must not be empty", "type": "invalid_request_error"}}')
            return
        server.busy_connections += not self._has_asked
        self._has_asked = True
        row, fault = server.taken(body)
        seconds = RETRY_AFTER if fault == "429" else server.limit.refuses(time.monotonic(), server.in_flight)
        if seconds is not None:
            server.refused += 1
            said = b'{"error": {"message": "Rate limit reached", "type": "requests", "code": "rate_limit_exceeded"}}'
            self._send(429, said, f"retry-after: {max(1, math.ceil(seconds))}\r\n")
        elif fault == "500":
            self._send(500, b'{"error": {"message": "The server had an error", "type": "server_error"}}')
        else:
            server.starts(row)
            asyncio.get_running_loop().call_later(server.latency(), self._reply, body, fault)

    def _reply(self, body: bytes, fault: str | None) -> None:
        self._server.ends()
        completion = self._server.completion(body)  # its tokens are paid, whether or not it arrives
        if self._transport.is_closing():
            return
        if fault == "reset":
            self._transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            self._transport.abort()
            return
        self._send(200, completion[: len(completion) // 2] if fault == "cut" else completion)

    def _send(self, status: int, body: bytes, headers: str = "") -> None:
        headers += self._server.limit.headers(time.monotonic())
        self._transport.write(
            f"HTTP/1.1 {status} {STATUS[status]}\r\ncontent-type: application/json\r\n{headers}"
            f"content-length: {len(body)}\r\n\r\n".encode()
            + body
        )


async def _serve(options: argparse.Namespace) -> None:
    write = Writer(options.tokens).write if options.tokens else fixed
    server = Server(
        latency=options.latency, spread=options.spread, faults=options.faults, limit=_limit(options), write=write
    )
    listening = await asyncio.get_running_loop().create_server(lambda: Connection(server), "127.0.0.1", 0, backlog=4096)
    sys.stdout.write(f"{listening.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await asyncio.Event().wait()


def _limit(options: argparse.Namespace) -> Limit:
    if options.at_once:
        return AtOnce(options.at_once)
    if options.bucket:
        return Bucket(options.bucket, options.burst)
    return Window(options.window) if options.window else Limit()


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").strip().splitlines()[0])
    parser.add_argument("--latency", type=float, default=0.2, help="seconds from request to reply, in the mean")
    parser.add_argument("--spread", type=float, default=0.0, metavar="SHARE", help="at most so much more or less")
    parser.add_argument("--faults", action="store_true", help="10 %% 429, 2 %% 500, 0.5 %% resets, 0.5 %% cut bodies")
    parser.add_argument("--at-once", type=int, help="refuse what is more than so many at a time")
    parser.add_argument("--bucket", type=int, metavar="PER_MINUTE", help="a token bucket, by --burst")
    parser.add_argument("--burst", type=int, default=60, help="what the bucket holds")
    parser.add_argument("--window", type=int, metavar="PER_MINUTE", help="so many a minute, and says so in headers")
    parser.add_argument("--tokens", help="write as a model does; count by `wordpiece` or by a .tiktoken file")
    return parser.parse_args()


if __name__ == "__main__":
    uvloop.run(_serve(_options()))
