"""docs/formats.md: every file it shows can be written down and ingested with the command below it."""

import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from synth.cli import app
from synth.stages.formats import LAYOUTS, ROLES
from synth.store.console import query
from synth.workspace import Workspace
from tests.conftest import REPOSITORY

PAGE = (REPOSITORY / "docs" / "formats.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+) ?(\S*)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
COMMANDS = [text.strip() for kind, _, text in BLOCKS if kind == "bash"]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_example_is_ingested_by_the_command_below_it(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = Workspace.create(tmp_path / "workspace")
    for kind, name, text in BLOCKS:
        if kind != "bash":
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, [*shlex.split(command)[1:], "-w", "workspace"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    sql = "SELECT (SELECT count(*) FROM samples) + (SELECT count(*) FROM passages) AS n"
    [row] = query(workspace.store, sql).to_pylist()
    assert row["n"] >= 1


def test_the_examples_are_those_of_every_layout_and_role() -> None:
    assert len(COMMANDS) >= len(LAYOUTS)
    for layout in LAYOUTS:
        assert f"`{layout}`" in PAGE
    for role in ROLES:
        assert f"`{role}`" in PAGE
