"""`synth mine --task`: what it says of classification and sts samples, as lines and as JSON, and what it refuses."""

import json
import re
from pathlib import Path

import pytest

from synth.records import Classification, Sts, Use
from synth.workspace import Workspace
from tests.conftest import REPOSITORY
from tests.synth.conftest import Run
from tests.synth.stages.labelled import add_samples, at_angles

PAGE = REPOSITORY / "docs" / "mining-labels.md"
TEXTS = {
    "joy": ("glad", 0.0),
    "delight": ("glad", 10.0),
    "woe": ("sad", 70.0),
    "grief": ("sad", 9.0),
    "fury": ("mad", 90.0),
}
PAIRS = {"a ship": (5.0, 10.0), "a car": (1.0, 40.0), "a cat": (0.0, 80.0)}


@pytest.fixture
def encoder(tmp_path: Path, workspace: Workspace) -> str:
    """Vectors of the samples of a workspace."""
    add_samples(workspace.store, *(Classification(text, label) for text, (label, _) in TEXTS.items()))
    add_samples(workspace.store, *(Sts(text, "a boat", score) for text, (score, _) in PAIRS.items()), name="boats")
    add_samples(workspace.store, Classification("Woe!", "sad"), name="exam", use=Use.EVAL)
    angles = {text: angle for text, (_, angle) in (TEXTS | PAIRS).items()} | {"a boat": 0.0}
    return at_angles(tmp_path / "vectors", angles)


def test_negatives_of_other_classes_are_told_with_what_was_set_aside_and_left_out(synth: Run, encoder: str) -> None:
    code, out, err = synth("mine", "--task", "classification", "--encoder", encoder, "--num-negatives", 1)
    lines = out.splitlines()
    assert code == 0, err
    assert lines[0].startswith("encoder: 18 vectors computed elsewhere")
    assert lines[1].startswith("search: exact search with ")
    assert lines[2:] == [
        "stored 4 negatives for 2 samples",
        "2 full: all negatives asked for",
        "2 samples are nearer to a text of another class than to any of their own",
        "2 negatives set aside, flagged near_positive: as near as if it were the same text (cosine)",
        "2 samples not mined: no other text of its class",
        "1 samples not mined: a held-out set has the text too",
        lines[-1],
    ]
    assert lines[-1].startswith("next: synth runs show ")  # a report is of retrieval samples alone


def test_the_boundary_of_each_source_is_told(synth: Run, encoder: str) -> None:
    code, out, err = synth("mine", "--task", "sts", "--encoder", encoder)
    assert code == 0, err
    assert "scored 3 pairs" in out
    assert [line.split() for line in out.splitlines() if "boats" in line] == [["boats", "3", "1.0", "0.4698", "0"]]
    assert "pair_boundaries ORDER BY distance" in out
    code, out, _ = synth("sql", "SELECT text1 FROM pair_boundaries ORDER BY distance LIMIT 1", "--format", "csv")
    assert (code, out.splitlines()) == (0, ["text1", "a cat"])


def test_the_questions_of_the_page_are_answered(synth: Run, encoder: str) -> None:
    for task in ("classification", "sts"):
        assert synth("mine", "--task", task, "--encoder", encoder)[0] == 0
    asked = re.findall(r'^\$ synth sql "(.*)"$', PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    answers = [json.loads(synth("sql", sql, "--format", "json")[1]) for sql in asked]
    assert [len(rows) for rows in answers] == [2, 3, 0]


def test_both_outcomes_are_one_line_of_json(synth: Run, encoder: str) -> None:
    code, out, _ = synth("mine", "--task", "classification", "--encoder", encoder, "--json")
    told = json.loads(out)
    assert (code, told["num_samples"], told["left_out"]) == (0, 2, {"alone": 2, "held_out": 1})
    code, out, _ = synth("mine", "--task", "sts", "--encoder", encoder, "--json")
    assert (code, [each["num_correct"] for each in json.loads(out)["boundaries"]]) == (0, [3])


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (("sts", "--num-negatives", 5), "--num-negatives does not go with --task sts"),
        (("classification", "--rank-min", 2), "--rank-min does not go with --task classification"),
        (("classification", "--miner", "dense"), "--miner does not go with --task classification"),
        (("sts", "--rerank", "model"), "--rerank does not go with --task sts"),
        (("sts", "--limit", 5), "--limit does not go with --task sts"),
        (("classification", "--dry-run"), "--dry-run does not go with --task classification"),
    ],
)
def test_what_is_for_retrieval_alone_is_refused_in_one_line(
    synth: Run, options: tuple[object, ...], named: str
) -> None:
    code, out, err = synth("mine", "--task", *options)
    assert (code, out) == (2, "")
    assert err == f"error: {named}: leave it out\n"
