"""
The gate finds what a server takes per minute, in virtual time: how much of it is held, how much is refused.

What is held is measured over the whole run, the start included. Every case is a run with each of some seeds: the worst
of them is what counts, except where a test says `median`. A refusal takes 20 ms to be heard.
"""

import math
import random
from collections.abc import Callable
from statistics import median

import pytest

from synth.llm.faults import Limits
from tests.synth.llm.gate.virtual_servers import (
    Bucket,
    Latency,
    Out,
    Outcome,
    Server,
    Sliding,
    Window,
    constant,
    lognormal,
    run,
)

MEAN = math.exp(0.5**2 / 2)  # of `lognormal`, in medians
SEEDS = range(4)
NUMBER = 1800
LATENCIES: list[Callable[[int], Latency]] = [
    lambda seed: lognormal(0.2, seed=seed),
    lambda seed: lognormal(1.0, seed=seed),
    lambda seed: constant(0.2),
    lambda seed: constant(1.0),
]
EVERY_LATENCY = pytest.mark.parametrize("latency", LATENCIES)
WITH_AND_WITHOUT_RETRY_AFTER = pytest.mark.parametrize("retry_after", [None, "exact"])


def rate(outcome: Outcome) -> float:
    """Replies per second over the whole run."""
    return len(outcome.replied) / outcome.seconds


@EVERY_LATENCY
@pytest.mark.parametrize("burst", [60, 600])
@WITH_AND_WITHOUT_RETRY_AFTER
def test_600_requests_per_minute_of_a_bucket_are_found_and_held(
    latency: Callable[[int], Latency], burst: int, retry_after: str | None
) -> None:
    outcomes = [
        run(lambda seed=seed: Bucket(600, burst, latency(seed), retry_after=retry_after), NUMBER + burst, seed=seed)
        for seed in SEEDS
    ]
    for outcome in outcomes:
        assert NUMBER / outcome.seconds > 0.95 * 10  # what the bucket holds at first is nobody's merit
        assert outcome.share_refused < 0.026
        assert found_rate(outcome) in range(560, 621)
    assert median(outcome.share_refused for outcome in outcomes) < 0.0225


# At 1 s about ten are under way at ten a second: the rate is taken for a wall in flight until it is passed by far.
@pytest.mark.parametrize(("latency", "held"), list(zip(LATENCIES, (0.9, 0.7, 0.9, 0.9), strict=True)))
def test_600_requests_per_minute_of_a_bucket_of_ten_are_held(latency: Callable[[int], Latency], held: float) -> None:
    outcomes = [run(lambda seed=seed: Bucket(600, 10, latency(seed)), NUMBER, seed=seed) for seed in range(6)]
    assert median(rate(outcome) for outcome in outcomes) > held * 10
    assert median(outcome.share_refused for outcome in outcomes) < 0.03


@EVERY_LATENCY
@pytest.mark.parametrize("headers", [False, True])
@WITH_AND_WITHOUT_RETRY_AFTER
def test_600_requests_per_minute_of_the_clock_are_found_and_held(
    latency: Callable[[int], Latency], headers: bool, retry_after: str | None
) -> None:
    for seed in SEEDS:

        def server(seed: int = seed) -> Server:
            offset, refusal = 17.0 * seed, (0.003, 0.02)[seed % 2]
            return Window(600, latency(seed), offset=offset, refusal=refusal, headers=headers, retry_after=retry_after)

        outcome = run(server, NUMBER, seed=seed)
        assert rate(outcome) > 0.9 * 10
        assert outcome.share_refused < (0.006 if headers else 0.02)


@EVERY_LATENCY
@WITH_AND_WITHOUT_RETRY_AFTER
def test_600_requests_in_any_minute_are_found_and_held(
    latency: Callable[[int], Latency], retry_after: str | None
) -> None:
    for seed in SEEDS:
        outcome = run(lambda seed=seed: Sliding(600, latency(seed), retry_after=retry_after), NUMBER, seed=seed)
        assert rate(outcome) > 0.9 * 10
        assert outcome.share_refused < 0.021


@EVERY_LATENCY
@pytest.mark.parametrize("kind", [Window, Sliding])
@pytest.mark.parametrize(("retry_after", "most_refused"), [(None, 0.045), ("exact", 0.025)])
def test_with_256_in_flight_a_minutes_requests_are_held_too(
    latency: Callable[[int], Latency],
    kind: type[Window] | type[Sliding],
    retry_after: str | None,
    most_refused: float,
) -> None:
    outcomes = [
        run(lambda seed=seed: kind(600, latency(seed), retry_after=retry_after), NUMBER, most=256, seed=seed)
        for seed in SEEDS
    ]
    assert min(rate(outcome) for outcome in outcomes) > 0.9 * 10
    assert median(outcome.share_refused for outcome in outcomes) < most_refused


def found_rate(outcome: Outcome) -> int:
    """Of the line that says what was found, the requests per minute."""
    words = outcome.found.split()
    assert words[:2] == ["takes", "about"] and words[3:] == ["requests", "per", "minute"]
    return int(words[2])


def test_few_requests_per_minute_are_found_and_held() -> None:
    outcome = run(lambda: Window(30, lognormal(1.0), retry_after="exact"), 300)
    assert rate(outcome) > 0.9 * 0.5
    assert outcome.refused < 60


def test_headers_tell_a_rate_before_anything_is_refused() -> None:
    outcome = run(lambda: Bucket(600, 600, lognormal(0.2), headers=True), 3000)
    assert (3000 - 600) / outcome.seconds > 0.85 * 10  # half a bucket is left untouched
    assert outcome.steady_rate > 10
    assert outcome.refused == 0
    assert outcome.found == "takes 600 requests per minute (as it says itself)"


def sizes() -> Callable[[], int]:
    chance = random.Random(4)
    return lambda: int(chance.lognormvariate(math.log(400), 0.5))


def test_headers_tell_tokens_per_minute() -> None:
    tokens = sizes()
    outcome = run(lambda: Bucket(200_000, 200_000, lognormal(1.0), by_tokens=True, headers=True), 2500, tokens=tokens)
    per_minute = 2500 * 400 * MEAN / outcome.seconds * 60
    assert per_minute > 0.9 * 200_000
    assert outcome.refused == 0
    assert outcome.found == "takes 200000 tokens per minute (as it says itself)"


def test_tokens_per_minute_are_held_without_headers() -> None:
    outcomes = [
        run(
            lambda seed=seed: Bucket(200_000, 20_000, lognormal(1.0, seed=seed), by_tokens=True),
            2500,
            tokens=sizes(),
            seed=seed,
        )
        for seed in range(6)
    ]
    assert min(2500 * 400 * MEAN / outcome.seconds * 60 for outcome in outcomes) > 0.9 * 200_000
    assert median(outcome.share_refused for outcome in outcomes) < 0.02


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


@pytest.mark.parametrize("retry_after", [None, 10.0])
@pytest.mark.parametrize("since", [0.0, 20.0])
def test_all_wait_while_all_is_refused_and_come_back(since: float, retry_after: float | None) -> None:
    outcome = run(lambda: Out(since, since + 60, lognormal(1.0), retry_after=retry_after), 3000)
    meanwhile = sum(since + 1 < sent < since + 60 for sent in outcome.sent)
    assert meanwhile < 30  # one asks now and then
    back = next(replied for replied in outcome.replied if replied > since + 60)
    assert back < since + 60 + 16
    assert outcome.seconds < 60 + 3000 * MEAN / 64 + 20
