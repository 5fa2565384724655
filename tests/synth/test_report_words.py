"""How a report names what it counts."""

from uuid import UUID

import pytest

from synth.commands.report_words import (
    SCORE_COLUMNS,
    agreement_line,
    band_rows,
    bins,
    edge_labels,
    outlier_heading,
    outlier_title,
    score_rows,
    share_rows,
)
from synth.stages.report.agreement import Band, Outlier, SourceAgreement
from synth.stages.report.figures import Histogram, histogram, shared_edges
from synth.stages.report.run import DIFFERENCE, LENGTH, WORDS
from synth.stages.report.scores import POSITIVE, Scores, Similarity


@pytest.mark.parametrize(
    ("values", "measure", "labels"),
    [
        ([3, 4, 4], WORDS, ["3", "4"]),
        ([0, *range(100, 130)], WORDS, ["0 to 9", *[f"{low} to {low + 9}" for low in range(10, 130, 10)]]),
        ([1.0, 1.0], DIFFERENCE, ["99% to 100%"]),
        ([-0.01, 0.01], LENGTH, ["-1% to 0%", "0% to +1%"]),
        ([-0.05, *[0.001 * n for n in range(101)]], LENGTH, None),
    ],
)
def test_bins_are_named(values: list[float], measure: str, labels: list[str] | None) -> None:
    found = histogram(values, are_whole=measure == WORDS)
    assert found is not None
    if labels is None:
        assert bins(found, measure)[0] == "below 0%" and found.counts[0] == 1
    else:
        assert bins(found, measure) == labels


def test_words_beyond_the_last_bin_are_named_with_it() -> None:
    found = histogram([3, 4] * 100 + [90], are_whole=True)
    assert found is not None and bins(found, WORDS) == ["3", "4", "5 and more"]


def test_the_first_scores_are_named_as_low_as_the_lowest() -> None:
    drawn = [[0.4, 0.5, 0.62], [-0.06, *[0.01 * n for n in range(200)]]]
    edges = shared_edges(drawn)
    one, other = (found for values in drawn if (found := histogram(values, edges)) is not None)
    similarity = Similarity("", Scores(POSITIVE, "", one, 0), [Scores("mined", "", other, 0)], None, None, ())
    first = edge_labels(similarity.sorts)[0]
    assert first in ("-0.20 to 0.00", "below 0.00") and other.counts[0] == 1


def test_each_figure_of_scores_stands_below_its_heading() -> None:
    positives, mined = drawn(0.25, 0.5, 0.75), drawn(0.1, 0.6)
    similarity = Similarity("", Scores(POSITIVE, "", positives, 0), [Scores("mined", "", mined, 1)], None, None, ())
    of_positives, of_mined = (dict(zip(SCORE_COLUMNS, row, strict=True)) for row in score_rows(similarity))
    assert (of_positives["passages"], of_positives["number"], of_positives["lowest"]) == ("positive", "3", "0.25")
    assert (of_mined["as near as the positive"], of_mined["median"], of_mined["highest"]) == (
        "1 (50.0%)",
        "0.35",
        "0.60",
    )


def drawn(*values: float) -> Histogram:
    found = histogram(values, (-0.5, 0.0, 0.5, 1.0))
    assert found is not None
    return found


LOW, HIGH = Band(0.0, 1.0, drawn(-0.001, 0.25)), Band(4.0, 5.0, drawn(0.75, 0.8))
WRONG = Outlier(UUID(int=7), "a", "b", 4.25, (1, 40), -0.001, (1200, 1200))


def test_the_agreement_of_a_source_is_told_in_a_line_and_by_band() -> None:
    found = SourceAgreement("boats", drawn(-0.001, 0.25, 0.75, 0.8), (LOW, HIGH), 0.8449, "", (WRONG,))
    assert agreement_line(found) == "4 pairs; Spearman's rank correlation of score and cosine is 0.845"
    assert band_rows(found)[1:] == [("0 to 1", "2", "0.00", "0.12", "0.25"), ("4 to 5", "2", "0.75", "0.78", "0.80")]
    assert share_rows(found.sorts, "cosine") == (
        ["cosine", "all", "0 to 1", "4 to 5"],
        [["-0.50 to 0.00", "25%", "50%", ""], ["0.00 to 0.50", "25%", "50%", ""], ["0.50 to 1.00", "50%", "", "100%"]],
    )
    assert outlier_heading(found) == "1 pair of boats, farthest apart by rank: look at these first"
    assert outlier_title(WRONG, 1234) == (
        f"sample {UUID(int=7)}: score 4.25 has ranks 1 to 40 of 1,234, cosine 0.00 has rank 1,200"
    )


def test_where_there_is_no_correlation_the_line_says_why() -> None:
    found = SourceAgreement("boats", drawn(0.5), (), None, "fewer than 3 pairs", ())
    assert agreement_line(found) == "1 pair; no rank correlation of score and cosine: fewer than 3 pairs"
