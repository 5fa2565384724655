"""
Triage: how suspicious each sample to train on is, so that people look at the most suspicious ones first.

Every run measures all samples, from what is stored and from cached vectors, for a score says how far a sample is from
all others of its kind. It stores those that are new or whose figures changed, a block at a time; the same command again
goes on from there.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

from synth.records import Task, key_of
from synth.stages.encoders import spending
from synth.stages.mine.miners import Steps
from synth.stages.mine.settings import MineSettings
from synth.stages.mine.symmetric import counted, symmetric_vectors
from synth.stages.triage.measure import Group, Means, Work, add_rule_hits, measured
from synth.stages.triage.rewriting import RULES
from synth.stages.triage.scores import parts_at, priorities, standard_scores
from synth.stages.vectors import mining_errors
from synth.store import runs, sources, triages
from synth.store.connection import Store
from synth.store.triages import Stored, Triaged

VERSION = 1  # of what is measured: raise it where the same samples would give other figures
BLOCK = 5000  # samples stored together
FAR = 3.0  # standard deviations
NUM_SHOWN = 10  # samples of a task
UNLIKE = 0.05  # a priority that moved by less, because others moved, stays as it is stored
SAME_VALUE = 1e-3  # vectors that were encoded on another machine differ a little


@dataclass(frozen=True)
class TriagePlan:
    """Which samples are looked at, and with what. `means`: where there are sts or classification samples."""

    settings: MineSettings
    tasks: Mapping[Task, int]  # with how many samples there are
    names: Sequence[str]
    means: Means | None
    notes: list[str]  # told at the end

    def stage_key(self, task: Task) -> UUID:
        """Of all that decides the figures of a task beside the samples themselves."""
        vectors = None if task is Task.RETRIEVAL or self.means is None else self.means.vectors
        return key_of("triage", VERSION, task, vectors.encoder.for_queries().fingerprint if vectors else "")


@dataclass(frozen=True)
class PartFound:
    """A part of a task: of how many samples it is known, the mean and the most, and how many are FAR above the mean."""

    task: str
    name: str
    number: int
    mean: float
    most: float
    num_far: int


@dataclass(frozen=True)
class Suspect:
    """One of the most suspicious samples; `parts` are those above the mean, the worst first."""

    task: str
    source: str
    sample_id: str
    priority: float
    parts: Sequence[Mapping[str, Any]]
    text: str


@dataclass(frozen=True)
class TriageOutcome:
    """What was done, and what is stored now of the samples that were looked at."""

    run_id: str
    encoder: str  # "" where none was needed
    search: str
    num_samples: int
    num_new: int  # of these, stored for the first time
    num_changed: int
    parts: Sequence[PartFound] = ()
    suspects: Sequence[Suspect] = ()
    notes: Sequence[str] = field(default_factory=list)


def plan_triage(
    store: Store,
    settings: MineSettings,
    tasks: Sequence[Task],
    names: Sequence[str],
    folder: Path,
    *,
    device: str = "auto",
) -> TriagePlan:
    """
    Find out which samples there are to look at, and open the encoder if any of them need one.

    Args:
        tasks: none means all.
        names: of sources; none means all.
        folder: where vectors are cached.
        device: of model and search, as for `plan_mine`.

    Raises UserError for an unknown source, or a model that cannot be had.
    """
    settings.checked()
    sources.check_sources(store, names)
    number = triages.num_of_tasks(store, names)
    chosen = {task: number[task] for task in tasks or list(Task) if number.get(task)}
    notes: list[str] = []
    means = None
    if set(chosen) - {Task.RETRIEVAL}:
        from mining.search import load_searcher

        with mining_errors():
            vectors = symmetric_vectors(settings, folder, notes, device=device)
            means = Means(vectors, load_searcher(device=device, precision=settings.precision, backend=settings.search))
    return TriagePlan(settings, chosen, names, means, notes)


def triage(store: Store, plan: TriagePlan, *, steps: Steps) -> TriageOutcome:
    """
    Measure, score and store, source by source, and tell what is stored now.

    Args:
        steps: opens each step of the work; `synth.screen.progress` shows it.

    Raises UserError if the encoder or the search cannot work.
    """
    encoder = plan.means.vectors.encoder.description if plan.means else ""
    config = counted(plan.settings, ", ".join(plan.tasks), "search") | {"sources": list(plan.names)}
    model = plan.settings.encoder if plan.means else ""
    with (
        mining_errors(),
        store.sole(key_of("triage"), "triage"),
        runs.recorded(store, "triage", config, model=model, device=encoder) as run,
    ):
        work = Work(store, run, steps)
        for task in plan.tasks:
            key = plan.stage_key(task)
            for group in measured(work, task, plan.names, plan.means):
                _score(work, group, key)
    if plan.means and (said := spending(plan.means.vectors.encoder)):
        plan.notes.append(f"asked of the server: {said}")
    return TriageOutcome(
        run_id=str(run.run_id),
        encoder=encoder,
        search=plan.means.searcher.description if plan.means else "",
        num_samples=run.counts.get("samples", 0),
        num_new=run.counts.get("new", 0),
        num_changed=run.counts.get("changed", 0),
        parts=[PartFound(task, **row) for task in plan.tasks for row in _parts_found(store, plan, task)],
        suspects=[each for task in plan.tasks for each in _suspects(store, plan, task)],
        notes=plan.notes,
    )


def _score(work: Work, group: Group, stage_key: UUID) -> None:
    """Store those of a group that are new, or not as they are stored."""
    stored = triages.stored(work.store, group.task, group.source)
    add_rule_hits(work, group, stage_key, stored)
    work.run.count(samples=len(group.samples))
    found = [each for each in _triaged(group) if not _is_as_stored(each, stored.get(each.revision_id), stage_key)]
    with work.steps(f"store {group.source} ({group.task})", len(found)) as advance, work.run.step("store", len(found)):
        for start in range(0, len(found), BLOCK):
            block = found[start : start + BLOCK]
            with work.store.write() as cursor:
                triages.add_triaged(cursor, stage_key, work.run.run_id, block)
            num_new = sum(each.revision_id not in stored for each in block)
            work.run.count(new=num_new, changed=len(block) - num_new)
            advance(len(block))


def _triaged(group: Group) -> Iterator[Triaged]:
    scores = {name: standard_scores(values) for name, values in group.values.items()}
    total_N = priorities(scores, len(group.samples))
    for row, (sample_id, revision_id) in enumerate(group.samples):
        parts = parts_at(group.values, scores, row)
        told = tuple(part for part in parts if part.value or part.name not in RULES)  # of rules what they found
        labels = group.labels[row] if group.labels else ()
        yield Triaged(sample_id, revision_id, float(total_N[row]), told, labels)


def _is_as_stored(found: Triaged, stored: Stored | None, stage_key: UUID) -> bool:
    if stored is None or stored.stage_key != stage_key or stored.labels != found.labels:
        return False
    values = {part.name: part.value for part in found.parts}
    return (
        abs(found.priority - stored.priority) < UNLIKE
        and values.keys() == stored.parts.keys()
        and all(abs(value - stored.parts[name]) < SAME_VALUE for name, value in values.items())
    )


def _parts_found(store: Store, plan: TriagePlan, task: Task) -> list[dict[str, Any]]:
    return triages.found_of(store, task, plan.names, far=FAR)


def _suspects(store: Store, plan: TriagePlan, task: Task) -> Iterator[Suspect]:
    for row in triages.most_suspicious(store, task, plan.names, limit=NUM_SHOWN):
        above = [part for part in row.pop("parts") if part["score"] > 0]
        yield Suspect(task, parts=above, **row)
