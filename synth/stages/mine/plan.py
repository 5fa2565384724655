"""What a mine run will do: the samples that its settings have not mined, and what it mines with."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

from synth.records import Passage, key_of
from synth.stages.encoders import EncoderSettings, open_encoder
from synth.stages.mine.miners import DenseMiner, LexicalMiner, Miner, Vectors
from synth.stages.mine.settings import DENSE, LEXICAL, MineSettings
from synth.stages.vectors import mining_errors
from synth.store import minings, sources
from synth.store.connection import Store
from synth.store.minings import Minable

if TYPE_CHECKING:
    from mining.filters import Window
    from mining.rerank import Reranker
    from mining.search import Searcher


@dataclass(frozen=True)
class MinePlan:
    """The samples that are not done, by source, with the corpus of each, and what searches them."""

    settings: MineSettings
    vectors: Vectors  # of the first miner
    others: Sequence[Miner]
    searcher: "Searcher"
    reranker: "Reranker | None"
    folder: Path  # of the caches
    stage_key: UUID
    names: Sequence[str]  # of the sources asked for; none means all
    pending: Mapping[str, Sequence[Minable]]
    corpora: Mapping[str, Sequence[Passage]]
    num_left: int  # samples that are not done, beyond the limit
    notes: list[str]  # told at the end

    @property
    def num_samples(self) -> int:
        """How many samples will be mined."""
        return sum(map(len, self.pending.values()))


def plan_mine(
    store: Store,
    settings: MineSettings,
    names: Sequence[str],
    folder: Path,
    *,
    device: str = "auto",
    limit: int | None = None,
) -> MinePlan:
    """
    Choose encoders, reranker and search, and find the retrieval samples to train on that these settings have not mined.

    Args:
        names: of sources; none means all.
        folder: where vectors and relevances are cached.
        device: of models and of the search: auto, cpu, cuda, or several devices by commas.
        limit: the most samples; the first that are not done, source by source.

    Raises UserError for an unknown source, a model that cannot be had, or settings that make no sense.
    """
    settings.checked()
    sources.check_sources(store, names)
    notes: list[str] = []
    with mining_errors():
        window(settings)
        encoder = open_encoder(encoder_settings(settings), folder, device=device, precision=settings.precision)
        reranker = _reranker(settings, folder, device)
        searcher = _searcher(settings, device)
        others = [_miner(name, settings, folder, device, searcher, notes) for name in settings.miners[1:]]
        key = key_of(
            "mine",
            encoder.for_queries().fingerprint,
            encoder.for_passages().fingerprint,
            {
                **settings.of_result,
                "miners": [_fingerprint(each) for each in others],
                "reranker": reranker.fingerprint if reranker else "",
            },
        )
    undone = minings.minable(store, key, names)
    chosen = undone[:limit]
    num_left = len(undone) - len(chosen)
    if num_left:
        are = "sample is" if num_left == 1 else "samples are"
        notes.append(f"{num_left:,} {are} left; the same command goes on from here")
    pending: dict[str, list[Minable]] = {}
    for sample in chosen:
        pending.setdefault(sample.source, []).append(sample)
    corpora = sources.corpora(store, sorted(pending)) if pending else {}
    vectors = Vectors(encoder, folder, notes)
    return MinePlan(
        settings, vectors, others, searcher, reranker, folder, key, names, pending, corpora, num_left, notes
    )


def window(settings: MineSettings, corpus_size: int | None = None) -> "Window":
    """
    The window asked for; in a corpus of less than twice its depth, one shrunk in proportion.

    Raises MiningError if it makes no sense.
    """
    from mining.filters import Window

    rank_min, rank_max = settings.rank_min, settings.rank_max
    if corpus_size is not None:
        rank_min, rank_max = settings.ranks_in(corpus_size)
    return Window(
        rank_min=rank_min,
        rank_max=rank_max,
        ranks=settings.ranks,
        relative_cap=settings.relative_cap or None,
        absolute_margin=settings.absolute_margin or None,
        absolute_cap=settings.absolute_cap,
        num_negatives=settings.num_negatives,
        choice=settings.choice,
        temperature=settings.temperature,
        relax=tuple(settings.relax),
    )


def encoder_settings(settings: MineSettings) -> EncoderSettings:
    """What decides the vectors of a text, of all that mining is told."""
    return EncoderSettings(
        encoder=settings.encoder,
        base_url=settings.base_url,
        api_key_env=settings.api_key_env,
        dimensions=settings.dimensions,
        query_instruction=settings.query_instruction,
        passage_instruction=settings.passage_instruction,
        max_length=settings.max_length,
    )


def _searcher(settings: MineSettings, device: str) -> "Searcher":
    from mining.search import load_searcher

    return load_searcher(device=device, precision=settings.precision, backend=settings.search)


def _reranker(settings: MineSettings, folder: Path, device: str) -> "Reranker | None":
    if not settings.reranker:
        return None
    from mining.rerank import load_reranker

    return load_reranker(settings.reranker, device=device, precision=settings.precision, cache=folder)


def _miner(
    name: str, settings: MineSettings, folder: Path, device: str, searcher: "Searcher", notes: list[str]
) -> Miner:
    if name == LEXICAL:
        return LexicalMiner()
    wanted = EncoderSettings(encoder=name.removeprefix(f"{DENSE}:"))
    encoder = open_encoder(wanted, folder, device=device, precision=settings.precision)
    return DenseMiner(Vectors(encoder, folder, notes), searcher)


def _fingerprint(miner: Miner) -> list[str]:
    if isinstance(miner, DenseMiner):
        encoder = miner.vectors.encoder
        return [encoder.for_queries().fingerprint, encoder.for_passages().fingerprint]
    return [miner.name]
