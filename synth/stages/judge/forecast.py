"""What a judge will take, before it begins: an estimate from a sample of its prompts, and three of them."""

from synth.llm.engine import Engine
from synth.llm.estimate import SAMPLE_SIZE, Calibration, PaidCall, Prompt, draw, estimate
from synth.llm.journal import Journal
from synth.recipes import judging
from synth.stages.asking.forecast import MOST_CALLS, NUM_SHOWN, Forecast
from synth.stages.judge.plan import JudgePlan
from synth.store import failures, judgements
from synth.store.connection import Store


def forecast_judge(store: Store, plan: JudgePlan, *, seed: int) -> Forecast:
    """
    What the rest of a plan will take. Nothing is asked, and nothing is written.

    Args:
        seed: of the draw of samples to estimate from.
    """
    asking = plan.asking
    assert asking is not None
    drawn = list(plan.of.load(store, draw(plan.seeds, SAMPLE_SIZE, seed=seed)))
    requests = [(sample, request) for sample in drawn for request in judging.requests(sample, plan.shuffle)]
    with Journal(asking.journal, read_only=True) as journal:
        engine = Engine(asking.llm, journal, hopeless=failures.hopeless(store, plan.judge.key))
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
        round(len(plan.seeds) * per_sample),
        Calibration([PaidCall(*tokens) for tokens in paid]),
        asking.llm.endpoints,
        batch=asking.in_batches,
    )
    num_known = round(len(plan.seeds) * (1 - len(asked) / len(requests))) if requests else 0
    prompts = [each.messages for each in asked[:NUM_SHOWN]]
    return Forecast(len(plan.seeds), num_known, found, prompts)
