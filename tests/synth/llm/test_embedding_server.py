"""An embeddings server at work over real HTTP: how much it is asked at once, what is asked again, what ends a run."""

import time
from typing import Any

import numpy as np
import pytest
from aiohttp import web

from synth.llm import embedding_server
from synth.llm.known_models import PROBES
from tests.embedding_server import EmbeddingServer, vector_of
from tests.synth.llm.embedding import TEXTS, Opener, assert_encoded, error_of, expected


@pytest.mark.parametrize("takes_base64", [True, False])
def test_texts_come_back_as_normalised_vectors_in_their_order(encoder_of: Opener, takes_base64: bool) -> None:
    texts = [f"text {number} " + "x" * (number % 50) for number in range(300)]
    with EmbeddingServer(takes_base64=takes_base64) as server:
        assert_encoded(encoder_of(server), [*TEXTS, *texts])
    formats = [body["encoding_format"] for body in server.asked]
    assert formats.count("base64") == (len(formats) if takes_base64 else 1)  # refused once is enough


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


def test_a_server_that_changes_its_dimension_is_found_out(encoder_of: Opener) -> None:
    with EmbeddingServer() as server:
        encoder = encoder_of(server)
        assert encoder.dimension == 8
        server.model = lambda text: vector_of(text, 9)
        assert "gives 9 dimensions, and gave 8" in error_of(lambda: encoder.encode(TEXTS))
