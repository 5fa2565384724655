"""Distributions as they are drawn: how many values lie between which bounds."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

MOST_BINS = 14
LEFT_TO_THE_ENDS = 0.01  # of the values on either side: one text that is forty times too long must not hide the others
_STEPS = [step * 10.0**power for power in range(-2, 6) for step in (1, 2, 5)]
_TINY = 1e-9


@dataclass(frozen=True, slots=True)
class Histogram:
    """
    `counts[i]` values lie from `edges[i]` to below `edges[i + 1]`, the last up to it, but not of whole numbers. The
    first and the last count have in them what lies beyond, down to `least` and up to `most`.
    """

    edges: tuple[float, ...]
    counts: tuple[int, ...]
    least: float
    median: float
    most: float
    is_whole: bool = False

    @property
    def num(self) -> int:
        """How many values there are."""
        return sum(self.counts)

    def bound(self, place: int) -> tuple[float | None, float | None]:
        """Between what the values of one count lie; None where only `least` or `most` bounds them."""
        low, high = self.edges[place], self.edges[place + 1]
        is_first, is_last = place == 0, place == len(self.counts) - 1
        slack = _TINY * (high - low)
        is_beyond = self.most >= high if self.is_whole else self.most > high + slack
        return (None if is_first and self.least < low - slack else low, None if is_last and is_beyond else high)


def histogram(values: Sequence[float], edges: Sequence[float] = (), *, are_whole: bool = False) -> Histogram | None:
    """The distribution of values, between round numbers or these edges; None of no values."""
    finite = sorted(value for value in values if math.isfinite(value))
    if not finite:
        return None
    bounds = tuple(edges or round_edges(finite, are_whole=are_whole))
    counts = [0] * (len(bounds) - 1)
    width = (bounds[-1] - bounds[0]) / len(counts)
    for value in finite:
        place = math.floor((value - bounds[0]) / width + _TINY)
        counts[min(max(place, 0), len(counts) - 1)] += 1
    return Histogram(bounds, tuple(counts), finite[0], float(median(finite)), finite[-1], are_whole)


def round_edges(values: Sequence[float], *, are_whole: bool = False) -> list[float]:
    """
    Equally far apart by a round number, around almost all of these values, which are in order and not none. What lies
    beyond on either side has a count of its own, so that no other count has in it what its edges do not say.
    """
    for step in _STEPS:
        if are_whole and step < 1:
            continue
        first, last = _places(values, step, are_whole)
        if last - first < MOST_BINS:
            break
    return [round(place * step, 6) for place in range(first, last + 2)]


def _places(values: Sequence[float], step: float, are_whole: bool) -> tuple[int, int]:
    """The first and the last count, in steps from 0."""
    skipped = int(len(values) * LEFT_TO_THE_ENDS)
    low, high, most = values[skipped] / step, values[-1 - skipped] / step, values[-1] / step
    first, last = math.floor(low + _TINY), math.ceil(high - _TINY) - 1
    is_above = False
    if are_whole or most - _TINY > last + 1:  # the last count ends before its upper edge
        last = math.floor(high + _TINY)
        is_above = math.floor(most + _TINY) > last
    if last < first:  # all values are the edge itself: of a share of 1, up to 1 and not above
        first, last = (last, last) if last >= 0 else (first, first)
    is_below = math.floor(values[0] / step + _TINY) < first
    return first - is_below, last + is_above


def shared_edges(distributions: Sequence[Sequence[float]]) -> list[float]:
    """Edges for several distributions, to be compared."""
    return round_edges(sorted(value for values in distributions for value in values))
