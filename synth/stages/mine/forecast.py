"""What a mine run would do, without doing it: samples and passages by source, windows, and texts yet to encode."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from synth.records import text_id
from synth.stages.mine.miners import DenseMiner
from synth.stages.mine.plan import MinePlan
from synth.stages.vectors import mining_errors
from synth.store.connection import Store
from synth.store.minings import num_mined, overtaken

if TYPE_CHECKING:
    from mining.encode import Encoder


@dataclass(frozen=True, slots=True)
class SourceForecast:
    """Samples of a source, the passages that are searched, the window of ranks, and texts without a vector yet."""

    source: str
    num_samples: int
    num_passages: int
    rank_min: int
    rank_max: int
    num_to_encode: int  # by each encoder, if there are several


@dataclass(frozen=True, slots=True)
class MineForecast:
    """
    What a plan would mine, and what with; `num_left` samples are beyond its limit, and `nothing_left` says so where
    there is none to mine.
    """

    encoder: str
    search: str
    reranker: str
    settings: Mapping[str, Any]
    num_samples: int
    num_left: int
    sources: Sequence[SourceForecast]
    nothing_left: str = ""


def forecast_mine(store: Store, plan: MinePlan) -> MineForecast:
    """
    What the plan would do. Of the cache only what is damaged is touched: it is removed, as a run would remove it.

    Raises UserError if the cache cannot be read.
    """
    with mining_errors():
        found = [_of_source(plan, name) for name in plan.pending]
    return MineForecast(
        encoder=plan.vectors.encoder.description,
        search=plan.searcher.description,
        reranker=plan.reranker.description if plan.reranker else "",
        settings=asdict(plan.settings),
        num_samples=plan.num_samples,
        num_left=plan.num_left,
        sources=found,
        nothing_left="" if plan.pending else nothing_left(store, plan),
    )


def nothing_left(store: Store, plan: MinePlan) -> str:
    """Why a plan without samples has none, and what to do where a release would take a later mining's negatives."""
    if not num_mined(store, plan.stage_key, plan.names):
        where = f"in {', '.join(plan.names)}" if plan.names else "in any source"
        return (
            f"nothing to mine: there are no retrieval samples to train on {where}; documents need `synth generate`"
            " first, texts with a class and scored pairs are mined with --task, and what an evaluation set asks is"
            " never mined"
        )
    done = "nothing is left to mine: what there is was mined with these settings already"
    since = overtaken(store, plan.stage_key)
    if since is None:
        return done
    samples = "1 sample was" if since.num_samples == 1 else f"{since.num_samples:,} samples were"
    return (
        f"{done}; {samples} mined with others since, and a release takes the latest:"
        f" `synth release create NAME --mining {since.run_id}` takes what was found with these"
    )


def _of_source(plan: MinePlan, name: str) -> SourceForecast:
    samples = plan.pending[name]
    passages = [passage.text for passage in plan.corpora.get(name, ())]
    queries = [sample.query for sample in samples]
    positives = [text for sample in samples for text in sample.positives]
    first = plan.vectors.encoder
    sides = [(first.for_passages(), [*passages, *positives]), (first.for_queries(), queries)]
    for miner in plan.others:
        if isinstance(miner, DenseMiner):
            other = miner.vectors.encoder
            sides += [(other.for_passages(), passages), (other.for_queries(), queries)]
    rank_min, rank_max = plan.settings.ranks_in(len(passages))
    num_to_encode = sum(_num_missing(encoder, texts, plan.folder) for encoder, texts in sides)
    return SourceForecast(name, len(samples), len(passages), rank_min, rank_max, num_to_encode)


def _num_missing(encoder: "Encoder", texts: Iterable[str], folder: Path) -> int:
    """How many different texts have no vector in the cache. Raises MiningError."""
    import numpy as np

    from mining.precomputed import PrecomputedEncoder
    from mining.shards import fill_from_disk, join_ids

    if isinstance(encoder, PrecomputedEncoder):
        return 0
    ids = sorted({text_id(text).bytes for text in texts})
    home = folder / encoder.fingerprint
    if not ids or not home.is_dir():
        return len(ids)
    keys_U = join_ids(np.frombuffer(b"".join(ids), dtype=np.uint8).reshape(-1, 16))
    row_1D = np.zeros((1, encoder.dimension), dtype=np.float32)  # which vectors they are is of no interest
    rows_U = np.zeros(len(ids), dtype=np.intp)
    known_U, _ = fill_from_disk(home, keys_U, rows_U, row_1D, lambda values: True, "embedding cache")
    return int((~known_U).sum())
