"""The ceilings that a user states are never passed, in virtual time."""

import math
import random
from collections.abc import Callable
from typing import Any

import pytest

from tests.synth.llm.gate.virtual_servers import Server, constant, lognormal, run


def sizes() -> Callable[[], int]:
    chance = random.Random(4)
    return lambda: int(chance.lognormvariate(math.log(400), 0.5))


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


def test_requests_of_most_of_a_minutes_tokens_wait_until_the_minute_has_room() -> None:
    drawn: list[int] = []
    draw = random.Random(5)

    def tokens() -> int:
        drawn.append(draw.choice([10, 300, 700, 990]))
        return drawn[-1]

    outcome = run(lambda: Server(constant(0.2)), 40, tasks=1, tokens=tokens, tokens_per_minute=1000)
    assert most_within(60.0, outcome.sent, drawn) <= 1000


def test_a_request_larger_than_the_ceiling_is_sent_all_the_same_and_alone_in_its_minute() -> None:
    outcome = run(lambda: Server(constant(0.2)), 3, tokens=lambda: 5000, tokens_per_minute=1000)
    assert len(outcome.replied) == 3
    assert all(after - before > 60 for before, after in zip(outcome.sent, outcome.sent[1:], strict=False))


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
