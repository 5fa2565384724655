"""What a generate stage will take, before it begins: an estimate from a sample of its prompts, and three of them."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any
from uuid import UUID

from synth.llm.engine import Engine
from synth.llm.estimate import Calibration, PaidCall, Prompt, draw, estimate
from synth.llm.journal import Journal
from synth.recipes.recipe import Brief, Messages, Recipe
from synth.records import Seed
from synth.stages.asking.forecast import MOST_CALLS, NUM_SHOWN, Forecast
from synth.stages.generate.plan import GeneratePlan
from synth.store import failures
from synth.store.calls import paid_calls
from synth.store.connection import Store
from synth.store.made import ever_done
from synth.store.seeds import Seeds


def forecast(store: Store, plan: GeneratePlan, *, seed: int) -> Forecast:
    """
    What the rest of a plan that asks an LLM will take. Nothing is asked, and nothing is written.

    Args:
        seed: of the draw of prompts to estimate from.
    """
    asking, recipe, per_seed = plan.asking, plan.recipe, plan.per_seed
    assert asking is not None and recipe is not None
    brief = Brief(per_seed, language=str(plan.settings["language"]))

    def prompts_of(seed_ids: Sequence[UUID], of: Seeds) -> dict[UUID, _Sampled]:
        return {seed.seed_id: _Sampled(recipe, seed, brief) for seed in of.load(store, seed_ids)}

    sample = prompts_of(draw(plan.seeds, seed=seed), plan.of)
    paid = paid_calls(store, asking.llm.models, recipe.prompt_version, per_seed=per_seed, limit=MOST_CALLS)
    known = prompts_of([call.seed_id for call in paid], replace(plan.of, names=(), chosen=None))
    prompts = {seed_id: each.prompt for seed_id, each in known.items()}
    calibration = Calibration([PaidCall(call.tokens_in, call.tokens_out, prompts.get(call.seed_id)) for call in paid])
    usual = 2.0 if recipe.first else 1.0
    told = [
        (call.times, call.num_requests) for call in paid if call.times is not None and call.num_requests is not None
    ]
    times = fmean(each for each, _ in told) if told else 1.0
    num_requests = fmean(each for _, each in told) if told else usual
    with Journal(asking.journal, read_only=True) as journal:
        engine = Engine(asking.llm, journal, hopeless=failures.hopeless(store, plan.stage_key))
        left = failures.left_for_good(store, plan.stage_key)
        to_ask, begun = [], []
        for each in sample.values():
            if engine.first_asked(each.messages, schema=each.schema)[1]:
                to_ask.append(each)
            elif each.seed.seed_id not in left:
                begun.append(each)
    done = ever_done(store, [each.seed.seed_id for each in begun])  # by other settings: all of theirs is known
    begun = [each for each in begun if each.seed.seed_id not in done]
    of_all = len(plan.seeds) / max(len(sample), 1)
    num_to_ask, num_begun = round(len(to_ask) * of_all), round(len(begun) * of_all)
    as_many = num_to_ask + math.ceil(num_begun * (times - 1) / times)  # what is begun lacks what is asked again
    found = estimate(
        [each.prompt for each in to_ask or begun],
        as_many,
        calibration,
        asking.llm.endpoints,
        times,
        batch=asking.in_batches,
    )
    requests = round(num_to_ask * num_requests + num_begun * (num_requests - usual))
    if not told and int(str(plan.settings["max_tries"])) > 1 and as_many:
        found = replace(found, basis=f"{found.basis}; without the further tries that rejected texts will take")
    return Forecast(
        len(plan.seeds),
        len(plan.seeds) - num_to_ask,
        replace(found, requests=requests),
        [each.messages for each in to_ask[:NUM_SHOWN]],
    )


@dataclass(frozen=True, slots=True)
class _Sampled:
    """What is asked about one seed, if every reply is taken as it comes."""

    recipe: Recipe
    seed: Seed
    brief: Brief

    @property
    def messages(self) -> Messages:
        """The first request."""
        return (self.recipe.first or self.recipe).messages(self.seed, self.brief)

    @property
    def schema(self) -> Mapping[str, Any] | None:
        """Of its reply."""
        return (self.recipe.first or self.recipe).schema

    @property
    def prompt(self) -> Prompt:
        """All that is sent, and all that is expected in reply."""
        reply = self.recipe.example_reply(self.seed, self.brief.number)
        if self.recipe.first is None:
            return Prompt(self.messages, reply)
        first = self.recipe.first.example
        then = self.recipe.messages(self.seed, replace(self.brief, facts=self.recipe.first.read(first, self.seed)))
        return Prompt([*self.messages, *then], f"{first} {reply}")
