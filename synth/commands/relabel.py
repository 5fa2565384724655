"""`synth relabel`: the positive of a generated sample moves to the passage that answers its query best."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from synth.commands.asking import (
    BaseUrlOption,
    DryRunOption,
    Job,
    MaxCostOption,
    MaxRequestsOption,
    MaxTokensOption,
    ModelOption,
    asking_of,
    leave,
)
from synth.commands.figures import counted
from synth.commands.screens import MAX_SEED, JsonOption, SourceOption, WorkspaceOption
from synth.records import UserError
from synth.screen import progress, say

if TYPE_CHECKING:
    from synth.stages.relabel.plan import RelabelPlan
    from synth.stages.relabel.run import RelabelOutcome
    from synth.workspace import Workspace

OUTCOMES = {
    "stayed": "the positive is the best passage, or the best is graded lower",
    "unanswered": "no candidate answers the query, or a part of it",
    "duplicate": "another sample says already what it would say",
    "overtaken": "a person decided or edited it meanwhile, or a reviewer has it before them; the next run takes up what"
    " is undecided",
}


def relabel(
    source: SourceOption = None,
    limit: Annotated[int | None, typer.Option(min=1, max=10**9, help="At most so many samples.")] = None,
    candidates: Annotated[
        int, typer.Option(min=2, max=26, help="Passages that the LLM compares, the sample's positives among them.")
    ] = 20,
    encoder: Annotated[
        str | None, typer.Option(help="sentence-transformers model (folder, hub name, package), over synth.toml's.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, max=MAX_SEED, help="Of the order that candidates are shown in.")] = 0,
    again: Annotated[
        bool, typer.Option("--again", help="Ask anew for the samples of which no usable reply came, and no others.")
    ] = False,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    base_url: BaseUrlOption = None,
    model: ModelOption = None,
    max_cost: MaxCostOption = None,
    max_tokens: MaxTokensOption = None,
    max_requests: MaxRequestsOption = None,
    dry_run: DryRunOption = False,
    workspace: WorkspaceOption = Path("."),
    as_json: JsonOption = False,
) -> None:
    """
    Move the positive of generated queries to the passage of the corpus that answers them best (Gecko, arXiv
    2403.20327).

    The encoder finds candidates, an LLM ranks and grades them, and both rankings are fused. What moved is a new
    revision that waits for review; samples that a person decided or edited are left alone. Money, Ctrl-C and journal
    as in `synth generate`: the same command again asks nothing twice. docs/relabel.md tells the rest.

    Example: synth relabel --source handbook --limit 100 --max-cost 1
    """
    from synth.llm.ceilings import Ceilings
    from synth.stages.relabel.plan import RelabelSettings, plan_relabel, with_candidates
    from synth.workspace import Workspace

    opened = Workspace.open(workspace)
    chosen = opened.config.mine.encoder if encoder is None else encoder
    if not chosen.strip():
        raise UserError("the encoder has an empty name; name one with --encoder, or in [mine] of synth.toml")
    llm = opened.llm(base_url=base_url, model=model)
    asking = asking_of(opened, llm, Ceilings(max_cost, max_tokens, max_requests))
    settings = RelabelSettings(chosen, candidates, seed, device, tuple(source or ()), limit, again)
    plan = plan_relabel(opened.store, settings, asking, opened.embeddings)
    with progress("encode", plan.num_texts) as advance:
        plan = with_candidates(plan, opened.embeddings, on_progress=advance)
    job = _job(opened, plan, as_json=as_json)
    if dry_run:
        job.tell_forecast()
        return
    outcome = job.carry_out()
    if not as_json:
        if outcome.failures:
            say(f"why: synth runs show last -w {opened.root}; `--again` asks anew for what is left")
        if outcome.ended:
            job.tell_ended(outcome)
        else:
            say(f"next: synth mine -w {opened.root}")
    leave(outcome)


def _job(opened: "Workspace", plan: "RelabelPlan", *, as_json: bool) -> "Job[RelabelPlan, RelabelOutcome]":
    from synth.stages.generate.forecast import forecast
    from synth.stages.relabel.run import relabel_samples

    def told() -> dict[str, object]:
        return {"encoder": plan.device, "search": plan.search}

    return Job("relabel", opened, plan, relabel_samples, forecast, _made, told, as_json=as_json)


def _made(outcome: "RelabelOutcome", plan: "RelabelPlan") -> Iterator[str]:
    yield f"encoder: {plan.device}"
    yield f"search: {plan.search}"
    if plan.seeds:
        yield f"positive moved in {outcome.num_moved:,} of {counted(outcome.num_done, 'sample')}"
    elif plan.how.again:
        yield "earlier runs with these settings left nothing"
    elif not plan.any_eligible:
        yield "no generated sample has a passage of its corpus as its positive"
    else:
        yield "every generated sample that may be relabelled is done with these settings"
    for name, why in OUTCOMES.items():
        if number := outcome.outcomes.get(name):
            yield f"{number:,} {name}: {why}"
    if outcome.num_negatives:
        yield f"stored {counted(outcome.num_negatives, 'hard negative')}"
