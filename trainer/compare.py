"""
Two models side by side on the same sets: every measure of both, the change, and how sure it is.

Both are measured on the same queries, pairs and texts. Intervals are those of a bootstrap over these, with the same
resamples for both, so that the interval of a change is narrower than those of the two values.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from mining import MiningError
from synth.records import Task, UserError
from synth.screen import progress
from trainer.encoder import find_model
from trainer.export import instructions
from trainer.measure import Measured, Measurer, Result, measure
from trainer.metrics import Interval, bootstrap, interval
from trainer.release import Release
from trainer.sets import EvaluationSet, LabelledSet, PairSet, RetrievalSet
from trainer.texts import query_prefix

KINDS: dict[Task, type] = {Task.RETRIEVAL: RetrievalSet, Task.STS: PairSet, Task.CLASSIFICATION: LabelledSet}
MAIN = {RetrievalSet: "nDCG@10", PairSet: "Spearman", LabelledSet: "accuracy"}
RESAMPLES = 2000


@dataclass(frozen=True, slots=True)
class Change:
    """
    One measure of one set for two models; `change` is after less before, and nothing is None. Where there is no value,
    the note says why. `better` and `worse` count queries or texts; of pairs no single one is better.
    """

    set: str
    measure: str
    num_items: int
    before: float | None
    after: float | None
    change: float | None
    before_interval: Interval | None = None
    after_interval: Interval | None = None
    change_interval: Interval | None = None
    better: int | None = None
    worse: int | None = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class Comparison:
    """A set, and what each model makes of it."""

    one: EvaluationSet
    before: Result | None
    after: Result


@dataclass(frozen=True, slots=True)
class Settings:
    """How models are measured: where, in what precision, and with how many resamples of which seed."""

    device: str = "auto"
    precision: str = "fp32"
    max_length: int | None = None  # tokens of a text; None: the model's own
    resamples: int = RESAMPLES
    seed: int = 0


def compare(
    model: str, against: str, sets: Sequence[EvaluationSet], release: Release | None, settings: Settings
) -> tuple[list[Comparison], str]:
    """
    Measure a model, and one to compare it with unless that is "", on these sets.

    Args:
        release: gives a set the instruction of its samples of that name, and texts to fit a classifier on.

    Returns:
        The results by set, and the device with its precision.

    Raises:
        UserError: no such model or device, or a model that gives a text no vector.
    """
    results: list[list[Result]] = []
    told = ""
    for name in (against, model) if against else (model,):
        measurer = measurer_of(name, release, settings)
        told = f"{', '.join(measurer.encoder.devices)}, {measurer.encoder.precision}"
        found = []
        with progress(f"measuring {name}", len(sets)) as advance:
            for one in sets:
                try:
                    found.append(measure(one, measurer))
                except MiningError as error:
                    raise UserError(f"{one.name}: {error}") from None
                advance(1)
        results.append(found)
    before: Sequence[Result | None] = results[0] if against else [None] * len(sets)
    return [Comparison(*each) for each in zip(sets, before, results[-1], strict=True)], told


def measurer_of(name: str, release: Release | None, settings: Settings) -> Measurer:
    """
    A model, ready to be measured.

    Raises:
        UserError: there is no such model or device.
    """
    from mining.encode import load_encoder

    find_model(name)  # with the trainer's words for what is no model
    try:
        encoder = load_encoder(
            name, device=settings.device, precision=settings.precision, max_length=settings.max_length
        )
    except MiningError as error:
        raise UserError(str(error)) from None
    prefixes: dict[tuple[type, str], str] = {}
    fitting: dict[str, tuple[list[str], list[str]]] = {}
    if release is not None:
        for task, kind in KINDS.items():
            prefixes |= {(kind, name): query_prefix(text) for name, text in instructions(release, task).items()}
        if Task.CLASSIFICATION in release.samples:
            for row in release.samples[Task.CLASSIFICATION].select(["dataset", "text", "label"]).to_pylist():
                texts, labels = fitting.setdefault(row["dataset"], ([], []))
                texts.append(row["text"])
                labels.append(row["label"])
    return Measurer(encoder, prefixes, fitting, settings.device)


def changes(each: Comparison, settings: Settings) -> Iterator[Change]:
    """Every measure of a set; one without a value, named by its kind, where nothing could be measured."""
    note = each.after.note or (each.before.note if each.before else "")
    old = {found.name: found for found in each.before.measures} if each.before else {}
    new = {found.name: found for found in each.after.measures}
    for name in new or old or [MAIN[type(each.one)]]:
        yield _change(each, name, old.get(name), new.get(name), note, settings)


def _change(
    each: Comparison, name: str, old: Measured | None, new: Measured | None, note: str, settings: Settings
) -> Change:
    number = each.after.num_items
    statistics = [found.statistic for found in (old, new) if found is not None]
    drawn = bootstrap(statistics, number, resamples=settings.resamples, seed=settings.seed) if statistics else None
    change = change_interval = better = worse = None
    if drawn is not None and old is not None and new is not None:
        change, change_interval = new.value - old.value, interval(drawn[1] - drawn[0])
        if new.is_mean:
            better, worse = int((new.item_N > old.item_N).sum()), int((new.item_N < old.item_N).sum())
    return Change(
        set=each.one.name,
        measure=name,
        num_items=number,
        before=None if old is None else old.value,
        after=None if new is None else new.value,
        change=change,
        before_interval=None if drawn is None or old is None else interval(drawn[0]),
        after_interval=None if drawn is None or new is None else interval(drawn[-1]),
        change_interval=change_interval,
        better=better,
        worse=worse,
        note=note,
    )
