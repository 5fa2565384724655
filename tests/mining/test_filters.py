"""mining.filters against the rule written out as loops, and the outcomes that a user is told."""

import math
from uuid import UUID

import numpy as np
import pytest

from mining import MiningError
from mining.filters import Mined, Outcome, Window, lowest_scores, mine
from mining.search import Floats, Rows


def vectors(rng: np.random.Generator, count: int, dimension: int = 8) -> Floats:
    """Unit vectors, a third of them repeated, so that there are ties."""
    values = rng.standard_normal((count, dimension)).astype(np.float32)
    values[rng.integers(0, count, count // 3)] = values[rng.integers(0, count, count // 3)]
    return values / np.linalg.norm(values, axis=1, keepdims=True)


def ids(count: int) -> list[UUID]:
    return [UUID(int=number * 7919 + 1) for number in range(count)]


def candidates(query: Floats, corpus: Floats, masked: Rows) -> list[tuple[float, int]]:
    """Score and row of every candidate, best first, ties by row."""
    scored = []
    for row in range(len(corpus)):
        if row not in masked:
            total = math.fsum(float(a) * float(b) for a, b in zip(query, corpus[row], strict=True))
            scored.append((float(np.float32(total)), row))
    return sorted(scored, key=lambda pair: (-pair[0], pair[1]))


def allowed_ranks(window: Window, ranked: list[tuple[float, int]], positive: float) -> list[int]:
    """The ranks that may be taken: those of the window below the cap, or, widened, the next ones below them."""
    cap = math.inf
    if window.relative_cap is not None:
        cap = min(cap, positive - (1 - window.relative_cap) * abs(positive))
    if window.absolute_margin is not None:
        cap = min(cap, positive - window.absolute_margin)
    below = [rank for rank, (score, _) in enumerate(ranked, start=1) if score < np.float32(cap)]
    inside = [rank for rank in below if window.rank_min <= rank <= window.rank_max]
    if window.widen and len(inside) < window.num_negatives:
        return [rank for rank in below if rank >= window.rank_min][: window.num_negatives]
    return inside


WINDOWS = [
    Window(),
    Window(choice="top", widen=False),
    Window(rank_min=1, rank_max=4, relative_cap=None, choice="top"),
    Window(rank_min=3, rank_max=9, relative_cap=0.5, absolute_margin=0.1),
    Window(rank_min=2, rank_max=6, relative_cap=None, absolute_margin=0.4, widen=False),
    Window(rank_min=30, rank_max=60, num_negatives=5, relative_cap=1.0),
]


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("corpus_size", [0, 3, 25, 90])
def test_the_choice_is_that_of_the_rule_written_as_loops(window: Window, corpus_size: int) -> None:
    rng = np.random.default_rng(corpus_size)
    corpus, queries = vectors(rng, corpus_size), vectors(rng, 40)
    positives = rng.uniform(-0.9, 1, 40).astype(np.float32)
    if corpus_size:  # some positives tie with a candidate
        positives[:10] = [candidates(queries[i], corpus, np.array([]))[i % corpus_size][0] for i in range(10)]
    masked = [rng.integers(0, max(corpus_size, 1), rng.integers(0, 5)) if corpus_size else [] for _ in range(40)]
    masked = [np.array(rows, dtype=np.int64) for rows in masked]

    mined = mine(
        queries, corpus, positive_scores_Q=positives, masked_rows=masked, query_ids=ids(40), window=window, seed=5
    )

    for query in range(40):
        ranked = candidates(queries[query], corpus, masked[query])
        allowed = allowed_ranks(window, ranked, float(positives[query]))
        ranks = mined.ranks_QN[query][mined.ranks_QN[query] > 0]
        assert len(ranks) == min(window.num_negatives, len(allowed))
        assert set(ranks) <= set(allowed)
        if window.choice == "top":
            assert list(ranks) == allowed[: window.num_negatives]
        for place, rank in enumerate(ranks):
            assert (mined.scores_QN[query, place], mined.rows_QN[query, place]) == ranked[rank - 1]
        assert mined.positive_ranks_Q[query] == 1 + sum(score > positives[query] for score, _ in ranked)
        assert mined.num_candidates_Q[query] == len(ranked)


def test_every_query_whose_cap_lies_deep_is_widened_to_the_first_candidates_below_it() -> None:
    rng = np.random.default_rng(1)
    corpus, queries = vectors(rng, 40_000), vectors(rng, 6)
    scores = queries.astype(np.float64) @ corpus.astype(np.float64).T
    positives = np.sort(scores.astype(np.float32), axis=1)[:, -20_000]  # half of the corpus scores above it

    mined = mine_plain(queries, corpus, positives, Window(relative_cap=None, absolute_margin=0.0))

    for query in range(6):
        assert mined.positive_ranks_Q[query] == 1 + (scores[query].astype(np.float32) > positives[query]).sum()
        first = 1 + (scores[query].astype(np.float32) >= positives[query]).sum()
        assert list(mined.ranks_QN[query]) == list(range(first, first + 4))
        assert (mined.scores_QN[query] < positives[query]).all()
        assert mined.outcome(query) is Outcome.WIDENED


def mine_plain(queries: Floats, corpus: Floats, positives: Floats, window: Window, seed: int = 0) -> Mined:
    nothing = [np.empty(0, dtype=np.int64)] * len(queries)
    return mine(
        queries,
        corpus,
        positive_scores_Q=positives,
        masked_rows=nothing,
        query_ids=ids(len(queries)),
        window=window,
        seed=seed,
    )


def test_masked_rows_are_neither_chosen_nor_counted_as_ranks() -> None:
    corpus = np.eye(6, dtype=np.float32)
    query = np.array([[0.9, 0.8, 0.7, 0.6, 0.5, 0.4]], dtype=np.float32)
    mined = mine(
        query,
        corpus,
        positive_scores_Q=np.array([2.0], dtype=np.float32),
        masked_rows=[np.array([2, 0, 2])],
        query_ids=ids(1),
        window=Window(rank_min=1, rank_max=3, num_negatives=3),
        seed=0,
    )
    assert mined.rows_QN.tolist() == [[1, 3, 4]]
    assert mined.ranks_QN.tolist() == [[1, 2, 3]]


def test_one_query_with_a_thousand_masked_rows_gets_its_ranks_right() -> None:
    rng = np.random.default_rng(2)
    corpus, queries = vectors(rng, 1500), vectors(rng, 3)
    many = np.argsort(-(queries[0] @ corpus.T))[:1000]
    none = np.empty(0, dtype=np.int64)
    mined = mine(
        queries,
        corpus,
        positive_scores_Q=np.full(3, 2.0, dtype=np.float32),
        masked_rows=[many, none, none],
        query_ids=ids(3),
        window=Window(choice="top"),
        seed=0,
    )
    ranked = candidates(queries[0], corpus, many)
    assert mined.rows_QN[0].tolist() == [row for _, row in ranked[9:13]]


def test_the_cap_of_a_positive_that_scores_below_zero_lies_below_it() -> None:
    window = Window(relative_cap=0.95)
    cap = window.cap(np.array([0.8, -0.4, 0.0], dtype=np.float32))
    np.testing.assert_allclose(cap, [0.76, -0.42, 0.0], atol=1e-6)


def test_a_random_choice_depends_on_the_seed_and_the_query_alone() -> None:
    rng = np.random.default_rng(3)
    corpus, queries = vectors(rng, 200), vectors(rng, 20)
    positives = np.full(20, 2.0, dtype=np.float32)
    first = mine_plain(queries, corpus, positives, Window())
    again = mine_plain(queries, corpus, positives, Window())
    other = mine_plain(queries, corpus, positives, Window(), seed=1)
    alone = mine(
        queries[7:8],
        corpus,
        positive_scores_Q=positives[:1],
        masked_rows=[np.empty(0, dtype=np.int64)],
        query_ids=ids(20)[7:8],
        window=Window(),
        seed=0,
    )
    assert (first.rows_QN == again.rows_QN).all()
    assert (first.rows_QN != other.rows_QN).any()
    assert (alone.rows_QN[0] == first.rows_QN[7]).all()


def test_outcomes_say_why_a_query_fell_short() -> None:
    corpus = np.eye(12, dtype=np.float32)
    query = np.linspace(0.9, 0.35, 12, dtype=np.float32)[None, :]

    def mined(positive: float, **window: int | bool | str) -> Mined:
        settings = {"rank_min": 3, "rank_max": 8, "num_negatives": 2, "choice": "top", **window}
        return mine_plain(query, corpus, np.array([positive], dtype=np.float32), Window(**settings))  # type: ignore[arg-type]

    assert (mined(1.0).outcome(0), mined(1.0).reason(0)) == (Outcome.FULL, "")
    short = mined(0.62, widen=False)  # the cap is 0.589: ranks 3 to 7 score above it
    assert short.outcome(0) is Outcome.SHORT
    assert short.reason(0) == (
        "5 of 6 candidates of ranks 3-8 score at or above the cap, 7 of 12 in the corpus; the positive has rank 7"
    )
    assert mined(0.62).outcome(0) is Outcome.WIDENED
    assert mined(0.62).reason(0) == short.reason(0)
    assert mined(0.4, widen=False).outcome(0) is Outcome.NONE
    small = mined(1.0, rank_min=20, rank_max=30)
    assert (small.outcome(0), small.reason(0)) == (
        Outcome.NONE,
        "the corpus holds only 12 candidates: none has rank 20",
    )


def test_the_lowest_positive_counts_and_a_query_without_one_is_refused() -> None:
    queries = np.eye(2, dtype=np.float32)
    positives = np.array([[0.9, 0.1], [0.5, 0.5], [0.2, 0.7]], dtype=np.float32)
    lowest = lowest_scores(queries, positives, np.array([0, 0, 1]))
    np.testing.assert_allclose(lowest, [0.5, 0.7])
    with pytest.raises(MiningError, match="1 queries have no positive"):
        lowest_scores(queries, positives, np.array([0, 0, 0]))


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
        ({"choice": "best"}, "no choice 'best'"),
    ],
)
def test_a_window_that_makes_no_sense_is_refused(settings: dict[str, float], message: str) -> None:
    with pytest.raises(MiningError, match=message):
        Window(**settings)  # type: ignore[arg-type]
