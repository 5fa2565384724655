"""What people said of negatives and judges of the same passages: what counts, and in which bin."""

from collections.abc import Mapping
from pathlib import Path
from shutil import copyfile
from typing import Any
from uuid import UUID

import pytest

from synth.records import ReviewEvent, Verdict, key_of, new_id, text_id
from synth.store import reviews
from synth.store.connection import Store
from synth.store.judgements import Judge, Judgement, add_judgements
from synth.store.negative_figures import Falses, Judged, falses, judged
from tests.review_app.seeding import add_samples
from tests.review_app.words import RANDOM, TRIAGED, ids, negatives_of, say, word

NEAR, MIDDLE, FAR = "The harbour closes at nine.", "The harbour is deep.", "Boats are painted in March."
POSITIVE = "The harbour opens at six."
KNOWN: Mapping[str, Mapping[str, Any]] = {
    NEAR: {"rank": 7, "positive_similarity": 0.92},
    MIDDLE: {"rank": 30, "positive_similarity": 0.55},
    FAR: {"rank": 400, "positive_similarity": 1.0},
}


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of a store with 100 mined samples, some 20 of them in the random part."""
    path = tmp_path_factory.mktemp("filled") / "store.duckdb"
    add_samples(
        Store.create(path),
        [f"When does harbour {number} open?" for number in range(100)],
        positive=POSITIVE,
        negatives=[NEAR, MIDDLE, FAR],
        known=KNOWN,
    )
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


def counted(store: Store, kind: str = "rank") -> dict[tuple[bool, int], tuple[int, int]]:
    """By whether cards were whole and by bin: how many negatives, how many of them false."""
    found = [each for each in falses(store) if each.kind == kind]
    return {(each.is_whole, each.bin): (each.num_counted, each.num_false) for each in found}


def test_every_negative_of_an_approved_card_counts(store: Store, in_order: list[UUID]) -> None:
    near, *_ = negatives_of(store, in_order[0])
    false = word(in_order[0], Verdict.FALSE_NEGATIVE, negative_id=near, grade=3)
    reviews.add_reviews(store, [false, word(in_order[0], num_shown=3), word(in_order[1])])
    assert counted(store) == {(True, 0): (2, 1), (True, 2): (2, 0), (True, 4): (2, 0)}
    assert counted(store, "similarity") == {(True, 5): (2, 0), (True, 9): (4, 1)}


def test_only_words_that_it_answers_make_a_negative_false(store: Store, in_order: list[UUID]) -> None:
    near, middle, far = negatives_of(store, in_order[0])
    said = [
        word(in_order[0], Verdict.REJECT, negative_id=near, reasons=("duplicate",)),
        word(in_order[0], Verdict.PARTIAL, negative_id=middle),
        word(in_order[0], Verdict.KEEP, negative_id=far, grade=1),
        word(in_order[0]),
    ]
    reviews.add_reviews(store, said)
    assert counted(store) == {(True, 0): (1, 0), (True, 2): (1, 1), (True, 4): (1, 0)}


def test_of_a_contested_card_only_the_most_suspicious_count_and_apart(store: Store, in_order: list[UUID]) -> None:
    reviews.add_reviews(store, [word(in_order[0], num_shown=2)])
    assert counted(store) == {(False, 0): (1, 0), (False, 4): (1, 0)}  # by cosine with the positive: 1.0, 0.92


def test_of_a_rejected_sample_only_what_was_spoken_of_counts(store: Store, in_order: list[UUID]) -> None:
    near, *_ = negatives_of(store, in_order[0])
    false = word(in_order[0], Verdict.PARTIAL, negative_id=near)
    reviews.add_reviews(store, [false, word(in_order[0], Verdict.REJECT, num_shown=3)])
    assert counted(store) == {(False, 0): (1, 1)}


def test_a_promoted_negative_counts_as_false_with_the_others_of_its_card(store: Store, in_order: list[UUID]) -> None:
    near, *_ = negatives_of(store, in_order[0])
    made = new_id()
    promotion = word(in_order[0], Verdict.PROMOTE, negative_id=near, edited_id=made, grade=3)
    approval = ReviewEvent(new_id(), "ann", in_order[0], made, Verdict.APPROVE, num_shown=3)
    reviews.add_reviews(store, [promotion, approval])
    assert counted(store) == {(True, 0): (1, 1), (True, 2): (1, 0), (True, 4): (1, 0)}


def test_what_was_undone_or_chosen_by_suspicion_counts_nowhere(store: Store, in_order: list[UUID]) -> None:
    say(store, ids(store, TRIAGED)[:3])
    say(store, in_order[2:3])  # beyond the first unread one
    undone = word(in_order[0])
    reviews.add_reviews(store, [undone])
    reviews.add_reviews(store, [word(in_order[0], Verdict.SKIP, undoes=undone.review_id)])
    assert falses(store) == []


def test_a_labelled_negative_has_no_rank_and_one_without_a_cosine_no_tenth(store: Store, in_order: list[UUID]) -> None:
    with store.write() as cursor:
        cursor.execute("UPDATE negative SET origin = 'labelled', positive_similarity = NULL WHERE rank <> 30")
    say(store, in_order[:1])
    assert falses(store) == [Falses("rank", True, 2, 1, 0), Falses("similarity", True, 5, 1, 0)]


def grade(store: Store, sample_id: UUID, grades: Mapping[str, int], **fields: Any) -> None:
    said = [
        Judgement(sample_id, sample_id, text_id(text), text == POSITIVE, "judge", given, reason="", **fields)
        for text, given in grades.items()
    ]
    with store.write() as cursor:
        add_judgements(cursor, Judge(("judge",), "llm", "judge-00000000", key_of("judge")), new_id(), said)


def test_a_judges_grades_stand_beside_what_people_found(store: Store, in_order: list[UUID]) -> None:
    grade(store, in_order[0], {POSITIVE: 3, NEAR: 2, FAR: 0})
    near, *_ = negatives_of(store, in_order[0])
    false = word(in_order[0], Verdict.PARTIAL, negative_id=near, saw_scores=False)
    reviews.add_reviews(store, [false, word(in_order[0], saw_scores=False)])
    assert judged(store) == [
        Judged("judge", False, 0, None, False, 1),
        Judged("judge", False, 2, None, True, 1),
        Judged("judge", True, 3, None, True, 1),
    ]


def test_a_rejection_says_that_the_positive_does_not_answer(store: Store, in_order: list[UUID]) -> None:
    grade(store, in_order[0], {POSITIVE: 1}, relevance=0.3)
    say(store, in_order[:1], Verdict.REJECT)
    assert judged(store) == [Judged("judge", True, 1, 3, False, 1)]


def test_words_that_were_given_with_scores_in_view_judge_no_judge(store: Store, in_order: list[UUID]) -> None:
    grade(store, in_order[0], {POSITIVE: 3, NEAR: 2})
    near, *_ = negatives_of(store, in_order[0])
    seen = [word(in_order[0], Verdict.PARTIAL, negative_id=near, saw_scores=True), word(in_order[0], saw_scores=True)]
    reviews.add_reviews(store, seen)
    assert judged(store) == []
    assert counted(store)[True, 0] == (1, 1)  # they still count for the negatives


def test_a_judge_is_compared_in_the_random_part_alone(store: Store, in_order: list[UUID]) -> None:
    triaged = ids(store, TRIAGED)[0]
    grade(store, triaged, {POSITIVE: 3})
    say(store, [triaged])
    assert judged(store) == []
