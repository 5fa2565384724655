"""
What one model scores on one evaluation set, and what each query, pair or text has to do with it.

Retrieval: every query against the whole corpus, exactly. Pairs: cosines against people's scores. Labelled texts: the
protocol of mteb, a logistic regression on eight texts of each class, drawn ten times. Vectors are L2-normalised, so
every score is a cosine.
"""

import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import singledispatch
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from synth.records import normalise
from trainer.metrics import (
    Floats,
    Statistic,
    drawn_of_each_class,
    gains,
    mean_of,
    ndcg,
    recall,
    reciprocal_rank,
    spearman,
    spearman_of,
)
from trainer.sets import EvaluationSet, LabelledSet, PairSet, RetrievalSet

if TYPE_CHECKING:
    from mining.encode_model import ModelEncoder

TOP = 10
DEEP = 100  # of Recall@100, which is told of a corpus of more than LARGE passages: of a smaller one it says little
LARGE = 1000
OF_EACH_CLASS, TIMES, SEED, ITERATIONS = 8, 10, 42, 100  # as mteb has them
INSTRUCTED = re.compile(r"Instruct: (?P<instruction>.*)\nQuery: ?", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Measured:
    """One measure of a set, and of each item: of a query or text its share of the mean, of a pair its cosine."""

    name: str
    value: float
    statistic: Statistic
    item_N: Floats
    is_mean: bool = True


@dataclass(frozen=True, slots=True)
class Result:
    """What a model scores on a set. Where nothing could be measured, `measures` is empty, and the note says why."""

    measures: Sequence[Measured]
    num_items: int  # queries, pairs or texts
    note: str = ""
    found: Mapping[str, Sequence[str]] = field(default_factory=dict)  # query id -> passage ids, best first


@dataclass(frozen=True)
class Measurer:
    """A model that is measured, and what it is told before a text."""

    encoder: "ModelEncoder"
    prefixes: Mapping[tuple[type, str], str]  # of the sets, by kind and name, that samples to train on have
    fitting: Mapping[str, tuple[Sequence[str], Sequence[str]]]  # set -> texts and classes, where it has none itself
    device: str

    def prefix(self, one: EvaluationSet) -> str:
        """
        What stands before a query (and each text of the symmetric tasks): what the samples to train on have, else what
        the model itself has for a set of this name, else the set's instruction if the model takes any.
        """
        trained = self.prefixes.get((type(one), one.name))
        if trained is not None:
            return trained
        own = {name: prompt for name, prompt in self.encoder.model.get().prompts.items() if prompt}
        if one.name in own:
            return str(own[one.name])
        return self.instructed(one.instruction)

    def instructed(self, instruction: str) -> str:
        """An instruction in the form that the model takes them in; "" if it takes none, or there is none."""
        prompts = [prompt for prompt in self.encoder.model.get().prompts.values() if prompt]
        taken = next(filter(None, map(INSTRUCTED.fullmatch, prompts)), None)
        if taken is None or not instruction:
            return ""
        start, end = taken.span("instruction")
        return f"{taken.string[:start]}{instruction}{taken.string[end:]}"

    def encode(self, texts: Sequence[str], prefix: str | None) -> NDArray[np.float32]:
        """(N, D) vectors of texts with what stands before them; None: what the model puts before any text."""
        encoder = self.encoder if prefix is None else replace(self.encoder, instruction=prefix)
        return encoder.encode(texts)


@singledispatch
def measure(one: EvaluationSet, measurer: Measurer) -> Result:
    """
    Measure a model on a set.

    Raises:
        MiningError: the model gives a text no vector.
    """
    raise TypeError(one)


@measure.register
def _(one: RetrievalSet, measurer: Measurer) -> Result:
    from mining.search import load_searcher

    prefix, encoder = measurer.prefix(one), measurer.encoder
    query_ND = measurer.encode(list(one.queries.values()), prefix or encoder.query_instruction)
    passage_MD = measurer.encode(list(one.corpus.values()), encoder.passage_instruction)
    deep = len(one.corpus) > LARGE
    depth = DEEP if deep else TOP
    searcher = load_searcher(device=measurer.device)
    _, row_Nk = searcher.search(query_ND, passage_MD, min(depth + 1, len(passage_MD)))
    names = list(one.corpus)
    found = {}
    for (query_id, text), rows in zip(one.queries.items(), row_Nk, strict=True):
        passages = [names[row] for row in rows]
        if query_id in passages and query_id not in one.qrels[query_id] and _same(one.corpus[query_id], text):
            passages.remove(query_id)  # the query itself, which some corpora hold
        found[query_id] = passages[:depth]
    grades = [one.qrels[query_id] for query_id in one.queries]
    gain_Qk = gains(list(found.values()), grades, depth)
    values = [list(each.values()) for each in grades]
    shares = {f"nDCG@{TOP}": ndcg(gain_Qk, values, TOP), f"MRR@{TOP}": reciprocal_rank(gain_Qk, TOP)}
    shares |= {f"Recall@{k}": recall(gain_Qk, values, k) for k in ((TOP, DEEP) if deep else (TOP,))}
    return Result([_mean(name, share_N) for name, share_N in shares.items()], len(found), one.note, found)


@measure.register
def _(one: PairSet, measurer: Measurer) -> Result:
    if len(set(one.scores)) < 2:
        return Result([], len(one.scores), "all pairs have one score")
    vectors = measurer.encode(list(chain.from_iterable(one.pairs)), measurer.prefix(one) or None)
    cosine_N = np.einsum("nd,nd->n", vectors[::2], vectors[1::2]).astype(np.float64)
    score_N = np.array(one.scores, dtype=np.float64)
    value = spearman(cosine_N, score_N)
    if np.isnan(value):
        return Result([], len(score_N), "the model gives all pairs one score")
    return Result(
        [Measured("Spearman", value, spearman_of(cosine_N, score_N), cosine_N, is_mean=False)], len(score_N), one.note
    )


@measure.register
def _(one: LabelledSet, measurer: Measurer) -> Result:
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    fitted_texts, fitted_labels = one.fitted_texts, one.fitted_labels
    if not fitted_texts:
        fitted_texts, fitted_labels = measurer.fitting.get(one.name, ((), ()))
    if len(set(fitted_labels)) < 2:
        return Result([], len(one.texts), "nothing to fit on: no texts of two classes to train on")
    drawn = drawn_of_each_class(fitted_labels, of_each=OF_EACH_CLASS, times=TIMES, seed=SEED)
    wanted = sorted(set(chain.from_iterable(drawn)))
    places = {each: place for place, each in enumerate(wanted)}
    vectors = measurer.encode([*(fitted_texts[each] for each in wanted), *one.texts], measurer.prefix(one) or None)
    fitted_FD, text_ND = vectors[: len(wanted)], vectors[len(wanted) :]
    label_N = np.array(one.labels, dtype=object)
    right_N = np.zeros(len(label_N))
    for chosen in drawn:
        classifier = LogisticRegression(max_iter=ITERATIONS, random_state=SEED)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # mteb stops there too
            classifier.fit(fitted_FD[[places[each] for each in chosen]], [fitted_labels[each] for each in chosen])
        right_N += classifier.predict(text_ND) == label_N
    note = f"fitted {TIMES} times on {len(drawn[0])} texts"
    unknown = len(set(one.labels) - set(fitted_labels))
    note += f"; {unknown} classes are not among them" if unknown else ""
    return Result([_mean("accuracy", right_N / TIMES)], len(label_N), note)


def _mean(name: str, share_N: Floats) -> Measured:
    return Measured(name, float(share_N.mean()), mean_of(share_N), share_N)


def _same(passage: str, query: str) -> bool:
    return normalise(passage) == normalise(query)
