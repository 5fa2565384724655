"""
Pairs of query and passage to relevances with a cross-encoder, on a stated device and in a stated precision.

sentence-transformers is the container and the loop (batches sorted by length); what its models give differs, logits or
probabilities, so the logit is taken and made a relevance here. Shapes: N pairs.
"""

import hashlib
import json
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mining import MiningError
from mining.encode import digest_weights, refuse_what_the_hub_cannot_give, resolve_model

if TYPE_CHECKING:
    from sentence_transformers import CrossEncoder

BATCH_CPU, BATCH_GPU = 16, 128


@dataclass(frozen=True)
class Reranker:
    """A loaded cross-encoder and everything that determines its relevances. Made by `load_reranker`."""

    model: "CrossEncoder"
    name: str
    model_digest: str  # hash of weights, architecture and tokenizer
    device: str
    precision: str  # fp32 or bf16: what the model computes in; the logit is made a relevance in fp32
    max_length: int | None  # tokens of query and passage together, the rest is not seen; None: the model knows no limit

    @property
    def fingerprint(self) -> str:
        """32 hexadecimal digits: cross-encoders with the same fingerprint give the same relevances (up to rounding)."""
        parts = [self.model_digest, self.precision, self.max_length]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]

    @property
    def description(self) -> str:
        """One line to print and to store: model, device, precision and length."""
        import torch

        where = f"{self.device} ({torch.get_num_threads()} threads)" if self.device == "cpu" else self.device
        length = f"{self.max_length} tokens" if self.max_length else "no length limit"
        return f"{self.name} on {where} in {self.precision}, {length}"

    def relevances(self, pairs: Sequence[tuple[str, str]]) -> NDArray[np.float32]:
        """
        How relevant passages are to queries.

        Args:
            pairs: N pairs of query and passage; each is cut after `max_length` tokens.

        Returns:
            (N,) float32, from 0 to 1: the logistic function of the model's logit. One depends on its neighbours in the
            batch by rounding only.

        Raises:
            MiningError: the model gives logits that are no numbers.
        """
        import torch

        if not pairs:
            return np.zeros(0, dtype=np.float32)
        low = self.precision == "bf16"
        batch_size = BATCH_CPU if self.device == "cpu" else BATCH_GPU
        with torch.autocast(self.device.split(":")[0], torch.bfloat16) if low else nullcontext():
            logits_N: Any = self.model.predict(
                list(pairs),
                batch_size=batch_size,
                show_progress_bar=False,
                activation_fn=torch.nn.Identity(),
                convert_to_tensor=True,
            )
        relevance_N: NDArray[np.float32] = torch.sigmoid(logits_N.float()).cpu().numpy()
        bad = int(np.isnan(relevance_N).sum())
        if bad:
            raise MiningError(
                f"{self.name} gives no number for {bad} of {len(pairs)} pairs in {self.precision}: use precision fp32,"
                " or another model"
            )
        return relevance_N


def load_reranker(name: str, *, device: str = "auto", precision: str = "auto") -> Reranker:
    """
    Load a cross-encoder and choose, unless told, the device and the precision; both are stated in the result.

    Args:
        name: a folder, a name for `resolve_model`, or a name on the Hugging Face hub.
        device: auto (cuda if there is one, else mps, else cpu) or a torch device.
        precision: auto, fp32 or bf16 (weights stay fp32, the model runs under bf16 autocast), as for `load_encoder`.

    Raises:
        MiningError: no such model or no network, a model that is no cross-encoder of one output, a device that is not
            there.
    """
    import torch

    from mining.hardware import choose_hardware

    hardware = choose_hardware(device, precision)
    model = _load_model(name, hardware.device)
    _refuse_headless(model, name)
    if model.num_labels != 1:
        raise MiningError(
            f"{name!r} has {model.num_labels} outputs; a judge of relevance has one: take a reranker, not a classifier"
        )
    with torch.inference_mode():
        digest = _digest(model)
    return Reranker(model, name, digest, hardware.device, hardware.precision, model.max_seq_length)


def _refuse_headless(model: "CrossEncoder", name: str) -> None:
    """Raises MiningError for a model without trained weights for its output: they would be drawn at random."""
    architectures = getattr(model.config, "architectures", None) or [""]
    if len(list(model.children())) == 1 and not architectures[0].endswith("ForSequenceClassification"):
        raise MiningError(
            f"{name!r} is no cross-encoder but a {architectures[0] or 'model'}, which has nothing to score a pair with:"
            " name a reranker, as in BAAI/bge-reranker-v2-m3"
        )


def _load_model(name: str, device: str) -> "CrossEncoder":
    path = resolve_model(name)
    if not Path(path).is_dir():
        refuse_what_the_hub_cannot_give(path)
    import torch
    from safetensors import SafetensorError
    from sentence_transformers import CrossEncoder
    from transformers.utils import logging

    shows_progress = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        model: CrossEncoder = CrossEncoder(path, device=device, model_kwargs={"dtype": torch.float32})
        return model
    except (OSError, ValueError, KeyError, TypeError, ImportError, RuntimeError, SafetensorError) as error:
        reason = " ".join(str(error).split())[:200]
        raise MiningError(
            f"{name!r} cannot be loaded as a cross-encoder ({reason}): give a folder saved by sentence-transformers or "
            "transformers, or the name of a package or hub repository that holds one"
        ) from error
    finally:
        if shows_progress:
            logging.enable_progress_bar()  # type: ignore[no-untyped-call]


def _digest(model: "CrossEncoder") -> str:
    """Hash of the weights and of what turns texts into their input."""
    digest = hashlib.sha256()
    digest_weights(digest, getattr(model.model, "config", None), model.tokenizer, model)
    return digest.hexdigest()
