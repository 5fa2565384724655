"""
The benchmark's peers of mining, each as its own documentation has it, and one counter for what any miner gives.

Run by the Python of an environment that has the peer, with the pairs of mining_pairs.py (corpus.jsonl lies beside):

    peers/bin/python benchmarks/mining_peers.py sentence-transformers made/pairs.jsonl st.jsonl --model FOLDER
    peers/bin/python benchmarks/mining_peers.py flag-embedding made/pairs.jsonl fe.jsonl --model FOLDER
    python benchmarks/mining_peers.py check made/pairs.jsonl ours.jsonl

The model is a sentence-transformers folder. FlagEmbedding's scripts/hn_mine.py is in no wheel: put it into the
environment's folder (peers/hn_mine.py). sentence-transformers keeps its vectors in st.cache beside st.jsonl and
takes them from there when it is run again; FlagEmbedding keeps none.

Both compute in fp32 on --threads threads of the CPU and look for 4 negatives of each query between the ranks 10 and 30
of exact search: sentence-transformers the best ones, of what is left below 95 % of the lowest positive's score;
FlagEmbedding, which has no cap, some by chance, positives counted as ranks, and random passages where those are too
few. All else is as it comes, but for the batch of the encoder, the fastest one on a CPU, and its limit of tokens, the
model's own.

The output has a line for each query, FlagEmbedding's `query`, `pos`, `neg`; `check` reads the same, several lines of
one query included. The last line of standard output is JSON: the counts of `check` and, of a peer, `seconds` from the
first import to the last negative, `steps` (load, encode, search, rest), `cpu` seconds, `peak_mb` (VmHWM) and what ran.
"""

import argparse
import importlib
import json
import os
import re
import sys
import time
import unicodedata
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

NUM_NEGATIVES = 4
RANK_MIN, RANK_MAX = 10, 30
RELATIVE_MARGIN = 0.05
BATCH = 16  # of 16, 32, 64 and 128 the fastest for MiniLM on a CPU

Pairs = dict[str, list[str]]  # texts by query
Figures = dict[str, Any]


class Clock:
    """Wall time of named steps, of functions that are wrapped from outside; what is in none of them is the rest."""

    def __init__(self) -> None:
        self._started, self._steps = time.perf_counter(), {"load": 0.0, "encode": 0.0, "search": 0.0}

    def timed(self, step: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, whose calls count as that step."""

        def call(*args: Any, **kwargs: Any) -> Any:
            started = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                self._steps[step] += time.perf_counter() - started

        return call

    def figures(self) -> Figures:
        """What it took up to now."""
        seconds = time.perf_counter() - self._started
        steps = self._steps | {"rest": seconds - sum(self._steps.values())}
        import torch

        used = {"seconds": seconds, "cpu": time.process_time(), "peak_mb": _peak_mb()}
        rounded = {name: round(each, 2) for name, each in used.items()}
        rounded_steps = {name: round(each, 3) for name, each in steps.items()}
        return rounded | {"steps": rounded_steps, "threads": torch.get_num_threads()}


def sentence_transformers(clock: Clock, options: argparse.Namespace) -> tuple[Pairs, Figures]:
    """`mine_hard_negatives` with FAISS; of its forms the one that keeps queries with fewer negatives than asked for."""

    def load() -> Any:
        import datasets  # noqa: F401  # mining would import it
        import faiss
        from sentence_transformers import SentenceTransformer

        _wrap(clock, "encode", SentenceTransformer, "encode_query", "encode_document")
        _wrap(clock, "search", faiss.IndexFlatIP, "add", "search")
        return SentenceTransformer(str(options.model), device="cpu")

    model = clock.timed("load", load)()
    from datasets import Dataset
    from sentence_transformers.util import mine_hard_negatives

    rows = [(query, positive) for query, texts in read_texts(options.pairs, "pos").items() for positive in texts]
    mined = mine_hard_negatives(
        Dataset.from_dict({"query": [query for query, _ in rows], "positive": [text for _, text in rows]}),
        model,
        corpus=read_corpus(options.pairs),
        range_min=RANK_MIN,
        range_max=RANK_MAX,
        relative_margin=RELATIVE_MARGIN,
        num_negatives=NUM_NEGATIVES,
        sampling_strategy="top",
        output_format="labeled-list",
        batch_size=BATCH,
        use_faiss=True,
        cache_folder=str(options.output.with_suffix(".cache")),
    )
    figures = clock.figures()
    negatives: Pairs = {}
    for query, texts in zip(mined["query"], mined["positive"], strict=True):
        negatives.setdefault(query, []).extend(texts[1:])  # the first is the positive of the row
    return negatives, figures | {"versions": _versions("sentence-transformers")}


def flag_embedding(clock: Clock, options: argparse.Namespace) -> tuple[Pairs, Figures]:
    """`hn_mine.py` with its options for a model that its list does not have; it writes what it mined itself."""
    sys.path.insert(0, sys.prefix)
    if not Path(sys.prefix, "hn_mine.py").is_file():
        raise SystemExit(f"there is no hn_mine.py in {sys.prefix}: take it from FlagEmbedding's scripts/")
    script = clock.timed("load", importlib.import_module)("hn_mine")
    base = importlib.import_module("FlagEmbedding.inference.embedder.encoder_only.base")
    _wrap(clock, "load", script, "load_model")
    _wrap(clock, "encode", base.BaseEmbedder, "encode_single_device")
    _wrap(clock, "search", script, "create_index", "batch_search")
    data = script.DataArgs(
        input_file=str(options.pairs),
        output_file=str(options.output),
        candidate_pool=str(options.pairs.with_name("corpus.jsonl")),
        range_for_sampling=f"{RANK_MIN}-{RANK_MAX}",
        negative_number=NUM_NEGATIVES,
    )
    limit = json.loads((options.model / "sentence_bert_config.json").read_text(encoding="utf-8"))["max_seq_length"]
    model = script.ModelArgs(
        embedder_name_or_path=str(options.model),
        embedder_model_class="encoder-only-base",
        pooling_method="mean",
        use_fp16=False,
        devices="cpu",
        batch_size=BATCH,
        embedder_query_max_length=limit,
        embedder_passage_max_length=limit,
    )
    script.main(data, model)
    figures = clock.figures()
    return read_texts(options.output, "neg"), figures | {"versions": _versions("FlagEmbedding")}


PEERS = {"sentence-transformers": sentence_transformers, "flag-embedding": flag_embedding}


def main() -> None:
    """Run one peer, or count what another miner gave."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("miner", choices=[*PEERS, "check"])
    parser.add_argument("pairs", type=Path, help="pairs.jsonl of mining_pairs.py")
    parser.add_argument("output", type=Path, help="what was mined: written by a peer, read by check")
    parser.add_argument("--model", type=Path, help="of a peer: a sentence-transformers folder")
    parser.add_argument("--threads", type=int, default=2, help="of a peer (default 2)")
    options = parser.parse_args()
    figures: Figures = {"miner": options.miner}
    positives = read_texts(options.pairs, "pos")
    if options.miner == "check":
        negatives = read_texts(options.output, "neg")
    else:
        if not options.model:
            parser.error(f"{options.miner} needs --model FOLDER")
        # Read by OpenMP and by the tokenizers when they are first imported; torch and FAISS take them from there.
        os.environ |= {"OMP_NUM_THREADS": str(options.threads), "RAYON_NUM_THREADS": str(options.threads)}
        os.environ["HF_HUB_OFFLINE"] = "1"
        negatives, measured = PEERS[options.miner](Clock(), options)
        figures |= measured
        write_mined(options.output, positives, negatives)
    if unknown := negatives.keys() - positives.keys():
        raise SystemExit(f"{options.output}: {len(unknown)} queries are not in {options.pairs}, as {min(unknown)!r}")
    sys.stdout.write("\n" + json.dumps(figures | counts(positives, negatives)) + "\n")


def counts(positives: Pairs, negatives: Pairs) -> Figures:
    """
    What a miner gave, a negative counted once for a query, however often it came.

    Returns:
        num_queries; num_negatives; starved queries, with no negative, and short ones, with some but too few; leaks,
        negatives that are a positive of their query; equal_texts, further ones whose normalised text equals one;
        own_texts, those that are the query itself.
    """
    found = dict.fromkeys(("num_negatives", "starved", "short", "leaks", "equal_texts", "own_texts"), 0)
    for query, texts in positives.items():
        own, answers = set(negatives.get(query, ())), set(texts)
        equal = {normalised(text) for text in texts}
        found["num_negatives"] += len(own)
        found["starved"] += not own
        found["short"] += 0 < len(own) < NUM_NEGATIVES
        found["leaks"] += len(own & answers)
        found["equal_texts"] += sum(normalised(text) in equal for text in own - answers)
        found["own_texts"] += sum(normalised(text) == normalised(query) for text in own)
    return {"num_queries": len(positives)} | found


def normalised(text: str) -> str:
    """Letters and digits alone, in one width and case."""
    return " ".join(re.findall(r"\w+", unicodedata.normalize("NFKC", text).casefold()))


def read_texts(path: Path, column: str) -> Pairs:
    """The texts of that column by query, lines of the same query together."""
    texts: Pairs = {}
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            row = json.loads(line)
            texts.setdefault(row["query"], []).extend(row[column])
    return texts


def read_corpus(pairs: Path) -> list[str]:
    """The texts of corpus.jsonl beside the pairs."""
    with pairs.with_name("corpus.jsonl").open(encoding="utf-8") as lines:
        return [json.loads(line)["text"] for line in lines]


def write_mined(path: Path, positives: Pairs, negatives: Pairs) -> None:
    """A line for each query, as FlagEmbedding writes it."""
    with path.open("w", encoding="utf-8") as file:
        for query, texts in positives.items():
            row = {"query": query, "pos": texts, "neg": list(dict.fromkeys(negatives.get(query, ())))}
            file.write(json.dumps(row, ensure_ascii=False) + "\n")


def _wrap(clock: Clock, step: str, owner: Any, *names: str) -> None:
    for name in names:
        setattr(owner, name, clock.timed(step, getattr(owner, name)))


def _versions(peer: str) -> dict[str, str]:
    return {name: version(name) for name in (peer, "torch", "transformers", "faiss-cpu")}


def _peak_mb() -> float:
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


if __name__ == "__main__":
    main()
