"""The Compare page as Streamlit runs it, without a browser."""

import json
from functools import partial
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from synth.records import Verdict
from synth.store.connection import Store
from tests.review_app.conftest import ShowPage
from tests.synth.store.two_sides import add_models, add_releases, freeze, ids_of, judge

HOSTILE = "<img src=x> ![x](http://attacker.example/i.png) :red[gone] $5$ \u202eevil zero\u200bwidth"
QUESTIONS = [(f"When does harbour {n} open?", f"At what hour does port {n} open?") for n in range(3)]
MODELS = {"a": "model:small", "b": "model:large"}


@pytest.fixture
def page(show_page: ShowPage) -> ShowPage:
    return partial(show_page, "compare_page")


def payload(page: AppTest) -> dict[str, Any]:
    [drawn] = page.get("bidi_component")
    found: dict[str, Any] = json.loads(drawn.proto.json)
    return found


def texts(page: AppTest) -> list[str]:
    return [each.value for each in (*page.caption, *page.text)]


def rows(page: AppTest, place: int = 0) -> list[list[Any]]:
    found: list[list[Any]] = page.dataframe[place].value.values.tolist()
    return found


def press(page: AppTest, label: str) -> AppTest:
    [button] = [each for each in page.button if each.label == label]
    button.click().run()
    assert not page.exception
    return page


def votes(store: Store) -> list[tuple[Any, ...]]:
    with store.read() as cursor:
        return cursor.execute("SELECT reviewer, choice, left_side FROM votes").fetchall()


def test_an_empty_store_says_so(page: ShowPage) -> None:
    assert "The store has no samples yet: run `synth ingest` and `synth generate`." in texts(page())


def test_while_a_side_is_missing_the_page_says_what_there_is_to_choose(page: ShowPage, store: Store) -> None:
    add_models(store, QUESTIONS)
    shown = page(a="model:small")
    assert {row[0] for row in rows(shown)} >= {"model:small", "model:large", "prompt:query-1"}
    shown.selectbox[1].select("model:large").run()
    assert shown.query_params["a"] == "model:small"
    assert shown.query_params["b"] == "model:large"
    assert ["samples", "3", "3"] in rows(shown)


def test_a_side_that_is_not_there_is_said_and_another_one_can_be_chosen(page: ShowPage, store: Store) -> None:
    add_models(store, QUESTIONS)
    shown = page(a="release:gone\u202e", b="model:large")
    assert [each.value for each in shown.error] == ["The address names something that is not there; choose another."]
    assert "release:gone⟨U+202E⟩" in texts(shown)
    shown.selectbox[0].select("model:small").run()
    assert not shown.error


def test_numbers_stand_beside_each_other(page: ShowPage, store: Store) -> None:
    add_models(store, QUESTIONS)
    judge(store, ids_of(store, "small")[0], Verdict.REJECT, "duplicate", difficulty=4)
    shown = page(**MODELS)
    assert ["rejected", "1", "0"] in rows(shown)
    assert ["difficulty, 1 to 4", "4.00", ""] in rows(shown)
    assert rows(shown, 1) == [["duplicate", 1, 0]]


def test_of_two_releases_the_page_says_what_the_command_says(page: ShowPage, store: Store) -> None:
    add_releases(store, "A wet harbour.", "A rainy harbour.")
    shown = page(a="release:first", b="release:second")
    assert rows(shown, 1) == [
        ["only in B", 0],
        ["only in A", 0],
        ["edited", 1],
        ["other negatives", 0],
        ["the same", 1],
    ]
    assert "Both were made by the same settings." in texts(shown)


def test_a_release_whose_folder_is_gone_is_said_and_the_rest_is_shown(page: ShowPage, store: Store) -> None:
    add_releases(store, "A wet harbour.", "A rainy harbour.")
    (freeze(store, "second") / "manifest.json").unlink()
    shown = page(a="release:first", b="release:second")
    assert any("no release 'second'" in each for each in texts(shown))
    assert ["samples", "2", "2"] in rows(shown)


def test_pairs_come_with_what_differs_marked_and_what_is_the_same_once(page: ShowPage, store: Store) -> None:
    add_models(store, QUESTIONS[:1])
    [pair] = payload(page(show="Pairs", **MODELS))["pairs"]
    query, positive = pair["parts"]
    assert (query["name"], positive) == ("Query", {"name": "Positive", "both": [["It opens at six.", ""]]})
    left, right = query["sides"]
    assert ["When", "del"] in left or any(kind.startswith("del") for _, kind in left)
    assert "".join(text for text, _ in right) == QUESTIONS[0][1]


def test_sides_without_pairs_say_so(page: ShowPage, store: Store) -> None:
    add_models(store, QUESTIONS)
    assert any(
        each.startswith("There are no pairs") for each in texts(page(a="model:small", b="model:small", show="Pairs"))
    )


def test_a_vote_is_stored_and_the_next_pair_comes(page: ShowPage, store: Store) -> None:
    add_models(store, QUESTIONS)
    shown = page(show="Blind vote", **MODELS)
    first = payload(shown)
    press(shown, "Left is better")
    assert payload(shown) != first
    assert [(reviewer, choice) for reviewer, choice, _ in votes(store)] == [("ada", "left")]
    press(shown, "Equally good")
    press(shown, "Cannot tell")
    assert not shown.button
    assert "There is no pair left to ask you about: the sides share none, or you have voted on each." in texts(shown)
    assert len(votes(store)) == 3


def test_what_the_browser_gets_does_not_say_which_side_is_which(page: ShowPage, store: Store) -> None:
    add_models(store, QUESTIONS)
    shown = page(show="Blind vote", **MODELS)
    sent = json.dumps(payload(shown)) + "".join(f"{each.proto}" for each in shown.button)
    for told in (
        "small",
        "large",
        "del",
        "ins",
        *(str(each) for model in ("small", "large") for each in ids_of(store, model)),
    ):
        assert told not in sent


def test_the_pair_on_the_screen_stays_while_nobody_votes(page: ShowPage, store: Store) -> None:
    add_models(store, QUESTIONS)
    shown = page(show="Blind vote", **MODELS)
    before = payload(shown), [each.key for each in shown.button]
    shown.run()
    assert (payload(shown), [each.key for each in shown.button]) == before


def test_a_pair_that_another_tab_voted_on_is_not_stored_again(page: ShowPage, store: Store) -> None:
    add_models(store, QUESTIONS[:1])
    one, other = page(show="Blind vote", **MODELS), page(show="Blind vote", **MODELS)
    press(one, "Left is better")
    press(other, "Right is better")
    assert [choice for _, choice, _ in votes(store)] == ["left"]
    assert "There is no pair left to ask you about: the sides share none, or you have voted on each." in texts(other)


def test_the_tally_is_shown_when_it_is_asked_for(page: ShowPage, store: Store) -> None:
    add_models(store, QUESTIONS)
    shown = press(page(show="Blind vote", **MODELS), "Left is better")
    assert not shown.dataframe
    shown.toggle[0].set_value(True).run()
    won = [row[:2] for row in rows(shown)]
    assert won in (
        [["A is better", 1], ["B is better", 0], ["equally good", 0], ["cannot tell", 0]],
        [["A is better", 0], ["B is better", 1], ["equally good", 0], ["cannot tell", 0]],
    )
    assert "Sign test, two-sided: p = 1.000; decided pairs: 1, fewer than 20" in texts(shown)


def test_who_has_no_name_cannot_vote(page: ShowPage, store: Store) -> None:
    add_models(store, QUESTIONS)
    shown = page(reviewer="", show="Blind vote", **MODELS)
    assert not shown.button
    assert not shown.get("bidi_component")


def test_hostile_names_and_texts_are_drawn_by_nothing_that_reads_markdown(page: ShowPage, store: Store) -> None:
    add_models(store, [(f"{HOSTILE} {n}?", f"Which {HOSTILE} {n}?") for n in range(2)], positive=HOSTILE)
    for section in ("Numbers", "Pairs", "Blind vote"):
        shown = page(show=section, **MODELS)
        drawn = (*shown.markdown, *shown.caption, *shown.title, *shown.subheader, *shown.metric)
        assert "attacker" not in "".join(str(each.value) for each in drawn)
    assert "\u202e" not in json.dumps(payload(page(show="Pairs", **MODELS)), ensure_ascii=False)
