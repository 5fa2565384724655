"""What a generate stage makes of its seeds: samples, negatives written for samples, and what the checks rejected."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import NamedTuple
from uuid import UUID

import duckdb

from synth.records import Draft, Sample, Seed, Written, content_hash, new_id
from synth.records import text_id as text_id_of
from synth.store.connection import Store
from synth.store.rows import batch, first, insert, now
from synth.store.samples import add_drafts, done_meanwhile, refresh_state

MOST_KEPT = 4_000  # characters of a rejected text


@dataclass(frozen=True, slots=True)
class Rejected:
    """A text of a reply that a check rejected: one word why, the text, what was found, and the reply."""

    reason: str
    text: str
    found: str
    call_id: UUID | None = None


@dataclass(frozen=True, slots=True)
class Finished:
    """What a seed gave; then it is done."""

    seed: Seed
    made: Sequence[Draft | Written]
    rejections: Sequence[Rejected] = ()

    @property
    def drafts(self) -> list[Draft]:
        """The samples among what was made."""
        return [each for each in self.made if isinstance(each, Draft)]

    @property
    def num_made(self) -> int:
        """Samples and negatives together."""
        return len(self.made) + sum(len(each.written) for each in self.drafts)


class Stored(NamedTuple):
    """How many samples and how many negatives are new, of those that were made."""

    num_samples: int
    num_negatives: int


def any_done(store: Store, stage_key: UUID) -> bool:
    """Whether a generate stage of this configuration has finished any seed."""
    with store.read() as cursor:
        return first(cursor.execute("SELECT 1 FROM generated WHERE stage_key = ? LIMIT 1", [stage_key])) is not None


def ever_done(store: Store, seed_ids: Sequence[UUID]) -> set[UUID]:
    """Which of these seeds a generate stage of any configuration has finished."""
    with store.read() as cursor:
        rows = cursor.execute(
            "SELECT DISTINCT seed_id FROM generated WHERE seed_id IN (SELECT unnest($ids::UUID[]))",
            {"ids": [str(each) for each in seed_ids]},
        ).fetchall()
    return {seed_id for (seed_id,) in rows}


def add_finished(
    cursor: duckdb.DuckDBPyConnection, stage_key: UUID, run_id: UUID, finished: Sequence[Finished]
) -> Stored:
    """
    Store what seeds gave, what was rejected of it, and that they are done. A seed that another process finished
    meanwhile is passed over.
    """
    done = done_meanwhile(cursor, "generated", "seed_id", stage_key, [each.seed.seed_id for each in finished])
    finished = [each for each in finished if each.seed.seed_id not in done]
    created_at = now()
    rows = [
        {
            "stage_key": stage_key,
            "seed_id": each.seed.seed_id,
            "run_id": run_id,
            "num_samples": len(each.made),  # or negatives of its own
            "rejections": json.dumps(Counter(rejection.reason for rejection in each.rejections)),
            "created_at": created_at,
        }
        for each in finished
    ]
    insert(cursor, "generated", rows)
    rejections = [
        asdict(rejection)
        | {
            "rejection_id": new_id(),
            "seed_id": each.seed.seed_id,
            "text": rejection.text[:MOST_KEPT],
            "run_id": run_id,
            "created_at": created_at,
        }
        for each in finished
        for rejection in each.rejections
    ]
    insert(cursor, "rejection", rejections)
    return add_made(cursor, run_id, finished)


def add_made(cursor: duckdb.DuckDBPyConnection, run_id: UUID, begun: Sequence[Finished]) -> Stored:
    """Store what seeds gave that need not be done yet: when they are, it is there already."""
    drafts = [draft for each in begun for draft in each.drafts]
    num_samples = add_drafts(cursor, drafts, run_id)
    num_negatives = _add_written(cursor, run_id, _with_samples(cursor, run_id, begun, drafts))
    return Stored(num_samples, num_negatives)


@dataclass(frozen=True, slots=True)
class _Owned:
    """A negative that was written for a sample."""

    sample_id: UUID
    revision_id: UUID
    written: Written


def _with_samples(
    cursor: duckdb.DuckDBPyConnection, run_id: UUID, finished: Sequence[Finished], drafts: Sequence[Draft]
) -> list[_Owned]:
    """The negatives written, each with its sample: the seed, or the sample that came with it, if that is new."""
    owned = [
        _Owned(each.seed.sample_id, each.seed.revision_id, made)
        for each in finished
        if isinstance(each.seed, Sample)
        for made in each.made
        if isinstance(made, Written)
    ]
    with_own = {content_hash(draft.content): draft for draft in reversed(drafts) if draft.written}
    if with_own:
        rows = cursor.execute(
            "SELECT content_hash, sample_id, revision_id FROM revision WHERE run_id = $run AND number = 1"
            " AND content_hash IN (SELECT unnest($hashes::UUID[]))",
            {"run": run_id, "hashes": [str(each) for each in with_own]},
        ).fetchall()
        owned += [
            _Owned(sample, revision, each) for hash_, sample, revision in rows for each in with_own[hash_].written
        ]
    return owned


def _add_written(cursor: duckdb.DuckDBPyConnection, run_id: UUID, owned: Sequence[_Owned]) -> int:
    """Store negatives that were written, and their texts, but none that its sample has already. Returns how many."""
    if not owned:
        return 0
    created_at = now()
    rows = {
        (each.revision_id, text_id_of(each.written.text)): {
            "negative_id": new_id(),
            "sample_id": each.sample_id,
            "revision_id": each.revision_id,
            "text_id": text_id_of(each.written.text),
            "text": each.written.text,
            "origin": "generated",
            "kind": each.written.kind,
            "requirement": each.written.requirement,
            "call_id": each.written.call_id,
            "run_id": run_id,
            "created_at": created_at,
        }
        for each in owned
    }
    with batch(cursor, list(rows.values()), "written"):
        cursor.execute(
            "INSERT INTO text BY NAME SELECT w.text_id::UUID AS text_id, any_value(w.text) AS text,"
            " any_value(w.created_at) AS created_at FROM written w"
            " ANTI JOIN text t ON t.text_id = w.text_id::UUID GROUP BY 1"
        )
        added = cursor.execute(
            "INSERT INTO negative BY NAME SELECT w.* EXCLUDE text FROM written w ANTI JOIN negative n"
            " ON n.revision_id = w.revision_id::UUID AND n.text_id = w.text_id::UUID"
        ).fetchall()
    refresh_state(cursor, [each.sample_id for each in owned])
    return int(added[0][0])
