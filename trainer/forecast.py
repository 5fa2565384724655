"""
What a run will take, before anything runs: batches of each dataset, tokens, memory, time and money.

Tokens are counted in a sample of the texts. A token costs 6 operations for each weight that is no embedding, 8 with the
gradient cache, as a matrix product counts them (multiply and add). How fast this machine multiplies is measured for a
moment, or stated; which part of that training reaches is known from benchmarks/training.py on processors, and assumed
elsewhere. Figures are estimates, and say so.
"""

import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mining.hardware import Hardware
from synth.records import Task, UserError
from trainer.batches import Key, Plan, Step, make_plan
from trainer.config import Config
from trainer.encoder import (
    BROKEN,
    choose_hardware,
    find_model,
    position_limit,
    reason_of,
    refuse_no_tokenizer,
    transformer_folder,
)
from trainer.ranks import local_device
from trainer.release import Release
from trainer.texts import read_batch

SAMPLED = 4  # steps of a dataset in a stage whose texts are counted
REACHED = {"fp32": 0.6, "bf16": 0.15}  # of the speed of a matrix product, on processors: benchmarks/training.py
ASSUMED = 0.4  # on GPUs
BYTES_OF_A_WEIGHT = 16  # fp32: itself, its gradient, and the two moments of AdamW


@dataclass(frozen=True, slots=True)
class Share:
    """What one dataset gives to one stage. `passes`: how often each of its samples comes up."""

    stage: int
    task: str
    dataset: str
    batches: int
    samples: int
    passes: float
    tokens: int


@dataclass(frozen=True, slots=True)
class Forecast:
    """
    What a run will take.

    Attributes:
        weights, trained_weights: of the model, embeddings included; those that training changes.
        operations: of all steps, in floating-point operations.
        memory: bytes that each process needs: weights, gradients and optimiser, and one mini-batch's states.
        speed: operations a second of one process that time is reckoned with, and where it is from.
        cost: of all processes together, in whatever currency the price was; None without one.
    """

    shares: tuple[Share, ...]
    notes: tuple[str, ...]
    plan: str
    num_steps: int
    tokens: int
    weights: int
    trained_weights: int
    operations: float
    memory: int
    processes: int
    speed: float
    speed_from: str
    hours: float
    cost: float | None


def forecast(
    release: Release,
    config: Config,
    *,
    processes: int = 1,
    teraflops: float | None = None,
    price_per_hour: float | None = None,
) -> Forecast:
    """
    Reckon what a run would take.

    Args:
        processes: GPUs, or machines, that share the work.
        teraflops: 10^12 operations a second of each, as a matrix product reaches them; None: this machine's.
        price_per_hour: of one of them.

    Raises:
        UserError: what `trainer run` would refuse; numbers that are none.
    """
    for name, value in (("--teraflops", teraflops), ("--price-per-hour", price_per_hour)):
        if value is not None and not 0 < value < 1e9:
            raise UserError(f"{name} must be above 0, not {value:g}")
    plan = make_plan(release, config)
    hardware = choose_hardware(local_device(config.device), config.precision)
    shape = _shape(config)
    tokens = _tokens_per_step(plan, release, config, shape.positions)
    shares = tuple(_shares(plan, tokens, release))
    whole = sum(share.tokens for share in shares)
    operations = float((8 if config.gradient_cache else 6) * shape.multiplied * whole)
    if teraflops is None:
        speed = _measured_speed(hardware) * (ASSUMED if hardware.device != "cpu" else REACHED[hardware.precision])
        speed_from = f"measured on {hardware.device}, {hardware.precision}"
    else:
        speed, speed_from = ASSUMED * teraflops * 1e12, f"{ASSUMED:.0%} of {teraflops:g} teraflops, as stated"
    hours = operations / speed / processes / 3600
    return Forecast(
        shares=shares,
        notes=plan.notes,
        plan=plan.digest,
        num_steps=len(plan.steps),
        tokens=whole,
        weights=shape.weights,
        trained_weights=shape.trained,
        operations=operations,
        memory=_memory(shape, config, hardware, processes, max(tokens.values())),
        processes=processes,
        speed=speed,
        speed_from=speed_from,
        hours=hours,
        cost=None if price_per_hour is None else hours * processes * price_per_hour,
    )


@dataclass(frozen=True, slots=True)
class _Shape:
    weights: int
    trained: int
    multiplied: int  # weights of linear layers
    states: int  # numbers that a token leaves for the way back
    positions: int  # the longest text that the model takes, in tokens


def _shape(config: Config) -> _Shape:
    """A model's sizes, from its settings alone: nothing of it is loaded."""
    import torch
    from transformers import AutoConfig, AutoModel

    path = transformer_folder(config.model, find_model(config.model))
    try:
        settings = AutoConfig.from_pretrained(path)
        with torch.device("meta"):
            model = AutoModel.from_config(settings)  # type: ignore[no-untyped-call]
    except BROKEN as error:
        raise UserError(f"cannot read the model {config.model}: {reason_of(error)}") from None
    linear = [module for module in model.modules() if isinstance(module, torch.nn.Linear)]
    weights = sum(weight.numel() for weight in model.parameters())
    updates = sum(config.lora_rank * (each.in_features + each.out_features) for each in linear)
    wide = getattr(settings, "intermediate_size", 4 * settings.hidden_size)
    states = settings.num_hidden_layers * (15 * settings.hidden_size + 4 * wide)
    multiplied = sum(each.weight.numel() for each in linear)
    return _Shape(weights, updates or weights, multiplied, states, position_limit(settings) or sys.maxsize)


def _tokens_per_step(plan: Plan, release: Release, config: Config, positions: int) -> dict[tuple[int, Key], float]:
    """The mean number of tokens of a step, by stage and dataset, from a few of its steps."""
    from transformers import AutoTokenizer

    path = transformer_folder(config.model, find_model(config.model))
    try:
        tokenizer = AutoTokenizer.from_pretrained(path)
    except BROKEN as error:
        raise UserError(f"cannot read the tokenizer of {config.model}: {reason_of(error)}") from None
    refuse_no_tokenizer(tokenizer, config.model)
    steps: dict[tuple[int, Key], list[Step]] = {}
    for step in plan.steps:
        steps.setdefault((step.stage, (step.task, step.dataset)), []).append(step)

    def count(step: Step) -> int:
        batch = read_batch(release, step, config)
        lengths = [len(ids) for ids in tokenizer(list(batch.texts))["input_ids"]]
        return sum(min(length, most, positions) for length, most in zip(lengths, batch.max_tokens, strict=True))

    return {key: float(np.mean([count(step) for step in each[:SAMPLED]])) for key, each in steps.items()}


def _shares(plan: Plan, tokens: dict[tuple[int, Key], float], release: Release) -> Sequence[Share]:
    sizes = Counter(
        (task, name) for task, table in release.samples.items() for name in table.column("dataset").to_pylist()
    )
    batches: Counter[tuple[int, Key]] = Counter()
    samples: Counter[tuple[int, Key]] = Counter()
    for step in plan.steps:
        key = (step.stage, (step.task, step.dataset))
        batches[key] += 1
        samples[key] += len(step.row_B)
    return [
        Share(
            stage,
            str(task),
            name,
            number,
            samples[stage, (task, name)],
            samples[stage, (task, name)] / sizes[task, name],
            round(number * tokens[stage, (task, name)]),
        )
        for (stage, (task, name)), number in sorted(batches.items(), key=lambda each: (each[0][0], *_order(each[0][1])))
    ]


def _order(key: Key) -> tuple[int, str]:
    return [*Task].index(key[0]), key[1]


def _memory(shape: _Shape, config: Config, hardware: Hardware, processes: int, longest_step: float) -> int:
    apart = processes if config.sharded else 1
    held = 4 * (shape.weights - shape.trained) + BYTES_OF_A_WEIGHT * shape.trained
    tokens = config.mini_batch_tokens if config.gradient_cache else longest_step / processes
    return round(held / apart + tokens * shape.states * (2 if hardware.precision == "bf16" else 4))


def _measured_speed(hardware: Hardware) -> float:
    """Operations a second of a large matrix product on this machine."""
    import torch

    low = torch.bfloat16 if hardware.precision == "bf16" else torch.float32
    size = 8192 if hardware.device.startswith("cuda") else 1024
    one = torch.randn(size, size, device=hardware.device, dtype=low)

    def once() -> float:
        start = time.perf_counter()
        result: Any = one @ one
        float(result[0, 0])  # waits for a GPU
        return time.perf_counter() - start

    once()
    return 2.0 * size**3 / min(once() for _ in range(10))
