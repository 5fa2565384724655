"""
The training loop: a release and a configuration in, a model folder out.

Plain torch. AdamW on fp32 weights (no decay of norms and biases), gradients clipped to a norm, the learning rate rising
linearly through the warm-up and falling linearly to zero at the end of each stage (the report names a warm-up of 300
steps and no schedule). Each stage starts with a fresh optimiser, as two runs one after the other would.
"""

import json
import shutil
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from safetensors import SafetensorError

from mining.hardware import Hardware
from synth.records import SkiffError
from synth.screen import progress
from trainer.batches import Plan, Step, make_plan, write_plan
from trainer.checkpoint import (
    RUN_FILE,
    Checkpoint,
    cut_log,
    is_finished,
    load_checkpoint,
    remove_run_folder,
    run_folder,
    save_checkpoint,
    write_atomically,
)
from trainer.config import Config, Stage
from trainer.encoder import Encoder, choose_hardware, load_encoder
from trainer.export import export_model
from trainer.gradients import add_gradients
from trainer.release import Release
from trainer.texts import read_batch

LOG = "metrics.jsonl"
FEWEST_LOSSES = 8  # steps of a task from which its loss says anything


@dataclass(frozen=True, slots=True)
class Outcome:
    """
    What a run came to.

    Attributes:
        resumed_at: the step after which it went on, 0 if it did not have to.
        seconds: those of all its steps, whichever process took them.
        losses: per task of at least 8 steps (fewer say nothing) the mean loss of the first and of the last quarter of
            them. Losses of two tasks do not compare.
    """

    output: Path
    already_finished: bool
    resumed_at: int
    num_steps: int
    seconds: float
    losses: dict[str, tuple[float, float]]
    plan: str
    hardware: Hardware
    notes: tuple[str, ...]


def train(release: Release, config: Config, output: Path) -> Outcome:
    """
    Train as configured and write the model folder `output`; stopped anywhere, the same call goes on.

    Raises:
        UserError: the configuration does not fit the release, the machine or the model; the output is another run's.
        SkiffError: the loss is not finite, memory or disk did not suffice.
    """
    plan = make_plan(release, config)
    hardware = choose_hardware(config.device, config.precision)
    identity = _identity(release, config, plan, hardware)
    if finished := is_finished(output, identity):
        remove_run_folder(output)  # of a run that was killed between its last two steps
        return _outcome(output, plan, hardware, finished, 0)
    torch.manual_seed(config.seed)  # a pooler that the model's file lacks is drawn at random
    encoder = load_encoder(config.model, hardware)
    try:
        with run_folder(output, identity) as folder:
            resumed_at = _run_steps(encoder, plan, release, config, folder)
            model = _write_model(encoder, plan, release, config, identity, folder)
            model.rename(output)
            remove_run_folder(output)
    except (OSError, SafetensorError) as error:  # a full disk above all
        raise SkiffError(f"cannot write {output}: {error}: mend that and run the same command again") from None
    return _outcome(output, plan, hardware, finished, resumed_at)


def _identity(release: Release, config: Config, plan: Plan, hardware: Hardware) -> dict[str, Any]:
    """What makes two runs the same one: all settings but those that change speed and memory alone."""
    settings = asdict(config)
    for key in ("device", "precision", "mini_batch_tokens", "gradient_cache", "checkpoint_steps"):
        del settings[key]  # of device and precision it matters what they came to
    return {
        "format": 1,
        "release": {"name": release.name, "digest": release.digest},
        "config": json.loads(json.dumps(settings)),  # tuples become lists, as they come back from a file
        "plan": plan.digest,
        "hardware": {"device": hardware.device, "precision": hardware.precision},
    }


def learning_rate(stage: Stage, step: int) -> float:
    """The rate of a stage's step, counted from 1: linear up to `learning_rate`, then linear towards zero."""
    if step <= stage.warmup_steps:
        return stage.learning_rate * step / stage.warmup_steps
    return stage.learning_rate * (stage.steps - step + 1) / (stage.steps - stage.warmup_steps)


def _optimizer(encoder: Encoder, config: Config) -> torch.optim.AdamW:
    parameters = list(encoder.model.parameters())
    groups = [
        {"params": [weight for weight in parameters if weight.dim() > 1], "weight_decay": config.weight_decay},
        {"params": [weight for weight in parameters if weight.dim() <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, fused=True)


def _run_steps(encoder: Encoder, plan: Plan, release: Release, config: Config, folder: Path) -> int:
    """Train the steps that the checkpoint does not cover; returns the step of that checkpoint, 0 if there was none."""
    checkpoint = load_checkpoint(folder)
    done = checkpoint.step if checkpoint else 0
    if checkpoint:
        encoder.model.load_state_dict(checkpoint.model)
    cut_log(folder / LOG, done)
    with progress("training", len(plan.steps)) as advance, (folder / LOG).open("a", encoding="utf-8") as log:
        advance(done)
        for stage_steps in _by_stage(plan.steps[done:]):
            optimizer = _optimizer(encoder, config)
            if checkpoint and plan.steps[done - 1].stage == stage_steps[0].stage:
                optimizer.load_state_dict(checkpoint.optimizer)
            for step in stage_steps:
                row = _train_step(encoder, optimizer, step, _step_in_stage(plan, step), release, config)
                log.write(json.dumps(row) + "\n")
                log.flush()
                if step.number % config.checkpoint_steps == 0 or step is plan.steps[-1]:
                    state = Checkpoint(step.number, encoder.model.state_dict(), optimizer.state_dict())
                    save_checkpoint(folder, state)
                advance(1)
    return done


def _by_stage(steps: tuple[Step, ...]) -> Iterator[list[Step]]:
    for stage in sorted({step.stage for step in steps}):
        yield [step for step in steps if step.stage == stage]


def _step_in_stage(plan: Plan, step: Step) -> int:
    first = next(other.number for other in plan.steps if other.stage == step.stage)
    return step.number - first + 1


def _train_step(
    encoder: Encoder, optimizer: torch.optim.AdamW, step: Step, in_stage: int, release: Release, config: Config
) -> dict[str, Any]:
    """One gradient step; returns its line of the log."""
    start = time.monotonic()
    rate = learning_rate(config.stages[step.stage - 1], in_stage)
    for group in optimizer.param_groups:
        group["lr"] = rate
    batch = read_batch(release, step, config)
    try:
        measured = add_gradients(encoder, batch, token_budget=config.mini_batch_tokens, cached=config.gradient_cache)
    except torch.OutOfMemoryError:
        raise SkiffError(
            f"step {step.number}: the memory of {encoder.hardware.device} does not suffice: lower mini_batch_tokens"
            + ("" if config.gradient_cache else " or set gradient_cache = true")
        ) from None
    norm = torch.nn.utils.clip_grad_norm_(encoder.model.parameters(), config.max_gradient_norm)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    seconds = time.monotonic() - start
    return {
        "step": step.number,
        "stage": step.stage,
        "task": str(step.task),
        "dataset": step.dataset,
        "samples": len(step.row_B),
        "loss": measured.loss,
        "learning_rate": rate,
        "gradient_norm": norm.item(),
        "tokens": measured.tokens,
        "tokens_per_second": round(measured.tokens / seconds, 1),
        "seconds": round(seconds, 4),
    }


def _write_model(
    encoder: Encoder, plan: Plan, release: Release, config: Config, identity: dict[str, Any], folder: Path
) -> Path:
    """Write the whole model folder within the run's, from where it can be moved to its place in one go."""
    model = folder / "model"
    shutil.rmtree(model, ignore_errors=True)  # half an export of a run that was killed
    model.mkdir()
    shutil.copy(folder / LOG, model / LOG)
    write_plan(plan, release, model / "steps.parquet")
    record = identity | {
        "config": asdict(config),
        "notes": list(plan.notes),
        "sources": list(release.sources),
        "made_bidirectional": encoder.made_bidirectional,
        "hardware_reason": encoder.hardware.reason,
        "seconds": round(sum(row["seconds"] for row in read_log(model)), 1),
    }
    write_atomically(model / RUN_FILE, json.dumps(record, indent=2, ensure_ascii=False).encode())
    export_model(encoder, release, config, model)
    return model


def read_log(folder: Path) -> list[dict[str, Any]]:
    """The log of a run, a row for each step."""
    return [json.loads(line) for line in (folder / LOG).read_text(encoding="utf-8").splitlines()]


def _outcome(output: Path, plan: Plan, hardware: Hardware, already_finished: bool, resumed_at: int) -> Outcome:
    log = read_log(output)
    return Outcome(
        output=output,
        already_finished=already_finished,
        resumed_at=resumed_at,
        num_steps=len(plan.steps),
        seconds=round(sum(row["seconds"] for row in log), 1),
        losses=_losses(log),
        plan=plan.digest,
        hardware=hardware,
        notes=plan.notes,
    )


def _losses(log: list[dict[str, Any]]) -> dict[str, tuple[float, float]]:
    found = {}
    for task in dict.fromkeys(row["task"] for row in log):
        losses = [row["loss"] for row in log if row["task"] == task]
        quarter = len(losses) // 4
        if len(losses) >= FEWEST_LOSSES:
            found[task] = (fmean(losses[:quarter]), fmean(losses[-quarter:]))
    return found
