"""
Mine scored pairs: where an encoder's cosines best part the upper half of a source's scores from the lower half.

Pairs near that boundary the encoder is undecided about; on its wrong side score and encoder disagree.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

from synth.records import key_of
from synth.stages.encoders import spending
from synth.stages.mine.miners import Steps, Vectors
from synth.stages.mine.settings import MineSettings
from synth.stages.mine.symmetric import counted, symmetric_vectors
from synth.stages.vectors import mining_errors
from synth.store import label_minings, runs, sources
from synth.store.connection import Store
from synth.store.label_minings import Boundary, ScoredPair
from synth.store.runs import Run

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True)
class BoundaryPlan:
    """The pairs of the sources of which some have no cosine yet by this encoder, and what encodes them."""

    settings: MineSettings
    vectors: Vectors
    stage_key: UUID
    pairs: Mapping[str, Sequence[ScoredPair]]
    notes: list[str]  # told at the end


@dataclass(frozen=True)
class BoundaryOutcome:
    """What was done: how many pairs were scored, and the boundary of each source that had any to score."""

    run_id: str
    encoder: str
    num_pairs: int
    boundaries: Sequence[Boundary]
    notes: Sequence[str]


def boundary_key(vectors: Vectors) -> UUID:
    """What the cosines of pairs by this encoder are stored under."""
    return key_of("mine sts", vectors.encoder.for_queries().fingerprint)


def plan_boundaries(
    store: Store, settings: MineSettings, names: Sequence[str], folder: Path, *, device: str = "auto"
) -> BoundaryPlan:
    """
    Choose the encoder, and find the scored pairs to train on.

    Args:
        names: of sources; none means all.
        folder: where vectors are cached.
        device: of the model, as for `plan_mine`.

    Raises UserError for an unknown source, or a model that cannot be had.
    """
    settings.checked()
    sources.check_sources(store, names)
    notes: list[str] = []
    with mining_errors():
        vectors = symmetric_vectors(settings, folder, notes, device=device)
        key = boundary_key(vectors)
    by_source: dict[str, list[ScoredPair]] = {}
    for pair in label_minings.scored(store, key, names):
        by_source.setdefault(pair.source, []).append(pair)
    waiting = {name: pairs for name, pairs in by_source.items() if any(pair.cosine is None for pair in pairs)}
    return BoundaryPlan(settings, vectors, key, waiting, notes)


def mine_boundaries(store: Store, plan: BoundaryPlan, *, steps: Steps) -> BoundaryOutcome:
    """
    Encode the pairs that have no cosine yet, and draw the boundary of their source over all that it has. A source's
    cosines and its boundary are stored together.

    Args:
        steps: opens each step of the work; `synth.screen.progress` shows it.

    Raises UserError if the encoder cannot work.
    """
    boundaries = []
    encoder = plan.vectors.encoder
    config = counted(plan.settings, "sts")
    with (
        mining_errors(),
        store.sole(plan.stage_key, "mining with the same settings"),
        runs.recorded(store, "mine", config, model=plan.settings.encoder, device=encoder.description) as run,
    ):
        for name, pairs in plan.pairs.items():
            if len({pair.score for pair in pairs}) == 1:
                plan.notes.append(f"{name}: all its pairs have one score, so nothing parts them")
                continue
            fresh = [pair for pair in pairs if pair.cosine is None]
            cosines = _cosines(plan, run, fresh, name, steps)
            left = iter(cosines)
            all_of_them = [next(left) if pair.cosine is None else pair.cosine for pair in pairs]
            drawn = draw_boundary(name, [pair.score for pair in pairs], all_of_them)
            with run.step("store", len(fresh)), store.write() as cursor:
                scored = list(zip(fresh, cosines, strict=True))
                label_minings.add_cosines(cursor, plan.stage_key, run.run_id, scored, drawn)
            run.count(samples=len(fresh))
            boundaries.append(drawn)
    if said := spending(encoder):
        plan.notes.append(f"asked of the server: {said}")
    return BoundaryOutcome(str(run.run_id), encoder.description, run.counts.get("samples", 0), boundaries, plan.notes)


def _cosines(plan: BoundaryPlan, run: Run, pairs: Sequence[ScoredPair], name: str, steps: Steps) -> list[float]:
    from mining.search import pair_scores

    texts = [text for pair in pairs for text in (pair.text1, pair.text2)]
    with (
        steps(f"encode {name}", len(texts)) as advance,
        run.step("encode texts", len(texts), plan.vectors.encoder.description),
    ):
        both_TD = plan.vectors.queries(texts, advance)
    cosine_N: NDArray[np.float32] = pair_scores(both_TD[0::2], both_TD[1::2])
    return [float(cosine) for cosine in cosine_N]


def draw_boundary(source: str, scores: Sequence[float], cosines: Sequence[float]) -> Boundary:
    """
    The cosine that best parts the upper half of the scores from the lower half: most pairs on their own side. It lies
    in the middle between two cosines, of several that are as good in the widest gap, then the lowest. Where no cosine
    parts them better than none, all pairs are on one side of it.

    The halves are cut between two scores, where they are most nearly equal, at the lower place if two are.

    Args:
        scores: at least two different ones.
        cosines: of the same pairs, in the same order.
    """
    import numpy as np

    score_N = np.sort(np.array(scores))
    values, number_below = np.unique(score_N, return_index=True)
    cut = 1 + int(np.argmin(np.abs(number_below[1:] - len(scores) / 2)))
    least_score = float(values[cut])
    order_N = np.argsort(cosines, kind="stable")
    cosine_N, is_upper_N = np.array(cosines)[order_N], (np.array(scores) >= least_score)[order_N]
    # At N + 1 places before, between and after the sorted cosines: pairs below that are of the lower half, and pairs
    # above that are of the upper half. Between equal cosines there is no place.
    num_correct = np.concatenate([[0], np.cumsum(~is_upper_N)]) + is_upper_N.sum()
    num_correct -= np.concatenate([[0], np.cumsum(is_upper_N)])
    gap = np.concatenate([[0.0], np.diff(cosine_N), [0.0]])
    num_correct[1:-1][gap[1:-1] <= 0] = -1
    best = int(np.lexsort((-gap, -num_correct))[0])
    if best == 0:
        boundary = float(cosine_N[0])
    elif best == len(cosine_N):
        boundary = float(np.nextafter(cosine_N[-1], np.inf))
    else:
        boundary = float(cosine_N[best - 1] + gap[best] / 2)
    return Boundary(source, boundary, least_score, len(scores), int(num_correct[best]))
