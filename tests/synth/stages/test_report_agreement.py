"""Scores of pairs against cosines: bands, ranks, and who is farthest apart."""

import math
import random
from collections.abc import Sequence
from uuid import UUID

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr

from synth.stages.report.agreement import SourceAgreement, agreement_by_source, score_bands
from synth.store.run_report import ScoredPair


def agreement(scores: Sequence[float], cosines: Sequence[float]) -> SourceAgreement:
    pairs = [ScoredPair("boats", UUID(int=n), f"text {n}", f"other {n}", score) for n, score in enumerate(scores)]
    [found] = agreement_by_source(pairs, np.array(cosines, dtype=np.float32))
    return found


@pytest.mark.parametrize("scores", [(0.0, 1.0, 0.5), tuple(n / 5 for n in range(26))])
def test_the_correlation_is_spearmans_with_ties(scores: tuple[float, ...]) -> None:
    rng = random.Random(1)
    given_scores = rng.choices(scores, k=60)
    cosines = [round(rng.random(), 1) for _ in given_scores]
    found = agreement(given_scores, cosines)
    assert found.spearman == pytest.approx(spearmanr(given_scores, cosines).statistic)


def test_cosines_that_only_rounding_tells_apart_share_a_rank() -> None:
    found = agreement([1.0, 2.0, 3.0, 4.0], [0.1, 0.2, 0.9999999, 1.0])
    assert found.spearman == pytest.approx(spearmanr([1, 2, 3, 4], [1, 2, 3, 3]).statistic)
    assert found.all_pairs.most == 1.0


def test_the_pairs_farthest_apart_by_rank_come_first_with_both_figures() -> None:
    found = agreement([0, 1, 2, 3, 4, 5, 5], [0.1, 0.7, 0.3, 0.4, 0.5, 0.0, 0.8])
    first, second, *_ = found.outliers
    assert (first.text1, first.text2, first.score, first.score_ranks) == ("text 5", "other 5", 5, (1, 2))
    assert (first.cosine, first.cosine_ranks) == (0.0, (7, 7))
    assert (second.text1, second.score_ranks, second.cosine_ranks) == ("text 1", (6, 6), (2, 2))
    assert [each.text1 for each in found.outliers[2:]] == ["text 0"]  # the others are where they belong


def test_at_most_five_pairs_are_told_equal_ones_by_id() -> None:
    found = agreement([1, 2, 3, 4, 5, 6, 7, 8], [0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1])
    assert [each.text1 for each in found.outliers] == ["text 0", "text 7", "text 1", "text 6", "text 2"]


@pytest.mark.parametrize("scores", [[1, 2, 3, 4], [0, 0, 1, 1]])
def test_of_pairs_in_their_right_order_none_is_far_apart(scores: list[float]) -> None:
    found = agreement(scores, [0.1, 0.2, 0.3, 0.4])
    assert found.spearman is not None and found.spearman > 0.85 and found.outliers == []


@pytest.mark.parametrize(
    ("scores", "cosines", "reason"),
    [
        ([1.0, 2.0], [0.1, 0.2], "fewer than 3 pairs"),
        ([4.5, 4.5, 4.5], [0.1, 0.2, 0.3], "all have the score 4.5"),
        ([1.0, 2.0, 3.0], [0.5, 0.5, 0.5], "all have the cosine 0.5"),
    ],
)
def test_where_a_correlation_would_say_nothing_there_is_none(
    scores: list[float], cosines: list[float], reason: str
) -> None:
    found = agreement(scores, cosines)
    assert (found.spearman, found.reason, found.outliers) == (None, reason, ())
    assert found.all_pairs.num == len(scores)


@pytest.mark.parametrize(
    ("scores", "names"),
    [
        ([0.0, 0.5, 1.0], ["0", "0.5", "1"]),
        ([n / 5 for n in range(26)], ["0 to 1", "1 to 2", "2 to 3", "3 to 4", "4 to 5"]),
        ([2.5 + n / 10 for n in range(26)], ["2 to 3", "3 to 4", "4 to 5"]),
        ([n / 20 for n in range(21)], ["0 to 0.2", "0.2 to 0.4", "0.4 to 0.6", "0.6 to 0.8", "0.8 to 1"]),
        ([float(n) for n in range(101)], ["0 to 20", "20 to 40", "40 to 60", "60 to 80", "80 to 100"]),
        ([n / 10 - 1 for n in range(21)], ["-1 to 0", "0 to 1"]),
        ([0.123456789, 0.12345678], ["0.12345678", "0.123456789"]),
    ],
)
def test_bands_are_between_round_numbers_or_of_each_score(scores: list[float], names: list[str]) -> None:
    found = agreement(scores, [0.01 * n for n in range(len(scores))])
    assert [band.name for band in found.bands] == names
    assert sum(band.histogram.num for band in found.bands) == len(scores)
    assert {band.histogram.edges for band in found.bands} == {found.all_pairs.edges}


def test_a_score_on_the_edge_of_two_bands_is_in_the_upper_one_and_the_highest_in_the_last() -> None:
    bands = score_bands([0, 0.9, 1.0, 1.5, 2.0, 3.0, 4.0, 5.0])
    assert bands == [(0, 1, [0, 1]), (1, 2, [2, 3]), (2, 3, [4]), (3, 4, [5]), (4, 5, [6, 7])]


@settings(max_examples=300)
@given(st.lists(st.floats(-1e300, 1e300), min_size=1, max_size=30))
def test_any_scores_have_a_few_bands_that_hold_all_of_them(scores: list[float]) -> None:
    bands = score_bands(scores)
    assert 1 <= len(bands) <= 6
    assert sorted(place for _, _, places in bands for place in places) == list(range(len(scores)))
    for low, high, places in bands:
        slack = 1e-8 * max(abs(low), abs(high))
        assert math.isfinite(low) and math.isfinite(high)
        assert all(low - slack <= scores[place] <= high + slack for place in places)
