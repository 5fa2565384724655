"""
The model as an encoder: texts to token numbers to unit vectors, with attention in both directions.

Any encoder or decoder that transformers can load serves. Weights are kept in fp32; bf16, where chosen, is the precision
of the matrix products alone; from pooling on everything is fp32 (at a temperature of 0.02 cosines in bf16 change the
gradient by a tenth). Texts go end to end, without padding (trainer/packing.py); a model that cannot be given them so is
given texts of similar length, padded on the right.
"""

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from huggingface_hub.errors import StrictDataclassError
from torch import Tensor
from torch.nn import functional

from mining import MiningError, hardware
from mining.encode_model import EMPTY_TEXT
from mining.hardware import Hardware
from synth.records import UserError
from trainer.lora import add_updates
from trainer.packing import ATTENTION, Pack, register

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

# The first two position embeddings of these belong to padding.
POSITIONS_AFTER_PADDING = frozenset({"roberta", "xlm-roberta", "camembert", "mpnet"})
# What transformers raises of a folder whose files are broken, or do not belong together.
BROKEN = (
    *(OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError),
    *(ZeroDivisionError, AssertionError, StrictDataclassError),
)
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


Pooling = Literal["mean", "last"]  # of the states of a text's tokens: their mean, or the last one


@dataclass(frozen=True, slots=True)
class Encoder:
    """A model with its tokenizer. Dropout is off: both passes of a training step must see the same model."""

    model: "PreTrainedModel"
    tokenizer: "PreTrainedTokenizerBase"
    hardware: Hardware
    max_tokens: int  # what the model's positions allow
    stated_tokens: int  # the length to which it was made to be used, as its files state it
    made_bidirectional: bool  # attention was causal as the model came
    packed_tokens: int  # texts of no more tokens may go end to end; 0 if the model cannot be given them so
    pooling: Pooling = "mean"
    is_sharded: bool = False  # other processes hold parts of it: trainer/sharding.py

    @property
    def num_dimensions(self) -> int:
        """D of its vectors."""
        return int(self.model.config.hidden_size)

    def tokenise(self, texts: Sequence[str], max_tokens: Sequence[int]) -> list[list[int]]:
        """
        The token numbers of each text, special tokens included, cut to its `max_tokens` and to the model's own limit.

        Raises:
            UserError: a text has no tokens.
        """
        if not texts:
            return []
        texts = [text if text.strip() else EMPTY_TEXT for text in texts]
        longest = min(max(max_tokens), self.max_tokens)
        token_ids: list[list[int]] = self.tokenizer(list(texts), truncation=True, max_length=longest)["input_ids"]
        for place, limit in enumerate(max_tokens):
            if len(token_ids[place]) > limit:
                # Cut again rather than slice: the last token may be a special one.
                token_ids[place] = self.tokenizer(texts[place], truncation=True, max_length=limit)["input_ids"]
            if not token_ids[place]:
                raise UserError(f"the tokenizer makes no token of the text {texts[place]!r}: reject its sample")
        return token_ids

    def num_longer(self, texts: Sequence[str], lengths: Sequence[int]) -> int:
        """How many of the texts have more tokens than their length: what was cut of them is read by nobody."""
        if not texts:
            return 0
        whole = self.tokenizer(list(texts), verbose=False)["input_ids"]
        return sum(len(ids) > length for ids, length in zip(whole, lengths, strict=True))

    def embed(self, token_ids: Sequence[Sequence[int]]) -> Tensor:
        """
        Unit vectors (S, D), fp32, of S texts; differentiable where gradients are on.

        Texts of similar length should be neighbours: `mini_batches` puts them so. Of no texts a model that others hold
        parts of embeds one nevertheless, as often as they.
        """
        if not token_ids:
            return self.embed([[0]])[:0]
        device = torch.device(self.hardware.device)
        longest = max(map(len, token_ids))
        with torch.autocast(device.type, torch.bfloat16, enabled=self.hardware.precision == "bf16"):
            if longest <= self.packed_tokens:
                pack = Pack(token_ids, device)
                hidden_TD, length_S = _packed_hidden(self.model, pack), pack.length_S.to(device)
            else:
                padded, mask = pad(token_ids, self.tokenizer.pad_token_id or 0, device)
                hidden_TD, length_S = _hidden(self.model, padded, mask)[mask], mask.sum(dim=1)
        return functional.normalize(pool(hidden_TD.float(), length_S, self.pooling), dim=-1)


def pad(token_ids: Sequence[Sequence[int]], pad_id: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Token numbers (S, L) of texts padded on the right to the longest, and which of them are tokens."""
    lengths = torch.tensor([len(ids) for ids in token_ids])
    width = int(lengths.max())
    padded = torch.tensor([[*ids, *[pad_id] * (width - len(ids))] for ids in token_ids])
    return padded.to(device), (torch.arange(width)[None, :] < lengths[:, None]).to(device)


def _hidden(model: "PreTrainedModel", token_ids: Tensor, mask: Tensor) -> Tensor:
    hidden: Tensor = model(input_ids=token_ids, attention_mask=mask.long(), **_options(model)).last_hidden_state
    return hidden


def _packed_hidden(model: "PreTrainedModel", pack: Pack) -> Tensor:
    """The states (T, D) of a row's tokens."""
    with _attention(model, ATTENTION):
        places = pack.position_ids_1T + _first_position(model)
        states: Tensor = model(
            input_ids=pack.token_ids_1T, position_ids=places, pack=pack, **_options(model)
        ).last_hidden_state
    return states[0]


def _options(model: "PreTrainedModel") -> dict[str, bool]:
    return {"use_cache": False} if hasattr(model.config, "use_cache") else {}


@contextmanager
def _attention(model: "PreTrainedModel", name: str) -> Iterator[None]:
    """The model with another attention for a while. What is exported states none."""
    usual = model.config._attn_implementation
    model.config._attn_implementation = name
    try:
        yield
    finally:
        model.config._attn_implementation = usual


def pool(hidden_TD: Tensor, length_S: Tensor, pooling: Pooling) -> Tensor:
    """One vector (S, D) for each of S texts, whose T tokens lie end to end."""
    if pooling == "last":
        return hidden_TD[length_S.cumsum(0) - 1]
    return torch.segment_reduce(hidden_TD, "mean", lengths=length_S, axis=0)


def mini_batches(lengths: Sequence[int], token_budget: int, packed_tokens: int = 0) -> list[list[int]]:
    """
    Cut texts into groups of similar length: places in `lengths`, longest first, of `token_budget` tokens at most.

    Padding counts where there will be any: in groups whose longest text has more than `packed_tokens`. Sorting by
    length changes no gradient. A text longer than the budget is a group of its own. The longest group comes first, so
    that memory that does not suffice fails at once.
    """
    groups: list[list[int]] = []
    width = tokens = 0
    for place in sorted(range(len(lengths)), key=lambda place: (-lengths[place], place)):
        more = lengths[place] if width <= packed_tokens else width
        if not groups or tokens + more > token_budget:
            groups.append([])
            width, tokens, more = lengths[place], 0, lengths[place]
        groups[-1].append(place)
        tokens += more
    return groups


def load_encoder(
    name: str, hardware: Hardware, *, bidirectional: bool = True, pooling: Pooling = "mean", lora: int = 0
) -> Encoder:
    """
    Load a model by folder, installed package or Hugging Face name, with fp32 weights and (`bidirectional`) full
    attention; with `lora` above 0 low-rank updates alone are trained.

    A decoder is made bidirectional by `is_causal = False` in its configuration (transformers 5.2 or later, and kept by
    everything that reads the exported model); that it worked is then measured, not assumed.

    Raises:
        UserError: no such model, a broken one, or one that cannot be made an encoder.
    """
    path = transformer_folder(name, find_model(name))
    model, tokenizer = _load(name, path)
    model.train(False)
    torch.nn.Module.to(model, torch.device(hardware.device))
    causal = _is_causal(model)
    if causal and bidirectional:
        model.config.is_causal = False
        if _is_causal(model):
            raise UserError(f"{name}: {model.config.model_type} stays causal with is_causal = False: choose another")
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    limit = position_limit(model.config) or tokenizer.model_max_length
    if limit < 1:
        raise UserError(f"{name}: has {limit} positions for tokens: its config.json is broken")
    stated = min(limit, tokenizer.model_max_length, _stated_tokens(Path(path)) or limit)
    packed = packed_tokens(model, limit)
    for key, weight in model.named_parameters():
        weight.requires_grad_("pooler" not in key)  # which no vector here goes through
    if lora:
        add_updates(model, lora)
    return Encoder(
        model, tokenizer, hardware, limit, stated,
        made_bidirectional=causal and bidirectional, packed_tokens=packed, pooling=pooling,
    )  # fmt: skip


def find_model(name: str) -> str:
    """
    A folder, or a name for the Hugging Face hub, of a model named by folder, installed package or hub name.

    Raises:
        UserError: it is none of them.
    """
    from mining.model_folder import refuse_what_the_hub_cannot_give, resolve_model

    if not name.strip():
        raise UserError("the model has no name: give a folder, an installed package or a Hugging Face name (org/model)")
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


def transformer_folder(name: str, path: str) -> str:
    """
    Where the transformer of a model that `find_model` found lies: a sentence-transformers folder may keep it in a
    folder of its own.

    Raises:
        UserError: the folder cannot be read, or has layers that are not trained here.
    """
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
    except (*BROKEN, SafetensorError) as error:
        raise UserError(f"cannot load the model {name}: {reason_of(error)}") from None
    refuse_no_tokenizer(tokenizer, name)
    if max(tokenizer.get_vocab().values()) >= model.get_input_embeddings().num_embeddings:
        raise UserError(
            f"{name}: its tokenizer has more tokens than its embeddings: choose a model whose files belong together"
        )
    # A pooler is not used; any other weight that the file lacks would be trained from noise.
    if missing := sorted(key for key in report["missing_keys"] if "pooler" not in key):
        raise UserError(f"{name}: its file lacks {len(missing)} weights ({missing[0]}, ...): choose a complete model")
    return model, tokenizer


def reason_of(error: Exception) -> str:
    """What an error says, in one line; its kind, if it says nothing."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def refuse_no_tokenizer(tokenizer: "PreTrainedTokenizerBase", name: str) -> None:
    """Raises UserError if a tokenizer knows nothing but special tokens: what is made where its files are not there."""
    if len(tokenizer.get_vocab()) <= len(tokenizer.all_special_tokens):
        raise UserError(f"{name}: has no tokenizer: put its files beside the model's, or choose another model")


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


@torch.no_grad()
def packed_tokens(model: "PreTrainedModel", limit: int) -> int:
    """Up to how many tokens texts may go end to end: as many as `limit`, if each then has the states it has alone."""
    register()
    texts = [[11, 12, 13, 14, 15], [16, 17, 18], [19, 12, 11], [15]]  # no padding, which some give a place of its own
    pack = Pack(texts, model.device)
    try:
        together = _packed_hidden(model, pack)
    except (TypeError, ValueError):  # its attention is one of its own, or wants more than texts
        return 0
    each = [torch.tensor([ids], device=model.device) for ids in texts]
    alone = torch.cat([_hidden(model, ids, torch.ones_like(ids))[0] for ids in each])
    if not torch.allclose(together, alone, rtol=1e-3, atol=1e-4):
        return 0
    return limit if pack.narrowest is None else min(limit, pack.narrowest // 2)


def _first_position(model: "PreTrainedModel") -> int:
    """The position of a text's first token; of some models padding has the ones before it."""
    return int(model.config.pad_token_id) + 1 if model.config.model_type in POSITIONS_AFTER_PADDING else 0


def position_limit(config: Any) -> int:
    """The most tokens for which a model of this configuration has positions; 0 if it names no limit."""
    limit = int(getattr(config, "max_position_embeddings", None) or 0)
    return limit - 2 if config.model_type in POSITIONS_AFTER_PADDING else limit
