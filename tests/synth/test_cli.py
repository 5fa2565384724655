"""The command line: what a user types, what comes back, and what bad input gets."""

import fcntl
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import duckdb
import pytest

from synth.cli import main
from synth.store import connection
from synth.workspace import Workspace
from tests.conftest import SAMPLE

Run = Any


@pytest.fixture
def synth(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs the command in this process: exit code, standard output, standard error."""

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["synth", *map(str, arguments)])
        with pytest.raises(SystemExit) as left:
            main()
        out, err = capsys.readouterr()
        return int(left.value.code or 0), out, err

    return run


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A workspace with the bundled Chinese documents in it."""
    workspace = tmp_path / "w"
    Workspace.create(workspace)
    return workspace


def assert_one_line(result: tuple[int, str, str], code: int, *words: str) -> None:
    """One line on standard error with these words, nothing on standard output, this exit code."""
    found, out, err = result
    assert (found, out) == (code, ""), err
    assert err.count("\n") == 1, err
    assert err.startswith("error: ")
    assert "Traceback" not in err
    for word in words:
        assert word in err


def test_the_story_up_to_a_release(synth: Run, root: Path) -> None:
    assert synth("ingest", SAMPLE / "documents" / "zh", "-w", root)[0] == 0
    code, out, _ = synth("generate", "--task", "retrieval", "-w", root, "--limit", "5", "--json")
    assert code == 0
    made = json.loads(out)
    assert made["num_stored"] > 0
    assert made["engine"].startswith("extractive")
    assert synth("review", "--policy", "everything", "-w", root)[0] == 0
    code, out, _ = synth("release", "create", "first", "-w", root, "--json")
    assert json.loads(out)["counts"]["retrieval"] == made["num_stored"]
    assert "first" in synth("release", "list", "-w", root)[1]
    code, out, _ = synth("stats", "-w", root, "--json")
    assert json.loads(out)[0]["approved"] == made["num_stored"]


def test_sql_prints_a_table_and_writes_files(synth: Run, root: Path, tmp_path: Path) -> None:
    synth("ingest", SAMPLE / "documents" / "zh", "-w", root)
    code, out, _ = synth("sql", "SELECT source, count(*) AS n FROM passages GROUP BY ALL", "-w", root)
    assert code == 0
    assert "zh" in out
    target = tmp_path / "passages.parquet"
    assert synth("sql", "FROM passages", "--format", "parquet", "--output", target, "-w", root)[0] == 0
    assert duckdb.sql(f"SELECT count(*) > 50 FROM '{target}'").fetchall() == [(True,)]
    assert json.loads(synth("sql", "SELECT 1 AS one", "--format", "json", "-w", root)[1]) == [{"one": 1}]
    assert synth("sql", "SELECT 1 AS one", "--format", "csv", "-w", root)[1].split() == ["one", "1"]


def test_the_projection_can_be_rebuilt_from_the_logs(synth: Run, root: Path) -> None:
    synth("ingest", SAMPLE / "labelled" / "sib200-zh.jsonl", "-w", root)
    with Workspace.open(root).store.write() as cursor:
        cursor.execute("UPDATE sample_state SET status = 'approved' WHERE declared_use = 'train'")
    assert json.loads(synth("store", "rebuild", "-w", root, "--json")[1])["differed"] == 351
    assert "nothing differed" in synth("store", "rebuild", "-w", root)[1]


def test_hostile_text_reaches_the_terminal_as_visible_characters(synth: Run, root: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# Title\n\nA passage \u202ewith a trick and [bold]markup[/bold] of rich in it, long enough.\n")
    assert synth("ingest", page, "-w", root)[0] == 0
    _, out, _ = synth("sql", "SELECT text || chr(27) || '[31m' AS t FROM passages", "-w", root)
    assert "\x1b" not in out
    assert "\u202e" not in out
    assert "[bold]markup[/bold]" in out


def test_a_missing_path_is_one_line(synth: Run, root: Path) -> None:
    assert_one_line(synth("ingest", "/no/such/folder", "-w", root), 2, "/no/such/folder", "no such file")


def test_a_broken_line_is_named_by_file_and_number(synth: Run, root: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.jsonl").write_text('{"text": "a", "label": "b"}\n{"text": \n')
    assert_one_line(synth("ingest", tmp_path / "bad.jsonl", "-w", root), 2, "bad.jsonl:2", "every line must be")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["generate", "--task", "summarise"], ["--task", "summarise", "retrieval"]),
        (["generate", "--limit", "0"], ["--limit"]),
        (["generate", "--task", "sts"], ["no recipe makes sts samples", "which is for retrieval"]),
        (["generate"], ["corpus is empty", "ingest"]),
        (["generate", "--model", "m"], ["--base-url", "synth.toml"]),
        (["generate", "--base-url", "ftp://x", "--model", "m"], ["base_url", "http"]),
        (["mine", "--encoder", "/no/such/model"], ["/no/such/model"]),
        (["release", "create", "x"], ["nothing is approved", "synth review"]),
        (["sql", "SELEC 1"], ["does not run"]),
        (["sql", "DROP TABLE run"], ["only statements that read"]),
        (["sql", "FROM runs", "--format", "parquet"], ["--output"]),
        (["review", "--policy", "nonsense"], ["--policy", "nonsense"]),
        (["nonsense"], ["nonsense"]),
    ],
)
def test_wrong_input_is_one_line_with_the_remedy_and_code_2(
    synth: Run, root: Path, arguments: list[str], words: list[str]
) -> None:
    where = [] if arguments == ["nonsense"] else ["-w", str(root)]
    assert_one_line(synth(*arguments, *where), 2, *words)


def test_a_folder_that_is_no_workspace_is_one_line(synth: Run, tmp_path: Path) -> None:
    assert_one_line(synth("stats", "-w", tmp_path), 2, "no Skiff workspace", "synth init")
    (tmp_path / "file").write_text("")
    assert_one_line(synth("init", tmp_path / "file" / "below"), 2, "cannot be made here")


def test_a_broken_synth_toml_is_one_line(synth: Run, root: Path) -> None:
    (root / "synth.toml").write_text("[llm]\nbase_ur = 'http://127.0.0.1:1/v1'\nmodel = 'm'\nbase_url = 'http://x'\n")
    assert_one_line(synth("generate", "-w", root), 2, "synth.toml", "base_ur", "did you mean base_url")
    (root / "synth.toml").write_text("[mine]\nencoder = 3\n")
    assert_one_line(synth("stats", "-w", root), 2, "synth.toml", "encoder must be a text")


def test_a_dead_server_is_one_line_and_a_failure(synth: Run, root: Path) -> None:
    synth("ingest", SAMPLE / "documents" / "zh", "-w", root)
    result = synth("generate", "--base-url", "http://127.0.0.1:9/v1", "--model", "m", "-w", root, "--limit", "1")
    lines = [line for line in result[2].splitlines() if line.startswith("error: ")]
    assert (result[0], len(lines)) == (1, 1)
    assert "http://127.0.0.1:9/v1" in lines[0]
    assert "cannot be reached" in lines[0]


def test_a_store_from_a_newer_skiff_is_one_line(synth: Run, root: Path) -> None:
    with Workspace.open(root).store.write() as cursor:
        cursor.execute("INSERT INTO schema_migration VALUES (99, '0099_future.sql', 'x', now()::TIMESTAMP)")
    assert_one_line(synth("stats", "-w", root), 2, "newer Skiff", "upgrade")


def test_a_locked_store_is_one_line_and_a_failure(synth: Run, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection.Store.open.__func__, "__kwdefaults__", {"lock_timeout": 0.2})
    with (root / "store.duckdb.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert_one_line(synth("stats", "-w", root), 1, "another process has kept the store")


def test_review_without_a_workspace_does_not_start_the_app(synth: Run, tmp_path: Path) -> None:
    assert_one_line(synth("review", "-w", tmp_path), 2, "no Skiff workspace")


@pytest.mark.parametrize("command", ["", "init", "ingest", "generate", "mine", "review", "sql", "stats", "release"])
def test_help_imports_nothing_heavy(command: str) -> None:
    script = (
        "import sys\nfrom synth.cli import main\n"
        f"sys.argv = ['synth', *{command.split()!r}, '--help']\n"
        "try:\n    main()\nexcept SystemExit as left:\n    assert not left.code, left.code\n"
        "heavy = {'torch', 'duckdb', 'openai', 'numpy', 'pyarrow', 'streamlit', 'transformers'}\n"
        "loaded = heavy & set(sys.modules)\n"
        "assert not loaded, loaded\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Usage: synth" in done.stdout


@pytest.mark.parametrize("command", ["init", "ingest", "generate", "mine", "review", "sql", "stats"])
def test_every_commands_help_has_an_example(synth: Run, command: str) -> None:
    assert f"Example: synth {command}" in " ".join(synth(command, "--help")[1].split())
