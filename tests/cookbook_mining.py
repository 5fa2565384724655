"""
The mining of the store that the questions of docs/sql.md are asked of: by the cosine of word counts, and a second miner
that counts long words alone and votes.
"""

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from uuid import UUID

from synth.records import FoundBy, Negative, NegativeFlag, Passage, key_of
from synth.store import minings, runs, sources
from synth.store.connection import Store
from synth.store.minings import Fallen, Minable, Mined

LABELLED = 30  # labelled samples mined of a source
LAST, CAP, WANTED, LIKE_POSITIVE = 8, 0.95, 3, 0.75  # of the second mining
DEEP = 20  # ranks of a miner's list
Scored = list[tuple[float, Passage]]


def mine(store: Store, names: Sequence[str]) -> None:
    """Negatives by the cosine of word counts: ranks 2 to 4, whatever they score."""
    stage_key = key_of("bag of words")
    with runs.recorded(store, "mine", {"rank_min": 2, "rank_max": 4}, model="bag-of-words") as run:
        corpora = sources.corpora(store, names)
        found = [_mined(sample, corpora[sample.source]) for sample in _pending(store, names, names[0])]
        with store.write() as cursor:
            run.count(negatives=minings.add_mined(cursor, stage_key, run.run_id, found), samples=len(found))


def mine_more(store: Store, name: str) -> None:
    """Ranks 2 to 8 alone, below a cap, and flags for what is like the positive."""
    stage_key = key_of("bags of words and of long words")
    with runs.recorded(store, "mine", {"rank_min": 2, "rank_max": LAST}, model="bag-of-words") as run:
        corpus = sources.corpora(store, [name])[name]
        found = [_mined_below(sample, corpus) for sample in _pending(store, [name])]
        with store.write() as cursor:
            run.count(negatives=minings.add_mined(cursor, stage_key, run.run_id, found), samples=len(found))


def bag(text: str, shortest: int = 3) -> Counter[str]:
    """How often each word of so many letters stands in a text."""
    return Counter(re.findall(rf"\w{{{shortest},}}", text.lower()))


def cosine(one: Counter[str], other: Counter[str]) -> float:
    """Of two counts of words."""
    product = sum(count * other[word] for word, count in one.items())
    return product / (math.hypot(*one.values()) * math.hypot(*other.values())) if product else 0.0


def _pending(store: Store, names: Sequence[str], whole: str = "") -> list[Minable]:
    """The samples of these sources: of `whole` all, of the others the first by their queries."""
    found: list[Minable] = []
    for name in names:
        pending = minings.minable(store, key_of("any"), [name])
        found += pending if name == whole else sorted(pending, key=lambda sample: sample.query)[:LABELLED]
    return found


def _scored(sample: Minable, corpus: Sequence[Passage], shortest: int = 3) -> Scored:
    """Every passage that may be a negative, best first."""
    asked = bag(sample.query, shortest)
    others = [passage for passage in corpus if passage.text not in sample.answers and passage.text_id != sample.seed_id]
    scored = ((cosine(asked, bag(each.text, shortest)), each) for each in others)
    return sorted(scored, key=lambda pair: (-pair[0], pair[1].text))


def _best(sample: Minable) -> float:
    return max(cosine(bag(sample.query), bag(positive)) for positive in sample.positives)


def _by_long_words(sample: Minable, corpus: Sequence[Passage]) -> dict[UUID, FoundBy]:
    """What the second miner found, by the id of the text."""
    return {
        passage.text_id: FoundBy("long-words", rank, score)
        for rank, (score, passage) in enumerate(_scored(sample, corpus, 6)[:DEEP], start=1)
        if score > 0
    }


def _negative(
    sample: Minable, passage: Passage, rank: int, score: float, by_long_words: Mapping[UUID, FoundBy]
) -> Negative:
    also = [by_long_words[passage.text_id]] if passage.text_id in by_long_words else []
    return Negative(
        sample.sample_id,
        sample.revision_id,
        passage.text_id,
        "mined",
        rank,
        score,
        _best(sample),
        miners=(FoundBy("words", rank, score), *also),
    )


def _mined(sample: Minable, corpus: Sequence[Passage]) -> Mined:
    scored = _scored(sample, corpus)
    rank = 1 + sum(score > _best(sample) for score, _ in scored)
    by_long_words = _by_long_words(sample, corpus)
    found = [
        _negative(sample, passage, rank, score, by_long_words)
        for rank, (score, passage) in enumerate(scored[1:4], start=2)
    ]
    return Mined(sample, "full", "", rank, tuple(found))


def _mined_below(sample: Minable, corpus: Sequence[Passage]) -> Mined:
    scored, cap = _scored(sample, corpus), CAP * _best(sample)
    by_long_words = _by_long_words(sample, corpus)
    found, fallen = [], []
    for rank, (score, passage) in enumerate(scored, start=1):
        reason = "capped" if score >= cap else "above_window" if rank < 2 else "below_window" if rank > LAST else ""
        if reason or len(found) == WANTED:
            fallen.append(Fallen(passage.text_id, rank, score, reason or "not_needed"))
            continue
        like_positive = max(cosine(bag(passage.text), bag(positive)) for positive in sample.positives)
        negative = _negative(sample, passage, rank, score, by_long_words)
        flags: tuple[NegativeFlag, ...] = ("near_positive",) if like_positive > LIKE_POSITIVE else ()
        found.append(replace(negative, positive_similarity=like_positive, flags=flags))
    reasons = Counter(each.reason for each in fallen)
    is_full = len(found) == WANTED
    return Mined(
        sample,
        "full" if is_full else "short" if found else "none",
        "" if is_full else f"{reasons['capped']} of {len(scored)} candidates score too near the positive",
        1 + sum(score > _best(sample) for score, _ in scored),
        tuple(found),
        len(scored),
        reasons["capped"],
        _best(sample),
        reasons,
        () if is_full else tuple(fallen),
    )
