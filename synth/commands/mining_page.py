"""The report of a mine run as one HTML page."""

from collections.abc import Iterable, Iterator

from synth.commands.mining_words import (
    BAND_COLUMNS,
    BEFORE_COLUMNS,
    FALLEN_COLUMNS,
    FLAG_COLUMNS,
    OUTCOME_COLUMNS,
    band_name,
    band_rows,
    before_lines,
    before_rows,
    candidate_rows,
    deep_title,
    fallen_line,
    fallen_rows,
    false_lines,
    flag_line,
    flag_rows,
    judged_title,
    negative_notes,
    outcome_line,
    outcome_rows,
    positive_lines,
    positive_name,
    run_lines,
    sample_title,
    score_lines,
    score_rows,
    score_sorts,
    shrunk_lines,
    sort_title,
    wanting_lines,
    wanting_title,
)
from synth.commands.page_parts import (
    COLOURS,
    Bar,
    document,
    drawn_bars,
    drawn_histogram,
    escaped,
    figure,
    named,
    paragraphs,
    table,
    titled,
)
from synth.commands.report_words import SCORE_COLUMNS, edge_labels
from synth.stages.report.mining import FalseNegatives, MiningReport

MOST_CANDIDATES = 5  # of a sample with too few negatives; --json has all that are stored
NOTES_AND_TEXTS = '<table class="texts"><colgroup><col class="notes"><col></colgroup>'


def page(found: MiningReport, *, workspace: str) -> str:
    """The page, which names the workspace."""
    title = f"mined by {found.model}" if found.model else "mined"
    begun = f"workspace {workspace}, started {found.started_at:%Y-%m-%d %H:%M} UTC"
    parts = [
        f"<h1>{escaped(title)}</h1>",
        *paragraphs([begun, *run_lines(found)]),
        *_outcome(found),
        *_scores(found),
        *_false_negatives(found),
        *_flags(found),
        *_before(found),
        *_wanting(found),
        *_positives(found),
        *_samples(found),
    ]
    return document(title, parts)


def _outcome(found: MiningReport) -> Iterator[str]:
    yield "<h2>What samples got</h2>"
    yield from paragraphs([outcome_line(found.outcome)])
    if rows := outcome_rows(found):
        yield table(OUTCOME_COLUMNS, rows)
    yield from paragraphs(shrunk_lines(found))
    yield from paragraphs(filter(None, [fallen_line(found)]))
    if rows := fallen_rows(found):
        yield table(FALLEN_COLUMNS, rows, num_words=2)


def _wanting(found: MiningReport) -> Iterator[str]:
    if not found.reasons:
        return
    yield "<h2>Samples with fewer negatives than asked for</h2>"
    yield from paragraphs(wanting_lines(found))
    yield NOTES_AND_TEXTS
    for each in found.wanting:
        yield titled([wanting_title(each)])
        yield _row(["query"], each.query)
        yield _row(["why"], each.reason)
        yield from (_row([told], text) for told, text in candidate_rows(each, MOST_CANDIDATES))
        yield "</tbody>"
    yield "</table>"


def _positives(found: MiningReport) -> Iterator[str]:
    lines = list(positive_lines(found))
    if not lines:
        return
    yield "<h2>Positives deep down</h2>"
    yield from paragraphs(lines)
    yield '<table class="texts">'
    for each in found.positives.deepest:
        yield titled([deep_title(each)])
        yield f"<tr><td>{named('query', each.query)}</td><td>{named('positive', each.positive)}</td></tr></tbody>"
    yield "</table>"


def _scores(found: MiningReport) -> Iterator[str]:
    if found.scores is None:
        return
    yield "<h2>How near positives and negatives are to their queries</h2>"
    yield from paragraphs(score_lines(found))
    yield table(SCORE_COLUMNS, score_rows(found.scores))
    yield '<div class="figures">'
    sorts, positives = score_sorts(found.scores), found.scores.positives
    for number, (name, drawn) in enumerate(sorts):
        compared = "" if drawn is positives else "; the outline is that of the positives"
        bars = drawn_histogram(drawn, edge_labels(sorts), COLOURS[number % len(COLOURS)], positives)
        yield figure(f"{sort_title(name, drawn)}{compared}", bars)
    yield "</div>"


def _false_negatives(found: MiningReport) -> Iterator[str]:
    yield "<h2>How many negatives are false</h2>"
    yield from paragraphs(false_lines(found))
    for each in found.false_negatives:
        yield f"<h3>{escaped(judged_title(each))}</h3>"
        yield table(BAND_COLUMNS, band_rows(each))
        yield from _shares(each)


def _shares(found: FalseNegatives) -> Iterator[str]:
    """The share of each band as a bar, its outline up to the upper end of the interval."""
    bars = {
        band_name(each): Bar(each.share, f"{each.share:.1%}, up to {each.high:.1%}", each.high)
        for each in [*found.bands, *found.others]
        if each.share is not None and each.high is not None
    }
    if bars:
        drawn = drawn_bars(list(bars), list(bars.values()), COLOURS[1])
        yield figure("share of false ones by rank; the outline ends where the interval does", drawn)


def _flags(found: MiningReport) -> Iterator[str]:
    if line := flag_line(found):
        yield "<h2>Negatives to look at</h2>"
        yield from paragraphs([line])
        if rows := flag_rows(found):
            yield table(FLAG_COLUMNS, rows)


def _before(found: MiningReport) -> Iterator[str]:
    if found.before is not None:
        yield "<h2>Since these samples were mined before</h2>"
        yield from paragraphs(before_lines(found))
        yield table(BEFORE_COLUMNS, before_rows(found))


def _samples(found: MiningReport) -> Iterator[str]:
    if not found.examples:
        return
    yield f"<h2>{len(found.examples)} samples, drawn at random, with their negatives</h2>"
    yield NOTES_AND_TEXTS
    for each in found.examples:
        yield titled([sample_title(each)])
        yield _row(["query"], each.query)
        yield _row([positive_name(each)], each.positive)
        yield from (_row(negative_notes(negative), negative.text) for negative in each.negatives)
        yield "</tbody>"
    yield "</table>"


def _row(notes: Iterable[str], text: str) -> str:
    """What is known of a text on the left, and the text."""
    told = "<br>".join(escaped(note) for note in notes)
    return f'<tr><td class="name">{told}</td><td><div class="text" dir="auto">{escaped(text)}</div></td></tr>'
