"""A report in words and numbers, as the screen and the page both have it."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from synth.commands.figures import counted
from synth.llm.budget import dollars
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
SCORE_COLUMNS = ("passages", "number", "lowest", "median", "highest", "as near as the positive")


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
    numbers = [f"{value:.2f}" for value in (drawn.least, drawn.median, drawn.most)]
    above = "" if scores.origin == "positive" else f"{scores.num_above:,} ({scores.num_above / drawn.num:.1%})"
    return (scores.name, f"{drawn.num:,}", *numbers, above)


def share_rows(found: Similarity) -> tuple[list[str], list[list[str]]]:
    """Column names and rows: which share of each sort of passage has which score."""
    sorts = [(each.name, each.histogram) for each in (found.positives, *found.negatives)]
    rows = []
    for place, label in enumerate(edge_labels(found)):
        shares = [drawn.counts[place] / drawn.num for _, drawn in sorts]
        rows.append([label, *(f"{share:.0%}" if share else "" for share in shares)])
    return ["score", *(name for name, _ in sorts)], rows


def edge_labels(found: Similarity) -> list[str]:
    """Between which scores the counts lie, of all sorts of passages alike."""
    all_drawn = [each.histogram for each in (found.positives, *found.negatives)]
    least, most = min(each.least for each in all_drawn), max(each.most for each in all_drawn)
    return bins(replace(found.positives.histogram, least=least, most=most))
