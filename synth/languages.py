"""
Which language a text is written in, as far as its frequent words and its characters tell. No model, no dependency.

Languages that share the Latin script are told apart by their most frequent words, in texts of a sentence or more:
key words, titles and lists of names have none. Japanese is told from Chinese by its kana, Traditional from Simplified
Chinese by the characters that only one of the two has. Other languages of one script (Russian and Ukrainian, Hindi and
Nepali) are not told apart, nor are Danish and Norwegian.
"""

import re
from collections import Counter
from functools import lru_cache

from synth.records import composed

MOST_READ = 5_000  # characters from the beginning of a text: enough to tell
FEWEST_WORDS = 3  # frequent words of a language, to tell it
CLEAR = 2  # times as many of them as of any other language
SHARE_OF_WORDS = 0.12  # of a text's words; in prose a third to a half are frequent ones
SHARE_OF_KANA = 0.15  # of a Japanese text's characters; one quoted name is less
FEWEST_CHARACTERS = 2  # that only one of the two Chinese scripts has

# The most frequent words of each language: articles, pronouns, prepositions, conjunctions, forms of "be" and "have";
# of Hungarian and Turkish without those that are Dutch or French too.
_FREQUENT = {
    "english": "the of and to in is that was for it with as his on be at by had are but from or have an they which you"
    " were her their there been has would when who will what how why can could do does did this these those my your if",
    "german": "der die das und ist nicht ein eine einen einer einem eines den dem des mit sich auf für von zu im sie er"
    " wir ich es wird werden wurde sind war auch als nach bei aus wie oder kann können hat haben noch nur um durch über"
    " dass was warum wer welche welcher mein meine zum zur vom man keine kein",
    "french": "le la les des du un une et est que qui dans pour pas sur au aux avec ce cette ces son sa ses il elle ils"
    " nous vous je ne se par plus ou mais sont été être ont a avoir comme leur leurs quel quelle quels pourquoi comment"
    " où y en mon ma mes votre d l c qu n s j",
    "spanish": "el la los las de del que y en un una unos es por con no para se al lo su sus como más pero o este esta"
    " ha han son fue ser está están qué cuál cómo cuándo dónde quién entre sobre también hay yo mi muy sin cuando",
    "portuguese": "o a os as de do da dos das que e em no na nos nas um uma uns é por com não para se ao à como mais"
    " mas ou este esta foi são ser está qual quais quando onde quem entre sobre também há eu meu minha muito sem"
    " pelo pela",
    "italian": "il lo la i gli le di del della dei delle degli che e è in un una uno per con non si al alla nel nella"
    " sono da dal come più ma o questo questa ha hanno essere stato stata quale quando dove chi perché anche mi mio sul"
    " sulla ed",
    "dutch": "de het een en van is dat in op te zijn voor met niet die aan er om ook als bij door naar uit maar wordt"
    " worden was heeft hebben hij zij ze ik je wij dit deze kan kunnen wat waarom hoe wie welke mijn over nog geen",
    "scandinavian": "och att det som en ett på är av för med den till inte om har de i var jag han hon men så kan"
    " eller från ska hur vad när og at er ikke til af et fra jeg hvad hvor hvordan hvorfor men vil skal eller også"
    " blir blev ble være varit",
    "finnish": "ja on ei se että oli joka mutta tai kun niin ovat voi hän myös kuin sen ole mikä mitä miten miksi"
    " missä kuka tämä nämä minä sinä he jos sekä",
    "polish": "i w na z do nie się to jest że jak o po za od przez dla są był była było który która które co czy tak"
    " ale oraz może można gdzie kiedy dlaczego tego tym jego jej ich",
    "czech": "a v na se je že s z do o k i ve pro za po jako ale by byl byla bylo jsou být není nebo který která které"
    " co jak kde kdy proč tak také ze při od má jeho",
    "romanian": "și în de la cu pe un o este sunt care că nu din pentru mai a al ale au fost sau dar prin ce cum când"
    " unde cine se lui acest această",
    "hungarian": "a az és hogy nem egy volt ez meg csak már ki mi vagy mint akkor ha hogyan miért mikor hol"
    " által lehet amely",
    "turkish": "ve bir bu için ile olarak daha çok gibi olan en kadar sonra mi mı nasıl neden değil var yok"
    " ama veya o ben nerede kim hangi",
    "vietnamese": "và của là có không được trong cho một những các với này đã để người khi từ đến ở như về ra cũng bị"
    " tôi gì nào thế sao vì",
    "indonesian": "yang dan di dengan untuk dari ini itu dalam tidak pada adalah ke akan oleh juga sebagai atau saya"
    " dapat apa bagaimana mengapa kapan siapa mana telah bisa ada karena",
}
_WORD = re.compile(r"[^\W\d_]{2,}")  # what stands alone is a name or a unit as often as a word
_LANGUAGES_OF: dict[str, list[str]] = {}
for _language, _words in _FREQUENT.items():
    for _word in set(_WORD.findall(_words)):
        _LANGUAGES_OF.setdefault(_word, []).append(_language)

KNOWN = {*_FREQUENT, "japanese", "chinese"}

_HAN = re.compile("[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]")
_KANA = re.compile("[\u3041-\u3096\u30a1-\u30fa]")


def language_of(text: str) -> str:
    """
    The language of a text: "english", "german", ..., "scandinavian" for Danish, Norwegian and Swedish, "japanese",
    "traditional chinese" or "simplified chinese"; "" where it cannot be told.
    """
    found = _told(text)
    if isinstance(found, str):
        return found
    (best, hits), (_, others) = [*found.most_common(2), ("", 0), ("", 0)][:2]
    return best if hits >= max(1, CLEAR * others) else ""


def other_than(language: str, text: str) -> str:
    """
    The language that a text seems to be written in, where it is clearly not this one; else "".

    That needs less than to tell which it is: French and Spanish share many words that English has not.
    """
    found = _told(text)
    if isinstance(found, str):
        return "" if found.endswith(language) else found
    best, hits = max(found.items(), key=lambda item: (item[1], item[0]), default=("", 0))
    return best if best != language and hits >= max(1, CLEAR * found[language]) else ""


def _told(text: str) -> str | Counter[str]:
    """The language of a text in Chinese or Japanese characters; of others the frequent words of each, if enough."""
    text = composed(text[:MOST_READ], "NFKC")
    num_han, num_kana = len(_HAN.findall(text)), len(_KANA.findall(text))
    words = _WORD.findall(text.casefold())
    if num_han + num_kana >= len(words):
        return _of_characters(text, num_han, num_kana)
    found = Counter(language for word in words for language in _LANGUAGES_OF.get(word, ()))
    fewest = max(FEWEST_WORDS, SHARE_OF_WORDS * len(words))
    return found if max(found.values(), default=0) >= fewest else Counter()


def _of_characters(text: str, num_han: int, num_kana: int) -> str:
    if num_kana >= max(FEWEST_CHARACTERS, SHARE_OF_KANA * (num_han + num_kana)):
        return "japanese"
    found = Counter(_script_of(char) for char in _HAN.findall(text))
    simplified, traditional = found["simplified chinese"], found["traditional chinese"]
    if max(simplified, traditional) < max(FEWEST_CHARACTERS, CLEAR * 2 * min(simplified, traditional)):
        return ""
    return "simplified chinese" if simplified > traditional else "traditional chinese"


@lru_cache(maxsize=20_000)
def _script_of(char: str) -> str:
    """By the character sets of both scripts: what GB 2312 has and Big5 has not is Simplified, and the other way."""
    in_gb, in_big5 = (_is_in(char, name) for name in ("gb2312", "big5"))
    if in_gb == in_big5:
        return ""
    return "simplified chinese" if in_gb else "traditional chinese"


def _is_in(char: str, charset: str) -> bool:
    try:
        char.encode(charset)
    except UnicodeEncodeError:
        return False
    return True
