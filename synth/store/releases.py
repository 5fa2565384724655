"""The record of releases made, and what a release tells of the store beside its samples."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import duckdb

from synth.records import new_id
from synth.store.connection import Store
from synth.store.release_policy import ReleasePolicy
from synth.store.rows import first, insert
from synth.store.selection import CHOSEN, records

HELD_OUT = """
SELECT st.sample_id, st.task, s.source_id, s.name, r.external_id, r.query, r.positives, r.text1, r.text2, r.score,
       r.text, r.label
FROM sample_state st JOIN revision r USING (revision_id) JOIN source s ON s.source_id = st.source_id
WHERE st.declared_use = 'eval' ORDER BY s.name, st.task, r.content_hash, st.sample_id
"""


RECORD = "name, digest, path, created_at, manifest_sha256"


@dataclass(frozen=True, slots=True)
class ReleaseRecord:
    """A release that was made."""

    name: str
    digest: str
    path: str
    created_at: datetime
    manifest_sha256: str | None  # None for one that was made before this was kept


@dataclass(frozen=True, slots=True)
class HeldOut:
    """The held-out rows of one source and task. Keys of a row are the columns of HELD_OUT."""

    name: str
    task: str
    rows: list[dict[str, Any]]


def held_out(cursor: duckdb.DuckDBPyConnection) -> list[HeldOut]:
    """The evaluation sets: every source with rows declared `eval`, by name and task."""
    sets: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in records(cursor.execute(HELD_OUT)):
        sets.setdefault((row["name"], row["task"]), []).append(row)
    return [HeldOut(name, task, rows) for (name, task), rows in sets.items()]


def source_cards(cursor: duckdb.DuckDBPyConnection) -> list[dict[str, Any]]:
    """Name, split, use, kind, origin, licence and version of every source."""
    return records(
        cursor.execute("SELECT name, split, declared_use, kind, origin, licence, version FROM source ORDER BY ALL")
    )


def find_release(store: Store, name: str) -> ReleaseRecord | None:
    """The release of this name, or None."""
    with store.read() as cursor:
        row = first(cursor.execute(f"SELECT {RECORD} FROM release WHERE name = ?", [name]))
    return ReleaseRecord(*row) if row else None


def recorded_releases(store: Store) -> list[ReleaseRecord]:
    """Every release that was made, in the order of their making."""
    with store.read() as cursor:
        rows = cursor.execute(f"SELECT {RECORD} FROM release ORDER BY created_at, name").fetchall()
    return [ReleaseRecord(*row) for row in rows]


def record_rewritten(cursor: duckdb.DuckDBPyConnection, name: str, path: Path, manifest_sha256: str) -> None:
    """Record that a release whose folder was lost was written again, with the same samples, there."""
    cursor.execute(
        "UPDATE release SET path = $path, manifest_sha256 = $sha WHERE name = $name",
        {"path": str(path), "sha": manifest_sha256, "name": name},
    )


def add_release(
    cursor: duckdb.DuckDBPyConnection,
    *,
    name: str,
    digest: str,
    policy: ReleasePolicy,
    counts: Mapping[str, Any],
    path: Path,
    manifest_sha256: str,
    run_id: UUID,
    created_at: datetime,
    folder: Path,
) -> bool:
    """Record a release and its members, those of CHOSEN in `folder`. False, recording nothing, if the name is taken."""
    if first(cursor.execute("SELECT 1 FROM release WHERE name = ?", [name])):
        return False
    release_id = new_id()
    row = {
        "release_id": release_id,
        "name": name,
        "digest": digest,
        "policy": json.dumps(asdict(policy), sort_keys=True, ensure_ascii=False),
        "counts": json.dumps(counts, sort_keys=True),
        "path": str(path),
        "manifest_sha256": manifest_sha256,
        "run_id": run_id,
        "created_at": created_at,
    }
    insert(cursor, "release", [row])
    cursor.execute(
        "INSERT INTO release_item SELECT $id::UUID, sample_id, revision_id,"
        " list_transform(negatives, lambda n: n.negative_id)"
        " FROM read_parquet($chosen, hive_partitioning = false) ORDER BY sample_id",
        {"id": str(release_id), "chosen": str(folder / CHOSEN)},
    )
    return True
