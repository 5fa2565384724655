"""
Exact search in tiles of a matrix product with torch, on any device, in low precision where that is faster.

Low precision alone loses one or two of the hundred best rows. Here it only decides which rows are worth a second look:
the error of each product is bounded (Cauchy-Schwarz, by the lengths of what rounding took away), so no row that could
belong is passed over, and what is looked at again is scored in float64. Choosing costs little beside multiplying: a
block of rows whose largest score is too low is passed over as a whole, and the largest of a block is found in
integers, since positive floats are in the order of their bits.
Shapes: N queries, B queries of a block, T rows of a tile, G blocks of rows in it, D dimensions, k results of a query,
P pairs of a query and a row.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from mining import MiningError
from mining.search import LONGEST

BLOCK_ROWS = 64  # rows whose scores are passed over, or looked at, together
MOST_WAITING = 1 << 20  # pairs that wait for their second look: 24 MB
MOST_UNSURE = 512  # pairs of a query that low precision cannot place above or below its cap or mark
MOST_ABOVE = 1 / 8  # of the first tile's blocks hold a score above the cap or mark: then looking at blocks is no saving
RESCORE_NUMBERS = 1 << 20  # float64 numbers multiplied at once: 8 MB
NUMBERS = {"bf16": (torch.bfloat16, torch.int16), "fp32": (torch.float32, torch.int32)}
ROUNDING = {"bf16": 2.0**-8, "fp32": 2.0**-23}  # of a score, at most: twice the relative error of one rounding
SINGLE = 2.0**-24  # relative error of one rounding to float32
TINIEST = 2.0**-120  # processors take smaller products, and terms, for 0


@dataclass(frozen=True, slots=True)
class Pairs:
    """P pairs of a query (its place in the block) and a row of the corpus, with the score that the tile gave them."""

    query_P: Tensor
    row_P: Tensor
    score_P: Tensor

    def __getitem__(self, chosen: Tensor) -> "Pairs":
        return Pairs(self.query_P[chosen], self.row_P[chosen], self.score_P[chosen])

    def __len__(self) -> int:
        return len(self.query_P)

    @staticmethod
    def joined(parts: "Sequence[Pairs]") -> "Pairs":
        """The pairs of several, in their order; at least one."""
        return Pairs(*(torch.cat([getattr(part, each.name) for part in parts]) for each in fields(Pairs)))


@dataclass(frozen=True, slots=True)
class Tile:
    """T rows of the corpus in the precision of the product, and how far they are from what they were."""

    first_row: int
    low_TD: Tensor
    longest: float  # length of the longest row
    lost: float  # the largest length of what rounding took from a row

    @staticmethod
    def of(row_TD: Tensor, first_row: int, precision: str) -> "Tile":
        """The rows of a float32 tensor, in the given precision. Raises MiningError if a number is not finite."""
        low_TD = row_TD.to(NUMBERS[precision][0])
        length_T = lengths(row_TD)
        longest = float(length_T.max())
        if not longest < LONGEST:
            row = first_row + int((~(length_T < LONGEST)).nonzero()[0])
            raise MiningError(
                f"row {row} of the corpus has a number that is not finite, or is longer than {LONGEST:g}: encode it"
                " again, or normalise it"
            )
        lost = 0.0 if low_TD.dtype == row_TD.dtype else float(lengths(row_TD - low_TD).max())
        return Tile(first_row, low_TD, longest, lost)


class Block:
    """
    B queries while the corpus goes by, in ascending order of its rows: what is known of the k best of each.

    Args:
        query_BD: (B, D) float32, on the device of the tiles.
        k: results of a query.
        cap_B: (B,) float32; only rows that score below it are results, the others are counted. Infinite: all are.
        mark_B: (B,) float32; rows that score above it are counted. Infinite: none is.
        masked: places of queries and rows of the corpus that are no candidates, sorted by row.
        precision: of the tiles: bf16 or fp32.
        dense: count by comparing every score, instead of those in blocks with a high one.
    """

    def __init__(
        self,
        query_BD: Tensor,
        k: int,
        cap_B: Tensor,
        mark_B: Tensor,
        masked: tuple[Tensor, Tensor],
        precision: str,
        *,
        dense: bool,
    ) -> None:
        self._query_BD, self.k, self._cap_B, self._mark_B, self._dense = query_BD, k, cap_B, mark_B, dense
        self._masked_query_M, self._masked_row_M = masked
        self._float, self._integer = NUMBERS[precision]
        self._rounding = ROUNDING[precision]
        self._low_DB = query_BD.to(self._float).T.contiguous()
        self._lost_B = lengths(query_BD - self._low_DB.T)
        self._length_B = lengths(query_BD)
        self._counts = bool((cap_B.isfinite() | mark_B.isfinite()).any())
        num, device = len(query_BD), query_BD.device
        self._floor_B = torch.full((num,), -torch.inf, device=device)  # the k-th best scores no less
        self._error_B = torch.zeros(num, device=device)  # the largest of any tile so far
        self.score_Bk = torch.full((num, k), -torch.inf, device=device)
        self.row_Bk = torch.full((num, k), -1, dtype=torch.int64, device=device)
        self.num_capped_B = torch.zeros(num, dtype=torch.int64, device=device)
        self.num_above_B = torch.zeros(num, dtype=torch.int64, device=device)
        self.given_up_B = torch.zeros(num, dtype=torch.bool, device=device)
        self._num_unsure_B = torch.zeros(num, dtype=torch.int64, device=device)
        self._fresh: list[Pairs] = []  # may be results
        self._near_cap: list[Pairs] = []  # may be results, or capped
        self._near_mark: list[Pairs] = []
        self._begun = False

    def look(self, tile: Tile, room_TB: Tensor) -> None:
        """Multiply a tile and keep what is worth a second look. `room_TB` has at least its rows, in its precision."""
        num_rows = len(tile.low_TD)
        height = -(-num_rows // BLOCK_ROWS) * BLOCK_ROWS
        score_TB = room_TB[:height, : len(self._query_BD)]
        torch.mm(tile.low_TD, self._low_DB, out=score_TB[:num_rows])
        score_TB[num_rows:] = -torch.inf
        self._mask(score_TB, tile.first_row, num_rows)
        error_B = self._error_of(tile)
        self._error_B = torch.maximum(self._error_B, error_B)
        if self._dense:
            self._count_all(score_TB, tile, error_B)
        score_GRB = score_TB.view(-1, BLOCK_ROWS, score_TB.shape[1])
        highest_GB = score_GRB.view(self._integer).amax(dim=1)
        if not self._begun:
            self._begin(score_TB, highest_GB, error_B)
        found, lowest_B = self._found(score_GRB, highest_GB, tile.first_row, error_B)
        if self._counts and not self._dense:
            found = self._counted(found, lowest_B, error_B)
        self._fresh.append(found)

    def add(self, pairs: Pairs) -> None:
        """Take a second look at pairs that were found elsewhere."""
        self._fresh.append(pairs)
        if bool(self._mark_B.isfinite().any()):
            self._near_mark.append(pairs)

    @property
    def num_queries(self) -> int:
        """B."""
        return len(self._query_BD)

    def low_BD(self) -> Tensor:
        """The queries in the precision of the tiles."""
        return self._low_DB.T.contiguous()

    def most(self, score_B: Tensor, tile: Tile) -> Tensor:
        """(B,) what a row of the tile can score at most if the product says this."""
        return self._high(score_B) + self._error_of(tile)

    def proves(self, left_B: Tensor) -> Tensor:
        """(B,) whether results and counts are right, if no row that was not added scores above this."""
        enough_B = (left_B < self.score_Bk[:, -1]) & (left_B < self._cap_B) & (left_B <= self._mark_B)
        return enough_B | (left_B == -torch.inf)

    def num_waiting(self) -> int:
        """How many pairs wait for their second look."""
        return sum(map(len, (*self._fresh, *self._near_cap, *self._near_mark)))

    def narrow(self) -> None:
        """Raise the floor by what waits, and let go of what lies below it."""
        if not self._fresh:
            return
        fresh = Pairs.joined(self._fresh)
        order, start_B, number_B = _ranked(fresh, len(self._query_BD), torch.empty(0, dtype=torch.int64))
        enough_B = number_B >= self.k
        kth_B = fresh.score_P[order[(start_B + self.k - 1)[enough_B]]]
        self._raise_floor(enough_B, kth_B)
        lowest_B = (self._floor_B - self._error_B).to(self._float).float()
        self._fresh = [fresh[fresh.score_P >= lowest_B[fresh.query_P]]]

    def settle(self, row_MD: Tensor, first_row: int) -> None:
        """Score exactly what waits, all of it in these float32 rows of the corpus, and keep the k best."""
        waiting, near_mark = [*self._fresh, *self._near_cap], self._near_mark
        self._fresh, self._near_cap, self._near_mark = [], [], []
        for pairs in near_mark:
            above_P = self._exact(pairs, row_MD, first_row).score_P > self._mark_B[pairs.query_P]
            self.num_above_B += self._number(pairs.query_P[above_P])
        if waiting:
            self._keep(self._exact(Pairs.joined(waiting), row_MD, first_row))

    def _keep(self, exact: Pairs) -> None:
        """The k best of what is held and of these pairs; what is capped is counted."""
        capped_P = exact.score_P >= self._cap_B[exact.query_P]
        self.num_capped_B += self._number(exact.query_P[capped_P])
        held = self.row_Bk >= 0
        held_query_P = held.nonzero()[:, 0]
        every = Pairs.joined([Pairs(held_query_P, self.row_Bk[held], self.score_Bk[held]), exact[~capped_P]])
        order, start_B, _ = _ranked(every, len(self._query_BD), every.row_P)
        every = every[order]
        place_P = torch.arange(len(every), device=order.device) - start_B[every.query_P]
        every, place_P = every[place_P < self.k], place_P[place_P < self.k]
        self.score_Bk[every.query_P, place_P] = every.score_P
        self.row_Bk[every.query_P, place_P] = every.row_P
        kth_B = self.score_Bk[:, -1]
        self._floor_B = torch.maximum(self._floor_B, kth_B)

    def _error_of(self, tile: Tile) -> Tensor:
        """(B,) how far a product in this tile may be from the exact one, its own rounding (`_rounding`) left out."""
        dimension = len(self._low_DB)
        summing = (dimension + 4) * SINGLE * tile.longest * self._length_B
        flushed = dimension * TINIEST * (1 + tile.longest + self._length_B)  # what is too small may be taken for 0
        lost_B = self._lost_B * (tile.longest + tile.lost) + self._length_B * tile.lost
        error_B = 1.01 * (lost_B + summing + flushed)  # and what rounding does to this bound
        return error_B.float()

    def _mask(self, score_TB: Tensor, first_row: int, num_rows: int) -> None:
        bounds = torch.tensor([first_row, first_row + num_rows], device=self._masked_row_M.device)
        start, end = torch.searchsorted(self._masked_row_M, bounds).tolist()
        score_TB[self._masked_row_M[start:end] - first_row, self._masked_query_M[start:end]] = -torch.inf

    def _begin(self, score_TB: Tensor, highest_GB: Tensor, error_B: Tensor) -> None:
        """A floor from the first tile: the k-th highest of its blocks, or of its scores where blocks are too few."""
        self._begun = True
        highest_GB = torch.where(highest_GB >= 0, highest_GB.view(self._float).float(), -torch.inf)
        if self._counts and not self._dense:
            ceiling_B = torch.minimum(self._cap_B, self._mark_B)
            above_GB = highest_GB * (1 + self._rounding) + error_B >= ceiling_B
            self.given_up_B |= above_GB.float().mean(dim=0) > MOST_ABOVE
        for value_VB in (highest_GB, score_TB):
            missing_B = ~self._floor_B.isfinite() & ~self.given_up_B
            if len(value_VB) >= self.k and bool(missing_B.any()):
                value_VB = value_VB[:, missing_B].float()
                may_be_capped_VB = self._high(value_VB) + error_B[missing_B] >= self._cap_B[missing_B]
                value_VB = value_VB.masked_fill(may_be_capped_VB, -torch.inf).T.contiguous()
                self._raise_floor(missing_B, value_VB.topk(self.k, dim=1).values[:, -1])

    def _raise_floor(self, chosen_B: Tensor, kth_B: Tensor) -> None:
        """The k-th best of some queries scores this in a tile: exactly, no less than this without its error."""
        least_B = self._low(kth_B) - self._error_B[chosen_B]
        self._floor_B[chosen_B] = torch.maximum(self._floor_B[chosen_B], least_B)

    def _found(self, score_GRB: Tensor, highest_GB: Tensor, first_row: int, error_B: Tensor) -> tuple[Pairs, Tensor]:
        """Pairs that may be results or must be counted, and the (B,) score below which none can be a result."""
        result_B = (self._floor_B - error_B).to(self._float)
        lowest_B = result_B
        if self._counts and not self._dense:
            lowest_B = torch.minimum(lowest_B, (self._mark_B - error_B).to(self._float))
        lowest_B = lowest_B.masked_fill(self.given_up_B, torch.inf)
        bits_B = torch.where(lowest_B > 0, lowest_B.view(self._integer), torch.iinfo(self._integer).min)
        group_P, query_P = (highest_GB >= bits_B).nonzero(as_tuple=True)
        score_PR = score_GRB[group_P, :, query_P]
        at_P, place_P = (score_PR.view(self._integer) >= bits_B[query_P, None]).nonzero(as_tuple=True)
        row_P = first_row + group_P[at_P] * BLOCK_ROWS + place_P
        found = Pairs(query_P[at_P], row_P, score_PR[at_P, place_P].float())
        lowest_B = lowest_B.float()
        worth_P = (found.score_P >= lowest_B[found.query_P]) & (found.score_P > -torch.inf)
        return found[worth_P], result_B.float()

    def _counted(self, found: Pairs, result_B: Tensor, error_B: Tensor) -> Pairs:
        """Count what surely lies above the cap or the mark, put aside what may; the rest that may be results."""
        error_P = error_B[found.query_P]
        least_P, most_P = self._low(found.score_P) - error_P, self._high(found.score_P) + error_P
        cap_P, mark_P = self._cap_B[found.query_P], self._mark_B[found.query_P]
        self.num_above_B += self._number(found.query_P[least_P > mark_P])
        self.num_capped_B += self._number(found.query_P[least_P >= cap_P])
        near_mark_P = (least_P <= mark_P) & (most_P > mark_P)
        near_cap_P = (least_P < cap_P) & (most_P >= cap_P)
        self._near_mark.append(found[near_mark_P])
        self._near_cap.append(found[near_cap_P])
        self._num_unsure_B += self._number(found.query_P[near_mark_P | near_cap_P])
        self.given_up_B |= self._num_unsure_B > MOST_UNSURE
        return found[(most_P < cap_P) & (found.score_P >= result_B[found.query_P])]

    def _count_all(self, score_TB: Tensor, tile: Tile, error_B: Tensor) -> None:
        """Count what surely lies above the cap or the mark, put aside what may, and take both out of the tile."""
        slack_B = error_B + (2 * self._rounding * tile.longest * self._length_B).float()
        above_TB = score_TB > self._mark_B + slack_B
        self.num_above_B += above_TB.sum(dim=0)
        near_TB = (score_TB > self._mark_B - slack_B) & ~above_TB
        self._near_mark.append(self._pairs(near_TB, score_TB, tile.first_row))
        capped_TB = score_TB > self._cap_B + slack_B
        self.num_capped_B += capped_TB.sum(dim=0)
        maybe_TB = score_TB >= self._cap_B - slack_B
        self._near_cap.append(self._pairs(maybe_TB & ~capped_TB, score_TB, tile.first_row))
        score_TB.masked_fill_(maybe_TB, -torch.inf)

    def _pairs(self, chosen_TB: Tensor, score_TB: Tensor, first_row: int) -> Pairs:
        row_P, query_P = chosen_TB.nonzero(as_tuple=True)
        return Pairs(query_P, row_P + first_row, score_TB[row_P, query_P].float())

    def _low(self, score: Tensor) -> Tensor:
        return score - self._rounding * score.abs()

    def _high(self, score: Tensor) -> Tensor:
        return score + self._rounding * score.abs()

    def _number(self, query_P: Tensor) -> Tensor:
        return torch.bincount(query_P, minlength=len(self._query_BD))

    def _exact(self, pairs: Pairs, row_MD: Tensor, first_row: int) -> Pairs:
        score_P = exact_scores(self._query_BD, pairs.query_P, row_MD, pairs.row_P - first_row)
        return Pairs(pairs.query_P, pairs.row_P, score_P)


def lengths(row_TD: Tensor) -> Tensor:
    """(T,) float64: in float32, squares of very large and very small numbers are lost."""
    length_T: Tensor = torch.linalg.vector_norm(row_TD, dim=1, dtype=torch.float64)
    return length_T


def exact_scores(query_BD: Tensor, query_P: Tensor, row_MD: Tensor, row_P: Tensor) -> Tensor:
    """(P,) float32: inner products of chosen rows of two float32 tensors, computed in float64 and rounded."""
    score_P = torch.empty(len(query_P), device=query_BD.device)
    step = max(1, RESCORE_NUMBERS // max(1, row_MD.shape[1]))
    query_BD = query_BD.double()
    for start in range(0, len(query_P), step):
        part = slice(start, start + step)
        product_PD = row_MD.index_select(0, row_P[part]).double()
        score_P[part] = product_PD.mul_(query_BD.index_select(0, query_P[part])).sum(dim=1)
    return score_P


def _ranked(pairs: Pairs, num_queries: int, row_P: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """
    The order of pairs by query and falling score, equal scores by row if rows are given; for each query where its own
    begin, (B,), and how many there are, (B,).
    """
    bits_P = (pairs.score_P + 0.0).view(torch.int32).long()  # 0 and -0 are equal
    rising_P = torch.where(bits_P >= 0, bits_P, -(bits_P & 0x7FFFFFFF))
    key_P = (pairs.query_P << 33) - rising_P
    if len(row_P):
        by_row_P = torch.argsort(row_P)
        order_P = by_row_P[torch.argsort(key_P[by_row_P], stable=True)]
    else:
        order_P = torch.argsort(key_P)
    number_B = torch.bincount(pairs.query_P, minlength=num_queries)
    return order_P, number_B.cumsum(dim=0) - number_B, number_B
