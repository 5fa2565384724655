"""mining.search: exact, whatever the device, the precision, the backend and the parts that a corpus comes in."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mining import MiningError, flat, scan, search
from mining.search import Floats, Found, Searcher, describe_search, load_searcher, pair_scores

SEARCHERS = [
    Searcher("torch", ("cpu",), "bf16", "for a test"),
    Searcher("torch", ("cpu",), "fp32", "for a test"),
    Searcher("faiss", ("cpu",), "fp32", "for a test"),
    Searcher("torch", ("cpu", "cpu"), "bf16", "the queries are split over two devices"),
]


def unit(rng: np.random.Generator, count: int, dimension: int = 16) -> Floats:
    values = rng.standard_normal((count, dimension)).astype(np.float32)
    return values / np.linalg.norm(values, axis=1, keepdims=True)


def exact(queries: Floats, corpus: Floats) -> Floats:
    """The scores by which everything is judged."""
    return (queries.astype(np.float64) @ corpus.astype(np.float64).T).astype(np.float32)


def expected(queries: Floats, corpus: Floats, k: int) -> tuple[Floats, np.ndarray]:
    scores = exact(queries, corpus)
    rows = np.stack([np.lexsort((np.arange(len(corpus)), -row)) for row in scores])[:, :k]
    return np.take_along_axis(scores, rows, axis=1), rows


def assert_found(
    found: Found, queries: Floats, corpus: Floats, k: int, cap: Floats, mark: Floats, masked: list
) -> None:
    scores = exact(queries, corpus)
    for query in range(len(queries)):
        rows = np.setdiff1d(np.arange(len(corpus)), masked[query])
        below = rows[scores[query, rows] < cap[query]]
        best = below[np.lexsort((below, -scores[query, below]))][:k]
        assert found.rows_Nk[query, : len(best)].tolist() == best.tolist()
        assert (found.rows_Nk[query, len(best) :] == -1).all()
        assert (found.scores_Nk[query, : len(best)] == scores[query, best]).all()
        assert np.isnan(found.scores_Nk[query, len(best) :]).all()
        assert found.num_capped_N[query] == (scores[query, rows] >= cap[query]).sum()
        assert found.num_above_N[query] == (scores[query, rows] > mark[query]).sum()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_rows_order_scores_and_counts_are_those_of_a_float64_computation(data: st.DataObject) -> None:
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    size, num, dimension = (data.draw(st.integers(1, most)) for most in (400, 25, 24))
    corpus, queries = (
        rng.standard_normal((size, dimension), np.float32),
        rng.standard_normal((num, dimension), np.float32),
    )
    if data.draw(st.booleans()):  # ties
        corpus = corpus[rng.integers(0, size, size)]
    if data.draw(st.booleans()):
        corpus[rng.random(size) < 0.3] = 0
        queries[0] = 0
    if data.draw(st.booleans()):  # every score below zero
        corpus, queries = np.abs(corpus), -np.abs(queries)
    scores = exact(queries, corpus)
    at = [scores[query, rng.integers(0, size)] for query in range(num)]
    nowhere = np.full(num, np.inf, np.float32)
    cap = np.array(at, np.float32) if data.draw(st.booleans()) else nowhere
    mark = np.array(at[::-1], np.float32) if data.draw(st.booleans()) else nowhere
    masked = [rng.integers(0, size, rng.integers(0, 6)) for _ in range(num)]
    k = data.draw(st.integers(1, size + 3))
    cuts = sorted(data.draw(st.lists(st.integers(0, size), max_size=3)))
    searcher = data.draw(st.sampled_from(SEARCHERS))

    parts = [part for part in np.split(corpus, cuts) if len(part)]
    found = searcher.scan(queries, parts, k, cap_N=cap, mark_N=mark, masked=masked)

    assert_found(found, queries, corpus, k, cap, mark, masked)


@pytest.mark.parametrize("searcher", SEARCHERS)
@pytest.mark.parametrize("k", [10, 700])
def test_a_corpus_of_many_tiles_is_searched_exactly_also_where_caps_and_positives_lie_deep(
    searcher: Searcher, k: int
) -> None:
    rng = np.random.default_rng(k)
    corpus, queries = unit(rng, 21_000), unit(rng, 30)
    corpus[20_000:] = corpus[:1000]
    scores = np.sort(exact(queries, corpus), axis=1)[:, ::-1]
    depth = np.geomspace(1, 20_999, 30).astype(int)
    cap, mark = scores[np.arange(30), depth], scores[np.arange(30), depth[::-1]]
    masked = [rng.integers(0, 21_000, 5) for _ in range(30)]
    found = searcher.scan(queries, corpus, k, cap_N=cap, mark_N=mark, masked=masked)
    assert_found(found, queries, corpus, k, cap, mark, masked)


@pytest.mark.parametrize("searcher", SEARCHERS)
@pytest.mark.parametrize("copies", [1, 3, 60])
def test_results_are_exact_and_ties_go_to_the_smaller_row(searcher: Searcher, copies: int) -> None:
    rng = np.random.default_rng(copies)
    queries, corpus = unit(rng, 30), np.tile(unit(rng, 300 // copies), (copies, 1))
    scores, rows = searcher.search(queries, corpus, 25)
    wanted_scores, wanted_rows = expected(queries, corpus, 25)
    assert (rows == wanted_rows).all()
    assert (scores == wanted_scores).all()


@pytest.mark.parametrize("searcher", SEARCHERS)
def test_rows_that_float32_cannot_tell_apart_come_in_their_true_order(searcher: Searcher) -> None:
    rng = np.random.default_rng(4)
    queries = unit(rng, 40, 384)
    corpus = unit(rng, 1, 384) + rng.normal(0, 2e-8, (600, 384)).astype(np.float32)  # all scores within 1e-6
    scores, rows = searcher.search(queries, corpus, 5)
    wanted_scores, wanted_rows = expected(queries, corpus, 5)
    assert (rows == wanted_rows).all()
    assert (scores == wanted_scores).all()


def test_what_waits_for_a_second_look_is_bounded_where_low_precision_tells_nothing_apart(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(scan, "TILE_CPU", (64, 8))
    monkeypatch.setattr(scan, "MOST_WAITING", 50)
    rng = np.random.default_rng(5)
    queries, corpus = unit(rng, 20), unit(rng, 1) + rng.normal(0, 1e-5, (900, 16)).astype(np.float32)
    scores, rows = SEARCHERS[0].search(queries, corpus, 7)
    wanted_scores, wanted_rows = expected(queries, corpus, 7)
    assert (rows == wanted_rows).all() and (scores == wanted_scores).all()


def test_queries_that_pass_over_the_corpus_in_turns_are_all_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    queries, corpus = unit(rng, 50), unit(rng, 100)
    wanted = expected(queries, corpus, 7)
    monkeypatch.setattr(scan, "TILE_CPU", (64, 8))
    monkeypatch.setattr(scan, "MOST_RESULTS", 100)
    monkeypatch.setattr(flat, "PART", 8)
    for searcher in SEARCHERS:
        scores, rows = searcher.search(queries, corpus, 7)
        assert (rows == wanted[1]).all() and (scores == wanted[0]).all()


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_a_memory_mapped_file_is_searched_like_an_array(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dtype: type
) -> None:
    rng = np.random.default_rng(6)
    queries, corpus = unit(rng, 9), unit(rng, 500).astype(dtype)
    np.save(tmp_path / "corpus.npy", corpus)
    monkeypatch.setattr(search, "SHARD_NUMBERS", 16 * 70)  # shards of 70 rows
    scores, rows = SEARCHERS[0].search(queries, np.load(tmp_path / "corpus.npy", mmap_mode="r"), 12)
    wanted = expected(queries, corpus.astype(np.float32), 12)
    assert (rows == wanted[1]).all() and (scores == wanted[0]).all()


def test_a_score_does_not_depend_on_what_else_is_searched() -> None:
    rng = np.random.default_rng(1)
    queries, corpus = unit(rng, 20, 384), unit(rng, 500, 384)
    scores, rows = search.search(queries, corpus, 5)
    alone, _ = search.search(queries[3:4], corpus[rows[3]], 5)
    assert (alone[0] == scores[3]).all()
    assert (pair_scores(queries, corpus[rows[:, 0]]) == scores[:, 0]).all()


@pytest.mark.parametrize("searcher", SEARCHERS)
def test_k_is_capped_to_the_corpus_and_nothing_gives_nothing(searcher: Searcher) -> None:
    rng = np.random.default_rng(2)
    queries, corpus = unit(rng, 3), unit(rng, 4)
    assert searcher.search(queries, corpus, 9)[1].shape == (3, 4)
    assert searcher.search(queries, corpus[:1], 9)[1].tolist() == [[0], [0], [0]]
    assert searcher.search(queries, corpus[:0], 9)[1].shape == (3, 0)
    assert searcher.search(queries[:0], corpus, 2)[0].shape == (0, 2)


@pytest.mark.parametrize("searcher", SEARCHERS)
def test_vectors_that_are_not_contiguous_or_not_normalised_are_searched_alike(searcher: Searcher) -> None:
    rng = np.random.default_rng(3)
    queries, corpus = 40 * unit(rng, 5), 3 * unit(rng, 80)
    wanted = expected(queries[:, ::2], corpus[:, ::2], 6)
    scores, rows = searcher.search(queries[:, ::2], corpus[:, ::2], 6)
    assert (rows == wanted[1]).all() and (scores == wanted[0]).all()


@pytest.mark.parametrize("searcher", SEARCHERS)
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_number_that_is_not_finite_is_one_line_that_names_its_row(searcher: Searcher, value: float) -> None:
    rng = np.random.default_rng(3)
    queries, corpus = unit(rng, 5), unit(rng, 80)
    queries[2, 3] = value
    with pytest.raises(MiningError, match="the vector of query 2 has a number that is not finite"):
        searcher.search(queries, corpus, 6)
    corpus[41, 0] = value
    with pytest.raises(MiningError, match="row 41 of the corpus has a number that is not finite"):
        searcher.search(unit(rng, 5), [corpus[:30], corpus[30:]], 6)


def test_what_others_allow_torch_to_leave_out_does_not_reach_a_search() -> None:
    import torch

    rng = np.random.default_rng(7)
    queries, corpus = unit(rng, 40, 384), unit(rng, 3000, 384)
    torch.set_float32_matmul_precision("medium")
    try:
        scores, rows = SEARCHERS[1].search(queries, corpus, 20)
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision("highest")
    wanted = expected(queries, corpus, 20)
    assert (rows == wanted[1]).all() and (scores == wanted[0]).all()


def test_the_choice_of_backend_device_and_precision_is_stated() -> None:
    flat = load_searcher(device="cpu", backend="faiss", precision="bf16")
    assert flat.description.startswith("exact search with FAISS ")
    assert flat.description.endswith("products in fp32 (FAISS multiplies no bf16 on a CPU)")
    tiles = load_searcher(device="cpu", backend="torch", precision="bf16").description
    assert "torch" in tiles and "threads), products in bf16 (as configured)" in tiles
    assert describe_search("cpu").startswith("exact search with ")


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ({"device": "tpu"}, "no device tpu on this machine"),
        ({"device": "cpu,cuda:9"}, "no device cuda:9 on this machine"),
        ({"backend": "scann"}, "there is no search backend 'scann': use auto, torch or faiss"),
        ({"precision": "int8"}, "int8"),
    ],
)
def test_what_is_not_there_is_one_line(wanted: dict[str, str], message: str) -> None:
    with pytest.raises(MiningError, match=message):
        load_searcher(**wanted)


@pytest.mark.parametrize("searcher", SEARCHERS)
@pytest.mark.parametrize("scale", [1e-42, 1e-37, 1e-25, 1e-20, 1e12])
def test_very_small_and_very_large_vectors_are_searched_exactly(searcher: Searcher, scale: float) -> None:
    rng = np.random.default_rng(8)
    corpus = rng.standard_normal((300, 24)).astype(np.float32)
    corpus[::2] = (rng.standard_normal((150, 24)) * scale).astype(np.float32)
    queries = np.tile(np.array([1, -1], np.float32), (5, 12)) * np.arange(1, 6, dtype=np.float32)[:, None]
    queries += rng.standard_normal(queries.shape).astype(np.float32) * np.float32(0.01)
    scores, rows = searcher.search(queries, corpus, 300)
    exactly = queries.astype(np.float64) @ corpus.astype(np.float64).T
    for query in range(5):
        found = exactly[query, rows[query]]
        assert len(set(rows[query])) == 300
        np.testing.assert_allclose(scores[query], found, rtol=1e-6, atol=1e-44)
        assert (np.diff(scores[query]) <= 0).all()


@pytest.mark.parametrize("searcher", SEARCHERS)
def test_vectors_whose_products_pass_float32_are_refused(searcher: Searcher) -> None:
    with pytest.raises(MiningError, match=r"the vector of query 0 .* or is longer than 1e.15"):
        searcher.search(np.full((1, 8), 1e19, np.float32), np.ones((5, 8), np.float32), 3)
    with pytest.raises(MiningError, match=r"row 1 of the corpus .* or is longer than 1e.15"):
        searcher.search(np.ones((1, 8), np.float32), np.array([[1.0] * 8, [1e19] * 8], np.float32), 1)


@pytest.mark.parametrize("searcher", SEARCHERS)
def test_a_cap_below_everything_leaves_nothing_and_counts_all(searcher: Searcher) -> None:
    rng = np.random.default_rng(9)
    queries, corpus = unit(rng, 3), unit(rng, 50)
    cap = np.array([-np.inf, -1e30, -2], np.float32)
    found = searcher.scan(queries, corpus, 4, cap_N=cap, masked=[np.array([7]), np.array([]), np.array([])])
    assert (found.rows_Nk == -1).all()
    assert found.num_capped_N.tolist() == [49, 50, 50]


def test_searches_side_by_side_leave_torch_s_threads_as_they_were() -> None:
    rng = np.random.default_rng(3)
    queries, corpus = unit(rng, 40), unit(rng, 300)
    wanted, before = expected(queries, corpus, 5), torch.get_num_threads()
    with ThreadPoolExecutor(4) as pool:
        results = pool.map(lambda _: SEARCHERS[0].search(queries, corpus, 5), range(12))
        assert all((rows == wanted[1]).all() and (scores == wanted[0]).all() for scores, rows in results)
    with ThreadPoolExecutor(1) as pool:  # one that begins afterwards
        assert pool.submit(torch.get_num_threads).result() == torch.get_num_threads() == before


def test_searches_that_overlap_compute_in_the_precision_they_say() -> None:
    rng = np.random.default_rng(4)
    queries, corpus = unit(rng, 200, 64), unit(rng, 4000, 64)
    _, wanted = expected(queries, corpus, 10)
    torch.set_float32_matmul_precision("medium")
    try:
        with ThreadPoolExecutor(3) as pool:
            for _, rows in pool.map(lambda number: SEARCHERS[1].search(queries, corpus, 10), range(9)):
                assert (rows == wanted).all()
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision("highest")


def test_an_error_in_every_thread_ends_the_search(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise MemoryError("no room")

    rng = np.random.default_rng(5)
    monkeypatch.setattr(scan, "TILE_CPU", (64, 8))
    monkeypatch.setattr(scan.Block, "look", fail)
    with pytest.raises(MemoryError, match="no room"):
        SEARCHERS[0].search(unit(rng, 200), unit(rng, 300), 5)


def test_what_does_not_fit_together_is_refused() -> None:
    rng = np.random.default_rng(6)
    queries, corpus = unit(rng, 3, 16), unit(rng, 20, 8)
    for searcher in SEARCHERS:
        with pytest.raises(MiningError, match=r"^queries have 16 dimensions, the corpus has 8: encode both with one"):
            searcher.search(queries, corpus, 2)
        with pytest.raises(ValueError, match="masked has rows for 1 of 3 queries"):
            searcher.scan(queries, unit(rng, 20), 2, masked=[np.array([1])])


def test_more_results_than_rows_are_no_more_than_rows_and_any_layout_is_searched() -> None:
    rng = np.random.default_rng(7)
    queries, corpus = unit(rng, 3), unit(rng, 20)
    scores, rows = SEARCHERS[0].search(queries, corpus, 10**9)
    assert rows.shape == scores.shape == (3, 20)
    for other in (corpus[::-1], corpus.astype(">f4"), np.asfortranarray(corpus)):
        wanted = expected(queries, np.ascontiguousarray(other, dtype=np.float32), 4)
        assert (SEARCHERS[0].search(queries, other, 4)[1] == wanted[1]).all()
