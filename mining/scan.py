"""
Scan of a corpus in tiles with torch, shard by shard.

Shapes: N queries, M corpus rows, D dimensions, k results of a query, P pairs of a query and a row.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain, repeat
from queue import SimpleQueue

import numpy as np
import torch
from torch import Tensor

from mining.search import Floats, Found, Rows
from mining.threads import Threads, WhileAny, side_by_side
from mining.tiles import BLOCK_ROWS, MOST_ABOVE, MOST_WAITING, NUMBERS, Block, Tile

# Rows (whole blocks of them) and queries of a tile. On a CPU its scores (8 MB in bf16) stay in the last cache; a GPU
# needs more to be busy.
TILE_CPU, TILE_GPU = (4096, 1024), (65536, 4096)
MOST_RESULTS = 1 << 21  # results that are kept for the queries that pass over the corpus together


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
    with _EXACT.held(), side_by_side(device) as threads:
        for chosen in spans(everything, wanted.k):
            _pass(wanted, chosen, shards, device, precision, threads, found, dense=False)
        for chosen in spans(everything[found.num_capped_N < 0], wanted.k):
            _pass(wanted, chosen, shards, device, "fp32", threads, found, dense=True)
    return found


def spans(queries: Rows, k: int) -> Iterator[Rows]:
    """Queries that pass over the corpus together."""
    span = min(1 << 17, max(16, MOST_RESULTS // k))
    span -= span % TILE_CPU[1] if span > TILE_CPU[1] else 0
    return (queries[start : start + span] for start in range(0, len(queries), span))


def _pass(
    wanted: Wanted,
    chosen: Rows,
    shards: Shards,
    device: str,
    precision: str,
    threads: Threads,
    found: Found,
    *,
    dense: bool,
) -> None:
    """Scan for some queries and fill their places; the number of capped rows is -1 for those that gave up."""
    height, width = TILE_CPU if device == "cpu" else TILE_GPU
    width = min(width, -(-len(chosen) // threads.number))
    parts = [chosen[start : start + width] for start in range(0, len(chosen), width)]
    blocks = []
    for part in parts:
        some = wanted.some(part)
        blocks.append(some.block(device, some.masks(device), precision, dense=dense))
    rooms: SimpleQueue[Tensor] = SimpleQueue()
    for _ in range(min(threads.number, len(blocks))):
        rooms.put(torch.empty(height * width, dtype=NUMBERS[precision][0], device=device))

    def sample(block: Block, tile: Tile) -> None:
        with _one_of(rooms) as room:
            block.sample(tile, room, by_block=by_block)

    def look(block: Block, tile: Tile) -> None:
        with _one_of(rooms) as room:
            block.look(tile, room)
        _relieve(block, wanted.k * max(block.num_queries, 32), row_MD, first_row)

    def settle(block: Block) -> None:
        block.narrow()
        block.settle(row_MD, first_row)

    # The first floor is the k-th of the highest scores of blocks: of hardly more blocks than results it is a low one.
    enough = min(8 * height, max(height, -(-4 * wanted.k * BLOCK_ROWS // height) * height))
    for first_row, shard_MD in shards:
        row_MD = shard_MD.to(device, torch.float32)
        sampled = []
        if first_row == 0:
            sampled = list(_tiles(row_MD[:enough], 0, height, precision, threads))
            by_block = len(row_MD[:enough]) // BLOCK_ROWS * (1 - MOST_ABOVE) >= wanted.k
            for tile in sampled:
                threads.each(sample, blocks, repeat(tile))
            threads.each(Block.begin, blocks)
        rest = sum(len(tile.low_TD) for tile in sampled)
        for tile in chain(sampled, _tiles(row_MD[rest:], first_row + rest, height, precision, threads)):
            threads.each(look, blocks, repeat(tile))
        threads.each(settle, blocks)
    for part, block in zip(parts, blocks, strict=True):
        write(found, part, block)


def _tiles(row_MD: Tensor, first_row: int, height: int, precision: str, threads: Threads) -> Iterator[Tile]:
    """The tiles of these rows, each made while the one before it is looked at."""

    def make(start: int) -> Future[Tile]:
        return threads.pool.submit(Tile.of, row_MD[start : start + height], first_row + start, precision)

    starts = range(0, len(row_MD), height)
    coming = [make(start) for start in starts[:1]]
    for start in starts:
        tile = coming.pop().result()
        if start + height < len(row_MD):
            coming.append(make(start + height))
        yield tile


@contextmanager
def _one_of(rooms: "SimpleQueue[Tensor]") -> Iterator[Tensor]:
    """A room, given back whatever happens: whoever waits for one would wait for ever."""
    room = rooms.get()
    try:
        yield room
    finally:
        rooms.put(room)


def _relieve(block: Block, results: int, row_MD: Tensor, first_row: int) -> None:
    """Let go of what waits in vain; where too much is left (scores that low precision cannot tell apart), settle it."""
    if block.num_waiting() > 2 * results:
        block.narrow()
        if block.num_waiting() > max(MOST_WAITING, 2 * results):
            block.settle(row_MD, first_row)


def write(found: Found, queries: Rows, block: Block) -> None:
    found.scores_Nk[queries] = torch.where(block.row_Bk >= 0, block.score_Bk, torch.nan).cpu().numpy()
    found.rows_Nk[queries] = block.row_Bk.cpu().numpy()
    found.num_capped_N[queries] = torch.where(block.given_up_B, -1, block.num_capped_B).cpu().numpy()
    found.num_above_N[queries] = block.num_above_B.cpu().numpy()


def _exact_products() -> tuple[str, bool]:
    """Products as precise as they are called: others may have allowed TensorFloat32, bf16 for fp32, or bf16 sums."""
    before = torch.get_float32_matmul_precision(), torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction
    _allow(("highest", False))
    return before


def _allow(allowed: tuple[str, bool]) -> None:
    precision, reduced = allowed
    torch.set_float32_matmul_precision(precision)
    torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction = reduced


_EXACT = WhileAny(_exact_products, _allow)
