"""How alike two texts are: one measure for English and Chinese, and what is found by it in a rewritten text."""

import time
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synth.likeness import (
    LEAST_APART,
    Taken,
    asked_length,
    difference,
    in_common,
    keeps_sentences,
    length_bounds,
    length_change,
    overlong,
    too_alike,
    units,
    wrong_size,
)

ENGLISH = (
    "The harbour was dug by hand in 1780. Its lighthouse guides every skiff at night. Fishermen sell their catch on"
    " the quay before sunrise."
)
CHINESE = "这座港口于1780年由人工挖成。灯塔每晚为每一艘小船引路。渔民在日出之前就在码头上卖鱼。"
CHOSEN = ["the", "a", "harbour", "skiff", "Sea", "NIGHT", "1780", "港", "口", "船", "ねこ"]
WORDS = st.lists(st.sampled_from(CHOSEN), max_size=12).map(" ".join)
TEXTS = st.text(max_size=40) | WORDS


@settings(deadline=None)
@given(TEXTS, TEXTS)
def test_the_difference_is_a_share_the_same_from_both_sides_and_none_of_equal_texts(one: str, other: str) -> None:
    found = difference(one, other)
    assert 0 <= found <= 1
    assert found == difference(other, one)
    assert difference(one, one) == 0
    assert (found == 0) == (units(one) == units(other))


@settings(deadline=None)
@given(WORDS, WORDS)
def test_case_white_space_width_and_punctuation_do_not_count(one: str, other: str) -> None:
    wide = "".join(chr(ord(char) + 0xFEE0) if "!" <= char <= "~" else char for char in one)
    for same in (one.upper(), f"  {one}\n", wide, f"¿{one}?!", unicodedata.normalize("NFD", one)):
        assert difference(same, other) == difference(one, other)


@settings(deadline=None)
@given(st.lists(st.sampled_from(["harbour", "skiff", "night", "quay"]), min_size=1, max_size=20), st.integers(0, 19))
def test_one_word_replaced_is_that_share_of_the_text(words: list[str], place: int) -> None:
    changed = [*words]
    changed[place % len(words)] = "lighthouse"
    assert difference(" ".join(changed), " ".join(words)) == pytest.approx(1 / len(words))


@pytest.mark.parametrize(
    ("text", "original", "share"),
    [
        ("how old is the harbour", "how old is the harbour?", 0.0),
        ("how old is the port", "how old is the harbour", 1 / 5),
        ("when was the harbour built", "how old is the harbour", 4 / 5),
        ("港口有多老", "港口有多老？", 0.0),
        ("港口有多久", "港口有多老", 1 / 5),
        ("ＧＰＵ 加速", "gpu加速", 0.0),
        ("猫がなぜ鳴くのか", "なぜ猫が鳴くのか", 4 / 8),
        ("", "", 0.0),
        ("", "港", 1.0),
    ],
)
def test_the_difference_counts_words_and_characters_of_scripts_without_spaces(
    text: str, original: str, share: float
) -> None:
    assert difference(text, original) == pytest.approx(share)


@pytest.mark.parametrize(
    ("text", "original", "change"),
    [("abcdef", "abcde", 0.2), ("ab cd", "abcde", -0.2), ("港口船", "港口", 0.5), ("", "a", -1.0), ("", "", 0.0)],
)
def test_length_is_of_characters_without_white_space(text: str, original: str, change: float) -> None:
    assert length_change(text, original) == pytest.approx(change)


@pytest.mark.parametrize(
    ("text", "original"),
    [
        ("how long has the harbour been there, and who dug it", "how old is the harbour"),
        ("how old", "how old is the harbour"),
        ("这座港口是什么时候由谁挖成的", "港口有多老"),
        ("anything", ""),
    ],
)
def test_a_text_longer_or_shorter_than_asked_for_is_found(text: str, original: str) -> None:
    assert wrong_size(text, original, most=0.15)


@pytest.mark.parametrize(
    ("text", "original"),
    [
        ("how old is this harbour", "how old is the harbour"),
        ("the harbour's age", "the harbour age?"),
        ("港口多老", "港口有多老"),
        ("", ""),
        (ENGLISH.replace("by hand", "with shovels"), ENGLISH),
    ],
)
def test_a_text_of_about_the_length_passes_and_one_word_is_never_too_much(text: str, original: str) -> None:
    assert wrong_size(text, original, most=0.15) is None


@pytest.mark.parametrize(
    ("text", "original"),
    [
        ("how old is the port", "how old is the harbour"),
        ("How OLD is the harbour ?", "how old is the harbour"),
        ("这座港口到底有多老", "这座港口有多老"),
        (ENGLISH.replace("dug", "built"), ENGLISH),
        (CHINESE.replace("挖成", "建成"), CHINESE),
    ],
)
def test_a_text_that_was_hardly_rewritten_is_found(text: str, original: str) -> None:
    assert too_alike(text, original)


@pytest.mark.parametrize(
    ("text", "original"),
    [
        ("when was the harbour built", "how old is the harbour"),
        ("这港建了多少年", "港口有多老"),
        (
            "People dug the harbour in 1780. A lighthouse shows all skiffs the way at night. The catch is sold on the"
            " quay before the sun rises.",
            ENGLISH,
        ),
        ("1780年，人们亲手挖出了这个港。每到夜里，灯塔就为所有小船指路。天亮之前，渔民已在码头卖起鱼来。", CHINESE),
    ],
)
def test_a_text_that_says_the_same_in_other_words_passes(text: str, original: str) -> None:
    assert too_alike(text, original) is None
    assert keeps_sentences(text, original) is None


@pytest.mark.parametrize(
    ("text", "original"),
    [
        (f"In short: nobody knows. {ENGLISH[:81]}", ENGLISH),
        (ENGLISH.upper().replace(".", "!"), ENGLISH),
        ("灯塔每晚为每一艘小船引路！渔民在日出之前就在码头上卖鱼。港口很老。", CHINESE),
    ],
)
def test_two_sentences_of_the_original_in_a_row_are_found(text: str, original: str) -> None:
    assert keeps_sentences(text, original)


@pytest.mark.parametrize(
    ("text", "original"),
    [
        ("Its lighthouse guides every skiff at night. It is old. The harbour was dug by hand in 1780.", ENGLISH),
        ("渔民在日出之前就在码头上卖鱼。这座港口于1780年由人工挖成。", CHINESE),
        ("The harbour was dug by hand in 1780.", "The harbour was dug by hand in 1780."),
        ("", ENGLISH),
    ],
)
def test_sentences_that_stand_apart_or_alone_pass(text: str, original: str) -> None:
    assert keeps_sentences(text, original) is None


LIST = "Tools\n1. pip\n2. uv\n3. build\nEach of them reads the same file. Only one of them writes it."
WITH_CODE = """Installing numpy
Open a terminal and go to your own folder first.

```
pip install numpy into it
pip check the whole of it
```

A wheel is taken where there is one."""


@pytest.mark.parametrize(
    ("text", "original"),
    [
        # names in a list, titles and code stay; what is said about them is said anew
        ("Tools\n1. pip\n2. uv\n3. build\nOne file is read by all. A single one of them changes it.", LIST),
        (
            WITH_CODE.replace(
                "Open a terminal and go to your own folder first.", "Begin in a shell, where you work."
            ).replace("A wheel is taken where there is one.", "Wheels come first, if any exist."),
            WITH_CODE,
        ),
        ("Alpha\n    x = 1\n    y = x + 1\nSo y is the greater.", "Beta\n    x = 1\n    y = x + 1\nHence x is less."),
    ],
)
def test_lists_of_names_and_code_may_stay(text: str, original: str) -> None:
    assert keeps_sentences(text, original) is None
    assert too_alike(text, original) is None


@pytest.mark.parametrize(
    ("text", "original"),
    [
        (
            "Other title\nThe port is very old. The tower guides skiffs.",
            "Title\nThe port is very old. The tower guides skiffs.",
        ),
        (
            "The port is\nvery old. The tower\nguides skiffs. So be it.",
            "The port is very old. The tower guides skiffs.",
        ),
        ("- Open the big box\n- Take the red key\n- Run", "1. Open the big box\n2. Take the red key\n3. Walk home"),
        (WITH_CODE, WITH_CODE.replace("A wheel is taken where there is one.", "A wheel is taken if there is.")),
    ],
)
def test_sentences_in_a_row_are_found_whatever_lines_they_stand_in(text: str, original: str) -> None:
    assert keeps_sentences(text, original) or too_alike(text, original)


def test_code_that_was_changed_does_not_make_up_for_prose_that_was_not() -> None:
    assert too_alike(WITH_CODE.replace("numpy into it", "scipy over there"), WITH_CODE)
    only_code = "```\na = b + c\n```"
    assert too_alike(only_code, only_code) and too_alike("```\nx = y - z\n```", only_code) is None


@settings(deadline=None)
@given(WORDS, WORDS)
def test_a_length_within_the_bounds_that_are_asked_for_passes(text: str, original: str) -> None:
    least, longest = length_bounds(original, 0.15)
    length = len("".join(text.split()))
    assert (wrong_size(text, original, most=0.15) is None) == (least <= length <= longest) or not (length and original)


@pytest.mark.parametrize(
    ("original", "asked"),
    [
        ("how old is the harbour", "15 to 21 characters (some 5 words)"),
        ("numpy install", "6 to 18 characters (some 2 words)"),
        ("numpy", "1 to 10 characters"),
        ("港口有多老", "4 to 6 characters"),
        ("港口 API", "4 to 6 characters"),
    ],
)
def test_a_length_is_asked_for_in_characters_and_in_words_where_there_are_words(original: str, asked: str) -> None:
    assert asked_length(original, 0.15) == asked


@pytest.mark.parametrize(
    ("one", "other", "share"),
    [
        ("a man rows", "rows a man", 1.0),
        ("a man rows", "A woman rows!", 2 / 3),
        ("港口老", "老港口", 1.0),
        ("", "", 1.0),
        ("a", "", 0.0),
    ],
)
def test_what_texts_have_in_common_does_not_depend_on_order(one: str, other: str, share: float) -> None:
    assert in_common(one, other) == in_common(other, one) == pytest.approx(share)


@settings(deadline=None)
@given(st.lists(WORDS, max_size=5), WORDS)
def test_a_text_is_taken_again_if_it_is_the_same_or_less_than_a_tenth_different(taken: list[str], text: str) -> None:
    apart = min((difference(text, each) for each in taken), default=1.0)
    assert (Taken(taken).again(text) is not None) == (apart < LEAST_APART)
    added = Taken(taken)
    added.add(text)
    assert added.again(text.upper())


@pytest.mark.parametrize(
    ("text", "earlier"),
    [
        ("When was the harbour dug", "when was the HARBOUR dug?"),
        (ENGLISH.replace("dug", "built"), ENGLISH),
        (CHINESE.replace("人工", "人力"), CHINESE),
        ("港口有多老？", "港口有多老"),
        ("re-sign", "resign"),
    ],
)
def test_a_slip_of_the_pen_makes_no_other_text(text: str, earlier: str) -> None:
    assert Taken([earlier], "an earlier one").again(text)


def test_a_finding_says_what_the_text_is_like() -> None:
    assert Taken(["a skiff"], "the query").again("A skiff!") == "the same as the query"
    assert Taken([ENGLISH], "a positive").again(ENGLISH.replace("dug", "built")) == "only 4% different from a positive"


@pytest.mark.parametrize("megabytes", [1, 4])
def test_a_text_of_megabytes_is_refused_before_anything_is_compared(megabytes: int) -> None:
    text = "x y " * (250_000 * megabytes)
    started = time.process_time()
    assert overlong(text, ENGLISH) and overlong("x" * 2_000, "how old is it") and not overlong("x" * 900, "how old")
    assert time.process_time() - started < 0.1


@pytest.mark.parametrize(
    "text",
    [
        "A sentence of some words. " * 4_000,
        "港口很老。" * 10_000,
        "```\n" * 20_000,
        "    x\n" * 20_000,
        "~~~~ " + "~" * 100_000,
    ],
)
def test_long_originals_are_compared_in_time(text: str) -> None:
    started = time.process_time()
    for other in (text, text[len(text) // 3 :]):
        too_alike(other, text)
        keeps_sentences(other, text)
        wrong_size(other, text, most=0.15)
    assert time.process_time() - started < 3


@pytest.mark.parametrize(
    "text", ["    \n" * 100_000, "```a\n" + "```\n b\n" * 40_000, "!" * 400_000 + "x", "`" * 200_000]
)
def test_texts_that_are_nothing_but_marks_take_no_time_that_grows_with_their_square(text: str) -> None:
    other = f"{text} A skiff is small. One person rows it."
    assert keeps_sentences(other, other) or too_alike(other, other)


def test_an_original_of_many_short_sentences_is_split_once_for_all_the_texts_that_are_compared_with_it() -> None:
    original = "It is one boat. " * 10_000
    started = time.process_time()
    keeps_sentences("Another text.", original)
    once = time.process_time() - started
    for number in range(20):
        keeps_sentences(f"Another text, number {number}.", original)
    assert time.process_time() - started < 4 * once
