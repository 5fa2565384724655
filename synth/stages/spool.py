"""
Where an import is kept until all of it is known to be well: Parquet files in a folder beside the store.

The folder belongs to one process for as long as that holds a lock on it. It goes when the import ends; one that a
killed process left behind goes when the next import begins.
"""

import fcntl
import hashlib
import json
import os
import shutil
import tempfile
from array import array
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from enum import StrEnum
from pathlib import Path
from typing import Any

from synth.records import StoreError, UserError
from synth.screen import printable
from synth.stages.lines import BadLine

PREFIX = ".ingest-"
MAX_ROWS = 20_000  # rows of a file that are held in memory before they are written
MAX_CHARACTERS = 8 << 20  # or so many characters of text
TEXT_SHOWN = 200  # characters of a line that a report shows

# Columns of the spooled files; `place` is the number of the row within the set, `file` and `line` where it was read.
PLACE = {"place": "int64", "file": "int32", "line": "int64", "external_id": "string"}
PASSAGES = {**PLACE, "text": "string", "title": "string"}
QUERIES = {**PLACE, "query": "string", "split": "string"}
JUDGEMENTS = {**PLACE, "passage": "string", "grade": "double", "split": "string"}  # external_id: the query's
SAMPLES = {
    "retrieval": {"query": "string", "positives": "texts", "negatives": "texts"},
    "pairs": {"text1": "string", "text2": "string", "score": "double"},
    "labelled": {"text": "string", "label": "string"},
}
SAMPLE_ORIGIN = {"split": "string", "external_id": "string", "instruction": "string"}


@contextmanager
def spool_folder(beside: Path) -> Iterator[Path]:
    """
    A folder for one import, in the folder of the store, gone when the block ends. Leftovers of killed imports go first,
    but for those that this user may not remove.

    Raises StoreError if none can be made there.
    """
    try:
        with _locked(beside):  # nobody sweeps between the making of a folder and its lock
            _sweep(beside)
            folder = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-", dir=beside))
            held = os.open(folder, os.O_RDONLY)
            fcntl.flock(held, fcntl.LOCK_EX)
    except OSError as error:
        raise StoreError(f"{beside}: an import needs to write here ({error.strerror})") from None
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(held)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _sweep(folder: Path) -> None:
    for leftover in folder.glob(f"{PREFIX}*-*"):
        if not leftover.is_dir() or leftover.is_symlink():
            continue
        with suppress(OSError):  # of an import that is under way, or another user's
            descriptor = os.open(leftover, os.O_RDONLY)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(leftover, ignore_errors=True)
            finally:
                os.close(descriptor)


class ColumnDigest:
    """
    A hash over a column as its rows come: the same for the same rows in the same order, in whatever pieces. Lengths and
    texts are hashed apart, so that each takes one step for thousands of rows and no two columns look alike.
    """

    def __init__(self) -> None:
        self._counts = hashlib.sha256()  # of the texts in each list
        self._lengths = hashlib.sha256()
        self._texts = hashlib.sha256()

    def add(self, values: Sequence[Any]) -> None:
        """Add the next values: texts, lists of texts, numbers or None."""
        if any(isinstance(value, list) for value in values):
            self._counts.update(array("q", map(len, values)).tobytes())
            values = [text for texts in values for text in texts]
        texts = ["" if value is None else str(value) for value in values]
        lengths = (-1 if value is None else len(text) for value, text in zip(values, texts, strict=True))
        self._lengths.update(array("q", lengths).tobytes())
        self._texts.update("".join(texts).encode())

    def value(self) -> str:
        """The hash, in hex digits."""
        return "".join(each.hexdigest() for each in (self._counts, self._lengths, self._texts))


class Spool:
    """A file of rows on their way: held in columns, written in pieces of bounded size. Closed by whoever made it."""

    def __init__(self, path: Path, columns: Mapping[str, str]) -> None:
        import pyarrow
        from pyarrow.parquet import ParquetWriter

        types = {
            "string": pyarrow.string(),
            "texts": pyarrow.list_(pyarrow.string()),
            "double": pyarrow.float64(),
            "int32": pyarrow.int32(),
            "int64": pyarrow.int64(),
        }
        self.schema = pyarrow.schema([(name, types[kind]) for name, kind in columns.items()])
        self.num_rows = 0
        self._digests = {name: ColumnDigest() for name in columns if name not in ("place", "file", "line")}
        self._rows: list[tuple[Any, ...]] = []
        self._characters = 0
        self._writer = ParquetWriter(path, self.schema, compression="lz4", use_dictionary=False, write_statistics=False)

    def add(self, *values: Any, characters: int) -> None:
        """Add one row, its values in the order of the columns; `characters` is about how long its texts are."""
        self._rows.append(values)
        self.num_rows += 1
        self._characters += characters
        if len(self._rows) >= MAX_ROWS or self._characters >= MAX_CHARACTERS:
            self._flush()

    def _flush(self) -> None:
        import pyarrow

        arrays: list[pyarrow.Array] = []
        for values, column in zip(zip(*self._rows, strict=True), self.schema, strict=True):
            arrays.append(pyarrow.array(values, column.type))
            if column.name in self._digests:
                self._digests[column.name].add(values)
        self._writer.write_table(pyarrow.Table.from_arrays(arrays, schema=self.schema))
        self._rows = []
        self._characters = 0

    def digest(self) -> str:
        """A hash of the content of all rows, but not of where they were read. Asked when the file is closed."""
        return "".join(each.value() for each in self._digests.values())

    def close(self) -> None:
        """Write what is held back, and end the file."""
        if self._rows:
            self._flush()
        self._writer.close()


class OnError(StrEnum):
    """What a line that cannot be used means."""

    REFUSE = "refuse"
    SKIP = "skip"


class LeftOut:
    """
    The lines that cannot be used: the first of them is an error, or they are counted by reason and noted in a report.
    """

    def __init__(self, folder: Path, on_error: OnError) -> None:
        self._on_error = on_error
        self.counts: Counter[str] = Counter()
        self._path = folder / "left-out.jsonl"
        self._file = self._path.open("w", encoding="utf-8")

    def add(self, name: str, line: int | None, bad: BadLine, text: str) -> None:
        """One line (of a file without lines: None). Raises UserError, naming file and line, if none may be left out."""
        if self._on_error is OnError.REFUSE:
            raise UserError(f"{name}{'' if line is None else f':{line}'}: {bad}")
        self.counts[bad.reason] += 1
        shown = printable((bad.text or text)[:TEXT_SHOWN])
        entry = {"file": printable(name), "line": line, "reason": printable(str(bad)), "text": shown}
        self._file.write(json.dumps(entry, ensure_ascii=False) + "\n")

    def close(self) -> None:
        """End the report's file."""
        self._file.close()

    def put(self, target: Path) -> None:
        """Put the report where it is wanted. Raises UserError if a file is there or it cannot be written."""
        self._file.flush()
        try:
            with target.open("xb") as report, self._path.open("rb") as found:
                shutil.copyfileobj(found, report)
        except FileExistsError:
            raise UserError(f"{target}: is there already; name another file with --report") from None
        except OSError as error:
            with suppress(OSError):
                target.unlink(missing_ok=True)  # a part of it, where the disk is full
            raise UserError(f"{target}: the report cannot be written ({error.strerror})") from None
