"""The Compare page in a real browser: what it draws is the text, and nothing of it is fetched or run."""

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Server
from tests.synth.store.two_sides import add_models

pytestmark = pytest.mark.slow

HOSTILE = (
    "<img src='http://attacker.example/i.png' onerror='window.ran = 1'><script>window.ran = 1</script>"
    " ![x](http://attacker.example/m.png) :red[gone] $5$ # Title  two  spaces <style>*{display:none}</style>"
)
QUERIES = (f"What is {HOSTILE}?", f"Which one is {HOSTILE}!")
POSITIVE = f"It is {HOSTILE}."


def choose(page: Page, label: str, side: str) -> None:
    page.get_by_label(label).click()
    page.get_by_role("option", name=f"model {side}").click()


def test_hostile_texts_are_shown_as_they_are_in_pairs_and_in_a_vote(page: Page, server: Server) -> None:
    add_models(server.store, [QUERIES], positive=POSITIVE)
    page.goto(f"{server.url}?reviewer=eve")
    page.get_by_role("link", name="Compare").click()
    choose(page, "Side A", "small")
    choose(page, "Side B", "large")
    page.get_by_text("Pairs", exact=True).click()
    texts = page.locator(".pairs .text")
    expect(texts).to_have_count(3)
    assert texts.evaluate_all("found => found.map((each) => each.textContent)") == [*QUERIES, POSITIVE]
    assert page.locator(".pairs").locator("img, script, style, a").count() == 0
    page.get_by_text("Blind vote", exact=True).click()
    expect(page.get_by_text("Query · left")).to_be_visible()
    expect(texts).to_have_count(3)  # those of the other section are gone
    assert sorted(texts.evaluate_all("found => found.map((each) => each.textContent)")) == sorted([*QUERIES, POSITIVE])
    assert page.locator(".pairs").locator("ins, del").count() == 0
    page.get_by_role("button", name="Left is better").dblclick()
    expect(page.get_by_text("There is no pair left to ask you about")).to_be_visible()
    with server.store.read() as cursor:
        assert cursor.execute("SELECT reviewer, choice FROM votes").fetchall() == [("eve", "left")]
    assert page.evaluate("window.ran") is None  # and the fixture `page` saw no request to anybody else
