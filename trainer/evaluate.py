"""
How good a model is on sets that people labelled, against the model that it was trained from or any other.

The sets are those that a release holds out, those of any folder, or tasks of mteb. A model folder made by `trainer run`
is given its scores.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

from synth.records import UserError
from trainer.card import SCORES_FILE, model_card, write_card
from trainer.checkpoint import RUN_FILE, check_place, read_json, write_atomically
from trainer.compare import Change, Comparison, Settings, changes, compare
from trainer.measure import TOP, Result
from trainer.release import Release
from trainer.sets import EvaluationSet, LabelledSet, PairSet, RetrievalSet, read_sets


@dataclass(frozen=True, slots=True)
class Evaluation:
    """All scores of a model, and of the one that it is compared with ("" if there is none)."""

    model: str
    against: str
    release: str  # "" if none was named
    release_digest: str
    sets: tuple[str, ...]  # paths, and tasks of mteb; none: the release's own
    own_sets: bool  # those that the release holds out, not some that were named
    device: str
    resamples: int
    seed: int
    notes: tuple[str, ...]
    scores: tuple[Change, ...]


@dataclass(frozen=True, slots=True)
class Asked:
    """What a model is measured on: the sets that the release holds out, where nothing is named."""

    sets: Sequence[Path] = ()
    split: str = ""  # of these sets; "" chooses, see `trainer.sets`
    tasks: Sequence[str] = ()  # of mteb
    task_data: Path | None = None  # a folder of copies of their data sets, for a machine without the hub


def evaluate(
    model: str, release: Release | None, asked: Asked, *, against: str = "", settings: Settings | None = None
) -> tuple[Evaluation, list[Comparison]]:
    """
    Measure a model, and one to compare it with unless that is "".

    Raises:
        UserError: nothing to measure on, no such model or device, or a line of a set that cannot be read.
    """
    settings = settings or Settings()
    sets, notes = sets_to_measure(release, asked)
    compared, device = compare(model, against, sets, release, settings) if sets else ([], "")
    scores = [change for each in compared for change in changes(each, settings)]
    if asked.tasks:
        from trainer.mteb_tasks import measure_tasks

        found_tasks, device = measure_tasks(model, against, asked.tasks, asked.task_data, settings)
        scores += found_tasks
    evaluation = Evaluation(
        model=model,
        against=against,
        release=release.name if release else "",
        release_digest=release.digest if release else "",
        sets=tuple(map(str, (*asked.sets, *asked.tasks))),
        own_sets=not asked.sets and not asked.tasks,
        device=device,
        resamples=settings.resamples,
        seed=settings.seed,
        notes=tuple(notes),
        scores=tuple(scores),
    )
    return evaluation, compared


def keep_scores(evaluation: Evaluation) -> None:
    """
    Give a model folder made by `trainer run` its scores: evaluation.json, and its card anew. Other models get nothing.

    Raises:
        SkiffError: the disk did not take it.
    """
    if made_here(evaluation.model):
        content = json.dumps(asdict(evaluation), indent=2, ensure_ascii=False)
        write_atomically(Path(evaluation.model) / SCORES_FILE, content.encode())
        write_card(Path(evaluation.model))


def sets_to_measure(release: Release | None, asked: Asked) -> tuple[list[EvaluationSet], list[str]]:
    """
    The sets on disk that are meant, and notes on what is not measured: those that the release holds out, where nothing
    is named; none, where only tasks of mteb are.

    Raises:
        UserError: nothing is meant, there is no set, two have one name, or a line cannot be read.
    """
    paths = list(asked.sets)
    if not paths and not asked.tasks:
        if release is None:
            raise UserError("nothing to measure on: name a --release, or --sets PATH, or --mteb TASK")
        paths = [release.path / "eval"]
        if not paths[0].is_dir():
            raise UserError(f"{paths[0]}: this release holds no sets out: name some with --sets PATH")
    sets: list[EvaluationSet] = []
    notes: list[str] = []
    for path in paths:
        found, said = read_sets(path, asked.split)
        sets += found
        notes += said
    for one, other in combinations(sets, 2):
        if one.name == other.name:
            raise UserError(f"two sets are named {one.name}: name one otherwise, in a sources.toml beside it")
    return sets, notes


def made_here(model: str) -> dict[str, Any] | None:
    """
    The record of the run that made a model folder; None of any other model.

    Raises:
        UserError: it is broken, or another version's.
    """
    record = read_json(Path(model) / RUN_FILE)
    if not record or "plan" not in record or "config" not in record:
        return None
    try:
        model_card(record, None)  # takes all that is asked of a record
    except (KeyError, TypeError, IndexError, AttributeError, ValueError):
        path = Path(model) / RUN_FILE
        raise UserError(f"{path}: broken, or of another version: take it away to measure the model alone") from None
    return record


def item_rows(compared: Sequence[Comparison]) -> Iterator[dict[str, Any]]:
    """A row for every query, pair and text: what it scored by each model, and what it was compared with."""
    for each in compared:
        if each.after.measures:
            yield from ITEMS[type(each.one)](each)


def check_items(path: Path, sets: Sequence[Path] = ()) -> None:
    """
    Raise UserError unless `write_items` can write there, before an hour is spent on what it writes. It may not replace
    what is measured, nor lie in its folder, where it would be taken for a set.
    """
    check_place(path)
    if any(path.resolve().is_relative_to(each.resolve()) for each in sets):
        raise UserError(f"{path}: lies in what is measured; name a file elsewhere")


def write_items(path: Path, compared: Sequence[Comparison]) -> None:
    """
    Write `item_rows` as JSON Lines.

    Raises:
        SkiffError: the disk did not take it.
    """
    lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in item_rows(compared))
    write_atomically(path, "".join(lines).encode())


def _queries(each: Comparison) -> Iterator[dict[str, Any]]:
    one = each.one
    assert isinstance(one, RetrievalSet)
    for number, (query_id, query) in enumerate(one.queries.items()):
        relevant = one.qrels[query_id]
        row: dict[str, Any] = {
            "set": one.name, "query_id": query_id, "query": query, **_shares(each, number), "relevant": dict(relevant)
        }  # fmt: skip
        for when, result in _results(each):
            found = list(result.found[query_id])
            places = [place for place, passage in enumerate(found, start=1) if passage in relevant]
            row[f"rank_{when}"] = places[0] if places else None
            row[f"found_{when}"] = found[:TOP]
        yield row


def _pairs(each: Comparison) -> Iterator[dict[str, Any]]:
    one = each.one
    assert isinstance(one, PairSet)
    for number, ((text1, text2), score) in enumerate(zip(one.pairs, one.scores, strict=True)):
        cosines = {f"cosine_{when}": float(result.measures[0].item_N[number]) for when, result in _results(each)}
        yield {"set": one.name, "text1": text1, "text2": text2, "score": score, **cosines}


def _texts(each: Comparison) -> Iterator[dict[str, Any]]:
    one = each.one
    assert isinstance(one, LabelledSet)
    for number, (text, label) in enumerate(zip(one.texts, one.labels, strict=True)):
        yield {"set": one.name, "text": text, "label": label, **_shares(each, number)}


ITEMS = {RetrievalSet: _queries, PairSet: _pairs, LabelledSet: _texts}


def _results(each: Comparison) -> Iterator[tuple[str, Result]]:
    """What was measured, as before and after."""
    if each.before is not None and each.before.measures:
        yield "before", each.before
    yield "after", each.after


def _shares(each: Comparison, number: int) -> dict[str, float]:
    """An item's share of the set's first measure, by each model, and the change."""
    found = {when: float(result.measures[0].item_N[number]) for when, result in _results(each)}
    shares = {f"{each.after.measures[0].name}_{when}": value for when, value in found.items()}
    return shares | ({"change": found["after"] - found["before"]} if len(found) == 2 else {})
