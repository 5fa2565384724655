"""Tiny random models, a tiny release and the command, all real."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

if TYPE_CHECKING:
    from trainer.config import Config
    from trainer.release import Release

ANIMALS = ["cat", "dog", "fox", "owl", "hen", "bee", "ant", "cow", "pig", "bat", "elk", "emu"]
COLOURS = ["red", "blue", "green", "white", "black", "brown"]
INSTRUCTION = "Find the passage on the animal"

CONFIG = """
model = "{model}"
seed = 3
device = "cpu"
precision = "fp32"
attention = "full"
pooling = "mean"
lora_rank = 0
temperature = 0.05
sts_temperature = 0.2
document_negatives = false
false_negative_margin = 0.0
distillation = "none"
distillation_weight = 1.0
matryoshka = []
size_exponent = 0.5
hard_negatives = 2
query_tokens = 32
passage_tokens = 48
weight_decay = 0.01
max_gradient_norm = 1.0
mini_batch_tokens = 128
gradient_cache = true
sharded = false
checkpoint_steps = 4
keep_checkpoints = 1
dev_samples = 0
evaluate_steps = 0
patience = 0

[[stages]]
steps = 8
learning_rate = 1e-3
warmup_steps = 2
retrieval_share = 1.0
batch_size = 8
sts_batch_size = 6

[[stages]]
steps = 8
learning_rate = 5e-4
warmup_steps = 2
retrieval_share = 0.5
batch_size = 8
sts_batch_size = 6
"""

Write = Callable[..., Path]


def passage(animal: str, colour: str) -> str:
    return (
        f"{animal} tales\nThe {animal} is {colour} and it lives near the {colour} river, says the tale of the {animal}."
    )


def columns(dataset: str, number: int, instruction: str = "") -> dict[str, Any]:
    identity = f"{dataset}-{number:03d}"
    return {
        "sample_id": f"id-{identity}",
        "revision_id": f"revision-{identity}",
        "content_hash": identity,
        "dataset": dataset,
        "operation": "ingest",
        "method": "",
        "instruction": instruction,
    }


def retrieval_rows(dataset: str, num_samples: int, instruction: str = "") -> list[dict[str, Any]]:
    rows = []
    for number in range(num_samples):
        animal, colour = ANIMALS[number % 12], COLOURS[number // 12 % 6]
        others = [passage(ANIMALS[(number + step) % 12], colour) for step in range(1, number % 4 + 1)]
        rows.append(
            columns(dataset, number, instruction)
            | {
                "query": f"what colour is the {animal} of tale {number}",
                "positives": [passage(animal, colour)],
                "negatives": [
                    {"text": text, "origin": "mined", "rank": rank, "score": 0.5, "positive_score": 0.7}
                    for rank, text in enumerate(others, start=1)
                ],
            }
        )
    return rows


def sts_rows(dataset: str, num_samples: int) -> list[dict[str, Any]]:
    return [
        columns(dataset, number)
        | {
            "text1": f"a {ANIMALS[number % 12]} runs",
            "text2": f"a {ANIMALS[number % 5]} sleeps",
            "score": number % 4 + 0.5,
        }
        for number in range(num_samples)
    ]


def classification_rows(dataset: str, num_samples: int, num_classes: int = 3) -> list[dict[str, Any]]:
    return [
        columns(dataset, number)
        | {"text": f"the {ANIMALS[number % 12]} is number {number}", "label": COLOURS[number % num_classes]}
        for number in range(num_samples)
    ]


def samples() -> dict[str, list[dict[str, Any]]]:
    return {
        "retrieval": retrieval_rows("animals", 36, INSTRUCTION) + retrieval_rows("beasts", 9, INSTRUCTION),
        "sts": sts_rows("pairs", 16),
        "classification": classification_rows("moods", 24),
    }


def write_lines(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def write_eval(folder: Path) -> None:
    corpus = [
        {"doc_id": animal, "title": f"{animal} tales", "text": passage(animal, "red").split("\n")[1]}
        for animal in ANIMALS
    ]
    write_lines(folder / "retrieval" / "animals" / "corpus.jsonl", corpus)
    queries = [{"query_id": f"q-{animal}", "text": f"where does the {animal} live"} for animal in ANIMALS]
    write_lines(folder / "retrieval" / "animals" / "queries.jsonl", queries)
    qrels = [{"query_id": f"q-{animal}", "doc_id": animal, "score": 1} for animal in ANIMALS[:-1]]
    judged_wrong = [{"query_id": "q-cat", "doc_id": animal, "score": 0} for animal in ANIMALS[1:]]
    write_lines(folder / "retrieval" / "animals" / "qrels.jsonl", qrels + judged_wrong)
    write_lines(
        folder / "pairs" / "pairs.jsonl",
        [{key: row[key] for key in ("text1", "text2", "score")} for row in sts_rows("pairs", 10)],
    )
    write_lines(
        folder / "labelled" / "moods.jsonl",
        [{key: row[key] for key in ("text", "label")} for row in classification_rows("moods", 12)],
    )


@pytest.fixture
def write_release(tmp_path: Path) -> Write:
    """Write a release: its samples by task, the manifest's keys that shall differ."""

    def write(tables: dict[str, list[dict[str, Any]]] | None = None, name: str = "tiny", **manifest: Any) -> Path:
        folder = tmp_path / "releases" / name
        (folder / "samples").mkdir(parents=True)
        for task, rows in (samples() if tables is None else tables).items():
            if rows:
                pq.write_table(pa.Table.from_pylist(rows), folder / "samples" / f"{task}.parquet")
        write_eval(folder / "eval")
        sources = [{"name": "animals", "licence": "CC0"}]
        told = {
            "format": 1,
            "name": name,
            "digest": "d1",
            "policy": {},
            "counts": {},
            "sources": sources,
            "held_out": [],
        }
        (folder / "manifest.json").write_text(json.dumps(told | manifest))
        return folder

    return write


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    """Tiny models gain nothing from a second thread, and results do not depend on the machine."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Models of two layers with random weights: two with a tokenizer of their own kind, others with one of these."""
    import torch
    from transformers import BertConfig, BertModel, BertTokenizer, Qwen2Config, Qwen2Model, Qwen2Tokenizer

    folder = tmp_path_factory.mktemp("models")
    texts = [passage(animal, colour) for animal in ANIMALS for colour in COLOURS] * 2
    size = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
    torch.manual_seed(0)
    tokenizer = BertTokenizer().train_new_from_iterator(texts, 300)
    bert = BertModel(BertConfig(**size, vocab_size=len(tokenizer), max_position_embeddings=64, initializer_range=0.1))
    bert.save_pretrained(folder / "bert")
    tokenizer.save_pretrained(folder / "bert")
    tokenizer = Qwen2Tokenizer().train_new_from_iterator(texts, 400)
    wide = {"num_key_value_heads": 2, "vocab_size": len(tokenizer), "max_position_embeddings": 128}
    Qwen2Model(Qwen2Config(**size, **wide, initializer_range=0.1)).save_pretrained(folder / "qwen")
    tokenizer.save_pretrained(folder / "qwen")
    _save_more(folder, size | {"vocab_size": len(tokenizer), "max_position_embeddings": 128, "initializer_range": 0.1})
    return {path.name: path for path in folder.iterdir()}


def _save_more(folder: Path, size: dict[str, Any]) -> None:
    """Other architectures, with the tokenizer of Qwen2, whose numbers mean nothing to random weights."""
    from transformers import AutoConfig, AutoModel

    kinds: dict[str, tuple[str, dict[str, Any]]] = {
        "qwen3": ("qwen3", {"num_key_value_heads": 2, "head_dim": 8}),
        "llama": ("llama", {"num_key_value_heads": 2}),
        "mistral": ("mistral", {"num_key_value_heads": 2, "sliding_window": None}),
        "xlmr": ("xlm-roberta", {"pad_token_id": 1}),
        "modernbert": ("modernbert", {"local_attention": 16, "pad_token_id": 1, "cls_token_id": 0, "sep_token_id": 2}),
    }
    for name, (kind, own) in kinds.items():
        AutoModel.from_config(AutoConfig.for_model(kind, **(size | own))).save_pretrained(folder / name)
        for file in ("tokenizer.json", "tokenizer_config.json"):
            shutil.copy(folder / "qwen" / file, folder / name)


@pytest.fixture
def write_config(tmp_path: Path, models: dict[str, Path]) -> Write:
    """Write a configuration for a tiny model, with lines replaced."""

    def write(*changes: tuple[str, str], model: str = "qwen") -> Path:
        text = CONFIG.replace("{model}", str(models[model]))
        for old, new in changes:
            assert old in text
            text = text.replace(old, new)
        path = tmp_path / "tiny.toml"
        path.write_text(text)
        return path

    return write


@pytest.fixture
def config(write_config: Write) -> "Config":
    """That configuration as it is."""
    from trainer.config import read_config

    return read_config(str(write_config()))


@pytest.fixture
def release(write_release: Write) -> "Release":
    """That release as it is."""
    from trainer.release import read_release

    return read_release(write_release())


def command(*arguments: object, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run `trainer` as a user would, without a network to wait for."""
    line = [sys.executable, "-c", "from trainer.cli import main; main()", *map(str, arguments)]
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    return subprocess.run(line, capture_output=True, text=True, check=False, env=environment, timeout=120, **options)
