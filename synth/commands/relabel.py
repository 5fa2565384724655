"""`synth relabel`: the positive of a generated sample moves to the passage that answers its query best."""

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from synth.commands.figures import counted
from synth.commands.generate import (
    SAME,
    MaxCostOption,
    MaxRequestsOption,
    MaxTokensOption,
    _as_json,
    _asking,
    _estimated,
    _left,
    _paid,
    _say,
    _say_stopping,
    _tell_forecast,
    _tell_paid,
    _unpriced,
)
from synth.commands.screens import MAX_SEED, JsonOption, SourceOption, WorkspaceOption, print_json
from synth.records import SkiffError, UserError
from synth.screen import progress, say

if TYPE_CHECKING:
    from synth.stages.relabel import RelabelOutcome, RelabelPlan
    from synth.workspace import Workspace

OUTCOMES = {
    "stayed": "the positive is the best passage, or the best is graded lower",
    "unanswered": "no candidate answers the query, or a part of it",
    "duplicate": "another sample says already what it would say",
    "overtaken": "a person decided or edited it meanwhile",
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
    base_url: Annotated[str | None, typer.Option(help="OpenAI-compatible server, over synth.toml's.")] = None,
    model: Annotated[str | None, typer.Option(help="The LLM to ask, over synth.toml's.")] = None,
    max_cost: MaxCostOption = None,
    max_tokens: MaxTokensOption = None,
    max_requests: MaxRequestsOption = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Show three prompts and what the run will cost; ask nothing, change no sample."),
    ] = False,
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
    from synth.stages.forecast import forecast
    from synth.stages.relabel import RelabelSettings, plan_relabel, with_candidates
    from synth.workspace import Workspace

    opened = Workspace.open(workspace)
    chosen = opened.config.mine.encoder if encoder is None else encoder
    if not chosen.strip():
        raise UserError("the encoder has an empty name; name one with --encoder, or in [mine] of synth.toml")
    asking = _asking(opened, opened.llm(base_url=base_url, model=model), Ceilings(max_cost, max_tokens, max_requests))
    settings = RelabelSettings(chosen, candidates, seed, device, tuple(source or ()), limit, again)
    plan = plan_relabel(opened.store, settings, asking)
    with progress("encode", plan.num_texts) as advance:
        plan = with_candidates(plan, opened.embeddings, on_progress=advance)
    if dry_run:
        _tell_forecast(opened, plan, None, as_json=as_json)
        return
    outcome = _run(
        opened, plan, _estimated(forecast(opened.store, plan, seed=0), plan) if plan.seeds else "", as_json=as_json
    )
    if as_json:
        print_json(_as_json(outcome, plan))
    else:
        _tell(outcome, plan, opened)
    if outcome.exit_code:
        raise typer.Exit(outcome.exit_code)


def _run(opened: "Workspace", plan: "RelabelPlan", note: str, *, as_json: bool) -> "RelabelOutcome":
    """Relabel, and show how it goes, with a note above it if there is one."""
    from synth.commands.live import live
    from synth.commands.stopping import run_stoppable, stopping_line
    from synth.stages.generate import Generated, Watch
    from synth.stages.relabel import RelabelOutcome, relabel_samples

    assert plan.asking is not None
    outcomes: list[Generated] = []
    watch = Watch(ended=outcomes.append)
    llm, ceilings = plan.asking.llm, plan.asking.ceilings
    try:
        with ExitStack() as stack:
            if plan.seeds:
                shown = stack.enter_context(
                    live(
                        f"relabel with {plan.model}",
                        len(plan.seeds),
                        lambda: watch.usage(),
                        as_json=as_json,
                        ceilings=ceilings,
                        spent=lambda: watch.spent(),
                        unpriced=_unpriced(llm),
                    )
                )
                watch.advance, watch.fail = shown.advance, shown.fail
                watch.note, watch.state = shown.note, shown.state
                watch.note(note)
            return run_stoppable(
                lambda stop: relabel_samples(opened.store, plan, watch=watch, stop=stop.event),
                on_first=lambda: _say_stopping(watch, stopping_line(watch.usage().in_flight, llm.timeout_seconds)),
            )
    except SkiffError as error:  # what was stored and paid before it
        if as_json:
            told = _as_json(outcomes[0], plan) if outcomes else _paid(watch.usage(), plan)
            print_json(told | {"error": str(error), "exit_code": error.exit_code})
        elif outcomes and isinstance(outcomes[0], RelabelOutcome):
            _tell_outcome(outcomes[0], plan)
        raise


def _tell(outcome: "RelabelOutcome", plan: "RelabelPlan", opened: "Workspace") -> None:
    _tell_outcome(outcome, plan)
    if outcome.failures:
        say(f"why: synth runs show last -w {opened.root}; `--again` asks anew for what is left")
    if outcome.ended:
        _say(f"{outcome.ended}; {_left(outcome, plan, opened, SAME)}")
    else:
        say(f"next: synth mine -w {opened.root}")


def _tell_outcome(outcome: "RelabelOutcome", plan: "RelabelPlan") -> None:
    _say(f"engine: {plan.engine}")
    _say(f"encoder: {outcome.encoder}")
    _say(f"search: {outcome.search}")
    if plan.seeds:
        _say(f"positive moved in {outcome.num_stored:,} of {counted(outcome.num_done, 'sample')}")
    elif plan.how.again:
        _say("earlier runs with these settings left nothing")
    elif not plan.any_eligible:
        _say("no generated sample has a passage of its corpus as its positive")
    else:
        _say("every generated sample that may be relabelled is done with these settings")
    for name, told in OUTCOMES.items():
        if number := outcome.outcomes.get(name):
            _say(f"{number:,} {name}: {told}")
    if outcome.num_negatives:
        _say(f"stored {counted(outcome.num_negatives, 'hard negative')}")
    _tell_paid(outcome.usage)
    for (_, failure), number in sorted(outcome.failures.items()):
        _say(f"left {number:,}: {failure}")
    if outcome.num_passed_over:
        _say(f"of these, {outcome.num_passed_over:,} known from earlier runs, not asked again")
    if not outcome.ended:
        for endpoint, why in outcome.usage.out.items():
            _say(f"{endpoint} was out, and its requests were asked of another: {why}")
    for note in outcome.notes:
        _say(note)
