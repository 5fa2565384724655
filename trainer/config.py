"""
The settings of a training run: one TOML file, read into frozen records, nothing left to a hidden default.

Every key must be there and no other may be, so that a run can be read years later from the file alone. Two files come
with Skiff, in trainer/stages: `qzhou` holds the figures of the QZhou-Embedding report (arXiv 2508.21632), `demo` trains
a small model on a laptop's processor in some minutes.
"""

import math
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal

from synth.records import UserError
from synth.settings import read_toml, record_of

BUNDLED = Path(__file__).parent / "stages"
MOST_DIMENSIONS = 1 << 16
MOST_EXPONENT = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One stage of training: its optimiser starts afresh, its learning rate rises, then falls linearly to zero."""

    steps: int  # batches
    learning_rate: float  # the highest, reached after the warm-up
    warmup_steps: int  # in which the rate rises from 0
    retrieval_share: float  # the report's eta: retrieval's share of batches (not of samples); 1 = no others
    batch_size: int  # samples of a batch of retrieval or classification
    sts_batch_size: int  # pairs of a batch of sts


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """All that determines a training run, the release apart."""

    model: str  # a folder, an installed package with a model in it, or a name on the Hugging Face hub
    seed: int  # of the plan and of whatever begins at random
    device: str  # auto, cpu, cuda, cuda:1, mps
    precision: Literal["auto", "bf16", "fp32"]  # of the matrix products; auto = bf16 where the hardware computes it
    attention: Literal["full", "causal"]  # full: a decoder is made bidirectional; causal: it stays as it comes
    pooling: Literal["mean", "last"]  # of the states of a text's tokens: their mean, or the last one
    lora_rank: int  # of low-rank updates (LoRA, arXiv 2106.09685) that alone are trained; 0: all weights are
    temperature: float  # of retrieval and classification
    sts_temperature: float  # of sts, whose loss at a low one heeds the worst-ordered pairs alone
    document_negatives: bool  # retrieval: a positive is told from the batch's other passages, too
    false_negative_margin: float  # what scores above the positive by more is no negative (Qwen3: 0.1); 0: all are
    distillation: Literal["none", "kl", "margin_mse"]  # retrieval: from the scores that mining stored
    distillation_weight: float  # of that loss, beside the other's 1
    matryoshka: tuple[int, ...]  # the loss is of the first so many dimensions, too, each as heavy (arXiv 2205.13147)
    size_exponent: float  # the report's alpha: a dataset of n samples is drawn in proportion to n ** alpha
    hard_negatives: int  # most negatives of one sample in one batch
    query_tokens: int  # queries are cut to so many tokens, instruction included
    passage_tokens: int  # so are passages, and both texts of a pair
    weight_decay: float  # AdamW's; of matrices alone, not of biases and norms
    max_gradient_norm: float  # to which a longer gradient is shortened
    mini_batch_tokens: int  # padded tokens that the model is given at once; changes speed and memory, not the gradient
    gradient_cache: bool  # keep one mini-batch in memory, not the whole batch, for a third more work
    sharded: bool  # several GPUs: each holds a part of weights and optimiser (FSDP), not all of them
    checkpoint_steps: int  # steps between two checkpoints
    keep_checkpoints: int  # the latest so many; the best one besides, where there are evaluations
    dev_samples: int  # of each dataset, held out of training to measure on; a tenth of it at most
    evaluate_steps: int  # steps between two evaluations on those; 0: none
    patience: int  # evaluations without a better score after which a stage ends; 0: it does not
    stages: tuple[Stage, ...]  # one after the other, each with an optimiser of its own


def read_config(name: str) -> Config:
    """
    Read a bundled configuration by name (`demo`, `qzhou`) or any TOML file by path.

    Raises:
        UserError: no such file, broken TOML, or a key that is missing, unknown, of the wrong type or out of range.
    """
    bundled = {path.stem: path for path in sorted(BUNDLED.glob("*.toml"))}
    path = bundled.get(name, Path(name))
    if not path.exists():
        raise UserError(f"no configuration {name}: name a TOML file, or one of {', '.join(bundled)}")
    table = read_toml(path)
    stages = table.pop("stages", None)
    if not isinstance(stages, list) or not stages:
        raise UserError(f"{name}: needs at least one [[stages]] table: see {bundled['demo']}")
    read = tuple(record_of(Stage, stage, f"{name}, stage {number}") for number, stage in enumerate(stages, start=1))
    if "matryoshka" not in table:
        raise UserError(f"{name}: missing matryoshka")
    sizes = table.pop("matryoshka")
    if not isinstance(sizes, list) or not all(type(size) is int and 0 < size < MOST_DIMENSIONS for size in sizes):
        raise UserError(f"{name}: matryoshka must be a list of numbers of dimensions, not {sizes!r:.60}")
    return check_config(record_of(Config, table, name, stages=read, matryoshka=tuple(sizes)), name)


def check_config(config: Config, where: str) -> Config:
    """The same configuration, if every value is in its range; else a UserError that names the key and `where`."""
    _require(bool(config.model.strip()), where, "model", "the name or folder of a model", config.model)
    _require(0 <= config.seed < 1 << 63, where, "seed", "0 or more, and below 2 to the power of 63", config.seed)
    _require_finite(config, where)
    _require(
        config.size_exponent <= MOST_EXPONENT,
        where,
        "size_exponent",
        f"{MOST_EXPONENT:g} at most",
        config.size_exponent,
    )
    _require(config.lora_rank <= MOST_DIMENSIONS, where, "lora_rank", f"{MOST_DIMENSIONS} at most", config.lora_rank)
    _require(config.dev_samples != 1, where, "dev_samples", "0, or 2 or more", config.dev_samples)
    for key in ("temperature", "sts_temperature", "max_gradient_norm"):
        _require(getattr(config, key) > 0, where, key, "above 0", getattr(config, key))
    at_least_0 = (
        *("size_exponent", "hard_negatives", "weight_decay", "lora_rank", "false_negative_margin"),
        *("distillation_weight", "dev_samples", "evaluate_steps", "patience"),
    )
    for key in at_least_0:
        _require(getattr(config, key) >= 0, where, key, "0 or more", getattr(config, key))
    for key in ("query_tokens", "passage_tokens"):
        _require(getattr(config, key) >= 8, where, key, "8 or more", getattr(config, key))
    for key in ("mini_batch_tokens", "checkpoint_steps", "keep_checkpoints"):
        _require(getattr(config, key) >= 1, where, key, "1 or more", getattr(config, key))
    if config.evaluate_steps and not config.dev_samples:
        raise UserError(f"{where}: evaluate_steps needs dev_samples, which are held out to measure on")
    if not config.evaluate_steps and (config.dev_samples or config.patience):
        raise UserError(f"{where}: dev_samples and patience are for evaluations: set evaluate_steps, or both to 0")
    for number, stage in enumerate(config.stages, start=1):
        _check_stage(stage, f"{where}, stage {number}")
    return config


def _check_stage(stage: Stage, where: str) -> None:
    _require_finite(stage, where)
    _require(stage.steps >= 1, where, "steps", "1 or more", stage.steps)
    _require(stage.learning_rate > 0, where, "learning_rate", "above 0", stage.learning_rate)
    _require(0 <= stage.warmup_steps <= stage.steps, where, "warmup_steps", "from 0 to steps", stage.warmup_steps)
    _require(0 <= stage.retrieval_share <= 1, where, "retrieval_share", "from 0 to 1", stage.retrieval_share)
    for key in ("batch_size", "sts_batch_size"):
        _require(getattr(stage, key) >= 2, where, key, "2 or more", getattr(stage, key))


def _require_finite(record: Config | Stage, where: str) -> None:
    for field in fields(record):
        value = getattr(record, field.name)
        if isinstance(value, float):
            _require(math.isfinite(value), where, field.name, "a finite number", value)


def _require(holds: bool, where: str, key: str, range_: str, value: object) -> None:
    if not holds:  # false for NaN too
        raise UserError(f"{where}: {key} must be {range_}, not {value!r}")
