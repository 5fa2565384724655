"""What must not lose a verdict, and what must not leave the page."""

import fcntl
import signal
import threading
import urllib.request
from collections.abc import Iterator
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from playwright.sync_api import Page, expect

from synth.store.connection import Store
from tests.browser.conftest import Opened, Server, shown, until_painted, wait_until_stored
from tests.review_app.seeding import add_samples, approve_by_policy, num_events, verdicts

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", autouse=True)
def samples(server: Server) -> None:
    add_samples(server.store, [f"When does harbour {number} open?" for number in range(130)])


@pytest.fixture
def beacon() -> Iterator[tuple[str, list[str]]]:
    """A server on another port of this machine, which a hostile text calls; and the paths that it was asked for."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(204)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None: ...

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", asked
        server.shutdown()
        thread.join()


def decide(page: Page, *keys: str) -> list[str]:
    seen = []
    for key in keys:
        seen.append(shown(page))
        page.keyboard.press(key)
        until_painted(page)
    return seen


def test_a_server_killed_and_started_again_loses_nothing(review: Opened, server: Server) -> None:
    page = review("killed")
    seen = decide(page, "a", "a", "a")
    server.stop(signal.SIGKILL)
    seen += decide(page, "a", "s", "a")
    expect(page.locator(".stored")).to_contain_text("on the way")
    server.start()
    wait_until_stored(page)
    assert [query for query, _ in verdicts(server.store, "killed")] == seen
    assert num_events(server.store) == 6


def test_a_page_reloaded_while_the_server_was_down_loses_nothing(review: Opened, server: Server) -> None:
    page = review("reloaded")
    server.stop(signal.SIGKILL)
    seen = decide(page, "a", "a")
    page.goto("about:blank")
    server.start()
    review("reloaded")
    wait_until_stored(page)
    assert [query for query, _ in verdicts(server.store, "reloaded")] == seen
    assert shown(page) not in seen


def test_another_process_can_write_while_a_page_is_open(review: Opened, server: Server) -> None:
    page = review("shared")
    add_samples(Store.open(server.store.path), ["Where is the lighthouse?"])
    decide(page, "a")
    wait_until_stored(page)
    assert len(verdicts(server.store, "shared")) == 1


def test_a_busy_store_is_said_and_nothing_is_lost(review: Opened, server: Server) -> None:
    page = review("busy")
    with open(f"{server.store.path}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        seen = decide(page, "a", "a")
        expect(page.locator(".stored.late")).to_be_visible(timeout=9_000)  # the store is given up after ten seconds
        expect(page.locator(".status")).not_to_contain_text("another process")
        expect(page.locator(".status")).to_contain_text("another process has kept the store", timeout=20_000)
        seen += decide(page, "a")
    wait_until_stored(page)
    assert [query for query, _ in verdicts(server.store, "busy")] == seen


def test_an_empty_queue_leads_to_the_other_one_without_scrolling(page: Page, server: Server) -> None:
    approve_by_policy(server.store, add_samples(server.store, ["Who lights the lighthouse?"]))
    page.goto(f"{server.url}?reviewer=last")
    page.wait_for_selector(".query .text:not(:empty)")
    for _ in range(90):
        page.wait_for_timeout(60)
        if page.locator(".none").is_visible():
            break
        page.keyboard.press("s")
    button = page.get_by_role("button", name="Go on with the audit queue")
    expect(button).to_be_in_viewport()
    button.click()
    expect(page.get_by_text("Who lights the lighthouse?")).to_be_visible()
    expect(page.locator(".card")).to_have_count(1)  # the other queue's card has gone
    expect(page.locator(".chips")).not_to_contain_text("policy")
    until_painted(page)
    page.keyboard.press("v")
    expect(page.locator(".chips")).to_contain_text("approved by policy:everything")
    decide(page, "a")
    wait_until_stored(page)
    assert ("Who lights the lighthouse?", "approve") in verdicts(server.store, "last")


def test_hostile_texts_are_shown_as_text_and_send_nothing(
    review: Opened, server: Server, beacon: tuple[str, list[str]]
) -> None:
    url, asked = beacon
    text = (
        f"<script>fetch('{url}/script')</script><img src={url}/img onerror=fetch('{url}/error')>"
        f" ![beacon]({url}/markdown.png) <style>*{{display:none}}</style><iframe src={url}/frame></iframe>"
        f" [click](javascript:alert(1)) :red[red] $5 and x$_i$ # big  two spaces\u202e reversed\u202c zero\u200bwidth"
    )
    negatives = [f"{text} negative {number}" for number in range(4)]
    approve_by_policy(server.store, add_samples(server.store, [text], positive=text + " positive", negatives=negatives))
    page = review("hostile", queue="audit")
    page.keyboard.press("b")  # all of them
    page.keyboard.press(" ")  # whole, not clipped
    for selector, end in ((".query .text", ""), (".positive .text", " positive"), (".negative .text >> nth=3", "")):
        drawn = page.locator(selector).evaluate("node => node.textContent")
        for hidden in ("U+202E", "U+202C", "U+200B"):
            assert hidden in drawn
            drawn = drawn.replace(hidden, chr(int(hidden[2:], 16)))
        assert drawn.startswith(text + end)
    assert page.locator(".card img, .card script, .card iframe, .card style").count() == 0
    page.wait_for_timeout(500)
    assert asked == []


@pytest.mark.parametrize("header", [{"Host": "attacker.example"}, {"Origin": "http://attacker.example"}])
def test_another_sites_page_cannot_open_a_session(server: Server, header: dict[str, str]) -> None:
    handshake = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "x3JJHMbDL1EzLkh9GBhXDw==",
    }
    for headers, status in ((handshake, 101), (handshake | header, 403)):
        connection = HTTPConnection("127.0.0.1", server.port, timeout=10)
        connection.request("GET", "/_stcore/stream", headers=headers)
        assert connection.getresponse().status == status
        connection.close()


def test_the_server_forbids_what_the_page_does_not_need(server: Server) -> None:
    with urllib.request.urlopen(server.url) as answer:
        policy = answer.headers["Content-Security-Policy"]
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert "default-src 'self'" in policy
    assert "unsafe-eval" not in policy
    assert "frame-ancestors 'none'" in policy
