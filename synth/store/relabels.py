"""Relabelling: which samples it is for, and what it made of them. A positive that moves is a new revision."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any
from uuid import UUID

import duckdb

from synth.records import Content, Negative, Retrieval, Sample, content_hash, new_id, text_id
from synth.store.connection import Store
from synth.store.made import Finished, add_finished
from synth.store.rows import batch, first, insert, now
from synth.store.samples import done_meanwhile, refresh_state

OPERATION = "relabel"
MOVED, DUPLICATE, OVERTAKEN = "moved", "duplicate", "overtaken"
# Generated retrieval samples to train on whose positive is a passage of their corpus, and that no person decided or
# edited. A passage that is held out is in no corpus to train on; a query that a held-out set asks is held out.
PENDING = """
WITH head AS (
    SELECT r.*, st.decided_kind FROM sample_state st JOIN revision r USING (revision_id) WHERE st.task = 'retrieval'
),
corpus AS (
    SELECT DISTINCT s.name, p.text_id FROM passage p JOIN source s USING (source_id)
    WHERE s.declared_use = 'train' AND p.text_id NOT IN
        (SELECT o.text_id FROM passage o JOIN source e USING (source_id) WHERE e.declared_use = 'eval')
)
SELECT h.revision_id, h.sample_id, h.query, h.positives, h.instruction, h.source_id, h.seed_id, s.name,
       bool_or(f.permanent) AS permanent
FROM head h JOIN source s ON s.source_id = h.source_id
SEMI JOIN corpus c ON c.name = s.name AND c.text_id = text_id_of(h.positives[1])
LEFT JOIN llm_failure f ON f.stage_key = $key AND f.seed_id = h.revision_id
WHERE s.declared_use = 'train' AND h.operation NOT IN ('ingest', 'edit') AND h.decided_kind IS DISTINCT FROM 'human'
  AND h.sample_id NOT IN (SELECT sample_id FROM relabelled WHERE stage_key = $key)
  AND h.query NOT IN
      (SELECT e.query FROM head e JOIN source o ON o.source_id = e.source_id WHERE o.declared_use = 'eval')
  AND (len($names) = 0 OR s.name IN (SELECT unnest($names)))
GROUP BY ALL ORDER BY permanent NULLS FIRST, any_value(h.content_hash), h.revision_id
"""
# Generated samples to train on whose positive is a passage to train on of their corpus, done and decided ones too.
ELIGIBLE = """
SELECT st.sample_id FROM sample_state st JOIN revision r USING (revision_id) JOIN source s ON s.source_id = st.source_id
WHERE st.task = 'retrieval' AND st.declared_use = 'train' AND st.operation <> 'ingest'
  AND (len($names) = 0 OR s.name IN (SELECT unnest($names)))
  AND (s.name, text_id_of(r.positives[1])) IN (
      SELECT (c.name, p.text_id) FROM passage p JOIN source c USING (source_id) WHERE c.declared_use = 'train'
  )
"""
MOVE = """
INSERT INTO revision BY NAME
SELECT r.* REPLACE (
    m.moved_to::UUID AS revision_id, r.revision_id AS parent_id,
    (SELECT max(n.number) FROM revision n WHERE n.sample_id = r.sample_id) + 1 AS number,
    m.content_hash::UUID AS content_hash, $operation AS operation, 'llm' AS method, m.positives AS positives,
    m.model AS actor, m.model AS model, m.prompt_version AS prompt_version, m.call_id::UUID AS call_id,
    $run::UUID AS run_id, $now::TIMESTAMP AS created_at
)
FROM revision r JOIN moving m ON m.revision_id::UUID = r.revision_id
"""
# What was mined stays behind: the old positive's score decided what it is.
CARRY = """
INSERT INTO negative BY NAME
SELECT n.* REPLACE (
    uuidv7() AS negative_id, m.moved_to::UUID AS revision_id, coalesce(n.original_id, n.negative_id) AS original_id,
    $now::TIMESTAMP AS created_at
)
FROM negative n JOIN moving m ON m.revision_id::UUID = n.revision_id
WHERE n.origin IN ('labelled', 'generated') AND NOT list_contains(m.answers, n.text_id::VARCHAR)
"""
ADD = """
INSERT INTO negative BY NAME SELECT f.* FROM found f ANTI JOIN negative n
ON n.revision_id = f.revision_id::UUID AND n.text_id = f.text_id::UUID
"""


@dataclass(frozen=True, slots=True)
class Relabelable:
    """A sample whose positive may move. `permanent`: the same request would fail again; None: none has failed."""

    sample: Sample
    source: str  # name: its corpus is searched
    permanent: bool | None


@dataclass(frozen=True, slots=True)
class Relabelled:
    """
    What relabelling one sample gave. `content` is what it says from now on, another than the sample's if it moved.

    `candidates` are the columns of the table, a row each; `answers` the ids of those that answer the query, if only a
    part of it. `negatives` are the sample's as it was; they go with it.
    """

    sample: Sample
    content: Content
    outcome: str
    candidates: Sequence[Mapping[str, Any]]
    answers: Collection[UUID]
    negatives: Sequence[Negative]
    model: str
    prompt_version: str
    call_id: UUID | None


@dataclass(frozen=True, slots=True)
class Stored:
    """How many samples had which outcome, and how many negatives are new."""

    outcomes: Mapping[str, int]
    num_negatives: int


def relabelable(store: Store, stage_key: UUID, names: Sequence[str] = ()) -> list[Relabelable]:
    """
    The samples that a relabel stage of this configuration has not finished, in an order that is the same on every
    machine: those that failed last, and those whose request may fail again as it is at the very end.
    """
    with store.read() as cursor:
        rows = cursor.execute(PENDING, {"key": stage_key, "names": list(names)}).fetchall()
    return [
        Relabelable(
            Sample(revision, sample, Retrieval(query, tuple(positives), instruction or ""), source_id, seed),
            source,
            permanent,
        )
        for revision, sample, query, positives, instruction, source_id, seed, source, permanent in rows
    ]


def any_eligible(store: Store, names: Sequence[str] = ()) -> bool:
    """Whether a generated sample of the named sources, or of any, has a passage of its corpus as its positive."""
    with store.read() as cursor:
        return first(cursor.execute(f"{ELIGIBLE} LIMIT 1", {"names": list(names)})) is not None


def attempts_anew(store: Store, stage_key: UUID) -> dict[UUID, int]:
    """Of each sample that this stage left, by its revision, the number of the attempt to make to ask for it anew."""
    with store.read() as cursor:
        rows = cursor.execute(
            "SELECT seed_id, max(attempt + permanent::INTEGER) FROM llm_failure WHERE stage_key = $key"
            " AND seed_id NOT IN (SELECT seed_id FROM generated WHERE stage_key = $key) GROUP BY seed_id",
            {"key": stage_key},
        ).fetchall()
    return dict(rows)


def add_relabelled(
    cursor: duckdb.DuckDBPyConnection, stage_key: UUID, run_id: UUID, found: Sequence[Relabelled]
) -> Stored:
    """
    Store what was found, a new revision for each positive that moved, and that the samples are done.

    One that another process finished meanwhile is passed over. So is one that a person decided or edited meanwhile, or
    has before them (`overtaken`): it is not marked as done. One that would say what another sample says stays
    (`duplicate`).
    """
    done = done_meanwhile(cursor, "relabelled", "sample_id", stage_key, [each.sample.sample_id for each in found])
    waiting = [each for each in found if each.sample.sample_id not in done]
    current = _undecided(cursor, waiting)
    fresh = [each for each in waiting if each.sample.revision_id in current]
    moves = _moves(cursor, fresh)
    created_at = now()
    rows = [_row(each, moves) | {"created_at": created_at} for each in fresh]
    outcomes = Counter(row["outcome"] for row in rows)
    insert(cursor, "relabelled", [row | {"stage_key": stage_key, "run_id": run_id} for row in rows])
    _move(cursor, [each for each in fresh if each.sample.revision_id in moves], moves, run_id)
    num_negatives = _add_negatives(cursor, fresh, moves, run_id)
    add_finished(cursor, stage_key, run_id, [Finished(each.sample, ()) for each in fresh])
    refresh_state(cursor, [each.sample.sample_id for each in fresh])
    return Stored(outcomes + Counter({OVERTAKEN: len(waiting) - len(fresh)}), num_negatives)


def _undecided(cursor: duckdb.DuckDBPyConnection, found: Sequence[Relabelled]) -> set[UUID]:
    """
    The revisions among these that are the latest of their samples, and that no person has decided. Those of a card that
    a reviewer holds are left out: their verdict would be of what the sample says no more, and count for nothing.
    """
    rows = cursor.execute(
        "SELECT revision_id FROM sample_state WHERE revision_id IN (SELECT unnest($ids::UUID[]))"
        " AND decided_kind IS DISTINCT FROM 'human'"
        " AND sample_id NOT IN (SELECT sample_id FROM claim WHERE expires_at > $now)",
        {"ids": [str(each.sample.revision_id) for each in found], "now": now()},
    ).fetchall()
    return {revision_id for (revision_id,) in rows}


def _moves(cursor: duckdb.DuckDBPyConnection, found: Sequence[Relabelled]) -> dict[UUID, UUID]:
    """The new revision's id, by the old one's, of each sample that moves to what no other sample says."""
    hashes = {each.sample.revision_id: content_hash(each.content) for each in found if each.outcome == MOVED}
    rows = cursor.execute(
        "SELECT r.content_hash, r.sample_id FROM revision r JOIN source s USING (source_id)"
        " WHERE s.declared_use = 'train' AND r.content_hash IN (SELECT unnest($hashes::UUID[]))",
        {"hashes": sorted({str(each) for each in hashes.values()})},
    ).fetchall()
    taken: dict[UUID, set[UUID]] = {}
    for said, sample_id in rows:
        taken.setdefault(said, set()).add(sample_id)
    moves = {}
    for each in found:
        said = hashes.get(each.sample.revision_id)
        if said and not taken.get(said, set()) - {each.sample.sample_id}:
            moves[each.sample.revision_id] = new_id()
            taken.setdefault(said, set()).add(each.sample.sample_id)
    return moves


def _row(each: Relabelled, moves: Mapping[UUID, UUID]) -> dict[str, Any]:
    before, after = each.sample.content, each.content
    assert isinstance(before, Retrieval) and isinstance(after, Retrieval)
    moved_to = moves.get(each.sample.revision_id)
    stays = each.outcome == MOVED and moved_to is None
    return {
        "sample_id": each.sample.sample_id,
        "revision_id": each.sample.revision_id,
        "outcome": DUPLICATE if stays else each.outcome,
        "moved_to": moved_to,
        "passage_from": text_id(before.positives[0]),
        "passage_to": text_id((after if moved_to else before).positives[0]),
        "candidates": each.candidates,
        "num_negatives": 0 if stays else len(each.negatives),
        "call_id": each.call_id,
    }


def _move(
    cursor: duckdb.DuckDBPyConnection, moving: Sequence[Relabelled], moves: Mapping[UUID, UUID], run_id: UUID
) -> None:
    if not moving:
        return
    rows = [
        {
            "revision_id": each.sample.revision_id,
            "moved_to": moves[each.sample.revision_id],
            "content_hash": content_hash(each.content),
            "positives": list(each.content.positives) if isinstance(each.content, Retrieval) else [],
            "answers": list(each.answers),
            "model": each.model,
            "prompt_version": each.prompt_version,
            "call_id": each.call_id,
        }
        for each in moving
    ]
    values = {"operation": OPERATION, "run": run_id, "now": now()}
    with batch(cursor, rows, "moving"):
        cursor.execute(MOVE, values)
        cursor.execute(CARRY, {"now": values["now"]})


def _add_negatives(
    cursor: duckdb.DuckDBPyConnection, found: Sequence[Relabelled], moves: Mapping[UUID, UUID], run_id: UUID
) -> int:
    created_at = now()
    rows = [
        asdict(negative)
        | {
            "negative_id": new_id(),
            "revision_id": moves.get(each.sample.revision_id, each.sample.revision_id),
            "call_id": each.call_id,
            "run_id": run_id,
            "created_at": created_at,
        }
        for each in found
        if each.outcome != MOVED or each.sample.revision_id in moves  # else they are of what it does not say
        for negative in each.negatives
    ]
    if not rows:
        return 0
    with batch(cursor, rows, "found"):
        added = cursor.execute(ADD).fetchall()
    return int(added[0][0])
