"""Vectors that somebody else computed, from real files."""

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID, uuid5

import numpy as np
import pytest
from numpy.typing import NDArray

from mining import MiningError
from mining.precomputed import PrecomputedEncoder, holds_vectors, open_precomputed

QUERIES = ["What purrs?", "What swims?"]
PASSAGES = ["A cat purrs.", "A pike swims.", "A stone lies."]
RANDOM = np.random.default_rng(7)


def key(text: str) -> UUID:
    return uuid5(UUID(int=0), text.casefold())


def save(folder: Path, name: str, texts: list[str], vectors: Any) -> None:
    folder.mkdir(exist_ok=True)
    np.save(folder / f"{name}.npy", vectors)
    lines = [json.dumps({"text": text}) + "\n" for text in texts]
    (folder / f"{name}.jsonl").write_text("".join(lines), encoding="utf-8")


def numbers(rows: int, dimension: int = 4, kind: str = "f4") -> NDArray[Any]:
    return RANDOM.normal(size=(rows, dimension)).astype(kind)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "vectors"
    save(folder, "queries", QUERIES, numbers(2))
    save(folder, "passages", PASSAGES, numbers(3))
    return folder


def opened(folder: Path) -> PrecomputedEncoder:
    return open_precomputed(folder, key)


def unit(rows: NDArray[Any]) -> NDArray[Any]:
    wide = rows.astype(np.float64)
    return wide / np.linalg.norm(wide, axis=1, keepdims=True)


def refused(doing: Callable[[], object]) -> str:
    with pytest.raises(MiningError) as caught:
        doing()
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("kind", ["f2", "f4", "f8", ">f4"])
def test_a_text_gets_the_row_of_its_line_normalised_in_float32(folder: Path, kind: str) -> None:
    rows = numbers(3, kind=kind)
    save(folder, "passages", PASSAGES, rows)
    found = opened(folder).for_passages().encode([PASSAGES[2], PASSAGES[0], PASSAGES[2]])
    assert found.dtype == np.float32 and found.shape == (3, 4)
    np.testing.assert_allclose(found, unit(rows)[[2, 0, 2]], atol=1e-7)


def test_numbers_whose_squares_pass_float32_are_normalised_too(folder: Path) -> None:
    save(folder, "passages", PASSAGES, np.array([[3e30, 4e30], [3e-30, 4e-30], [0, 1]], dtype=np.float32))
    save(folder, "queries", QUERIES, numbers(2, 2))
    found = opened(folder).for_passages().encode(PASSAGES[:2])
    np.testing.assert_allclose(found, [[0.6, 0.8], [0.6, 0.8]], rtol=1e-6)


def test_a_text_is_found_by_its_key_and_the_first_of_two_lines_counts(folder: Path) -> None:
    rows = numbers(4)
    save(folder, "passages", [*PASSAGES, "a CAT purrs."], rows)
    found = opened(folder).for_passages().encode(["A Cat Purrs."])
    np.testing.assert_allclose(found, unit(rows)[[0]], atol=1e-7)


def test_queries_and_passages_have_vectors_of_their_own_for_the_same_text(folder: Path) -> None:
    rows = numbers(2)
    save(folder, "queries", [QUERIES[0], PASSAGES[0]], rows)
    encoder = opened(folder)
    as_query, as_passage = encoder.for_queries().encode(PASSAGES[:1]), encoder.for_passages().encode(PASSAGES[:1])
    np.testing.assert_allclose(as_query, unit(rows)[[1]], atol=1e-7)
    assert not np.allclose(as_query, as_passage)
    np.testing.assert_array_equal(encoder.encode(PASSAGES[:1]), as_passage)  # of neither side: passages first
    np.testing.assert_allclose(encoder.encode(QUERIES[:1]), unit(rows)[[0]], atol=1e-7)


def test_a_side_in_numbered_files_is_read_as_one_in_the_order_of_the_numbers(folder: Path) -> None:
    texts, rows = [f"passage {number}" for number in range(12)], numbers(12)
    (folder / "passages.npy").unlink()
    (folder / "passages.jsonl").unlink()
    for part in range(12):
        save(folder, f"passages-{part}", texts[part : part + 1], rows[part : part + 1])
    save(folder, "passages-12", texts[:1], rows[5:6])  # said again, later: does not count
    found = opened(folder).for_passages().encode([*reversed(texts)])
    np.testing.assert_allclose(found, unit(rows)[::-1], atol=1e-7)


def test_more_rows_than_are_read_at_a_time_come_in_order(folder: Path) -> None:
    texts, rows = [f"passage {number}" for number in range(9000)], numbers(9000)
    save(folder, "passages", texts, rows)
    order = RANDOM.permutation(9000)
    found = opened(folder).for_passages().encode([texts[place] for place in order])
    np.testing.assert_allclose(found, unit(rows)[order], atol=1e-6)


def test_texts_without_a_vector_are_counted_the_first_is_named_and_what_lists_them(folder: Path) -> None:
    encoder = opened(folder)
    said = refused(lambda: encoder.for_passages().encode([PASSAGES[0], "A dog barks.", "A fox too."]))
    assert "no vector for 2 of 3 texts among its passages" in said and "'A dog barks.'" in said
    assert "synth sql" in said and "SELECT text FROM passages UNION SELECT unnest(positives) FROM samples" in said
    assert "SELECT DISTINCT query" in refused(lambda: encoder.for_queries().encode(["?" * 500]))
    assert len(refused(lambda: encoder.for_queries().encode(["?" * 500]))) < 450 + len(str(folder))


def test_no_texts_give_no_vectors(folder: Path) -> None:
    assert opened(folder).for_queries().encode([]).shape == (0, 4)


def test_the_fingerprint_is_of_the_contents_of_a_side_and_of_nothing_else(folder: Path, tmp_path: Path) -> None:
    first = _fingerprints(folder)
    moved = folder.rename(tmp_path / "moved")
    assert _fingerprints(moved) == first and len(set(first)) == 3 and {len(each) for each in first} == {32}
    save(moved, "queries", QUERIES, numbers(2))
    both, queries, passages = _fingerprints(moved)
    assert passages == first[2] and queries != first[1] and both != first[0]
    save(moved, "queries", [*reversed(QUERIES)], np.load(moved / "queries.npy"))
    assert queries != _fingerprints(moved)[1]


def _fingerprints(folder: Path) -> list[str]:
    encoder = opened(folder)
    return [each.fingerprint for each in (encoder, encoder.for_queries(), encoder.for_passages())]


def test_a_side_is_the_same_object_each_time_so_that_its_texts_are_read_once(folder: Path) -> None:
    encoder = opened(folder)
    assert encoder.for_queries() is encoder.for_queries() is encoder.for_passages().for_queries()


def test_the_description_says_where_how_many_and_of_what_dimension(folder: Path) -> None:
    assert opened(folder).description == f"5 vectors computed elsewhere, in {folder}, 4 dimensions"
    assert opened(folder).for_queries().dimension == 4 and opened(folder).name == str(folder)


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (numbers(3)[0], "is (4,) float32"),
        (numbers(3).astype(np.int64), "is (3, 4) int64"),
        (np.empty((3, 0), dtype=np.float32), "is (3, 0) float32"),
        (np.array([["a"] * 4] * 3), "is (3, 4) <U1"),
        (numbers(3).astype(np.longdouble), "float16, float32 or float64"),
    ],
)
def test_an_array_of_another_shape_or_kind_is_refused(folder: Path, bad: NDArray[Any], said: str) -> None:
    save(folder, "passages", PASSAGES, bad)
    assert said in refused(lambda: opened(folder))


class Trap:
    """Unpickled, it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.path,))


def test_pickles_are_never_loaded(folder: Path, tmp_path: Path) -> None:
    sprung = tmp_path / "sprung"
    trap = np.empty((3, 4), dtype=object)
    trap[0, 0] = Trap(sprung)
    np.save(folder / "passages.npy", trap, allow_pickle=True)
    assert "is no array of numbers" in refused(lambda: opened(folder))
    (folder / "passages.npy").write_bytes(pickle.dumps(Trap(sprung)))
    assert "is no array of numbers" in refused(lambda: opened(folder))
    assert not sprung.exists()


@pytest.mark.parametrize("content", [b"", b"\x93NUMPY\x01\x00", b"PK\x03\x04 no zip"])
def test_a_file_that_is_no_array_is_refused(folder: Path, content: bytes) -> None:
    (folder / "passages.npy").write_bytes(content)
    assert "passages.npy" in refused(lambda: opened(folder))


def test_an_array_that_was_cut_off_is_refused(folder: Path) -> None:
    path = folder / "passages.npy"
    path.write_bytes(path.read_bytes()[:-1])
    assert "is no array of numbers" in refused(lambda: opened(folder))


@pytest.mark.parametrize("bad", [np.nan, np.inf, 0.0])
def test_a_row_that_cannot_be_normalised_is_refused_once_it_is_needed(folder: Path, bad: float) -> None:
    rows = numbers(3)
    rows[1] = bad
    save(folder, "passages", PASSAGES, rows)
    encoder = opened(folder).for_passages()
    assert encoder.encode([PASSAGES[0], PASSAGES[2]]).shape == (2, 4)
    said = refused(lambda: encoder.encode(PASSAGES))
    assert "passages.npy: 1 of the rows" in said and "row 1" in said


def test_as_many_lines_as_rows_are_wanted(folder: Path) -> None:
    save(folder, "passages", PASSAGES[:2], numbers(3))
    assert "has 2 lines, and passages.npy 3 rows" in refused(lambda: opened(folder).encode(PASSAGES[:1]))


@pytest.mark.parametrize(
    "line", ['{"title": "x"}', '{"text": 5}', '["text"]', '"text"', "text", "[" * 100_000, "\udcff"]
)
def test_a_line_without_a_text_is_named_by_its_number(folder: Path, line: str) -> None:
    lines = ['{"text": "first"}', line, '{"text": "third"}']
    (folder / "passages.jsonl").write_bytes("\n".join(lines).encode(errors="surrogateescape"))
    assert "passages.jsonl, line 2: " in refused(lambda: opened(folder).for_passages().encode(["first"]))


def test_what_is_missing_is_named(folder: Path) -> None:
    (folder / "queries.jsonl").unlink()
    assert "has no queries.jsonl beside it" in refused(lambda: opened(folder))
    (folder / "queries.npy").unlink()
    assert "has no queries.npy" in refused(lambda: opened(folder))


def test_vectors_of_two_dimensions_in_one_folder_are_refused(folder: Path) -> None:
    save(folder, "queries", QUERIES, numbers(2, 5))
    assert "passages.npy 4, queries.npy 5" in refused(lambda: opened(folder))


def test_a_folder_of_vectors_is_known_by_the_names_of_its_files(folder: Path, tmp_path: Path) -> None:
    assert holds_vectors(folder) and not holds_vectors(tmp_path) and not holds_vectors(tmp_path / "nowhere")
    np.save(tmp_path / "weights.npy", numbers(1))
    assert not holds_vectors(tmp_path)
