"""The model folder: every reader loads the same encoder from it, and its card tells where it comes from."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.functional import normalize

from mining.hardware import Hardware
from synth.records import SkiffError
from tests.trainer.conftest import INSTRUCTION, Write, samples
from trainer.card import escape, model_card, write_card
from trainer.config import Config
from trainer.encoder import Encoder, load_encoder, pool
from trainer.export import export_model, query_prompts
from trainer.release import Release, read_release

TEXTS = ["the cat is red", "where does the fox of tale 7 live"]
RUN: dict[str, Any] = {
    "release": {"name": "tiny", "digest": "d1"},
    "config": {"model": "org/small", "seed": 3, "pooling": "mean", "stages": [{"steps": 8}, {"steps": 4}]},
    "plan": "p1",
    "hardware": {"device": "cpu", "precision": "fp32"},
    "notes": ["stage 1: few samples"],
    "sources": [{"name": "animals", "origin": "a | b", "licence": "CC0", "version": "1"}],
    "made_bidirectional": True,
    "seconds": 1.5,
}


@pytest.fixture(params=["bert", "qwen"])
def encoder(request: pytest.FixtureRequest, models: dict[str, Path]) -> Encoder:
    return load_encoder(str(models[request.param]), Hardware("cpu", "fp32", "a test"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "run.json").write_text(json.dumps(RUN))
    return tmp_path / "model"


def test_sentence_transformers_and_transformers_read_the_vectors_that_were_trained(
    encoder: Encoder, release: Release, config: Config, folder: Path
):
    from sentence_transformers import SentenceTransformer
    from transformers import AutoModel, AutoTokenizer

    export_model(encoder, release, config, folder)
    ours = encoder.embed(encoder.tokenise(TEXTS, [32, 32])).detach()
    loaded = SentenceTransformer(str(folder), device="cpu")
    assert [type(module).__name__ for module in loaded] == ["Transformer", "Pooling", "Normalize"]
    assert torch.allclose(torch.tensor(loaded.encode(TEXTS)), ours, atol=1e-6)
    inputs = AutoTokenizer.from_pretrained(folder)(TEXTS, padding=True, return_tensors="pt")
    hidden = AutoModel.from_pretrained(folder)(**inputs).last_hidden_state.detach()
    mask = inputs["attention_mask"].bool()
    pooled = normalize(pool(hidden[mask], mask.sum(dim=1), "mean"), dim=-1)
    assert torch.allclose(pooled, ours, atol=1e-6)
    is_causal = json.loads((folder / "config.json").read_text()).get("is_causal")
    assert is_causal is (False if encoder.made_bidirectional else None)


def test_a_query_encoded_by_the_folder_has_the_prefix_that_was_trained(
    models: dict[str, Path], release: Release, config: Config, folder: Path
):
    from sentence_transformers import SentenceTransformer

    encoder = load_encoder(str(models["qwen"]), Hardware("cpu", "fp32", "a test"))
    export_model(encoder, release, config, folder)
    loaded = SentenceTransformer(str(folder), device="cpu")
    ours = encoder.embed(encoder.tokenise([f"Instruct: {INSTRUCTION}\nQuery: {TEXTS[0]}"], [48])).detach()
    assert torch.allclose(torch.tensor(loaded.encode_query(TEXTS[:1])), ours, atol=1e-6)
    assert torch.allclose(
        torch.tensor(loaded.encode_document(TEXTS)),
        encoder.embed(encoder.tokenise(TEXTS, [48] * 2)).detach(),
        atol=1e-6,
    )
    assert loaded.max_seq_length == 128  # what the model allows, not what one training read of its texts


def test_datasets_with_different_instructions_have_no_common_query_prompt(write_release: Write):
    rows = samples()["retrieval"]
    for row in rows[36:]:
        row["instruction"] = "Find the beast"
    prompts = query_prompts(read_release(write_release({"retrieval": rows})))
    assert prompts["query"] == prompts["document"] == ""
    assert prompts["beasts"] == "Instruct: Find the beast\nQuery: "
    assert prompts["animals"] == f"Instruct: {INSTRUCTION}\nQuery: "


def test_a_trained_model_can_be_trained_again(models: dict[str, Path], release: Release, config: Config, folder: Path):
    export_model(load_encoder(str(models["qwen"]), Hardware("cpu", "fp32", "a test")), release, config, folder)
    encoder = load_encoder(str(folder), Hardware("cpu", "fp32", "a test"))
    assert not encoder.made_bidirectional  # it is already
    assert encoder.max_tokens == encoder.stated_tokens == 128


def test_the_card_tells_base_model_release_sources_settings_and_that_there_are_no_scores_yet(folder: Path):
    write_card(folder)
    card = (folder / "README.md").read_text()
    assert 'base_model: "org/small"' in card
    assert "the release tiny (digest d1)" in card
    assert r"| animals | a \| b | CC0 | 1 |" in card
    assert "| seed | 3 |" in card and "| 2 | 4 |" in card
    assert "was made bidirectional" in card and "- stage 1: few samples" in card
    assert "Not evaluated yet" in card
    assert "Mean pooling" in card and "release.md" not in card
    held_out = RUN["sources"][0] | {"name": "beasts", "declared_use": "eval"}
    assert "beasts" not in model_card(RUN | {"sources": [*RUN["sources"], held_out]}, None)
    last = model_card(RUN | {"config": RUN["config"] | {"pooling": "last"}, "has_datasheet": True}, None)
    assert "The last token's state, then" in last and "[release.md](release.md)" in last


def test_hostile_names_are_shown_not_obeyed():
    source = {"name": "[x](javascript:1)\n# head", "origin": "<script>", "licence": "a|b`", "version": "\x1b[2J"}
    card = model_card(RUN | {"sources": [source], "release": {"name": "![](http://x)", "digest": "d"}}, None)
    assert r"\[x\]\(javascript:1\) \# head" in card
    assert "&lt;script&gt;" in card and "<script>" not in card
    assert r"a\|b\`" in card
    assert "\x1b" not in card
    assert "![" not in card


def test_only_a_name_of_the_hub_stands_in_the_front_matter():
    card = model_card(RUN | {"config": RUN["config"] | {"model": "/home/me/x\nlicense: mit"}}, None)
    assert "base_model" not in card
    assert "\nlicense: mit" not in card


@pytest.mark.parametrize(
    ("text", "shown"), [("plain words, 1.5", "plain words, 1.5"), ("a_b*c", r"a\_b\*c"), (None, "None")]
)
def test_escape_leaves_words_as_they_are(text: object, shown: str):
    assert escape(text) == shown


def test_a_folder_without_its_record_gets_no_card(tmp_path: Path):
    with pytest.raises(SkiffError, match=r"run\.json is missing or broken"):
        write_card(tmp_path)


def test_a_disk_that_is_full_is_told_and_leaves_the_old_file(folder: Path, monkeypatch: pytest.MonkeyPatch):
    write_card(folder)
    before = (folder / "README.md").read_text()
    (folder / "README.md.part").mkdir()  # stands in the way as a full disk would
    with pytest.raises(SkiffError, match=r"cannot write .*README\.md"):
        write_card(folder)
    assert (folder / "README.md").read_text() == before
