"""`synth show` and `synth sql` on the screen: whole, in one line when wrong, and never obeyed."""

import json
import os
import pty
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from synth.records import Draft, Retrieval, Source, Use, text_id
from synth.screen import run_app
from synth.store import runs, samples, sources
from synth.store.sources import NewPassage
from synth.workspace import Workspace

HOSTILE = "\x1b[31m[bold]red[/bold] :smile: \u202e\x9b"
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def synth(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the command in this process: exit code, standard output, standard error."""
    from synth.cli import app

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["synth", *map(str, arguments)])
        with pytest.raises(SystemExit) as left:
            run_app(app)
        out, err = capsys.readouterr()
        return int(left.value.code or 0), out, err

    return run


@pytest.fixture
def root(workspace: Workspace) -> Path:
    """A workspace with one run that made one hostile sample."""
    source = Source("guide", "train", Use.TRAIN, "retrieval", "a test", "CC0-1.0", "1")
    with runs.recorded(workspace.store, "generate", {"note": HOSTILE}, model="m") as run:
        draft = Draft(
            Retrieval(f"what? {HOSTILE}", (f"It.\n{HOSTILE}",)), source.source_id, "query", "llm", text_id(HOSTILE)
        )
        with workspace.store.write() as cursor:
            sources.add_source(cursor, source, run.run_id)
            sources.add_passages(cursor, source.source_id, [NewPassage(text_id(HOSTILE), HOSTILE, HOSTILE, "")])
            samples.add_drafts(cursor, [draft], run.run_id)
        run.count(stored=1)
        run.cost = 0.25
    return workspace.root


def sample_id(synth: Run, root: Path) -> str:
    return str(
        json.loads(synth("sql", "SELECT sample_id FROM samples", "--format", "json", "-w", root)[1])[0]["sample_id"]
    )


def test_show_prints_a_tree_in_which_no_text_is_obeyed(synth: Run, root: Path) -> None:
    code, out, _ = synth("show", sample_id(synth, root), "-w", root)
    assert code == 0
    assert [line.lstrip("│├└─ ").split(",")[0].split(":")[0] for line in out.splitlines()][:3] == [
        f"sample {sample_id(synth, root)}",
        "source guide",
        "origin a test",
    ]
    assert "what? \\x1b[31m[bold]red[/bold] :smile: \\u202e\\x9b" in out
    assert not set(HOSTILE) & {*"\x1b\u202e\x9b"} & set(out)


def test_json_is_one_line_that_holds_the_same(synth: Run, root: Path) -> None:
    code, out, _ = synth("show", sample_id(synth, root), "--json", "-w", root)
    assert (code, out.count("\n")) == (0, 1)
    assert json.loads(out)["revisions"][0]["content"]["query"] == f"what? {HOSTILE}"


def test_show_takes_the_short_id_that_runs_prints(synth: Run, root: Path) -> None:
    _, out, _ = synth("runs", "-w", root)
    line = next(line for line in out.splitlines() if "generate" in line)
    code, shown, _ = synth("show", line.split()[0], "-w", root)
    assert code == 0 and "samples" in shown


def test_a_text_and_a_run_are_told_without_being_obeyed(synth: Run, root: Path) -> None:
    run = json.loads(synth("runs", "--json", "-w", root)[1])[0]["run_id"]
    for given in (text_id(HOSTILE), run):
        code, out, _ = synth("show", given, "-w", root)
        assert code == 0 and "\\x1b[31m[bold]" in out and not {"\x1b", "\x9b"} & set(out)


@pytest.mark.parametrize("arguments", [["show", "nothing here"], ["show", "ffffff"]])
def test_what_is_not_there_is_one_line_and_code_2(synth: Run, root: Path, arguments: list[str]) -> None:
    code, out, err = synth(*arguments, "-w", root)
    assert (code, out, err.count("\n"), "\x1b" in err) == (2, "", 1, False)


@pytest.mark.parametrize("output_format", ["csv", "json"])
def test_a_terminal_is_sent_no_control_character_and_a_pipe_gets_the_text(root: Path, output_format: str) -> None:
    sql = f'SELECT query, query AS "{HOSTILE.replace(chr(0), "")}" FROM samples'
    command = [sys.executable, "-c", "from synth.cli import main; main()"]
    command += ["sql", sql, "--format", output_format, "-w", str(root)]
    environment = os.environ | {"PYTHONUTF8": "1"}
    piped = subprocess.run(command, capture_output=True, check=True, env=environment).stdout.decode()
    ours, theirs = pty.openpty()
    with subprocess.Popen(command, stdout=theirs, env=environment) as process:
        os.close(theirs)
        seen = b""
        while chunk := _read(ours):
            seen += chunk
    os.close(ours)
    assert process.returncode == 0
    assert not {"\x1b", "\x9b", "\u202e"} & set(seen.decode())
    if output_format == "csv":
        assert f"what? {HOSTILE}" in piped and "what? \\x1b[31m" in seen.decode()
    else:
        assert json.loads(seen) == json.loads(piped)


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 65536)
    except OSError:  # Linux's way to say that the other end is closed
        return b""
