"""What follows from a ranking and grades: fusion as the paper has it, and no positive that answers less."""

import random
from itertools import pairwise
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from synth.recipes.relabelling import Candidate, Said, WithCandidates
from synth.records import Retrieval, text_id
from synth.stages.relabel.choice import MOST_NEGATIVES, choose, fused

TEXTS = [f"passage {number}" for number in range(8)]


def said(*rows: tuple[int, int | None]) -> tuple[Said, ...]:
    """Place by likelihood and grade of passage 0, 1, 2, ...; the first is the nearest."""
    return tuple(
        Said(Candidate(text_id(TEXTS[number]), TEXTS[number], number + 1, 0.9 - number / 10), place, grade)
        for number, (place, grade) in enumerate(rows)
    )


def sample(all_said: tuple[Said, ...], *positives: int) -> WithCandidates:
    content = Retrieval("which?", tuple(TEXTS[number] for number in positives or (0,)))
    return WithCandidates(
        UUID(int=1), UUID(int=1), content, UUID(int=0), candidates=tuple(each.candidate for each in all_said)
    )


def numbers(texts: tuple[str, ...]) -> list[int]:
    return [TEXTS.index(text) for text in texts]


@given(st.lists(st.sampled_from([None, 0, 1, 2, 3]), min_size=2, max_size=8), st.integers(0, 10**6), st.data())
def test_the_fused_order_is_that_of_the_formula(grades: list[int | None], seed: int, data: st.DataObject) -> None:
    places = list(range(1, len(grades) + 1))
    random.Random(seed).shuffle(places)
    rows = said(*zip(places, grades, strict=True))
    positive = rows[data.draw(st.integers(0, len(rows) - 1))]
    sums = {}
    for each in rows:
        if each.grade is None:
            by_grade = len(rows)
        else:
            by_grade = 1
            for other in rows:
                by_grade += other.grade is not None and other.grade > each.grade
        sums[each.candidate.text_id] = 1 / (60 + each.likelihood) + 1 / (60 + by_grade)
    placed = fused(rows, {positive.candidate.text_id})
    assert [each.place for each in placed] == list(range(1, len(rows) + 1))
    for before, after in pairwise(placed):
        first, second = sums[before.said.candidate.text_id], sums[after.said.candidate.text_id]
        assert first > second - 1e-12
        if abs(first - second) < 1e-12:
            assert after.said is not positive
    assert {each.said.candidate.text_id for each in placed} == set(sums)


def test_the_positive_moves_to_the_best_passage_and_a_full_answer_from_before_stays_beside_it() -> None:
    rows = said((2, 3), (1, 3), (3, 1), (4, 0))
    found = choose(sample(rows), rows)
    assert found.outcome == "moved"
    assert isinstance(found.content, Retrieval)
    assert numbers(found.content.positives) == [1, 0]


@pytest.mark.parametrize("grade", [None, 0, 1, 2])
def test_a_positive_that_does_not_answer_fully_is_dropped_when_another_takes_its_place(grade: int | None) -> None:
    rows = said((2, grade), (1, 3), (3, 1), (4, 0))
    found = choose(sample(rows), rows)
    assert isinstance(found.content, Retrieval)
    assert (found.outcome, numbers(found.content.positives)) == ("moved", [1])


def test_of_equal_sums_the_positive_stays() -> None:
    rows = said((2, 3), (1, 2), (3, 0), (4, 0))  # 1/62 + 1/61 both
    assert choose(sample(rows), rows).outcome == "stayed"
    assert choose(sample(rows, 1), rows).outcome == "stayed"


def test_the_best_passage_is_no_positive_if_it_answers_less_than_the_present_one() -> None:
    rows = said((4, 3), (1, 2), (2, 1), (3, 0))
    assert fused(rows, {text_id(TEXTS[0])})[0].said is rows[1]
    found = choose(sample(rows), rows)
    assert (found.outcome, found.content) == ("stayed", sample(rows).content)


def test_a_partial_answer_is_better_than_none() -> None:
    rows = said((2, 1), (1, 2), (3, 0), (4, 0))
    assert choose(sample(rows), rows).outcome == "moved"


def test_another_of_the_positives_may_be_the_best() -> None:
    rows = said((2, 2), (1, 3), (3, 0), (4, 0))
    found = choose(sample(rows, 0, 1), rows)
    assert (found.outcome, found.content) == ("stayed", sample(rows, 0, 1).content)


@pytest.mark.parametrize("grades", [(1, 1, 1, 0), (None, None, 1, 1)])
def test_a_query_that_nothing_answers_moves_nowhere(grades: tuple[int | None, ...]) -> None:
    rows = said(*zip((3, 1, 2, 4), grades, strict=True))
    found = choose(sample(rows), rows)
    assert (found.outcome, found.content) == ("unanswered", sample(rows).content)


def test_negatives_are_the_nearest_of_the_lower_half_that_do_not_answer() -> None:
    rows = said((1, 3), (2, 1), (3, 1), (4, 2), (5, 1), (6, 0), (7, None), (8, 0))
    found = choose(sample(rows), rows)
    # 1 and 2 are in the upper half, 3 answers a part, of 6 nothing is known
    assert [negative.text_id for negative in found.negatives] == [text_id(TEXTS[number]) for number in (4, 5, 7)]
    assert {negative.origin for negative in found.negatives} == {"relabelled"}
    assert [negative.rank for negative in found.negatives] == [4, 5, 7]  # without the positive, which has rank 1
    assert {negative.positive_score for negative in found.negatives} == {0.9}


def test_the_positive_from_before_may_become_a_negative_and_no_more_are_taken_than_wanted() -> None:
    rows = said((8, 0), (1, 3), *((place, 0) for place in range(2, 8)))
    found = choose(sample(rows), rows)
    assert found.outcome == "moved"
    assert len(found.negatives) == MOST_NEGATIVES
    assert found.negatives[0].text_id == text_id(TEXTS[0])
    assert found.negatives[0].rank == 1


def test_of_several_positives_the_lowest_score_counts_and_none_becomes_a_negative() -> None:
    rows = said((1, 3), (2, 0), (8, 0), (4, 0), (5, 0), (6, 0), (7, 0), (3, 0))
    found = choose(sample(rows, 0, 2), rows)
    assert found.outcome == "stayed"
    assert text_id(TEXTS[2]) not in {negative.text_id for negative in found.negatives}
    assert {negative.positive_score for negative in found.negatives} == {rows[2].candidate.score}
