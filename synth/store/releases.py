"""What a release is made of, and the record of those made."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import duckdb

from synth.records import Passage, new_id
from synth.store.connection import Store
from synth.store.rows import first, insert, now
from synth.store.sources import corpora

APPROVED = """
WITH dropped AS (
    SELECT v.negative_id FROM review v
    WHERE v.negative_id IS NOT NULL AND v.verdict = 'reject' AND v.undoes IS NULL
      AND v.review_id NOT IN (SELECT undoes FROM review WHERE undoes IS NOT NULL)
),
wanted AS (
    SELECT st.sample_id, st.revision_id, st.source_id FROM sample_state st
    WHERE st.status = 'approved' AND st.declared_use = 'train'
),
latest AS (
    SELECT n.* FROM negative n SEMI JOIN wanted w ON w.revision_id = n.revision_id
    QUALIFY row_number() OVER (PARTITION BY n.revision_id, n.text_id ORDER BY n.negative_id DESC) = 1
),
chosen AS (
    SELECT n.revision_id, list({
        'negative_id': n.negative_id, 'text': t.text, 'origin': n.origin, 'rank': n.rank, 'score': n.score,
        'positive_score': n.positive_score
    } ORDER BY n.rank, n.text_id) AS negatives
    FROM latest n JOIN text t USING (text_id) ANTI JOIN dropped d ON d.negative_id = n.negative_id
    GROUP BY n.revision_id
)
SELECT w.sample_id, w.revision_id, r.content_hash, r.task, s.name AS dataset, r.operation, r.method, r.instruction,
       r.query, r.positives, r.text1, r.text2, r.score, r.text, r.label, coalesce(c.negatives, []) AS negatives
FROM wanted w JOIN revision r USING (revision_id) JOIN source s ON s.source_id = w.source_id
LEFT JOIN chosen c ON c.revision_id = w.revision_id ORDER BY r.content_hash
"""


@dataclass(frozen=True, slots=True)
class ReleaseRecord:
    """A release that was made."""

    name: str
    digest: str
    path: str


@dataclass(frozen=True, slots=True)
class HeldOut:
    """The held-out rows of one source: a retrieval set has a corpus, the others have none."""

    name: str
    kind: str
    rows: list[dict[str, Any]]
    corpus: list[Passage]


def _records(cursor: duckdb.DuckDBPyConnection) -> list[dict[str, Any]]:
    names = [column[0] for column in cursor.description or ()]
    return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def approved(store: Store) -> list[dict[str, Any]]:
    """
    Every approved sample to train on, with its negatives (latest mining of each, best rank first, without those that
    a reviewer dropped), ordered by content hash. Keys are the columns of a release's files, and `task`.
    """
    with store.read() as cursor:
        return _records(cursor.execute(APPROVED))


def count_statuses(store: Store) -> dict[str, int]:
    """How many samples to train on are pending, approved and rejected."""
    with store.read() as cursor:
        return dict(
            cursor.execute(
                "SELECT status, count(*) FROM sample_state WHERE declared_use = 'train' GROUP BY 1"
            ).fetchall()
        )


def held_out(store: Store) -> list[HeldOut]:
    """The evaluation sets: every source with rows declared `eval`, by name."""
    with store.read() as cursor:
        rows = _records(
            cursor.execute(
                "SELECT s.name, s.kind, r.external_id, r.query, r.positives, r.text1, r.text2, r.score, r.text, r.label"
                " FROM sample_state st JOIN revision r USING (revision_id) JOIN source s ON s.source_id = st.source_id"
                " WHERE st.declared_use = 'eval' ORDER BY s.name, r.content_hash"
            )
        )
    by_name: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        by_name.setdefault(row["name"], []).append(row)
    retrieval = [name for name, found in by_name.items() if found[0]["kind"] == "retrieval"]
    passages = corpora(store, retrieval) if retrieval else {}
    return [HeldOut(name, found[0]["kind"], found, passages.get(name, [])) for name, found in by_name.items()]


def source_cards(store: Store, names: Sequence[str]) -> list[dict[str, Any]]:
    """Name, splits, use, origin, licence and version of the named sources, for a datasheet."""
    with store.read() as cursor:
        return _records(
            cursor.execute(
                "SELECT name, split, declared_use, kind, origin, licence, version FROM source"
                " WHERE name IN (SELECT unnest($names)) ORDER BY ALL",
                {"names": list(names)},
            )
        )


def find_release(store: Store, name: str) -> ReleaseRecord | None:
    """The release of this name, or None."""
    with store.read() as cursor:
        row = first(cursor.execute("SELECT name, digest, path FROM release WHERE name = ?", [name]))
    return ReleaseRecord(*row) if row else None


def add_release(
    cursor: duckdb.DuckDBPyConnection,
    *,
    name: str,
    digest: str,
    policy: Mapping[str, Any],
    counts: Mapping[str, Any],
    path: str,
    run_id: UUID,
    items: Sequence[tuple[UUID, UUID, Sequence[UUID]]],
) -> bool:
    """
    Record a release and its members: (sample id, revision id, ids of the chosen negatives) each. False, recording
    nothing, if the name is taken.
    """
    if first(cursor.execute("SELECT 1 FROM release WHERE name = ?", [name])):
        return False
    release_id = new_id()
    row = {
        "release_id": release_id,
        "name": name,
        "digest": digest,
        "policy": json.dumps(policy, sort_keys=True),
        "counts": json.dumps(counts, sort_keys=True),
        "path": path,
        "run_id": run_id,
        "created_at": now(),
    }
    insert(cursor, "release", [row])
    members = [
        {"release_id": release_id, "sample_id": sample, "revision_id": revision, "negative_ids": list(negatives)}
        for sample, revision, negatives in items
    ]
    insert(cursor, "release_item", members)
    return True
