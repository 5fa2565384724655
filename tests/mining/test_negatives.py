"""mining.negatives against the rule written out as loops, and the outcomes that a user is told."""

import math

import numpy as np
import pytest

from mining.candidates import Listed
from mining.filters import Window
from mining.negatives import Mined, Outcome, decide, mine, propose
from mining.search import Floats, Searcher, load_searcher
from tests.mining.vectors import ids, nothing, ranked_candidates, unit_vectors

SEARCHERS = [
    load_searcher(device="cpu", precision=precision, backend=backend)
    for precision, backend in (("bf16", "torch"), ("fp32", "torch"), ("fp32", "faiss"))
]
SEARCHER = SEARCHERS[0]


def allowed_places(window: Window, ranked: list[tuple[float, int]], positive: float) -> tuple[list[int], list[int]]:
    """Places (from 0) of the candidates of the window below the cap, and of those below the window."""
    cap = math.inf if window.absolute_cap is None else window.absolute_cap
    if window.relative_cap is not None:
        cap = min(cap, positive - (1 - window.relative_cap) * abs(positive))
    if window.absolute_margin is not None:
        cap = min(cap, positive - window.absolute_margin)
    below_cap = [place for place, (score, _) in enumerate(ranked) if score < np.float32(cap)]
    rank = {place: number for number, place in enumerate(below_cap, start=1)}
    if window.ranks == "retrieval":
        rank = {place: place + 1 for place in below_cap}
    inside = [place for place in below_cap if window.rank_min <= rank[place] <= window.rank_max]
    return inside, [place for place in below_cap if rank[place] > window.rank_max]


WINDOWS = [
    Window(),
    Window(choice="top", relax=()),
    Window(rank_min=1, rank_max=4, relative_cap=None, choice="top"),
    Window(rank_min=3, rank_max=9, relative_cap=0.5, absolute_margin=0.1, choice="softmax"),
    Window(rank_min=2, rank_max=6, relative_cap=None, absolute_margin=0.4, relax=()),
    Window(rank_min=30, rank_max=60, num_negatives=5, relative_cap=1.0),
    Window(rank_min=2, rank_max=12, ranks="survivors", absolute_cap=0.3),
    Window(rank_min=1, rank_max=4, ranks="survivors", choice="top"),
]


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("corpus_size", [0, 3, 25, 90])
@pytest.mark.parametrize("searcher", SEARCHERS)
def test_the_choice_is_that_of_the_rule_written_as_loops(searcher: Searcher, window: Window, corpus_size: int) -> None:
    rng = np.random.default_rng(corpus_size)
    corpus, queries = unit_vectors(rng, corpus_size), unit_vectors(rng, 15)
    positives = rng.uniform(-0.9, 1, 15).astype(np.float32)
    ranked = [ranked_candidates(query, corpus, ()) for query in queries]
    if corpus_size:  # some positives tie with a candidate
        positives[:5] = [ranked[i][i % corpus_size][0] for i in range(5)]
    masked = [rng.integers(0, max(corpus_size, 1), rng.integers(0, 5) * (corpus_size > 0)) for _ in range(15)]

    mined = mine(
        searcher,
        queries,
        corpus,
        positive_scores_Q=positives,
        masked=masked,
        query_ids=ids(15),
        window=window,
        seed=5,
    )

    for query in range(15):
        found = [pair for pair in ranked[query] if pair[1] not in masked[query]]
        inside, below = allowed_places(window, found, float(positives[query]))
        rows = [row for row in mined.rows_QN[query].tolist() if row >= 0]
        places = [[row for _, row in found].index(row) for row in rows]
        wanted = inside if len(inside) < window.num_negatives else places
        more = below[: window.num_negatives - len(wanted)] if "window" in window.relax else []
        assert places == wanted + more
        assert set(places) <= {*inside, *more}
        assert len(places) == min(window.num_negatives, len(inside) + len(more))
        if window.choice == "top":
            assert places == (inside + more)[: window.num_negatives]
        for number, place in enumerate(places):
            assert mined.scores_QN[query, number] == found[place][0]
            assert mined.ranks_QN[query, number] == place + 1
            assert mined.relaxed_QN[query, number] == ("window" if place in more else "")
        assert mined.survey.positive_ranks_Q[query] == 1 + sum(score > positives[query] for score, _ in found)
        assert mined.survey.num_candidates_Q[query] == len(found) == len(places) + sum(mined.fallen(query).values())


def mine_plain(queries: Floats, corpus: Floats, positives: Floats, window: Window, seed: int = 0) -> Mined:
    return mine(
        SEARCHER,
        queries,
        corpus,
        positive_scores_Q=positives,
        masked=nothing(len(queries)),
        query_ids=ids(len(queries)),
        window=window,
        seed=seed,
    )


@pytest.mark.parametrize("searcher", SEARCHERS)
def test_however_deep_the_cap_lies_a_query_gets_the_first_candidates_below_it(searcher: Searcher) -> None:
    rng = np.random.default_rng(1)
    corpus, queries = unit_vectors(rng, 20_000), unit_vectors(rng, 6)
    scores = (queries.astype(np.float64) @ corpus.astype(np.float64).T).astype(np.float32)
    positives = np.sort(scores, axis=1)[:, -10_000]  # half of the corpus scores above it
    window = Window(relative_cap=None, absolute_margin=0.0)

    mined = mine(
        searcher,
        queries,
        corpus,
        positive_scores_Q=positives,
        masked=nothing(6),
        query_ids=ids(6),
        window=window,
        seed=0,
    )

    for query in range(6):
        assert mined.survey.positive_ranks_Q[query] == 1 + (scores[query] > positives[query]).sum()
        first = 1 + (scores[query] >= positives[query]).sum()
        assert list(mined.ranks_QN[query]) == list(range(first, first + 4))
        assert (mined.scores_QN[query] < positives[query]).all()
        assert mined.outcome(query) is Outcome.WIDENED


def test_masked_rows_are_neither_chosen_nor_counted_as_ranks() -> None:
    corpus = np.eye(6, dtype=np.float32)
    query = np.array([[0.9, 0.8, 0.7, 0.6, 0.5, 0.4]], dtype=np.float32)
    mined = mine(
        SEARCHER,
        query,
        corpus,
        positive_scores_Q=np.array([2.0], dtype=np.float32),
        masked=[np.array([2, 0, 2])],
        query_ids=ids(1),
        window=Window(rank_min=1, rank_max=3, num_negatives=3),
        seed=0,
    )
    assert mined.rows_QN.tolist() == [[1, 3, 4]]
    assert mined.ranks_QN.tolist() == [[1, 2, 3]]


@pytest.mark.parametrize("searcher", SEARCHERS)
def test_one_query_with_a_thousand_masked_rows_gets_its_ranks_right(searcher: Searcher) -> None:
    rng = np.random.default_rng(2)
    corpus, queries = unit_vectors(rng, 1500), unit_vectors(rng, 3)
    many = np.argsort(-(queries[0] @ corpus.T))[:1000]
    mined = mine(
        searcher,
        queries,
        corpus,
        positive_scores_Q=np.full(3, 2.0, dtype=np.float32),
        masked=[many, *nothing(2)],
        query_ids=ids(3),
        window=Window(choice="top"),
        seed=0,
    )
    ranked = ranked_candidates(queries[0], corpus, many)
    assert mined.rows_QN[0].tolist() == [row for _, row in ranked[9:13]]


@pytest.mark.parametrize("choice", ["random", "softmax"])
def test_a_random_choice_depends_on_the_seed_and_the_query_alone(choice: str) -> None:
    rng = np.random.default_rng(3)
    corpus, queries = unit_vectors(rng, 200), unit_vectors(rng, 20)
    positives, window = np.full(20, 2.0, dtype=np.float32), Window(choice=choice)
    first = mine_plain(queries, corpus, positives, window)
    again = mine_plain(queries, corpus, positives, window)
    other = mine_plain(queries, corpus, positives, window, seed=1)
    alone = mine(
        SEARCHER,
        queries[7:8],
        corpus,
        positive_scores_Q=positives[:1],
        masked=nothing(1),
        query_ids=ids(20)[7:8],
        window=window,
        seed=0,
    )
    assert (first.rows_QN == again.rows_QN).all()
    assert (first.rows_QN != other.rows_QN).any()
    assert (alone.rows_QN[0] == first.rows_QN[7]).all()


def test_a_random_choice_takes_every_rank_of_the_window_alike_and_a_softmax_the_best_more_often() -> None:
    corpus = np.eye(40, dtype=np.float32)
    queries = np.tile(np.linspace(0.9, 0.12, 40, dtype=np.float32), (4000, 1))
    positives = np.full(4000, 2.0, dtype=np.float32)
    even = mine_plain(queries, corpus, positives, Window())
    counts = np.bincount(even.ranks_QN.ravel(), minlength=31)[10:31]
    assert abs(counts / 4000 - 4 / 21).max() < 0.03
    steep = mine_plain(queries, corpus, positives, Window(choice="softmax", temperature=0.1, num_negatives=1))
    share = np.bincount(steep.ranks_QN.ravel(), minlength=31)[10:31] / 4000
    weight = np.exp(-np.arange(21) * 0.02 / 0.1)
    assert abs(share - weight / weight.sum()).max() < 0.03


def test_outcomes_say_why_a_query_fell_short_and_list_what_it_did_not_take() -> None:
    corpus = np.eye(12, dtype=np.float32)
    query = np.linspace(0.9, 0.35, 12, dtype=np.float32)[None, :]

    def mined(positive: float, **window: int | tuple[str, ...]) -> Mined:
        settings = {"rank_min": 3, "rank_max": 8, "num_negatives": 2, "choice": "top", **window}
        return mine_plain(query, corpus, np.array([positive], dtype=np.float32), Window(**settings))  # type: ignore[arg-type]

    full = mined(1.0)
    assert (full.outcome(0), full.reason(0), full.listed) == (Outcome.FULL, "", {})
    assert full.fallen(0) == {"above_window": 2, "not_drawn": 4, "below_window": 4}
    short = mined(0.62, relax=())  # the cap is 0.589: ranks 1 to 7 score above it
    assert short.outcome(0) is Outcome.SHORT
    assert short.reason(0) == (
        "5 of 6 candidates of ranks 3-8 score at or above the cap, 7 of 12 in the corpus; the positive has rank 7"
    )
    reasons = [(each.rank, each.reason) for each in short.listed[0]]
    assert reasons == [(rank, "capped") for rank in range(1, 8)] + [(rank, "below_window") for rank in range(9, 13)]
    assert short.fallen(0) == {"capped": 7, "below_window": 4}
    assert mined(0.62).outcome(0) is Outcome.WIDENED
    assert mined(0.62).reason(0) == short.reason(0)
    assert mined(0.4, relax=()).outcome(0) is Outcome.NONE
    small = mined(1.0, rank_min=20, rank_max=30)
    assert (small.outcome(0), small.reason(0)) == (
        Outcome.NONE,
        "the corpus holds only 12 candidates: none has rank 20",
    )


def test_where_the_cap_is_given_up_the_lowest_scores_of_the_window_are_taken_and_marked() -> None:
    corpus = np.eye(12, dtype=np.float32)
    query = np.linspace(0.9, 0.35, 12, dtype=np.float32)[None, :]
    window = Window(rank_min=3, rank_max=8, num_negatives=3, choice="top", relax=("cap",))
    mined = mine_plain(query, corpus, np.array([0.62], dtype=np.float32), window)
    assert mined.rows_QN.tolist() == [[7, 6, 5]]
    assert mined.ranks_QN.tolist() == [[8, 7, 6]]
    assert mined.relaxed_QN.tolist() == [["", "cap", "cap"]]
    np.testing.assert_allclose(mined.scores_QN[0], query[0, [7, 6, 5]])
    assert mined.outcome(0) is Outcome.WIDENED


def test_what_a_reranker_does_not_allow_is_not_chosen_and_counted() -> None:
    corpus = np.eye(12, dtype=np.float32)
    query = np.linspace(0.9, 0.35, 12, dtype=np.float32)[None, :]
    window = Window(rank_min=3, rank_max=5, num_negatives=2, choice="top", relax=())
    proposal = propose(
        SEARCHER,
        query,
        corpus,
        positive_scores_Q=np.array([2.0], dtype=np.float32),
        masked=nothing(1),
        window=window,
    )
    rows = proposal.candidates.rows_QC
    refused, unasked = {"reranked": np.isin(rows, [2, 3])}, np.isin(rows, [7])
    mined = decide(SEARCHER, proposal, query_ids=ids(1), seed=0, refused=refused, unasked_QC=unasked)
    assert mined.rows_QN.tolist() == [[4, -1]]
    assert mined.fallen(0) == {"above_window": 2, "reranked": 2, "below_window": 7}
    assert "the reranker finds 2 as relevant as the positive" in mined.reason(0)
    assert [each.reason for each in mined.listed[0][:4]] == ["above_window", "above_window", "reranked", "reranked"]


def joined(others: list[list[int]], window: Window, positive: float = 2.0) -> tuple[Mined, list[int]]:
    corpus = np.eye(12, dtype=np.float32)
    query = np.linspace(0.9, 0.35, 12, dtype=np.float32)[None, :]
    listed = [Listed(np.array([rows]), np.arange(len(rows), 0, -1, dtype=np.float32)[None, :]) for rows in others]
    proposal = propose(
        SEARCHER,
        query,
        corpus,
        positive_scores_Q=np.array([positive], dtype=np.float32),
        masked=nothing(1),
        window=window,
        others=listed,
    )
    mined = decide(SEARCHER, proposal, query_ids=ids(1), seed=0)
    return mined, proposal.candidates.rows_QC[0][proposal.candidates.inside_QC[0]].tolist()


def test_a_candidate_of_any_miner_s_window_may_be_chosen_unless_another_ranks_it_above_its_own() -> None:
    window = Window(rank_min=2, rank_max=4, num_negatives=3, choice="top")
    # The encoder's ranks 2 to 4 are rows 1 to 3; the other miner has row 1 first, and rows 8, 2 and 9 after it.
    mined, inside = joined([[1, 8, 2, 9]], window)
    assert inside == [2, 8, 3, 9]  # by fused rank: row 2 has both ranks 3, row 8 rank 2, rows 3 and 9 rank 4
    assert mined.rows_QN[0].tolist() == [2, 8, 3]
    assert mined.ranks_QNS[0, 0].tolist() == [3, 3]
    np.testing.assert_allclose(mined.own_scores_QNS[0, 0], [0.8, 2.0])


def test_the_encoder_s_cap_holds_for_what_other_miners_found() -> None:
    window = Window(rank_min=1, rank_max=4, num_negatives=2, choice="top")
    mined, inside = joined([[2, 11, 10]], window, positive=0.62)  # the cap is 0.589: rows 0 to 6 score above it
    assert 2 not in inside
    assert {11, 10} <= set(inside)
    np.testing.assert_allclose(mined.scores_QN[0], [0.35, 0.4])


def test_lists_are_joined_by_rank_among_what_lies_below_the_cap() -> None:
    window = Window(rank_min=1, rank_max=12, num_negatives=2, choice="top")
    # Rows 0 to 6 are capped. Of the others the encoder has 7 first, 8 second, 9 third; the other miner 9, then 8.
    _, inside = joined([[0, 1, 2, 3, 4, 5, 9, 8]], window, positive=0.62)
    assert inside[:3] == [9, 8, 7]
