"""Ids and hashes: the same content is the same everywhere."""

import time
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synth.records import (
    Classification,
    Content,
    Retrieval,
    Sts,
    composed,
    content_hash,
    is_plain_name,
    key_of,
    new_id,
    normalise,
    text_id,
)


def test_texts_that_differ_in_white_space_or_composition_only_have_one_id() -> None:
    assert text_id("caf\u00e9  au\n lait ") == text_id("cafe\u0301 au lait")
    assert text_id("a") != text_id("A")


# of several classes, marks that decompose into marks, starters that do, letters that NFKC makes marks, jamo, a symbol
MARKS = "\u0300\u0301\u0315\u0316\u0334\u0344\u0345\u0f73\u0f71\u0f72\u3099\uff9e\uff9fe\u00e9\u1fee\u00b4"
MARKS += "\u1100\u1161\u11a8\u2014 "


@given(st.lists(st.text(MARKS, max_size=90) | st.text(max_size=5), max_size=4).map("".join))
@settings(deadline=None)
def test_composing_gives_what_unicode_says(text: str) -> None:
    assert composed(text) == unicodedata.normalize("NFC", text)
    assert composed(text, "NFKC") == unicodedata.normalize("NFKC", text)


@pytest.mark.parametrize("marks", ["\u0315" * 400_000 + "\u0300" * 400_000, "\u0300\uff9e" * 400_000])
def test_however_many_marks_a_text_has_it_is_normalised_in_time(marks: str) -> None:
    started = time.monotonic()
    assert len(normalise(f"a{marks}")) >= len(marks)
    assert composed(f"a{marks}", "NFKC")
    assert time.monotonic() - started < 10  # minutes, were the marks put in order by insertion


def test_a_text_of_many_marks_has_the_id_that_it_always_had() -> None:
    assert str(text_id("a" + "\u0315" * 50 + "\u0300" * 50)) == "346d03a6-a21b-9e09-784f-cb4243b130d8"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (Retrieval("q", ("a", "b")), Retrieval("q", ("b", "a"))),
        (Retrieval("q", ("a",)), Retrieval("q", ("a",), instruction="i")),
        (Sts("a", "b", 1.0), Sts("a", "b", 2.0)),
        (Classification("a", "b"), Sts("a", "b", 0.0)),
        (Retrieval("q", ("a b",)), Retrieval("q", ("a", "b"))),
    ],
)
def test_different_content_has_different_hashes(one: Content, other: Content) -> None:
    assert content_hash(one) != content_hash(other)


def test_the_hash_of_content_is_the_same_on_every_machine() -> None:
    assert str(content_hash(Retrieval("q", ("p",)))) == "0bab54bd-fdf3-36ab-12aa-2401697243bc"
    assert key_of("a", {"y": 1, "x": 2}) == key_of("a", {"x": 2, "y": 1})


def test_new_ids_are_ordered_by_time_and_marked_as_version_7() -> None:
    first = new_id()
    time.sleep(0.002)
    second = new_id()
    assert first < second
    assert (first.version, len({new_id() for _ in range(1000)})) == (7, 1000)


@pytest.mark.parametrize(
    ("name", "is_one"),
    [
        ("a" * 100, True),
        ("a" * 101, False),
        ("轻" * 66, True),
        ("轻" * 67, False),
        ("轻舟 2", True),
        ("", False),
        ("a/b", False),
    ],
)
def test_a_plain_name_is_one_that_a_file_can_have(name: str, is_one: bool) -> None:
    assert is_plain_name(name) is is_one
