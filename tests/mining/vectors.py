"""Vectors for the tests of mining, and the rules that it is compared with, written out as loops."""

import math
from collections.abc import Sequence
from uuid import UUID

import numpy as np

from mining.search import Floats, Rows


def unit_vectors(rng: np.random.Generator, count: int, dimension: int = 8) -> Floats:
    """Unit vectors, a third of them repeated, so that there are ties."""
    values = rng.standard_normal((count, dimension)).astype(np.float32)
    values[rng.integers(0, count, count // 3)] = values[rng.integers(0, count, count // 3)]
    return values / np.linalg.norm(values, axis=1, keepdims=True)


def ids(count: int) -> list[UUID]:
    return [UUID(int=number * 7919 + 1) for number in range(count)]


def nothing(count: int) -> list[Rows]:
    """No masked rows."""
    return [np.empty(0, dtype=np.int64)] * count


def ranked_candidates(query: Floats, corpus: Floats, masked: Rows | Sequence[int]) -> list[tuple[float, int]]:
    """Score and row of every candidate, best first, ties by row."""
    scored = []
    for row in range(len(corpus)):
        if row not in masked:
            total = math.fsum(float(a) * float(b) for a, b in zip(query, corpus[row], strict=True))
            scored.append((float(np.float32(total)), row))
    return sorted(scored, key=lambda pair: (-pair[0], pair[1]))
