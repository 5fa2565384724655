"""
The pairs that the miners of the benchmark mine, in the layouts that they read.

Example: python benchmarks/mining_pairs.py made --data data/sample --quick

All sets of --data (BEIR folders below retrieval/) are one: a text that several sets have is one query or one passage,
and what answers it in any of them is its positive. Queries are drawn by a seed, each with all of its positives, until
there are enough pairs; the corpus has their positives, then other passages drawn likewise, as many as pairs at most.
The folder then has

    pairs.jsonl     {"query", "pos"}: a line for each query, as FlagEmbedding reads it
    corpus.jsonl    {"text"}: its candidate_pool
    retrieval/pairs/{corpus,queries,qrels}.jsonl: the same for `synth ingest FOLDER/retrieval`, all of it to train on

Ends with one line of JSON: num_queries, num_pairs, num_passages. Standard library only.
"""

import argparse
import json
import random
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

SEED = 0
PAIRS, QUICK = 20_000, 1_000


def main() -> None:
    """Draw the pairs and write them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where to write; made if need be")
    parser.add_argument("--data", type=Path, required=True, help="a folder like data/sample")
    parser.add_argument("--pairs", type=int, default=PAIRS, help=f"at most so many pairs (default {PAIRS})")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK} pairs")
    options = parser.parse_args()
    answers, passages = read_sets(options.data)
    if not answers:
        parser.error(f"{options.data} has no pairs: give a folder with BEIR folders below retrieval/")
    pairs = draw_pairs(answers, QUICK if options.quick else options.pairs)
    corpus = draw_corpus(pairs, passages)
    write(options.folder, pairs, corpus)
    counts = {"num_queries": len(pairs), "num_pairs": num_pairs(pairs), "num_passages": len(corpus)}
    sys.stdout.write(json.dumps(counts) + "\n")


def read_sets(data: Path) -> tuple[dict[str, list[str]], list[str]]:
    """Every query's positives and every passage, in the order of the files, each text once."""
    answers: dict[str, dict[str, None]] = {}
    passages: dict[str, None] = {}
    for folder in sorted(path for path in (data / "retrieval").glob("*") if path.is_dir()):
        text_of = {row["doc_id"]: row["text"] for row in read_lines(folder / "corpus.jsonl")}
        query_of = {row["query_id"]: row["text"] for row in read_lines(folder / "queries.jsonl")}
        passages.update(dict.fromkeys(text_of.values()))
        for row in read_lines(folder / "qrels.jsonl"):
            if row["score"] > 0:
                answers.setdefault(query_of[row["query_id"]], {})[text_of[row["doc_id"]]] = None
    return {query: list(positives) for query, positives in answers.items()}, list(passages)


def draw_pairs(answers: dict[str, list[str]], most: int) -> dict[str, list[str]]:
    """Queries with all of their positives, in a random order, as long as there are `most` pairs or fewer."""
    pairs: dict[str, list[str]] = {}
    left = most
    for query in random.Random(SEED).sample(list(answers), len(answers)):
        if len(answers[query]) <= left:
            pairs[query] = answers[query]
            left -= len(answers[query])
    return pairs


def draw_corpus(pairs: dict[str, list[str]], passages: list[str]) -> list[str]:
    """All positives, then random passages up to as many as there are pairs, all in a random order."""
    chance = random.Random(SEED)
    positives = dict.fromkeys(text for texts in pairs.values() for text in texts)
    others = [text for text in chance.sample(passages, len(passages)) if text not in positives]
    corpus = [*positives, *others[: max(0, num_pairs(pairs) - len(positives))]]
    chance.shuffle(corpus)
    return corpus


def num_pairs(pairs: dict[str, list[str]]) -> int:
    """How many (query, positive) pairs there are."""
    return sum(map(len, pairs.values()))


def write(folder: Path, pairs: dict[str, list[str]], corpus: list[str]) -> None:
    """The files of the two layouts."""
    beir = folder / "retrieval" / "pairs"
    beir.mkdir(parents=True, exist_ok=True)
    doc_ids = {text: f"p{number}" for number, text in enumerate(corpus)}
    query_ids = {query: f"q{number}" for number, query in enumerate(pairs)}
    write_lines(folder / "pairs.jsonl", ({"query": query, "pos": texts} for query, texts in pairs.items()))
    write_lines(folder / "corpus.jsonl", ({"text": text} for text in corpus))
    write_lines(beir / "corpus.jsonl", ({"doc_id": each, "title": "", "text": text} for text, each in doc_ids.items()))
    queries = ({"query_id": each, "text": query, "split": "train"} for query, each in query_ids.items())
    write_lines(beir / "queries.jsonl", queries)
    qrels = (
        {"query_id": query_ids[query], "doc_id": doc_ids[text], "score": 1}
        for query, texts in pairs.items()
        for text in texts
    )
    write_lines(beir / "qrels.jsonl", qrels)


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The objects of a file of JSON lines."""
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)


def write_lines(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """A file of JSON lines."""
    with path.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


if __name__ == "__main__":
    main()
