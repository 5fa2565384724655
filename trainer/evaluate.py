"""
How good a model is on the sets that a release holds out, and how good it was before training.

Retrieval: nDCG@10 and Recall@10 over the whole corpus. Pairs: Spearman's rank correlation of cosine and human score.
Labelled: accuracy of a logistic regression on the embeddings, fitted on the set's approved training samples. Every
score is of cosines in fp32; each set is measured with the instruction that its training samples have.
"""

import json
import math
import re
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mining.hardware import Hardware
from synth.records import Task, UserError
from trainer.card import SCORES_FILE, write_card
from trainer.checkpoint import RUN_FILE, read_json, write_atomically
from trainer.encoder import choose_hardware, find_model
from trainer.export import instructions
from trainer.release import Release
from trainer.texts import query_prefix

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

BATCH_SIZE = 32
MOST = 1e9  # of a score
HALF = re.compile("[\ud800-\udfff]")  # of a character: JSON can name it, no tokenizer takes it
Measure = Callable[["SentenceTransformer"], "list[Score]"]  # a held-out set: what measures a loaded model on it


@dataclass(frozen=True, slots=True)
class Score:
    """One measure of one set. What could not be measured has no value, and the note says why."""

    set: str
    measure: str
    value: float | None
    note: str = ""


@dataclass(frozen=True, slots=True)
class Change:
    """One measure of one set for the baseline and the model; `change` is after less before."""

    set: str
    measure: str
    before: float | None
    after: float | None
    change: float | None
    note: str


@dataclass(frozen=True, slots=True)
class Evaluation:
    """All scores of a model and its baseline ("" if there is none)."""

    model: str
    baseline: str
    release: str
    release_digest: str
    sets: str
    own_sets: bool  # those that the release holds out, not some that were named
    device: str
    scores: tuple[Change, ...]


def evaluate(model: str, release: Release, sets: Path, *, baseline: str = "", device: str = "auto") -> Evaluation:
    """
    Measure a model, and its baseline if one is named, on every set of a folder laid out like a release's `eval`.

    A model folder made by `trainer run` is given the scores: evaluation.json, and its card is written anew.

    Raises:
        UserError: no such model or device, no sets, or a line of a set that cannot be read.
    """
    held_out = read_sets(sets, release)
    hardware = choose_hardware(device, "fp32")
    before: list[Score] = _measure(baseline, held_out, hardware) if baseline else []
    after = _measure(model, held_out, hardware)
    evaluation = Evaluation(
        model=model,
        baseline=baseline,
        release=release.name,
        release_digest=release.digest,
        sets=str(sets),
        own_sets=sets.resolve() == (release.path / "eval").resolve(),
        device=f"{hardware.device}, {hardware.precision}",
        scores=tuple(_change(old, new) for old, new in zip_longest(before, after)),
    )
    if made_here(model):
        content = json.dumps(asdict(evaluation), indent=2, ensure_ascii=False)
        write_atomically(Path(model) / SCORES_FILE, content.encode())
        write_card(Path(model))
    return evaluation


def made_here(model: str) -> dict[str, Any] | None:
    """The record of the run that made a model folder; None of any other model."""
    record = read_json(Path(model) / RUN_FILE)
    return record if record and "plan" in record and "config" in record else None


def _change(before: Score | None, after: Score) -> Change:
    old = before.value if before else None
    change = None if old is None or after.value is None else after.value - old
    return Change(after.set, after.measure, old, after.value, change, after.note or (before.note if before else ""))


def _measure(name: str, held_out: list[Measure], hardware: Hardware) -> list[Score]:
    from synth.screen import progress

    model = _load(name, hardware)
    scores = []
    with progress(f"measuring {name}", len(held_out)) as advance:
        for measure in held_out:
            scores += measure(model)
            advance(1)
    return scores


def _load(name: str, hardware: Hardware) -> "SentenceTransformer":
    import torch
    from safetensors import SafetensorError
    from sentence_transformers import SentenceTransformer

    path = find_model(name)
    try:
        return SentenceTransformer(path, device=hardware.device, model_kwargs={"dtype": torch.float32})
    except (OSError, ValueError, SafetensorError) as error:
        first_line = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(f"cannot load the model {name}: {first_line}") from None


def read_sets(folder: Path, release: Release) -> list[Measure]:
    """
    What measures every set under `retrieval/`, `pairs/` and `labelled/`, in that order and by name.

    Raises:
        UserError: there is none, or a line of one cannot be read.
    """
    sets = [_retrieval(path, release) for path in sorted(folder.glob("retrieval/*/")) if path.is_dir()]
    sets += [_pairs(path, release) for path in sorted(folder.glob("pairs/*.jsonl"))]
    sets += [_labelled(path, release) for path in sorted(folder.glob("labelled/*.jsonl"))]
    for path in folder.glob("*/*"):
        if HALF.search(path.name):
            raise UserError(f"{str(path)!r}: is no name in UTF-8: rename it")
    if not sets:
        raise UserError(f"{folder} has no held-out sets (retrieval/SET/, pairs/SET.jsonl or labelled/SET.jsonl)")
    return sets


def _prefix(release: Release, task: Task, name: str) -> str:
    return query_prefix(instructions(release, task).get(name, ""))


def _retrieval(folder: Path, release: Release) -> Measure:
    corpus = {
        row["doc_id"]: f"{row['title']}\n{row['text']}" if row["title"] else row["text"]
        for row in _rows(folder / "corpus.jsonl", doc_id=str, title=str, text=str)
    }
    queries = {row["query_id"]: row["text"] for row in _rows(folder / "queries.jsonl", query_id=str, text=str)}
    qrels: dict[str, set[str]] = {}
    for number, row in enumerate(_rows(folder / "qrels.jsonl", query_id=str, doc_id=str, score=float), start=1):
        if row["query_id"] not in queries or row["doc_id"] not in corpus:
            where = f"{folder / 'qrels.jsonl'}, line {number}"
            raise UserError(f"{where}: names a query or a passage that the set does not have: remove the line")
        if row["score"] > 0:
            qrels.setdefault(row["query_id"], set()).add(row["doc_id"])
    unanswered = len(queries) - len(qrels)
    note = f"{unanswered} queries without a positive are not counted" if unanswered else ""
    prefix = _prefix(release, Task.RETRIEVAL, folder.name)

    def measure(model: "SentenceTransformer") -> list[Score]:
        from sentence_transformers.sentence_transformer.evaluation import InformationRetrievalEvaluator
        from sentence_transformers.util import cos_sim

        if not qrels:
            return [
                Score(folder.name, measure, None, "no query has a positive") for measure in ("nDCG@10", "Recall@10")
            ]
        evaluator = InformationRetrievalEvaluator(
            queries,
            corpus,
            qrels,
            ndcg_at_k=[10],
            precision_recall_at_k=[10],
            batch_size=BATCH_SIZE,
            score_functions={"cosine": cos_sim},
            query_prompt=prefix or None,  # without an instruction the model's own prompt for queries, if it has one
            write_csv=False,
        )
        found = evaluator(model)
        return [
            Score(folder.name, "nDCG@10", float(found["cosine_ndcg@10"]), note),
            Score(folder.name, "Recall@10", float(found["cosine_recall@10"]), note),
        ]

    return measure


def _pairs(path: Path, release: Release) -> Measure:
    rows = list(_rows(path, text1=str, text2=str, score=float))
    prefix = _prefix(release, Task.STS, path.stem)

    def measure(model: "SentenceTransformer") -> list[Score]:
        from sentence_transformers.sentence_transformer.evaluation import EmbeddingSimilarityEvaluator

        if len({row["score"] for row in rows}) < 2:
            return [Score(path.stem, "Spearman", None, "all pairs have one score")]
        evaluator = EmbeddingSimilarityEvaluator(
            [prefix + row["text1"] for row in rows],
            [prefix + row["text2"] for row in rows],
            [row["score"] for row in rows],
            batch_size=BATCH_SIZE,
            similarity_fn_names=["cosine"],
            write_csv=False,
        )
        spearman = float(evaluator(model)["spearman_cosine"])
        if math.isnan(spearman):
            return [Score(path.stem, "Spearman", None, "the model gives all pairs one score")]
        return [Score(path.stem, "Spearman", spearman)]

    return measure


def _labelled(path: Path, release: Release) -> Measure:
    rows = list(_rows(path, text=str, label=str))
    prefix = _prefix(release, Task.CLASSIFICATION, path.stem)
    table = release.samples.get(Task.CLASSIFICATION)
    fitted_on = [row for row in table.to_pylist() if row["dataset"] == path.stem] if table is not None else []

    def measure(model: "SentenceTransformer") -> list[Score]:
        import numpy as np
        from sklearn.linear_model import LogisticRegression

        if not rows or len({row["label"] for row in fitted_on}) < 2:
            note = f"nothing to fit on: the release's training samples hold no two classes of {path.stem}"
            return [Score(path.stem, "accuracy", None, note if rows else "no rows")]
        texts = [prefix + row["text"] for row in fitted_on + rows]
        vectors = model.encode(texts, batch_size=BATCH_SIZE, normalize_embeddings=True)
        if not np.isfinite(vectors).all():
            return [Score(path.stem, "accuracy", None, "the model gives vectors that are no numbers")]
        classifier = LogisticRegression(max_iter=1000)
        classifier.fit(vectors[: len(fitted_on)], [row["label"] for row in fitted_on])
        accuracy = classifier.score(vectors[len(fitted_on) :], [row["label"] for row in rows])
        return [Score(path.stem, "accuracy", float(accuracy), f"fitted on {len(fitted_on)} samples")]

    return measure


def _rows(path: Path, **types: type) -> Iterator[dict[str, Any]]:
    """The objects of a JSON Lines file, each with these keys of these types (whole numbers pass as float)."""
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read: {error}: make the release again") from None
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            good = isinstance(row, dict) and all(_is_good(row.get(key), type_) for key, type_ in types.items())
        except (ValueError, RecursionError):
            good = False
        if not good:
            wanted = ", ".join(f"{key} ({type_.__name__})" for key, type_ in types.items())
            raise UserError(f"{path}, line {number}: must be a JSON object with {wanted}")
        yield row


def _is_good(value: object, type_: type) -> bool:
    """Whether it is of the type: a text of whole characters, or a finite number of no absurd size."""
    if type_ is float:
        return isinstance(value, (float, int)) and not isinstance(value, bool) and abs(value) < MOST
    return isinstance(value, type_) and not (isinstance(value, str) and HALF.search(value))
