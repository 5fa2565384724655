"""What commands that ask an LLM say: what a run will take, what it took, and what it left."""

import sys
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from shutil import get_terminal_size
from textwrap import fill
from typing import TYPE_CHECKING, Any

from synth.commands.figures import counted
from synth.records import Stopped
from synth.screen import say

if TYPE_CHECKING:
    from synth.llm.config import LLMConfig
    from synth.llm.usage import Usage
    from synth.stages.asking.forecast import Forecast
    from synth.stages.asking.plan import Plan
    from synth.stages.asking.work import Outcome
    from synth.store.connection import Store

SAME = "the same command"


def say_filled(text: str) -> None:
    """Print a line without a command in it; a terminal gets it broken between words."""
    say(fill(text, get_terminal_size().columns, break_long_words=False) if sys.stdout.isatty() else text)


def unpriced(llm: "LLMConfig") -> list[str]:
    """The models whose prices are not stated, with their servers."""
    return [f"{each.model} at {each.base_url}" for each in llm.endpoints if each.cost(0, 0) is None]


def estimated(found: "Forecast", *, can_sample: bool) -> str:
    """What a run will take, and, where some of its seeds can be asked first, how to know it better."""
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
        f" {estimate.tokens_out:,} out: {cost}; {estimate.basis}{hint if estimate.is_rough and can_sample else ''}"
    )


def outcome_json(outcome: "Outcome", plan: "Plan[Any, Any]") -> dict[str, object]:
    """An outcome for machines."""
    failures = [
        {"kind": kind, "reason": reason, "seeds": number} for (kind, reason), number in outcome.failures.items()
    ]
    return asdict(outcome) | {"failures": failures} | paid_json(outcome.usage, plan)


def paid_json(usage: "Usage", plan: "Plan[Any, Any]") -> dict[str, object]:
    """What was bought, and of whom. Nothing costs nothing where prices are stated, though no engine was opened."""
    is_priced = plan.asking is not None and not unpriced(plan.asking.llm)
    cost = 0.0 if is_priced and not usage.requests else usage.cost
    return {
        "engine": plan.engine,
        "usage": asdict(usage) | {"cost": cost},
        "tokens_in": usage.tokens_in,
        "tokens_out": usage.tokens_out,
        "cost": cost,
    }


def tell_outcome(outcome: "Outcome", plan: "Plan[Any, Any]", made: Iterable[str], error: str = "") -> None:
    """Print what was `made` of the replies, what was paid, what was left and why, but for what the `error` will say."""
    for line in [*made, *paid(outcome.usage), *_left_out(outcome, plan, error), *outcome.notes]:
        say_filled(line)


def paid(usage: "Usage") -> Iterator[str]:
    """What was paid, and what may be charged too."""
    from synth.llm.budget import dollars

    if usage.requests:
        cost = "no price stated" if usage.cost is None else dollars(usage.cost)
        yield f"paid {usage.tokens_in:,} tokens in, {usage.tokens_out:,} out: {cost}"
    if usage.lost or usage.lost_tokens:
        cost = "" if usage.lost_cost is None else f", {dollars(usage.lost_cost)}"
        lost = f"{counted(usage.lost, 'reply was', 'replies were')} lost on the way; " if usage.lost else ""
        yield f"{lost}at most {usage.lost_tokens:,} tokens{cost} that nobody counted may be charged too"


def _left_out(outcome: "Outcome", plan: "Plan[Any, Any]", error: str) -> Iterator[str]:
    for (_, failure), number in sorted(outcome.failures.items()):
        yield f"left {number:,}: {failure}"
    if outcome.num_passed_over:
        yield f"of these, {outcome.num_passed_over:,} known from earlier runs, not asked again"
    if not outcome.ended:
        is_one = plan.asking is None or len(plan.asking.llm.endpoints) == 1
        for endpoint, why in outcome.usage.out.items():
            if why in error:
                continue
            yield f"{endpoint} was out{' for a while' if is_one else ', and its requests were asked of another'}: {why}"


def tell_ended(outcome: "Outcome", plan: "Plan[Any, Any]", store: "Store", again: str = SAME) -> None:
    """Print why a run ended early, what it did not come to, and what does."""
    wrapped = say_filled if again == SAME else say
    wrapped(f"{outcome.ended}; {_not_come_to(outcome, plan, store, again)}")


def _not_come_to(outcome: "Outcome", plan: "Plan[Any, Any]", store: "Store", again: str) -> str:
    left = outcome.num_seeds - outcome.num_done - sum(outcome.failures.values())
    limit = plan.config.get("limit")
    if isinstance(limit, int):  # of all that there are
        left = max(left, len(plan.of.untried(store, plan.stage_key)))
    seeds = f"{counted(left, plan.of.kind[:-1])} {'is' if left == 1 else 'are'} left"
    if outcome.exit_code == Stopped.exit_code and again == SAME:  # said of every command that is stopped
        return seeds
    follows = f"{again} takes the next {limit:,}" if isinstance(limit, int) else f"{again} goes on"
    return f"{seeds}: {follows}"
