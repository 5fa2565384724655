"""
One model out of several of one make: their weighted mean ("soup", Wortsman et al., arXiv 2203.05482), or two on the arc
between them (slerp, as Qwen3-Embedding, arXiv 2506.05176, merges its checkpoints).
"""

import json
import math
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from synth.records import SkiffError, UserError
from trainer.checkpoint import write_atomically
from trainer.export import share

if TYPE_CHECKING:
    from torch import Tensor

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
MERGED = "merge.json"  # what the folder was made of
OF_THE_RUN = ("run.json", "evaluation.json", "metrics.jsonl", "steps.parquet", "README.md", "release.md", "tensorboard")
Method = Literal["soup", "slerp"]
METHODS: dict[str, Method] = {"soup": "soup", "slerp": "slerp"}


def merge(models: Sequence[Path], output: Path, *, method: Method, weights: Sequence[float] = ()) -> None:
    """
    Write a model folder whose weights lie between those of `models`; all else is of the first.

    Args:
        weights: how much each counts; equally much if there are none. Of slerp two, or none for the middle.

    Raises:
        UserError: fewer than two models, models of several makes, weights that do not fit, an output that is there.
    """
    shares = _shares(models, method, weights)
    if output.exists():
        raise UserError(f"{output} exists: choose another --output, or remove it")
    from safetensors import SafetensorError, safe_open
    from safetensors.torch import save_file

    files = [_weights_file(model) for model in models]
    try:
        opened: list[Any] = [safe_open(file, framework="pt") for file in files]
    except (OSError, SafetensorError) as error:
        raise UserError(f"{', '.join(map(str, files))}: one cannot be read: {error}: make it again") from None
    part = output.with_name(f".{output.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    try:
        shutil.copytree(models[0], part, ignore=shutil.ignore_patterns(WEIGHTS, *OF_THE_RUN))
        _refuse_other_make(models, [_shapes(each) for each in opened])
        merged = {
            key: _between([each.get_tensor(key) for each in opened], shares, method)
            for key in opened[0].keys()  # noqa: SIM118
        }
        save_file(merged, part / files[0].relative_to(models[0]), metadata={"format": "pt"})
        told = {"method": method, "models": [str(model) for model in models], "weights": list(shares)}
        write_atomically(part / MERGED, json.dumps(told, indent=2).encode())
        share(part)
        part.rename(output)
    except (OSError, SafetensorError) as error:
        raise SkiffError(f"cannot write {output}: {error}: mend that and run the same command again") from None
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _shares(models: Sequence[Path], method: Method, weights: Sequence[float]) -> list[float]:
    if len(models) < 2 or (method == "slerp" and len(models) != 2):
        raise UserError(
            f"{method} merges {'two models' if method == 'slerp' else 'two models or more'}, not {len(models)}"
        )
    given = list(weights) or [1.0] * len(models)
    if len(given) != len(models) or not all(each >= 0 for each in given) or not 0 < sum(given) < math.inf:
        raise UserError(f"--weight: give one number of 0 or more for each of the {len(models)} models")
    return [each / sum(given) for each in given]


def _weights_file(model: Path) -> Path:
    """Where a folder keeps its weights: in itself, or in that of its transformer."""
    found = sorted(model.glob(f"**/{WEIGHTS}"))
    if (model / WEIGHTS) in found:
        return model / WEIGHTS
    if list(model.glob(f"**/{INDEX}")):
        raise UserError(f"{model}: its weights are in several files, which are not merged here; save them in one")
    if not found:
        raise UserError(f"{model}: has no {WEIGHTS}: name a model folder")
    return found[0]


def _shapes(opened: Any) -> dict[str, tuple[int, ...]]:
    return {key: tuple(opened.get_slice(key).get_shape()) for key in opened.keys()}  # noqa: SIM118


def _refuse_other_make(models: Sequence[Path], shapes: Sequence[dict[str, tuple[int, ...]]]) -> None:
    for model, other in zip(models[1:], shapes[1:], strict=True):
        odd = sorted(key for key in shapes[0].keys() | other.keys() if shapes[0].get(key) != other.get(key))
        if odd:
            raise UserError(f"{model} is of another make than {models[0]} (weight {odd[0]}): merge models of one base")


def _between(tensors: "Sequence[Tensor]", shares: Sequence[float], method: Method) -> "Tensor":
    import torch

    if not tensors[0].is_floating_point():
        return tensors[0]
    exact = [each.double() for each in tensors]
    factors = list(shares)
    if method == "slerp":
        one, other = (each.flatten() for each in exact)
        cosine = float(one @ other / (one.norm() * other.norm()).clamp(min=1e-300))
        angle = math.acos(max(-1.0, min(1.0, cosine)))
        if math.sin(angle) > 1e-6:  # else they point alike, or opposite: the line between them
            factors = [math.sin(share * angle) / math.sin(angle) for share in shares]
    merged = torch.stack([factor * each for factor, each in zip(factors, exact, strict=True)]).sum(dim=0)
    if not torch.isfinite(merged).all():
        raise UserError("a model has weights that are no numbers: leave it out")
    return merged.to(tensors[0].dtype).contiguous()
