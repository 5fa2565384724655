"""
What is measured of rankings, of scores and of predictions, and how sure that is. Pure functions of arrays.

Shapes: Q queries, k passages found of each, N items of any kind, R resamples.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Statistic = Callable[[NDArray[np.int64]], Floats]  # rows of resampled items (R, N) -> a value of each resample (R,)

LEVEL = 0.95
CHUNK = 1 << 22  # numbers of resampled items at a time


def gains(found: Sequence[Sequence[str]], grades: Sequence[Mapping[str, float]], k: int) -> Floats:
    """(Q, k): the grade of each passage found, best first; 0 where it is not relevant, or fewer were found."""
    gain_Qk = np.zeros((len(found), k))
    for row, (passages, graded) in enumerate(zip(found, grades, strict=True)):
        gain_Qk[row, : min(k, len(passages))] = [graded.get(passage, 0.0) for passage in passages[:k]]
    return gain_Qk


def ndcg(gain_Qk: Floats, grades: Sequence[Collection[float]], k: int = 10) -> Floats:
    """
    (Q,): normalised discounted cumulative gain of the first k, with the grade as the gain, as trec_eval has it.

    Args:
        grades: of every relevant passage of a query; each has one at least.
    """
    discount_k = 1 / np.log2(np.arange(2, k + 2))
    ideal_Qk = np.zeros((len(grades), k))
    for row, values in enumerate(grades):
        best = sorted(values, reverse=True)[:k]
        ideal_Qk[row, : len(best)] = best
    return np.asarray((gain_Qk[:, :k] @ discount_k[: gain_Qk.shape[1]]) / (ideal_Qk @ discount_k))


def reciprocal_rank(gain_Qk: Floats, k: int = 10) -> Floats:
    """(Q,): one by the rank of the first relevant passage, 0 if none is among the first k."""
    relevant_Qk = gain_Qk[:, :k] > 0
    return np.where(relevant_Qk.any(axis=1), 1 / (relevant_Qk.argmax(axis=1) + 1), 0.0)


def recall(gain_Qk: Floats, grades: Sequence[Collection[float]], k: int = 10) -> Floats:
    """(Q,): which part of a query's relevant passages is among the first k."""
    return np.asarray((gain_Qk[:, :k] > 0).sum(axis=1) / np.array([len(values) for values in grades]))


def spearman(first_N: Floats, second_N: Floats) -> float:
    """Rank correlation, with mean ranks for what is equal; not a number if all of one side is equal."""
    return float(_spearman_rows(first_N[None], second_N[None])[0])


def _spearman_rows(first_RN: Floats, second_RN: Floats) -> Floats:
    from scipy.stats import rankdata

    def centred(values_RN: Floats) -> Floats:
        ranks_RN = rankdata(values_RN, axis=1)
        return np.asarray(ranks_RN - ranks_RN.mean(axis=1, keepdims=True))

    left_RN, right_RN = centred(first_RN), centred(second_RN)
    size_R = np.sqrt((left_RN**2).sum(axis=1) * (right_RN**2).sum(axis=1))
    return np.asarray(
        np.divide((left_RN * right_RN).sum(axis=1), size_R, out=np.full(len(size_R), np.nan), where=size_R > 0)
    )


def mean_of(value_N: Floats) -> Statistic:
    """The mean, of the items that a resample has."""
    return lambda row_RN: np.asarray(value_N[row_RN].mean(axis=1))


def spearman_of(first_N: Floats, second_N: Floats) -> Statistic:
    """The rank correlation of the items that a resample has."""
    return lambda row_RN: _spearman_rows(first_N[row_RN], second_N[row_RN])


@dataclass(frozen=True, slots=True)
class Interval:
    """Between which values 95 of 100 resamples lie."""

    low: float
    high: float


def bootstrap(statistics: Sequence[Statistic], num_items: int, *, resamples: int, seed: int) -> Floats:
    """
    (len(statistics), R) values of statistics of the same resamples of N items, drawn with replacement: the differences
    of two rows are those of a paired bootstrap (Efron and Tibshirani 1993, chapter 13).
    """
    rng = np.random.default_rng(seed)
    at_once = max(1, CHUNK // num_items)
    parts = []
    for start in range(0, resamples, at_once):
        row_RN = rng.integers(num_items, size=(min(at_once, resamples - start), num_items))
        parts.append(np.stack([statistic(row_RN) for statistic in statistics]))
    return np.concatenate(parts, axis=1)


def interval(value_R: Floats) -> Interval | None:
    """The percentile interval of what resamples gave; None if too many of them gave nothing."""
    there_R = value_R[np.isfinite(value_R)]
    if len(there_R) < LEVEL * len(value_R):
        return None
    low, high = np.quantile(there_R, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(float(low), float(high))


def drawn_of_each_class(labels: Sequence[Any], *, of_each: int, times: int, seed: int) -> list[list[int]]:
    """
    Places of `of_each` items of every class (or all it has), drawn several times, as mteb draws the texts that it fits
    a classifier on: https://github.com/embeddings-benchmark/mteb, AbsTaskClassification.
    """
    order, drawn = list(range(len(labels))), []
    for _ in range(times):
        np.random.RandomState(seed).shuffle(order)
        counts: dict[Any, int] = {}
        places = []
        for place in order:
            number = counts.get(labels[place], 0)
            if number < of_each:
                counts[labels[place]] = number + 1
                places.append(place)
        drawn.append(places)
    return drawn
