"""`python -m review_app`: what is refused before Streamlit starts, and what the app's folder must not hold."""

import importlib.metadata
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from review_app.__main__ import SETTINGS
from review_app.headers import content_security_policy
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
