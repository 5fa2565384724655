"""Why mining flagged a negative, who found it and what was given up for it stand on its panel, as text."""

import pytest
from playwright.sync_api import expect

from synth.records import FoundBy
from tests.browser.conftest import Opened, Server
from tests.review_app.seeding import add_samples
from tests.review_app.test_flags import ALL_FLAGS, CLOSES

pytestmark = pytest.mark.slow


def test_a_flagged_negative_says_why_once_asked_and_still_does_when_it_is_dropped(
    review: Opened, server: Server
) -> None:
    miners = (FoundBy("<b>dense</b>", 12, 0.6), FoundBy("bm25", 3, 9.5))
    add_samples(server.store, ["When does it open?"], known={CLOSES: ALL_FLAGS | {"miners": miners}})
    page = review("ann", "flagged")
    expect(page.locator(".found, .flagged:visible")).to_have_count(0)
    page.keyboard.press("v")
    first, second = page.locator(".negative").nth(0), page.locator(".negative").nth(1)
    said = first.locator(".found")
    expect(first.locator(".flagged")).to_have_count(3)
    expect(said).to_contain_text("cosine 0.97 with the positive")
    expect(said).to_contain_text("<b>dense</b> rank 12, bm25 rank 3")
    expect(said).to_contain_text("relaxed: window, cap")
    expect(second.locator(".found")).to_have_count(0)
    page.keyboard.press("1")
    page.keyboard.press("d")
    expect(page.locator('[data-grade="drop"] .found')).to_contain_text("reranker 0.91, positive 0.88")
