"""
What follows from what an LLM said of the candidates of a sample: which passage becomes its positive, which become hard
negatives. Pure functions.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from uuid import UUID

from synth.recipes.relabelling import HIGHEST, Said, WithCandidates
from synth.records import Content, Negative, text_id

# The constant of Cormack, Clarke and Büttcher, "Reciprocal Rank Fusion outperforms Condorcet and individual Rank
# Learning Methods", SIGIR 2009.
RRF = 60
LEAST_OF_POSITIVE = 2  # grades; 3 answers the query fully, 0 is about something else
MOST_OF_NEGATIVE = 1
MOST_NEGATIVES = 4


@dataclass(frozen=True, slots=True)
class Placed:
    """What was said of a candidate, and its place by the fusion of both rankings, best first, from 1."""

    said: Said
    place: int

    @property
    def text_id(self) -> UUID:
        """Of the passage."""
        return self.said.candidate.text_id

    @property
    def grade(self) -> int:
        """-1 where the LLM gave none."""
        return _grade(self.said)


@dataclass(frozen=True, slots=True)
class Choice:
    """
    What becomes of a sample: `content` is what it says from now on, the same as before unless it moved.

    `outcome` is moved, stayed or unanswered. `negatives` are of the sample as it was (whose ids they have), and of what
    it says now.
    """

    content: Content
    outcome: str
    placed: tuple[Placed, ...]
    negatives: tuple[Negative, ...]


def fused(said: Sequence[Said], positives: Collection[UUID]) -> list[Placed]:
    """
    The candidates by reciprocal rank fusion: the sum of 1 / (60 + place) over the places by likelihood and by grade.

    Those of the same grade share a place, the best that one of them has; those without one the last. Of equal sums the
    `positives` (ids of texts) come first, then the higher grade, then the nearer passage, then by id.
    """
    grades = [_grade(each) for each in said]

    def key(each: Said) -> tuple[float, bool, int, float, int]:
        grade, candidate = _grade(each), each.candidate
        place = len(said) if grade < 0 else 1 + sum(other > grade for other in grades)
        total = 1 / (RRF + each.likelihood) + 1 / (RRF + place)
        # rounded: the same two fractions added in another order may differ in the last digit
        return -round(total, 12), candidate.text_id not in positives, -grade, -candidate.score, candidate.text_id.int

    return [Placed(each, place) for place, each in enumerate(sorted(said, key=key), start=1)]


def choose(sample: WithCandidates, said: Sequence[Said]) -> Choice:
    """
    What becomes of a sample. The best candidate becomes its positive if it is graded 2 or 3, and no lower than the
    positives that it has; of those the ones are kept that are graded 3.

    Args:
        said: of each of the sample's candidates, its first positive among them.
    """
    content = sample.retrieval
    now = {text_id(text): text for text in content.positives}
    placed = fused(said, now)
    best = placed[0]
    grade_now = max(each.grade for each in placed if each.text_id in now)
    outcome = "stayed"
    if max(each.grade for each in placed) < LEAST_OF_POSITIVE:
        outcome = "unanswered"
    elif best.text_id not in now and best.grade >= max(LEAST_OF_POSITIVE, grade_now):
        outcome = "moved"
        full = {each.text_id for each in placed if each.grade == HIGHEST}
        kept = [text for each, text in now.items() if each in full]
        content = replace(content, positives=(best.said.candidate.text, *kept))
    return Choice(content, outcome, tuple(placed), _negatives(sample, placed, content.positives))


def _grade(said: Said) -> int:
    return -1 if said.grade is None else said.grade


def _negatives(sample: WithCandidates, placed: Sequence[Placed], positives: Sequence[str]) -> tuple[Negative, ...]:
    """Of the lower half those that do not answer the query, the nearest ones."""
    answers = {text_id(text) for text in positives}
    scores = [each.said.candidate.score for each in placed if each.text_id in answers]
    ranks = [each.said.candidate.rank for each in placed if each.text_id in answers]
    low = [
        each.said.candidate
        for each in placed[len(placed) // 2 :]
        if 0 <= each.grade <= MOST_OF_NEGATIVE and each.text_id not in answers
    ]
    nearest = sorted(low, key=lambda candidate: (-candidate.score, candidate.text_id.int))[:MOST_NEGATIVES]
    return tuple(
        Negative(
            sample.sample_id,
            sample.revision_id,
            candidate.text_id,
            "relabelled",
            candidate.rank - sum(0 < rank < candidate.rank for rank in ranks),  # the positives do not count
            candidate.score,
            min(scores),
        )
        for candidate in nearest
    )
