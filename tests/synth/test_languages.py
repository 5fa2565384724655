"""Which language a text is written in: what is told, what is not, and nothing wrong of the sample data."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synth.languages import SCRIPTS, languages_of, named, other_than, untold
from tests.conftest import SAMPLE

TEXTS = {
    "english": "The harbour was dug by hand, and it is where the skiffs of the town are to be found.",
    "german": "Der Hafen wurde von Hand gegraben, und dort sind auch die Boote der Stadt zu finden.",
    "french": "Le port a été creusé à la main, et c'est là que les bateaux de la ville sont amarrés.",
    "spanish": "El puerto fue excavado a mano, y es donde están los barcos de la ciudad más antigua.",
    "portuguese": "O porto foi escavado à mão, e é onde ficam também os barcos da cidade, que são muitos.",
    "catalan": "El port es va excavar a mà, i és on hi ha amarrades les barques de la vila.",
    "italian": "Il porto è stato scavato a mano, ed è dove si trovano anche le barche della città.",
    "romanian": "Portul a fost săpat cu mâna, și acolo se găsesc bărcile orașului în fiecare seară.",
    "dutch": "De haven is met de hand gegraven en het is ook waar de boten van de stad worden gevonden.",
    "swedish": "Hamnen grävdes för hand och det är där som båtarna i staden kan ligga om natten.",
    "norwegian": "Hvor ble det av båten som vi leide i går kveld, og hvem var det som rodde den?",
    "danish": "Havnen blev gravet ud med hænderne, og det er dér, man finder byens både hver aften.",
    "finnish": "Satama kaivettiin käsin, ja se on myös paikka, jossa kaupungin veneet ovat, kun on yö.",
    "estonian": "Sadam kaevati käsitsi ja just seal seisavad linna paadid igal õhtul kai ääres.",
    "polish": "Port został wykopany ręcznie i to jest miejsce, w którym są łodzie, ale nie ma ich wiele.",
    "czech": "Přístav byl vykopán ručně a právě tam se každý večer nacházejí všechny městské lodě.",
    "slovak": "Prístav bol vykopaný ručne a práve tam sa každý večer nachádzajú všetky mestské lode.",
    "hungarian": "A kikötőt kézzel ásták ki, és a város csónakjai minden este ott találhatók.",
    "turkish": "Liman elle kazılmış ve bu şehir için çok önemli bir yer olarak bilinir, ama küçük.",
    "vietnamese": "Bến cảng được đào bằng tay và là nơi có những chiếc thuyền của thành phố này.",
    "russian": "Гавань вырыли вручную, и именно там каждый вечер стоят все лодки этого города.",
    "ukrainian": "Гавань викопали вручну, і саме там щовечора стоять усі човни цього міста.",
    "bulgarian": "Пристанището е изкопано на ръка и точно там всяка вечер се намират лодките на града.",
    "persian": "این بندر با دست کنده شده است و قایق‌های شهر هر شب در آنجا پهلو می‌گیرند.",
    "arabic": "حُفر هذا الميناء باليد، وهناك ترسو قوارب المدينة كل مساء بعد عودة الصيادين.",
    "japanese": "港は手で掘られ、町の小舟はそこに泊まっている。",
    "simplified chinese": "这座港口由人工挖成，镇上的小船都停在那里。",
    "traditional chinese": "這座港口由人工挖成，鎮上的小船都停在那裡。",
}
NEIGHBOURS = [
    *[("spanish", "portuguese"), ("spanish", "catalan"), ("italian", "romanian"), ("german", "dutch")],
    *[
        ("swedish", "danish"),
        ("swedish", "norwegian"),
        ("finnish", "estonian"),
        ("czech", "slovak"),
        ("polish", "slovak"),
    ],
    *[("russian", "ukrainian"), ("russian", "bulgarian"), ("arabic", "persian"), ("japanese", "simplified chinese")],
    ("simplified chinese", "traditional chinese"),
]
# Nearly one language: any of them may be meant, and nothing is said.
CLOSE = {
    "croatian": "Luka je iskopana rukom i ondje se svake večeri nalaze gradski čamci.",
    "bosnian": "Luka je iskopana rukom i tamo se svake večeri nalaze gradski čamci.",
    "indonesian": "Pelabuhan itu digali dengan tangan dan di sanalah perahu kota berada.",
    "malay": "Pelabuhan itu digali dengan tangan dan di situlah perahu bandar berada.",
}


@pytest.mark.parametrize("language", TEXTS)
def test_a_sentence_tells_its_language(language: str) -> None:
    text = TEXTS[language]
    for each in (text, text.upper(), f"{text} " * 500):
        assert languages_of(each)[0] == language
        assert other_than((language,), each) == ""


@pytest.mark.parametrize("language", [each for each in TEXTS if SCRIPTS[each] == {"Latin"} and each != "english"])
def test_a_sentence_of_another_language_is_not_english_nor_the_other_way(language: str) -> None:
    assert other_than(("english",), TEXTS[language]) == language
    assert other_than((language,), TEXTS["english"]) == "english"
    assert other_than(languages_of(TEXTS["english"]), TEXTS[language]) == language


@pytest.mark.parametrize(("one", "other"), NEIGHBOURS)
def test_a_sentence_of_a_neighbour_is_told_both_ways(one: str, other: str) -> None:
    assert other_than((one,), TEXTS[other]) == other
    assert other_than((other,), TEXTS[one]) == one


@pytest.mark.parametrize(
    ("asked", "text"),
    [
        ("croatian", CLOSE["bosnian"]),
        ("bosnian", CLOSE["croatian"]),
        ("indonesian", CLOSE["malay"]),
        ("malay", CLOSE["indonesian"]),
    ],
)
def test_of_languages_that_are_nearly_one_nothing_is_said(asked: str, text: str) -> None:
    assert other_than((asked,), text) == ""
    assert other_than(languages_of(CLOSE[asked]), text) == ""
    assert other_than((asked,), TEXTS["english"]) == "english"


@pytest.mark.parametrize(
    ("asked", "text", "found"),
    [
        ("english", "ce que mangent les chats", "french"),
        ("english", "wo sind die Boote", "german"),
        ("english", "como se hace esto", "spanish"),
        ("polish", "what do the cats eat at night", "english"),
        ("spanish", "quem escreveu este livro sobre os gatos", "portuguese"),
        ("japanese", "如何在很短的时间内学会划船", "simplified chinese"),
    ],
)
def test_a_few_words_are_enough(asked: str, text: str, found: str) -> None:
    assert other_than((asked,), text) == found


@pytest.mark.parametrize(
    "text",
    [
        "",
        "numpy install",
        "C4C4 Ly6C hi lo",
        "42 + 7",
        "港口",
        "ДНК и РНК",
        "Как растения получают энергию из света, и почему они зелёные?",
        # names
        "Donald Trump, Angela Merkel, Emmanuel Macron",
        "Lech Wałęsa Solidarność Gdańsk",
        "Hồ Chí Minh Võ Nguyên Giáp biography",
        "Where did Wolfgang Amadeus Mozart write Eine kleine Nachtmusik?",
        "Kuala Lumpur, Jakarta, Surabaya, Bandung",
        "meitei",
        # what is quoted
        "translate 'wie geht es dir heute' to english",
        "meaning of «je ne regrette rien» in the song",
        'who said "alea iacta est" and "veni vidi vici"',
        # how people write
        "HOW DO I GET A REFUND",
        "How To Get A Refund",
        "wht is teh capitl of frnace",
        "u wanna hang out l8r bro",
        "pip install -r requirements.txt",
        "def add(a, b): return a + b",
        "How are ergänzungsschulen funded?",
        "acetylsalicylic acid hydroxychloroquine ivermectin",
    ],
)
def test_of_key_words_names_quotations_and_other_scripts_nothing_is_said(text: str) -> None:
    assert other_than(("english",), text) == ""


@pytest.mark.parametrize("text", ["", "arapaho", "Emmanuel Macron", "42 + 7", "港口", "«Por qué no te callas»"])
def test_a_seed_of_few_words_has_no_language(text: str) -> None:
    assert languages_of(text) == ()


def test_a_foreign_title_within_a_sentence_does_not_decide() -> None:
    text = "What is the plot of 'La casa de las flores en el mar', and who is it that wrote it for the stage?"
    assert (
        other_than(("english",), text) == "" == other_than(("spanish",), "¿Quién es la autora de «The Sea, the Sea»?")
    )


def test_chinese_asked_for_by_that_name_is_either_script() -> None:
    for script in ("simplified chinese", "traditional chinese"):
        assert other_than(("chinese",), TEXTS[script]) == ""
    assert other_than(("chinese",), TEXTS["japanese"]) == "japanese"
    for neither in ("港口由人工建成，小舟停泊在此", TEXTS["simplified chinese"] + TEXTS["traditional chinese"]):
        assert languages_of(neither) == ("chinese",)


def test_serbian_may_be_in_either_of_its_scripts() -> None:
    latin, cyrillic = "Gde se nalaze čamci ovog grada noću?", "Где се налазе чамци овог града ноћу?"
    assert other_than(("serbian",), latin) == "" == other_than(("serbian",), cyrillic)
    assert other_than(("serbian",), TEXTS["russian"]) == "russian"
    assert other_than(("serbian",), TEXTS["english"]) == "english"


@pytest.mark.parametrize(
    ("asked", "language"),
    [
        ("French", "french"),
        ("Brazilian Portuguese", "portuguese"),
        ("Portuguese (Brazil)", "portuguese"),
        ("Latin American Spanish", "spanish"),
        ("Mandarin", "chinese"),
        ("Traditional Chinese", "traditional chinese"),
        ("Chinese (Simplified)", "simplified chinese"),
        ("Norwegian Bokmål", "norwegian"),
        ("Farsi", "persian"),
        ("Deutsch", "german"),
        ("fr-CA", "french"),
        ("zh", "chinese"),
        ("Old English", ""),
        ("Low German", ""),
        ("Klingon", ""),
        ("", ""),
        ("?", ""),
    ],
)
def test_a_language_is_known_by_the_names_that_people_give_it(asked: str, language: str) -> None:
    assert named(asked) == language


@pytest.mark.parametrize(
    ("asked", "meant"),
    [("Frensh", "French"), ("Brazilian Portugese", "Portuguese"), ("Mandrin", "Mandarin"), ("chineese", "Chinese")],
)
def test_of_a_language_that_cannot_be_told_a_line_says_so_with_the_one_that_may_be_meant(
    asked: str, meant: str
) -> None:
    assert untold(asked) == (
        f"{asked!r} is not a language that can be told: replies are not checked for it; did you mean {meant}?"
    )


@pytest.mark.parametrize("asked", ["Klingon", "xx", "Esperanto", "Old English", "Old Frensh"])
def test_no_name_is_proposed_for_a_language_that_is_none_of_those_known(asked: str) -> None:
    assert untold(asked) == f"{asked!r} is not a language that can be told: replies are not checked for it"


@pytest.mark.parametrize("asked", ["", "French", "zh-TW", "Brazilian Portuguese"])
def test_of_a_language_that_can_be_told_and_of_none_nothing_is_said(asked: str) -> None:
    assert untold(asked) == ""


@settings(deadline=None)
@given(st.text(max_size=300))
def test_any_text_is_taken_and_is_in_a_language_that_it_may_be_in(text: str) -> None:
    may_be = languages_of(text)
    assert SCRIPTS.keys() >= set(may_be) and len(set(may_be)) == len(may_be)
    assert other_than(may_be, text) == ""


@settings(deadline=None)
@given(st.text(max_size=300), st.sampled_from(sorted(SCRIPTS)))
def test_what_is_told_is_of_a_script_of_the_language_asked_for(text: str, language: str) -> None:
    found = other_than((language,), text)
    assert not found or (SCRIPTS[found] & SCRIPTS[language] and found != language)


def test_the_model_is_not_loaded_before_it_is_asked() -> None:
    code = "import sys, synth.checks; sys.exit('py3langid' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def files(language: str) -> list[Path]:
    found = [*SAMPLE.rglob(f"*-{language}.jsonl"), *SAMPLE.glob(f"retrieval/*-{language}/*.jsonl")]
    return sorted(path for path in found if path.name != "qrels.jsonl")


def texts_of(path: Path) -> list[str]:
    rows = map(json.loads, path.read_text(encoding="utf-8").splitlines())
    return [row[field] for row in rows for field in ("text", "text1", "text2") if field in row]


@pytest.mark.parametrize("path", files("en"), ids=lambda path: f"{path.parent.name}/{path.name}")
def test_no_english_text_of_the_sample_data_is_taken_for_another_language(path: Path) -> None:
    texts = texts_of(path)
    assert texts and not [
        text for text in texts if other_than(("english",), text) or other_than(("english",), text.lower())
    ]


@pytest.mark.parametrize("path", files("zh"), ids=lambda path: f"{path.parent.name}/{path.name}")
def test_no_chinese_text_of_the_sample_data_is_taken_for_another_language(path: Path) -> None:
    texts = texts_of(path)
    found = [text for text in texts if other_than(("simplified chinese",), text)]
    assert texts and len(found) <= len(texts) / 1000
