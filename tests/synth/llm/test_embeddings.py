"""An encoder at a server over real HTTP: its instructions and settings, what it costs, how its model is known again."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from mining.cache import encode_cached
from synth.llm.known_models import PROBES
from synth.records import SkiffError, UserError, text_id
from tests.embedding_server import EmbeddingServer, vector_of
from tests.synth.llm.embedding import TEXTS, Opener, error_of, expected

KEY = "sk-SECRETKEY-0123456789"


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


def test_what_was_asked_is_counted_for_both_sides(encoder_of: Opener) -> None:
    with EmbeddingServer() as server:
        encoder = encoder_of(server)
        encoder.for_queries().encode(["four"] * 3)
        encoder.for_passages().encode(["eight888"])
    tokens = sum(len(text) // 4 for text in server.texts)
    assert str(encoder.spent) == f"6 texts in 3 requests, {tokens} tokens"


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
