"""Where sentences begin and end, and that long texts are cut in time."""

import time
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synth.sentences import sentences


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("A skiff is small. It is rowed!", ["A skiff is small.", "It is rowed!"]),
        ("Dr. Elm rows, e.g. at night. He sings.", ["Dr. Elm rows, e.g. at night.", "He sings."]),
        ("It costs 3.50 in all. Really?", ["It costs 3.50 in all.", "Really?"]),
        ('"Row!" he said. "No."', ['"Row!" he said.', '"No."']),
        ("舢板很小。它用桨划！“真的吗？”他问。", ["舢板很小。", "它用桨划！", "“真的吗？”", "他问。"]),
        ("Tools\n- pip is one. Then uv\n2. build", ["Tools", "pip is one.", "Then uv", "build"]),
        ("", []),
        (" \n\n ", []),
    ],
)
def test_a_text_is_cut_into_its_sentences(text: str, found: list[str]) -> None:
    assert [each.text for each in sentences(text)] == found


@settings(deadline=None)
@given(st.text('ab .!?。\n-1"”', max_size=60))
def test_sentences_stand_where_they_say_in_order_and_leave_out_no_letter(text: str) -> None:
    found = list(sentences(text))
    assert [text[each.start : each.end].strip() for each in found] == [each.text for each in found]
    assert all(one.end <= other.start for one, other in pairwise(found))
    kept = "".join(each.text for each in found)
    assert [char for char in kept if char in "ab"] == [char for char in text if char in "ab"]


@pytest.mark.parametrize(
    "text", ["A. " * 100_000, "It is so. " * 50_000, "好。" * 200_000, '."' * 200_000, ". " * 200_000]
)
def test_a_line_of_a_hundred_thousand_sentences_is_cut_in_time(text: str) -> None:
    started = time.process_time()
    assert len(list(sentences(text))) > 0
    assert time.process_time() - started < 3
