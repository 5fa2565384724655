"""`python -m review_app`: what is refused before Streamlit starts, and what the app's folder must not hold."""

import http.client
import importlib.metadata
import socket
import subprocess
import sys
import time
from collections.abc import MutableMapping
from pathlib import Path
from typing import Any

import pytest

from review_app.__main__ import SETTINGS, settings
from review_app.headers import Receive, Scope, Send, content_security_policy, secured
from review_app.team import SECRETS, read_team
from synth.records import UserError
from synth.workspace import Workspace
from tests.conftest import REPOSITORY


def launch(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "review_app", *arguments], cwd=REPOSITORY, capture_output=True, text=True, timeout=60
    )


def test_a_folder_without_a_store_is_one_line_and_exit_code_2(tmp_path: Path) -> None:
    outcome = launch(str(tmp_path))
    assert outcome.returncode == 2
    assert outcome.stderr.count("\n") == 1
    assert "synth init" in outcome.stderr


def test_a_busy_port_is_one_line_and_exit_code_2(workspace: Workspace) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        outcome = launch(str(workspace.root), "--port", str(port))
    assert outcome.returncode == 2
    assert outcome.stderr.count("\n") == 1
    assert f"--port {port + 1}" in outcome.stderr


@pytest.mark.parametrize("arguments", [["--port", "0"], ["--port", "70000"], ["--queue", "mine"]])
def test_an_option_out_of_range_is_exit_code_2(workspace: Workspace, arguments: list[str]) -> None:
    assert launch(str(workspace.root), *arguments).returncode == 2


def test_help_loads_neither_streamlit_nor_duckdb() -> None:
    code = (
        "import sys\nfrom typer.testing import CliRunner\nfrom review_app.__main__ import command\n"
        "assert 'Example' in CliRunner().invoke(command, ['--help']).output\n"
        "assert not {'streamlit', 'duckdb', 'pandas'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, check=True, timeout=60)


def test_no_file_of_the_app_shadows_a_module_that_others_import() -> None:
    # Streamlit puts the app's folder first on sys.path.
    own = {path.stem for path in (REPOSITORY / "review_app").glob("*.py")} - {"__init__", "__main__"}
    installed = set(importlib.metadata.packages_distributions())
    assert not own & (set(sys.stdlib_module_names) | installed)


def test_every_setting_is_one_that_streamlit_knows() -> None:
    from streamlit import config

    assert set(SETTINGS) <= set(config._config_options_template)


def test_an_inline_script_of_the_page_is_allowed_by_its_hash_alone() -> None:
    policy = content_security_policy("<script>\nwindow.x = 1\n</script><script src='a.js'></script>")
    assert policy.count("'sha256-") == 1
    assert "'unsafe-inline'" not in policy.split("script-src")[1].split(";")[0]


AUTH = {
    "redirect_uri": "https://reviews.example.org/oauth2callback",
    "cookie_secret": "c" * 43,
    "client_id": "skiff",
    "client_secret": "do not print me",
    "server_metadata_url": "https://accounts.example.org/.well-known/openid-configuration",
}


def write_secrets(workspace: Path, auth: dict[str, str], rest: str = "") -> Path:
    path = workspace / SECRETS
    path.parent.mkdir(exist_ok=True)
    path.write_text("[auth]\n" + "".join(f"{key} = {value!r}\n" for key, value in auth.items()) + rest)
    return path


@pytest.mark.parametrize("address", ["0.0.0.0", "::", "192.0.2.1", "example.org"])
def test_an_address_that_others_reach_is_refused_unless_people_sign_in(workspace: Workspace, address: str) -> None:
    outcome = launch(str(workspace.root), "--address", address, "--no-browser")
    assert outcome.returncode == 2
    assert outcome.stderr.count("\n") == 1
    assert str(SECRETS) in outcome.stderr and "docs/teams.md" in outcome.stderr


def test_secrets_without_a_way_to_sign_in_open_nothing_either(workspace: Workspace) -> None:
    path = write_secrets(workspace.root, {})
    path.write_text("[database]\nkey = 'do not print me'\n")
    assert read_team(workspace.root) is None
    outcome = launch(str(workspace.root), "--address", "0.0.0.0", "--no-browser")
    assert (outcome.returncode, "do not print me" in outcome.stderr) == (2, False)


@pytest.mark.parametrize("key", AUTH)
def test_what_is_missing_of_signing_in_is_named(workspace: Workspace, key: str) -> None:
    write_secrets(workspace.root, {name: value for name, value in AUTH.items() if name != key})
    with pytest.raises(UserError, match=f"{key} is missing"):
        read_team(workspace.root)


@pytest.mark.parametrize(
    ("key", "value", "fault"),
    [
        ("redirect_uri", "http://reviews.example.org/oauth2callback", "https"),
        ("redirect_uri", "https://reviews.example.org/", "oauth2callback"),
        ("redirect_uri", "https:///oauth2callback", "oauth2callback"),
        ("redirect_uri", "https://[::1/oauth2callback", "is no address"),
        ("redirect_uri", "https://reviews.example.org:port/oauth2callback", "is no address"),
        ("redirect_uri", "https://*/oauth2callback", "names no host"),
        ("redirect_uri", "https://a.example;script-src */oauth2callback", "names no host"),
        ("cookie_secret", "short", "fewer than 32"),
        ("cookie_secret", " " * 40, "fewer than 32"),
    ],
)
def test_an_unsafe_way_to_sign_in_is_refused(workspace: Workspace, key: str, value: str, fault: str) -> None:
    write_secrets(workspace.root, AUTH | {key: value})
    with pytest.raises(UserError, match=fault) as caught:
        read_team(workspace.root)
    assert "do not print me" not in str(caught.value)


def test_a_secrets_file_that_is_no_toml_is_refused_and_not_quoted(workspace: Workspace) -> None:
    write_secrets(workspace.root, AUTH).write_text("client_secret = do not print me")
    with pytest.raises(UserError, match="it is no TOML") as caught:
        read_team(workspace.root)
    assert "do not print me" not in str(caught.value)


@pytest.mark.parametrize("allow", ["'@example.org'", "[]", "['example.org']", "[1]"])
def test_a_list_of_who_may_sign_in_that_is_none_is_refused(workspace: Workspace, allow: str) -> None:
    write_secrets(workspace.root, AUTH, f"[skiff]\nallow = {allow}\n")
    with pytest.raises(UserError, match="allow"):
        read_team(workspace.root)


@pytest.mark.parametrize("written", ["[Skiff]\nallow = ['@example.org']\n", "allow = ['@example.org']\n"])
def test_a_list_of_who_may_sign_in_that_stands_elsewhere_lets_nobody_in_unseen(
    workspace: Workspace, written: str
) -> None:
    write_secrets(workspace.root, AUTH, written)
    with pytest.raises(UserError, match=r"small letters|stands in"):
        read_team(workspace.root)


def test_a_teams_app_answers_to_its_own_name_alone_and_knows_its_providers(workspace: Workspace) -> None:
    shared = {key: AUTH[key] for key in ("redirect_uri", "cookie_secret")}
    own = "".join(f"{key} = {value!r}\n" for key, value in AUTH.items() if key not in shared)
    write_secrets(workspace.root, shared, f"[auth.okta]\n{own}\n[skiff]\nallow = ['@Example.org']\n")
    team = read_team(workspace.root)
    assert team
    assert team.origin == "https://reviews.example.org"
    assert (team.providers, team.allow) == (("okta",), ("@example.org",))
    assert settings(workspace.root, "0.0.0.0", 8501, team)["server.allowedHosts"] == ["reviews.example.org"]


def test_whoever_signs_in_is_the_reviewer_and_no_other_can_be_named(workspace: Workspace) -> None:
    write_secrets(workspace.root, AUTH)
    outcome = launch(str(workspace.root), "--reviewer", "ada")
    assert (outcome.returncode, "whoever signs in" in outcome.stderr) == (2, True)


def test_by_default_the_app_is_for_this_machine_alone_and_tells_nobody_anything() -> None:
    assert (SETTINGS["server.address"], SETTINGS["server.allowedHosts"]) == ("127.0.0.1", ["127.0.0.1", "localhost"])
    assert SETTINGS["server.enableXsrfProtection"] and SETTINGS["server.enableCORS"]
    assert not SETTINGS["browser.gatherUsageStats"] and not SETTINGS["server.enableAgentApi"]


@pytest.mark.parametrize(
    ("origin", "ending"), [("https://reviews.example.org", "; Secure"), ("http://127.0.0.1:1", "")]
)
async def test_cookies_go_over_tls_alone_where_browsers_find_the_app_there(origin: str, ending: str) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"set-cookie", b"a=b; HttpOnly")]})

    async def nothing() -> dict[str, str]:
        return {}

    async def keep(message: MutableMapping[str, Any]) -> None:
        told.extend(message["headers"])

    told: list[tuple[bytes, bytes]] = []
    await secured(app, origin=origin)({"type": "http"}, nothing, keep)
    headers = {name.decode(): value.decode() for name, value in told}
    assert headers["set-cookie"] == f"a=b; HttpOnly{ending}"
    assert headers["cross-origin-opener-policy"] == "same-origin"
    assert f"connect-src 'self' {origin.replace('http', 'ws')};" in headers["content-security-policy"]


def test_a_team_that_signs_in_is_served_at_any_address_and_under_its_own_name_alone(workspace: Workspace) -> None:
    write_secrets(workspace.root, AUTH)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    arguments = [str(workspace.root), "--address", "0.0.0.0", "--port", str(port), "--no-browser"]
    command = [sys.executable, "-m", "review_app", *arguments]
    with subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            assert process.stdout.readline().startswith("review at https://reviews.example.org/?queue=unreviewed")
            assert status_of_socket(port, "reviews.example.org") == 101
            assert status_of_socket(port, f"127.0.0.1:{port}") == 403
        finally:
            process.terminate()


def status_of_socket(port: int, host: str) -> int:
    """What the server answers to a browser that asks for the app's socket under this name."""
    deadline = time.monotonic() + 30
    while True:
        asked = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        headers = {"Host": host, "Origin": f"https://{host}", "Connection": "Upgrade", "Upgrade": "websocket"}
        headers |= {"Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="}
        try:
            asked.request("GET", "/_stcore/stream", headers=headers)
            return asked.getresponse().status
        except ConnectionRefusedError:  # it says where it is before it listens
            assert time.monotonic() < deadline
            time.sleep(0.1)
        finally:
            asked.close()
