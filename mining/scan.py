"""
Scans of a corpus, shard by shard: in tiles with torch, or by FAISS, which hands over what it cannot prove.

Shapes: N queries, M corpus rows, D dimensions, k results of a query, P pairs of a query and a row.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mining.search import Floats, Found, Rows
from mining.tiles import BLOCK_ROWS, MOST_WAITING, NUMBERS, Block, Pairs, Tile

# Rows and queries of a tile. On a CPU its scores (8 MB in bf16) stay in the last cache; a GPU needs more to be busy.
TILE_CPU, TILE_GPU = (4096, 1024), (65536, 4096)
MOST_RESULTS = 1 << 21  # results that are kept for the queries that pass over the corpus together
FLAT_QUERIES = 4096  # FAISS leaves BLAS below 128,000 numbers in a block of queries, and is then 8 times as slow
SPARE = 16  # rows that FAISS is asked for beyond the results
FLAT_MOST = 2048  # FAISS on a GPU gives no more rows of a query; on a CPU tiles are faster from there on


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is searched for; `masked` holds, for each query, the rows that are no candidates (sorted, each once)."""

    query_ND: Floats
    k: int
    cap_N: Floats
    mark_N: Floats
    masked: Sequence[Rows]

    def some(self, chosen: Rows) -> "Wanted":
        """The same for some of the queries."""
        masked = [self.masked[query] for query in chosen]
        return Wanted(self.query_ND[chosen], self.k, self.cap_N[chosen], self.mark_N[chosen], masked)

    def masks(self, device: str) -> tuple[Tensor, Tensor]:
        """Queries and rows of the masked pairs, sorted by row."""
        number_N = np.array([len(rows) for rows in self.masked], dtype=np.int64)
        query_P = np.repeat(np.arange(len(number_N)), number_N)
        row_P = np.concatenate([*self.masked, np.empty(0, dtype=np.int64)]).astype(np.int64)
        order_P = np.argsort(row_P, kind="stable")
        return torch.from_numpy(query_P[order_P]).to(device), torch.from_numpy(row_P[order_P]).to(device)

    def block(self, device: str, masks: tuple[Tensor, Tensor], precision: str, *, dense: bool) -> Block:
        """Its queries, about to look at the corpus."""
        query, cap, mark = (torch.from_numpy(each).to(device) for each in (self.query_ND, self.cap_N, self.mark_N))
        return Block(query, self.k, cap, mark, masks, precision, dense=dense)


Shards = Sequence[tuple[int, Tensor]]  # each with the number of its first row


def scan_tiles(wanted: Wanted, shards: Shards, device: str, precision: str) -> Found:
    """
    Scan in tiles of a matrix product.

    Queries whose cap or mark lies deep in the corpus give up in the first pass, which looks at blocks with a high score
    only, and pass over the corpus again, where every score is compared.
    """
    found = Found.none(len(wanted.query_ND), wanted.k)
    everything = np.arange(len(wanted.query_ND))
    with _exact_products():
        for chosen in _spans(everything, wanted.k):
            _pass(wanted, chosen, shards, device, precision, found, dense=False)
        for chosen in _spans(everything[found.num_capped_N < 0], wanted.k):
            _pass(wanted, chosen, shards, device, "fp32", found, dense=True)
    return found


def _spans(queries: Rows, k: int) -> Iterator[Rows]:
    """Queries that pass over the corpus together."""
    span = min(1 << 17, max(16, MOST_RESULTS // k))
    span -= span % TILE_CPU[1] if span > TILE_CPU[1] else 0
    return (queries[start : start + span] for start in range(0, len(queries), span))


def _pass(
    wanted: Wanted, chosen: Rows, shards: Shards, device: str, precision: str, found: Found, *, dense: bool
) -> None:
    """Scan for some queries and fill their places; the number of capped rows is -1 for those that gave up."""
    height, width = TILE_CPU if device == "cpu" else TILE_GPU
    parts = [chosen[start : start + width] for start in range(0, len(chosen), width)]
    blocks = []
    for part in parts:
        some = wanted.some(part)
        blocks.append(some.block(device, some.masks(device), precision, dense=dense))
    # The first floor is the k-th of the highest scores of blocks: of hardly more blocks than results it is a low one.
    first = min(8 * height, max(height, -(-4 * wanted.k * BLOCK_ROWS // height) * height))
    room_TB = torch.empty(first, min(width, len(chosen)), dtype=NUMBERS[precision][0], device=device)
    for first_row, shard_MD in shards:
        row_MD = shard_MD.to(device, torch.float32)
        start = 0
        while start < len(row_MD):
            end = start + (first if first_row + start == 0 else height)
            tile = Tile.of(row_MD[start:end], first_row + start, precision)
            for block in blocks:
                block.look(tile, room_TB)
                _relieve(block, wanted.k * max(block.num_queries, 32), row_MD, first_row)
            start = end
        for block in blocks:
            block.narrow()
            block.settle(row_MD, first_row)
    for part, block in zip(parts, blocks, strict=True):
        _write(found, part, block)


def _relieve(block: Block, results: int, row_MD: Tensor, first_row: int) -> None:
    """Let go of what waits in vain; where too much is left (scores that low precision cannot tell apart), settle it."""
    if block.num_waiting() > 2 * results:
        block.narrow()
        if block.num_waiting() > max(MOST_WAITING, 2 * results):
            block.settle(row_MD, first_row)


def _write(found: Found, queries: Rows, block: Block) -> None:
    found.scores_Nk[queries] = torch.where(block.row_Bk >= 0, block.score_Bk, torch.nan).cpu().numpy()
    found.rows_Nk[queries] = block.row_Bk.cpu().numpy()
    found.num_capped_N[queries] = torch.where(block.given_up_B, -1, block.num_capped_B).cpu().numpy()
    found.num_above_N[queries] = block.num_above_B.cpu().numpy()


def scan_flat(wanted: Wanted, shards: Shards, device: str, precision: str, faiss: Any) -> tuple[Found, Rows]:
    """
    Scan with FAISS: more rows than results are fetched, masked and capped ones left out, the others scored exactly.

    Returns what was found, and the queries of which it cannot be proved (a row that was not fetched could belong).
    """
    found = Found.none(len(wanted.query_ND), wanted.k)
    unproved = np.zeros(len(wanted.query_ND), dtype=bool)
    depth_N = np.array([wanted.k + SPARE + len(rows) for rows in wanted.masked], dtype=np.int64)
    depth_N = 1 << np.ceil(np.log2(depth_N)).astype(np.int64)  # few different ones: one long list slows no other query
    for depth in np.unique(depth_N):
        queries = np.flatnonzero(depth_N == depth)
        if depth > FLAT_MOST:
            unproved[queries] = True
            continue
        for start in range(0, len(queries), FLAT_QUERIES):
            part = queries[start : start + FLAT_QUERIES]
            unproved[part] = _flat_block(wanted.some(part), part, shards, int(depth), device, precision, faiss, found)
    return found, np.flatnonzero(unproved)


def _flat_block(
    wanted: Wanted,
    part: Rows,
    shards: Shards,
    depth: int,
    device: str,
    precision: str,
    faiss: Any,
    found: Found,
) -> Any:
    """Search for some queries and fill their places. Returns (B,) which of them are not proved."""
    query_M, row_M = wanted.masks(device)
    masked = (query_M << 40) + row_M
    block = wanted.block(device, (query_M, row_M), precision, dense=False)
    left_B = torch.full((len(part),), -torch.inf, device=device)  # no row that was left out scores above this
    for first_row, shard_MD in shards:
        row_MD = shard_MD.to(device, torch.float32)
        fetched = min(depth, len(row_MD))
        tile = Tile.of(row_MD, first_row, precision)
        score_BF, row_BF = _nearest(block, tile, fetched, faiss)
        query_P = torch.arange(len(part), device=device).repeat_interleave(fetched)
        pairs = Pairs(query_P, row_BF.reshape(-1) + first_row, score_BF.reshape(-1))
        block.add(pairs[~torch.isin((pairs.query_P << 40) + pairs.row_P, masked)])
        block.settle(row_MD, first_row)
        if fetched < len(row_MD):
            left_B = torch.maximum(left_B, block.most(score_BF[:, -1], tile))
    _write(found, part, block)
    return (~block.proves(left_B)).cpu().numpy()


def _nearest(block: Block, tile: Tile, number: int, faiss: Any) -> tuple[Tensor, Tensor]:
    """Scores and rows (of the tile) of the largest products with each query."""
    low_BD, metric = block.low_BD(), faiss.METRIC_INNER_PRODUCT
    if not low_BD.is_cuda:
        score_BF, row_BF = faiss.knn(low_BD.numpy(), tile.low_TD.numpy(), number, metric=metric)
        return torch.from_numpy(score_BF), torch.from_numpy(row_BF)
    import faiss.contrib.torch_utils  # teaches knn_gpu torch's tensors, bf16 among them

    resources = faiss.StandardGpuResources()
    found: tuple[Tensor, Tensor] = faiss.knn_gpu(
        resources, low_BD, tile.low_TD, number, metric=metric, device=low_BD.get_device()
    )
    return found


@contextmanager
def _exact_products() -> Iterator[None]:
    """Products as precise as they are called: others may have allowed TensorFloat32, bf16 for fp32, or bf16 sums."""
    precision, sums = torch.get_float32_matmul_precision(), torch.backends.cuda.matmul
    reduced = sums.allow_bf16_reduced_precision_reduction
    torch.set_float32_matmul_precision("highest")
    sums.allow_bf16_reduced_precision_reduction = False
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(precision)
        sums.allow_bf16_reduced_precision_reduction = reduced
