"""`synth report`: what became of a generate run, on the screen, as JSON or as a page."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from synth.commands.screens import MAX_SEED, JsonOption, WorkspaceOption, print_json, print_table
from synth.records import UserError
from synth.screen import cell, console, progress, say, show

if TYPE_CHECKING:
    from synth.stages.report.agreement import Agreement
    from synth.stages.report.figures import Histogram
    from synth.stages.report.run import Report
    from synth.stages.report.scores import Similarity
    from synth.store.run_report import Scope, Shown
    from synth.workspace import Workspace

LONGEST_BAR = 30  # characters
MOST_SHOWN = 400  # characters of a text on the screen; a page and --json have it whole
NARROWEST = 40  # columns, for two texts side by side
WIDEST = 160  # two texts side by side are read no better on a wider screen


def report(
    run: Annotated[
        str | None,
        typer.Argument(
            metavar="RUN",
            help="`last`, or the id of a generate run, or the end of it that `synth runs` shows; if left out, `last`:"
            " the latest that brought replies or samples.",
        ),
    ] = None,
    scores: Annotated[
        bool,
        typer.Option(
            "--scores",
            help="Also encode pairs of texts, and show how near they are, and whether that agrees with their scores.",
        ),
    ] = False,
    encoder: Annotated[
        str | None, typer.Option(help="The model to encode with, over [mine] of synth.toml; gives --scores.")
    ] = None,
    threshold: Annotated[
        float | None,
        typer.Option(
            min=-1.0, max=1.0, help="Tell how many pairs of query and positive score below it; gives --scores."
        ),
    ] = None,
    source: Annotated[
        list[str] | None,
        typer.Option(help="Look at all samples of this source, not of the run, for scores and the classifier."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, max=MAX_SEED, help="Of the draw of examples and of scored texts.")] = 0,
    html: Annotated[
        Path | None,
        typer.Option(
            "--html",
            metavar="FILE",
            help="Write the report as a page for a browser instead: to a new file, or over an older report.",
        ),
    ] = None,
    workspace: WorkspaceOption = Path("."),
    as_json: JsonOption = False,
) -> None:
    """
    Tell what became of a generate run: accepted and rejected and why, what it cost, how the new texts differ from the
    old ones, and ten random accepted and rejected texts beside what they were made from.

    Where an LLM wrote passages, a small classifier tries to tell them from real ones: if it can, an embedding model may
    learn to as well. Nothing is changed. docs/report.md tells how to read a report.

    Example: synth report last --scores --html report.html
    """
    from synth.commands.report_page import check_page, page, write_page
    from synth.commands.report_words import failed_since_line
    from synth.stages.report.run import as_json as told
    from synth.stages.report.run import report as made
    from synth.store.run_history import LAST
    from synth.store.run_report import Scope, failed_since, find_generate_run
    from synth.store.sources import check_sources
    from synth.workspace import Workspace

    if html is not None and as_json:
        raise UserError("--html writes a page and --json prints; give one of them")
    opened = Workspace.open(workspace)
    if html is not None:
        check_page(html, opened)
    check_sources(opened.store, source or ())
    scope = Scope(find_generate_run(opened.store, run), tuple(source or ()), seed)
    found = made(opened.store, scope)
    if scores or encoder is not None or threshold is not None:
        similarity, agreement = _encoder_scores(opened, scope, encoder, threshold)
        found = replace(found, similarity=similarity, agreement=agreement)
    if html is not None:
        write_page(html, page(found, workspace=opened.root.resolve().name))
        say(f"wrote {html}")
    elif as_json:
        print_json(told(found))
    else:
        _tell(found)
    if not as_json and run in (None, LAST) and (failed := failed_since(opened.store, scope.run_id)):
        _say_lines([failed_since_line(failed)])


def _encoder_scores(
    opened: "Workspace", scope: "Scope", encoder: str | None, threshold: float | None
) -> "tuple[Similarity | None, Agreement | None]":
    from synth.stages.report.scores import encoder_scores

    name = opened.config.mine.encoder if encoder is None else encoder
    if not name.strip():
        raise UserError("the encoder has an empty name; name one with --encoder, or in [mine] of synth.toml")
    with progress("encode", None) as advance:
        return encoder_scores(opened.store, scope, name, opened.embeddings, threshold=threshold, on_progress=advance)


def _tell(found: "Report") -> None:
    from synth.commands.report_words import leak_lines, outcome_lines

    _say_lines(outcome_lines(found.outcome))
    if found.outcome.rejections:
        rows = [(each.reason, each.num, f"{each.share:.1%}") for each in found.outcome.rejections]
        print_table(["rejected", "number", "of all offered"], rows)
    _tell_spreads(found)
    _tell_texts("accepted", found.accepted)
    _tell_texts("rejected", found.rejected)
    if found.sources and (found.similarity or found.agreement or found.source_leak):
        say(f"of the samples of {', '.join(found.sources)}:")
    if found.similarity is not None:
        _tell_similarity(found.similarity)
    if found.agreement is not None:
        _tell_agreement(found.agreement)
    _say_lines(leak_lines(found))


def _say_lines(lines: Iterable[str]) -> None:
    for line in lines:
        say(cell(line, width=MOST_SHOWN).plain)


def _tell_spreads(found: "Report") -> None:
    from synth.commands.report_words import bins, middle, script_rows, spread_title

    for spread in found.spreads:
        say(f"\n{spread_title(found, spread)}: {middle(spread.histogram, spread.measure)}")
        for line in _bars(bins(spread.histogram, spread.measure), spread.histogram):
            say(line)
        for script, number, where in script_rows(spread):
            say(f"  in {script}: {number:,}, {where}")


def _bars(labels: Sequence[str], found: "Histogram") -> Iterator[str]:
    """A line for each count."""
    block = "#" if console().options.ascii_only else "█"
    longest, most = max(map(len, labels)), max(found.counts)
    for label, count in zip(labels, found.counts, strict=True):
        bar = block * max(round(LONGEST_BAR * count / most), int(count > 0))
        yield f"  {label:>{longest}}  {bar} {count:,}".rstrip()


def _tell_texts(heading: str, texts: Sequence["Shown"]) -> None:
    """Texts on the left, what they were made from on the right, and what is said of them above."""
    from synth.commands.report_words import shown_title

    if not texts:
        return
    say(f"\n{len(texts)} {heading}, drawn at random, beside what they were made from")
    for each in texts:
        parts = [(f"{part.name}: {part.text}", part.original) for part in each.parts]
        _tell_beside([shown_title(each), *each.notes], parts)


def _tell_beside(lines: Sequence[str], parts: Sequence[tuple[str, str]]) -> None:
    """Pairs of texts side by side, with lines above them."""
    from rich.table import Table

    say("")
    first, *others = lines
    _say_lines([f"-- {first}", *others])
    width = min(max(console().width, NARROWEST), WIDEST)
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0), width=width)
    for _ in ("left", "right"):
        table.add_column(overflow="fold", ratio=1)
    for left, right in parts:
        table.add_row(cell(left, width=MOST_SHOWN), cell(right, width=MOST_SHOWN))
    show(table)


def _tell_similarity(found: "Similarity") -> None:
    from synth.commands.report_words import SCORE_COLUMNS, score_rows, share_rows, similarity_lines

    say("")
    _say_lines(similarity_lines(found))
    print_table(SCORE_COLUMNS, score_rows(found))
    print_table(*share_rows(found.sorts))


def _tell_agreement(found: "Agreement") -> None:
    from synth.commands.report_words import (
        BAND_COLUMNS,
        agreement_line,
        band_rows,
        outlier_heading,
        outlier_title,
        share_rows,
    )

    say("")
    _say_lines([f"encoder: {found.encoder}", *found.notes])
    for of_source in found.sources:
        say("")
        _say_lines([f"{of_source.source}: {agreement_line(of_source)}"])
        print_table(BAND_COLUMNS, band_rows(of_source))
        print_table(*share_rows(of_source.sorts, "cosine"))
        if of_source.outliers:
            _say_lines([outlier_heading(of_source)])
        for each in of_source.outliers:
            _tell_beside(
                [outlier_title(each, of_source.all_pairs.num)], [(f"text 1: {each.text1}", f"text 2: {each.text2}")]
            )
