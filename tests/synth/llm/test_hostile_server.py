"""A server that means harm: what it echoes, how much it sends and what it calls itself, over real HTTP."""

import asyncio
import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from synth.llm.engine import Engine, LLMConfig, Usage
from synth.llm.journal import MOST_BYTES, Journal, Reply
from synth.records import BadReply, LLMError
from tests.chat_server import ChatServer, completion

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
            async with Engine(LLMConfig(server.base_url, "test-model", max_retries=0), journal) as engine:
                try:
                    return await engine.complete(HOSTILE), engine.usage
                except BadReply as bad:
                    return bad, engine.usage


def on_disk(folder: Path) -> str:
    return "".join(path.read_text() for path in folder.iterdir())


@pytest.mark.parametrize(
    "text",
    [
        f"it is {KEY}.",
        '{"queries": ["what is sk-SECRET\\u004bEY-\\/0123456789?"]}',
        KEY.replace("/", "\\/"),
        KEY.replace("K", "\u212a"),  # the sign of kelvin, which normalising makes a K
    ],
)
async def test_a_reply_that_contains_the_key_is_not_kept_and_its_tokens_count(text: str, tmp_path: Path) -> None:
    bad, usage = await ask(tmp_path, completion(text, usage=USAGE))
    assert isinstance(bad, BadReply) and "contains the key of the server" in str(bad)
    assert "0123456789" not in str(bad) + on_disk(tmp_path)
    assert usage.tokens_out >= 7 and usage.tokens_in >= 30 and usage.replies == 0


async def test_a_server_that_always_echoes_the_key_is_an_error(tmp_path: Path) -> None:
    async with ChatServer(lambda _: KEY) as server:
        with Journal(tmp_path) as journal:
            async with Engine(LLMConfig(server.base_url, "test-model"), journal) as engine:
                with pytest.raises(LLMError, match="contains the key of the server"):
                    await engine.complete(HOSTILE)
    assert len(server.asked) == 2 and on_disk(tmp_path) == ""


async def test_the_key_is_taken_out_of_the_names_that_a_reply_gives(tmp_path: Path) -> None:
    reply, _ = await ask(tmp_path, completion("text", finish_reason=f"x{KEY}", model=f"Bearer {KEY}"))
    assert isinstance(reply, Reply) and (reply.model, reply.finish_reason) == ("Bearer ***", "x***")
    bad, _ = await ask(tmp_path / "empty", completion("", finish_reason=KEY, model=KEY))
    assert isinstance(bad, BadReply) and "0123456789" not in f"{bad}{on_disk(tmp_path / 'empty')}"


@pytest.mark.parametrize("key", ["a", "none", "EMPTY", "ollama"])
async def test_a_dummy_key_changes_nothing(key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", key)
    text = f"a text of {key} and none other"
    reply, _ = await ask(tmp_path, completion(text, model=f"{key}-model"))
    assert isinstance(reply, Reply) and (reply.text, reply.model) == (text, f"{key}-model")


async def test_a_key_too_short_to_be_real_is_masked_in_errors_and_left_in_texts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "internal")
    reply, _ = await ask(tmp_path / "text", completion("an internal text"))
    assert isinstance(reply, Reply) and reply.text == "an internal text"
    bad, _ = await ask(tmp_path / "error", web.Response(status=400, text="key internal refused"))
    assert "key *** refused" in str(bad)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (completion("text", model="a\ud800b"), ("a\ufffdb", "stop", 0, 0)),
        (completion("text", "\x1b[31m\nx\u202e", model="m"), ("m", "\ufffd[31m x\ufffd", 0, 0)),
        (completion("text", model="m" * 5_000_000), ("m" * 199 + "…", "stop", 0, 0)),
        (
            completion("text", model="m", usage={"prompt_tokens": 10**30, "completion_tokens": 2**63 - 1}),
            ("m", "stop", 10**9, 10**9),
        ),
        (
            completion("text", model="m", usage={"prompt_tokens": -5, "completion_tokens": "7"}),
            ("m", "stop", 0, 0),
        ),
    ],
    ids=["half a pair", "escapes", "long", "many tokens", "odd tokens"],
)
async def test_what_a_server_says_of_itself_is_cleaned_and_replayed_as_it_was(
    answer: Answer, expected: tuple[str, str, int, int], tmp_path: Path
) -> None:
    for replayed in (False, True):
        reply, usage = await ask(tmp_path, answer)
        assert isinstance(reply, Reply) and (reply.text, reply.replayed, usage.replayed) == ("text", replayed, replayed)
        assert (reply.model, reply.finish_reason, reply.tokens_in, reply.tokens_out) == expected
    assert len(on_disk(tmp_path)) < 1000


async def test_half_a_surrogate_pair_in_the_text_is_a_bad_reply(tmp_path: Path) -> None:
    bad, _ = await ask(tmp_path, completion("a \ud800 b"))
    assert isinstance(bad, BadReply) and "half a surrogate pair" in str(bad) and on_disk(tmp_path) == ""
    reply, _ = await ask(tmp_path, completion("a 🐈 b"))  # which JSON writes as a whole pair
    assert isinstance(reply, Reply) and reply.text == "a 🐈 b"


def swollen() -> web.Response:
    body = gzip.compress(json.dumps(completion("a" * 20 * MOST_BYTES)).encode(), compresslevel=1)
    assert len(body) < MOST_BYTES
    return web.Response(body=body, headers={"Content-Encoding": "gzip"})


@pytest.mark.parametrize(
    "answer", [lambda: completion("a" * MOST_BYTES), swollen], ids=["sent whole", "swells when decompressed"]
)
async def test_a_body_of_more_than_the_limit_is_a_bad_reply_that_names_it(
    answer: Callable[[], Answer], tmp_path: Path
) -> None:
    bad, _ = await ask(tmp_path, answer())
    assert isinstance(bad, BadReply) and "more than the 8 MB" in str(bad) and on_disk(tmp_path) == ""


async def test_an_error_with_a_huge_body_is_still_that_error(tmp_path: Path) -> None:
    async with ChatServer(error=lambda _: (401, "no " * MOST_BYTES)) as server:
        with Journal(tmp_path) as journal:
            async with Engine(LLMConfig(server.base_url, "test-model"), journal) as engine:
                with pytest.raises(LLMError, match=r"\(401\): no no"):
                    await engine.complete(HOSTILE)


@pytest.mark.parametrize("charset", ["hex", "rot13", "undefined", "utf-16", "no-such-codec"])
async def test_bodies_are_utf8_whatever_codec_the_header_names(charset: str, tmp_path: Path) -> None:
    headers = {"Content-Type": f"text/plain; charset={charset}"}
    body = json.dumps(completion("猫"), ensure_ascii=False).encode()
    reply, _ = await ask(tmp_path, web.Response(body=body, headers=headers))
    assert isinstance(reply, Reply) and reply.text == "猫"
    for status, said in ((200, "no JSON: zz"), (400, r"does not take this request (400): zz")):
        bad, _ = await ask(tmp_path / str(status), web.Response(body=b"zz", status=status, headers=headers))
        assert isinstance(bad, BadReply) and said in str(bad)


@pytest.mark.parametrize(
    "raw",
    [
        b"HTTP/1.1 200 \xff\xfe\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}",
        b'HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 4\r\n\r\n"\xe9\xff"',
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\nContent-Encoding: gzip\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"\x00\xff\x00\xff\r\n\r\n",
    ],
    ids=["status line", "not UTF-8", "not gzip", "not chunked", "not HTTP"],
)
async def test_what_cannot_be_read_is_asked_again_and_then_said(raw: bytes, tmp_path: Path) -> None:
    asked = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(raw)
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        with Journal(tmp_path) as journal:
            async with Engine(LLMConfig(f"http://127.0.0.1:{port}/v1", "m", max_retries=1), journal) as engine:
                with pytest.raises(LLMError, match="fails again and again") as caught:
                    await engine.complete(HOSTILE)
    assert len(asked) == 3 and str(caught.value).isprintable()
