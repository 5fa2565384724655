"""What a card sends to the browser, and what it keeps back until the reviewer asks for it."""

import json
from typing import Any
from uuid import UUID

import pytest

from review_app.outbox import receive
from synth.records import Classification, Draft, Retrieval, Sts, new_id
from synth.store import samples, sources
from synth.store.connection import Store
from synth.store.queues import cards
from synth.store.roles import Role, grant_role
from tests.review_app.seeding import GUIDE, add_samples, add_unmined, grade
from tests.review_app.test_flags import ALL_FLAGS
from tests.review_app.test_outbox import sent
from tests.review_app.test_pages import HOSTILE, Open, drawn_by_streamlit, opened, payload, queries, send

__all__ = ["opened"]  # a fixture
pytestmark = pytest.mark.usefixtures("plain_queues")
OPENS, CLOSES, PAINTED = "The harbour opens at six.", "The harbour closes at nine.", "Boats are painted in March."
TELLING = (
    "score",
    "rank",
    "relevance",
    "flag",
    "suggest",
    "decided",
    "status",
    "parts",
    "origin",
    "found",
    "similarity",
)


def keys_of(value: Any) -> set[str]:
    if isinstance(value, dict):
        return set(value) | {key for each in value.values() for key in keys_of(each)}
    return {key for each in value for key in keys_of(each)} if isinstance(value, list) else set()


def texts_of(segments: list[list[str]], kind: str = "") -> list[str]:
    return [part for part, found in segments if found.startswith(kind)]


def triage(store: Store, sample: UUID) -> None:
    """Say of a sample that it is suspicious."""
    with store.write() as cursor:
        cursor.execute(
            "INSERT INTO triage SELECT uuid(), $id::UUID, $id::UUID, 4.2, [{name: 'near_positive', value: 0.968,"
            " score: 4.2}], NULL, uuid(), now()::TIMESTAMP",
            {"id": str(sample)},
        )


def add_rewrite(store: Store, before: Retrieval | Classification, after: Retrieval | Classification) -> None:
    """A sample and another one made from it, the first decided by somebody so that the second is alone in the queue."""
    run_id = new_id()
    with store.write() as cursor:
        sources.add_source(cursor, GUIDE, run_id)
        samples.add_drafts(cursor, [Draft(before, GUIDE.source_id, "ingest")], run_id)
        [(parent,)] = cursor.execute("SELECT revision_id FROM revision").fetchall()
        samples.add_drafts(cursor, [Draft(after, GUIDE.source_id, "paraphrase", "llm", parent_id=parent)], run_id)
    receive(store, "ada", [sent(parent)])


def test_a_blind_card_holds_no_score_rank_flag_suggestion_or_decision(opened: Open, store: Store) -> None:
    first, _ = add_samples(store, ["When does it open?", "When does it close?"], known={CLOSES: ALL_FLAGS})
    grade(store, {OPENS: 1, CLOSES: 3, PAINTED: 0}, reason="it says nine")
    triage(store, first)
    app = opened(queue="flagged")
    found = payload(app)
    assert len(found["cards"]) == 2
    assert (found["scores"], found["differing"]) == ({}, {})
    assert not [key for key in keys_of(found["cards"]) if any(word in key for word in TELLING)]
    whole = json.dumps(found)
    for told in ("0.968", "0.6", "0.91", "judge-7b", "it says nine", "near", "bm25", "mined"):
        assert told not in whole


def test_scores_come_for_held_and_later_cards_while_they_are_asked_for(opened: Open, store: Store) -> None:
    ids = add_samples(store, [f"Question {number}?" for number in range(30)])
    triage(store, ids[0])
    app = opened()
    held = tuple(card["sample_id"] for card in payload(app)["cards"])
    found = payload(send(app, holding=held, reveal=True))
    assert (found["cards"], len(found["scores"])) == (None, 25)
    scores = found["scores"][str(ids[0])]
    assert scores["parts"] == ["near positive 0.97 (+4.2 sd)"]
    assert (scores["status"], scores["decided_by"]) == ("pending", "")
    first = next(iter(scores["negatives"].values()))
    assert (first["rank"], first["origin"], first["score"], first["positive_score"]) == (1, "mined", 0.6, 0.8)
    assert payload(send(app, holding=held, reveal=True, unscored=[]))["scores"] == {}
    later = payload(send(app, holding=held[:5], reveal=True, unscored=[held[1]]))
    assert set(later["scores"]) == {held[1], *(card["revision_id"] for card in later["cards"])}
    assert payload(send(app, holding=held[:5], reveal=False))["scores"] == {}


def test_where_a_judge_differs_is_told_once_the_blind_approval_is_stored(opened: Open, store: Store) -> None:
    ids = add_samples(store, [f"Question {number}?" for number in range(4)])
    grade(store, {OPENS: 1, CLOSES: 2, PAINTED: 0})
    app = opened()
    negative = payload(app)["cards"][1]["negatives"][0]["negative_id"]
    blind, dropped, seen = sent(ids[0]), sent(ids[1]), sent(ids[2], saw_scores=True)
    drop = sent(ids[1], verdict="reject", negative_id=negative)
    rejected = sent(ids[3], verdict="reject")
    told = payload(send(app, blind, dropped, drop, seen, rejected))["differing"]
    assert told == {
        blind["review_id"]: ["the positive", "negative 1"],
        dropped["review_id"]: ["the positive"],
    }


def test_a_scored_pair_has_its_differences_and_its_sources_scale(opened: Open, store: Store) -> None:
    add_unmined(store, Sts("It rains in Hull.", "It rained in Hull.", 2.5))
    add_unmined(store, Sts("A dog.", "A cat.", 0.5))
    card = next(each for each in payload(opened(task="sts"))["cards"] if each["stored"] == 2.5)
    assert [texts_of(card["texts"][0], "del"), texts_of(card["texts"][1], "ins")] == [["rains"], ["rained"]]
    assert card["range"] == [0.5, 2.5]


def test_where_all_scores_of_a_source_are_alike_the_scale_is_0_to_5(opened: Open, store: Store) -> None:
    add_unmined(store, Sts("It rains.", "Rain falls.", 4.5))
    assert payload(opened(task="sts"))["cards"][0]["range"] == [0.0, 5.0]


def test_a_labelled_text_has_its_likely_labels_and_knows_its_own(opened: Open, store: Store) -> None:
    add_unmined(store, Classification("It is late.", "time"))
    add_unmined(store, Classification("It is cold.", HOSTILE))
    app = opened(task="classification")
    card = next(each for each in payload(app)["cards"] if each["text"] == [["It is late.", ""]])
    assert card["labels"][card["given"]] == [["time", ""]]
    assert len(card["labels"]) == 2
    assert "attacker" not in drawn_by_streamlit(app)


def test_a_rewrite_stands_beside_what_it_was_made_from(opened: Open, store: Store) -> None:
    add_rewrite(
        store, Retrieval("Does it open at six?", (OPENS,)), Retrieval("Does it not open at seven in Hull?", (OPENS,))
    )
    (card,) = payload(opened())["cards"]
    assert (card["origin"]["what"], card["origin"]["ratio"]) == ("Query", 1.7)
    assert texts_of(card["origin"]["text"], "del") == ["six"]
    assert "".join(texts_of(card["query"], "ins")).split() == ["not", "seven", "in", "Hull"]
    assert queries_whole(card["query"]) == "Does it not open at seven in Hull?"


def queries_whole(segments: list[list[str]]) -> str:
    return "".join(part for part, _ in segments)


def test_a_rewritten_text_of_a_class_too(opened: Open, store: Store) -> None:
    add_rewrite(store, Classification("I lost my card.", "lost"), Classification("My card is gone.", "lost"))
    (card,) = payload(opened())["cards"]
    assert card["origin"]["what"] == "Text"
    assert texts_of(card["text"], "ins")


def test_an_adjudicator_sees_what_others_said_and_nobody_else_is_let_in(opened: Open, store: Store) -> None:
    (sample,) = add_samples(store, ["When does it open?"])
    negative = str(cards(store, reviewer="bob")[0].negatives[1].negative_id)
    graded = sent(sample, verdict="keep", negative_id=negative, grade=1)
    assert receive(store, "bob", [graded, sent(sample, note=HOSTILE[:1000])]).refused == {}
    assert receive(store, "eve", [sent(sample, verdict="reject", reasons=["duplicate"])]).refused == {}
    app = opened(queue="adjudication")
    (card,) = payload(app)["cards"]
    assert payload(app)["adjudicates"] is True
    bob, eve = card["words"]
    assert (bob["reviewer"], bob["verdict"], bob["grades"]) == ("bob", "approve", [[1, 1]])
    assert (eve["verdict"], eve["reasons"]) == ("reject", ["duplicate"])
    assert "\u202e" not in bob["note"] and "attacker" not in drawn_by_streamlit(app)
    said = sent(sample, adjudicates=True)
    assert payload(send(app, said, queue="adjudication"))["stored"] == [said["review_id"]]
    grant_role(store, granted_by="bob", reviewer="bob", role=Role.ADMIN)
    app = opened("eve", queue="adjudication")
    assert app.subheader[0].value == "For adjudicators"
    assert not app.get("bidi_component")


def test_in_other_queues_nobody_elses_words_are_on_the_card(opened: Open, store: Store) -> None:
    (sample,) = add_samples(store, ["When does it open?"])
    receive(store, "bob", [sent(sample), sent(sample)])
    receive(store, "eve", [sent(sample, verdict="reject")])
    app = opened(queue="disputed")
    assert payload(app)["cards"][0]["words"] == []
    assert payload(app)["adjudicates"] is False


def test_the_number_of_the_guideline_and_keys_of_ones_own_go_with_the_card(opened: Open, store: Store) -> None:
    add_samples(store, ["When does it open?"])
    with store.write() as cursor:
        cursor.execute("INSERT INTO reviewer_setting VALUES ('ada', 'keys', '{\"approve\": \"l\"}', now()::TIMESTAMP)")
    found = payload(opened())
    assert found["keys"] == {"approve": "l"}
    assert found["cards"][0]["guideline"] == 1
    assert queries(opened("bob")) == []


def test_an_edit_of_the_browser_becomes_the_sample(opened: Open, store: Store) -> None:
    (sample,) = add_samples(store, ["When does it open?"])
    edit = {"task": "retrieval", "query": "When does the harbour open?", "positives": [OPENS], "instruction": ""}
    said = sent(sample, edit=edit, edited_id=str(new_id()))
    assert payload(send(opened(), said))["stored"] == [said["review_id"]]
    with store.read() as cursor:
        assert cursor.execute("SELECT query, status FROM samples").fetchall() == [
            ("When does the harbour open?", "approved")
        ]
