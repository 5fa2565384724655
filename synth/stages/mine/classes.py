"""Mine classification samples: the most similar texts of other classes of a source become negatives."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

from synth.records import UserError, key_of, text_id
from synth.stages.encoders import spending
from synth.stages.mine.labelled_texts import Classes, sameness
from synth.stages.mine.miners import Steps, Vectors
from synth.stages.mine.other_classes import OtherClasses
from synth.stages.mine.settings import MineSettings
from synth.stages.mine.symmetric import counted, symmetric_vectors
from synth.stages.vectors import mining_errors
from synth.store import label_minings, runs, sources
from synth.store.connection import Store
from synth.store.label_minings import ClassMined, Labelled
from synth.store.runs import Run

if TYPE_CHECKING:
    from mining.search import Searcher

DECISIVE = ("num_negatives", "near_positive", "near_duplicate")  # settings that decide which negatives there are


@dataclass(frozen=True)
class ClassPlan:
    """The sources with samples that these settings have not mined, and what mines them."""

    settings: MineSettings
    vectors: Vectors
    searcher: "Searcher"
    stage_key: UUID
    sources: Mapping[str, Classes]
    notes: list[str]  # told at the end


@dataclass(frozen=True)
class ClassOutcome:
    """
    What was done: `statuses` counts samples by how many negatives they got, `flags` negatives that were set aside,
    `left_out` samples that nothing was searched for (they stay to be mined), `num_nearer_others` samples that are
    nearer to a text of another class than to any of their own.
    """

    run_id: str
    encoder: str
    search: str
    num_samples: int
    num_negatives: int
    num_nearer_others: int
    statuses: Mapping[str, int]
    flags: Mapping[str, int]
    left_out: Mapping[str, int]
    notes: Sequence[str]


def plan_classes(
    store: Store, settings: MineSettings, names: Sequence[str], folder: Path, *, device: str = "auto"
) -> ClassPlan:
    """
    Choose encoder and search, and find the classification samples to train on that these settings have not mined.

    Args:
        names: of sources; none means all.
        folder: where vectors are cached.
        device: of model and search, as for `plan_mine`.

    Raises UserError for an unknown source, a model that cannot be had, or settings that make no sense.
    """
    from mining.search import load_searcher

    settings.checked()
    if settings.num_negatives < 1:
        raise UserError(f"num_negatives is {settings.num_negatives}: ask for 1 or more")
    sources.check_sources(store, names)
    notes: list[str] = []
    with mining_errors():
        vectors = symmetric_vectors(settings, folder, notes, device=device)
        searcher = load_searcher(device=device, precision=settings.precision, backend=settings.search)
        fingerprint = vectors.encoder.for_queries().fingerprint
    key = key_of("mine classification", fingerprint, [getattr(settings, name) for name in DECISIVE])
    samples, held_out = label_minings.labelled(store, key, names)
    by_source: dict[str, list[Labelled]] = {}
    for sample in samples:
        by_source.setdefault(sample.source, []).append(sample)
    not_ours = {sameness(text) for text in held_out}
    waiting = {name: each for name, each in by_source.items() if any(sample.is_pending for sample in each)}
    found = {name: Classes(each, not_ours) for name, each in waiting.items()}
    return ClassPlan(settings, vectors, searcher, key, found, notes)


def mine_classes(store: Store, plan: ClassPlan, *, steps: Steps) -> ClassOutcome:
    """
    Encode, search and store, a group of samples at a time.

    Args:
        steps: opens each step of the work; `synth.screen.progress` shows it.

    Raises UserError if the encoder or the search cannot work.
    """
    tally = _Tally()
    config = counted(plan.settings, "classification", "search", *DECISIVE)
    encoder = plan.vectors.encoder
    with (
        mining_errors(),
        store.sole(plan.stage_key, "mining with the same settings"),
        runs.recorded(store, "mine", config, model=plan.settings.encoder, device=encoder.description) as run,
    ):
        for name, classes in plan.sources.items():
            by_class, of_source = classes.pending()
            tally.left_out.update(of_source)
            texts = {text_id(text): text for text in classes.texts}
            for results in _mined(plan, run, name, by_class, steps):
                with run.step("store", len(results)), store.write() as cursor:
                    stored = label_minings.add_class_mined(cursor, plan.stage_key, run.run_id, results, texts)
                run.count(samples=len(results), negatives=stored)
                tally.add(results)
    if said := spending(encoder):
        plan.notes.append(f"asked of the server: {said}")
    return ClassOutcome(
        run_id=str(run.run_id),
        encoder=encoder.description,
        search=plan.searcher.description,
        num_samples=run.counts.get("samples", 0),
        num_negatives=run.counts.get("negatives", 0),
        num_nearer_others=tally.num_nearer,
        statuses=dict(tally.statuses),
        flags=dict(tally.flags),
        left_out=dict(tally.left_out),
        notes=plan.notes,
    )


class _Tally:
    """What is counted over all sources."""

    def __init__(self) -> None:
        self.statuses: Counter[str] = Counter()
        self.flags: Counter[str] = Counter()
        self.left_out: Counter[str] = Counter()
        self.num_nearer = 0

    def add(self, results: Sequence[ClassMined]) -> None:
        self.statuses.update(each.status for each in results)
        self.flags.update(flag for each in results for negative in each.negatives for flag in negative.flags)
        self.num_nearer += sum(each.positive_rank > 1 for each in results)


def _mined(
    plan: ClassPlan, run: Run, name: str, by_class: Mapping[str, Sequence[Labelled]], steps: Steps
) -> Iterator[list[ClassMined]]:
    """What the samples of a source get, a group at a time."""
    if not by_class:
        return
    classes = plan.sources[name]
    number, searcher = len(classes.texts), plan.searcher
    with (
        steps(f"encode {name}", number) as advance,
        run.step("encode texts", number, plan.vectors.encoder.description),
    ):
        text_MD = plan.vectors.queries(classes.texts, advance)
    others = OtherClasses(searcher, plan.settings, classes, text_MD)
    with steps(f"mine {name}", sum(map(len, by_class.values()))) as advance:
        for group in others.groups(by_class):
            with run.step("search", len(group), searcher.description):
                results = others.mine(group)
            yield results
            advance(len(group))
