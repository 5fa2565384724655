"""
Tables on disk, a row at a time: JSON Lines, JSON, CSV, TSV and Parquet.

A file is hostile input: no row of text is read that is longer than `MAX_LINE` (Python's objects for its JSON can take
40 times that), however large the file is or becomes when it is unpacked. Of Parquet `BATCH` rows are held, of any size.
A line that cannot be read comes out as the `BadLine` it is, so that whoever reads decides whether to stop at it.
"""

import csv
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from io import BufferedIOBase
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from synth.records import UserError
from synth.stages.json_rows import checked_object, elements, is_array, parse_object
from synth.stages.lines import MAX_LINE, NOT_UTF8, BadLine, Row, Rows, lines_of, reading

if TYPE_CHECKING:
    import pyarrow

PEEK = 100  # rows whose keys together are a JSON file's columns
MAX_KEYS = 10_000  # or as many as have so many
BATCH = 4096  # rows of a Parquet file that are Python objects at one time
ARROW_BUFFER = 1 << 20  # bytes of a Parquet column that are read at one time


@dataclass(frozen=True)
class Table:
    """
    One table: a file, or one split of a data set.

    `rows` gives (number, row or BadLine) of these columns at least, from the first on each time it is called; a number
    is that of the line in the file, or, where there are no lines, of the row, from 1.
    """

    name: str  # for messages
    columns: tuple[str, ...]
    rows: Callable[[Sequence[str]], Rows]
    split: str | None = None
    classes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # column -> names of its whole numbers


def table_suffix(path: Path) -> str:
    """The kind of table by its name (.jsonl, .json, .csv, .tsv, .parquet), compressed or not; "" if it is none."""
    suffix = Path(path.name.removesuffix(".gz")).suffix.lower()
    if path.name.endswith(".gz") and suffix == ".parquet":
        return ""
    return suffix if suffix in OPENERS else ""


def table_stem(path: Path) -> str:
    """The name of a table's file without its suffixes."""
    return Path(path.name.removesuffix(".gz")).stem


def open_table(path: Path, *, split: str | None = None) -> Table:
    """
    The table of a file; its columns are known, its rows are read later.

    Raises UserError if the file cannot be read, is empty, or is not of the kind that its name says.
    """
    columns, classes, rows = OPENERS[table_suffix(path)](path)
    if not columns:
        raise UserError(f"{path}: this file is empty")
    return Table(str(path), columns, rows, split, classes)


Opened = tuple[tuple[str, ...], Mapping[str, tuple[str, ...]], Callable[[Sequence[str]], Rows]]


def is_table(path: Path) -> bool:
    """Whether a file found in a folder is a table: by its name, and of .json (often a program's settings) by a look."""
    if table_suffix(path) != ".json":
        return bool(table_suffix(path))
    if is_array(path):
        return True
    with reading(path) as file:
        lines = [file.readline(MAX_LINE) for _ in range(2)]  # settings are one object, on one line or on many
    try:
        return all(parse_object(line) is not None for line in lines)
    except BadLine:
        return False


def _peeked(rows: Rows) -> tuple[str, ...]:
    """The keys of the first readable rows together, in their order. Raises BadLine if none can be read."""
    columns: dict[str, None] = {}
    bad = None
    for _, row in islice(rows, PEEK):
        if isinstance(row, BadLine):
            bad = bad or row
        else:
            columns |= dict.fromkeys(row)
        if len(columns) >= MAX_KEYS:
            break
    if bad is not None and not columns:
        raise bad
    return tuple(columns)


def _open_json_lines(path: Path) -> Opened:
    def rows(_: Sequence[str]) -> Rows:
        with reading(path) as file:
            for number, line in lines_of(file):
                if isinstance(line, BadLine):
                    yield number, line
                elif line.strip():
                    try:
                        row = parse_object(line)
                    except BadLine as error:
                        yield number, error
                    else:
                        yield number, row

    try:
        columns = _peeked(rows(()))
    except BadLine as error:
        raise UserError(f"{path}:1: {error}") from None
    return columns, {}, rows


def _open_json(path: Path) -> Opened:
    """An array of objects, or, as many tools write it, JSON Lines under the name .json."""
    return _open_array(path) if is_array(path) else _open_json_lines(path)


def _open_array(path: Path) -> Opened:
    def rows(_: Sequence[str]) -> Rows:
        for number, (row, text) in enumerate(elements(path), start=1):
            try:
                checked: Row | BadLine = checked_object(row, text)
            except BadLine as error:
                checked = error
            yield number, checked

    return _peeked(rows(())), {}, rows


def _open_cells(path: Path) -> Opened:
    with reading(path) as file:
        header = file.readline(MAX_LINE)
    comma = "," if b"," in header or b";" not in header else ";"  # as spreadsheets write where the comma is decimal
    delimiter = "\t" if table_suffix(path) == ".tsv" else comma
    columns = next((cells for _, cells in _cells(path, delimiter)), [])
    if isinstance(columns, BadLine):
        raise UserError(f"{path}:1: {columns}")
    _refuse_repeated(f"{path}:1", columns)

    def rows(_: Sequence[str]) -> Rows:
        for number, cells in islice(_cells(path, delimiter), 1, None):
            if isinstance(cells, BadLine):
                yield number, cells
            elif len(cells) != len(columns):
                detail = f": {len(cells)} where the header names {len(columns)}"
                yield number, BadLine("more or fewer cells than columns", detail, text=delimiter.join(cells))
            else:
                yield number, dict(zip(columns, cells, strict=True))

    return tuple(columns), {}, rows


def _refuse_repeated(where: str, columns: Sequence[str]) -> None:
    if twice := next((name for name, number in Counter(columns).items() if number > 1), None):
        raise UserError(f"{where}: two columns are called {twice!r:.60}; every column needs a name of its own")


def _cells(path: Path, delimiter: str) -> Iterator[tuple[int, list[str] | BadLine]]:
    """The cells of each row with the number of its first line; a quoted cell may hold new lines."""
    csv.field_size_limit(MAX_LINE)
    taken = 0  # characters of the row that is being read

    def bounded(texts: Iterator[str]) -> Iterator[str]:
        nonlocal taken
        for text in texts:
            taken += len(text)
            if taken > MAX_LINE:
                raise csv.Error(f"it has more than {MAX_LINE >> 20} MiB")
            yield text

    with reading(path) as file:
        lines = csv.reader(bounded(_decoded(file, path)), delimiter=delimiter, strict=True)
        number = 1
        try:
            for cells in lines:
                taken = 0
                if cells:
                    joined = delimiter.join(cells)
                    yield number, cells if _is_utf8(joined) else BadLine(NOT_UTF8, text=joined)
                number = lines.line_num + 1
        except csv.Error as error:
            raise UserError(
                f"{path}:{number}: the quotes or cells of this row do not come to an end ({error}); in a quoted cell a"
                ' quote is written ""'
            ) from None


def _is_utf8(text: str) -> bool:
    """Whether a text that was decoded with `surrogateescape` had nothing to escape."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _decoded(file: BufferedIOBase, path: Path) -> Iterator[str]:
    for number, line in lines_of(file):
        if isinstance(line, BadLine):
            raise UserError(f"{path}:{number}: {line}")
        text = line.decode("utf-8", errors="surrogateescape")
        yield text.removeprefix("\ufeff") if number == 1 else text


def _open_parquet(path: Path) -> Opened:
    from pyarrow import ArrowException
    from pyarrow.parquet import ParquetFile

    def opened() -> "ParquetFile":
        try:
            return ParquetFile(path, buffer_size=ARROW_BUFFER, pre_buffer=False)
        except (ArrowException, OSError) as error:
            raise UserError(f"{path}: cannot be read as Parquet ({_first_line(error)})") from None

    def rows(wanted: Sequence[str]) -> Rows:
        try:
            with opened() as file:
                batches = file.iter_batches(BATCH, columns=[name for name in columns if name in wanted])
                yield from rows_of_batches(batches)
        except (ArrowException, OSError) as error:
            raise UserError(f"{path}: damaged ({_first_line(error)}); copy or download it again") from None

    with opened() as file:
        columns = tuple(file.schema_arrow.names)
        _refuse_repeated(str(path), columns)
        classes = class_names(file.schema_arrow)
    return columns, classes, rows


def _first_line(error: Exception) -> str:
    return str(error).split("\n", 1)[0][:200]


def rows_of_batches(batches: "Iterator[pyarrow.RecordBatch | pyarrow.Table]") -> Rows:
    """The rows of Arrow batches; one with a text that is not UTF-8, or a date beyond Python's, is a BadLine."""
    number = 0
    for batch in batches:
        try:
            found: Sequence[Row | BadLine] = batch.to_pylist()
        except (OverflowError, ValueError):  # the second: UnicodeDecodeError, and a time zone that nobody knows
            found = [_row_of(batch.slice(place, 1)) for place in range(batch.num_rows)]
        for row in found:
            number += 1
            yield number, row


def _row_of(batch: "pyarrow.RecordBatch | pyarrow.Table") -> Row | BadLine:
    try:
        [row] = batch.to_pylist()
    except UnicodeDecodeError:
        return BadLine(NOT_UTF8)
    except (OverflowError, ValueError):
        return BadLine("holds a date or time that cannot be read; make the column a text, or leave it out")
    return dict(row)


def class_names(schema: "pyarrow.Schema") -> dict[str, tuple[str, ...]]:
    """The names of whole-number classes that the `datasets` library noted in a schema, by column."""
    try:
        noted = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
        features = dict(noted["info"]["features"])
    except (ValueError, KeyError, TypeError, RecursionError):  # nothing noted, or by another tool
        return {}
    return {
        column: tuple(map(str, feature["names"]))
        for column, feature in features.items()
        if isinstance(feature, dict) and feature.get("_type") == "ClassLabel" and isinstance(feature.get("names"), list)
    }


OPENERS: dict[str, Callable[[Path], Opened]] = {
    ".jsonl": _open_json_lines,
    ".ndjson": _open_json_lines,
    ".json": _open_json,
    ".csv": _open_cells,
    ".tsv": _open_cells,
    ".parquet": _open_parquet,
}
