"""
A model of which each process holds a part (FSDP): for weights and an optimiser that fit into no GPU alone.

Every layer is gathered when it is needed and let go again; gradients are averaged on their way to the process that
holds their part. All processes must embed as often as the others: trainer/gradients.py sees to that.
"""

from collections.abc import Iterable
from dataclasses import replace

import torch
from torch import Tensor

from trainer.encoder import Encoder


def shard(encoder: Encoder) -> Encoder:
    """The encoder with its layers divided among the processes; products in the precision of its hardware."""
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

    low = torch.bfloat16 if encoder.hardware.precision == "bf16" else None
    policy = MixedPrecisionPolicy(param_dtype=low, reduce_dtype=torch.float32, output_dtype=torch.float32)
    lists = [module for module in encoder.model.modules() if isinstance(module, torch.nn.ModuleList)]
    for layer in max(lists, key=len, default=()):
        fully_shard(layer, mp_policy=replace(policy, output_dtype=low))
    fully_shard(encoder.model, mp_policy=policy)
    return replace(encoder, is_sharded=True)


def whole_weights(model: torch.nn.Module) -> dict[str, Tensor]:
    """All weights, on the CPU of the first process; all processes must ask for them."""
    from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

    found = get_model_state_dict(model, options=StateDictOptions(full_state_dict=True, cpu_offload=True))
    return {name: value for name, value in found.items() if isinstance(value, Tensor)}


def clip(parameters: Iterable[Tensor], max_norm: float) -> float:
    """Shorten the gradient, of all parameters and all their parts together, to this norm; returns what it was."""
    from torch.distributed.tensor import DTensor

    norm = torch.nn.utils.clip_grad_norm_(parameters, max_norm)
    return float(norm.full_tensor() if isinstance(norm, DTensor) else norm)
