"""
What `synth ingest` finds at a path: data sets, each with its layout and its tables. docs/formats.md shows them all.

A file named sources.toml in a folder says which sets are in it, with name, licence, origin and instruction of each;
without one the folder is searched. Reads the beginning of files; knows no store.
"""

import re
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from synth.records import UserError, is_plain_name
from synth.settings import read_toml, record_of
from synth.stages.folders import (
    MANIFEST,
    check_files,
    few,
    folders_below,
    is_document,
    is_retrieval,
    pages_below,
    unread,
)
from synth.stages.formats import LAYOUTS, recognise
from synth.stages.hugging_face import HUB, hub_tables, is_saved, saved_tables
from synth.stages.instructions import known_instruction
from synth.stages.lines import BadLine, Rows, lines_of, reading
from synth.stages.splits import held_out_word, split_of_file
from synth.stages.tables import Table, is_table, open_table, table_stem, table_suffix

BEIR, PAGES = "beir", "pages"  # the layouts that are folders, not columns
# What there is to say of a set whose columns could have been meant otherwise.
OTHERWISE = {
    "reading": "each query is a context, a line that asks to read it, and a question (--format reading); for questions"
    " that the context answers, say --map query=COLUMN --map positive=COLUMN",
    "titled": "each title is a query and its text the positive (--format titled); for passages to make queries of, say"
    " --format documents --map text=COLUMN",
}


@dataclass(frozen=True, slots=True)
class Described:
    """What sources.toml may say of one set, and the options of `synth ingest` of the sets at a path."""

    name: str = ""
    licence: str = ""
    origin: str = ""
    instruction: str = ""
    format: str = ""  # one of LAYOUTS; "" recognises it
    split: str = ""  # of all rows, over what they say themselves
    map: dict[str, Any] = field(default_factory=dict)  # role -> column


@dataclass(frozen=True, slots=True)
class FoundSet:
    """One data set: `tables` are its `rows`, or, of a retrieval folder, its `corpus`, `queries` and `judgements`."""

    path: str  # for messages
    layout: str
    about: Described
    tables: Mapping[str, Sequence[Table]] = field(default_factory=dict)
    pages: Mapping[str, Path] = field(default_factory=dict)  # by their path within the folder
    notes: tuple[str, ...] = ()

    @property
    def files(self) -> Iterator[Path]:
        """The files that it is read from; its folder as well."""
        yield Path(self.path)
        yield from self.pages.values()
        yield from (Path(table.name) for tables in self.tables.values() for table in tables)

    @property
    def kind(self) -> str:
        """Of the source that it becomes."""
        return {BEIR: "retrieval", PAGES: "documents"}.get(self.layout) or LAYOUTS[self.layout].kind


def find_sets(path: Path, given: Described) -> tuple[list[FoundSet], list[str]]:
    """
    The sets under a file or folder, or of a data set of the hub, in a fixed order, each with a name of its own.

    Args:
        given: what the user said of them; it goes before what sources.toml says.

    Returns the sets, and notes on what else lies there and is not read.

    Raises UserError if the path does not exist, holds none, two sets would have one name, or `given` does not fit.
    """
    if str(path).startswith(HUB):
        found = [_hub_set(str(path), given)]
    else:
        if not path.exists():
            raise UserError(f"{path}: there is no such file or folder")
        check_files(path)
        found = list(_listed(path, given) if (path / MANIFEST).is_file() else _searched(path, given))
    left = unread(path, (file for each in found for file in each.files)) if path.is_dir() else []
    if not found:
        raise UserError(
            "; ".join([f"{path}: nothing here can be read", *left, "see `synth ingest --help` for the layouts"])
        )
    if given.name and len(found) > 1:
        sets = few([Path(each.path).name for each in found])
        raise UserError(
            f"{path}: holds {len(found)} data sets ({sets}), and a name is for one; name them in {MANIFEST}, or ingest"
            " each"
        )
    names: dict[str, str] = {}
    for each in found:
        if not is_plain_name(each.about.name):
            raise UserError(
                f"{each.path}: {each.about.name!r:.120} is no name for a source; give it one, with --name or in"
                f" {MANIFEST}"
            )
        if each.about.name in names:
            raise UserError(
                f"{each.path}: would be named {each.about.name} like {names[each.about.name]}; name both in {MANIFEST}"
            )
        names[each.about.name] = each.path
    return [_instructed(each) for each in found], [f"{path}: {note}" for note in left]


def _instructed(found: FoundSet) -> FoundSet:
    """A set that is known by its name, with the instruction that is usual for it, unless the user said one."""
    usual = known_instruction(found.about.name, found.layout)
    if found.about.instruction or not usual or found.kind == "documents":
        return found
    note = f'its samples get the instruction "{usual}", as usual for {found.about.name}; sources.toml may say another'
    return replace(found, about=replace(found.about, instruction=usual), notes=(*found.notes, note))


def _listed(folder: Path, given: Described) -> Iterator[FoundSet]:
    manifest = folder / MANIFEST
    entries = read_toml(manifest)
    listed = {(folder / relative).resolve() for relative in entries}
    for relative, table in entries.items():
        about = record_of(Described, table, f"{manifest}: [{relative}]")
        for role, column in about.map.items():
            if not isinstance(column, str):
                raise UserError(f"{manifest}: [{relative}]: map: {role} must be the name of a column")
        path = folder / relative
        if not path.resolve().is_relative_to(folder.resolve()):
            raise UserError(f"{manifest}: {relative} leaves the folder; sets must be inside it")
        if not path.exists():
            raise UserError(f"{manifest}: {relative} does not exist; mend the path or take the entry out")
        found = list(_sets_at(path, _joined(about, given), listed))
        if not found:
            raise UserError(f"{path}: none of the layouts that can be ingested; see `synth ingest --help`")
        if len(found) > 1:
            raise UserError(f"{manifest}: {relative} holds {len(found)} sets; list each of them by its path")
        yield found[0]


def _joined(about: Described, given: Described) -> Described:
    said = {name: value for name in Described.__dataclass_fields__ if (value := getattr(given, name))}
    return replace(about, **said)


def _searched(path: Path, given: Described) -> Iterator[FoundSet]:
    if path.is_file():
        yield from _sets_at(path, given, frozenset())
        return
    yield from _documents(path, given, frozenset())
    for folder, files in folders_below(path):
        yield from _tables_of(folder, files, given)


def _sets_at(path: Path, about: Described, taken: Set[Path]) -> Iterator[FoundSet]:
    """What a file is; or the documents in a folder and below it, and the tables in it: but for those `taken`."""
    if path.is_dir():
        yield from _documents(path, about, taken)
        _, files = next(folders_below(path, taken))
        yield from _tables_of(path, files, about)
    elif is_document(path):
        yield FoundSet(str(path), PAGES, _named(path.stem, about), pages={path.name: path})
    elif table_suffix(path):
        yield _table_set([path], about)


def _documents(folder: Path, about: Described, taken: Set[Path]) -> Iterator[FoundSet]:
    """The documents in a folder and below it: one set, so that its passages are one corpus."""
    if pages := pages_below(folder, taken):
        yield FoundSet(str(folder), PAGES, _named(folder.resolve().name, about), pages=pages)


def _tables_of(folder: Path, files: Sequence[Path], about: Described) -> Iterator[FoundSet]:
    """The sets of a folder's own tables; a folder that `datasets` saved and a retrieval folder are one."""
    if is_saved(folder):
        yield _row_set(str(folder), saved_tables(folder), _named(folder.resolve().name, about))
    elif is_retrieval(files):
        yield _beir_set(folder, {table_stem(file): file for file in files if table_suffix(file)}, about)
    else:
        tables = [file for file in files if is_table(file)]
        if splits := [table for table in tables if split_of_file(table_stem(table))]:
            yield _table_set(splits, about)
        for table in tables:
            if table not in splits:
                yield _table_set([table], about)


def _named(name: str, about: Described) -> Described:
    return replace(about, name=about.name or name)


def _table_set(paths: Sequence[Path], about: Described) -> FoundSet:
    """A set of one file, or of the files of its splits."""
    path = paths[0]
    name = path.resolve().parent.name if split_of_file(table_stem(path)) else table_stem(path)
    where = path.parent if len(paths) > 1 else path
    tables, notes = [], []
    for each in paths:
        split = split_of_file(table_stem(each))
        if split is None and (word := held_out_word(table_stem(each))):
            split = word
            if not about.split:
                notes.append(
                    f"its file's name says `{word}`, so rows without a split are held out (unless --use train)"
                )
        tables.append(open_table(each, split=split))
    found = _row_set(str(where), tables, _named(name, about))
    if found.kind == "documents":  # they have no splits
        return found
    return replace(found, notes=(*notes, *found.notes))


def _row_set(path: str, tables: Sequence[Table], about: Described) -> FoundSet:
    layouts = {}
    for table in tables:
        layouts[recognise(table.name, table.columns, wanted=about.format, mapping=about.map)] = table.name
    if len(layouts) > 1:
        different = ", ".join(f"{table} is {layout}" for layout, table in layouts.items())
        raise UserError(f"{path}: its splits are of different layouts ({different}); ingest them one by one")
    layout = next(iter(layouts))
    said = OTHERWISE.get(layout) if not about.format else None
    return FoundSet(path, layout, about, {"rows": tables}, notes=(said,) if said else ())


def _beir_set(path: Path, stems: Mapping[str, Path], about: Described) -> FoundSet:
    _refuse_columns(path, about)
    if "qrels" in stems:
        judgements = [_open_judgements(stems["qrels"], split=None)]
    else:
        files = sorted(child for child in (path / "qrels").glob("*") if child.is_file() and table_suffix(child))
        judgements = [_open_judgements(child, split=table_stem(child)) for child in files]
    if not judgements:
        raise UserError(f"{path}: its corpus and queries need qrels.jsonl or qrels/SPLIT.tsv beside them")
    try:
        tables = {"corpus": [open_table(stems["corpus"])], "queries": [open_table(stems["queries"])]}
    except UserError as error:
        if str(error) == f"{stems['corpus']}: this file is empty":
            raise UserError(f"{stems['corpus']}: an empty corpus; there is nothing to search") from None
        raise
    named = _named(path.resolve().name, about)
    return FoundSet(str(path), BEIR, named, {**tables, "judgements": judgements})


def _refuse_columns(path: object, about: Described) -> None:
    if about.format or about.map:
        raise UserError(f"{path}: a retrieval folder has its own columns; leave --format and --map out")


def _open_judgements(path: Path, *, split: str | None) -> Table:
    if table_suffix(path) != ".tsv":
        return open_table(path, split=split)
    columns = ("query_id", "doc_id", "score")
    return Table(str(path), columns, lambda _: _judgement_rows(path), split)


def _judgement_rows(path: Path) -> Rows:
    """BEIR's qrels: three cells between tabs, no quotes; the first line may be a header."""
    with reading(path) as file:
        for number, line in lines_of(file):
            if isinstance(line, BadLine):
                yield number, line
                continue
            text = line.decode("utf-8-sig", errors="replace").rstrip("\r\n")
            cells = text.split("\t")
            if number == 1 and cells[0] in ("query-id", "query_id"):
                continue
            if len(cells) != 3 or not re.fullmatch(r"-?\d{1,300}(\.\d+)?", cells[2]):
                detail = f", not {text!r:.60}"
                yield number, BadLine("needs query-id, corpus-id and score between tabs", detail, text=text)
            else:
                yield number, {"query_id": cells[0], "doc_id": cells[1], "score": float(cells[2])}


def _hub_set(spec: str, given: Described) -> FoundSet:
    name, origin, tables = hub_tables(spec)
    about = replace(given, name=given.name or name, origin=given.origin or origin)
    if "corpus" in tables:
        _refuse_columns(spec, given)
        return FoundSet(spec, BEIR, about, tables)
    return _row_set(spec, tables["rows"], about)
