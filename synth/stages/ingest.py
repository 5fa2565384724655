"""
Ingest: files on disk, or data sets of the Hugging Face hub, become sources, passages and samples.

Everything is read and checked before anything is stored: rows wait in files beside the store, not in memory. One broken
line, and nothing of the path is kept; or, where the user says so, the line is left out and reported.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from synth.records import Source, Task, Use, UserError
from synth.stages.folders import MANIFEST, REPORT
from synth.stages.intake import SetRead, read_set
from synth.stages.layouts import Described, FoundSet, find_sets
from synth.stages.splits import use_of_split
from synth.stages.spool import LeftOut, OnError, spool_folder
from synth.store import bulk, runs, sources, versions
from synth.store.connection import Store
from synth.store.console import refuse_output
from synth.store.scratch import scratch

if TYPE_CHECKING:
    import pyarrow

LEASE_BYTES = 128 << 20  # of rows stored in one lease, if they are not ROWS_PER_LEASE before
TASKS = {"retrieval": Task.RETRIEVAL, "pairs": Task.STS, "labelled": Task.CLASSIFICATION}


@dataclass(frozen=True)
class Ingested:
    """What one split of one set brought: how many passages and samples were read, and how many of them are new."""

    name: str
    split: str
    declared_use: Use
    kind: str
    num_passages: int
    num_samples: int
    num_new: int


@dataclass(frozen=True)
class Outcome:
    """What came in, and what was left out: lines by reason, and the file that lists them."""

    sources: list[Ingested]
    left_out: dict[str, int]
    report: Path | None
    notes: list[str]


@dataclass(frozen=True)
class Checked:
    """Sets that were read and are well, and wait to be stored."""

    sets: list[SetRead]
    notes: list[str]  # on what lies beside them and is not read
    left_out: LeftOut
    config: dict[str, Any]
    declared_use: Use | None
    report: Path | None

    @property
    def num_rows(self) -> int:
        """How many passages and samples there are to store."""
        return sum(each.num_passages + sum(each.splits.values()) for each in self.sets)


def ingest(store: Store, path: Path, *, declared_use: Use | None, on_progress: Callable[[int], None]) -> Outcome:
    """Read every set under `path` and store what is new; `read_checked` and `store_checked` in one, without options."""
    with read_checked(store, path, declared_use=declared_use, on_progress=on_progress) as checked:
        return store_checked(store, checked, on_progress=lambda _: None)


@contextmanager
def read_checked(
    store: Store,
    path: Path,
    *,
    declared_use: Use | None,
    on_progress: Callable[[int], None],
    given: Described = Described(),  # noqa: B008 - frozen, and its one field that is not is only read
    on_error: OnError = OnError.REFUSE,
    report: Path | None = None,
) -> Iterator[Checked]:
    """
    Read every set under `path` into files that last as long as the block, and check them. Nothing is stored yet.

    Args:
        path: a file or folder, or hf:OWNER/NAME[:CONFIG] for a data set of the Hugging Face hub.
        declared_use: of all rows; None takes it from each row's split (test, dev, validation and the like are held
            out). A retrieval corpus whose queries are all held out is held out as well.
        on_progress: called with numbers of rows read.
        given: what the user says of the sets: names of columns, a split, a layout, a name, a licence.
        on_error: REFUSE raises at the first broken line, SKIP leaves it out.
        report: where to list what was left out; None: beside the store, if anything was.

    Raises UserError, naming file, line and remedy, for what cannot be read; SkiffError if the hub cannot be reached.
    """
    if report is not None:
        _check_report(report, on_error, store)
    found, notes = find_sets(path, given)
    _check_kinds(store, found)
    with (
        spool_folder(store.path.parent) as folder,
        closing(LeftOut(folder, on_error)) as left_out,
    ):
        sets = []
        for number, each in enumerate(found):
            (folder / str(number)).mkdir()
            sets.append(read_set(each, folder / str(number), left_out, on_progress))
        checked = Checked(sets, notes, left_out, _config(path, declared_use, given, on_error), declared_use, report)
        if not checked.num_rows:
            raise _nothing(path, checked)
        yield checked


def _check_report(report: Path, on_error: OnError, store: Store) -> None:
    """Raise UserError unless the report can be written there when all is stored."""
    if on_error is OnError.REFUSE:
        raise UserError("a report lists what was left out: add --on-error skip, or leave --report out")
    refuse_output(report, store)
    if os.path.lexists(report):
        raise UserError(f"{report}: is there already; name another file with --report")
    if not report.parent.is_dir():
        raise UserError(f"{report}: its folder does not exist; make it first")
    if not os.access(report.parent, os.W_OK | os.X_OK):
        raise UserError(f"{report}: its folder cannot be written; name a file in another one with --report")


def _check_kinds(store: Store, found: Iterable[FoundSet]) -> None:
    kinds = sources.kinds(store)
    for each in found:
        name = each.about.name
        if kinds.get(name, each.kind) != each.kind:
            raise UserError(
                f"{each.path}: {name} is the name of {kinds[name]} in this store, and this is {each.kind}; give it"
                f" another name, with --name or in {MANIFEST}"
            )


def _config(path: Path, declared_use: Use | None, given: Described, on_error: OnError) -> dict[str, Any]:
    said = {key: value for key, value in asdict(given).items() if value}
    return {"path": str(path), "declared_use": declared_use, "on_error": on_error, **said}


def _nothing(path: Path, checked: Checked) -> UserError:
    counts = checked.left_out.counts
    if not counts:
        return UserError(f"{path}: holds no row that could be stored")
    if checked.report is not None:
        checked.left_out.put(checked.report)
    [(reason, number)] = counts.most_common(1)
    if counts.total() == 1:
        return UserError(f"{path}: its only line was left out: {reason}")
    return UserError(f"{path}: all {counts.total()} lines were left out; {number} of them: {reason}")


def store_checked(store: Store, checked: Checked, *, on_progress: Callable[[int], None]) -> Outcome:
    """
    Store what is new of the sets that were read: in many leases, so that others come in between.

    Stopped in the middle, it stores the rest when the same is ingested again: the report comes last, so that it is not
    in the way. `on_progress` is called with numbers of rows stored. Raises UserError if the report's file came into
    being meanwhile: all rows are stored then.
    """
    results: list[Ingested] = []
    notes = checked.notes + [note for each in checked.sets for note in each.notes]
    with runs.recorded(store, "ingest", checked.config) as run:
        for each in checked.sets:
            name = each.found.about.name
            earlier = versions.earlier_version(store, name, each.version)
            before = versions.earlier_version(store, name, "")  # in any version, this one too
            alone = each.found.kind not in sources.kinds(store).values()
            added = list(_store_set(store, each, checked.declared_use, run, on_progress))
            results += added
            notes += _told(name, added, earlier=earlier, before=before, alone=alone)
        run.count(left_out=checked.left_out.counts.total())
    report = checked.report
    if report is None and checked.left_out.counts:
        report = store.path.parent / f"{REPORT}{run.run_id}.jsonl"
    if report is not None:
        checked.left_out.put(report)
    return Outcome(results, dict(checked.left_out.counts), report, notes)


def _told(
    name: str, added: list[Ingested], *, earlier: datetime | None, before: datetime | None, alone: bool
) -> Iterator[str]:
    """
    What was not new of a data set, and why.

    Args:
        earlier: when another version of it came; `before`: when it came in any version, this one too.
        alone: whether no data set of its kind was in the store.
    """
    if not added:
        yield f"{name}: holds no row that could be stored"
        return
    parts, num_known = [], {}
    for what in ("samples", "passages"):
        of_kind = [each for each in added if getattr(each, f"num_{what}")]
        number, num_new = sum(getattr(each, f"num_{what}") for each in of_kind), sum(each.num_new for each in of_kind)
        parts += [f"{num_new} of {number} {what} are new"] if number else []
        num_known[what] = number - num_new
    new = " and ".join(parts)
    keep = "; samples that are known keep the source, and so the licence, that they came with"
    keep = keep if num_known["samples"] else ""
    elsewhere = "" if alone else f", or came with another data set{keep}"
    if earlier is not None:
        yield f"{name}: an earlier version is there, of {earlier.date()}; {new}, and what only that one has stays{keep}"
    elif before is not None and any(num_known.values()):
        yield f"{name}: ingested before, on {before.date()}; {new}"
    elif any(num_known.values()):
        yield f"{name}: {new}; the others are repeated in it{elsewhere}"


def _store_set(
    store: Store, each: SetRead, declared_use: Use | None, run: runs.Run, on_progress: Callable[[int], None]
) -> Iterator[Ingested]:
    about = each.found.about

    def source(split: str, use: Use) -> Source:
        origin = about.origin or each.found.path
        return Source(about.name, split, use, each.found.kind, origin, about.licence, each.version)

    uses = {split: declared_use or use_of_split(split) for split in each.splits}
    with scratch(each.folder) as files:
        if each.num_passages:
            only_held_out = bool(uses) and all(use is Use.EVAL for use in uses.values())
            corpus = source("corpus", declared_use or (Use.EVAL if only_held_out else Use.TRAIN))
            num_new = _store_passages(store, corpus, files.passages(), run, on_progress)
            run.count(passages=num_new)
            yield _ingested(corpus, each.num_passages, 0, num_new)
        for split, number in each.splits.items():
            part = source(split, uses[split])
            num_new = _store_samples(store, part, files.samples(split), run, on_progress)
            run.count(samples=num_new)
            yield _ingested(part, 0, number, num_new)


def _ingested(source: Source, num_passages: int, num_samples: int, num_new: int) -> Ingested:
    return Ingested(source.name, source.split, source.declared_use, source.kind, num_passages, num_samples, num_new)


def _store_passages(
    store: Store, source: Source, tables: "Iterator[pyarrow.Table]", run: runs.Run, on_progress: Callable[[int], None]
) -> int:
    num_new = 0
    for table in _slices(tables):
        with store.write() as cursor:
            sources.add_source(cursor, source, run.run_id)
            fresh = versions.without_known_passages(cursor, table, source)
            if fresh.num_rows:
                num_new += bulk.add_passage_rows(cursor, fresh, source_id=source.source_id)
        on_progress(table.num_rows)
    return num_new


def _store_samples(
    store: Store, source: Source, tables: "Iterator[pyarrow.Table]", run: runs.Run, on_progress: Callable[[int], None]
) -> int:
    num_new = 0
    for table in _slices(tables):
        with store.write() as cursor:
            sources.add_source(cursor, source, run.run_id)
            task = TASKS[source.kind]
            added = bulk.add_rows(cursor, task, table, source_id=source.source_id, run_id=run.run_id)
            num_new += added.num_new
        on_progress(table.num_rows)
    return num_new


def _slices(tables: "Iterator[pyarrow.Table]") -> "Iterator[pyarrow.Table]":
    """The same rows in tables as large as one lease should take."""
    import pyarrow

    held: list[pyarrow.Table] = []
    num_rows = num_bytes = 0
    for table in tables:
        held.append(table)
        num_rows += table.num_rows
        num_bytes += table.nbytes
        if num_rows >= bulk.ROWS_PER_LEASE or num_bytes >= LEASE_BYTES:
            yield pyarrow.concat_tables(held)
            held, num_rows, num_bytes = [], 0, 0
    if held:
        yield pyarrow.concat_tables(held)
