"""`synth store` as a user runs it: what is wrong is one line each, with the remedy, and exit code 1."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from synth.cli import main
from synth.store.samples import rebuild_state
from synth.workspace import Workspace
from tests.synth.stages.releasing import approve_all
from tests.synth.store.damaging import damage, damage_table, fill

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def synth(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], workspace: Workspace) -> Run:
    """Runs `synth` in a workspace with approved samples and a release of them: its code, output and errors."""
    fill(workspace.store)
    approve_all(workspace.store)
    rebuild_state(workspace.store)

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["synth", *map(str, arguments), "-w", str(workspace.root)])
        with pytest.raises(SystemExit) as left:
            main()
        out, err = capsys.readouterr()
        return int(left.value.code or 0), out, err

    assert run("release", "create", "first", "--json")[0] == 0
    return run


def test_the_life_of_a_store(synth: Run, workspace: Workspace, tmp_path: Path) -> None:
    assert synth("store", "verify")[:2] == (0, "the store is sound\n")
    assert json.loads(synth("store", "verify", "--json")[1]) == []
    assert synth("store", "backup", tmp_path / "copy.duckdb")[0] == 0
    assert "expired claims dropped" in synth("store", "compact")[1]
    assert synth("store", "rebuild")[1] == "nothing differed from the logs\n"


def test_what_verify_finds_is_a_line_each_or_json(synth: Run, workspace: Workspace) -> None:
    damage_table(workspace.store, "text", "text")
    (workspace.releases / "first").rename(workspace.releases / "other")
    code, out, err = synth("store", "verify")
    assert (code, err, out.count("\n")) == (1, "", 3)
    for words in ("text: not all of it can be read", "release first: its folder", "other: the store does not know"):
        assert words in out
    code, out, _ = synth("store", "verify", "--json")
    assert (code, len(json.loads(out))) == (1, 3)


@pytest.mark.parametrize(
    "arguments",
    [
        ("store", "backup", "copy.duckdb"),
        ("store", "compact"),
        ("store", "rebuild"),
        ("release", "create", "second"),
        ("sql", "SELECT max(query) FROM samples"),
        ("check",),
    ],
)
def test_a_command_that_meets_damage_ends_with_one_line_and_1(
    synth: Run, workspace: Workspace, arguments: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    damage_table(workspace.store, "revision", "query")
    code, _, err = synth(*arguments)
    line = err.splitlines()[-1]
    assert code == 1
    assert "Traceback" not in err
    assert line.startswith("error: ")
    assert "store.duckdb: is damaged (Corrupt" in line
    assert "go back to a backup" in line
    assert not list(tmp_path.glob("*copy*"))
    assert not (workspace.releases / "second").exists()


@pytest.mark.parametrize("arguments", [("store", "verify"), ("store", "verify", "--json"), ("stats",)])
def test_a_store_of_which_nothing_can_be_read_is_one_line_and_1(
    synth: Run, workspace: Workspace, arguments: tuple[str, ...]
) -> None:
    for block in range(4):
        damage(workspace.store.path, block)
    code, out, err = synth(*arguments)
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert "go back to a backup" in err
