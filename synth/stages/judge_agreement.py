"""How far judges agree: over the passages that both judged, and beyond what chance would give."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from synth.store.connection import Store
from synth.store.judge_pairs import Difference, judge_pairs
from synth.store.judgements import GRADES

NUM_DIFFERENCES = 5  # that are shown of two judges


@dataclass(frozen=True, slots=True)
class Agreement:
    """
    Of two judges: how many passages both judged, how many of these got equal grades from them, how many exactly one of
    them would leave out. `kappa` is Cohen's, `weighted_kappa` with a disagreement weighted by the square of the
    distance; None where both gave one and the same grade throughout, which chance would give as well.
    """

    judge: str
    other: str
    num_passages: int
    num_equal: int
    num_split: int
    kappa: float | None
    weighted_kappa: float | None
    differences: Sequence[Difference]


def agreements(store: Store) -> list[Agreement]:
    """Of every two judges that judged a passage in common, by name."""
    return [
        Agreement(
            judge=pair.judge,
            other=pair.other,
            num_passages=sum(pair.counts.values()),
            num_equal=sum(number for (grade, other), number in pair.counts.items() if grade == other),
            num_split=pair.num_split,
            kappa=kappa(pair.counts, weights=None),
            weighted_kappa=kappa(pair.counts, weights="quadratic"),
            differences=pair.differences,
        )
        for pair in judge_pairs(store, num_differences=NUM_DIFFERENCES)
    ]


def kappa(counts: Mapping[tuple[int, int], int], *, weights: str | None) -> float | None:
    """
    Cohen's kappa of grades, `counts` of each pair of them; `weights` None or "quadratic". None where it has no value.
    """
    from sklearn.metrics import cohen_kappa_score

    if len({grade for pair in counts for grade in pair}) < 2:
        return None
    grades, others = zip(*counts, strict=True)
    numbers = list(counts.values())
    return float(cohen_kappa_score(grades, others, labels=list(GRADES), weights=weights, sample_weight=numbers))
