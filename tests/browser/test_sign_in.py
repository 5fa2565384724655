"""A team signs in: the whole round trip, with a provider of OpenID Connect on this machine."""

import http.client
import os
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from review_app.team import SECRETS
from tests.browser.conftest import Server, until_painted, wait_until_stored
from tests.browser.oidc_provider import CLIENT, Provider, provider
from tests.review_app.seeding import add_samples, num_events, verdicts

pytestmark = pytest.mark.slow

ADA = {"sub": "1", "name": "Ada", "email": "Ada@example.org", "email_verified": True}


@pytest.fixture(scope="module")
def accounts() -> Iterator[Provider]:
    with provider() as found:
        yield found


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, accounts: Provider) -> Iterator[Server]:
    """The app of a team."""
    server = Server(tmp_path_factory.mktemp("team"))
    add_samples(server.store, [f"When does harbour {n} open?" for n in range(60)])
    secrets = server.folder / SECRETS
    secrets.parent.mkdir()
    secrets.write_text(f"""
        [auth]
        redirect_uri = "http://127.0.0.1:{{port}}/oauth2callback"
        cookie_secret = "{"c" * 43}"
        client_id = "{CLIENT[0]}"
        client_secret = "{CLIENT[1]}"
        server_metadata_url = "{accounts.url}/.well-known/openid-configuration"
        [skiff]
        allow = ["@example.org"]
        """)
    try:
        server.start()
        yield server
    finally:
        server.stop()


def sign_in(page: Page, server: Server, path: str = "") -> None:
    page.goto(server.url + path)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url(f"{server.url}**")


def test_whoever_signs_in_reviews_under_their_verified_address(page: Page, server: Server, accounts: Provider) -> None:
    accounts.claims = ADA
    sign_in(page, server)
    page.wait_for_selector(".query .text:not(:empty)")
    expect(page.get_by_text("Reviewing as ada@example.org")).to_be_visible()
    until_painted(page)
    page.keyboard.press("a")
    wait_until_stored(page)
    assert len(verdicts(server.store, "ada@example.org")) == 1
    assert accounts.asked[-1]["code_challenge_method"] == "S256"
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("button", name="Sign in")).to_be_visible()


def test_a_name_in_the_address_is_nobodys(page: Page, server: Server, accounts: Provider) -> None:
    accounts.claims = ADA
    page.goto(f"{server.url}?reviewer=eve")
    expect(page.get_by_role("button", name="Sign in")).to_be_visible()
    expect(page.get_by_label("Your name")).to_have_count(0)
    sign_in(page, server, "?reviewer=eve")
    expect(page.get_by_text("Reviewing as ada@example.org")).to_be_visible()
    page.goto(f"{server.url}?reviewer=eve")
    expect(page.get_by_text("Reviewing as ada@example.org")).to_be_visible()


@pytest.mark.parametrize("path", ["", "guidelines", "review"])
def test_nobody_gets_a_page_without_signing_in(browser: Browser, server: Server, path: str) -> None:
    context = browser.new_context()
    page = context.new_page()
    page.goto(server.url + path)
    expect(page.get_by_role("button", name="Sign in")).to_be_visible()
    expect(page.get_by_role("link", name="Guidelines")).to_have_count(0)
    assert "harbour" not in page.inner_text("body")
    context.close()


@pytest.mark.parametrize(
    "claims", [{"email": "eve@example.com"}, {"email_verified": False}, {"email": "eve@example.org.evil.example"}]
)
def test_whom_the_team_does_not_name_gets_no_page(
    page: Page, server: Server, accounts: Provider, claims: dict[str, object]
) -> None:
    accounts.claims = ADA | claims
    before = num_events(server.store)
    sign_in(page, server)
    expect(page.get_by_text("You may not review here")).to_be_visible()
    assert "harbour" not in page.inner_text("body")
    assert num_events(server.store) == before


def test_a_cookie_that_the_server_did_not_sign_signs_nobody_in(
    browser: Browser, page: Page, server: Server, accounts: Provider
) -> None:
    accounts.claims = ADA
    sign_in(page, server)
    expect(page.get_by_text("Reviewing as ada@example.org")).to_be_visible()
    cookies = {each["name"]: each for each in page.context.cookies()}
    signed = cookies["_streamlit_user"]
    assert signed["httpOnly"] and signed["sameSite"] == "Lax"
    forged = browser.new_context()
    value = signed["value"]
    middle = len(value) // 2
    changed = value[:middle] + ("A" if value[middle] != "A" else "B") + value[middle + 1 :]
    forged.add_cookies([{"name": "_streamlit_user", "value": changed, "url": server.url}])
    other = forged.new_page()
    other.goto(server.url)
    expect(other.get_by_role("button", name="Sign in")).to_be_visible()
    forged.close()


@pytest.mark.parametrize(("host", "status"), [(None, 101), ("evil.example", 403), ("localhost", 403)])
def test_a_teams_app_answers_no_socket_under_another_name(server: Server, host: str | None, status: int) -> None:
    asked = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    own = f"127.0.0.1:{server.port}"
    headers = {
        "Host": f"{host}:{server.port}" if host else own,
        "Origin": f"http://{host or '127.0.0.1'}:{server.port}",
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    }
    asked.request("GET", "/_stcore/stream", headers=headers)
    assert asked.getresponse().status == status
    asked.close()


def test_no_secret_is_written_anywhere_but_in_the_secrets_file(server: Server) -> None:
    for folder, _, names in os.walk(server.folder):
        for name in names:
            path = os.path.join(folder, name)
            with open(path, "rb") as file:
                is_the_file = path == str(server.folder / SECRETS)
                assert (CLIENT[1].encode() in file.read()) is is_the_file
