"""What the app refuses: other names for this machine, pages of other origins, frames, and requests to anybody else."""

import http.client

import pytest
from playwright.sync_api import Browser, Page, Request, expect

from tests.browser.conftest import Opened, Server, until_painted, wait_until_stored
from tests.review_app.seeding import add_samples

pytestmark = pytest.mark.slow

BEACON = "![x](http://attacker.example/i.png) <img src='http://attacker.example/j.png'>"
SOCKET = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}


@pytest.fixture(scope="module", autouse=True)
def samples(server: Server) -> None:
    queries = [f"When does harbour {n} open? {BEACON}" for n in range(60)]
    add_samples(server.store, queries, positive=f"At six. {BEACON}", negatives=[f"At nine. {BEACON}"])


def ask(server: Server, path: str, headers: dict[str, str]) -> http.client.HTTPResponse:
    asked = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    asked.request("GET", path, headers=headers)
    answer = asked.getresponse()
    asked.close()
    return answer


@pytest.mark.parametrize(
    ("host", "origin", "status"),
    [
        ("127.0.0.1", "http://127.0.0.1", 101),
        ("localhost", "http://localhost", 101),
        ("attacker.example", "http://attacker.example", 403),  # its name leads here: DNS rebinding
        ("127.0.0.1.attacker.example", "http://127.0.0.1.attacker.example", 403),
        ("127.0.0.1", "http://attacker.example", 403),  # its page asks, from the reviewer's browser
        ("127.0.0.1", "https://127.0.0.1.attacker.example", 403),
    ],
)
def test_a_socket_is_opened_for_this_machines_own_page_alone(
    server: Server, host: str, origin: str, status: int
) -> None:
    headers = SOCKET | {"Host": f"{host}:{server.port}", "Origin": f"{origin}:{server.port}"}
    assert ask(server, "/_stcore/stream", headers).status == status


def test_a_page_of_another_server_of_this_machine_opens_no_socket(server: Server) -> None:
    headers = SOCKET | {"Host": f"127.0.0.1:{server.port}", "Origin": "http://127.0.0.1:9"}
    assert ask(server, "/_stcore/stream", headers).status == 403


@pytest.mark.parametrize("path", ["/", "/_stcore/health", "/static/nothing.js", "/favicon.png", "/guidelines"])
def test_every_answer_says_that_nobody_may_frame_it_and_nothing_be_loaded_from_elsewhere(
    server: Server, path: str
) -> None:
    answer = ask(server, path, {})
    policy = answer.getheader("content-security-policy") or ""
    assert "frame-ancestors 'none'" in policy and "default-src 'self'" in policy
    assert "http:" not in policy and "*" not in policy.replace("127.0.0.1:*", "").replace("localhost:*", "")
    assert answer.getheader("x-frame-options") == "DENY"
    assert answer.getheader("x-content-type-options") == "nosniff"
    assert answer.getheader("referrer-policy") == "no-referrer"


def test_a_page_that_frames_the_app_gets_an_empty_frame(browser: Browser, server: Server) -> None:
    context = browser.new_context()
    page = context.new_page()
    page.set_content(f'<iframe src="{server.url}" width="900" height="600"></iframe>')
    page.wait_for_timeout(2_000)
    [frame] = page.frames[1:]
    assert frame.url != server.url
    assert "harbour" not in frame.content()
    context.close()


def test_reviewing_asks_nothing_of_any_other_host(review: Opened, page: Page) -> None:
    asked: list[Request] = []
    page.on("request", lambda request: asked.append(request))
    review("quiet")
    for key in ("a", "s", "v", " ", "z"):
        page.keyboard.press(key)
        until_painted(page)
    wait_until_stored(page)
    for name in ("Guidelines", "Review"):
        page.get_by_role("link", name=name).click()
        expect(page.get_by_role("link", name=name)).to_be_visible()
    page.wait_for_timeout(500)
    hosts = {request.url.split("/")[2] for request in asked if not request.url.startswith(("data:", "blob:"))}
    assert hosts == {f"127.0.0.1:{page.url.split(':')[2].split('/')[0]}"}


def test_programs_have_no_interface(server: Server) -> None:
    asked = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    asked.request("POST", "/_stcore/agent/interact", "{}", {"Content-Type": "application/json"})
    answer = asked.getresponse()
    assert answer.status in (403, 404, 405)
    assert b"session_id" not in answer.read()
    asked.close()
