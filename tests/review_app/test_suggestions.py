"""What judges suggest reaches the card beside the passage it is about, as text, and has a queue of its own."""

import pytest

from synth.records import ReviewEvent, Verdict, new_id
from synth.store.connection import Store
from synth.store.queues import Queue, cards, review_progress
from synth.store.reviews import add_reviews
from tests.review_app.seeding import add_samples, approve_by_policy, grade
from tests.review_app.test_pages import HOSTILE, Open, drawn_by_streamlit, opened, queries, revealed

__all__ = ["opened"]  # a fixture
OPENS, CLOSES, PAINTED = "The harbour opens at six.", "The harbour closes at nine.", "Boats are painted in March."


def test_each_suggestion_stands_with_its_passage(opened: Open, store: Store) -> None:
    add_samples(store, ["When does it open?"])
    grade(store, {OPENS: 1, CLOSES: 3, PAINTED: 0}, reason="it says nine")
    grade(store, {OPENS: 3, CLOSES: 2, PAINTED: 1}, judge="another", reason="")
    card = revealed(opened())
    assert card["positives"][0]["suggested"] == ["judge-7b: does not answer the query (grade 1). it says nine"]
    assert [negative["suggested"] for negative in card["negatives"].values()] == [
        [
            "another: answers the query in part, or less well than the positive (grade 2).",
            "judge-7b: answers the query, no less well than the positive (grade 3). it says nine",
        ],
        [],
    ]


def test_a_judges_words_are_text_on_one_line_with_what_is_hidden_named(opened: Open, store: Store) -> None:
    add_samples(store, ["When does it open?"])
    grade(store, {OPENS: 0}, judge=f"<b>{HOSTILE[:40]}", reason=HOSTILE)
    app = opened()
    [said] = revealed(app)["positives"][0]["suggested"]
    assert "<script>" in said and "\u202e" not in said and "\n" not in said and "202e" in said.lower()
    assert "attacker.example" not in drawn_by_streamlit(app)


@pytest.mark.parametrize("approve", [False, True])
def test_the_queue_holds_what_a_judge_has_something_to_say_about_and_no_person_decided(
    opened: Open, store: Store, approve: bool
) -> None:
    first, second, third = add_samples(store, ["When does it open?", "When does it close?", "What is painted?"])
    grade(store, {OPENS: 1})
    if approve:
        approve_by_policy(store, [first, second])
    add_reviews(store, [ReviewEvent(new_id(), "bob", third, third, Verdict.APPROVE)])
    assert queries(opened(queue="suggested")) == ["When does it open?", "When does it close?"]
    assert review_progress(store, reviewer="ada", queue=Queue.SUGGESTED).left == 2
    add_reviews(store, [ReviewEvent(new_id(), "ada", first, first, Verdict.SKIP)])
    assert [card.sample_id for card in cards(store, reviewer="ada", queue=Queue.SUGGESTED)] == [second]


def test_a_queue_without_suggestions_is_empty(store: Store) -> None:
    add_samples(store, ["When does it open?"])
    grade(store, {OPENS: 3, CLOSES: 1, PAINTED: 0})
    assert cards(store, reviewer="ada", queue=Queue.SUGGESTED) == []
