"""The gradient cache gives the gradients of one pass, for every task."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch

from mining.hardware import Hardware
from synth.records import SkiffError, Task
from trainer.batches import make_plan
from trainer.config import Config
from trainer.encoder import Encoder, load_encoder
from trainer.gradients import Measured, add_gradients, tokenise
from trainer.release import Release
from trainer.texts import Batch, read_batch


def gradients(encoder: Encoder, batch: Batch, *, token_budget: int, cached: bool) -> tuple[Measured, torch.Tensor]:
    encoder.model.zero_grad()
    measured = add_gradients(encoder, tokenise(encoder, batch), token_budget=token_budget, cached=cached)
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


@pytest.mark.parametrize(
    "change",
    [
        {"matryoshka": (8, 16)},
        {"distillation": "kl"},
        {"distillation": "margin_mse", "distillation_weight": 3.0},
        {"document_negatives": True, "false_negative_margin": 0.05},
    ],
)
def test_what_can_be_added_to_the_loss_changes_it_and_goes_through_both_passes(
    release: Release, config: Config, models: dict[str, Path], change: dict[str, Any]
):
    encoder = load_encoder(str(models["qwen"]), Hardware("cpu", "fp32", "a test"))
    step = make_plan(release, config).steps[0]
    plain = read_batch(release, step, config)
    batch = read_batch(release, step, dataclasses.replace(config, **change))
    usual, _ = gradients(encoder, plain, token_budget=10**6, cached=False)
    whole, direct = gradients(encoder, batch, token_budget=10**6, cached=False)
    measured, found = gradients(encoder, batch, token_budget=60, cached=True)
    assert abs(whole.loss - usual.loss) > 1e-3
    assert measured.loss == pytest.approx(whole.loss, rel=1e-5)
    assert (found - direct).norm() / direct.norm() < 1e-5


def test_a_loss_of_fewer_dimensions_is_that_of_the_first_ones(
    release: Release, config: Config, models: dict[str, Path]
):
    encoder = load_encoder(str(models["qwen"]), Hardware("cpu", "fp32", "a test"))
    for step in make_plan(release, config).steps[::5]:
        batch = read_batch(release, step, config)
        vectors = encoder.embed(encoder.tokenise(batch.texts, batch.max_tokens)).detach()
        nested = read_batch(release, step, dataclasses.replace(config, matryoshka=(8, 512))).loss(vectors)
        short = batch.loss(torch.nn.functional.normalize(vectors[:, :8], dim=-1))
        assert nested.item() == pytest.approx((batch.loss(vectors) + short).item() / 2)  # 512 are more than it has


def test_a_loss_that_is_not_finite_stops_the_run_before_it_spoils_the_weights(
    release: Release, config: Config, models: dict[str, Path]
):
    encoder = load_encoder(str(models["bert"]), Hardware("cpu", "fp32", "a test"))
    batch = read_batch(release, make_plan(release, config).steps[0], config)
    broken = dataclasses.replace(batch, loss=lambda embedding_TD: embedding_TD.sum() * torch.inf)
    with pytest.raises(SkiffError, match=r"the loss is .*: lower learning_rate"):
        add_gradients(encoder, tokenise(encoder, broken), token_budget=60, cached=True)
    assert all(weight.grad is None for weight in encoder.model.parameters())
