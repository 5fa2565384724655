"""`synth generate`, and `synth runs retry`, which asks again for what got no reply."""

from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from synth.commands.asking import (
    BaseUrlOption,
    BatchOption,
    DryRunOption,
    Job,
    MaxCostOption,
    MaxRequestsOption,
    MaxTokensOption,
    ModelOption,
    SampleOption,
    asking_of,
    leave,
)
from synth.commands.figures import counted
from synth.commands.outcomes import SAME
from synth.commands.runs import RunArgument
from synth.commands.screens import MAX_SEED, JsonOption, SourceOption, WorkspaceOption
from synth.records import Task, UserError
from synth.screen import say, warn

if TYPE_CHECKING:
    from synth.stages.generate.plan import GeneratePlan
    from synth.stages.generate.run import Generated
    from synth.workspace import Workspace


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
    limit: Annotated[int | None, typer.Option(min=1, max=10**9, help="At most so many seeds.")] = None,
    where: Annotated[
        str | None, typer.Option(help="Of recipes that start from samples: a condition in SQL over the view samples.")
    ] = None,
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
    base_url: BaseUrlOption = None,
    model: ModelOption = None,
    max_cost: MaxCostOption = None,
    max_tokens: MaxTokensOption = None,
    max_requests: MaxRequestsOption = None,
    dry_run: DryRunOption = False,
    sample: SampleOption = None,
    batch: BatchOption = False,
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
    from synth.languages import untold
    from synth.llm.ceilings import Ceilings
    from synth.stages.generate.plan import Wanted, plan_generate
    from synth.workspace import Workspace

    if sample is not None and not dry_run:
        raise UserError("--sample belongs to --dry-run; to make only so many samples, use --limit")
    opened = Workspace.open(workspace)
    llm = opened.llm(base_url=base_url, model=model)
    asking = asking_of(opened, llm, Ceilings(max_cost, max_tokens, max_requests), in_batches=batch)
    names = tuple(source or ())
    wanted = Wanted(task, operation, names, per_seed, language, max_tries, seed, limit, where, opened.recipes)
    job = _job(opened, plan_generate(opened.store, wanted, asking), as_json=as_json)
    if note := untold(language):
        warn(note)
    if not dry_run:
        _carry_out(job)
        return
    job.tell_forecast(sample)
    if not (sample or as_json) and job.plan.recipe and job.plan.recipe.first:
        say(f"a second request follows each of these; to see both: synth recipes show {operation} -w {opened.root}")


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
    from synth.stages.generate.plan import plan_retry
    from synth.store.run_history import find_run
    from synth.workspace import Workspace

    opened = Workspace.open(workspace)
    ceilings = Ceilings(max_cost, max_tokens, max_requests)
    asking = asking_of(opened, opened.llm(base_url=None, model=None), ceilings)
    told = find_run(opened.store, run)
    plan = plan_retry(opened.store, str(told), KINDS_OF[only], asking, opened.recipes)
    # `last` will be the run that begins now
    again = f"`synth runs retry {told} --only {only} -w {workspace}`"
    note = f"asking again for {counted(len(plan.seeds), plan.of.kind[:-1])}"
    _carry_out(_job(opened, plan, as_json=as_json, again=again), note)


def _job(
    opened: "Workspace", plan: "GeneratePlan", *, as_json: bool, again: str = SAME
) -> "Job[GeneratePlan, Generated]":
    from synth.stages.generate.forecast import forecast
    from synth.stages.generate.run import generate_samples

    return Job(
        "generate", opened, plan, generate_samples, forecast, _made, can_sample=True, again=again, as_json=as_json
    )


def _carry_out(job: "Job[GeneratePlan, Generated]", note: str = "") -> None:
    outcome, plan, root = job.carry_out(note), job.plan, job.opened.root
    if not job.as_json:
        if outcome.failures:
            say(f"why, and how to ask again: synth runs show last -w {root}")
        if outcome.ended:
            job.tell_ended(outcome)
        else:
            if plan.recipe and plan.seeds:
                say(f"what was made, and what was rejected: synth report -w {root}")
            say(f"next: synth {'mine' if plan.task is Task.RETRIEVAL else 'review'} -w {root}")
    leave(outcome)


def _made(outcome: "Generated", plan: "GeneratePlan") -> Iterator[str]:
    if not plan.seeds:
        yield f"every {plan.of.kind[:-1]} is done with these settings"
    is_of_negatives = plan.recipe is not None and plan.recipe.makes == "negatives"
    made = [] if is_of_negatives and not outcome.num_stored else [counted(outcome.num_stored, "sample")]
    made += [counted(outcome.num_negatives, "negative")] if outcome.num_negatives or is_of_negatives else []
    done = f"stored {' and '.join(made)} from {counted(outcome.num_done, plan.of.kind[:-1])}"
    yield f"{done}; {outcome.num_known:,} {'was' if outcome.num_known == 1 else 'were'} known"
    if outcome.num_short and plan.recipe:
        yield f"{counted(outcome.num_short, plan.of.kind[:-1])} gave fewer than {plan.per_seed}"
    for reason, number in sorted(outcome.rejections.items(), key=lambda each: (-each[1], each[0])):
        yield f"rejected {number:,}: {reason}"
    num_accepted, num_rejected = outcome.num_stored + outcome.num_negatives, sum(outcome.rejections.values())
    if plan.recipe and num_rejected > 9 * (num_accepted + outcome.num_known):
        yield "less than a tenth was accepted: `synth report` shows what was rejected and why"
