"""
Pairs of query and passage to relevances with a cross-encoder, on a stated device and in a stated precision.

A relevance is the logistic function of the model's logit, whatever the model itself would make of it: 0.5 is a logit
of 0. It is as well calibrated as the model was trained to be, which is often badly. It may be compared with other
relevances of the same model, such as the positive's, but not with another model's, and no threshold fits two models.
Near 1, float32 has few steps left: logits above 9 begin to fall together, and those above 17 all give 1.0.

sentence-transformers is the container (modules, tokenizer, templates); the loop is ours. Its `predict` sorts by
characters, of which an English token has four and a Chinese one: half of a batch of both is padding.
Shapes: N pairs, B pairs of a batch, L tokens.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mining import MiningError
from mining.encode_batches import batches, window_of
from mining.model_facts import digest_weights
from mining.model_files import digest_files, keep_facts, read_facts
from mining.model_folder import folder_of, refuse_what_the_hub_cannot_give, resolve_model
from mining.model_loading import loading

if TYPE_CHECKING:
    from sentence_transformers import CrossEncoder

TOKENS_CPU, TOKENS_GPU = 2048, 16_384  # of a batch, padding included: more was no faster on a CPU
BLOCK = 512  # pairs that are tokenized together


@dataclass(frozen=True, slots=True)
class Facts:
    """What a loaded cross-encoder says of itself, and what is kept of it so that the next run need not load it."""

    model_digest: str  # hash of weights, architecture, tokenizer, template and prompt
    max_length: int | None  # tokens of query and passage together, the rest is not seen; None: the model knows no limit


@dataclass(frozen=True)
class Reranker:
    """A cross-encoder, loaded when it is first used, and everything that determines its relevances."""

    load: Callable[[], "CrossEncoder"]
    name: str
    facts: Facts
    device: str
    precision: str  # fp32 or bf16: what the model computes in; its last layer and what follows is always fp32
    is_late: bool = False  # it is not loaded yet, and its files may change meanwhile

    @cached_property
    def model(self) -> "CrossEncoder":
        """The model itself; asking for it loads it. Raises MiningError if it is another one than was found at first."""
        model = self.load()
        if self.is_late and _digest(model) != self.facts.model_digest:
            raise MiningError(f"the files of {self.name} were changed while this ran: run again")
        return model

    @property
    def fingerprint(self) -> str:
        """32 hexadecimal digits: cross-encoders with the same fingerprint give the same relevances (up to rounding)."""
        parts = [self.facts.model_digest, self.precision, self.facts.max_length]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]

    @property
    def description(self) -> str:
        """One line to print and to store: model, device, precision and length."""
        import torch

        where = f"{self.device} ({torch.get_num_threads()} threads)" if self.device == "cpu" else self.device
        length = f"{self.facts.max_length} tokens" if self.facts.max_length else "no length limit"
        return f"{self.name} on {where} in {self.precision}, {length}"

    def relevances(self, pairs: Sequence[tuple[str, str]]) -> NDArray[np.float32]:
        """
        How relevant passages are to queries.

        Args:
            pairs: N pairs of query and passage; each is cut after `max_length` tokens.

        Returns:
            (N,) float32, from 0 to 1. One depends on its neighbours in the batch by rounding only.

        Raises:
            MiningError: the model cannot be loaded, or gives logits that are no numbers.
        """
        import torch

        # Bytes tell the tokens of mixed scripts better than characters; within a block the tokens themselves decide.
        # Half a character (a lone surrogate) becomes "?": tokenizers refuse it.
        raw = [(query.encode("utf-8", "replace"), passage.encode("utf-8", "replace")) for query, passage in pairs]
        order = sorted(range(len(raw)), key=lambda row: -len(raw[row][0]) - len(raw[row][1]))
        logit_N = np.zeros(len(raw), dtype=np.float32)
        with torch.inference_mode():
            for start in range(0, len(order), BLOCK):
                rows = np.array(order[start : start + BLOCK])
                logit_N[rows] = self._logits([(raw[row][0].decode(), raw[row][1].decode()) for row in rows])
        relevance_N: NDArray[np.float32] = torch.sigmoid(torch.from_numpy(logit_N)).numpy()
        bad = int(np.isnan(relevance_N).sum())
        if bad:
            raise MiningError(
                f"{self.name} gives no number for {bad} of {len(pairs)} pairs in {self.precision}: use precision fp32,"
                " or another model"
            )
        return relevance_N

    def _logits(self, pairs: list[tuple[str, str]]) -> NDArray[np.float32]:
        """Of pairs of about one length, in their order."""
        import torch

        prompt = self.model.prompts.get(self.model.default_prompt_name or "")
        window = window_of(self.model.preprocess(pairs, prompt=prompt or None), len(pairs), torch.device(self.device))
        most_tokens = TOKENS_CPU if self.device == "cpu" else TOKENS_GPU
        low = self.precision == "bf16"
        try:
            with torch.autocast(self.device.split(":")[0], torch.bfloat16) if low else nullcontext():
                logits = [self.model(batch)["scores"].float() for batch in batches(window, most_tokens)]
            logit_N = np.empty(len(pairs), dtype=np.float32)
            logit_N[window.order_W] = torch.cat(logits).squeeze(-1).cpu().numpy()  # a GPU is waited for once
        except torch.OutOfMemoryError as error:
            raise MiningError(f"{self.device} has no memory left for {self.name}: free it, or use the CPU") from error
        return logit_N


def load_reranker(name: str, *, device: str = "auto", precision: str = "auto", cache: Path | None = None) -> Reranker:
    """
    Find a cross-encoder and choose, unless told, the device and the precision; both are stated in the result.

    A model is loaded to learn what it is. In a `cache` that is kept: a model whose files have not changed since, nor
    the libraries that read them, is loaded only if it is used. What the hub has by then is not looked at.

    Args:
        name: a folder, a name for `resolve_model`, or a name on the Hugging Face hub.
        device: auto (cuda if there is one, else mps, else cpu) or a torch device.
        precision: auto, fp32 or bf16 (weights stay fp32, the model runs under bf16 autocast), as for `load_encoder`.
        cache: the folder of `relevances_cached`; made if need be.

    Raises:
        MiningError: no such model or no network, a model that is no cross-encoder of one output, a device that is not
            there, a cache that cannot be written.
    """
    from mining.hardware import choose_hardware

    hardware = choose_hardware(device, precision)
    path = resolve_model(name)
    folder = folder_of(path) if cache else None
    if cache and folder:
        known = _facts_of(read_facts(cache, digest_files(folder)))
        if known:
            load = partial(_load_model, name, str(folder), hardware.device)
            return Reranker(load, name, known, hardware.device, hardware.precision, is_late=True)
    before = digest_files(folder) if folder else ""
    model = _load_model(name, path, hardware.device)
    facts = Facts(_digest(model), model.max_seq_length)
    folder = folder_of(path) if cache else None  # there by now, if it came from the hub
    if cache and folder and before in ("", digest := digest_files(folder)):  # no file was changed meanwhile
        keep_facts(cache, digest, asdict(facts))
    return Reranker(lambda: model, name, facts, hardware.device, hardware.precision)


def _facts_of(kept: dict[str, Any] | None) -> Facts | None:
    """None if nothing was kept, or something else than what is kept today."""
    match kept:
        case {"model_digest": str(digest), "max_length": int() | None as max_length, **rest} if not rest:
            return Facts(digest, max_length)
    return None


def _load_model(name: str, path: str, device: str) -> "CrossEncoder":
    if not Path(path).is_dir():
        refuse_what_the_hub_cannot_give(path)
    import torch
    from sentence_transformers import CrossEncoder

    with loading(name, "a cross-encoder"):
        model: CrossEncoder = CrossEncoder(path, device=device, model_kwargs={"dtype": torch.float32})
    _refuse_unfit(model, name)
    return _made_ready(model)


def _refuse_unfit(model: "CrossEncoder", name: str) -> None:
    """Raises MiningError for several outputs, or none with trained weights: they would be drawn at random."""
    architectures = getattr(model.config, "architectures", None) or [""]
    if len(list(model.children())) == 1 and not architectures[0].endswith("ForSequenceClassification"):
        raise MiningError(
            f"{name!r} is no cross-encoder but a {architectures[0] or 'model'}, which has nothing to score a pair with:"
            " name a reranker, as in BAAI/bge-reranker-v2-m3"
        )
    if model.num_labels != 1:
        raise MiningError(
            f"{name!r} has {model.num_labels} outputs; a judge of relevance has one: take a reranker, not a classifier"
        )


def _made_ready(model: "CrossEncoder") -> "CrossEncoder":
    """The last layer stays fp32: between 4 and 8, bf16 has only steps of 1/32, and many pairs would draw."""
    from torch.nn import Linear

    transformer: Any = model.model
    words = transformer.get_output_embeddings()  # of a language model that answers yes or no
    linear = [(name, part) for name, part in model.named_modules() if type(part) is Linear]
    heads = [name for name, part in linear if part.out_features == 1 or part is words]
    model.set_keep_in_fp32_modules([*(model.keep_in_fp32_modules or ()), *heads])
    model.eval()
    return model


def _digest(model: "CrossEncoder") -> str:
    """Hash of the weights and of what turns texts into their input and their output into a logit."""
    digest = hashlib.sha256()
    digest_weights(digest, getattr(model.model, "config", None), model.tokenizer, model)
    template = getattr(model.tokenizer, "chat_template", None)
    prompt = model.prompts.get(model.default_prompt_name or "")
    after: list[Any] = list(model.children())[1:]
    rest = [part.get_config_dict() for part in after]
    if template or prompt or rest:
        digest.update(json.dumps([template, prompt, rest], sort_keys=True, default=str).encode())
    return digest.hexdigest()
