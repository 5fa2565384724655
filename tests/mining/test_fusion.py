"""mining.fusion against the formula of the paper written as loops."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mining.fusion import Rows, fuse

# Per miner and query the rows of a list, some of them no row; no row twice.
ENTRIES = st.lists(st.integers(-1, 12), max_size=6, unique_by=lambda row: row if row >= 0 else object())
MINERS = st.integers(0, 4).flatmap(
    lambda num_queries: st.lists(st.lists(ENTRIES, min_size=num_queries, max_size=num_queries), min_size=1, max_size=4)
)


def table(lists: list[list[int]], width: int) -> Rows:
    """Lists of rows as (N, width), the shorter ones ending in -1."""
    rows = [each + [-1] * (width - len(each)) for each in lists]
    return np.array(rows, dtype=np.int64).reshape(len(lists), width)


def expected(lists: list[list[int]], constant: int) -> list[tuple[int, float, int]]:
    """Row, fused score and votes of one query, given each miner's list."""
    ranks: dict[int, list[int]] = {}
    for rows in lists:
        for rank, row in enumerate(rows, start=1):
            if row >= 0:
                ranks.setdefault(row, []).append(rank)
    fused = []
    for row, its_ranks in ranks.items():
        total = 0.0
        for rank in sorted(its_ranks):
            total += 1 / (constant + rank)
        fused.append((row, total, len(its_ranks)))
    return sorted(fused, key=lambda entry: (-entry[1], entry[0]))


@settings(max_examples=200, deadline=None)
@given(miners=MINERS, constant=st.sampled_from([60, 1]), spare=st.integers(0, 2))
def test_the_fused_list_is_that_of_the_formula_written_as_loops(
    miners: list[list[list[int]]], constant: int, spare: int
) -> None:
    tables = [table(lists, max([len(each) for each in lists], default=0) + spare) for lists in miners]

    rows_NK, fused_NK, votes_NK = fuse(tables, constant=constant)

    wanted = [expected(list(lists), constant) for lists in zip(*miners, strict=True)]
    assert rows_NK.shape == fused_NK.shape == votes_NK.shape == (len(wanted), max(map(len, wanted), default=0))
    assert (rows_NK.dtype, fused_NK.dtype, votes_NK.dtype) == (np.int64, np.float64, np.int64)
    for place, entries in enumerate(wanted):
        found = list(zip(rows_NK[place].tolist(), fused_NK[place].tolist(), votes_NK[place].tolist(), strict=True))
        assert found == entries + [(-1, 0.0, 0)] * (rows_NK.shape[1] - len(entries))


def test_the_constant_is_that_of_the_paper() -> None:
    _, fused_NK, _ = fuse([np.array([[7, 8]])])
    assert fused_NK.tolist() == [[1 / 61, 1 / 62]]


def test_a_row_that_two_miners_have_goes_before_the_first_of_either() -> None:
    rows_NK, _, votes_NK = fuse([np.array([[5, 9]]), np.array([[6, 9, 4]])])
    assert rows_NK.tolist() == [[9, 5, 6, 4]]
    assert votes_NK.tolist() == [[2, 1, 1, 1]]


def test_rows_of_equal_ranks_tie_whichever_miner_gave_them() -> None:
    # Added up miner by miner, 1/61 + 1/62 + 1/63 differs from 1/63 + 1/62 + 1/61 in the last digit.
    rows_NK, fused_NK, _ = fuse([np.array([[3, 1, 2]]), np.array([[1, 2, 3]]), np.array([[2, 3, 1]])])
    assert rows_NK.tolist() == [[1, 2, 3]]
    assert len(set(fused_NK[0].tolist())) == 1


@pytest.mark.parametrize("miners", [[], [np.zeros((2, 3), np.int64), np.zeros((3, 3), np.int64)]])
def test_no_miner_or_lists_of_other_queries_are_refused(miners: list[Rows]) -> None:
    with pytest.raises(ValueError, match=r"at least one array|dimensions"):
        fuse(miners)
