"""The pages Explore and SQL in a real browser: what is clicked, what is typed, and that hostile texts stay texts."""

import re
import time

import pytest
from playwright.sync_api import Page, expect

from synth.records import Sts
from tests.browser.conftest import Server
from tests.review_app.seeding import add_samples, add_unmined, verdicts
from tests.review_app.test_pages import HOSTILE

pytestmark = pytest.mark.slow

SHOWN = HOSTILE.replace("\u202e", "⟨U+202E⟩").replace("\u202c", "⟨U+202C⟩").replace("\u200b", "⟨U+200B⟩")


@pytest.fixture(scope="module", autouse=True)
def samples(server: Server) -> None:
    add_samples(server.store, [f"When does harbour {number} open?" for number in range(70)])
    add_samples(server.store, [HOSTILE], positive=f"P {HOSTILE}", negatives=(f"N {HOSTILE}",))
    add_unmined(server.store, Sts("It rains.", "Rain falls.", 4.5))
    with server.store.write() as cursor:
        cursor.execute("UPDATE source SET name = ?", [HOSTILE])


def opened(page: Page, server: Server, name: str, filters: str = "") -> Page:
    """A page of the app by its address."""
    page.goto(f"{server.url}{name}?reviewer=ada&{filters}")
    return page


def appears(page: Page, text: str) -> None:
    """Wait for a text beside the table."""
    page.locator("[data-testid=stText]", has_text=text).first.wait_for()


def cell(page: Page, row: int, column: int = 1) -> str:
    """A cell of the table as a screen reader is told it."""
    found = page.locator(f"#glide-cell-{column}-{row}")
    found.wait_for(state="attached")
    return found.text_content() or ""


def click_row(page: Page, row: int, at: int = 150) -> None:
    box = page.locator("[data-testid=stDataFrame] canvas").first.bounding_box()
    assert box
    page.mouse.click(box["x"] + at, box["y"] + 35 * (row + 1) + 17)


def test_filters_list_and_sample_are_on_one_screen(page: Page, server: Server) -> None:
    opened(page, server, "explore")
    cell(page, 0)
    assert page.evaluate("document.querySelector('[data-testid=stMain]').scrollHeight") <= 900


def test_a_click_shows_the_sample_and_a_filter_narrows_the_list(page: Page, server: Server) -> None:
    opened(page, server, "explore", "order=hardness")
    assert cell(page, 0) == "When does harbour 0 open?"
    click_row(page, 0)
    appears(page, "The harbour opens at six.")
    page.get_by_label("Text contains").fill("harbour 69")
    page.keyboard.press("Enter")
    appears(page, "1 samples")
    assert re.search(r"with_text=harbour(\+|%20)69", page.url)


def test_pages_are_turned(page: Page, server: Server) -> None:
    opened(page, server, "explore", "order=hardness&of_task=retrieval")
    cell(page, 0)
    page.get_by_role("button", name="Next page").click()
    expect(page.locator("#glide-cell-1-0")).to_have_text("When does harbour 49 open?", timeout=20_000)
    assert "page=2" in page.url


def test_hostile_texts_are_the_same_on_the_screen_and_ask_for_nothing(page: Page, server: Server) -> None:
    opened(page, server, "explore", "with_text=attacker")
    assert cell(page, 0) == SHOWN
    click_row(page, 0)
    appears(page, f"N {SHOWN}")
    page.get_by_label("Source").click()
    assert page.get_by_role("option").first.text_content() == SHOWN
    assert page.locator("[data-testid=stMain] img, [data-testid=stMain] a[href*=attacker]").count() == 0


def test_ticked_rows_are_decided_and_undone(page: Page, server: Server) -> None:
    opened(page, server, "explore", "order=hardness&with_text=harbour")
    cell(page, 0)
    for row in (0, 2):
        click_row(page, row, at=16)
        page.wait_for_timeout(500)
    page.get_by_text("Decide many").click()
    appears(page, "A verdict on the 2 ticked samples")
    page.get_by_text("approve", exact=True).click()
    page.get_by_label("Type 2 to confirm").fill("2")
    page.get_by_text("Store the verdicts").click()
    appears(page, "2 samples approved.")
    assert [verdict for _, verdict in verdicts(server.store)] == ["approve", "approve"]
    page.reload()
    page.get_by_text("Decide many").click()
    page.get_by_text("Undo it as a whole").click()
    appears(page, "2 verdicts undone.")
    assert verdicts(server.store) == []


def test_control_and_enter_run_a_statement_whose_cells_are_text(page: Page, server: Server) -> None:
    opened(page, server, "sql")
    statement = page.get_by_label("One statement that reads")
    statement.fill("SELECT query, 'http://attacker.example/x.png' AS link FROM samples WHERE query LIKE '%attacker%'")
    statement.press("Control+Enter")
    appears(page, "1 row")
    assert (cell(page, 0, 0), cell(page, 0, 1)) == (SHOWN, "http://attacker.example/x.png")
    box = page.locator("[data-testid=stDataFrame] canvas").first.bounding_box()
    assert box
    page.mouse.dblclick(box["x"] + 60, box["y"] + 52)  # the whole cell, in a box of its own
    time.sleep(1)
    assert page.locator("img[src*=attacker], a[href*=attacker]").count() == 0
    page.keyboard.press("Escape")
    with page.expect_download() as download:
        page.get_by_text("Save as CSV").click()
    assert HOSTILE.split(" ")[0] in download.value.path().read_text(encoding="utf-8")
