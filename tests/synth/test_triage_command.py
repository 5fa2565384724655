"""`synth triage`: what it says, as lines and as JSON, what it refuses, and how hostile texts are shown."""

import json
import re
from pathlib import Path

import pytest

from synth.commands.triage import PARTS
from synth.records import Classification, Sts
from synth.stages.triage.rewriting import RULES
from synth.store.triages import EVIDENCE
from synth.workspace import Workspace
from tests.conftest import REPOSITORY
from tests.synth.conftest import Run
from tests.synth.stages.labelled import add_samples, at_angles

PAGE = (REPOSITORY / "docs" / "triage.md").read_text(encoding="utf-8")
HOSTILE = "sad\x1b[2J one"
MOODS = {f"glad {n}": float(n) for n in range(9)} | {f"sad {n}": 90.0 - n for n in range(9)} | {HOSTILE: 85.0}


@pytest.fixture
def encoder(tmp_path: Path, workspace: Workspace) -> str:
    """Vectors of the samples of a workspace; one label and one score are wrong."""
    add_samples(workspace.store, *(Classification(text, text.split()[0]) for text in MOODS if text != HOSTILE))
    add_samples(workspace.store, Classification(HOSTILE, "glad"))
    ships = {f"ship {n}": 5.0 * n for n in range(12)}
    add_samples(workspace.store, *(Sts(text, "a boat", 12.0 - n) for n, text in enumerate(ships) if n), name="boats")
    add_samples(workspace.store, Sts("ship 0", "a boat", 0.0), name="boats")
    return at_angles(tmp_path / "vectors", MOODS | ships | {"a boat": 0.0})


def test_what_was_measured_and_the_most_suspicious_samples_are_told(synth: Run, encoder: str) -> None:
    code, out, err = synth("triage", "--encoder", encoder)
    assert code == 0, err
    assert "looked at 31 samples: 31 for the first time, 0 changed" in out
    tables = [line.split() for line in out.splitlines()]
    measured = next(row[2:6] for row in tables if row[:2] == ["sts", "ranks"])
    assert measured == ["12", "0.167", "1.000", "1"]  # each of the others is one of eleven ranks too high
    first = next(line for line in out.splitlines() if line.strip().startswith("sts") and "boats" in line)
    assert re.search(r"ranks 1\.00 \(\+\d\.\d\) +ship 0 ", first)
    assert out.splitlines()[-1].startswith("next: synth review -w ")
    code, out, _ = synth("triage", "--encoder", encoder)
    assert (code, "31 samples: 0 for the first time, 0 changed" in out) == (0, True)
    code, out, _ = synth("runs")
    assert (code, out.count("triage")) == (0, 2)


def test_a_text_that_would_steer_the_terminal_is_shown_escaped(synth: Run, encoder: str) -> None:
    _, out, _ = synth("triage", "--task", "classification", "--encoder", encoder)
    assert "\x1b" not in out
    assert "sad\\x1b[2J one" in out


def test_the_outcome_is_one_line_of_json(synth: Run, encoder: str) -> None:
    code, out, _ = synth("triage", "--task", "sts", "--task", "classification", "--encoder", encoder, "--json")
    told = json.loads(out)
    assert (code, told["num_samples"], told["num_new"]) == (0, 31, 31)
    assert [(each["task"], each["name"], each["number"]) for each in told["parts"]] == [
        ("sts", "ranks", 12),
        ("classification", "neighbours", 19),
    ]
    suspect = told["suspects"][0]
    assert (suspect["text"], suspect["source"], suspect["parts"][0]["name"]) == ("ship 0", "boats", "ranks")


def test_a_store_without_samples_and_a_source_that_is_not_there_are_told_with_what_to_do(synth: Run) -> None:
    code, out, _ = synth("triage")
    assert (code, "`synth ingest` or `synth generate` brings some" in out) == (0, True)
    code, _, err = synth("triage", "--source", "tunes")
    assert code == 2
    assert err == "error: no source is called tunes; this store has: none yet\n"


def test_the_page_names_every_part_and_its_question_is_answered(synth: Run, encoder: str) -> None:
    assert set(PARTS) == {*EVIDENCE, "ranks", "neighbours", *RULES}
    rows = re.findall(r"^\| (`.*?) \| (?:retrieval|sts|classification|rewrites) \|", PAGE, re.MULTILINE)
    assert {name for row in rows for name in re.findall(r"`(\w+)`", row)} == set(PARTS)
    assert synth("triage", "--encoder", encoder)[0] == 0
    [sql] = re.findall(r'^\$ synth sql "(.*)"$', PAGE, re.MULTILINE)
    assert [row["name"] for row in json.loads(synth("sql", sql, "--format", "json")[1])] == ["neighbours", "ranks"]
