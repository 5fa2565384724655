"""What became of a mine run: which samples got negatives, why candidates fell, how near all lies, and what is false."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any
from uuid import UUID

from synth.stages.mine.settings import settings_of
from synth.stages.report.figures import Histogram, histogram, shared_edges
from synth.stages.report.leak import wilson
from synth.store import mining_report
from synth.store.connection import Store
from synth.store.mined_before import MinedBefore, mined_before
from synth.store.mining_report import DEEP, DeepPositive, MinedSample, Wanting

MOST_SCORED = 20_000
NUM_EXAMPLES = 10
NUM_WANTING, NUM_REASONS = 3, 5
NUM_DEEPEST = 5
RANK_BANDS = ((1, 5), (6, 10), (11, 20), (21, 30), (31, 50), (51, None))


@dataclass(frozen=True, slots=True)
class Step:
    """What a run did in which time; `number` of texts, queries or pairs; `detail` states device, precision, memory."""

    step: str
    detail: str
    seconds: float
    number: int


@dataclass(frozen=True, slots=True)
class Shrunk:
    """The window of ranks in a corpus that is too small for that asked for."""

    num_passages: int
    rank_min: int
    rank_max: int


@dataclass(frozen=True, slots=True)
class SourceOutcome:
    """
    The samples that were mined, of a source or (`source` is "") of all: by status (full, widened, short, none), with
    the candidates they had (None: not stored) and how many of these fell for which reason. `shrunk` is None where the
    window was that asked for, or nothing is known of the corpus.
    """

    source: str
    num_samples: int
    statuses: Mapping[str, int]
    num_negatives: int
    num_candidates: int | None
    fallen: Mapping[str, int]
    shrunk: Shrunk | None = None


@dataclass(frozen=True, slots=True)
class Reason:
    """Why samples have fewer negatives than asked for, N for any number, and how many."""

    reason: str
    num: int


@dataclass(frozen=True, slots=True)
class Positives:
    """The ranks of the positives of `num` samples, of which `num_deep` lie above mining_report.DEEP."""

    num: int
    num_deep: int
    median_rank: float | None
    deepest: Sequence[DeepPositive]


@dataclass(frozen=True, slots=True)
class MinerScores:
    """Scores of the negatives that one miner, or several, found; `num_above` as high as the positive or higher."""

    found_by: str
    histogram: Histogram
    num_above: int


@dataclass(frozen=True, slots=True)
class MiningScores:
    """Cosines of queries with positives (of several the lowest) and with negatives, all between the same edges."""

    positives: Histogram
    negatives: Sequence[MinerScores]


@dataclass(frozen=True, slots=True)
class Band:
    """
    Negatives of the ranks `first` to `last` (None: and all beyond) in the list of the first miner, or those that only
    `found_by` found; how many of them were judged, how many of these are false negatives, and with 95 % confidence
    between which shares that lies. `share` is None where none was judged.
    """

    first: int
    last: int | None
    num: int
    num_judged: int
    num_false: int
    share: float | None
    low: float | None
    high: float | None
    found_by: str = ""


@dataclass(frozen=True, slots=True)
class FalseNegatives:
    """
    What one judge, or reviewers, found to be false negatives: by band of ranks, of `others` that the first miner did
    not find, and of all.
    """

    judged_by: str
    bands: Sequence[Band]
    others: Sequence[Band]
    all_ranks: Band


@dataclass(frozen=True, slots=True)
class MiningReport:
    """
    A mine run: what it was asked for (`settings`), what did it (`device` states the encoder) and in which `steps`; its
    `outcome`, also by source; samples left with fewer negatives than asked for, the most frequent reasons and a draw;
    how deep positives lie; scores (None: nothing has any); false negatives, by who judged; negatives by flag, and those
    that a rule was given up for; a draw of samples; and an earlier mining of the same samples, if there was one.
    """

    run_id: UUID
    started_at: datetime  # UTC
    status: str
    reason: str
    seconds: float | None
    model: str
    device: str
    settings: Mapping[str, Any]
    steps: Sequence[Step]
    outcome: SourceOutcome
    sources: Sequence[SourceOutcome]
    reasons: Sequence[Reason]
    wanting: Sequence[Wanting]
    positives: Positives
    scores: MiningScores | None
    false_negatives: Sequence[FalseNegatives]
    num_flagged: int
    flags: Mapping[str, int]
    relaxed: Mapping[str, int]
    examples: Sequence[MinedSample]
    before: MinedBefore | None


def mining_report_of(store: Store, run_id: UUID, *, seed: int) -> MiningReport:
    """What became of the mine run; `seed` draws examples and, of very many, scores."""
    told = mining_report.mining_counts(store, run_id)
    reasons, short = mining_report.wanting(store, run_id, num_reasons=NUM_REASONS, limit=NUM_WANTING, seed=seed)
    sources = _with_windows(_outcomes(told["outcomes"], told["fallen"]), told)
    ranks = told["positives"]
    flags = {of: {row["name"]: row["num"] for row in told["flags"] if row["of"] == of} for of in ("flag", "relaxed")}
    return MiningReport(
        run_id=run_id,
        started_at=told["started_at"],
        status=told["status"],
        reason=told["reason"] or "",
        seconds=told["seconds"],
        model=told["model"] or "",
        device=told["device"] or "",
        settings=told["config"] or {},
        steps=[Step(**row) for row in told["steps"]],
        outcome=_sum(sources),
        sources=sources,
        reasons=[Reason(**row) for row in reasons],
        wanting=short,
        positives=Positives(
            ranks["num"],
            ranks["num_deep"],
            ranks["median"],
            mining_report.deepest_positives(store, run_id, limit=NUM_DEEPEST),
        ),
        scores=_scores(*mining_report.drawn_scores(store, run_id, limit=MOST_SCORED, seed=seed)),
        false_negatives=false_negatives(told["ranks"], told["judged"]),
        num_flagged=next(row["num"] for row in told["flags"] if row["of"] == "flagged"),
        flags=flags["flag"],
        relaxed=flags["relaxed"],
        examples=mining_report.drawn_samples(store, run_id, limit=NUM_EXAMPLES, seed=seed),
        before=mined_before(store, run_id),
    )


def as_json(found: MiningReport) -> dict[str, Any]:
    """All of it, for machines, with the rank that counts as deep."""
    told = asdict(found)
    told["positives"]["deep"] = DEEP
    return told


def false_negatives(ranks: Sequence[Mapping[str, Any]], judged: Sequence[Mapping[str, Any]]) -> list[FalseNegatives]:
    """
    How many of the negatives that somebody judged are false, for each who judged.

    Args:
        ranks: of all negatives, `num` of each `rank` and `found_by` ("": the rank is the first miner's).
        judged: who (`judged_by`) judged `num` of these, and found `num_false` of them false.
    """
    found = []
    for name in dict.fromkeys(row["judged_by"] for row in judged):
        rows = [row for row in judged if row["judged_by"] == name]
        bands = [_band(_of_miner(ranks, ""), _of_miner(rows, ""), first, last) for first, last in RANK_BANDS]
        miners = [miner for miner in dict.fromkeys(row["found_by"] for row in ranks) if miner]
        others = [_band(_of_miner(ranks, miner), _of_miner(rows, miner), found_by=miner) for miner in miners]
        found.append(FalseNegatives(name, [band for band in bands if band.num], others, _band(ranks, rows)))
    return found


def _of_miner(rows: Sequence[Mapping[str, Any]], found_by: str) -> list[Mapping[str, Any]]:
    return [row for row in rows if row["found_by"] == found_by]


def _band(
    ranks: Sequence[Mapping[str, Any]],
    judged: Sequence[Mapping[str, Any]],
    first: int = 1,
    last: int | None = None,
    found_by: str = "",
) -> Band:
    def within(rows: Sequence[Mapping[str, Any]], name: str) -> int:
        return sum(row[name] for row in rows if row["rank"] >= first and (last is None or row["rank"] <= last))

    num_judged, num_false = within(judged, "num"), within(judged, "num_false")
    share = num_false / num_judged if num_judged else None
    low, high = (None, None) if share is None else wilson(share, num_judged)
    return Band(first, last, within(ranks, "num"), num_judged, num_false, share, low, high, found_by)


def _outcomes(outcomes: Sequence[Mapping[str, Any]], fallen: Sequence[Mapping[str, Any]]) -> list[SourceOutcome]:
    found = []
    for name in dict.fromkeys(row["source"] for row in outcomes):
        rows = [row for row in outcomes if row["source"] == name]
        candidates = [row["num_candidates"] for row in rows]
        found.append(
            SourceOutcome(
                source=name,
                num_samples=sum(row["num_samples"] for row in rows),
                statuses={row["status"]: row["num_samples"] for row in rows},
                num_negatives=sum(row["num_negatives"] for row in rows),
                num_candidates=None if None in candidates else sum(candidates),
                fallen={row["reason"]: row["num"] for row in fallen if row["source"] == name},
            )
        )
    return found


def _with_windows(sources: Sequence[SourceOutcome], told: Mapping[str, Any]) -> list[SourceOutcome]:
    """The sources with the windows that were smaller than asked for; a run that failed may have encoded one more."""
    settings = settings_of(told["config"] or {})
    sizes = [row["num_passages"] for row in told["corpora"]]
    if len(sizes) != len(sources) and (told["status"] == "done" or len(sizes) != len(sources) + 1):
        return list(sources)
    found = []
    for each, size in zip(sources, sizes, strict=False):
        window = settings.ranks_in(size)
        is_smaller = window != (settings.rank_min, settings.rank_max)
        found.append(replace(each, shrunk=Shrunk(size, *window) if is_smaller else None))
    return found


def _sum(sources: Sequence[SourceOutcome]) -> SourceOutcome:
    statuses: dict[str, int] = {}
    fallen: dict[str, int] = {}
    for each in sources:
        for total, part in ((statuses, each.statuses), (fallen, each.fallen)):
            for name, num in part.items():
                total[name] = total.get(name, 0) + num
    candidates = [each.num_candidates for each in sources]
    return SourceOutcome(
        source="",
        num_samples=sum(each.num_samples for each in sources),
        statuses=statuses,
        num_negatives=sum(each.num_negatives for each in sources),
        num_candidates=None if None in candidates else sum(each or 0 for each in candidates),
        fallen=dict(sorted(fallen.items(), key=lambda each: (-each[1], each[0]))),
    )


def _scores(positives: Sequence[float], negatives: Sequence[tuple[str, float, float | None]]) -> MiningScores | None:
    by_miner: dict[str, list[tuple[float, float | None]]] = {}
    for found_by, score, positive in negatives:
        by_miner.setdefault(found_by, []).append((score, positive))
    if not positives:
        return None
    edges = shared_edges([positives, [score for _, score, _ in negatives]])
    of_positives = histogram(positives, edges)
    assert of_positives is not None
    told = []
    for found_by, scored in sorted(by_miner.items(), key=lambda each: (-len(each[1]), each[0])):
        drawn = histogram([score for score, _ in scored], edges)
        assert drawn is not None
        num_above = sum(positive is not None and score >= positive for score, positive in scored)
        told.append(MinerScores(found_by, drawn, num_above))
    return MiningScores(of_positives, told)
