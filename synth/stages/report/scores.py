"""
What an encoder says of retrieval samples: how near queries are to their positives, and negatives of each origin and
kind to the queries. Of a draw of at most MOST_SAMPLES samples and as many negatives of each sort.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from synth.records import UserError
from synth.stages.mine import mining_errors
from synth.stages.report.figures import Histogram, histogram, shared_edges
from synth.stages.vectors import vectors_of
from synth.store.connection import Store
from synth.store.run_report import Pair, Scope, pairs

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from mining.encode import Encoder

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


def similarity(
    store: Store,
    scope: Scope,
    encoder_name: str,
    folder: Path,
    *,
    threshold: float | None,
    on_progress: Callable[[int], None],
) -> Similarity:
    """
    Score the pairs and the negatives of a scope's samples.

    Args:
        folder: where vectors are cached, as by `synth mine`.
        threshold: below which a pair counts as bad; None takes the encoder's, if THRESHOLDS has it.
        on_progress: called with the number of texts that were just encoded or found in the cache.

    Raises UserError if there are no retrieval samples, or the encoder cannot be loaded.
    """
    from mining.encode import load_encoder

    found = pairs(store, scope, limit=MOST_SAMPLES)
    if not found:
        where = f"of {', '.join(scope.names)}" if scope.names else "that the run made or wrote negatives for"
        raise UserError(f"there are no retrieval samples to train on {where}: an encoder scores no others")
    with mining_errors():
        encoder = load_encoder(encoder_name, device="auto")
        scored = _scored(found, _Vectors(encoder, folder, on_progress))
    threshold = known_threshold(encoder_name) if threshold is None else threshold
    return _summary(scored, encoder.description, threshold)


@dataclass(frozen=True, slots=True)
class _Scored:
    positives: Sequence[float]
    negatives: Mapping[tuple[str, str], Sequence[tuple[float, float]]]  # with the score of their query's positive
    notes: Sequence[str]


def _scored(found: Sequence[Pair], vectors: "_Vectors") -> _Scored:
    query_QD = vectors.encoded([pair.query for pair in found], vectors.encoder.for_queries())
    texts = [text for pair in found for text in (pair.positive, *(text for _, _, text in pair.negatives))]
    passage_PD = vectors.encoded(texts, vectors.encoder.for_passages())
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
    return _Scored(positives, negatives, vectors.notes)


class _Vectors:
    """An encoder behind its cache."""

    def __init__(self, encoder: "Encoder", folder: Path, on_progress: Callable[[int], None]) -> None:
        self.encoder, self._folder, self._on_progress = encoder, folder, on_progress
        self.notes: list[str] = []

    def encoded(self, texts: Sequence[str], encoder: "Encoder") -> "NDArray[np.float32]":
        return vectors_of(encoder, texts, self._folder, self.notes, self._on_progress)


def known_threshold(encoder_name: str) -> float | None:
    name = encoder_name.casefold().rstrip("/").rpartition("/")[2]
    return THRESHOLDS.get(name)


def _summary(scored: _Scored, encoder: str, threshold: float | None) -> Similarity:
    by_sort = {sort: [score for score, _ in each] for sort, each in sorted(scored.negatives.items())}
    edges = shared_edges([scored.positives, *by_sort.values()])
    negatives = []
    for (origin, kind), scores in by_sort.items():
        drawn = histogram(scores, edges)
        assert drawn is not None
        num_above = sum(score >= positive for score, positive in scored.negatives[origin, kind])
        negatives.append(Scores(origin, kind, drawn, num_above))
    drawn = histogram(scored.positives, edges)
    assert drawn is not None
    num_below = None if threshold is None else sum(score < threshold for score in scored.positives)
    return Similarity(encoder, Scores(POSITIVE, "", drawn, 0), negatives, threshold, num_below, scored.notes)
