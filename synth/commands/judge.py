"""`synth judge`: grades of passages by an LLM or a cross-encoder."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
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
    asking_at,
    leave,
)
from synth.commands.figures import counted
from synth.commands.screens import MAX_SEED, JsonOption, SourceOption, WorkspaceOption, print_json, print_table
from synth.records import UserError
from synth.screen import progress, say

if TYPE_CHECKING:
    from synth.stages.judge.encoder import EncoderPlan
    from synth.stages.judge.plan import JudgePlan
    from synth.stages.judge.run import Judged
    from synth.store.judgements import Scope
    from synth.workspace import Workspace

TOPIC, PART, FULL = 0.1, 0.5, 0.9
SUGGESTED = {  # of each kind of suggestion, why
    "drop_sample": "a positive does not answer",
    "promote": "a negative answers, and no less well than the positive",
    "drop_negative": "a negative answers in part, or less well than the positive",
    "not_worse": "an LLM's negative answers no less well than the positive",
}


def judge(
    context: typer.Context,
    source: SourceOption = None,
    limit: Annotated[int | None, typer.Option(min=1, max=10**9, help="At most so many samples.")] = None,
    suggested: Annotated[
        bool, typer.Option("--suggested", help="Only samples that another judge has a suggestion about.")
    ] = False,
    flagged: Annotated[
        bool, typer.Option("--flagged", help="Only samples with a negative that mining flagged.")
    ] = False,
    reviewed: Annotated[
        bool,
        typer.Option("--reviewed", help="Only what people decided, rejected and dropped ones too, for --agreement."),
    ] = False,
    encoder: Annotated[
        str | None, typer.Option(help="Judge by this cross-encoder (folder, hub name, package), not by an LLM.")
    ] = None,
    topic: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="With --encoder: the least relevance of grade 1, on the topic.")
    ] = TOPIC,
    part: Annotated[float, typer.Option(min=0.0, max=1.0, help="With --encoder: of grade 2, answers in part.")] = PART,
    full: Annotated[float, typer.Option(min=0.0, max=1.0, help="With --encoder: of grade 3, answers in full.")] = FULL,
    device: Annotated[str, typer.Option(help="With --encoder: auto, cpu or cuda.")] = "auto",
    seed: Annotated[int, typer.Option(min=0, max=MAX_SEED, help="Shuffles the passages that an LLM is shown.")] = 0,
    base_url: BaseUrlOption = None,
    model: ModelOption = None,
    temperature: Annotated[
        float, typer.Option(min=0.0, max=2.0, help="Of the LLM; synth.toml's does not count here.")
    ] = 0.0,
    max_cost: MaxCostOption = None,
    max_tokens: MaxTokensOption = None,
    max_requests: MaxRequestsOption = None,
    again: Annotated[
        bool, typer.Option("--again", help="Ask once more for what got no usable reply from the LLM, and nothing else.")
    ] = False,
    dry_run: DryRunOption = False,
    sample: SampleOption = None,
    batch: BatchOption = False,
    agreement: Annotated[
        bool,
        typer.Option(
            "--agreement",
            help="Judge nothing; tell how far the judges so far agree with people and each other. No other option but"
            " --workspace and --json goes with it.",
        ),
    ] = False,
    workspace: WorkspaceOption = Path("."),
    as_json: JsonOption = False,
) -> None:
    """
    Grade every positive and negative of retrieval samples from 0 (unrelated) to 3 (answers the query in full): by the
    LLM, which is not told which is which, or with --encoder by a cross-encoder on this machine.

    Nothing is changed by that: what follows are suggestions (synth sql "FROM suggestions WHERE NOT is_overruled").
    Reviewers see them, and releases may require them (synth release create --judged). Each judge's word stands beside
    the others'; --agreement tells whether one can be trusted. What a judge has graded it is not asked again.
    docs/judge.md tells the rest.

    Example: synth judge --source squad-en --limit 200 --max-cost 0.50
    """
    from synth.workspace import Workspace

    if agreement:
        _refuse_others(context)
    opened = Workspace.open(workspace)
    if agreement:
        from synth.commands.agreement import tell_agreements

        tell_agreements(opened.store, as_json=as_json)
        return
    if suggested + flagged + reviewed > 1:
        raise UserError("--suggested, --flagged and --reviewed name different samples; give one of them")
    scope: Scope = "suggested" if suggested else "flagged" if flagged else "reviewed" if reviewed else "open"
    if sample is not None and not dry_run:
        raise UserError("--sample belongs to --dry-run; to judge only so many samples, use --limit")
    if encoder is not None:
        if dry_run or again or batch or (max_cost, max_tokens, max_requests, base_url, model) != (None,) * 5:
            raise UserError(
                "--encoder asks no LLM: leave out --dry-run, --again, --batch, --base-url, --model and ceilings"
            )
        from synth.stages.judge.encoder import Thresholds, plan_encoder

        thresholds = Thresholds(topic, part, full)
        found = plan_encoder(opened.store, encoder, thresholds, source or [], limit=limit, device=device, scope=scope)
        _by_encoder(opened, found, as_json=as_json)
        return
    from synth.llm.ceilings import Ceilings
    from synth.stages.judge.plan import plan_judge

    if (topic, part, full, device) != (TOPIC, PART, FULL, "auto"):
        raise UserError("--topic, --part, --full and --device are for a cross-encoder: name one with --encoder")
    llm = opened.llm(base_url=base_url, model=model)
    if llm is None:
        raise UserError(
            "no judge is named: give base_url and model in [llm] of synth.toml, or a cross-encoder with --encoder"
        )
    ceilings = Ceilings(max_cost, max_tokens, max_requests)
    asking = asking_at(opened, replace(llm, temperature=temperature), ceilings, in_batches=batch)
    plan = plan_judge(opened.store, asking, source or [], seed=seed, limit=limit, again=again, scope=scope)
    job = _job(opened, plan, as_json=as_json)
    if dry_run:
        if plan.nothing and not as_json:
            say(plan.nothing)
        job.tell_forecast(sample)
    else:
        _by_llm(job)


def _refuse_others(context: typer.Context) -> None:
    """Raise UserError for options that --agreement takes no notice of."""
    sources = {each.opts[0]: context.get_parameter_source(each.name or "") for each in context.command.params}
    beside = {"--agreement", "--workspace", "--json"}
    given = [name for name, source in sources.items() if source is not None and source.name != "DEFAULT"]
    if others := [name for name in given if name not in beside]:
        raise UserError(f"--agreement judges nothing, and takes all that is judged: leave out {', '.join(others)}")


def _by_encoder(opened: "Workspace", plan: "EncoderPlan", *, as_json: bool) -> None:
    from synth.stages.judge.encoder import judge_by_encoder

    with progress("judge", len(plan.revisions)) as advance:
        outcome = judge_by_encoder(opened.store, plan, on_progress=advance)
    if as_json:
        print_json(asdict(outcome) | _said(opened, plan.judge.names))
        return
    say(f"judge: {outcome.encoder}")
    if outcome.num_known:
        passages = counted(outcome.num_known, "passage")
        say(f"graded again by these thresholds: {passages}, of relevances that were stored")
    elif plan.nothing:
        say(plan.nothing)
    num_new = outcome.num_judgements - outcome.num_known
    say(f"graded {counted(num_new, 'passage')} of {counted(outcome.num_samples, 'sample')}")
    _tell_said(opened, plan.judge.names)


def _by_llm(job: "Job[JudgePlan, Judged]") -> None:
    outcome = job.carry_out()
    if not job.as_json:
        if outcome.failures:
            say(f"why: synth runs show last -w {job.opened.root}; `--again` asks once more for what is left")
        if outcome.ended:
            job.tell_ended(outcome)
        _tell_said(job.opened, job.plan.judge.names)
    leave(outcome)


def _job(opened: "Workspace", plan: "JudgePlan", *, as_json: bool) -> "Job[JudgePlan, Judged]":
    from synth.stages.judge.forecast import forecast_judge
    from synth.stages.judge.run import judge_samples

    def told() -> dict[str, object]:
        return _said(opened, plan.judge.names)

    return Job("judge", opened, plan, judge_samples, forecast_judge, _made, told, can_sample=True, as_json=as_json)


def _made(outcome: "Judged", plan: "JudgePlan") -> Iterator[str]:
    if plan.nothing:
        yield plan.nothing
    yield f"graded {counted(outcome.num_judgements, 'passage')} of {counted(outcome.num_done, 'sample')}"


def _said(opened: "Workspace", names: Sequence[str]) -> dict[str, object]:
    """All that these judges have said so far, counted."""
    from synth.store.judgements import grade_counts
    from synth.store.suggestions import suggestion_counts

    grades = [
        {"judge": judge, "passage": passage, "grades": numbers}
        for (judge, passage), numbers in grade_counts(opened.store, names).items()
    ]
    return {"graded": grades, "suggestions": suggestion_counts(opened.store, names)}


def _tell_said(opened: "Workspace", names: Sequence[str]) -> None:
    from synth.store.judgements import GRADES, alike, grade_counts
    from synth.store.suggestions import suggestion_counts

    counts = grade_counts(opened.store, names)
    rows = [(judge, passage, *numbers) for (judge, passage), numbers in counts.items()]
    if rows:
        say("all that is graded so far, of the samples as they are now:")
        print_table(["judge", "passage", *(f"grade {grade}" for grade in GRADES)], rows)
    for name, grade, share, number in alike(counts):
        say(f"warning: {name} gave {share:.0%} of {number:,} passages grade {grade}, and so tells hardly any apart")
    found = suggestion_counts(opened.store, names)
    if found:
        say("suggested, but for what people overruled:")
        print_table(["suggestion", "passages", "since"], [(name, n, SUGGESTED[name]) for name, n in found.items()])
        sql = f'synth sql "FROM suggestions WHERE NOT is_overruled" -w {opened.root}'
        say(f"next: synth review --queue suggested -w {opened.root}, or {sql}")
