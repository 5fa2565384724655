"""
Reading a release: the directory of docs/release-format.md, checked before a minute of training is spent on it.

The trainer reads nothing else, never the database. Tables stay in Arrow; a step takes the few rows that it needs.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from synth.records import Task, UserError
from synth.stages.release_files import MANIFEST, SINCE, read_manifest, samples_file

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True, slots=True)
class Release:
    """A release in memory: what its manifest says, and a table of samples for each task that has any."""

    path: Path
    name: str
    digest: str
    sources: tuple[dict[str, Any], ...]  # name, origin, licence and version of each
    samples: "dict[Task, pa.Table]"


def read_release(path: Path) -> Release:
    """
    Read and check a release's manifest and samples. A task without a file, or with an empty one, is left out.

    Raises:
        UserError: no manifest, a broken or a newer one, a file that is not Parquet, a missing column, a blank text.
    """
    manifest = read_manifest(path)
    if not all(isinstance(source, dict) for source in manifest["sources"]):
        raise UserError(f"{path / MANIFEST}: sources is not a list of objects; make the release again")
    try:
        json.dumps(manifest, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise UserError(f"{path / MANIFEST}: holds half a character (a surrogate): make the release again") from None
    tables = {task: _read_samples(samples_file(path, task), task) for task in Task}
    samples = {task: table for task, table in tables.items() if table is not None and table.num_rows}
    if not samples:
        raise UserError(f"{path}: this release has no samples: approve some, then make a release again")
    return Release(path, manifest["name"], manifest["digest"], tuple(manifest["sources"]), samples)


def schema(task: Task) -> "pa.Schema":
    """The columns that the trainer keeps of a task's samples; of negatives the text alone, whatever is told of them."""
    import pyarrow as pa

    text = pa.string()
    always = {"sample_id": text, "content_hash": text, "dataset": text, "instruction": text}
    own = {
        Task.RETRIEVAL: {"query": text, "positives": pa.list_(text), "negatives": pa.list_(text)},
        Task.STS: {"text1": text, "text2": text, "score": pa.float64()},
        Task.CLASSIFICATION: {"text": text, "label": text, "negatives": pa.list_(text)},
    }
    return pa.schema(always | own[task])


def _read_samples(path: Path, task: Task) -> "pa.Table | None":
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not path.exists():
        return None
    wanted = schema(task)
    try:
        found = pq.ParquetFile(path)
        missing = set(wanted.names) - set(found.schema_arrow.names)
        if missing - {SINCE.get(task)}:
            raise UserError(f"{path}: misses the columns {', '.join(sorted(missing))}: make the release again")
        if len(set(found.schema_arrow.names)) < len(found.schema_arrow.names):
            raise UserError(f"{path}: has a column twice: make the release again")
        table = found.read(columns=[name for name in wanted.names if name not in missing])
        for name in missing:
            table = table.append_column(name, pa.array([[]] * len(table), wanted.field(name).type))
        told = _scores(table.column("negatives")) if task is Task.RETRIEVAL else {}
        table = pa.table([_as_type(table.column(field.name), field.type) for field in wanted], schema=wanted)
        table.validate(full=True)  # that texts are UTF-8
        flaws = list(islice(_flaws(table), 1))
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"{path}: cannot be read: {error}: make the release again") from None
    for column, row in flaws:
        raise UserError(f"{path}, row {row}: {column} is blank or no number: make the release again")
    for name, column in told.items():
        table = table.append_column(name, column)
    return table


def _scores(negatives: "pa.ChunkedArray") -> "dict[str, pa.Array]":
    """What mining scored each negative, and beside it the sample's positive; null where it did not."""
    import pyarrow as pa
    import pyarrow.compute as pc

    array = pa.concat_arrays(negatives.chunks) if negatives.num_chunks else pa.array([], negatives.type)
    if pa.types.is_null(array.type):
        array = array.cast(pa.list_(pa.string()))
    if not pa.types.is_list(array.type):
        raise pa.ArrowInvalid(f"negatives are {array.type}, not a list")
    found = {}
    for name, field in (("negative_scores", "score"), ("positive_scores", "positive_score")):
        kind = array.type.value_type
        if pa.types.is_struct(kind) and kind.get_field_index(field) >= 0:
            values = pc.struct_field(array.values, field).cast(pa.float64())
        else:
            values = pa.nulls(len(array.values), pa.float64())
        found[name] = pa.ListArray.from_arrays(array.offsets, values)
    return found


def _as_type(column: "pa.ChunkedArray", wanted: "pa.DataType") -> "pa.Array":
    import pyarrow as pa
    import pyarrow.compute as pc

    array = pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)
    if pa.types.is_list(array.type) and pa.types.is_struct(array.type.value_type):
        array = pa.ListArray.from_arrays(array.offsets, pc.struct_field(array.values, "text"))
    return array.cast(wanted)


def _flaws(table: "pa.Table") -> Iterator[tuple[str, int]]:
    """The column and the row (from 1) of what no training step could use."""
    import pyarrow as pa
    import pyarrow.compute as pc

    def first(mask: "pa.Array") -> int:
        return int(pc.index(pc.fill_null(mask, True), True).as_py())

    def blank(texts: "pa.Array") -> int:
        return first(pc.equal(pc.utf8_length(pc.utf8_trim_whitespace(texts)), 0))

    for name, column in zip(table.column_names, table.columns, strict=True):
        row = -1
        if pa.types.is_floating(column.type):
            row = first(pc.invert(pc.is_finite(column)))
        elif pa.types.is_list(column.type):
            item = blank(pc.list_flatten(column))
            row = -1 if item < 0 else int(pc.list_parent_indices(column)[item].as_py())
            if name == "positives" and row < 0:
                row = first(pc.equal(pc.list_value_length(column), 0))
        elif name != "instruction":
            row = blank(column)
        if row >= 0:
            yield name, row + 1
