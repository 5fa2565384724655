"""Low-rank updates: they alone are trained, and what is exported is an ordinary model."""

import dataclasses
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from mining.hardware import Hardware
from tests.trainer.conftest import Write
from trainer.config import Config, read_config
from trainer.encoder import load_encoder
from trainer.loop import train
from trainer.release import Release

CPU = Hardware("cpu", "fp32", "a test")


@pytest.fixture
def config(write_config: Write) -> Config:
    return read_config(str(write_config(("lora_rank = 0", "lora_rank = 2"))))


@pytest.mark.parametrize("model", ["bert", "qwen"])
def test_updates_alone_are_trained_and_begin_as_nothing(models: dict[str, Path], model: str):
    plain, updated = load_encoder(str(models[model]), CPU), load_encoder(str(models[model]), CPU, lora=2)
    trained = {name for name, weight in updated.model.named_parameters() if weight.requires_grad}
    assert trained and all("lora_" in name for name in trained)
    token_ids = [[11, 12, 13, 14], [15, 16]]
    assert torch.equal(plain.embed(token_ids), updated.embed(token_ids))
    assert updated.packed_tokens == plain.packed_tokens > 0


def test_the_exported_model_is_an_ordinary_one_with_the_updates_in_its_weights(
    release: Release, config: Config, models: dict[str, Path], tmp_path: Path
):
    outcome = train(release, config, tmp_path / "model")
    before, after = (load_file(path / "model.safetensors") for path in (models["qwen"], outcome.output))
    assert before.keys() == after.keys()
    changed = {name for name in before if not before[name].equal(after[name])}
    assert changed == {name for name in before if name.endswith("proj.weight")}
    again = train(release, dataclasses.replace(config, checkpoint_steps=3), tmp_path / "again")
    same = load_file(again.output / "model.safetensors")
    assert all(after[name].equal(same[name]) for name in after)
    from sentence_transformers import SentenceTransformer

    vector = SentenceTransformer(str(outcome.output), device="cpu").encode(["the cat"])
    loaded = load_encoder(str(outcome.output), CPU)
    ours = loaded.embed(loaded.tokenise(["the cat"], [32])).detach()
    assert torch.allclose(torch.tensor(vector), ours, atol=1e-5)
