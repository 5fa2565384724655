"""
Numbers on disk by key, in shards that are there as a whole or not at all.

A shard is one file `HOME/HASH.shard`: the SHA-256 of all that follows, then keys and values as two .npy arrays. It is
written under another name and renamed when it is complete. Several processes may write to one folder. (A zip of arrays,
as numpy writes it, has parts that no checksum covers: one wrong bit there looks like a disk that cannot be read.)
Shapes: N keys asked for, U of them looked for, S keys of a shard, W bytes of a key; a value is a number, or D numbers.
"""

import hashlib
import io
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import cast
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray

from mining import MiningError

STALE_SECONDS = 3600  # a run that is alive writes a shard in far less

Keys = NDArray[np.bytes_]  # compared byte by byte, which numpy sorts and looks up twice as fast as plain bytes
Values = NDArray[np.float32]


def join_ids(*ids_NW: NDArray[np.uint8]) -> Keys:
    """
    One key of each row.

    Args:
        ids_NW: each (N, W) bytes, as in `np.frombuffer(b"".join(id.bytes for id in ids), np.uint8).reshape(-1, 16)`.

    Returns:
        (N,) keys; they are as long as the ids together.
    """
    whole_NW = np.ascontiguousarray(np.concatenate(ids_NW, axis=1))
    return cast(Keys, whole_NW.reshape(-1).view(f"S{whole_NW.shape[1]}"))


def fill_from_disk(
    home: Path, keys_U: Keys, rows_U: NDArray[np.intp], values_N: Values, is_sound: Callable[[Values], bool], what: str
) -> tuple[NDArray[np.bool_], tuple[str, ...]]:
    """
    Copy what the shards hold of some keys to where it belongs, one shard in memory at a time.

    Args:
        home: the folder of the shards; made if need be, and rid of what killed runs left half written.
        keys_U: different keys, sorted.
        rows_U: where in `values_N` the value of each goes.
        values_N: (N,) or (N, D), written to; may be a memory map.
        is_sound: whether values (S,) or (S, D) may be what was written.
        what: names the folder in messages, as in "embedding cache".

    Returns:
        (U,) whether a key was found; and the names of damaged shards, which were removed.

    Raises:
        MiningError: the folder cannot be made or read.
    """
    known_U = np.zeros(len(keys_U), dtype=np.bool_)
    damaged = []
    try:
        home.mkdir(parents=True, exist_ok=True)
        _sweep(home)
        for path in sorted(home.glob("*.shard")):
            if known_U.all():
                break
            try:
                keys_S, values_S = _read_shard(path, keys_U.dtype.itemsize, values_N.shape[1:], is_sound)
            except FileNotFoundError:  # removed by another process since it was listed
                continue
            except _Damaged:
                path.unlink(missing_ok=True)
                damaged.append(path.name)
                continue
            place_S = np.minimum(np.searchsorted(keys_U, keys_S), len(keys_U) - 1)
            wanted_S = keys_U[place_S] == keys_S
            values_N[rows_U[place_S[wanted_S]]] = values_S[wanted_S]
            known_U[place_S[wanted_S]] = True
    except OSError as error:
        raise MiningError(f"the {what} {home} cannot be read ({error.strerror}): check the folder") from error
    return known_U, tuple(damaged)


def write_shard(home: Path, keys_S: Keys, values_S: Values, what: str) -> None:
    """
    Write keys and their values, (S,) or (S, D), as one shard; nothing of it is seen before all of it is on disk.

    Raises:
        MiningError: there is no room, or the folder cannot be written.
    """
    name = hashlib.sha256(keys_S.tobytes()).hexdigest()[:32]
    partial = home / f"{name}.{uuid4().hex}.part"
    body = io.BytesIO()
    np.save(body, keys_S.view(np.uint8).reshape(len(keys_S), keys_S.dtype.itemsize))
    np.save(body, values_S)
    try:
        with partial.open("wb") as file:
            file.write(hashlib.sha256(body.getbuffer()).digest())
            file.write(body.getbuffer())
            file.flush()
            os.fsync(file.fileno())
        partial.replace(home / f"{name}.shard")
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise MiningError(
            f"the {what} {home} cannot be written ({error.strerror}): make room and run again; what was written before"
            " is kept"
        ) from error


class _Damaged(Exception):
    """A shard holds something else than what was written."""


def _sweep(home: Path) -> None:
    """Remove what killed runs left half written."""
    for partial in home.glob("*.part"):
        try:
            if time.time() - partial.stat().st_mtime > STALE_SECONDS:
                partial.unlink()
        except FileNotFoundError:  # finished, or swept by another process
            continue


def _read_shard(
    path: Path, width: int, shape: tuple[int, ...], is_sound: Callable[[Values], bool]
) -> tuple[Keys, Values]:
    """Keys (S,) and values (S, *shape). Raises _Damaged."""
    data = memoryview(path.read_bytes())
    if hashlib.sha256(data[32:]).digest() != data[:32]:
        raise _Damaged
    body = io.BytesIO(data[32:])
    try:
        keys_SW, values_S = np.load(body, allow_pickle=False), np.load(body, allow_pickle=False)
    except (ValueError, EOFError) as error:  # whole, but not one of ours
        raise _Damaged from error
    fits = keys_SW.dtype == np.uint8 and keys_SW.shape == (len(values_S), width)
    if not (fits and values_S.dtype == np.float32 and values_S.shape[1:] == shape and is_sound(values_S)):
        raise _Damaged
    return join_ids(keys_SW), values_S
