"""What the gate says of a server is so, or is not said; in virtual time, of many seeds each."""

from collections.abc import Callable

import pytest

from tests.synth.llm.gate.virtual_servers import AtOnce, Bucket, Chance, Server, Slots, constant, lognormal, run

SEEDS = range(20)


def found(make: Callable[[int], Server], number: int) -> list[str]:
    """One line for each seed, "" where nothing is said."""
    return [run(lambda seed=seed: make(seed), number, seed=seed).found for seed in SEEDS]


@pytest.mark.parametrize("number", [80, 200, 600])
@pytest.mark.parametrize("share", [0.03, 0.1, 0.2])
def test_refusals_by_chance_are_taken_for_no_limit(share: float, number: int) -> None:
    lines = found(lambda seed: Chance(share, lognormal(0.2, seed=seed), seed=seed), number)
    assert sum(line != "" for line in lines) <= 2  # more was tried again, and refused again: by chance


@pytest.mark.parametrize(("at_once", "number"), [(1, 40), (4, 80), (16, 200), (50, 400)])
def test_a_wall_is_told_when_more_was_tried_again(at_once: int, number: int) -> None:
    requests = "request" if at_once == 1 else "requests"
    lines = found(lambda seed: AtOnce(lambda _: at_once, lognormal(0.2, seed=seed)), number)
    assert lines.count(f"takes {at_once} {requests} at a time") >= 18


@pytest.mark.parametrize("burst", [10, 30, 60])
def test_a_rate_is_told_after_half_a_minute(burst: int) -> None:
    lines = [line for line in found(lambda seed: Bucket(600, burst, lognormal(0.2, seed=seed)), 400) if line]
    assert len(lines) >= 16
    assert all(540 <= int(line.split()[2]) <= 660 for line in lines)
    assert all(line.endswith("requests per minute") for line in lines)


def test_four_slots_are_told_in_a_run_of_eighty_requests() -> None:
    assert set(found(lambda seed: Slots(4, constant(1.0)), 80)) == {"gets slower above 4 at a time"}


def test_that_replies_seemed_to_queue_is_not_told_once_many_more_are_under_way() -> None:
    lines = found(lambda seed: Chance(0.03, lognormal(1.0, seed=seed), seed=seed), 600)
    assert sum("slower" in line for line in lines) <= 1
