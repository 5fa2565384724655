"""mining.filters: which windows make sense, where a cap lies, and which positive decides it."""

import math

import numpy as np
import pytest

from mining import MiningError
from mining.filters import Window, positive_scores


def test_the_cap_of_a_positive_that_scores_below_zero_lies_below_it() -> None:
    window = Window(relative_cap=0.95)
    cap = window.cap(np.array([0.8, -0.4, 0.0], dtype=np.float32))
    np.testing.assert_allclose(cap, [0.76, -0.42, 0.0], atol=1e-6)


def test_of_several_caps_the_lowest_holds() -> None:
    window = Window(relative_cap=0.9, absolute_margin=0.05, absolute_cap=0.6)
    cap = window.cap(np.array([0.9, 0.6, 0.3], dtype=np.float32))
    np.testing.assert_allclose(cap, [0.6, 0.54, 0.25], atol=1e-6)
    assert np.isinf(Window(relative_cap=None).cap(np.array([0.5], dtype=np.float32)))


def test_the_lowest_or_the_highest_positive_counts_and_a_query_without_one_is_refused() -> None:
    queries = np.eye(2, dtype=np.float32)
    positives = np.array([[0.9, 0.1], [0.5, 0.5], [0.2, 0.7]], dtype=np.float32)
    of_query = np.array([0, 0, 1])
    np.testing.assert_allclose(positive_scores(queries, positives, of_query), [0.5, 0.7])
    np.testing.assert_allclose(positive_scores(queries, positives, of_query, which="highest"), [0.9, 0.7])
    with pytest.raises(MiningError, match="1 queries have no positive"):
        positive_scores(queries, positives, np.array([0, 0, 0]))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rank_min": 0}, "ranks count from 1"),
        ({"rank_min": 31}, "no window"),
        ({"rank_min": 10, "rank_max": 12}, "ask for 1 to 3"),
        ({"num_negatives": 0}, "ask for 1 to 21"),
        ({"relative_cap": 0.0}, "relative_cap is 0.0"),
        ({"relative_cap": math.nan}, "relative_cap is nan"),
        ({"absolute_margin": -0.1}, "absolute_margin is -0.1"),
        ({"absolute_margin": math.inf}, "absolute_margin is inf"),
        ({"absolute_cap": math.nan}, "absolute_cap is nan"),
        ({"absolute_cap": -1e300}, "absolute_cap is -1e.300: scores are from -1 to 1"),
        ({"temperature": 0.0}, "temperature is 0.0"),
        ({"temperature": 1e-300}, "temperature is 1e-300"),
        ({"choice": "best"}, "choice is 'best': use random or top or softmax"),
        ({"ranks": "all"}, "ranks is 'all': use retrieval or survivors"),
        ({"relax": ("window", "margin")}, "relax names 'margin': window and cap can be relaxed"),
    ],
)
def test_a_window_that_makes_no_sense_is_refused(settings: dict[str, float], message: str) -> None:
    with pytest.raises(MiningError, match=message):
        Window(**settings)  # type: ignore[arg-type]
