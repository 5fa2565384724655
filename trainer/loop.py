"""
The training loop: a release and a configuration in, a model folder out.

Plain torch. AdamW on fp32 weights (no decay of norms and biases), gradients clipped to a norm, the learning rate rising
linearly through the warm-up and falling linearly to zero at the end of each stage (the report names a warm-up of 300
steps and no schedule). Each stage starts with a fresh optimiser, as two runs one after the other would.
"""

import copy
import json
import math
import resource
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from itertools import zip_longest
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from safetensors import SafetensorError

from mining.hardware import Hardware
from synth.commands.stopping import replaceable
from synth.records import SkiffError, Stopped, UserError
from synth.screen import Advance, warn
from synth.screen import progress as progress_bar
from trainer.batches import Plan, Step, make_plan, write_plan
from trainer.card import DATASHEET
from trainer.checkpoint import (
    RUN_FILE,
    Progress,
    cut_log,
    is_finished,
    load_checkpoint,
    read_json,
    read_progress,
    remove_run_folder,
    run_folder,
    save_checkpoint,
    write_atomically,
)
from trainer.config import Config, Stage
from trainer.dev import measure
from trainer.encoder import Encoder, choose_hardware, load_encoder
from trainer.export import export_model
from trainer.gradients import Measured, NotFinite, Tokens, add_gradients, tokenise
from trainer.ranks import Ranks, joined, local_device
from trainer.release import Release
from trainer.sharding import clip, shard, whole_weights
from trainer.texts import Batch, read_batch
from trainer.tracking import BOARD, tracked

Row = dict[str, Any]
Tell = Callable[[Row], None]
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


def train(release: Release, config: Config, output: Path, *, trackers: Sequence[str] = ()) -> Outcome:
    """
    Train as configured and write the model folder `output`; stopped anywhere, the same call goes on. Under `torchrun`
    every process calls this, and the first one writes. `trackers` are told the log, too: see trainer/tracking.py.

    Ctrl-C, SIGTERM or SIGHUP ends it after the step it is at, with a checkpoint; a second one ends it at once.

    Raises:
        UserError: the configuration does not fit the release, the machine or the model; the output is another run's.
        SkiffError: the loss is not finite, memory or disk did not suffice.
        Stopped: a signal asked for it.
    """
    plan = make_plan(release, config)
    hardware = choose_hardware(local_device(config.device), config.precision)
    identity = _identity(release, config, plan, hardware)
    if finished := is_finished(output, identity):
        remove_run_folder(output)  # of a run that was killed between its last two steps
        return _outcome(output, plan, hardware, finished, 0)
    torch.manual_seed(config.seed)  # low-rank updates begin at random
    encoder = load_encoder(
        config.model, hardware, bidirectional=config.attention == "full", pooling=config.pooling, lora=config.lora_rank
    )
    if wide := [size for size in config.matryoshka if size >= encoder.num_dimensions]:
        raise UserError(f"matryoshka: {wide[0]} is not below the {encoder.num_dimensions} dimensions of {config.model}")
    try:
        with joined(hardware.device) as ranks, run_folder(output, identity, ranks) as folder:
            if config.sharded and ranks.size > 1:
                encoder = shard(encoder)
            run = _Run(encoder, plan, release, config, folder, ranks, tuple(trackers))
            resumed_at = run.train()
            model = _write_model(encoder, plan, release, config, identity, folder, ranks)
            if ranks.is_first:
                model.rename(output)
                remove_run_folder(output)
            ranks.wait()
    except (OSError, SafetensorError) as error:  # a full disk above all
        raise SkiffError(f"cannot write {output}: {error}: mend that and run the same command again") from None
    return _outcome(output, plan, hardware, finished, resumed_at)


def _identity(release: Release, config: Config, plan: Plan, hardware: Hardware) -> dict[str, Any]:
    """What makes two runs the same one: all settings but those that change speed and memory alone."""
    settings = asdict(config)
    of_the_machine = ("device", "precision", "mini_batch_tokens", "gradient_cache", "sharded")
    for key in (*of_the_machine, "checkpoint_steps", "keep_checkpoints"):
        del settings[key]  # of device and precision it matters what they came to
    return {
        "format": 2,
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
    parameters = [weight for weight in encoder.model.parameters() if weight.requires_grad]
    groups = [
        {"params": [weight for weight in parameters if weight.dim() > 1], "weight_decay": config.weight_decay},
        {"params": [weight for weight in parameters if weight.dim() <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW([group for group in groups if group["params"]], fused=True)


@dataclass(frozen=True, slots=True)
class _Run:
    """The steps of a run, from wherever its latest checkpoint is."""

    encoder: Encoder
    plan: Plan
    release: Release
    config: Config
    folder: Path
    ranks: Ranks
    trackers: tuple[str, ...]

    def train(self) -> int:
        """
        Train what the checkpoint does not cover; returns the step of that checkpoint, 0 if there was none. Ends with
        the best weights, where there were evaluations, else with the last.
        """
        there = read_progress(self.folder) or Progress(0)
        left = [step for step in self.plan.steps if step.number > there.step and step.stage != there.ended_stage]
        optimizer, stage = None, 0
        if there.step:
            stage = self.plan.steps[there.step - 1].stage
            goes_on = bool(left) and left[0].stage == stage
            optimizer = _optimizer(self.encoder, self.config) if goes_on else None
            load_checkpoint(self.folder, there.step, self.encoder.model, optimizer)
        progress = there
        with self._told(there.step) as tell, _asked_to_stop(self.ranks) as is_asked, self._bar() as advance:
            advance(len(self.plan.steps) - len(left))
            if self._evaluates() and not there.step:
                self._measure(0, 1, tell)  # as the base model is
            for step, tokens in self._tokenised(left):
                if step.stage == progress.ended_stage:
                    advance(1)
                    continue
                if optimizer is None or step.stage != stage:
                    optimizer, stage = _optimizer(self.encoder, self.config), step.stage
                row = self._train_step(optimizer, step, tokens)
                tell(row)
                advance(1, _in_short(row))
                progress = self._looked_at(replace(progress, step=step.number), tell)
                stops = bool(self.ranks.most(is_asked()))
                if stops or self._is_kept(progress):
                    keep = self.config.keep_checkpoints
                    save_checkpoint(self.folder, progress, self.encoder.model, optimizer, self.ranks, keep=keep)
                if stops:
                    of = len(self.plan.steps)
                    raise Stopped(f"stopped after step {step.number} of {of}: the same command goes on from there")
        if progress.best_step and progress.best_step != progress.step:
            load_checkpoint(self.folder, progress.best_step, self.encoder.model, None)
        return there.step

    @contextmanager
    def _told(self, done: int) -> Iterator[Tell]:
        """What is told of each step: by the first process, to the log and to trackers."""
        if not self.ranks.is_first:
            yield lambda row: None
            return
        if done:
            warn(f"goes on after step {done}")
        elif (self.folder / LOG).exists() and b"\n" in (self.folder / LOG).read_bytes():
            warn("begins anew: an earlier run was ended before its first checkpoint")
        cut_log(self.folder / LOG, done or -1)  # of a run without a checkpoint nothing stays
        with (self.folder / LOG).open("a", encoding="utf-8") as log, tracked(self.folder, self.trackers) as track:

            def tell(row: Row) -> None:
                log.write(json.dumps(row) + "\n")
                log.flush()
                track(row)

            yield tell

    @contextmanager
    def _bar(self) -> Iterator[Advance]:
        if not self.ranks.is_first:
            yield lambda steps, told="": None
            return
        with progress_bar("training", len(self.plan.steps)) as advance:
            yield advance

    def _tokenised(self, steps: Sequence[Step]) -> Iterator[tuple[Step, Tokens]]:
        """Each step with its texts' tokens: those of the next one are made while the latest is trained."""
        # A tokenizer serves one thread at a time, and evaluations take the encoder's.
        beside = replace(self.encoder, tokenizer=copy.deepcopy(self.encoder.tokenizer))

        def read(step: Step) -> Tokens:
            return tokenise(beside, read_batch(self.release, step, self.config), self.ranks)

        with ThreadPoolExecutor(max_workers=1) as worker:
            ahead = [worker.submit(read, step) for step in steps[:1]]
            for step, following in zip_longest(steps, steps[1:]):
                tokens = ahead.pop().result()
                if following:
                    ahead.append(worker.submit(read, following))
                yield step, tokens

    def _train_step(self, optimizer: torch.optim.AdamW, step: Step, tokens: Tokens) -> Row:
        """One gradient step; returns its line of the log."""
        start = time.monotonic()
        stage = self.config.stages[step.stage - 1]
        rate = learning_rate(stage, step.number - self._first(step.stage) + 1)
        for group in optimizer.param_groups:
            group["lr"] = rate
        try:
            measured, norm = self._descend(optimizer, tokens)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            raise SkiffError(
                f"step {step.number}: the memory of {self.encoder.hardware.device} does not suffice: lower"
                " mini_batch_tokens"
                + (" or batch_size" if self.config.gradient_cache else " or set gradient_cache = true")
            ) from None
        except NotFinite as error:
            kept = self._keep_batch(step, tokens.batch)
            raise SkiffError(f"step {step.number}: {error}; its batch is in {kept}") from None
        seconds = time.monotonic() - start
        return {
            "step": step.number,
            "stage": step.stage,
            "task": str(step.task),
            "dataset": step.dataset,
            "samples": len(step.row_B),
            "loss": measured.loss,
            "learning_rate": rate,
            "gradient_norm": norm,
            "tokens": measured.tokens,
            "slots": measured.slots,
            "cut": measured.num_cut,
            "tokens_per_second": round(measured.tokens / seconds, 1),
            "memory_mb": memory_mb(self.encoder.hardware),
            "seconds": round(seconds, 4),
        }

    def _descend(self, optimizer: torch.optim.AdamW, tokens: Tokens) -> tuple[Measured, float]:
        """Move the weights along the gradient of a batch; its figures, and its norm before it was clipped."""
        config, weights = self.config, self.encoder.model.parameters()
        measured = add_gradients(
            self.encoder, tokens, token_budget=config.mini_batch_tokens, cached=config.gradient_cache, ranks=self.ranks
        )
        norm = clip(weights, config.max_gradient_norm)
        if not math.isfinite(norm):
            raise NotFinite(
                f"the gradient's norm is {norm}: lower learning_rate, or raise temperature, and train again"
            )
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return measured, norm

    def _first(self, stage: int) -> int:
        """The number of a stage's first step."""
        return 1 + sum(each.steps for each in self.config.stages[: stage - 1])

    def _keep_batch(self, step: Step, batch: Batch) -> Path:
        """Write down what a step was given, for whoever looks for the reason why it failed."""
        path = self.folder / "failed-batch.json"
        told = {
            "step": step.number,
            "task": str(step.task),
            "dataset": step.dataset,
            "sample_ids": self.release.samples[step.task].column("sample_id").take(step.row_B).to_pylist(),
            "texts": batch.texts,
        }
        if self.ranks.is_first:
            write_atomically(path, json.dumps(told, indent=2, ensure_ascii=False).encode())
        return path

    def _looked_at(self, progress: Progress, tell: Tell) -> Progress:
        """Measure the model where that is due, and see what follows: the best so far, or the end of the stage."""
        config, step = self.config, self.plan.steps[progress.step - 1]
        ends = progress.step + 1 == self._first(step.stage + 1)
        if not self._evaluates() or (progress.step % config.evaluate_steps and not ends):
            return progress
        score = self._measure(progress.step, step.stage, tell)
        is_first = not progress.best_step or self.plan.steps[progress.best_step - 1].stage != step.stage
        if is_first or score > progress.best_score:
            return replace(progress, best_step=progress.step, best_score=score, num_worse=0)
        num_worse = progress.num_worse + 1
        if ends or (config.patience and num_worse >= config.patience):
            return replace(progress, num_worse=0, ended_stage=step.stage)
        return replace(progress, num_worse=num_worse)

    def _evaluates(self) -> bool:
        return bool(self.config.evaluate_steps and self.plan.dev)

    def _measure(self, step: int, stage: int, tell: Tell) -> float:
        """The mean score of the held-out samples' datasets, the same for all processes."""
        scores = measure(self.encoder, self.plan, self.release, self.config)
        score = self.ranks.as_the_first(fmean(scores.values()) if scores else 0.0)
        tell({"step": step, "stage": stage, "score": score, "scores": scores})
        return score

    def _is_kept(self, progress: Progress) -> bool:
        at_a_step = progress.step % self.config.checkpoint_steps == 0 or progress.step == len(self.plan.steps)
        stage = self.plan.steps[progress.step - 1].stage
        return at_a_step or progress.step == progress.best_step or stage == progress.ended_stage


@contextmanager
def _asked_to_stop(ranks: Ranks) -> Iterator[Callable[[], bool]]:
    """What tells whether a signal has asked to stop. The second one does what it would have done without us."""
    replaced = replaceable()
    asked = False

    def put_back() -> None:
        for number, handler in replaced.items():
            signal.signal(number, handler)

    def hear(*_: object) -> None:
        nonlocal asked
        asked = True
        put_back()
        if ranks.is_first:
            warn("stopping after this step; Ctrl-C again to stop now")

    for number in replaced:
        signal.signal(number, hear)
    try:
        yield lambda: asked
    finally:
        put_back()


def _in_short(row: Row) -> str:
    """A step's line of the log for the screen."""
    return (
        f"{row['task']} loss {row['loss']:.3f}, rate {row['learning_rate']:.1e}, norm {row['gradient_norm']:.2g},"
        f" {row['tokens_per_second']:,.0f} tokens/s, {row['memory_mb']:,} MB"
    )


def is_out_of_memory(error: Exception) -> bool:
    """Whether memory did not suffice, a GPU's or the machine's: torch has no kind of its own for the latter."""
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or "allocate memory" in str(error)


def memory_mb(hardware: Hardware) -> int:
    """The most memory that this process took so far: of its GPU, else of the machine."""
    if hardware.device.startswith("cuda"):
        return torch.cuda.max_memory_allocated() >> 20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> (20 if sys.platform == "darwin" else 10)


def _write_model(
    encoder: Encoder,
    plan: Plan,
    release: Release,
    config: Config,
    identity: dict[str, Any],
    folder: Path,
    ranks: Ranks,
) -> Path:
    """Write the whole model folder within the run's, from where it can be moved to its place in one go."""
    model = folder / "model"
    weights = whole_weights(encoder.model) if config.sharded and ranks.size > 1 else None
    if not ranks.is_first:
        return model
    shutil.rmtree(model, ignore_errors=True)  # half an export of a run that was killed
    model.mkdir()
    shutil.copy(folder / LOG, model / LOG)
    if (folder / BOARD).exists():
        shutil.copytree(folder / BOARD, model / BOARD)
    trained = {row["step"] for row in read_log(model)}
    write_plan([step for step in plan.steps if step.number in trained], release, model / "steps.parquet")
    has_datasheet = (release.path / "README.md").exists()
    if has_datasheet:
        shutil.copyfile(release.path / "README.md", model / DATASHEET)
    record = identity | {
        "config": asdict(config),
        "notes": [*plan.notes, *_early_ends(model, plan), *_kept_weights(model)],
        "sources": list(release.sources),
        "made_bidirectional": encoder.made_bidirectional,
        "hardware_reason": encoder.hardware.reason,
        "processes": ranks.size,
        "has_datasheet": has_datasheet,
        "seconds": round(sum(row["seconds"] for row in read_log(model)), 1),
    }
    write_atomically(model / RUN_FILE, json.dumps(record, indent=2, ensure_ascii=False).encode())
    export_model(encoder, release, config, model, weights)
    return model


def read_log(folder: Path) -> list[Row]:
    """The log of a run, a row for each step; evaluations are left out."""
    return [row for row in _rows(folder) if "loss" in row]


def _rows(folder: Path) -> list[Row]:
    return [json.loads(line) for line in (folder / LOG).read_text(encoding="utf-8").splitlines()]


def _early_ends(folder: Path, plan: Plan) -> Iterator[str]:
    """A note on each stage that ended before its last step."""
    trained = {row["step"] for row in read_log(folder)}
    for stage in sorted({step.stage for step in plan.steps}):
        steps = [step.number for step in plan.steps if step.stage == stage]
        if left := len(set(steps) - trained):
            yield f"stage {stage} ended {left} of its {len(steps)} steps early: its score had stopped rising"


def _kept_weights(folder: Path) -> Iterator[str]:
    """A note on which weights were written, where evaluations decided that, and what they scored."""
    rows = [row for row in _rows(folder) if "score" in row]
    if rows:
        last = [row for row in rows if row["step"] and row["stage"] == rows[-1]["stage"]]
        best = max(last, key=lambda row: row["score"])
        yield (
            f"the weights of step {best['step']} are kept: on held-out samples they score {best['score']:.4f}, the"
            f" base model {rows[0]['score']:.4f}"
        )


def _outcome(output: Path, plan: Plan, hardware: Hardware, already_finished: bool, resumed_at: int) -> Outcome:
    log = read_log(output)
    return Outcome(
        output=output,
        already_finished=already_finished,
        resumed_at=resumed_at,
        num_steps=len(log),
        seconds=round(sum(row["seconds"] for row in log), 1),
        losses=_losses(log),
        plan=plan.digest,
        hardware=hardware,
        notes=tuple((read_json(output / RUN_FILE) or {}).get("notes", plan.notes)),
    )


def _losses(log: list[dict[str, Any]]) -> dict[str, tuple[float, float]]:
    found = {}
    for task in dict.fromkeys(row["task"] for row in log):
        losses = [row["loss"] for row in log if row["task"] == task]
        quarter = len(losses) // 4
        if len(losses) >= FEWEST_LOSSES:
            found[task] = (fmean(losses[:quarter]), fmean(losses[-quarter:]))
    return found
