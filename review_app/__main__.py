"""`python -m review_app WORKSPACE`: serve the review app to this machine's browser. `synth review` runs this."""

import asyncio
import socket
import sys
import webbrowser
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlencode

import typer

from synth.records import UserError
from synth.screen import run_app, say

ADDRESS = "127.0.0.1"  # this machine only: the app asks for a name, not for a password
SETTINGS = {
    "server.address": ADDRESS,
    "server.allowedHosts": [ADDRESS, "localhost"],  # no other site's name may lead here
    "server.enableXsrfProtection": True,
    "server.enableAgentApi": False,  # a program could forge verdicts under a person's name
    "server.fileWatcherType": "none",
    "server.headless": True,  # we open the browser ourselves, at the reviewer's address
    "browser.gatherUsageStats": False,
    "client.showErrorDetails": "type",
    "client.toolbarMode": "minimal",
    "logger.hideWelcomeMessage": True,
    "logger.level": "warning",
}

command = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


@command.command()
def main(
    workspace: Annotated[Path, typer.Argument(help="The workspace's folder.")],
    port: Annotated[int, typer.Option(min=1, max=65535)] = 8501,
    reviewer: Annotated[str, typer.Option(help="Who reviews; asked in the browser if left out.")] = "",
    queue: Annotated[
        Literal["unreviewed", "audit", "disputed", "suggested", "flagged"],
        typer.Option(
            help="What nobody decided, what only a policy approved, what people disagree on, what a judge suggests, or"
            " what has negatives that mining flagged."
        ),
    ] = "unreviewed",
    open_browser: Annotated[
        bool, typer.Option("--open-browser/--no-browser", help="Open the page in this machine's browser.")
    ] = True,
) -> None:
    """Review samples in the browser, with the keyboard.

    Example: python -m review_app . --reviewer ada
    """
    from synth.workspace import Workspace

    Workspace.open(workspace)
    refuse_busy(port)
    asked = {"reviewer": reviewer, "queue": queue} if reviewer else {"queue": queue}
    address = f"http://{ADDRESS}:{port}/?{urlencode(asked)}"
    serve(workspace, port, address, open_browser=open_browser)


def refuse_busy(port: int) -> None:
    """Raise UserError if nobody can listen on the port."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the server itself does
        try:
            probe.bind((ADDRESS, port))
        except OSError as error:
            raise UserError(
                f"port {port} cannot be used ({error.strerror}); choose another one with --port {port % 65535 + 1}"
            ) from None


def serve(workspace: Path, port: int, address: str, *, open_browser: bool) -> None:
    """Serve the app until Ctrl-C."""
    import streamlit as st
    from starlette.middleware import Middleware

    from review_app.headers import secured

    @asynccontextmanager
    async def announced(_: Any) -> AsyncIterator[None]:
        say(f"review at {address} (Ctrl-C stops)")
        if open_browser:
            await asyncio.to_thread(webbrowser.open, address)
        yield

    sys.argv = [__file__, str(workspace)]  # what app.py is given
    app = st.App(Path(__file__).with_name("app.py"), lifespan=announced, middleware=[Middleware(secured)])
    app.run(config=SETTINGS | {"server.port": port})


if __name__ == "__main__":
    run_app(command)
