"""From rows of a corpus to negatives of samples, with all that is known of how they were found."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from synth.likeness import overlap
from synth.records import FoundBy, Negative, NegativeFlag, Passage, RelaxedRule
from synth.stages.mine.settings import MineSettings
from synth.store.minings import Fallen, Minable, Mined, Status

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from mining.negatives import Mined as Choice
    from synth.stages.mine.reranked import Reranked


@dataclass(frozen=True, slots=True)
class Row:
    """A query that is searched for: a sample, and the positives that its cap goes by."""

    number: int  # of the sample in the block
    sample: Minable
    positives: Sequence[str]
    places: Sequence[int]  # of these positives' vectors


@dataclass(frozen=True)
class Block:
    """What was searched for together, and what is known of it; R rows, P positives, M passages, D dimensions."""

    settings: MineSettings
    names: Sequence[str]  # of the miners
    rows: Sequence[Row]
    positive_PD: "NDArray[np.float32]"
    corpus: Sequence[Passage]
    corpus_MD: "NDArray[np.float32]"
    choice: "Choice"
    ranked: "Reranked | None"

    def results(self) -> list[Mined]:
        """One for each sample, in order."""
        of_sample: dict[int, list[int]] = {}
        for row, each in enumerate(self.rows):
            of_sample.setdefault(each.number, []).append(row)
        return [self._mined(rows) for rows in of_sample.values()]

    def _mined(self, rows: Sequence[int]) -> Mined:
        choice, survey = self.choice, self.choice.survey
        found: dict[object, Negative] = {}
        for row in rows:
            for place in range(choice.rows_QN.shape[1]):
                if choice.rows_QN[row, place] >= 0:
                    negative = self._negative(row, place)
                    found.setdefault(negative.text_id, negative)
        outcomes = [choice.outcome(row).value for row in rows]
        fallen: dict[str, int] = {}
        for row in rows:
            for name, count in choice.fallen(row).items():
                fallen[name] = fallen.get(name, 0) + count
        short = next((row for row in rows if row in choice.listed), None)
        lowest = min(rows, key=lambda row: float(survey.positive_scores_Q[row]))
        return Mined(
            sample=self.rows[rows[0]].sample,
            status=_joined(outcomes, bool(found)),
            reason=next((reason for row in rows if (reason := choice.reason(row))), ""),
            positive_rank=int(survey.positive_ranks_Q[lowest]),
            negatives=tuple(found.values()),
            num_candidates=int(survey.num_candidates_Q[lowest]),
            num_capped=int(survey.num_capped_Q[lowest]),
            positive_score=float(survey.positive_scores_Q[lowest]),
            fallen=fallen,
            candidates=()
            if short is None
            else tuple(
                Fallen(self.corpus[each.row].text_id, each.rank, each.score, each.reason)
                for each in choice.listed[short]
            ),
        )

    def _negative(self, row: int, place: int) -> Negative:
        choice, of_row, sample = self.choice, self.rows[row], self.rows[row].sample
        passage = self.corpus[int(choice.rows_QN[row, place])]
        vector_D = self.corpus_MD[int(choice.rows_QN[row, place])]
        similarity = float((self.positive_PD[list(of_row.places)] @ vector_D).max())
        shared = max(overlap(passage.text, positive) for positive in of_row.positives)
        candidate = int(choice.places_QN[row, place])
        relevance, of_positive = self._relevances(row, candidate)
        flags: list[NegativeFlag] = ["near_positive"] if similarity >= self.settings.near_positive else []
        flags += ["near_duplicate"] if shared >= self.settings.near_duplicate else []
        if relevance is not None and of_positive is not None:
            flags += ["above_reranker"] if relevance >= of_positive else []
        rules: dict[str, tuple[RelaxedRule, ...]] = {"window": ("window",), "cap": ("cap",)}
        return Negative(
            sample.sample_id,
            sample.revision_id,
            passage.text_id,
            "mined",
            int(choice.ranks_QN[row, place]) or int(min(rank for rank in choice.ranks_QNS[row, place] if rank)),
            float(choice.scores_QN[row, place]),
            float(choice.survey.positive_scores_Q[row]),
            miners=tuple(
                FoundBy(name, int(rank), float(score))
                for name, rank, score in zip(
                    self.names, choice.ranks_QNS[row, place], choice.own_scores_QNS[row, place], strict=True
                )
                if rank
            ),
            relevance=relevance,
            positive_relevance=of_positive,
            positive_similarity=similarity,
            overlap=shared,
            flags=tuple(flags),
            relaxed=rules.get(str(choice.relaxed_QN[row, place]), ()),
        )

    def _relevances(self, row: int, candidate: int) -> tuple[float | None, float | None]:
        if self.ranked is None or candidate < 0:
            return None, None
        return float(self.ranked.relevance_RC[row, candidate]), float(self.ranked.positive_R[row])


def _joined(outcomes: Sequence[str], is_found: bool) -> Status:
    """What became of a sample whose rows came out like this."""
    if not is_found:
        return "none"
    if any(outcome in ("short", "none") for outcome in outcomes):
        return "short"
    return "widened" if "widened" in outcomes else "full"
