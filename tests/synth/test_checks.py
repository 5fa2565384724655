"""Every check: what it finds, and what it lets pass."""

import pytest

from synth.checks import copied, hidden, leaked, num_words, other_script, repeated, same_as, wrong_length

PASSAGE = "Photosynthesis is the process by which green plants turn light into chemical energy, in their chloroplasts."
CHINESE = "光合作用是绿色植物利用叶绿素(chlorophyll)把光能转化为化学能的过程,主要在叶绿体中进行。"
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


def test_a_long_passage_can_be_compared() -> None:
    assert copied(" ".join(["how do plants make energy"] * 8), PASSAGE * 1000) is None


def test_texts_that_differ_in_case_width_and_punctuation_are_the_same() -> None:
    earlier = {same_as("How do cats purr?")}
    for text in ("how do CATS purr", "Ｈｏｗ do  cats, purr…"):
        assert repeated(text, earlier)
    for text in ("how do cats sleep?", "how do cats purr at night?"):
        assert repeated(text, earlier) is None
    assert same_as("कि") != same_as("का")  # vowel signs are not punctuation


@pytest.mark.parametrize(
    "text",
    [
        "As an AI language model, I would ask: why?",
        "Here are five queries",
        "Sure, what is photosynthesis",
        "Query 1: what is light",
        "What does the passage say about light?",
        "according to the text, what is light",
        '{"query": "what is light"}',
        '["what is light"]',
        '"queries": what is light',
        "```json what is light",
        "<think> what is light",
        "作为一个AI，我想问",
        "以下是五个问题",
        "根据上文，植物如何生长",
    ],
)
def test_what_belongs_to_the_conversation_with_the_llm_is_found(text: str) -> None:
    assert leaked(text, PASSAGE)


@pytest.mark.parametrize(
    "text",
    [
        "what is photosynthesis",
        "I cannot log in to my account",
        "salary as a large animal vet",
        "passage of light through leaves",
        "how to index arr[0][1] in python",
        "日本文化の光",
        "set notation {1, 2}",
    ],
)
def test_a_query_that_only_looks_a_little_like_it_passes(text: str) -> None:
    assert leaked(text, PASSAGE) is None


def test_words_of_the_passage_itself_are_no_leak() -> None:
    assert leaked("how long is the passage to India by ship", "A ship. The passage to India takes weeks.") is None


@pytest.mark.parametrize("char", ["\x00", "\x1b", "\u202e", "\u200b", "\ud800", "\ue000", "\uffff"])
def test_a_character_that_is_not_seen_is_found_and_named(char: str) -> None:
    assert hidden(f"cats{char}purr") == f"contains the character U+{ord(char):04X}"


@pytest.mark.parametrize("text", ["cats\tand\ndogs", "می‌خواهم", "👩‍🌾 farms", "naïve café", "猫"])
def test_text_of_all_languages_passes(text: str) -> None:
    assert hidden(text) is None
