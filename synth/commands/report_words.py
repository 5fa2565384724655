"""A report in words and numbers, as the screen and the page both have it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from synth.commands.figures import counted
from synth.llm.budget import dollars
from synth.stages.report.agreement import Outlier, SourceAgreement
from synth.stages.report.figures import Histogram
from synth.stages.report.leak import FEWEST_PAIRS
from synth.stages.report.run import DIFFERENCE, LENGTH, MOST_COMPARED, WORDS, Outcome, Report, Spread
from synth.stages.report.scores import Scores, Similarity
from synth.store.run_report import HARD_NEGATIVE, Shown

IN_PERCENT = {LENGTH, DIFFERENCE}
TITLES = {
    LENGTH: "length of {of}, longer (+) or shorter (-) than the {original}'s",
    DIFFERENCE: "difference of {of} from the {original}",
    WORDS: "words of {of}",
}
NOT_FORESEEN = "why is not stored: an error that nobody foresaw ended it, and was shown where it ran"
SCORE_COLUMNS = ("passages", "number", "as near as the positive", "lowest", "median", "highest")
BAND_COLUMNS = ("score", "number", "lowest cosine", "median", "highest")


def outcome_lines(found: Outcome) -> Iterator[str]:
    """What was made, of how many seeds, and what it cost."""
    yield f"generate {found.run_id}: {found.status}"
    if found.reason or found.status == "failed":
        yield found.reason or NOT_FORESEEN
    yield f"{' '.join(filter(None, (found.task, found.operation)))} by {found.model}, prompt {found.prompt_version}"
    yield _seeds(found)
    if found.tries:
        tries = ", ".join(f"{number:,} for {counted(seeds, 'seed')}" for number, seeds in sorted(found.tries.items()))
        yield f"tries: {tries}"
    if found.num_offered:
        num_rejected = found.num_offered - found.num_accepted
        yield (
            f"offered {found.num_offered:,}: {found.num_accepted:,} accepted"
            f" ({found.num_accepted / found.num_offered:.1%}), {num_rejected:,} rejected"
            f" ({num_rejected / found.num_offered:.1%})"
        )
    made = [counted(found.num_samples, "sample")] if found.num_samples or not found.num_negatives else []
    made += [counted(found.num_negatives, "negative")] if found.num_negatives else []
    known = (
        "" if found.num_known is None else f"; {found.num_known:,} {'was' if found.num_known == 1 else 'were'} known"
    )
    yield f"stored {' and '.join(made)}{known}"
    yield from _costs(found)


def failed_since_line(run: Mapping[str, Any]) -> str:
    """That a later run than the one that is told brought nothing."""
    return f"the latest run, {run['run_id']}, failed and brought nothing: {run['reason'] or NOT_FORESEEN}"


def _seeds(found: Outcome) -> str:
    parts = [f"{found.num_done:,} done"]
    if found.num_short is not None:
        parts[0] += f" ({found.num_short:,} short of what was asked for)"
    parts += [f"{found.num_failed:,} failed"] if found.num_failed else []
    parts += [f"{found.num_begun:,} begun"] if found.num_begun else []
    parts += [f"{found.num_not_reached:,} not reached"] if found.num_not_reached else []
    return f"{counted(found.num_seeds, 'seed')}: {', '.join(parts)}"


def _costs(found: Outcome) -> Iterator[str]:
    if not found.requests:
        return
    cost = "no price stated" if found.cost is None else dollars(found.cost)
    yield f"{counted(found.requests, 'request')}, {found.tokens_in:,} tokens in, {found.tokens_out:,} out: {cost}"
    if found.tokens_per_stored is not None:
        price = "" if found.cost_per_stored is None else f", {dollars(found.cost_per_stored)}"
        yield f"each {found.stored_unit} stored took {found.tokens_per_stored:,.0f} tokens{price}"


def spread_title(found: Report, spread: Spread) -> str:
    """What a distribution is of, and of how many."""
    original = "original passage" if spread.of == HARD_NEGATIVE else "original"
    of = spread.of if spread.of[-1].isdigit() else f"the {spread.of}"
    drawn = " drawn at random" if found.num_compared == MOST_COMPARED else ""
    return f"{TITLES[spread.measure].format(of=of, original=original)}, of {spread.histogram.num:,}{drawn}"


def bins(found: Histogram, measure: str = "") -> list[str]:
    """Between what the values of each count lie, in words."""
    percent = measure in IN_PERCENT
    digits = 0 if percent or found.edges[1] - found.edges[0] >= 1 else 2

    def told(value: float) -> str:
        value = 0.0 if abs(value) < 1e-9 else value
        return f"{value:{'+' if measure == LENGTH and value else ''}.{digits}{'%' if percent else 'f'}}"

    labels = []
    for place in range(len(found.counts)):
        low, high = found.bound(place)
        if found.is_whole and low is not None and high is not None:
            labels.append(told(low) if high - low == 1 else f"{told(low)} to {told(high - 1)}")
        elif low is None and high is None:
            labels.append(f"{told(found.least)} to {told(found.most)}")
        elif low is None:
            labels.append(f"below {told(found.edges[place + 1])}")
        elif high is None:
            labels.append(f"{told(low)} and more")
        else:
            labels.append(f"{told(low)} to {told(high)}")
    return labels


def middle(found: Histogram, measure: str = "") -> str:
    """The median, and between what all values lie."""
    kind = ".1%" if measure in IN_PERCENT else ".4g" if measure else ".2f"
    return f"median {found.median:{kind}}, {found.least:{kind}} to {found.most:{kind}}"


def script_rows(found: Spread) -> list[tuple[str, int, str]]:
    """Of each script: how many texts, and where they lie."""
    return [(script, each.num, middle(each, found.measure)) for script, each in found.by_script.items()]


def shown_title(found: Shown) -> str:
    """What stands above a text that was accepted or rejected."""
    if found.reason:
        return f"rejected: {found.reason}"
    return f"{found.thing} of {found.sample_id}" if found.thing == "negative" else f"{found.thing} {found.sample_id}"


def leak_lines(found: Report) -> Iterator[str]:
    """Whether written passages can be told from real ones; nothing where an LLM wrote none."""
    leak = found.source_leak
    if leak is None:
        if found.num_written:
            told = counted(found.num_written, "real passage was", "real passages were")
            yield f"{told} written anew: too few to try to tell the two apart (at least {FEWEST_PAIRS})"
        return
    yield (
        f"a classifier tells the passages that an LLM wrote from the {leak.num_pairs:,} real ones that they were made"
        f" from in {leak.accuracy:.0%} of cases ({leak.low:.0%} to {leak.high:.0%}, with 95% confidence); chance is 50%"
    )
    if leak.is_above_chance:
        yield (
            "warning: above chance. A model trained on them may learn who wrote a passage and not what it says: mix"
            " them with mined negatives, and look at what gives them away"
        )


def similarity_lines(found: Similarity) -> Iterator[str]:
    """The encoder, and how many pairs score too low for it."""
    yield f"encoder: {found.encoder}"
    pairs = found.positives.histogram
    yield f"{counted(pairs.num, 'pair')} of query and positive: {middle(pairs)}"
    if found.threshold is not None and found.num_below is not None:
        yield f"{found.num_below:,} ({found.num_below / pairs.num:.1%}) score below {found.threshold:g}"
    else:
        yield "no threshold is known for this encoder: see where bad pairs begin, and give it as --threshold"
    yield from found.notes


def score_rows(found: Similarity) -> list[tuple[str, ...]]:
    """Of each sort of passage, by SCORE_COLUMNS; the positives first."""
    return [_score_row(each) for each in (found.positives, *found.negatives)]


def _score_row(scores: Scores) -> tuple[str, ...]:
    drawn = scores.histogram
    above = "" if scores.origin == "positive" else above_share(scores.num_above, drawn)
    return score_row(scores.name, drawn, above)


def score_row(name: str, drawn: Histogram, above: str) -> tuple[str, ...]:
    """A sort of passage by SCORE_COLUMNS."""
    number, *where = _numbers(drawn)
    return (name, number, above, *where)


def above_share(num_above: int, drawn: Histogram) -> str:
    """How many of a sort of negative are as near as the positive."""
    return f"{num_above:,} ({num_above / drawn.num:.1%})"


def _numbers(drawn: Histogram) -> list[str]:
    return [f"{drawn.num:,}", *(f"{value:z.2f}" for value in (drawn.least, drawn.median, drawn.most))]


def agreement_line(found: SourceAgreement) -> str:
    """How many pairs of a source there are, and how far their scores and cosines go together."""
    if found.spearman is None:
        told = f"no rank correlation of score and cosine: {found.reason}"
    else:
        told = f"Spearman's rank correlation of score and cosine is {found.spearman:z.3f}"
    return f"{counted(found.all_pairs.num, 'pair')}; {told}"


def band_rows(found: SourceAgreement) -> list[tuple[str, ...]]:
    """Of all pairs and of each band of scores, by BAND_COLUMNS."""
    return [(name, *_numbers(drawn)) for name, drawn in found.sorts]


def outlier_heading(found: SourceAgreement) -> str:
    """What stands above the pairs that are against the correlation."""
    return f"{counted(len(found.outliers), 'pair')} of {found.source}, farthest apart by rank: look at these first"


def outlier_title(each: Outlier, num_pairs: int) -> str:
    """Which sample it is, and where it stands by score and by cosine."""
    return (
        f"sample {each.sample_id}: score {each.score:zg} has {_ranks(*each.score_ranks)} of {num_pairs:,},"
        f" cosine {each.cosine:z.2f} has {_ranks(*each.cosine_ranks)}"
    )


def _ranks(first: int, last: int) -> str:
    return f"rank {first:,}" if first == last else f"ranks {first:,} to {last:,}"


def share_rows(sorts: Sequence[tuple[str, Histogram]], measure: str = "score") -> tuple[list[str], list[list[str]]]:
    """Column names and rows: which share of each sort lies where, by a measure; all sorts have the same edges."""
    rows = []
    for place, label in enumerate(edge_labels(sorts)):
        shares = [drawn.counts[place] / drawn.num for _, drawn in sorts]
        rows.append([label, *(f"{share:.0%}" if share else "" for share in shares)])
    return [measure, *(name for name, _ in sorts)], rows


def edge_labels(sorts: Sequence[tuple[str, Histogram]]) -> list[str]:
    """Between which values the counts lie, of all sorts alike."""
    drawn = [each for _, each in sorts]
    return bins(replace(drawn[0], least=min(each.least for each in drawn), most=max(each.most for each in drawn)))
