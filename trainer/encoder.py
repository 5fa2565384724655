"""
The model as an encoder: texts to token numbers to unit vectors, with attention in both directions.

Any encoder or decoder that transformers can load serves. Weights are kept in fp32; bf16, where chosen, is the precision
of the matrix products alone; from pooling on everything is fp32 (at a temperature of 0.02 cosines in bf16 change the
gradient by a tenth). Texts are padded on the right whatever the tokenizer would do; with full attention and a mask the
side makes no difference.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional

from mining import MiningError, hardware
from mining.hardware import Hardware
from synth.records import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")


def choose_hardware(device: str, precision: str) -> Hardware:
    """
    A device and a precision of this machine: see `mining.hardware`.

    Raises:
        UserError: this machine has no such device.
    """
    try:
        return hardware.choose_hardware(device, precision)
    except MiningError as error:
        raise UserError(str(error)) from None


@dataclass(frozen=True, slots=True)
class Encoder:
    """A model with its tokenizer. Dropout is off: both passes of a training step must see the same model."""

    model: "PreTrainedModel"
    tokenizer: "PreTrainedTokenizerBase"
    hardware: Hardware
    max_tokens: int  # what the model's positions allow
    stated_tokens: int  # the length to which it was made to be used, as its files state it
    made_bidirectional: bool  # attention was causal as the model came

    def tokenise(self, texts: Sequence[str], max_tokens: Sequence[int]) -> list[list[int]]:
        """
        The token numbers of each text, special tokens included, cut to its `max_tokens` and to the model's own limit.

        Raises:
            UserError: a text has no tokens.
        """
        longest = min(max(max_tokens), self.max_tokens)
        token_ids: list[list[int]] = self.tokenizer(list(texts), truncation=True, max_length=longest)["input_ids"]
        for place, limit in enumerate(max_tokens):
            if len(token_ids[place]) > limit:
                # Cut again rather than slice: the last token may be a special one.
                token_ids[place] = self.tokenizer(texts[place], truncation=True, max_length=limit)["input_ids"]
            if not token_ids[place]:
                raise UserError(f"the tokenizer makes no token of the text {texts[place]!r}: reject its sample")
        return token_ids

    def embed(self, token_ids: Sequence[Sequence[int]]) -> Tensor:
        """Unit vectors (T, D), fp32, of T texts; differentiable where gradients are on."""
        lengths = torch.tensor([len(ids) for ids in token_ids])
        width = int(lengths.max())
        pad = self.tokenizer.pad_token_id or 0
        padded = torch.tensor([[*ids, *[pad] * (width - len(ids))] for ids in token_ids])
        mask = torch.arange(width)[None, :] < lengths[:, None]
        device = torch.device(self.hardware.device)
        padded, mask = padded.to(device), mask.to(device)
        with torch.autocast(device.type, torch.bfloat16, enabled=self.hardware.precision == "bf16"):
            hidden = _hidden(self.model, padded, mask)
        return functional.normalize(mean_pool(hidden.float(), mask), dim=-1)


def _hidden(model: "PreTrainedModel", token_ids: Tensor, mask: Tensor) -> Tensor:
    options = {"use_cache": False} if hasattr(model.config, "use_cache") else {}
    hidden: Tensor = model(input_ids=token_ids, attention_mask=mask.long(), **options).last_hidden_state
    return hidden


def mean_pool(hidden_TLD: Tensor, mask_TL: Tensor) -> Tensor:
    """The mean (T, D) of each text's real tokens. The mask is true on those, on whichever side the padding is."""
    mask_TL1 = mask_TL[:, :, None].to(hidden_TLD.dtype)
    return (hidden_TLD * mask_TL1).sum(dim=1) / mask_TL1.sum(dim=1)


def mini_batches(lengths: Sequence[int], token_budget: int) -> list[list[int]]:
    """
    Cut texts into groups of similar length: places in `lengths`, longest first, padded to `token_budget` at most.

    Sorting by length leaves little padding to compute, and changes no gradient. A text longer than the budget is a
    group of its own. The longest group comes first, so that memory that does not suffice fails at once.
    """
    groups: list[list[int]] = []
    width = 0
    for place in sorted(range(len(lengths)), key=lambda place: (-lengths[place], place)):
        if not groups or (len(groups[-1]) + 1) * width > token_budget:
            groups.append([])
            width = lengths[place]
        groups[-1].append(place)
    return groups


def load_encoder(name: str, hardware: Hardware) -> Encoder:
    """
    Load a model by folder, installed package or Hugging Face name, with fp32 weights and full attention.

    A decoder is made bidirectional by `is_causal = False` in its configuration (transformers 5.2 or later, and kept by
    everything that reads the exported model); that it worked is then measured, not assumed.

    Raises:
        UserError: no such model, a broken one, or one that cannot be made an encoder.
    """
    path = _transformer_folder(name, find_model(name))
    model, tokenizer = _load(name, path)
    model.train(False)
    torch.nn.Module.to(model, torch.device(hardware.device))
    causal = _is_causal(model)
    if causal:
        model.config.is_causal = False
        if _is_causal(model):
            raise UserError(f"{name}: {model.config.model_type} stays causal with is_causal = False: choose another")
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    limit = _position_limit(model) or tokenizer.model_max_length
    stated = min(limit, tokenizer.model_max_length, _stated_tokens(Path(path)) or limit)
    return Encoder(model, tokenizer, hardware, limit, stated, made_bidirectional=causal)


def find_model(name: str) -> str:
    """
    A folder, or a name for the Hugging Face hub, of a model named by folder, installed package or hub name.

    Raises:
        UserError: it is none of them.
    """
    from mining.model_folder import refuse_what_the_hub_cannot_give, resolve_model

    try:
        path = resolve_model(name)
        if not Path(path).is_dir() and HUB_NAME.fullmatch(path):
            refuse_what_the_hub_cannot_give(path)
    except MiningError as error:
        raise UserError(str(error)) from None
    if not Path(path).is_dir() and not HUB_NAME.fullmatch(path):
        raise UserError(
            f"no model {name}: neither a folder nor an installed package nor a Hugging Face name (org/model)"
        )
    return path


def _transformer_folder(name: str, path: str) -> str:
    """Where the transformer lies: a sentence-transformers folder may keep it in a folder of its own."""
    modules = Path(path, "modules.json")
    if not modules.exists():
        return path
    try:
        parts = [(str(part["type"]).rpartition(".")[2], str(part["path"])) for part in json.loads(modules.read_bytes())]
    except (ValueError, KeyError, TypeError):
        raise UserError(f"{modules}: cannot be read: this is no sentence-transformers model") from None
    if strange := [kind for kind, _ in parts if kind not in {"Transformer", "Pooling", "Normalize"}]:
        raise UserError(f"{name}: has a {strange[0]} layer, which is not trained here: choose a model without one")
    return str(Path(path, next((folder for kind, folder in parts if kind == "Transformer"), "")))


def _load(name: str, path: str) -> tuple["PreTrainedModel", "PreTrainedTokenizerBase"]:
    from safetensors import SafetensorError
    from transformers import AutoConfig, AutoModel, AutoTokenizer

    try:
        config = AutoConfig.from_pretrained(path)
        if config.is_encoder_decoder:
            raise UserError(f"{name}: {config.model_type} has encoder and decoder: choose a model with one")
        model, report = AutoModel.from_pretrained(
            path, config=config, dtype=torch.float32, attn_implementation="sdpa", output_loading_info=True
        )
        tokenizer = AutoTokenizer.from_pretrained(path)
    except (OSError, ValueError, SafetensorError) as error:
        first_line = str(error).strip().splitlines()[0]
        raise UserError(f"cannot load the model {name}: {first_line}") from None
    # A pooler is not used; any other weight that the file lacks would be trained from noise.
    if missing := sorted(key for key in report["missing_keys"] if "pooler" not in key):
        raise UserError(f"{name}: its file lacks {len(missing)} weights ({missing[0]}, ...): choose a complete model")
    return model, tokenizer


def _stated_tokens(folder: Path) -> int:
    """The length that the settings of an older sentence-transformers folder state, else 0."""
    path = folder / "sentence_bert_config.json"
    if not path.exists():
        return 0
    try:
        return int(json.loads(path.read_bytes()).get("max_seq_length") or 0)
    except (ValueError, AttributeError, TypeError):
        raise UserError(f"{path}: cannot be read: this is no sentence-transformers model") from None


@torch.no_grad()
def _is_causal(model: "PreTrainedModel") -> bool:
    """Whether earlier tokens keep their state, to the bit, when the last one changes."""
    token_ids = torch.tensor([[1, 2, 3, 4], [1, 2, 3, 5]], device=model.device)
    first, second = _hidden(model, token_ids, torch.ones_like(token_ids))
    return torch.equal(first[:-1], second[:-1])


def _position_limit(model: "PreTrainedModel") -> int:
    """The most tokens for which the model has positions; 0 if it names no limit."""
    config: Any = model.config
    limit = int(getattr(config, "max_position_embeddings", None) or 0)
    # The first two position embeddings of these belong to padding.
    return limit - 2 if config.model_type in {"roberta", "xlm-roberta", "camembert", "mpnet"} else limit
