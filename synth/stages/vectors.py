"""Vectors of texts, of which the cache has those that were encoded before."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from synth.records import text_id

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from mining.encode import Encoder


def vectors_of(
    encoder: "Encoder",
    texts: Sequence[str],
    folder: Path,
    notes: list[str],
    on_progress: Callable[[int], None] = lambda number: None,
) -> "NDArray[np.float32]":
    """
    The texts' vectors, (N, D), L2-normalised, in their order.

    Args:
        folder: where vectors are cached.
        notes: is given a line for each file of the cache that was damaged.
        on_progress: called with the number of texts that were just encoded or found in the cache.

    Raises what `encode_cached` raises.
    """
    from mining.cache import encode_cached

    encoded = encode_cached(encoder, [text_id(text) for text in texts], texts, folder, on_progress)
    notes.extend(f"damaged, removed and encoded again: {shard}" for shard in encoded.damaged)
    return encoded.vectors_ND
