"""Measures equal their formulas written out, and intervals cover what they should."""

import math
import random
from typing import Any

import numpy as np
import pytest
from scipy.stats import spearmanr

from trainer.metrics import (
    bootstrap,
    drawn_of_each_class,
    gains,
    interval,
    mean_of,
    ndcg,
    recall,
    reciprocal_rank,
    spearman,
    spearman_of,
)


def rankings(number: int) -> tuple[list[list[str]], list[dict[str, float]]]:
    rng = random.Random(number)
    found, grades = [], []
    for _ in range(30):
        passages = [str(name) for name in rng.sample(range(40), rng.randint(1, 20))]
        found.append(passages)
        relevant = rng.sample(range(40), rng.randint(1, 14))
        grades.append({str(name): float(rng.choice([1, 1, 2, 3])) for name in relevant})
    return found, grades


@pytest.mark.parametrize("seed", range(3))
def test_measures_of_rankings_equal_their_formulas(seed: int):
    found, grades = rankings(seed)
    gain_Qk = gains(found, grades, 20)
    values = [list(each.values()) for each in grades]
    for row, (passages, graded) in enumerate(zip(found, grades, strict=True)):
        first = passages[:10]
        dcg = sum(graded.get(name, 0) / math.log2(rank + 1) for rank, name in enumerate(first, start=1))
        best = sorted(graded.values(), reverse=True)[:10]
        ideal = sum(grade / math.log2(rank + 1) for rank, grade in enumerate(best, start=1))
        assert ndcg(gain_Qk, values)[row] == pytest.approx(dcg / ideal, abs=1e-12)
        ranks = [rank for rank, name in enumerate(first, start=1) if name in graded]
        assert reciprocal_rank(gain_Qk)[row] == (1 / ranks[0] if ranks else 0)
        assert recall(gain_Qk, values)[row] == pytest.approx(len(ranks) / len(graded))


def test_the_perfect_ranking_scores_one_and_nothing_found_scores_none():
    grades = [{"a": 2.0, "b": 1.0}]
    assert ndcg(gains([["a", "b", "c"]], grades, 10), [[2.0, 1.0]]) == [1.0]
    assert ndcg(gains([["b", "a"]], grades, 10), [[2.0, 1.0]])[0] < 1
    assert ndcg(gains([["c"]], grades, 10), [[2.0, 1.0]]) == [0.0]


def test_rank_correlation_is_that_of_scipy_with_ties():
    rng = np.random.default_rng(0)
    first, second = rng.integers(5, size=200).astype(float), rng.normal(size=200)
    assert spearman(first, second) == pytest.approx(spearmanr(first, second).statistic, abs=1e-12)
    assert math.isnan(spearman(np.ones(5), second[:5]))


def test_the_interval_of_a_mean_is_that_of_the_normal_law():
    value_N = np.random.default_rng(1).normal(size=4000)
    found = interval(bootstrap([mean_of(value_N)], 4000, resamples=2000, seed=0)[0])
    assert found is not None
    wide = 1.96 * value_N.std() / math.sqrt(4000)
    assert found.low == pytest.approx(value_N.mean() - wide, rel=0.1, abs=0.003)
    assert found.high == pytest.approx(value_N.mean() + wide, rel=0.1, abs=0.003)


def test_a_change_is_surer_than_its_two_values_because_the_resamples_are_the_same():
    rng = np.random.default_rng(2)
    before = rng.uniform(size=300)
    after = before + 0.02 + rng.normal(scale=0.01, size=300)
    drawn = bootstrap([mean_of(before), mean_of(after)], 300, resamples=500, seed=0)
    alone, change = interval(drawn[1]), interval(drawn[1] - drawn[0])
    assert alone is not None and change is not None
    assert change.low > 0.015 and change.high - change.low < 0.1 * (alone.high - alone.low)


def test_the_seed_decides_the_resamples():
    statistics = [spearman_of(np.arange(50.0), np.arange(50.0) % 7)]
    first, again, other = (bootstrap(statistics, 50, resamples=100, seed=seed) for seed in (1, 1, 2))
    assert (first == again).all() and (first != other).any()


def test_there_is_no_interval_where_resamples_have_no_value():
    assert interval(np.array([np.nan] * 10 + [1.0] * 90)) is None
    assert interval(np.array([np.nan] + [1.0] * 99)) is not None


def test_texts_of_each_class_are_drawn_as_mteb_draws_them():
    labels = ["ab"[number % 3 == 0] for number in range(30)]

    def undersampled(places: list[int]) -> tuple[list[int], list[int]]:  # as its AbsTaskClassification does it
        np.random.RandomState(42).shuffle(places)
        counts: dict[Any, int] = {"a": 0, "b": 0}
        taken = []
        for place in places:
            if counts[labels[place]] < 4:
                counts[labels[place]] += 1
                taken.append(place)
        return places, taken

    places, expected = list(range(30)), []
    for _ in range(3):
        places, taken = undersampled(places)
        expected.append(taken)
    found = drawn_of_each_class(labels, of_each=4, times=3, seed=42)
    assert found == expected and found[0] != found[1]
    assert drawn_of_each_class(["a", "b", "b"], of_each=4, times=1, seed=42)[0].__len__() == 3
