"""Scores and ranks against the formulas written out, and the votes of neighbours."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mining.search import load_searcher
from synth.stages.triage.neighbours import vote
from synth.stages.triage.scores import parts_at, priorities, rank_shares, standard_scores

NUMBERS = st.lists(st.integers(-5, 5).map(float), min_size=1, max_size=30)


@settings(deadline=None)
@given(NUMBERS)
def test_scores_are_standard_deviations_above_the_mean(values: list[float]) -> None:
    mean = sum(values) / len(values)
    spread = math.sqrt(sum((each - mean) ** 2 for each in values) / len(values))
    wanted = [(each - mean) / spread if spread > 1e-9 else 0.0 for each in values]
    assert standard_scores(np.array(values)).tolist() == pytest.approx(wanted)


def test_what_is_not_known_has_no_score_and_moves_no_mean() -> None:
    scores = standard_scores(np.array([1.0, math.nan, 3.0]))
    assert (scores[0], scores[2], math.isnan(scores[1])) == (-1.0, 1.0, True)
    assert standard_scores(np.array([0.3])).tolist() == [0.0]


def test_a_priority_is_the_sum_of_what_is_above_the_mean_and_parts_come_worst_first() -> None:
    scores = {"near": np.array([2.0, -3.0, math.nan]), "far": np.array([0.5, 1.0, math.nan])}
    assert priorities(scores, 3).tolist() == [2.5, 1.0, 0.0]
    assert [(part.name, part.score) for part in parts_at(scores, scores, 1)] == [("far", 1.0), ("near", -3.0)]
    assert parts_at(scores, scores, 2) == ()


@settings(deadline=None)
@given(NUMBERS)
def test_ranks_are_the_share_of_the_others_below_equal_ones_half(values: list[float]) -> None:
    others = max(1, len(values) - 1)
    wanted = [
        (sum(other < each for other in values) + (values.count(each) - 1) / 2) / others if len(values) > 1 else 0.0
        for each in values
    ]
    assert rank_shares(np.array(values)).tolist() == pytest.approx(wanted)


def test_neighbours_vote_and_a_text_has_no_vote_on_itself() -> None:
    angles = np.radians([0.0, 1.0, 2.0, 3.0, 80.0, 81.0, 82.0])
    text_ND = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    voted = vote(load_searcher(device="cpu"), text_ND, ["a", "b", "a", "c", "b", "b", "b"])
    assert voted.share_N[0] == pytest.approx(5 / 6)  # one of six others has its label
    assert voted.labels[0] == ("b", "a", "c")  # of one vote each, a is nearer
    alone = vote(load_searcher(device="cpu"), text_ND[:1], ["a"])
    assert (math.isnan(alone.share_N[0]), alone.labels) == (True, [()])
