"""
What an encoder is to those who need vectors, and the one that runs a model on this machine.

Shapes: N texts, D dimensions.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from mining import MiningError
from mining.encode_model import ModelEncoder, ModelOnDemand, load_model
from mining.model_facts import ModelFacts, facts_of, keep_model_facts, known_facts
from mining.model_files import digest_files
from mining.model_folder import folder_of, refuse_what_the_hub_cannot_give, resolve_model


class Encoder(Protocol):
    """Makes vectors of texts: a model on this machine, an endpoint, or a file of vectors."""

    @property
    def name(self) -> str:
        """As the user gave it."""

    @property
    def fingerprint(self) -> str:
        """Hexadecimal digits, a folder's name: encoders with the same one give the same vectors (up to rounding)."""

    @property
    def dimension(self) -> int:
        """D, the length of a vector."""

    @property
    def description(self) -> str:
        """One line to print and to store: what encodes, where, and with which instruction."""

    def for_queries(self) -> "Encoder":
        """The same encoder with its instruction for queries."""

    def for_passages(self) -> "Encoder":
        """The same encoder with its instruction for passages."""

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """
        Encode N texts.

        Returns:
            (N, D) float32, L2-normalised, in the order of the texts.

        Raises:
            MiningError: in one line, why there are no vectors.
        """


def load_encoder(
    name: str,
    *,
    device: str = "auto",
    precision: str = "auto",
    max_length: int | None = None,
    query_instruction: str | None = None,
    passage_instruction: str | None = None,
    folder: Path | None = None,
) -> ModelEncoder:
    """
    Find a model and choose, unless told, devices and precision; all are stated in the result.

    The model is loaded when it first has to encode, if `folder` has what an earlier run learnt of it; else at once.

    Args:
        name: a folder, a name for `resolve_model`, or a name on the Hugging Face hub, of which the commit in the hub's
            cache is taken if there is one.
        device: auto (every cuda device, else mps, else cpu), or devices of torch, with commas between them.
        precision: auto, fp32 or bf16 (the transformer runs under bf16 autocast). Auto takes bf16 on cuda, and on a CPU
            that multiplies bf16 in hardware (AMX or AVX512-BF16): three times as fast there for MiniLM, with a cosine
            to fp32 above 0.9999. It takes fp32 elsewhere.
        max_length: tokens of a text that are seen; None takes the model's own limit.
        query_instruction: put before queries; None takes the model's own, "" none.
        passage_instruction: put before passages, likewise.
        folder: of the cache of vectors, where what a model says of itself is kept too.

    Raises:
        MiningError: no such model or no network, a model that cannot be read, a device that is not there.
    """
    from mining.hardware import choose_devices

    devices, precision = choose_devices(device, precision)
    path = resolve_model(name)
    if not Path(path).is_dir():
        refuse_what_the_hub_cannot_give(path)
    own, digest = _own_files(path, folder)
    facts = known_facts(folder, digest) if folder and digest else None
    if facts:
        path, model = str(own), None  # of a name on the hub, what is known
    else:
        model = load_model(name, path)
        facts = facts_of(model)
        if folder and digest and digest == _own_files(path, folder)[1]:  # no file was changed meanwhile
            keep_model_facts(folder, digest, facts)
    length = _length(name, max_length, facts)
    on_demand = ModelOnDemand(name, path, devices[0], precision, length, facts.digest)
    if model is not None and len(devices) == 1:  # with several, processes of their own will encode
        on_demand.keep(model)
    return ModelEncoder(
        name=name,
        facts=facts,
        devices=devices,
        precision=precision,
        max_length=length,
        instruction=facts.instruction,
        query_instruction=facts.query_instruction if query_instruction is None else query_instruction,
        passage_instruction=facts.passage_instruction if passage_instruction is None else passage_instruction,
        model=on_demand,
    )


def _own_files(path: str, folder: Path | None) -> tuple[Path | None, str]:
    """The model's folder and the digest of its files; none where nothing is kept of it."""
    own = folder_of(path) if folder else None
    return own, digest_files(own) if own else ""


def _length(name: str, asked: int | None, facts: ModelFacts) -> int | None:
    if asked is not None and not 1 <= asked <= (facts.most_tokens or asked):
        raise MiningError(f"max_length is {asked}, but {name} sees 1 to {facts.most_tokens or 'any number of'} tokens")
    return facts.max_length if asked is None else asked
