"""
What an encoder says of samples. Of retrieval samples: how near queries are to their positives, and negatives of each
origin and kind to the queries. Of sts samples: whether it agrees with their scores. Of a draw of at most MOST_SAMPLES
samples of either task and as many negatives of each sort.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from synth.records import UserError
from synth.stages.report.agreement import Agreement, agreement_by_source
from synth.stages.report.figures import Histogram, histogram, shared_edges
from synth.stages.vectors import mining_errors, vectors_of
from synth.store.connection import Store
from synth.store.run_report import Pair, Scope, ScoredPair, pairs, scored_pairs

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from mining.encode import Encoder

    Encode = Callable[[Encoder, Sequence[str], list[str]], NDArray[np.float32]]  # given notes of the cache

MOST_SAMPLES = 500
POSITIVE = "positive"
# Below these scores a query and its positive are taken for a bad pair. Every encoder has its own scale, so of others
# none is guessed: Conan-embedding filtered at 0.4, first with bge-large-zh, later with gte-Qwen2-7B.
THRESHOLDS = {"bge-large-zh": 0.4, "gte-qwen2-7b-instruct": 0.4}


@dataclass(frozen=True, slots=True)
class Scores:
    """
    Cosines of one sort of passage with their queries. `num_above`: how many of them score as high as the positive of
    their query, or higher.
    """

    origin: str  # positive, labelled, mined, generated or relabelled
    kind: str  # of a generated negative: how it is worse
    histogram: Histogram
    num_above: int

    @property
    def name(self) -> str:
        """Origin and kind in words."""
        return f"{self.origin}, {self.kind.replace('_', ' ')}" if self.kind else self.origin


@dataclass(frozen=True, slots=True)
class Similarity:
    """
    The scores of pairs of query and positive, of which `num_below` lie below the `threshold` (None: none is known for
    this encoder), and of negatives by sort, all between the same edges. `encoder` states model, device and precision.
    """

    encoder: str
    positives: Scores
    negatives: Sequence[Scores]
    threshold: float | None
    num_below: int | None
    notes: Sequence[str]

    @property
    def sorts(self) -> list[tuple[str, Histogram]]:
        """Each sort of passage by name, the positives first."""
        return [(each.name, each.histogram) for each in (self.positives, *self.negatives)]


def encoder_scores(
    store: Store,
    scope: Scope,
    encoder_name: str,
    folder: Path,
    *,
    threshold: float | None,
    on_progress: Callable[[int], None],
) -> tuple[Similarity | None, Agreement | None]:
    """
    Score a scope's retrieval samples and its sts samples; None of a task that it has no samples of.

    Args:
        folder: where vectors are cached, as by `synth mine`.
        threshold: below which a pair of query and positive counts as bad; None takes the encoder's, if THRESHOLDS has
            it.
        on_progress: called with the number of texts that were just encoded or found in the cache.

    Raises UserError if there are samples of neither task, or none that a given threshold is for, or the encoder cannot
    be loaded.
    """
    from mining.encode import load_encoder

    asked = pairs(store, scope, limit=MOST_SAMPLES)
    scored = scored_pairs(store, scope, limit=MOST_SAMPLES)
    where = f"of {', '.join(scope.names)}" if scope.names else "that the run made or wrote negatives for"
    if not asked and not scored:
        raise UserError(
            f"there are no retrieval or sts samples to train on {where}: an encoder scores pairs of texts, and a sample"
            " with a class has one text"
        )
    if not asked and threshold is not None:
        raise UserError(
            f"there are no retrieval samples to train on {where}, and a threshold is for their pairs of query and"
            " positive; leave it out, and give --scores"
        )

    def encoded(encoder: "Encoder", texts: Sequence[str], notes: list[str]) -> "NDArray[np.float32]":
        return vectors_of(encoder, texts, folder, notes, on_progress)

    with mining_errors():
        encoder = load_encoder(encoder_name, device="auto", folder=folder)
        similarity = _similarity(asked, encoder, encoded, threshold) if asked else None
        agreement = _agreement(scored, encoder, encoded) if scored else None
    return similarity, agreement


def _similarity(found: Sequence[Pair], encoder: "Encoder", encoded: "Encode", threshold: float | None) -> Similarity:
    notes: list[str] = []
    query_QD = encoded(encoder.for_queries(), [pair.query for pair in found], notes)
    texts = [text for pair in found for text in (pair.positive, *(text for _, _, text in pair.negatives))]
    passage_PD = encoded(encoder.for_passages(), texts, notes)
    positives: list[float] = []
    negatives: dict[tuple[str, str], list[tuple[float, float]]] = {}
    place = 0
    for pair, query_D in zip(found, query_QD, strict=True):
        number = 1 + len(pair.negatives)
        positive, *others = (float(score) for score in passage_PD[place : place + number] @ query_D)
        positives.append(positive)
        for (origin, kind, _), score in zip(pair.negatives, others, strict=True):
            negatives.setdefault((origin, kind), []).append((score, positive))
        place += number
    threshold = known_threshold(encoder.name) if threshold is None else threshold
    return _summary(positives, negatives, encoder.description, threshold, notes)


def _agreement(found: Sequence[ScoredPair], encoder: "Encoder", encoded: "Encode") -> Agreement:
    notes: list[str] = []
    encoder = encoder.for_queries()  # both texts alike: neither of them answers the other
    both_TD = encoded(encoder, [text for pair in found for text in (pair.text1, pair.text2)], notes)
    cosine_N = (both_TD[0::2] * both_TD[1::2]).sum(axis=1)
    return Agreement(encoder.description, agreement_by_source(found, cosine_N), notes)


def known_threshold(encoder_name: str) -> float | None:
    name = encoder_name.casefold().rstrip("/").rpartition("/")[2]
    return THRESHOLDS.get(name)


def _summary(
    positives: Sequence[float],
    negatives: Mapping[tuple[str, str], Sequence[tuple[float, float]]],  # with the score of their query's positive
    encoder: str,
    threshold: float | None,
    notes: Sequence[str],
) -> Similarity:
    by_sort = {sort: [score for score, _ in each] for sort, each in sorted(negatives.items())}
    edges = shared_edges([positives, *by_sort.values()])
    told = []
    for (origin, kind), scores in by_sort.items():
        drawn = histogram(scores, edges)
        assert drawn is not None
        num_above = sum(score >= positive for score, positive in negatives[origin, kind])
        told.append(Scores(origin, kind, drawn, num_above))
    drawn = histogram(positives, edges)
    assert drawn is not None
    num_below = None if threshold is None else sum(score < threshold for score in positives)
    return Similarity(encoder, Scores(POSITIVE, "", drawn, 0), told, threshold, num_below, notes)
