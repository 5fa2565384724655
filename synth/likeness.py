"""
How alike two texts are, by one stated measure for all languages.

A text is taken as its units: characters of Chinese, Japanese, Thai, Lao, Khmer and Burmese, words of other scripts.
Case, width, white space and punctuation do not count. The difference of two texts is the least number of units to
insert, delete or replace that makes one of the other (Levenshtein's distance), by the units of the longer: 0 for equal
texts, 1 for texts with nothing in common. Of very long texts the beginnings are compared.
"""

import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import pairwise

from rapidfuzz.distance import Levenshtein

from synth.checks import UNITS, folded, num_words, same_as
from synth.records import normalise
from synth.sentences import sentences

# What QZhou-Embedding asks of a rewritten text (arXiv 2508.21632, figures of the appendix): a sentence differs by more
# than 30 %, a paragraph by more than 20 %, and no two adjacent sentences of the original stay.
LEAST_OF_A_SENTENCE, LEAST_OF_A_PARAGRAPH = 0.3, 0.2
LEAST_APART = 0.1  # of two results: less is the same one with a slip of the pen
FEWEST_WORDS = 3  # of a sentence: shorter ones are names, headings and items of a list, which may stay
MOST_COMPARED = 10_000  # units of a text: the distance takes the product of both texts' numbers of them
MOST_TIMES, MOST_MORE = 5, 1_000  # characters, those of white space included, beside the original's
MOST_SHOWN = 60  # characters of a sentence in a finding
NUM_PASSAGES_KEPT = 1 << 14  # passages whose units are kept: one is a negative of many samples
NUM_KEPT = 8  # texts whose parts are kept: all texts of a reply are compared with one original, which may be long

_UNITS = re.compile(re.sub(r"\(\?P<\w+>", "(?:", UNITS.pattern))  # without names they are found in half the time
_CODE = re.compile(  # in fences, or indented and no item of a list
    r"^(```|~~~)[^\n]*\n.*?^\1[^\n]*$|^(?: {4}|\t)(?![ \t]*+(?:[-*+•]|\d{1,3}[.)])\s)[^\n]*$",
    re.DOTALL | re.MULTILINE,
)


@lru_cache(maxsize=NUM_KEPT)
def units(text: str) -> tuple[str, ...]:
    """What is compared of a text."""
    return tuple(unit.group() for unit in UNITS.finditer(folded(text)))


def difference(text: str, original: str) -> float:
    """How much of one text would have to change to become the other, 0 to 1."""
    return _apart(units(text), units(original))


def in_common(one: str, other: str) -> float:
    """The share of the longer text's units that both have, in whatever order."""
    units_of_one, units_of_other = units(one), units(other)
    longest = max(len(units_of_one), len(units_of_other))
    return (Counter(units_of_one) & Counter(units_of_other)).total() / longest if longest else 1.0


def overlap(one: str, other: str) -> float:
    """The share of all different units of two texts that both have (Jaccard), 0 to 1; 0 if neither has any."""
    units_of_one, units_of_other = _different_units(one), _different_units(other)
    of_both = len(units_of_one & units_of_other)
    return of_both / max(1, len(units_of_one) + len(units_of_other) - of_both)


@lru_cache(maxsize=NUM_PASSAGES_KEPT)
def _different_units(text: str) -> frozenset[str]:
    return frozenset(_UNITS.findall(folded(text)))


def length_change(text: str, original: str) -> float:
    """
    How much longer a text is than its original, as a share of it: 0.15 for 15 % longer, -0.2 for a fifth shorter.

    In characters, of which those of white space do not count; of an empty original, infinite or 0.
    """
    length, of = _num_seen(text), _num_seen(original)
    return length / of - 1 if of else (float("inf") if length else 0.0)


def length_bounds(original: str, most: float) -> tuple[int, int]:
    """The least and the most characters, white space not counted, that a text may have for `wrong_size`."""
    length = _num_seen(original)
    share = _share(original, most)
    return max(math.ceil(length * (1 - share) - 1e-9), 1), math.floor(length * (1 + share) + 1e-9)


def asked_length(original: str, most: float) -> str:
    """The bounds, for a prompt; where words have spaces between them also in words, which models count better."""
    least, longest = length_bounds(original, most)
    num_units = len(units(original))
    words = f" (some {num_units} words)" if 1 < num_units == num_words(original) else ""
    return f"{least} to {longest} characters{words}"


def overlong(text: str, original: str) -> str | None:
    """So long that nothing else of it need be looked at."""
    if len(text) <= MOST_TIMES * len(original) + MOST_MORE:
        return None
    return f"{len(text):,} characters, the original has {len(original):,}"


def wrong_size(text: str, original: str, *, most: float) -> str | None:
    """Longer or shorter than the original by more than a share of it; one word more or less is always let pass."""
    change = length_change(text, original)
    if abs(change) <= _share(original, most) + 1e-9:
        return None
    return f"{abs(change):.0%} {'longer' if change > 0 else 'shorter'} than the original, asked for at most {most:.0%}"


def too_alike(text: str, original: str) -> str | None:
    """Not different enough from the original to be a rewriting of it. Code, which is to stay, does not count."""
    text, original = _without_code(text, original)
    least = LEAST_OF_A_SENTENCE if len(_sentences(normalise(original))) < 2 else LEAST_OF_A_PARAGRAPH
    found = difference(text, original)
    return None if found > least else f"{found:.0%} different from the original, asked for more than {least:.0%}"


def keeps_sentences(text: str, original: str) -> str | None:
    """
    Two sentences that stand next to each other in the original stand so in the text, whatever their punctuation.

    Lines are looked at both as they are (titles, items of a list) and run together (text that was broken into lines).
    Code, and sentences of fewer than three words, may stay.
    """
    text, original = _without_code(text, original)
    for settled in (str, normalise):
        pairs = {(one, other) for (one, _), (other, _) in pairwise(_sentences(settled(text)))}
        for (one, shown), (other, _) in pairwise(_sentences(settled(original))):
            if (one, other) in pairs:
                return f"keeps two sentences in a row, from {shown[:MOST_SHOWN]!r}"
    return None


class Taken:
    """Texts that are there already, to find one that says the same again; `called` is one of them in a finding."""

    def __init__(self, texts: Iterable[str] = (), called: str = "an earlier one") -> None:
        self._called = called
        self._units: list[tuple[str, ...]] = []
        self._same: set[str] = set()
        for text in texts:
            self.add(text)

    def add(self, text: str) -> None:
        """One more."""
        self._units.append(units(text))
        self._same.add(_same_as(text))

    def again(self, text: str) -> str | None:
        """The same as one of them but for case and punctuation, or less than 10 % different."""
        if _same_as(text) in self._same:
            return f"the same as {self._called}"
        own = units(text)
        for each in self._units:
            if (found := _apart(own, each, LEAST_APART)) < LEAST_APART:
                return f"only {found:.0%} different from {self._called}"
        return None


def _apart(one: Sequence[str], other: Sequence[str], enough: float = 1.0) -> float:
    """The difference of two texts by their units; 1 where it is more than `enough`."""
    return float(Levenshtein.normalized_distance(one[:MOST_COMPARED], other[:MOST_COMPARED], score_cutoff=enough))


def _share(original: str, most: float) -> float:
    """Of an original of few words, one word is more than the share that was asked for."""
    return max(most, 1 / max(len(units(original)), 1))


def _without_code(text: str, original: str) -> tuple[str, str]:
    """Both without blocks of code, in fences or indented; as they are where the original holds nothing else."""
    prose = _CODE.sub("", original)
    return (_CODE.sub("", text), prose) if units(prose) else (text, original)


@lru_cache(maxsize=NUM_KEPT)
def _num_seen(text: str) -> int:
    """The characters of a text, those of white space not counted."""
    return len("".join(folded(text).split()))


@lru_cache(maxsize=NUM_KEPT)
def _same_as(text: str) -> str:
    return same_as(text)


@lru_cache(maxsize=NUM_KEPT)
def _sentences(text: str) -> tuple[tuple[str, str], ...]:
    """The sentences of a text as they are compared, and as they stand there."""
    return tuple((same_as(each.text), each.text) for each in sentences(text) if _has_words(each.text))


def _has_words(sentence: str) -> bool:
    return (
        len(sentence) >= FEWEST_WORDS and num_words(sentence) >= FEWEST_WORDS
    )  # the first soon tells of a row of dots
