"""
Mining from vectors to hard negatives: survey, join, choose; and for every query what became of it and why.

No query is topped up in silence: what a rule was given up for is marked, and a query that has fewer negatives than were
asked for says which candidates it had and why each fell. Shapes: Q queries, M corpus rows, D dimensions, C joined
candidates, N negatives asked for, S miners.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import cast
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from mining.candidates import Candidates, Flags, Listed, join
from mining.choice import choose
from mining.filters import Survey, Window, survey
from mining.search import Corpus, Floats, Found, Rows, Searcher, pair_scores

MOST_LISTED = 20  # candidates that fell are listed of a query that has too few negatives


class Outcome(StrEnum):
    """What became of a query."""

    FULL = "full"  # num_negatives out of the window, below the cap
    WIDENED = "widened"  # num_negatives, but a rule was given up for some
    SHORT = "short"  # fewer
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Fallen:
    """A candidate that did not become a negative."""

    row: int
    rank: int
    score: float
    reason: str  # capped, above_window, below_window, or what it was refused for


@dataclass(frozen=True, slots=True)
class Proposal:
    """What may be chosen for Q queries."""

    query_QD: Floats
    corpus: Corpus
    masked: Sequence[Rows]
    window: Window
    survey: Survey
    candidates: Candidates


@dataclass(frozen=True, slots=True)
class Mined:
    """The negatives of Q queries, best first; where there are fewer than N, rows are -1 and scores not a number."""

    window: Window
    survey: Survey
    rows_QN: Rows
    ranks_QN: Rows  # among the first miner's candidates, masked rows not counted; 0: it has not found it, or none
    scores_QN: Floats  # the first miner's
    relaxed_QN: NDArray[np.str_]  # the rule that was given up, or ""
    ranks_QNS: Rows  # of each miner, as ranks_QN
    own_scores_QNS: Floats
    places_QN: Rows  # among the joined candidates; -1 where it is none of them
    fallen_counts_Q: Mapping[str, Rows]  # for each reason how many candidates fell
    listed: Mapping[int, Sequence[Fallen]]  # of queries with fewer than N: the best candidates that fell

    def outcome(self, query: int) -> Outcome:
        """What became of one query."""
        found = self.rows_QN[query] >= 0
        if not found.all():
            return Outcome.SHORT if found.any() else Outcome.NONE
        return Outcome.WIDENED if (self.relaxed_QN[query] != "").any() else Outcome.FULL

    def fallen(self, query: int) -> dict[str, int]:
        """How many candidates of a query fell for which reason."""
        return {name: int(count_Q[query]) for name, count_Q in self.fallen_counts_Q.items() if count_Q[query]}

    def reason(self, query: int) -> str:
        """Why a query has fewer negatives than asked for, or why a rule was given up; empty if full."""
        if self.outcome(query) is Outcome.FULL:
            return ""
        first, last = self.window.rank_min, self.window.rank_max
        candidates, capped = int(self.survey.num_candidates_Q[query]), int(self.survey.num_capped_Q[query])
        if candidates < first:
            return f"the corpus holds only {candidates} candidates: none has rank {first}"
        fell = f"{capped} of {candidates} candidates score at or above the cap"
        if self.window.ranks == "retrieval":
            inside, size = max(0, min(capped, last, candidates) - first + 1), min(last, candidates) - first + 1
            ranks = f"{inside} of {size} candidates of ranks {first}-{last}"
            fell = f"{ranks} score at or above the cap, {capped} of {candidates} in the corpus"
        if reranked := self.fallen(query).get("reranked"):
            fell += f"; the reranker finds {reranked} as relevant as the positive"
        return f"{fell}; the positive has rank {int(self.survey.positive_ranks_Q[query])}"


def propose(
    searcher: Searcher,
    query_QD: Floats,
    corpus: Corpus,
    *,
    positive_scores_Q: Floats,
    masked: Sequence[Rows],
    window: Window,
    others: Sequence[Listed] = (),
) -> Proposal:
    """
    Find what may be chosen for every query: see `mining.filters.survey` for the arguments.

    Args:
        others: what further miners found, masked rows left out.
    """
    found = survey(searcher, query_QD, corpus, positive_scores_Q=positive_scores_Q, masked=masked, window=window)

    def scores_of(query_P: Rows, row_P: Rows) -> Floats:
        return pair_scores(query_QD[query_P], take_rows(corpus, row_P))

    return Proposal(query_QD, corpus, masked, window, found, join(found, others, window, scores_of))


def decide(
    searcher: Searcher,
    proposal: Proposal,
    *,
    query_ids: Sequence[UUID],
    seed: int,
    refused: Mapping[str, Flags] | None = None,
    unasked_QC: Flags | None = None,
) -> Mined:
    """
    Choose negatives among what was proposed.

    Args:
        query_ids: (Q,); with the seed they decide the random choice, whatever else is mined in the same call.
        refused: by the reason, as "reranked", the (Q, C) candidates that are refused for it.
        unasked_QC: candidates that nobody looked at, since others were enough: they are not chosen either.
    """
    window, candidates = proposal.window, proposal.candidates
    refused = refused or {}
    closed = [*refused.values(), *([] if unasked_QC is None else [unasked_QC])]
    allowed_QC = ~np.logical_or.reduce(closed) if closed else None
    chosen = choose(candidates, window, query_ids, seed, allowed_QC)
    mined = Mined(
        window=window,
        survey=proposal.survey,
        rows_QN=chosen.of(candidates.rows_QC, -1),
        ranks_QN=chosen.of(candidates.ranks_QCS, 0)[:, :, 0],
        scores_QN=chosen.of(candidates.scores_QC, np.float32(np.nan)),
        relaxed_QN=np.where(chosen.relaxed_QN, "window", ""),
        ranks_QNS=chosen.of(candidates.ranks_QCS, 0),
        own_scores_QNS=chosen.of(candidates.own_scores_QCS, np.float32(np.nan)),
        places_QN=chosen.places_QN,
        fallen_counts_Q=_counts(proposal, chosen.places_QN, refused),
        listed={},
    )
    short = np.flatnonzero((mined.rows_QN < 0).any(axis=1))
    if not len(short):
        return mined
    depth = max(window.rank_max, MOST_LISTED + window.num_negatives)
    masked = [proposal.masked[query] for query in short.tolist()]
    best = searcher.scan(proposal.query_QD[short], proposal.corpus, depth, masked=masked)
    if "cap" in window.relax:
        _take_capped(mined, short, best)
    listed = {
        int(query): _listed(mined, int(query), best, place, proposal, refused)
        for place, query in enumerate(short)
        if (mined.rows_QN[query] < 0).any()
    }
    return Mined(**{name: getattr(mined, name) for name in Mined.__slots__ if name != "listed"}, listed=listed)


def mine(
    searcher: Searcher,
    query_QD: Floats,
    corpus: Corpus,
    *,
    positive_scores_Q: Floats,
    masked: Sequence[Rows],
    query_ids: Sequence[UUID],
    window: Window,
    seed: int,
) -> Mined:
    """Propose and decide, with one miner and no reranker. The arguments are theirs."""
    proposal = propose(searcher, query_QD, corpus, positive_scores_Q=positive_scores_Q, masked=masked, window=window)
    return decide(searcher, proposal, query_ids=query_ids, seed=seed)


def take_rows(corpus: Corpus, row_P: Rows) -> Floats:
    """(P, D) float32: rows of a corpus that may be in parts."""
    if isinstance(corpus, np.ndarray):
        return cast(Floats, np.asarray(corpus[row_P], dtype=np.float32))
    taken_PD = np.empty((len(row_P), corpus[0].shape[1]), dtype=np.float32)
    first = 0
    for part in corpus:
        of_part = (row_P >= first) & (row_P < first + len(part))
        taken_PD[of_part] = part[row_P[of_part] - first]
        first += len(part)
    return taken_PD


def _counts(proposal: Proposal, places_QN: Rows, refused: Mapping[str, Flags]) -> dict[str, Rows]:
    """For each reason how many candidates of each query fell; with those taken they are all there are."""
    candidates, surveyed = proposal.candidates, proposal.survey
    open_QC = candidates.inside_QC | candidates.below_QC
    counts = {"capped": surveyed.num_capped_Q.copy(), "above_window": candidates.above_QC.sum(axis=1)}
    for reason, refused_QC in refused.items():
        counts[reason] = (open_QC & refused_QC).sum(axis=1)
        open_QC = open_QC & ~refused_QC
    query_P, place_P = np.nonzero(places_QN >= 0)
    open_QC[query_P, places_QN[query_P, place_P]] = False
    counts["not_drawn"] = (candidates.inside_QC & open_QC).sum(axis=1)
    taken_Q = (places_QN >= 0).sum(axis=1)
    counts["below_window"] = surveyed.num_candidates_Q - sum(counts.values()) - taken_Q
    return counts


def _take_capped(mined: Mined, short: Rows, best: Found) -> None:
    """Give up the cap: candidates of the window that score at or above it, the lowest score first."""
    window = mined.window
    for place, query in enumerate(short):
        rows, scores = best.rows_Nk[place], best.scores_Nk[place]
        ranks = np.arange(1, len(rows) + 1)
        inside = (ranks >= window.rank_min) & (ranks <= window.rank_max)
        capped = np.flatnonzero((rows >= 0) & (scores >= mined.survey.cap_Q[query]) & inside)[::-1]
        slots = np.flatnonzero(mined.rows_QN[query] < 0)[: len(capped)]
        taken = capped[: len(slots)]
        mined.rows_QN[query, slots], mined.scores_QN[query, slots] = rows[taken], scores[taken]
        mined.ranks_QN[query, slots] = mined.ranks_QNS[query, slots, 0] = ranks[taken]
        mined.own_scores_QNS[query, slots, 0] = scores[taken]
        mined.relaxed_QN[query, slots] = "cap"
        mined.fallen_counts_Q["capped"][query] -= len(taken)


def _listed(
    mined: Mined, query: int, best: Found, place: int, proposal: Proposal, refused: Mapping[str, Flags]
) -> list[Fallen]:
    """The best candidates of a query that are no negatives, and why; `best` is without any cap."""
    window, candidates = mined.window, proposal.candidates
    reason_of: dict[int, str] = {}
    for name, refused_QC in reversed(list(refused.items())):
        chosen = candidates.kept(refused_QC)[query]
        reason_of |= dict.fromkeys(candidates.rows_QC[query][chosen].tolist(), name)
    taken, cap = set(mined.rows_QN[query].tolist()), mined.survey.cap_Q[query]
    capped = int(mined.survey.num_capped_Q[query])
    listed = []
    for rank, (row, score) in enumerate(
        zip(best.rows_Nk[place].tolist(), best.scores_Nk[place].tolist(), strict=True), start=1
    ):
        if row < 0 or row in taken:
            continue
        counted = rank if window.ranks == "retrieval" else rank - capped
        reason = "below_window" if counted > window.rank_max else "above_window"
        reason = "capped" if score >= cap else reason_of.get(row, reason)
        listed.append(Fallen(row, rank, score, reason))
    return listed[:MOST_LISTED]
