"""What a judge will take, before it begins: an estimate from a sample of its prompts, and three of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from synth.llm.engine import Engine
from synth.llm.estimate import SAMPLE_SIZE, Calibration, Estimate, PaidCall, Prompt, draw, estimate
from synth.llm.journal import Journal
from synth.recipes import judging
from synth.stages.judge_plan import JudgePlan
from synth.store import failures, judgements
from synth.store.connection import Store

NUM_SHOWN = 3
MOST_CALLS = 200  # earlier calls to learn from, the latest first


@dataclass(frozen=True, slots=True)
class JudgeForecast:
    """
    `prompts` are the messages of some requests, whole. `num_known` of the `num_samples` need no request, as far as the
    sample shows: the journal has their replies, or an earlier run learnt that none comes.
    """

    num_samples: int
    num_known: int
    estimate: Estimate
    prompts: Sequence[Sequence[Mapping[str, str]]]


def forecast_judge(store: Store, plan: JudgePlan, *, seed: int) -> JudgeForecast:
    """
    What the rest of a plan will take. Nothing is asked, and nothing is written.

    Args:
        seed: of the draw of samples to estimate from.
    """
    drawn = judgements.unjudged(store, plan.judge, draw(plan.revisions, SAMPLE_SIZE, seed=seed))
    requests = [(sample, request) for sample in drawn for request in judging.requests(sample, plan.seed)]
    with Journal(plan.asking.journal, read_only=True) as journal:
        engine = Engine(plan.asking.llm, journal, hopeless=failures.hopeless(store, plan.judge.key))
        asked = [
            Prompt(messages, judging.example_reply(request))
            for sample, request in requests
            if engine.first_asked(
                messages := judging.messages(request), plan.attempts.get(sample.revision_id, 0), schema=judging.SCHEMA
            )[1]
        ]
    paid = judgements.paid_tokens(store, plan.judge, limit=MOST_CALLS)
    per_sample = len(asked) / len(drawn) if drawn else 0.0
    found = estimate(
        asked,
        round(len(plan.revisions) * per_sample),
        Calibration([PaidCall(*tokens) for tokens in paid]),
        plan.asking.llm.endpoints,
    )
    num_known = round(len(plan.revisions) * (1 - len(asked) / len(requests))) if requests else 0
    prompts = [each.messages for each in asked[:NUM_SHOWN]]
    return JudgeForecast(len(plan.revisions), num_known, found, prompts)
