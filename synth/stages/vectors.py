"""Vectors of texts, of which the cache has those encoded before; and what mining refuses, as an error of the user's."""

import errno
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from mining import MiningError
from synth.records import SkiffError, UserError, text_id

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from mining.encode import Encoder


@contextmanager
def mining_errors() -> Iterator[None]:
    """What mining refuses, as an error of the user's; a disk that is full is none."""
    try:
        yield
    except MiningError as error:
        cause = error.__cause__
        is_full = isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT)
        raise (SkiffError if is_full else UserError)(str(error)) from None


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
        notes: is given a line for each file of the cache that was damaged, and each process that died.
        on_progress: called with the number of texts that were just encoded or found in the cache.

    Raises what `encode_cached` raises.
    """
    from mining.cache import encode_cached
    from mining.precomputed import PrecomputedEncoder

    if isinstance(encoder, PrecomputedEncoder):  # they are on this disk already
        vectors_ND = encoder.encode(texts)
        on_progress(len(texts))
        return vectors_ND
    encoded = encode_cached(encoder, [text_id(text) for text in texts], texts, folder, on_progress)
    notes.extend(f"damaged, removed and encoded again: {shard}" for shard in encoded.damaged)
    notes.extend(encoded.died)
    return encoded.vectors_ND
