"""Edits and promotions of reviewers: the revisions that they make, and what they withdraw when they are undone."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, replace
from datetime import datetime
from typing import Any
from uuid import UUID

import duckdb

from synth.records import (
    TASK_OF,
    Classification,
    Content,
    Retrieval,
    ReviewEvent,
    StoreError,
    Sts,
    Task,
    UserError,
    content_hash,
    text_id,
)
from synth.store.rows import first, insert

OPERATION = "edit"


class Edits:
    """The revisions of the samples that a batch of events edits, as they are while its events are stored in order."""

    def __init__(self, cursor: duckdb.DuckDBPyConnection, sample_ids: Iterable[UUID]) -> None:
        self._cursor = cursor
        ids = [str(sample_id) for sample_id in sample_ids]
        found = cursor.execute(
            "SELECT r.* FROM revision r WHERE r.sample_id IN (SELECT unnest($ids::UUID[]))"
            " ORDER BY r.number, r.created_at, r.revision_id",
            {"ids": ids},
        )
        names = [column[0] for column in found.description or ()]
        self._revisions: dict[UUID, list[dict[str, Any]]] = {}
        for values in found.fetchall():
            row = dict(zip(names, values, strict=True))
            self._revisions.setdefault(row["sample_id"], []).append(row)
        self._withdrawn: set[UUID | None] = {
            revision_id
            for (revision_id,) in cursor.execute(
                "WITH said AS (SELECT * FROM review v WHERE v.sample_id IN (SELECT unnest($ids::UUID[])))"
                " SELECT edited_id FROM said WHERE edited_id IS NOT NULL AND review_id IN (SELECT undoes FROM said)",
                {"ids": ids},
            ).fetchall()
        }

    def withdraw(self, revision_id: UUID | None) -> None:
        """The event that made this revision, if it made one, was undone."""
        self._withdrawn.add(revision_id)

    def carry_out(self, event: ReviewEvent, promoted: UUID | None, when: datetime, run_id: UUID | None) -> bool:
        """
        Store the revision that an event makes, with the negatives that stay. `promoted` is the id of the text that
        becomes a positive, for a promotion. False, storing nothing, if the content is what it was.

        Raises UserError, in one line, if the event is not of the sample's latest revision, or if another sample says
        the same.
        """
        revisions = self._revisions[event.sample_id]
        head = next(row for row in reversed(revisions) if row["revision_id"] not in self._withdrawn)
        if event.revision_id != head["revision_id"]:
            raise UserError(
                f"sample {event.sample_id} was changed meanwhile; look at its revision {head['revision_id']}"
            )
        before = content_of(head)
        content = self._promoted(before, promoted) if promoted is not None else event.edit
        assert content is not None and event.edited_id is not None  # check_event saw to it
        if TASK_OF[type(content)] != head["task"]:
            raise UserError(f"sample {event.sample_id} is of {head['task']}; the edit is of {TASK_OF[type(content)]}")
        if content_hash(content) == content_hash(before):
            return False
        self._refuse_taken_id(event.edited_id)
        self._refuse_taken(event, content, head["source_id"])
        row = head | asdict(content) | {
            "revision_id": event.edited_id,
            "parent_id": head["revision_id"],
            "number": revisions[-1]["number"] + 1,
            "content_hash": content_hash(content),
            "operation": OPERATION,
            "actor": event.reviewer,
            "run_id": run_id,
            "created_at": when,
        }  # fmt: skip
        insert(self._cursor, "revision", [row])
        revisions.append(row)
        if _asks_the_same(before, content):
            self._carry_negatives(head["revision_id"], event.edited_id, content, when)
        return True

    def _promoted(self, before: Content, promoted: UUID) -> Content:
        if not isinstance(before, Retrieval):
            raise UserError("only a retrieval sample's negative can become a positive: drop it instead")
        if promoted in map(text_id, before.positives):
            return before
        found = first(self._cursor.execute("SELECT text FROM text WHERE text_id = ?", [promoted]))
        if not found:
            raise StoreError(f"the text {promoted} of a negative is gone; `synth store verify` says what else is")
        return replace(before, positives=(*before.positives, found[0]))

    def _refuse_taken_id(self, revision_id: UUID) -> None:
        if first(self._cursor.execute("SELECT 1 FROM revision WHERE revision_id = ?", [revision_id])):
            raise UserError(f"there is a revision {revision_id} already; an edit needs an id of its own")

    def _refuse_taken(self, event: ReviewEvent, content: Content, source_id: UUID) -> None:
        other = first(
            self._cursor.execute(
                "SELECT r.sample_id FROM revision r JOIN source s ON s.source_id = r.source_id"
                " JOIN source own ON own.source_id = $source"
                " WHERE r.content_hash = $hash AND r.sample_id <> $sample AND (r.source_id = own.source_id"
                " OR (s.declared_use = 'train' AND own.declared_use = 'train')) LIMIT 1",
                {"source": source_id, "hash": content_hash(content), "sample": event.sample_id},
            )
        )
        if other:
            raise UserError(
                f"sample {event.sample_id} would say what sample {other[0]} says; reject one of them as a duplicate"
            )

    def _carry_negatives(self, parent: UUID, child: UUID, content: Content, when: datetime) -> None:
        positives = [str(text_id(text)) for text in content.positives] if isinstance(content, Retrieval) else []
        self._cursor.execute(
            "INSERT INTO negative BY NAME"
            " SELECT * REPLACE (uuidv7() AS negative_id, $child::UUID AS revision_id,"
            " coalesce(original_id, negative_id) AS original_id, $when::TIMESTAMP AS created_at)"
            " FROM (SELECT n.* FROM negative n WHERE n.revision_id = $parent"
            " AND n.text_id NOT IN (SELECT unnest($positives::UUID[]))"
            " QUALIFY row_number() OVER (PARTITION BY n.text_id"
            " ORDER BY n.origin = 'labelled' DESC, n.negative_id DESC) = 1)",
            {"child": child, "when": when, "parent": parent, "positives": positives},
        )


def content_of(row: Mapping[str, Any]) -> Content:
    """The content of a row of `revision`."""
    if row["task"] == Task.RETRIEVAL:
        return Retrieval(row["query"], tuple(row["positives"]), row["instruction"] or "")
    if row["task"] == Task.STS:
        return Sts(row["text1"], row["text2"], row["score"], row["instruction"] or "")
    return Classification(row["text"], row["label"], row["instruction"] or "")


def _asks_the_same(before: Content, after: Content) -> bool:
    """Whether negatives stay what they are: the query is the same, whatever became of positives and instruction."""
    return (
        isinstance(before, Retrieval) and isinstance(after, Retrieval) and text_id(before.query) == text_id(after.query)
    )
