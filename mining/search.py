"""
Exact search by inner product with FAISS, the same on every machine: ties go to the smaller row number.

FAISS finds candidates in float32, whose last digits depend on the device, the number of threads and a row's place in
its block. So the candidates' scores are computed again in float64, which is the same everywhere once it is rounded to
float32, and the list is fetched longer until no row that was left out could still belong to it.
Shapes: N queries, M corpus rows, D dimensions, k results of a query.
"""

from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from mining import MiningError

Floats = NDArray[np.float32]
Rows = NDArray[np.int64]

# FAISS leaves BLAS below 128,000 numbers in a block of queries and is then 8 to 10 times as slow.
QUERY_BLOCK = 4096
SPARE = 16  # candidates fetched beyond k at first
GPU_MOST = 2048  # FAISS on a GPU returns no more
RESCORE_NUMBERS = 1 << 24  # float64 numbers gathered at once to compute scores again: 128 MB
INSTALL = "pip install 'skiff-embeddings[cpu]' (or [gpu])"


def search(query_ND: Floats, corpus_MD: Floats, k: int, *, device: str = "auto") -> tuple[Floats, Rows]:
    """
    The k corpus rows of the largest inner product with each query, best first.

    Exact: rows, order and scores are those of a float64 computation rounded to float32; equal scores go by row.

    Args:
        query_ND: (N, D) float32, finite.
        corpus_MD: (M, D) float32, finite.
        k: capped to M.
        device: auto (a GPU if FAISS sees one), cpu or cuda. The GPU serves up to 2,048 candidates of a query and the
            CPU what goes beyond; `describe_search` states the choice. The GPU's branch has not been measured.

    Returns:
        Scores (N, k) float32 and rows (N, k) int64.

    Raises:
        MiningError: FAISS is missing or installed twice, or there is no such device.
    """
    chosen = choose_device(device)
    query_ND = np.ascontiguousarray(query_ND, dtype=np.float32)
    corpus_MD = np.ascontiguousarray(corpus_MD, dtype=np.float32)
    k = max(0, min(k, len(corpus_MD)))
    scores_Nk = np.zeros((len(query_ND), k), dtype=np.float32)
    rows_Nk = np.zeros((len(query_ND), k), dtype=np.int64)
    if k == 0 or len(query_ND) == 0:
        return scores_Nk, rows_Nk
    pending = np.arange(len(query_ND))
    error = _float32_error(query_ND, corpus_MD)
    fetched = k + SPARE
    while len(pending):
        fetched = min(fetched, len(corpus_MD))
        unsure = []
        for block in _blocks(pending):
            raw, found = _candidates(query_ND[block], corpus_MD, fetched, chosen)
            exact, found = _in_order(_scores(query_ND[block], corpus_MD, found), found)
            scores_Nk[block], rows_Nk[block] = exact[:, :k], found[:, :k]
            # A row that was not fetched scores at most the last one fetched, give or take the error of float32.
            if fetched < len(corpus_MD):
                unsure.append(block[exact[:, k - 1] <= raw[:, -1] + error])
        pending = np.concatenate(unsure) if unsure else np.empty(0, dtype=np.int64)
        fetched *= 4
    return scores_Nk, rows_Nk


def pair_scores(left_ND: Floats, right_ND: Floats) -> Floats:
    """(N,) inner products of the rows of two (N, D) arrays, computed as `search` computes its scores."""
    left, right = left_ND.astype(np.float64), right_ND.astype(np.float64)
    return cast(Floats, np.einsum("nd,nd->n", left, right).astype(np.float32))


def choose_device(device: str) -> str:
    """The device that searches: cpu or cuda. Raises MiningError where FAISS or the device is missing."""
    faiss = _faiss()
    num_gpus = faiss.get_num_gpus() if hasattr(faiss, "StandardGpuResources") else 0
    if device == "auto":
        return "cuda" if num_gpus else "cpu"
    if device not in ("cpu", "cuda"):
        raise MiningError(f"there is no search device {device!r}: use auto, cpu or cuda")
    if device == "cuda" and not num_gpus:
        raise MiningError("FAISS sees no GPU: use device cpu, or install the gpu extra on a machine that has one")
    return device


def describe_search(device: str = "auto") -> str:
    """One line to print and to store: which FAISS searches on what, with how many threads."""
    faiss, chosen = _faiss(), choose_device(device)
    where = "one GPU" if chosen == "cuda" else f"the CPU ({faiss.omp_get_max_threads()} threads)"
    return f"exact search with FAISS {faiss.__version__} on {where}"


def _faiss() -> Any:
    import torch  # noqa: F401  # before FAISS: the other order has crashed where both bring CUDA libraries

    installed = [name for name in ("faiss-cpu", "faiss-gpu") if _is_installed(name)]
    if len(installed) > 1:
        raise MiningError(
            "faiss-cpu and faiss-gpu are both installed and overwrite each other: "
            f"pip uninstall -y faiss-cpu faiss-gpu, then {INSTALL}"
        )
    try:
        import faiss
    except (ImportError, RuntimeError, OSError) as error:
        raise MiningError(f"FAISS cannot be imported ({error}): {INSTALL}") from error
    return faiss


def _is_installed(name: str) -> bool:
    try:
        version(name)
    except PackageNotFoundError:
        return False
    return True


def _candidates(query_ND: Floats, corpus_MD: Floats, k: int, device: str) -> tuple[Floats, Rows]:
    faiss = _faiss()
    if device == "cuda" and k <= GPU_MOST:
        resources = faiss.StandardGpuResources()
        found = faiss.knn_gpu(resources, query_ND, corpus_MD, k, metric=faiss.METRIC_INNER_PRODUCT)
    else:
        found = faiss.knn(query_ND, corpus_MD, k, metric=faiss.METRIC_INNER_PRODUCT)
    return cast(tuple[Floats, Rows], found)


def _float32_error(query_ND: Floats, corpus_MD: Floats) -> float:
    """How far a float32 inner product of D terms may be from the exact one, twice over (one for each side)."""
    longest = float(np.linalg.norm(query_ND, axis=1).max()) * float(np.linalg.norm(corpus_MD, axis=1).max())
    return float(2 * query_ND.shape[1] * np.finfo(np.float32).eps * longest)


def _scores(query_ND: Floats, corpus_MD: Floats, rows_Nk: Rows) -> Floats:
    scores_Nk = np.empty(rows_Nk.shape, dtype=np.float32)
    step = max(1, RESCORE_NUMBERS // max(1, rows_Nk.shape[1] * query_ND.shape[1]))
    for start in range(0, len(query_ND), step):
        block = slice(start, start + step)
        candidates = corpus_MD[rows_Nk[block]].astype(np.float64)
        scores_Nk[block] = np.einsum("nd,nkd->nk", query_ND[block].astype(np.float64), candidates)
    return scores_Nk


def _in_order(scores_Nk: Floats, rows_Nk: Rows) -> tuple[Floats, Rows]:
    order = np.lexsort((rows_Nk, -scores_Nk))
    return np.take_along_axis(scores_Nk, order, axis=1), np.take_along_axis(rows_Nk, order, axis=1)


def _blocks(rows: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    return (rows[start : start + QUERY_BLOCK] for start in range(0, len(rows), QUERY_BLOCK))
