"""
A release's folder (docs/release-format.md): its layout, its manifest, its rows, its digest. Knows no store.

Whoever reads a release may have got it from a stranger, so what is wrong with it is one line.
"""

import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from synth.records import Classification, Content, Retrieval, Sts, Task, UserError, content_hash, text_id

if TYPE_CHECKING:
    import pyarrow

FORMAT = 1
MANIFEST = "manifest.json"
COMMON = ("sample_id", "revision_id", "content_hash", "dataset", "operation", "method", "instruction")
COLUMNS = {
    Task.RETRIEVAL: ("query", "positives", "negatives"),
    Task.STS: ("text1", "text2", "score"),
    Task.CLASSIFICATION: ("text", "label", "negatives"),
}
KEYS = {"format": int, "name": str, "digest": str, "policy": dict, "counts": dict, "sources": list, "held_out": list}
SINCE = {Task.CLASSIFICATION: "negatives"}  # a column that releases of earlier versions lack: they have none
BATCH = 1000  # rows in memory at a time


def schema(task: Task) -> "pyarrow.Schema":
    """The columns of a task's file, with their types."""
    import pyarrow

    text = pyarrow.string()
    negative = pyarrow.struct(
        [
            ("text", text),
            ("origin", text),
            ("rank", pyarrow.int32()),
            ("score", pyarrow.float32()),
            ("positive_score", pyarrow.float32()),
        ]
    )
    types = {"positives": pyarrow.list_(text), "negatives": pyarrow.list_(negative), "score": pyarrow.float64()}
    return pyarrow.schema([(column, types.get(column, text)) for column in (*COMMON, *COLUMNS[task])])


def find_folder(release: str, releases: Path) -> Path:
    """
    The folder of a release: `release` itself if it is a release's folder, else RELEASES/`release`.

    Raises UserError if neither is one; the message lists the releases there are.
    """
    for path in (releases / release, Path(release)):
        if (path / MANIFEST).is_file():
            return path
    known = sorted(path.parent.name for path in releases.glob(f"[!.]*/{MANIFEST}"))
    there = f"{releases} has {', '.join(known)}" if known else "make one with `synth release create`"
    raise UserError(f"no release {release!r:.120}: neither a release's folder nor one of the workspace's: {there}")


def read_manifest(folder: Path) -> dict[str, Any]:
    """
    A release's manifest.

    Raises UserError if it is missing, broken, of a newer format or lacks a key.
    """
    path = folder / MANIFEST
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: cannot be read ({error}); make the release again") from None
    if not isinstance(manifest, dict):
        raise UserError(f"{path}: is no JSON object; make the release again")
    number = manifest.get("format")
    if isinstance(number, int) and number > FORMAT:
        raise UserError(f"{path}: format {number} is newer than this Skiff reads ({FORMAT}); upgrade skiff-embeddings")
    for key, wanted in KEYS.items():
        if type(manifest.get(key)) is not wanted:
            raise UserError(f"{path}: {key} is missing or of the wrong type; make the release again")
    if not is_release_name(manifest["name"]):
        raise UserError(f"{path}: {manifest['name']!r:.120} is no release's name; make the release again")
    return manifest


def missing_files(folder: Path) -> list[str]:
    """The files that a release's manifest lists and its folder has not, or not of their size."""
    listed = read_manifest(folder).get("files")
    sizes = {str(each.get("path")): each.get("size") for each in listed or () if isinstance(each, dict)}
    found = {path.relative_to(folder).as_posix(): path.stat().st_size for path in files_in(folder)}
    return sorted(name for name, size in sizes.items() if found.get(name) != size)


def samples_file(folder: Path, task: Task) -> Path:
    """Where a release keeps its samples of a task; not there if it has none."""
    return folder / "samples" / f"{task}.parquet"


def read_rows(folder: Path, task: Task) -> Iterator[dict[str, Any]]:
    """
    The samples of a task in their order, read a batch at a time; none if there is no file of it.

    Raises UserError if the file is no Parquet or lacks a column.
    """
    import pyarrow
    from pyarrow import parquet

    path = samples_file(folder, task)
    if not path.exists():
        return
    wanted = schema(task)
    try:
        with parquet.ParquetFile(path) as file:
            names = file.schema_arrow.names
            if len(names) > len(set(names)):
                raise UserError(f"{path}: has two columns of one name; make the release again")
            missing = set(wanted.names) - set(names)
            added: dict[str, list[Any]] = {name: [] for name in missing & {SINCE.get(task)}}
            if missing - added.keys():
                raise UserError(f"{path}: misses the columns {', '.join(sorted(missing))}; make the release again")
            there = pyarrow.schema([column for column in wanted if column.name not in added])
            for batch in file.iter_batches(BATCH, columns=there.names):
                rows = batch.select(there.names).cast(there).to_pylist()
                yield from ({**row, **added} for row in rows)
    except (OSError, UnicodeDecodeError, pyarrow.ArrowException) as error:
        raise UserError(f"{path}: cannot be read ({_first_line(error)}); make the release again") from None


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def read_complete_rows(folder: Path, task: Task) -> Iterator[dict[str, Any]]:
    """What `read_rows` gives. Raises UserError as well if a text or a score is missing, as in no release of ours."""
    for number, row in enumerate(read_rows(folder, task), start=1):
        texts = (negative and negative["text"] for negative in row.get("negatives") or ())
        if None in (*row.values(), *(row.get("positives") or ()), *texts):
            path = samples_file(folder, task)
            raise UserError(f"{path}, row {number}: a value is missing; `synth release verify` says what was changed")
        yield row


def content_of(task: Task, row: Mapping[str, Any]) -> Content:
    """The content of a row of a task's file. Raises TypeError or ValueError if a value is missing."""
    if any(row[name] is None for name in ("instruction", *COLUMNS[task]) if name != "negatives"):
        raise ValueError("a value is missing")
    if task == Task.RETRIEVAL:
        return Retrieval(row["query"], tuple(row["positives"]), row["instruction"])
    if task == Task.STS:
        return Sts(row["text1"], row["text2"], row["score"], row["instruction"])
    return Classification(row["text"], row["label"], row["instruction"])


def is_content_of(task: Task, row: Mapping[str, Any]) -> bool:
    """Whether a row's content is what its content_hash says."""
    try:
        return bool(str(content_hash(content_of(task, row))) == row["content_hash"])
    except (AttributeError, TypeError, ValueError):  # no text, half a surrogate pair
        return False


def digest_line(row: Mapping[str, Any]) -> str:
    """What a sample adds to a release's digest: its content's hash, its source, its negatives' text ids, by tabs."""
    negatives = (str(text_id(negative["text"] or "")) for negative in row.get("negatives") or () if negative)
    return "\t".join([str(row["content_hash"]), str(row["dataset"]), *negatives])


def digest_of(lines: Iterable[str]) -> str:
    """
    SHA-256 of the sorted lines of all samples, a new line between two. `lines` must come sorted.

    Ids of samples and revisions are left out: they hold the time, and two machines that made the same would not agree.
    """
    sha, between = hashlib.sha256(), b""
    for line in lines:
        sha.update(between + line.encode())
        between = b"\n"
    return sha.hexdigest()


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def settle(folder: Path) -> list[dict[str, Any]]:
    """
    Path, size and SHA-256 of every file of a folder, by path; each is forced to the disk and made read-only, so that no
    tool changes one by accident.
    """
    listed = []
    for path in files_in(folder):
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
            os.fsync(file.fileno())
        path.chmod(0o444)
        listed.append({"path": path.relative_to(folder).as_posix(), "size": path.stat().st_size, "sha256": sha256})
    return listed


def files_in(folder: Path) -> list[Path]:
    """Every file below a folder, by path; links are files, wherever they lead."""
    return sorted(path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir())


def is_release_name(name: str) -> bool:
    """Whether a release can be called so: letters, digits, `.`, `_` and `-`, beginning with a letter or digit."""
    return re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", name) is not None
