"""Measured while it trains: what is held out, what the score decides, and that a killed run decides alike."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from safetensors.torch import load_file

from mining.hardware import Hardware
from synth.records import Task, UserError
from tests.trainer.conftest import Write, retrieval_rows
from trainer.batches import make_plan
from trainer.checkpoint import load_checkpoint
from trainer.config import Config, check_config, read_config
from trainer.dev import measure
from trainer.encoder import load_encoder
from trainer.loop import train
from trainer.release import Release, read_release


@pytest.fixture
def config(write_config: Write) -> Config:
    path = write_config(("dev_samples = 0", "dev_samples = 4"), ("evaluate_steps = 0", "evaluate_steps = 3"))
    return read_config(str(path))


def evaluations(folder: Path) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [row for row in rows if "score" in row]


def test_held_out_samples_are_in_no_step_and_the_notes_say_how_many(release: Release, config: Config):
    plan = make_plan(release, config)
    assert {key: len(rows) for key, rows in plan.dev.items()} == {
        (Task.RETRIEVAL, "animals"): 3,  # a tenth of 36: the others have too few
        (Task.CLASSIFICATION, "moods"): 2,
    }
    for (task, name), held_out in plan.dev.items():
        steps = [step for step in plan.steps if (step.task, step.dataset) == (task, name)]
        used = np.concatenate([step.row_B for step in steps])
        assert not np.isin(held_out, used).any()
    assert "retrieval animals: 3 samples are held out to measure on" in plan.notes
    assert make_plan(release, dataclasses.replace(config, dev_samples=0)).dev == {}


def test_every_dataset_with_held_out_samples_is_measured(release: Release, config: Config, tmp_path: Path):
    found = evaluations(train(release, config, tmp_path / "model").output)
    assert [row["step"] for row in found] == [0, 3, 6, 8, 9, 12, 15, 16]
    for row in found:
        assert set(row["scores"]) == {"retrieval animals", "classification moods"}
        assert all(0 <= score <= 1 for score in row["scores"].values())
        assert row["score"] == pytest.approx(sum(row["scores"].values()) / 2)


def test_a_model_that_was_trained_scores_higher(write_release: Write, config: Config, tmp_path: Path):
    release = read_release(write_release({"retrieval": retrieval_rows("animals", 200)}))
    stage = dataclasses.replace(config.stages[0], steps=60, learning_rate=3e-3)
    config = dataclasses.replace(config, dev_samples=20, evaluate_steps=60, stages=(stage,))
    before = load_encoder(config.model, Hardware("cpu", "fp32", "a test"))
    score = measure(before, make_plan(release, config), release, config)["retrieval animals"]
    found = evaluations(train(release, config, tmp_path / "model").output)
    assert found[0]["score"] == pytest.approx(score)
    assert found[-1]["score"] > score + 0.1


def test_the_best_weights_are_what_is_written(
    release: Release, config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    config = dataclasses.replace(config, evaluate_steps=4, checkpoint_steps=5)
    # The second stage is judged by itself: what it adds is wanted even where the first one scored higher.
    scores = iter([0.1, 0.5, 0.9, 0.4, 0.3])
    monkeypatch.setattr("trainer.loop.measure", lambda *_: {"a set": next(scores)})
    loaded: list[int] = []

    def load(folder: Path, step: int, *rest: Any) -> None:
        loaded.append(step)
        load_checkpoint(folder, step, *rest)

    monkeypatch.setattr("trainer.loop.load_checkpoint", load)
    outcome = train(release, config, tmp_path / "model")
    assert [row["score"] for row in evaluations(outcome.output)] == [0.1, 0.5, 0.9, 0.4, 0.3]
    assert loaded == [12]
    told = "the weights of step 12 are kept: on held-out samples they score 0.4000, the base model 0.1000"
    assert told in outcome.notes and told in (outcome.output / "README.md").read_text()
    last = train(release, dataclasses.replace(config, evaluate_steps=0, dev_samples=0), tmp_path / "last").output
    first, second = (load_file(path / "model.safetensors") for path in (outcome.output, last))
    assert any(not first[name].equal(second[name]) for name in first)


def test_a_stage_ends_when_nothing_gets_better(release: Release, config: Config, tmp_path: Path):
    still = tuple(dataclasses.replace(stage, learning_rate=1e-12) for stage in config.stages)
    config = dataclasses.replace(config, stages=still, evaluate_steps=1, patience=2)
    outcome = train(release, config, tmp_path / "model")
    assert [row["step"] for row in evaluations(outcome.output)] == [0, 1, 2, 3, 9, 10, 11]
    trained = [1, 2, 3, 9, 10, 11]
    assert outcome.num_steps == len(trained)
    assert pq.read_table(outcome.output / "steps.parquet").column("step").to_pylist() == trained
    assert "stage 2 ended 5 of its 8 steps early: its score had stopped rising" in outcome.notes


def test_where_nothing_can_be_held_out_nothing_is_evaluated_and_that_is_told(
    write_release: Write, config: Config, tmp_path: Path
):
    release = read_release(write_release({"retrieval": retrieval_rows("animals", 19)}))
    config = dataclasses.replace(config, patience=1)
    outcome = train(release, config, tmp_path / "model")
    assert evaluations(outcome.output) == [] and outcome.num_steps == 16
    assert any("no evaluation is made: no dataset has 20 samples" in note for note in outcome.notes)
    plain = dataclasses.replace(config, patience=0, dev_samples=0, evaluate_steps=0)
    first, second = (
        load_file(path / "model.safetensors")
        for path in (outcome.output, train(release, plain, tmp_path / "plain").output)
    )
    assert all(first[name].equal(second[name]) for name in first)


def test_evaluations_need_samples_that_are_held_out(config: Config):
    with pytest.raises(UserError, match="evaluate_steps needs dev_samples"):
        check_config(dataclasses.replace(config, dev_samples=0), "options")
    with pytest.raises(UserError, match="are for evaluations: set evaluate_steps"):
        check_config(dataclasses.replace(config, evaluate_steps=0), "options")
