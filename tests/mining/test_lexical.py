"""mining.lexical: how texts are cut, and BM25 against the formula written as loops."""

import json
import logging
import math
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mining.lexical import LexicalIndex, index_passages, words

SAMPLE = Path(__file__).parents[2] / "data" / "sample" / "retrieval"
# Few words, so that passages are equal, share words with most queries, or have none.
TEXTS = st.lists(st.sampled_from("abcde"), max_size=6).map(" ".join)


def index_of(passages: Sequence[str]) -> LexicalIndex:
    return index_passages(passages, on_progress=lambda _: None)


def bm25(query: str, passage: str, passages: list[str]) -> float:
    """The formula of the docstring."""
    of_passage, lengths = words(passage), [len(words(each)) for each in passages]
    mean, total = sum(lengths) / len(lengths), 0.0
    for word in words(query):
        frequency, holders = of_passage.count(word), sum(word in words(each) for each in passages)
        if frequency:
            rarity = math.log(1 + (len(passages) - holders + 0.5) / (holders + 0.5))
            total += rarity * frequency / (frequency + 1.2 * (1 - 0.75 + 0.75 * len(of_passage) / mean))
    return total


@settings(max_examples=150, deadline=None)
@given(passages=st.lists(TEXTS, max_size=12), queries=st.lists(TEXTS, max_size=4), k=st.integers(0, 13))
def test_scores_and_order_are_those_of_the_formula(passages: list[str], queries: list[str], k: int) -> None:
    scores_Nk, rows_Nk = index_of(passages).search(queries, k)

    assert scores_Nk.shape == rows_Nk.shape == (len(queries), min(k, len(passages)))
    assert (scores_Nk.dtype, rows_Nk.dtype) == (np.float32, np.int64)
    for query, scores, rows in zip(queries, scores_Nk, rows_Nk, strict=True):
        wanted = [bm25(query, passage, passages) for passage in passages]
        sharing = sum(score > 0 for score in wanted)
        best = [row for row in rows.tolist() if row >= 0]
        assert len(best) == len(set(best)) == min(k, sharing)
        assert rows[len(best) :].tolist() == [-1] * (len(rows) - len(best))
        assert not scores[len(best) :].any()
        np.testing.assert_allclose(scores[: len(best)], [wanted[row] for row in best], rtol=1e-5)
        left_out = [score for row, score in enumerate(wanted) if row not in best]
        assert max(left_out, default=0) <= min(scores[: len(best)], default=math.inf) * 1.00001 or k == 0
        pairs = list(zip((-scores[: len(best)]).tolist(), best, strict=True))
        assert pairs == sorted(pairs)


@settings(max_examples=50, deadline=None)
@given(passages=st.lists(TEXTS, min_size=1, max_size=12), queries=st.lists(TEXTS, max_size=4), k=st.integers(1, 12))
def test_a_short_list_is_the_beginning_of_the_whole_one_whatever_else_is_asked(
    passages: list[str], queries: list[str], k: int
) -> None:
    index = index_of(passages)
    scores_NM, rows_NM = index.search(queries, len(passages))
    for place, query in enumerate(queries):
        scores, rows = index.search([query], k)
        assert (scores[0] == scores_NM[place, :k]).all()
        assert (rows[0] == rows_NM[place, :k]).all()


def test_equal_passages_come_by_row_and_the_first_of_them_are_kept() -> None:
    passages = ["a stone"] * 40 + ["a bird, a bird"] + ["a stone"] * 40
    _, rows_Nk = index_of(passages).search(["bird or stone"], 60)
    assert rows_Nk[0].tolist() == [40, *range(40), *range(41, 60)]


def test_a_passage_that_shares_no_word_is_no_result() -> None:
    scores_Nk, rows_Nk = index_of(["red", "blue", "Red."]).search(["RED", "green", "", "?"], 3)
    assert rows_Nk.tolist() == [[0, 2, -1], [-1, -1, -1], [-1, -1, -1], [-1, -1, -1]]
    assert scores_Nk[0, 0] > 0
    assert not scores_Nk[1:].any()


@pytest.mark.parametrize("passages", [["", "..."], []])
def test_passages_without_a_word_are_an_index_in_which_nothing_is_found(passages: list[str]) -> None:
    scores_Nk, rows_Nk = index_of(passages).search(["a", ""], 5)
    assert rows_Nk.tolist() == [[-1] * len(passages)] * 2
    assert not scores_Nk.any()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Don't STOP: max_length=3.14", ["don", "t", "stop", "max", "length", "3", "14"]),
        ("Straße ＡＢＣ ﬁne ①", ["strasse", "abc", "fine", "1"]),
        ("cafe\u0301 Ёлка", ["café", "ёлка"]),
        ("हिन्दी भाषा", ["हिन्दी", "भाषा"]),
        (f"हिन्दी {'-' * 40} भाषा", ["हिन्दी", "भाषा"]),
        ("بِسْمِ الله", ["بِسْمِ", "الله"]),
        ("机器学习", ["机", "器", "学", "习", "机器", "器学", "学习"]),
        ("用Python3分詞，很快。", ["用", "python3", "分", "詞", "分詞", "很", "快", "很快"]),
        ("ｱﾊﾟｰﾄは東京に在る", ["アパ", "パー", "ート", "トは", "東", "京", "東京", "に", "在", "る"]),
        ("서울은 봄", ["서울", "울은", "봄"]),
        ("ไทย", ["ไท", "ทย"]),
        ("\ud800 x \0 y", ["x", "y"]),
        ("😀 — …", []),
    ],
)
def test_texts_of_every_script_are_cut_into_words(text: str, expected: list[str]) -> None:
    assert words(text) == expected


def test_chinese_words_of_one_character_are_found_and_those_of_two_before_their_characters_apart() -> None:
    _, rows_Nk = index_of(["海在书上", "上海的书", "小猫睡着"]).search(["猫", "上海"], 2)
    assert rows_Nk.tolist() == [[2, -1], [1, 0]]


def test_a_text_made_of_combining_marks_takes_no_time() -> None:
    started = time.monotonic()
    for marks in ("\u0301\u0323", "\u0301\uff9e", "\u0301\U0001d165"):
        assert words("a" + marks * 100_000 + " b") == ["a", "b"]
    assert time.monotonic() - started < 5


def test_nothing_is_logged_or_printed(caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> None:
    caplog.set_level(logging.DEBUG)
    index_of(["a stone", "中文"]).search(["stone 中文"], 1)
    assert caplog.records == []
    assert capfd.readouterr() == ("", "")


def test_progress_counts_every_passage() -> None:
    told: list[int] = []
    index_passages(["a word"] * 2345, on_progress=told.append)
    assert sum(told) == 2345
    assert len(told) == 3


def test_the_index_says_how_it_was_made() -> None:
    description = index_of(["a"]).description
    assert description.startswith(f"BM25 (k1 1.2, b 0.75) with bm25s {version('bm25s')} on one thread: ")
    assert "Chinese in characters and pairs of them" in description


@pytest.mark.parametrize(("name", "least"), [("squad-en", 0.85), ("cmrc-zh", 0.98)])
def test_most_questions_of_the_bundled_sets_find_their_passage_first(name: str, least: float) -> None:
    def read(file: str) -> list[dict[str, str]]:
        return [json.loads(line) for line in (SAMPLE / name / file).read_text().splitlines()]

    row_of = {passage["doc_id"]: row for row, passage in enumerate(read("corpus.jsonl"))}
    query_texts = {query["query_id"]: query["text"] for query in read("queries.jsonl")}
    qrels = [(query_texts[each["query_id"]], row_of[each["doc_id"]]) for each in read("qrels.jsonl")]

    _, rows_Nk = index_of([passage["text"] for passage in read("corpus.jsonl")]).search([text for text, _ in qrels], 1)

    assert np.mean([rows[0] == row for rows, (_, row) in zip(rows_Nk, qrels, strict=True)]) >= least
