"""What a run that asks an LLM will take, and a sample of its seeds to measure that on."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar
from uuid import UUID

from synth.llm.estimate import Estimate, draw
from synth.stages.asking.plan import Plan
from synth.stages.asking.spending import spent_before
from synth.store.connection import Store

NUM_SHOWN = 3
MOST_CALLS = 200  # earlier calls to learn from, the latest first

P = TypeVar("P", bound=Plan[Any, Any])


@dataclass(frozen=True, slots=True)
class Forecast:
    """
    `prompts` are the messages of some requests, whole. `num_known` of the `num_seeds` need no request, as far as the
    sample shows: the journal has their replies, or an earlier run learnt that none comes.
    """

    num_seeds: int
    num_known: int
    estimate: Estimate
    prompts: Sequence[Sequence[Mapping[str, str]]]


def sampled(store: Store, plan: Plan[Any, Any], number: int, *, seed: int) -> list[UUID]:
    """Some of a plan's seeds, drawn at random, in order; of those that never failed, as long as there are any."""
    untried = set(plan.of.untried(store, plan.stage_key))
    chosen = draw([each for each in plan.seeds if each in untried], number, seed=seed)
    others = draw([each for each in plan.seeds if each not in untried], number - len(chosen), seed=seed)
    return sorted(chosen + others)


def remaining(store: Store, plan: P, asked: Collection[UUID]) -> P:
    """The plan without those seeds that are done by now; of those `asked` for, what was not come to is left in it."""
    untried = set(plan.of.untried(store, plan.stage_key))
    return replace(plan, seeds=[each for each in plan.seeds if each in untried or each not in asked])


def passed(store: Store, plan: Plan[Any, Any], found: Forecast) -> list[str]:
    """The options whose ceilings a plan would pass, as it is estimated and with what earlier runs spent."""
    if plan.asking is None or not found.estimate.requests:
        return []
    ceilings, estimate = plan.asking.ceilings, found.estimate
    spent = spent_before(store, plan.stage_key, plan.asking.journal)
    tokens = estimate.tokens_in + estimate.tokens_out + spent.tokens + spent.lost_tokens
    sums = (
        ("--max-cost", ceilings.max_cost, (estimate.cost or 0.0) + spent.cost + spent.lost_cost),
        ("--max-tokens", ceilings.max_tokens, tokens),
        ("--max-requests", ceilings.max_requests, estimate.requests + spent.requests),
    )
    return [f"{option} {most:.15g}" for option, most, amount in sums if most is not None and amount > most]
