"""
Exact search by inner product on a stated device: the same rows, order and scores on every machine and by every backend.

Scores are those of a float64 computation rounded to float32; equal scores go to the smaller row number. Two backends
keep that contract: tiles of a matrix product (torch), and FAISS. Shapes: N queries, M corpus rows, D dimensions,
k results of a query.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from mining import MiningError
from mining.faiss_library import faiss_gpus, faiss_is_there, load_faiss

if TYPE_CHECKING:
    from mining.scan import Shards, Wanted

Floats = NDArray[np.float32]
Rows = NDArray[np.int64]
Corpus = NDArray[Any] | Sequence[NDArray[Any]]

LONGEST = 1e15  # of a vector: products of longer ones may pass what float32 holds
SHARD_NUMBERS = 400_000_000  # numbers of a corpus that are looked at together: 1.6 GB of float32


@dataclass(frozen=True, slots=True)
class Found:
    """What a scan found for N queries. Where there are fewer than k candidates, rows are -1 and scores not a number."""

    scores_Nk: Floats
    rows_Nk: Rows
    num_capped_N: Rows  # candidates that score at or above the cap
    num_above_N: Rows  # candidates that score above the mark

    @classmethod
    def none(cls, num_queries: int, k: int) -> "Found":
        """Nothing yet."""
        scores, rows = np.full((num_queries, k), np.nan, dtype=np.float32), np.full((num_queries, k), -1, np.int64)
        return cls(scores, rows, np.zeros(num_queries, np.int64), np.zeros(num_queries, np.int64))

    def put(self, queries: Rows, other: "Found") -> None:
        """Take over what another scan found for some queries."""
        for each in fields(Found):
            getattr(self, each.name)[queries] = getattr(other, each.name)


@dataclass(frozen=True)
class Searcher:
    """How this machine searches. Made by `load_searcher`."""

    backend: str  # torch or faiss
    devices: tuple[str, ...]  # the queries are split over them; each goes through the whole corpus
    precision: str  # of the products that decide what is scored exactly: bf16 or fp32
    reason: str

    @property
    def description(self) -> str:
        """One line to print and to store: what searches on what, in which precision, and why."""
        import torch

        flat = self.backend == "faiss"
        library = f"FAISS {load_faiss().__version__}" if flat else f"torch {torch.__version__}"
        where = ", ".join(self.devices)
        if self.devices == ("cpu",):
            threads = load_faiss().omp_get_max_threads() if flat else torch.get_num_threads()
            where = f"the CPU ({threads} threads)"
        return f"exact search with {library} on {where}, products in {self.precision} ({self.reason})"

    def search(self, query_ND: Floats, corpus: Corpus, k: int) -> tuple[Floats, Rows]:
        """
        The k corpus rows of the largest inner product with each query, best first.

        Args:
            query_ND: (N, D) float32.
            corpus: (M, D), or arrays of rows that follow each other; memory-mapped files are read shard by shard.
            k: capped to M.

        Returns:
            Scores (N, k) float32 and rows (N, k) int64.

        Raises:
            MiningError: a vector holds a number that is not finite.
        """
        found = self.scan(query_ND, corpus, max(0, min(k, num_rows(corpus))))
        return found.scores_Nk, found.rows_Nk

    def scan(
        self,
        query_ND: Floats,
        corpus: Corpus,
        k: int,
        *,
        cap_N: Floats | None = None,
        mark_N: Floats | None = None,
        masked: Sequence[Rows] | None = None,
    ) -> Found:
        """
        The k best candidates of each query that score below its cap, and how many score at or above it.

        The cap is applied within the scan: however many candidates lie above it, the k best below it are found.

        Args:
            query_ND, corpus, k: as for `search`.
            cap_N: (N,) float32; infinite, or left out: no cap.
            mark_N: (N,) float32; candidates that score above it are counted. Infinite, or left out: none.
            masked: for each query the rows that are no candidates, in any order, repeats allowed.

        Raises:
            MiningError: a vector holds a number that is not finite.
        """
        from mining.scan import Wanted

        found = Found.none(len(query_ND), k)
        size = num_rows(corpus)
        if not len(query_ND) or not size or k < 1:
            return found
        query_ND = np.ascontiguousarray(query_ND, dtype=np.float32)
        if wrong := {each.shape[1] for each in _parts(corpus)} - {query_ND.shape[1]}:
            raise MiningError(
                f"queries have {query_ND.shape[1]} dimensions, the corpus has {wrong.pop()}: encode both with one model"
            )
        if masked is not None and len(masked) != len(query_ND):
            raise ValueError(f"masked has rows for {len(masked)} of {len(query_ND)} queries")
        fit_N = (np.abs(query_ND) < LONGEST).all(axis=1)
        if not fit_N.all():
            raise MiningError(
                f"the vector of query {int(np.argmin(fit_N))} has a number that is not finite, or is longer than"
                f" {LONGEST:g}: encode it again, or normalise it"
            )
        cap_N, mark_N = (  # -inf is what masked rows score
            np.full(len(query_ND), np.inf, np.float32)
            if each is None
            else np.maximum(np.asarray(each, np.float32), np.finfo(np.float32).min)
            for each in (cap_N, mark_N)
        )
        rows = [np.unique(each).astype(np.int64) for each in masked] if masked is not None else []
        rows = rows or [np.empty(0, np.int64)] * len(query_ND)
        wanted = Wanted(query_ND, min(k, size), cap_N, mark_N, rows)
        part = self._on_devices(wanted, _shards(corpus))
        found.scores_Nk[:, : wanted.k], found.rows_Nk[:, : wanted.k] = part.scores_Nk, part.rows_Nk
        found.num_capped_N[:], found.num_above_N[:] = part.num_capped_N, part.num_above_N
        return found

    def _on_devices(self, wanted: "Wanted", shards: "Shards") -> Found:
        if len(self.devices) == 1:
            return self._on_device(wanted, shards, self.devices[0])
        parts = np.array_split(np.arange(len(wanted.query_ND)), len(self.devices))
        found = Found.none(len(wanted.query_ND), wanted.k)
        with ThreadPoolExecutor(len(self.devices)) as pool:
            results = pool.map(
                lambda part, device: self._on_device(wanted.some(part), shards, device), parts, self.devices
            )
            for part, result in zip(parts, results, strict=True):
                found.put(part, result)
        return found

    def _on_device(self, wanted: "Wanted", shards: "Shards", device: str) -> Found:
        from mining.flat import scan_flat
        from mining.scan import scan_tiles

        if self.backend == "torch":
            return scan_tiles(wanted, shards, device, self.precision)
        found, unproved = scan_flat(wanted, shards, device, self.precision, load_faiss())
        if len(unproved):
            found.put(unproved, scan_tiles(wanted.some(unproved), shards, device, self.precision))
        return found


def load_searcher(*, device: str = "auto", precision: str = "auto", backend: str = "auto") -> Searcher:
    """
    Choose, unless told, what searches: device, precision and backend are stated in the result.

    Args:
        device: auto (every GPU that torch sees, else the CPU), cpu, cuda, or a device of torch; several by commas.
        precision: auto, bf16 or fp32: what decides which rows are scored exactly. It changes the time, not the result.
            Auto takes bf16 where the hardware multiplies it.
        backend: auto, torch or faiss. Auto takes FAISS on a GPU that it sees, and on a CPU without a unit for bf16;
            torch elsewhere, or where FAISS is not installed.

    Raises:
        MiningError: FAISS is asked for and missing or installed twice, or there is no such device.
    """
    import torch

    from mining.hardware import choose_hardware

    if backend not in ("auto", "torch", "faiss"):
        raise MiningError(f"there is no search backend {backend!r}: use auto, torch or faiss")
    if device == "auto" and torch.cuda.device_count() > 1:
        device = ",".join(f"cuda:{number}" for number in range(torch.cuda.device_count()))
    hardware = [choose_hardware(each.strip(), precision) for each in device.split(",")]
    devices = tuple("cpu" if each.device == "mps" else each.device for each in hardware)  # no float64 there
    chosen, on_gpu = hardware[0].precision, devices[0] != "cpu"
    if backend == "auto":
        able = faiss_gpus() if on_gpu else faiss_is_there() and chosen == "fp32"
        backend = "faiss" if able else "torch"
    if backend == "faiss":
        load_faiss()  # now, not after hours of encoding
        if on_gpu and not faiss_gpus():
            raise MiningError("FAISS sees no GPU: search with torch, or on the cpu, or install the gpu extra")
        if not on_gpu and chosen == "bf16":
            return Searcher(backend, devices, "fp32", "FAISS multiplies no bf16 on a CPU")
    return Searcher(backend, devices, chosen, hardware[0].reason)


def search(query_ND: Floats, corpus: Corpus, k: int, *, device: str = "auto") -> tuple[Floats, Rows]:
    """Scores (N, k) and rows (N, k) of the nearest corpus rows, searched as `load_searcher` chooses."""
    return load_searcher(device=device).search(query_ND, corpus, k)


def describe_search(device: str = "auto") -> str:
    """One line to print and to store: how this machine searches."""
    return load_searcher(device=device).description


def pair_scores(left_ND: Floats, right_ND: Floats) -> Floats:
    """(N,) inner products of the rows of two (N, D) arrays, computed as a search computes its scores."""
    import torch

    from mining.pairs import exact_scores

    each_N = torch.arange(len(left_ND))
    left, right = (torch.tensor(np.asarray(side, np.float32)) for side in (left_ND, right_ND))
    return cast(Floats, exact_scores(left, each_N, right, each_N).numpy())


def num_rows(corpus: Corpus) -> int:
    """M, of an array or of all arrays together."""
    return sum(map(len, _parts(corpus)))


def _parts(corpus: Corpus) -> Sequence[NDArray[Any]]:
    return [corpus] if isinstance(corpus, np.ndarray) else corpus


def _shards(corpus: Corpus) -> "Shards":
    """Parts of the corpus, none of them read yet, each with the number of its first row."""
    import warnings

    import torch

    shards, first = [], 0
    for array in _parts(corpus):
        if not array.dtype.isnative or min(array.strides) < 0:  # torch takes no such array
            array = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("="))
        step = max(1, SHARD_NUMBERS // max(1, array.shape[1]))
        with warnings.catch_warnings():  # a file that is mapped to be read: nothing writes to its tensor
            warnings.filterwarnings("ignore", "The given NumPy array is not writable")
            tensor = torch.from_numpy(array)
        shards += [(first + start, tensor[start : start + step]) for start in range(0, len(array), step)]
        first += len(array)
    return shards
