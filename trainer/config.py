"""
The settings of a training run: one TOML file, read into frozen records, nothing left to a hidden default.

Every key must be there and no other may be, so that a run can be read years later from the file alone. Two files come
with Skiff: `qzhou` holds the figures of the QZhou-Embedding report (arXiv 2508.21632), `demo` trains a small model on
a laptop's processor in two minutes.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from synth.records import UserError
from synth.settings import read_toml, record_of

BUNDLED = Path(__file__).parent


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One stage of training: its optimiser starts afresh, its learning rate rises, then falls linearly to zero."""

    steps: int
    learning_rate: float  # the highest, reached after the warm-up
    warmup_steps: int
    retrieval_share: float  # the report's eta: retrieval's share of batches (not of samples); 1 = no others
    batch_size: int  # samples of a batch of retrieval or classification
    sts_batch_size: int  # pairs of a batch of sts


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """All that determines a training run, the release apart."""

    model: str  # a folder, an installed package with a model in it, or a name on the Hugging Face hub
    seed: int
    device: str  # auto, cpu, cuda, cuda:1, mps
    precision: Literal["auto", "bf16", "fp32"]  # of the matrix products; auto = bf16 where the hardware computes it
    temperature: float  # of retrieval and classification
    sts_temperature: float  # of sts, whose loss at a low one heeds the worst-ordered pairs alone
    size_exponent: float  # the report's alpha: a dataset of n samples is drawn in proportion to n ** alpha
    hard_negatives: int  # most negatives of one sample in one batch
    query_tokens: int  # queries are cut to so many tokens, instruction included
    passage_tokens: int  # so are passages, and both texts of a pair
    weight_decay: float
    max_gradient_norm: float
    mini_batch_tokens: int  # padded tokens that the model is given at once; changes speed and memory, not the gradient
    gradient_cache: bool  # keep one mini-batch in memory, not the whole batch, for a third more work
    checkpoint_steps: int  # steps between two checkpoints
    stages: tuple[Stage, ...]


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
    return check_config(record_of(Config, table | {"stages": read}, name), name)


def check_config(config: Config, where: str) -> Config:
    """The same configuration, if every value is in its range; else a UserError that names the key and `where`."""
    _require(bool(config.model.strip()), where, "model", "the name or folder of a model", config.model)
    _require(config.seed >= 0, where, "seed", "0 or more", config.seed)
    for key in ("temperature", "sts_temperature", "max_gradient_norm"):
        _require(getattr(config, key) > 0, where, key, "above 0", getattr(config, key))
    for key in ("size_exponent", "hard_negatives", "weight_decay"):
        _require(getattr(config, key) >= 0, where, key, "0 or more", getattr(config, key))
    for key in ("query_tokens", "passage_tokens"):
        _require(getattr(config, key) >= 8, where, key, "8 or more", getattr(config, key))
    for key in ("mini_batch_tokens", "checkpoint_steps"):
        _require(getattr(config, key) >= 1, where, key, "1 or more", getattr(config, key))
    for number, stage in enumerate(config.stages, start=1):
        _check_stage(stage, f"{where}, stage {number}")
    return config


def _check_stage(stage: Stage, where: str) -> None:
    _require(stage.steps >= 1, where, "steps", "1 or more", stage.steps)
    _require(stage.learning_rate > 0, where, "learning_rate", "above 0", stage.learning_rate)
    _require(0 <= stage.warmup_steps <= stage.steps, where, "warmup_steps", "from 0 to steps", stage.warmup_steps)
    _require(0 <= stage.retrieval_share <= 1, where, "retrieval_share", "from 0 to 1", stage.retrieval_share)
    for key in ("batch_size", "sts_batch_size"):
        _require(getattr(stage, key) >= 2, where, key, "2 or more", getattr(stage, key))


def _require(holds: bool, where: str, key: str, range_: str, value: object) -> None:
    if not holds:  # false for NaN too
        raise UserError(f"{where}: {key} must be {range_}, not {value!r}")
