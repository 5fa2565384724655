"""Blocks of queries are worked on side by side."""

import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch


@dataclass(frozen=True)
class Threads:
    """What works on blocks of queries side by side."""

    number: int
    pool: ThreadPoolExecutor

    def each(self, work: Callable[..., None], *of: Iterable[Any]) -> None:
        """Do something for each, in any order, and wait. Raises what the first of them raised."""
        for _ in self.pool.map(work, *of):
            pass


@contextmanager
def side_by_side(device: str) -> Iterator[Threads]:
    """
    On a CPU a thread for each core, whose own operations are serial: they are small, and lose more by being divided
    than they gain. A GPU is kept busy by one.
    """
    number = torch.get_num_threads() if device == "cpu" else 1
    try:
        with ThreadPoolExecutor(number, initializer=_serial if device == "cpu" else None) as pool:
            yield Threads(number, pool)
    finally:
        torch.set_num_threads(torch.get_num_threads())  # those that begin later take the number that was set last


def _serial() -> None:
    torch.set_num_threads(1)
    if "faiss" in sys.modules:  # its threads are others
        sys.modules["faiss"].omp_set_num_threads(1)
