"""Labelled texts beside their nearest neighbours: how many of these have another label, and which labels they have."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mining.search import Searcher

NUM_NEIGHBOURS = 10
MOST_LABELS = 5


@dataclass(frozen=True)
class Voted:
    """Of N texts the share of neighbours with another label, not a number where there are none; and their votes."""

    share_N: "NDArray[np.float64]"
    labels: list[tuple[str, ...]]  # of each text, the likeliest first


def vote(searcher: "Searcher", text_ND: "NDArray[np.float32]", labels: Sequence[str]) -> Voted:
    """
    Ask the nearest NUM_NEIGHBOURS of each text, itself left out. Of labels with as many votes the nearer one is the
    likelier.

    Args:
        text_ND: (N, D), L2-normalised.
        labels: of the N texts.
    """
    own = [np.array([row], dtype=np.int64) for row in range(len(labels))]
    found = searcher.scan(text_ND, text_ND, min(NUM_NEIGHBOURS, max(1, len(labels) - 1)), masked=own)
    share_N, voted = np.full(len(labels), np.nan), []
    for row, (rows, scores) in enumerate(zip(found.rows_Nk.tolist(), found.scores_Nk.tolist(), strict=True)):
        votes: dict[str, tuple[int, float]] = {}
        for place, score in zip(rows, scores, strict=True):
            if place >= 0:
                number, total = votes.get(labels[place], (0, 0.0))
                votes[labels[place]] = number + 1, total + score
        asked = sum(number for number, _ in votes.values())
        if asked:
            share_N[row] = 1 - votes.get(labels[row], (0, 0.0))[0] / asked
        likeliest = sorted(votes, key=lambda label: (-votes[label][0], -votes[label][1], label))
        voted.append(tuple(likeliest[:MOST_LABELS]))
    return Voted(share_N, voted)
