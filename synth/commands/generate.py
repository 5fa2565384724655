"""`synth generate`, and `synth runs retry`, which asks again for what got no reply."""

import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from shutil import get_terminal_size
from textwrap import fill
from typing import TYPE_CHECKING, Annotated

import typer

from synth.commands.figures import counted
from synth.commands.runs import RunArgument
from synth.commands.screens import MAX_SEED, JsonOption, SourceOption, WorkspaceOption, print_json
from synth.records import SkiffError, Stopped, Task, UserError
from synth.screen import progress, say

if TYPE_CHECKING:
    from synth.llm.ceilings import Ceilings
    from synth.llm.config import LLMConfig
    from synth.llm.usage import Usage
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

SAME = "the same command"


def generate(
    task: Annotated[Task, typer.Option(help="What the samples train.")] = Task.RETRIEVAL,
    operation: Annotated[str, typer.Option(help="How samples are made.")] = "query",
    source: SourceOption = None,
    limit: Annotated[int | None, typer.Option(min=1, max=10**9, help="At most so many seeds.")] = None,
    per_seed: Annotated[
        int | None, typer.Option(min=1, max=20, help="Samples (or negatives) of one seed; else as the recipe says.")
    ] = None,
    language: Annotated[str, typer.Option(help="Of what is written, as in `French`; else that of the seed.")] = "",
    max_tries: Annotated[
        int | None,
        typer.Option(
            min=1, max=100, help="Requests about a seed of which too little was accepted; else as the recipe says."
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, max=MAX_SEED, help="Of the extractive engine's choices.")] = 0,
    base_url: Annotated[str | None, typer.Option(help="OpenAI-compatible server, over synth.toml's.")] = None,
    model: Annotated[str | None, typer.Option(help="The LLM to ask, over synth.toml's.")] = None,
    max_cost: MaxCostOption = None,
    max_tokens: MaxTokensOption = None,
    max_requests: MaxRequestsOption = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show three prompts and what the run will cost; ask and write nothing.")
    ] = False,
    sample: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=1000,
            help="With --dry-run: instead of prompts, measure on so many of the seeds. They are asked about, paid and"
            " stored as by a run; the next sample is of others.",
        ),
    ] = None,
    batch: Annotated[
        bool, typer.Option("--batch", help="Through the server's Batch API: half the price, within a day.")
    ] = False,
    workspace: WorkspaceOption = Path("."),
    as_json: JsonOption = False,
) -> None:
    """
    Make samples of passages or of samples: by an LLM with a recipe (`synth recipes` lists them), or, where none is
    configured, queries of passages by the extractive engine.

    The key is read from the environment (OPENAI_API_KEY, or what api_key_env in synth.toml names). Every reply is kept
    in the workspace's journal before anything else, so the same command again asks nothing twice. Ctrl-C finishes what
    is in flight; a second one ends at once. Exit code 3: a ceiling was reached. docs/llm.md tells the rest.

    Example: synth generate --operation paraphrase --source squad-en --limit 100
    """
    from synth.llm.ceilings import Ceilings
    from synth.stages.forecast import forecast
    from synth.stages.generate_plan import Wanted, plan_generate
    from synth.workspace import Workspace

    if sample is not None and not dry_run:
        raise UserError("--sample belongs to --dry-run; to make only so many samples, use --limit")
    opened = Workspace.open(workspace)
    llm = opened.llm(base_url=base_url, model=model)
    asking = _asking(opened, llm, Ceilings(max_cost, max_tokens, max_requests), in_batches=batch)
    wanted = Wanted(task, operation, tuple(source or ()), per_seed, language, max_tries, seed, limit, opened.recipes)
    plan = plan_generate(opened.store, wanted, asking)
    if dry_run:
        _tell_forecast(opened, plan, sample, as_json=as_json)
    else:
        asks = plan.asking is not None and plan.seeds
        _carry_out(
            opened, plan, _estimated(forecast(opened.store, plan, seed=0), plan) if asks else "", as_json=as_json
        )


def _asking(
    opened: "Workspace", llm: "LLMConfig | None", ceilings: "Ceilings", *, in_batches: bool = False
) -> "Asking | None":
    from synth.llm.ceilings import Ceilings
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
        typer.Option(
            help="What to ask again: `failed` (no reply that says anything came), `cut`, `unusable` (not as asked), or"
            " `all`."
        ),
    ] = Only.FAILED,
    max_cost: MaxCostOption = None,
    max_tokens: MaxTokensOption = None,
    max_requests: MaxRequestsOption = None,
    workspace: WorkspaceOption = Path("."),
    as_json: JsonOption = False,
) -> None:
    """
    Ask again about the seeds that a run left, each under a new attempt number: for another reply than the last.
    What the run was told is told again; server, key and prices are those of synth.toml.

    Example: synth runs retry last --only failed
    """
    from synth.llm.ceilings import Ceilings
    from synth.stages.generate_plan import plan_retry
    from synth.store.run_history import find_run
    from synth.workspace import Workspace

    opened = Workspace.open(workspace)
    ceilings = Ceilings(max_cost, max_tokens, max_requests)
    asking = _asking(opened, opened.llm(base_url=None, model=None), ceilings)
    told = find_run(opened.store, run)
    plan = plan_retry(opened.store, str(told), KINDS_OF[only], asking, opened.recipes)
    # `last` will be the run that begins now
    again = f"`synth runs retry {told} --only {only} -w {workspace}`"
    seeds = f"asking again for {counted(len(plan.seeds), plan.of.kind[:-1])}"
    _carry_out(opened, plan, seeds, as_json=as_json, again=again)


def _carry_out(opened: "Workspace", plan: "Plan", note: str, *, as_json: bool, again: str = SAME) -> None:
    outcome = _run(opened, plan, note, as_json=as_json)
    if as_json:
        print_json(_as_json(outcome, plan))
    else:
        _tell(outcome, plan, opened, again)
    if outcome.exit_code:
        raise typer.Exit(outcome.exit_code)


def _run(opened: "Workspace", plan: "Plan", note: str, *, as_json: bool) -> "Generated":
    """Generate, and show how it goes, with a note above it if there is one."""
    from synth.commands.live import live
    from synth.commands.stopping import run_stoppable, stopping_line
    from synth.stages.generate import Generated, Watch, generate_samples

    outcomes: list[Generated] = []
    watch, most_seconds = Watch(ended=outcomes.append), 0.0
    try:
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
                        unpriced=_unpriced(plan.asking.llm),
                    )
                )
                watch.advance, watch.fail = shown.advance, shown.fail
                watch.note, watch.state = shown.note, shown.state
                most_seconds = plan.asking.llm.timeout_seconds
                if note:
                    watch.note(note)
            return run_stoppable(
                lambda stop: generate_samples(opened.store, plan, watch=watch, stop=stop.event),
                on_first=lambda: _say_stopping(watch, stopping_line(watch.usage().in_flight, most_seconds)),
            )
    except SkiffError as error:  # what was stored and paid before it
        if as_json:
            told = _as_json(outcomes[0], plan) if outcomes else _paid(watch.usage(), plan)
            print_json(told | {"error": str(error), "exit_code": error.exit_code})
        elif outcomes:
            _tell_outcome(outcomes[0], plan)
        raise


def _unpriced(llm: "LLMConfig") -> list[str]:
    return [f"{each.model} at {each.base_url}" for each in llm.endpoints if each.cost(0, 0) is None]


def _say_stopping(watch: "Watch", line: str) -> None:
    watch.note(line)
    watch.state("stopping")


def _tell_forecast(opened: "Workspace", plan: "Plan", sample: int | None, *, as_json: bool) -> None:
    from dataclasses import replace

    from synth.stages.forecast import forecast, passed, remaining, sampled

    if plan.asking is None:
        raise UserError(
            "without an LLM nothing is asked, and nothing costs: name base_url and model in [llm] of synth.toml, or"
            " leave --dry-run out"
        )
    before = forecast(opened.store, plan, seed=0)
    if sample is None:
        over = passed(opened.store, plan, before)
        if as_json:
            print_json(asdict(before) | {"passed": over})
        else:
            _tell_prompts(before)
            _say(_estimated(before, plan))
            _tell_passed(over)
        return
    if not as_json:
        _say(_estimated(before, plan))
    chosen = sampled(opened.store, plan, sample, seed=0)
    asked = _run(opened, replace(plan, seeds=chosen), "", as_json=as_json)
    rest = remaining(opened.store, plan, chosen)
    after = forecast(opened.store, rest, seed=0)
    over = passed(opened.store, rest, after)
    if as_json:
        told = {"before": asdict(before.estimate), "sample": _as_json(asked, plan), "passed": over}
        print_json(asdict(after) | told)
    else:
        _say(f"asked for a sample of {counted(len(chosen), plan.of.kind[:-1])}; stored {_samples(asked, plan)}")
        _tell_paid(asked.usage)
        _tell_rejections(asked, plan)
        if asked.ended:
            _say(asked.ended)
        _say(f"the rest: {_estimated(after, plan)}")
        _tell_passed(over)
    if asked.exit_code:
        raise typer.Exit(asked.exit_code)


def _tell_prompts(found: "Forecast") -> None:
    for number, messages in enumerate(found.prompts, start=1):
        for message in messages:
            say(f"=== prompt {number}, {message['role']} ===\n{message['content']}\n")


def _tell_passed(options: Sequence[str]) -> None:
    if options:
        _say(f"{' and '.join(options)} would end the run before all of it")


def _estimated(found: "Forecast", plan: "Plan") -> str:
    from synth.llm.budget import dollars
    from synth.llm.estimate import ENOUGH_TO_MEASURE

    estimate = found.estimate
    known = f" ({found.num_known:,} of the seeds are asked about already)" if found.num_known else ""
    cost = "no price stated, so tokens only"
    if estimate.cost is not None and estimate.cost_low is not None and estimate.cost_high is not None:
        cost = f"{dollars(estimate.cost)} ({dollars(estimate.cost_low)} to {dollars(estimate.cost_high)})"
    hint = f"; `--sample {ENOUGH_TO_MEASURE}` asks so many for real and measures it"
    return (
        f"about {counted(estimate.requests, 'request')}{known}, {estimate.tokens_in:,} tokens in,"
        f" {estimate.tokens_out:,} out: {cost}; {estimate.basis}{hint if estimate.is_rough and plan.can_sample else ''}"
    )


def _as_json(outcome: "Generated", plan: "Plan") -> dict[str, object]:
    failures = [
        {"kind": kind, "reason": reason, "seeds": number} for (kind, reason), number in outcome.failures.items()
    ]
    return asdict(outcome) | {"failures": failures} | _paid(outcome.usage, plan)


def _paid(usage: "Usage", plan: "Plan") -> dict[str, object]:
    """What was bought, and of whom. Nothing costs nothing where prices are stated, though no engine was opened."""
    is_priced = plan.asking is not None and not _unpriced(plan.asking.llm)
    cost = 0.0 if is_priced and not usage.requests else usage.cost
    return {
        "engine": plan.engine,
        "usage": asdict(usage) | {"cost": cost},
        "tokens_in": usage.tokens_in,
        "tokens_out": usage.tokens_out,
        "cost": cost,
    }


def _say(text: str) -> None:
    """Print a line without a command in it; a terminal gets it broken between words."""
    say(fill(text, get_terminal_size().columns, break_long_words=False) if sys.stdout.isatty() else text)


def _tell(outcome: "Generated", plan: "Plan", opened: "Workspace", again: str) -> None:
    _tell_outcome(outcome, plan)
    if outcome.failures:
        say(f"why, and how to ask again: synth runs show last -w {opened.root}")
    if outcome.ended:
        wrapped = _say if again == SAME else say
        wrapped(f"{outcome.ended}; {_left(outcome, plan, opened, again)}")
    else:
        if plan.recipe and plan.seeds:
            say(f"what was made, and what was rejected: synth report -w {opened.root}")
        follows = "mine" if plan.of.task is Task.RETRIEVAL else "review"
        say(f"next: synth {follows} -w {opened.root}")


def _tell_outcome(outcome: "Generated", plan: "Plan") -> None:
    _say(f"engine: {plan.engine}")
    if not plan.seeds:
        _say(f"every {plan.of.kind[:-1]} is done with these settings")
    _say(f"stored {_samples(outcome, plan)}; {outcome.num_known:,} {'was' if outcome.num_known == 1 else 'were'} known")
    _tell_paid(outcome.usage)
    if outcome.num_short and plan.recipe:
        _say(f"{counted(outcome.num_short, plan.of.kind[:-1])} gave fewer than {plan.per_seed}")
    _tell_rejections(outcome, plan)
    for (_, failure), number in sorted(outcome.failures.items()):
        _say(f"left {number:,}: {failure}")
    if outcome.num_passed_over:
        _say(f"of these, {outcome.num_passed_over:,} known from earlier runs, not asked again")
    if not outcome.ended:
        for endpoint, why in outcome.usage.out.items():
            is_one = plan.asking is None or len(plan.asking.llm.endpoints) == 1
            _say(f"{endpoint} was out{' for a while' if is_one else ', and its requests were asked of another'}: {why}")
    for note in outcome.notes:
        _say(note)


def _tell_rejections(outcome: "Generated", plan: "Plan") -> None:
    for reason, number in sorted(outcome.rejections.items(), key=lambda each: (-each[1], each[0])):
        _say(f"rejected {number:,}: {reason}")
    made, num_rejected = outcome.num_stored + outcome.num_negatives, sum(outcome.rejections.values())
    if plan.recipe and num_rejected > 9 * (made + outcome.num_known):
        _say("less than a tenth was accepted: `synth report` shows what was rejected and why")


def _samples(outcome: "Generated", plan: "Plan") -> str:
    made = [counted(outcome.num_stored, "sample")] if outcome.num_stored or not outcome.num_negatives else []
    made += [counted(outcome.num_negatives, "negative")] if outcome.num_negatives else []
    return f"{' and '.join(made)} from {counted(outcome.num_done, plan.of.kind[:-1])}"


def _left(outcome: "Generated", plan: "Plan", opened: "Workspace", again: str) -> str:
    """What a run that ended early did not come to, and what does."""
    left = outcome.num_seeds - outcome.num_done - sum(outcome.failures.values())
    limit = plan.config.get("limit")
    if isinstance(limit, int):  # of all that there are
        left = max(left, len(plan.of.untried(opened.store, plan.stage_key)))
    seeds = f"{counted(left, plan.of.kind[:-1])} {'is' if left == 1 else 'are'} left"
    if outcome.exit_code == Stopped.exit_code and again == SAME:  # said of every command that is stopped
        return seeds
    follows = f"{again} takes the next {limit:,}" if isinstance(limit, int) else f"{again} goes on"
    return f"{seeds}: {follows}"


def _tell_paid(usage: "Usage") -> None:
    from synth.llm.budget import dollars

    if usage.requests:
        cost = "no price stated" if usage.cost is None else dollars(usage.cost)
        _say(f"paid {usage.tokens_in:,} tokens in, {usage.tokens_out:,} out: {cost}")
    if usage.lost or usage.lost_tokens:
        cost = "" if usage.lost_cost is None else f", {dollars(usage.lost_cost)}"
        lost = f"{counted(usage.lost, 'reply was', 'replies were')} lost on the way; " if usage.lost else ""
        _say(f"{lost}at most {usage.lost_tokens:,} tokens{cost} that nobody counted may be charged too")
