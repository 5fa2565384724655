"""How far judges agree with people and with each other: on what both judged, and beyond what chance would give."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from synth.store.connection import Store
from synth.store.judge_pairs import Difference, judge_pairs
from synth.store.judge_people import Contradiction, Things, judge_people
from synth.store.judgements import GRADES

NUM_DIFFERENCES = 5  # that are shown of two judges, or of a judge and people


@dataclass(frozen=True, slots=True)
class PeopleAgreement:
    """
    Of a judge and people: how many samples or negatives (`things`) both judged, and who would leave out how many of
    these. With people as the measure `precision` is the share of what the judge would leave out that people left out,
    `recall` the share of what people left out that the judge would; None of nothing. `kappa` is Cohen's; None where
    both said one and the same throughout. `num_people_first` were decided before any judge had graded them.
    """

    judge: str
    things: Things
    num_compared: int
    num_both: int
    num_judge_alone: int
    num_people_alone: int
    num_neither: int
    num_people_first: int
    kappa: float | None
    precision: float | None
    recall: float | None
    missed: Mapping[str, int]  # people's reasons for what the judge would keep
    differences: Sequence[Contradiction]

    @property
    def num_equal(self) -> int:
        """On how many both say the same."""
        return self.num_both + self.num_neither


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


def agreements_with_people(store: Store) -> list[PeopleAgreement]:
    """Of every judge that graded what people decided, by name: of samples, then of negatives."""
    found = []
    for each in judge_people(store, num_differences=NUM_DIFFERENCES):
        both, alone = each.counts.get((True, True), 0), each.counts.get((True, False), 0)
        missed = each.counts.get((False, True), 0)
        found.append(
            PeopleAgreement(
                judge=each.judge,
                things=each.things,
                num_compared=sum(each.counts.values()),
                num_both=both,
                num_judge_alone=alone,
                num_people_alone=missed,
                num_neither=each.counts.get((False, False), 0),
                num_people_first=each.num_people_first,
                kappa=kappa(each.counts, weights=None),
                precision=both / (both + alone) if both + alone else None,
                recall=both / (both + missed) if both + missed else None,
                missed=each.missed,
                differences=each.differences,
            )
        )
    return found


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


def kappa(
    counts: Mapping[tuple[int, int], int] | Mapping[tuple[bool, bool], int], *, weights: str | None
) -> float | None:
    """
    Cohen's kappa of `counts` of each pair of grades, or of yes and no; `weights` None or "quadratic". None where it has
    no value.
    """
    from sklearn.metrics import cohen_kappa_score

    if len({grade for pair in counts for grade in pair}) < 2:
        return None
    grades, others = zip(*counts, strict=True)
    numbers = list(counts.values())
    return float(cohen_kappa_score(grades, others, labels=list(GRADES), weights=weights, sample_weight=numbers))
