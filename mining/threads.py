"""Blocks of queries are worked on side by side."""

import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Lock
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
    if device != "cpu":
        with ThreadPoolExecutor(1) as pool:
            yield Threads(1, pool)
        return
    with _NUMBER.kept() as number, ThreadPoolExecutor(number, initializer=_serial) as pool:
        yield Threads(number, pool)


class _Number:
    """
    How many threads torch divides an operation among. A thread of ours that sets it for itself sets it for all that
    begin later, anywhere in the process: the last scan that ends puts back what the first one found.
    """

    def __init__(self) -> None:
        self._lock, self._scans, self._number = Lock(), 0, 1

    @contextmanager
    def kept(self) -> Iterator[int]:
        """The number, put back in the end."""
        with self._lock:
            if not self._scans:
                self._number = torch.get_num_threads()
            self._scans += 1
        try:
            yield self._number
        finally:
            with self._lock:
                self._scans -= 1
                if not self._scans:
                    torch.set_num_threads(self._number)


_NUMBER = _Number()


def _serial() -> None:
    torch.set_num_threads(1)
    if "faiss" in sys.modules:  # its threads are others
        sys.modules["faiss"].omp_set_num_threads(1)
