"""
Source leak: can passages that an LLM wrote be told from real ones by their style? An embedding model trained on them as
negatives may then learn who wrote a passage instead of what it says (CausalNeg, arXiv 2606.01304).

A small classifier tries: logistic regression over runs of one to three characters (TF-IDF), trained on some of the
passages and tried on the others. Each written passage stands beside the real one it was made from, and both are always
on the same side; so both sides hold as many of each, chance is one half, and no topic gives the answer away.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

CHANCE = 0.5
FEWEST_PAIRS, MOST_PAIRS = 30, 400
NUM_FOLDS = 5
MOST_CHARACTERS = 1500  # of a passage that are looked at
MOST_RUNS = 20_000  # of characters, the most frequent ones
_Z = 1.96  # standard deviations on either side that hold 95 %


@dataclass(frozen=True, slots=True)
class SourceLeak:
    """
    How often the classifier was right about passages that it was not trained on, with an interval of 95 % (Wilson's, as
    if the two passages of a pair were one trial, which makes it rather too wide).
    """

    num_pairs: int
    accuracy: float
    low: float
    high: float

    @property
    def is_above_chance(self) -> bool:
        """Whether all of the interval is above one half."""
        return self.low > CHANCE


def source_leak(pairs: Sequence[tuple[str, str]], *, seed: int) -> SourceLeak | None:
    """
    Try to tell the first texts of the pairs, which an LLM wrote, from the second ones, which are real.

    Args:
        pairs: (written, real); no real text in two of them.
        seed: of the division into training and trial.

    Returns:
        None where there are fewer than FEWEST_PAIRS pairs: too few to say anything.
    """
    pairs = [pair for pair in pairs if all(text.strip() for text in pair)]
    if len(pairs) < FEWEST_PAIRS:
        return None
    import numpy as np
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GroupKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline

    texts = [" ".join(text.split())[:MOST_CHARACTERS] for pair in pairs for text in pair]
    is_written = np.tile([True, False], len(pairs))
    pair_of = np.repeat(np.arange(len(pairs)), 2)
    classifier = make_pipeline(
        TfidfVectorizer(
            analyzer="char", ngram_range=(1, 3), lowercase=False, sublinear_tf=True, max_features=MOST_RUNS
        ),
        LogisticRegression(C=10.0, max_iter=1000),
    )
    folds = GroupKFold(NUM_FOLDS, shuffle=True, random_state=seed % 2**32)
    found = cross_val_predict(classifier, texts, is_written, groups=pair_of, cv=folds)
    accuracy = float((found == is_written).mean())
    low, high = wilson(accuracy, len(pairs))
    return SourceLeak(len(pairs), accuracy, low, high)


def wilson(share: float, number: int) -> tuple[float, float]:
    """The interval of 95 % around a share of so many trials (Wilson 1927)."""
    middle = (share + _Z**2 / (2 * number)) / (1 + _Z**2 / number)
    half = _Z / (1 + _Z**2 / number) * math.sqrt(share * (1 - share) / number + _Z**2 / (4 * number**2))
    return max(middle - half, 0.0), min(middle + half, 1.0)
