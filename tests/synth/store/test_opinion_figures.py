"""How far people agree: whose words count, and which of them."""

from datetime import timedelta
from pathlib import Path
from shutil import copyfile
from uuid import UUID

import pytest

from synth.records import Verdict
from synth.store import reviews, rows
from synth.store.connection import Store
from synth.store.opinion_figures import Difficulty, Trust, days, difficulties, opinions, trusts
from synth.store.review_figures import Outcomes, acceptance
from tests.review_app.seeding import add_samples
from tests.review_app.words import RANDOM, TRIAGED, ids, negatives_of, say, word


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of a store with 100 mined samples, some 20 of them in the random part."""
    path = tmp_path_factory.mktemp("filled") / "store.duckdb"
    add_samples(Store.create(path), [f"When does harbour {number} open?" for number in range(100)])
    return path


@pytest.fixture
def store(tmp_path: Path, filled: Path) -> Store:
    """A store with those samples."""
    copyfile(filled, tmp_path / "store.duckdb")
    return Store.open(tmp_path / "store.duckdb")


@pytest.fixture
def in_order(store: Store) -> list[UUID]:
    """The random part, in the order in which it is shown."""
    return ids(store, RANDOM)


def words_in_common(store: Store) -> list[tuple[UUID, str, bool]]:
    return opinions(store).verdicts


def make_gold(store: Store, sample_id: UUID, verdict: str, author: str = "chief") -> None:
    with store.write() as cursor:
        cursor.execute("INSERT INTO gold VALUES (?, ?, ?, ?, ?)", [sample_id, sample_id, verdict, author, rows.now()])


def test_what_only_one_judged_is_compared_with_nothing(store: Store, in_order: list[UUID]) -> None:
    say(store, in_order[:2])
    assert words_in_common(store) == []
    say(store, in_order[:1], Verdict.REJECT, "bob")
    assert words_in_common(store) == [(in_order[0], "ann", True), (in_order[0], "bob", False)]


def test_each_ones_last_word_counts_and_none_that_was_undone(store: Store, in_order: list[UUID]) -> None:
    say(store, in_order[:1], Verdict.REJECT)
    say(store, in_order[:1], Verdict.APPROVE)
    undone = word(in_order[0], Verdict.REJECT)
    reviews.add_reviews(store, [undone])
    reviews.add_reviews(store, [word(in_order[0], Verdict.SKIP, undoes=undone.review_id)])
    say(store, in_order[:1], Verdict.SKIP, "eve")
    say(store, in_order[:1], Verdict.APPROVE, "bob")
    assert words_in_common(store) == [(in_order[0], "ann", True), (in_order[0], "bob", True)]


def test_a_third_who_breaks_a_tie_and_an_adjudicator_are_left_out(store: Store, in_order: list[UUID]) -> None:
    say(store, in_order[:1], Verdict.APPROVE, "bob")
    say(store, in_order[:1], Verdict.REJECT, "eve")
    say(store, in_order[:1], Verdict.REJECT, "ann")
    reviews.add_reviews(store, [word(in_order[1], adjudicates=True), word(in_order[1], Verdict.REJECT, "bob")])
    assert words_in_common(store) == [(in_order[0], "bob", True), (in_order[0], "eve", False)]


def test_grades_are_compared_by_text_each_ones_last(store: Store, in_order: list[UUID]) -> None:
    near, far = negatives_of(store, in_order[0])
    said = [
        word(in_order[0], Verdict.KEEP, negative_id=near, grade=1),
        word(in_order[0], Verdict.KEEP, negative_id=near, grade=0),
        word(in_order[0], Verdict.PARTIAL, "bob", negative_id=near, grade=2),
        word(in_order[0], Verdict.KEEP, negative_id=far, grade=0),
        word(in_order[0], Verdict.KEEP, "bob", negative_id=far),  # without a grade
    ]
    reviews.add_reviews(store, said)
    assert [grade for _, grade in opinions(store).grades] == [0, 2]
    assert len({thing for thing, _ in opinions(store).grades}) == 1


def test_gold_tests_those_who_judged_after_it_was_known_and_not_its_author(store: Store, in_order: list[UUID]) -> None:
    say(store, in_order[:1], Verdict.APPROVE, "early")
    for sample_id in in_order[:2]:
        make_gold(store, sample_id, "reject")
    say(store, in_order[:2], Verdict.REJECT, "ann")
    say(store, in_order[:2], Verdict.APPROVE, "bob")
    say(store, in_order[1:2], Verdict.REJECT, "bob")  # the first word was the test
    say(store, in_order[:2], Verdict.REJECT, "chief")
    assert trusts(store) == [Trust("ann", 2, 2, 0, 0), Trust("bob", 2, 0, 1, 0)]


def test_whoever_judged_the_same_twice_is_compared_with_themselves(store: Store, in_order: list[UUID]) -> None:
    say(store, in_order[:3])
    say(store, in_order[:2])
    say(store, in_order[2:3], Verdict.REJECT)
    undone = word(in_order[3])
    reviews.add_reviews(store, [undone])
    reviews.add_reviews(store, [word(in_order[3], Verdict.SKIP, undoes=undone.review_id)])
    say(store, in_order[3:4], Verdict.REJECT)  # after the undo there is nothing to compare
    assert trusts(store) == [Trust("ann", 0, 0, 3, 2)]


def test_a_day_has_decisions_and_their_share_of_the_random_part(store: Store, in_order: list[UUID]) -> None:
    reviews.add_reviews(store, [word(in_order[0], seconds=1.0), word(in_order[1], Verdict.REJECT, seconds=4.0)])
    say(store, ids(store, TRIAGED)[:5], Verdict.REJECT)
    say(store, in_order[2:3], Verdict.SKIP)
    [day] = days(store)
    assert (day.day, day.reviewer, day.num_decisions) == (rows.now().date(), "ann", 7)
    assert (day.num_random, day.num_approved) == (2, 1)
    assert (day.median_seconds, day.num_timed, day.num_fast) == (2.5, 2, 1)


def test_days_are_told_apart(store: Store, in_order: list[UUID]) -> None:
    say(store, in_order[:1])
    with store.write() as cursor:
        cursor.execute("UPDATE review SET created_at = created_at - ?", [timedelta(days=1)])
    say(store, in_order[1:3], reviewer="bob")
    assert [(each.reviewer, each.num_decisions) for each in days(store)] == [("ann", 1), ("bob", 2)]


def test_difficulty_stands_beside_what_was_measured(store: Store, in_order: list[UUID]) -> None:
    reviews.add_reviews(store, [word(in_order[0], difficulty=3), word(in_order[1])])
    [found] = difficulties(store)
    [(hardness, score)] = hardness_of(store, in_order[0])
    assert found == Difficulty(3, pytest.approx(hardness), pytest.approx(score))


def hardness_of(store: Store, sample_id: UUID) -> list[tuple[float, float]]:
    with store.read() as cursor:
        return cursor.execute(
            "SELECT max(score - positive_score), max(relative_score) FROM negatives WHERE sample_id = ?", [sample_id]
        ).fetchall()


def test_acceptance_is_of_the_random_part_by_what_made_the_sample(store: Store, in_order: list[UUID]) -> None:
    say(store, in_order[:3])
    say(store, in_order[3:4], Verdict.REJECT)
    say(store, ids(store, TRIAGED)[:9], Verdict.REJECT)
    say(store, in_order[6:7])
    found = {(each.name, each.value): each.read for each in acceptance(store)}
    assert found["source", "guide"] == Outcomes(3, 0, 1, 0, num_out_of_turn=1)
    assert found["operation", "query"] == found["task", "retrieval"] == found["source", "guide"]
    assert {name for name, _ in found} == {"model", "prompt_version", "operation", "source", "task"}


def test_what_a_policy_approved_is_read_in_an_order_of_its_own(store: Store, in_order: list[UUID]) -> None:
    approved = [word(each, Verdict.APPROVE, "policy:consistent", reviewer_kind="policy") for each in in_order[2:5]]
    reviews.add_reviews(store, approved)
    say(store, in_order[2:4])
    [read] = [each.read for each in acceptance(store) if each.name == "source"]
    assert (read.num_right, read.num_out_of_turn) == (2, 0)
