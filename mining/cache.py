"""
Embeddings on disk: what was encoded once is not encoded again, and a crash loses one shard at most.

A shard is one file `FOLDER/FINGERPRINT/HASH.npz` of ids and vectors, written under another name and renamed when it is
complete. The fingerprint is the encoder's, so vectors of another model, length, precision or prompt are never served.
Shapes: N texts, D dimensions.
"""

import hashlib
import os
import time
import zipfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from mining import MiningError
from mining.encode import Encoder

SHARD_TEXTS = 2048


@dataclass(frozen=True, slots=True)
class Encoded:
    """Vectors, and where they came from."""

    vectors_ND: NDArray[np.float32]
    num_cached: int  # different texts that were found on disk
    num_encoded: int  # different texts that were encoded now
    damaged: tuple[str, ...]  # shards that could not be read: removed, and what they held encoded again


def encode_cached(
    encoder: Encoder, ids: Sequence[UUID], texts: Sequence[str], folder: Path, on_progress: Callable[[int], None]
) -> Encoded:
    """
    Encode texts, taking from disk what an encoder of the same fingerprint has encoded before.

    Args:
        encoder: see `mining.encode.load_encoder`.
        ids: N ids; texts with the same id are the same text and are encoded once.
        texts: N texts.
        folder: of the cache; made if need be. Several processes may use it at once.
        on_progress: told how many more of the N texts are ready: those on disk, then those of each shard.

    Returns:
        Vectors (N, D) float32, L2-normalised, in the order of `texts`, and what was reused.

    Raises:
        MiningError: the folder cannot be read or written, or the encoder fails.
    """
    home = folder / encoder.fingerprint
    vectors_ND = np.empty((len(texts), encoder.dimension), dtype=np.float32)
    places: dict[bytes, list[int]] = {}
    for place, text_id in enumerate(ids):
        places.setdefault(text_id.bytes, []).append(place)
    try:
        home.mkdir(parents=True, exist_ok=True)
        _sweep(home)
        missing, damaged = _fill_from_disk(home, places, vectors_ND)
    except OSError as error:
        raise MiningError(f"the embedding cache {home} cannot be read ({error.strerror}): check the folder") from error
    on_progress(len(texts) - sum(len(places[key]) for key in missing))
    for start in range(0, len(missing), SHARD_TEXTS):
        keys = missing[start : start + SHARD_TEXTS]
        fresh_ND = encoder.encode([texts[places[key][0]] for key in keys])
        _write_shard(home, keys, fresh_ND)
        for key, vector_D in zip(keys, fresh_ND, strict=True):
            vectors_ND[places[key]] = vector_D
        on_progress(sum(len(places[key]) for key in keys))
    return Encoded(vectors_ND, len(places) - len(missing), len(missing), tuple(damaged))


def _sweep(home: Path) -> None:
    """Remove what killed runs left half written; a run that is alive writes a shard in far less than an hour."""
    for partial in home.glob("*.part"):
        if time.time() - partial.stat().st_mtime > 3600:
            partial.unlink(missing_ok=True)


def _fill_from_disk(
    home: Path, places: dict[bytes, list[int]], vectors_ND: NDArray[np.float32]
) -> tuple[list[bytes], list[str]]:
    """Copy what the shards hold into place; what is still missing, in order, and the names of damaged shards."""
    missing = dict.fromkeys(places)
    damaged = []
    for path in sorted(home.glob("*.npz")):
        if not missing:
            break
        shard = _read_shard(path, vectors_ND.shape[1])
        if shard is None:
            path.unlink(missing_ok=True)
            damaged.append(path.name)
            continue
        keys, shard_SD = shard
        for row, key in enumerate(keys):
            if key in missing:
                vectors_ND[places[key]] = shard_SD[row]
                del missing[key]
    return list(missing), damaged


def _read_shard(path: Path, dimension: int) -> tuple[list[bytes], NDArray[np.float32]] | None:
    """Ids and vectors of a shard, whose checksums numpy verifies; None if it is damaged."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            ids, vectors_SD = arrays["ids"], arrays["vectors"]
    except (ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error, NotImplementedError):
        return None
    fits = ids.dtype == np.uint8 and ids.shape == (len(vectors_SD), 16) and vectors_SD.shape == (len(ids), dimension)
    if not fits or vectors_SD.dtype != np.float32:
        return None
    if not np.allclose(np.linalg.norm(vectors_SD, axis=1), 1.0, atol=1e-3):  # not what was written, not finite
        return None
    return [row.tobytes() for row in ids], vectors_SD


def _write_shard(home: Path, keys: list[bytes], vectors_SD: NDArray[np.float32]) -> None:
    name = hashlib.sha256(b"".join(keys)).hexdigest()[:32]
    ids = np.frombuffer(b"".join(keys), dtype=np.uint8).reshape(len(keys), 16)
    partial = home / f"{name}.{os.getpid()}.part"
    try:
        with partial.open("wb") as file:
            np.savez(file, ids=ids, vectors=vectors_SD)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(home / f"{name}.npz")
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise MiningError(
            f"the embedding cache {home} cannot be written ({error.strerror}): make room and run again; "
            "what was encoded before is kept"
        ) from error
