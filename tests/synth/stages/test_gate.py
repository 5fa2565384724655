"""The gate: how many must be read, with how many errors, until the others may go in unread."""

import re
from math import comb

import pytest

from synth.records import UserError
from synth.stages.gate import Gate, least_read, upper_bound
from tests.conftest import REPOSITORY

ASKED = {
    0.10: {0: 29, 1: 46, 2: 61, 5: 103, 10: 167},
    0.05: {0: 59, 1: 93, 2: 124, 5: 208, 10: 336},
    0.02: {0: 149, 1: 236, 2: 313, 5: 523, 10: 845},
}


def chance_of_so_few(errors: int, num_read: int, share: float) -> float:
    """The chance of at most so many errors, as a sum."""
    return sum(comb(num_read, k) * share**k * (1 - share) ** (num_read - k) for k in range(errors + 1))


@pytest.mark.parametrize(
    ("limit", "errors", "num_read"), [(limit, *each) for limit, row in ASKED.items() for each in row.items()]
)
def test_a_limit_asks_for_the_numbers_of_the_exact_binomial(limit: float, errors: int, num_read: int) -> None:
    assert least_read(errors, limit) == num_read
    assert chance_of_so_few(errors, num_read, limit) <= 0.05 < chance_of_so_few(errors, num_read - 1, limit)


def test_the_bound_is_the_share_of_errors_that_would_give_so_few_in_one_of_twenty_readings() -> None:
    for errors, num_read in ((0, 59), (3, 120), (17, 40)):
        assert chance_of_so_few(errors, num_read, upper_bound(errors, num_read)) == pytest.approx(0.05)
    assert upper_bound(0, 20) == pytest.approx(1 - 0.05 ** (1 / 20))  # by hand: (1 - p)^20 = 0.05


def test_of_nothing_or_of_errors_alone_everything_may_be_wrong() -> None:
    assert (upper_bound(0, 0), upper_bound(7, 7)) == (1.0, 1.0)


@pytest.mark.parametrize(
    ("num_read", "errors", "num_more"), [(59, 0, 0), (58, 0, 1), (0, 0, 59), (59, 1, 34), (208, 5, 0), (207, 5, 1)]
)
def test_a_gate_says_how_many_more_must_be_read(num_read: int, errors: int, num_more: int) -> None:
    gate = Gate(num_read, errors, limit=0.05)
    assert (gate.num_more, gate.passes) == (num_more, num_more == 0)


@pytest.mark.parametrize("limit", [0.0, 1.0, -0.1, float("nan"), 0.0001])
def test_a_limit_that_nothing_can_meet_is_refused(limit: float) -> None:
    with pytest.raises(UserError, match=r"give 0\.001 to 0\.5"):
        Gate(0, 0, limit=limit)


def test_the_documented_table_is_what_the_gate_asks_for() -> None:
    page = (REPOSITORY / "docs" / "reviews.md").read_text()
    rows = re.findall(r"^\| (0\.\d+) \| (\d+) \| (\d+) \| (\d+) \| (\d+) \| (\d+) \|$", page, re.MULTILINE)
    assert {float(limit): tuple(map(int, numbers)) for limit, *numbers in rows} == {
        limit: tuple(row.values()) for limit, row in ASKED.items()
    }
