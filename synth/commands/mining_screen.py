"""The report of a mine run on the screen."""

from typing import TYPE_CHECKING

from synth.commands.screens import print_table
from synth.commands.telling import tell_bars, tell_beside, tell_lines
from synth.screen import say

if TYPE_CHECKING:
    from synth.stages.report.mining import MiningReport, MiningScores
    from synth.store.mining_report import MinedSample

MOST_SHOWN = 160  # characters of a text: a sample has five and more
MOST_CANDIDATES = 3  # of a sample with too few negatives; --json has all that are stored
NOTES_AND_TEXT = (2, 5)  # shares of the width


def tell(found: "MiningReport") -> None:
    """All of it."""
    from synth.commands.mining_words import OUTCOME_COLUMNS, outcome_line, outcome_rows, run_lines, shrunk_lines

    tell_lines(run_lines(found))
    tell_lines(["", outcome_line(found.outcome)])
    if rows := outcome_rows(found):
        print_table(OUTCOME_COLUMNS, rows)
    tell_lines(shrunk_lines(found))
    _tell_fallen(found)
    if found.scores is not None:
        _tell_scores(found, found.scores)
    _tell_false(found)
    _tell_flags(found)
    _tell_before(found)
    _tell_wanting(found)
    _tell_positives(found)
    if found.examples:
        say(f"\n{len(found.examples)} samples, drawn at random, with their negatives")
        for each in found.examples:
            _tell_sample(each)


def _tell_fallen(found: "MiningReport") -> None:
    from synth.commands.mining_words import FALLEN_COLUMNS, fallen_line, fallen_rows

    if line := fallen_line(found):
        tell_lines(["", line])
    if rows := fallen_rows(found):
        print_table(FALLEN_COLUMNS, rows)


def _tell_wanting(found: "MiningReport") -> None:
    from synth.commands.mining_words import candidate_rows, wanting_lines, wanting_title

    if not found.reasons:
        return
    tell_lines(["", *wanting_lines(found)])
    for each in found.wanting:
        lines = [wanting_title(each), f"query: {each.query}", each.reason]
        tell_beside(lines, candidate_rows(each, MOST_CANDIDATES), ratios=NOTES_AND_TEXT, most=MOST_SHOWN)


def _tell_positives(found: "MiningReport") -> None:
    from synth.commands.mining_words import deep_title, positive_lines

    tell_lines(["", *positive_lines(found)])
    for each in found.positives.deepest:
        tell_beside([deep_title(each)], [(f"query: {each.query}", f"positive: {each.positive}")], most=MOST_SHOWN)


def _tell_scores(found: "MiningReport", scores: "MiningScores") -> None:
    from synth.commands.mining_words import score_lines, score_rows, score_sorts, sort_title
    from synth.commands.report_words import SCORE_COLUMNS, edge_labels

    tell_lines(["", *score_lines(found)])
    print_table(SCORE_COLUMNS, score_rows(scores))
    sorts = score_sorts(scores)
    for name, drawn in sorts:
        tell_lines(["", sort_title(name, drawn)])
        tell_bars(edge_labels(sorts), drawn)


def _tell_false(found: "MiningReport") -> None:
    from synth.commands.mining_words import BAND_COLUMNS, band_rows, false_lines, judged_title

    tell_lines(["", *false_lines(found)])
    for each in found.false_negatives:
        tell_lines([judged_title(each)])
        print_table(BAND_COLUMNS, band_rows(each))


def _tell_flags(found: "MiningReport") -> None:
    from synth.commands.mining_words import FLAG_COLUMNS, flag_line, flag_rows

    if line := flag_line(found):
        tell_lines(["", line])
    if rows := flag_rows(found):
        print_table(FLAG_COLUMNS, rows)


def _tell_before(found: "MiningReport") -> None:
    from synth.commands.mining_words import BEFORE_COLUMNS, before_lines, before_rows

    if found.before is not None:
        tell_lines(["", *before_lines(found)])
        print_table(BEFORE_COLUMNS, before_rows(found))


def _tell_sample(each: "MinedSample") -> None:
    from synth.commands.mining_words import negative_notes, positive_name, sample_title

    parts = [("query", each.query), (positive_name(each), each.positive)]
    parts += [("; ".join(negative_notes(negative)), negative.text) for negative in each.negatives]
    tell_beside([sample_title(each)], parts, ratios=NOTES_AND_TEXT, most=MOST_SHOWN)
