"""
What the search for overlaps and near-duplicates costs and finds, against a floor and a peer in the same run.

Example: python benchmarks/contamination.py --quick

Cost: texts a second of `EvalIndex.find`, `near_duplicates` and the whole of `synth check`, each beside one SHA-256 a
text, and of `near_duplicates` beside the same steps with datasketch where that is installed. The texts are real ones
of --data, cut in halves and joined at random. Findings: of the held-out texts of --data, edited in stated ways, the
share that is still found; of its texts to train on, the share that is flagged. Parts run in processes of their own.
Ends with one line of JSON.
"""

import argparse
import hashlib
import importlib.util
import json
import multiprocessing
import random
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any
from uuid import UUID

HERE = Path(__file__).resolve().parent
SEED = 0
NUM_EVAL = 20_000  # held-out texts in memory
PEER_TEXTS = 10_000  # datasketch is given so many only
EVAL_SOURCE = UUID(int=1)
# Floors, far below what was measured, so that a noisy machine passes: find, near_duplicates and check in texts a
# second, near_duplicates by datasketch's rate.
FLOORS = {"find_per_s": 8_000, "near_per_s": 5_000, "check_per_s": 1_000, "near_vs_datasketch": 1.5}

Figures = dict[str, float]


def main() -> None:
    """Run all parts; figures go to standard output, progress to standard error."""
    options = _options()
    figures: Figures = {}
    parts: dict[str, Callable[..., Figures]] = {"find": find, "near": near, "peer": peer, "check": check}
    sizes = {"peer": PEER_TEXTS, "check": min(options.num, 200_000)}
    for name, part in parts.items():
        figures |= _apart(name, part, options.data, sizes.get(name, options.num))
    for name in ("squad-en", "cmrc-zh", "banking77-en", "stsb-en", "sib200-zh"):
        figures |= _apart(f"findings in {name}", findings, options.data, name)
    if "datasketch_per_s" in figures:
        figures["near_vs_datasketch"] = figures["near_peer_size_per_s"] / figures["datasketch_per_s"]
    sys.stdout.write(json.dumps({key: round(value, 4) for key, value in figures.items()}) + "\n")
    missed = [f"{key} is below {floor}" for key, floor in FLOORS.items() if figures.get(key, floor) < floor]
    if missed:
        raise SystemExit("; ".join(missed))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").strip().splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="under a minute: 50,000 texts")
    parser.add_argument("--num", type=int, help="texts to look at, 1,000,000 unless told")
    parser.add_argument("--data", type=Path, default=HERE.parent / "data" / "sample", help="where real texts are")
    options = parser.parse_args()
    options.num = options.num or (50_000 if options.quick else 1_000_000)
    return options


def _apart(name: str, part: Callable[..., Figures], *arguments: Any) -> Figures:
    """The figures of one part, from a new process."""
    started = time.perf_counter()
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        figures = pool.submit(part, *arguments).result()
    sys.stderr.write(f"{name}: {time.perf_counter() - started:.1f} s\n")
    return figures


def real_texts(data: Path, name: str = "*") -> dict[str, list[str]]:
    """Asked texts of the data sets so called, by split: `train`, and all others as `held_out`."""
    found: dict[str, list[str]] = {"train": [], "held_out": []}
    paths = [*data.glob(f"retrieval/{name}/queries.jsonl"), *data.glob(f"*/{name}.jsonl")]
    for path in sorted(path for path in paths if path.parent.name != "documents"):
        for line in path.read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            texts = [row[key] for key in ("text", "text1", "text2") if key in row]
            found["train" if row["split"] == "train" else "held_out"] += texts
    return found


def made_texts(data: Path, num: int) -> list[str]:
    """`num` texts of the length of real ones, nearly all different: a beginning and an end of two real texts."""
    rng = random.Random(SEED)
    halves = [text for texts in real_texts(data).values() for text in texts if len(text) > 1]
    made = []
    for _ in range(num):
        first, second = rng.choice(halves), rng.choice(halves)
        made.append(first[: len(first) // 2] + second[len(second) // 2 :])
    return made


def find(data: Path, num: int) -> Figures:
    """Look every text up among 20,000 held-out ones."""
    from synth.overlaps import EvalIndex, EvalText

    texts = made_texts(data, num + NUM_EVAL)
    before = _megabytes()
    index = EvalIndex(EvalText(EVAL_SOURCE, UUID(int=n), text) for n, text in enumerate(texts[:NUM_EVAL]))
    size = _megabytes() - before
    texts = texts[NUM_EVAL:]
    floor = _seconds(lambda: [hashlib.sha256(text.encode()).digest() for text in texts])
    took = _seconds(lambda: [index.find(text) for text in texts])
    return {
        "texts": num,
        "characters_per_text": sum(map(len, texts)) / num,
        "sha256_per_s": num / floor,
        "find_per_s": num / took,
        "find_vs_sha256": took / floor,
        "index_kb_per_text": 1e3 * size / NUM_EVAL,
    }


def near(data: Path, num: int) -> Figures:
    """Find the near-duplicates among all texts."""
    from synth.overlaps import near_duplicates

    texts = made_texts(data, num)
    before = _megabytes()
    took = _seconds(lambda: near_duplicates(_with_ids(texts)))
    return {"near_per_s": num / took, "near_kb_per_text": 1e3 * (_megabytes() - before) / num}


def peer(data: Path, num: int) -> Figures:
    """The steps of near_duplicates with datasketch's MinHash and LSH, without the comparison in full."""
    from synth.overlaps import NEAR_NGRAM, NEAR_THRESHOLD, NUM_BANDS, NUM_HASHES, fold, near_duplicates, ngrams

    texts = made_texts(data, num)
    ours = _seconds(lambda: near_duplicates(_with_ids(texts)))
    if importlib.util.find_spec("datasketch") is None:
        sys.stderr.write("datasketch is not installed: no peer for near_duplicates\n")
        return {}
    from datasketch import MinHash, MinHashLSH

    def theirs() -> None:
        index = MinHashLSH(NEAR_THRESHOLD, NUM_HASHES, params=(NUM_BANDS, NUM_HASHES // NUM_BANDS))
        grams = [ngrams(fold(text), NEAR_NGRAM) or {fold(text)} for text in texts]
        sketches = MinHash.bulk([[gram.encode() for gram in each] for each in grams], num_perm=NUM_HASHES, seed=SEED)
        for place, sketch in enumerate(sketches):
            index.query(sketch)
            index.insert(place, sketch)

    return {"near_peer_size_per_s": num / ours, "datasketch_per_s": num / _seconds(theirs)}


def check(data: Path, num: int) -> Figures:
    """`synth check` over a store of so many samples: reading, comparing and recording."""
    from synth.overlaps import NGRAM, THRESHOLD
    from synth.records import Draft, Retrieval, Source, Use, new_id
    from synth.stages.check import CheckSettings, plan_check
    from synth.stages.check import check as run_check
    from synth.store import samples, sources
    from synth.store.connection import Store

    texts = made_texts(data, num + 1000)
    with tempfile.TemporaryDirectory() as scratch:
        store = Store.create(Path(scratch) / "store.duckdb")
        for use, part in ((Use.EVAL, texts[:1000]), (Use.TRAIN, texts[1000:])):
            source = Source("made", use, use, "retrieval", "made by a benchmark", "as its texts", "1")
            with store.write() as cursor:
                sources.add_source(cursor, source, new_id())
            for start in range(0, len(part), 20_000):
                drafts = (
                    Draft(Retrieval(text, (f"{text} {text}",)), source.source_id, "ingest")
                    for text in part[start : start + 20_000]
                )
                with store.write() as cursor:
                    samples.add_drafts(cursor, drafts, new_id())
        plan = plan_check(store, CheckSettings(NGRAM, THRESHOLD), [], device="cpu")
        took = _seconds(lambda: run_check(store, plan, Path(scratch), on_progress=lambda _: None))
    return {"check_samples": plan.num_samples, "check_per_s": plan.num_samples / took, "check_megabytes": _megabytes()}


def findings(data: Path, name: str) -> Figures:
    """What is flagged in one data set, and what of its held-out texts is found again after an edit."""
    from synth.overlaps import EvalIndex, EvalText, fold

    texts = real_texts(data, name)
    held_out = sorted(set(texts["held_out"]))
    index = EvalIndex(EvalText(EVAL_SOURCE, UUID(int=n), text) for n, text in enumerate(held_out))
    rng = random.Random(SEED)
    sample = rng.sample(held_out, min(1000, len(held_out)))
    edits: dict[str, Callable[[str], str]] = {
        "cased": lambda text: f" {text.upper()} !",
        "quoted": lambda text: f"please could you tell me {text}",
        "changed": lambda text: _one_replaced(fold(text), rng),
    }
    found = {
        f"{name}_{edit}_found": sum(index.find(change(text)) is not None for text in sample) / len(sample)
        for edit, change in edits.items()
    }
    train = set(texts["train"])
    return found | {f"{name}_flagged": sum(index.find(text) is not None for text in train) / max(1, len(train))}


def _one_replaced(folded: str, rng: random.Random) -> str:
    """A word, or a character of a text without spaces, replaced by another."""
    units = folded.split(" ") if " " in folded else list(folded)
    units[rng.randrange(len(units))] = "某" if " " not in folded else "whatever"
    return (" " if " " in folded else "").join(units)


def _with_ids(texts: Sequence[str]) -> Iterator[tuple[UUID, str]]:
    return ((UUID(int=number), text) for number, text in enumerate(texts))


def _seconds(call: Callable[[], Any]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def _megabytes() -> float:
    """The most memory this process has held so far."""
    scale = 1e6 if sys.platform == "darwin" else 1e3  # bytes there, kilobytes here
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / scale


if __name__ == "__main__":
    main()
