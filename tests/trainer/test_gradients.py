"""The gradient cache gives the gradients of one pass, for every task."""

import dataclasses
from pathlib import Path

import pytest
import torch

from mining.hardware import Hardware
from synth.records import SkiffError, Task
from tests.trainer.conftest import Write
from trainer.batches import make_plan
from trainer.config import Config, read_config
from trainer.encoder import Encoder, load_encoder
from trainer.gradients import Measured, add_gradients
from trainer.release import Release, read_release
from trainer.texts import Batch, read_batch


@pytest.fixture
def config(write_config: Write) -> Config:
    return read_config(str(write_config()))


@pytest.fixture
def release(write_release: Write) -> Release:
    return read_release(write_release())


def gradients(encoder: Encoder, batch: Batch, *, token_budget: int, cached: bool) -> tuple[Measured, torch.Tensor]:
    encoder.model.zero_grad()
    measured = add_gradients(encoder, batch, token_budget=token_budget, cached=cached)
    found = [weight.grad.flatten() for weight in encoder.model.parameters() if weight.grad is not None]
    return measured, torch.cat(found)


@pytest.mark.parametrize("model", ["bert", "qwen"])
@pytest.mark.parametrize("task", list(Task))
def test_two_passes_over_mini_batches_give_the_gradient_of_one_pass_over_all(
    release: Release, config: Config, models: dict[str, Path], model: str, task: Task
):
    encoder = load_encoder(str(models[model]), Hardware("cpu", "fp32", "a test"))
    step = next(step for step in make_plan(release, config).steps if step.task is task)
    batch = read_batch(release, step, config)
    whole, direct = gradients(encoder, batch, token_budget=10**6, cached=False)
    for token_budget, cached in ((60, True), (60, False), (10**6, True)):
        measured, found = gradients(encoder, batch, token_budget=token_budget, cached=cached)
        assert measured.loss == pytest.approx(whole.loss, rel=1e-5)
        assert measured.tokens == whole.tokens
        assert (found - direct).norm() / direct.norm() < 1e-5
    assert direct.norm() > 0


def test_a_loss_that_is_not_finite_stops_the_run_before_it_spoils_the_weights(
    release: Release, config: Config, models: dict[str, Path]
):
    encoder = load_encoder(str(models["bert"]), Hardware("cpu", "fp32", "a test"))
    batch = read_batch(release, make_plan(release, config).steps[0], config)
    broken = dataclasses.replace(batch, loss=lambda embedding_TD: embedding_TD.sum() * torch.inf)
    with pytest.raises(SkiffError, match=r"the loss is .*: lower learning_rate"):
        add_gradients(encoder, broken, token_budget=60, cached=True)
    assert all(weight.grad is None for weight in encoder.model.parameters())
