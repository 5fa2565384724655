"""What a reviewer can do with a card beyond a verdict."""

import re

import pytest
from playwright.sync_api import Page, expect

from review_app.outbox import receive
from synth.store.reviewer_settings import set_reviewer_setting
from tests.browser.conftest import Opened, Server, shown, until_painted, wait_until_stored
from tests.conftest import one_opinion
from tests.review_app.seeding import add_samples
from tests.review_app.test_outbox import sent

pytestmark = pytest.mark.slow
OPENS = "The harbour opens at six."


@pytest.fixture(scope="module", autouse=True)
def samples(server: Server) -> None:
    one_opinion(server.store)
    add_samples(server.store, [f"When does harbour {number} open?" for number in range(500)])


def press(page: Page, *keys: str) -> None:
    for key in keys:
        page.keyboard.press(key)
        until_painted(page)


def said_by(server: Server, reviewer: str, columns: str) -> list[tuple[object, ...]]:
    with server.store.read() as cursor:
        return cursor.execute(
            f"SELECT {columns} FROM reviews v WHERE reviewer = ? ORDER BY created_at, review_id", [reviewer]
        ).fetchall()


def test_a_promoted_passage_becomes_a_positive_of_what_is_approved_and_undo_takes_it_back(
    review: Opened, server: Server
) -> None:
    page = review("promotes")
    query = shown(page)
    press(page, "1", "p", "p", "a")
    wait_until_stored(page)
    assert said_by(server, "promotes", "verdict, grade") == [("promote", 3), ("promote", 3), ("approve", None)]
    state = "SELECT len(positives), status FROM samples WHERE query = ?"
    with server.store.read() as cursor:
        assert cursor.execute(state, [query]).fetchall() == [(3, "approved")]
    press(page, "z")
    wait_until_stored(page)
    with server.store.read() as cursor:
        assert cursor.execute(state, [query]).fetchall() == [(1, "pending")]
    expect(page.locator(".negative .grade").nth(0)).to_have_text("promoted")


def test_where_one_passage_is_contested_it_needs_no_focus(review: Opened, server: Server) -> None:
    [alone] = add_samples(server.store, ["What is alone?"], positive="Alone.", negatives=["Boats are dry."])
    with server.store.write() as cursor:  # of the most suspicious, not of those that come by chance
        cursor.execute("UPDATE sample_state SET draw = 0.5, priority = 9 WHERE sample_id = ?", [alone])
    page = review("alone")
    for _ in range(30):
        if shown(page) == "What is alone?":
            break
        press(page, "s")
    expect(page.locator(".negative")).to_have_count(1)
    press(page, "i")
    expect(page.locator(".grade")).to_have_text("answers in part")
    press(page, "i", "0")
    expect(page.locator(".grade")).to_have_text("irrelevant")


def test_a_grade_without_a_focus_asks_which_passage_and_escape_leaves_the_focus(review: Opened) -> None:
    page = review("focus")
    press(page, "t")
    expect(page.locator(".status")).to_have_text("Which passage? A digit puts it in focus")
    press(page, "2", "Escape", "t")
    expect(page.locator('.negative[data-grade="1"]')).to_have_count(0)
    page.get_by_role("group", name="Grade of negative 1").get_by_role("button", name=re.compile("Topical")).click()
    expect(page.locator(".negative .grade").nth(0)).to_have_text("topical")


def test_cannot_tell_and_flag_are_verdicts_of_their_own(review: Opened, server: Server) -> None:
    page = review("unsure")
    press(page, "u", "f")
    wait_until_stored(page)
    assert said_by(server, "unsure", "verdict, reasons") == [("skip", ["cannot-tell"]), ("flag", [])]


def test_a_note_goes_with_the_verdict_and_the_keyboard_goes_on(review: Opened, server: Server) -> None:
    page = review("notes")
    press(page, "n")
    page.keyboard.type("axs 1 is dull")
    press(page, "Escape")
    expect(page.get_by_role("button", name="Note")).to_have_attribute("aria-pressed", "true")
    press(page, "a", "n")
    expect(page.get_by_label("Note, kept with the verdict")).to_have_value("")
    page.keyboard.type("too")
    press(page, "Control+Enter", "s")
    wait_until_stored(page)
    assert said_by(server, "notes", "verdict, note") == [("approve", "axs 1 is dull"), ("skip", "too")]


def test_an_edit_approves_the_sample_as_it_should_be(review: Opened, server: Server) -> None:
    page = review("edits")
    query = shown(page)
    press(page, "e")
    page.get_by_label("Query").fill("  ")
    press(page, "Control+Enter")
    expect(page.locator(".fault")).to_have_text("The query is empty")
    page.get_by_label("Query").fill(f"{query} Mended.")
    press(page, "Escape", "e")
    expect(page.get_by_label("Query")).to_have_value(f"{query} Mended.")  # what was typed is not lost
    press(page, "Control+Enter")
    expect(page.locator(".status")).to_have_text(
        "Approved as edited; another query has other negatives: synth mine finds them"
    )
    wait_until_stored(page)
    with server.store.read() as cursor:
        found = cursor.execute("SELECT status, positives FROM samples WHERE query = ?", [f"{query} Mended."]).fetchall()
    assert found == [("approved", [OPENS])]
    assert query not in shown(page)


def test_looking_back_shows_cards_and_takes_no_verdict(review: Opened, server: Server) -> None:
    page = review("looks")
    first = shown(page)
    press(page, "a")
    second = shown(page)
    press(page, "x", "4")
    third = shown(page)
    press(page, "j")
    assert shown(page) == second
    expect(page.locator(".status")).to_have_text("Looking back: 1 before. Rejected")
    press(page, "j", "a", "x", "1", "s", "n")
    assert shown(page) == first
    expect(page.get_by_role("button", name="Approve", exact=False).first).to_be_disabled()
    press(page, "k")
    assert shown(page) == second
    press(page, "Escape")
    assert shown(page) == third
    press(page, "a")
    wait_until_stored(page)
    assert said_by(server, "looks", "verdict") == [("approve",), ("reject",), ("approve",)]


def test_more_like_this_opens_the_explore_page_with_the_sample(review: Opened) -> None:
    page = review("alike")
    with page.context.expect_page() as opened:
        page.keyboard.press("m")
    assert re.search(r"/explore\?like=[0-9a-f-]{36}&reviewer=alike", opened.value.url)
    opened.value.close()


def test_keys_of_ones_own_are_on_the_buttons_and_in_the_sheet(page: Page, server: Server) -> None:
    set_reviewer_setting(server.store, "own keys", "keys", {"approve": "l", "skip": "r"})
    page.goto(f"{server.url}?reviewer=own+keys&task=retrieval")
    page.wait_for_selector(".query .text:not(:empty)")
    until_painted(page)
    expect(page.locator(".status")).to_contain_text("R is taken, not for skip")
    expect(page.locator('[data-act="approve"] kbd')).to_have_text("L")
    query = shown(page)
    press(page, "a")
    assert shown(page) == query
    press(page, "?")
    expect(page.locator(".sheet dt", has_text="L")).to_have_count(1)
    press(page, "Escape", "l")
    assert shown(page) != query


def test_an_adjudicator_sees_what_others_said_and_settles_it(review: Opened, server: Server) -> None:
    (sample,) = add_samples(server.store, ["Who disagrees?"], positive="Ada and Bob.")
    receive(server.store, "ada", [sent(sample, note="<b>fine</b>")])
    receive(server.store, "bob", [sent(sample, verdict="reject", reasons=["wrong-positive"])])
    page = review("carol", "adjudication")
    while shown(page) != "Who disagrees?":
        press(page, "s")
    expect(page.locator(".word").nth(0)).to_have_text("ada: Approved · <b>fine</b>")
    expect(page.locator(".word").nth(1)).to_have_text("bob: Rejected · wrong positive")
    press(page, "a")
    wait_until_stored(page)
    with server.store.read() as cursor:
        found = cursor.execute("SELECT status, decided_by FROM samples WHERE query = 'Who disagrees?'").fetchall()
    assert found[0][0] == "approved"
    assert said_by(server, "carol", "adjudicates")[-1] == (True,)
