"""`synth mine` of classification and sts samples: what it did goes to the screen."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from synth.commands.screens import print_json, print_table
from synth.records import Task, UserError
from synth.screen import progress, say

if TYPE_CHECKING:
    from synth.stages.mine.boundary import BoundaryOutcome
    from synth.stages.mine.classes import ClassOutcome
    from synth.stages.mine.settings import MineSettings
    from synth.workspace import Workspace

OPTIONS = {Task.CLASSIFICATION: ("encoder", "num_negatives"), Task.STS: ("encoder",)}
STATUSES = {
    "full": "all negatives asked for",
    "short": "fewer negatives than asked for",
    "none": "no negative",
}
FLAGS = {
    "near_positive": "as near as if it were the same text (cosine)",
    "near_duplicate": "nearly all words in common with the text",
}
LEFT_OUT = {
    "several_classes": "the text carries several classes in its source: which is right?",
    "alone": "no other text of its class",
    "no_other_class": "its source has no other class",
    "held_out": "a held-out set has the text too",
}


def mine_labels(
    opened: "Workspace",
    task: Task,
    settings: "MineSettings",
    given: Sequence[str],
    names: Sequence[str],
    *,
    device: str,
    as_json: bool,
) -> None:
    """
    Mine samples of one of these tasks, and tell what was done.

    Args:
        given: the settings that were given as options.
        names: of sources.

    Raises UserError for an option that is for retrieval alone.
    """
    from synth.stages.mine.boundary import mine_boundaries, plan_boundaries
    from synth.stages.mine.classes import mine_classes, plan_classes

    for name in given:
        if name not in OPTIONS[task]:
            option = {"miners": "miner", "reranker": "rerank"}.get(name, name).replace("_", "-")
            raise UserError(f"--{option} does not go with --task {task}: leave it out")
    store, folder = opened.store, opened.embeddings
    if task is Task.CLASSIFICATION:
        of_classes = mine_classes(store, plan_classes(store, settings, names, folder, device=device), steps=progress)
        print_json(asdict(of_classes)) if as_json else _tell_classes(of_classes, opened.root)
    else:
        of_pairs = mine_boundaries(
            store, plan_boundaries(store, settings, names, folder, device=device), steps=progress
        )
        print_json(asdict(of_pairs)) if as_json else _tell_boundaries(of_pairs, opened.root)


def _tell_classes(outcome: "ClassOutcome", workspace: Path) -> None:
    say(f"encoder: {outcome.encoder}")
    say(f"search: {outcome.search}")
    say(f"stored {outcome.num_negatives} negatives for {outcome.num_samples} samples")
    for status, number in sorted(outcome.statuses.items()):
        say(f"{number} {status}: {STATUSES[status]}")
    if outcome.num_nearer_others:
        say(f"{outcome.num_nearer_others} samples are nearer to a text of another class than to any of their own")
    for flag, number in sorted(outcome.flags.items()):
        say(f"{number} negatives set aside, flagged {flag}: {FLAGS[flag]}")
    for why, number in sorted(outcome.left_out.items()):
        say(f"{number} samples not mined: {LEFT_OUT[why]}")
    for note in outcome.notes:
        say(note)
    if outcome.num_samples:
        say(f"next: synth runs show {outcome.run_id} -w {workspace}")


def _tell_boundaries(outcome: "BoundaryOutcome", workspace: Path) -> None:
    say(f"encoder: {outcome.encoder}")
    say(f"scored {outcome.num_pairs} pairs")
    if outcome.boundaries:
        columns = ("source", "pairs", "upper half from score", "boundary (cosine)", "on its wrong side")
        rows = [
            (each.source, each.num_pairs, each.least_score, f"{each.boundary:.4f}", each.num_pairs - each.num_correct)
            for each in outcome.boundaries
        ]
        print_table(columns, rows)
    for note in outcome.notes:
        say(note)
    if outcome.num_pairs:
        say(f'next: synth sql "FROM pair_boundaries ORDER BY distance LIMIT 50" -w {workspace}')
