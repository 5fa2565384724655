"""Histograms: every value is in one count, and the bounds are round numbers."""

import math

from hypothesis import given
from hypothesis import strategies as st

from synth.stages.report.figures import MOST_BINS, Histogram, histogram, shared_edges

VALUES = st.lists(st.floats(min_value=-1e4, max_value=1e4, allow_nan=False), min_size=1, max_size=300)


@given(VALUES)
def test_every_value_lies_in_one_count_between_its_bounds(values: list[float]) -> None:
    found = histogram(values)
    assert found is not None and found.num == len(values) and len(found.counts) <= MOST_BINS
    assert (found.least, found.most) == (min(values), max(values))
    for place, count in enumerate(found.counts):
        low, high = found.bound(place)
        within = [v for v in values if (low is None or v >= low - 1e-5) and (high is None or v <= high + 1e-5)]
        assert count <= len(within)


@given(st.lists(VALUES, min_size=1, max_size=4))
def test_distributions_that_are_compared_have_the_same_edges(distributions: list[list[float]]) -> None:
    edges = shared_edges(distributions)
    assert all(
        (found := histogram(values, edges)) and found.edges == tuple(edges) and found.num == len(values)
        for values in distributions
    )


def test_equal_steps_from_a_round_number() -> None:
    found = histogram([-0.13, -0.02, 0.0, 0.049, 0.05, 0.12])
    assert found is not None and found.edges[:3] == (-0.14, -0.12, -0.1)
    assert histogram([0.0] * 5) == Histogram((0.0, 0.01), (5,), 0.0, 0.0, 0.0)
    assert histogram([1.0, 0.5]).edges[-1] == 1.0  # type: ignore[union-attr] - and not a step beyond what can be


@given(VALUES)
def test_only_the_utmost_values_lie_beyond_a_bound(values: list[float]) -> None:
    found = histogram(values)
    assert found is not None
    for place in (0, len(found.counts) - 1):
        if None in found.bound(place):
            assert found.counts[place] <= max(len(values) // 100, 1)


@given(st.lists(st.integers(0, 10_000), min_size=1, max_size=300))
def test_whole_numbers_lie_between_whole_numbers(values: list[int]) -> None:
    found = histogram(values, are_whole=True)
    assert found is not None and found.num == len(values) and len(found.counts) <= MOST_BINS
    assert all(edge == int(edge) for edge in found.edges)
    for place, count in enumerate(found.counts):
        low, high = found.bound(place)
        assert count == sum((low is None or v >= low) and (high is None or v < high) for v in values) or None in (
            low,
            high,
        )


def test_one_far_off_does_not_hide_the_others() -> None:
    found = histogram([number / 100 for number in range(100)] * 3 + [40.0])
    assert found is not None and found.edges[-2] <= 1.0
    assert found.bound(len(found.counts) - 1)[1] is None and (found.counts[-1], found.most) == (1, 40.0)


def test_what_lies_below_is_not_put_to_what_does_not() -> None:
    found = histogram([-0.158, *[-0.12] * 28, *[0.1] * 92])
    assert found is not None and found.bound(0) == (None, -0.12)
    assert found.counts[:2] == (1, 28)


def test_a_share_of_all_is_not_above_all() -> None:
    assert histogram([1.0] * 5) == Histogram((0.99, 1.0), (5,), 1.0, 1.0, 1.0)


def test_what_is_no_number_is_left_out() -> None:
    assert histogram([]) is None and histogram([math.inf, math.nan]) is None
    found = histogram([0.1, math.inf])
    assert found is not None and found.num == 1
