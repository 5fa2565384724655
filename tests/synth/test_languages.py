"""Which language a text is written in: what is told, what is not, and nothing wrong of the sample data."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synth.languages import KNOWN, language_of, other_than
from tests.conftest import SAMPLE

TEXTS = {
    "english": "The harbour was dug by hand, and it is where the skiffs of the town are to be found.",
    "german": "Der Hafen wurde von Hand gegraben, und dort sind auch die Boote der Stadt zu finden.",
    "french": "Le port a été creusé à la main, et c'est là que les bateaux de la ville sont amarrés.",
    "spanish": "El puerto fue excavado a mano, y es donde están los barcos de la ciudad más antigua.",
    "portuguese": "O porto foi escavado à mão, e é onde ficam também os barcos da cidade, que são muitos.",
    "italian": "Il porto è stato scavato a mano, ed è dove si trovano anche le barche della città.",
    "dutch": "De haven is met de hand gegraven en het is ook waar de boten van de stad worden gevonden.",
    "scandinavian": "Hamnen grävdes för hand och det är där som båtarna i staden kan ligga om natten.",
    "finnish": "Satama kaivettiin käsin, ja se on myös paikka, jossa kaupungin veneet ovat, kun on yö.",
    "polish": "Port został wykopany ręcznie i to jest miejsce, w którym są łodzie, ale nie ma ich wiele.",
    "turkish": "Liman elle kazılmış ve bu şehir için çok önemli bir yer olarak bilinir, ama küçük.",
    "vietnamese": "Bến cảng được đào bằng tay và là nơi có những chiếc thuyền của thành phố này.",
    "japanese": "港は手で掘られ、町の小舟はそこに泊まっている。",
    "simplified chinese": "这座港口由人工挖成，镇上的小船都停在那里。",
    "traditional chinese": "這座港口由人工挖成，鎮上的小船都停在那裡。",
}


@pytest.mark.parametrize("language", TEXTS)
def test_a_sentence_tells_its_language_and_no_other(language: str) -> None:
    text = TEXTS[language]
    assert language_of(text) == language
    assert other_than(language, text) == ""
    assert language_of(text.upper()) == language


@pytest.mark.parametrize("language", [each for each in TEXTS if each != "english"])
def test_a_sentence_of_another_language_is_not_english(language: str) -> None:
    assert other_than("english", TEXTS[language]) == language


@pytest.mark.parametrize(
    "text",
    [
        "",
        "numpy install",
        "Donald Trump, Angela Merkel, Emmanuel Macron",
        "C4C4 Ly6C hi lo",
        "42 + 7",
        "港口",
        "ДНК и РНК",
        "Как растения получают энергию из света, и почему они зелёные?",
    ],
)
def test_of_key_words_names_and_other_scripts_nothing_is_said(text: str) -> None:
    assert language_of(text) == "" and other_than("english", text) == ""


def test_a_foreign_title_within_a_sentence_does_not_decide() -> None:
    text = "What is the plot of 'La casa de las flores en el mar', and who is it that wrote it for the stage?"
    assert other_than("english", text) == "" == other_than("spanish", "¿Quién es la autora de «The Sea, the Sea»?")


def test_french_is_clearly_not_english_even_where_it_may_be_spanish() -> None:
    text = "Un homme joue de la guitare sur une scène."
    assert language_of(text) == "" and other_than("english", text) == "french"


def test_chinese_asked_for_by_that_name_is_either_script() -> None:
    assert (
        other_than("chinese", TEXTS["simplified chinese"]) == other_than("chinese", TEXTS["traditional chinese"]) == ""
    )
    assert other_than("chinese", TEXTS["japanese"]) == "japanese"


@settings(deadline=None)
@given(st.text(max_size=300), st.sampled_from(sorted(KNOWN)))
def test_any_text_is_taken_and_what_is_told_is_a_known_language(text: str, language: str) -> None:
    told = language_of(text)
    assert told == "" or told.split()[-1] in KNOWN
    if told == language:
        assert other_than(language, text) == ""


def files(language: str) -> list[Path]:
    found = [*SAMPLE.rglob(f"*-{language}.jsonl"), *SAMPLE.glob(f"retrieval/*-{language}/*.jsonl")]
    return sorted(path for path in found if path.name != "qrels.jsonl")


def texts_of(path: Path) -> list[str]:
    rows = map(json.loads, path.read_text(encoding="utf-8").splitlines())
    return [row[field] for row in rows for field in ("text", "text1", "text2") if field in row]


@pytest.mark.parametrize("path", files("en"), ids=lambda path: f"{path.parent.name}/{path.name}")
def test_no_english_text_of_the_sample_data_is_taken_for_another_language(path: Path) -> None:
    texts = texts_of(path)
    assert texts and not [text for text in texts if other_than("english", text)]


@pytest.mark.parametrize("path", files("zh"), ids=lambda path: f"{path.parent.name}/{path.name}")
def test_no_chinese_text_of_the_sample_data_is_taken_for_another_language(path: Path) -> None:
    texts = texts_of(path)
    found = [text for text in texts if other_than("simplified chinese", text)]
    assert texts and len(found) <= len(texts) / 1000
