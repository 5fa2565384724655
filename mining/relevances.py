"""
Relevances on disk: a pair of query and passage that was scored once is not scored again by the same cross-encoder.

The shards lie in `FOLDER/FINGERPRINT`; the fingerprint is the cross-encoder's, so that the relevances of another model,
length or precision are never served. What a kill loses is the shard in flight: SHARD_SECONDS of scoring, or one block
where a block takes longer. The blocks are cut by the order of the pairs and not by the clock, so a run that was killed
and run again makes the batches, and so the relevances, of one that was not. Two processes that are given the same pairs
at once both score them. How a relevance is to be read: `mining.rerank`.
Shapes: N pairs, U different pairs, M different pairs to score, B pairs of a block.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mining.rerank import Reranker
from mining.shards import fill_from_disk, join_ids, write_shard

BLOCK_CPU, BLOCK_GPU = 128, 4096  # pairs whose texts are in memory at once
SHARD_SECONDS = 15.0

WHAT = "relevance cache"
Pairs = Callable[[NDArray[np.int64]], list[tuple[str, str]]]


@dataclass(frozen=True, slots=True)
class Scored:
    """Relevances, and where they came from."""

    relevance_N: NDArray[np.float32]  # from 0 to 1
    num_cached: int  # different pairs that were found on disk
    num_scored: int  # different pairs that were scored now
    damaged: tuple[str, ...]  # shards that could not be read: removed, and what they held scored again


def relevances_cached(
    reranker: Reranker,
    query_ids: NDArray[np.uint8],
    passage_ids: NDArray[np.uint8],
    pairs: Pairs,
    folder: Path,
    on_progress: Callable[[int], None],
) -> Scored:
    """
    Score pairs, taking from disk what a cross-encoder of the same fingerprint has scored before.

    Args:
        reranker: see `mining.rerank.load_reranker`; where all is found on disk, its model is not loaded.
        query_ids: (N, 16), the bytes of the text id of each pair's query.
        passage_ids: (N, 16), the same of its passage. Pairs of the same two ids are scored once.
        pairs: gives the texts of some rows, B of 0 to N-1 in rising order; asked for one block at a time.
        folder: of the cache; made if need be. Several processes may use it at once.
        on_progress: told how many more of the N pairs are ready: those on disk, then those of each block.

    Returns:
        Relevances (N,) float32 in the order of the ids, and what was reused.

    Raises:
        MiningError: the folder cannot be read or written, or the cross-encoder fails.
    """
    keys_U, row_U, unique_N = np.unique(join_ids(query_ids, passage_ids), return_index=True, return_inverse=True)
    home = folder / reranker.fingerprint
    relevance_N = np.empty(len(unique_N), dtype=np.float32)
    known_U, damaged = fill_from_disk(home, keys_U, row_U, relevance_N, _is_relevance, WHAT)
    repeats_U = np.bincount(unique_N, minlength=len(keys_U))
    on_progress(int(repeats_U[known_U].sum()))
    row_M = np.sort(row_U[~known_U])
    size = BLOCK_CPU if reranker.device == "cpu" else BLOCK_GPU
    written, last_write = 0, time.monotonic()
    for start in range(0, len(row_M), size):
        row_B = row_M[start : start + size]
        texts = pairs(row_B)
        assert len(texts) == len(row_B), "pairs() gives as many as it was asked for"
        relevance_N[row_B] = reranker.relevances(texts)
        done = start + len(row_B)
        if done == len(row_M) or time.monotonic() - last_write >= SHARD_SECONDS:
            rows = row_M[written:done]
            write_shard(home, keys_U[unique_N[rows]], relevance_N[rows], WHAT)
            written, last_write = done, time.monotonic()
        on_progress(int(repeats_U[unique_N[row_B]].sum()))
    return Scored(relevance_N[row_U][unique_N], int(known_U.sum()), len(row_M), damaged)


def _is_relevance(relevance_S: NDArray[np.float32]) -> bool:
    return bool(((relevance_S >= 0) & (relevance_S <= 1)).all())
