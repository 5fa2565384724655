"""The `synth` command as a process: strange locales, closed and full streams, strange arguments, Ctrl-C."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from synth.cli import main
from synth.workspace import Workspace

SYNTH = [sys.executable, "-c", "from synth.cli import main; main()"]
ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty workspace."""
    return Workspace.create(tmp_path_factory.mktemp("terminal") / "w").root


def run(root: Path, *arguments: str | bytes, shell: str = 'exec "$@"', **environment: str) -> Any:
    """What the command leaves behind, run by a shell line in which "$@" is the command."""
    where = [] if arguments[0] == "init" else ["--workspace", str(root)]
    return subprocess.run(
        ["sh", "-c", shell, "sh", *SYNTH, *arguments, *where],
        capture_output=True,
        env=os.environ | environment,
        cwd=root,
        check=False,
    )


def assert_one_line(done: Any, code: int, *words: str) -> None:
    """One line on standard error with these words, and this exit code."""
    err = done.stderr.decode()
    assert (done.returncode, err.count("\n")) == (code, 1), err
    assert err.startswith("error: ")
    for word in words:
        assert word in err


@pytest.mark.parametrize("environment", [ASCII, {"PYTHONIOENCODING": "ascii"}])
@pytest.mark.parametrize(
    ("output_format", "shown"),
    [("table", "\\u4e2d\\U0001f44d"), ("csv", "\\u4e2d\\U0001f44d"), ("json", "\\u4e2d\\ud83d\\udc4d")],
)
def test_an_ascii_terminal_shows_escapes(
    root: Path, environment: dict[str, str], output_format: str, shown: str
) -> None:
    done = run(root, "sql", "SELECT chr(20013) || chr(128077) AS t", "--format", output_format, **environment)
    assert (done.returncode, done.stderr) == (0, b"")
    assert shown in done.stdout.decode("ascii")


def test_an_error_reaches_an_ascii_terminal(root: Path) -> None:
    assert_one_line(run(root, "sql", "FROM 中", PYTHONIOENCODING="ascii"), 2, "\\u4e2d")


@pytest.mark.parametrize(
    "arguments",
    [("sql", b"SELECT '\xff'"), ("generate", "--model", b"m\xff"), ("review", "--reviewer", b"\xff")],
)
def test_an_argument_that_is_no_text_is_one_line(root: Path, arguments: tuple[str | bytes, ...]) -> None:
    assert_one_line(run(root, *arguments), 2, "\\udcff", "is not UTF-8 text")


COMMANDS = [("sql", "SELECT 1"), ("sql", "SELECT 1", "--format", "csv"), ("stats",), ("stats", "--json"), ("init", ".")]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_a_full_disk_behind_standard_output_is_a_failure(root: Path, tmp_path: Path, command: tuple[str, ...]) -> None:
    done = run(root, *command, shell=f'ulimit -f 0; exec "$@" > {tmp_path}/out')
    assert_one_line(done, 1, "File too large", "standard output")


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_a_closed_standard_output_is_a_failure(root: Path, command: tuple[str, ...]) -> None:
    assert_one_line(run(root, *command, shell='exec "$@" >&-'), 1, "standard output is closed")


@pytest.mark.parametrize("closed", ["2>&-", "<&- 2>&-", "<&-"])
def test_other_closed_streams_break_no_work(root: Path, tmp_path: Path, closed: str) -> None:
    (tmp_path / "notes.jsonl").write_text('{"text": "A passage of a document, long enough to be one."}\n')
    assert run(root, "ingest", str(tmp_path), shell=f'exec "$@" {closed}').returncode == 0
    done = run(root, "sql", "SELECT 41 + 1 AS n", "--format", "csv", shell=f'exec "$@" {closed}')
    assert (done.returncode, done.stdout.split()) == (0, [b"n", b"42"])
    assert run(root, "sql", "SELEC", shell=f'exec "$@" {closed}').returncode == 2


@pytest.mark.parametrize("output_format", ["table", "csv"])
def test_a_reader_that_has_seen_enough_is_no_error(root: Path, output_format: str) -> None:
    sql = "SELECT repeat('x', 50) FROM range(3000)"  # more than a pipe holds
    done = run(root, "sql", sql, "--format", output_format, shell='"$@" | head -1')
    assert (done.returncode, done.stderr, done.stdout.count(b"\n")) == (0, b"", 1)


@pytest.mark.parametrize(
    ("command", "code"),
    [(("stats", "-w", "a" * 300), 1), (("ingest", "a" * 5000), 1), (("sql", "SELECT 1", "--output", ""), 2)]
    + [(("sql", "SELECT 1", "--format", "csv", "--output", name), 2) for name in ("", "store.duckdb", "a" * 255)],
)
def test_a_path_that_cannot_be_is_one_line(root: Path, command: tuple[str, ...], code: int) -> None:
    done = subprocess.run([*SYNTH, *command], cwd=root, capture_output=True, check=False)
    assert_one_line(done, code)


@pytest.mark.parametrize(
    "command",
    [f"generate {option} {10**26}" for option in ("--seed", "--limit")]
    + [f"mine {option} {10**26}" for option in ("--seed", "--rank-min", "--rank-max", "--num-negatives")]
    + ["generate --seed -1", "mine --seed -1", "mine --encoder ", f"review --policy consistent --max-rank {10**26}"]
    + [f"sql FROM\tsources --timeout {seconds}" for seconds in ("0", "inf", "nan", "1e300")],
)
def test_a_number_out_of_reach_or_an_empty_name_is_one_line(
    root: Path, command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = command.split(" ")
    monkeypatch.setattr(sys, "argv", ["synth", *arguments, "--workspace", str(root)])
    with pytest.raises(SystemExit) as left:
        main()
    out, err = capsys.readouterr()
    assert (left.value.code, out, err.count("\n")) == (2, "", 1)
    assert arguments[-2].strip("-") in err


def test_ctrl_c_ends_a_query_at_once_with_one_line(root: Path) -> None:
    endless = "SELECT levenshtein(repeat('a', 2000000), repeat('b', 2000000))"
    process = subprocess.Popen([*SYNTH, "sql", endless, "-w", root], stderr=subprocess.PIPE, text=True)
    time.sleep(1.5)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert err == "stopped; what was done is kept, run the same command again to go on\n"
