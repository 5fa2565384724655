"""
`python -m review_app WORKSPACE`: serve the review app to this machine's browser, or to a team that signs in.

`synth review` runs this.
"""

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

from review_app.team import SECRETS, Team, is_loopback, read_team
from synth.records import UserError
from synth.screen import run_app, say

ADDRESS = "127.0.0.1"  # this machine only: the app asks for a name, not for a password
SETTINGS: dict[str, Any] = {
    "server.address": ADDRESS,
    "server.allowedHosts": [ADDRESS, "localhost"],  # no other site's name may lead here
    "server.enableXsrfProtection": True,
    "server.enableCORS": True,
    "server.trustedUserHeaders": "{}",  # no header says who somebody is
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
        Literal["unreviewed", "audit", "disputed", "suggested", "flagged", "adjudication"],
        typer.Option(
            help="What nobody decided, what only a policy approved, what people disagree on, what a judge suggests,"
            " what has negatives that mining flagged, or what is for an adjudicator to settle."
        ),
    ] = "unreviewed",
    open_browser: Annotated[
        bool, typer.Option("--open-browser/--no-browser", help="Open the page in this machine's browser.")
    ] = True,
    address: Annotated[
        str,
        typer.Option(
            help="Where to listen. One that other machines reach is for teams that sign in: docs/teams.md says how."
        ),
    ] = ADDRESS,
) -> None:
    """Review samples in the browser, with the keyboard.

    Example: python -m review_app . --reviewer ada
    """
    from synth.workspace import Workspace

    Workspace.open(workspace)
    team = read_team(workspace)
    if team is None and not is_loopback(address):
        raise UserError(
            f"{workspace / SECRETS}: has no [auth], so that anybody who reaches {address} could review under any name;"
            f" set it up as docs/teams.md says, or leave out --address"
        )
    if team and reviewer:
        raise UserError(f"--reviewer {reviewer}: whoever signs in reviews; leave it out")
    refuse_busy(address, port)
    asked = {"reviewer": reviewer, "queue": queue} if reviewer else {"queue": queue}
    origin = team.origin.replace("{port}", str(port)) if team else ""
    shown = f"{origin or f'http://{_bracketed(address)}:{port}'}/?{urlencode(asked)}"
    serve(workspace, settings(workspace, address, port, team), shown, open_browser=open_browser, origin=origin)


def refuse_busy(address: str, port: int) -> None:
    """Raise UserError if nobody can listen there."""
    try:
        family, *_ = socket.getaddrinfo(address, port, type=socket.SOCK_STREAM)[0]
    except socket.gaierror as error:
        raise UserError(f"--address {address}: is none ({error.strerror}); 0.0.0.0 is all of this machine's") from None
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the server itself does
        try:
            probe.bind((address, port))
        except OSError as error:
            raise UserError(
                f"port {port} cannot be used ({error.strerror}); choose another one with --port {port % 65535 + 1}"
            ) from None


def settings(workspace: Path, address: str, port: int, team: Team | None) -> dict[str, Any]:
    """Streamlit's settings: those of every start, and what depends on who may come."""
    hosts = [team.host] if team else [*SETTINGS["server.allowedHosts"], address]
    return SETTINGS | {
        "server.address": address,
        "server.port": port,
        "server.allowedHosts": hosts,
        "secrets.files": [str(workspace.resolve() / SECRETS)],  # none of the user's, or of the folder we are in
    }


def _bracketed(address: str) -> str:
    return f"[{address}]" if ":" in address else address


def serve(workspace: Path, config: dict[str, Any], address: str, *, open_browser: bool, origin: str) -> None:
    """Serve the app until Ctrl-C: to whoever signs in at `origin`, or without one to this machine."""
    import streamlit as st
    from starlette.middleware import Middleware

    from review_app.headers import secured
    from review_app.sign_in import REQUIRED

    @asynccontextmanager
    async def announced(_: Any) -> AsyncIterator[None]:
        say(f"review at {address} (Ctrl-C stops)")
        if open_browser:
            await asyncio.to_thread(webbrowser.open, address)
        yield

    sys.argv = [__file__, str(workspace), *([REQUIRED] if origin else [])]  # what app.py is given
    headers = Middleware(secured, origin=origin)
    app = st.App(Path(__file__).with_name("app.py"), lifespan=announced, middleware=[headers])
    app.run(config=config)


if __name__ == "__main__":
    run_app(command)
