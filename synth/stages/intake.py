"""
One data set, from its tables to spooled files: every row is read, checked and written, a few at a time.

What must hold between rows (ids that are unique, judgements of passages that are there) is asked of a scratch database
when all rows are in.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from itertools import groupby
from operator import itemgetter
from pathlib import Path, PurePath
from typing import Any

from synth.records import Use, UserError, is_plain_name, key_of
from synth.stages.conversions import CONVERSIONS, gathered_claims
from synth.stages.documents import READERS as CUTTERS
from synth.stages.documents import cut_document, decode_document
from synth.stages.folders import SHOWN, few
from synth.stages.formats import CORPUS, JUDGED, JUDGEMENTS, LAYOUTS, NUMBERED, QUERIES, Layout
from synth.stages.layouts import BEIR, PAGES, FoundSet
from synth.stages.lines import BadLine, Row
from synth.stages.rows import (
    Reader,
    Text,
    is_blank,
    is_judged_zero,
    label_of,
    passage_of,
    reader_of,
    row_text,
    score_of,
    tuple_of,
)
from synth.stages.splits import use_of_split
from synth.stages.spool import JUDGEMENTS as JUDGEMENT_COLUMNS
from synth.stages.spool import PASSAGES as PASSAGE_COLUMNS
from synth.stages.spool import QUERIES as QUERY_COLUMNS
from synth.stages.spool import SAMPLE_ORIGIN, SAMPLES, LeftOut, Spool
from synth.stages.tables import Table
from synth.store.scratch import Scratch, scratch

MAX_SPLITS = 200  # of one data set: each becomes a source
MAX_PAGE = 16 << 20  # bytes of one document
TICK = 1000  # rows between two words of progress

# What is said of one and of several.
CONTRADICTORY = (
    "negative that repeats a positive of its query was left out",
    "negatives that repeat a positive of their query were left out",
)
ZERO = (
    "row has a label or score of 0, and is a pair that matches all the same: if 0 means no match, take it out, or read"
    " scored pairs with --format pairs",
    "rows have a label or score of 0, and are pairs that match all the same: if 0 means no match, take them out, or"
    " read scored pairs with --format pairs",
)
FURTHER = (
    "conversation goes on after the first question and its answer, which alone are read",
    "conversations go on after the first question and its answer, which alone are read",
)
UNANSWERED = "query without a positive passage was passed over", "queries without a positive passage were passed over"
UNASKED = (
    "judgement of a query that is not there was passed over",
    "judgements of queries that are not there were passed over",
)
GRADED = (
    "grade above 1 counts as 1: it says which passage answers, not how well",
    "grades above 1 count as 1: they say which passages answer, not how well",
)


@dataclass(frozen=True)
class SetRead:
    """A set that was read and is well; its spooled files are in `folder`."""

    found: FoundSet
    folder: Path
    version: str
    num_passages: int
    splits: Mapping[str, int]  # split -> number of samples
    notes: tuple[str, ...]


@dataclass
class Intake:
    """A set that is being read."""

    found: FoundSet
    folder: Path
    left_out: LeftOut
    on_progress: Callable[[int], None]
    spools: list[Spool] = field(default_factory=list)
    notes: Counter[tuple[str, str]] = field(default_factory=Counter)  # what is said of one, of several -> how many
    said: list[str] = field(default_factory=list)  # other notes
    _splits: set[str] = field(default_factory=set)

    def rows(self, tables: Iterable[Table], layout: Layout, take: Callable[["Origin", Reader, Row], None]) -> None:
        """Give every row of these tables to `take`; what it (or the reading) calls a BadLine is left out."""
        about, num_read = self.found.about, 0
        for number, table in enumerate(tables):
            reader = reader_of(layout, about.map, table.classes)
            wanted = (*reader.columns, *filter(NUMBERED.fullmatch, table.columns), *JUDGED)
            rows = table.rows(wanted)
            for line, row in gathered_claims(reader, rows) if self.found.layout == "claims" else rows:
                num_read += 1
                if num_read % TICK == 0:
                    self.on_progress(TICK)
                if isinstance(row, BadLine):
                    self.left_out.add(table.name, line, row, "")
                    continue
                try:
                    take(Origin(table.name, table.split, number, line), reader, row)
                except BadLine as bad:
                    self.left_out.add(table.name, line, bad, row_text(row))
        self.on_progress(num_read % TICK)

    def split_of(self, origin: "Origin", reader: Reader, row: Row) -> str | None:
        """The split of a row: as the user said, else its own, else its table's. Raises BadLine if it is no name."""
        value = self.found.about.split or reader.value(row, "split")
        if value is None or (isinstance(value, str) and not value.strip()):  # as a table leaves a cell empty
            value = origin.split
        if value is None:
            return None
        if not isinstance(value, str) or not is_plain_name(value.strip()):
            raise BadLine("`split` must be a short text", f", not {value!r:.60}")
        split = value.strip()
        self._splits.add(split)
        if len(self._splits) > MAX_SPLITS:
            raise UserError(
                f"{origin.name}:{origin.line}: the {MAX_SPLITS + 1}th different split, {split!r:.60}; if this column is"
                " no split, give all rows one with --split"
            )
        return split

    def instruction_of(self, reader: Reader, row: Row) -> str:
        """The instruction of a row, else the set's."""
        return reader.optional(row, "instruction") or self.found.about.instruction


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a row was read."""

    name: str  # of the table
    split: str | None  # of the table
    number: int  # of the table within the set
    line: int


def read_set(found: FoundSet, folder: Path, left_out: LeftOut, on_progress: Callable[[int], None]) -> SetRead:
    """
    Read and check one set into spooled files in `folder`.

    Args:
        left_out: told of every line that cannot be used; unless it skips, the first is an error.
        on_progress: called with numbers of rows read.

    Raises UserError, naming file, line and remedy, for what cannot be read.
    """
    intake = Intake(found, folder, left_out, on_progress)
    about = found.about
    READERS[BEIR if found.layout == BEIR else found.kind](intake)
    with scratch(folder) as files:
        num_passages = files.count_passages() if (folder / "passages.parquet").exists() else 0
        splits = files.splits() if (folder / "samples.parquet").exists() else {}
    counted = (f"{number} {one if number == 1 else many}" for (one, many), number in intake.notes.items() if number)
    notes = tuple(f"{about.name}: {note}" for note in (*found.notes, *intake.said, *counted))
    return SetRead(found, folder, _version(intake), num_passages, splits, notes)


def _version(intake: Intake) -> str:
    """A hash of all that was read, and of what was said of it, but not of where it lies."""
    about = intake.found.about
    said = (about.licence, about.origin, about.instruction, intake.found.kind)
    return key_of(*said, *(spool.digest() for spool in intake.spools)).hex[:16]


def _read_tuples(intake: Intake) -> None:
    converted = CONVERSIONS.get(intake.found.layout, tuple_of)
    with ExitStack() as stack:
        samples = _spool(stack, intake, "samples", {**SAMPLE_ORIGIN, **SAMPLES["retrieval"]})

        def take(origin: Origin, reader: Reader, row: Row) -> None:
            found = converted(reader, row)
            if found is None:
                intake.notes[UNANSWERED] += 1
                return
            head = intake.split_of(origin, reader, row) or "train", reader.key(row), intake.instruction_of(reader, row)
            positives, negatives = ([each.text for each in texts] for texts in (found.positives, found.negatives))
            size = sum(map(len, (*head, found.query, *positives, *negatives)))
            samples.add(*head, found.query, positives, negatives, characters=size)
            intake.notes[CONTRADICTORY] += found.num_contradictory
            intake.notes[ZERO] += not found.negatives and is_judged_zero(row)
            intake.notes[FURTHER] += found.has_more

        intake.rows(intake.found.tables["rows"], LAYOUTS[intake.found.layout], take)


def _read_pairs(intake: Intake) -> None:
    with ExitStack() as stack:
        samples = _spool(stack, intake, "samples", {**SAMPLE_ORIGIN, **SAMPLES["pairs"]})

        def take(origin: Origin, reader: Reader, row: Row) -> None:
            values = reader.text(row, "text1"), reader.text(row, "text2"), score_of(reader, row)
            head = intake.split_of(origin, reader, row) or "train", reader.key(row), intake.instruction_of(reader, row)
            samples.add(*head, *values, characters=sum(map(len, (*head, *values[:2]))))

        intake.rows(intake.found.tables["rows"], LAYOUTS[intake.found.layout], take)


def _read_labelled(intake: Intake) -> None:
    with ExitStack() as stack:
        samples = _spool(stack, intake, "samples", {**SAMPLE_ORIGIN, **SAMPLES["labelled"]})

        def take(origin: Origin, reader: Reader, row: Row) -> None:
            values = reader.text(row, "text"), label_of(reader, row)
            head = intake.split_of(origin, reader, row) or "train", reader.key(row), intake.instruction_of(reader, row)
            samples.add(*head, *values, characters=sum(map(len, (*head, *values))))

        intake.rows(intake.found.tables["rows"], LAYOUTS[intake.found.layout], take)


def _read_documents(intake: Intake) -> None:
    """Documents, cut into passages along their headings and paragraphs."""
    empty: list[str] = []  # the first documents that hold no text
    num_empty = 0
    with ExitStack() as stack:
        passages = _spool(stack, intake, "passages", PASSAGE_COLUMNS)

        def take(origin: Origin, reader: Reader, row: Row) -> None:
            path, title, text = reader.optional(row, "path"), reader.optional(row, "title"), reader.text(row, "text")
            suffix = PurePath(path).suffix.lower()
            name = path or f"{PurePath(origin.name).name}:{origin.line}"
            add(origin, text, suffix if suffix in CUTTERS else ".txt", name, title)

        def add(origin: Origin, text: str, suffix: str, name: str, title: str = "") -> None:
            nonlocal num_empty
            cuts = cut_document(text, suffix=suffix)
            if not cuts:
                num_empty += 1
                empty.extend([name] if num_empty <= SHOWN else [])
            for number, cut in enumerate(cuts, start=1):
                headings = cut.title if cut.title.startswith(title) else f"{title} > {cut.title}"
                passage = passage_of(headings if cut.title else title, cut.body, f"{name}#{number}")
                _add_passage(passages, origin, passage)

        if intake.found.layout != PAGES:
            intake.rows(intake.found.tables["rows"], LAYOUTS["documents"], take)
        for number, (name, path) in enumerate(intake.found.pages.items()):
            try:
                add(Origin(str(path), None, number, 0), _page(path), path.suffix, name)
            except BadLine as bad:
                intake.left_out.add(str(path), None, bad, "")
            intake.on_progress(1)
    if not passages.num_rows and not intake.left_out.counts:
        raise UserError(f"{intake.found.path}: its documents hold no text to make passages of")
    if num_empty:
        documents = "1 document holds" if num_empty == 1 else f"{num_empty} documents hold"
        intake.said.append(f"{documents} no text but headings, and gave no passage: {few(empty, of=num_empty)}")


def _page(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_PAGE + 1)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    if len(data) > MAX_PAGE:
        raise BadLine(f"a document of more than {MAX_PAGE >> 20} MiB; cut it into several")
    decoded = decode_document(data, suffix=path.suffix)
    if decoded is None:
        raise BadLine("neither UTF-8 nor UTF-16; convert the file first, or move it away")
    return decoded


def _read_beir(intake: Intake) -> None:
    """
    A corpus, queries and judgements. A judgement of grade 0 or less is no positive; a query without a positive is
    passed over. A query's split is its own, else that of its judgements, of which one that is held out counts.
    """
    tables = intake.found.tables
    with ExitStack() as stack:
        passages = _spool(stack, intake, "passages", PASSAGE_COLUMNS)
        queries = _spool(stack, intake, "queries", QUERY_COLUMNS)
        judgements = _spool(stack, intake, "judgements", JUDGEMENT_COLUMNS)

        def take_passage(origin: Origin, reader: Reader, row: Row) -> None:
            key, title = reader.needed_key(row, "id"), reader.optional(row, "title")
            if is_blank(reader.optional(row, "text")) and not is_blank(
                title
            ):  # of some passages BEIR has the title alone
                passage = passage_of("", title, key)
            else:
                passage = passage_of(title, reader.text(row, "text"), key)
            _add_passage(passages, origin, passage)

        def take_query(origin: Origin, reader: Reader, row: Row) -> None:
            key, query = reader.needed_key(row, "id"), reader.text(row, "text")
            split = intake.split_of(replace(origin, split=None), reader, row)  # `queries`, where the hub has them
            _add(queries, origin, key, query, split, characters=len(key) + len(query))

        def take_judgement(origin: Origin, reader: Reader, row: Row) -> None:
            key, passage = reader.needed_key(row, "query"), reader.needed_key(row, "passage")
            grade = 1.0 if reader.value(row, "score") is None else reader.number(row, "score")
            split = intake.split_of(origin, reader, row)
            _add(judgements, origin, key, passage, grade, split, characters=len(key) + len(passage))

        intake.rows(tables["corpus"], CORPUS, take_passage)
        if not passages.num_rows:
            raise UserError(f"{tables['corpus'][0].name}: an empty corpus; there is nothing to search")
        intake.rows(tables["judgements"], JUDGEMENTS, take_judgement)
        intake.rows(tables["queries"], QUERIES, take_query)
    with scratch(intake.folder) as files:
        _check_ids(intake, files)
        _join(intake, files)


def _check_ids(intake: Intake, files: Scratch) -> None:
    tables = intake.found.tables
    for name, part in (("passages", "corpus"), ("queries", "queries")):
        repeated = False
        for row in files.repeated(name):
            repeated = True
            key = row["external_id"]
            bad = BadLine("an id that is taken by an earlier line", f": the id {key} is taken; ids must be unique")
            intake.left_out.add(tables[part][row["file"]].name, row["line"], bad, key)
        if repeated:
            files.keep_first(name)
    for row in files.unknown_passages():
        key = row["passage"]
        remedy = f": the passage {key} is not in corpus; take the line out or add the passage"
        bad = BadLine("a judgement of a passage that is not there", remedy)
        intake.left_out.add(tables["judgements"][row["file"]].name, row["line"], bad, f"{row['external_id']}\t{key}")


def _join(intake: Intake, files: Scratch) -> None:
    """Make samples of the queries and of the texts that answer them."""
    held_out = [split for split in files.judged_splits() if use_of_split(split) is Use.EVAL]
    with ExitStack() as stack:
        samples = _spool(stack, intake, "samples", {**SAMPLE_ORIGIN, **SAMPLES["retrieval"]})
        for _, rows in groupby(files.answered(held_out), key=itemgetter("place")):
            query, *others = rows
            positives = list(dict.fromkeys(row["text"] for row in (query, *others)))
            head = query["split"] or "train", query["external_id"], intake.found.about.instruction
            size = sum(map(len, (*head, query["query"], *positives)))
            samples.add(*head, query["query"], positives, [], characters=size)
    intake.notes[UNANSWERED] += files.count_unanswered()
    intake.notes[UNASKED] += files.count_unasked()
    intake.notes[GRADED] += files.count_graded()


def _spool(stack: ExitStack, intake: Intake, name: str, columns: Mapping[str, str]) -> Spool:
    spool = Spool(intake.folder / f"{name}.parquet", columns)
    stack.callback(spool.close)
    intake.spools.append(spool)
    return spool


def _add(spool: Spool, origin: Origin, *values: Any, characters: int) -> None:
    spool.add(spool.num_rows, origin.number, origin.line, *values, characters=characters)


def _add_passage(spool: Spool, origin: Origin, passage: Text) -> None:
    values = passage.external_id, passage.text, passage.title
    _add(spool, origin, *values, characters=len(passage.external_id) + len(passage.text))


READERS: dict[str, Callable[[Intake], None]] = {
    BEIR: _read_beir,
    "retrieval": _read_tuples,
    "pairs": _read_pairs,
    "labelled": _read_labelled,
    "documents": _read_documents,
}
