"""
What a rewrite may have got wrong, told by its words alone. Pure functions of texts.

A paraphrase says what its original says, so that numbers, negations and names stay. Other samples that were made from a
sample ask something else: of these only copies and other languages are looked for.
"""

import re
from collections.abc import Callable, Collection, Iterator, Mapping

from synth.checks import folded, wrong_language
from synth.likeness import too_alike
from synth.records import Classification, Content, Retrieval, Sts, composed

PARAPHRASE = "paraphrase"
MOST_CAPITALS = 0.4  # of all words: in a title, or in German, a capital makes no name

_NUMBER = re.compile(r"\d+(?:[.,:]\d+)*")
_GROUPS = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")  # of thousands
_NEGATION = re.compile(
    r"\b(?:not|no|never|none|nothing|nobody|nowhere|neither|nor|without|cannot|\w+n't"  # English
    r"|nicht|nie|niemals|ohne|kein(?:e[nmrs]?)?"  # German
    r"|jamais|sans|ne|n'\w+|nunca|jamás|sin|ningun[oa]?|não|non|niet|geen)\b"
    r"|[不没沒無无未勿莫]|別(?![的人])|别(?![的人])|并非|並非|绝非|絕非"
)
_NO_NEGATION = re.compile(  # words with such a character that deny nothing
    r"不同|不仅|不僅|不但|不过|不過|不断|不斷|不少|不久|不管|不论|不論|无论|無論|未来|未來|特别|特別|分别|分別|区别|區別|差别|差別|没收|莫名"
)
_WORD = re.compile(r"[^\W\d_]+(?:['\u2019-][^\W\d_]+)*")
_BEGINNING = re.compile(r"(?:^|[.!?:;\n\"\u201c\u201d\u2018(\[-])\s*$")


def rule_hits(operation: str, content: Content, original: Content) -> dict[str, int]:
    """By rule, in how many texts of the rewrite it found something; rules that found nothing are there with 0."""
    pairs = list(_texts(content, original))
    return {name: sum(RULES[name](text, of) for text, of in pairs) for name in rules_of(operation)}


def rules_of(operation: str) -> Collection[str]:
    """The names of the rules for what an operation made of a sample."""
    return RULES if operation == PARAPHRASE else OF_ANY


def _texts(content: Content, original: Content) -> Iterator[tuple[str, str]]:
    """The texts of a rewrite, each beside the one that it rewrites. Of a pair one text alone is rewritten."""
    match content, original:
        case Retrieval(), Retrieval():
            yield content.query, original.query
            yield from zip(content.positives[:1], original.positives[:1], strict=False)
        case Classification(), Classification():
            yield content.text, original.text
        case Sts(), Sts():
            both = [(content.text1, original.text1), (content.text2, original.text2)]
            changed = [(text, of) for text, of in both if text != of]
            yield from changed or both[:1]


def changed_digits(text: str, original: str) -> bool:
    """A number is there that the original has not, or the other way round."""
    return _numbers(text) != _numbers(original)


def changed_negation(text: str, original: str) -> bool:
    """One of the two denies something, the other nothing."""
    return _denies(text) != _denies(original)


def changed_names(text: str, original: str) -> bool:
    """A name, by its capital within a sentence, is in one of the two and not at all in the other."""
    words, words_before = _words(text), _words(original)
    return bool((_names(original) - words) | (_names(text) - words_before))


def _numbers(text: str) -> set[str]:
    plain = _GROUPS.sub("", composed(text, "NFKC"))
    return set(_NUMBER.findall(plain))


def _denies(text: str) -> bool:
    return bool(_NEGATION.search(_NO_NEGATION.sub(" ", folded(text).replace("\u2019", "'"))))


def _words(text: str) -> set[str]:
    return {_bare(word) for word in _WORD.findall(text)}


def _names(text: str) -> set[str]:
    found = list(_WORD.finditer(text))
    within = [each for each in found if not _BEGINNING.search(text[: each.start()][-4:])]
    capital = [each.group() for each in within if each.group()[0].isupper() and len(each.group()) > 1]
    return {_bare(word) for word in capital} if len(capital) <= MOST_CAPITALS * len(found) else set()


def _bare(word: str) -> str:
    return re.sub(r"['\u2019]s?$", "", word.casefold())


def _is_copy(text: str, original: str) -> bool:
    return too_alike(text, original) is not None


def _is_in_another_language(text: str, original: str) -> bool:
    return wrong_language(text, original) is not None


Rule = Callable[[str, str], bool]
RULES: Mapping[str, Rule] = {
    "digits": changed_digits,
    "negation": changed_negation,
    "names": changed_names,
    "copy": _is_copy,
    "language": _is_in_another_language,
}
OF_ANY = ("copy", "language")
