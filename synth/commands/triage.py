"""`synth triage`: how suspicious the samples are goes to the store, and the most suspicious ones to the screen."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from synth.commands.figures import counted
from synth.commands.screens import JsonOption, SourceOption, WorkspaceOption, print_json, print_table
from synth.records import Task
from synth.screen import progress, say

if TYPE_CHECKING:
    from synth.stages.triage.run import TriageOutcome

PARTS = {
    "similarity": "the highest cosine of a negative and a positive",
    "reranker": "a negative's relevance above the positive's",
    "judge": "steps between a judge's worst grade and a good one",
    "flagged": "negatives that mining flagged",
    "hardness": "the nearest negative's cosine minus the positive's",
    "ranks": "ranks of score and cosine apart, as a share",
    "neighbours": "share of the ten nearest with another label",
    "digits": "rewritten texts with other numbers",
    "negation": "rewritten texts that deny, or no longer deny",
    "names": "rewritten texts with other names",
    "copy": "rewritten texts that are nearly the original",
    "language": "rewritten texts in another language",
}
MOST_TEXT = 60  # characters


def triage(
    task: Annotated[list[Task] | None, typer.Option(help="Only samples of this task; may be given repeatedly.")] = None,
    source: SourceOption = None,
    encoder: Annotated[
        str | None,
        typer.Option(
            help="Of scored pairs and labelled texts: a model or vectors, as for `synth mine`; over synth.toml's."
        ),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, or several by commas: cuda:0,cuda:1.")] = "auto",
    workspace: WorkspaceOption = Path("."),
    as_json: JsonOption = False,
) -> None:
    """
    Say how suspicious each sample to train on is, and why; the review app shows the most suspicious ones first.

    Retrieval samples by what mining, rerankers and judges found of their negatives, scored pairs by how far score and
    cosine disagree, labelled texts by the labels of their neighbours, rewrites by what they changed of their original.
    Run it again when samples, negatives or judgements came in: only what changed is stored. docs/triage.md tells all.

    Example: synth triage --task sts --task classification
    """
    from synth.stages.mine.settings import with_options
    from synth.stages.triage.run import plan_triage, triage
    from synth.workspace import Workspace

    opened = Workspace.open(workspace)
    settings = with_options(opened.config.mine, {} if encoder is None else {"encoder": encoder})
    plan = plan_triage(opened.store, settings, task or [], source or [], opened.embeddings, device=device)
    outcome = triage(opened.store, plan, steps=progress)
    print_json(asdict(outcome)) if as_json else _tell(outcome, workspace)


def _tell(outcome: "TriageOutcome", workspace: Path) -> None:
    if outcome.encoder:
        say(f"encoder: {outcome.encoder}")
    if outcome.search:
        say(f"search: {outcome.search}")
    if not outcome.num_samples:
        say("no sample to train on is there, or everything is rejected: `synth ingest` or `synth generate` brings some")
        return
    say(
        f"looked at {counted(outcome.num_samples, 'sample')}: {outcome.num_new:,} for the first time,"
        f" {outcome.num_changed:,} changed"
    )
    columns = ("task", "part", "samples", "mean", "most", "3 sd above", "what it is")
    rows = [
        (each.task, each.name, each.number, f"{each.mean:.3f}", f"{each.most:.3f}", each.num_far, PARTS[each.name])
        for each in outcome.parts
    ]
    if rows:
        print_table(columns, rows)
    if outcome.suspects:
        say("most suspicious (in standard deviations above the mean of the source):")
        print_table(("task", "source", "priority", "why", "text", "sample"), list(map(_row, outcome.suspects)))
    for note in outcome.notes:
        say(note)
    say(f"next: synth review -w {workspace}")


def _row(suspect: Any) -> tuple[Any, ...]:
    why = ", ".join(f"{part['name']} {part['value']:.2f} (+{part['score']:.1f})" for part in suspect.parts)
    text = suspect.text if len(suspect.text) <= MOST_TEXT else f"{suspect.text[: MOST_TEXT - 1]}…"
    return suspect.task, suspect.source, f"{suspect.priority:.1f}", why, " ".join(text.split()), suspect.sample_id
