"""
Low-rank updates (LoRA, Hu et al., arXiv 2106.09685): small matrices beside a model's linear layers, which alone are
trained. What is exported is an ordinary model with the updates added to its weights. Needs peft (an extra).
"""

import warnings
from importlib.util import find_spec
from typing import TYPE_CHECKING

from synth.records import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

ALPHA = 2  # what an update counts, by its rank


def add_updates(model: "PreTrainedModel", rank: int) -> None:
    """Freeze the model's weights and give every linear layer an update of this rank. Raises UserError without peft."""
    if find_spec("peft") is None:
        raise UserError("lora_rank needs peft; run: pip install 'skiff-embeddings[lora]', or set lora_rank = 0")
    from peft import LoraConfig, get_peft_model

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # peft asks transformers for what it calls otherwise by now
        updates = LoraConfig(r=rank, lora_alpha=ALPHA * rank, lora_dropout=0.0, target_modules="all-linear")
        get_peft_model(model, updates)


def merge_updates(model: "PreTrainedModel") -> None:
    """Add the updates to the weights they stand beside, and leave the plain layers."""
    from peft.tuners.lora import LoraLayer

    for name, layer in list(model.named_modules()):
        if isinstance(layer, LoraLayer):
            layer.merge()
            home, _, own = name.rpartition(".")
            setattr(model.get_submodule(home), own, layer.get_base_layer())
    if hasattr(model, "peft_config"):
        del model.peft_config
    model._hf_peft_config_loaded = False
