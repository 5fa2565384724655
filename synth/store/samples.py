"""Samples, their revisions, their negatives, and what the stages have finished."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.resources import files
from typing import Any
from uuid import UUID

import duckdb

from synth.records import TASK_OF, Draft, Negative, content_hash, new_id
from synth.store.connection import Store
from synth.store.rows import batch, first, insert, now


def add_drafts(cursor: duckdb.DuckDBPyConnection, drafts: Iterable[Draft], run_id: UUID) -> int:
    """
    Store each draft as the first revision of a new sample, unless its content is there already. Returns how many.

    Content is the same in the whole store for samples to train on, but within its source for held-out ones, so that
    every evaluation set stays whole.
    """
    rows = {}
    for draft in drafts:
        row = _row(draft, run_id)
        rows[row["content_hash"], row["source_id"]] = row
    fresh = _without_known(cursor, list(rows.values()))
    insert(cursor, "revision", fresh)
    refresh_state(cursor, [row["sample_id"] for row in fresh])
    return len(fresh)


def _row(draft: Draft, run_id: UUID) -> dict[str, Any]:
    sample_id = new_id()
    fields: dict[str, Any] = dict.fromkeys(
        ("instruction", "query", "positives", "text1", "text2", "score", "text", "label")
    )
    return {
        "revision_id": sample_id,
        "sample_id": sample_id,
        "parent_id": None,
        "number": 1,
        "content_hash": content_hash(draft.content),
        "task": TASK_OF[type(draft.content)].value,
        "operation": draft.operation,
        "method": draft.method,
        "source_id": draft.source_id,
        "seed_id": draft.seed_id,
        "external_id": draft.external_id,
        "actor": draft.model or draft.operation,
        "model": draft.model,
        "prompt_version": draft.prompt_version,
        "run_id": run_id,
        "call_id": draft.call_id,
        "created_at": now(),
        **fields,
        **asdict(draft.content),
    }


def _without_known(cursor: duckdb.DuckDBPyConnection, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    if not rows:
        return []
    keys = [{"content_hash": row["content_hash"], "source_id": row["source_id"]} for row in rows]
    with batch(cursor, keys):
        known = cursor.execute(
            "SELECT DISTINCT b.content_hash, b.source_id FROM batch b"
            " JOIN source own ON own.source_id = b.source_id::UUID"
            " JOIN revision r ON r.content_hash = b.content_hash::UUID JOIN source s ON s.source_id = r.source_id"
            " WHERE r.source_id = own.source_id OR (s.declared_use = 'train' AND own.declared_use = 'train')"
        ).fetchall()
        held_out = {
            source_id
            for (source_id,) in cursor.execute(
                "SELECT DISTINCT b.source_id FROM batch b JOIN source s ON s.source_id = b.source_id::UUID"
                " WHERE s.declared_use = 'eval'"
            ).fetchall()
        }
    skip = set(known)
    fresh, seen = [], set()
    for row in rows:
        if (str(row["content_hash"]), str(row["source_id"])) in skip:
            continue
        scope = row["source_id"] if str(row["source_id"]) in held_out else None
        if (row["content_hash"], scope) not in seen:
            seen.add((row["content_hash"], scope))
            fresh.append(row)
    return fresh


def refresh_state(cursor: duckdb.DuckDBPyConnection, sample_ids: Sequence[UUID]) -> None:
    """Derive the rows of sample_state anew for these samples, from the logs."""
    if not sample_ids:
        return
    with batch(cursor, [{"sample_id": sample_id} for sample_id in set(sample_ids)], "touched"):
        ids = "(SELECT sample_id::UUID AS sample_id FROM touched)"
        cursor.execute(f"DELETE FROM sample_state WHERE sample_id IN {ids}")
        cursor.execute(f"INSERT INTO sample_state BY NAME {_state_sql().format(ids=ids)}")


def rebuild_state(store: Store) -> int:
    """Derive the whole of sample_state from the logs. Returns how many samples' rows differed."""
    derived = _state_sql().format(ids="(SELECT DISTINCT sample_id FROM revision)")
    with store.write() as cursor:
        cursor.execute(f"CREATE TEMP TABLE derived AS {derived}")
        row = first(
            cursor.execute(
                "SELECT count(DISTINCT sample_id) FROM ((FROM derived EXCEPT FROM sample_state)"
                " UNION ALL (FROM sample_state EXCEPT FROM derived))"
            )
        )
        cursor.execute("DELETE FROM sample_state")
        cursor.execute("INSERT INTO sample_state BY NAME FROM derived")
        cursor.execute("DROP TABLE derived")
    return int(row[0]) if row else 0


def _state_sql() -> str:
    return files("synth.store").joinpath("state.sql").read_text(encoding="utf-8")


def seeds_done(store: Store, stage_key: UUID) -> set[UUID]:
    """The passages that a generate stage of this configuration has finished, by text id."""
    with store.read() as cursor:
        rows = cursor.execute("SELECT text_id FROM generated WHERE stage_key = ?", [stage_key]).fetchall()
    return {text_id for (text_id,) in rows}


def add_generated(
    cursor: duckdb.DuckDBPyConnection,
    stage_key: UUID,
    run_id: UUID,
    finished: Sequence[tuple[UUID, Sequence[Draft], Mapping[str, int]]],
) -> int:
    """
    Store what seeds gave, and that they are done: (text id of the seed, drafts, rejections by reason) each.

    A seed that another process finished meanwhile is passed over. Returns how many samples are new.
    """
    done = _done_meanwhile(cursor, "generated", "text_id", stage_key, [seed_id for seed_id, _, _ in finished])
    finished = [each for each in finished if each[0] not in done]
    rows = [
        {
            "stage_key": stage_key,
            "text_id": seed_id,
            "run_id": run_id,
            "num_samples": len(drafts),
            "rejections": json.dumps(rejections),
            "created_at": now(),
        }
        for seed_id, drafts, rejections in finished
    ]
    insert(cursor, "generated", rows)
    return add_drafts(cursor, (draft for _, drafts, _ in finished for draft in drafts), run_id)


def _done_meanwhile(
    cursor: duckdb.DuckDBPyConnection, table: str, column: str, stage_key: UUID, ids: Sequence[UUID]
) -> set[UUID]:
    rows = cursor.execute(
        f"SELECT {column} FROM {table} WHERE stage_key = $key AND {column} IN (SELECT unnest($ids::UUID[]))",
        {"key": stage_key, "ids": [str(each) for each in ids]},
    ).fetchall()
    return {found for (found,) in rows}


@dataclass(frozen=True, slots=True)
class Minable:
    """A retrieval sample as mining needs it."""

    sample_id: UUID
    revision_id: UUID
    query: str
    positives: tuple[str, ...]
    answers: tuple[str, ...]  # the positives of every sample that asks this query, held-out ones too
    seed_id: UUID | None
    source: str  # name: its corpus is searched


def minable(store: Store, stage_key: UUID, names: Sequence[str] = ()) -> list[Minable]:
    """
    The retrieval samples to train on that a mine stage of this configuration has not finished, in a fixed order. One
    whose query a held-out set asks too (it may have been declared held out later) is not among them.
    """
    with store.read() as cursor:
        rows = cursor.execute(
            "WITH head AS (SELECT r.* FROM sample_state st JOIN revision r USING (revision_id)"
            " WHERE st.task = 'retrieval'),"
            " known AS (SELECT query, list_distinct(flatten(list(positives))) AS answers FROM head GROUP BY query)"
            " SELECT h.sample_id, h.revision_id, h.query, h.positives, k.answers, h.seed_id, s.name"
            " FROM head h JOIN known k ON k.query = h.query JOIN source s ON s.source_id = h.source_id"
            " ANTI JOIN (SELECT revision_id FROM mined WHERE stage_key = $key) m ON m.revision_id = h.revision_id"
            " WHERE s.declared_use = 'train' AND h.query NOT IN"
            " (SELECT e.query FROM head e JOIN source o ON o.source_id = e.source_id WHERE o.declared_use = 'eval')"
            " AND (len($names) = 0 OR s.name IN (SELECT unnest($names))) ORDER BY s.name, h.content_hash",
            {"key": stage_key, "names": list(names)},
        ).fetchall()
    return [Minable(row[0], row[1], row[2], tuple(row[3]), tuple(row[4]), *row[5:]) for row in rows]


@dataclass(frozen=True, slots=True)
class Mined:
    """What mining one sample gave. `positive_rank` is the best positive's rank in the corpus, from 1."""

    sample: Minable
    status: str  # full, short or none
    reason: str
    positive_rank: int
    negatives: tuple[Negative, ...]


def add_mined(cursor: duckdb.DuckDBPyConnection, stage_key: UUID, run_id: UUID, results: Sequence[Mined]) -> int:
    """
    Store the negatives found, and that these revisions are done; one that another process finished meanwhile is passed
    over. Returns how many negatives were stored.
    """
    revisions = [result.sample.revision_id for result in results]
    meanwhile = _done_meanwhile(cursor, "mined", "revision_id", stage_key, revisions)
    results = [result for result in results if result.sample.revision_id not in meanwhile]
    created_at = now()
    negatives = [
        {"negative_id": new_id(), "run_id": run_id, "created_at": created_at} | asdict(negative)
        for result in results
        for negative in result.negatives
    ]
    insert(cursor, "negative", negatives)
    done = [
        {
            "stage_key": stage_key,
            "revision_id": result.sample.revision_id,
            "sample_id": result.sample.sample_id,
            "run_id": run_id,
            "status": result.status,
            "reason": result.reason,
            "positive_rank": result.positive_rank,
            "num_negatives": len(result.negatives),
            "created_at": created_at,
        }
        for result in results
    ]
    insert(cursor, "mined", done)
    refresh_state(cursor, [result.sample.sample_id for result in results])
    return len(negatives)
