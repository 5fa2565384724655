"""
Scan of a corpus by FAISS, which hands over the queries of which it cannot prove what it found.

Shapes: N queries, B queries of a part, M corpus rows, D dimensions, k results of a query, F rows fetched for a query,
P pairs of a query and a row.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mining.pairs import Pairs
from mining.scan import Shards, Wanted, spans, write
from mining.search import Found, Rows
from mining.threads import side_by_side
from mining.tiles import Block, Tile

PART = 1024  # queries that FAISS is given at once
FEWEST_NUMBERS = 128_000  # in a part: FAISS leaves BLAS below that, and is then 8 times as slow
SPARE = 16  # rows that FAISS is asked for beyond the results
MOST_ROWS = 2048  # FAISS on a GPU gives no more rows of a query; on a CPU tiles are faster from there on


@dataclass
class _Part:
    """Queries for which as many rows are fetched; no row that was not scores above `left_B`."""

    queries: Rows
    depth: int
    block: Block
    masked_P: Tensor
    left_B: Tensor

    def look(self, tile: Tile, row_MD: Tensor, faiss: Any) -> None:
        """Fetch rows of a tile, and keep the candidates among them."""
        fetched = min(self.depth, len(row_MD))
        score_BF, row_BF = _nearest(self.block, tile, fetched, faiss)
        query_P = torch.arange(len(self.queries), device=row_BF.device).repeat_interleave(fetched)
        pairs = Pairs(query_P, row_BF.reshape(-1) + tile.first_row, score_BF.reshape(-1))
        self.block.add(pairs[~torch.isin(_numbers(pairs.query_P, pairs.row_P), self.masked_P)])
        self.block.settle(row_MD, tile.first_row)
        if fetched < len(row_MD):
            self.left_B = torch.maximum(self.left_B, self.block.most(score_BF[:, -1], tile))


def scan_flat(wanted: Wanted, shards: Shards, device: str, precision: str, faiss: Any) -> tuple[Found, Rows]:
    """
    Scan with FAISS: more rows than results are fetched, masked and capped ones left out, the others scored exactly.

    Returns what was found, and the queries of which it cannot be proved (a row that was not fetched could belong).
    """
    found = Found.none(len(wanted.query_ND), wanted.k)
    depth_N = np.array([wanted.k + SPARE + len(rows) for rows in wanted.masked], dtype=np.int64)
    depth_N = 1 << np.ceil(np.log2(depth_N)).astype(np.int64)  # few different ones: one long list slows no other query
    unproved = depth_N > MOST_ROWS
    with side_by_side(device) as threads:
        for chosen in spans(np.flatnonzero(~unproved), wanted.k):
            alike = _alike(chosen, depth_N, wanted)
            parts = [_part(wanted, queries, depth, device, precision) for queries, depth in alike]
            for first_row, shard_MD in shards:
                row_MD = shard_MD.to(device, torch.float32)
                tile = Tile.of(row_MD, first_row, precision)
                threads.each(lambda part, tile=tile, row_MD=row_MD: part.look(tile, row_MD, faiss), parts)
            for part in parts:
                write(found, part.queries, part.block)
                unproved[part.queries] = (~part.block.proves(part.left_B)).cpu().numpy()
    return found, np.flatnonzero(unproved)


def _alike(chosen: Rows, depth_N: Rows, wanted: Wanted) -> Iterator[tuple[Rows, int]]:
    """Queries that are as deep, in parts."""
    size = max(PART, FEWEST_NUMBERS // max(1, wanted.query_ND.shape[1]) + 1)
    for depth in np.unique(depth_N[chosen]):
        queries = chosen[depth_N[chosen] == depth]
        for start in range(0, len(queries), size):
            yield queries[start : start + size], int(depth)


def _part(wanted: Wanted, queries: Rows, depth: int, device: str, precision: str) -> _Part:
    some = wanted.some(queries)
    masks = some.masks(device)
    left_B = torch.full((len(queries),), -torch.inf, device=device)
    return _Part(queries, depth, some.block(device, masks, precision, dense=False), _numbers(*masks), left_B)


def _numbers(query_P: Tensor, row_P: Tensor) -> Tensor:
    """One for each pair."""
    return (query_P << 40) + row_P


def _nearest(block: Block, tile: Tile, number: int, faiss: Any) -> tuple[Tensor, Tensor]:
    """Scores and rows (of the tile) of the largest products with each query."""
    low_BD, metric = block.low_BD, faiss.METRIC_INNER_PRODUCT
    if not low_BD.is_cuda:
        score_BF, row_BF = faiss.knn(low_BD.numpy(), tile.low_TD.numpy(), number, metric=metric)
        return torch.from_numpy(score_BF), torch.from_numpy(row_BF)
    import faiss.contrib.torch_utils  # teaches knn_gpu torch's tensors, bf16 among them

    resources = faiss.StandardGpuResources()
    found: tuple[Tensor, Tensor] = faiss.knn_gpu(
        resources, low_BD, tile.low_TD, number, metric=metric, device=low_BD.get_device()
    )
    return found
