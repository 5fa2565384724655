"""
The lists of several miners joined into one by the ranks they give: reciprocal rank fusion.

Scores of different miners do not compare, ranks do: Cormack, Clarke and Büttcher 2009, "Reciprocal rank fusion
outperforms Condorcet and individual rank learning methods". Shapes: N queries, k results of a miner, K of all together.
"""

from collections.abc import Sequence
from typing import cast

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Rows = NDArray[np.int64]


def fuse(rows_per_miner: Sequence[Rows], *, constant: int = 60) -> tuple[Rows, Floats, Rows]:
    """
    Each query's rows from all miners, best first: the fused score of a row is the sum of 1 / (constant + rank) over the
    miners that have it, its rank in a list counted from 1.

    No query depends on the queries beside it, so a caller may fuse in blocks.

    Args:
        rows_per_miner: per miner (N, k) int64, best first; k may differ. -1 is no row, but takes its rank. A miner has
            a row once in a query's list.
        constant: how little the first ranks count for more than those after them; the paper's is 60.

    Returns:
        Rows (N, K) int64, fused scores (N, K) float64 and votes (N, K) int64, the number of miners that have the row.
        Equal scores go by row. K is the most that a query has: the others end in rows -1, score 0 and votes 0.

    Raises:
        ValueError: no miner, or lists of different numbers of queries.
    """
    rows_NS = np.concatenate(rows_per_miner, axis=1)
    ranks_S = np.concatenate([np.arange(1, rows.shape[1] + 1) for rows in rows_per_miner])
    # A row's ranks from small to large: whoever gave them, equal ranks then add up to equal sums.
    order_NS = np.lexsort((np.broadcast_to(ranks_S, rows_NS.shape), rows_NS))
    rows_NS = np.take_along_axis(rows_NS, order_NS, axis=1)
    query_E, column_E = np.nonzero(rows_NS >= 0)  # the entries of all lists, by query and row
    row_E = rows_NS[query_E, column_E]
    is_first_E = np.ones(len(row_E), dtype=bool)
    is_first_E[1:] = (query_E[1:] != query_E[:-1]) | (row_E[1:] != row_E[:-1])
    fused_of_E = np.cumsum(is_first_E) - 1
    share_E = 1 / (constant + ranks_S[order_NS[query_E, column_E]])
    fused_F = cast(Floats, np.bincount(fused_of_E, weights=share_E))
    return _padded(query_E[is_first_E], row_E[is_first_E], fused_F, np.bincount(fused_of_E), num_queries=len(rows_NS))


def _padded(
    query_F: Rows, row_F: Rows, fused_F: Floats, votes_F: Rows, *, num_queries: int
) -> tuple[Rows, Floats, Rows]:
    """One line of a table for each query, best first, of F rows given by query."""
    order_F = np.lexsort((row_F, -fused_F, query_F))
    length_N = np.bincount(query_F, minlength=num_queries)
    start_N = np.cumsum(length_N) - length_N
    place_F = np.arange(len(row_F)) - start_N[query_F]
    shape = (num_queries, int(length_N.max(initial=0)))
    rows_NK, fused_NK, votes_NK = np.full(shape, -1, np.int64), np.zeros(shape), np.zeros(shape, np.int64)
    rows_NK[query_F, place_F] = row_F[order_F]
    fused_NK[query_F, place_F] = fused_F[order_F]
    votes_NK[query_F, place_F] = votes_F[order_F]
    return rows_NK, fused_NK, votes_NK
