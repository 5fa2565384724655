"""
What two texts have in common: evaluation texts that training repeats, and near-duplicates. Pure functions of texts.

Texts are compared folded: case, punctuation, white space, width and invisible characters do not count. Runs of words
(n-grams) are measured as synth.checks measures lengths: a run of letters is a word, a Chinese character or Japanese
kana half a word, a letter of a script without spaces (Thai, Lao, Khmer, Burmese) a fifth. So a run of 6 words is 12
Chinese characters, and one number serves all scripts.

docs/contamination.md says how the numbers below were chosen, and how often they are wrong.
"""

import hashlib
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any
from uuid import UUID

from synth.checks import IDEOGRAPHS, UNSPACED
from synth.records import Task, composed, normalise

NGRAM = 6  # words
THRESHOLD = 0.6  # share of the shorter text's n-grams
# A run of words that more evaluation texts than this have is a stock phrase: it shows no copy.
STOCK = 3
NEAR_NGRAM = 3  # words; shorter runs would not tell "A beats B" from "B beats A"
NEAR_THRESHOLD = 0.9  # Jaccard index
# 12 bands of 10 rows bring a pair of Jaccard index 0.9 together with a probability of 0.994, one of 0.6 with 0.07.
NUM_HASHES, NUM_BANDS = 120, 12
# An estimate from 120 hashes has a standard error of 0.027 at 0.9: no duplicate is five of these below.
ESTIMATE_MARGIN = 0.15
SLICE = 10_000  # texts sketched at once
MOST_CHARACTERS = 200_000  # of a text are compared: more than embedding models see

ASKED = ("query", "text1", "text2", "text")

_SPACELESS = re.compile(f"[{IDEOGRAPHS}{UNSPACED}]")
_UNITS = re.compile(rf"(?P<half>[{IDEOGRAPHS}])|(?P<fifth>[{UNSPACED}])|[^\s{IDEOGRAPHS}{UNSPACED}]+")
_TENTHS = {"half": 5, "fifth": 2, None: 10}  # of a word
# Not seen, but no format characters (Cf) either: joiners, fillers, variation selectors, the blank of Braille.
_INVISIBLE = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180d\u180f\u2800\u3164\uffa0\ufe00-\ufe0f\U000e0100-\U000e01ef]"
)


@dataclass(frozen=True, slots=True)
class EvalText:
    """A text that an evaluation set asks about: a query, a text of a pair, a labelled text. `eval_id` is its sample."""

    eval_source_id: UUID
    eval_id: UUID
    text: str


@dataclass(frozen=True, slots=True)
class Overlap:
    """
    An evaluation text that a text repeats.

    `kind` is `exact` (the same folded text; `value` 1.0) or `ngram`. Then `value` is, of the n-grams of the text that
    has fewer of them, the share that the other has too; those that are stock phrases do not count as shared.
    """

    eval_source_id: UUID
    eval_id: UUID
    kind: str  # exact or ngram
    value: float

    @property
    def strength(self) -> tuple[bool, float]:
        """Orders overlaps: the same text is stronger than n-grams that are all shared."""
        return self.kind == "exact", self.value


def asked_texts(row: Mapping[str, Any]) -> dict[str, str]:
    """
    The texts that a sample asks about, by column: the query, both texts of a pair, the text of a class. Not positives.

    `row` has the columns of a revision; those of other tasks are None.
    """
    return {column: row[column] for column in ASKED if row[column] is not None}


def near_text(row: Mapping[str, Any]) -> str:
    """
    What decides whether a sample is a near-duplicate of another: give it to `near_duplicates` with the sample's id.

    For retrieval the query, for a pair its two texts in either order, for a class the text. Before it, up to a record
    separator, stands what both must have in common: the task, the instruction, a pair's score, a text's class. Another
    query of the same passage is another sample.

    Args:
        row: has the columns of a revision; those of other tasks are None.
    """
    decided = {Task.STS: row["score"], Task.CLASSIFICATION: row["label"]}.get(row["task"], "")
    scope = "\x1f".join(normalise(str(part)) for part in (row["task"], row["instruction"] or "", decided))
    body = "\n".join(sorted(asked_texts(row).values(), key=fold))
    return f"{scope}\x1e{body}"


def fold(text: str) -> str:
    """
    A text without case, punctuation, width and invisible characters, one space between words; of a text that is
    punctuation alone, this punctuation. Only the first 200,000 characters count.
    """
    visible = _INVISIBLE.sub("", text[:MOST_CHARACTERS])
    folded = composed(visible, "NFKC").casefold()
    words = folded.translate(_LETTERS).split()
    return " ".join(words or folded.translate(_VISIBLE).split())


class _Kept(dict[int, int | str | None]):
    """For str.translate: characters of these general categories stay, format characters go, all others are spaces."""

    def __init__(self, categories: str) -> None:
        self._categories = categories

    def __missing__(self, code: int) -> int | str | None:
        category = unicodedata.category(chr(code))
        kept = code if category[0] in self._categories else " "
        self[code] = None if category == "Cf" else kept
        return self[code]


_LETTERS, _VISIBLE = _Kept("LNMS"), _Kept("LNMSP")


def ngrams(folded: str, words: int) -> frozenset[str]:
    """The runs of `words` words in a folded text; of a shorter text, none."""
    if not _SPACELESS.search(folded):
        units = folded.split(" ")
        return frozenset(" ".join(units[start : start + words]) for start in range(len(units) - words + 1))
    found = list(_UNITS.finditer(folded))
    units, tenths = [unit.group() for unit in found], [_TENTHS[unit.lastgroup] for unit in found]
    grams, stop, size = set(), 0, 0
    for start in range(len(units)):
        while size < 10 * words and stop < len(units):
            size += tenths[stop]
            stop += 1
        if size < 10 * words:
            break
        grams.add(" ".join(units[start:stop]))
        size -= tenths[start]
    return frozenset(grams)


class EvalIndex:
    """
    The texts of evaluation sets, to be looked up by what repeats them.

    All in memory: about 2 kB for a query of a dozen words. A text of fewer than `ngram` words has no n-gram, and is
    found as a whole only.
    """

    def __init__(self, texts: Iterable[EvalText], *, ngram: int = NGRAM, threshold: float = THRESHOLD) -> None:
        """`ngram` is in words, at least 1; `threshold` is a share above 0, up to 1."""
        self._ngram, self._threshold = ngram, threshold
        self._places: dict[str, int] = {}  # of a folded text
        self._texts: list[dict[UUID, EvalText]] = []  # at each place, one of each evaluation set
        self._num_grams: list[int] = []
        self._holders: dict[str, tuple[int, ...]] = {}  # the places that have an n-gram; none for a stock phrase
        for text in texts:
            self._add(text)

    def _add(self, text: EvalText) -> None:
        folded = fold(text.text)
        if not folded:
            return
        place = self._places.setdefault(folded, len(self._texts))
        if place < len(self._texts):
            known = self._texts[place].setdefault(text.eval_source_id, text)
            if text.eval_id < known.eval_id:
                self._texts[place][text.eval_source_id] = text
            return
        self._texts.append({text.eval_source_id: text})
        grams = ngrams(folded, self._ngram)
        self._num_grams.append(len(grams))
        for gram in grams:
            holders = self._holders.get(gram)
            if holders is None:
                self._holders[gram] = (place,)
            elif holders:  # else it is known to be a stock phrase
                self._holders[gram] = (*holders, place) if len(holders) < STOCK else ()

    def find(self, text: str) -> Overlap | None:
        """The strongest overlap with any evaluation set, ties by `eval_id`; None if there is none."""
        return next(iter(self.find_all(text)), None)

    def find_all(self, text: str) -> list[Overlap]:
        """The strongest overlap with each evaluation set, strongest first, ties by `eval_id`."""
        folded = fold(text)
        grams = ngrams(folded, self._ngram)
        shared = Counter(place for gram in grams for place in self._holders.get(gram, ()))
        same = self._places.get(folded)
        if same is not None:
            shared[same] = 0
        found: list[Overlap] = []
        for place, number in shared.items():
            value = 1.0 if place == same else number / min(len(grams), self._num_grams[place])
            if value >= self._threshold:
                kind = "exact" if place == same else "ngram"
                found += [Overlap(e.eval_source_id, e.eval_id, kind, value) for e in self._texts[place].values()]
        found.sort(key=lambda each: each.eval_id)
        found.sort(key=lambda each: each.strength, reverse=True)
        best: dict[UUID, Overlap] = {}
        for each in found:
            best.setdefault(each.eval_source_id, each)
        return list(best.values())


def near_duplicates(
    texts: Iterable[tuple[UUID, str]], *, threshold: float = NEAR_THRESHOLD, seed: int = 0
) -> dict[UUID, tuple[UUID, float]]:
    """
    The texts that say nearly what an earlier one says: dropped id -> (kept id, similarity). The first is kept.

    The similarity is the Jaccard index of the sets of runs of 3 words, or of the whole texts where they are shorter.
    Pairs that may reach the threshold are found by MinHash (Broder 1997), of which `seed` is the seed, and then
    compared in full: what is reported is true on every machine; of pairs just at the threshold 6 in 1,000 are missed.
    What stands before a record separator (see `near_text`) must be equal. Texts that are nothing when folded have no
    duplicates. Texts that are kept stay in memory, a query of a dozen words at about 2.5 kB.

    Args:
        texts: ids and texts, in the order of preference.
        threshold: above 0, up to 1.
        seed: 0 to 2^64 - 1.
    """
    from rensa import RMinHash, RMinHashLSH

    index = RMinHashLSH(threshold, NUM_HASHES, NUM_BANDS)
    kept: list[tuple[UUID, _Scoped, RMinHash]] = []
    dropped: dict[UUID, tuple[UUID, float]] = {}
    for each in _slices(texts):
        ids, scoped = [text_id for text_id, _ in each], [_scoped(text) for _, text in each]
        grams = [_near_grams(text) for text in scoped]
        sketches = RMinHash.from_token_sets(grams, NUM_HASHES, seed)
        for text_id, text, own, sketch in zip(ids, scoped, grams, sketches, strict=True):
            if not own:
                continue
            best = (0.0, 0)
            for place in index.query(sketch):
                if sketch.jaccard(kept[place][2]) >= threshold - ESTIMATE_MARGIN:
                    theirs = _near_grams(kept[place][1])
                    best = max(best, (len(own & theirs) / len(own | theirs), -place))
            if best[0] >= threshold:
                dropped[text_id] = (kept[-best[1]][0], best[0])
            else:
                index.insert(len(kept), sketch)
                kept.append((text_id, text, sketch))
    return dropped


_Scoped = tuple[str, str]  # what must be equal, hashed; the folded text


def _slices(texts: Iterable[tuple[UUID, str]]) -> Iterator[list[tuple[UUID, str]]]:
    rest = iter(texts)
    while each := list(islice(rest, SLICE)):
        yield each


def _scoped(text: str) -> _Scoped:
    scope, separator, body = text.partition("\x1e")
    if not separator:
        return "", fold(text)
    return hashlib.sha256(scope.encode(errors="replace")).hexdigest()[:16], fold(body)


def _near_grams(text: _Scoped) -> frozenset[str]:
    """The runs of 3 words of a text, or the text itself where it has none; each after what must be equal."""
    scope, folded = text
    grams = ngrams(folded, NEAR_NGRAM) or ({folded} if folded else frozenset())
    return frozenset(f"{scope} {gram}" for gram in grams) if scope else frozenset(grams)
