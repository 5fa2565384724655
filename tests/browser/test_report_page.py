"""The page of a report in a real browser: hostile text is text, and nothing is run or fetched."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from synth.commands.report_page import page as page_of
from synth.records import Retrieval, Written
from synth.stages.report import report
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
            [rejected(f"</title></style>{HOSTILE}", f"{HOSTILE}{LONG}", HOSTILE)],
        ),
        Finished(other, [Written(f"灯塔在山上。{HOSTILE}", "other_aspect", HOSTILE)]),
    )
    served = page_of(report(store, Scope(run_id)), workspace=HOSTILE).encode()

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
    assert page.title().startswith("generate ") and page.title().endswith(": done")
    assert page.locator("script, img, iframe, link, a").count() == 0
    seen = page.locator("body").inner_text()
    shown = HOSTILE.replace("\x1b", "\\x1b").replace("\u202e", "\\u202e")
    for text in (
        f"by whom? {shown}",
        f"谁建了灯塔？{shown}",
        f"灯塔在山上。{shown}",
        f"rejected: </title></style>{shown}",
    ):
        assert text in seen
    assert dialogs == []


def test_a_long_text_stays_within_the_page_and_an_arabic_one_runs_from_the_right(page: Page, address: str) -> None:
    page.goto(address)
    assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    arabic = page.get_by_text("من حفر الميناء").first
    assert arabic.evaluate("element => getComputedStyle(element).direction") == "rtl"
    expect(page.locator("svg").first).to_be_visible()
    page.set_viewport_size({"width": 500, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
