"""A judge beside people: one decision for each thing that both judged, as the store has it."""

import random
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest

from synth.records import Retrieval, ReviewEvent, Verdict, new_id
from synth.stages.judge.agreement import PeopleAgreement, agreements, agreements_with_people
from synth.store.connection import Store
from synth.store.console import query
from synth.store.reviews import add_reviews
from tests.review_app.seeding import grade
from tests.synth.stages.releasing import add, give_negatives, heads, judge, source

ASKED = [f"when does harbour {number} open?" for number in range(6)]
NOON, NIGHT = "It closes at noon.", "It closes at night."


def answer(asked: str) -> str:
    return f"What is said of “{asked}”"


@pytest.fixture
def filled(store: Store) -> Store:
    """A sample for each of ASKED, the first with two negatives."""
    add(store, source(store), *(Retrieval(asked, (answer(asked),)) for asked in ASKED))
    give_negatives(store, ASKED[0], [(NOON, "mined", 1), (NIGHT, "mined", 2)])
    return store


def grade_all(store: Store, *grades: int, **said: str) -> None:
    """A judge's grades of the positives of the first samples."""
    grade(store, {answer(asked): number for asked, number in zip(ASKED, grades, strict=False)}, **said)


def negative_ids(store: Store) -> dict[str, UUID]:
    return {row["text"]: UUID(row["negative_id"]) for row in query(store, "FROM negatives").to_pylist()}


def compared(store: Store, columns: str) -> list[tuple[Any, ...]]:
    rows = query(store, f"SELECT {columns} FROM judge_vs_people ORDER BY query, negative_id NULLS FIRST, text")
    return [tuple(row.values()) for row in rows.to_pylist()]


def counts(found: PeopleAgreement) -> tuple[int, int, int, int]:
    return found.num_both, found.num_judge_alone, found.num_people_alone, found.num_neither


def test_samples_are_counted_by_who_would_leave_them_out(filled: Store) -> None:
    grade_all(filled, 0, 1, 3, 2, 3)  # the last was not judged
    for asked in (ASKED[0], ASKED[2]):
        judge(filled, asked, Verdict.REJECT, reasons=("too-easy", "bad-language"), note=f"seen {asked}")
    for asked in (ASKED[1], ASKED[3], ASKED[5]):
        judge(filled, asked, Verdict.APPROVE)
    [found] = agreements_with_people(filled)  # the fifth was not decided
    assert (found.judge, found.things, found.num_compared, found.num_equal) == ("judge-7b", "samples", 4, 2)
    assert counts(found) == (1, 1, 1, 1) and (found.precision, found.recall, found.kappa) == (0.5, 0.5, 0.0)
    assert found.missed == {"bad-language": 1, "too-easy": 1}
    missed, alone = found.differences
    assert (missed.query, missed.text, missed.grade, missed.reason) == (ASKED[2], answer(ASKED[2]), 3, "so it says")
    assert (missed.people_leave_out, missed.decided_by, missed.people_notes) == (True, "ann", f"seen {ASKED[2]}")
    assert missed.people_reasons == ["bad-language", "too-easy"]
    assert (alone.query, alone.grade, alone.people_leave_out, alone.people_reasons) == (ASKED[1], 1, False, [])


def test_precision_recall_and_kappa_are_those_of_their_formulas(filled: Store) -> None:
    grade_all(filled, 0, 0, 1, 3, 3, 3)
    for asked, verdict in zip(ASKED, "rrarra", strict=True):
        judge(filled, asked, Verdict.REJECT if verdict == "r" else Verdict.APPROVE)
    [found] = agreements_with_people(filled)
    assert counts(found) == (2, 1, 2, 1)
    assert (found.precision, found.recall) == (pytest.approx(2 / 3), pytest.approx(2 / 4))
    by_chance = (3 * 4 + 3 * 2) / 36
    assert found.kappa == pytest.approx((3 / 6 - by_chance) / (1 - by_chance))
    assert found.missed == {"no reason": 2}


def test_what_cannot_be_told_is_none(filled: Store) -> None:
    assert agreements_with_people(filled) == []
    grade_all(filled, 3)
    assert agreements_with_people(filled) == []
    judge(filled, ASKED[0], Verdict.APPROVE)
    [found] = agreements_with_people(filled)
    assert (found.precision, found.recall, found.kappa, found.differences) == (None, None, None, [])


def test_of_several_reviewers_the_outcome_counts_once_and_a_tie_does_not(filled: Store) -> None:
    grade_all(filled, 3, 3, 3)
    for asked in ASKED[:2]:
        judge(filled, asked, Verdict.APPROVE, "ann")
        judge(filled, asked, Verdict.REJECT, "bob", reasons=("wrong-positive",), note="no")
    assert compared(filled, "query") == []
    judge(filled, ASKED[0], Verdict.REJECT, "eve", reasons=("too-easy", "wrong-positive"))
    judge(filled, ASKED[1], Verdict.APPROVE, "eve")
    judge(filled, ASKED[2], Verdict.APPROVE, "policy:everything")
    assert compared(filled, "query, people_leave_out, decided_by, reasons, notes") == [
        (ASKED[0], True, "bob, eve", ["too-easy", "wrong-positive"], "no"),
        (ASKED[1], False, "ann, eve", [], None),
    ]


def test_what_was_undone_or_said_otherwise_since_does_not_count(filled: Store) -> None:
    grade_all(filled, 0, 0)
    judge(filled, ASKED[0], Verdict.APPROVE)
    judge(filled, ASKED[0], Verdict.REJECT)
    undone = judge(filled, ASKED[1], Verdict.REJECT)
    assert compared(filled, "query, people_leave_out") == [(ASKED[0], True), (ASKED[1], True)]
    judge(filled, ASKED[1], Verdict.REJECT, undoes=undone)
    judge(filled, ASKED[0], Verdict.SKIP)
    assert compared(filled, "query, people_leave_out") == [(ASKED[0], True)]


def test_whatever_people_and_policies_say_it_is_the_decision_of_the_store(filled: Store) -> None:
    grade_all(filled, *range(4), 0, 1)
    dice, ids = random.Random(7), heads(filled)
    for number in range(12):
        said: list[ReviewEvent] = []
        for _ in range(10):
            sample_id, revision_id = ids[dice.choice(ASKED)]
            verdict = dice.choice([Verdict.APPROVE, Verdict.REJECT, Verdict.SKIP])
            reviewer, kind = dice.choice([("ann", "human"), ("bob", "human"), ("eve", "human"), ("x", "policy")])
            said.append(ReviewEvent(new_id(), reviewer, sample_id, revision_id, verdict, reviewer_kind=kind))
        taken_back = [replace(each, review_id=new_id(), undoes=each.review_id) for each in said[: number % 5]]
        add_reviews(filled, said + [each for each in taken_back if each.reviewer_kind == "human"])
        with filled.read() as cursor:
            states = cursor.execute(
                "SELECT r.query, st.status = 'rejected', st.decided_by FROM sample_state st JOIN revision r"
                " USING (revision_id) WHERE decided_kind = 'human' AND status <> 'disputed' ORDER BY query"
            ).fetchall()
        assert compared(filled, "query, people_leave_out, decided_by") == states
    assert {left_out for _, left_out, _ in states} == {True, False}


def test_a_negative_is_left_out_by_one_person_and_kept_by_a_word_or_an_approval(filled: Store) -> None:
    grade(filled, {NOON: 3, NIGHT: 1})
    ids = negative_ids(filled)
    judge(filled, ASKED[0], Verdict.KEEP, "ann", negative_id=ids[NOON])
    assert compared(filled, "text, people_leave_out, decided_by") == [(NOON, False, "ann")]
    judge(filled, ASKED[0], Verdict.FALSE_NEGATIVE, "bob", negative_id=ids[NOON], note="it does answer")
    judge(filled, ASKED[0], Verdict.APPROVE, "ann")
    judge(filled, ASKED[0], Verdict.APPROVE, "eve")
    judge(filled, ASKED[0], Verdict.REJECT, "eve", negative_id=ids[NOON], reasons=("too-easy",))
    rows = compared(filled, "text, suggestion, people_leave_out, decided_by, reasons, notes")
    assert sorted(rows) == [
        (NIGHT, None, False, "ann, eve", [], None),
        (NOON, "promote", True, "bob, eve", ["false_negative", "too-easy"], "it does answer"),
    ]
    [found] = agreements_with_people(filled)
    assert (found.things, counts(found), found.kappa) == ("negatives", (1, 0, 0, 1), 1.0)


def test_a_policys_word_on_a_negative_is_none_and_an_approval_does_not_keep_what_it_dropped(filled: Store) -> None:
    grade(filled, {NOON: 3, NIGHT: 3})
    judge(filled, ASKED[0], Verdict.REJECT, "policy:length", negative_id=negative_ids(filled)[NOON])
    assert compared(filled, "text") == []
    judge(filled, ASKED[0], Verdict.APPROVE)
    assert compared(filled, "text, people_leave_out") == [(NIGHT, False)]


def test_who_keeps_a_negative_and_approves_its_sample_is_named_once(filled: Store) -> None:
    grade(filled, {NOON: 3})
    judge(filled, ASKED[0], Verdict.KEEP, negative_id=negative_ids(filled)[NOON], note="another harbour")
    judge(filled, ASKED[0], Verdict.APPROVE)
    assert compared(filled, "text, decided_by, notes") == [(NOON, "ann", "another harbour")]


def test_a_rejection_says_nothing_of_the_negatives(filled: Store) -> None:
    grade(filled, {answer(ASKED[0]): 3, NOON: 3})
    judge(filled, ASKED[0], Verdict.REJECT)
    assert compared(filled, "text") == [(answer(ASKED[0]),)]


def test_an_approval_says_nothing_of_a_negative_that_was_mined_after_it(filled: Store) -> None:
    judge(filled, ASKED[0], Verdict.APPROVE)
    give_negatives(filled, ASKED[0], [("Mined since.", "mined", 3)])
    grade(filled, {NOON: 0, "Mined since.": 3})
    assert compared(filled, "text") == [(NOON,)]


def test_the_farthest_negative_is_the_one_that_answers_best_and_was_kept(filled: Store) -> None:
    grade(filled, {NOON: 2, NIGHT: 3})
    judge(filled, ASKED[0], Verdict.APPROVE)
    [found] = agreements_with_people(filled)
    assert [(each.text, each.grade) for each in found.differences] == [(NIGHT, 3), (NOON, 2)]
    judge(filled, ASKED[0], Verdict.PARTIAL, negative_id=negative_ids(filled)[NIGHT])
    grade(filled, {NIGHT: 0})
    [found] = agreements_with_people(filled)
    assert [(each.text, each.people_reasons) for each in found.differences] == [(NIGHT, ["partial"]), (NOON, [])]
    assert (found.missed, found.recall) == ({"partial": 1}, 0.0)


def test_a_promotion_is_held_against_the_judges_word_on_the_revision_before_it(filled: Store) -> None:
    grade(filled, {answer(ASKED[0]): 3, NOON: 3})
    judge(filled, ASKED[0], Verdict.PROMOTE, negative_id=negative_ids(filled)[NOON], edited_id=new_id())
    assert compared(filled, "text, suggestion, people_leave_out, reasons") == [(NOON, "promote", True, ["promote"])]


def test_a_verdict_counts_for_its_own_revision(filled: Store) -> None:
    grade_all(filled, 0)
    edit = Retrieval(ASKED[0], ("It opens at six.",))
    judge(filled, ASKED[0], Verdict.APPROVE, edited_id=new_id(), edit=edit, reasons=("wrong-positive",))
    assert compared(filled, "text") == []
    grade(filled, {"It opens at six.": 3, NOON: 0})
    assert compared(filled, "text, judge_leaves_out, people_leave_out") == [
        ("It opens at six.", False, False),
        (NOON, False, False),
    ]
    # who edited it may have seen what the judge said of the sample before
    assert compared(filled, "text, people_first") == [("It opens at six.", False), (NOON, True)]


def test_of_several_positives_the_worst_counts_and_the_sample_once(filled: Store) -> None:
    add(filled, source(filled), Retrieval("which?", ("Both.", "Neither.")))
    grade(filled, {"Both.": 3, "Neither.": 1}, reason="neither is")
    judge(filled, "which?", Verdict.REJECT)
    assert compared(filled, "text, grade, suggestion, reason") == [("Neither.", 1, "drop_sample", "neither is")]


def test_a_judges_last_word_counts_and_each_judge_has_rows_of_its_own(filled: Store) -> None:
    grade_all(filled, 0, 0)
    grade_all(filled, 3)
    grade_all(filled, 1, 3, judge="another")
    for asked in ASKED[:2]:
        judge(filled, asked, Verdict.APPROVE)
    found = agreements_with_people(filled)
    assert [(each.judge, counts(each)) for each in found] == [("another", (0, 1, 0, 1)), ("judge-7b", (0, 1, 0, 1))]
    assert [[each.query for each in one.differences] for one in found] == [[ASKED[0]], [ASKED[1]]]


def test_what_people_decided_before_any_judge_is_told(filled: Store) -> None:
    judge(filled, ASKED[0], Verdict.APPROVE)
    grade(filled, {answer(ASKED[0]): 3, NOON: 0, answer(ASKED[1]): 3})
    judge(filled, ASKED[1], Verdict.APPROVE)
    grade(filled, {answer(ASKED[1]): 2}, judge="another")
    rows = compared(filled, "judge, text, people_first")
    assert rows == [
        ("judge-7b", answer(ASKED[0]), True),
        ("judge-7b", NOON, True),
        *((name, answer(ASKED[1]), False) for name in [row[0] for row in rows[2:]]),
    ]
    by = {(each.judge, each.things): each.num_people_first for each in agreements_with_people(filled)}
    assert by == {("another", "samples"): 0, ("judge-7b", "samples"): 1, ("judge-7b", "negatives"): 1}


def test_two_judges_are_compared_by_what_they_said_whatever_people_decided_since(filled: Store) -> None:
    grade_all(filled, 0, 3)
    grade_all(filled, 3, 3, judge="another")
    before = agreements(filled)
    assert before[0].num_split == 1
    judge(filled, ASKED[0], Verdict.REJECT)
    assert agreements(filled) == before
