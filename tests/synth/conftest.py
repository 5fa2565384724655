"""What the tests of commands share: a command in this process, on a workspace of its own."""

import sys
from collections.abc import Callable

import pytest

from synth.screen import run_app
from synth.workspace import Workspace

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def synth(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], workspace: Workspace) -> Run:
    """Run the command in this process: exit code, standard output, standard error."""
    from synth.cli import app

    monkeypatch.delenv("OPENAI_API_KEY", raising=False)

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["synth", *map(str, arguments), "-w", str(workspace.root)])
        with pytest.raises(SystemExit) as left:
            run_app(app)
        out, err = capsys.readouterr()
        return int(left.value.code or 0), out, err

    return run
