"""What mining needs and stores of samples whose people gave labels: classes of texts, and scores of pairs."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any
from uuid import UUID

import duckdb

from synth.records import Negative, new_id
from synth.store.connection import Store
from synth.store.minings import Status
from synth.store.rows import batch, insert, now
from synth.store.samples import done_meanwhile, refresh_state

# All texts of the sources, for they are each other's corpus; a rejected sample's class is no class.
LABELLED = """
SELECT st.sample_id, st.revision_id, r.text, r.label, s.name, d.revision_id IS NULL AS is_pending
FROM sample_state st JOIN revision r USING (revision_id) JOIN source s ON s.source_id = st.source_id
LEFT JOIN (SELECT DISTINCT revision_id FROM mined WHERE stage_key = $key) d ON d.revision_id = st.revision_id
WHERE st.task = 'classification' AND st.declared_use = 'train' AND st.status <> 'rejected'
  AND (len($names) = 0 OR s.name IN (SELECT unnest($names)))
ORDER BY s.name, r.content_hash
"""
HELD_OUT = """
SELECT DISTINCT r.text FROM sample_state st JOIN revision r USING (revision_id)
WHERE st.task = 'classification' AND st.declared_use = 'eval'
"""
SCORED = """
SELECT st.sample_id, st.revision_id, r.text1, r.text2, r.score, s.name, c.cosine
FROM sample_state st JOIN revision r USING (revision_id) JOIN source s ON s.source_id = st.source_id
LEFT JOIN pair_cosine c ON c.revision_id = st.revision_id AND c.stage_key = $key
WHERE st.task = 'sts' AND st.declared_use = 'train' AND st.status <> 'rejected'
  AND (len($names) = 0 OR s.name IN (SELECT unnest($names)))
ORDER BY s.name, r.content_hash
"""


@dataclass(frozen=True, slots=True)
class Labelled:
    """A classification sample to train on, as mining needs it."""

    sample_id: UUID
    revision_id: UUID
    text: str
    label: str
    source: str
    is_pending: bool  # a mine stage of this configuration has not finished it


@dataclass(frozen=True, slots=True)
class ClassMined:
    """
    What mining one classification sample gave. `positive_rank` is 1 and the number of texts of other classes that are
    nearer than the nearest of its own, whose cosine is `positive_score`.

    `negatives` holds those asked for, and after them those set aside, which are flagged. `fallen` says how many
    candidates fell for which reason; `status` and `reason` are as in `Mined`.
    """

    sample: Labelled
    status: Status
    reason: str
    negatives: tuple[Negative, ...]
    positive_rank: int
    positive_score: float
    num_candidates: int
    fallen: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class ScoredPair:
    """A scored pair to train on, and its cosine if a mine stage of this configuration has stored it."""

    sample_id: UUID
    revision_id: UUID
    text1: str
    text2: str
    score: float
    source: str
    cosine: float | None


@dataclass(frozen=True, slots=True)
class Boundary:
    """The decision boundary of a source's pairs; pairs with `least_score` or more are the upper half."""

    source: str
    boundary: float
    least_score: float
    num_pairs: int
    num_correct: int  # pairs of the upper half at or above it, and of the lower half below it


def labelled(store: Store, stage_key: UUID, names: Sequence[str] = ()) -> tuple[list[Labelled], list[str]]:
    """The classification samples to train on that nobody rejected, in a fixed order; and all held-out texts."""
    with store.read() as cursor:
        rows = cursor.execute(LABELLED, {"key": stage_key, "names": list(names)}).fetchall()
        held_out = cursor.execute(HELD_OUT).fetchall()
    return [Labelled(*row) for row in rows], [text for (text,) in held_out]


def add_class_mined(
    cursor: duckdb.DuckDBPyConnection,
    stage_key: UUID,
    run_id: UUID,
    results: Sequence[ClassMined],
    texts: Mapping[UUID, str],
) -> int:
    """
    Store the negatives found, the `texts` among them that the store has not as texts yet, and that these revisions are
    done; one that another process finished meanwhile is passed over. Returns how many negatives were stored.
    """
    revisions = [result.sample.revision_id for result in results]
    meanwhile = done_meanwhile(cursor, "mined", "revision_id", stage_key, revisions)
    results = [result for result in results if result.sample.revision_id not in meanwhile]
    made = {"run_id": run_id, "created_at": now()}
    negatives = [
        {"negative_id": new_id()} | _row(negative) | made for result in results for negative in result.negatives
    ]
    _add_texts(cursor, {row["text_id"]: texts[row["text_id"]] for row in negatives})
    insert(cursor, "negative", negatives)
    done = [
        {
            "stage_key": stage_key,
            "revision_id": result.sample.revision_id,
            "sample_id": result.sample.sample_id,
            "status": result.status,
            "reason": result.reason,
            "positive_rank": result.positive_rank,
            "positive_score": result.positive_score,
            "num_negatives": len(result.negatives),
            "num_candidates": result.num_candidates,
            "num_capped": result.fallen.get("near_positive", 0),
            "fallen": json.dumps(result.fallen, sort_keys=True),
        }
        | made
        for result in results
    ]
    insert(cursor, "mined", done)
    refresh_state(cursor, [result.sample.sample_id for result in results])
    return len(negatives)


def _row(negative: Negative) -> dict[str, Any]:
    """Its columns; `asdict` would copy ids and numbers too, at five times the time."""
    columns = {name: getattr(negative, name) for name in Negative.__dataclass_fields__}
    return columns | {"miners": [asdict(miner) for miner in negative.miners]}


def _add_texts(cursor: duckdb.DuckDBPyConnection, texts: Mapping[UUID, str]) -> None:
    if not texts:
        return
    rows = [{"text_id": text_id, "text": text, "created_at": now()} for text_id, text in texts.items()]
    with batch(cursor, rows):
        cursor.execute(
            "INSERT INTO text BY NAME SELECT * REPLACE (text_id::UUID AS text_id) FROM batch b"
            " ANTI JOIN text t ON t.text_id = b.text_id::UUID"
        )


def scored(store: Store, stage_key: UUID, names: Sequence[str] = ()) -> list[ScoredPair]:
    """The scored pairs to train on that nobody rejected, in a fixed order."""
    with store.read() as cursor:
        rows = cursor.execute(SCORED, {"key": stage_key, "names": list(names)}).fetchall()
    return [ScoredPair(*row) for row in rows]


def add_cosines(
    cursor: duckdb.DuckDBPyConnection,
    stage_key: UUID,
    run_id: UUID,
    cosines: Sequence[tuple[ScoredPair, float]],
    boundary: Boundary,
) -> None:
    """Store the cosines of pairs of a source that have none yet, and the boundary drawn with them."""
    made = {"stage_key": stage_key, "run_id": run_id, "created_at": now()}
    rows = [
        {"revision_id": pair.revision_id, "sample_id": pair.sample_id, "cosine": cosine} | made
        for pair, cosine in cosines
    ]
    insert(cursor, "pair_cosine", rows)
    insert(cursor, "pair_boundary", [asdict(boundary) | made])
