"""The Explore page: which samples it lists, what it shows of one, and many verdicts at once. docs/explore.md."""

from dataclasses import replace
from functools import partial
from typing import Any
from uuid import UUID

import pytest
from streamlit.testing.v1 import AppTest

from synth.records import Classification, Draft, Retrieval, ReviewEvent, Sts, UserError, Verdict, new_id
from synth.store import samples
from synth.store.connection import Store
from synth.store.exploring import LONGEST_ASKED, Filter, Flagged, Sorting, choices, heads_in, heads_of, page_of, whole
from synth.store.review_batches import CHUNK, Decision, decide, last_batch, undo
from synth.store.reviews import add_reviews
from tests.review_app.conftest import ShowPage
from tests.review_app.seeding import GUIDE, add_samples, add_unmined, approve_by_policy, num_events, verdicts
from tests.review_app.test_pages import HOSTILE, drawn_by_streamlit


@pytest.fixture
def explored(show_page: ShowPage) -> ShowPage:
    """Run the page on the test's store."""
    return partial(show_page, "explore_page")


def listed(page: AppTest) -> list[str]:
    return list(page.dataframe[0].value["text"]) if page.dataframe else []


def texts(page: AppTest) -> str:
    return "\n".join(each.value for each in page.text)


def kept(store: Store, which: Filter, sorting: Sorting = Sorting.NEWEST) -> list[str]:
    return [each.text for each in page_of(store, which, sorting, 1).listed]


def button(page: AppTest, label: str) -> Any:
    (found,) = [each for each in page.button if each.label == label]
    return found


def choose(page: AppTest, *rows: int) -> AppTest:
    """Tick rows of the list."""
    page.session_state[page.dataframe[0].key] = {"selection": {"rows": list(rows), "columns": [], "cells": []}}
    return page.run()


# What is listed


def test_each_filter_keeps_what_it_says(store: Store) -> None:
    harbour, _ = add_samples(store, ["When does the Harbour open?", "When does it close?"])
    add_unmined(store, Sts("It rains.", "Rain falls.", 4.5))
    add_unmined(store, Classification("It is late.", "time"))
    event = ReviewEvent(new_id(), "bo", harbour, harbour, Verdict.REJECT, difficulty=3)
    add_reviews(store, [event])
    assert kept(store, Filter(text="harbour")) == ["When does the Harbour open?"]
    assert kept(store, Filter(text="HARBOUR", task="sts")) == []
    assert kept(store, Filter(text="rain falls")) == ["It rains."]
    assert kept(store, Filter(text="a?")) == []  # a text, no regular expression
    assert kept(store, Filter(text="time", task="classification")) == ["It is late."]
    assert kept(store, Filter(task="sts")) == ["It rains."]
    assert kept(store, Filter(source="elsewhere")) == []
    assert kept(store, Filter(source="guide", operation="ingest")) == ["It is late.", "It rains."]
    for which in (Filter(status="rejected"), Filter(decided_by="bo"), Filter(difficulty=3)):
        assert kept(store, which) == ["When does the Harbour open?"]
    assert kept(store, Filter(decided_by="b")) == []


def test_model_prompt_and_suspicion_are_filters(store: Store) -> None:
    add_samples(store, ["When?"])
    draft = Draft(Retrieval("Where?", ("There.",)), GUIDE.source_id, "query", "llm", model="m-7b", prompt_version="q-2")
    with store.write() as cursor:
        samples.add_drafts(cursor, [draft], new_id())
        cursor.execute("UPDATE sample_state SET priority = 2.5 WHERE operation = 'query' AND num_negatives > 0")
    assert kept(store, Filter(model="m-7b")) == kept(store, Filter(prompt="q-2", text="WHERE")) == ["Where?"]
    assert kept(store, Filter(suspicious_above=2)) == ["When?"]
    assert kept(store, Filter(suspicious_above=2.5)) == []
    found = choices(store)
    assert (found.models, found.prompts, found.sources) == (("m-7b",), ("q-2",), ("guide",))


def test_flagged_are_what_an_adjudicator_is_asked_about_and_what_mining_flagged(store: Store) -> None:
    first, _ = add_samples(store, ["When?", "Where?"])
    add_samples(store, ["Why?"], negatives=("Near.", "Far."), known={"Near.": {"flags": ("near_positive",)}})
    add_reviews(store, [ReviewEvent(new_id(), "bo", first, first, Verdict.FLAG)])
    assert kept(store, Filter(flagged=Flagged.PEOPLE)) == ["When?"]
    assert kept(store, Filter(flagged=Flagged.MINING)) == ["Why?"]


def test_samples_come_most_suspicious_hardest_or_newest_first(store: Store) -> None:
    add_samples(store, ["First?", "Second?", "Third?"])
    with store.write() as cursor:
        cursor.execute(
            "UPDATE sample_state SET priority = 1 WHERE revision_id = (SELECT max(revision_id) FROM revision)"
        )
    newest = kept(store, Filter(), Sorting.NEWEST)
    assert kept(store, Filter(), Sorting.SUSPICION)[0] == newest[0]
    assert kept(store, Filter(), Sorting.HARDNESS) == ["First?", "Second?", "Third?"]


def test_a_page_has_fifty_and_a_page_too_far_is_the_last_one(store: Store) -> None:
    add_samples(store, [f"Question {number}?" for number in range(60)])
    first, second = (page_of(store, Filter(), Sorting.HARDNESS, number) for number in (1, 2))
    assert (first.num_samples, first.num_pages, len(first.listed), len(second.listed)) == (60, 2, 50, 10)
    assert page_of(store, Filter(), Sorting.HARDNESS, 9) == second


def test_held_out_samples_are_not_listed(store: Store) -> None:
    (sample,) = add_samples(store, ["When?"])
    with store.write() as cursor:
        cursor.execute("UPDATE sample_state SET declared_use = 'eval'")
    assert kept(store, Filter()) == []
    with pytest.raises(UserError, match=r"no sample .* to train on"):
        whole(store, sample)


def test_filters_and_page_are_taken_from_the_address(explored: ShowPage, store: Store) -> None:
    add_samples(store, [f"Question {number}?" for number in range(60)])
    add_unmined(store, Sts("It rains.", "Rain falls.", 4.5))
    assert listed(explored(of_task="sts")) == ["It rains."]
    page = explored(of_task="retrieval", order="hardness", page="2")
    assert listed(page) == [f"Question {number}?" for number in range(50, 60)]
    assert listed(explored(of_task="nonsense", with_text="question 7")) == ["Question 7?"]
    assert listed(explored(page="nonsense", order="hardness"))[0] == "Question 0?"


def test_a_page_number_of_thousands_of_digits_is_the_first_page(explored: ShowPage, store: Store) -> None:
    add_samples(store, [f"Question {number}?" for number in range(60)])
    assert listed(explored(page="9" * 5000, order="hardness"))[0] == "Question 0?"


def test_of_a_long_text_that_is_looked_for_the_beginning_counts(store: Store) -> None:
    asked = "Does the harbour open? " * 20
    add_samples(store, [asked])
    assert len(kept(store, Filter(text=f"{asked[:LONGEST_ASKED]} and what nobody wrote"))) == 1
    assert kept(store, Filter(text=f"x{asked}")) == []


def test_another_filter_begins_at_the_first_page(explored: ShowPage, store: Store) -> None:
    add_samples(store, [f"Question {number}?" for number in range(120)])
    page = explored(order="hardness", page="2")
    page.text_input(key="with_text").set_value("question").run()
    assert listed(page)[0] == "Question 0?"


def test_no_match_says_so(explored: ShowPage, store: Store) -> None:
    add_samples(store, ["When?"])
    assert "No sample is kept by these filters." in texts(explored(with_text="zebra"))


# One sample whole


def test_a_chosen_sample_is_shown_with_negatives_reviews_and_origin(explored: ShowPage, store: Store) -> None:
    (sample,) = add_samples(store, ["When does it open?"])
    add_reviews(store, [ReviewEvent(new_id(), "bo", sample, sample, Verdict.REJECT, reasons=("too-easy",), note="Hm.")])
    page = choose(explored(), 0)
    assert not page.exception
    shown = texts(page)
    for text in ("When does it open?", "The harbour opens at six.", "Boats are painted in March.", "licence CC0-1.0"):
        assert text in shown
    assert "bo: reject (too-easy)\nHm." in shown
    assert page.code[0].value == f"synth show {sample}"


def test_undone_and_older_reviews_say_so(store: Store) -> None:
    (sample,) = add_samples(store, ["When?"])
    event = ReviewEvent(new_id(), "bo", sample, sample, Verdict.REJECT)
    add_reviews(store, [event, replace(event, review_id=new_id(), undoes=event.review_id)])
    (said,) = whole(store, sample).said
    assert (said.verdict, said.is_undone, said.is_of_latest) == ("reject", True, True)


def test_hostile_texts_are_shown_and_never_drawn_as_markdown(explored: ShowPage, store: Store) -> None:
    add_samples(store, [HOSTILE], positive=f"P {HOSTILE}", negatives=(f"N {HOSTILE}",))
    with store.write() as cursor:
        cursor.execute("UPDATE source SET name = ?", [HOSTILE])
    page = choose(explored(), 0)
    assert not page.exception
    assert "⟨U+202E⟩evil⟨U+202C⟩" in listed(page)[0]
    assert f"N {HOSTILE.split(' zero')[0].replace(chr(0x202E), '⟨U+202E⟩').replace(chr(0x202C), '⟨U+202C⟩')}" in texts(
        page
    )
    drawn = "\n".join(each.value for each in (*page.markdown, *page.caption, *page.error, *page.subheader))
    assert "attacker" not in drawn and "attacker" in drawn_by_streamlit(page)
    assert not any("attacker" in each.label for each in (*page.button, *page.selectbox))


# Many verdicts at once


def test_a_batch_is_an_event_of_each_with_the_filter_in_words(store: Store) -> None:
    add_samples(store, ["When?", "Where?"])
    add_unmined(store, Sts("It rains.", "Rain falls.", 4.5))
    which = Filter(text="wh", task="retrieval")
    decision = Decision("ada", Verdict.REJECT, which.in_words(), ("too-easy",))
    assert decide(store, decision, heads_in(heads_of(store, which))) == 2
    assert sorted(verdicts(store)) == [("When?", "reject"), ("Where?", "reject")]
    with store.read() as cursor:
        rows = cursor.execute("SELECT DISTINCT note, reasons, saw_scores FROM reviews").fetchall()
        runs = cursor.execute("SELECT kind, status, counts->>'$.decided' FROM runs ORDER BY run_id").fetchall()
    assert rows == [('bulk: task retrieval, text contains "wh"', ["too-easy"], True)]
    assert runs[-1] == ("review", "done", "2")


def test_undo_takes_back_the_last_batch_as_a_whole_then_the_one_before(store: Store) -> None:
    (early,) = add_samples(store, ["When?"])
    add_samples(store, [f"Question {number}?" for number in range(2 * CHUNK + 1)], negatives=())
    add_reviews(store, [ReviewEvent(new_id(), "ada", early, early, Verdict.APPROVE)])
    decide(store, Decision("ada", Verdict.APPROVE, "first"), heads_in(heads_of(store, Filter(text="question"))))
    decide(store, Decision("ada", Verdict.REJECT, "second"), heads_in(heads_of(store, Filter())))
    assert kept(store, Filter(status="approved")) == []
    batch = last_batch(store, "ada")
    assert batch and (batch.words, batch.verdict, batch.num_standing) == ("second", Verdict.REJECT, 2 * CHUNK + 2)
    assert undo(store, "ada", batch) == 2 * CHUNK + 2
    assert page_of(store, Filter(status="approved"), Sorting.NEWEST, 1).num_samples == 2 * CHUNK + 2
    before = last_batch(store, "ada")
    assert before and before.words == "first"
    undo(store, "ada", before)
    assert last_batch(store, "ada") is None
    assert kept(store, Filter(status="approved")) == ["When?"]  # what was said one by one stands


def test_a_batch_is_only_its_reviewers(store: Store) -> None:
    add_samples(store, ["When?"])
    decide(store, Decision("ada", Verdict.APPROVE, "all"), heads_in(heads_of(store, Filter())))
    assert last_batch(store, "bo") is None


def test_many_samples_are_not_skipped_at_once_and_a_strange_reason_stores_nothing(store: Store) -> None:
    add_samples(store, ["When?"])
    for decision in (Decision("ada", Verdict.SKIP, "all"), Decision("ada", Verdict.REJECT, "all", ("nonsense",))):
        with pytest.raises(UserError):
            decide(store, decision, heads_in(heads_of(store, Filter())))
    assert num_events(store) == 0


def decide_many(page: AppTest, verdict: str, number: str) -> AppTest:
    page.get("segmented_control")  # drawn
    page.session_state["bulk_verdict"] = verdict
    (field,) = [each for each in page.text_input if each.label.startswith("Type ")]
    field.set_value(number)
    return button(page, "Store the verdicts").click().run()


def test_the_number_must_be_typed_before_anything_is_stored(explored: ShowPage, store: Store) -> None:
    add_samples(store, ["When?", "Where?", "Why?"])
    page = decide_many(explored(), "reject", "2")
    assert page.error[0].value == "Nothing was stored: these are 3 samples now. Type that number to go on."
    assert num_events(store) == 0
    page = decide_many(page, "reject", "3")
    assert "3 samples rejected." in texts(page)
    assert num_events(store) == 3


def test_ticked_rows_alone_are_decided(explored: ShowPage, store: Store) -> None:
    add_samples(store, ["When?", "Where?", "Why?"])
    page = decide_many(choose(explored(order="hardness"), 0, 2), "approve", "2")
    assert not page.exception
    assert sorted(verdicts(store)) == [("When?", "approve"), ("Why?", "approve")]


def test_a_verdict_must_be_chosen(explored: ShowPage, store: Store) -> None:
    add_samples(store, ["When?"])
    page = explored()
    page.text_input(key="bulk_number 1").set_value("1")
    button(page, "Store the verdicts").click().run()
    assert page.error[0].value == "Choose a verdict."


def test_the_last_batch_is_undone_by_a_button_also_after_a_reload(explored: ShowPage, store: Store) -> None:
    add_samples(store, ["When?", "Where?"])
    decide_many(explored(with_text="when"), "flag", "1")
    page = explored()
    assert '1 flagged\ntext contains "when"' in texts(page)
    button(page, "Undo it as a whole").click().run()
    assert "1 verdicts undone." in texts(page)
    assert kept(store, Filter(flagged=Flagged.PEOPLE)) == []
    assert not [each for each in page.button if each.label == "Undo it as a whole"]


def test_nobody_decides_without_a_name(explored: ShowPage, store: Store) -> None:
    approve_by_policy(store, add_samples(store, ["When?"]))
    assert not [each for each in explored("").button if each.label == "Store the verdicts"]


def test_an_id_that_is_none_is_told(explored: ShowPage, store: Store) -> None:
    add_samples(store, ["When?"])
    assert explored(like="nonsense").error[0].value.startswith("That is no id of a sample")


def test_the_id_of_no_sample_is_told(store: Store) -> None:
    with pytest.raises(UserError, match="there is no sample"):
        whole(store, UUID(int=7))
