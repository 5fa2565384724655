"""Policies: a stated rule decides what nobody did, under its own name."""

from uuid import UUID

import pytest

from synth.records import Verdict
from synth.stages.review import POLICIES, consistent, labelled
from synth.store.reviews import Candidate


def candidate(operation: str, rank: int | None = None, negatives: int = 0) -> Candidate:
    return Candidate(UUID(int=1), UUID(int=1), "retrieval", operation, rank, negatives, "pending")


@pytest.mark.parametrize(
    ("case", "verdict"),
    [
        (candidate("ingest"), Verdict.APPROVE),
        (candidate("query"), None),
        (candidate("query", rank=20, negatives=1), Verdict.APPROVE),
        (candidate("query", rank=21, negatives=1), Verdict.REJECT),
        (candidate("query", rank=1, negatives=0), Verdict.REJECT),
    ],
)
def test_consistent_wants_the_positive_found_and_a_negative(case: Candidate, verdict: Verdict | None) -> None:
    assert consistent(case, 20).verdict is verdict


def test_labelled_leaves_generated_samples_to_people() -> None:
    assert labelled(candidate("query", rank=1, negatives=4), 20).verdict is None


def test_every_decision_states_its_reason() -> None:
    cases = [candidate("ingest"), candidate("query"), candidate("query", 50, 1), candidate("query", 1, 0)]
    assert all(policy(case, 20).reason for policy in POLICIES.values() for case in cases)
