"""
The statistics of the dashboard: shares with their intervals, agreement of people, and rank correlation. Pure functions;
docs/dashboard.md says what each of them means and when to distrust it.
"""

from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from synth.stages.judge.agreement import kappa
from synth.stages.report.leak import wilson

FEWEST = 20  # what rests on fewer says so
FEW = f"fewer than {FEWEST}"
Word = tuple[Hashable, str, bool]  # what was judged, who judged it, whether they approved


@dataclass(frozen=True, slots=True)
class Share:
    """How many of how many, with the interval of 95 % by Wilson; None of nothing."""

    num: int
    total: int

    @property
    def value(self) -> float | None:
        """From 0 to 1."""
        return self.num / self.total if self.total else None

    @property
    def interval(self) -> tuple[float, float] | None:
        """From where to where the true share is, with 95 % confidence."""
        return wilson(self.num / self.total, self.total) if self.total else None

    @property
    def note(self) -> str:
        """What has to be said of it: that it rests on too little."""
        return FEW if self.total < FEWEST else ""


@dataclass(frozen=True, slots=True)
class PairAgreement:
    """
    Of two reviewers: how many revisions both judged, of how many both say the same, the share of approvals among all
    their words on these, and Cohen's kappa; None where both said one and the same throughout.
    """

    reviewer: str
    other: str
    same: Share
    approved: Share
    kappa: float | None


def pair_agreements(words: Iterable[Word]) -> list[PairAgreement]:
    """Every two reviewers who judged something in common, by name. A reviewer has one word on each thing."""
    said: defaultdict[Hashable, dict[str, bool]] = defaultdict(dict)
    for thing, reviewer, approves in words:
        said[thing][reviewer] = approves
    counts: defaultdict[tuple[str, str], Counter[tuple[bool, bool]]] = defaultdict(Counter)
    for by_reviewer in said.values():
        for pair in combinations(sorted(by_reviewer), 2):
            counts[pair][by_reviewer[pair[0]], by_reviewer[pair[1]]] += 1
    return [_pair_agreement(*pair, found) for pair, found in sorted(counts.items())]


def _pair_agreement(reviewer: str, other: str, counts: Mapping[tuple[bool, bool], int]) -> PairAgreement:
    total = sum(counts.values())
    same = sum(num for (first, second), num in counts.items() if first == second)
    approvals = sum(num * (first + second) for (first, second), num in counts.items())
    return PairAgreement(reviewer, other, Share(same, total), Share(approvals, 2 * total), kappa(counts, weights=None))


def alpha(units: Iterable[Sequence[int]], *, ordinal: bool = False) -> float | None:
    """
    Krippendorff's alpha of what several people said of the same things (Krippendorff, Computing Krippendorff's
    Alpha-Reliability, 2011). The package of that name gives the same to the last digit; its licence, the GPL, is not
    for a dependency of ours.

    Args:
        units: for each thing the values that it was given, one of each person; those with one value are left out.
        ordinal: the values are ordered, and far apart is worse than near; otherwise they are names.

    Returns:
        1 for full agreement, 0 for what chance gives, below 0 for less; None where there is one value only.
    """
    together: defaultdict[tuple[int, int], float] = defaultdict(float)  # o_ck: how often c stands beside k
    for values in units:
        for place, value in enumerate(values):
            for other_place, other in enumerate(values):
                if place != other_place:
                    together[value, other] += 1 / (len(values) - 1)
    totals: defaultdict[int, float] = defaultdict(float)  # n_c
    for (value, _), weight in together.items():
        totals[value] += weight
    if len(totals) < 2:
        return None
    number = sum(totals.values())
    apart = {
        (one, two): _ordinal_distance(one, two, totals) if ordinal else float(one != two)
        for one in totals
        for two in totals
    }
    observed = sum(weight * apart[pair] for pair, weight in together.items())
    by_chance = sum(totals[one] * totals[two] * apart[one, two] for one, two in apart) / (number - 1)
    return 1 - observed / by_chance


def _ordinal_distance(one: int, two: int, totals: Mapping[int, float]) -> float:
    """The square of how many values lie between the two, with half of each."""
    low, high = min(one, two), max(one, two)
    between = sum(num for value, num in totals.items() if low <= value <= high)
    return float((between - (totals[one] + totals[two]) / 2) ** 2) if one != two else 0.0


@dataclass(frozen=True, slots=True)
class Unanimity:
    """
    What several people said of the same things: `alpha`, how many pairs of their words are the same, and how often the
    commonest value was given.
    """

    alpha: float | None
    num_units: int
    same: Share
    commonest: Share


def unanimity(words: Iterable[tuple[Hashable, Any]], *, ordinal: bool = False) -> Unanimity:
    """Of words as (what was judged, what was said of it), one of each person."""
    said: defaultdict[Hashable, list[int]] = defaultdict(list)
    for thing, value in words:
        said[thing].append(int(value))
    units = [values for values in said.values() if len(values) > 1]
    pairs = [pair for values in units for pair in combinations(values, 2)]
    values = Counter(value for unit in units for value in unit)
    return Unanimity(
        alpha(units, ordinal=ordinal),
        len(units),
        Share(sum(one == two for one, two in pairs), len(pairs)),
        Share(max(values.values(), default=0), sum(values.values())),
    )


def spearman(pairs: Sequence[tuple[float, float]]) -> float | None:
    """Spearman's rank correlation, ties by their mean rank; None where one of the two has one value only."""
    from scipy.stats import spearmanr

    if any(len({pair[place] for pair in pairs}) < 2 for place in (0, 1)):
        return None
    return float(spearmanr(*zip(*pairs, strict=True)).statistic)
