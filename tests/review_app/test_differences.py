import time

import pytest

from review_app.differences import MOST_PIECES, difference, length_ratio
from review_app.segments import HIDDEN, LONGEST


def marked(before: str, after: str) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    one, other = difference(before, after)
    return [each for each in one if each[1]], [each for each in other if each[1]]


@pytest.mark.parametrize(
    ("before", "after", "gone", "came"),
    [
        ("The gate opens.", "The gate closes.", [("opens", "del")], [("closes", "ins")]),
        ("One boat.", "One red old boat.", [], [("red old ", "ins")]),
        ("At 6.30 it opens.", "At 7.30 it opens.", [("6.30", "del digits")], [("7.30", "ins digits")]),
        ("It was open.", "It was not open.", [], [("not", "ins negation"), (" ", "ins")]),
        ("It opens.", "It doesn’t open.", [("opens", "del")], [("doesn’t", "ins negation"), (" open", "ins")]),
        ("It is in Hull.", "It is in York.", [("Hull", "del name")], [("York", "ins name")]),
        ("He left. Then rain.", "He left. Now rain.", [("Then", "del")], [("Now", "ins")]),
        ("他没入选。", "他入选。", [("没", "del negation")], []),
        ("港口开放。", "港口关闭。", [("开放", "del")], [("关闭", "ins")]),
        ("same", "same", [], []),
        ("", "new", [], [("new", "ins")]),
    ],
)
def test_what_went_and_what_came_is_marked_by_its_kind(
    before: str, after: str, gone: list[tuple[str, str]], came: list[tuple[str, str]]
) -> None:
    assert marked(before, after) == (gone, came)


@pytest.mark.parametrize(("before", "after"), [("a  b\n\nc", "a b\tc"), ("港 6 x", "港 7 y"), ("", ""), ("A's", "Bs")])
def test_segments_joined_are_the_texts(before: str, after: str) -> None:
    found = difference(before, after)
    assert ["".join(part for part, _ in segments) for segments in found] == [before, after]


def test_hidden_characters_are_named_and_long_texts_cut() -> None:
    one, other = difference("a\u200bb", "x " * LONGEST)
    assert ("U+200B", HIDDEN) in one
    assert other[-1] == (f"{LONGEST:,} more characters", HIDDEN)


def test_two_long_texts_without_anything_in_common_take_no_second() -> None:
    one, other = ("".join(chr(0x4E00 + place * step % 997) for place in range(LONGEST)) for step in (7, 11))
    start = time.perf_counter()
    difference(one, other)
    difference(one[:MOST_PIECES], other[:MOST_PIECES])
    assert time.perf_counter() - start < 2


def test_the_ratio_of_lengths_is_of_characters() -> None:
    assert length_ratio("abcd", "ab") == 0.5
    assert length_ratio("", "ab") == 2
