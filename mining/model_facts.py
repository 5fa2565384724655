"""
What a model says of itself, kept in a small file, so that a run which finds all vectors on disk need not load it.

Kept by `mining.model_files`, under a digest of the model's own files.
"""

import hashlib
import json
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from mining.model_files import keep_facts, read_facts

if TYPE_CHECKING:
    from _hashlib import HASH

    import torch
    from sentence_transformers import SentenceTransformer


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """All that the fingerprint and the description of an encoder need to know of its model."""

    digest: str  # hash of weights, architecture, pooling and tokenizer
    dimension: int
    max_length: int | None  # tokens that the model sees unless told otherwise; None: it knows no limit
    most_tokens: int | None  # that it can be told to see
    instruction: str  # put before a text of which nobody says whether it is a query or a passage
    query_instruction: str
    passage_instruction: str


def facts_of(model: "SentenceTransformer") -> ModelFacts:
    """The facts of a model as it was loaded, in fp32 and with its own length."""
    own = model.prompts.get(model.default_prompt_name or "") or ""
    most_tokens = getattr(getattr(model.transformers_model, "config", None), "max_position_embeddings", None)
    lengths = [length for length in (model.max_seq_length, most_tokens) if length]
    return ModelFacts(
        digest=model_digest(model),
        dimension=int(model.get_embedding_dimension() or 0),
        max_length=min(lengths, default=None),  # some models state more than they have positions for
        most_tokens=most_tokens,
        instruction=own,
        query_instruction=model.prompts.get("query") or own,
        passage_instruction=model.prompts.get("document") or model.prompts.get("passage") or own,
    )


def known_facts(folder: Path, digest: str) -> ModelFacts | None:
    """What is kept in the cache's folder of the model with these files; None if nothing is, or it is damaged."""
    match read_facts(folder, digest):
        case {"seal": seal, "facts": dict(kept)}:
            with suppress(TypeError):  # of another version
                facts = ModelFacts(**kept)
                return facts if seal == _seal(facts) else None
    return None


def keep_model_facts(folder: Path, digest: str, facts: ModelFacts) -> None:
    """Keep them. Raises MiningError if the folder cannot be written."""
    keep_facts(folder, digest, {"seal": _seal(facts), "facts": asdict(facts)})


def _seal(facts: ModelFacts) -> str:
    return hashlib.sha256(json.dumps(asdict(facts)).encode()).hexdigest()


def model_digest(model: "SentenceTransformer") -> str:
    """Hash of the weights and of what turns texts into their input and their output into a vector."""
    import torch

    digest = hashlib.sha256()
    for module in model.children():
        options: dict[str, Any] = cast(Any, module).get_config_dict() if hasattr(module, "get_config_dict") else {}
        options.pop("max_seq_length", None)  # a part of the fingerprint by itself
        digest.update(json.dumps([type(module).__name__, options], sort_keys=True, default=str).encode())
    with torch.inference_mode():
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
    state.update(sides=[tokenizer.truncation_side, tokenizer.padding_side])  # which end of a long text is seen
    return json.dumps(state, sort_keys=True).encode()
