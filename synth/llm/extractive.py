"""
Queries taken from the passages themselves: the engine that needs no model, no key and no network.

Unsupervised recipes of the literature, for English and Chinese. The result for a passage depends on the seed, the
passage and the statistics of the corpus, never on the order in which passages are asked for.
"""

import math
import random
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest

from synth.llm.salience import inverse_frequencies, ngrams, stop_words, terms, word_like_ngrams
from synth.records import Passage, normalise
from synth.sentences import Sentence, end_of_marker, sentences
from synth.units import CJK, CJK_RUN, WORD, count_units

MIN_QUERY_UNITS = 3  # units: words, and characters of Chinese, Japanese and Korean
MIN_SENTENCE_UNITS, MAX_SENTENCE_UNITS = 7, 60
MIN_CROP_UNITS, MAX_CROP_UNITS = 7, 25
MIN_ALONE_UNITS = 5  # of a heading that is a query without its document's title
MIN_POSITIVE_UNITS = 20

_NAME = re.compile(rf"(?<=[a-z,;)] )[A-Z][^\W{CJK}]+|[^\W{CJK}]+(?:[_.-][^\W{CJK}]+)+")
_NUMBERING = re.compile(r"\A(?:#?\d+[.:)、]\s*)+")
_CLAUSE_BREAK = re.compile(r"[，；：]|[,;:](?=\s)")
_SENTENCE_END = re.compile(r"[.!?。！？；…][\"'”’」』）)\]]*$")
_CODE = re.compile(r"[{}<>=$\\`|@\[\]]|::|\(\)|\w\(|//|(?:^|\s)--?\w|/\w+/|https?:|;$")
_NOT_A_START = re.compile(r"//|#|>>>|\$|\|")
# A text that points at another one, or at the page that it stood on, says too little when it stands alone.
_POINTS_ELSEWHERE = re.compile(
    r"\A(?:it|its|they|their|he|she|his|her|such|here|there|then|see|however|therefore|thus|also|but|and|or|so|yet|"
    r"for example|for instance|in addition|please|note that)\b|"
    r"\b(?:this|these|those|above|below|following|previous|next section|mentioned)\b|"
    r"\A(?:其|他|她|它|但|而|并|也|还|则|就|才|更|又|请|因此|所以|同时|另外|此外|例如|然而)|"
    r"该|此|这|那些|那个|上述|以上|以下|如下|下图|上图|下表|上表|前面|参见|参考|参阅|见下",
    re.IGNORECASE,
)
# A clause that hangs on another one is no query by itself.
_HANGS = re.compile(
    r"(?:while|if|because|although|though|when|whenever|since|unless|as|where|which|who|whose|that|to|in order)\b|"
    r"如果|若|当|虽然|尽管|由于|即使|只有|只要|无论|一旦|以及|从而|以便|可以|能够|需要|使得|相比|导致",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class ExtractedQuery:
    """A query, the passage that answers it as it is to be trained on, and the method that made the pair."""

    query: str
    positive: str
    method: str


class ExtractiveEngine:
    """
    Makes queries from the passages of one corpus, whose statistics it takes once.

    Args:
        corpus: all passages of the source; a passage asked for should be one of them.
        seed: with the passage's text id it decides every random choice.
        num_queries: the most queries of a passage; a passage that is too short or no prose gives fewer, or none.
    """

    name = "extractive"
    version = "extractive-1"

    def __init__(self, corpus: Sequence[Passage], *, seed: int, num_queries: int) -> None:
        self._seed = seed
        self._num_queries = num_queries
        self._idf = inverse_frequencies(passage.text for passage in corpus)
        self._ngrams = word_like_ngrams(corpus)
        self._repeated = _repeated_sentences(corpus)
        self._titles = Counter(normalise(passage.title) for passage in corpus)
        self._leaves = Counter(_leaf(title) for title in self._titles)

    def queries(self, passage: Passage) -> list[ExtractedQuery]:
        """At most `num_queries` queries, the methods taking turns; all different, none equal to its positive."""
        seed = f"{self._seed} {passage.text_id}"
        order = random.Random(seed).sample(list(METHODS), len(METHODS))
        offers = [METHODS[method](self, passage, random.Random(f"{seed} {method}")) for method in order]
        taken: dict[str, ExtractedQuery] = {}
        for turn in zip_longest(*offers):
            for offer in turn:
                if offer and len(taken) < self._num_queries and _is_sound(offer, passage):
                    taken.setdefault(normalise(offer.query).lower(), offer)
        return list(taken.values())

    def inverse_cloze(self, passage: Passage, rng: random.Random) -> Iterator[ExtractedQuery]:
        """
        A salient sentence is the query and is removed from the passage, 9 times in 10.

        Lee, Chang and Toutanova 2019, "Latent Retrieval for Weakly Supervised Open Domain Question Answering"
        (arXiv 1906.00300), who take any sentence; here one that shares rare terms with the rest of its passage.
        """
        body = _body(passage)
        whole = {sentence.text: sentence for sentence in self._own_sentences(body) if _is_whole(sentence.text)}
        best = self._by_salience(list(whole), passage)[: max(3, self._num_queries)]
        for sentence in (whole[text] for text in rng.sample(best, len(best))):
            removed = rng.random() < 0.9
            rest = _tidy(body[: sentence.start] + body[sentence.end :]) if removed else body
            yield ExtractedQuery(sentence.text.rstrip("；;"), _with_title(passage, rest), "inverse-cloze")

    def cropping(self, passage: Passage, rng: random.Random) -> Iterator[ExtractedQuery]:
        """
        Two spans of the passage, drawn independently: a short one is the query, a long one the positive.

        Izacard et al. 2021, "Unsupervised Dense Information Retrieval with Contrastive Learning" (Contriever, arXiv
        2112.09118). Their spans start and end anywhere; these keep to clauses (query) and sentences (positive), for
        people read them.
        """
        body = _body(passage)
        spans = list(sentences(body))
        crops = [crop for sentence in self._own_sentences(body) for crop in _clause_runs(sentence.text)]
        ranked = self._by_salience(crops, passage)
        best = ranked[: max(math.ceil(len(ranked) / 2), self._num_queries)]
        for crop in rng.sample(best, min(len(best), self._num_queries)):
            num_kept = rng.randint(math.ceil(len(spans) / 2), len(spans))
            first = rng.randint(0, len(spans) - num_kept)
            span = body[spans[first].start : spans[first + num_kept - 1].end]
            yield ExtractedQuery(crop, _with_title(passage, _tidy(span)), "cropping")

    def title(self, passage: Passage, rng: random.Random) -> Iterator[ExtractedQuery]:
        """
        The passage's own title is the query; the positive is the passage without it.

        As in the title and passage pairs of Wang et al. 2022, "Text Embeddings by Weakly-Supervised Contrastive
        Pre-training" (E5, arXiv 2212.03533). A title that several passages share answers to none of them. Of a path of
        headings the last is taken, with the document's title if it says little alone or stands elsewhere as well.
        """
        title = normalise(passage.title)
        if not title or self._titles[title] > 1:
            return
        parts = title.split(" > ")
        leaf = parts[-1]
        alone = self._leaves[_leaf(title)] == 1 and count_units(leaf) >= MIN_ALONE_UNITS
        path = [leaf] if alone else [parts[0], *parts[-2:]] if self._leaves[_leaf(title)] > 1 else [parts[0], leaf]
        query = " ".join(dict.fromkeys(_NUMBERING.sub("", part) for part in path))
        if not _CODE.search(leaf):
            yield ExtractedQuery(query, _body(passage), "title")

    def keywords(self, passage: Passage, rng: random.Random) -> Iterator[ExtractedQuery]:
        """
        Three to five terms of highest tf-idf, in the order of the passage: what people type into a search box.

        tf-idf: Salton and Buckley 1988, "Term-weighting approaches in automatic text retrieval". Chinese terms are
        character n-grams that the corpus itself shows to be words (see `word_like_ngrams`).
        """
        lines = [line for line in _body(passage).split("\n") if _is_prose(line, MIN_QUERY_UNITS, None)]
        prose = "\n".join([passage.title, *lines])
        weights = self._keyword_weights(prose, passage.title)
        ranked = sorted(weights, key=lambda term: (-weights[term], term))
        num_terms = rng.randint(3, 5)
        chosen = _without_overlaps(ranked, num_terms + 1)
        if len(chosen) < 3 or count_units("\n".join(lines)) < MIN_POSITIVE_UNITS:
            return
        kept = rng.sample(chosen, min(num_terms, len(chosen)))
        lowered = prose.lower()
        query = " ".join(sorted(kept, key=lambda term: (lowered.find(term.lower()), term)))
        yield ExtractedQuery(query, passage.text, "keywords")

    def _keyword_weights(self, prose: str, title: str) -> dict[str, float]:
        """Tf-idf of the terms that a passage is about: in its title, said twice, or a name."""
        titled, names = set(terms(title)), {name.lower() for name in _NAME.findall(prose)}
        surface: dict[str, str] = {}
        counts: Counter[str] = Counter()
        for word in WORD.findall(prose):
            key = word.lower()
            if len(key) >= 3 and key not in stop_words():
                surface.setdefault(key, word)
                counts[key] += 1
        weights = {
            surface[key]: (1 + math.log(count) + (key in titled)) * self._idf.get(key, 0.0)
            for key, count in counts.items()
            if count > 1 or key in titled or key in names
        }
        for gram, count in Counter(gram for gram in ngrams(prose) if gram in self._ngrams).items():
            weight = (1 + math.log(count) + (gram in title)) * self._ngrams[gram]
            weights[gram] = weight * math.sqrt(len(gram) / 2)
        return weights

    def _own_sentences(self, body: str) -> Iterator[Sentence]:
        """The sentences that stand in this passage alone: what several passages say answers to none of them."""
        return (sentence for sentence in sentences(body) if normalise(sentence.text) not in self._repeated)

    def _by_salience(self, pieces: Sequence[str], passage: Passage) -> list[str]:
        """Pieces of a passage, those first whose tf-idf vectors have the highest cosine to the rest of the passage."""
        everything = Counter(terms(passage.text))
        salience = {}
        for piece in pieces:
            own = Counter(terms(piece))
            weight = {term: count * self._idf.get(term, 0.0) for term, count in own.items()}
            rest = {term: (count - own[term]) * self._idf.get(term, 0.0) for term, count in everything.items()}
            norm = math.hypot(*weight.values()) * math.hypot(*rest.values())
            salience[piece] = sum(weight[term] * rest.get(term, 0.0) for term in weight) / norm if norm else 0.0
        return sorted(salience, key=lambda piece: (-salience[piece], piece))


Method = Callable[[ExtractiveEngine, Passage, random.Random], Iterator[ExtractedQuery]]
METHODS: dict[str, Method] = {
    "inverse-cloze": ExtractiveEngine.inverse_cloze,
    "cropping": ExtractiveEngine.cropping,
    "title": ExtractiveEngine.title,
    "keywords": ExtractiveEngine.keywords,
}


def _is_sound(offer: ExtractedQuery, passage: Passage) -> bool:
    query = normalise(offer.query)
    return (
        count_units(query) >= MIN_QUERY_UNITS
        and count_units(offer.positive) >= MIN_POSITIVE_UNITS
        and query not in map(normalise, (offer.positive, passage.text, _body(passage)))
    )


def _body(passage: Passage) -> str:
    return passage.text.partition("\n")[2] if passage.title else passage.text


def _with_title(passage: Passage, body: str) -> str:
    return f"{passage.title}\n{body}" if passage.title else body


def _leaf(title: str) -> str:
    return title.rpartition(" > ")[2].lower()


def _tidy(text: str) -> str:
    """A text without what the removal of a sentence leaves behind: double spaces, empty lines, lone bullets."""
    lines = (re.sub(r"[ \t]{2,}", " ", line).rstrip() for line in text.split("\n"))
    return "\n".join(line for line in lines if line[end_of_marker(line) :]).strip()


def _repeated_sentences(corpus: Sequence[Passage]) -> frozenset[str]:
    counts = Counter(normalise(sentence.text) for passage in corpus for sentence in sentences(_body(passage)))
    return frozenset(text for text, count in counts.items() if count > 1)


def _is_whole(sentence: str) -> bool:
    """Whether a sentence can stand alone as a query."""
    return (
        _is_prose(sentence, MIN_SENTENCE_UNITS, MAX_SENTENCE_UNITS)
        and _is_balanced(sentence)
        and bool(_SENTENCE_END.search(sentence))
        and not _POINTS_ELSEWHERE.search(sentence)
    )


def _clause_runs(sentence: str) -> Iterator[str]:
    """Every run of up to three clauses that reads as a piece of prose of the length of a query."""
    starts = [0, *(found.end() for found in _CLAUSE_BREAK.finditer(sentence)), len(sentence)]
    for first, start in enumerate(starts):
        for end in starts[first + 1 : first + 4]:
            run = sentence[start:end].strip()
            if run.endswith((":", "：")):  # the lead-in of what follows
                continue
            run = run.rstrip(" ,;，；。.")
            if _HANGS.match(run) or _POINTS_ELSEWHERE.search(run) or not _is_balanced(run):
                continue
            if _is_prose(run, MIN_CROP_UNITS, MAX_CROP_UNITS):
                yield run


def _is_balanced(text: str) -> bool:
    return (
        all(text.count(a) == text.count(b) for a, b in ("()", "（）", "“”", "「」", "《》"))
        and text.count('"') % 2 == 0
    )


def _is_prose(text: str, min_units: int, max_units: int | None) -> bool:
    """Whether a piece of text is language that a person wrote: no code, table row, lead-in of a list or numbers."""
    units = count_units(text)
    if units < min_units or (max_units and units > max_units) or text.rstrip().endswith((":", "：", ",", "，")):
        return False
    if _NOT_A_START.match(text.strip()) or len(_CODE.findall(text)) > (units >= 15):
        return False
    letters = sum(map(str.isalpha, text))
    if letters < 0.75 * sum(not character.isspace() for character in text):
        return False
    if 4 * sum(map(len, CJK_RUN.findall(text))) >= units or units < 6:
        return True
    words = [word.lower() for word in WORD.findall(text)]
    return sum(word in stop_words() for word in words) >= 0.15 * units


def _without_overlaps(ranked: Sequence[str], most: int) -> list[str]:
    chosen: list[str] = []
    for term in ranked:
        key = term.lower()
        if len(chosen) < most and not any(key in other.lower() or other.lower() in key for other in chosen):
            chosen.append(term)
    return chosen
