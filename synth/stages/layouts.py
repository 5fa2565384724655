"""
The layouts that `synth ingest` reads, and how a folder is searched for them. Reads files; knows no store.

    retrieval   a folder with corpus.jsonl {doc_id,title,text}, queries.jsonl {query_id,text[,split]} and either
                qrels.jsonl {query_id,doc_id[,score][,split]} or, as BEIR has them, qrels/SPLIT.tsv (query-id,
                corpus-id, score); BEIR's own key _id is taken too
    pairs       NAME.jsonl {text1,text2,score[,split]}
    labelled    NAME.jsonl {text,label[,split]}
    documents   a folder of .md, .rst and .txt files, or NAME.jsonl {text[,title,path]}

A file named sources.toml in a folder says which sets are in it, with name, licence, origin and instruction of each;
without one the folder is searched.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from synth.records import UserError, is_plain_name
from synth.settings import read_toml, record_of

MANIFEST = "sources.toml"
DOCUMENT_SUFFIXES = (".md", ".rst", ".txt")
READ_SUFFIXES = (*DOCUMENT_SUFFIXES, ".jsonl", ".tsv")
ABOUT_THE_DATA = {"README", "LICENSE", "NOTICE", "ATTRIBUTION", "CHANGELOG"}  # no documents by themselves
CORPUS, QUERIES, QRELS, QRELS_FOLDER = "corpus.jsonl", "queries.jsonl", "qrels.jsonl", "qrels"


@dataclass(frozen=True, slots=True)
class Described:
    """What sources.toml may say of one set."""

    name: str = ""
    licence: str = ""
    origin: str = ""
    instruction: str = ""


@dataclass(frozen=True, slots=True)
class FoundSet:
    """One data set found on disk, with its layout."""

    path: Path
    kind: str
    about: Described


def find_sets(path: Path) -> list[FoundSet]:
    """
    The sets under a file or folder, in a fixed order, each with a name of its own.

    Raises UserError if the path does not exist, holds none, or two sets would have one name.
    """
    if not path.exists():
        raise UserError(f"{path}: there is no such file or folder")
    _check_files(path)
    found = list(_listed(path) if (path / MANIFEST).is_file() else _searched(path))
    if not found:
        raise UserError(f"{path}: nothing to ingest here; see `synth ingest --help` for the layouts")
    names: dict[str, Path] = {}
    for each in found:
        if not is_plain_name(each.about.name):
            raise UserError(f"{each.path}: {each.about.name!r:.120} is no name for a source; give it one in {MANIFEST}")
        if each.about.name in names:
            raise UserError(
                f"{each.path}: would be named {each.about.name} like {names[each.about.name]}; name both in {MANIFEST}"
            )
        names[each.about.name] = each.path
    return found


def _check_files(root: Path) -> None:
    """
    Raise UserError for what must not be read: a file that is none (a pipe, a device), a link that leaves the folder,
    a name that no text can hold.
    """
    inside = root.resolve()
    for path in [root, *(sorted(root.rglob("*")) if root.is_dir() else ())]:
        if not str(path).isprintable():
            raise UserError(f"{path!r}: the name of this file has characters that cannot be printed; rename it")
        if path.suffix not in READ_SUFFIXES or path.is_dir():
            continue
        if path != root and path.is_symlink() and not path.resolve().is_relative_to(inside):
            raise UserError(f"{path}: a link that leaves the folder; put the file itself here, or ingest its target")
        if not path.is_file():
            raise UserError(f"{path}: not a regular file; take it away")


def _listed(folder: Path) -> Iterator[FoundSet]:
    manifest = folder / MANIFEST
    for relative, table in read_toml(manifest).items():
        about = record_of(Described, table, f"{manifest}: [{relative}]")
        path = folder / relative
        if not path.resolve().is_relative_to(folder.resolve()):
            raise UserError(f"{manifest}: {relative} leaves the folder; sets must be inside it")
        if not path.exists():
            raise UserError(f"{manifest}: {relative} does not exist; mend the path or take the entry out")
        kind = _kind(path)
        if kind is None:
            raise UserError(f"{path}: none of the layouts that can be ingested; see `synth ingest --help`")
        yield FoundSet(path, kind, _named(path, about))


def _searched(path: Path) -> Iterator[FoundSet]:
    kind = _kind(path)
    if kind is not None:
        yield FoundSet(path, kind, _named(path, Described()))
    if path.is_dir() and kind != "retrieval":
        for child in sorted(path.iterdir()):
            if (
                child.is_dir() and not child.name.startswith(".") and not child.is_symlink()
            ):  # a link may lead back here
                yield from _searched(child)
            elif child.suffix == ".jsonl":
                kind = _kind(child)
                if kind is None:
                    keys = ", ".join(next(read_lines(child))[1])
                    raise UserError(
                        f"{child}: its first line has the keys {keys:.200}; a layout needs text1, text2, score, or"
                        " text, label, or text"
                    )
                yield FoundSet(child, kind, _named(child, Described()))


def _named(path: Path, about: Described) -> Described:
    name = about.name or (path.resolve().name if path.is_dir() else path.stem)
    return Described(name, about.licence, about.origin or str(path), about.instruction)


def _kind(path: Path) -> str | None:
    if path.is_dir():
        if (path / CORPUS).is_file() and (path / QUERIES).is_file():
            if not (path / QRELS).is_file() and not any((path / QRELS_FOLDER).glob("*.tsv")):
                raise UserError(f"{path}: {CORPUS} and {QUERIES} need {QRELS} or {QRELS_FOLDER}/SPLIT.tsv beside them")
            return "retrieval"
        pages = (child for child in path.iterdir() if _is_document(child))
        return "documents" if any(page.stem.upper() not in ABOUT_THE_DATA for page in pages) else None
    if _is_document(path):
        return "documents"
    if path.suffix != ".jsonl":
        return None
    first = next(read_lines(path), None)
    if first is None:
        raise UserError(f"{path}: this file is empty")
    keys = first[1].keys()
    if {"text1", "text2", "score"} <= keys:
        return "pairs"
    if {"text", "label"} <= keys:
        return "labelled"
    return "documents" if "text" in keys else None


def _is_document(path: Path) -> bool:
    return path.is_file() and path.suffix in DOCUMENT_SUFFIXES


def documents_in(path: Path) -> list[Path]:
    """The document files of a folder (not of the folders inside it), or the file itself."""
    return [path] if path.is_file() else sorted(child for child in path.iterdir() if _is_document(child))


def read_judgements(folder: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """The qrels of a retrieval set, from either form, each with `FILE:LINE`; of BEIR's the file's name is the split."""
    if (folder / QRELS).is_file():
        yield from read_lines(folder / QRELS)
        return
    for path in sorted((folder / QRELS_FOLDER).glob("*.tsv")):
        try:
            lines = path.read_text(encoding="utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"{path}: cannot be read ({error})") from None
        for number, line in enumerate(lines, start=1):
            where, cells = f"{path}:{number}", line.split("\t")
            if number == 1 and cells[0] in ("query-id", "query_id"):
                continue
            if len(cells) != 3 or not re.fullmatch(r"-?\d+(\.\d+)?", cells[2]):
                raise UserError(f"{where}: needs query-id, corpus-id and score between tabs, not {line!r:.60}")
            yield where, {"query_id": cells[0], "doc_id": cells[1], "score": float(cells[2]), "split": path.stem}


def read_lines(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """
    The objects of a JSON Lines file, each with `FILE:LINE` for messages; blank lines are passed over.

    Raises UserError at the first line that is not UTF-8 or not one JSON object.
    """
    try:
        with path.open("rb") as lines:
            for number, line in enumerate(lines, start=1):
                where = f"{path}:{number}"
                if line.strip():
                    yield where, _object(line, where)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None


def _object(line: bytes, where: str) -> dict[str, Any]:
    try:
        row = json.loads(line.decode("utf-8-sig"))
    except UnicodeDecodeError:
        raise UserError(f"{where}: not UTF-8; convert the file first") from None
    except json.JSONDecodeError as error:
        raise UserError(f"{where}: not valid JSON ({error.msg}); every line must be one JSON object") from None
    except (RecursionError, ValueError):  # the second: a whole number of thousands of digits
        raise UserError(f"{where}: too deep or too large to be a row of a data set") from None
    if b"\\u" in line and not _is_encodable(row):
        raise UserError(f"{where}: holds half of a surrogate pair; mend the encoding of this line")
    if not isinstance(row, dict):
        raise UserError(f"{where}: not a JSON object but {type(row).__name__}; every line must be one JSON object")
    return row


def _is_encodable(row: object) -> bool:
    try:
        json.dumps(row, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


def text_of(row: dict[str, Any], key: str, where: str) -> str:
    """The text under a key. Raises UserError if it is missing, no text, or blank."""
    value = row.get(key)
    if not isinstance(value, str) or not value.strip():
        raise UserError(f"{where}: `{key}` must be a text that is not empty, not {value!r:.60}")
    return value


def id_of(row: dict[str, Any], keys: tuple[str, ...], where: str) -> str:
    """The id under the first key that is there, as text. Raises UserError if there is none."""
    for key in keys:
        value = row.get(key)
        if isinstance(value, (str, int)) and not isinstance(value, bool) and str(value).strip():
            return str(value)
    raise UserError(f"{where}: needs an id under {' or '.join(f'`{key}`' for key in keys)}")


def number_of(row: dict[str, Any], key: str, where: str) -> float:
    """The finite number under a key. Raises UserError if it is none."""
    value = row.get(key)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) < 1e300:
        raise UserError(f"{where}: `{key}` must be a number, not {value!r:.60}")
    return float(value)
