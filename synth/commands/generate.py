"""`synth generate`, and `synth runs retry`, which asks again for what got no reply."""

from contextlib import ExitStack
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from synth.commands.runs import RunArgument
from synth.commands.screens import MAX_SEED, JsonOption, SourceOption, WorkspaceOption, print_json
from synth.records import Task, UserError
from synth.screen import progress, say

if TYPE_CHECKING:
    from synth.llm.budget import Ceilings
    from synth.llm.config import LLMConfig
    from synth.stages.forecast import Forecast
    from synth.stages.generate import Asking, Generated, Plan, Watch
    from synth.workspace import Workspace

MaxCostOption = Annotated[
    float | None, typer.Option(help="US dollars that this may cost in all, earlier runs of the same settings included.")
]
MaxTokensOption = Annotated[int | None, typer.Option(help="The same for tokens, sent and replied together.")]
MaxRequestsOption = Annotated[int | None, typer.Option(help="The same for requests, those asked again included.")]


class Only(StrEnum):
    """What `synth runs retry` asks again."""

    FAILED = "failed"
    CUT = "cut"
    UNUSABLE = "unusable"
    ALL = "all"


# The kinds of failure that each stands for; none: all kinds.
KINDS_OF = {
    Only.FAILED: ("too_long", "refused_content", "rejected", "broken", "timeout", "withheld", "empty"),
    Only.CUT: ("cut",),
    Only.UNUSABLE: ("unusable",),
    Only.ALL: (),
}


def generate(
    task: Annotated[Task, typer.Option(help="What the samples train.")] = Task.RETRIEVAL,
    operation: Annotated[str, typer.Option(help="How samples are made.")] = "query",
    source: SourceOption = None,
    limit: Annotated[int | None, typer.Option(min=1, max=10**9, help="At most so many seed passages.")] = None,
    num_queries: Annotated[int, typer.Option(min=1, max=20, help="Queries of one passage.")] = 4,
    seed: Annotated[int, typer.Option(min=0, max=MAX_SEED, help="Of the extractive engine's choices.")] = 0,
    base_url: Annotated[str | None, typer.Option(help="OpenAI-compatible server, over synth.toml's.")] = None,
    model: Annotated[str | None, typer.Option(help="The LLM to ask, over synth.toml's.")] = None,
    max_cost: MaxCostOption = None,
    max_tokens: MaxTokensOption = None,
    max_requests: MaxRequestsOption = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show three prompts and what the run will cost; ask nothing.")
    ] = False,
    sample: Annotated[
        int | None,
        typer.Option(min=1, max=1000, help="With --dry-run: ask for so many passages, keep the replies, and measure."),
    ] = None,
    batch: Annotated[
        bool, typer.Option("--batch", help="Through the server's Batch API: half the price, within a day.")
    ] = False,
    workspace: WorkspaceOption = Path("."),
    as_json: JsonOption = False,
) -> None:
    """
    Make samples of passages: by an LLM where one is configured, else by the extractive engine, which needs none.

    The key is read from the environment (OPENAI_API_KEY, or what api_key_env in synth.toml names). Every reply is kept
    in the workspace's journal before anything else, so the same command again asks nothing twice. Ctrl-C finishes what
    is in flight; a second one ends at once. Exit code 3: a ceiling was reached. docs/llm.md tells the rest.

    Example: synth generate --task retrieval --max-cost 5 --source handbook
    """
    from synth.llm.budget import Ceilings
    from synth.stages.generate_plan import Wanted, plan_generate
    from synth.workspace import Workspace

    if sample is not None and not dry_run:
        raise UserError("--sample belongs to --dry-run; to make only so many samples, use --limit")
    opened = Workspace.open(workspace)
    llm = opened.llm(base_url=base_url, model=model)
    asking = _asking(opened, llm, Ceilings(max_cost, max_tokens, max_requests), in_batches=batch)
    wanted = Wanted(task, operation, tuple(source or ()), num_queries, seed, limit)
    plan = plan_generate(opened.store, wanted, asking)
    if dry_run:
        _tell_forecast(opened, plan, sample, as_json=as_json)
    else:
        _carry_out(opened, plan, as_json=as_json)


def _asking(
    opened: "Workspace", llm: "LLMConfig | None", ceilings: "Ceilings", *, in_batches: bool = False
) -> "Asking | None":
    from synth.llm.budget import Ceilings
    from synth.stages.generate import Asking

    if llm is None:
        if in_batches or ceilings != Ceilings():
            raise UserError("batches and ceilings are for an LLM: name base_url and model in [llm] of synth.toml")
        return None
    return Asking(llm, opened.journal, ceilings, opened.batches, in_batches)


def retry(
    run: RunArgument = "last",
    only: Annotated[
        Only,
        typer.Option(help="What to ask again: `failed` (no reply came), `cut`, `unusable` (not as asked), or `all`."),
    ] = Only.FAILED,
    max_cost: MaxCostOption = None,
    max_tokens: MaxTokensOption = None,
    max_requests: MaxRequestsOption = None,
    workspace: WorkspaceOption = Path("."),
    as_json: JsonOption = False,
) -> None:
    """
    Ask again for the passages that a run left, each under a new attempt number: for another reply than the last.
    What the run was told is told again; server, key and prices are those of synth.toml.

    Example: synth runs retry last --only failed
    """
    from synth.llm.budget import Ceilings
    from synth.stages.generate_plan import plan_retry
    from synth.workspace import Workspace

    opened = Workspace.open(workspace)
    ceilings = Ceilings(max_cost, max_tokens, max_requests)
    asking = _asking(opened, opened.llm(base_url=None, model=None), ceilings)
    _carry_out(opened, plan_retry(opened.store, run, KINDS_OF[only], asking), as_json=as_json)


def _carry_out(opened: "Workspace", plan: "Plan", *, as_json: bool) -> None:
    outcome = _run(opened, plan, as_json=as_json)
    if as_json:
        print_json(_as_json(outcome, plan))
    else:
        _tell(outcome, plan, opened.root)
    if outcome.exit_code:
        raise typer.Exit(outcome.exit_code)


def _run(opened: "Workspace", plan: "Plan", *, as_json: bool) -> "Generated":
    from synth.commands.live import live
    from synth.commands.stopping import run_stoppable, stopping_line
    from synth.stages.forecast import forecast
    from synth.stages.generate import Watch, generate_samples

    watch, most_seconds = Watch(), 0.0
    with ExitStack() as stack:
        if plan.asking is None or not plan.seeds:
            watch.advance = stack.enter_context(progress(f"generate with {plan.engine}", len(plan.seeds)))
        else:
            shown = stack.enter_context(
                live(
                    f"generate with {plan.model}",
                    len(plan.seeds),
                    lambda: watch.usage(),
                    as_json=as_json,
                    ceilings=plan.asking.ceilings,
                    spent=lambda: watch.spent(),
                )
            )
            watch.advance, watch.note, watch.state = shown.advance, shown.note, shown.state
            most_seconds = plan.asking.llm.timeout_seconds
            watch.note(_estimated(forecast(opened.store, plan, seed=0)))
        return run_stoppable(
            lambda stop: generate_samples(opened.store, plan, watch=watch, stop=stop.event),
            on_first=lambda: _say_stopping(watch, stopping_line(watch.usage().in_flight, most_seconds)),
        )


def _say_stopping(watch: "Watch", line: str) -> None:
    watch.note(line)
    watch.state("stopping")


def _tell_forecast(opened: "Workspace", plan: "Plan", sample: int | None, *, as_json: bool) -> None:
    from dataclasses import replace

    from synth.stages.forecast import forecast, sampled

    if plan.asking is None:
        raise UserError("the extractive engine asks nothing and costs nothing: leave --dry-run out")
    asked = None
    if sample is not None:
        chosen = sampled(plan, sample, seed=0)
        asked = _run(opened, replace(plan, seeds=chosen), as_json=as_json)
        plan = replace(plan, seeds=sorted(set(plan.seeds) - set(chosen)))
    found = forecast(opened.store, plan, seed=0)
    if as_json:
        told = asdict(found) | ({} if asked is None else {"sample": _as_json(asked, plan)})
        print_json(told)
    else:
        for number, messages in enumerate(found.prompts, start=1):
            for message in messages:
                say(f"=== prompt {number}, {message['role']} ===\n{message['content']}\n")
        if asked is not None:
            _tell_paid(asked)
        say(_estimated(found))
    if asked is not None and asked.exit_code:
        raise typer.Exit(asked.exit_code)


def _estimated(found: "Forecast") -> str:
    from synth.llm.budget import dollars

    estimate = found.estimate
    known = f" ({found.num_known:,} more are known already)" if found.num_known else ""
    cost = "no price stated, so tokens only"
    if estimate.cost is not None and estimate.cost_low is not None and estimate.cost_high is not None:
        cost = f"{dollars(estimate.cost)} ({dollars(estimate.cost_low)} to {dollars(estimate.cost_high)})"
    return (
        f"about {estimate.requests:,} requests{known}, {estimate.tokens_in:,} tokens in, {estimate.tokens_out:,} out: "
        f"{cost}; {estimate.basis}"
    )


def _as_json(outcome: "Generated", plan: "Plan") -> dict[str, object]:
    usage = outcome.usage
    failures = [
        {"kind": kind, "reason": reason, "seeds": number} for (kind, reason), number in outcome.failures.items()
    ]
    paid = {"tokens_in": usage.tokens_in, "tokens_out": usage.tokens_out, "cost": usage.cost}
    return asdict(outcome) | paid | {"failures": failures, "engine": plan.engine}


def _tell(outcome: "Generated", plan: "Plan", workspace: Path) -> None:
    say(f"engine: {plan.engine}")
    if not plan.seeds:
        say("every passage is done with these settings")
    say(f"stored {outcome.num_stored} samples of {outcome.num_done} passages; {outcome.num_known} were known")
    _tell_paid(outcome)
    for reason, number in sorted(outcome.rejections.items()):
        say(f"rejected {number}: {reason}")
    for (_, failure), number in sorted(outcome.failures.items()):
        say(f"left {number}: {failure}")
    for note in outcome.notes:
        say(note)
    if outcome.failures:
        say(f"why, and how to ask again: synth runs show last -w {workspace}")
    if outcome.ended:
        left = outcome.num_seeds - outcome.num_done - sum(outcome.failures.values())
        say(f"{outcome.ended}; {left:,} passages are left: the same command goes on")
    else:
        say(f"next: synth mine -w {workspace}")


def _tell_paid(outcome: "Generated") -> None:
    from synth.llm.budget import dollars

    usage = outcome.usage
    if usage.requests:
        cost = "no price stated" if usage.cost is None else dollars(usage.cost)
        say(f"paid {usage.tokens_in:,} tokens in, {usage.tokens_out:,} out: {cost}")
    if usage.lost:
        cost = "" if usage.lost_cost is None else f", {dollars(usage.lost_cost)}"
        say(f"{usage.lost} replies were lost on the way; at most {usage.lost_tokens:,} tokens{cost} may be charged too")
