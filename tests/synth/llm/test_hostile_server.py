"""A server that means harm: what it echoes, how much it sends and what it calls itself, over real HTTP."""

import gzip
import json
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from synth.llm.client import ChatClient, Completion
from synth.llm.config import Endpoint, LLMConfig
from synth.llm.engine import Engine
from synth.llm.faults import Fault, Rejected, Transient, Unusable
from synth.llm.journal import MOST_BYTES, Journal, Reply
from synth.llm.usage import Usage
from synth.records import BadReply, LLMError
from tests.chat_server import ChatServer, completion
from tests.synth.llm.raw_server import raw_server

KEY = "sk-SECRETKEY-/0123456789"
HOSTILE = [{"role": "user", "content": "hello"}]
USAGE = {"prompt_tokens": 30, "completion_tokens": 7}
Answer = dict[str, Any] | web.Response


@pytest.fixture(autouse=True)
def a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)


async def ask(folder: Path, answer: Answer) -> tuple[Reply | BadReply, Usage]:
    """What comes of a request that is so answered, when all others are served; and what the engine counted."""

    def error(body: dict[str, Any]) -> tuple[int, Any] | web.Response | None:
        if body["messages"] != HOSTILE:
            return None
        return answer if isinstance(answer, web.Response) else (200, answer)

    async with ChatServer(lambda _: "{}", error=error) as server:
        with Journal(folder) as journal:
            async with Engine(LLMConfig.of(server.base_url, "test-model", max_retries=0), journal) as engine:
                try:
                    return await engine.complete(HOSTILE), engine.usage
                except BadReply as bad:
                    return bad, engine.usage


async def post(base_url: str) -> Completion | Fault:
    body = json.dumps({"model": "m", "messages": HOSTILE}).encode()
    async with ChatClient(Endpoint(base_url, "m"), KEY, timeout_seconds=20) as client:
        try:
            return await client.post(body)
        except Fault as fault:
            assert str(fault).isprintable() and len(str(fault)) < 400
            return fault


async def answered(answer: Callable[[], web.Response]) -> Completion | Fault:
    async with ChatServer(error=lambda _: answer()) as server:
        return await post(server.base_url)


def on_disk(folder: Path) -> str:
    return "".join(path.read_text() for path in folder.iterdir())


async def test_a_reply_that_contains_the_key_is_not_kept_and_its_tokens_count(tmp_path: Path) -> None:
    bad, usage = await ask(tmp_path, completion(f"it is {KEY}.", usage=USAGE))
    assert isinstance(bad, BadReply) and "contains the key of the server" in str(bad)
    assert "0123456789" not in str(bad) + on_disk(tmp_path)
    assert usage.tokens_out >= 7 and usage.tokens_in >= 30 and usage.replies == 0


async def test_a_server_that_always_echoes_the_key_is_an_error(tmp_path: Path) -> None:
    async with ChatServer(lambda _: KEY) as server:
        with Journal(tmp_path) as journal:
            async with Engine(LLMConfig.of(server.base_url, "test-model"), journal) as engine:
                with pytest.raises(LLMError, match="contains the key of the server"):
                    await engine.complete(HOSTILE)
    assert len(server.asked) == 2 and KEY not in on_disk(tmp_path)


async def test_the_key_is_taken_out_of_the_names_that_a_reply_gives(tmp_path: Path) -> None:
    reply, _ = await ask(tmp_path, completion("text", finish_reason=f"x{KEY}", model=f"Bearer {KEY}"))
    assert isinstance(reply, Reply) and (reply.model, reply.finish_reason) == ("Bearer ***", "x***")
    bad, _ = await ask(tmp_path / "empty", completion("", finish_reason=KEY, model=KEY))
    assert isinstance(bad, BadReply) and "0123456789" not in f"{bad}{on_disk(tmp_path / 'empty')}"


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (completion("text", model="a\ud800b"), ("a\ufffdb", "stop")),
        (completion("text", "\x1b[31m\nx\u202e", model="m"), ("m", "\ufffd[31m x\ufffd")),
        (completion("text", model="m" * 5_000_000), ("m" * 199 + "…", "stop")),
        (completion("text", model="m", usage={"prompt_tokens": 10**30, "completion_tokens": 2**63 - 1}), ("m", "stop")),
    ],
    ids=["half a pair", "escapes", "long", "many tokens"],
)
async def test_what_a_server_says_of_itself_is_cleaned_and_replayed_as_it_was(
    answer: Answer, expected: tuple[str, str], tmp_path: Path
) -> None:
    for replayed in (False, True):
        reply, usage = await ask(tmp_path, answer)
        assert isinstance(reply, Reply) and (reply.text, reply.replayed, usage.replayed) == ("text", replayed, replayed)
        assert (reply.model, reply.finish_reason) == expected and reply.tokens_in + reply.tokens_out < 10_000
    assert len(on_disk(tmp_path)) < 1000


async def test_half_a_surrogate_pair_in_the_text_is_a_bad_reply(tmp_path: Path) -> None:
    bad, _ = await ask(tmp_path, completion("a \ud800 b"))
    assert isinstance(bad, BadReply) and "half a surrogate pair" in str(bad) and on_disk(tmp_path) == ""


def large(*, packed: str = "") -> web.Response:
    """A good reply that is too large; sent whole, or so packed that it is not."""
    if not packed:
        return web.json_response(completion("a" * MOST_BYTES))
    pack = gzip.compress if packed == "gzip" else zlib.compress
    body = pack(json.dumps(completion("a" * 20 * MOST_BYTES)).encode(), 1)
    assert len(body) < MOST_BYTES
    return web.Response(body=body, headers={"Content-Encoding": packed})


@pytest.mark.parametrize("packed", ["", "gzip", "deflate"])
async def test_a_body_of_more_than_the_limit_is_unusable_however_it_is_packed(packed: str) -> None:
    found = await answered(lambda: large(packed=packed))
    assert isinstance(found, Unusable) and "more than the 8 MB" in str(found)


async def test_an_endless_body_is_read_no_further_than_the_limit() -> None:
    sent = 0

    async def drip(request: web.Request) -> web.StreamResponse:
        nonlocal sent
        response = web.StreamResponse()
        await response.prepare(request)
        while sent < 100 * MOST_BYTES:
            await response.write(b"a" * (1 << 20))
            sent += 1 << 20
        return response

    def extend(app: web.Application) -> None:
        app.router.add_post("/endless/chat/completions", drip)

    async with ChatServer(extend=extend) as server:
        found = await post(server.base_url.removesuffix("v1") + "endless")
    assert isinstance(found, Unusable) and sent < 3 * MOST_BYTES


async def test_a_packed_reply_of_sensible_size_is_read_although_nobody_asked_for_it() -> None:
    body = gzip.compress(json.dumps(completion("a text")).encode())
    found = await answered(lambda: web.Response(body=body, headers={"Content-Encoding": "gzip"}))
    assert isinstance(found, Completion) and found.text == "a text"


async def test_an_error_with_a_huge_body_is_still_that_error() -> None:
    found = await answered(lambda: web.Response(status=401, text="no " * MOST_BYTES))
    assert isinstance(found, Rejected) and found.status == 401 and str(found).startswith("no no")


@pytest.mark.parametrize("charset", ["hex", "rot13", "undefined", "utf-16", "no-such-codec"])
async def test_bodies_are_utf8_whatever_codec_the_header_names(charset: str) -> None:
    headers = {"Content-Type": f"text/plain; charset={charset}"}
    body = json.dumps(completion("猫"), ensure_ascii=False).encode()
    found = await answered(lambda: web.Response(body=body, headers=headers))
    assert isinstance(found, Completion) and found.text == "猫"
    found = await answered(lambda: web.Response(body=b"zz", headers=headers))
    assert isinstance(found, Transient) and "no JSON: zz" in str(found)
    found = await answered(lambda: web.Response(body=b"zz", headers=headers, status=400))
    assert isinstance(found, Rejected) and str(found) == "zz"


@pytest.mark.parametrize(
    ("raw", "cause"),
    [
        (b"HTTP/1.1 200 \xff\xfe\r\nContent-Length: 2\r\n\r\n{}", "no choices"),
        (b'HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n"\xe9\xff"', "no JSON"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Encoding: gzip\r\n\r\n{}", "cut body"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Encoding: br\r\n\r\n{}", "no HTTP"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "no HTTP"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}", "cut body"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: -9\r\n\r\n{}", "no HTTP"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\nContent-Length: 2\r\n\r\n{}", "no HTTP"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"a" * 100_000 + b"\r\n\r\n", "no HTTP"),
        (b"HTTP/1.1 200 OK\r\n" + b"X: a\r\n" * 100_000 + b"\r\n", "no HTTP"),
        (b"HTTP/1.1 9999999 OK\r\n\r\n", "no HTTP"),
        (b"HTTP/1.1 999 \x1b[31m\r\nContent-Length: 0\r\n\r\n", "999"),
        (b"HTTP/1.1 204 No Content\r\n\r\n", "no JSON"),
        (b"\x00\xff\x00\xff\r\n\r\n", "no HTTP"),
        (b"", "reset"),
    ],
)
async def test_what_cannot_be_read_may_be_asked_again(raw: bytes, cause: str) -> None:
    async with raw_server(raw, close=True) as (url, _):
        found = await post(url)
    assert isinstance(found, Transient) and found.cause == cause


async def test_what_cannot_be_read_is_asked_again_and_then_said(tmp_path: Path) -> None:
    async with raw_server(b"\x00\xff\x00\xff\r\n\r\n", close=True) as (url, asked):
        with Journal(tmp_path) as journal:
            async with Engine(LLMConfig.of(url, "m", max_retries=1), journal) as engine:
                with pytest.raises(LLMError, match="fails again and again") as caught:
                    await engine.complete(HOSTILE)
    assert len(asked) == 3 and str(caught.value).isprintable()
