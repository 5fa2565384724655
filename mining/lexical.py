"""
BM25: the passages that share words with a query, best first, the same on every machine.

Words find other passages than vectors do; mining.fusion joins their lists. bm25s computes what each word is worth in
each passage once, when the index is made, and a search adds it up. Words are cut by rules of scripts, not of languages:
there is no dictionary, and no word is left out. A list of English stop words raised nDCG@10 on two of four English sets
and lowered it on two.
Shapes: N queries, M passages, k results of a query.
"""

import re
import unicodedata
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from bm25s import BM25

Floats = NDArray[np.float32]
Rows = NDArray[np.int64]

# Lucene's.
K1, B = 1.2, 0.75

HAN = "\u3005\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
# Kana, Thai, Lao, Burmese and Khmer have no spaces between words; Korean has, but its particles are part of the word.
UNCUT = (
    "\u3041-\u3096\u309d-\u309f\u30a1-\u30fa\u30fc-\u30ff\u31f0-\u31ff\uac00-\ud7af"
    "\u0e01-\u0e3a\u0e40-\u0e4e\u0e50-\u0e59\u0e81-\u0ecd\u0ed0-\u0eff\u1000-\u109f\u1780-\u17d3\u17e0-\u17e9"
)
PROGRESS_PASSAGES = 1000


@dataclass(frozen=True, slots=True)
class LexicalIndex:
    """The words of M passages and what each is worth in each; made by `index_passages`."""

    num_passages: int
    description: str  # one line to print and to store: formula, libraries, how texts are cut, threads
    _scorer: "BM25 | None"  # None where no passage has a word

    def search(self, queries: Sequence[str], k: int) -> tuple[Floats, Rows]:
        """
        The k passages of the highest BM25 score for each query, best first, equal scores by row; on one thread.

        A query's score does not depend on the queries beside it, so a caller may search in blocks.

        Args:
            queries: N texts; a word that a query repeats counts as often as it stands there.
            k: capped to M.

        Returns:
            Scores (N, k) float32 and rows (N, k) int64. A passage without a word of the query is no result: where
            fewer than k share one, the scores that are left are 0 and the rows -1.
        """
        k = max(0, min(k, self.num_passages))
        scores_Nk = np.zeros((len(queries), k), dtype=np.float32)
        rows_Nk = np.full((len(queries), k), -1, dtype=np.int64)
        if self._scorer is None:
            return scores_Nk, rows_Nk
        for place, query in enumerate(queries):
            known = self._scorer.get_tokens_ids(words(query))
            best, rows = _best(self._scorer.get_scores_from_ids(known), k)
            scores_Nk[place, : len(rows)], rows_Nk[place, : len(rows)] = best, rows
        return scores_Nk, rows_Nk


def index_passages(passages: Sequence[str], *, on_progress: Callable[[int], None]) -> LexicalIndex:
    """
    Index passages for `LexicalIndex.search`.

    The score of a passage p for a query q is the sum over the words w of q of

        ln(1 + (M - df + 0.5) / (df + 0.5)) * tf / (tf + k1 (1 - b + b |p| / mean |p|))

    with df passages that have w, tf times that p has it and |p| words in p: BM25 as Lucene computes it (Kamphuis et
    al. 2020, "Which BM25 do you mean?"), k1 1.2, b 0.75. A million passages of 100 words take 2 GB of memory, of which
    the index keeps somewhat more than half; Chinese characters are up to two words each.

    Args:
        passages: M texts; one without any word is never found.
        on_progress: told how many more of the M passages are cut into words. To score the words, which follows, takes
            one to two times as long again.
    """
    vocabulary: dict[str, int] = {}
    word_ids = []
    for start in range(0, len(passages), PROGRESS_PASSAGES):
        block = passages[start : start + PROGRESS_PASSAGES]
        # Four bytes a word: of a million passages of 100 words, lists of numbers would take a gigabyte.
        word_ids += [
            array("i", [vocabulary.setdefault(word, len(vocabulary)) for word in words(text)]) for text in block
        ]
        on_progress(len(block))
    return LexicalIndex(len(passages), _description(), _scored(word_ids, vocabulary))


def words(text: str) -> list[str]:
    """
    What BM25 counts in a text: lower-case words of letters, digits and their marks.

    Runs of Chinese characters become the characters and then the pairs of neighbours; runs of kana, of Hangul and of
    letters of Thai, Lao, Burmese or Khmer the pairs alone.
    """
    found = []
    for word in _patterns().word.findall(_folded(text)):
        if word.isascii():
            found.append(word)
        else:
            for run in _RUN.finditer(word):
                found += _cut(run)
    return found


def _cut(run: re.Match[str]) -> list[str]:
    """The words of a run of one kind of characters."""
    text = run[0]
    if run.lastgroup is None or len(text) == 1:
        return [text]
    pairs = [text[place : place + 2] for place in range(len(text) - 1)]
    # Many Chinese words are one character, most of the others two. No dictionary, so every script and name is known.
    return [*text, *pairs] if run.lastgroup == "han" else pairs


_RUN = re.compile(f"(?P<han>[{HAN}]+)|(?P<uncut>[{UNCUT}]+)|[^{HAN}{UNCUT}]+")


def _folded(text: str) -> str:
    """The text in Unicode NFKC without case; combining marks in a row that no language writes are a space."""
    if text.isascii():
        return text.casefold()
    # Python puts marks in order in a time of the square of their number: minutes for a text made of them.
    return unicodedata.normalize("NFKC", _patterns().marks.sub(" ", text)).casefold()


class _Patterns(NamedTuple):
    word: re.Pattern[str]  # letters, digits and the marks on them, which `re` takes for no part of a word
    marks: re.Pattern[str]  # 31 in a row or more; the Stream-Safe Text Format of UAX #15 has 30 at most


@lru_cache(maxsize=1)
def _patterns() -> _Patterns:
    marks = "".join([char for char in map(chr, range(0x10000)) if unicodedata.category(char).startswith("M")])
    # NFKC makes marks of two letters; beyond the first plane whatever is no letter is taken for a mark.
    any_mark = f"[{marks}\uff9e\uff9f]|[^\\w\0-\uffff]"
    return _Patterns(re.compile(f"[^\\W_]+(?:[{marks}]+[^\\W_]*)*"), re.compile(f"(?:{any_mark}){{31,}}"))


def _scored(word_ids: "list[array[int]]", vocabulary: dict[str, int]) -> "BM25 | None":
    """bm25s with every passage's words scored."""
    from bm25s import BM25

    if not vocabulary:
        return None
    # To sort the scores by word scipy takes 0.6 of the memory that numpy takes.
    scorer = BM25(k1=K1, b=B, method="lucene", backend="numpy", csc_backend="scipy")
    # What its `index` does, which would also log at DEBUG to whoever listens, whatever level they chose.
    scorer.scores = scorer.build_index_from_ids(list(vocabulary.values()), word_ids, show_progress=False)
    scorer.vocab_dict = vocabulary
    return scorer


def _best(scores_M: Floats, k: int) -> tuple[Floats, Rows]:
    """The k highest scores above zero and their rows, ties by row; bm25s' own choice among ties is arbitrary."""
    rows = np.flatnonzero(scores_M)
    scores = scores_M[rows]
    if len(rows) > k:
        least = np.partition(scores, -k)[-k]
        rows = np.concatenate([rows[scores > least], rows[scores == least]])[:k]
        scores = scores_M[rows]
    order = np.lexsort((rows, -scores))
    return scores[order], rows[order]


def _description() -> str:
    from importlib.metadata import version

    return (
        f"BM25 (k1 {K1:g}, b {B:g}) with bm25s {version('bm25s')} on one thread: words in lower case, Chinese in "
        "characters and pairs of them, kana, Hangul, Thai, Lao, Burmese and Khmer in pairs"
    )
