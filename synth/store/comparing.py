"""
Two sides beside each other: releases, runs, prompt versions or models, in figures and in pairs. docs/compare.md has the
rules.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, NamedTuple
from uuid import UUID

import duckdb

from synth.records import Content, UserError
from synth.store.connection import Store
from synth.store.edits import content_of
from synth.store.review_figures import ACCEPTANCE_GROUPS, COUNTS, READ, Outcomes
from synth.store.rows import first
from synth.store.selection import records

PAGE_SIZE = 20  # pairs
NOTHING = (0, 0, 0, 0, 0, None, None, None)  # what FIGURES would say of a side without samples
NUM_BINS = 24  # of a histogram, about


class Kind(StrEnum):
    """What a side is."""

    RELEASE = "release"
    RUN = "run"
    PROMPT = "prompt"
    MODEL = "model"


@dataclass(frozen=True, slots=True)
class Side:
    """One side of a comparison: a release, prompt version or model of this name, or a run of this id."""

    kind: Kind
    name: str

    @property
    def address(self) -> str:
        """As in a page's address: `release:first`."""
        return f"{self.kind}:{self.name}"

    @classmethod
    def of(cls, address: str) -> "Side":
        """
        The side of an address.

        Raises UserError if it is none.
        """
        kind, colon, name = address.partition(":")
        if not colon or kind not in set(Kind) or not name or (kind == Kind.RUN and not _is_id(name)):
            raise UserError(f"{address!r:.120} is no side; it is release:NAME, run:ID, prompt:VERSION or model:NAME")
        return cls(Kind(kind), name)


@dataclass(frozen=True, slots=True)
class Known:
    """A side that there is, how many samples it has, since when, and (`what`) a run's kind and model."""

    side: Side
    num_samples: int
    since: datetime
    what: str = ""


# A person's edit keeps the model and the prompt of what it was made from; it is no work of theirs.
MADE = """
    SELECT r.sample_id, arg_max(r.revision_id, r.number) AS revision_id FROM revision r
    ANTI JOIN (SELECT v.edited_id FROM review v WHERE v.edited_id IS NOT NULL) e ON e.edited_id = r.revision_id
    WHERE r.{column} = ${which} GROUP BY r.sample_id"""
HELD = {
    Kind.RELEASE: """
    SELECT i.sample_id, i.revision_id FROM release_item i JOIN release l USING (release_id) WHERE l.name = ${which}""",
    Kind.RUN: MADE.replace("{column}", "run_id::VARCHAR"),
    Kind.PROMPT: MADE.replace("{column}", "prompt_version"),
    Kind.MODEL: MADE.replace("{column}", "model"),
}
KNOWN = """
WITH made AS (
    SELECT r.run_id, r.model, r.prompt_version, count(DISTINCT r.sample_id) AS num_samples, min(r.created_at) AS since
    FROM revision r SEMI JOIN (SELECT sample_id FROM sample_state WHERE declared_use = 'train') s USING (sample_id)
    ANTI JOIN (SELECT v.edited_id FROM review v WHERE v.edited_id IS NOT NULL) e ON e.edited_id = r.revision_id
    GROUP BY GROUPING SETS ((r.run_id), (r.model), (r.prompt_version))
)
SELECT 'release' AS kind, l.name, len(i.ids) AS num_samples, l.created_at AS since, '' AS what
FROM release l JOIN (SELECT release_id, list(sample_id) AS ids FROM release_item GROUP BY ALL) i USING (release_id)
UNION ALL SELECT 'run', m.run_id::VARCHAR, m.num_samples, u.started_at, concat_ws(' ', u.kind, nullif(u.model, ''))
FROM made m JOIN run u USING (run_id)
UNION ALL SELECT 'prompt', prompt_version, num_samples, since, '' FROM made WHERE prompt_version <> ''
UNION ALL SELECT 'model', model, num_samples, since, '' FROM made WHERE model <> ''
"""
FIGURES = """
SELECT d.which, count(*), count(*) FILTER (st.status = 'pending'), count(*) FILTER (st.status = 'approved'),
       count(*) FILTER (st.status = 'rejected'), count(*) FILTER (st.status = 'disputed'),
       avg(st.difficulty), avg(st.hardness), avg(st.priority)
FROM side d JOIN sample_state st USING (sample_id) GROUP BY d.which
"""
# Each side's random part is read in its own order: what others have not been read of does not end it.
OF_A_SIDE = "(SELECT d.sample_id FROM side d WHERE d.which = '{which}')"
READ_OF_A_SIDE = f"""
SELECT {COUNTS} FROM (
    {READ.replace("{groups}", f"sample_id IN {OF_A_SIDE}, {ACCEPTANCE_GROUPS}")}
    SELECT sample_id, in_turn, outcome FROM turn
) SEMI JOIN {OF_A_SIDE} USING (sample_id)
"""
REASONS = """
SELECT d.which, v.reason, count(DISTINCT v.sample_id) FROM side d JOIN (
    SELECT sample_id, unnest(reasons) AS reason FROM reviews
    WHERE negative_id IS NULL AND NOT is_undo AND NOT is_undone AND reviewer_kind = 'human' AND verdict = 'reject'
) v USING (sample_id) GROUP BY ALL
"""
VALUES = {
    "hardness": "SELECT d.which, st.hardness AS value FROM side d JOIN sample_state st USING (sample_id)",
    "score": "SELECT d.which, r.score AS value FROM side d JOIN revision r USING (revision_id)",
}
# Pairs of two releases, and of other sides. A sample's first revision, which has its id, knows what it was made of.
CHANGED = """
CREATE OR REPLACE TEMP TABLE pair AS
SELECT a.revision_id AS a_id, b.revision_id AS b_id FROM side a JOIN side b USING (sample_id)
WHERE a.which = 'a' AND b.which = 'b' AND a.revision_id <> b.revision_id
"""
OF_A_SEED = """
CREATE OR REPLACE TEMP TABLE pair AS
WITH made AS (
    SELECT d.which, d.revision_id, r.task, r.operation, coalesce(r.seed_id, r.parent_id) AS seed_id, row_number() OVER (
        PARTITION BY d.which, r.task, r.operation, coalesce(r.seed_id, r.parent_id) ORDER BY d.sample_id
    ) AS place
    FROM side d JOIN revision r ON r.revision_id = d.sample_id
    WHERE coalesce(r.seed_id, r.parent_id) IS NOT NULL
    AND d.sample_id NOT IN (SELECT s.sample_id FROM side s GROUP BY s.sample_id HAVING count(*) > 1)
)
SELECT a.revision_id AS a_id, b.revision_id AS b_id FROM made a JOIN made b USING (task, operation, seed_id, place)
WHERE a.which = 'a' AND b.which = 'b'
"""


@dataclass(frozen=True, slots=True)
class Figures:
    """
    A side in numbers: samples by their status now, what people found in its random part, means (None of nothing), and
    of how many samples each reason was given by somebody who rejected them.
    """

    num_samples: int
    num_pending: int
    num_approved: int
    num_rejected: int
    num_disputed: int
    difficulty: float | None
    hardness: float | None
    priority: float | None
    read: Outcomes
    reasons: dict[str, int]


@dataclass(frozen=True, slots=True)
class Histogram:
    """How many samples of each side have a value from `start` + n * `width` on, bin by bin; no bins if none has any."""

    start: float
    width: float
    a: tuple[int, ...] = ()
    b: tuple[int, ...] = ()


class Ids(NamedTuple):
    """The revisions of a pair."""

    a: UUID
    b: UUID


@dataclass(frozen=True, slots=True)
class Member:
    """A sample as one side of a pair has it."""

    sample_id: UUID
    revision_id: UUID
    source: str
    operation: str
    content: Content


@dataclass(frozen=True, slots=True)
class Pair:
    """Two samples, or two revisions of one, to be compared."""

    a: Member
    b: Member


def known_sides(store: Store) -> list[Known]:
    """What can be compared, by kind, of each the newest first."""
    with store.read() as cursor:
        rows = cursor.execute(KNOWN).fetchall()
    found = [Known(Side(Kind(kind), name), num, since, what) for kind, name, num, since, what in rows]
    return sorted(found, key=lambda each: ([*Kind].index(each.side.kind), -each.since.timestamp(), each.side.name))


@contextmanager
def sided(store: Store, a: Side, b: Side) -> Iterator[duckdb.DuckDBPyConnection]:
    """A lease to read in which `side` has both sides' samples to train on: which (a or b), sample_id, revision_id."""
    held = " UNION ALL ".join(
        f"SELECT '{which}' AS which, * FROM ({HELD[side.kind].replace('{which}', which)})"
        for which, side in (("a", a), ("b", b))
    )
    with store.read() as cursor:
        cursor.execute(
            f"CREATE OR REPLACE TEMP TABLE side AS FROM ({held})"
            " SEMI JOIN (SELECT sample_id FROM sample_state WHERE declared_use = 'train') USING (sample_id)",
            {"a": a.name, "b": b.name},
        )
        yield cursor


@contextmanager
def paired(store: Store, a: Side, b: Side) -> Iterator[duckdb.DuckDBPyConnection]:
    """A lease to read in which `pair` has the revisions to compare: a_id, b_id."""
    with sided(store, a, b) as cursor:
        cursor.execute(CHANGED if a.kind == b.kind == Kind.RELEASE else OF_A_SEED)
        yield cursor


def figures(store: Store, a: Side, b: Side) -> tuple[Figures, Figures]:
    """Both sides in numbers, from one state of the store."""
    found = []
    with sided(store, a, b) as cursor:
        counts: dict[str, tuple[Any, ...]] = {row[0]: row[1:] for row in cursor.execute(FIGURES).fetchall()}
        reasons: dict[str, dict[str, int]] = {"a": {}, "b": {}}
        for which, reason, number in cursor.execute(REASONS).fetchall():
            reasons[which][reason] = number
        read = {which: first(cursor.execute(READ_OF_A_SIDE.replace("{which}", which))) for which in "ab"}
    for which in "ab":
        row: list[Any] = [*counts.get(which, NOTHING), Outcomes(*(read[which] or ())), reasons[which]]
        found.append(Figures(*row))
    one, other = found
    return one, other


def histograms(store: Store, a: Side, b: Side) -> dict[str, Histogram]:
    """Of `hardness`, and of the `score` of scored pairs: how both sides' samples are spread."""
    with sided(store, a, b) as cursor:
        return {name: _histogram(cursor, f"({sql} WHERE value IS NOT NULL)") for name, sql in VALUES.items()}


def _histogram(cursor: duckdb.DuckDBPyConnection, values: str) -> Histogram:
    low, high = first(cursor.execute(f"SELECT min(value), max(value) FROM {values}")) or (None, None)
    if low is None:
        return Histogram(0.0, 1.0)
    width = _round_width((high - low) / NUM_BINS)
    rows = cursor.execute(
        f"SELECT which, floor(value / {width!r} + 1e-9)::BIGINT AS bin, count(*) FROM {values} GROUP BY ALL"
    ).fetchall()
    begin, end = min(place for _, place, _ in rows), max(place for _, place, _ in rows)
    num = {(which, place): number for which, place, number in rows}
    one, other = (tuple(num.get((which, place), 0) for place in range(begin, end + 1)) for which in "ab")
    return Histogram(begin * width, width, one, other)


def _round_width(width: float) -> float:
    """The next 1, 2 or 5 times a power of ten; 0.1 for values that are all the same."""
    if width <= 0:
        return 0.1
    power: float = 10.0 ** math.floor(math.log10(width))
    return next(step * power for step in (1, 2, 5, 10) if step * power >= width * (1 - 1e-9))


def num_pairs(store: Store, a: Side, b: Side) -> int:
    """How many pairs two sides give."""
    with paired(store, a, b) as cursor:
        row = first(cursor.execute("SELECT count(*) FROM pair"))
    return row[0] if row else 0


def pairs(store: Store, a: Side, b: Side, number: int) -> list[Pair]:
    """The page of this number, from 1, of the pairs that two sides give, in the order of their ids."""
    with paired(store, a, b) as cursor:
        found = cursor.execute(
            f"SELECT a_id, b_id FROM pair ORDER BY a_id, b_id LIMIT {PAGE_SIZE} OFFSET {PAGE_SIZE * (number - 1)}"
        ).fetchall()
        return read_pairs(cursor, [Ids(*each) for each in found])


def read_pairs(cursor: duckdb.DuckDBPyConnection, ids: Sequence[Ids]) -> list[Pair]:
    """The pairs of these revisions, in their order."""
    wanted = [str(revision_id) for pair in ids for revision_id in pair]
    rows = records(
        cursor.execute(
            "SELECT r.sample_id, r.revision_id, s.name AS source, o.operation, r.task, r.query, r.positives,"
            " r.text1, r.text2, r.score, r.text, r.label, r.instruction FROM revision r"
            " JOIN source s USING (source_id) JOIN revision o ON o.revision_id = r.sample_id"
            " WHERE r.revision_id IN (SELECT unnest($ids::UUID[]))",
            {"ids": wanted},
        )
    )
    members = {
        row["revision_id"]: Member(
            row["sample_id"], row["revision_id"], row["source"], row["operation"], content_of(row)
        )
        for row in rows
    }
    return [Pair(members[pair.a], members[pair.b]) for pair in ids]


def _is_id(name: str) -> bool:
    try:
        return str(UUID(name)) == name
    except ValueError:
        return False
