"""The page of a mine run's report in a real browser: hostile text is text, and there is room for it on any screen."""

import pytest
from playwright.sync_api import Page

from synth.commands.mining_page import page as page_of
from synth.records import FoundBy
from synth.stages.report.mining import mining_report_of
from synth.store.connection import Store
from tests.synth.stages.mining_runs import a_mine_run, asked, graded, mined, negative, with_corpora
from tests.synth.stages.reporting import HOSTILE

pytestmark = pytest.mark.slow
LONG = "延" * 400 + "x" * 400


@pytest.fixture
def content(store: Store) -> str:
    """The page of a run with hostile names and texts."""
    with_corpora(store)
    one, two = asked(store, f"who rows? {HOSTILE}", "who sails?", positive=f"{LONG} {HOSTILE}")
    found = negative(one, 10, miners=(FoundBy(HOSTILE, 1, 0.5), FoundBy("dense", 1, 0.5)), flags=("near_positive",))
    run_id = a_mine_run(
        store,
        mined(one, found, positive_rank=70, fallen={"capped": 2}),
        mined(two, status="none", reason=f"why {HOSTILE}", candidates=[(1, 0.5, "capped")]),
        encoder=HOSTILE,
    )
    graded(store, one, (10, 2), judge=HOSTILE)
    return page_of(mining_report_of(store, run_id, seed=0), workspace=HOSTILE)


def test_hostile_text_is_shown_as_text(page: Page, content: str) -> None:
    dialogs: list[str] = []
    page.on("dialog", lambda dialog: dialogs.append(dialog.message))
    page.set_content(content)
    assert page.locator("script, img, iframe, link, a").count() == 0
    seen = page.locator("body").inner_text()
    shown = HOSTILE.replace("\x1b", "\\x1b").replace("\u202e", "\\u202e")
    assert page.title() == f"mined by {shown}" and dialogs == []
    for text in (
        f"who rows? {shown}",
        f"why {shown}",
        f"in the eyes of judge {shown}",
        f"{shown} rank 1, dense rank 1",
    ):
        assert text in seen


@pytest.mark.parametrize("width", [300, 400, 1200])
def test_everything_stays_within_the_page(page: Page, content: str, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 800})
    page.set_content(content)
    assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")


def test_what_is_known_of_a_text_stands_beside_it_and_on_a_narrow_screen_above_it(page: Page, content: str) -> None:
    page.set_content(content)
    notes, text = page.locator("tr", has_text="negative, rank 10").locator("td").all()
    box = "element => element.getBoundingClientRect()"
    assert notes.evaluate(box)["top"] == text.evaluate(box)["top"]
    assert text.evaluate(box)["width"] > 2 * notes.evaluate(box)["width"]
    page.set_viewport_size({"width": 400, "height": 800})
    assert notes.evaluate(box)["top"] < text.evaluate(box)["top"]
    assert text.evaluate(box)["width"] > 300
