"""
Salience without a model: which words, and which Chinese character n-grams, say what a text is about.

English counts words, Chinese counts character n-grams; both against the corpus itself.
"""

import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import cache

from synth.records import Passage
from synth.units import CJK_RUN, WORD

# Character n-grams are counted in at most so many passages (those with the smallest ids): memory stays bounded.
NGRAM_SAMPLE, MAX_NGRAM = 5_000, 6
MIN_COHESION = 20.0  # how many times as often as by chance the parts of a word meet
# Characters that seldom begin or end a Chinese word: particles, pronouns, prepositions, numerals.
_FUNCTION = frozenset(
    "的了是在和与及或也就都而被把将对等为以其这那有不个中上下之于并且但从到由向使让给可能会要还又已则即若如各每某该此本后前时里内外间"
    "我你您他她它们所最更很较太只再才去来说看没一二三四五六七八九十百千万年月日"
)
# Frequent Chinese words that say nothing of a text's subject; no keyword holds one of them.
_EMPTY_WORDS = re.compile(
    "该|此|这|那|任何|进行|可以|需要|使用|根据|通过|如果|由于|因此|例如|以及|或者|没有|相比|注意|情况|之后|之前|其中|包括|所有|部分|不同|"
    "相关|主要|目前|默认|时候|问题|成为|作为|开始|认为|表示|许多|对于|关于|具有|存在|得到|出现|参见|参考|超过|超出|以下|如下"
)


@cache
def stop_words() -> frozenset[str]:
    from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

    return frozenset(ENGLISH_STOP_WORDS)


def terms(text: str) -> list[str]:
    """What tf-idf counts: words that are no stop words, and the character bigrams of Chinese."""
    words = [word for word in map(str.lower, WORD.findall(text)) if word not in stop_words()]
    return words + [run[i : i + 2] for run in CJK_RUN.findall(text) for i in range(len(run) - 1)]


def inverse_frequencies(texts: Iterable[str]) -> dict[str, float]:
    from sklearn.feature_extraction.text import TfidfVectorizer

    vectorizer = TfidfVectorizer(analyzer=terms)
    try:
        vectorizer.fit(texts)
    except ValueError:  # no text holds any term: nothing is salient
        return {}
    return dict(zip(vectorizer.get_feature_names_out(), map(float, vectorizer.idf_), strict=True))


def ngrams(text: str) -> Iterator[str]:
    for run in CJK_RUN.findall(text):
        for size in range(2, MAX_NGRAM + 1):
            yield from (run[i : i + size] for i in range(len(run) - size + 1))


def word_like_ngrams(corpus: Sequence[Passage]) -> dict[str, float]:
    """
    The character n-grams of Chinese that behave like words, each with its inverse passage frequency.

    Like a word is what stands in several passages, holds together (its parts meet far more often than by chance) and
    is free (no longer n-gram accounts for most of its occurrences). The idea of unsupervised word discovery by
    cohesion and freedom; needs no dictionary and finds the corpus's own terms.
    """
    sample = sorted(corpus, key=lambda passage: passage.text_id)[:NGRAM_SAMPLE]
    runs = [(number, run) for number, passage in enumerate(sample) for run in CJK_RUN.findall(passage.text)]
    counts: dict[str, int] = {}
    passages: dict[str, set[int]] = {}
    longest: dict[str, int] = {}  # the most occurrences of an n-gram one character longer
    level: Counter[str] = Counter()
    for size in range(1, MAX_NGRAM + 2):
        frequent = {gram for gram, count in level.items() if count > 1}
        level = Counter()
        for number, run in runs:
            for i in range(len(run) - size + 1):
                gram = run[i : i + size]
                if size == 1 or (gram[1:] in frequent and gram[:-1] in frequent):
                    level[gram] += 1
                    if 1 < size <= MAX_NGRAM:
                        passages.setdefault(gram, set()).add(number)
        counts.update(level)
        for gram, count in level.items() if size > 1 else ():
            for part in (gram[1:], gram[:-1]):
                longest[part] = max(longest.get(part, 0), count)
    total = sum(len(run) for _, run in runs)
    return {
        gram: math.log(1 + len(sample) / len(found))
        for gram, found in passages.items()
        if len(found) > 1 and longest.get(gram, 0) < 0.6 * counts[gram] and _holds_together(gram, counts, total)
    }


def _holds_together(gram: str, counts: dict[str, int], total: int) -> bool:
    if gram[0] in _FUNCTION or gram[-1] in _FUNCTION or _EMPTY_WORDS.search(gram):
        return False
    chance = max(counts[gram[:i]] * counts[gram[i:]] for i in range(1, len(gram)))
    return counts[gram] * total >= MIN_COHESION * chance
