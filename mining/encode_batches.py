"""
Texts that were tokenised together, sorted by tokens and cut into batches that hold little padding.

A model's features are a dict of tensors of W texts and L tokens; what has another shape goes to every batch as it is.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mining import MiningError

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Window:
    """W texts, tokenised, longest first."""

    order_W: NDArray[np.int64]  # which of the texts each one was
    num_tokens_W: NDArray[np.int64] | None  # None: the model pads nothing, and takes them all at once
    padded_left: bool
    features: dict[str, Any]  # on the device


def window_of(features: dict[str, Any], size: int, device: "torch.device") -> Window:
    """
    Sort W texts by their numbers of tokens and send them to the device.

    Args:
        features: of `size` texts, on the CPU, as a model's `preprocess` gives them.
    """
    from sentence_transformers.util import batch_to_device

    mask_WL = features.get("attention_mask")
    if mask_WL is None or mask_WL.ndim != 2:
        return Window(np.arange(size), None, False, batch_to_device(features, device))
    if not mask_WL.shape[1]:
        raise MiningError("the model's tokenizer makes no tokens of a text: is its tokenizer.json missing?")
    num_tokens_W = mask_WL.sum(dim=1).numpy()
    order_W = np.argsort(-num_tokens_W, kind="stable")
    sorted_features = {key: value[order_W] if _is_per_text(value, size) else value for key, value in features.items()}
    padded_left = not bool(mask_WL[:, 0].all())
    return Window(order_W, num_tokens_W[order_W], padded_left, batch_to_device(sorted_features, device))


def batches(window: Window, most_tokens: int) -> Iterator[dict[str, Any]]:
    """Features of one batch after the other, each of at most so many tokens, padding included, or of one text."""
    if window.num_tokens_W is None:
        yield window.features
        return
    start, num_texts = 0, len(window.order_W)
    width = window.features["attention_mask"].shape[1]
    while start < num_texts:
        longest = max(1, int(window.num_tokens_W[start]))
        stop = min(num_texts, start + max(1, most_tokens // longest))
        span = slice(width - longest, width) if window.padded_left else slice(0, longest)
        yield {key: _part(value, slice(start, stop), span, num_texts, width) for key, value in window.features.items()}
        start = stop


def _part(value: Any, rows: slice, span: slice, num_texts: int, width: int) -> Any:
    if not _is_per_text(value, num_texts):
        return value
    return value[rows, span] if value.shape[1:2] == (width,) else value[rows]


def _is_per_text(value: Any, num_texts: int) -> bool:
    import torch

    return isinstance(value, torch.Tensor) and value.ndim > 0 and len(value) == num_texts
