"""The report of a generate run on the screen."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from synth.commands.screens import print_table
from synth.commands.telling import tell_bars, tell_beside, tell_lines
from synth.screen import say

if TYPE_CHECKING:
    from synth.stages.report.agreement import Agreement
    from synth.stages.report.run import Report
    from synth.stages.report.scores import Similarity
    from synth.store.run_report import Shown


def tell(found: "Report") -> None:
    """All of it."""
    from synth.commands.report_words import leak_lines, outcome_lines

    tell_lines(outcome_lines(found.outcome))
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
    tell_lines(leak_lines(found))


def _tell_spreads(found: "Report") -> None:
    from synth.commands.report_words import bins, middle, script_rows, spread_title

    for spread in found.spreads:
        say(f"\n{spread_title(found, spread)}: {middle(spread.histogram, spread.measure)}")
        tell_bars(bins(spread.histogram, spread.measure), spread.histogram)
        for script, number, where in script_rows(spread):
            say(f"  in {script}: {number:,}, {where}")


def _tell_texts(heading: str, texts: Sequence["Shown"]) -> None:
    """Texts on the left, what they were made from on the right, and what is said of them above."""
    from synth.commands.report_words import shown_title

    if not texts:
        return
    say(f"\n{len(texts)} {heading}, drawn at random, beside what they were made from")
    for each in texts:
        parts = [(f"{part.name}: {part.text}", part.original) for part in each.parts]
        tell_beside([shown_title(each), *each.notes], parts)


def _tell_similarity(found: "Similarity") -> None:
    from synth.commands.report_words import SCORE_COLUMNS, score_rows, share_rows, similarity_lines

    say("")
    tell_lines(similarity_lines(found))
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
    tell_lines([f"encoder: {found.encoder}", *found.notes])
    for of_source in found.sources:
        say("")
        tell_lines([f"{of_source.source}: {agreement_line(of_source)}"])
        print_table(BAND_COLUMNS, band_rows(of_source))
        print_table(*share_rows(of_source.sorts, "cosine"))
        if of_source.outliers:
            tell_lines([outlier_heading(of_source)])
        for each in of_source.outliers:
            tell_beside(
                [outlier_title(each, of_source.all_pairs.num)], [(f"text 1: {each.text1}", f"text 2: {each.text2}")]
            )
