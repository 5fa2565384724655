"""
What is looked at in a text that an LLM wrote, before it becomes a sample. Pure functions of texts.

Each returns what it found, in a few words, or None. A recipe lists the checks it asks for and turns a finding into a
Rejection, whose reason is one word, counted in the outcome of the run.

Texts are measured in words, so that one bound serves all scripts: a run of letters is a word, a Chinese character or
Japanese kana half a word, a letter of a script without spaces (Thai, Lao, Khmer, Burmese) a fifth.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Set
from dataclasses import dataclass
from functools import lru_cache

from synth.records import composed, normalise

IDEOGRAPHS = "\u3005-\u3007\u3041-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff"
_UNITS = re.compile(rf"(?P<half>[{IDEOGRAPHS}])|(?P<fifth>[{UNSPACED}])|[^\W{IDEOGRAPHS}{UNSPACED}]+")
_UNIT_SIZES = {"half": 0.5, "fifth": 0.2, None: 1.0}

# A script with at least this share of the passage's words is one that the passage is written in.
SHARE_OF_A_SCRIPT = 1 / 3
# QZhou-Embedding asks of a rewritten sentence that more than 30 % of it differ from the original.
MOST_COPIED = 0.7
# Characters; German and Finnish words are longer, but not all of a text's.
LONGEST_WORD = 20
# A shared run of fewer words is a name, a term or an idiom, not a copy.
SHORTEST_COPY = 5

_LEAKS = re.compile(
    r"\bas an? (?:ai|artificial intelligence|large)(?: language)? (?:model|assistant)\b"
    r"|\bas a language model\b|^as an ai\b"
    r"|^(?:here (?:are|is)|sure[,!]|certainly[,!]|of course[,!]|i(?:'m| am) sorry|query ?\d+ ?:)"
    r"|\b(?:the|this|given|above|provided) (?:passage|excerpt|paragraph)\b"
    r"|\baccording to (?:the|this) (?:text|article|document|author)\b"
    r"|作为一?[个名]?(?:ai|人工智能|语言模型)|^(?:以下是|好的[,，])|根据(?:上文|本文|该文|文章|以上|这段)|这(?:段|篇)(?:文字|文章|话)"
    r'|```|</?think>|^[\[{]\s*["{\[]|"queries"|"\s*:\s*["\[{]',
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Rejection:
    """A text that was not taken: one word why, the text, and what was found."""

    reason: str
    text: str
    found: str


def num_words(text: str) -> float:
    """The length of a text in words, as this module counts them."""
    return sum(_UNIT_SIZES[unit.lastgroup] for unit in _UNITS.finditer(text))


def wrong_length(text: str, *, fewest: float, most: float) -> str | None:
    """Shorter or longer than asked, in words; or of words so long that it is no text."""
    words = num_words(text)
    if not fewest <= words <= most:
        return f"{words:g} words, asked for {fewest:g} to {most:g}"
    if len(text) > LONGEST_WORD * most:
        return f"{len(text)} characters in {words:g} words"
    return None


def other_script(text: str, passage: str) -> str | None:
    """
    Written mostly in a script that the passage is not written in: an English query of a Chinese passage.

    A passage of two scripts may be asked about in either. Languages that share a script are not told apart.
    """
    ours, theirs = scripts(text), scripts(passage)
    if not ours or not theirs:
        return None
    script = max(ours, key=lambda name: (ours[name], name))
    expected = max(theirs, key=lambda name: (theirs[name], name))
    if script == expected or theirs[script] / theirs.total() >= SHARE_OF_A_SCRIPT:
        return None
    return f"written in {script}, the passage in {expected}"


def copied(text: str, passage: str) -> str | None:
    """Equal to the passage, or for more than 70 % one run of it that is longer than a name or a term."""
    text, passage = _folded(text), _folded(passage)
    run = _longest_shared(text, passage)
    share = len(run) / len(text) if text else 0.0
    if text != passage and (share <= MOST_COPIED or num_words(run) < SHORTEST_COPY):
        return None
    return f"{share:.0%} copied from the passage"


def repeated(text: str, earlier: Set[str]) -> str | None:
    """The same as an earlier text but for case, punctuation and white space. `earlier` holds what `same_as` gave."""
    return "the same as an earlier one" if same_as(text) in earlier else None


def same_as(text: str) -> str:
    """Equal for texts that differ only in case, punctuation, width of characters and white space."""
    return "".join(char for char in _folded(text) if char.isalnum() or unicodedata.category(char)[0] == "M")


def leaked(text: str, passage: str) -> str | None:
    """Something of the conversation with the LLM that the passage has not: a preamble, JSON, talk of the passage."""
    for found in _LEAKS.finditer(normalise(text)):
        if found.group().casefold() not in _folded(passage):
            return f"contains {found.group().strip()!r}"
    return None


def hidden(text: str) -> str | None:
    """Characters that are not seen or not text: control characters, direction changes, private use, half a pair."""
    for char in text:
        # joiners belong to the spelling of Persian and of the languages of India, and to emoji
        if unicodedata.category(char) in {"Cc", "Cf", "Cs", "Co", "Cn"} and char not in "\t\n\r\u200c\u200d":
            return f"contains the character U+{ord(char):04X}"
    return None


def _folded(text: str) -> str:
    return normalise(composed(text, "NFKC")).casefold()


def _longest_shared(text: str, passage: str) -> str:
    """The longest run of characters of `text` that is in `passage`. One look-up for each character of `text`."""
    longest, end_of_longest = 0, 0
    for end in range(1, len(text) + 1):
        if text[end - longest - 1 : end] in passage:
            longest, end_of_longest = longest + 1, end
    return text[end_of_longest - longest : end_of_longest]


def scripts(text: str) -> Counter[str]:
    """Words by script. Digits, punctuation and signs have none."""
    words: Counter[str] = Counter()
    for unit in _UNITS.finditer(composed(text, "NFKC")):
        script = _script(unit.group()[0])
        if script:
            words[script] += int(10 * _UNIT_SIZES[unit.lastgroup])
    return words


@lru_cache(maxsize=4096)
def _script(char: str) -> str:
    """The script of a letter by its Unicode name, "" if it is none. Chinese characters and kana are one script."""
    if not char.isalpha():
        return ""
    script = unicodedata.name(char, "").partition(" ")[0]
    return "Chinese or Japanese" if script in {"CJK", "HIRAGANA", "KATAKANA"} else script.capitalize()
