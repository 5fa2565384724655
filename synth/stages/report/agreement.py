"""
Whether an encoder agrees with the scores of pairs: does the cosine of two texts rise with the score that they have?
Pure figures over scores and cosines; shapes: N pairs.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING
from uuid import UUID

from synth.stages.report.figures import Histogram, histogram, shared_edges
from synth.store.run_report import ScoredPair

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MOST_BANDS = 6
NUM_OUTLIERS = 5
FEWEST_RANKED = 3  # of two pairs, the correlation is 1 or -1 whatever they say
COSINE_DIGITS = 6  # beyond them is rounding, and the cosines of texts with themselves are alike
ALL = "all"
_TINY = 1e-9


@dataclass(frozen=True, slots=True)
class Band:
    """Cosines of the pairs that score from `low` to below `high` (the last band: up to it), or exactly `low`."""

    low: float
    high: float
    histogram: Histogram

    @property
    def name(self) -> str:
        """Its scores in words."""
        return told_score(self.low) if self.low == self.high else f"{told_score(self.low)} to {told_score(self.high)}"


@dataclass(frozen=True, slots=True)
class Outlier:
    """
    A pair that is far apart by score and by cosine. Ranks are from the first to the last one that pairs of this score
    (this cosine) share; 1 is the highest.
    """

    sample_id: UUID
    text1: str
    text2: str
    score: float
    score_ranks: tuple[int, int]
    cosine: float
    cosine_ranks: tuple[int, int]


@dataclass(frozen=True, slots=True)
class SourceAgreement:
    """
    Scored pairs of one source: the cosines of `all_pairs` and of each band of scores that has any, between the same
    edges; Spearman's rank correlation of score and cosine (None: it would say nothing, and `reason` is why); and the
    pairs whose ranks are farthest apart, the farthest first.
    """

    source: str
    all_pairs: Histogram
    bands: Sequence[Band]
    spearman: float | None
    reason: str
    outliers: Sequence[Outlier]

    @property
    def sorts(self) -> list[tuple[str, Histogram]]:
        """All pairs and each band, by name."""
        return [(ALL, self.all_pairs), *((band.name, band.histogram) for band in self.bands)]


@dataclass(frozen=True, slots=True)
class Agreement:
    """Scored pairs by source, by an encoder of which `encoder` states model, device and precision."""

    encoder: str
    sources: Sequence[SourceAgreement]
    notes: Sequence[str]


def agreement_by_source(found: Sequence[ScoredPair], cosine_N: "NDArray[np.float32]") -> list[SourceAgreement]:
    """The agreement of each source, by name: the scores of two sources need not be on one scale."""
    by_source: dict[str, list[tuple[ScoredPair, float]]] = {}
    for pair, cosine in zip(found, cosine_N, strict=True):
        by_source.setdefault(pair.source, []).append((pair, round(float(cosine), COSINE_DIGITS)))
    return [_agreement(source, by_source[source]) for source in sorted(by_source)]


def told_score(score: float) -> str:
    """A score as it was given: 4.2, and 5 where it is whole."""
    short = f"{score:zg}"
    return short if float(short) == score else repr(score)


def _agreement(source: str, scored: Sequence[tuple[ScoredPair, float]]) -> SourceAgreement:
    cosines = [cosine for _, cosine in scored]
    edges = shared_edges([cosines])
    drawn = histogram(cosines, edges)
    assert drawn is not None
    bands = []
    for low, high, places in score_bands([pair.score for pair, _ in scored]):
        of_band = histogram([cosines[place] for place in places], edges)
        assert of_band is not None
        bands.append(Band(low, high, of_band))
    reason = _why_unranked([pair.score for pair, _ in scored], cosines)
    spearman, outliers = (None, ()) if reason else _ranked(scored)
    return SourceAgreement(source, drawn, bands, spearman, reason, outliers)


def score_bands(scores: Sequence[float]) -> list[tuple[float, float, list[int]]]:
    """
    Bands of scores with the places of the scores in them, no band empty: one of each score where there are at most
    MOST_BANDS different ones, else as many between round numbers, whole ones if the scores span more than 1.
    """
    found: dict[tuple[float, float], list[int]] = {}
    different = set(scores)
    if len(different) <= MOST_BANDS:
        for place, score in enumerate(scores):
            found.setdefault((score, score), []).append(place)
    else:
        step, last = _step(min(different), max(different))
        for place, score in enumerate(scores):
            number = min(math.floor(score / step + _TINY), last)
            found.setdefault((_rounded(number * step), _rounded((number + 1) * step)), []).append(place)
    return [(low, high, found[low, high]) for low, high in sorted(found)]


def _step(least: float, most: float) -> tuple[float, int]:
    """How wide a band is, and the number of the last one, in steps from 0."""
    power = math.floor(math.log10(max(most / MOST_BANDS - least / MOST_BANDS, 1e-300)))
    for step in (factor * 10.0**power for factor in (1, 2, 5, 10, 20)):  # the last is wide enough for all
        first, last = math.floor(least / step + _TINY), math.ceil(most / step - _TINY) - 1
        if last - first < MOST_BANDS and (step >= 1 or most - least <= 1):
            break
    return step, last


def _rounded(edge: float) -> float:
    """Without what a product like 3 * 0.2 has in its last digits."""
    return float(f"{edge:.12g}") + 0.0


def _why_unranked(scores: Sequence[float], cosines: Sequence[float]) -> str:
    if len(scores) < FEWEST_RANKED:
        return f"fewer than {FEWEST_RANKED} pairs"
    if len(set(scores)) == 1:
        return f"all have the score {told_score(scores[0])}"
    return f"all have the cosine {cosines[0]:g}" if len(set(cosines)) == 1 else ""


def _ranked(scored: Sequence[tuple[ScoredPair, float]]) -> tuple[float, list[Outlier]]:
    """Spearman's correlation, which is Pearson's of the ranks, ties at their mean; and the pairs farthest apart."""
    import numpy as np

    score_N, cosine_N = [pair.score for pair, _ in scored], [cosine for _, cosine in scored]
    score_ranks_N2, cosine_ranks_N2 = _ranks(score_N), _ranks(cosine_N)
    spearman = float(np.corrcoef(score_ranks_N2.mean(axis=1), cosine_ranks_N2.mean(axis=1))[0, 1])
    apart = []
    for (pair, cosine), by_score, by_cosine in zip(
        scored, score_ranks_N2.tolist(), cosine_ranks_N2.tolist(), strict=True
    ):
        # From rank to rank, and not from mean to mean: where half of all pairs have the label 1, the highest cosines
        # are far from the middle of that half, and right.
        gap = max(by_score[0] - by_cosine[1], by_cosine[0] - by_score[1])
        each = Outlier(pair.sample_id, pair.text1, pair.text2, pair.score, tuple(by_score), cosine, tuple(by_cosine))
        apart += [(gap, each)] if gap > 0 else []
    apart.sort(key=lambda found: (-found[0], found[1].sample_id))
    return spearman, [each for _, each in apart[:NUM_OUTLIERS]]


def _ranks(values: Sequence[float]) -> "NDArray[np.int64]":
    """(N, 2): the first and the last rank that equal values share, the highest value's being 1."""
    import numpy as np
    from scipy.stats import rankdata

    falling = [-value for value in values]
    first_N, last_N = (rankdata(falling, method=method).astype(np.int64) for method in ("min", "max"))
    return np.stack([first_N, last_N], axis=1)
