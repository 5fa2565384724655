"""
Texts to vectors with a sentence-transformers model, in batches of texts of nearly the same number of tokens.

sentence-transformers is the container (modules, tokenizer, instructions); the loop is ours, so that low precision ends
where pooling begins. Shapes: N texts, W of them tokenised together, D dimensions.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from threading import Lock
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from mining import MiningError
from mining.encode_batches import Window, batches, window_of
from mining.model_facts import ModelFacts, model_digest
from mining.model_loading import loading

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer
    from torch import Tensor

EMPTY_TEXT = "Null"  # what the QZhou-Embedding report encodes for an empty string: some models have no vector for it
WINDOW = 1024  # texts that are tokenised together and then sorted by tokens
# Tokens of a batch, padding included. A CPU is as fast with 1,000 as with 3,000 (MiniLM); a GPU needs more to be busy.
TOKENS_CPU, TOKENS_GPU = 1536, 16_384


@dataclass(eq=False)
class ModelOnDemand:
    """A model that is loaded when it is first needed."""

    name: str
    path: str  # of its folder, or its name on the hub
    device: str
    precision: str
    max_length: int | None
    digest: str  # that the model must have
    _loaded: "SentenceTransformer | None" = field(default=None, repr=False)

    def get(self) -> "SentenceTransformer":
        """
        The model, ready to encode.

        Raises:
            MiningError: it cannot be loaded, or is another one than its facts were read from.
        """
        if self._loaded is None:
            model = load_model(self.name, self.path)
            if model_digest(model) != self.digest:
                raise MiningError(f"the files of {self.name} were changed while this ran: run again")
            self.keep(model)
        return cast("SentenceTransformer", self._loaded)

    def keep(self, model: "SentenceTransformer") -> None:
        """Make a model that was loaded on the CPU in fp32 ready to encode."""
        if self.max_length is not None:
            model.max_seq_length = self.max_length
        for parameter in model.parameters():
            parameter.requires_grad_(False)
        if self.precision == "bf16":
            _hold_low(next(model.children()))
        _take_turns(model)
        self._loaded = model.eval().to(self.device)


@dataclass(frozen=True)
class ModelEncoder:
    """An encoder whose weights are on this machine, and everything that determines its vectors. See `load_encoder`."""

    name: str
    facts: ModelFacts
    devices: tuple[str, ...]  # the first encodes here; with several, `encode_cached` starts a process on each
    precision: str  # fp32 or bf16: what the transformer computes in; pooling and what follows is always fp32
    max_length: int | None  # tokens, the rest of a text is not seen; None: the model knows no limit
    instruction: str  # put before every text
    query_instruction: str
    passage_instruction: str
    model: ModelOnDemand

    @property
    def fingerprint(self) -> str:
        """32 hexadecimal digits: encoders with the same fingerprint give the same vectors (up to rounding)."""
        parts = [self.facts.digest, self.precision, self.max_length, self.instruction, EMPTY_TEXT]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]

    @property
    def dimension(self) -> int:
        """D, the length of a vector."""
        return self.facts.dimension

    @property
    def description(self) -> str:
        """One line to print and to store: model, devices, precision and length."""
        import torch

        where = ", ".join(self.devices)
        if where == "cpu":
            where = f"cpu ({torch.get_num_threads()} threads)"
        length = f"{self.max_length} tokens" if self.max_length else "no length limit"
        instruction = f", instruction {self.instruction!r}" if self.instruction else ""
        return f"{self.name} on {where} in {self.precision}, {length}, {self.dimension} dimensions{instruction}"

    def for_queries(self) -> "ModelEncoder":
        """The same model with the instruction for queries: the given one, or that which it was trained to see."""
        return replace(self, instruction=self.query_instruction)

    def for_passages(self) -> "ModelEncoder":
        """The same model with the instruction for passages: the given one, or that which it was trained to see."""
        return replace(self, instruction=self.passage_instruction)

    def on(self, device: str) -> "ModelEncoder":
        """The same encoder on one device, not loaded: to be sent to a process of its own."""
        return replace(self, devices=(device,), model=replace(self.model, device=device, _loaded=None))

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """
        Encode texts, longest first, so that the texts of a batch need little padding.

        Args:
            texts: N texts; each is cut after `max_length` tokens. An empty one is encoded as `Null`; what is no
                Unicode (half of a surrogate pair) as a question mark.

        Returns:
            (N, D) float32, L2-normalised. A text's vector depends on its neighbours in the batch by rounding only.

        Raises:
            MiningError: the model cannot be loaded, or gives vectors that are not finite or have no length.
        """
        vectors_ND = np.zeros((len(texts), self.dimension), dtype=np.float32)
        for rows_W, vectors_WD in self._windows(texts):
            if vectors_WD.shape[1] != self.dimension:
                raise MiningError(
                    f"{self.name} says that its vectors have {self.dimension} dimensions and gives "
                    f"{vectors_WD.shape[1]}: correct the settings of its pooling"
                )
            vectors_ND[rows_W] = vectors_WD
        length_N = np.linalg.norm(vectors_ND, axis=1)
        bad_N = ~(np.isfinite(length_N) & (length_N > 0))
        if bad_N.any():
            raise MiningError(
                f"{self.name} gives no usable vector for {int(bad_N.sum())} of {len(texts)} texts in {self.precision} "
                f"(not finite, or of length 0), the first of them {texts[int(bad_N.argmax())][:60]!r}: use precision "
                "fp32, or another model"
            )
        return cast(NDArray[np.float32], vectors_ND / length_N[:, None])

    def _windows(self, texts: Sequence[str]) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
        """Rows and their vectors, a window at a time."""
        import torch

        from mining.threads import side_by_side

        order_N = np.argsort([-len(text) for text in texts], kind="stable")
        most_tokens = TOKENS_CPU if self.devices[0] == "cpu" else TOKENS_GPU
        ahead = self._window(texts, order_N[:WINDOW]) if texts else None
        with side_by_side(self.devices[0]) as threads:
            for start in range(0, len(order_N), WINDOW):
                window, rows_W = cast(Window, ahead), order_N[start : start + WINDOW]
                parts = threads.pool.map(self._forward, batches(window, most_tokens))
                # While these are at work: the tokens of the next window.
                if start + WINDOW < len(order_N):
                    ahead = self._window(texts, order_N[start + WINDOW : start + 2 * WINDOW])
                yield rows_W[window.order_W], torch.cat(list(parts)).cpu().numpy()

    def _window(self, texts: Sequence[str], rows_W: NDArray[np.int64]) -> Window:
        import torch

        ready = [_ready(texts[row]) for row in rows_W]
        features = self.model.get().preprocess(ready, prompt=self.instruction or None)
        return window_of(features, len(ready), torch.device(self.devices[0]))

    def _forward(self, features: dict[str, Any]) -> "Tensor":
        import torch

        transformer, *rest = self.model.get().children()
        low = torch.autocast(self.devices[0].split(":")[0], torch.bfloat16, enabled=self.precision == "bf16")
        try:
            with torch.inference_mode():
                with low:
                    features = transformer(features)
                for key, value in features.items():  # sums over hundreds of tokens lose digits in bf16
                    if isinstance(value, torch.Tensor) and value.is_floating_point():
                        features[key] = value.float()
                for module in rest:
                    features = module(features)
        except torch.OutOfMemoryError as error:
            raise MiningError(
                f"{self.devices[0]} has no memory left for {self.name}: free it, or give precision bf16 or a smaller "
                "max_length"
            ) from error
        return cast("Tensor", features["sentence_embedding"])


def _ready(text: str) -> str:
    """A text that every tokenizer takes and every model has a vector for."""
    return text.encode(errors="replace").decode() if text.strip() else EMPTY_TEXT


def _hold_low(transformer: Any) -> None:
    """
    Hold the weights of products in bf16, as autocast would make them anew for every batch; the rest stays fp32.

    Nothing else is given away: autocast computes these products, and only these, from bf16.
    """
    import torch

    for module in transformer.modules():
        if type(module) is torch.nn.Linear:  # others may do with their weights what they like
            for key, value in list(module.named_parameters(recurse=False)):
                setattr(module, key, torch.nn.Parameter(value.detach().to(torch.bfloat16), requires_grad=False))


def _take_turns(model: Any) -> None:
    """
    Let batches that run side by side enter some modules one at a time.

    Those are rotary positions whose frequencies follow the length of a batch: they keep what the last batch needed.
    """
    for module in model.modules():
        if any(kind in str(getattr(module, "rope_type", "")) for kind in ("dynamic", "longrope")):
            module.forward = partial(_in_turn, Lock(), module.forward)


def _in_turn(lock: Any, forward: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    with lock:
        return forward(*args, **kwargs)


def load_model(name: str, path: str) -> "SentenceTransformer":
    """
    Load a model on the CPU in fp32.

    Raises:
        MiningError: it is no model that can be read.
    """
    import torch
    from sentence_transformers import SentenceTransformer

    with loading(name, "an embedding model"):
        return SentenceTransformer(path, device="cpu", model_kwargs={"dtype": torch.float32})
