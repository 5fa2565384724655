"""
What is looked at in a text that an LLM wrote, before it becomes a sample. Pure functions of texts.

Each returns what it found, in a few words, or None. A recipe lists the checks it asks for and turns a finding into a
Rejection, whose reason is a word or two, counted in the outcome of the run.

Texts are measured in words, so that one bound serves all scripts: a run of letters is a word, a Chinese character or
Japanese kana half a word, a letter of a script without spaces (Thai, Lao, Khmer, Burmese) a fifth.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Set
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice

from synth.languages import SCRIPTS, languages_of, named, other_than
from synth.phrases import PHRASES
from synth.records import composed, normalise

IDEOGRAPHS = "\u3005-\u3007\u3041-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff"
IDEOGRAPH = re.compile(f"[{IDEOGRAPHS}]")
UNITS = re.compile(rf"(?P<half>[{IDEOGRAPHS}])|(?P<fifth>[{UNSPACED}])|[^\W{IDEOGRAPHS}{UNSPACED}]+")
_UNIT_SIZES = {"half": 0.5, "fifth": 0.2, None: 1.0}

# A script with at least this share of the passage's words is one that the passage is written in.
SHARE_OF_A_SCRIPT = 1 / 3
# QZhou-Embedding asks of a rewritten sentence that more than 30 % of it differ from the original.
MOST_COPIED = 0.7
# Characters; German and Finnish words are longer, but not all of a text's.
LONGEST_WORD = 20
# A shared run of fewer words is a name, a term or an idiom, not a copy.
SHORTEST_COPY = 5
MOST_RUNS = 100  # that are looked at, of a text that says the same over and over
MOST_KEPT = 4_000  # characters of a text that was not taken
LONGEST_LABEL = 200  # characters that are looked for


@dataclass(frozen=True, slots=True)
class Rejection:
    """A text that was not taken: why in a word or two, the text, and what was found."""

    reason: str
    text: str
    found: str


def rejected(reason: str, text: str, found: str) -> Rejection:
    """A rejection that can be stored: of a long text the beginning, and half a surrogate pair spelt out."""
    return Rejection(reason, text[:MOST_KEPT].encode(errors="backslashreplace").decode(), found)


def folded(text: str) -> str:
    """The text without differences of case, width of characters and white space."""
    return normalise(composed(text, "NFKC")).casefold()


def num_words(text: str) -> float:
    """The length of a text in words, as this module counts them."""
    return sum(_UNIT_SIZES[unit.lastgroup] for unit in UNITS.finditer(text))


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

    A passage of two scripts may be asked about in either.
    """
    ours, theirs = scripts(text), scripts(passage)
    if not ours or not theirs:
        return None
    script = max(ours, key=lambda name: (ours[name], name))
    expected = max(theirs, key=lambda name: (theirs[name], name))
    if script == expected or theirs[script] / theirs.total() >= SHARE_OF_A_SCRIPT:
        return None
    return f"written in {script}, not in {expected}"


def wrong_script(text: str, original: str, language: str = "") -> str | None:
    """Written mostly in a script that is not that of a language that was asked for, or, by default, of the original."""
    if not language:
        return other_script(text, original)
    expected, ours = SCRIPTS.get(named(language)), scripts(text)
    if not ours or expected is None:
        return None
    script = max(ours, key=lambda name: (ours[name], name))
    return None if script in expected else f"written in {script}, not in {language}"


def wrong_language(text: str, original: str, language: str = "") -> str | None:
    """
    Written in another script, or in another language, than was asked for, or, by default, than the original.

    Languages of one script are told apart as far as `synth.languages` can: what it cannot tell passes.
    """
    if found := wrong_script(text, original, language):
        return found
    theirs = (named(language),) if language else languages_of(original)
    ours = other_than(theirs, text) if all(theirs) else ""
    return f"written in {ours.title()}, not in {theirs[0].title()}" if ours else None


def names_class(text: str, original: str, label: str) -> str | None:
    """
    Names its class where the original does not: all words of the label in a row, whatever stands between them. Of a
    label like "science/technology" either part is a name; one without letters is none.
    """
    text, original = folded(text), folded(original)
    for name in re.split(r"[/|,;]", folded(label[:LONGEST_LABEL])):
        words = re.findall(r"[^\W_]+", name)
        if not any(word.isalpha() for word in words):
            continue
        inner = r"[\W_]*".join(map(re.escape, words))
        named = re.compile(inner if IDEOGRAPH.search(name) else rf"(?<![^\W_]){inner}(?![^\W_])")
        if named.search(text) and not named.search(original):
            return f"names the class, {name.strip()}"
    return None


def copied(text: str, passage: str) -> str | None:
    """Equal to the passage, or for more than 70 % one run of it that is longer than a name or a term."""
    text, passage = folded(text), folded(passage)
    if text == passage:
        return "100% copied from the passage"
    if num_words(text) < SHORTEST_COPY:
        return None
    for run in islice(_long_runs(text, passage, int(MOST_COPIED * len(text)) + 1), MOST_RUNS):
        if num_words(run) >= SHORTEST_COPY:
            return f"{len(run) / len(text):.0%} copied from the passage"
    return None


def repeated(text: str, earlier: Set[str]) -> str | None:
    """The same as an earlier text but for case, punctuation and white space. `earlier` holds what `same_as` gave."""
    return "the same as an earlier one" if same_as(text) in earlier else None


_NO_WORD = re.compile(r"[^a-z0-9]+")
_BETWEEN_WORDS = re.compile(r"[\W_]+")


def same_as(text: str) -> str:
    """Equal for texts that differ only in case, punctuation, width of characters and white space."""
    if text.isascii():
        return _NO_WORD.sub("", text.lower())
    return _BETWEEN_WORDS.sub(_marks, folded(text))


def _marks(between: re.Match[str]) -> str:
    """Combining marks belong to the word before them."""
    text = between.group()
    return "" if text.isascii() else "".join(char for char in text if unicodedata.category(char)[0] == "M")


def leaked(text: str, passage: str) -> str | None:
    """
    Something of the conversation with the LLM that the passage has not: a preamble, a refusal, talk of the task, JSON.
    """
    phrases = [found.group() for found in PHRASES.finditer(_for_phrases(text))]
    passage = _for_phrases(passage) if phrases else ""
    return next((f"contains {phrase.strip()!r}" for phrase in phrases if phrase not in passage), None)


def _for_phrases(text: str) -> str:
    return folded(text).replace("\u2019", "'")


def hidden(text: str) -> str | None:
    """Characters that are not seen or not text: control characters, direction changes, private use, half a pair."""
    for char in text:
        # joiners belong to the spelling of Persian and of the languages of India, and to emoji
        if unicodedata.category(char) in {"Cc", "Cf", "Cs", "Co", "Cn"} and char not in "\t\n\r\u200c\u200d":
            return f"contains the character U+{ord(char):04X}"
    return None


def _long_runs(text: str, passage: str, fewest: int) -> Iterator[str]:
    """
    The runs of `text` of at least so many characters, more than half of it, that are in `passage`, as long as they go.

    Each of them holds the middle of the text: where that stands in the passage, it is lengthened to both sides.
    """
    start, end = len(text) - fewest, fewest
    place = passage.find(text[start:end]) if 0 <= start < end else -1
    while place >= 0:
        before = _num_shared(text[:start][::-1], passage[max(place - start, 0) : place][::-1])
        after = _num_shared(text[end:], passage[place + end - start : place + len(text) - start])
        if before + end - start + after >= fewest:
            yield text[start - before : end + after]
        place = passage.find(text[start:end], place + 1)


def _num_shared(one: str, other: str) -> int:
    """How many characters two texts have in common from their beginnings."""
    fewest, most = 0, min(len(one), len(other))
    while fewest < most:
        middle = (fewest + most + 1) // 2
        if one[:middle] == other[:middle]:
            fewest = middle
        else:
            most = middle - 1
    return fewest


def scripts(text: str) -> Counter[str]:
    """Words by script. Digits, punctuation and signs have none."""
    return Counter(_scripts(text))


@lru_cache(maxsize=8)  # all texts of a reply are looked at beside one passage, which may be long
def _scripts(text: str) -> Counter[str]:
    words: Counter[str] = Counter()
    for unit in UNITS.finditer(composed(text, "NFKC")):
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
