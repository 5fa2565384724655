"""One request to an embeddings server over real HTTP: what is sent, what is made of the answer, what can break."""

import asyncio
import json
import socket
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web

from synth.llm import embedding_client, embedding_server
from tests.embedding_server import EmbeddingServer
from tests.synth.llm.embedding import TEXTS, Opener, assert_encoded, error_of
from tests.synth.llm.raw_server import raw_server

KEY = "sk-SECRETKEY-0123456789"


def test_vectors_are_put_in_their_place_by_index_not_by_the_order_of_the_reply(encoder_of: Opener) -> None:
    with EmbeddingServer(change=lambda body: body | {"data": body["data"][::-1]}) as server:
        assert_encoded(encoder_of(server), TEXTS)


def test_without_indexes_the_order_of_the_reply_counts(encoder_of: Opener) -> None:
    def bare(body: dict[str, Any]) -> dict[str, Any]:
        return body | {"data": [{"embedding": row["embedding"]} for row in body["data"]]}

    with EmbeddingServer(change=bare) as server:
        assert_encoded(encoder_of(server), TEXTS)


def test_an_answer_that_drips_is_not_waited_for(encoder_of: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedding_server, "TIMEOUT_SECONDS", 0.8)

    async def drip() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield b" "
            await asyncio.sleep(0.1)

    started = time.monotonic()
    with EmbeddingServer(answer=lambda number, body: web.Response(body=drip()) if number == 1 else None) as server:
        assert_encoded(encoder_of(server), TEXTS)
    assert time.monotonic() - started < 8


def test_a_server_that_is_not_there_is_named(encoder_of: Opener) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    said = error_of(lambda: encoder_of(f"http://127.0.0.1:{port}/v1").encode(TEXTS))
    assert f"at http://127.0.0.1:{port}/v1, asked for model small, cannot be reached" in said


def test_a_key_comes_from_the_environment_and_is_in_no_error(
    encoder_of: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOME_KEY", KEY)
    with EmbeddingServer(key=KEY) as server:
        assert_encoded(encoder_of(server, api_key_env="SOME_KEY"), TEXTS)
        monkeypatch.setenv("SOME_KEY", wrong := KEY + "-wrong")
        said = error_of(lambda: encoder_of(server, api_key_env="SOME_KEY").encode(TEXTS))
    assert "rejects the request (401): Incorrect API key provided: Bearer ***" in said and wrong not in said
    assert "set the environment variable SOME_KEY to a key that this server takes" in said and KEY not in said
    assert KEY not in repr(encoder_of(server, api_key_env="SOME_KEY"))


def test_without_a_key_no_authorization_is_sent(encoder_of: Opener) -> None:
    with EmbeddingServer() as server:
        encoder_of(server).encode(TEXTS)
    assert not any("Authorization" in headers for headers in server.headers)


def test_no_organisation_of_the_environment_is_sent(encoder_of: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_ORG_ID", "mine")
    monkeypatch.setenv("OPENAI_PROJECT_ID", "mine")
    with EmbeddingServer() as server:
        encoder_of(server).encode(TEXTS)
    assert "mine" not in json.dumps(server.headers)


def with_vectors(*vectors: Any) -> dict[str, Any]:
    return {"data": [{"index": place, "embedding": each} for place, each in enumerate(vectors)]}


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (with_vectors([1.0, 2.0]), "1 vectors for 2 texts"),
        (with_vectors([1.0, 2.0], [1.0]), "no lists of as many numbers each"),
        (with_vectors([], []), "no lists of as many numbers each"),
        (with_vectors("AAAA", "AAAA"), "no lists of as many numbers each"),  # three bytes are no number
        (with_vectors("?", "?"), "no lists of as many numbers each"),
        (with_vectors([[1.0]], [[1.0]]), "no lists of as many numbers each"),
        (with_vectors([1.0, "x"], [1.0, "x"]), "no lists of as many numbers each"),
        (with_vectors([{}], [{}]), "no lists of as many numbers each"),
        (with_vectors({"a": 1}, {"a": 1}), "no lists of as many numbers each"),
        (with_vectors([1, 10**30], [1, 10**60]), "no usable vector for 1 of 2 texts"),
        (with_vectors([1.0, None], [1.0, 2.0]), "no usable vector for 1 of 2 texts (not finite, or of length 0)"),
        (with_vectors([0.0, 0.0], [1.0, 2.0]), "the first: 'The harbour freezes"),
        ({"data": ["x", "y"]}, "no lists of as many numbers each"),
        ({"data": [{"index": 0, "embedding": [1.0]}] * 2}, "which text they belong to"),
        ({"data": [{"index": 5, "embedding": [1.0]}, {"index": 0, "embedding": [1.0]}]}, "which text they belong to"),
        (
            {"data": [{"index": True, "embedding": [1.0]}, {"index": 0, "embedding": [1.0]}]},
            "which text they belong to",
        ),
    ],
)
def test_vectors_that_are_none_are_refused_in_a_line_and_not_bought_again(
    encoder_of: Opener, body: dict[str, Any], said: str
) -> None:
    with EmbeddingServer(answer=lambda number, _: (200, body)) as server:
        assert said in error_of(lambda: encoder_of(server).encode(TEXTS))
    assert len(server.asked) == 1


def test_a_reply_without_an_end_is_not_read_to_its_end(encoder_of: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedding_client, "MOST_BYTES", 1 << 20)

    def answer(number: int, body: dict[str, Any]) -> web.Response:
        return web.Response(body=b"x" * (2 << 20))

    with EmbeddingServer(answer=answer) as server:
        assert "an answer of more than 1 MB" in error_of(lambda: encoder_of(server).encode(TEXTS))
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"no HTTP at all\r\n\r\n", "fails again and again"),
        (
            b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n",
            "rejects the request (302)",
        ),
        (b'HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{"data":x', "a reply that is no JSON"),
    ],
)
async def test_an_answer_in_another_language_is_told_in_a_line(encoder_of: Opener, answer: bytes, said: str) -> None:
    async with raw_server(answer) as (base_url, _):
        assert said in await asyncio.to_thread(error_of, lambda: encoder_of(base_url).encode(TEXTS))


def test_a_server_that_counts_no_tokens_is_not_said_to_be_free(encoder_of: Opener) -> None:
    with EmbeddingServer(change=lambda body: body | {"usage": {"prompt_tokens": "many"}}) as server:
        encoder = encoder_of(server)
        encoder.encode(["four"])
    assert str(encoder.spent) == "3 texts in 2 requests"
