"""
Which of the candidates become negatives: the best, or some by chance that a seed and the query's id decide.

No query depends on the queries beside it. Shapes: Q queries, C candidates of a query, N negatives asked for.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from mining.candidates import Candidates, Flags
from mining.filters import Window
from mining.search import Rows

Doubles = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Chosen:
    """Chosen candidates, as places in a query's list, ascending; -1 where there are fewer than N."""

    places_QN: Rows
    relaxed_QN: Flags  # from below the window

    def of(self, values_QC: NDArray[Any], missing: object) -> NDArray[Any]:
        """What belongs to the chosen candidates, (Q, N, ...), out of a table of all, (Q, C, ...)."""
        if not values_QC.shape[1]:
            return np.full((*self.places_QN.shape, *values_QC.shape[2:]), missing, dtype=values_QC.dtype)
        places = self.places_QN.reshape(*self.places_QN.shape, *([1] * (values_QC.ndim - 2)))
        values: NDArray[Any] = np.take_along_axis(values_QC, np.maximum(places, 0), axis=1)
        values[np.broadcast_to(places < 0, values.shape)] = missing
        return values


def choose(
    candidates: Candidates, window: Window, query_ids: Sequence[UUID], seed: int, allowed_QC: Flags | None = None
) -> Chosen:
    """
    Choose up to N candidates of the window, and where those are too few, the next ones below it.

    Args:
        query_ids: (Q,); with the seed they decide the random choice.
        allowed_QC: what else must hold of a candidate; all are allowed if left out.
    """
    allowed_QC = np.ones(candidates.rows_QC.shape, dtype=bool) if allowed_QC is None else allowed_QC
    number = window.num_negatives
    inside_QC, below_QC = candidates.inside_QC & allowed_QC, candidates.below_QC & allowed_QC
    order_QC = _preference(candidates, window, query_ids, seed)
    order_QC[~inside_QC] = np.inf
    if "window" in window.relax:  # in their order, behind all of the window
        behind = np.arange(order_QC.shape[1]) + 1e30
        order_QC = np.where(below_QC, behind, order_QC)
    places = np.argsort(order_QC, axis=1, kind="stable")[:, :number]
    found = np.isfinite(np.take_along_axis(order_QC, places, axis=1))
    last = order_QC.shape[1]
    places_QN = np.full((len(order_QC), number), last, dtype=np.int64)
    places_QN[:, : places.shape[1]] = np.where(found, places, last)
    places_QN.sort(axis=1)
    places_QN[places_QN == last] = -1
    chosen = Chosen(places_QN, np.zeros_like(places_QN, dtype=bool))
    return Chosen(places_QN, chosen.of(below_QC, False))


def _preference(candidates: Candidates, window: Window, query_ids: Sequence[UUID], seed: int) -> Doubles:
    """(Q, C) what is chosen first has the smallest number."""
    shape = candidates.rows_QC.shape
    if window.choice == "top":
        return np.broadcast_to(np.arange(shape[1], dtype=np.float64), shape).copy()
    chance_QC = _uniform(query_ids, seed, shape[1])
    if window.choice == "random":
        return chance_QC
    # The N largest of score / temperature plus Gumbel noise are a draw without replacement (Kool et al. 2019).
    noise_QC = -np.log(-np.log(chance_QC))
    return -(candidates.scores_QC.astype(np.float64) / window.temperature + noise_QC)


def _uniform(query_ids: Sequence[UUID], seed: int, number: int) -> Doubles:
    """(Q, number) above 0 and below 1, by seed, query and place alone: the same on every machine and for ever."""
    halves_Q2 = np.frombuffer(b"".join(each.bytes for each in query_ids), dtype=">u8").astype(np.uint64).reshape(-1, 2)
    state_Q = _mixed(_mixed(halves_Q2[:, 0] ^ np.uint64(seed)) ^ halves_Q2[:, 1])
    steps = np.arange(1, number + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    return ((_mixed(state_Q[:, None] + steps) >> np.uint64(12)).astype(np.float64) + 0.5) / 2.0**52


def _mixed(state: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The output function of SplitMix64 (Steele, Lea and Flood 2014)."""
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return cast(NDArray[np.uint64], state ^ (state >> np.uint64(31)))
