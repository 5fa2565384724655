"""The report of a mine run in words and numbers, as the screen and the page both have it."""

from collections.abc import Iterator, Mapping
from typing import Any

from synth.commands.figures import counted, duration
from synth.commands.mining_settings import changes_line, settings_line, spaced
from synth.commands.report_words import NOT_FORESEEN, above_share, middle, score_row
from synth.stages.report.figures import Histogram
from synth.stages.report.mining import (
    MOST_SCORED,
    Band,
    FalseNegatives,
    MiningReport,
    MiningScores,
    SourceOutcome,
    Step,
)
from synth.store.mined_before import Side
from synth.store.mining_report import DEEP, FIRST_MINER, DeepPositive, FoundNegative, MinedSample, Wanting

Rows = list[tuple[object, ...]]
STATUSES = ("full", "widened", "short", "none")
OUTCOME_COLUMNS = ("source", "samples", *STATUSES, "negatives")
FALLEN_COLUMNS = ("source", "fell because", "candidates", "a sample")
BAND_COLUMNS = ("ranks", "negatives", "judged", "false", "share", "95% confidence")
FLAG_COLUMNS = ("negatives that are", "number", "of all")
BEFORE_COLUMNS = ("of these samples", "before", "now")
ALL = "all"
POSITIVE = "positive"
FLAGS = {
    "near_positive": "near a positive",
    "near_duplicate": "of mostly the same words as a positive",
    "above_reranker": "as relevant as the positive to the reranker",
}
FALLS = {
    "capped": "at or above the cap",
    "above_window": "nearer than the window",
    "below_window": "farther than the window",
    "reranked": "refused by the reranker",
    "repeated": "the same as a nearer one but for case and punctuation",
    "not_drawn": "in the window, not drawn",
}
RELAXED = {"window": "from below the window, for want of others", "cap": "at or above the cap, for want of others"}


def run_lines(found: MiningReport) -> Iterator[str]:
    """Which run it is, what did the work, with which settings and in which time."""
    took = "" if found.seconds is None else f" in {_seconds(found.seconds)}"
    yield f"mine {found.run_id}: {found.status}{took}"
    if found.reason or found.status == "failed":
        yield found.reason or NOT_FORESEEN
    yield found.device or found.model
    if found.settings:
        yield settings_line(found.settings)
    yield from (_step(each, found.device) for each in found.steps)


def outcome_line(found: SourceOutcome) -> str:
    """How many samples were mined, and what they got."""
    told = [f"{found.statuses[name]:,} {name}" for name in _statuses(found)]
    samples, negatives = counted(found.num_samples, "sample"), counted(found.num_negatives, "negative")
    return f"{samples}: {', '.join(told) or 'nothing stored'}; {negatives}"


def outcome_rows(found: MiningReport) -> Rows:
    """Of each source, by OUTCOME_COLUMNS; nothing where there is only one."""
    if len(found.sources) < 2:
        return []
    return [
        (each.source, each.num_samples, *(each.statuses.get(name, 0) for name in STATUSES), each.num_negatives)
        for each in found.sources
    ]


def shrunk_lines(found: MiningReport) -> Iterator[str]:
    """In which sources the window of ranks was another than that asked for."""
    for each in found.sources:
        if each.shrunk is not None:
            first, last = each.shrunk.rank_min, each.shrunk.rank_max
            corpus = counted(each.shrunk.num_passages, "passage")
            yield f"{each.source}: ranks {first} to {last}, since its corpus has only {corpus}"


def fallen_line(found: MiningReport) -> str:
    """Of how many candidates, which a run of an earlier version did not keep; "" where nothing was mined."""
    of = found.outcome
    if not of.num_samples:
        return ""
    if of.num_candidates is None:
        return "why candidates fell is not stored: the run is of an earlier version"
    each = of.num_candidates / of.num_samples
    why = "and why they fell" if of.fallen else "none fell"
    return f"{counted(of.num_candidates, 'candidate')} ({each:,.0f} a sample), {why}"


def fallen_rows(found: MiningReport) -> Rows:
    """For which reason candidates fell, in all and by source if there are several, by FALLEN_COLUMNS."""
    parts = [found.outcome, *(found.sources if len(found.sources) > 1 else ())]
    return [
        (part.source or ALL, fall_words(reason), num, f"{num / part.num_samples:,.1f}")
        for part in parts
        for reason, num in part.fallen.items()
    ]


def wanting_lines(found: MiningReport) -> Iterator[str]:
    """How many samples have fewer negatives than asked for, and why."""
    num = sum(found.outcome.statuses.get(name, 0) for name in ("short", "none"))
    if not num:
        return
    asked = found.settings.get("num_negatives")
    than = f"the {asked} that were asked for" if asked else "were asked for"
    share = num / found.outcome.num_samples
    yield f"{counted(num, 'sample')} ({share:.1%}) got fewer negatives than {than} (N is any number):"
    for each in found.reasons:
        yield f"{each.num:,}: {each.reason}"


def wanting_title(each: Wanting) -> str:
    """What stands above a sample with fewer negatives than asked for."""
    return f"sample {each.sample_id}: {counted(each.num_negatives, 'negative')}"


def candidate_rows(each: Wanting, most: int) -> list[tuple[str, str]]:
    """The best candidates of a sample that were not taken: where they stand and why they fell, and their texts."""
    return [
        (f"rank {candidate.rank:,}, score {candidate.score:z.2f}: {fall_words(candidate.reason)}", candidate.text)
        for candidate in each.candidates[:most]
    ]


def positive_lines(found: MiningReport) -> Iterator[str]:
    """How deep positives lie; nothing where no rank is stored."""
    positives = found.positives
    if not positives.num or positives.median_rank is None:
        return
    share = positives.num_deep / positives.num
    told = f"{positives.num_deep:,} of {positives.num:,} ({share:.1%}) have a rank above {DEEP}"
    yield f"positives: median rank {positives.median_rank:,.0f}; {told}"
    if positives.num_deep:
        yield (
            f"of these pairs the miner takes {DEEP} passages to be nearer to the query than its positive: they may be"
            " bad pairs. The deepest:"
        )


def deep_title(each: DeepPositive) -> str:
    """What stands above a positive that lies deep."""
    of = "" if each.num_candidates is None else f" of {each.num_candidates:,}"
    score = "" if each.score is None else f", score {each.score:z.2f}"
    return f"sample {each.sample_id}: rank {each.rank:,}{of}{score}"


def score_lines(found: MiningReport) -> Iterator[str]:
    """Of what scores are, and that they were drawn where they were."""
    drawn = " drawn at random" if found.outcome.num_negatives > MOST_SCORED else ""
    yield f"scores (cosines) of positives and negatives{drawn}, between the same edges"


def score_sorts(found: MiningScores) -> list[tuple[str, Histogram]]:
    """Each sort of passage by name, the positives first."""
    return [(POSITIVE, found.positives), *((each.found_by, each.histogram) for each in found.negatives)]


def score_rows(found: MiningScores) -> list[tuple[str, ...]]:
    """Of each sort of passage, by SCORE_COLUMNS; the positives first."""
    negatives = [
        score_row(each.found_by, each.histogram, above_share(each.num_above, each.histogram))
        for each in found.negatives
    ]
    return [score_row(POSITIVE, found.positives, ""), *negatives]


def sort_title(name: str, drawn: Histogram) -> str:
    """What stands above the bars of one sort of passage."""
    what = "positives" if name == POSITIVE else f"negatives, {name}"
    return f"{what}, {drawn.num:,}: {middle(drawn)}"


def false_lines(found: MiningReport) -> Iterator[str]:
    """How to learn which negatives are false, where nobody looked at them."""
    if not found.false_negatives and found.outcome.num_negatives:
        yield (
            "how many negatives are false is not known: nobody judged them yet. `synth judge --limit 200` has an LLM"
            " grade those of 200 samples drawn at random, with --encoder a cross-encoder on this machine, and `synth"
            " review` asks people"
        )


def judged_title(found: FalseNegatives) -> str:
    """Whose word it is, and whose ranks they are."""
    return f"false negatives by rank in the list of {FIRST_MINER}, in the eyes of {found.judged_by}"


def band_rows(found: FalseNegatives) -> list[tuple[str, ...]]:
    """Of each band of ranks and of all, by BAND_COLUMNS."""
    bands = [*found.bands, *found.others]
    return [*(_band_row(band_name(each), each) for each in bands), _band_row(ALL, found.all_ranks)]


def band_name(each: Band) -> str:
    """Its ranks in words, or who found what has no rank of the first miner."""
    if each.found_by:
        return f"only {each.found_by}"
    return f"{each.first} and deeper" if each.last is None else f"{each.first} to {each.last}"


def flag_line(found: MiningReport) -> str:
    """How many negatives a judge and people should look at."""
    num = found.outcome.num_negatives
    if not num:
        return ""
    if not found.num_flagged:
        return "no negative is flagged"
    share = found.num_flagged / num
    told = f"{found.num_flagged:,} of {counted(num, 'negative')} ({share:.1%}) are flagged"
    return f"{told}: `synth review --queue flagged` shows them to people"


def flag_rows(found: MiningReport) -> Rows:
    """Negatives by flag, and those that a rule was given up for, by FLAG_COLUMNS."""
    told = [(FLAGS.get(name, spaced(name)), num) for name, num in found.flags.items()]
    told += [(RELAXED.get(name, spaced(name)), num) for name, num in found.relaxed.items()]
    return [(name, num, f"{num / found.outcome.num_negatives:.1%}") for name, num in told]


def sample_title(each: MinedSample) -> str:
    """What stands above a sample that is shown."""
    rank = f"; positive of rank {each.positive_rank:,}" if each.positive_rank else ""
    score = "" if each.positive_score is None else f", score {each.positive_score:z.2f}"
    return f"sample {each.sample_id}: {each.status}{rank}{score}"


def positive_name(each: MinedSample) -> str:
    """What the positive that is shown is called."""
    return POSITIVE if each.num_positives == 1 else f"positive, one of {each.num_positives:,}"


def negative_notes(each: FoundNegative) -> list[str]:
    """Where a negative stands, who found it, and why it should be looked at."""
    names = [miner["miner"] for miner in each.miners]
    by = "" if FIRST_MINER in names or not names else f" by {' or '.join(names)}"
    notes = [f"negative, rank {each.rank:,}{by}, score {each.score:z.2f}"]
    if [miner["rank"] for miner in each.miners] not in ([], [each.rank]):  # one miner's rank is told already
        notes.append(", ".join(_miner(miner) for miner in each.miners))
    notes += [_flag(name, each) for name in each.flags]
    notes += [f"relaxed: {spaced(name)}" for name in each.relaxed]
    return notes


def before_lines(found: MiningReport) -> Iterator[str]:
    """Which mining there was before, and what was found anew of it."""
    before = found.before
    if before is None:
        return
    runs = ", ".join(str(each) for each in before.run_ids)
    by = f"{', '.join(before.encoders)} ({'run' if len(before.run_ids) == 1 else 'runs'} {runs})"
    yield f"mined before by {by}: {before.num_samples:,} of these samples"
    yield changes_line(before.changes)
    if before.before.num_negatives:
        others = before.num_kept - before.num_nearer - before.num_farther - before.num_same
        unranked = f", {others:,} not found by {FIRST_MINER} both times" if others else ""
        yield (
            f"of {counted(before.before.num_negatives, 'negative')} before, {before.num_kept:,}"
            f" ({before.num_kept / before.before.num_negatives:.1%}) were found now as well: {before.num_nearer:,}"
            f" nearer by rank, {before.num_farther:,} farther, {before.num_same:,} at the same rank{unranked}"
        )
    if list(before.encoders) != [found.model]:
        yield "the scores of two encoders are on two scales: compare distances within one, not scores"


def before_rows(found: MiningReport) -> list[tuple[str, str, str]]:
    """Both minings of the same samples, by BEFORE_COLUMNS."""
    if found.before is None:
        return []
    before, now = found.before.before, found.before.now
    measures = (
        ("mean rank of the positive", "positive_rank", ",.1f"),
        (f"positives of a rank above {DEEP}", "num_deep", ","),
        ("mean score of the positive", "positive_score", "z.3f"),
        ("negatives", "num_negatives", ","),
        ("mean score of negatives", "negative_score", "z.3f"),
        ("mean distance below the positive", "distance", "z.3f"),
        ("samples with too few negatives", "num_wanting", ","),
    )
    return [(name, _measured(before, field, how), _measured(now, field, how)) for name, field, how in measures]


def fall_words(reason: str) -> str:
    """Why a candidate fell."""
    return FALLS.get(reason, spaced(reason))


def _measured(side: Side, field: str, how: str) -> str:
    value = getattr(side, field)
    return "" if value is None else format(value, how)


def _band_row(name: str, each: Band) -> tuple[str, ...]:
    share = "" if each.share is None else f"{each.share:.1%}"
    between = "" if each.low is None or each.high is None else f"{each.low:.1%} to {each.high:.1%}"
    return (name, f"{each.num:,}", f"{each.num_judged:,}", f"{each.num_false:,}", share, between)


def _flag(name: str, each: FoundNegative) -> str:
    match name:
        case "near_positive" if each.positive_similarity is not None:
            return f"cosine {each.positive_similarity:z.2f} with a positive"
        case "near_duplicate" if each.overlap is not None:
            return f"{each.overlap:.0%} of words in common with a positive"
        case "above_reranker" if each.relevance is not None and each.positive_relevance is not None:
            return f"reranker {each.relevance:.2f}, positive {each.positive_relevance:.2f}"
    return spaced(name)


def _miner(miner: Mapping[str, Any]) -> str:
    return f"{miner['miner']} rank {miner['rank']:,}"


def _statuses(found: SourceOutcome) -> list[str]:
    """Those that there are, in the order of how much was found."""
    return sorted(found.statuses, key=lambda name: (STATUSES.index(name) if name in STATUSES else len(STATUSES), name))


def _step(each: Step, device: str) -> str:
    """What the run says of its device is not said again of its steps."""
    number = f"{each.number:,} in " if each.number else ""
    detail = each.detail.removeprefix(device).removeprefix("; ") if device else each.detail
    return f"{each.step}: {number}{_seconds(each.seconds)}{f'; {detail}' if detail else ''}"


def _seconds(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 59.95 else duration(seconds)
