"""The report of a generate run as one HTML page."""

from collections.abc import Iterator, Sequence

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
from synth.commands.report_words import (
    BAND_COLUMNS,
    SCORE_COLUMNS,
    agreement_line,
    band_rows,
    bins,
    edge_labels,
    leak_lines,
    middle,
    outcome_lines,
    outlier_heading,
    outlier_title,
    score_rows,
    script_rows,
    shown_title,
    similarity_lines,
    spread_title,
)
from synth.stages.report.agreement import SourceAgreement
from synth.stages.report.run import Report, Spread
from synth.store.run_report import Shown


def page(found: Report, *, workspace: str) -> str:
    """The page, which names the workspace."""
    run, lines = found.outcome, outcome_lines(found.outcome)
    title = " ".join(filter(None, (run.task, run.operation))) or "synth report"
    parts = [
        f"<h1>{escaped(title)}</h1>",
        *paragraphs([f"workspace {workspace}, started {run.started_at:%Y-%m-%d %H:%M} UTC", *lines]),
        *_rejections(found),
        *_spreads(found),
        *_similarity(found),
        *_agreement(found),
        *_leak(found),
        *_texts("Accepted", found.accepted),
        *_texts("Rejected", found.rejected),
    ]
    return document(title, parts)


def _rejections(found: Report) -> Iterator[str]:
    if not found.outcome.rejections:
        return
    yield "<h2>Why texts were rejected</h2>"
    labels = [each.reason for each in found.outcome.rejections]
    bars = [Bar(each.num, f"{each.num:,} ({each.share:.1%})") for each in found.outcome.rejections]
    yield figure("and which share that is of all that replies offered", drawn_bars(labels, bars, COLOURS[1]))


def _spreads(found: Report) -> Iterator[str]:
    if not found.spreads:
        return
    yield "<h2>How the new texts are</h2>"
    yield '<div class="figures">'
    for spread in found.spreads:
        said = f"{spread_title(found, spread)}: {middle(spread.histogram, spread.measure)}"
        drawn = drawn_histogram(spread.histogram, bins(spread.histogram, spread.measure), COLOURS[0])
        yield figure(said, drawn, _scripts(spread))
    yield "</div>"


def _scripts(spread: Spread) -> str:
    return "".join(
        f"<p>in {escaped(script)}: {number:,}, {escaped(where)}</p>" for script, number, where in script_rows(spread)
    )


def _similarity(found: Report) -> Iterator[str]:
    similarity = found.similarity
    if similarity is None:
        return
    yield f"<h2>How near texts are to their queries{_of_sources(found)}</h2>"
    yield from paragraphs(similarity_lines(similarity))
    yield table(SCORE_COLUMNS, score_rows(similarity))
    yield '<div class="figures">'
    labels, positives = edge_labels(similarity.sorts), similarity.positives.histogram
    yield figure(f"scores of: {similarity.positives.name}", drawn_histogram(positives, labels, COLOURS[0], positives))
    for number, each in enumerate(similarity.negatives, start=1):
        drawn = drawn_histogram(each.histogram, labels, COLOURS[number % len(COLOURS)], positives)
        yield figure(f"scores of: {each.name}; the outline is that of the positives", drawn)
    yield "</div>"


def _agreement(found: Report) -> Iterator[str]:
    if found.agreement is None:
        return
    yield f"<h2>How the cosine of two texts follows their score{_of_sources(found)}</h2>"
    yield from paragraphs([f"encoder: {found.agreement.encoder}", *found.agreement.notes])
    for of_source in found.agreement.sources:
        yield from _source_agreement(of_source)


def _source_agreement(found: SourceAgreement) -> Iterator[str]:
    yield f"<h3>{escaped(found.source)}</h3>"
    yield from paragraphs([agreement_line(found)])
    yield table(BAND_COLUMNS, band_rows(found))
    yield '<div class="figures">'
    labels = edge_labels(found.sorts)
    yield figure("cosines of all pairs", drawn_histogram(found.all_pairs, labels, COLOURS[0], found.all_pairs))
    for number, band in enumerate(found.bands, start=1):
        drawn = drawn_histogram(band.histogram, labels, COLOURS[number % len(COLOURS)], found.all_pairs)
        yield figure(f"cosines of pairs with the score {band.name}; the outline is that of all pairs", drawn)
    yield "</div>"
    if found.outliers:
        yield from paragraphs([outlier_heading(found)])
        yield '<table class="texts">'
        for each in found.outliers:
            yield titled([outlier_title(each, found.all_pairs.num)])
            yield f"<tr><td>{named('text 1', each.text1)}</td><td>{named('text 2', each.text2)}</td></tr></tbody>"
        yield "</table>"


def _of_sources(found: Report) -> str:
    return escaped(f": {', '.join(found.sources)}") if found.sources else ""


def _leak(found: Report) -> Iterator[str]:
    lines = list(leak_lines(found))
    if lines:
        yield "<h2>Whether written passages can be told from real ones</h2>"
        yield from paragraphs(lines)


def _texts(heading: str, texts: Sequence[Shown]) -> Iterator[str]:
    if not texts:
        return
    yield f"<h2>{heading}: {len(texts)} drawn at random</h2>"
    yield '<table class="texts">'
    for each in texts:
        yield titled([shown_title(each), *each.notes])
        for part in each.parts:
            made_from = named("made from", part.original) if part.original else ""
            yield f"<tr><td>{named(part.name, part.text)}</td><td>{made_from}</td></tr>"
        yield "</tbody>"
    yield "</table>"
