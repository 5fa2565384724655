"""How a report names what it counts."""

import pytest

from synth.commands.report_words import bins, edge_labels
from synth.stages.report.figures import histogram, shared_edges
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
    first = edge_labels(similarity)[0]
    assert first in ("-0.20 to 0.00", "below 0.00") and other.counts[0] == 1
