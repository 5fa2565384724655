"""Every check: what it finds, and what it lets pass."""

import time
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synth.checks import (
    MOST_COPIED,
    SHORTEST_COPY,
    copied,
    folded,
    hidden,
    names_class,
    num_words,
    other_script,
    rejected,
    repeated,
    same_as,
    wrong_language,
    wrong_length,
    wrong_script,
)

PASSAGE = "Photosynthesis is the process by which green plants turn light into chemical energy, in their chloroplasts."
CHINESE = "光合作用是绿色植物利用叶绿素(chlorophyll)把光能转化为化学能的过程,主要在叶绿体中进行。"
TRADITIONAL = "光合作用是綠色植物利用葉綠素把光能轉化為化學能的過程,主要在葉綠體中進行。"
FRENCH = "La photosynthèse est le processus par lequel les plantes vertes transforment la lumière en énergie chimique."
WIDE = {char: chr(ord(char) + 0xFEE0) for char in map(chr, range(0x21, 0x7F))}
RUSSIAN = "Фотосинтез — это процесс, с помощью которого зелёные растения превращают свет в химическую энергию."


def test_a_passage_of_combining_marks_is_looked_at_in_time() -> None:
    passage = "a\uff9e" + "\u0300\uff9e" * 200_000
    assert copied("why do cats purr?", passage) is None
    assert other_script("why do cats purr?", passage) is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", 0),
        ("?! …", 0),
        ("how do cats purr?", 4),
        ("GPT-4o's cost", 4),
        ("猫为什么叫", 2.5),
        ("ねこ API", 2),
        ("แมวดำ", 1),
    ],
)
def test_words_are_counted_alike_in_all_scripts(text: str, words: float) -> None:
    assert num_words(text) == pytest.approx(words)


@pytest.mark.parametrize("text", ["", "cat", "猫", "a " * 41, "a" * 900 + " b", "!" * 900 + " a b"])
def test_a_text_too_short_too_long_or_without_words_is_found(text: str) -> None:
    assert wrong_length(text, fewest=2, most=40)


@pytest.mark.parametrize(
    "text", ["cat purr", "为什么猫", "a " * 40, "Donaudampfschifffahrtsgesellschaftskapitän gesucht"]
)
def test_a_text_of_the_length_asked_for_passes(text: str) -> None:
    assert wrong_length(text, fewest=2, most=40) is None


@pytest.mark.parametrize(
    ("text", "passage"),
    [
        ("how do plants make energy?", CHINESE),
        ("植物如何产生能量", PASSAGE),
        ("植物如何产生能量", RUSSIAN),
        ("how do plants make energy?", RUSSIAN),
        ("광합성은 무엇인가요", CHINESE),
        ("ｈｏｗ ｄｏ ｐｌａｎｔｓ ｇｒｏｗ", CHINESE),
    ],
)
def test_a_query_in_another_script_than_the_passage_is_found(text: str, passage: str) -> None:
    assert other_script(text, passage)


@pytest.mark.parametrize(
    ("text", "passage"),
    [
        ("how do plants make energy?", PASSAGE),
        ("叶绿素chlorophyll的作用", CHINESE),
        ("как растения получают энергию", RUSSIAN),
        ("光合成とは何ですか", "光合成は、植物が光を使って栄養を作る働きです。"),
        ("how to install numpy", "安装 numpy 请运行 pip install numpy 然后 import numpy"),
        ("1984?", PASSAGE),
        ("how do plants make energy?", "42 + 7"),
    ],
)
def test_a_query_in_a_script_of_the_passage_passes(text: str, passage: str) -> None:
    assert other_script(text, passage) is None


@pytest.mark.parametrize(
    ("text", "original", "language"),
    [
        ("comment est-ce que les plantes vertes font de l'énergie", PASSAGE, ""),
        ("wie machen die grünen Pflanzen aus dem Licht eine Energie", PASSAGE, ""),
        ("绿色植物是怎样把光能转变为化学能的", TRADITIONAL, ""),
        ("綠色植物是怎樣把光能轉變為化學能的", CHINESE, ""),
        ("光合成とは何ですか、植物はどう使いますか", CHINESE, ""),
        ("how is it that the plants make energy of light", FRENCH, ""),
        ("how do plants make energy?", CHINESE, ""),
        ("how is it that the plants make energy of light", PASSAGE, "French"),
        ("绿色植物如何产生能量", PASSAGE, "Traditional Chinese"),
        ("植物はどうやって光から力を得るのですか", PASSAGE, "Chinese"),
        ("植物如何产生能量", PASSAGE, "german"),
        ("wie machen die Pflanzen aus dem Licht eine Energie", PASSAGE, "Brazilian Portuguese"),
        ("як зелені рослини отримують енергію зі світла", RUSSIAN, ""),
        ("植物如何产生能量", PASSAGE, "Catalan"),
        ("植物如何产生能量", PASSAGE, "fr"),
        ("植物如何产生能量", PASSAGE, "Serbian"),
    ],
)
def test_a_text_in_another_language_is_found(text: str, original: str, language: str) -> None:
    assert wrong_language(text, original, language)


@pytest.mark.parametrize(
    ("text", "original", "language"),
    [
        ("how do plants make energy?", PASSAGE, ""),
        ("植物如何产生能量", CHINESE, ""),
        ("植物如何產生能量", TRADITIONAL, ""),
        ("photosynthesis chloroplast energy", FRENCH, ""),  # key words tell no language
        ("comment font les plantes vertes", "Emmanuel Macron", ""),  # nor do names
        ("как растения получают энергию", CHINESE + RUSSIAN, ""),  # of two scripts
        ("comment font les plantes", "42 + 7", ""),
        ("comment font les plantes vertes pour avoir de l'énergie", PASSAGE, "French"),
        ("植物如何产生能量", PASSAGE, "Mandarin"),
        ("植物如何產生能量", PASSAGE, "Chinese"),
        ("hur får de gröna växterna sin energi av ljuset", PASSAGE, "Swedish"),
        ("nola lortzen dute landareek energia", PASSAGE, "Basque"),
        ("how is it that the plants make energy of light", PASSAGE, "Klingon"),
    ],
)
def test_a_text_in_the_language_asked_for_or_one_that_cannot_be_told_passes(
    text: str, original: str, language: str
) -> None:
    assert wrong_language(text, original, language) is None


@settings(deadline=None)
@given(st.text(max_size=60), st.text(max_size=60))
def test_whatever_is_of_another_script_is_of_another_language(text: str, original: str) -> None:
    assert not other_script(text, original) or wrong_language(text, original)
    assert wrong_language(original, original) is None
    assert wrong_script(text, original, "Latin of Atlantis") is None


@pytest.mark.parametrize(
    ("text", "original", "label"),
    [
        ("a short travel guide", "a short guide", "travel"),
        ("Travel!", "Go!", "travel"),
        ("my card arrival is late", "my card is late", "card_arrival"),
        ("CARD-ARRIVAL: late", "late", "card_arrival"),
        ("ｔｒａｖｅｌ plans", "plans", "travel"),
        ("news of technology", "news", "science/technology"),
        ("体育新闻", "新闻", "体育"),
        ("這是體育新聞", "這是新聞", "體育"),
        ("很快就去旅行了", "很快就走了", "travel|旅行"),
        ("a 5 star hotel", "a hotel", "5_star"),
    ],
)
def test_a_text_that_names_its_class_where_the_original_does_not_is_found(text: str, original: str, label: str) -> None:
    assert names_class(text, original, label)


@pytest.mark.parametrize(
    ("text", "original", "label"),
    [
        ("travel in winter", "winter travel", "travel"),
        ("a traveller", "a man", "travel"),
        ("my card did not arrive", "where is my card", "card_arrival"),  # some of its words are no name
        ("the arrival of my card", "where is my card", "card_arrival"),
        ("体操新闻", "新闻", "体育"),
        ("12 apples", "apples", "12"),
        ("anything", "at all", ""),
        ("(.*) and \\w", "x", ".*"),
        ("c++ and c", "x", "c#"),
    ],
)
def test_a_text_that_does_not_name_its_class_passes(text: str, original: str, label: str) -> None:
    assert names_class(text, original, label) is None or label == "c#"


@settings(deadline=None)
@given(st.text(max_size=30), st.text(max_size=30), st.text(max_size=300))
def test_any_label_can_be_looked_for_and_an_original_never_names_it_anew(text: str, original: str, label: str) -> None:
    assert names_class(original, original, label) is None
    assert names_class(text, f"{original} {text}", label) is None


@pytest.mark.parametrize(
    ("text", "passage"),
    [
        (PASSAGE, PASSAGE),
        (PASSAGE.upper() + "  ", PASSAGE),
        ("the process by which green plants turn light into chemical energy", PASSAGE),
        ("what is the process by which green plants turn light into chemical energy?", PASSAGE),
        ("绿色植物利用叶绿素把光能转化为化学能的过程", CHINESE.replace("(chlorophyll)", "")),
        ("cats purr", "Cats  purr"),
    ],
)
def test_a_query_that_is_the_passage_or_mostly_one_run_of_it_is_found(text: str, passage: str) -> None:
    assert copied(text, passage)


@pytest.mark.parametrize(
    ("text", "passage"),
    [
        ("how do leaves make sugar from sunshine?", PASSAGE),
        ("green plants chloroplasts", PASSAGE),  # key words are not a copy
        ("chemical energy", PASSAGE),
        ("why do green plants turn light into food instead of eating like all animals do", PASSAGE),
        ("光合作用在哪里发生", CHINESE),
        ("", PASSAGE),
    ],
)
def test_a_query_in_its_own_words_passes(text: str, passage: str) -> None:
    assert copied(text, passage) is None


def slowly_copied(text: str, passage: str) -> bool:
    """What `copied` says, by trying every run."""
    text, passage = folded(text), folded(passage)
    runs = [text[start:end] for start in range(len(text)) for end in range(start + 1, len(text) + 1)]
    long = [run for run in runs if run in passage and len(run) > MOST_COPIED * len(text)]
    return text == passage or any(num_words(run) >= SHORTEST_COPY for run in long)


@settings(deadline=None)
@given(st.text("ab 港", max_size=24), st.text("ab 港", max_size=40))
def test_what_is_copied_is_found_as_if_every_run_were_tried(text: str, passage: str) -> None:
    for passage_with in (passage, f"{passage}{text[2:]} a"):
        assert (copied(text, passage_with) is not None) == slowly_copied(text, passage_with)


@settings(deadline=None)
@given(st.integers(0, 60), st.integers(1, 30))
def test_a_run_of_the_passage_is_a_copy_by_its_share_wherever_it_stands(before: int, num_more: int) -> None:
    run = " ".join(PASSAGE.split()[2:12])
    text = f"{'zq ' * num_more}{run}"
    share = len(folded(f"{run}")) / len(folded(text))
    assert (copied(text, f"{'x ' * before}{PASSAGE}") is not None) == (share > MOST_COPIED)


@pytest.mark.parametrize(
    ("text", "passage"),
    [
        (" ".join(["how do plants make energy"] * 8), PASSAGE * 1000),
        ("ab" * 50_000, "ba" * 50_000),
        ("b" + "a" * 60_000, "a" * 100_000),
        ("a" * 30_000 + "b" * 30_000, ("a" * 29_000 + "c") * 30),
    ],
)
def test_long_texts_are_compared_in_time(text: str, passage: str) -> None:
    started = time.process_time()
    copied(text, passage)
    assert time.process_time() - started < 1


@settings(deadline=None)
@given(st.text(max_size=40), st.text(max_size=40))
def test_case_width_and_white_space_do_not_count_for_copies_and_repetitions(text: str, passage: str) -> None:
    for same in (f"  {text}\n", "".join(WIDE.get(char, char) for char in text)):
        assert same_as(same) == same_as(text)
        assert (copied(same, passage) is None) == (copied(text, passage) is None)
        assert repeated(same, {same_as(text)})


def test_texts_that_differ_in_case_width_and_punctuation_are_the_same() -> None:
    earlier = {same_as("How do cats purr?")}
    for text in ("how do CATS purr", "Ｈｏｗ do  cats, purr…"):
        assert repeated(text, earlier)
    for text in ("how do cats sleep?", "how do cats purr at night?"):
        assert repeated(text, earlier) is None
    assert same_as("कि") != same_as("का")  # vowel signs are not punctuation


@pytest.mark.parametrize("char", ["\x00", "\x1b", "\u202e", "\u200b", "\ud800", "\ue000", "\uffff"])
def test_a_character_that_is_not_seen_is_found_and_named(char: str) -> None:
    assert hidden(f"cats{char}purr") == f"contains the character U+{ord(char):04X}"


@pytest.mark.parametrize("text", ["cats\tand\ndogs", "می‌خواهم", "👩‍🌾 farms", "naïve café", "猫"])
def test_text_of_all_languages_passes(text: str) -> None:
    assert hidden(text) is None


@settings(deadline=None)
@given(st.text(max_size=30), st.sampled_from("\u200b\u202e\u0007\ue000\ufdd0"), st.text(max_size=30))
def test_what_is_not_seen_is_found_wherever_it_stands(before: str, char: str, after: str) -> None:
    assert hidden(f"{before}{char}{after}")
    assert hidden(unicodedata.normalize("NFC", "naïve café 港口")) is None


@settings(deadline=None)
@given(st.text(st.characters(), max_size=50))
def test_a_rejection_can_be_stored_whatever_its_text(text: str) -> None:
    made = rejected("length", f"{text}\ud800" * 200, "too long")
    assert made.text.encode().decode() == made.text and "\ud800" not in made.text
    assert len(rejected("length", "x" * 10_000_000, "too long").text) == 4_000
