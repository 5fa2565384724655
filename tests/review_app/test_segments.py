import pytest

from review_app.segments import HIDDEN, LONGEST, PLAIN, TERM, query_terms, segments, titled, visible


def kinds(text: str, query: str, kind: str) -> list[str]:
    return [part for part, found in segments(text, query_terms(query)) if found == kind]


@pytest.mark.parametrize("text", ["", "plain", "a\tb\n\nc  d", "## *x* <b> $5$ :red[y]", "船港 boats 港", "👩‍🚀 café"])
def test_segments_joined_are_the_text(text: str) -> None:
    parts = segments(text, query_terms("boats 船港 plain"))
    assert "".join(part if kind != HIDDEN else chr(int(part[2:], 16)) for part, kind in parts) == text


@pytest.mark.parametrize(
    "words",
    [
        ("geology", "Geologic", "geologists", "geological"),
        ("occur", "occurs", "occurred", "occurring"),
        ("process", "processes", "processed"),
        ("rock", "rocks", "Rock's"),
        ("city’s", "city"),
        ("glass", "glass"),
    ],
)
def test_words_shared_with_the_query_are_marked_whatever_their_ending(words: tuple[str, ...]) -> None:
    for query in words:
        assert kinds(" and ".join(words), query, TERM) == list(words)


def test_words_that_say_nothing_are_not_marked() -> None:
    assert kinds("What is it and how does it do that?", "What is it and how?", TERM) == []


def test_chinese_is_marked_by_pairs_of_characters() -> None:
    assert kinds("赵鹏没有入选国家队，鹏城也没有。", "赵鹏在哪年入选国家队？", TERM) == ["赵鹏", "入选国家队"]


def test_numbers_are_marked() -> None:
    assert kinds("In 1912, 7 boats.", "What of 7 in 1912?", TERM) == ["1912", "7"]


@pytest.mark.parametrize(
    ("character", "name"),
    [
        ("\u200b", "U+200B"),
        ("\u202e", "U+202E"),
        ("\u2066", "U+2066"),
        ("\ufeff", "U+FEFF"),
        ("\u00ad", "U+00AD"),
        ("\u2028", "U+2028"),
        ("\x1b", "U+001B"),
        ("\r", "U+000D"),
        ("\u3164", "U+3164"),
        ("\U000e0041", "U+E0041"),
        ("\U000e0100", "U+E0100"),
        ("\ue000", "U+E000"),
    ],
)
def test_a_character_that_a_screen_would_hide_or_obey_is_named(character: str, name: str) -> None:
    assert segments(f"a{character}b") == [("a", PLAIN), (name, HIDDEN), ("b", PLAIN)]
    assert visible(f"a{character}b") == f"a⟨{name}⟩b"


def test_a_hidden_character_inside_a_term_is_named_too() -> None:
    assert ("U+00AD", HIDDEN) in segments("har\u00adbour", query_terms("harbour"))


def test_a_text_too_long_to_read_is_cut_and_says_so() -> None:
    assert segments("x" * (LONGEST + 1_234)) == [("x" * LONGEST, PLAIN), ("1,234 more characters", HIDDEN)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Title\nBody", ("Title", "Body")),
        ("Only one line", ("", "Only one line")),
        ("Title\n", ("", "Title\n")),
        (f"{'x' * 121}\nBody", ("", f"{'x' * 121}\nBody")),
    ],
)
def test_a_passages_title_is_its_short_first_line(text: str, expected: tuple[str, str]) -> None:
    assert titled(text) == expected
