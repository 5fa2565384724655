"""
The gate finds the limit of servers of every kind, in virtual time: how much of it is held, how much is refused.

What is held is measured over the whole run, the start included, except where a test says `steady`.
"""

import math
import random
from collections.abc import Callable
from statistics import median

import pytest

from synth.llm.faults import Limits
from tests.synth.llm.gate.virtual_servers import (
    AtOnce,
    Bucket,
    Chance,
    Latency,
    Outcome,
    Server,
    Slots,
    constant,
    lognormal,
    run,
)

MEAN = math.exp(0.5**2 / 2)  # of `lognormal`, in medians

LATENCIES: list[tuple[Callable[[], Latency], float]] = [
    (lambda: lognormal(0.05), 0.05 * MEAN),
    (lambda: lognormal(0.2), 0.2 * MEAN),
    (lambda: lognormal(1.0), 1.0 * MEAN),
    (lambda: lognormal(5.0), 5.0 * MEAN),
    (lambda: constant(0.05), 0.05),
    (lambda: constant(0.2), 0.2),
    (lambda: constant(5.0), 5.0),
]
EVERY_LATENCY = pytest.mark.parametrize(("latency", "mean"), LATENCIES)


def rate(outcome: Outcome) -> float:
    """Replies per second over the whole run."""
    return len(outcome.replied) / outcome.seconds


@EVERY_LATENCY
def test_the_start_is_quick_with_a_server_that_takes_all(latency: Callable[[], Latency], mean: float) -> None:
    outcome = run(lambda: Server(latency()), 3000)
    assert outcome.refused == 0 and outcome.gate.found() == ""
    lost = outcome.seconds - 3000 * mean / 64
    slowest_at_the_end = 2.5 * mean  # lognormal times: the last of 64 is alone for a while, whatever the gate does
    assert lost < 2.3 * mean + slowest_at_the_end


def test_3008_requests_of_200_milliseconds_lose_less_than_four_tenths_of_a_second_to_the_start() -> None:
    outcome = run(lambda: Server(constant(0.2)), 47 * 64)
    assert outcome.seconds - 47 * 0.2 < 0.4


@EVERY_LATENCY
@pytest.mark.parametrize("retry_after", [None, 1.0])
def test_fifty_at_once_are_found_and_held(
    latency: Callable[[], Latency], mean: float, retry_after: float | None
) -> None:
    outcome = run(lambda: AtOnce(lambda _: 50, latency(), retry_after=retry_after), 2500)
    assert outcome.steady_rate > 0.95 * 50 / mean
    assert outcome.share_refused < 0.01
    assert 46 <= outcome.gate.limit <= 51
    assert outcome.gate.found() in (f"takes {number} requests at a time" for number in (49, 50))


@pytest.mark.parametrize(("number", "most"), [(1, 64), (4, 64), (20, 64), (63, 64), (100, 256)])
def test_any_number_at_once_is_found_and_held(number: int, most: int) -> None:
    outcome = run(lambda: AtOnce(lambda _: number, lognormal(1.0), retry_after=1.0), 2500, most=most)
    assert outcome.steady_rate > 0.95 * number / MEAN
    assert outcome.share_refused < 0.015


@pytest.mark.parametrize("slots", [1, 2, 4, 8])
@pytest.mark.parametrize(("seconds", "sigma"), [(2.0, 0.01), (2.0, 0.5), (5.0, 0.6)])
def test_no_more_than_useful_is_sent_to_a_server_that_queues(slots: int, seconds: float, sigma: float) -> None:
    outcome = run(lambda: Slots(slots, lognormal(seconds, sigma)), 400)
    assert outcome.steady_rate > 0.93 * slots / (seconds * math.exp(sigma**2 / 2))
    late = sorted(outcome.took[100:])[-30]
    assert late < 20 * seconds  # 64 at once would take up to 64 times as long as one alone
    if sigma < 0.1:
        assert outcome.gate.limit <= max(3, 2.5 * slots)
        assert outcome.gate.found().startswith("gets slower above ")


@EVERY_LATENCY
@pytest.mark.parametrize("share", [0.03, 0.1])
def test_refusals_by_chance_do_not_shrink_the_gate(latency: Callable[[], Latency], mean: float, share: float) -> None:
    outcomes = [run(lambda seed=seed: Chance(share, latency(), seed=seed), 3000, tasks=96) for seed in range(5)]
    assert min(outcome.gate.limit for outcome in outcomes) > 32
    assert median(outcome.gate.limit for outcome in outcomes) == 64
    assert median(outcome.seconds for outcome in outcomes) < 1.45 * 3000 * mean / 64


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("seconds", [0.2, 1.0, 5.0])
def test_a_limit_that_falls_and_rises_is_followed(seconds: float, seed: int) -> None:
    mean = seconds * MEAN
    fall, rise = 20 * mean, 60 * mean

    def number(now: float) -> int:
        return 25 if fall < now < rise else 50

    outcome = run(lambda: AtOnce(number, lognormal(seconds, seed=seed)), 3000, most=128, seed=seed)
    assert rate(outcome) > 0.85 * 3000 / (rise + (3000 - 20 * 50 - 40 * 25) * mean / 50)
    assert outcome.share_refused < 0.02
    assert outcome.gate.limit >= 45


@pytest.mark.parametrize("seconds", [0.2, 1.0, 5.0])
def test_a_limit_that_rises_is_found(seconds: float) -> None:
    outcome = run(lambda: AtOnce(lambda now: 25 if now < 40 * seconds else 100, lognormal(seconds)), 4000, most=256)
    assert 90 <= outcome.gate.limit <= 102
    assert outcome.share_refused < 0.01


@pytest.mark.parametrize("seed", range(24))
def test_whatever_the_server_does_nobody_waits_for_ever(seed: int) -> None:
    chance = random.Random(seed)

    class Moody(Server):
        def __init__(self) -> None:
            super().__init__(
                lognormal(chance.choice([0.05, 1.0, 5.0]), 0.8, seed), headers=chance.random() < 0.3, refusal=0.5
            )
            self.bucket = Bucket(chance.choice([60, 600, 6000]), chance.choice([1, 20, 300]), self.latency)
            self.number, self.share = chance.choice([1, 7, 64]), chance.choice([0.0, 0.1, 0.5])
            self.retry_after = chance.choice([None, 0.0, 1.0, 30.0])

        def takes(self, tokens: int) -> bool:
            return chance.random() >= self.share and self.under_way < self.number and self.bucket.takes(tokens)

        def limits(self) -> Limits:
            return Limits(chance.randrange(-9, 999), chance.randrange(-9, 999), chance.uniform(-9, 99))

    outcome = run(Moody, 300, most=chance.choice([1, 8, 64]), tasks=70)
    assert len(outcome.replied) == 300
    assert (outcome.gate.in_flight, outcome.gate.waiting) == (0, 0)
    assert outcome.seconds < 3 * 3600
