"""
A text of a sample, cut into segments that the card draws one by one as text: plain, shared with the query, or hidden.

What an LLM or a web page wrote is hostile: a character that a screen would hide or obey (zero-width, control,
direction-changing) is replaced by its code point's name, so that reviewers judge what the model will read.
"""

import re
import unicodedata
from collections.abc import Iterator
from itertools import groupby

PLAIN, TERM, HIDDEN = "", "term", "hidden"
Segments = list[tuple[str, str]]  # (text, one of the three)

LONGEST = 20_000  # characters drawn of one text; no reviewer reads more, and the browser must stay quick
LONGEST_TITLE = 120
HIDDEN_CATEGORIES = frozenset({"Cc", "Cf", "Co", "Cs", "Zl", "Zp"})
# Drawn as nothing although Unicode calls them letters or marks: fillers, the Braille blank, the grapheme joiner.
BLANK_LETTERS = frozenset("\u034f\u115f\u1160\u2800\u3164\uffa0")
TAGS = range(0xE0100, 0xE01F0)  # variation selectors that carry smuggled bytes

CJK = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003ffff"
TOKEN = re.compile(rf"[{CJK}]+|[^\W_{CJK}]+(?:['’][^\W_{CJK}]+)*")
IS_CJK = re.compile(f"[{CJK}]")
POSSESSIVE = re.compile(r"['’]s$")
SUFFIX = re.compile(r"(?:ical|ations?|ists?|ings?|ers?|ies|ed|es|ic|al|ly|s|y|e)$")
PLURAL = re.compile(r"[^s]{2}s$")
SHORTEST_STEM = 5
STOP_WORDS = frozenset(
    TOKEN.findall(
        "a all also an and any are as at be been but by can could did do does for from had has have he her"
        " his how if in into is it its many may more most much no not of on or other she should so some than"
        " that the their them then there these they this those to was were what when where which while who"
        " whom whose why will with would you your"
    )
)
STOP_CHARACTERS = frozenset("的了是在和与有为什么哪个谁吗呢几多少如何怎样而及其这那也就于之以被把所")


def query_terms(query: str) -> frozenset[str]:
    """The words of a query that say what it is about; for Chinese, Japanese and Korean pairs of characters."""
    return frozenset(term for _, _, term in _terms(query))


def segments(text: str, terms: frozenset[str] = frozenset()) -> Segments:
    """
    The text as (text, kind) pairs: joined in order they are the text, but for hidden characters, each of which is a
    pair of its own that holds its name, such as U+200B, and for what is beyond the first 20,000 characters.
    """
    shown = text[:LONGEST]
    kinds = [PLAIN] * len(shown)
    for start, end, term in _terms(shown) if terms else ():
        if term in terms:
            kinds[start:end] = [TERM] * (end - start)
    for index, character in enumerate(shown):
        if _hidden(character):
            kinds[index] = HIDDEN
    found: Segments = []
    for kind, run in groupby(zip(kinds, shown, strict=True), key=lambda pair: pair[0]):
        characters = "".join(character for _, character in run)
        found.extend([(_name(each), HIDDEN) for each in characters] if kind == HIDDEN else [(characters, kind)])
    if len(text) > LONGEST:
        found.append((f"{len(text) - LONGEST:,} more characters", HIDDEN))
    return found


def visible(text: str) -> str:
    """A short text (a name, an operation) on one line, hidden characters replaced by their names."""
    return "".join(part if kind == PLAIN else f"⟨{part}⟩" for part, kind in segments(text))


def titled(text: str) -> tuple[str, str]:
    """A passage's title and body; no title if its first line is long or all there is."""
    title, newline, body = text.partition("\n")
    return (title, body) if newline and body.strip() and len(title) <= LONGEST_TITLE else ("", text)


def _terms(text: str) -> Iterator[tuple[int, int, str]]:
    for match in TOKEN.finditer(text):
        token, start = match.group(), match.start()
        if IS_CJK.match(token):
            for index in range(len(token) - 1):
                pair = token[index : index + 2]
                if STOP_CHARACTERS.isdisjoint(pair):
                    yield start + index, start + index + 2, pair
        elif (word := token.casefold()) not in STOP_WORDS and (len(word) > 1 or word.isdigit()):
            yield start, match.end(), _stem(word)


def _stem(word: str) -> str:
    """So that geology, geologic and geologists are one term, and occur and occurring: rough, for marking only."""
    word = POSSESSIVE.sub("", word)
    stem = SUFFIX.sub("", word)
    if len(stem) < SHORTEST_STEM:
        stem = word.removesuffix("s") if PLURAL.search(word) else word
    return stem[:-1] if stem[-2:-1] == stem[-1:] else stem


def _hidden(character: str) -> bool:
    if character in "\n\t":
        return False
    return unicodedata.category(character) in HIDDEN_CATEGORIES or character in BLANK_LETTERS or ord(character) in TAGS


def _name(character: str) -> str:
    return f"U+{ord(character):04X}"
