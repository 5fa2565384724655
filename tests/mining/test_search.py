"""mining.search against a float64 computation, ties included."""

import numpy as np
import pytest

from mining import MiningError, search
from mining.search import Floats, describe_search, pair_scores


def unit(rng: np.random.Generator, count: int, dimension: int = 16) -> Floats:
    values = rng.standard_normal((count, dimension)).astype(np.float32)
    return values / np.linalg.norm(values, axis=1, keepdims=True)


def expected(queries: Floats, corpus: Floats, k: int) -> tuple[Floats, np.ndarray]:
    scores = (queries.astype(np.float64) @ corpus.astype(np.float64).T).astype(np.float32)
    rows = np.stack([np.lexsort((np.arange(len(corpus)), -row)) for row in scores])[:, :k]
    return np.take_along_axis(scores, rows, axis=1), rows


@pytest.mark.parametrize("copies", [1, 3, 60])
def test_results_are_exact_and_ties_go_to_the_smaller_row(copies: int) -> None:
    rng = np.random.default_rng(copies)
    queries, corpus = unit(rng, 30), np.tile(unit(rng, 300 // copies), (copies, 1))
    scores, rows = search.search(queries, corpus, 25)
    wanted_scores, wanted_rows = expected(queries, corpus, 25)
    assert (rows == wanted_rows).all()
    assert (scores == wanted_scores).all()


def test_rows_that_float32_cannot_tell_apart_come_in_their_true_order() -> None:
    rng = np.random.default_rng(4)
    queries = unit(rng, 40, 384)
    corpus = unit(rng, 1, 384) + rng.normal(0, 2e-8, (600, 384)).astype(np.float32)  # all scores within 1e-6
    scores, rows = search.search(queries, corpus, 5)
    wanted_scores, wanted_rows = expected(queries, corpus, 5)
    assert (rows == wanted_rows).all()
    assert (scores == wanted_scores).all()


def test_more_queries_than_one_block_holds_are_all_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    queries, corpus = unit(rng, 50), unit(rng, 100)
    whole = search.search(queries, corpus, 7)
    monkeypatch.setattr(search, "QUERY_BLOCK", 8)
    blocks = search.search(queries, corpus, 7)
    assert (whole[0] == blocks[0]).all() and (whole[1] == blocks[1]).all()


def test_a_score_does_not_depend_on_what_else_is_searched() -> None:
    rng = np.random.default_rng(1)
    queries, corpus = unit(rng, 20, 384), unit(rng, 500, 384)
    scores, rows = search.search(queries, corpus, 5)
    alone, _ = search.search(queries[3:4], corpus[rows[3]], 5)
    assert (alone[0] == scores[3]).all()
    assert (pair_scores(queries, corpus[rows[:, 0]]) == scores[:, 0]).all()


def test_k_is_capped_to_the_corpus_and_nothing_gives_nothing() -> None:
    rng = np.random.default_rng(2)
    queries, corpus = unit(rng, 3), unit(rng, 4)
    assert search.search(queries, corpus, 9)[1].shape == (3, 4)
    assert search.search(queries, corpus[:0], 9)[1].shape == (3, 0)
    assert search.search(queries[:0], corpus, 2)[0].shape == (0, 2)


def test_vectors_that_are_not_contiguous_or_not_normalised_are_searched_alike() -> None:
    rng = np.random.default_rng(3)
    queries, corpus = 40 * unit(rng, 5), 3 * unit(rng, 80)
    wanted = expected(queries[:, ::2], corpus[:, ::2], 6)
    scores, rows = search.search(queries[:, ::2], corpus[:, ::2], 6)
    assert (rows == wanted[1]).all() and (scores == wanted[0]).all()


def test_the_choice_of_device_is_stated() -> None:
    assert describe_search("cpu").startswith("exact search with FAISS ")
    assert "threads" in describe_search("cpu")


def test_a_device_that_is_not_there_is_one_line() -> None:
    with pytest.raises(MiningError, match="use auto, cpu or cuda"):
        search.choose_device("tpu")


def test_two_faiss_distributions_are_refused_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "_is_installed", lambda name: True)
    with pytest.raises(MiningError, match=r"both installed.*pip uninstall -y faiss-cpu faiss-gpu"):
        search.choose_device("auto")


def test_a_missing_faiss_is_one_line_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "faiss", None)
    with pytest.raises(MiningError, match=r"FAISS cannot be imported.*skiff-embeddings\[cpu\]"):
        search.choose_device("auto")
