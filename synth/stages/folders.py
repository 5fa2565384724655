"""
What lies in a folder that is ingested: what may be read of it, which files are pages, and which no data set holds.

Hidden files and folders are passed over, and so are folders that are links (one may lead back) and Skiff workspaces.
"""

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence, Set
from pathlib import Path

from synth.records import UserError
from synth.settings import CONFIG, LAKE, STORE
from synth.stages.documents import READERS
from synth.stages.hugging_face import is_saved
from synth.stages.tables import is_table, table_stem, table_suffix
from synth.store.console import KEPT

MANIFEST = "sources.toml"
REPORT = "ingest-report-"  # of an import, in the workspace
ABOUT_THE_DATA = {"README", "LICENSE", "NOTICE", "ATTRIBUTION", "CHANGELOG"}  # no documents by themselves
SHOWN = 3  # names in a note
KINDS_SHOWN = 5


def check_files(root: Path) -> None:
    """
    Raise UserError for what must not be read: a file that is none (a pipe, a device), a link that leaves the folder,
    a name that no text can hold.
    """
    inside = root.resolve()
    for path in [root, *(sorted(root.rglob("*")) if root.is_dir() else ())]:
        if not str(path).isprintable():
            raise UserError(f"{str(path)!r}: the name of this file has characters that cannot be printed; rename it")
        if not (path.name == "qrels" if path.is_dir() else _is_read(path)):
            continue
        if path != root and path.is_symlink() and not Path(os.path.realpath(path)).is_relative_to(inside):
            raise UserError(f"{path}: a link that leaves the folder; put what it names here, or ingest its target")
        if not path.is_file() and not path.is_dir():
            raise UserError(f"{path}: not a regular file; take it away")


def _is_read(path: Path) -> bool:
    return path.suffix.lower() in (*READERS, ".arrow") or path.name == MANIFEST or bool(table_suffix(path))


def is_workspace(folder: Path) -> bool:
    """Whether a folder is a workspace of Skiff: it has settings and a store."""
    return (folder / CONFIG).is_file() and any((folder / name).exists() for name in (STORE, LAKE))


def folders_below(
    root: Path, taken: Set[Path] = frozenset(), *, into_retrieval: bool = False
) -> Iterator[tuple[Path, list[Path]]]:
    """
    A folder and those below it that are no workspaces, each with its files, in a fixed order. If the folder itself is
    a workspace, without what the workspace keeps there.

    Args:
        taken: resolved paths of files and folders that are passed over.
        into_retrieval: also what lies below the folder of a retrieval set; never below one that `datasets` saved.
    """
    below = [root]
    while below:
        folder = below.pop()
        children = sorted(child for child in folder.iterdir() if not child.name.startswith("."))
        if is_workspace(folder):
            children = [child for child in children if not _is_kept(child.name)]
        if taken:
            children = [child for child in children if child.resolve() not in taken]
        files = [child for child in children if child.is_file()]
        yield folder, files
        if not is_saved(folder) and (into_retrieval or not is_retrieval(files)):
            folders = [child for child in children if child.is_dir() and not child.is_symlink()]
            below += reversed([each for each in folders if not is_workspace(each)])


def _is_kept(name: str) -> bool:
    return name in KEPT or name.startswith((STORE, LAKE, REPORT))


def is_retrieval(files: Iterable[Path]) -> bool:
    """Whether the files of a folder make it a retrieval set: a corpus and queries."""
    return {"corpus", "queries"} <= {table_stem(file) for file in files if table_suffix(file)}


def is_document(path: Path) -> bool:
    """Whether a file is a document by its name."""
    return path.suffix.lower() in READERS


def pages_below(root: Path, taken: Set[Path]) -> dict[str, Path]:
    """
    The documents in a folder and below it, by their path within it: none of a retrieval set's or a saved data set's
    folder. A README or the like is left out where it tells of data sets, or if there is no other document.
    """
    pages: list[Path] = []
    with_data = {above for path in taken for above in path.parents}  # folders of data sets, and those above them
    for folder, files in folders_below(root, taken):
        whole = is_saved(folder) or is_retrieval(files)
        if whole or any(map(_is_data, files)):
            with_data |= {folder.resolve(), *folder.resolve().parents}
        if not whole:
            pages += filter(is_document, files)
    with_pages = {page.parent for page in pages if not _is_about(page)}

    def is_page(page: Path) -> bool:
        beside_a_page = not _is_about(page) or page.parent in with_pages
        return beside_a_page or (bool(with_pages) and page.parent.resolve() not in with_data)

    return {page.relative_to(root).as_posix(): page for page in pages if is_page(page)}


def _is_about(page: Path) -> bool:
    return page.stem.upper() in ABOUT_THE_DATA


def _is_data(path: Path) -> bool:
    try:
        return is_table(path)
    except UserError:  # a damaged .json.gz: whoever reads it says so
        return True


def unread(root: Path, used: Iterable[Path]) -> list[str]:
    """
    What lies in a folder and is not read, a phrase for each reason: files of no kind that is read, and what could be
    read and belongs to no data set that was found.

    Args:
        used: the files that are read, and the folders that `datasets` saved.
    """
    known = {path.resolve() for path in (*used, root / MANIFEST)}
    kinds: Counter[str] = Counter()
    left: list[str] = []
    for folder, files in folders_below(root, into_retrieval=True):
        for path in [folder] if is_saved(folder) else files:
            if path.resolve() in known:
                continue
            if path == folder or _is_data(path) or (is_document(path) and not _is_about(path)):
                left.append(path.relative_to(root).as_posix())
            elif not is_document(path):
                kinds[f"{path.suffix:.20}" or "without a suffix"] += 1
    notes = _passed_over(root)
    if kinds:
        shown = [f"{number} {kind}" for kind, number in sorted(kinds.items(), key=lambda item: (-item[1], item[0]))]
        notes.append(f"{_files(kinds.total())} of no kind that is read ({few(shown, KINDS_SHOWN)})")
    if left and (root / MANIFEST).is_file():
        notes.append(f"{_files(len(left))} part of no entry of {MANIFEST} ({few(left)})")
    elif left:
        notes.append(f"{_files(len(left))} left out: in a retrieval set's folder and no part of it ({few(left)})")
    return notes


def _passed_over(root: Path) -> list[str]:
    """A phrase on the workspace that a folder is, and one on those below it."""
    found = [
        child.relative_to(root).as_posix()
        for folder, _ in folders_below(root, into_retrieval=True)
        for child in sorted(folder.iterdir())
        if not child.name.startswith(".") and not child.is_symlink() and is_workspace(child)
    ]
    notes = ["this folder is a Skiff workspace; what it keeps itself is passed over"] if is_workspace(root) else []
    if found:
        several = "1 Skiff workspace is" if len(found) == 1 else f"{len(found)} Skiff workspaces are"
        notes.append(f"{several} passed over ({few(found)})")
    return notes


def _files(number: int) -> str:
    return "1 file is" if number == 1 else f"{number} files are"


def few(names: Sequence[str], shown: int = SHOWN, *, of: int | None = None) -> str:
    """The first of some names, and how many more there are, `of` so many in all (as many as names, if left out)."""
    more = (len(names) if of is None else of) - shown
    return ", ".join(names[:shown]) + (f" and {more} more" if more > 0 else "")
