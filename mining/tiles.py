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

from dataclasses import dataclass

import torch
from torch import Tensor

from mining import MiningError
from mining.pairs import Pairs, exact_scores, kth_scores, ranked, true_places
from mining.search import LONGEST

BLOCK_ROWS = 64  # rows whose scores are passed over, or looked at, together
MOST_WAITING = 1 << 20  # pairs that wait for their second look: 24 MB
MOST_UNSURE = 512  # pairs of a query that low precision cannot place above or below its cap or mark
MOST_ABOVE = 1 / 8  # of the first tile's blocks hold a score above the cap or mark: then looking at blocks is no saving
NUMBERS = {"bf16": (torch.bfloat16, torch.int16), "fp32": (torch.float32, torch.int32)}
ROUNDING = {"bf16": 2.0**-8, "fp32": 2.0**-23}  # of a score, at most: twice the relative error of one rounding
SINGLE = 2.0**-24  # relative error of one rounding to float32
TINIEST = 2.0**-120  # processors take smaller products, and terms, for 0
UNSQUARED = 2.0**-62  # squares of smaller numbers are lost in float32


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
        lost = 0.0 if low_TD.dtype == row_TD.dtype else float(lengths(low_TD.float().sub_(row_TD)).max())
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
        self.low_BD = query_BD.to(self._float)
        self._lost_B = lengths(query_BD - self.low_BD)
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
        self._sampled: list[Tensor] = []  # (B, at most k) of each tile that was sampled
        self._share_above: list[Tensor] = []  # (B,) of its blocks of rows, that may hold a score above the cap or mark
        self._fresh: list[Pairs] = []  # may be results
        self._near_cap: list[Pairs] = []  # may be results, or capped
        self._near_mark: list[Pairs] = []

    def sample(self, tile: Tile, room: Tensor, *, by_block: bool) -> None:
        """Multiply a tile for `begin` alone: to see how high its scores are, of blocks of rows or of all rows."""
        score_BT, error_B = self._product(tile, room)
        if self._dense:
            score_BT.masked_fill_(self._may_be_capped(score_BT, error_B), -torch.inf)
        highest_BG = self._highest(score_BT)
        highest_BG = torch.where(highest_BG >= 0, highest_BG.view(self._float).float(), -torch.inf)
        if self._counts and not self._dense:
            ceiling_B = torch.minimum(self._cap_B, self._mark_B)
            above_BG = self._high(highest_BG) + error_B[:, None] >= ceiling_B[:, None]
            self._share_above.append(above_BG.float().mean(dim=1))
        value_BV = highest_BG if by_block else score_BT.float()
        value_BV = value_BV.masked_fill(self._may_be_capped(value_BV, error_B), -torch.inf)
        self._sampled.append(value_BV.topk(min(self.k, value_BV.shape[1]), dim=1).values)

    def begin(self) -> None:
        """A first floor from what was sampled: the k-th highest. Queries whose cap or mark lies deep give up."""
        if self._share_above:
            self.given_up_B |= torch.stack(self._share_above).mean(dim=0) > MOST_ABOVE
        best = torch.cat(self._sampled, dim=1)
        if best.shape[1] >= self.k:
            kth_B = best.topk(self.k, dim=1).values[:, -1]
            self._raise_floor(kth_B.isfinite(), kth_B[kth_B.isfinite()])
        self._sampled, self._share_above = [], []

    def look(self, tile: Tile, room: Tensor) -> None:
        """Multiply a tile and keep what is worth a second look. `room` has place for its scores."""
        score_BT, error_B = self._product(tile, room)
        if self._dense:
            self._count_all(score_BT, tile, error_B)
        found, lowest_B = self._found(score_BT, tile.first_row, error_B)
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
        enough_B, kth_E = kth_scores(fresh, self.num_queries, self.k)
        self._raise_floor(enough_B, kth_E)
        lowest_B = (self._floor_B - self._error_B).to(self._float).float()
        self._fresh = [fresh[fresh.score_P >= lowest_B.index_select(0, fresh.query_P)]]

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
        order, start_B = ranked(every, self.num_queries)
        every = every[order]
        place_P = torch.arange(len(every), device=order.device) - start_B[every.query_P]
        every, place_P = every[place_P < self.k], place_P[place_P < self.k]
        self.score_Bk[every.query_P, place_P] = every.score_P
        self.row_Bk[every.query_P, place_P] = every.row_P
        kth_B = self.score_Bk[:, -1]
        self._floor_B = torch.maximum(self._floor_B, kth_B)

    def _product(self, tile: Tile, room: Tensor) -> tuple[Tensor, Tensor]:
        """Scores of whole blocks of rows (least of what is masked, or no row), and (B,) how far they may be off."""
        num_rows = len(tile.low_TD)
        height = -(-num_rows // BLOCK_ROWS) * BLOCK_ROWS
        score_BT = room[: height * self.num_queries].view(self.num_queries, height)
        torch.mm(self.low_BD, tile.low_TD.T, out=score_BT[:, :num_rows])
        score_BT[:, num_rows:] = -torch.inf
        self._mask(score_BT, tile.first_row, num_rows)
        error_B = self._error_of(tile)
        self._error_B = torch.maximum(self._error_B, error_B)
        return score_BT, error_B

    def _highest(self, score_BT: Tensor) -> Tensor:
        """(B, G) of each block of rows, as integers."""
        return score_BT.view(self.num_queries, -1, BLOCK_ROWS).view(self._integer).amax(dim=2)

    def _may_be_capped(self, score_BV: Tensor, error_B: Tensor) -> Tensor:
        return self._high(score_BV) + error_B[:, None] >= self._cap_B[:, None]

    def _error_of(self, tile: Tile) -> Tensor:
        """(B,) how far a product in this tile may be from the exact one, its own rounding (`_rounding`) left out."""
        dimension = self.low_BD.shape[1]
        summing = (dimension + 4) * SINGLE * tile.longest * self._length_B
        flushed = dimension * TINIEST * (1 + tile.longest + self._length_B)  # what is too small may be taken for 0
        lost_B = self._lost_B * (tile.longest + tile.lost) + self._length_B * tile.lost
        error_B = 1.01 * (lost_B + summing + flushed)  # and what rounding does to this bound
        return error_B.float()

    def _mask(self, score_BT: Tensor, first_row: int, num_rows: int) -> None:
        bounds = torch.tensor([first_row, first_row + num_rows], device=self._masked_row_M.device)
        start, end = torch.searchsorted(self._masked_row_M, bounds).tolist()
        score_BT[self._masked_query_M[start:end], self._masked_row_M[start:end] - first_row] = -torch.inf

    def _raise_floor(self, chosen_B: Tensor, kth_B: Tensor) -> None:
        """The k-th best of some queries scores this in a tile: exactly, no less than this without its error."""
        least_B = self._low(kth_B) - self._error_B[chosen_B]
        self._floor_B[chosen_B] = torch.maximum(self._floor_B[chosen_B], least_B)

    def _found(self, score_BT: Tensor, first_row: int, error_B: Tensor) -> tuple[Pairs, Tensor]:
        """Pairs that may be results or must be counted, and the (B,) score below which none can be a result."""
        result_B = (self._floor_B - error_B).to(self._float)
        lowest_B = result_B
        if self._counts and not self._dense:
            lowest_B = torch.minimum(lowest_B, (self._mark_B - error_B).to(self._float))
        lowest_B = lowest_B.masked_fill(self.given_up_B, torch.inf)
        bits_B = torch.where(lowest_B > 0, lowest_B.view(self._integer), torch.iinfo(self._integer).min)
        highest_BG = self._highest(score_BT)
        query_P, group_P = true_places(highest_BG >= bits_B[:, None])
        block_P = query_P * highest_BG.shape[1] + group_P
        score_PR = score_BT.view(-1, BLOCK_ROWS).index_select(0, block_P)
        at_P, place_P = true_places(score_PR.view(self._integer) >= bits_B.index_select(0, query_P)[:, None])
        row_P = first_row + group_P.index_select(0, at_P) * BLOCK_ROWS + place_P
        score_P = score_PR.view(-1).index_select(0, at_P * BLOCK_ROWS + place_P)
        found = Pairs(query_P.index_select(0, at_P), row_P, score_P.float())
        if not bool((lowest_B > 0).all()):  # else integers have decided it
            worth_P = (found.score_P >= lowest_B.float()[found.query_P]) & (found.score_P > -torch.inf)
            found = found[worth_P]
        return found, result_B.float()

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

    def _count_all(self, score_BT: Tensor, tile: Tile, error_B: Tensor) -> None:
        """Count what surely lies above the cap or the mark, put aside what may, and take both out of the tile."""
        slack_B = error_B + (2 * self._rounding * tile.longest * self._length_B).float()
        above_BT = score_BT > (self._mark_B + slack_B)[:, None]
        self.num_above_B += above_BT.sum(dim=1)
        near_BT = (score_BT > (self._mark_B - slack_B)[:, None]) & ~above_BT
        self._near_mark.append(self._pairs(near_BT, score_BT, tile.first_row))
        capped_BT = score_BT > (self._cap_B + slack_B)[:, None]
        self.num_capped_B += capped_BT.sum(dim=1)
        maybe_BT = score_BT >= (self._cap_B - slack_B)[:, None]
        self._near_cap.append(self._pairs(maybe_BT & ~capped_BT, score_BT, tile.first_row))
        score_BT.masked_fill_(maybe_BT, -torch.inf)

    def _pairs(self, chosen_BT: Tensor, score_BT: Tensor, first_row: int) -> Pairs:
        query_P, row_P = true_places(chosen_BT)
        return Pairs(query_P, row_P + first_row, score_BT[query_P, row_P].float())

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
    """(T,) of float32 rows, in float32: no less than they are, and hardly more."""
    dimension = row_TD.shape[1]
    length_T: Tensor = torch.linalg.vector_norm(row_TD, dim=1)
    length_T *= 1 + (dimension + 8) * SINGLE
    length_T += dimension**0.5 * UNSQUARED
    return length_T
