"""The page of a report in a real browser: hostile text is text, and nothing is run or fetched."""

import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from uuid import UUID

import pytest
from playwright.sync_api import Page, expect

from synth.commands.report_page import page as page_of
from synth.records import Retrieval, Written
from synth.stages.report.agreement import Agreement, Band, Outlier, SourceAgreement
from synth.stages.report.figures import histogram
from synth.stages.report.run import report
from synth.stages.report.scores import POSITIVE, Scores, Similarity
from synth.store.connection import Store
from synth.store.made import Finished
from synth.store.run_report import Scope
from tests.synth.stages.reporting import ADDED, HOSTILE, TOWER, a_run, added, draft, rejected, with_sources

pytestmark = pytest.mark.slow
LONG = "延" * 400 + "x" * 400


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    """Where a browser finds the page of a run with hostile texts."""
    store = Store.create(tmp_path / "store.duckdb")
    with_sources(store)
    asked, other = added(store, ADDED[Retrieval], Retrieval(f"谁建了灯塔？{HOSTILE}", (TOWER,)))
    run_id = a_run(
        store,
        Finished(
            asked,
            [draft(Retrieval(f"by whom? {HOSTILE}", (f"من حفر الميناء {HOSTILE}",)), asked)],
            [
                rejected(f"</title></style>{HOSTILE}", f"{HOSTILE}{LONG}", HOSTILE),
                rejected("延" * 30, f"q{chr(0x301) * 40}", HOSTILE),
            ],
        ),
        Finished(other, [Written(f"灯塔在山上。{HOSTILE}", "other_aspect", HOSTILE)]),
    )
    scores = histogram([0.25, 0.5, 0.5, 0.75])
    assert scores is not None
    positives, written = Scores(POSITIVE, "", scores, 0), Scores("generated", "other_aspect", scores, 1)
    outlier = Outlier(UUID(int=1), f"text one {HOSTILE}", f"延{LONG}", 0.5, (3, 4), 0.75, (1, 1))
    of_source = SourceAgreement(f"pairs {HOSTILE}", scores, [Band(0.5, 0.5, scores)], 0.5, "", [outlier])
    found = replace(
        report(store, Scope(run_id)),
        similarity=Similarity("one", positives, [written], None, None, ()),
        agreement=Agreement(f"two {HOSTILE}", [of_source], ()),
    )
    served = page_of(found, workspace=HOSTILE).encode()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.end_headers()
            self.wfile.write(served)

        def log_message(self, format: str, *args: object) -> None: ...

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


def test_hostile_text_is_shown_as_text(page: Page, address: str) -> None:
    dialogs: list[str] = []
    page.on("dialog", lambda dialog: dialogs.append(dialog.message))
    page.goto(address)
    assert page.title() == "retrieval paraphrase"
    assert page.locator("script, img, iframe, link, a").count() == 0
    seen = page.locator("body").inner_text()
    shown = HOSTILE.replace("\x1b", "\\x1b").replace("\u202e", "\\u202e")
    for text in (
        f"by whom? {shown}",
        f"谁建了灯塔？{shown}",
        f"灯塔在山上。{shown}",
        f"rejected: </title></style>{shown}",
        f"encoder: two {shown}",
        f"text one {shown}",
        f"1 pair of pairs {shown}, farthest apart by rank: look at these first",
    ):
        assert text in seen
    assert dialogs == []


def test_a_long_text_stays_within_the_page_and_an_arabic_one_runs_from_the_right(page: Page, address: str) -> None:
    page.goto(address)
    assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    arabic = page.get_by_text("من حفر الميناء").first
    assert arabic.evaluate("element => getComputedStyle(element).direction") == "rtl"
    expect(page.locator("svg").first).to_be_visible()


def test_on_a_narrow_screen_a_text_stands_above_what_it_was_made_from(page: Page, address: str) -> None:
    page.goto(address)
    new, made_from = page.locator("table.texts tr", has_text="made from").locator("td").all()[:2]
    tops = "element => element.getBoundingClientRect().top"
    assert new.evaluate(tops) == made_from.evaluate(tops)
    page.set_viewport_size({"width": 400, "height": 800})
    assert new.evaluate(tops) < made_from.evaluate(tops)
    assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")


def test_two_scored_texts_stand_beside_each_other_and_on_a_narrow_screen_below(page: Page, address: str) -> None:
    page.goto(address)
    first, second = page.locator("tr", has_text="text one").locator("td").all()
    tops = "element => element.getBoundingClientRect().top"
    assert first.evaluate(tops) == second.evaluate(tops)
    page.set_viewport_size({"width": 400, "height": 800})
    assert first.evaluate(tops) < second.evaluate(tops)


def test_a_table_of_scores_scrolls_by_itself_where_there_is_no_room(page: Page, address: str) -> None:
    page.goto(address)
    page.set_viewport_size({"width": 300, "height": 800})
    table = page.locator("div.wide").first
    assert table.evaluate("element => element.scrollWidth > element.clientWidth")
    assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    first = page.locator("div.wide td").first
    assert first.evaluate("element => element.clientHeight") < 60  # its words are not broken into letters


def test_the_page_is_dark_where_the_browser_is(page: Page, address: str) -> None:
    page.goto(address)
    colours = "element => [getComputedStyle(element).backgroundColor, getComputedStyle(element).color]"
    light = page.locator("body").evaluate(colours)
    page.emulate_media(color_scheme="dark")
    dark = page.locator("body").evaluate(colours)
    assert light[0] == "rgb(255, 255, 255)" and dark[0] != light[0] and dark[1] != light[1]
    assert page.locator("svg text").first.evaluate("element => getComputedStyle(element).fill") == dark[1]


def test_a_long_label_is_cut_where_its_bar_begins_and_told_whole_under_the_mouse(page: Page, address: str) -> None:
    page.goto(address)
    label = page.locator("svg text", has_text="延延").first
    assert label.evaluate("element => element.getBBox().x") >= 0
    whole = label.locator("xpath=../*[local-name()='title']")
    assert "延" * 30 in (whole.text_content() or "")


def test_marks_heaped_on_a_letter_stay_within_their_text(page: Page, address: str) -> None:
    page.goto(address)
    heaped = page.locator("div.text", has_text="q\u0301\u0301").first
    assert heaped.evaluate("element => getComputedStyle(element).overflowY") == "hidden"
