"""`synth ingest` as a person types it."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from synth.cli import app
from synth.records import UserError
from synth.workspace import Workspace


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A workspace."""
    return Workspace.create(tmp_path / "w").root


def ingest(root: Path, *arguments: object) -> str:
    arguments = ("ingest", *arguments, "-w", root)
    done = CliRunner().invoke(app, list(map(str, arguments)), catch_exceptions=False, standalone_mode=False)
    assert done.exit_code == 0, done.output
    return done.stdout


@pytest.fixture
def faq(tmp_path: Path) -> Path:
    """A table with columns of its own, and one broken row."""
    path = tmp_path / "faq.csv"
    path.write_text("ask,reply\nwhat purrs?,A cat.\nwhat barks?\nwhat swims?,A fish.\n")
    return path


MAP = ("--map", "query=ask", "--map", "positive=reply")


def test_skipped_lines_are_counted_and_the_report_is_named(root: Path, faq: Path) -> None:
    out = ingest(root, faq, *MAP, "--on-error", "skip")
    assert "left out 1: more or fewer cells than columns" in out
    [report] = root.glob("ingest-report-*.jsonl")
    assert f"what was left out: {report}" in out
    assert "next: synth generate" in out


def test_the_outcome_as_json_says_all_of_it(root: Path, faq: Path, tmp_path: Path) -> None:
    report = tmp_path / "report.jsonl"
    out = ingest(
        root, faq, *MAP, "--on-error", "skip", "--report", report, "--name", "pets", "--split", "dev", "--json"
    )
    outcome: dict[str, Any] = json.loads(out)
    assert outcome["left_out"] == {"more or fewer cells than columns": 1}
    assert outcome["report"] == str(report)
    assert outcome["notes"] == []
    assert [(each["name"], each["split"], each["declared_use"], each["num_new"]) for each in outcome["sources"]] == [
        ("pets", "dev", "eval", 2),
    ]


def test_a_changed_data_set_is_told_of(root: Path, faq: Path) -> None:
    ingest(root, faq, *MAP, "--on-error", "skip")
    faq.write_text("ask,reply\nwhat purrs?,A cat.\nwhat flies?,A bird.\n")
    assert "faq: an earlier version is there" in ingest(root, faq, *MAP)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (MAP, r"faq\.csv:3: more or fewer cells than columns"),
        (("--map", "query=question"), "there is no column 'question'; its columns are ask, reply"),
        (("--map", "query"), "write ROLE=COLUMN"),
        (("--format", "csv"), "'csv' is no layout of a table"),
        (("--report", "r.jsonl"), "--on-error skip"),
        (("--name", "a/b", *MAP), "is no name for a source"),
    ],
)
def test_what_does_not_fit_is_one_line_and_nothing_is_stored(
    root: Path, faq: Path, arguments: tuple[str, ...], message: str
) -> None:
    with pytest.raises(UserError, match=message) as caught:
        ingest(root, faq, *arguments)
    assert "\n" not in str(caught.value)
    assert not list(root.glob(".ingest*"))
    assert not list(root.glob("ingest-report*"))
