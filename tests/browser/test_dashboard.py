"""The Dashboard in a browser: its charts are drawn under the strict policy of the headers, and names are text."""

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Server
from tests.review_app.seeding import add_samples, grade
from tests.review_app.words import RANDOM, ids, say

pytestmark = pytest.mark.slow

HOSTILE = "![x](http://attacker.example/i.png) <img src=x onerror=alert(1)>"
SECTIONS = {  # and a heading of each
    "Progress": "Reviewers",
    "Acceptance": "What may go in unread",
    "Negatives": "False negatives by rank",
    "People": "By day",
    "Judges": "Judge 1",
}
WITH_CHARTS = ("Negatives", "People", "Judges")


def test_every_section_is_drawn_and_asks_nothing_of_any_other_machine(page: Page, server: Server) -> None:
    add_samples(server.store, [f"When does harbour {number} open?" for number in range(200)])
    grade(server.store, {"The harbour opens at six.": 3, "The harbour closes at nine.": 0}, judge=HOSTILE)
    for who in ("ann", HOSTILE):
        say(server.store, ids(server.store, RANDOM), reviewer=who)
    page.goto(f"{server.url}?reviewer=ann")
    page.get_by_role("link", name="Dashboard").click()
    for section, heading in SECTIONS.items():
        page.get_by_role("radio", name=section).click()
        page.get_by_role("heading", name=heading, exact=True).wait_for()
        page.locator('[data-testid="stDataFrame"] canvas').first.wait_for()
        if section in WITH_CHARTS:
            page.locator('[data-testid="stEChartsChart"] canvas').first.wait_for()
        expect(page.locator('[data-testid="stException"]')).to_have_count(0)
    expect(page.get_by_text(HOSTILE, exact=True).first).to_be_visible()
