"""
Which candidates may become hard negatives: a window of ranks, and caps below the positive's score.

The cap is part of the search (`survey`): however deep it lies, the best candidates below it are found, so that it never
starves a query. The positives of a query and everything equal to them are masked before ranks are counted.
Shapes: Q queries, M corpus rows, D dimensions, P positives of all queries, K survivors kept of a query.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.typing import NDArray

from mining import MiningError
from mining.search import Corpus, Floats, Rows, Searcher, num_rows, pair_scores

LARGEST = 1e6  # of a score, whatever the vectors' lengths
RANKS = ("retrieval", "survivors")
CHOICES = ("random", "top", "softmax")
RULES = ("window", "cap")
POSITIVES = ("lowest", "highest", "each")
LEAST_TEMPERATURE = 1e-6  # scores have no more digits


@dataclass(frozen=True, slots=True)
class Window:
    """
    Which candidates may become negatives, and how they are chosen among those. The defaults are those of
    QZhou-Embedding (ranks 10-30, 4 negatives; arXiv 2508.21632) with the cap of NV-Retriever (TopK-PercPos 95 %;
    arXiv 2407.15831), searching on below the window where the cap leaves too few in it.

    Args:
        rank_min, rank_max: ranks of a candidate, best first, from 1; both ends included.
        ranks: "retrieval", among all candidates, or "survivors", among those below the cap.
        relative_cap: a negative scores below this share of the positive's score p. Below p - (1 - cap) |p|, to be
            exact: a share of a negative score would lie above it.
        absolute_margin: a negative scores below p - margin.
        absolute_cap: a negative scores below this. Of several caps the lowest holds.
        num_negatives: asked for, per query.
        choice: out of the window: "random", "top" (the best), or "softmax" (random, the more likely the better it
            scores); chance is seeded per query.
        temperature: of the softmax, in units of score.
        relax: what is given up, in this order, where fewer than num_negatives are found: "window" goes on below
            rank_max, in order of rank; "cap" takes candidates of the window that score at or above the cap, the
            lowest score first.
    """

    rank_min: int = 10
    rank_max: int = 30
    ranks: str = "retrieval"
    relative_cap: float | None = 0.95
    absolute_margin: float | None = None
    absolute_cap: float | None = None
    num_negatives: int = 4
    choice: str = "random"
    temperature: float = 0.05
    relax: tuple[str, ...] = ("window",)

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
        for name in ("absolute_margin", "absolute_cap"):
            if (value := getattr(self, name)) is not None and not abs(value) < LARGEST:
                raise MiningError(f"{name} is {value}: scores are from -1 to 1")
        if not LEAST_TEMPERATURE <= self.temperature < np.inf:
            raise MiningError(
                f"temperature is {self.temperature}: give {LEAST_TEMPERATURE} or more (choice = top has no chance)"
            )
        for name, value, known in (("ranks", self.ranks, RANKS), ("choice", self.choice, CHOICES)):
            if value not in known:
                raise MiningError(f"{name} is {value!r}: use {' or '.join(known)}")
        if unknown := [rule for rule in self.relax if rule not in RULES]:
            raise MiningError(f"relax names {unknown[0]!r}: {' and '.join(RULES)} can be relaxed")

    def cap(self, positive_Q: Floats) -> Floats:
        """(Q,) the score that a negative must stay below; infinite where nothing caps it."""
        caps = [np.full(len(positive_Q), np.inf if self.absolute_cap is None else self.absolute_cap)]
        positive = positive_Q.astype(np.float64)
        if self.relative_cap is not None:
            caps.append(positive - (1 - self.relative_cap) * np.abs(positive))
        if self.absolute_margin is not None:
            caps.append(positive - self.absolute_margin)
        return cast(Floats, np.minimum.reduce(caps).astype(np.float32))


@dataclass(frozen=True, slots=True)
class Survey:
    """The best candidates below the cap of each query, best first; where there are fewer than K, rows are -1."""

    rows_QK: Rows
    scores_QK: Floats
    cap_Q: Floats
    positive_scores_Q: Floats
    positive_ranks_Q: Rows  # 1 + the number of candidates that score above the positive
    num_candidates_Q: Rows  # corpus rows that are not masked
    num_capped_Q: Rows  # candidates at or above the cap

    def ranks_QK(self, ranks: str) -> Rows:
        """Each survivor's rank, from 1, among all candidates (retrieval) or among survivors; 0 where there is none."""
        rank_QK = np.arange(1, self.rows_QK.shape[1] + 1) + (self.num_capped_Q[:, None] if ranks == "retrieval" else 0)
        return cast(Rows, np.where(self.rows_QK >= 0, rank_QK, 0))

    @property
    def found_Q(self) -> NDArray[np.bool_]:
        """(Q,) whether a query has any survivor."""
        return cast(NDArray[np.bool_], (self.rows_QK >= 0).any(axis=1))


def survey(
    searcher: Searcher,
    query_QD: Floats,
    corpus: Corpus,
    *,
    positive_scores_Q: Floats,
    masked: Sequence[Rows],
    window: Window,
) -> Survey:
    """
    Search the corpus below each query's cap, deep enough for the window and what may be taken from below it.

    Args:
        query_QD: (Q, D) float32, L2-normalised.
        corpus: (M, D) float32, L2-normalised; see `Searcher.search`.
        positive_scores_Q: (Q,) the score of each query's positive (`positive_scores`).
        masked: for each query the corpus rows that are no candidates: its positives and their duplicates, the passage
            that it was made from, the query's own text. Any order, repeats allowed.
    """
    cap_Q = window.cap(positive_scores_Q)
    found = searcher.scan(
        query_QD,
        corpus,
        min(window.rank_max + window.num_negatives, num_rows(corpus)),
        cap_N=cap_Q,
        mark_N=positive_scores_Q,
        masked=masked,
    )
    return Survey(
        rows_QK=found.rows_Nk,
        scores_QK=found.scores_Nk,
        cap_Q=cap_Q,
        positive_scores_Q=positive_scores_Q,
        positive_ranks_Q=1 + found.num_above_N,
        num_candidates_Q=num_rows(corpus) - np.array([len(np.unique(rows)) for rows in masked], dtype=np.int64),
        num_capped_Q=found.num_capped_N,
    )


def positive_scores(query_QD: Floats, positive_PD: Floats, query_of_P: Rows, *, which: str = "lowest") -> Floats:
    """
    (Q,) the score that caps the negatives of each query: its lowest or its highest with one of its positives, which
    need not be in the corpus. For a cap per positive, give each pair as a query of its own.

    Args:
        query_QD: (Q, D).
        positive_PD: (P, D), the positives of all queries.
        query_of_P: (P,) which query each belongs to; every query has at least one.
    """
    lowest = which == "lowest"
    score_Q = np.full(len(query_QD), np.inf if lowest else -np.inf, dtype=np.float32)
    (np.minimum if lowest else np.maximum).at(score_Q, query_of_P, pair_scores(query_QD[query_of_P], positive_PD))
    if not np.isfinite(score_Q).all():
        raise MiningError(f"{int((~np.isfinite(score_Q)).sum())} queries have no positive: leave them out")
    return score_Q
