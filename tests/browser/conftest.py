"""A real server and a real browser: Chromium from the system, no request beyond this machine."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, Request, sync_playwright

from synth.store.connection import Store
from tests.conftest import REPOSITORY

FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
SERVER_IS_DOWN = (  # some tests kill it
    "net::ERR_CONNECTION_",
    "WebSocket connection to",
    "disconnected from server",
    "Client Error in reaching server endpoint",
)


LOOKING_FOR_ITSELF = ("/_stcore/health", "/_stcore/host-config")  # Streamlit, at the address of a page: not found there


class Server:
    """`python -m review_app` on a workspace of its own; can be killed and started again on the same port."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = Store.create(folder / "store.duckdb")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self.process: subprocess.Popen[str] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    def start(self) -> None:
        command = [sys.executable, "-m", "review_app", str(self.folder), "--port", str(self.port), "--no-browser"]
        self.process = subprocess.Popen(
            command, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        assert self.process.stdout
        said = self.process.stdout.readline()
        if "review at" not in said:
            raise AssertionError(f"the server did not start: {said}{self.process.communicate(timeout=30)[0]}")
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            with suppress(ConnectionError), socket.create_connection(("127.0.0.1", self.port), timeout=1):
                return
            time.sleep(0.05)
        raise AssertionError("the server did not start")

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        if self.process and self.process.poll() is None:
            self.process.send_signal(how)
            self.process.communicate(timeout=30)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server for the tests of a file; they share its store, each with reviewers and samples of its own."""
    server = Server(tmp_path_factory.mktemp("workspace"))
    try:
        server.start()
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="module")  # Playwright's event loop runs as long as this: no other test may meet it
def browser() -> Iterator[Browser]:
    executable = os.environ.get("CHROMIUM") or shutil.which("chromium")
    if not executable:
        pytest.fail("no Chromium: install it, or name it in the environment variable CHROMIUM")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=FLAGS)
        yield browser
        browser.close()


class Watched:
    """What went wrong in a page: errors in its console, and requests to anywhere but this machine."""

    def __init__(self, page: Page) -> None:
        self.errors: list[str] = []
        self.requests: list[str] = []
        page.on("console", self._on_console)
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("request", self._on_request)

    def _on_console(self, message: ConsoleMessage) -> None:
        is_lookup = message.location.get("url", "").endswith(LOOKING_FOR_ITSELF)
        if message.type == "error" and not is_lookup and not any(sign in message.text for sign in SERVER_IS_DOWN):
            self.errors.append(message.text)

    def _on_request(self, request: Request) -> None:
        if not request.url.startswith(("http://127.0.0.1:", "ws://127.0.0.1:", "data:", "blob:")):
            self.requests.append(request.url)


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A fresh browser profile at 1400 x 900. An error in its console or a request outside fails the test."""
    context = browser.new_context(viewport={"width": 1400, "height": 900})
    page = context.new_page()
    page.set_default_timeout(20_000)
    watched = Watched(page)
    yield page
    context.close()
    assert watched.requests == []
    assert watched.errors == []


Opened = Callable[..., Page]


@pytest.fixture
def review(page: Page, server: Server) -> Opened:
    """Open the card of a reviewer and wait until it is on the screen."""

    def opened(reviewer: str, queue: str = "unreviewed") -> Page:
        page.goto(f"{server.url}?reviewer={reviewer}&queue={queue}")
        page.wait_for_selector(".query .text:not(:empty)")
        until_painted(page)
        return page

    return opened


def until_painted(page: Page) -> None:
    """Until what the page shows now has been on the screen for a frame: from here keys and clicks count."""
    page.evaluate("() => new Promise(done => requestAnimationFrame(() => setTimeout(done)))")


def shown(page: Page) -> str:
    """The query on the card."""
    return page.locator(".query .text").inner_text()


def wait_until_stored(page: Page) -> None:
    """Until Python acknowledged every event."""
    page.wait_for_selector(".stored:not(.wait):not(.late)", timeout=40_000)
