"""
The gate finds the limit of servers of every kind, in virtual time: how much of it is held, how much is refused.

What is held is measured over the whole run, the start included, except where a test says `steady`.
"""

import math
import random
from collections.abc import Callable
from typing import Any

import pytest

from synth.llm.faults import Limits
from tests.synth.llm.virtual_servers import (
    AtOnce,
    Bucket,
    Chance,
    Latency,
    Out,
    Outcome,
    Server,
    Sliding,
    Slots,
    Window,
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
WITH_AND_WITHOUT_RETRY_AFTER = pytest.mark.parametrize("retry_after", [None, "exact"])


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


def test_three_thousand_requests_of_200_milliseconds_lose_less_than_half_a_second_to_the_start() -> None:
    outcome = run(lambda: Server(constant(0.2)), 3000)
    assert outcome.seconds - 3000 * 0.2 / 64 < 0.5


@EVERY_LATENCY
@pytest.mark.parametrize("retry_after", [None, 1.0])
def test_fifty_at_once_are_found_and_held(
    latency: Callable[[], Latency], mean: float, retry_after: float | None
) -> None:
    outcome = run(lambda: AtOnce(lambda _: 50, latency(), retry_after=retry_after), 2500)
    assert outcome.steady_rate > 0.95 * 50 / mean
    assert outcome.share_refused < 0.01
    assert 46 <= outcome.gate.limit <= 51
    assert outcome.gate.found() == f"takes {outcome.gate.limit} requests at a time"


@pytest.mark.parametrize(("number", "most"), [(1, 64), (4, 64), (20, 64), (63, 64), (100, 256)])
def test_any_number_at_once_is_found_and_held(number: int, most: int) -> None:
    outcome = run(lambda: AtOnce(lambda _: number, lognormal(1.0), retry_after=1.0), 2500, most=most)
    assert outcome.steady_rate > 0.95 * number / MEAN
    assert outcome.share_refused < 0.015


@pytest.mark.parametrize("median", [0.2, 1.0])
@pytest.mark.parametrize("refusal", [0.005, 0.02])
@pytest.mark.parametrize("burst", [60, 600])
@WITH_AND_WITHOUT_RETRY_AFTER
def test_600_requests_per_minute_of_a_bucket_are_found_and_held(
    median: float, refusal: float, burst: int, retry_after: str | None
) -> None:
    outcome = run(lambda: Bucket(600, burst, lognormal(median), refusal=refusal, retry_after=retry_after), 3000)
    assert (3000 - burst) / outcome.seconds > 0.9 * 10  # what the bucket holds at first is nobody's merit
    assert outcome.share_refused < 0.02


@pytest.mark.parametrize("median", [0.2, 1.0])
@pytest.mark.parametrize("offset", [0.0, 30.0, 55.0])
@pytest.mark.parametrize("headers", [False, True])
@WITH_AND_WITHOUT_RETRY_AFTER
def test_600_requests_per_minute_of_the_clock_are_found_and_held(
    median: float, offset: float, headers: bool, retry_after: str | None
) -> None:
    outcome = run(lambda: Window(600, lognormal(median), offset=offset, headers=headers, retry_after=retry_after), 3000)
    assert rate(outcome) > 0.9 * 10
    assert outcome.share_refused < (0.005 if headers else 0.02)


@pytest.mark.parametrize("median", [0.2, 1.0])
@WITH_AND_WITHOUT_RETRY_AFTER
def test_600_requests_in_any_minute_are_found_and_held(median: float, retry_after: str | None) -> None:
    outcome = run(lambda: Sliding(600, lognormal(median), retry_after=retry_after), 3000)
    assert rate(outcome) > 0.9 * 10
    assert outcome.share_refused < 0.02


def test_a_rate_is_found_where_replies_all_take_the_same_time() -> None:
    for retry_after in (None, "exact"):
        outcome = run(lambda r=retry_after: Bucket(600, 60, constant(0.2), refusal=0.005, retry_after=r), 3000)
        assert rate(outcome) > 0.85 * 10
        assert outcome.share_refused < 0.02


def test_few_requests_per_minute_are_found_and_held() -> None:
    outcome = run(lambda: Window(30, lognormal(1.0), retry_after="exact"), 300)
    assert rate(outcome) > 0.9 * 0.5
    assert outcome.refused < 60


def test_headers_tell_a_rate_before_anything_is_refused() -> None:
    outcome = run(lambda: Bucket(600, 600, lognormal(0.2), headers=True), 3000)
    assert (3000 - 600) / outcome.seconds > 0.85 * 10  # half a bucket is left untouched
    assert outcome.steady_rate > 10
    assert outcome.refused == 0
    assert outcome.gate.found() == "takes 600 requests per minute (as it says itself)"


def sizes() -> Callable[[], int]:
    chance = random.Random(4)
    return lambda: int(chance.lognormvariate(math.log(400), 0.5))


def test_headers_tell_tokens_per_minute() -> None:
    tokens = sizes()
    outcome = run(lambda: Bucket(200_000, 200_000, lognormal(1.0), by_tokens=True, headers=True), 2500, tokens=tokens)
    per_minute = 2500 * 400 * MEAN / outcome.seconds * 60
    assert per_minute > 0.9 * 200_000
    assert outcome.refused == 0
    assert outcome.gate.found() == "takes 200000 tokens per minute (as it says itself)"


def test_tokens_per_minute_are_held_without_headers() -> None:
    tokens = sizes()
    outcome = run(lambda: Bucket(200_000, 20_000, lognormal(1.0), by_tokens=True), 2500, tokens=tokens)
    assert 2500 * 400 * MEAN / outcome.seconds * 60 > 0.85 * 200_000
    assert outcome.share_refused < 0.025


@pytest.mark.parametrize(
    "said",
    [
        Limits(0, 0, 0.0, 0, 0, 0.0),
        Limits(-5, -1, -1.0, -5, -1, -1.0),
        Limits(600, 599, math.nan, 600, 599, math.nan),
        Limits(600, 0, math.inf, 600, 0, math.inf),
        Limits(10**30, 1, 1e-300, 10**30, 1, 1e-300),
        Limits(600, 601, 60.0, 600, 601, 60.0),
        Limits(1, 0, 86400.0, 1, 0, 86400.0),
        Limits(1, 0, None, None, 0, 60.0),
    ],
)
def test_headers_that_make_no_sense_do_no_harm(said: Limits) -> None:
    class Nonsense(Server):
        def limits(self) -> Limits:
            return said

    outcome = run(lambda: Nonsense(constant(0.2), headers=True), 1000, tokens=lambda: 500)
    assert outcome.seconds < 1000 * 0.2 / 64 + 0.6


def test_headers_that_are_proved_wrong_are_no_longer_heeded() -> None:
    class Liar(Server):
        def limits(self) -> Limits:
            return Limits(2, 0, 60.0)

    outcome = run(lambda: Liar(constant(0.2), headers=True), 1000)
    assert outcome.seconds < 60


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
    outcome = run(lambda: Chance(share, latency()), 3000, tasks=96)
    assert outcome.gate.limit == 64
    assert outcome.steady_rate > 0.87 * 64 / mean
    assert outcome.seconds < 1.45 * 3000 * mean / 64


# Where replies are quick, a fall looks like a rate, and a pace is raised over seconds, not over round trips.
@pytest.mark.parametrize(("median", "held"), [(0.2, 0.6), (1.0, 0.8), (5.0, 0.8)])
def test_a_limit_that_falls_and_rises_is_followed(median: float, held: float) -> None:
    mean = median * MEAN
    fall, rise = 20 * mean, 60 * mean

    def number(now: float) -> int:
        return 25 if fall < now < rise else 50

    outcome = run(lambda: AtOnce(number, lognormal(median)), 3000, most=128)
    assert rate(outcome) > held * 3000 / (rise + (3000 - 20 * 50 - 40 * 25) * mean / 50)
    assert outcome.share_refused < 0.02
    assert outcome.gate.limit >= 45


@pytest.mark.parametrize("median", [0.2, 1.0, 5.0])
def test_a_limit_that_rises_is_found(median: float) -> None:
    outcome = run(lambda: AtOnce(lambda now: 25 if now < 40 * median else 100, lognormal(median)), 4000, most=256)
    assert 90 <= outcome.gate.limit <= 102
    assert outcome.share_refused < 0.01


@pytest.mark.parametrize("retry_after", [None, 10.0])
@pytest.mark.parametrize("since", [0.0, 20.0])
def test_all_wait_while_all_is_refused_and_come_back(since: float, retry_after: float | None) -> None:
    outcome = run(lambda: Out(since, since + 60, lognormal(1.0), retry_after=retry_after), 3000)
    meanwhile = sum(since + 1 < sent < since + 60 for sent in outcome.sent)
    assert meanwhile < 30  # one asks now and then
    back = next(replied for replied in outcome.replied if replied > since + 60)
    assert back < since + 60 + 20
    assert outcome.seconds < 60 + 3000 * MEAN / 64 + 60


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


@pytest.mark.parametrize("median", [0.2, 1.0])
@pytest.mark.parametrize("ceiling", [1, 7, 60, 600])
def test_a_ceiling_of_requests_is_never_passed_in_any_minute(ceiling: int, median: float) -> None:
    number = min(4 * ceiling + 3, 1500)
    sent = run(lambda: Server(lognormal(median)), number, requests_per_minute=ceiling).sent
    assert most_within(60.0, sent, [1] * len(sent)) <= ceiling
    assert most_within(1.0, sent, [1] * len(sent)) <= 2 * max(1, ceiling / 60) + 1  # no minute's worth at once
    assert len(sent) / (sent[-1] + 60 / ceiling) > 0.9 * ceiling / 60


def test_a_ceiling_of_tokens_is_never_passed_in_any_minute() -> None:
    drawn: list[int] = []
    draw = sizes()

    def tokens() -> int:
        drawn.append(draw())
        return drawn[-1]

    outcome = run(lambda: Server(lognormal(1.0)), 600, tokens=tokens, tokens_per_minute=60_000)
    assert most_within(60.0, outcome.sent, drawn) <= 60_000
    assert sum(drawn) / outcome.sent[-1] > 0.9 * 1000


def test_a_request_larger_than_the_ceiling_is_sent_all_the_same() -> None:
    outcome = run(lambda: Server(constant(0.2)), 2, tokens=lambda: 5000, tokens_per_minute=1000)
    assert len(outcome.replied) == 2


def most_within(seconds: float, at: list[float], amounts: list[Any]) -> float:
    """The most that falls into any `seconds`, half open."""
    most = total = first = 0
    for last, now in enumerate(at):
        total += amounts[last]
        while at[first] <= now - seconds:
            total -= amounts[first]
            first += 1
        most = max(most, total)
    return most
