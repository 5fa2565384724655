"""What a generate stage will take, before it begins: an estimate from a sample of its prompts, and three of them."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from uuid import UUID

from synth.llm.engine import Engine
from synth.llm.estimate import Calibration, Estimate, PaidCall, Prompt, draw, estimate
from synth.llm.journal import Journal
from synth.stages.generate import Plan
from synth.stages.spending import spent_before
from synth.store import failures, sources
from synth.store.calls import paid_calls
from synth.store.connection import Store

NUM_SHOWN = 3
MOST_CALLS = 200  # earlier calls to learn from, the latest first


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


def sampled(store: Store, plan: Plan, number: int, *, seed: int) -> list[UUID]:
    """Some of a plan's seeds, drawn at random, in order; of those that never failed, as long as there are any."""
    untried = set(sources.untried_passages(store, plan.names, plan.stage_key))
    chosen = draw([each for each in plan.seeds if each in untried], number, seed=seed)
    others = draw([each for each in plan.seeds if each not in untried], number - len(chosen), seed=seed)
    return sorted(chosen + others)


def remaining(store: Store, plan: Plan, asked: Collection[UUID]) -> Plan:
    """The plan without those seeds that are done by now; of those `asked` for, what was not come to is left in it."""
    untried = set(sources.untried_passages(store, plan.names, plan.stage_key))
    return replace(plan, seeds=[each for each in plan.seeds if each in untried or each not in asked])


def passed(store: Store, plan: Plan, found: Forecast) -> list[str]:
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


def forecast(store: Store, plan: Plan, *, seed: int) -> Forecast:
    """
    What the rest of a plan that asks an LLM will take. Nothing is asked, and nothing is written.

    Args:
        seed: of the draw of prompts to estimate from.
    """
    asking, recipe, num_queries = plan.asking, plan.recipe, plan.settings["num_queries"]
    assert asking is not None and recipe is not None and isinstance(num_queries, int)

    def prompts_of(text_ids: Sequence[UUID], names: Sequence[str]) -> dict[UUID, Prompt]:
        return {
            passage.text_id: Prompt(recipe.messages(passage, num_queries), recipe.example_reply(passage, num_queries))
            for passage in sources.train_passages(store, names, text_ids)
        }

    sample = prompts_of(draw(plan.seeds, seed=seed), plan.names)
    paid = paid_calls(store, asking.llm.models, recipe.prompt_version, num_queries=num_queries, limit=MOST_CALLS)
    known = prompts_of([call.seed_id for call in paid], ())
    calibration = Calibration([PaidCall(call.tokens_in, call.tokens_out, known.get(call.seed_id)) for call in paid])
    with Journal(asking.journal, read_only=True) as journal:
        engine = Engine(asking.llm, journal, hopeless=failures.hopeless(store, plan.stage_key))
        to_ask = [prompt for prompt in sample.values() if engine.first_asked(prompt.messages, schema=recipe.schema)[1]]
    share = len(to_ask) / len(sample) if sample else 0.0
    num_requests = round(len(plan.seeds) * share)
    return Forecast(
        len(plan.seeds),
        len(plan.seeds) - num_requests,
        estimate(to_ask, num_requests, calibration, asking.llm.endpoints, batch=asking.in_batches),
        [prompt.messages for prompt in to_ask[:NUM_SHOWN]],
    )
