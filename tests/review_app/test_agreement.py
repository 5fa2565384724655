"""The dashboard's statistics, against examples computed by hand."""

import pytest

from review_app.agreement import FEW, Share, alpha, pair_agreements, spearman, unanimity


def test_a_share_has_wilsons_interval() -> None:
    share = Share(8, 10)
    assert share.value == 0.8
    # z = 1.96: centre (0.8 + 3.8416 / 20) / (1 + 0.38416) = 0.716738; half of the width
    # 1.96 / 1.38416 * sqrt(0.16 / 10 + 3.8416 / 400) = 0.226581
    assert share.interval == pytest.approx((0.490157, 0.943319), abs=1e-6)


def test_a_share_of_nothing_is_none_and_one_of_few_says_so() -> None:
    assert (Share(0, 0).value, Share(0, 0).interval, Share(0, 0).note) == (None, None, FEW)
    assert (Share(19, 19).note, Share(20, 20).note) == ("fewer than 20", "")


def test_wilsons_interval_never_leaves_what_a_share_can_be() -> None:
    low, high = Share(0, 4).interval or (-1, 2)
    assert low == 0
    assert high == pytest.approx(3.8416 / (4 + 3.8416))  # z^2 / (n + z^2)


def words(**said: str) -> list[tuple[int, str, bool]]:
    """One character for each thing: y approves, n rejects, a dot says nothing."""
    return [
        (thing, reviewer, each == "y")
        for reviewer, line in said.items()
        for thing, each in enumerate(line)
        if each != "."
    ]


def test_kappa_is_agreement_beyond_what_chance_gives() -> None:
    # 6 yes yes, 1 yes no, 1 no yes, 2 no no: raw 0.8; by chance 0.7 * 0.7 + 0.3 * 0.3 = 0.58
    [pair] = pair_agreements(words(ann="yyyyyyynnn", bob="yyyyyynynn"))
    assert (pair.reviewer, pair.other) == ("ann", "bob")
    assert (pair.same, pair.approved) == (Share(8, 10), Share(14, 20))
    assert pair.kappa == pytest.approx((0.8 - 0.58) / (1 - 0.58))


def test_kappa_has_no_value_where_both_approve_everything() -> None:
    [pair] = pair_agreements(words(ann="yyy", bob="yyy"))
    assert (pair.kappa, pair.same.value, pair.approved.value) == (None, 1.0, 1.0)


def test_only_what_two_judged_in_common_is_compared() -> None:
    pairs = pair_agreements(words(ann="yn..", bob="..yn", eve="y..n"))
    assert [(pair.reviewer, pair.other, pair.same) for pair in pairs] == [
        ("ann", "eve", Share(1, 1)),
        ("bob", "eve", Share(1, 1)),
    ]


def test_alpha_of_two_people_and_two_verdicts() -> None:
    # 10 things: 4 agree on 0, 4 on 1, 2 differ. o_01 = o_10 = 2, n_0 = n_1 = 10, n = 20.
    # D_o = 4, D_e = 2 * 10 * 10 / 19 = 10.526316: 1 - 4 / 10.526316 = 0.62
    units = [(0, 0)] * 4 + [(1, 1)] * 4 + [(0, 1)] * 2
    assert alpha(units) == pytest.approx(0.62)
    assert alpha([*units, (1,)]) == pytest.approx(0.62)  # of one person alone nothing follows


def test_ordinal_alpha_minds_how_far_apart_grades_are() -> None:
    # Grades 0 0, 1 1, 3 3 and one difference: n = 8.
    near, far = [(0, 0), (1, 1), (3, 3), (0, 1)], [(0, 0), (1, 1), (3, 3), (0, 3)]
    assert alpha(near) == pytest.approx(alpha(far))  # as names both are one difference
    # near: n_0 = n_1 = 3, n_3 = 2. d01 = 3^2 = 9, d03 = (8 - 2.5)^2 = 30.25, d13 = (5 - 2.5)^2 = 6.25.
    # D_o = 2 * 9; D_e = 2 * (9 * 9 + 6 * 30.25 + 6 * 6.25) / 7 = 600 / 7.
    assert alpha(near, ordinal=True) == pytest.approx(1 - 18 / (600 / 7))
    # far: n_0 = n_3 = 3, n_1 = 2. d01 = (5 - 2.5)^2 = 6.25 = d13, d03 = (8 - 3)^2 = 25.
    # D_o = 2 * 25; D_e = 2 * (6 * 6.25 + 9 * 25 + 6 * 6.25) / 7 = 600 / 7.
    assert alpha(far, ordinal=True) == pytest.approx(1 - 50 / (600 / 7))


def test_alpha_of_four_people_who_left_gaps_is_krippendorffs_own_example() -> None:
    """Computing Krippendorff's Alpha-Reliability (2011), part C: 12 things, 0.743 nominal and 0.815 ordinal."""
    lines = ["111", "2232", "3333", "3333", "2222", "1234", "4444", "1121", "2222", "555", "11", "3"]
    units = [tuple(map(int, line)) for line in lines]
    assert alpha(units) == pytest.approx(0.743, abs=5e-4)
    assert alpha(units, ordinal=True) == pytest.approx(0.815, abs=5e-4)


@pytest.mark.parametrize("units", [[], [(1,)], [(1, 1), (1, 1)]])
def test_alpha_has_no_value_where_there_is_nothing_to_disagree_on(units: list[tuple[int, ...]]) -> None:
    assert alpha(units) is None


def test_complete_disagreement_is_below_chance() -> None:
    # o_01 = o_10 = 2, n = 4, D_o = 4, D_e = 2 * 2 * 2 / 3
    assert alpha([(0, 1), (1, 0)]) == pytest.approx(1 - 4 / (8 / 3))


def test_raw_agreement_and_the_commonest_value_stand_beside_alpha() -> None:
    found = unanimity([("a", 1), ("a", 1), ("b", 1), ("b", 0), ("c", 1)])
    assert (found.num_units, found.same, found.commonest) == (2, Share(1, 2), Share(3, 4))
    assert unanimity([]).alpha is None


def test_spearman_is_the_correlation_of_ranks() -> None:
    # ranks 1 2 3 4 against 2 1 4 3: 1 - 6 * 4 / (4 * 15) = 0.6
    assert spearman([(10, 5), (20, 1), (30, 900), (40, 7)]) == pytest.approx(0.6)
    # ties have their mean rank: 1.5 1.5 3 against 1 2 3: cov 1.5, variances 1.5 and 2: 1.5 / sqrt(3)
    assert spearman([(1, 1), (1, 2), (2, 3)]) == pytest.approx(1.5 / 3**0.5)


@pytest.mark.parametrize("pairs", [[], [(1, 2)], [(1, 2), (1, 3)]])
def test_spearman_has_no_value_where_nothing_differs(pairs: list[tuple[float, float]]) -> None:
    assert spearman(pairs) is None
