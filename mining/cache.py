"""
Embeddings on disk: what was encoded once is not encoded again, and a kill loses the shard in flight, some seconds.

Shards lie in `FOLDER/FINGERPRINT/`. The fingerprint is the encoder's, so vectors of another model, instruction, length
or precision are never served. Texts are encoded in blocks that are cut by the texts alone and not by the clock, so a
run that was killed and run again has the vectors, to the last bit, of one that was not.
Shapes: N texts, U of them different, M of these missing on disk, S texts of a shard, D dimensions.
"""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from mining import MiningError
from mining.encode import Encoder
from mining.encode_model import ModelEncoder
from mining.encode_workers import WHAT, Shard, encode_in_workers
from mining.shards import Keys, fill_from_disk, join_ids, write_shard

SHARD_SECONDS = 15.0  # of encoding, that a kill may lose; a block may take longer
MOST_IN_SHARD = 16_384  # texts
BLOCK_CPU, BLOCK = 128, 2048  # texts that an encoder is given at once: a model on a CPU, any other encoder
NEIGHBOURS = 16_384  # texts that are sorted by length together: blocks of texts that are alike need little padding
IN_MEMORY = 1 << 30  # bytes of vectors; more lie in a file, which may be larger than memory

Vectors = NDArray[np.float32]
Rows = NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class Encoded:
    """Vectors, and where they came from."""

    vectors_ND: Vectors  # more than 1 GB of them are mapped from a file that ends with them
    num_cached: int  # different texts that were found on disk
    num_encoded: int  # different texts that were encoded now
    damaged: tuple[str, ...]  # shards that could not be read: removed, and what they held encoded again
    died: tuple[str, ...]  # a line for each process that died; others did its work


def encode_cached(
    encoder: Encoder, ids: Sequence[UUID], texts: Sequence[str], folder: Path, on_progress: Callable[[int], None]
) -> Encoded:
    """
    Encode texts, taking from disk what an encoder of the same fingerprint has encoded before.

    Args:
        encoder: a model on several devices encodes in a process on each, unless there is but one block to encode.
        ids: N ids; texts with the same id are the same text and are encoded once.
        texts: N texts.
        folder: of the cache; made if need be. Several processes may use it at once.
        on_progress: told how many more of the N texts are ready: those on disk, then those of each block.

    Returns:
        Vectors (N, D) float32, L2-normalised, in the order of `texts`, and what was reused.

    Raises:
        MiningError: the folder cannot be read or written, or the encoder fails.
    """
    home = folder / encoder.fingerprint
    raw = np.frombuffer(b"".join([each.bytes for each in ids]), dtype=np.uint8)
    keys_U, first_U, of_N = np.unique(join_ids(raw.reshape(-1, 16)), return_index=True, return_inverse=True)
    vectors_ND = _room(home, len(texts), encoder.dimension)
    known_U, damaged = fill_from_disk(home, keys_U, first_U, vectors_ND, _are_sound, WHAT)
    on_progress(int(known_U[of_N].sum()))
    missing_M = np.flatnonzero(~known_U)
    job = _Job(encoder, home, keys_U[missing_M], first_U[missing_M], np.bincount(of_N, minlength=1)[missing_M], texts)
    died = job.encode(vectors_ND, on_progress)
    _copy(vectors_ND, first_U[of_N])
    return Encoded(vectors_ND, int(known_U.sum()), len(missing_M), damaged, tuple(died))


def _room(home: Path, num_texts: int, dimension: int) -> Vectors:
    """
    Zeros (N, D), in memory or, if they are many, in a file without a name that ends with them.

    Raises MiningError if there is no room.
    """
    size = num_texts * dimension * 4
    if size <= IN_MEMORY:
        return np.zeros((num_texts, dimension), dtype=np.float32)
    step = 1 << 24
    try:
        home.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=home) as file:
            for start in range(0, size, step):  # written, not only sized: a full disk is an error now, a crash later
                file.write(bytes(min(step, size - start)))
            file.flush()
            return np.asarray(np.memmap(file, dtype=np.float32, mode="r+", shape=(num_texts, dimension)))
    except OSError as error:
        raise MiningError(
            f"the {WHAT} {home} cannot take a file of {size / 1e9:.1f} GB of vectors ({error.strerror}): make room"
        ) from error


def _are_sound(vectors_SD: Vectors) -> bool:
    """Whether they are of length 1; False if one is not finite."""
    return bool(np.allclose(np.einsum("sd,sd->s", vectors_SD, vectors_SD), 1.0, rtol=0, atol=2e-3))


def _copy(vectors_ND: Vectors, first_N: Rows) -> None:
    """Give each text the vector of the first one with its id."""
    again = np.flatnonzero(first_N != np.arange(len(first_N)))
    for start in range(0, len(again), MOST_IN_SHARD):
        rows = again[start : start + MOST_IN_SHARD]
        vectors_ND[rows] = vectors_ND[first_N[rows]]


@dataclass(frozen=True)
class _Job:
    """What is to be encoded, M texts."""

    encoder: Encoder
    home: Path
    keys_M: Keys  # sorted
    rows_M: Rows  # of their first texts among the N
    counts_M: Rows  # how many texts have each
    texts: Sequence[str]

    def encode(self, vectors_ND: Vectors, on_progress: Callable[[int], None]) -> list[str]:
        """Encode, write and fill in; a line for each process that died. Raises MiningError."""
        blocks = self._blocks()
        if len(blocks) > 1 and isinstance(self.encoder, ModelEncoder) and len(self.encoder.devices) > 1:
            return self._encode_in_workers(self.encoder, blocks, vectors_ND, on_progress)
        waiting: list[tuple[Rows, Vectors]] = []
        started = perf_counter()
        try:
            for block in blocks:
                fresh_SD = _checked(self.encoder, self._texts(block))
                vectors_ND[self.rows_M[block]] = fresh_SD
                waiting.append((block, fresh_SD))
                on_progress(int(self.counts_M[block].sum()))
                if perf_counter() - started > SHARD_SECONDS or len(waiting) * len(blocks[0]) >= MOST_IN_SHARD:
                    full, waiting = waiting, []
                    self._write(full)
                    started = perf_counter()
        finally:  # an endpoint's refusal or Ctrl-C: what was encoded is kept
            if waiting:
                self._write(waiting)
        return []

    def _write(self, encoded: list[tuple[Rows, Vectors]]) -> None:
        keys_S = np.concatenate([self.keys_M[block] for block, _ in encoded])
        write_shard(self.home, keys_S, np.concatenate([fresh_SD for _, fresh_SD in encoded]), WHAT)

    def _encode_in_workers(
        self, encoder: ModelEncoder, blocks: list[Rows], vectors_ND: Vectors, on_progress: Callable[[int], None]
    ) -> list[str]:
        num_blocks = 1  # of the next shard

        def shards() -> Iterator[Shard]:
            start = 0
            while start < len(blocks):
                part = blocks[start : start + num_blocks]
                start += len(part)
                yield Shard(self.keys_M[np.concatenate(part)], [self._texts(block) for block in part])

        def done(shard: Shard, seconds: float) -> None:
            nonlocal num_blocks
            in_time = int(SHARD_SECONDS * len(shard.blocks) / seconds)
            num_blocks = max(1, min(in_time, 2 * len(shard.blocks), MOST_IN_SHARD // len(blocks[0])))
            on_progress(int(self.counts_M[np.searchsorted(self.keys_M, shard.keys_S)].sum()))

        died = encode_in_workers(encoder, self.home, shards(), done)
        known_M, _ = fill_from_disk(self.home, self.keys_M, self.rows_M, vectors_ND, _are_sound, WHAT)
        if not known_M.all():
            raise MiningError(f"shards of the {WHAT} {self.home} vanished as soon as they were written: run again")
        return died

    def _texts(self, block: Rows) -> list[str]:
        return [self.texts[row] for row in self.rows_M[block]]

    def _blocks(self) -> list[Rows]:
        """Places among the M: in the order given, sorted by length, longest first, among their neighbours."""
        on_cpu = isinstance(self.encoder, ModelEncoder) and self.encoder.devices[0] == "cpu"
        size = BLOCK_CPU if on_cpu else BLOCK
        length_M = np.array([len(self.texts[row]) for row in self.rows_M], dtype=np.int64)
        order_M = np.lexsort((self.rows_M, -length_M, self.rows_M // NEIGHBOURS))
        return [order_M[start : start + size] for start in range(0, len(order_M), size)]


def _checked(encoder: Encoder, texts: list[str]) -> Vectors:
    """Vectors (S, D) of texts. Raises MiningError for what would not be read again."""
    vectors_SD = encoder.encode(texts)
    if (
        vectors_SD.dtype != np.float32
        or vectors_SD.shape != (len(texts), encoder.dimension)
        or not _are_sound(vectors_SD)
    ):
        raise MiningError(
            f"{encoder.name} does not give {len(texts)} texts as many vectors of length 1 and {encoder.dimension} "
            "dimensions: none of them is kept; check the encoder"
        )
    return vectors_SD
