"""The command as a user runs it: outcomes, errors in one line with their exit codes, nothing heavy for --help."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from uuid import NAMESPACE_URL, uuid5

import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from synth.store.console import query
from synth.workspace import Workspace
from tests.trainer.conftest import Write, command, samples
from trainer.cli import app, main


def run(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *arguments: object
) -> tuple[int, str, str]:
    """Run the command's own entry in this process: its exit code, standard output and standard error."""
    monkeypatch.setattr(sys, "argv", ["trainer", *map(str, arguments)])
    with pytest.raises(SystemExit) as left:
        main()
    captured = capsys.readouterr()
    return left.value.code or 0, captured.out, captured.err


@pytest.mark.parametrize("arguments", ["", "'run', ", "'evaluate', ", "'curve', "])
def test_help_has_an_example_and_loads_nothing_heavy(arguments: str):
    code = f"""
import sys
from typer.testing import CliRunner
from trainer.cli import app
result = CliRunner().invoke(app, [{arguments}"--help"])
assert result.exit_code == 0, result.output
heavy = ["torch", "transformers", "sentence_transformers", "duckdb", "pyarrow", "numpy", "sklearn", "mining"]
heavy += ["matplotlib", "mteb"]
assert not [name for name in heavy if name in sys.modules], [name for name in heavy if name in sys.modules]
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    if arguments:
        name = arguments.strip("', ")
        assert f"Example: trainer {name} " in CliRunner().invoke(app, [name, "--help"]).output


def test_in_a_workspace_training_is_recorded_with_its_release_whatever_comes_of_it(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    write_release: Write,
    write_config: Write,
    models: dict[str, Path],
    tmp_path: Path,
):
    store = Workspace.create(tmp_path).store
    release = write_release()
    line = ["run", "--release", release, "--config", write_config(), "-w", tmp_path, "--seed", 5]
    assert run(capsys, monkeypatch, *line, "--model", models["bert"])[0] == 0
    assert run(capsys, monkeypatch, *line, "--model", "/no/such/model")[0] == 2
    rows = query(store, "SELECT kind, status, seed, counts, config FROM runs ORDER BY started_at").to_pylist()
    assert [(row["kind"], row["status"], row["seed"]) for row in rows] == [("train", "done", 5), ("train", "failed", 5)]
    assert json.loads(rows[0]["counts"]) == {"steps": 16}
    manifest = json.loads((release / "manifest.json").read_text())
    assert json.loads(rows[0]["config"])["release_digest"] == manifest["digest"]


def test_which_sample_went_into_which_step_is_asked_in_sql(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    write_release: Write,
    write_config: Write,
    tmp_path: Path,
):
    store = Workspace.create(tmp_path).store
    tables = samples()
    for row in (row for rows in tables.values() for row in rows):
        row["sample_id"] = str(uuid5(NAMESPACE_URL, row["sample_id"]))
    line = ["run", "--release", write_release(tables), "--config", write_config(), "-w", tmp_path, "--output"]
    assert run(capsys, monkeypatch, *line, tmp_path / "model")[0] == 0
    planned = pq.read_table(tmp_path / "model" / "steps.parquet").to_pylist()
    found = query(store, "SELECT step, sample_id FROM training_steps JOIN runs USING (run_id) WHERE kind = 'train'")
    assert sorted((row["step"], str(row["sample_id"])) for row in found.to_pylist()) == sorted(
        (row["step"], sample_id) for row in planned for sample_id in row["sample_ids"]
    )
    assert run(capsys, monkeypatch, *line, tmp_path / "model")[0] == 0  # it is finished: nothing is recorded twice
    assert query(store, "FROM training_steps").num_rows == found.num_rows
    with store.write() as cursor:
        cursor.execute("DELETE FROM train_step")  # as if the first one had been killed before it came to that
    assert run(capsys, monkeypatch, *line, tmp_path / "model")[0] == 0
    assert query(store, "FROM training_steps").num_rows == found.num_rows


@pytest.mark.slow
def test_the_whole_story_in_two_commands(write_release: Write, write_config: Write, tmp_path: Path):
    write_release()
    config = write_config()
    trained = command("run", "--release", "tiny", "--config", config, "--workspace", tmp_path, "--json")
    assert trained.returncode == 0, trained.stderr
    outcome = json.loads(trained.stdout)
    assert outcome["output"] == str(tmp_path / "models" / "tiny-tiny")
    assert outcome["hardware"] == {"device": "cpu", "precision": "fp32", "reason": "as configured"}
    assert trained.stderr.endswith("training: 16 of 16\n")
    measured = command("evaluate", outcome["output"], "--release", "tiny", "--workspace", tmp_path, "--json")
    assert measured.returncode == 0, measured.stderr
    found = json.loads(measured.stdout)
    assert found["against"].endswith("qwen")  # the model that it was trained from
    assert all(row["before"] is not None and row["change"] is not None for row in found["scores"])


def test_outcomes_for_people_name_device_loss_and_place_and_a_table_of_changes(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    write_release: Write,
    write_config: Write,
    models: dict[str, Path],
    tmp_path: Path,
):
    line = ["run", "--release", write_release(), "--config", write_config(), "--output", tmp_path / "model"]
    code, out, _ = run(capsys, monkeypatch, *line, "--model", models["bert"], "--seed", 5, "--device", "cpu")
    assert code == 0
    assert "trained 16 steps in" in out and "on cpu, fp32 (as configured)" in out
    assert "loss of retrieval: " in out and "loss of sts: " not in out  # of the few steps of sts no trend is claimed
    assert f"model: {tmp_path / 'model'}" in out
    record = json.loads((tmp_path / "model" / "run.json").read_text())
    assert (record["config"]["seed"], record["config"]["model"]) == (5, str(models["bert"]))
    code, out, _ = run(capsys, monkeypatch, *line, "--model", models["bert"], "--seed", 5, "--device", "cpu")
    assert (code, "is finished: nothing was trained" in out) == (0, True)
    code, out, err = run(capsys, monkeypatch, *line)
    assert (code, out) == (2, "")
    assert "holds a run with another config.model" in err
    written = ["--items", tmp_path / "items.jsonl", "--figure", tmp_path / "scores.svg", "--examples", 2]
    line = ["evaluate", tmp_path / "model", "-w", tmp_path, *written]  # of the release that it was trained on
    code, out, _ = run(capsys, monkeypatch, *line)
    assert code == 0
    assert "measured on cpu, fp32" in out
    wanted = (
        "animals",
        "pairs",
        "moods",
        "nDCG@10",
        "MRR@10",
        "before",
        "change",
        "95 of 100",
        "queries that rose most",
    )
    assert [name for name in wanted if name not in out] == []
    assert len((tmp_path / "items.jsonl").read_text().splitlines()) == 33
    assert "animals" in (tmp_path / "scores.svg").read_text()
    (tmp_path / "items.jsonl.part").mkdir()  # what cannot be written is said when the scores are shown
    code, out, err = run(capsys, monkeypatch, *line)
    assert code == 1 and "nDCG@10" in out and "error: cannot write" in err


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ([], "nothing to measure on: name a --release, or --sets PATH, or --mteb TASK"),
        (["--sets", "nowhere"], "nowhere: there is no such file or folder"),
        (["--sets", "SETS", "--split", "third"], "it has no row of the split 'third'"),
        (["--sets", "SETS", "--figure", "scores.bmp"], "a figure's name must end in .svg, .png, .pdf"),
        (["--sets", "SETS", "--figure", "nowhere/scores.svg"], "its folder does not exist"),
        (["--sets", "SETS", "--items", "nowhere/items.jsonl"], "its folder does not exist; make it first"),
        (["--sets", "SETS", "--items", 251 * "x"], "the name is too long; give a shorter one"),
        (["--sets", "SETS", "--figure", 248 * "x" + ".svg"], "the name is too long; give a shorter one"),
        (["--sets", "SETS", "--items", "both.svg", "--figure", "both.svg"], "name two files"),
        (["--sets", "SETS", "--mteb-data", "nowhere"], "name a folder that is there, and the tasks with --mteb"),
        (["--sets", "SETS", "--against", " "], "the model has no name"),
        (["--sets", "SETS", "--precision", "fp8"], "there is no precision 'fp8'"),
        (["--sets", "SETS", "--max-length", "100000"], "max_length is 100000, but"),
        (["--sets", "SETS", "--against", "./nowhere"], "no model ./nowhere"),
        (["--mteb", "NoSuchTask"], "mteb has no task of this name"),
    ],
)
def test_what_cannot_be_measured_is_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, write_release: Write,
    models: dict[str, Path], options: list[str], told: str,
):  # fmt: skip
    sets = str(write_release() / "eval")
    line = [sets if option == "SETS" else option for option in options]
    code, out, err = run(capsys, monkeypatch, "evaluate", models["bert"], *line)
    assert (code, out) == (2, "")
    assert err.startswith("error: ") and err.count("\n") == 1 and told in err


def test_a_curve_is_a_row_for_each_part_and_a_column_for_each_set(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    write_release: Write,
    write_config: Write,
    tmp_path: Path,
):
    write_release()
    line = ["curve", "--release", "tiny", "--config", write_config(), "-w", tmp_path, "--fractions", "0.5,1"]
    code, out, _ = run(capsys, monkeypatch, *line, "--figure", tmp_path / "curve.svg")
    assert code == 0
    wanted = ("samples", "animals nDCG@10", "pairs Spearman", "moods accuracy", "none", "43", "85")
    assert [name for name in wanted if name not in out] == []
    assert "animals nDCG@10" in (tmp_path / "curve.svg").read_text()
    code, out, err = run(capsys, monkeypatch, *line[:-1], "0.5,2")
    assert (code, out) == (2, "") and "write numbers above 0 and 1 at most" in err


@pytest.mark.parametrize(
    ("broken", "told"),
    [
        ("no release", "no release 'nowhere'"),
        ("no manifest", "neither a release's folder nor one of the workspace's"),
        ("broken manifest", "manifest.json: cannot be read"),
        ("newer", "format 2 is newer than this Skiff reads (1); upgrade skiff-embeddings"),
        ("no samples", "this release has no samples"),
        ("unknown key", "unknown key tempertaure: did you mean temperature?"),
        ("no config", "no configuration nowhere.toml"),
        ("no model", "no model ./nowhere"),
        ("no device", "no device warp on this machine"),
        ("seed", "options: seed must be 0 or more"),
        ("taken", "was not made by this command: choose another --output"),
        ("no option", "No such option"),
    ],
)
def test_bad_input_is_one_line_with_exit_code_2_and_leaves_no_output(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    write_release: Write,
    write_config: Write,
    tmp_path: Path,
    broken: str,
    told: str,
):
    release = write_release({} if broken == "no samples" else None, **({"format": 2} if broken == "newer" else {}))
    config = write_config(("\ntemperature", "\ntempertaure")) if broken == "unknown key" else write_config()
    if broken == "no manifest":
        (release / "manifest.json").unlink()
    if broken == "broken manifest":
        (release / "manifest.json").write_text("{")
    if broken == "taken":
        shutil.copytree(release, tmp_path / "model")
    options = {
        "no release": ["--release", "nowhere"],
        "no config": ["--config", "nowhere.toml"],
        "no model": ["--model", "./nowhere"],
        "no device": ["--device", "warp"],
        "seed": ["--seed", -1],
        "no option": ["--epochs", 3],
    }.get(broken, [])
    line = ["run", "--release", release, "--config", config, "--output", tmp_path / "model", *options]
    code, out, err = run(capsys, monkeypatch, *line)
    assert (code, out) == (2, "")
    assert err.startswith("error: ") and err.count("\n") == 1
    assert told in err
    assert broken == "taken" or not (tmp_path / "model").exists()


def test_a_model_that_is_not_there_cannot_be_measured(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, write_release: Write
):
    code, out, err = run(capsys, monkeypatch, "evaluate", "./nowhere", "--release", write_release())
    assert (code, out) == (2, "")
    assert err.startswith("error: no model ./nowhere") and err.count("\n") == 1
