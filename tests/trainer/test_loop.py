"""A run from release to model folder: it learns, it resumes to the bit, and it mixes with no other."""

import dataclasses
import fcntl
import json
import math
import os
import pickle
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from synth.records import SkiffError, Stopped, UserError
from tests.trainer.conftest import Write, classification_rows, command, retrieval_rows
from trainer.checkpoint import load_checkpoint, read_progress
from trainer.config import Config, read_config
from trainer.gradients import Measured, add_gradients
from trainer.loop import Outcome, learning_rate, read_log, train
from trainer.release import Release, read_release


@pytest.fixture
def trained(release: Release, config: Config, tmp_path: Path) -> Outcome:
    return train(release, config, tmp_path / "model")


def losses(folder: Path) -> list[float]:
    return [row["loss"] for row in read_log(folder)]


def test_a_run_lowers_the_loss_and_leaves_nothing_but_the_model_folder(trained: Outcome, tmp_path: Path):
    log = read_log(trained.output)
    first, *_, last = [row["loss"] for row in log if row["dataset"] == "animals" and row["stage"] == 1]
    assert last < 0.8 * first
    assert sorted(path.name for path in tmp_path.glob("model*")) == ["model"]
    assert trained.num_steps == len(log) == 16
    pairs = [row["loss"] for row in log if row["task"] == "sts"]
    assert len(pairs) == 2 and "sts" not in trained.losses  # too few to say anything
    retrieval = [row["loss"] for row in log if row["task"] == "retrieval"]
    assert trained.losses["retrieval"] == (
        pytest.approx(sum(retrieval[:3]) / 3),
        pytest.approx(sum(retrieval[-3:]) / 3),
    )
    assert (trained.hardware.device, trained.hardware.precision) == ("cpu", "fp32")


def test_the_model_folder_holds_the_datasheet_of_its_release(write_release: Write, write_config: Write, tmp_path: Path):
    folder = write_release()
    (folder / "README.md").write_text("# Release tiny\n")
    settings = read_config(str(write_config(("steps = 8", "steps = 1"), ("warmup_steps = 2", "warmup_steps = 0"))))
    output = train(read_release(folder), settings, tmp_path / "model").output
    assert (output / "release.md").read_text() == "# Release tiny\n"
    assert "[release.md](release.md)" in (output / "README.md").read_text()


def test_every_step_is_logged(trained: Outcome, config: Config):
    log = read_log(trained.output)
    assert [row["step"] for row in log] == list(range(1, 17))
    assert [row["stage"] for row in log] == [1] * 8 + [2] * 8
    assert all(row["tokens"] > 0 and row["seconds"] > 0 and row["gradient_norm"] > 0 for row in log)
    assert [row["learning_rate"] for row in log[:3]] == [5e-4, 1e-3, 1e-3]


def test_the_rate_rises_through_the_warm_up_and_falls_to_zero(config: Config):
    stage = dataclasses.replace(config.stages[0], steps=10, warmup_steps=4, learning_rate=1.2)
    rates = [learning_rate(stage, step) for step in range(1, 11)]
    assert rates == pytest.approx([0.3, 0.6, 0.9, 1.2, 1.2, 1.0, 0.8, 0.6, 0.4, 0.2])
    assert learning_rate(dataclasses.replace(stage, warmup_steps=0), 1) == pytest.approx(1.2)


def test_gradients_are_clipped_to_the_norm(release: Release, config: Config, tmp_path: Path, models: dict[str, Path]):
    # Clipped to next to nothing they vanish in Adam's epsilon, and the weights stay.
    still = dataclasses.replace(config, max_gradient_norm=1e-14, weight_decay=0.0)
    after = load_file(train(release, still, tmp_path / "model").output / "model.safetensors")
    before = load_file(models["qwen"] / "model.safetensors")
    assert all(after[name].allclose(before[name], atol=1e-5) for name in before)


def test_equal_runs_give_equal_weights(trained: Outcome, release: Release, config: Config, tmp_path: Path):
    again = train(release, config, tmp_path / "again")
    assert losses(trained.output) == losses(again.output)
    first, second = (load_file(path / "model.safetensors") for path in (trained.output, again.output))
    assert all(first[name].equal(second[name]) for name in first)


def test_a_finished_run_is_said_to_be_finished_and_not_trained_again(
    trained: Outcome, release: Release, config: Config
):
    written = (trained.output / "model.safetensors").stat().st_mtime_ns
    again = train(release, config, trained.output)
    assert again == dataclasses.replace(trained, already_finished=True)
    assert (trained.output / "model.safetensors").stat().st_mtime_ns == written


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"temperature": 0.1}, r"another config\.temperature \(0\.05 there, 0\.1 here\)"),
        ({"seed": 4}, r"another config\.seed"),
        ({"precision": "bf16"}, r"another hardware\.precision \(fp32 there, bf16 here\)"),
    ],
)
def test_an_output_of_another_run_is_refused(
    trained: Outcome, release: Release, config: Config, change: dict[str, object], told: str
):
    with pytest.raises(UserError, match=f"{told}.*choose another --output"):
        train(release, dataclasses.replace(config, **change), trained.output)


def test_what_changes_memory_alone_may_be_changed_within_a_run(trained: Outcome, release: Release, config: Config):
    leaner = dataclasses.replace(config, mini_batch_tokens=64, gradient_cache=False, checkpoint_steps=9)
    assert train(release, leaner, trained.output).already_finished


def test_an_output_of_another_release_and_a_folder_of_something_else_are_refused(
    trained: Outcome, release: Release, config: Config, tmp_path: Path
):
    with pytest.raises(UserError, match=r"another release\.digest"):
        train(dataclasses.replace(release, digest="d2"), config, trained.output)
    (tmp_path / "thesis").mkdir()
    with pytest.raises(UserError, match="was not made by this command"):
        train(release, config, tmp_path / "thesis")


def test_a_run_under_way_is_refused_to_another_configuration_and_to_a_second_process(
    release: Release, config: Config, tmp_path: Path
):
    folder = tmp_path / "model.training"
    (folder / "checkpoints" / "step-00000004").mkdir(parents=True)
    (folder / "run.json").write_text(json.dumps({"format": 2, "release": {"name": "other"}}))
    with pytest.raises(UserError, match=r"model\.training holds a run with another release"):
        train(release, config, tmp_path / "model")
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(UserError, match="another process is training"):
            train(release, config, tmp_path / "model")


def test_a_run_that_came_to_no_checkpoint_is_in_nobodys_way(release: Release, config: Config, tmp_path: Path):
    with pytest.raises(UserError, match="no model"):
        train(release, dataclasses.replace(config, model="./nowhere"), tmp_path / "model")
    (tmp_path / "model.training").mkdir()
    (tmp_path / "model.training" / "run.json").write_text(json.dumps({"format": 2, "release": {"name": "other"}}))
    (tmp_path / "model.training" / "metrics.jsonl").write_text('{"step": 1}\n{"st')
    assert train(release, config, tmp_path / "model").num_steps == 16
    assert len(losses(tmp_path / "model")) == 16


def test_an_output_that_cannot_be_written_is_told(release: Release, config: Config, tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SkiffError, match="cannot write"):
        train(release, config, tmp_path / "file" / "model")


def test_a_full_disk_is_told_and_the_run_goes_on_when_there_is_room(
    trained: Outcome, release: Release, config: Config, tmp_path: Path
):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))  # no file may grow beyond; a checkpoint would
    try:
        with pytest.raises(SkiffError, match=r"cannot write .*checkpoints/unfinished: .*: free space"):
            train(release, config, tmp_path / "full")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert losses(train(release, config, tmp_path / "full").output) == losses(trained.output)


def test_memory_that_does_not_suffice_is_told_with_what_to_lower(write_release: Write, config: Config, tmp_path: Path):
    release = read_release(write_release({"retrieval": retrieval_rows("animals", 12_000)}))
    stage = dataclasses.replace(config.stages[0], batch_size=12_000)  # whose scores of one another take 576 MB a time
    limits = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + (400 << 20), limits[1]))
    try:
        with pytest.raises(SkiffError, match=r"step 1: the memory of cpu does not suffice: lower .* or batch_size"):
            train(release, dataclasses.replace(config, stages=(stage,)), tmp_path / "model")
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)


def test_a_damaged_checkpoint_is_told(release: Release, config: Config, tmp_path: Path):
    home = tmp_path / "model.training" / "checkpoints" / "step-00000004"
    home.mkdir(parents=True)
    (tmp_path / "model.training" / "run.json").write_text("{}")
    with pytest.raises(UserError, match="holds a run with another"):
        train(release, config, tmp_path / "model")
    with pytest.raises(SkiffError, match="is damaged: remove"):
        read_progress(tmp_path / "model.training")
    for content in (b"", b"PK not really", pickle.dumps({"a": 1})):
        (home / ".metadata").write_bytes(content)
        with pytest.raises(SkiffError, match="is damaged: remove"):
            load_checkpoint(tmp_path / "model.training", 4, torch.nn.Linear(2, 2), None)


ONE = retrieval_rows("one", 1)[0] | {"negatives": []}


@pytest.mark.parametrize(
    ("tables", "told"),
    [
        ({"retrieval": [row | {"negatives": []} for row in retrieval_rows("animals", 20)]}, "other gets every batch"),
        ({"retrieval": [*retrieval_rows("animals", 20), ONE]}, "one is left out: its one sample has no negative"),
        ({"retrieval": retrieval_rows("a", 9), "classification": classification_rows("m", 6, 1)}, "m is left out"),
        ({"retrieval": retrieval_rows("animals", 3)}, "batches of 3, all that it has"),
    ],
)
def test_a_release_of_little_is_trained_on_as_far_as_it_goes_and_the_rest_is_told(
    write_release: Write, config: Config, tmp_path: Path, tables: dict[str, Any], told: str
):
    outcome = train(read_release(write_release(tables)), config, tmp_path / "model")
    assert any(told in note for note in outcome.notes)
    assert all(math.isfinite(loss) for loss in losses(outcome.output))


def test_a_release_of_one_text_is_refused(write_release: Write, config: Config, tmp_path: Path):
    release = read_release(write_release({"retrieval": [ONE]}))
    with pytest.raises(UserError, match="stage 1 finds no retrieval samples"):
        train(release, config, tmp_path / "model")
    assert not list(tmp_path.glob("model*"))


def test_long_texts_are_cut_and_counted(release: Release, config: Config, tmp_path: Path):
    stages = config.stages[:1]
    for tokens, is_cut in ((16, True), (120, False)):
        settings = dataclasses.replace(config, query_tokens=tokens, passage_tokens=tokens, stages=stages)
        rows = read_log(train(release, settings, tmp_path / f"model-{tokens}").output)
        assert all((row["cut"] > row["samples"]) is is_cut for row in rows)
    assert sum(row["cut"] for row in rows) == 0


def test_a_batch_whose_loss_is_not_finite_is_kept_for_whoever_looks_for_the_reason(
    release: Release, config: Config, tmp_path: Path
):
    wild = tuple(dataclasses.replace(stage, learning_rate=1e30) for stage in config.stages)
    with pytest.raises(SkiffError, match=r"step \d+: the loss is nan: .*; its batch is in .*failed-batch\.json"):
        train(release, dataclasses.replace(config, stages=wild), tmp_path / "model")
    kept = json.loads((tmp_path / "model.training" / "failed-batch.json").read_text())
    assert kept["dataset"] in ("animals", "beasts") and len(kept["sample_ids"]) == 8
    assert any("tales" in text for text in kept["texts"])


def test_a_model_without_a_padding_token_is_trained(
    release: Release, config: Config, tmp_path: Path, models: dict[str, Path]
):
    folder = tmp_path / "unpadded"
    shutil.copytree(models["qwen"], folder)
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps(settings | {"pad_token": None, "eos_token": None}))
    changed = dataclasses.replace(config, model=str(folder), stages=config.stages[:1])
    assert train(release, changed, tmp_path / "model").num_steps == 8


def test_what_a_killed_run_left_beside_a_finished_model_is_cleared_away(
    trained: Outcome, release: Release, config: Config, tmp_path: Path
):
    (tmp_path / "model.training").mkdir()
    assert train(release, config, trained.output).already_finished
    assert not (tmp_path / "model.training").exists()


def test_a_rate_that_makes_the_loss_explode_is_told_not_trained_through(
    release: Release, config: Config, tmp_path: Path
):
    wild = tuple(dataclasses.replace(stage, learning_rate=1e30) for stage in config.stages)
    with pytest.raises(SkiffError, match="lower learning_rate"):
        train(release, dataclasses.replace(config, stages=wild), tmp_path / "model")
    assert not (tmp_path / "model").exists()


@pytest.mark.slow
def test_a_run_killed_ten_times_at_any_moment_ends_with_the_bits_of_one_that_was_not(
    write_release: Write, write_config: Write, tmp_path: Path
):
    # Steps of a real length, and a checkpoint after each: kills fall into steps, into checkpoints and between them.
    path = write_config(
        ("batch_size = 8", "batch_size = 36"),
        ("mini_batch_tokens = 128", "mini_batch_tokens = 48"),
        ("checkpoint_steps = 4", "checkpoint_steps = 1"),
    )
    line = ["run", "--release", write_release(), "--config", path, "--output"]
    whole = command(*line, tmp_path / "whole")
    assert whole.returncode == 0, whole.stderr
    chance = random.Random(7)
    for number in range(10):
        log = tmp_path / "model.training" / "metrics.jsonl"
        _kill_after(number + 1, chance.uniform(0, 0.3), [*line, tmp_path / "model"], log)
    resumed = command(*line, tmp_path / "model", "--json")
    assert resumed.returncode == 0, resumed.stderr
    assert 9 <= json.loads(resumed.stdout)["resumed_at"] < 16
    assert losses(tmp_path / "model") == losses(tmp_path / "whole")
    first, second = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "model"))
    assert all(first[name].equal(second[name]) for name in first)


@pytest.mark.slow
def test_a_run_that_is_asked_to_stop_keeps_its_last_step_and_says_so(
    write_release: Write, write_config: Write, tmp_path: Path
):
    path = write_config(("checkpoint_steps = 4", "checkpoint_steps = 100"))
    line = ["run", "--release", write_release(), "--config", path, "--output", tmp_path / "model"]
    stopped = _end_after(2, 0, line, tmp_path / "model.training" / "metrics.jsonl", signal.SIGTERM)
    assert stopped.returncode == 130
    assert "stopping after this step; Ctrl-C again to stop now\n" in stopped.stderr
    told = re.search(r"stopped after step (\d+) of 16: the same command goes on from there", stopped.stderr)
    assert told
    resumed = command(*line, "--json")
    assert f"goes on after step {told[1]}\n" in resumed.stderr
    assert json.loads(resumed.stdout)["resumed_at"] == int(told[1])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_one_signal_ends_a_run_after_the_step_it_is_at_and_nothing_is_trained_twice(
    number: signal.Signals, release: Release, config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    before = signal.getsignal(number)
    _signal_in_step(monkeypatch, 3, number)
    with pytest.raises(Stopped, match="stopped after step 3 of 16: the same command goes on from there"):
        train(release, config, tmp_path / "model")
    assert signal.getsignal(number) is before
    assert train(release, config, tmp_path / "model").resumed_at == 3
    assert losses(tmp_path / "model") == losses(train(release, config, tmp_path / "whole").output)


def test_a_second_signal_ends_a_run_at_once_and_what_is_lost_is_said(
    release: Release,
    config: Config,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    _signal_in_step(monkeypatch, 3, signal.SIGINT, signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        train(release, config, tmp_path / "model")
    capsys.readouterr()
    assert train(release, config, tmp_path / "model").resumed_at == 0
    assert "begins anew: an earlier run was ended before its first checkpoint\n" in capsys.readouterr().err


def _signal_in_step(monkeypatch: pytest.MonkeyPatch, step: int, *numbers: signal.Signals) -> None:
    """Signals that reach this process while it is at a step."""
    steps = 0

    def add(*arguments: Any, **named: Any) -> Measured:
        nonlocal steps
        steps += 1
        for number in numbers if steps == step else ():
            signal.raise_signal(number)
        return add_gradients(*arguments, **named)

    monkeypatch.setattr("trainer.loop.add_gradients", add)


def _kill_after(steps: int, seconds: float, arguments: list[object], log: Path) -> None:
    _end_after(steps, seconds, arguments, log, signal.SIGKILL)


def _end_after(
    steps: int, seconds: float, arguments: list[object], log: Path, number: signal.Signals
) -> subprocess.CompletedProcess[str]:
    """Send a run a signal when its log has so many steps, and what became of it."""
    code = "from trainer.cli import main; main()"
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    line = [sys.executable, "-c", code, *map(str, arguments)]
    with subprocess.Popen(line, env=environment, stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 100
        while not log.exists() or log.read_bytes().count(b"\n") < steps:
            assert process.poll() is None and time.monotonic() < deadline, "the run ended before it could be killed"
            time.sleep(0.005)
        time.sleep(seconds)
        process.send_signal(number)
        _, told = process.communicate(timeout=100)
    return subprocess.CompletedProcess(line, process.returncode, stderr=told)


def test_classes_are_learnt_without_negatives_of_their_own(release: Release, config: Config, tmp_path: Path):
    output = train(release, dataclasses.replace(config, hard_negatives=0), tmp_path / "model").output
    assert {row["task"] for row in read_log(output)} == {"retrieval", "sts", "classification"}


def test_dimensions_that_the_model_has_not_are_refused(release: Release, config: Config, tmp_path: Path):
    with pytest.raises(UserError, match="matryoshka: 32 is not below the 32 dimensions"):
        train(release, dataclasses.replace(config, matryoshka=(8, 32)), tmp_path / "model")


def test_an_output_that_is_a_link_to_nowhere_is_refused_before_anything_is_trained(
    release: Release, config: Config, tmp_path: Path
):
    (tmp_path / "model").symlink_to(tmp_path / "nowhere")
    with pytest.raises(UserError, match="exists and was not made by this command"):
        train(release, config, tmp_path / "model")


def test_everyone_may_read_the_weights_who_may_read_the_rest(trained: Outcome):
    modes = {path.stat().st_mode for path in trained.output.rglob("*") if path.is_file()}
    assert len(modes) == 1


def test_a_step_that_would_ruin_the_weights_is_not_taken(release: Release, config: Config, tmp_path: Path):
    wild = dataclasses.replace(config.stages[0], steps=2, learning_rate=1e38, warmup_steps=0)
    with pytest.raises(SkiffError, match=r"step \d: the (loss|gradient's norm) is"):
        train(release, dataclasses.replace(config, stages=(wild,)), tmp_path / "model")
