"""
Which language a text is written in, by py3langid (https://github.com/adbar/py3langid): 5 MB with its model, under a BSD
licence, loaded when first asked. Of Chinese the characters that only one script has tell Traditional from Simplified.

A right text that is rejected costs a paid reply. So a text is said to be in another language only where that is RATIO
times as likely as every language that it may be in. Names and what stands in quotation marks do not count.
`benchmarks/languages.py` measures it; docs/recipes.md has the figures.
"""

import re
from collections.abc import Collection, Iterator
from difflib import get_close_matches
from functools import lru_cache
from typing import TYPE_CHECKING

from synth.records import composed

if TYPE_CHECKING:
    from py3langid.langid import LanguageIdentifier

MOST_READ = 2_000  # characters from the beginning of a text: enough to tell
FEWEST_WORDS = 3  # to tell a language, names not counted
FEWEST_IDEOGRAPHS = 8  # the same of Chinese and Japanese
RATIO = 55  # for the model of py3langid 0.4; of English key words in lower case 13 of 27,000 are rejected, with 20 38
FEWEST_CHARACTERS = 2  # that only one of the two Chinese scripts has
CLEAR = 4  # times as many of them as of the other's

# Languages by script, each with the codes that py3langid has for it. Of a script with one language the script tells.
_CODES = {
    "Latin": "english en, german de, french fr, spanish es, portuguese pt, italian it, catalan ca, galician gl,"
    " romanian ro, dutch nl, afrikaans af, danish da, norwegian no nn, swedish sv, icelandic is, finnish fi,"
    " estonian et, latvian lv, lithuanian lt, polish pl, czech cs, slovak sk, slovenian sl, croatian hr, bosnian bs,"
    " serbian sr, albanian sq, hungarian hu, turkish tr, azerbaijani az, vietnamese vi, indonesian id, malay ms,"
    " tagalog tl, swahili sw, yoruba yo, basque eu, irish ga, welsh cy",
    "Cyrillic": "russian ru, ukrainian uk, belarusian be, bulgarian bg, macedonian mk, serbian sr, kazakh kk",
    "Chinese or Japanese": "chinese zh yue, japanese ja",
    "Hangul": "korean ko",
    "Arabic": "arabic ar, persian fa, urdu ur",
    "Devanagari": "hindi hi, marathi mr, nepali ne",
    "Bengali": "bengali bn",
    "Gurmukhi": "punjabi pa",
    "Gujarati": "gujarati gu",
    "Tamil": "tamil ta",
    "Telugu": "telugu te",
    "Kannada": "kannada kn",
    "Malayalam": "malayalam ml",
    "Thai": "thai th",
    "Lao": "lao lo",
    "Myanmar": "burmese my",
    "Khmer": "khmer km",
    "Georgian": "georgian ka",
    "Armenian": "armenian hy",
    "Greek": "greek el",
    "Hebrew": "hebrew he",
}
_NAMES: dict[str, str] = {}  # of each code
SCRIPTS: dict[str, frozenset[str]] = {}  # of each language; Serbian has two
for _script, _languages in _CODES.items():
    for _name, *_codes in map(str.split, _languages.split(",")):
        SCRIPTS[_name] = SCRIPTS.get(_name, frozenset()) | {_script}
        _NAMES |= dict.fromkeys(_codes, _name)
_CHINESE = {"simplified chinese", "traditional chinese"}
SCRIPTS |= dict.fromkeys(_CHINESE, SCRIPTS["chinese"])

_ALSO = {"mandarin": "chinese", "cantonese": "chinese", "farsi": "persian", "bangla": "bengali", "filipino": "tagalog"}
_ALSO |= {"nynorsk": "norwegian", "bokmål": "norwegian", "flemish": "dutch", "castilian": "spanish"}
_ALSO |= {"deutsch": "german"}  # which is written like Dutch
_ANOTHER = {"old", "middle", "low"}  # Old English is not English
_LIKE_ENOUGH = 0.75  # of 1, for a name to be the one that was meant: Frensh is 0.83 of French, Klingon 0.53 of Filipino

_HAN = re.compile("[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]")
_IDEOGRAPH = re.compile("[\u3041-\u3096\u30a1-\u30fa\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]")
_WORD = re.compile(r"[^\W\d_\u3041-\u30fa\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]+")
_QUOTED = re.compile("«[^«»]*»|[“„][^“”„]*[“”]|\"[^\"]*\"|(?<!\\w)'[^']*'(?!\\w)|《[^》]*》|「[^」]*」|『[^』]*』")
_ENDS = re.compile(r"[.!?…:\n]")  # of a sentence or line


def named(language: str) -> str:
    """
    A language that a user named, as this module calls it; "" for one that it does not know.

    "Brazilian Portuguese" is portuguese, "zh-TW" chinese, "Chinese (Traditional)" traditional chinese.
    """
    words = re.findall(r"[^\W_]+", language.casefold())
    names = [name for word in words if (name := _ALSO.get(word, word)) in SCRIPTS]
    found = names[-1] if names else _NAMES.get(words[0], "") if words else ""
    if found == "chinese":
        return next((each for each in sorted(_CHINESE) if each.split()[0] in words), found)
    return "" if _ANOTHER & set(words) else found


def untold(language: str) -> str:
    """
    That a language cannot be told, in a line with the name that may have been meant; "" for one that can, or for none.
    """
    if not language or named(language):
        return ""
    words = re.findall(r"[^\W_]+", language.casefold())
    names = sorted({*SCRIPTS, *_ALSO})
    meant = [name for word in words for name in get_close_matches(word, names, n=1, cutoff=_LIKE_ENOUGH)]
    asked = f"; did you mean {meant[-1].title()}?" if meant and not _ANOTHER & set(words) else ""
    return f"{language!r} is not a language that can be told: replies are not checked for it{asked}"


def languages_of(text: str) -> tuple[str, ...]:
    """
    The languages that a text may be in, the likeliest first: of a sentence mostly one. () where nothing is told.

    Of Chinese, "simplified chinese", "traditional chinese", or "chinese" where it may be either.
    """
    telling = _telling(text)
    if not _is_enough(telling):
        return ()
    shares = _shares(telling)
    found = [name for name in shares if shares[name] * RATIO > max(shares.values())]
    return tuple(_chinese(telling) if name == "chinese" else name for name in found)


def other_than(languages: Collection[str], text: str) -> str:
    """
    The language that a text is clearly written in, where that is none of these; else "".

    Only languages of their scripts are looked at: what is in another script, `synth.checks` finds.
    """
    telling = _telling(text)
    shares = _shares(telling)
    best = next(iter(shares))
    if not any(SCRIPTS[best] & SCRIPTS[each] for each in languages):
        return ""
    found = _chinese(telling) if best == "chinese" else best
    asked = {"chinese" if each in _CHINESE else each for each in languages}
    if best in asked:
        return "" if found == "chinese" or {found, "chinese"} & set(languages) else found
    return found if _is_enough(telling) and shares[best] >= RATIO * max(shares[each] for each in asked) else ""


def _is_enough(telling: str) -> bool:
    return len(_WORD.findall(telling)) >= FEWEST_WORDS or len(_IDEOGRAPH.findall(telling)) >= FEWEST_IDEOGRAPHS


def _telling(text: str) -> str:
    """The text without what tells nothing of its language: quotations, and names, written with a capital letter."""
    text = _QUOTED.sub(" ", composed(text[:MOST_READ], "NFKC"))
    return text.lower() if text.isupper() else "".join(_without_names(text))


def _without_names(text: str) -> Iterator[str]:
    end = 0
    for word in _WORD.finditer(text):
        between = text[end : word.start()]
        begins = not end or _ENDS.search(between)
        yield between
        if (begins and not word[0].isupper()) or not word[0][0].isupper():
            yield word[0]
        end = word.end()
    yield text[end:]


def _shares(text: str) -> dict[str, float]:
    """How likely a text is to be in each language, its share of one, the likeliest first."""
    shares: dict[str, float] = {}
    for code, share in _identifier().rank(text):
        shares[_NAMES[code]] = shares.get(_NAMES[code], 0) + share
    return dict(sorted(shares.items(), key=lambda item: (-item[1], item[0])))


@lru_cache(maxsize=1)
def _identifier() -> "LanguageIdentifier":
    from py3langid.langid import MODEL_FILE, LanguageIdentifier  # takes half a second

    identifier = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    identifier.set_languages(list(_NAMES))
    return identifier


def _chinese(text: str) -> str:
    found = [_script_of(char) for char in _HAN.findall(text)]
    simplified, traditional = found.count("simplified chinese"), found.count("traditional chinese")
    if max(simplified, traditional) < max(FEWEST_CHARACTERS, CLEAR * min(simplified, traditional)):
        return "chinese"
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
