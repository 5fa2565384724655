"""What a reviewer is shown of a sample: its content, its negatives, what it was made from, and what others said."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple
from uuid import UUID

import duckdb

from synth.records import Classification, Content, FoundBy, NegativeFlag, RelaxedRule, Sts, Task
from synth.store.edits import content_of
from synth.store.suggestions import suggestions_among

# The rows of some revisions. Wide columns are read by row number: asked for them by id, DuckDB decompresses far more,
# and takes twice the time at a million samples. $ids is bound by the caller.
ROWS = "SELECT x.rowid FROM {table} x WHERE x.revision_id IN (SELECT unnest($ids::UUID[]))"
CONTENT_FIELDS = ("task", "instruction", "query", "positives", "text1", "text2", "score", "text", "label")
CONTENT = ", ".join(f"r.{name}" for name in CONTENT_FIELDS)
MOST_CONTESTED = 4  # negatives that the card shows by themselves
LEAST_CONTESTED = 2
MOST_LABELS = 5
DOUBTED = ("promote", "drop_negative", "not_worse")  # what a judge may suggest of a negative


class Chosen(NamedTuple):
    """A sample of a queue. `is_repeat`: the same reviewer has judged it before."""

    sample_id: UUID
    revision_id: UUID
    task: str
    operation: str
    status: str
    decided_by: str | None
    is_repeat: bool = False


@dataclass(frozen=True, slots=True)
class CardNegative:
    """
    One negative on a card. `score` and `positive_score` are cosines; what people labelled has none, and no rank. What
    follows those is as in `Negative`, empty or None where it is not known. `is_contested`: it is one of the few that
    may answer the query after all, and that are shown by themselves.
    """

    negative_id: UUID
    text_id: UUID
    text: str
    origin: str
    rank: int | None
    score: float | None
    positive_score: float | None
    relevance: float | None
    positive_relevance: float | None
    positive_similarity: float | None
    overlap: float | None
    miners: tuple[FoundBy, ...]
    flags: tuple[NegativeFlag, ...]
    relaxed: tuple[RelaxedRule, ...]
    is_contested: bool = False


@dataclass(frozen=True, slots=True)
class TriagePart:
    """One reason why a sample is suspicious: what was measured, and how unusual that is in standard deviations."""

    name: str
    value: float
    score: float


@dataclass(frozen=True, slots=True)
class Word:
    """What somebody else said of the sample; `grades` are of its negatives, by the id of their text."""

    reviewer: str
    verdict: str
    reasons: tuple[str, ...]
    note: str
    difficulty: int | None
    own_score: float | None
    grades: tuple[tuple[UUID, int], ...]


@dataclass(frozen=True, slots=True)
class Card:
    """
    A sample as a reviewer sees it.

    Attributes:
        negatives: the most suspicious first.
        made_from: the content of the sample that this one rewrites, if it does.
        labels: of a labelled text the likeliest labels, at most five, its own among them.
        score_range: the least and the greatest score in the source of a scored pair.
        parts: why the latest triage finds it suspicious, worst first.
        words: what others said, where it is for the reviewer to settle.
        is_repeat: the same reviewer has judged it before.
    """

    sample_id: UUID
    revision_id: UUID
    task: Task
    source: str
    operation: str
    method: str
    status: str
    decided_by: str | None
    content: Content
    negatives: tuple[CardNegative, ...] = ()
    made_from: Content | None = None
    labels: tuple[str, ...] = ()
    score_range: tuple[float, float] | None = None
    parts: tuple[TriagePart, ...] = ()
    words: tuple[Word, ...] = ()
    is_repeat: bool = False


def read_cards(cursor: duckdb.DuckDBPyConnection, chosen: Sequence[Chosen], *, with_words: bool = False) -> list[Card]:
    """The cards of samples, in their order; with what others said of them if asked for."""
    if not chosen:
        return []
    ids = [str(each.revision_id) for each in chosen]
    contents, sources = _contents(cursor, ids)
    negatives = _negatives(cursor, ids, [each.sample_id for each in chosen])
    rewritten = _made_from(cursor, [str(each.sample_id) for each in chosen])
    triaged = _triaged(cursor, ids)
    words = _words(cursor, ids) if with_words else {}
    labels = _usual_labels(cursor, sources, contents)
    ranges = _score_ranges(cursor, sources, contents)
    found = []
    for each in chosen:
        content, source = contents[each.revision_id], sources[each.revision_id]
        parts, likely = triaged.get(each.revision_id, ((), ()))
        found.append(
            Card(
                each.sample_id,
                each.revision_id,
                Task(each.task),
                source.name,
                each.operation,
                source.method or "",
                each.status,
                each.decided_by,
                content,
                tuple(negatives.get(each.revision_id, ())),
                rewritten.get(each.sample_id),
                _labels(content, likely or labels.get(source.source_id, ())),
                ranges.get(source.source_id) if isinstance(content, Sts) else None,
                parts,
                tuple(words.get(each.revision_id, ())),
                each.is_repeat,
            )
        )
    return found


class _Source(NamedTuple):
    source_id: UUID
    name: str
    method: str | None


def _contents(cursor: duckdb.DuckDBPyConnection, ids: Sequence[str]) -> tuple[dict[UUID, Content], dict[UUID, _Source]]:
    rows = cursor.execute(
        f"SELECT r.revision_id, s.source_id, s.name, r.method, {CONTENT} FROM revision r"
        f" JOIN source s ON s.source_id = r.source_id WHERE r.rowid IN ({ROWS.format(table='revision')})",
        {"ids": ids},
    ).fetchall()
    contents = {row[0]: content_of(dict(zip(CONTENT_FIELDS, row[4:], strict=True))) for row in rows}
    return contents, {row[0]: _Source(*row[1:4]) for row in rows}


def _made_from(cursor: duckdb.DuckDBPyConnection, sample_ids: Sequence[str]) -> dict[UUID, Content]:
    """What rewrites were made from: the parent of a sample's first revision, where that is another sample's."""
    rows = cursor.execute(
        f"SELECT c.sample_id, {CONTENT} FROM revision r JOIN (SELECT f.sample_id, f.parent_id FROM revision f"
        " WHERE f.revision_id IN (SELECT unnest($ids::UUID[])) AND f.parent_id IS NOT NULL) c"
        " ON r.revision_id = c.parent_id WHERE r.sample_id <> c.sample_id",
        {"ids": sample_ids},
    ).fetchall()
    return {row[0]: content_of(dict(zip(CONTENT_FIELDS, row[1:], strict=True))) for row in rows}


def _triaged(
    cursor: duckdb.DuckDBPyConnection, ids: Sequence[str]
) -> dict[UUID, tuple[tuple[TriagePart, ...], tuple[str, ...]]]:
    rows = cursor.execute(
        "SELECT t.revision_id, t.parts, t.labels FROM triage t WHERE t.revision_id IN (SELECT unnest($ids::UUID[]))"
        " QUALIFY row_number() OVER (PARTITION BY t.revision_id ORDER BY t.created_at DESC, t.run_id DESC) = 1",
        {"ids": ids},
    ).fetchall()
    return {
        revision_id: (
            tuple(sorted((TriagePart(**part) for part in parts or ()), key=lambda part: (-part.score, part.name))),
            tuple(labels or ()),
        )
        for revision_id, parts, labels in rows
    }


def _labels(content: Content, likely: Sequence[str]) -> tuple[str, ...]:
    """The likeliest labels, the text's own in the last place if it is none of them."""
    if not isinstance(content, Classification):
        return ()
    found = list(dict.fromkeys(likely))[:MOST_LABELS]
    return tuple(found if content.label in found else [*found[: MOST_LABELS - 1], content.label])


def _usual_labels(
    cursor: duckdb.DuckDBPyConnection, sources: Mapping[UUID, _Source], contents: Mapping[UUID, Content]
) -> dict[UUID, tuple[str, ...]]:
    """By source the most frequent labels: what is offered where no triage knows better."""
    ids = _sources_of(Classification, sources, contents)
    rows = cursor.execute(
        "SELECT source_id, list(label ORDER BY number DESC, label)[:5] FROM (SELECT r.source_id, r.label, count(*) AS"
        " number FROM revision r WHERE r.task = 'classification' AND r.source_id IN (SELECT unnest($ids::UUID[]))"
        " GROUP BY ALL) GROUP BY 1",
        {"ids": ids},
    )
    return {source_id: tuple(labels) for source_id, labels in rows.fetchall()} if ids else {}


def _score_ranges(
    cursor: duckdb.DuckDBPyConnection, sources: Mapping[UUID, _Source], contents: Mapping[UUID, Content]
) -> dict[UUID, tuple[float, float]]:
    ids = _sources_of(Sts, sources, contents)
    rows = cursor.execute(
        "SELECT r.source_id, min(r.score), max(r.score) FROM revision r"
        " WHERE r.task = 'sts' AND r.source_id IN (SELECT unnest($ids::UUID[])) GROUP BY 1",
        {"ids": ids},
    )
    return {source_id: (least, greatest) for source_id, least, greatest in rows.fetchall()} if ids else {}


def _sources_of(kind: type, sources: Mapping[UUID, _Source], contents: Mapping[UUID, Content]) -> list[str]:
    return sorted({str(sources[each].source_id) for each, content in contents.items() if isinstance(content, kind)})


def _negatives(
    cursor: duckdb.DuckDBPyConnection, ids: Sequence[str], sample_ids: Sequence[UUID]
) -> dict[UUID, list[CardNegative]]:
    """
    Of each revision the negatives, most suspicious first. A text counts once, as people labelled it before as it was
    mined; of what was mined the latest mining's alone, as in a release.
    """
    rows = cursor.execute(
        "SELECT n.revision_id, n.text_id, n.miners, n.flags, n.relaxed, n.negative_id, n.origin, n.rank, n.score,"
        " n.positive_score, n.relevance, n.positive_relevance, n.positive_similarity, n.overlap FROM negative n"
        " LEFT JOIN (SELECT revision_id, max(run_id) AS run_id FROM mined"
        " WHERE revision_id IN (SELECT unnest($ids::UUID[])) GROUP BY 1) m ON m.revision_id = n.revision_id"
        f" WHERE n.rowid IN ({ROWS.format(table='negative')})"
        " QUALIFY n.origin <> 'mined' OR n.run_id >= coalesce(m.run_id, n.run_id)"
        " AND n.run_id = max(n.run_id) FILTER (n.origin = 'mined') OVER (PARTITION BY n.revision_id)"
        " ORDER BY n.origin = 'labelled', n.negative_id",
        {"ids": ids},
    ).fetchall()
    latest = {(revision_id, text_id): fields for revision_id, text_id, *fields in rows}
    # Texts in a query of their own: joined, DuckDB reads far more of them.
    texts = dict(
        cursor.execute(
            "SELECT text_id, text FROM text WHERE rowid IN"
            " (SELECT x.rowid FROM text x WHERE x.text_id IN (SELECT unnest($ids::UUID[])))",
            {"ids": sorted({str(text_id) for _, text_id in latest})},
        ).fetchall()
    )
    found: dict[UUID, list[CardNegative]] = defaultdict(list)
    for (revision_id, text_id), (miners, flags, relaxed, negative_id, *fields) in latest.items():
        found_by = tuple(FoundBy(**each) for each in miners or ())
        known = (*fields, found_by, tuple(flags or ()), tuple(relaxed or ()))
        found[revision_id].append(CardNegative(negative_id, text_id, texts[text_id], *known))
    doubted = {
        (revision_id, each.text_id)
        for revision_id, said in suggestions_among(cursor, sample_ids).items()
        for each in said
        if each.suggestion in DOUBTED
    }
    return {revision_id: _ranked(revision_id, each, doubted) for revision_id, each in found.items()}


def _ranked(
    revision_id: UUID, negatives: Sequence[CardNegative], doubted: set[tuple[UUID, UUID]]
) -> list[CardNegative]:
    """Most suspicious first; the contested ones are those in doubt, or the first two."""

    def is_doubted(each: CardNegative) -> bool:
        return bool(each.flags) or (revision_id, each.text_id) in doubted

    def suspicion(each: CardNegative) -> tuple[Any, ...]:
        above = (each.relevance or 0.0) - (each.positive_relevance or 0.0) if each.relevance is not None else -1.0
        near = each.positive_similarity if each.positive_similarity is not None else -1.0
        return (not is_doubted(each), -max(above, 0.0), -near, each.score is None, -(each.score or 0.0), each.text)

    ordered = sorted(negatives, key=suspicion)
    num = min(MOST_CONTESTED, max(LEAST_CONTESTED, sum(map(is_doubted, ordered))))
    return [replace(each, is_contested=place < num) for place, each in enumerate(ordered)]


def _words(cursor: duckdb.DuckDBPyConnection, ids: Sequence[str]) -> dict[UUID, list[Word]]:
    """What people said of revisions and did not undo, oldest first; of each the last word."""
    asked = {"ids": ids}
    graded = cursor.execute(
        "SELECT v.revision_id, v.reviewer, n.text_id, arg_max(v.grade, (v.created_at, v.review_id)) FROM reviews v"
        " JOIN negative n USING (negative_id) WHERE v.revision_id IN (SELECT unnest($ids::UUID[]))"
        " AND v.reviewer_kind = 'human' AND v.grade IS NOT NULL AND NOT v.is_undone GROUP BY ALL ORDER BY ALL",
        asked,
    ).fetchall()
    grades: dict[tuple[UUID, str], list[tuple[UUID, int]]] = defaultdict(list)
    for revision_id, reviewer, text_id, grade in graded:
        grades[revision_id, reviewer].append((text_id, grade))
    rows = cursor.execute(
        "SELECT coalesce(v.edited_id, v.revision_id) AS head_id, v.reviewer, v.verdict, v.reasons, v.note,"
        " v.difficulty, v.own_score FROM reviews v WHERE head_id IN (SELECT unnest($ids::UUID[]))"
        " AND v.reviewer_kind = 'human' AND v.negative_id IS NULL AND NOT v.is_undo AND NOT v.is_undone"
        " QUALIFY row_number() OVER (PARTITION BY head_id, v.reviewer ORDER BY v.created_at DESC, v.review_id DESC) = 1"
        " ORDER BY v.created_at",
        asked,
    ).fetchall()
    found: dict[UUID, list[Word]] = defaultdict(list)
    for revision_id, reviewer, verdict, reasons, note, difficulty, own_score in rows:
        of_negatives = tuple(grades.get((revision_id, reviewer), ()))
        found[revision_id].append(
            Word(reviewer, verdict, tuple(reasons or ()), note or "", difficulty, own_score, of_negatives)
        )
    return found
