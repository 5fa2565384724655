"""Policies: a stated rule decides what nobody did, under its own name."""

from uuid import UUID

import pytest

from synth.records import Draft, Retrieval, ReviewEvent, Source, Verdict, new_id
from synth.stages.review import POLICIES, Terms, apply_policy, consistent, labelled
from synth.store import reviews, samples
from synth.store.connection import Store
from synth.store.console import query
from synth.store.reviews import Candidate
from synth.store.rows import insert
from tests.synth.stages.relabelling import add_corpus, add_queries


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
    assert consistent(case, Terms(20)).verdict is verdict


@pytest.mark.parametrize("task", ["sts", "classification"])
def test_consistent_says_that_other_tasks_are_not_its_own_and_who_takes_them(task: str) -> None:
    case = Candidate(UUID(int=1), UUID(int=1), task, "query", None, 0, "pending")
    decision = consistent(case, Terms(20))
    assert decision.verdict is None
    assert decision.reason == "retrieval samples only; --policy everything takes these"


def test_a_rank_is_told_as_within_or_beyond() -> None:
    reasons = [consistent(candidate("query", rank, 1), Terms(20)).reason for rank in (20, 21)]
    assert reasons == ["positive ranks within 20", "positive ranks beyond 20"]


def mined_in_a_corpus_of(store: Store, num_passages: int) -> None:
    """One generated sample, mined in so many passages."""
    texts = [f"Passage {number}." for number in range(num_passages)]
    source = add_corpus(store, texts, "handbook")
    add_queries(store, source, [("which is the first?", texts[0])])
    [row] = query(store, "SELECT sample_id, revision_id FROM samples").to_pylist()
    with store.write() as cursor:
        insert(cursor, "mined", [row | {"stage_key": new_id(), "run_id": new_id(), "positive_rank": 3}])


def test_consistent_warns_where_the_corpus_is_too_small_for_the_rank_to_say_much(store: Store) -> None:
    mined_in_a_corpus_of(store, 79)
    assert apply_policy(store, "consistent", max_rank=20).warning == (
        "within 20 says little of a corpus of fewer than 80 passages (handbook 79): give a smaller --max-rank"
    )
    assert apply_policy(store, "consistent", max_rank=19).warning == ""
    assert apply_policy(store, "everything", max_rank=20).warning == ""


def test_labelled_leaves_generated_samples_to_people() -> None:
    assert labelled(candidate("query", rank=1, negatives=4), Terms(20)).verdict is None


def test_every_decision_states_its_reason() -> None:
    cases = [candidate("ingest"), candidate("query"), candidate("query", 50, 1), candidate("query", 1, 0)]
    assert all(policy(case, Terms(20)).reason for policy in POLICIES.values() for case in cases)


def test_a_policy_leaves_what_people_judged_or_disagree_on_and_says_nothing_twice(
    store: Store, training_source: Source
) -> None:
    queries = ("undecided?", "approved?", "disputed?")
    drafts = [Draft(Retrieval(query, ("Yes.",)), training_source.source_id, "ingest") for query in queries]
    with store.write() as cursor:
        samples.add_drafts(cursor, drafts, new_id())
        ids = dict(cursor.execute("SELECT query, sample_id FROM samples").fetchall())
    words = [
        ("ann", "approved?", Verdict.APPROVE),
        ("ann", "disputed?", Verdict.APPROVE),
        ("bob", "disputed?", Verdict.REJECT),
    ]
    reviews.add_reviews(store, [ReviewEvent(new_id(), who, ids[query], ids[query], said) for who, query, said in words])
    outcomes = [apply_policy(store, "everything", max_rank=20) for _ in range(2)]
    assert [outcome.counts for outcome in outcomes] == [{("retrieval", "approve", "everything approved"): 1}] * 2
    assert [outcome.num_new for outcome in outcomes] == [1, 0]
    with store.read() as cursor:
        found = cursor.execute("SELECT query, status, decided_by, num_reviews FROM samples ORDER BY query").fetchall()
    assert found == [
        ("approved?", "approved", "ann", 1),
        ("disputed?", "disputed", "ann, bob", 2),
        ("undecided?", "approved", "policy:everything", 1),
    ]
