"""What mining knows of a negative is on its card in words, and what it flagged has a queue of its own."""

from typing import Any
from uuid import UUID

import pytest

from synth.records import FoundBy, Retrieval, ReviewEvent, Verdict, new_id
from synth.store.connection import Store
from synth.store.queues import Queue, cards, review_progress
from synth.store.reviews import add_reviews
from tests.review_app.seeding import add_samples, approve_by_policy, mine
from tests.review_app.test_pages import HOSTILE, Open, drawn_by_streamlit, opened, queries, revealed

__all__ = ["opened"]  # a fixture
CLOSES, PAINTED = "The harbour closes at nine.", "Boats are painted in March."
FLAGGED: dict[str, Any] = {"flags": ("near_positive",), "positive_similarity": 0.968}
ALL_FLAGS: dict[str, Any] = {
    "flags": ("near_positive", "near_duplicate", "above_reranker"),
    "positive_similarity": 0.968,
    "overlap": 0.857,
    "relevance": 0.912,
    "positive_relevance": 0.88,
    "miners": (FoundBy("dense", 12, 0.6), FoundBy("bm25", 3, 9.5)),
    "relaxed": ("window", "cap"),
}


def test_flags_miners_and_what_was_given_up_are_told_with_their_figures(opened: Open, store: Store) -> None:
    add_samples(store, ["When does it open?"], known={CLOSES: ALL_FLAGS})
    first, second = revealed(opened())["negatives"].values()
    assert first["flagged"] == [
        "cosine 0.97 with the positive",
        "86 % of words in common with the positive",
        "reranker 0.91, positive 0.88",
    ]
    assert first["found"] == ["dense rank 12, bm25 rank 3", "relaxed: window, cap"]
    assert (second["flagged"], second["found"]) == ([], [])


def test_one_of_several_positives_is_meant_and_a_flag_without_its_figure_is_its_name(
    opened: Open, store: Store
) -> None:
    [sample] = add_samples(store, ["When?"], known={CLOSES: FLAGGED, PAINTED: {"flags": ("near_duplicate", "new_one")}})
    more = Retrieval("When?", ("The harbour opens at six.", "It opens at six."))
    add_reviews(store, [ReviewEvent(new_id(), "bob", sample, sample, Verdict.SKIP, edited_id=new_id(), edit=more)])
    said = [negative["flagged"] for negative in revealed(opened())["negatives"].values()]
    assert said == [["cosine 0.97 with a positive"], ["near duplicate", "new one"]]


@pytest.mark.parametrize(
    ("rank", "other", "found"),
    [(1, "bm25", []), (7, "bm25", ["bm25 rank 7"]), (1, "dense", ["bm25 rank 1"])],
)
def test_a_single_miner_is_told_where_its_rank_is_not_the_one_on_the_panel_or_the_card_has_others(
    opened: Open, store: Store, rank: int, other: str, found: list[str]
) -> None:
    known = {CLOSES: {"miners": (FoundBy("bm25", rank, 2.5),)}, PAINTED: {"miners": (FoundBy(other, 2, 0.5),)}}
    add_samples(store, ["When?"], known=known)
    assert next(iter(revealed(opened())["negatives"].values()))["found"] == found


def test_a_miners_name_is_text_on_one_line_with_what_is_hidden_named(opened: Open, store: Store) -> None:
    add_samples(store, ["When?"], known={CLOSES: {"miners": (FoundBy(HOSTILE, 7, 2.5),)}})
    app = opened()
    [said] = next(iter(revealed(app)["negatives"].values()))["found"]
    assert "<script>" in said and "\u202e" not in said and "202e" in said.lower()
    assert "attacker.example" not in drawn_by_streamlit(app)


def shown(store: Store, reviewer: str = "ada") -> list[UUID]:
    return [card.sample_id for card in cards(store, reviewer=reviewer, queue=Queue.FLAGGED)]


def test_the_queue_holds_samples_with_a_flagged_negative_pending_or_approved_by_a_policy(
    opened: Open, store: Store
) -> None:
    asked = ["When does it open?", "When does it close?"]
    _, second = add_samples(store, asked, known={CLOSES: FLAGGED})
    add_samples(store, ["What is painted?"])
    approve_by_policy(store, [second])
    assert queries(opened(queue="flagged")) == asked
    assert review_progress(store, reviewer="ada", queue=Queue.FLAGGED).left == 2


def negative_of(store: Store, sample: UUID, text: str) -> UUID:
    with store.read() as cursor:
        [(negative_id,)] = cursor.execute(
            "SELECT max(negative_id) FROM negatives WHERE sample_id = ? AND text = ?", [sample, text]
        ).fetchall()
    return UUID(str(negative_id))


@pytest.mark.parametrize("verdict", [Verdict.APPROVE, Verdict.REJECT])
def test_a_sample_leaves_the_queue_with_a_persons_verdict(store: Store, verdict: Verdict) -> None:
    first, second = add_samples(store, ["When does it open?", "When does it close?"], known={CLOSES: FLAGGED})
    said = ReviewEvent(new_id(), "bob", first, first, verdict)
    add_reviews(store, [said])
    assert shown(store) == [second]
    add_reviews(store, [ReviewEvent(new_id(), "bob", first, first, Verdict.SKIP, undoes=said.review_id)])
    assert shown(store) == [first, second]


@pytest.mark.parametrize(("text", "left"), [(CLOSES, 1), (PAINTED, 2)])
def test_a_word_on_the_flagged_negative_takes_the_sample_out_and_one_on_another_does_not(
    store: Store, text: str, left: int
) -> None:
    first, _ = add_samples(store, ["When does it open?", "When does it close?"], known={CLOSES: FLAGGED})
    said = ReviewEvent(new_id(), "bob", first, first, Verdict.KEEP, negative_of(store, first, text))
    add_reviews(store, [said])
    assert len(shown(store)) == left


def test_what_was_approved_comes_back_when_a_flagged_negative_is_found_afterwards(store: Store) -> None:
    [sample] = add_samples(store, ["When?"], negatives=[CLOSES, PAINTED])
    add_reviews(store, [ReviewEvent(new_id(), "ada", sample, sample, Verdict.APPROVE)])
    mine(store, ["When?"], [CLOSES], {CLOSES: FLAGGED})  # had been judged with the sample
    assert shown(store) == []
    add_samples(store, ["What?"], negatives=["It is closed."])  # so that there is such a passage
    mine(store, ["When?"], ["It is closed."], {"It is closed.": FLAGGED})
    assert shown(store) == [sample]
    add_reviews(store, [ReviewEvent(new_id(), "ada", sample, sample, Verdict.APPROVE)])
    assert shown(store) == []


def test_what_is_no_longer_flagged_when_it_is_found_again_is_not_in_the_queue(store: Store) -> None:
    [sample] = add_samples(store, ["When?"], known={CLOSES: FLAGGED})
    assert shown(store) == [sample]
    mine(store, ["When?"], [CLOSES], {})
    assert shown(store) == []
    [negative] = [each for each in cards(store, reviewer="bob")[0].negatives if each.text == CLOSES]
    assert negative.flags == ()  # as the card has it
