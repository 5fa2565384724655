"""What people say of samples, and which samples the random part has, for the tests of figures."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from synth.records import ReviewEvent, Verdict, new_id
from synth.store import reviews
from synth.store.connection import Store
from synth.store.console import query

RANDOM, TRIAGED = "draw < 0.2", "draw >= 0.2"


def ids(store: Store, condition: str) -> list[UUID]:
    """The samples of a condition on `sample_state`, in the order of draw."""
    rows = query(store, f"SELECT sample_id FROM sample_state WHERE {condition} ORDER BY draw").to_pylist()
    return [UUID(row["sample_id"]) for row in rows]


def negatives_of(store: Store, sample_id: UUID) -> list[UUID]:
    """A sample's negatives, nearest to the query first."""
    rows = query(
        store, f"SELECT negative_id FROM negatives WHERE sample_id = '{sample_id}' ORDER BY rank, negative_id"
    ).to_pylist()
    return [UUID(row["negative_id"]) for row in rows]


def word(sample_id: UUID, verdict: Verdict = Verdict.APPROVE, reviewer: str = "ann", **fields: Any) -> ReviewEvent:
    """One event, of a sample's first revision."""
    return ReviewEvent(new_id(), reviewer, sample_id, sample_id, verdict, **fields)


def say(store: Store, sample_ids: Sequence[UUID], verdict: Verdict = Verdict.APPROVE, reviewer: str = "ann") -> None:
    """The same verdict on several samples."""
    reviews.add_reviews(store, [word(each, verdict, reviewer) for each in sample_ids])
