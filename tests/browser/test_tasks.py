"""The cards of scored pairs and of labelled texts; and of all cards what the eye needs: size, contrast, nothing cut."""

from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from synth.records import Classification, Sts
from tests.browser.conftest import Server, until_painted, wait_until_stored
from tests.browser.test_card import press, said_by
from tests.conftest import one_opinion
from tests.review_app.seeding import add_samples, add_unmined

pytestmark = pytest.mark.slow
PAIRS = [("It rains.", "Rain falls.", 5.0), ("A dog runs.", "A cat sleeps.", 0.0), ("Six boats.", "Seven boats.", 2.0)]
LONG = "港口六点开放，九点关闭，船只在闸门前等候。" * 1000  # more than 20,000 characters
# Of every text on the screen its contrast with what is painted behind it, and its size; disabled buttons are exempt.
MEASURE = """() => {
    const canvas = Object.assign(document.createElement('canvas'), {width: 1, height: 1})
    const pen = canvas.getContext('2d', {willReadFrequently: true})
    const paint = (colours) => {
        pen.clearRect(0, 0, 1, 1)
        for (const colour of colours) { pen.fillStyle = colour; pen.fillRect(0, 0, 1, 1) }
        return [...pen.getImageData(0, 0, 1, 1).data].slice(0, 3)
    }
    const light = (rgb) => rgb.map((each) => each / 255)
        .map((each) => (each <= 0.03928 ? each / 12.92 : ((each + 0.055) / 1.055) ** 2.4))
        .reduce((sum, each, index) => sum + each * [0.2126, 0.7152, 0.0722][index], 0)
    const host = [...document.querySelectorAll('*')].find((each) => each.shadowRoot?.querySelector('.card'))
    const found = []
    for (const node of host.shadowRoot.querySelectorAll('*')) {
        const texts = [...node.childNodes].filter((each) => each.nodeType === 3 && each.data.trim())
        const style = getComputedStyle(node)
        if (!texts.length || !node.checkVisibility({opacityProperty: true, visibilityProperty: true})) continue
        if (node.closest('style, script, button:disabled')) continue
        const behind = []
        for (let each = node; each; each = each.parentElement ?? each.getRootNode().host) {
            behind.unshift(getComputedStyle(each).backgroundColor)
        }
        const [back, front] = [paint(behind), paint([...behind, style.color])].map(light)
        const [dark, bright] = [Math.min(back, front), Math.max(back, front)]
        const ratio = (bright + 0.05) / (dark + 0.05)
        const isSample = Boolean(node.closest('.text, .title, .label-text'))
        const size = parseFloat(style.fontSize)
        found.push([node.className || node.tagName, texts[0].data.slice(0, 30), ratio, size, isSample])
    }
    return found
}"""


@pytest.fixture(scope="module", autouse=True)
def samples(server: Server) -> None:
    one_opinion(server.store)
    for text1, text2, score in PAIRS:
        add_unmined(server.store, Sts(text1, text2, score))
    for number in range(4):
        add_unmined(server.store, Classification(f"It is {number} o'clock.", "time"))
    add_unmined(server.store, Classification("It is cold.", "weather"))
    add_samples(
        server.store, ["港口什么时候开放？"], positive=LONG, negatives=[f"{each}{LONG}" for each in "一二三四五六"]
    )


def open_task(page: Page, server: Server, reviewer: str, task: str) -> None:
    page.goto(f"{server.url}?reviewer={reviewer}&task={task}")
    page.wait_for_selector(f"main.{task} .text:not(:empty)")
    until_painted(page)


def box_of(page: Page, selector: str) -> Any:
    """Where it is: asked again if the card is drawn anew just then."""
    expect(page.locator(selector)).to_be_visible()
    while (box := page.locator(selector).bounding_box()) is None:
        until_painted(page)
    return box


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("task", ["retrieval", "sts", "classification"])
def test_every_text_can_be_read_and_nothing_is_off_the_screen(
    browser: Browser, server: Server, task: str, scheme: Any
) -> None:
    page = browser.new_context(viewport={"width": 1400, "height": 900}, color_scheme=scheme).new_page()
    open_task(page, server, "eyes", task)
    press(page, "v", *(["1", "d", "3", "i"] if task == "retrieval" else []), "x")
    measured = page.evaluate(MEASURE)
    assert len(measured) > 15
    assert [each for each in measured if each[2] < 4.5] == []
    assert [each for each in measured if each[4] and each[3] < 14 and each[0] != "hidden"] == []
    scrolled = "document.querySelector('[data-testid=stMain]').scrollHeight"
    assert page.evaluate(scrolled) <= 900
    page.set_viewport_size({"width": 1024, "height": 768})
    until_painted(page)
    assert page.evaluate(scrolled) <= 768
    for selector in ("[data-act=approve]", "main .text >> nth=0", "footer"):
        box = box_of(page, selector)
        assert box["y"] >= 0 and box["y"] + min(box["height"], 20) <= 768, selector
        assert box["x"] >= 0 and box["x"] + box["width"] <= 1024, selector
    page.context.close()


def test_everything_is_reached_by_tab_and_each_focus_can_be_seen(page: Page, server: Server) -> None:
    open_task(page, server, "eyes", "retrieval")
    press(page, "1")
    reached = set()
    for _ in range(40):
        page.keyboard.press("Tab")
        reached.add(
            page.evaluate("""() => {
                const at = document.activeElement.shadowRoot?.activeElement
                if (!at) return ''
                const style = getComputedStyle(at)
                const name = at.dataset.act ?? (at.dataset.grade && at.tagName === 'BUTTON' ? 'grade' : at.className)
                const shown = style.outlineStyle !== 'none' || style.borderTopColor !== style.backgroundColor
                return shown ? name : 'unseen ' + name
            }""")
        )
    assert {"approve", "flag", "easy", "edit", "mode", "scores", "like", "keys", "grade"} <= reached
    assert not [each for each in reached if each.startswith("unseen")]


def test_a_pair_is_approved_by_ones_own_score_unless_it_is_far_from_the_stored_one(page: Page, server: Server) -> None:
    open_task(page, server, "eyes", "sts")
    press(page, "a")
    expect(page.locator(".status")).to_have_text("Your own score first: 0 to 5")
    assert "stored score is" not in page.locator("main.sts").inner_text()
    seen = []
    for key in ("a", "e", ""):
        text = page.locator(".side-text .text").nth(0).inner_text()
        stored = next(score for text1, _, score in PAIRS if text1 == text)
        own = {5.0: "0", 0.0: "5", 2.0: "5"}[stored] if key else str(int(stored))
        press(page, own)
        if key:
            expect(page.locator(".stored-score")).to_contain_text(f"the stored score is {stored:g}")
            press(page, "3", key)
        seen.append((float(own), stored))
    wait_until_stored(page)
    said = said_by(server, "eyes", "verdict, own_score, saw_scores, edited_id IS NOT NULL")
    assert [(verdict, edited) for verdict, _, _, edited in said] == [
        ("approve", False),
        ("approve", True),
        ("approve", False),
    ]
    assert [own for _, own, _, _ in said] == [own for own, _ in seen]
    assert [saw for _, _, saw, _ in said] == [False] * 3
    with server.store.read() as cursor:
        scores = cursor.execute("SELECT score FROM samples WHERE task = 'sts' ORDER BY score").fetchall()
    assert sorted(score for (score,) in scores) == sorted(
        [seen[0][1], seen[1][0], seen[2][1]]  # kept, taken, near
    )


def test_the_digit_of_a_label_approves_or_relabels(page: Page, server: Server) -> None:
    open_task(page, server, "eyes", "classification")
    given = page.locator(".choice", has=page.locator(".given")).locator("kbd").inner_text()
    other = page.locator(".choice:not(:has(.given))").first
    press(page, given)
    relabelled = page.locator(".side-text .text").inner_text()
    before = page.locator(".choice", has=page.locator(".given")).locator(".label-text").inner_text()
    after = page.locator(".choice:not(:has(.given)) .label-text").first.inner_text()
    press(page, other.locator("kbd").inner_text(), "x", "6")
    wait_until_stored(page)
    assert said_by(server, "eyes", "verdict")[-3:] == [("approve",), ("approve",), ("reject",)]
    assert before != after
    with server.store.read() as cursor:
        found = cursor.execute("SELECT label, status FROM samples WHERE text = ?", [relabelled]).fetchall()
    assert found == [(after, "approved")]


def test_an_edited_pair_whose_score_is_left_empty_keeps_the_stored_one(page: Page, server: Server) -> None:
    add_unmined(server.store, Sts("It snows.", "Snow falls.", 3.0))
    open_task(page, server, "eyes", "sts")
    press(page, "e")
    page.get_by_label("Text 1").fill("It snows today.")
    press(page, "Control+Enter")
    wait_until_stored(page)
    with server.store.read() as cursor:
        found = cursor.execute("SELECT score FROM samples WHERE text1 = 'It snows today.'").fetchall()
    assert found == [(3.0,)]


@pytest.mark.parametrize("task", ["retrieval", "classification"])
def test_reasons_of_queries_and_passages_are_offered_where_there_are_some(
    page: Page, server: Server, task: str
) -> None:
    add_unmined(server.store, Classification("It is dark.", "time"))
    open_task(page, server, "eyes", task)
    before = said_by(server, "eyes", "verdict, reasons")
    press(page, "x")
    expect(page.get_by_role("button", name="duplicate")).to_be_visible()
    assert page.get_by_role("button", name="wrong positive").is_visible() is (task == "retrieval")
    press(page, "2")  # wrong-positive
    if task == "classification":
        expect(page.locator(".status")).to_contain_text("Why?")
    wait_until_stored(page)
    said = said_by(server, "eyes", "verdict, reasons")[len(before) :]
    assert said == ([("reject", ["wrong-positive"])] if task == "retrieval" else [])
