"""Trackers: TensorBoard's files hold the log; what is not installed or unknown is refused."""

from pathlib import Path

import pytest

from synth.records import UserError
from tests.trainer.conftest import Write
from trainer import tracking
from trainer.config import read_config
from trainer.loop import read_log, train
from trainer.release import read_release


def test_tensorboard_gets_every_step(write_release: Write, write_config: Write, tmp_path: Path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    outcome = train(
        read_release(write_release()), read_config(str(write_config())), tmp_path / "model", trackers=["tensorboard"]
    )
    events = EventAccumulator(str(outcome.output / "tensorboard"))
    events.Reload()
    log = read_log(outcome.output)
    assert [event.step for event in events.Scalars("loss")] == [row["step"] for row in log]
    assert [event.value for event in events.Scalars("loss")] == pytest.approx([row["loss"] for row in log])


def test_a_tracker_that_is_unknown_or_not_installed_is_refused(monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(UserError, match="--track paper: no such tracker; there are tensorboard, trackio, wandb"):
        tracking.check_trackers(["paper"])
    monkeypatch.setattr(tracking, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="--track trackio: not installed; run: pip install trackio"):
        tracking.check_trackers(["trackio"])
