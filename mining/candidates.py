"""
The lists of several miners joined: for each candidate which miners found it, at which rank, and what it scores.

The first miner's scores (the encoder's that scored the positives) decide for all of them what lies above the cap.
Shapes: Q queries, K survivors of the first miner, L candidates of another one, C joined candidates, S miners.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mining.filters import Survey, Window
from mining.fusion import fuse
from mining.search import Floats, Rows

Flags = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Listed:
    """What a miner found for each query, best first, masked rows left out; rows are -1 where it found no more."""

    rows_QL: Rows
    scores_QL: Floats  # its own, in its own units


@dataclass(frozen=True, slots=True)
class Candidates:
    """
    Joined candidates below the cap, best first: by fused rank (Cormack et al. 2009) where there are several miners.
    Rows are -1 where a query has fewer than C.
    """

    rows_QC: Rows
    scores_QC: Floats  # the first miner's
    ranks_QCS: Rows  # among all candidates of each miner, capped ones counted; 0: it has not found it
    own_scores_QCS: Floats  # of each miner
    above_QC: Flags  # a miner ranks it above the window
    inside_QC: Flags  # a miner ranks it in the window, and none above it
    below_QC: Flags  # below the window of the first miner, and in no other's

    def kept(self, chosen_QC: Flags) -> Flags:
        """Candidates of the window, or below it, that are also chosen."""
        return (self.inside_QC | self.below_QC) & chosen_QC


def join(
    survey: Survey, others: Sequence[Listed], window: Window, scores_of: Callable[[Rows, Rows], Floats]
) -> Candidates:
    """
    Join what the first miner surveyed with what others list.

    Args:
        scores_of: the first miner's scores of (P,) queries (places) and (P,) corpus rows, as it computes them.
    """
    lists = [(survey.rows_QK, survey.scores_QK, survey.ranks_QK("retrieval"), survey.ranks_QK(window.ranks))]
    for listed in others:
        lists.append(_below_cap(listed, survey, window, scores_of))
    rows_QC, _, _ = fuse([_closed_up(rows) for rows, _, _, _ in lists])  # all by rank among survivors
    ranks_QCS = np.zeros((*rows_QC.shape, len(lists)), dtype=np.int64)
    window_QCS = np.zeros_like(ranks_QCS)
    own_QCS = np.full(ranks_QCS.shape, np.nan, dtype=np.float32)
    for miner, (rows, own_scores, ranks, window_ranks) in enumerate(lists):
        place_QC = _places(rows_QC, rows)
        for target, values in ((ranks_QCS, ranks), (window_QCS, window_ranks), (own_QCS, own_scores)):
            found = np.take_along_axis(values, np.maximum(place_QC, 0), axis=1)
            target[:, :, miner] = np.where(place_QC >= 0, found, target[:, :, miner])
    scores_QC = own_QCS[:, :, 0].copy()
    query_P, place_P = np.nonzero((rows_QC >= 0) & np.isnan(scores_QC))
    scores_QC[query_P, place_P] = scores_of(query_P, rows_QC[query_P, place_P])
    above_QC = np.any((window_QCS > 0) & (window_QCS < window.rank_min), axis=2)
    in_a_window_QC = np.any((window_QCS >= window.rank_min) & (window_QCS <= window.rank_max), axis=2)
    inside_QC = in_a_window_QC & ~above_QC
    below_QC: Flags = (window_QCS[:, :, 0] > window.rank_max) & ~above_QC & ~inside_QC
    return Candidates(rows_QC, scores_QC, ranks_QCS, own_QCS, above_QC, inside_QC, below_QC)


def _below_cap(
    listed: Listed, survey: Survey, window: Window, scores_of: Callable[[Rows, Rows], Floats]
) -> tuple[Rows, Floats, Rows, Rows]:
    """A miner's rows without those at or above the cap, its scores, their ranks among all, and as the window counts."""
    rows_QL = listed.rows_QL.copy()
    query_P, place_P = np.nonzero(rows_QL >= 0)
    capped_P = scores_of(query_P, rows_QL[query_P, place_P]) >= survey.cap_Q[query_P]
    rows_QL[query_P[capped_P], place_P[capped_P]] = -1
    there_QL = rows_QL >= 0
    ranks_QL = np.where(there_QL, np.arange(1, rows_QL.shape[1] + 1), 0)
    surviving_QL = np.where(there_QL, there_QL.cumsum(axis=1), 0)
    return rows_QL, listed.scores_QL, ranks_QL, ranks_QL if window.ranks == "retrieval" else surviving_QL


def _closed_up(rows_QL: Rows) -> Rows:
    """The lists without gaps, in their order."""
    return np.take_along_axis(rows_QL, np.argsort(rows_QL < 0, axis=1, kind="stable"), axis=1)


def _places(wanted_QC: Rows, rows_QL: Rows) -> Rows:
    """(Q, C) where each wanted row stands in a query's list; -1 where it does not."""
    if not rows_QL.shape[1]:
        return np.full(wanted_QC.shape, -1, dtype=np.int64)
    number = rows_QL.shape[1]
    order_QL = np.argsort(rows_QL, axis=1, kind="stable")
    sorted_QL = np.take_along_axis(rows_QL, order_QL, axis=1)
    query_Q1 = np.arange(len(rows_QL))[:, None]
    apart = query_Q1 * (int(max(wanted_QC.max(initial=0), rows_QL.max(initial=0))) + 2)  # one list of all queries' rows
    at = np.searchsorted((sorted_QL + apart).reshape(-1), (wanted_QC + apart).reshape(-1))
    at_QC = np.minimum(at.reshape(wanted_QC.shape) - query_Q1 * number, number - 1)
    is_there_QC = (np.take_along_axis(sorted_QL, at_QC, axis=1) == wanted_QC) & (wanted_QC >= 0)
    return np.where(is_there_QC, np.take_along_axis(order_QL, at_QC, axis=1), -1)
