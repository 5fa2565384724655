"""`synth release` as a user runs it: outcomes, exit codes, one line for what is wrong."""

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from synth.cli import main
from synth.commands.release import FormatName
from synth.records import Negative, Verdict, key_of, text_id
from synth.stages.export import FORMATS
from synth.store import minings, sources
from synth.workspace import Workspace
from tests.review_app.seeding import grade
from tests.synth.stages.mining_runs import a_mine_run, mined
from tests.synth.stages.releasing import add, approve_all, give_negatives, judge, retrieval, source

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def synth(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], workspace: Workspace) -> Run:
    """Runs `synth release` in a workspace with three approved samples: its code, output and errors."""
    store = workspace.store
    guide = source(store, licence="`]( <b> \x1b[31m")
    add(store, guide, *(retrieval(number) for number in range(3)))
    give_negatives(store, retrieval(0).query, [("No.", "mined", 1)])
    for number in range(3):
        judge(store, retrieval(number).query, Verdict.APPROVE)
    assert sources.source_names(store) == ["guide"]

    def run(*arguments: object) -> tuple[int, str, str]:
        line = ["synth", "release", *map(str, arguments), "-w", str(workspace.root)]
        monkeypatch.setattr(sys, "argv", line)
        with pytest.raises(SystemExit) as left:
            main()
        out, err = capsys.readouterr()
        return int(left.value.code or 0), out, err

    return run


def test_the_life_of_a_release(synth: Run, workspace: Workspace, tmp_path: Path) -> None:
    code, out, _ = synth("create", "first", "--where", "num_negatives = 0")
    assert (code, "not meeting the policy's condition" in out) == (0, True)
    assert json.loads(synth("create", "second", "--json")[1])["counts"]["retrieval"] == 3
    assert [row["name"] for row in json.loads(synth("list", "--json")[1])] == ["first", "second"]
    code, out, _ = synth("show", "first")
    assert (code, "num_negatives = 0" in out, "approved by people" in out, "\x1b" in out) == (0, True, True, False)
    assert json.loads(synth("show", "first", "--json")[1])["policy"]["where"] == "num_negatives = 0"
    difference = json.loads(synth("diff", "first", "second", "--rows", "--json")[1])
    assert (difference["totals"]["added"], len(difference["rows"])) == (1, 1)
    assert "added" in synth("diff", "first", "second", "--rows")[1]
    assert synth("verify", "first")[0] == 0
    code, out, _ = synth("export", "second", "flagembedding", tmp_path / "flag")
    assert (code, "left out: 2 samples with no negative" in out) == (0, True)
    assert json.loads(synth("export", workspace.releases / "first", "csv", tmp_path / "csv", "--json")[1])["files"]


def test_a_changed_release_is_told_and_ends_with_1(synth: Run, workspace: Workspace) -> None:
    synth("create", "first")
    readme = workspace.releases / "first" / "README.md"
    readme.chmod(0o644)
    readme.write_text("mine")
    code, out, _ = synth("verify", "first")
    assert (code, "problem: README.md: has 4 bytes" in out) == (1, True)
    code, out, _ = synth("verify", "first", "--json")
    assert (code, len(json.loads(out)["problems"])) == (1, 1)
    synth("create", "second")
    readme.parent.rename(workspace.releases / "renamed")
    assert "is called renamed, and what is in it is the release first" in synth("verify", "renamed")[1]
    manifest = workspace.releases / "second" / "manifest.json"
    manifest.chmod(0o644)
    manifest.write_text(manifest.read_text().replace('"name": "second"', '"name": "stranger"'))
    assert "the store knows no release called stranger" in synth("verify", "second")[1]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("create", "x", "--where", "true) OR (true"), "is not one SQL expression"),
        (("create", "x", "--where", "nonsense = 1"), "nonsense"),
        (("create", "x", "--exclude-source", "gide"), "no source is called gide"),
        (("create", "x", "--judged", "gpt-4"), "judged is 'gpt-4', which has judged nothing; no judge has judged"),
        (("create", "x", "--flagged-negatives", "drop"), "--flagged-negatives"),
        (("create", "x", "--mining", "last"), "nothing was mined yet; run `synth mine` first"),
        (("create", "x", "--mining", "0123abcd"), "no run's id ends with '0123abcd'; `synth runs` lists the runs"),
        (("create", "x", "--policy", "missing.toml"), "missing.toml: these settings cannot be read"),
        (("create", "x", "--verdicts", "nobody"), "nobody"),
        (("create", "x", "--generated-share", "nan"), "--generated-share"),
        (("create", "../x"), "cannot be called"),
        (("show", "none"), "make one with `synth release create`"),
        (("diff", "a", "b"), "no release 'a'"),
        (("verify", "none"), "no release 'none'"),
        (("export", "none", "csv", "x"), "no release 'none'"),
        (("export", "none", "xml", "x"), "xml"),
    ],
)
def test_wrong_input_is_one_line_and_2(synth: Run, arguments: tuple[str, ...], words: str) -> None:
    code, out, err = synth(*arguments)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert words in err


def test_options_are_laid_over_the_policy_file(synth: Run, tmp_path: Path) -> None:
    path = tmp_path / "policy.toml"
    path.write_text("max_negatives = 0\nmin_reviewers = 1\n")
    made = json.loads(synth("create", "first", "--policy", path, "--max-negatives", "2", "--json")[1])
    assert made["counts"]["negatives"] == 1
    shown = json.loads(synth("show", "first", "--json")[1])["policy"]
    assert (shown["max_negatives"], shown["min_reviewers"]) == (2, 1)


def test_what_a_judge_would_leave_out_and_has_not_graded_is_left_out_on_demand(
    synth: Run, workspace: Workspace
) -> None:
    store = workspace.store
    add(store, source(store), *(retrieval(number) for number in range(3, 6)))
    approve_all(store)  # these three
    grade(store, {retrieval(3).positives[0]: 3, retrieval(4).positives[0]: 1})
    code, out, _ = synth("create", "first", "--judged", "judge-7b")
    assert code == 0 and "neither approved by a person nor graded by a judge" in out
    assert "with a positive that does not answer, as a judge says" in out
    made = json.loads(synth("show", "first", "--json")[1])
    assert (made["policy"]["judged"], made["counts"]["retrieval"]) == ("judge-7b", 4)


def test_a_mining_is_chosen_and_flagged_negatives_are_left_out_on_demand(synth: Run, workspace: Workspace) -> None:
    store = workspace.store
    [sample] = [each for each in minings.minable(store, key_of("none")) if each.query == retrieval(0).query]
    found = Negative(sample.sample_id, sample.revision_id, text_id("No."), "mined", 1, 0.5, 0.7)
    plain = a_mine_run(store, mined(sample, found))
    other = a_mine_run(store, mined(sample, replace(found, flags=("near_positive",))), encoder="other")
    synth("create", "latest")
    assert json.loads(synth("show", "latest", "--json")[1])["policy"]["mining"] == ""
    assert "the latest of each sample" in synth("show", "latest")[1]
    code, out, _ = synth("create", "first", "--mining", "last", "--flagged-negatives", "leave_out")
    assert code == 0
    assert [line.split() for line in out.splitlines() if "_as_" in line or "_not_" in line] == [
        ["negatives_left_out_as_flagged", "1"],
        ["samples_not_mined", "2"],
    ]
    shown = json.loads(synth("show", "first", "--json")[1])
    assert (shown["policy"]["mining"], shown["policy"]["flagged_negatives"]) == (str(other), "leave_out")
    options = ("--mining", str(plain)[-12:], "--flagged-negatives", "leave_out")
    counted = json.loads(synth("create", "second", *options, "--json")[1])
    assert (counted["counts"]["negatives"], counted["counts"]["negatives_left_out_as_flagged"]) == (1, 0)
    difference = json.loads(synth("diff", "first", "second", "--json")[1])
    assert (difference["policy"], difference["totals"]["negatives"]) == ({"mining": [str(other), str(plain)]}, 1)
    assert "the latest of each sample" in synth("diff", "latest", "first")[1]


def test_minings_and_what_to_do_about_them_are_shown_with_nothing_of_them_obeyed(
    synth: Run, workspace: Workspace
) -> None:
    store = workspace.store
    found = {each.query: each for each in minings.minable(store, key_of("none"))}
    for number, encoder in ((0, "usual"), (1, "\x1b[31m<b>")):
        sample = found[retrieval(number).query]
        negative = Negative(sample.sample_id, sample.revision_id, text_id("No!"), "mined", 1, 0.5, 0.7)
        give_negatives(store, sample.query, [("No!", "labelled", None)])
        with store.write() as cursor:
            cursor.execute("DELETE FROM negative WHERE origin = 'labelled'")  # its text is there now
        a_mine_run(store, mined(sample, negative), encoder=encoder, config={"relative_cap": 0.0})
    code, out, _ = synth("create", "first")
    assert (code, "\x1b" in out, "relative_cap = 0.0" in out) == (0, False, True)
    assert "minings that its mined negatives are of:" in out
    assert out.count("are of 2 minings") == 1
    shown = synth("show", "first")[1]
    assert ("relative_cap = 0.0" in shown, "<b>" in shown, "\x1b" in shown) == (True, True, False)
    assert len(json.loads(synth("create", "first", "--json")[1])["minings"]) == 2
    out = synth("create", "second", "--mining", "last")[1]
    assert "2 of 3 retrieval samples have no mined negatives" in out.splitlines()[-2]


def test_the_command_knows_every_format() -> None:
    assert [each.value for each in FormatName] == list(FORMATS)
