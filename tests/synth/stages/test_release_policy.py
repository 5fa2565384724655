"""The policy of a release: a file, options laid over it, and what it lets in."""

from pathlib import Path
from typing import Any

import pytest

from synth.records import Classification, Retrieval, Task, UserError, Verdict
from synth.stages.release_files import read_rows
from synth.store.connection import Store
from synth.store.console import query
from synth.store.release_policy import ReleasePolicy, read_policy
from tests.synth.stages.releasing import add, approve_all, create, judge, retrieval, source, sts


def released_queries(path: Path) -> set[str]:
    return {row["query"] for row in read_rows(path, Task.RETRIEVAL)}


def test_options_are_laid_over_the_file_and_the_file_over_the_defaults(tmp_path: Path) -> None:
    path = tmp_path / "policy.toml"
    path.write_text('verdicts = "person"\nmax_negatives = 7\nexclude_sources = ["a", "b"]\nmin_agreement = 1\n')
    policy = read_policy(path, max_negatives=2, seed=None)
    assert policy == ReleasePolicy(verdicts="person", max_negatives=2, exclude_sources=("a", "b"), min_agreement=1.0)
    assert read_policy(None) == ReleasePolicy()
    assert ReleasePolicy().generated_share == 0.30


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("max_negative = 3", "unknown key max_negative: did you mean max_negatives"),
        ('verdicts = "nobody"', "verdicts must be one of any, person, policy"),
        ("max_negatives = -1", "max_negatives is -1; it must be from 0 to 1000"),
        ("generated_share = 1.5", "generated_share is 1.5; it must be from 0 to 1"),
        ("min_agreement = nan", "min_agreement is nan"),
        ("min_negatives = 5", "asks for 5 negatives of each sample, and for at most 4"),
        ('exclude_sources = "squad"', "exclude_sources must be a list of sources' names"),
        ("exclude_sources = [1]", "exclude_sources must be a list of sources' names"),
        ('flagged_negatives = "drop"', "flagged_negatives must be one of keep, leave_out"),
        ("mining = 7", "mining must be a text"),
        ("near_duplicates = 1", "near_duplicates must be true or false"),
        ("= 3", "these settings cannot be read"),
    ],
)
def test_a_wrong_policy_is_one_line_that_names_the_key(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "policy.toml"
    path.write_text(text)
    with pytest.raises(UserError) as caught:
        read_policy(path)
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.fixture
def judged(store: Store) -> Store:
    """Five samples: approved by two, by one of three, by a policy; rejected; not looked at."""
    guide = source(store)
    add(store, guide, *(retrieval(number) for number in range(5)))
    for reviewer in ("ann", "bob"):
        judge(store, retrieval(0).query, Verdict.APPROVE, reviewer)
        judge(store, retrieval(1).query, Verdict.APPROVE, reviewer)
    judge(store, retrieval(1).query, Verdict.REJECT, "eve")
    judge(store, retrieval(2).query, Verdict.APPROVE, "policy:everything")
    judge(store, retrieval(3).query, Verdict.REJECT, "ann")
    return store


@pytest.mark.parametrize(
    ("policy", "taken", "left_out"),
    [
        ({}, {0, 1, 2}, {"rejected": 1, "pending": 1}),
        ({"verdicts": "person"}, {0, 1}, {"rejected": 1, "pending": 1, "no_person_decided": 1}),
        ({"verdicts": "policy"}, {2}, {"rejected": 1, "pending": 1, "no_policy_decided": 2}),
        ({"min_reviewers": 3}, {1}, {"rejected": 1, "pending": 1, "too_few_reviewers": 2}),
        ({"min_agreement": 0.7}, {0, 2}, {"rejected": 1, "pending": 1, "too_little_agreement": 1}),
        ({"where": "num_approvals = 2"}, {0, 1}, {"where_not_met": 3}),
    ],
)
def test_the_policy_decides_which_approved_samples_are_in(
    judged: Store, tmp_path: Path, policy: dict[str, Any], taken: set[int], left_out: dict[str, int]
) -> None:
    released = create(judged, tmp_path / "r", **policy)
    assert released_queries(released.path) == {retrieval(number).query for number in taken}
    assert released.left_out == left_out


def test_a_disputed_sample_is_not_released_and_said_to_be_disputed(judged: Store, tmp_path: Path) -> None:
    judge(judged, retrieval(0).query, Verdict.REJECT, "eve")
    judge(judged, retrieval(0).query, Verdict.REJECT, "dan")
    released = create(judged, tmp_path / "r")
    assert released.left_out["disputed"] == 1


def test_an_excluded_source_is_out_and_an_unknown_one_an_error(judged: Store, tmp_path: Path) -> None:
    other = source(judged, "other")
    add(judged, other, sts(1))
    approve_all(judged)
    released = create(judged, tmp_path / "r", exclude_sources=("guide",))
    assert (released.counts["retrieval"], released.counts["sts"]) == (0, 1)
    assert released.left_out["source_excluded"] == 5
    with pytest.raises(UserError, match="no source is called gide"):
        create(judged, tmp_path / "r", "second", exclude_sources=("gide",))


def test_nothing_left_is_said_with_every_reason(judged: Store, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"leaves nothing to release: 1 not decided yet; 1 rejected; 3 seen by too few"):
        create(judged, tmp_path / "r", min_reviewers=9)
    assert list((tmp_path / "r").iterdir()) == []


def test_of_near_duplicates_the_one_that_most_people_approved_is_kept(store: Store, tmp_path: Path) -> None:
    guide = source(store)
    asked = "how many days after the delivery may a customer return what was ordered online to the shop in the town"
    add(store, guide, Retrieval(f"{asked}?", ("30.",)), Retrieval(f"{asked.upper()} !", ("Thirty.",)), retrieval(1))
    add(store, guide, Classification(asked, "returns"))
    approve_all(store)
    judge(store, f"{asked.upper()} !", Verdict.APPROVE, "ann")
    released = create(store, tmp_path / "r")
    assert released_queries(released.path) == {f"{asked.upper()} !", retrieval(1).query}
    assert (released.left_out, released.counts["classification"]) == ({"near_duplicate": 1}, 1)
    [row] = query(store, "SELECT similarity, run_id FROM near_duplicates").to_pylist()
    [run] = query(store, "SELECT run_id FROM runs WHERE kind = 'release'").to_pylist()
    assert (row["similarity"], row["run_id"]) == (1.0, run["run_id"])
    both = create(store, tmp_path / "r", "second", near_duplicates=False)
    assert both.counts["retrieval"] == 3


def test_the_whole_policy_stands_in_the_manifest_the_store_and_the_run(judged: Store, tmp_path: Path) -> None:
    create(judged, tmp_path / "r", where="num_approvals = 2", seed=5)
    sql = "SELECT policy->>'where' AS w, (policy->>'seed')::INTEGER AS s, (policy->>'generated_share')::DOUBLE AS g"
    stored = query(judged, f"{sql} FROM releases").to_pylist()
    assert stored == [{"w": "num_approvals = 2", "s": 5, "g": 0.3}]
    assert query(judged, "SELECT config->>'where' AS w, seed FROM runs WHERE kind = 'release'").to_pylist() == [
        {"w": "num_approvals = 2", "seed": 5}
    ]
