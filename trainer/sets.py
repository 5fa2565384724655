"""
Evaluation sets on disk: those that a release holds out, and those of any folder that `synth ingest` could read.

A row is measured if its split is held out: `test` where the set has one, else every split called dev, validation or the
like, or the one that the user names; where no row has a split, all are. A set of labelled texts also has texts to fit a
classifier on: those of its splits to train on.
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TypeVar

from synth.records import Use, UserError
from synth.stages.conversions import CONVERSIONS, gathered_claims
from synth.stages.formats import CORPUS, JUDGEMENTS, LAYOUTS, NUMBERED, QUERIES, Layout
from synth.stages.layouts import BEIR, Described, FoundSet, find_sets
from synth.stages.lines import BadLine, Row
from synth.stages.rows import Reader, is_blank, label_of, passage_of, reader_of, score_of, tuple_of
from synth.stages.splits import use_of_split
from synth.stages.tables import Table


@dataclass(frozen=True, slots=True)
class RetrievalSet:
    """A corpus that is searched, and queries whose relevant passages are known."""

    name: str
    instruction: str  # "" if none is known
    corpus: Mapping[str, str]  # passage id -> title and text
    queries: Mapping[str, str]  # only those with a relevant passage
    qrels: Mapping[str, Mapping[str, float]]  # query id -> passage id -> grade, above 0
    note: str = ""


@dataclass(frozen=True, slots=True)
class PairSet:
    """Pairs of texts that people scored."""

    name: str
    instruction: str
    pairs: Sequence[tuple[str, str]]
    scores: Sequence[float]
    note: str = ""


@dataclass(frozen=True, slots=True)
class LabelledSet:
    """Texts with a class, and others to fit a classifier on."""

    name: str
    instruction: str
    texts: Sequence[str]
    labels: Sequence[str]
    fitted_texts: Sequence[str]
    fitted_labels: Sequence[str]
    note: str = ""


T = TypeVar("T")
EvaluationSet = RetrievalSet | PairSet | LabelledSet
ORDER = (RetrievalSet, PairSet, LabelledSet)


def read_sets(path: Path, split: str = "") -> tuple[list[EvaluationSet], list[str]]:
    """
    Read every evaluation set at a path, in a layout of docs/formats.md: retrieval first, then pairs, then labelled.

    Args:
        split: what is measured; "" chooses, see above.

    Returns:
        The sets, and notes on what lies there and is not measured.

    Raises:
        UserError: there is no set, no row with that split, or a line that cannot be read.
    """
    found, notes = find_sets(path, Described())
    sets: list[EvaluationSet] = []
    for each in found:
        if each.kind == "documents":
            notes.append(f"{each.path}: documents have no queries, and are not measured")
            continue
        one = _read(each, split)
        if one is None:
            wanted = f"no row of the split {split!r}" if split else "no row that is held out (of a split called test)"
            notes.append(f"{each.about.name} is not measured: it has {wanted}")
        else:
            sets.append(one)
    if not sets:
        raise UserError("; ".join([f"{path}: there is nothing to measure here", *notes]))
    return sorted(sets, key=lambda one: (ORDER.index(type(one)), one.name)), notes


def _read(found: FoundSet, split: str) -> EvaluationSet | None:
    """The set, or None if none of its rows is measured."""
    return (_read_beir if found.layout == BEIR else READERS[found.kind])(found, split)


def _parsed(
    found: FoundSet, tables: Sequence[Table], layout: Layout, parse: Callable[[Reader, Row], T]
) -> Iterator[tuple[str | None, T]]:
    """The split of every row, and what `parse` makes of it. Raises UserError, with file and line, for a BadLine."""
    for table in tables:
        reader = reader_of(layout, found.about.map, table.classes)
        rows = table.rows((*reader.columns, *filter(NUMBERED.fullmatch, table.columns)))
        for line, row in gathered_claims(reader, rows) if found.layout == "claims" else rows:
            try:
                if isinstance(row, BadLine):
                    raise row
                said = reader.value(row, "split")
                yield said.strip() if isinstance(said, str) and said.strip() else table.split, parse(reader, row)
            except BadLine as bad:
                raise UserError(f"{table.name}:{line}: {bad}") from None


def _chosen(splits: Collection[str | None], wanted: str) -> Collection[str | None]:
    """Which of the splits that rows have are measured, in the words of this module."""
    named = {split for split in splits if split is not None}
    if wanted:
        return named & {wanted}
    if not named:
        return {None}
    held_out = {split for split in named if use_of_split(split) is Use.EVAL}
    return {split for split in held_out if split.casefold() == "test"} or held_out


def _read_beir(found: FoundSet, wanted: str) -> RetrievalSet | None:
    """A query's split is its own, else that of its judgements."""
    corpus: dict[str, str] = {}
    texts: dict[str, str] = {}
    split_of: dict[str, str | None] = {}
    judged: dict[str | None, dict[str, dict[str, float]]] = defaultdict(lambda: defaultdict(dict))
    unknown = 0

    def passage(reader: Reader, row: Row) -> None:
        key, title = reader.needed_key(row, "id"), reader.optional(row, "title")
        if key in corpus:
            raise BadLine("an id that is taken by an earlier line", f": {key!r:.60}; ids must be unique")
        only_title = is_blank(reader.optional(row, "text")) and not is_blank(title)  # as some passages of BEIR
        corpus[key] = (passage_of("", title) if only_title else passage_of(title, reader.text(row, "text"))).text

    def query(reader: Reader, row: Row) -> str:
        key, text = reader.needed_key(row, "id"), reader.text(row, "text")
        if key in texts:
            raise BadLine("an id that is taken by an earlier line", f": {key!r:.60}; ids must be unique")
        texts[key] = text
        return key

    def judgement(reader: Reader, row: Row) -> tuple[str, str, float]:
        asked, answer = reader.needed_key(row, "query"), reader.needed_key(row, "passage")
        if answer not in corpus:
            raise BadLine("a judgement of a passage that is not there", f": {answer!r:.60} is not in corpus")
        return asked, answer, 1.0 if reader.value(row, "score") is None else reader.number(row, "score")

    tables = found.tables
    for _ in _parsed(found, tables["corpus"], CORPUS, passage):
        pass
    for split, key in _parsed(found, tables["queries"], QUERIES, query):
        split_of[key] = split
    for split, (asked, answer, grade) in _parsed(found, tables["judgements"], JUDGEMENTS, judgement):
        if asked in texts:
            judged[split_of[asked] if split_of[asked] is not None else split][asked][answer] = grade
        else:
            unknown += 1
    chosen = _chosen([split for split in judged if any(map(_positives, judged[split].values()))], wanted)
    qrels: dict[str, dict[str, float]] = {}
    there = {key for key, split in split_of.items() if split in chosen}
    for key, answers in chain.from_iterable(judged[split].items() for split in judged if split in chosen):
        there.add(key)
        if positives := _positives(answers):
            qrels[key] = qrels.get(key, {}) | positives  # a query may be judged in two splits
    notes = [f"{len(there) - len(qrels)} queries without a positive are not counted"] if len(there) > len(qrels) else []
    notes += [f"{unknown} judgements are of queries that are not there"] if unknown else []
    if not qrels:
        return None
    queries = {key: texts[key] for key in qrels}
    return RetrievalSet(found.about.name, found.about.instruction, corpus, queries, qrels, "; ".join(notes))


def _positives(answers: Mapping[str, float]) -> dict[str, float]:
    return {answer: grade for answer, grade in answers.items() if grade > 0}


def _read_tuples(found: FoundSet, wanted: str) -> RetrievalSet | None:
    """Queries with their positives beside them: the corpus is all passages of all rows, of whatever split."""
    converted = CONVERSIONS.get(found.layout, tuple_of)
    corpus: dict[str, str] = {}
    queries: dict[str | None, list[tuple[str, list[str]]]] = defaultdict(list)
    for split, row in _parsed(found, found.tables["rows"], LAYOUTS[found.layout], converted):
        if row is None:
            continue
        positives = [each.text for each in row.positives]
        for text in (*positives, *(each.text for each in row.negatives)):
            corpus.setdefault(text, str(len(corpus)))
        queries[split].append((row.query, positives))
    chosen = _chosen(queries, wanted)
    rows = [row for split in queries if split in chosen for row in queries[split]]
    qrels: dict[str, dict[str, float]] = defaultdict(dict)
    places: dict[str, str] = {}
    for text, positives in rows:
        key = places.setdefault(text, str(len(places)))
        qrels[key] |= {corpus[positive]: 1.0 for positive in positives}
    if not qrels:
        return None
    passages = {key: text for text, key in corpus.items()}
    note = f"the corpus is the {len(passages)} passages of its rows"
    name, asked = found.about.name, {key: text for text, key in places.items()}
    return RetrievalSet(name, found.about.instruction, passages, asked, qrels, note)


def _read_pairs(found: FoundSet, wanted: str) -> PairSet | None:
    def parse(reader: Reader, row: Row) -> tuple[str, str, float]:
        return reader.text(row, "text1"), reader.text(row, "text2"), score_of(reader, row)

    rows = list(_parsed(found, found.tables["rows"], LAYOUTS[found.layout], parse))
    chosen = _chosen({split for split, _ in rows}, wanted)
    kept = [row for split, row in rows if split in chosen]
    pairs, scores = [(left, right) for left, right, _ in kept], [score for *_, score in kept]
    return PairSet(found.about.name, found.about.instruction, pairs, scores) if kept else None


def _read_labelled(found: FoundSet, wanted: str) -> LabelledSet | None:
    def parse(reader: Reader, row: Row) -> tuple[str, str]:
        return reader.text(row, "text"), label_of(reader, row)

    rows = list(_parsed(found, found.tables["rows"], LAYOUTS[found.layout], parse))
    chosen = _chosen({split for split, _ in rows}, wanted)
    kept = [row for split, row in rows if split in chosen]
    fitted = [row for split, row in rows if split not in chosen and use_of_split(split or "") is Use.TRAIN]
    if not kept:
        return None
    (texts, labels), (fitted_texts, fitted_labels) = (_columns(each) for each in (kept, fitted))
    about = found.about
    return LabelledSet(about.name, about.instruction, texts, labels, fitted_texts, fitted_labels)


def _columns(rows: Sequence[tuple[str, str]]) -> tuple[list[str], list[str]]:
    return [text for text, _ in rows], [label for _, label in rows]


READERS: dict[str, Callable[[FoundSet, str], EvaluationSet | None]] = {
    "retrieval": _read_tuples,
    "pairs": _read_pairs,
    "labelled": _read_labelled,
}
