"""What is measured of the samples of each source: from what mining and judges found, or with an encoder."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from uuid import UUID

import numpy as np

from synth.records import Task
from synth.stages.mine.boundary import boundary_key
from synth.stages.triage.neighbours import vote
from synth.stages.triage.rewriting import RULES, rule_hits, rules_of
from synth.stages.triage.scores import Numbers, rank_shares
from synth.store import label_minings, triages
from synth.store.connection import Store
from synth.store.label_minings import Labelled, ScoredPair
from synth.store.runs import Run
from synth.store.triages import EVIDENCE, Stored

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mining.search import Searcher
    from synth.stages.mine.miners import Steps, Vectors


@dataclass(frozen=True)
class Means:
    """What measures, where vectors are needed."""

    vectors: "Vectors"
    searcher: "Searcher"


@dataclass
class Group:
    """The samples of one task and source, N of them, with what was measured of each; not a number: nothing is known."""

    task: Task
    source: str
    samples: Sequence[tuple[UUID, UUID]]  # sample and revision
    values: dict[str, Numbers] = field(default_factory=dict)  # by part, (N,)
    labels: Sequence[tuple[str, ...]] = ()  # of labelled texts, the likeliest of each


@dataclass(frozen=True)
class Work:
    """Where samples come from, and where it is shown and recorded how far it is."""

    store: Store
    run: Run
    steps: "Steps"


def measured(work: Work, task: Task, names: Sequence[str], means: Means | None) -> Iterator[Group]:
    """
    The samples of a task, source by source, without rewrites' rules.

    Args:
        means: there for sts and classification samples.
    """
    if task is Task.RETRIEVAL:
        yield from _retrieval(work, names)
        return
    assert means is not None
    if task is Task.STS:
        yield from _pairs(work, names, means)
    else:
        yield from _labelled(work, names, means)


def add_rule_hits(work: Work, group: Group, stage_key: UUID, stored: Mapping[UUID, Stored]) -> None:
    """
    Measure the samples that rewrite another one by the rules for these; what such a stage has looked at is as stored,
    for neither text changes.
    """
    made_by = triages.rewritten(work.store, group.task, group.source)
    if not made_by:
        return
    known = {each for each in made_by if each in stored and stored[each].stage_key == stage_key}
    hits = {each: {name: stored[each].parts.get(name, 0.0) for name in rules_of(made_by[each])} for each in known}
    fresh = triages.rewrites(work.store, group.task, group.source, sorted(made_by.keys() - known))
    with work.steps(f"compare rewrites of {group.source}", len(fresh)) as advance, work.run.step("rules", len(fresh)):
        for each in fresh:
            found = rule_hits(each.operation, each.content, each.original)
            hits[each.revision_id] = {name: float(number) for name, number in found.items()}
            advance(1)
    for name in RULES:
        group.values[name] = np.array([hits.get(each, {}).get(name, np.nan) for _, each in group.samples])


def _retrieval(work: Work, names: Sequence[str]) -> Iterator[Group]:
    with work.run.step("read negatives") as step:
        by_source = triages.evidence(work.store, names)
        step.number = sum(map(len, by_source.values()))
    for source, rows in by_source.items():
        values = {name: np.array([getattr(row, name) for row in rows], dtype=np.float64) for name in EVIDENCE}
        known = {name: column for name, column in values.items() if np.isfinite(column).any()}
        yield Group(Task.RETRIEVAL, source, [(row.sample_id, row.revision_id) for row in rows], known)


def _pairs(work: Work, names: Sequence[str], means: Means) -> Iterator[Group]:
    by_source: dict[str, list[ScoredPair]] = {}
    for pair in label_minings.scored(work.store, boundary_key(means.vectors), names):
        by_source.setdefault(pair.source, []).append(pair)
    for source, pairs in by_source.items():
        cosine_N = np.array([np.nan if pair.cosine is None else pair.cosine for pair in pairs])
        fresh = np.flatnonzero(np.isnan(cosine_N))
        if len(fresh):
            cosine_N[fresh] = _cosines(work, means, source, [pairs[row] for row in fresh])
        score_N = np.array([pair.score for pair in pairs], dtype=np.float64)
        off_N = np.abs(rank_shares(score_N) - rank_shares(cosine_N))
        yield Group(Task.STS, source, [(pair.sample_id, pair.revision_id) for pair in pairs], {"ranks": off_N})


def _cosines(work: Work, means: Means, source: str, pairs: Sequence[ScoredPair]) -> "NDArray[np.float32]":
    from mining.search import pair_scores

    both_TD = _encoded(work, means, source, [text for pair in pairs for text in (pair.text1, pair.text2)])
    return pair_scores(both_TD[0::2], both_TD[1::2])


def _labelled(work: Work, names: Sequence[str], means: Means) -> Iterator[Group]:
    by_source: dict[str, list[Labelled]] = {}
    rows, _ = label_minings.labelled(work.store, boundary_key(means.vectors), names)
    for row in rows:
        by_source.setdefault(row.source, []).append(row)
    for source, texts in by_source.items():
        text_ND = _encoded(work, means, source, [each.text for each in texts])
        with work.run.step("search", len(texts), means.searcher.description):
            voted = vote(means.searcher, text_ND, [each.label for each in texts])
        samples = [(each.sample_id, each.revision_id) for each in texts]
        yield Group(Task.CLASSIFICATION, source, samples, {"neighbours": voted.share_N}, voted.labels)


def _encoded(work: Work, means: Means, source: str, texts: Sequence[str]) -> "NDArray[np.float32]":
    description = means.vectors.encoder.description
    with work.steps(f"encode {source}", len(texts)) as advance, work.run.step("encode texts", len(texts), description):
        return means.vectors.queries(texts, advance)
