"""The stated policy of a release: what goes in and what is left out. The release keeps every value of it."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from synth.records import UserError
from synth.settings import read_toml, record_of

MOST_NEGATIVES = 1000


@dataclass(frozen=True, slots=True)
class ReleasePolicy:
    """
    Which approved samples are released, with which of their negatives. docs/release-format.md describes every key.

    Raises UserError for a value out of its range.
    """

    where: str = ""  # a condition in SQL over the view `samples`; "" takes all
    verdicts: Literal["any", "person", "policy"] = "any"  # whose word decided: a person's, else a policy's
    min_reviewers: int = 0  # people who have a last word on the latest revision
    min_agreement: float = 0.0  # share of these who approve; of a sample that no person judged nothing is asked
    judged: str = ""  # leave out what this judge would, or "any", or "all" of them, and what none of these has graded
    exclude_sources: tuple[str, ...] = ()  # names of sources of which nothing goes in
    contamination: bool = True  # leave out what repeats an evaluation set
    near_duplicates: bool = True  # of samples that say nearly the same keep one
    max_negatives: int = 4  # of each sample
    min_negatives: int = 0  # of each retrieval sample
    generated_share: float = 0.30  # at most this share of a sample's negatives was written by an LLM, never all
    flagged_negatives: Literal["keep", "leave_out"] = "keep"  # those of retrieval samples that mining flagged
    mining: str = ""  # the run of `synth mine` whose mining gives the mined negatives; "" each sample's latest
    seed: int = 0  # of the draw among generated negatives, and of the search for near-duplicates

    def __post_init__(self) -> None:
        for name, most in (("min_reviewers", 10**6), ("max_negatives", MOST_NEGATIVES), ("seed", 2**63 - 1)):
            if not 0 <= getattr(self, name) <= most:
                raise UserError(f"the release policy's {name} is {getattr(self, name)}; it must be from 0 to {most}")
        for name in ("min_agreement", "generated_share"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise UserError(f"the release policy's {name} is {getattr(self, name):g}; it must be from 0 to 1")
        if not 0 <= self.min_negatives <= self.max_negatives:
            raise UserError(
                f"the release policy asks for {self.min_negatives} negatives of each sample, and for at most "
                f"{self.max_negatives}; min_negatives must be from 0 to max_negatives"
            )
        if not all(isinstance(name, str) for name in self.exclude_sources):
            raise UserError("the release policy's exclude_sources must be a list of sources' names")


def read_policy(path: Path | None, **changes: Any) -> ReleasePolicy:
    """
    The policy of a TOML file (None: the defaults) with the changes that are not None laid over it.

    Raises UserError if the file is missing or broken, or a value is unknown, of the wrong type or out of its range.
    """
    table = read_toml(path) if path else {}
    sources = table.get("exclude_sources", [])
    if not isinstance(sources, list):
        raise UserError(f"{path}: exclude_sources must be a list of sources' names")
    policy = record_of(ReleasePolicy, table | {"exclude_sources": tuple(sources)}, str(path or "the release policy"))
    return dataclasses.replace(policy, **{key: value for key, value in changes.items() if value is not None})
