"""Blocks of queries, and batches of texts, are worked on side by side, and so are scans."""

import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Lock
from typing import Any, Generic, TypeVar

import torch

T = TypeVar("T")


@dataclass(frozen=True)
class Threads:
    """What works on blocks of queries, or on batches of texts, side by side."""

    number: int
    pool: ThreadPoolExecutor

    def each(self, work: Callable[..., None], *of: Iterable[Any]) -> None:
        """Do something for each, in any order, and wait. Raises what the first of them raised."""
        for _ in self.pool.map(work, *of):
            pass


class WhileAny(Generic[T]):
    """
    A setting of the whole process that scans change: the first that begins changes it, the last that ends puts it back.

    Args:
        change: changes it, and returns what was there.
        put_back: is given that.
    """

    def __init__(self, change: Callable[[], T], put_back: Callable[[T], None]) -> None:
        self._change, self._put_back, self._lock, self._scans = change, put_back, Lock(), 0
        self._before: T

    @contextmanager
    def held(self) -> Iterator[T]:
        """It is changed for the time of the block; yields what was there."""
        with self._lock:
            if not self._scans:
                self._before = self._change()
            self._scans += 1
        try:
            yield self._before
        finally:
            with self._lock:
                self._scans -= 1
                if not self._scans:
                    self._put_back(self._before)


# How many threads torch divides an operation among: what a thread of ours sets for itself, all take that begin later.
_NUMBER = WhileAny(torch.get_num_threads, torch.set_num_threads)


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
    with _NUMBER.held() as number:
        torch.set_num_threads(number)  # this thread may have begun while others scanned
        with ThreadPoolExecutor(number, initializer=_serial) as pool:
            try:
                yield Threads(number, pool)
            finally:
                pool.shutdown(cancel_futures=True)  # after an error nothing new is begun


def _serial() -> None:
    torch.set_num_threads(1)
    if "faiss" in sys.modules:  # its threads are others
        sys.modules["faiss"].omp_set_num_threads(1)
