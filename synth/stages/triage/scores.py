"""
What was measured of the samples of one source becomes scores: pure functions. N samples, V pairs of a source.

A score is in standard deviations above the mean of its kind, which is the same part of the same source: cosines of
another language, or scores of other people, have another scale.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from synth.store.triages import Part

Numbers = NDArray[np.float64]

LEAST_SPREAD = 1e-9  # a standard deviation below it is a rounding error


def standard_scores(value_N: Numbers) -> Numbers:
    """(N,) how far each is above the mean, in standard deviations; not a number where there is no value."""
    is_there_N = np.isfinite(value_N)
    score_N = np.full(len(value_N), np.nan)
    if is_there_N.any():
        known = value_N[is_there_N]
        spread = float(known.std())
        score_N[is_there_N] = (known - known.mean()) / spread if spread > LEAST_SPREAD else 0.0
    return score_N


def priorities(score_N: Mapping[str, Numbers], number: int) -> Numbers:
    """(N,) the sum of the parts' scores, of which only those above the mean count."""
    total_N = np.zeros(number)
    for scores in score_N.values():
        total_N += np.maximum(np.nan_to_num(scores, nan=0.0), 0.0)
    return total_N


def parts_at(values: Mapping[str, Numbers], scores: Mapping[str, Numbers], row: int) -> tuple[Part, ...]:
    """What was measured of one sample, the worst first."""
    found = [Part(name, float(values[name][row]), float(scores[name][row])) for name in values]
    return tuple(sorted((part for part in found if np.isfinite(part.value)), key=lambda part: (-part.score, part.name)))


def rank_shares(value_N: Numbers) -> Numbers:
    """(N,) the ranks of numbers, 0 for the least and 1 for the greatest; equal ones share the mean of their ranks."""
    if len(value_N) < 2:
        return np.zeros(len(value_N))
    _, place_N, count = np.unique(value_N, return_inverse=True, return_counts=True)
    last = np.cumsum(count) - 1
    shares: Numbers = ((last - (count - 1) / 2) / (len(value_N) - 1))[place_N]
    return shares
