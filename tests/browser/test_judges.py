"""What judges suggest is not seen until it is asked for; whoever approved otherwise is told."""

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import Opened, Server, until_painted, wait_until_stored
from tests.review_app.seeding import add_samples, grade

pytestmark = pytest.mark.slow
OPENS, CLOSES, PAINTED = "The harbour opens at six.", "The harbour closes at nine.", "Boats are painted in March."
REASON = "<b>bold</b> :red[said] it names nine, and nine was asked"


@pytest.fixture(scope="module", autouse=True)
def samples(server: Server) -> None:
    add_samples(server.store, [f"When does it open, number {number}?" for number in range(6)])
    grade(server.store, {OPENS: 3, CLOSES: 2, PAINTED: 0}, reason=REASON)


def test_v_fetches_a_suggestion_shows_it_as_text_and_hides_it_again(review: Opened) -> None:
    page = review("ann", "suggested")
    said = page.locator(".suggested")
    expect(said).to_have_count(0)
    page.keyboard.press("v")
    expect(page.locator(".negative .suggested")).to_be_visible()
    expect(said).to_contain_text(
        f"judge-7b: answers the query in part, or less well than the positive (grade 2). {REASON}"
    )
    expect(page.get_by_role("button", name="Scores")).to_have_attribute("aria-pressed", "true")
    page.keyboard.press("s")  # the next card shows its own
    expect(page.locator(".query .text")).to_contain_text("number 1")
    expect(said).to_be_visible()
    page.get_by_role("button", name="Scores").click()
    expect(said).to_have_count(0)


def test_who_approves_otherwise_is_told_after_the_verdict_alone(review: Opened, server: Server) -> None:
    page = review("ann", "suggested")  # who has claimed them all
    status = page.locator(".status")
    assert "judge" not in status.inner_text()
    page.keyboard.press("a")
    expect(status).to_have_text("Approved; a judge differs on negative 1: Z, then V, shows why")
    until_painted(page)
    page.keyboard.press("1")
    page.keyboard.press("d")  # dropped, as the judge would
    expect(page.locator('.negative[data-grade="drop"]')).to_have_count(1)
    page.keyboard.press("a")
    expect(status).to_have_text("Approved")
    wait_until_stored(page)
    expect(status).to_have_text("Approved")
    page.keyboard.press("v")
    expect(page.locator(".suggested")).to_be_visible()
    page.keyboard.press("v")
    expect(page.locator(".suggested")).to_have_count(0)
    page.keyboard.press("a")
    wait_until_stored(page)
    with server.store.read() as cursor:
        saw = cursor.execute(
            "SELECT saw_scores FROM reviews WHERE reviewer = 'ann' AND verdict = 'approve' AND negative_id IS NULL"
            " ORDER BY created_at"
        ).fetchall()
    assert saw == [(False,), (False,), (True,)]
