"""
Choosing hard negatives: a window of retrieval ranks and a cap below the positive's score, both exact.

The positives of a query and everything equal to them are masked before ranks are counted. Scores sorted best first
fall, so the candidates below the cap are a tail of the list: the choice comes down to the rank where that tail begins.
No query is topped up in silence: each has an outcome, and the numbers that explain it.
Shapes: Q queries, M corpus rows, D dimensions, N negatives asked for.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import cast
from uuid import UUID

import numpy as np

from mining import MiningError
from mining.search import Floats, Rows, pair_scores, search

SCAN_QUERIES, SCAN_ROWS = 256, 16384  # a tile of the deep scan: 33 MB of float64


@dataclass(frozen=True, slots=True)
class Window:
    """
    Which candidates may become negatives. The defaults are those of QZhou-Embedding (ranks 10-30, 4 negatives; arXiv
    2508.21632) with the cap of NV-Retriever (TopK-PercPos 95 %; arXiv 2407.15831), searching on below the window
    where the cap leaves too few.

    Args:
        rank_min, rank_max: ranks among the candidates of a query, best first, from 1; both ends included.
        relative_cap: a negative scores below this share of the lowest positive score p. Below p - (1 - cap) |p|, to
            be exact: a share of a negative score would lie above it.
        absolute_margin: a negative scores below p - margin. With both, the lower cap holds.
        num_negatives: asked for, per query.
        choice: "random" out of the window, seeded per query, or "top", the best ones.
        widen: go on below rank_max, in order of rank, where the window holds fewer than num_negatives below the cap.
    """

    rank_min: int = 10
    rank_max: int = 30
    relative_cap: float | None = 0.95
    absolute_margin: float | None = None
    num_negatives: int = 4
    choice: str = "random"
    widen: bool = True

    def __post_init__(self) -> None:
        if not 1 <= self.rank_min <= self.rank_max:
            raise MiningError(f"ranks {self.rank_min}-{self.rank_max} are no window: ranks count from 1, best first")
        size = self.rank_max - self.rank_min + 1
        if not 1 <= self.num_negatives <= size:
            raise MiningError(f"ranks {self.rank_min}-{self.rank_max} hold {size}: ask for 1 to {size} negatives")
        if self.relative_cap is not None and not 0 < self.relative_cap <= 1:
            raise MiningError(f"relative_cap is {self.relative_cap}: give a share above 0 and up to 1, or none")
        if self.absolute_margin is not None and not self.absolute_margin >= 0:
            raise MiningError(f"absolute_margin is {self.absolute_margin}: give 0 or more, or none")
        if self.choice not in ("random", "top"):
            raise MiningError(f"there is no choice {self.choice!r}: use random or top")

    def cap(self, positive_score_Q: Floats) -> Floats:
        """(Q,) the score that a negative must stay below; infinite where nothing caps it."""
        caps = [np.full(len(positive_score_Q), np.inf)]
        positive = positive_score_Q.astype(np.float64)
        if self.relative_cap is not None:
            caps.append(positive - (1 - self.relative_cap) * np.abs(positive))
        if self.absolute_margin is not None:
            caps.append(positive - self.absolute_margin)
        return cast(Floats, np.minimum.reduce(caps).astype(np.float32))


class Outcome(StrEnum):
    """What became of a query."""

    FULL = "full"  # num_negatives out of the window
    WIDENED = "widened"  # num_negatives, some or all from below the window
    SHORT = "short"  # fewer
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Mined:
    """The negatives of Q queries, best first; where there are fewer than N, rows are -1 and scores not a number."""

    window: Window
    rows_QN: Rows
    ranks_QN: Rows  # among the candidates, masked rows not counted; 0 where there is none
    scores_QN: Floats
    positive_scores_Q: Floats
    positive_ranks_Q: Rows  # 1 + the number of candidates that score above the lowest positive
    num_candidates_Q: Rows  # corpus rows that are not masked
    num_capped_Q: Rows  # candidates at or above the cap

    def outcome(self, query: int) -> Outcome:
        """What became of one query."""
        ranks = self.ranks_QN[query]
        found = int((ranks > 0).sum())
        if found < self.window.num_negatives:
            return Outcome.SHORT if found else Outcome.NONE
        return Outcome.WIDENED if ranks.max() > self.window.rank_max else Outcome.FULL

    def reason(self, query: int) -> str:
        """Why a query has fewer negatives than asked for, or took them from below the window; empty if full."""
        if self.outcome(query) is Outcome.FULL:
            return ""
        first, last = self.window.rank_min, self.window.rank_max
        candidates, capped = int(self.num_candidates_Q[query]), int(self.num_capped_Q[query])
        if candidates < first:
            return f"the corpus holds only {candidates} candidates: none has rank {first}"
        in_window = max(0, min(capped, last, candidates) - first + 1)
        of_window = min(last, candidates) - first + 1
        return (
            f"{in_window} of {of_window} candidates of ranks {first}-{last} score at or above the cap, "
            f"{capped} of {candidates} in the corpus; the positive has rank {int(self.positive_ranks_Q[query])}"
        )


def lowest_scores(query_QD: Floats, positive_PD: Floats, query_of_P: Rows) -> Floats:
    """
    (Q,) the lowest score of each query with one of its positives, which need not be in the corpus.

    Args:
        query_QD: (Q, D).
        positive_PD: (P, D), the positives of all queries.
        query_of_P: (P,) which query each belongs to; every query has at least one.
    """
    lowest_Q = np.full(len(query_QD), np.inf, dtype=np.float32)
    np.minimum.at(lowest_Q, query_of_P, pair_scores(query_QD[query_of_P], positive_PD))
    if not np.isfinite(lowest_Q).all():
        raise MiningError(f"{int((~np.isfinite(lowest_Q)).sum())} queries have no positive: leave them out")
    return lowest_Q


def mine(
    query_QD: Floats,
    corpus_MD: Floats,
    *,
    positive_scores_Q: Floats,
    masked_rows: Sequence[Rows],
    query_ids: Sequence[UUID],
    window: Window,
    seed: int,
    device: str = "auto",
) -> Mined:
    """
    Choose hard negatives for every query.

    Args:
        query_QD: (Q, D) float32, L2-normalised.
        corpus_MD: (M, D) float32, L2-normalised.
        positive_scores_Q: (Q,) the lowest score of a query with one of its positives (`lowest_scores`).
        masked_rows: for each query the corpus rows that are no candidates: its positives and their duplicates, the
            passage that it was made from, the query's own text. Any order, repeats allowed.
        query_ids: with the seed they decide the random choice, whatever else is mined in the same call.
        window: what may be chosen.
        seed: see query_ids.
        device: see `mining.search.search`.

    Returns:
        Negatives with ranks and scores, and for every query the numbers that explain its outcome.
    """
    masked = [np.unique(rows).astype(np.int64) for rows in masked_rows]
    shape = (len(query_QD), window.num_negatives)
    mined = Mined(
        window=window,
        rows_QN=np.full(shape, -1, dtype=np.int64),
        ranks_QN=np.zeros(shape, dtype=np.int64),
        scores_QN=np.full(shape, np.nan, dtype=np.float32),
        positive_scores_Q=positive_scores_Q,
        positive_ranks_Q=np.zeros(len(query_QD), dtype=np.int64),
        num_candidates_Q=len(corpus_MD) - np.array([len(rows) for rows in masked], dtype=np.int64),
        num_capped_Q=np.zeros(len(query_QD), dtype=np.int64),
    )
    cap_Q = window.cap(positive_scores_Q)
    unseen = []
    for queries, depth in _by_depth([window.rank_max + window.num_negatives + len(rows) for rows in masked]):
        scores, rows = search(query_QD[queries], corpus_MD, depth, device=device)
        for query, query_scores, query_rows in zip(queries, scores, rows, strict=True):
            candidate = ~np.isin(query_rows, masked[query])
            found, found_rows = query_scores[candidate], query_rows[candidate]
            mined.num_capped_Q[query] = (found >= cap_Q[query]).sum()
            mined.positive_ranks_Q[query] = 1 + (found > positive_scores_Q[query]).sum()
            chosen = _choose(window, int(mined.num_capped_Q[query]), len(found), (seed, query_ids[query].int))
            _write(mined, query, chosen, found_rows[chosen - 1], found[chosen - 1])
            lacks = window.widen and len(chosen) < window.num_negatives
            if len(found) < mined.num_candidates_Q[query] and (
                lacks or found[-1] >= min(cap_Q[query], positive_scores_Q[query])
            ):
                unseen.append(query)
    for start in range(0, len(unseen), SCAN_QUERIES):
        _scan_all(mined, np.array(unseen[start : start + SCAN_QUERIES]), query_QD, corpus_MD, masked, cap_Q)
    return mined


def _by_depth(depths: list[int]) -> Iterator[tuple[Rows, int]]:
    """Queries that need lists of about the same length together: one with a thousand positives slows no other one."""
    depth_Q = np.array(depths, dtype=np.int64)
    bucket_Q = 2 ** np.ceil(np.log2(np.maximum(depth_Q, 1))).astype(np.int64)
    for bucket in np.unique(bucket_Q):
        queries = np.flatnonzero(bucket_Q == bucket)
        yield queries, int(depth_Q[queries].max())


def _choose(window: Window, num_capped: int, num_found: int, seed: tuple[int, int]) -> Rows:
    """The ranks to take, ascending, out of the first `num_found`, of which the first `num_capped` are too close."""
    first = max(window.rank_min, num_capped + 1)
    inside = np.arange(first, min(window.rank_max, num_found) + 1)
    if len(inside) < window.num_negatives:
        last = first + window.num_negatives - 1 if window.widen else window.rank_max
        return np.arange(first, min(last, num_found) + 1)
    if window.choice == "top":
        return inside[: window.num_negatives]
    return np.sort(np.random.default_rng(seed).choice(inside, window.num_negatives, replace=False))


def _write(mined: Mined, query: int, ranks: Rows, rows: Rows, scores: Floats) -> None:
    mined.ranks_QN[query, : len(ranks)] = ranks
    mined.rows_QN[query, : len(ranks)] = rows
    mined.scores_QN[query, : len(ranks)] = scores


def _scan_all(
    mined: Mined, queries: Rows, query_QD: Floats, corpus_MD: Floats, masked: list[Rows], cap_Q: Floats
) -> None:
    """Score the whole corpus for queries whose cap or positive lies deeper than the list that was fetched."""
    most = mined.window.num_negatives
    query_BD = query_QD[queries].astype(np.float64)
    positive_B1, cap_B1 = mined.positive_scores_Q[queries, None], cap_Q[queries, None]
    above_B, capped_B = np.zeros(len(queries), dtype=np.int64), np.zeros(len(queries), dtype=np.int64)
    best: list[tuple[Rows, Floats, Rows]] = []  # place in the block, score, corpus row
    for start in range(0, len(corpus_MD), SCAN_ROWS):
        score_BT = (query_BD @ corpus_MD[start : start + SCAN_ROWS].astype(np.float64).T).astype(np.float32)
        for place, query in enumerate(queries):
            inside = masked[query][(masked[query] >= start) & (masked[query] < start + SCAN_ROWS)]
            score_BT[place, inside - start] = -np.inf
        above_B += (score_BT > positive_B1).sum(axis=1)
        capped_B += (score_BT >= cap_B1).sum(axis=1)
        score_BT[score_BT >= cap_B1] = -np.inf
        least_B1 = np.partition(score_BT, -min(most, score_BT.shape[1]), axis=1)[:, -min(most, score_BT.shape[1]), None]
        places, columns = np.nonzero((score_BT >= least_B1) & np.isfinite(score_BT))
        best.append((places, score_BT[places, columns], columns + start))
    mined.positive_ranks_Q[queries], mined.num_capped_Q[queries] = 1 + above_B, capped_B
    places, scores, rows = (np.concatenate(part) for part in zip(*best, strict=True))
    order = np.lexsort((rows, -scores, places))
    for place, query in enumerate(queries):
        if mined.window.widen and mined.ranks_QN[query, -1] == 0:
            top = order[places[order] == place][:most]
            _write(mined, int(query), capped_B[place] + 1 + np.arange(len(top)), rows[top], scores[top])
