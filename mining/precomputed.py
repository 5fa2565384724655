"""
Vectors that somebody else computed: a folder of queries.npy with queries.jsonl, and passages.npy with passages.jsonl.

Row i of a .npy belongs to line i of the .jsonl beside it: {"text": "..."}. A side may be in several pairs of files,
passages-0.npy with passages-0.jsonl and so on. The arrays are memory-mapped: of them only the rows that are asked for
are read, of the texts 24 bytes each are kept. Shapes: N texts, M rows, D dimensions.
"""

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from tokenize import TokenError
from typing import Any, Literal, cast
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from mining import MiningError

Side = Literal["queries", "passages"]
_NAME = re.compile(r"(queries|passages)(?:-(\d+))?\.npy")
_SHOWN = 60  # characters of a text in a message
_BLOCK = 4096  # rows that are read at a time
_SQL = {
    "queries": "SELECT DISTINCT query AS text FROM samples WHERE task = 'retrieval' UNION"
    " SELECT text FROM samples WHERE text IS NOT NULL UNION"
    " SELECT unnest([text1, text2]) FROM samples WHERE text1 IS NOT NULL",
    "passages": "SELECT text FROM passages UNION SELECT unnest(positives) FROM samples WHERE task = 'retrieval'",
}


@dataclass(frozen=True, slots=True)
class _Part:
    """One array and the file of its texts; `vectors_MD` is mapped, not read."""

    path: Path
    vectors_MD: NDArray[np.floating[Any]]

    @property
    def texts_path(self) -> Path:
        return self.path.with_suffix(".jsonl")

    def keys(self, key: Callable[[str], UUID]) -> Iterator[bytes]:
        """The key of each line's text. Raises MiningError for a line that has none, or too few or many lines."""
        num_lines = 0
        try:
            with self.texts_path.open("rb") as file:
                for line in file:
                    num_lines += 1
                    yield key(_text_in(line)).bytes
        except OSError as error:
            raise MiningError(f"{self.texts_path} cannot be read ({error.strerror})") from None
        except (ValueError, RecursionError):
            raise MiningError(f'{self.texts_path}, line {num_lines:,}: a line must be {{"text": "..."}}') from None
        if num_lines != len(self.vectors_MD):
            raise MiningError(
                f"{self.texts_path} has {num_lines:,} lines, and {self.path.name} {len(self.vectors_MD):,} rows: "
                "row i must be the vector of line i"
            )


@dataclass(frozen=True)
class PrecomputedEncoder:
    """An encoder that knows some texts only. Made by `open_precomputed`."""

    folder: Path
    key: Callable[[str], UUID]
    parts: tuple[_Part, ...] = field(repr=False)  # of two that know a text, the first one's vector counts
    sides: dict[Side, "PrecomputedEncoder"] = field(repr=False)
    side: Side | None = None

    @property
    def name(self) -> str:
        """The folder, as it was given."""
        return str(self.folder)

    @cached_property
    def fingerprint(self) -> str:
        """32 hexadecimal digits: a digest of the contents of the side's files, all of which are read for it once."""
        digest = hashlib.sha256()
        try:
            for part in self.parts:
                for path in (part.path, part.texts_path):
                    with path.open("rb") as file:
                        digest.update(hashlib.file_digest(file, "sha256").digest())
        except OSError as error:
            raise MiningError(f"{self.folder} cannot be read ({error.strerror})") from None
        return digest.hexdigest()[:32]

    @property
    def dimension(self) -> int:
        """D, the length of a vector."""
        return int(self.parts[0].vectors_MD.shape[1])

    @property
    def description(self) -> str:
        """One line to print and to store: the folder, how many vectors, of what dimension."""
        rows = sum(len(part.vectors_MD) for part in self.parts)
        return f"{rows:,} vectors computed elsewhere, in {self.folder}, {self.dimension} dimensions"

    def for_queries(self) -> "PrecomputedEncoder":
        """The vectors of queries.npy; always the same object."""
        return self.sides["queries"]

    def for_passages(self) -> "PrecomputedEncoder":
        """The vectors of passages.npy; always the same object."""
        return self.sides["passages"]

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """
        Look up the vectors of texts.

        Args:
            texts: N texts, of the encoder's side; of neither side, all are looked up in both, passages first.

        Returns:
            (N, D) float32, L2-normalised.

        Raises:
            MiningError: a text has no vector, or one that cannot be normalised; the files cannot be read.
        """
        rows_N = self._rows(texts)
        if (rows_N < 0).any():
            raise self._unknown([text for text, row in zip(texts, rows_N, strict=True) if row < 0], len(texts))
        vectors_ND = np.empty((len(texts), self.dimension), dtype=np.float32)
        start = 0
        for part in self.parts:
            places = np.flatnonzero((rows_N >= start) & (rows_N < start + len(part.vectors_MD)))
            places = places[np.argsort(rows_N[places], kind="stable")]  # as they stand on the disk
            for first in range(0, len(places), _BLOCK):
                block = places[first : first + _BLOCK]
                vectors_ND[block] = _normalised(part, rows_N[block] - start)
            start += len(part.vectors_MD)
        return vectors_ND

    @cached_property
    def _index(self) -> tuple[NDArray[np.bytes_], NDArray[np.int64]]:
        """The keys of all rows, sorted, and the row of each. Of equal keys the first row comes first."""
        keys = bytearray()
        for part in self.parts:
            for each in part.keys(self.key):
                keys += each
        keys_M = np.frombuffer(keys, dtype="S16")  # numpy takes zeros at the end for padding: all are 16 bytes long
        rows_M = np.argsort(keys_M, kind="stable")
        return keys_M[rows_M], rows_M

    def _rows(self, texts: Sequence[str]) -> NDArray[np.int64]:
        """The row of each text, counted through all parts; -1 for one without a vector."""
        keys_M, rows_M = self._index
        wanted_N = np.frombuffer(b"".join(self.key(text).bytes for text in texts), dtype="S16")
        if not len(keys_M):
            return np.full(len(texts), -1, dtype=np.int64)
        places_N = np.minimum(np.searchsorted(keys_M, wanted_N), len(keys_M) - 1)
        return np.where(keys_M[places_N] == wanted_N, rows_M[places_N], -1)

    def _unknown(self, texts: Sequence[str], num_texts: int) -> MiningError:
        where = self.side or "queries and passages"
        sql = _SQL[self.side or "passages"]
        return MiningError(
            f"{self.folder} has no vector for {len(texts):,} of {num_texts:,} texts among its {where}, the first: "
            f"{texts[0][:_SHOWN]!r}; list what is needed with: synth sql --format json --timeout 3600 --output "
            f'texts.json "{sql}"'
        )


def holds_vectors(folder: Path) -> bool:
    """Whether a folder has a file of precomputed vectors, by its name."""
    return folder.is_dir() and bool(_arrays(folder))


def open_precomputed(folder: Path, key: Callable[[str], UUID]) -> PrecomputedEncoder:
    """
    Open a folder of precomputed vectors; no more than the headers of the arrays is read yet.

    Args:
        key: of a text, by which it is found again: texts with the same key are the same text.

    Raises:
        MiningError: a file is missing, or an array is not one of (M, D) float16, float32 or float64.
    """
    queries, passages = _parts(folder, "queries"), _parts(folder, "passages")
    both = passages + queries
    if len({part.vectors_MD.shape[1] for part in both}) > 1:
        shapes = ", ".join(f"{part.path.name} {part.vectors_MD.shape[1]}" for part in both)
        raise MiningError(f"{folder}: all vectors must have the same dimension, and have: {shapes}")
    sides: dict[Side, PrecomputedEncoder] = {}
    sides["queries"] = PrecomputedEncoder(folder, key, queries, sides, "queries")
    sides["passages"] = PrecomputedEncoder(folder, key, passages, sides, "passages")
    return PrecomputedEncoder(folder, key, both, sides)


def _parts(folder: Path, side: Side) -> tuple[_Part, ...]:
    found = sorted((number, path) for name, number, path in _arrays(folder) if name == side)
    if not found:
        raise MiningError(f"{folder} has no {side}.npy: queries and passages need vectors each, with their texts")
    return tuple(_Part(path, _mapped(path)) for _, path in found)


def _arrays(folder: Path) -> list[tuple[str, int, Path]]:
    """Side, number and path of each array, by its name."""
    try:
        named = [(_NAME.fullmatch(path.name), path) for path in folder.iterdir()]
    except OSError as error:
        raise MiningError(f"{folder} cannot be read ({error.strerror})") from None
    return [(name[1], int(name[2] or -1), path) for name, path in named if name]


def _text_in(line: bytes) -> str:
    """Raises ValueError if it is none."""
    found = json.loads(line)
    if not isinstance(found, dict) or not isinstance(found.get("text"), str):
        raise ValueError
    return cast(str, found["text"])


def _mapped(path: Path) -> NDArray[np.floating[Any]]:
    texts_path = path.with_suffix(".jsonl")
    if not texts_path.is_file():
        raise MiningError(f'{path} has no {texts_path.name} beside it: line i must be {{"text": ...}} of row i')
    try:
        vectors_MD = np.lib.format.open_memmap(path, mode="r")  # refuses arrays of objects, and loads no pickle
    except OSError as error:
        raise MiningError(f"{path} cannot be read ({error.strerror})") from None
    except (ValueError, EOFError, TypeError, OverflowError, MemoryError, SyntaxError, TokenError) as error:
        reason = " ".join(str(error).split())[:100] or type(error).__name__
        raise MiningError(f"{path} is no array of numbers ({reason}): write it with numpy.save") from None
    is_fit = vectors_MD.dtype.kind == "f" and vectors_MD.dtype.itemsize <= 8
    if not is_fit or vectors_MD.ndim != 2 or not vectors_MD.shape[1]:
        what = f"{vectors_MD.shape} {vectors_MD.dtype}"
        raise MiningError(f"{path} is {what}: it must be (rows, dimensions), of float16, float32 or float64")
    return cast("NDArray[np.floating[Any]]", vectors_MD)


def _normalised(part: _Part, rows: NDArray[np.int64]) -> NDArray[np.float32]:
    vectors_ND = part.vectors_MD[rows].astype(np.float64)  # squares of what float32 holds may pass it
    length_N = np.linalg.norm(vectors_ND, axis=1)
    bad_N = ~(np.isfinite(length_N) & (length_N > 0))
    if bad_N.any():
        raise MiningError(
            f"{part.path}: {int(bad_N.sum()):,} of the rows that are needed cannot be normalised (not finite, or of "
            f"length 0), the first: row {int(rows[bad_N.argmax()])}; compute them again, or remove row and line"
        )
    return cast("NDArray[np.float32]", (vectors_ND / length_N[:, None]).astype(np.float32))
