"""
Mine: retrieval samples get hard negatives out of the corpus of their own source.

Vectors are cached on disk shard by shard, and negatives are stored with the mark that their samples are done, a block
at a time; the same command again goes on from there.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

from mining import MiningError
from synth.records import Negative, Passage, UserError, key_of, normalise, text_id
from synth.stages.vectors import vectors_of
from synth.store import runs, samples, sources
from synth.store.connection import Store
from synth.store.samples import Minable, Mined

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from mining.encode import Encoder
    from mining.filters import Mined as Choice
    from mining.filters import Window

BLOCK = 5000  # samples searched and stored together


@dataclass(frozen=True)
class MineSettings:
    """Which negatives are wanted. The same settings, encoder weights included, mine no sample twice."""

    encoder: str
    rank_min: int
    rank_max: int
    relative_cap: float
    num_negatives: int
    seed: int


@dataclass(frozen=True)
class MinePlan:
    """The samples that are not done, by source, with the corpus of each."""

    settings: MineSettings
    encoder: "Encoder"
    device: str
    stage_key: UUID
    pending: Mapping[str, Sequence[Minable]]
    corpora: Mapping[str, Sequence[Passage]]

    @property
    def num_texts(self) -> int:
        """How many texts the encoder will be given, those in its cache and those given twice included."""
        return sum(
            len(self.corpora.get(name, ())) + sum(1 + len(sample.positives) for sample in pending)
            for name, pending in self.pending.items()
        )


@dataclass(frozen=True)
class MineOutcome:
    """What was done: `statuses` counts samples by how many negatives they got and why."""

    encoder: str
    search: str
    num_samples: int
    num_negatives: int
    statuses: Mapping[str, int]
    notes: Sequence[str]


@contextmanager
def mining_errors() -> Iterator[None]:
    """What mining refuses, as an error of the user's."""
    try:
        yield
    except MiningError as error:
        raise UserError(str(error)) from None


def plan_mine(store: Store, settings: MineSettings, names: Sequence[str], *, device: str) -> MinePlan:
    """
    Load the encoder and find the retrieval samples to train on that these settings have not mined.

    Raises UserError for an unknown source, an encoder that cannot be loaded, or settings that make no sense.
    """
    from mining.encode import load_encoder

    sources.check_sources(store, names)
    with mining_errors():
        _window(settings)
        encoder = load_encoder(settings.encoder, device=device)
    wanted = {key: value for key, value in asdict(settings).items() if key != "encoder"}
    stage_key = key_of("mine", encoder.fingerprint, wanted)
    pending: dict[str, list[Minable]] = {}
    for sample in samples.minable(store, stage_key, names):
        pending.setdefault(sample.source, []).append(sample)
    corpora = sources.corpora(store, sorted(pending)) if pending else {}
    return MinePlan(settings, encoder, device, stage_key, pending, corpora)


def mine_negatives(store: Store, plan: MinePlan, folder: Path, *, on_progress: Callable[[int], None]) -> MineOutcome:
    """
    Encode, search, choose and store.

    Args:
        folder: where vectors are cached.
        on_progress: called with the number of texts that were just encoded or found in the cache.

    Raises UserError if the encoder or the search cannot work.
    """
    from mining.search import describe_search

    statuses: Counter[str] = Counter()
    notes: list[str] = []
    with (
        mining_errors(),
        store.sole(plan.stage_key, "mining with the same settings"),
        runs.recorded(
            store,
            "mine",
            asdict(plan.settings),
            model=plan.settings.encoder,
            seed=plan.settings.seed,
            device=plan.encoder.description,
        ) as run,
    ):
        search = describe_search(plan.device)
        for name, pending in plan.pending.items():
            vectors = _Vectors(plan.encoder, folder, on_progress, notes)
            corpus = plan.corpora.get(name, ())
            corpus_MD = vectors.passages([passage.text for passage in corpus])
            window = _window(plan.settings, len(corpus))
            if window.rank_min != plan.settings.rank_min or window.rank_max != plan.settings.rank_max:
                notes.append(f"{name} has {len(corpus)} passages only: ranks {window.rank_min} to {window.rank_max}")
            for start in range(0, len(pending), BLOCK):
                block = pending[start : start + BLOCK]
                results = _mine_block(plan, block, window, corpus, corpus_MD, vectors)
                with store.write() as cursor:
                    stored = samples.add_mined(cursor, plan.stage_key, run.run_id, results)
                run.count(samples=len(block), negatives=stored)
                statuses.update(f"{result.status}" for result in results)
    num_samples, num_negatives = run.counts.get("samples", 0), run.counts.get("negatives", 0)
    return MineOutcome(plan.encoder.description, search, num_samples, num_negatives, statuses, notes)


class _Vectors:
    """The encoder behind its cache, for queries and for passages."""

    def __init__(self, encoder: "Encoder", folder: Path, on_progress: Callable[[int], None], notes: list[str]) -> None:
        self._encoder, self._folder, self._on_progress, self._notes = encoder, folder, on_progress, notes

    def passages(self, texts: Sequence[str]) -> "NDArray[np.float32]":
        return self._encode(self._encoder.for_passages(), texts)

    def queries(self, texts: Sequence[str]) -> "NDArray[np.float32]":
        return self._encode(self._encoder.for_queries(), texts)

    def _encode(self, encoder: "Encoder", texts: Sequence[str]) -> "NDArray[np.float32]":
        return vectors_of(encoder, texts, self._folder, self._notes, self._on_progress)


def _window(settings: MineSettings, corpus_size: int | None = None) -> "Window":
    """The window asked for; in a corpus of less than twice its depth, one shrunk in proportion."""
    from mining.filters import Window

    rank_min, rank_max = settings.rank_min, settings.rank_max
    if corpus_size is not None and corpus_size < 2 * rank_max:
        rank_min = max(1, rank_min * corpus_size // (2 * rank_max))
        rank_max = max(rank_min + settings.num_negatives - 1, settings.rank_max * corpus_size // (2 * rank_max))
    return Window(
        rank_min=rank_min,
        rank_max=rank_max,
        relative_cap=settings.relative_cap,
        num_negatives=settings.num_negatives,
    )


def _mine_block(
    plan: MinePlan,
    block: Sequence[Minable],
    window: "Window",
    corpus: Sequence[Passage],
    corpus_MD: "NDArray[np.float32]",
    vectors: _Vectors,
) -> list[Mined]:
    import numpy as np

    from mining.filters import lowest_scores, mine

    query_QD = vectors.queries([sample.query for sample in block])
    pairs = [(row, positive) for row, sample in enumerate(block) for positive in sample.positives]
    positive_PD = vectors.passages([text for _, text in pairs])
    query_of_P = np.array([row for row, _ in pairs], dtype=np.int64)
    masks = _Masks(corpus)
    choice = mine(
        query_QD,
        corpus_MD,
        positive_scores_Q=lowest_scores(query_QD, positive_PD, query_of_P),
        masked_rows=[masks.rows(sample) for sample in block],
        query_ids=[text_id(sample.query) for sample in block],
        window=window,
        seed=plan.settings.seed,
        device=plan.device,
    )
    return [_result(sample, row, choice, corpus) for row, sample in enumerate(block)]


class _Masks:
    """Which rows of a corpus cannot be a sample's negatives, whatever their score."""

    def __init__(self, corpus: Sequence[Passage]) -> None:
        self._row_of = {passage.text_id: row for row, passage in enumerate(corpus)}
        self._rows_of_title: dict[str, list[int]] = {}
        for row, passage in enumerate(corpus):
            self._rows_of_title.setdefault(normalise(passage.title), []).append(row)

    def rows(self, sample: Minable) -> "NDArray[np.int64]":
        """Whatever answers it, in full or in part, the seed, its own text, and passages whose title it asks for."""
        import numpy as np

        ids = [*map(text_id, sample.answers), *sample.graded, text_id(sample.query)]
        ids += [sample.seed_id] if sample.seed_id else []
        rows = [self._row_of[each] for each in ids if each in self._row_of]
        query = normalise(sample.query)
        if query:
            rows += self._rows_of_title.get(query, [])
        return np.array(rows, dtype=np.int64)


def _result(sample: Minable, row: int, choice: "Choice", corpus: Sequence[Passage]) -> Mined:
    negatives = tuple(
        Negative(
            sample.sample_id,
            sample.revision_id,
            corpus[int(corpus_row)].text_id,
            "mined",
            int(rank),
            float(score),
            float(choice.positive_scores_Q[row]),
        )
        for corpus_row, rank, score in zip(
            choice.rows_QN[row], choice.ranks_QN[row], choice.scores_QN[row], strict=True
        )
        if corpus_row >= 0
    )
    rank = int(choice.positive_ranks_Q[row])
    return Mined(sample, choice.outcome(row).value, choice.reason(row), rank, negatives)
