"""
Mine: retrieval samples get hard negatives out of the corpus of their own source.

Vectors and relevances are cached on disk shard by shard, and negatives are stored with the mark that their samples are
done, a block at a time; the same command again goes on from there.
"""

import resource
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING
from uuid import UUID

from synth.records import Passage, text_id
from synth.stages.encoders import spending
from synth.stages.mine.forecast import nothing_left
from synth.stages.mine.found import Block, Row
from synth.stages.mine.masks import Masks
from synth.stages.mine.miners import Steps
from synth.stages.mine.plan import MinePlan, window
from synth.stages.mine.reranked import Reranking
from synth.stages.mine.settings import DENSE
from synth.stages.vectors import mining_errors
from synth.store import minings, runs
from synth.store.connection import Store
from synth.store.mining_report import DEEP
from synth.store.minings import Minable, Mined
from synth.store.runs import Run

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from mining.filters import Window
    from mining.negatives import Proposal

BLOCK, BLOCK_RERANKED = 5000, 200  # samples searched and stored together


@dataclass(frozen=True)
class MineOutcome:
    """
    What was done: `statuses` counts samples by how many negatives they got and why, `flags` negatives to look at,
    `num_deep_positives` the samples whose positive ranks below DEEP.
    """

    run_id: str
    encoder: str
    search: str
    reranker: str
    num_samples: int
    num_negatives: int
    statuses: Mapping[str, int]
    flags: Mapping[str, int]
    num_deep_positives: int
    seconds: Mapping[str, float]
    peak_memory_mb: int
    notes: Sequence[str]


def mine_negatives(store: Store, plan: MinePlan, *, steps: Steps) -> MineOutcome:
    """
    Encode, search, rerank, choose and store.

    Args:
        steps: opens each step of the work; `synth.screen.progress` shows it.

    Raises UserError if an encoder, the reranker or the search cannot work.
    """
    tally = _Tally()
    if not plan.pending:
        plan.notes.append(nothing_left(store, plan))
        return _outcome(plan, Run(), tally)
    with (
        store.sole(plan.stage_key, "mining with the same settings"),
        runs.recorded(
            store,
            "mine",
            asdict(plan.settings),
            model=plan.settings.encoder,
            seed=plan.settings.seed,
            device=plan.vectors.encoder.description,
        ) as run,
        mining_errors(),  # inside, so that the run is stored with its reason
    ):
        for name, pending in plan.pending.items():
            source = _Source(plan, run, tally, steps, name)
            source.open(pending)
            first_positive = 0
            size = BLOCK_RERANKED if plan.reranker else BLOCK
            with steps(f"mine {name}", len(pending)) as advance:
                for start in range(0, len(pending), size):
                    block = pending[start : start + size]
                    results = source.mine(block, start, first_positive)
                    first_positive += sum(len(sample.positives) for sample in block)
                    with tally.step(run, "store", len(block)), store.write() as cursor:
                        stored = minings.add_mined(cursor, plan.stage_key, run.run_id, results)
                    run.count(samples=len(block), negatives=stored)
                    tally.add(results)
                    advance(len(block))
    if said := spending(plan.vectors.encoder):
        plan.notes.append(f"asked of the server: {said}")
    return _outcome(plan, run, tally)


def _outcome(plan: MinePlan, run: Run, tally: "_Tally") -> MineOutcome:
    return MineOutcome(
        run_id=str(run.run_id) if run.counts else "",
        encoder=plan.vectors.encoder.description,
        search=plan.searcher.description,
        reranker=plan.reranker.description if plan.reranker else "",
        num_samples=run.counts.get("samples", 0),
        num_negatives=run.counts.get("negatives", 0),
        statuses=dict(tally.statuses),
        flags=dict(tally.flags),
        num_deep_positives=tally.num_deep,
        seconds={name: round(seconds, 2) for name, seconds in tally.seconds.items()},
        peak_memory_mb=_peak_memory(),
        notes=plan.notes,
    )


class _Tally:
    """What is counted over all sources."""

    def __init__(self) -> None:
        self.statuses: Counter[str] = Counter()
        self.flags: Counter[str] = Counter()
        self.seconds: dict[str, float] = {}
        self.num_deep = 0

    def add(self, results: Sequence[Mined]) -> None:
        for result in results:
            self.statuses[result.status] += 1
            self.num_deep += result.positive_rank > DEEP
            self.flags.update(flag for negative in result.negatives for flag in negative.flags)

    @contextmanager
    def step(self, run: Run, name: str, number: int, detail: str = "") -> Iterator[None]:
        started = time.monotonic()
        with run.step(name, number, detail) as step:
            yield
            step.detail = f"{detail}{'; ' if detail else ''}peak memory {_peak_memory():,} MB"
        self.seconds[name] = self.seconds.get(name, 0.0) + time.monotonic() - started


class _Source:
    """One corpus, and the samples that are mined in it."""

    def __init__(self, plan: MinePlan, run: Run, tally: _Tally, steps: Steps, name: str) -> None:
        self._plan, self._run, self._tally, self._steps, self._name = plan, run, tally, steps, name
        self._corpus: Sequence[Passage] = plan.corpora.get(name, ())

    def open(self, pending: Sequence[Minable]) -> None:
        """Encode the corpus, and get the other miners ready."""
        plan, corpus = self._plan, self._corpus
        self._masks = Masks(corpus)
        self._window: Window = window(plan.settings, len(corpus))
        if (self._window.rank_min, self._window.rank_max) != (plan.settings.rank_min, plan.settings.rank_max):
            shrunk = f"ranks {self._window.rank_min} to {self._window.rank_max}"
            plan.notes.append(f"{self._name} has {len(corpus)} passages only: {shrunk}")
        queries = [sample.query for sample in pending]
        positives = [text for sample in pending for text in sample.positives]
        total = len(corpus) + len(queries) + len(positives)
        with self._steps(f"encode {self._name}", total) as advance:
            self._corpus_MD = self._encoded("passages", [passage.text for passage in corpus], advance)
            self._query_SD = self._encoded("queries", queries, advance)
            self._positive_PD = self._encoded("positives", positives, advance)
        for miner in plan.others:
            with self._tally.step(self._run, f"index for {miner.name}", len(corpus)):
                miner.open(corpus, self._steps)

    def mine(self, samples: Sequence[Minable], first: int, first_positive: int) -> list[Mined]:
        """What each of these samples gets; `first` and `first_positive` are the places of their vectors."""
        from mining.negatives import decide

        plan = self._plan
        rows = _rows(samples, each=plan.settings.positive == "each")
        positive_PD = self._positive_PD[first_positive : first_positive + sum(len(each.positives) for each in samples)]
        proposal = self._proposed(rows, self._query_SD[[first + row.number for row in rows]], positive_PD)
        refused = {"repeated": self._masks.repeated(proposal.candidates)}
        ranked, unasked_RC, cap = None, None, plan.settings.reranker_cap
        if plan.reranker:
            work = Reranking(plan.reranker, rows, self._corpus, plan.folder, plan.notes)
            with self._tally.step(self._run, "rerank", len(rows), plan.reranker.description):
                ranked = work.rerank(proposal, refused["repeated"], cap)
            refused["reranked"], unasked_RC = ranked.refused(cap), ranked.unasked()
        ids, seed = [_row_id(row) for row in rows], plan.settings.seed
        choice = decide(plan.searcher, proposal, query_ids=ids, seed=seed, refused=refused, unasked_QC=unasked_RC)
        names = [DENSE, *(miner.name for miner in plan.others)]
        return Block(plan.settings, names, rows, positive_PD, self._corpus, self._corpus_MD, choice, ranked).results()

    def _proposed(
        self, rows: Sequence[Row], query_RD: "NDArray[np.float32]", positive_PD: "NDArray[np.float32]"
    ) -> "Proposal":
        """What may be chosen for each row, by all miners."""
        import numpy as np

        from mining.filters import positive_scores
        from mining.negatives import propose

        plan = self._plan
        of_sample = {row.number: row.sample for row in rows}
        masks = {number: self._masks.rows(sample) for number, sample in of_sample.items()}
        masked = [masks[row.number] for row in rows]
        others = []
        for miner in plan.others:
            with self._tally.step(self._run, f"search by {miner.name}", len(rows)):
                others.append(miner.listed([row.sample.query for row in rows], masked, self._window.rank_max))
        pairs = [(number, place) for number, row in enumerate(rows) for place in row.places]
        which = "highest" if plan.settings.positive == "highest" else "lowest"
        with self._tally.step(self._run, "search", len(rows), plan.searcher.description):
            score_R = positive_scores(
                query_RD,
                positive_PD[[place for _, place in pairs]],
                np.array([number for number, _ in pairs], dtype=np.int64),
                which=which,
            )
            return propose(
                plan.searcher,
                query_RD,
                self._corpus_MD,
                positive_scores_Q=score_R,
                masked=masked,
                window=self._window,
                others=others,
            )

    def _encoded(self, side: str, texts: Sequence[str], advance: Callable[[int], None]) -> "NDArray[np.float32]":
        vectors = self._plan.vectors
        encode = vectors.queries if side == "queries" else vectors.passages
        with self._tally.step(self._run, f"encode {side}", len(texts), vectors.encoder.description):
            return encode(texts, advance)


def _rows(samples: Sequence[Minable], *, each: bool) -> list[Row]:
    """What is searched for: every sample, or every positive of it."""
    rows, first = [], 0
    for number, sample in enumerate(samples):
        places = range(first, first + len(sample.positives))
        if each:
            rows += [Row(number, sample, [text], [at]) for text, at in zip(sample.positives, places, strict=True)]
        else:
            rows.append(Row(number, sample, sample.positives, places))
        first += len(sample.positives)
    return rows


def _row_id(row: Row) -> UUID:
    if len(row.positives) == len(row.sample.positives):
        return text_id(row.sample.query)
    return text_id(f"{row.sample.query}\n{row.positives[0]}")


def _peak_memory() -> int:
    """Of this process, in MB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak // 1024 if sys.platform == "linux" else peak // (1 << 20)
