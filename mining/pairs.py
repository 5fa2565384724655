"""
Pairs of a query and a row of the corpus that are worth a second look: chosen, ranked and scored exactly.

Shapes: B queries of a block, D dimensions, P pairs; X and Y of any table.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor

RESCORE_CPU, RESCORE_GPU = 1 << 16, 1 << 26  # numbers multiplied at once in float64: 512 KB stay in a core's cache
WORD = 8  # places that are looked at together


@dataclass(frozen=True, slots=True)
class Pairs:
    """P pairs of a query (its place in the block) and a row of the corpus, with the score that the tile gave them."""

    query_P: Tensor
    row_P: Tensor
    score_P: Tensor

    def __getitem__(self, chosen: Tensor) -> "Pairs":
        if chosen.dtype == torch.bool:
            [chosen] = chosen.nonzero(as_tuple=True)
        return Pairs(*(getattr(self, each.name).index_select(0, chosen) for each in fields(self)))

    def __len__(self) -> int:
        return len(self.query_P)

    @staticmethod
    def joined(parts: "Sequence[Pairs]") -> "Pairs":
        """The pairs of several, in their order; at least one."""
        return Pairs(*(torch.cat([getattr(part, each.name) for part in parts]) for each in fields(Pairs)))


def true_places(mask_XY: Tensor) -> tuple[Tensor, Tensor]:
    """Places of the few that are true, by X and then by Y: eight are looked at together."""
    if mask_XY.shape[1] % WORD or not mask_XY.is_contiguous():
        return mask_XY.nonzero(as_tuple=True)  # type: ignore[return-value]
    x_P, word_P = mask_XY.view(torch.int64).nonzero(as_tuple=True)
    at_P, place_P = mask_XY.view(len(mask_XY), mask_XY.shape[1] // WORD, WORD)[x_P, word_P].nonzero(as_tuple=True)
    return x_P.index_select(0, at_P), word_P.index_select(0, at_P) * WORD + place_P


def exact_scores(query_BD: Tensor, query_P: Tensor, row_MD: Tensor, row_P: Tensor) -> Tensor:
    """(P,) float32: inner products of chosen rows of two float32 tensors, computed in float64 and rounded."""
    score_P = torch.empty(len(query_P), device=query_BD.device)
    numbers = RESCORE_GPU if row_MD.is_cuda else RESCORE_CPU
    step = max(1, numbers // max(1, row_MD.shape[1]))
    query_BD = query_BD.double()
    for start in range(0, len(query_P), step):
        part = slice(start, start + step)
        product_PD = row_MD.index_select(0, row_P[part]).double()
        score_P[part] = product_PD.mul_(query_BD.index_select(0, query_P[part])).sum(dim=1)
    return score_P


def ranked(pairs: Pairs, num_queries: int) -> tuple[Tensor, Tensor]:
    """The order of pairs by query, falling score, and row; for each query where its own begin, (B,)."""
    by_row_P = _argsort(pairs.row_P)
    order_P = by_row_P.index_select(0, _argsort(_keys(pairs).index_select(0, by_row_P), stable=True))
    number_B = torch.bincount(pairs.query_P, minlength=num_queries)
    return order_P, number_B.cumsum(dim=0) - number_B


def kth_scores(pairs: Pairs, num_queries: int, k: int) -> tuple[Tensor, Tensor]:
    """(B,) which queries have k pairs or more, and the k-th highest score of each of those."""
    key_P = _keys(pairs)
    key_P = key_P.sort().values if key_P.is_cuda else torch.from_numpy(np.sort(key_P.numpy()))  # many times as fast
    number_B = torch.bincount(pairs.query_P, minlength=num_queries)
    enough_B = number_B >= k
    key_E = key_P[(number_B.cumsum(dim=0) - number_B + k - 1)[enough_B]]
    rising_E = (enough_B.nonzero()[:, 0] << 33) - key_E
    score_E = rising_E.abs().int().view(torch.float32)
    return enough_B, torch.where(rising_E >= 0, score_E, -score_E)


def _keys(pairs: Pairs) -> Tensor:
    """(P,) whole numbers in the order of the queries and of falling scores."""
    bits_P = (pairs.score_P + 0.0).view(torch.int32).long()  # 0 and -0 are equal
    rising_P = torch.where(bits_P >= 0, bits_P, -(bits_P & 0x7FFFFFFF))
    return (pairs.query_P << 33) - rising_P


def _argsort(key_P: Tensor, *, stable: bool = False) -> Tensor:
    if key_P.is_cuda:
        return torch.argsort(key_P, stable=stable)
    return torch.from_numpy(np.argsort(key_P.numpy(), kind="stable" if stable else "quicksort"))  # 2-3 times as fast
