"""The encoder: attention both ways, padding without effect, lengths kept, and which models are refused."""

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from mining.hardware import Hardware
from synth.records import UserError
from trainer.encoder import Encoder, Pooling, choose_hardware, load_encoder, mini_batches, pool

CPU = Hardware("cpu", "fp32", "a test")
TEXTS = ["the cat is red", "the owl", "where does the fox of tale 7 live, near the red river or the blue river"]


@pytest.fixture(params=["bert", "qwen", "qwen3", "llama", "mistral", "xlmr"])
def encoder(request: pytest.FixtureRequest, models: dict[str, Path]) -> Encoder:
    return load_encoder(str(models[request.param]), CPU)


def states(encoder: Encoder, token_ids: list[int], mask: list[int] | None = None) -> torch.Tensor:
    ids, ones = torch.tensor([token_ids]), torch.tensor([mask or [1] * len(token_ids)])
    with torch.no_grad():
        return encoder.model(input_ids=ids, attention_mask=ones, use_cache=False).last_hidden_state[0]


def test_a_decoder_becomes_bidirectional(models: dict[str, Path]):
    from transformers import AutoModel

    encoder = load_encoder(str(models["qwen"]), CPU)
    assert encoder.made_bidirectional
    changed = states(encoder, [5, 6, 7, 8])[0] - states(encoder, [5, 6, 7, 9])[0]
    assert changed.abs().max() > 1e-4
    causal = AutoModel.from_pretrained(models["qwen"])
    first, second = causal(input_ids=torch.tensor([[5, 6, 7, 8], [5, 6, 7, 9]])).last_hidden_state[:, 0]
    assert torch.equal(first, second)


def test_an_encoder_is_left_as_it_came(models: dict[str, Path]):
    encoder = load_encoder(str(models["bert"]), CPU)
    assert not encoder.made_bidirectional
    assert encoder.model.config.to_dict().get("is_causal") is None


def test_texts_have_the_same_vector_alone_and_among_longer_ones(encoder: Encoder):
    token_ids = encoder.tokenise(TEXTS, [32] * 3)
    together = encoder.embed(token_ids)
    alone = torch.cat([encoder.embed([ids]) for ids in token_ids])
    assert torch.allclose(together, alone, atol=1e-6)
    assert torch.allclose(together.norm(dim=1), torch.ones(3))
    assert together.dtype is torch.float32


@pytest.mark.parametrize("pooling", ["mean", "last"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_texts_end_to_end_have_the_vectors_and_gradients_that_they_have_one_by_one(
    encoder: Encoder, pooling: Pooling, precision: Any
):
    assert encoder.packed_tokens == encoder.max_tokens
    texts = [*TEXTS, *(" ".join(TEXTS)[: 5 * number] for number in range(2, 12))]
    token_ids = encoder.tokenise(texts, [40] * len(texts))
    found = []
    for packed in (encoder.max_tokens, 0):
        either = dataclasses.replace(
            encoder, packed_tokens=packed, pooling=pooling, hardware=Hardware("cpu", precision, "a test")
        )
        vectors = either.embed(token_ids) if packed else torch.cat([either.embed([ids]) for ids in token_ids])
        encoder.model.zero_grad()
        (vectors @ torch.arange(32.0)).square().sum().backward()
        gradient = torch.cat([each.grad.flatten() for each in encoder.model.parameters() if each.grad is not None])
        found.append((vectors.detach(), gradient))
    (one, gradient_one), (other, gradient_other) = found
    exact = precision == "fp32"
    assert (one - other).abs().max() < (1e-5 if exact else 0.03)
    assert (gradient_one - gradient_other).norm() / gradient_other.norm() < (1e-5 if exact else 0.2)


def test_a_decoder_left_causal_is_packed_causal(models: dict[str, Path]):
    encoder = load_encoder(str(models["qwen"]), CPU, bidirectional=False)
    assert not encoder.made_bidirectional
    token_ids = encoder.tokenise(TEXTS, [32] * 3)
    alone = torch.cat([dataclasses.replace(encoder, packed_tokens=0).embed([ids]) for ids in token_ids])
    assert torch.allclose(encoder.embed(token_ids), alone, atol=1e-6)
    both_ways = load_encoder(str(models["qwen"]), CPU).embed(token_ids)
    assert (both_ways - alone).abs().max() > 1e-3


def test_a_model_that_attends_to_neighbours_is_packed_up_to_half_its_window(models: dict[str, Path]):
    encoder = load_encoder(str(models["modernbert"]), CPU)
    assert encoder.packed_tokens == 4
    token_ids = encoder.tokenise(TEXTS, [32] * 3)
    assert min(map(len, token_ids)) <= 4 < max(map(len, token_ids))
    together = torch.cat([encoder.embed([ids]) for ids in token_ids])
    assert torch.allclose(encoder.embed(token_ids), together, atol=1e-6)


def test_padding_on_the_left_and_on_the_right_give_the_same_vector(models: dict[str, Path]):
    encoder = load_encoder(str(models["qwen"]), CPU)
    ids = encoder.tokenise(TEXTS[:1], [32])[0]
    pad, ones, zeros = [0] * 5, [1] * len(ids), [0] * 5
    length = torch.tensor([len(ids)])
    left = pool(states(encoder, pad + ids, zeros + ones)[5:], length, "mean")
    right = pool(states(encoder, ids + pad, ones + zeros)[:-5], length, "mean")
    alone = pool(states(encoder, ids), length, "mean")
    assert torch.allclose(left, right, atol=1e-5)
    assert torch.allclose(alone, right, atol=1e-5)


def test_each_text_is_cut_to_its_own_length_and_keeps_its_last_special_token(models: dict[str, Path]):
    encoder = load_encoder(str(models["bert"]), CPU)
    long = " ".join(TEXTS)
    first, second = encoder.tokenise([long, long], [8, 12])
    assert (len(first), len(second)) == (8, 12)
    assert first[-1] == second[-1] == encoder.tokenizer.sep_token_id
    assert len(encoder.tokenise([long * 9], [1000])[0]) == encoder.max_tokens == 64


def test_an_empty_text_is_encoded_as_the_report_does(encoder: Encoder):
    empty, told = encoder.tokenise([" \n", "Null"], [8, 8])
    assert empty == told
    assert torch.equal(*encoder.embed([empty, told]).unbind())


def test_bf16_is_for_the_products_alone(models: dict[str, Path]):
    exact = load_encoder(str(models["qwen"]), CPU)
    rough = load_encoder(str(models["qwen"]), Hardware("cpu", "bf16", "a test"))
    token_ids = exact.tokenise(TEXTS, [32] * 3)
    vectors = rough.embed(token_ids)
    assert vectors.dtype is torch.float32
    assert {weight.dtype for weight in rough.model.parameters()} == {torch.float32}
    difference = (vectors - exact.embed(token_ids)).abs().max()
    assert 0 < difference < 0.05


def test_a_checkpoint_in_bf16_is_trained_in_fp32(models: dict[str, Path], tmp_path: Path):
    from transformers import AutoModel

    shutil.copytree(models["qwen"], tmp_path / "model")
    AutoModel.from_pretrained(models["qwen"], dtype=torch.bfloat16).save_pretrained(tmp_path / "model")
    encoder = load_encoder(str(tmp_path / "model"), CPU)
    assert {weight.dtype for weight in encoder.model.parameters()} == {torch.float32}


def test_mini_batches_hold_every_text_once_longest_first_within_the_budget():
    lengths = [3, 50, 7, 7, 12, 1, 90, 12]
    groups = mini_batches(lengths, 48)
    assert sorted(place for group in groups for place in group) == list(range(8))
    assert [lengths[place] for group in groups for place in group] == sorted(lengths, reverse=True)
    for group in groups:
        assert len(group) * max(lengths[place] for place in group) <= 48 or len(group) == 1
    packed = mini_batches(lengths, 48, packed_tokens=50)
    assert [[lengths[place] for place in group] for group in packed] == [[90], [50], [12, 12, 7, 7, 3, 1]]


def test_the_device_and_the_precision_are_stated_with_the_reason():
    assert str(choose_hardware("cpu", "fp32")) == "cpu, fp32 (as configured)"
    able = torch.cpu.get_capabilities()
    chosen = choose_hardware("cpu", "auto")
    assert (chosen.precision == "bf16") == bool(able.get("avx512_bf16") or able.get("amx_bf16"))
    assert "this processor has" in chosen.reason
    for device in ("warp", "meta", "cpu:x"):
        with pytest.raises(UserError, match=f"no device {device} on this machine"):
            choose_hardware(device, "auto")


@pytest.mark.parametrize("name", ["./nowhere", "no-such-package", "/nowhere/at/all", "package:nothing"])
def test_a_model_that_is_not_there_is_refused_without_a_network(name: str):
    with pytest.raises(UserError):
        load_encoder(name, CPU)


def test_a_folder_without_a_model_or_with_a_broken_one_is_refused(models: dict[str, Path], tmp_path: Path):
    with pytest.raises(UserError, match="cannot load the model"):
        load_encoder(str(tmp_path), CPU)
    shutil.copytree(models["bert"], tmp_path / "broken")
    (tmp_path / "broken" / "model.safetensors").write_bytes(b"\x00" * 100)
    with pytest.raises(UserError, match="cannot load the model"):
        load_encoder(str(tmp_path / "broken"), CPU)


def test_a_model_whose_file_lacks_weights_is_refused(models: dict[str, Path], tmp_path: Path):
    from safetensors.torch import load_file, save_file

    shutil.copytree(models["bert"], tmp_path / "model")
    path = tmp_path / "model" / "model.safetensors"
    weights = {name: weight for name, weight in load_file(path).items() if "layer.1." not in name}
    save_file(weights, path, metadata={"format": "pt"})
    with pytest.raises(UserError, match=r"its file lacks 16 weights \(encoder\.layer\.1"):
        load_encoder(str(tmp_path / "model"), CPU)


def test_a_sentence_transformers_folder_with_a_layer_of_its_own_is_refused(models: dict[str, Path], tmp_path: Path):
    shutil.copytree(models["bert"], tmp_path / "model")
    modules = [{"type": f"sentence_transformers.models.{kind}", "path": ""} for kind in ("Transformer", "Dense")]
    (tmp_path / "model" / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(UserError, match="has a Dense layer, which is not trained here"):
        load_encoder(str(tmp_path / "model"), CPU)


def test_a_sentence_transformers_folder_may_keep_its_transformer_below(models: dict[str, Path], tmp_path: Path):
    shutil.copytree(models["bert"], tmp_path / "model" / "0_Transformer")
    modules = [{"type": "sentence_transformers.models.Transformer", "path": "0_Transformer"}]
    (tmp_path / "model" / "modules.json").write_text(json.dumps(modules))
    (tmp_path / "model" / "0_Transformer" / "sentence_bert_config.json").write_text('{"max_seq_length": 24}')
    encoder = load_encoder(str(tmp_path / "model"), CPU)
    assert (encoder.stated_tokens, encoder.max_tokens) == (24, 64)


@pytest.mark.parametrize("kind", ["bert", "xlmr", "qwen"])
def test_a_model_without_a_tokenizer_is_refused(models: dict[str, Path], tmp_path: Path, kind: str):
    shutil.copytree(models[kind], tmp_path / "model", ignore=shutil.ignore_patterns("tok*", "vocab*", "merges*"))
    with pytest.raises(UserError, match=r"has no tokenizer|cannot load the model"):
        load_encoder(str(tmp_path / "model"), Hardware("cpu", "fp32", "a test"))


@pytest.mark.parametrize(
    "broken",
    [
        {"hidden_size": "x"},
        {"num_hidden_layers": 0},
        {"num_attention_heads": 0},
        {"hidden_size": 64},
        {"hidden_act": "sing"},
        {"pad_token_id": 10**6},
        {"max_position_embeddings": -5},
        {"vocab_size": 100},
    ],
)
def test_settings_of_a_model_that_do_not_fit_are_told_in_one_line(
    models: dict[str, Path], tmp_path: Path, broken: dict[str, Any]
):
    shutil.copytree(models["qwen"], tmp_path / "model")
    settings = json.loads((tmp_path / "model" / "config.json").read_text())
    (tmp_path / "model" / "config.json").write_text(json.dumps(settings | broken))
    with pytest.raises(UserError) as caught:
        load_encoder(str(tmp_path / "model"), Hardware("cpu", "fp32", "a test"))
    assert "\n" not in str(caught.value)
