"""
Texts end to end in one row, so that no padding is computed, and an attention that keeps them apart.

A model with full attention knows nothing of where one text of a row ends: numbering positions anew for each is not
enough (tokens then see all other texts, in silence). So attention itself is told. On a CUDA device it is one kernel for
texts of any lengths; elsewhere texts of similar length, neighbours in a row sorted by length, are given to an ordinary
kernel together. Shapes: S texts of a row, T tokens of it, H heads of D dimensions, L the longest of a group.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

ATTENTION = "packed_texts"  # its name among the attentions of transformers
SIMILAR = 1.15  # texts of a group: the longest by the shortest


@dataclass(frozen=True, slots=True)
class Group:
    """Neighbours in a row that are given to one kernel together: their tokens, and where padding goes, if any."""

    start: int  # of its first token in the row
    end: int
    num_texts: int
    longest: int
    token_NL: Tensor | None  # (N texts, L) of the group's tokens, any one where a text has none; None: all are as long
    is_token_NL: Tensor | None


class Pack:
    """
    S texts as one row of T tokens.

    Attributes:
        token_ids_1T, position_ids_1T: what the model is given; positions begin anew with each text.
        length_S: tokens of each text.
        bound_S1: (S + 1) int32, where each text begins, and the end of the last.
        longest: tokens of the longest text.
        narrowest: the shortest window of a layer that attends to neighbours only, if the model has such layers.
    """

    def __init__(self, token_ids: Sequence[Sequence[int]], device: torch.device) -> None:
        lengths = [len(ids) for ids in token_ids]
        self.longest = max(lengths)
        self.length_S = torch.tensor(lengths)
        bound_S1 = functional.pad(self.length_S.cumsum(0), (1, 0))
        row = torch.tensor([number for ids in token_ids for number in ids])
        begin_T = bound_S1[:-1].repeat_interleave(self.length_S)
        self.token_ids_1T = row[None].to(device)
        self.position_ids_1T = (torch.arange(len(row)) - begin_T)[None].to(device)
        self.bound_S1 = bound_S1.to(torch.int32).to(device)
        self.narrowest: int | None = None
        self._bounds, self._lengths, self._device = bound_S1.tolist(), lengths, device
        self._groups: list[Group] | None = None

    @property
    def groups(self) -> list[Group]:
        """The row cut into groups, for attentions that take texts of one length."""
        if self._groups is None:
            self._groups = list(self._cut())
        return self._groups

    def _cut(self) -> list[Group]:
        groups, first = [], 0
        for last in range(1, len(self._lengths) + 1):
            among = self._lengths[first : last + 1]
            if last == len(self._lengths) or max(among) > SIMILAR * min(among):
                groups.append(self._group(first, last))
                first = last
        return groups

    def _group(self, first: int, last: int) -> Group:
        lengths = self._lengths[first:last]
        start, end, longest = self._bounds[first], self._bounds[last], max(lengths)
        if min(lengths) == longest:
            return Group(start, end, last - first, longest, None, None)
        place_L = torch.arange(longest)
        begin_N = torch.tensor(self._bounds[first:last]) - start
        is_token_NL = place_L < torch.tensor(lengths)[:, None]
        token_NL = torch.where(is_token_NL, begin_N[:, None] + place_L, begin_N[:, None])
        return Group(start, end, last - first, longest, token_NL.to(self._device), is_token_NL.to(self._device))


def attend(
    module: torch.nn.Module,
    query_1HTD: Tensor,
    key_1HTD: Tensor,
    value_1HTD: Tensor,
    attention_mask: Tensor | None,
    *,
    pack: Pack,
    scaling: float | None = None,
    is_causal: bool | None = None,
    sliding_window: int | None = None,
    **unused: Any,
) -> tuple[Tensor, None]:
    """
    Attention within each text of a row, in the form in which transformers calls attentions.

    Raises:
        ValueError: the layer asks for what this does not do (a mask, capped scores, sinks, a bias).
    """
    asked = [name for name in ("softcap", "s_aux", "position_bias", "block_mask") if unused.get(name) is not None]
    if attention_mask is not None or asked:
        raise ValueError(f"packed attention knows no {', '.join(asked) or 'mask'}")
    if sliding_window is not None:
        pack.narrowest = min(sliding_window, pack.narrowest or sliding_window)
    causal = bool(getattr(module, "is_causal", False) if is_causal is None else is_causal)
    device = query_1HTD.device.type
    if device == "cuda" and torch.is_autocast_enabled("cuda"):
        return _varlen(query_1HTD, key_1HTD, value_1HTD, pack, scaling, causal=causal), None
    with torch.autocast(device, enabled=False):  # on CPUs short texts are slower in bf16
        query, key, value = (each[0].transpose(0, 1).float() for each in (query_1HTD, key_1HTD, value_1HTD))
        out_THD = _by_groups(query, key, value, pack, scaling, causal=causal)
    return out_THD[None].to(value_1HTD.dtype), None


def _varlen(
    query_1HTD: Tensor, key_1HTD: Tensor, value_1HTD: Tensor, pack: Pack, scaling: float | None, *, causal: bool
) -> Tensor:
    from torch.nn.attention.varlen import varlen_attn

    low = torch.get_autocast_dtype("cuda")
    query, key, value = (each[0].transpose(0, 1).to(low) for each in (query_1HTD, key_1HTD, value_1HTD))
    bounds, longest = pack.bound_S1, pack.longest
    out = varlen_attn(
        query, key, value, bounds, bounds, longest, longest,
        scale=scaling, window_size=(-1, 0 if causal else -1), enable_gqa=key.shape[1] != query.shape[1],
    )  # fmt: skip
    assert isinstance(out, Tensor)
    return out[None]


def _by_groups(
    query_THD: Tensor, key_THD: Tensor, value_THD: Tensor, pack: Pack, scaling: float | None, *, causal: bool
) -> Tensor:
    shared = query_THD.shape[1] // key_THD.shape[1]  # queries' heads that share keys and values
    sizes = [group.end - group.start for group in pack.groups]
    parts = zip(pack.groups, *(torch.split(each, sizes) for each in (query_THD, key_THD, value_THD)), strict=True)
    outs = []
    for group, *part in parts:
        query, key, value = (_stacked(each, group).transpose(1, 2) for each in part)
        length = query.shape[2]
        if shared > 1 and causal:
            key, value = (each.repeat_interleave(shared, dim=1) for each in (key, value))
        elif shared > 1:  # they see all of a text's tokens, so that they may stand in one row
            query = torch.unflatten(query, 1, (-1, shared)).flatten(2, 3)
        # Padding is behind a text's tokens, where a causal one does not look.
        mask = None if group.is_token_NL is None or causal else group.is_token_NL[:, None, None, :]
        out = functional.scaled_dot_product_attention(
            query, key, value, attn_mask=mask, is_causal=causal, scale=scaling
        )
        if shared > 1 and not causal:
            out = torch.unflatten(out, 2, (shared, length)).flatten(1, 2)
        out_NLHD = out.transpose(1, 2)
        outs.append(out_NLHD.flatten(0, 1) if group.is_token_NL is None else out_NLHD[group.is_token_NL])
    return torch.cat(outs)


def _stacked(rows_KHD: Tensor, group: Group) -> Tensor:
    """A group's K rows as its texts (N, L, H, D)."""
    if group.token_NL is None:
        return torch.unflatten(rows_KHD, 0, (group.num_texts, group.longest))
    return rows_KHD[group.token_NL]


def register() -> None:
    """Make the attention known to transformers, by its name."""
    from transformers import AttentionInterface

    AttentionInterface.register(ATTENTION, attend)
