"""Where the mined negatives of a release come from: the minings that it lists, and what is said of them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from synth.records import Task
from synth.stages.mine.settings import not_default
from synth.store import selection
from synth.store.release_mining import Mining

# The encoder has a column of its own; where a server stood and whose key it took is nobody's but the owner's.
UNTOLD = {"encoder", "base_url", "api_key_env", "task"}


def listed_minings(work: Path) -> list[dict[str, Any]]:
    """
    The minings that the mined negatives of the release chosen in `work` are of: `runs`, `task`, `encoder`, `settings`
    (those that are not the default), `num_samples`, `num_negatives`.
    """
    return [
        {**{key: row[key] for key in ("runs", "task", "encoder")}, "settings": _settings(row["config"])}
        | {key: row[key] for key in ("num_samples", "num_negatives")}
        for row in selection.chosen_minings(work)
    ]


def _settings(config: Mapping[str, Any]) -> dict[str, Any]:
    told = not_default(config)
    return {name: value for name, value in told.items() if name not in UNTOLD and value is not None}


def mining_notes(minings: Sequence[Mapping[str, Any]], named: Mining | None, counts: Mapping[str, int]) -> list[str]:
    """What whoever makes the release should know of its minings, a line each. `named` is the one of its policy."""
    notes = []
    num_minings = sum(row["task"] == Task.RETRIEVAL for row in minings)
    if num_minings > 1:
        notes.append(
            f"the mined negatives of retrieval samples are of {num_minings} minings, of each sample those of the"
            " latest: for those of one alone, name it with --mining RUN; `synth runs --kind mine` lists the runs"
        )
    if named is not None and (num_samples := counts["samples_not_mined"]):
        notes.append(
            f"{num_samples} of {counts[named.task]} {named.task} samples have no mined negatives, for the mining of run"
            f" {named.run_id} did not mine them: run `synth mine` with its settings, or leave --mining out"
        )
    return notes
