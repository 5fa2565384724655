"""Reviewing by keyboard and by mouse, in a real browser."""

import re

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Opened, Server, shown, until_painted, wait_until_stored
from tests.review_app.seeding import add_samples, num_events, verdicts

pytestmark = pytest.mark.slow

PASSAGE = "The harbour opens at six and closes at nine, and boats wait before its gate until then. " * 10
OTHERS = [
    f"{number}. In the town, bread is baked at four, and the market is full by seven. " * 12 for number in range(4)
]
# Every query that was in the page when a frame was drawn, that is, what the reviewer could have seen.
RECORD_FRAMES = """() => {
    window.painted = new Set()
    const find = (node) => node.querySelector?.('.query .text')
        ?? [...node.querySelectorAll('*')].map((each) => each.shadowRoot && find(each.shadowRoot)).find(Boolean)
    const record = () => { window.painted.add(find(document)?.innerText); requestAnimationFrame(record) }
    requestAnimationFrame(record)
}"""


@pytest.fixture(scope="module", autouse=True)
def samples(server: Server) -> None:
    add_samples(server.store, [f"When does harbour {n} open?" for n in range(600)], positive=PASSAGE, negatives=OTHERS)


def press(page: Page, *keys: str) -> None:
    for key in keys:
        page.keyboard.press(key)
        until_painted(page)


def test_everything_is_on_one_screen(review: Opened) -> None:
    page = review("one screen")
    expect(page.locator(".negative")).to_have_count(2)
    press(page, "b")
    assert page.evaluate("document.querySelector('[data-testid=stMain]').scrollHeight") <= 900
    for selector in (".query", ".positive", ".negative >> nth=3", "[data-act=approve]"):
        box = page.locator(selector).bounding_box()
        assert box and box["y"] >= 0 and box["y"] + box["height"] <= 900, selector
    assert page.locator(".negative .clipped").count() == 4
    press(page, " ")
    assert page.locator(".clipped").count() == 0


def test_keys_decide_and_the_card_moves_on(review: Opened, server: Server) -> None:
    page = review("keys")
    seen = []
    for keys in (["a"], ["A"], ["s"], ["x", "3"], ["x", "x"], ["x", "Enter"]):
        seen.append(shown(page))
        press(page, *keys)
    wait_until_stored(page)
    expected = ["approve", "approve", "skip", "reject", "reject", "reject"]
    assert verdicts(server.store, "keys") == list(zip(seen, expected, strict=True))
    with server.store.read() as cursor:
        rows = cursor.execute(
            "SELECT reasons, seconds FROM reviews WHERE reviewer = 'keys' ORDER BY review_id"
        ).fetchall()
    assert [reasons for reasons, _ in rows] == [[], [], [], ["false-negative"], [], []]
    assert all(0 < seconds < 60 for _, seconds in rows)


def test_buttons_do_what_the_keys_do(review: Opened, server: Server) -> None:
    page = review("buttons")
    seen = []
    for names in (["Approve"], ["Skip"], ["Reject", "duplicate"], ["Reject", "Reject"]):
        seen.append(shown(page))
        for name in names:
            page.get_by_role("button", name=re.compile(f"{name}$")).click()
            until_painted(page)
    wait_until_stored(page)
    assert verdicts(server.store, "buttons") == list(zip(seen, ["approve", "skip", "reject", "reject"], strict=True))
    page.get_by_role("button", name="Undo").click()
    assert shown(page) == seen[-1]
    wait_until_stored(page)
    assert len(verdicts(server.store, "buttons")) == 3


def test_space_after_a_click_does_not_click_again(review: Opened, server: Server) -> None:
    page = review("space")
    page.get_by_role("button", name="Approve").click()
    until_painted(page)
    press(page, " ")
    wait_until_stored(page)
    assert len(verdicts(server.store, "space")) == 1


def test_grades_and_difficulty_go_with_the_verdict_and_come_back_with_it(review: Opened, server: Server) -> None:
    page = review("grades")
    press(page, "b", "2", "d", "t", "4", "0", "4", "0", "g")
    expect(page.locator('.negative[data-grade="drop"]')).to_have_count(1)
    expect(page.locator('.negative[data-grade="1"] .place')).to_have_text("3")  # the next one was in focus
    expect(page.get_by_role("button", name="hard", exact=False).nth(0)).to_have_attribute("aria-pressed", "true")
    press(page, "a")
    wait_until_stored(page)
    with server.store.read() as cursor:
        rows = cursor.execute(
            "SELECT v.verdict, v.difficulty, v.grade, v.num_shown, n.rank FROM reviews v"
            " LEFT JOIN negatives n USING (negative_id) WHERE v.reviewer = 'grades' ORDER BY n.rank NULLS FIRST"
        ).fetchall()
    assert rows == [("approve", 3, None, 4, None), ("reject", None, None, None, 2), ("keep", None, 1, None, 3)]
    press(page, "z")
    expect(page.locator('.negative[data-grade="drop"]')).to_have_count(1)
    wait_until_stored(page)
    with server.store.read() as cursor:
        undone = cursor.execute("SELECT is_undo, is_undone FROM reviews WHERE reviewer = 'grades'").fetchall()
    assert sorted(undone) == [(False, True)] * 3 + [(True, False)] * 3


def test_undo_goes_back_any_number_also_after_a_reload(review: Opened, server: Server) -> None:
    page = review("undo")
    seen = []
    for _ in range(4):
        seen.append(shown(page))
        press(page, "a")
    press(page, "z", "z")
    assert shown(page) == seen[2]
    wait_until_stored(page)
    page = review("undo")
    press(page, "z")
    assert shown(page) == seen[1]
    press(page, "x", "1")
    assert shown(page) == seen[2]
    wait_until_stored(page)
    assert verdicts(server.store, "undo") == [(seen[0], "approve"), (seen[1], "reject")]


def test_a_burst_of_keys_gives_as_many_events_none_doubled_none_unseen(review: Opened, server: Server) -> None:
    page = review("burst")
    page.evaluate(RECORD_FRAMES)
    until_painted(page)
    for _ in range(20):
        page.keyboard.press("a")
        until_painted(page)
    wait_until_stored(page)
    judged = [query for query, _ in verdicts(server.store, "burst")]
    assert len(judged) == len(set(judged)) == 20
    assert set(judged) <= set(page.evaluate("[...window.painted]"))


PRESS = "for (const key of 'aazx') window.dispatchEvent(new KeyboardEvent('keydown', {key}));"


def test_keys_that_come_before_the_next_card_is_painted_wait_for_it(review: Opened, server: Server) -> None:
    page = review("quick")
    page.evaluate(PRESS)
    expect(page.get_by_role("button", name="false negative")).to_be_visible()
    press(page, "Escape")
    wait_until_stored(page)
    assert [verdict for _, verdict in verdicts(server.store, "quick")] == ["approve"]


def test_a_key_that_waited_for_long_does_not_count(review: Opened, server: Server) -> None:
    page = review("slow")
    page.evaluate(f"{PRESS} const end = performance.now() + 1200; while (performance.now() < end);")
    until_painted(page)
    wait_until_stored(page)
    assert [verdict for _, verdict in verdicts(server.store, "slow")] == ["approve"]


def test_a_key_held_down_decides_once(review: Opened, server: Server) -> None:
    page = review("held")
    for _ in range(9):
        page.keyboard.down("a")
        page.wait_for_timeout(30)
    page.keyboard.up("a")
    wait_until_stored(page)
    assert len(verdicts(server.store, "held")) == 1


def test_keys_do_nothing_while_typing_or_over_a_dialog_or_with_a_modifier(review: Opened, server: Server) -> None:
    page = review("typing")
    query = shown(page)
    page.evaluate("document.body.append(Object.assign(document.createElement('textarea'), {id: 'typed'}))")
    page.locator("#typed").focus()
    page.keyboard.type("axs12z")
    page.evaluate("document.querySelector('#typed').remove()")
    page.keyboard.press("?")
    expect(page.locator("dialog")).to_be_visible()
    press(page, "a", "x", "s", "Escape")
    expect(page.locator("dialog")).to_be_hidden()
    press(page, "Control+a", "Alt+x", "Meta+s")
    assert shown(page) == query
    assert not [each for each in verdicts(server.store, "typing")]


def test_escape_takes_a_rejection_back_before_it_is_one(review: Opened, server: Server) -> None:
    page = review("escape")
    press(page, "x")
    expect(page.get_by_role("button", name="false negative")).to_be_visible()
    press(page, "a", "Escape")
    expect(page.get_by_role("button", name="false negative")).to_be_hidden()
    press(page, "s")
    wait_until_stored(page)
    assert [verdict for _, verdict in verdicts(server.store, "escape")] == ["skip"]


def test_the_name_is_asked_once_and_the_counts_follow(page: Page, server: Server) -> None:
    page.goto(server.url)
    page.get_by_role("button", name="Start reviewing").click()
    expect(page.get_by_text("A name is needed.")).to_be_visible()
    page.get_by_label("Your name").fill("Ada Lovelace")
    page.get_by_role("button", name="Start reviewing").click()
    page.wait_for_selector(".query .text:not(:empty)")
    assert "reviewer=Ada+Lovelace" in page.url
    until_painted(page)
    left = int(page.locator(".pace strong").nth(1).inner_text())
    press(page, "a", "x", "1", "s")
    wait_until_stored(page)
    expect(page.locator(".pace strong").nth(0)).to_have_text("3")
    expect(page.locator(".pace strong").nth(1)).to_have_text(str(left - 3))
    expect(page.locator(".pace")).to_contain_text("per hour")
    page.get_by_role("link", name="Guidelines").click()
    expect(page.locator(".card")).to_have_count(0)
    page.get_by_role("link", name="Review").click()
    page.wait_for_selector(".query .text:not(:empty)")
    expect(page.get_by_text("Reviewing as Ada Lovelace")).to_be_visible()


def test_the_verdict_is_announced_and_focus_can_be_seen(review: Opened, server: Server) -> None:
    page = review("accessible")
    press(page, "a")
    expect(page.locator("[aria-live=polite]")).to_have_text("Approved")
    page.get_by_role("button", name="Skip").focus()
    press(page, "Tab", "Shift+Tab")
    assert page.get_by_role("button", name="Skip").evaluate("node => getComputedStyle(node).outlineStyle") == "solid"
    before = num_events(server.store)
    press(page, "Enter")
    wait_until_stored(page)
    assert num_events(server.store) > before
