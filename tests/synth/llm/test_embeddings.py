"""Vectors from a server over real HTTP: what it is asked, what is made of its answers, what can go wrong."""

import asyncio
import json
import socket
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from aiohttp import web
from numpy.typing import NDArray

from mining.cache import encode_cached
from synth.llm import embedding_client, embedding_server
from synth.llm.embeddings import EndpointEncoder, open_endpoint
from synth.llm.known_models import PROBES
from synth.records import LLMError, SkiffError, UserError, text_id
from tests.embedding_server import EmbeddingServer, vector_of
from tests.synth.llm.raw_server import raw_server

KEY = "sk-SECRETKEY-0123456789"
TEXTS = ["a cat", "a dog that barks", "", "a pike in the reeds of a lake", "冬天"]


@pytest.fixture(autouse=True)
def quick_and_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """No proxy of the machine, and no long waits between attempts."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    for name in ("_BACKOFF", "_BETWEEN_CONNECTIONS"):
        monkeypatch.setattr(embedding_server, name, lambda state: 0.01)
    monkeypatch.setattr(embedding_server, "UNREACHABLE_SECONDS", 0.1)


@pytest.fixture
def encoder_of(tmp_path: Path) -> Callable[..., EndpointEncoder]:
    def opened(server: EmbeddingServer | str, model: str = "small", **settings: Any) -> EndpointEncoder:
        base_url = server if isinstance(server, str) else server.base_url
        return open_endpoint(base_url, model, **({"folder": tmp_path / "embeddings"} | settings))

    return opened


Opener = Callable[..., EndpointEncoder]


def expected(texts: list[str]) -> NDArray[np.float32]:
    rows = np.stack([vector_of(text) for text in texts])
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def error_of(doing: Callable[[], object], kind: type[SkiffError] = LLMError) -> str:
    with pytest.raises(kind) as caught:
        doing()
    said = str(caught.value)
    assert said.isprintable() and len(said) < 700
    return said


def assert_encoded(encoder: EndpointEncoder, texts: list[str]) -> None:
    found = encoder.encode(texts)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected([text or " " for text in texts]), atol=1e-6)


# ---- what is asked and what comes of it


@pytest.mark.parametrize("takes_base64", [True, False])
def test_texts_come_back_as_normalised_vectors_in_their_order(encoder_of: Opener, takes_base64: bool) -> None:
    texts = [f"text {number} " + "x" * (number % 50) for number in range(300)]
    with EmbeddingServer(takes_base64=takes_base64) as server:
        assert_encoded(encoder_of(server), [*TEXTS, *texts])
    formats = [body["encoding_format"] for body in server.asked]
    assert formats.count("base64") == (len(formats) if takes_base64 else 1)  # refused once is enough


def test_vectors_are_put_in_their_place_by_index_not_by_the_order_of_the_reply(encoder_of: Opener) -> None:
    with EmbeddingServer(change=lambda body: body | {"data": body["data"][::-1]}) as server:
        assert_encoded(encoder_of(server), TEXTS)


def test_without_indexes_the_order_of_the_reply_counts(encoder_of: Opener) -> None:
    def bare(body: dict[str, Any]) -> dict[str, Any]:
        return body | {"data": [{"embedding": row["embedding"]} for row in body["data"]]}

    with EmbeddingServer(change=bare) as server:
        assert_encoded(encoder_of(server), TEXTS)


def test_each_side_has_its_instruction_before_every_text(encoder_of: Opener) -> None:
    with EmbeddingServer() as server:
        encoder = encoder_of(server, query_instruction="query: ", passage_instruction="passage: ")
        encoder.for_queries().encode(["a"])
        encoder.for_passages().encode(["b"])
        encoder.encode(["c"])
    assert [text for text in server.texts if text not in PROBES] == ["query: a", "passage: b", "c"]


def test_dimensions_are_asked_of_the_server_and_stated(encoder_of: Opener) -> None:
    with EmbeddingServer() as server:
        encoder = encoder_of(server, dimensions=5)
        assert encoder.dimension == 5 and encoder.encode(TEXTS).shape == (5, 5)
        assert encoder.description == f"small at {server.base_url}, 5 dimensions"
        assert encoder.for_queries().name == "small" and "dimensions" in server.asked[0]
        encoder_of(server).encode(TEXTS)
    assert "dimensions" not in server.asked[-1]


def test_a_server_that_does_not_shorten_is_found_out(encoder_of: Opener) -> None:
    with EmbeddingServer(model=lambda text: vector_of(text)[:4]) as server:
        said = error_of(lambda: encoder_of(server, dimensions=5).dimension, UserError)
    assert "gives 4 dimensions and not the 5 asked for: leave dimensions out" in said


def test_several_requests_are_under_way_at_once_and_no_more_than_that(encoder_of: Opener) -> None:
    with EmbeddingServer(latency=0.2) as server:
        encoder_of(server).encode([f"text {number}" for number in range(128 * 12)])
    assert server.most_at_once == embedding_server.IN_FLIGHT


def test_a_request_is_bounded_by_texts_and_by_tokens_and_longest_go_first(encoder_of: Opener) -> None:
    most = embedding_server.REQUEST_TOKENS * embedding_server.BYTES_PER_TOKEN
    third, more = "冬" * (most // 9), "x" * (most + 9)
    texts = [third, *["short"] * 200, third, third, third, more]
    with EmbeddingServer(most_tokens=10**6) as server:
        encoder_of(server).encode(texts)
    assert sorted(server.sizes[1:]) == [1, 2, 74, 128]  # the second two of the four stand with short ones


def test_no_texts_are_asked_about_no_more_than_the_probes(encoder_of: Opener) -> None:
    with EmbeddingServer() as server:
        assert encoder_of(server).encode([]).shape == (0, 8)
    assert server.texts == [*PROBES]


# ---- sizes that servers refuse


def test_requests_are_halved_to_what_the_server_takes_and_that_is_remembered(encoder_of: Opener) -> None:
    texts = [f"text {number}" for number in range(640)]
    with EmbeddingServer(most_texts=10) as server:
        encoder = encoder_of(server)
        assert_encoded(encoder, texts)
        num_asked = len(server.sizes)
        assert_encoded(encoder, texts)
    assert set(server.sizes[num_asked:]) == {8}  # halves of 128
    assert num_asked < 130


def test_one_text_that_is_too_long_is_cut_and_counted_and_requests_stay_large(encoder_of: Opener) -> None:
    long = "lake " * 100
    texts = [f"text {number}" for number in range(400)]
    with EmbeddingServer(most_tokens=40) as server:
        encoder = encoder_of(server)
        found = encoder.encode([*texts, long])
        encoder.encode(texts)
    np.testing.assert_allclose(found, expected([*texts, long[:125]]), atol=1e-6)  # a quarter of 500 characters
    assert encoder.spent.cut == 1 and "; 1 were too long for it, and cut" in str(encoder.spent)
    assert sorted(server.sizes[-4:]) == [16, 128, 128, 128]


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (500, "input is too large to process. increase the physical batch size"),  # llama.cpp
        (429, "Request too large for small on tokens per min (TPM): Limit 40000, Requested 50000"),  # OpenAI
        (422, "Range of input length should be [1, 100]"),
    ],
)
def test_a_long_text_is_known_by_what_the_server_says_of_it(encoder_of: Opener, status: int, message: str) -> None:
    def answer(number: int, body: dict[str, Any]) -> tuple[int, Any] | None:
        is_long = any(len(text) > 100 for text in body["input"])
        return (status, {"error": {"message": message, "type": "server_error"}}) if is_long else None

    with EmbeddingServer(answer=answer) as server:
        encoder = encoder_of(server)
        encoder.encode(["x" * 160, "short"])
    assert encoder.spent.cut == 1 and len(server.asked) == 5


def test_a_request_that_takes_too_long_is_sent_again_in_halves(
    encoder_of: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedding_server, "TIMEOUT_SECONDS", 0.8)

    def answer(number: int, body: dict[str, Any]) -> None:
        if len(body["input"]) > 16:
            time.sleep(1.0)

    with EmbeddingServer(answer=answer) as server:
        encoder = encoder_of(server)
        assert_encoded(encoder, [f"text {number}" for number in range(32)])
        assert_encoded(encoder, [f"text {number}" for number in range(32)])
    assert server.sizes == [2, 32, 16, 16, 16, 16]


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


def test_a_text_that_is_refused_for_what_it_says_is_named_and_not_cut(encoder_of: Opener) -> None:
    def answer(number: int, body: dict[str, Any]) -> tuple[int, Any] | None:
        if not any("forbidden" in text for text in body["input"]):
            return None
        return 400, {"error": {"message": "your prompt was flagged", "code": "content_filter"}}

    with EmbeddingServer(answer=answer) as server:
        said = error_of(lambda: encoder_of(server).encode(["forbidden words"]))
    assert "does not take a text (400)" in said and "'forbidden words'" in said and len(server.asked) == 2


# ---- faults


@pytest.mark.parametrize("status", [429, 503])
def test_a_refusal_is_waited_out_as_long_as_it_says(encoder_of: Opener, status: int) -> None:
    def answer(number: int, body: dict[str, Any]) -> web.Response | None:
        return web.Response(status=status, text="slow down", headers={"Retry-After": "0.3"}) if number == 1 else None

    started = time.monotonic()
    with EmbeddingServer(answer=answer) as server:
        assert_encoded(encoder_of(server), TEXTS)
    assert 0.3 < time.monotonic() - started < 5 and len(server.asked) == 3


def test_a_refusal_for_longer_than_anybody_waits_ends_the_run(encoder_of: Opener) -> None:
    answer = web.Response(status=429, text="come back tomorrow", headers={"Retry-After": "3600"})
    with EmbeddingServer(answer=lambda number, body: answer) as server:
        said = error_of(lambda: encoder_of(server).encode(TEXTS))
    assert "takes no more requests for now" in said and "wait 3600 s, then run the same command" in said
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    "broken",
    [
        (500, {"error": {"message": "out of memory"}}),
        (502, "<html>a proxy</html>"),
        (200, {"error": {"message": "upstream failed", "code": 502}}),
        (200, ["no", "object"]),
    ],
)
def test_what_broke_on_the_way_is_asked_again(encoder_of: Opener, broken: tuple[int, Any]) -> None:
    with EmbeddingServer(answer=lambda number, body: broken if number in (1, 3) else None) as server:
        assert_encoded(encoder_of(server), TEXTS)
    assert len(server.asked) == 4


def test_a_server_that_only_fails_is_given_up(encoder_of: Opener) -> None:
    with EmbeddingServer(answer=lambda number, body: (500, {"error": "out of memory"})) as server:
        said = error_of(lambda: encoder_of(server).encode(TEXTS))
    assert "fails again and again; the last: 500: out of memory" in said
    assert len(server.asked) == embedding_server.MAX_RETRIES + 1


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


def test_a_model_that_is_not_there_says_what_to_check(encoder_of: Opener) -> None:
    with EmbeddingServer(answer=lambda number, body: (404, {"error": {"message": "no such model"}})) as server:
        said = error_of(lambda: encoder_of(server).encode(TEXTS))
    assert "(404): no such model; check the name of the model" in said and len(server.asked) == 1


def test_a_setting_that_the_server_refuses_is_no_matter_of_size(encoder_of: Opener) -> None:
    refusal = 400, {"error": {"message": "this model does not support dimensions"}}
    with EmbeddingServer(answer=lambda number, body: refusal) as server:
        said = error_of(lambda: encoder_of(server, dimensions=5).encode(TEXTS))
    assert "does not support dimensions; check the name of the model, base_url and dimensions" in said
    assert server.sizes == [2, 1]


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


def test_a_server_that_changes_its_dimension_is_found_out(encoder_of: Opener) -> None:
    with EmbeddingServer() as server:
        encoder = encoder_of(server)
        assert encoder.dimension == 8
        server.model = lambda text: vector_of(text, 9)
        assert "gives 9 dimensions, and gave 8" in error_of(lambda: encoder.encode(TEXTS))


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


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"server": "ftp://x"}, "the settings of the encoder: base_url must be"),
        ({"api_key_env": KEY}, "the settings of the encoder: api_key_env must name"),
        ({"model": " "}, "the settings of the encoder: model must be named"),
        ({"dimensions": 0}, "the settings of the encoder: dimensions must be 1 or more, not 0"),
    ],
)
def test_settings_that_make_no_sense_are_refused(encoder_of: Opener, settings: dict[str, Any], said: str) -> None:
    found = error_of(lambda: encoder_of(**({"server": "http://127.0.0.1:1/v1"} | settings)), UserError)
    assert said in found and KEY not in found


# ---- what is paid, and what is known again


def test_what_was_asked_is_counted_for_both_sides(encoder_of: Opener) -> None:
    with EmbeddingServer() as server:
        encoder = encoder_of(server)
        encoder.for_queries().encode(["four"] * 3)
        encoder.for_passages().encode(["eight888"])
    tokens = sum(len(text) // 4 for text in server.texts)
    assert str(encoder.spent) == f"6 texts in 3 requests, {tokens} tokens"


def test_a_server_that_counts_no_tokens_is_not_said_to_be_free(encoder_of: Opener) -> None:
    with EmbeddingServer(change=lambda body: body | {"usage": {"prompt_tokens": "many"}}) as server:
        encoder = encoder_of(server)
        encoder.encode(["four"])
    assert str(encoder.spent) == "3 texts in 2 requests"


def test_what_was_encoded_once_is_not_bought_again_wherever_the_server_is(encoder_of: Opener, tmp_path: Path) -> None:
    ids = [text_id(text) for text in TEXTS]
    for _ in range(2):
        with EmbeddingServer() as server:
            encoder = encoder_of(server)
            encoded = encode_cached(encoder, ids, TEXTS, tmp_path / "embeddings", lambda number: None)
    assert encoded.num_cached == len(TEXTS) and server.texts == [*PROBES]
    np.testing.assert_allclose(encoded.vectors_ND, expected([text or " " for text in TEXTS]), atol=1e-6)


def noisy(text: str) -> NDArray[np.float32]:
    """A model whose numbers differ in the fifth digit from one request to the next, as those of hosted ones do."""
    noise = np.random.default_rng().normal(scale=1e-5, size=2000)
    return (vector_of(text, 2000) / 45 + noise).astype(np.float32)


def test_a_model_is_known_again_by_vectors_that_are_nearly_the_same(encoder_of: Opener) -> None:
    with EmbeddingServer(noisy) as server:
        fingerprints = {encoder_of(server).fingerprint for _ in range(5)}
    assert len(fingerprints) == 1 and {len(each) for each in fingerprints} == {32}
    assert len(server.asked) == 6  # a model that is new is asked twice


def test_another_model_under_the_same_name_has_another_fingerprint_and_the_first_is_known_again(
    encoder_of: Opener,
) -> None:
    def tuned(text: str) -> NDArray[np.float32]:
        return vector_of(text) + np.float32(0.1) * vector_of("tuned " + text)

    with EmbeddingServer() as server:
        first = encoder_of(server).fingerprint
        server.model = tuned
        second = encoder_of(server).fingerprint
        server.model = vector_of
        assert encoder_of(server).fingerprint == first != second


def test_the_fingerprint_is_of_the_model_the_dimension_and_the_instruction(encoder_of: Opener) -> None:
    with EmbeddingServer() as server:
        plain, told = encoder_of(server), encoder_of(server, query_instruction="query: ")
        others = [encoder_of(server, "large"), encoder_of(server, dimensions=5)]
        assert told.for_passages().fingerprint == plain.for_passages().fingerprint == plain.for_queries().fingerprint
        known = [plain.fingerprint, plain.for_queries().fingerprint, told.fingerprint, told.for_queries().fingerprint]
        assert len({*known, *(each.fingerprint for each in others)}) == 6


def test_a_model_that_gives_a_text_another_vector_each_time_is_refused(encoder_of: Opener) -> None:
    with EmbeddingServer(lambda text: np.random.default_rng().normal(size=8).astype(np.float32)) as server:
        said = error_of(lambda: encoder_of(server).fingerprint, UserError)
    assert "gives the same text different vectors (cosine " in said


@pytest.mark.parametrize("damage", [None, np.ones((3, 8), dtype=np.float32), np.array([["x"] * 8] * 2)])
def test_a_damaged_file_of_known_models_recognises_nothing_and_is_written_anew(
    encoder_of: Opener, tmp_path: Path, damage: NDArray[Any] | None
) -> None:
    with EmbeddingServer() as server:
        first = encoder_of(server).fingerprint
        [path] = (tmp_path / "embeddings").rglob("*.npy")
        if damage is None:
            path.write_bytes(path.read_bytes()[:50])
        else:
            np.save(path, damage)
        assert encoder_of(server).fingerprint == first


def test_a_folder_that_cannot_be_written_is_named(encoder_of: Opener, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with EmbeddingServer() as server:
        said = error_of(lambda: encoder_of(server, folder=tmp_path / "file").fingerprint, SkiffError)
    assert "file" in said and "cannot be" in said
