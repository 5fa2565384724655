"""Evaluation texts, the samples that are compared with them, and what was found: overlaps and near-duplicates."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any
from uuid import UUID

import duckdb

from synth.store.connection import Store
from synth.store.rows import batch, insert, now

# Similar texts that count: of the cosine that the latest finished check for similar ones asked for, and above; so a
# check with a cosine that was too low is mended by another check.
STANDING_SIMILAR = """
SELECT o.* FROM overlap o WHERE o.kind = 'similar' AND o.value >= (
    SELECT json_extract_string(r.config, '$.similar')::DOUBLE FROM run r JOIN run_end e USING (run_id)
    WHERE r.kind = 'check' AND e.status = 'done' AND json_extract_string(r.config, '$.similar') IS NOT NULL
    ORDER BY r.started_at DESC, r.run_id DESC LIMIT 1
)
"""


@dataclass(frozen=True, slots=True)
class EvalSet:
    """One split of a held-out source, with the number of its samples."""

    source_id: UUID
    name: str
    split: str
    num_samples: int


@dataclass(frozen=True, slots=True)
class FoundOverlap:
    """A text of a sample's revision that repeats a text of an evaluation set. `eval_id` is the held-out sample."""

    sample_id: UUID
    revision_id: UUID
    field: str  # query, text1, text2, text or positive
    eval_source_id: UUID
    eval_id: UUID
    kind: str  # exact, ngram or similar
    value: float  # 1, a share of n-grams, or a cosine


@dataclass(frozen=True, slots=True)
class FoundDuplicate:
    """A sample's revision that says nearly what the sample `kept_id` says. `similarity` is a Jaccard index."""

    sample_id: UUID
    revision_id: UUID
    kept_id: UUID
    similarity: float


def eval_sets(store: Store) -> list[EvalSet]:
    """The held-out sources that have samples, by name and split."""
    with store.read() as cursor:
        rows = cursor.execute(
            "SELECT s.source_id, s.name, s.split, count(*) FROM sample_state st JOIN source s USING (source_id)"
            " WHERE st.declared_use = 'eval' GROUP BY ALL ORDER BY s.name, s.split, s.source_id"
        ).fetchall()
    return [EvalSet(*row) for row in rows]


def eval_texts(store: Store, source_ids: Sequence[UUID]) -> list[tuple[UUID, UUID, str]]:
    """What the samples of these held-out sources ask: (source id, sample id, text), in order of ids."""
    with store.read() as cursor:
        return cursor.execute(
            "SELECT source_id, sample_id, asked FROM ("
            " SELECT st.source_id, st.sample_id, unnest([r.query, r.text1, r.text2, r.text]) AS asked"
            " FROM sample_state st JOIN revision r USING (revision_id)"
            " WHERE st.declared_use = 'eval' AND st.source_id IN (SELECT unnest($ids::UUID[]))"
            ") WHERE asked IS NOT NULL ORDER BY ALL",
            {"ids": [str(source_id) for source_id in source_ids]},
        ).fetchall()


def num_training(store: Store) -> int:
    """How many samples there are to train on."""
    with store.read() as cursor:
        [(number,)] = cursor.execute("SELECT count(*) FROM sample_state WHERE declared_use = 'train'").fetchall()
    return int(number)


def training_slices(store: Store, size: int) -> Iterator[list[dict[str, Any]]]:
    """
    Every sample to train on, oldest first, at most `size` at a time, with a lease for each slice.

    Keys of a row are `source` (a name) and the columns of the latest revision that hold its ids, task and texts.
    """
    last = UUID(int=0)
    while True:
        with store.read() as cursor:
            cursor.execute(
                "WITH part AS (SELECT sample_id, revision_id, source_id FROM sample_state"
                " WHERE declared_use = 'train' AND sample_id > $last ORDER BY sample_id LIMIT $size)"
                " SELECT p.sample_id, p.revision_id, s.name AS source, r.task, r.instruction, r.query, r.positives,"
                " r.text1, r.text2, r.score, r.text, r.label"
                " FROM part p JOIN revision r ON r.revision_id = p.revision_id"
                " JOIN source s ON s.source_id = p.source_id ORDER BY p.sample_id",
                {"last": last, "size": size},
            )
            names = [column[0] for column in cursor.description or ()]
            found = cursor.fetchall()
        if not found:
            return
        rows = [dict(zip(names, row, strict=True)) for row in found]
        yield rows
        last = rows[-1]["sample_id"]


def add_overlaps(cursor: duckdb.DuckDBPyConnection, run_id: UUID, found: Sequence[FoundOverlap]) -> int:
    """Store overlaps, but for those that were found before in the same revision. Returns how many are new."""
    keys = ("revision_id", "field", "eval_source_id", "eval_id", "kind")
    return _add(cursor, "overlap", keys, run_id, [asdict(each) for each in found])


def add_near_duplicates(cursor: duckdb.DuckDBPyConnection, run_id: UUID, found: Sequence[FoundDuplicate]) -> int:
    """Store near-duplicates, but for those that were found before of the same revision. Returns how many are new."""
    return _add(cursor, "near_duplicate", ("revision_id", "kept_id"), run_id, [asdict(each) for each in found])


def _add(
    cursor: duckdb.DuckDBPyConnection, table: str, keys: Sequence[str], run_id: UUID, rows: list[dict[str, Any]]
) -> int:
    if not rows:
        return 0
    with batch(cursor, ({key: row[key] for key in keys} for row in rows)):
        same = " AND ".join(f"t.{key} = b.{key}{'::UUID' if key.endswith('_id') else ''}" for key in keys)
        known = set(cursor.execute(f"SELECT DISTINCT b.* FROM batch b JOIN {table} t ON {same}").fetchall())
    fresh: dict[tuple[str, ...], dict[str, Any]] = {}
    for row in rows:
        fresh.setdefault(tuple(str(row[key]) for key in keys), row)
    new = [row | {"run_id": run_id, "created_at": now()} for key, row in fresh.items() if key not in known]
    insert(cursor, table, new)
    return len(new)
