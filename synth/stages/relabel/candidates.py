"""
Candidates of relabelling: of each sample the passages of its corpus that are nearest to its query, and its positives.

Shapes: Q samples, M passages of a corpus, D dimensions, k candidates.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

from synth.recipes.relabelling import Candidate, WithCandidates
from synth.records import Passage, Retrieval, Sample, Seed, text_id
from synth.stages.mine.run import BLOCK
from synth.stages.vectors import mining_errors, vectors_of
from synth.store import relabels
from synth.store.connection import Store
from synth.store.relabels import Relabelable
from synth.store.seeds import Seeds

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from mining.encode import Encoder


@dataclass(frozen=True, slots=True)
class Neighbours:
    """What a search found for some samples of one corpus. `positives`: those of each sample, wherever they are."""

    corpus: Sequence[Passage]
    rows_Qk: "NDArray[np.int64]"
    scores_Qk: "NDArray[np.float32]"
    positives: Sequence[Sequence[Candidate]]

    def candidates(self, place: int) -> tuple[Candidate, ...]:
        """The candidates of the sample at this place: its positives, then the nearest others, k together."""
        rows, scores = self.rows_Qk[place].tolist(), self.scores_Qk[place].tolist()
        most = len(rows)
        chosen = {each.text_id: each for each in self.positives[place][: max(1, most // 2)]}
        for rank, (row, score) in enumerate(zip(rows, scores, strict=True), start=1):
            passage = self.corpus[row]
            if len(chosen) < most:
                chosen.setdefault(passage.text_id, Candidate(passage.text_id, passage.text, rank, score))
        return tuple(chosen.values())


@dataclass(frozen=True)
class Retrieved(Seeds):
    """Samples with the candidates that were found for them, by the ids of their revisions."""

    samples: Mapping[UUID, Sample] = field(default_factory=dict)
    places: Mapping[UUID, tuple[Neighbours, int]] = field(default_factory=dict)
    shuffle: int = 0

    def untried(self, store: Store, stage_key: UUID) -> list[UUID]:
        """Those that are not done and never failed, looked for or not."""
        pending = relabels.relabelable(store, stage_key, self.names)
        return sorted(each.sample.revision_id for each in pending if each.permanent is None)

    def load(self, store: Store, seed_ids: Sequence[UUID]) -> list[Seed]:
        """These of them."""
        return [self._loaded(each) for each in seed_ids if each in self.places]

    def _loaded(self, seed_id: UUID) -> WithCandidates:
        sample = self.samples[seed_id]
        neighbours, place = self.places[seed_id]
        own = {each.name: getattr(sample, each.name) for each in fields(Sample)}
        return WithCandidates(**own, candidates=neighbours.candidates(place), shuffle=self.shuffle)


@dataclass(frozen=True, slots=True)
class Searching:
    """
    With what candidates are searched: `number` of each sample; vectors are cached in `folder`, and `notes` says what
    was damaged there.
    """

    encoder: "Encoder"
    device: str
    number: int
    folder: Path
    notes: list[str]


def search_candidates(
    searching: Searching,
    pending: Sequence[Relabelable],
    corpora: Mapping[str, Sequence[Passage]],
    on_progress: Callable[[int], None],
) -> Iterator[tuple[Relabelable, Neighbours, int]]:
    """
    Each sample with what was found for it.

    Args:
        corpora: by the names of sources.
        on_progress: called with the number of texts that were just encoded or found in the cache.

    Raises UserError if the encoder or the search cannot work.
    """
    from mining.search import search

    by_source: dict[str, list[Relabelable]] = {}
    for each in pending:
        by_source.setdefault(each.source, []).append(each)
    with mining_errors():
        for name, samples in by_source.items():
            corpus = corpora[name]
            corpus_MD = _vectors(searching, searching.encoder.for_passages(), _texts(corpus), on_progress)
            for start in range(0, len(samples), BLOCK):
                block = samples[start : start + BLOCK]
                queries = [_content(each).query for each in block]
                query_QD = _vectors(searching, searching.encoder.for_queries(), queries, on_progress)
                scores_Qk, rows_Qk = search(query_QD, corpus_MD, searching.number, device=searching.device)
                scored = _scored(searching, block, query_QD, on_progress)
                positives = [_ranked(each, rows, corpus) for each, rows in zip(scored, rows_Qk.tolist(), strict=True)]
                found = Neighbours(corpus, rows_Qk, scores_Qk, positives)
                yield from ((each, found, place) for place, each in enumerate(block))


def _content(each: Relabelable) -> Retrieval:
    assert isinstance(each.sample.content, Retrieval)
    return each.sample.content


def _texts(corpus: Sequence[Passage]) -> list[str]:
    return [passage.text for passage in corpus]


def _scored(
    searching: Searching,
    block: Sequence[Relabelable],
    query_QD: "NDArray[np.float32]",
    on_progress: Callable[[int], None],
) -> list[list[Candidate]]:
    """The positives of each sample, with their scores; without a rank yet."""
    from mining.search import pair_scores

    pairs = [(row, text) for row, each in enumerate(block) for text in _content(each).positives]
    texts = [text for _, text in pairs]
    positive_PD = _vectors(searching, searching.encoder.for_passages(), texts, on_progress)
    scores = pair_scores(query_QD[[row for row, _ in pairs]], positive_PD).tolist()
    found: list[list[Candidate]] = [[] for _ in block]
    for (row, text), score in zip(pairs, scores, strict=True):
        found[row].append(Candidate(text_id(text), text, 0, score))
    return found


def _ranked(positives: Sequence[Candidate], rows: Sequence[int], corpus: Sequence[Passage]) -> list[Candidate]:
    ranks = {corpus[row].text_id: rank for rank, row in enumerate(rows, start=1)}
    return [Candidate(each.text_id, each.text, ranks.get(each.text_id, 0), each.score) for each in positives]


def _vectors(
    searching: Searching, encoder: "Encoder", texts: Sequence[str], on_progress: Callable[[int], None]
) -> "NDArray[np.float32]":
    return vectors_of(encoder, texts, searching.folder, searching.notes, on_progress)
