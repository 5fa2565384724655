"""Samples to look at: which ones a filter keeps, a page of them at a time, and one of them whole. docs/explore.md."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from datetime import datetime
from enum import StrEnum
from typing import Any, NamedTuple
from uuid import UUID

import duckdb
import pyarrow

from synth.records import UserError
from synth.store.cards import Card, Chosen, read_cards
from synth.store.connection import Store
from synth.store.queues import FLAGGED
from synth.store.rows import first, readable

PAGE_SIZE = 50
MOST_PAGES = 100  # DuckDB sorts more than it skips: far behind these a page takes half a second at a million samples
LONGEST_ASKED = 200  # characters of a text that is looked for: of thousands, one search takes half a minute
LONGEST_SHOWN = 300  # characters of a text in a row of the list


class Sorting(StrEnum):
    """What comes first."""

    SUSPICION = "suspicion"
    HARDNESS = "hardness"
    NEWEST = "newest"


class Flagged(StrEnum):
    """Who flagged it: people (or they disagree), so that an adjudicator is asked; or mining, one of its negatives."""

    PEOPLE = "for an adjudicator"
    MINING = "by mining"


ORDERS = {
    Sorting.SUSPICION: "st.priority DESC NULLS LAST, st.hardness DESC NULLS LAST, st.sample_id",
    Sorting.HARDNESS: "st.hardness DESC NULLS LAST, st.sample_id",
    Sorting.NEWEST: "st.revision_id DESC",  # ids are ordered by time
}
# Conditions by the name of what they compare with; each is asked of narrow columns.
CONDITIONS = {
    "task": "st.task = $task",
    "source": "st.source_id IN (SELECT s.source_id FROM source s WHERE s.name = $source)",
    "operation": "st.operation = $operation",
    "status": "st.status = $status",
    "decided_by": "contains(', ' || st.decided_by || ', ', ', ' || $decided_by || ', ')",
    "difficulty": "st.difficulty = $difficulty",
    "suspicious_above": "st.priority > $suspicious_above",
}
# The options make the regular expression a plain text, in upper or lower case: faster than ILIKE by a half.
OF_REVISION = {
    "text": " OR ".join(
        f"regexp_matches(r.{name}, $text, 'il')" for name in ("query", "text1", "text2", "text", "label")
    ),
    "model": "r.model = $model",
    "prompt": "r.prompt_version = $prompt",
}
FLAGGED_BY = {
    Flagged.PEOPLE: "st.adjudication IS NOT NULL",
    Flagged.MINING: f"st.revision_id IN ({FLAGGED})",
}

HEAD_TEXTS = "st.sample_id::VARCHAR AS sample_id, st.revision_id::VARCHAR AS revision_id"
STATES = "SELECT st.sample_id, st.revision_id, st.priority, st.hardness FROM sample_state st"


@dataclass(frozen=True, slots=True)
class Filter:
    """Which samples to train on are kept; what is empty or None keeps all. docs/explore.md says what each compares."""

    text: str = ""
    task: str | None = None
    source: str | None = None
    operation: str | None = None
    status: str | None = None
    decided_by: str | None = None
    model: str | None = None
    prompt: str | None = None
    flagged: Flagged | None = None
    difficulty: int | None = None
    suspicious_above: float | None = None

    def in_words(self) -> str:
        """For a note, such as `task sts, text contains "rain"`."""
        said = [
            f"{name.replace('_', ' ')} {value}"
            for name in (
                "task",
                "source",
                "operation",
                "status",
                "decided_by",
                "model",
                "prompt",
                "flagged",
                "difficulty",
            )
            if (value := getattr(self, name)) is not None
        ]
        if self.suspicious_above is not None:
            said.append(f"suspicious above {self.suspicious_above:g}")
        if self.text:
            said.append(f'text contains "{self.text}"')
        return ", ".join(said) or "all samples"

    @property
    def condition(self) -> str:
        """Of `sample_state` as `st`, with the values of `asked` bound."""
        asked = self.asked
        parts = ["st.declared_use = 'train'", *(sql for name, sql in CONDITIONS.items() if name in asked)]
        if self.flagged is not None:
            parts.append(FLAGGED_BY[self.flagged])
        if of_revision := [f"({sql})" for name, sql in OF_REVISION.items() if name in asked]:
            parts.append(f"st.revision_id IN (SELECT r.revision_id FROM revision r WHERE {' AND '.join(of_revision)})")
        return " AND ".join(parts)

    @property
    def is_of_revision(self) -> bool:
        """Whether a wide table must be scanned to know what is kept."""
        return not OF_REVISION.keys().isdisjoint(self.asked) or self.flagged is Flagged.MINING

    @property
    def asked(self) -> dict[str, Any]:
        """What is compared with, by name."""
        return {
            name: value
            for name in (*CONDITIONS, *OF_REVISION)
            if (value := self._value(name)) is not None and value != ""
        }

    def _value(self, name: str) -> Any:
        value = getattr(self, name)
        return value[:LONGEST_ASKED] if isinstance(value, str) else value


class Head(NamedTuple):
    """A sample at its latest revision."""

    sample_id: UUID
    revision_id: UUID


@dataclass(frozen=True, slots=True)
class Listed:
    """A sample in a list. Texts are cut to their beginning; `other` is its positive, second text or label."""

    head: Head
    text: str
    other: str
    task: str
    source: str
    operation: str
    status: str
    decided_by: str | None
    priority: float | None
    hardness: float | None
    difficulty: int | None
    num_negatives: int
    nearness: float | None = None  # the cosine with the sample that it is like


@dataclass(frozen=True, slots=True)
class Page:
    """A page of what a filter keeps, and how many samples that is."""

    num_samples: int
    listed: tuple[Listed, ...]

    @property
    def num_pages(self) -> int:
        """How many pages can be turned to, at least one."""
        return max(1, min(MOST_PAGES, -(-self.num_samples // PAGE_SIZE)))


def page_of(store: Store, kept: Filter, sorting: Sorting, number: int) -> Page:
    """
    The page of this number, from 1; of a page that there is not, the last one.

    What is kept and in which order is decided on narrow columns alone; the texts are read for one page.
    """
    with store.read() as cursor:
        if kept.is_of_revision:  # texts are scanned once, for all that is asked
            cursor.execute(f"CREATE OR REPLACE TEMP TABLE kept AS {STATES} WHERE {kept.condition}", kept.asked)
            chosen, asked = "kept st", {}
        else:
            chosen, asked = f"sample_state st WHERE {kept.condition}", kept.asked
        row = first(cursor.execute(f"SELECT count(*) FROM {chosen}", asked))
        found = Page(row[0] if row else 0, ())
        offset = PAGE_SIZE * (max(1, min(number, found.num_pages)) - 1)
        heads = cursor.execute(
            f"SELECT st.sample_id, st.revision_id FROM {chosen} ORDER BY {ORDERS[sorting]}"
            f" LIMIT {PAGE_SIZE} OFFSET {offset}",
            asked,
        ).fetchall()
        return Page(found.num_samples, tuple(_listed(cursor, [Head(*each) for each in heads])))


def num_kept(store: Store, kept: Filter) -> int:
    """How many samples a filter keeps."""
    with store.read() as cursor:
        row = first(cursor.execute(f"SELECT count(*) FROM sample_state st WHERE {kept.condition}", kept.asked))
    return row[0] if row else 0


def listed(store: Store, near: Sequence[tuple[Head, float]]) -> list[Listed]:
    """These samples in this order, each with how near it is."""
    with store.read() as cursor:
        found = _listed(cursor, [head for head, _ in near])
    nearness = dict(near)
    return [replace(each, nearness=nearness[each.head]) for each in found]


def _listed(cursor: duckdb.DuckDBPyConnection, heads: Sequence[Head]) -> list[Listed]:
    ids = [str(head.revision_id) for head in heads]
    rows = cursor.execute(
        "SELECT st.revision_id, left(coalesce(r.query, r.text1, r.text), $longest), left(coalesce(r.positives[1],"
        " r.text2, r.label), $longest), st.task, s.name, st.operation, st.status, st.decided_by, st.priority,"
        " st.hardness, st.difficulty, st.num_negatives FROM (SELECT * FROM revision WHERE rowid IN"
        " (SELECT x.rowid FROM revision x WHERE x.revision_id IN (SELECT unnest($ids::UUID[])))) r"
        " JOIN (SELECT * FROM sample_state WHERE revision_id IN (SELECT unnest($ids::UUID[]))) st"
        " ON st.revision_id = r.revision_id JOIN source s ON s.source_id = st.source_id",
        {"ids": ids, "longest": LONGEST_SHOWN},
    ).fetchall()
    by_id = {revision_id: fields for revision_id, *fields in rows}
    return [Listed(head, *by_id[head.revision_id]) for head in heads if head.revision_id in by_id]


def heads_of(store: Store, kept: Filter) -> pyarrow.Table:
    """Every sample that a filter keeps, oldest first: sample_id and revision_id, as text."""
    with store.read() as cursor:
        return cursor.sql(
            f"SELECT {HEAD_TEXTS} FROM sample_state st WHERE {kept.condition} ORDER BY st.sample_id", params=kept.asked
        ).to_arrow_table()


def heads_in(found: pyarrow.Table) -> Iterator[Head]:
    """The samples of what `heads_of` gives, one by one."""
    for rows in found.to_batches(max_chunksize=PAGE_SIZE):
        for row in rows.to_pylist():
            yield Head(UUID(row["sample_id"]), UUID(row["revision_id"]))


@dataclass(frozen=True, slots=True)
class Choices:
    """What can be filtered by."""

    sources: tuple[str, ...]
    operations: tuple[str, ...]
    deciders: tuple[str, ...]
    models: tuple[str, ...]
    prompts: tuple[str, ...]


def choices(store: Store) -> Choices:
    """The values that occur, in alphabetical order."""
    queries = (
        "SELECT name FROM source WHERE declared_use = 'train'",
        "SELECT operation FROM sample_state WHERE declared_use = 'train'",
        "SELECT reviewer FROM review WHERE negative_id IS NULL AND verdict IN ('approve', 'reject')",
        "SELECT model FROM revision WHERE model <> ''",
        "SELECT prompt_version FROM revision WHERE prompt_version <> ''",
    )
    with store.read() as cursor:
        found = [cursor.execute(f"SELECT DISTINCT * FROM ({sql}) ORDER BY 1").fetchall() for sql in queries]
    return Choices(*(tuple(value for (value,) in rows) for rows in found))


@dataclass(frozen=True, slots=True)
class Said:
    """One review event of a sample, or of one of its negatives."""

    created_at: datetime
    reviewer: str
    verdict: str
    reasons: tuple[str, ...]
    note: str
    is_of_negative: bool
    is_of_latest: bool
    is_undone: bool


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a sample's latest revision came from. `made_from`: the sample that it rewrites, if it does."""

    number: int
    licence: str | None
    seed_text: str | None
    made_from: UUID | None
    model: str | None
    prompt_version: str | None
    created_at: datetime
    releases: Sequence[str] | None


ORIGIN = tuple(field.name for field in fields(Origin))


@dataclass(frozen=True, slots=True)
class Whole:
    """All that is shown of one sample; `said` is oldest first, without undos."""

    card: Card
    said: tuple[Said, ...]
    origin: Origin


def head_of(store: Store, sample_id: UUID) -> Head:
    """The latest revision of a sample to train on. Raises UserError if there is none of this id."""
    with store.read() as cursor:
        return Head(*_state(cursor, sample_id)[:2])


def _state(cursor: duckdb.DuckDBPyConnection, sample_id: UUID) -> Chosen:
    row = first(
        cursor.execute(
            "SELECT sample_id, revision_id, task, operation, status, decided_by FROM sample_state"
            " WHERE sample_id = ? AND declared_use = 'train'",
            [sample_id],
        )
    )
    if row is None:
        raise UserError(f"there is no sample {sample_id} to train on in this store; look for it in the list")
    return Chosen(*row)


def whole(store: Store, sample_id: UUID) -> Whole:
    """One sample to train on. Raises UserError if there is none of this id."""
    with store.read() as cursor:
        chosen = _state(cursor, sample_id)
        [card] = read_cards(cursor, [chosen])
        said = cursor.execute(
            "SELECT created_at, reviewer, verdict, reasons, note, negative_id IS NOT NULL,"
            " coalesce(edited_id, revision_id) = $head, is_undone FROM reviews"
            " WHERE sample_id = $id AND NOT is_undo ORDER BY created_at, review_id",
            {"id": sample_id, "head": chosen.revision_id},
        ).fetchall()
        origin = cursor.execute(
            f"SELECT {', '.join(ORIGIN)} FROM lineage WHERE sample_id = $id AND revision_id = $head",
            {"id": sample_id, "head": chosen.revision_id},
        ).fetchall()[0]
    return Whole(
        card,
        tuple(
            Said(at, who, verdict, tuple(reasons or ()), note or "", *rest)
            for at, who, verdict, reasons, note, *rest in said
        ),
        Origin(**dict(zip(ORIGIN, origin, strict=True))),
    )


def first_texts(store: Store, limit: int) -> pyarrow.Table:
    """
    The query or first text of samples, in the order of `draw`: of more than `limit` a random part. The columns are
    sample_id and revision_id, as text, and text.
    """
    with store.read() as cursor:
        return cursor.sql(
            f"SELECT {HEAD_TEXTS}, coalesce(r.query, r.text1, r.text) AS text FROM (SELECT sample_id, revision_id, draw"
            " FROM sample_state WHERE declared_use = 'train' ORDER BY draw, sample_id LIMIT $limit) st"
            " JOIN revision r ON r.revision_id = st.revision_id ORDER BY st.draw, st.sample_id",
            params={"limit": limit},
        ).to_arrow_table()


def text_of(store: Store, head: Head) -> str:
    """The query or first text of a sample."""
    with store.read() as cursor:
        row = first(
            cursor.execute(
                "SELECT coalesce(query, text1, text) FROM revision WHERE revision_id = ? AND sample_id = ?",
                [head.revision_id, head.sample_id],
            )
        )
    return row[0] if row else ""


def latest_change(store: Store) -> tuple[int, str]:
    """What differs whenever samples were added or edited: how many there are, and the newest revision."""
    with store.read() as cursor:
        row = first(cursor.execute("SELECT count(*), max(revision_id)::VARCHAR FROM sample_state"))
    return (row[0], row[1] or "") if row else (0, "")


def kinds_of(store: Store, revision_ids: pyarrow.Array, by: str) -> list[str]:
    """The task, source, status or label of samples by their latest revisions, "" where there is none."""
    column = {"task": "st.task", "source": "s.name", "status": "st.status", "label": "r.label"}[by]
    joined = " JOIN revision r ON r.revision_id = st.revision_id" if by == "label" else ""
    with store.read() as cursor, readable(cursor, pyarrow.table({"id": revision_ids}), "wanted"):
        rows = cursor.execute(
            f"SELECT w.id, coalesce({column}, '') FROM sample_state st JOIN wanted w ON st.revision_id = w.id::UUID"
            f" JOIN source s ON s.source_id = st.source_id{joined}"
        ).fetchall()
    found = dict(rows)
    return [found.get(each, "") for each in revision_ids.to_pylist()]
