"""`synth judge`: grades of passages by an LLM or a cross-encoder, and how far judges agree."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from synth.commands.figures import counted
from synth.commands.generate import MaxCostOption, MaxRequestsOption, MaxTokensOption
from synth.commands.screens import MAX_SEED, JsonOption, SourceOption, WorkspaceOption, print_json, print_table
from synth.records import SkiffError, UserError
from synth.screen import progress, say

if TYPE_CHECKING:
    from synth.llm.usage import Usage
    from synth.stages.judge import Judged
    from synth.stages.judge_agreement import Agreement
    from synth.stages.judge_encoder import EncoderPlan
    from synth.stages.judge_forecast import JudgeForecast
    from synth.stages.judge_plan import JudgePlan
    from synth.workspace import Workspace

TOPIC, PART, FULL = 0.1, 0.5, 0.9
SUGGESTED = {  # of each kind of suggestion, why
    "drop_sample": "a positive does not answer",
    "promote": "a negative answers, and no less well than the positive",
    "drop_negative": "a negative answers in part, or less well than the positive",
    "not_worse": "an LLM's negative answers no less well than the positive",
}


def judge(
    source: SourceOption = None,
    limit: Annotated[int | None, typer.Option(min=1, max=10**9, help="At most so many samples.")] = None,
    suggested: Annotated[
        bool, typer.Option("--suggested", help="Only samples that another judge has a suggestion about.")
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
    base_url: Annotated[str | None, typer.Option(help="OpenAI-compatible server, over synth.toml's.")] = None,
    model: Annotated[str | None, typer.Option(help="The LLM to ask, over synth.toml's.")] = None,
    temperature: Annotated[
        float, typer.Option(min=0.0, max=2.0, help="Of the LLM; synth.toml's does not count here.")
    ] = 0.0,
    max_cost: MaxCostOption = None,
    max_tokens: MaxTokensOption = None,
    max_requests: MaxRequestsOption = None,
    again: Annotated[
        bool, typer.Option("--again", help="Ask once more for what got no usable reply from the LLM.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show three prompts and what the run will cost; ask and write nothing.")
    ] = False,
    agreement: Annotated[
        bool, typer.Option("--agreement", help="Judge nothing; tell how far the judges so far agree.")
    ] = False,
    workspace: WorkspaceOption = Path("."),
    as_json: JsonOption = False,
) -> None:
    """
    Grade every positive and negative of retrieval samples from 0 (unrelated) to 3 (answers the query in full): by the
    LLM, which is not told which is which, or with --encoder by a cross-encoder on this machine.

    Nothing is changed by that: what follows are suggestions (synth sql "FROM suggestions"), which reviewers see and
    releases may require. Each judge's word stands beside the others'. What a judge has graded it is not asked again.
    docs/judge.md tells the rest.

    Example: synth judge --source squad-en --limit 200 --max-cost 0.50
    """
    from synth.workspace import Workspace

    opened = Workspace.open(workspace)
    if agreement:
        _tell_agreements(opened, as_json=as_json)
        return
    if encoder is not None:
        if dry_run or again or (max_cost, max_tokens, max_requests, base_url, model) != (None,) * 5:
            raise UserError("--encoder asks no LLM: leave out --dry-run, --again, --base-url, --model and ceilings")
        from synth.stages.judge_encoder import Thresholds, plan_encoder

        thresholds = Thresholds(topic, part, full)
        found = plan_encoder(
            opened.store, encoder, thresholds, source or [], limit=limit, device=device, suggested=suggested
        )
        _by_encoder(opened, found, as_json=as_json)
        return
    from synth.llm.ceilings import Ceilings
    from synth.stages.judge_plan import plan_judge

    if (topic, part, full, device) != (TOPIC, PART, FULL, "auto"):
        raise UserError("--topic, --part, --full and --device are for a cross-encoder: name one with --encoder")
    llm = opened.llm(base_url=base_url, model=model)
    if llm is None:
        raise UserError(
            "no judge is named: give base_url and model in [llm] of synth.toml, or a cross-encoder with --encoder"
        )
    from synth.stages.generate import Asking

    asking = Asking(
        replace(llm, temperature=temperature),
        opened.journal,
        Ceilings(max_cost, max_tokens, max_requests),
        opened.batches,
    )
    plan = plan_judge(opened.store, asking, source or [], seed=seed, limit=limit, again=again, suggested=suggested)
    if dry_run:
        _tell_forecast(opened, plan, as_json=as_json)
    else:
        _by_llm(opened, plan, as_json=as_json)


def _by_encoder(opened: "Workspace", plan: "EncoderPlan", *, as_json: bool) -> None:
    from synth.stages.judge_encoder import judge_by_encoder

    with progress("judge", len(plan.revisions)) as advance:
        outcome = judge_by_encoder(opened.store, plan, on_progress=advance)
    if as_json:
        print_json(asdict(outcome) | _said(opened, plan.judge.names))
        return
    say(f"judge: {outcome.encoder}")
    known = f", {outcome.num_known:,} of them of relevances known before" if outcome.num_known else ""
    say(f"graded {outcome.num_judgements:,} passages of {counted(outcome.num_samples, 'sample')}{known}")
    _tell_said(opened, plan.judge.names)


def _by_llm(opened: "Workspace", plan: "JudgePlan", *, as_json: bool) -> None:
    outcome = _run(opened, plan, as_json=as_json)
    if as_json:
        failures = [{"kind": kind, "reason": why, "samples": n} for (kind, why), n in outcome.failures.items()]
        told = asdict(outcome) | {"judge": str(plan.asking.llm), "failures": failures}
        print_json(told | _said(opened, plan.judge.names))
    else:
        for line in _outcome(outcome, plan):
            say(line)
        _tell_said(opened, plan.judge.names)
    if outcome.exit_code:
        raise typer.Exit(outcome.exit_code)


def _run(opened: "Workspace", plan: "JudgePlan", *, as_json: bool) -> "Judged":
    """Judge, and show how it goes."""
    from synth.commands.live import live
    from synth.commands.stopping import run_stoppable, stopping_line
    from synth.stages.generate import Watch
    from synth.stages.judge import judge_samples
    from synth.stages.judge_forecast import forecast_judge

    watch, llm = Watch(), plan.asking.llm
    unpriced = [f"{each.model} at {each.base_url}" for each in llm.endpoints if each.cost(0, 0) is None]

    def stopping() -> None:
        watch.note(stopping_line(watch.usage().in_flight, llm.timeout_seconds))
        watch.state("stopping")

    try:
        with ExitStack() as stack:
            if plan.revisions:
                shown = stack.enter_context(
                    live(
                        f"judge with {' + '.join(llm.models)}",
                        len(plan.revisions),
                        lambda: watch.usage(),
                        as_json=as_json,
                        ceilings=plan.asking.ceilings,
                        spent=lambda: watch.spent(),
                        unpriced=unpriced,
                    )
                )
                watch.advance, watch.fail = shown.advance, shown.fail
                watch.note, watch.state = shown.note, shown.state
                watch.note(_estimated(forecast_judge(opened.store, plan, seed=0)))
            return run_stoppable(
                lambda stop: judge_samples(opened.store, plan, watch=watch, stop=stop.event), on_first=stopping
            )
    except SkiffError as error:  # what was paid before it
        if as_json:
            print_json({"usage": asdict(watch.usage()), "error": str(error), "exit_code": error.exit_code})
        else:
            for line in _paid(watch.usage()):
                say(line)
        raise


def _outcome(outcome: "Judged", plan: "JudgePlan") -> Iterator[str]:
    yield f"judge: {plan.asking.llm}"
    if not plan.revisions:
        yield "nothing is left to judge with these settings"
    yield f"graded {outcome.num_judgements:,} passages of {counted(outcome.num_done, 'sample')}"
    yield from _paid(outcome.usage)
    for (_, failure), number in sorted(outcome.failures.items()):
        yield f"left {number:,}: {failure}"
    if outcome.num_passed_over:
        yield f"of these, {outcome.num_passed_over:,} known from earlier runs, not asked about again without --again"
    yield from outcome.notes
    if outcome.ended:
        left = outcome.num_samples - outcome.num_done - sum(outcome.failures.values())
        yield f"{outcome.ended}; {counted(left, 'sample')} left: the same command goes on"


def _paid(usage: "Usage") -> Iterator[str]:
    from synth.llm.budget import dollars

    if usage.requests:
        cost = "no price stated" if usage.cost is None else dollars(usage.cost)
        yield f"paid {usage.tokens_in:,} tokens in, {usage.tokens_out:,} out: {cost}"
    if usage.lost_tokens:
        cost = "" if usage.lost_cost is None else f", {dollars(usage.lost_cost)}"
        yield f"at most {usage.lost_tokens:,} tokens{cost} that nobody counted may be charged too"


def _said(opened: "Workspace", names: Sequence[str]) -> dict[str, object]:
    """All that these judges have said so far, counted."""
    from synth.store.judgements import grade_counts, suggestion_counts

    grades = [
        {"judge": judge, "passage": passage, "grades": numbers}
        for (judge, passage), numbers in grade_counts(opened.store, names).items()
    ]
    return {"graded": grades, "suggestions": suggestion_counts(opened.store, names)}


def _tell_said(opened: "Workspace", names: Sequence[str]) -> None:
    from synth.store.judgements import GRADES, alike, grade_counts, suggestion_counts

    counts = grade_counts(opened.store, names)
    rows = [(judge, passage, *numbers) for (judge, passage), numbers in counts.items()]
    if rows:
        say("all that is graded so far, of the samples as they are now:")
        print_table(["judge", "passage", *(f"grade {grade}" for grade in GRADES)], rows)
    for name, grade, share, number in alike(counts):
        say(f"warning: {name} gave {share:.0%} of {number:,} passages grade {grade}, and so tells hardly any apart")
    found = suggestion_counts(opened.store, names)
    if found:
        print_table(["suggested", "passages", "since"], [(name, n, SUGGESTED[name]) for name, n in found.items()])
        say(f'next: synth review --queue suggested -w {opened.root}, or synth sql "FROM suggestions"')


def _tell_forecast(opened: "Workspace", plan: "JudgePlan", *, as_json: bool) -> None:
    from synth.stages.judge_forecast import forecast_judge

    found = forecast_judge(opened.store, plan, seed=0)
    if as_json:
        print_json(asdict(found))
        return
    for number, messages in enumerate(found.prompts, start=1):
        for message in messages:
            say(f"=== prompt {number}, {message['role']} ===\n{message['content']}\n")
    say(_estimated(found))


def _estimated(found: "JudgeForecast") -> str:
    from synth.llm.budget import dollars

    estimate = found.estimate
    known = f" ({found.num_known:,} more are known already)" if found.num_known else ""
    cost = "no price stated, so tokens only"
    if estimate.cost is not None and estimate.cost_low is not None and estimate.cost_high is not None:
        cost = f"{dollars(estimate.cost)} ({dollars(estimate.cost_low)} to {dollars(estimate.cost_high)})"
    return (
        f"about {counted(estimate.requests, 'request')}{known}, {estimate.tokens_in:,} tokens in,"
        f" {estimate.tokens_out:,} out: {cost}; {estimate.basis}"
    )


def _tell_agreements(opened: "Workspace", *, as_json: bool) -> None:
    from synth.stages.judge_agreement import agreements

    found = agreements(opened.store)
    if as_json:
        print_json([asdict(each) for each in found])
    elif not found:
        say("no two judges have judged the same passage: judge again with another --model, or with an --encoder")
    for each in () if as_json else found:
        _tell_agreement(each)


def _tell_agreement(each: "Agreement") -> None:
    equal, split = each.num_equal / each.num_passages, each.num_split / each.num_passages
    say(f"{each.judge} and {each.other}: {counted(each.num_passages, 'passage')} judged by both")
    say(f"equal grades: {each.num_equal:,} ({equal:.0%})")
    say(f"Cohen's kappa: {_figure(each.kappa)}; weighted by the square of the distance: {_figure(each.weighted_kappa)}")
    say(f"one of them would leave out what the other would not: {each.num_split:,} ({split:.0%})")
    if each.differences:
        rows = [
            (
                d.grade,
                d.other_grade,
                "positive" if d.is_positive else "negative",
                d.query,
                d.text,
                _reasons(d.reason, d.other_reason),
            )
            for d in each.differences
        ]
        print_table([each.judge, each.other, "passage", "query", "text", "reasons"], rows)


def _reasons(*reasons: str) -> str:
    return " / ".join(reason for reason in reasons if reason)


def _figure(kappa: float | None) -> str:
    return "has no value here (one grade throughout)" if kappa is None else f"{kappa:.2f}"
