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


@dataclass(frozen=True, slots=True)
class _Chosen:
    """A negative of a row, as the tables of the choice have it."""

    row: int  # of the corpus
    rank: int
    score: float
    relaxed: str
    ranks: Sequence[int]  # by each miner
    own_scores: Sequence[float]
    candidate: int  # its place among the joined candidates; -1 where it is none of them
    similarity: float  # the highest cosine with a positive


RELAXED: dict[str, tuple[RelaxedRule, ...]] = {"window": ("window",), "cap": ("cap",)}


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
        chosen = self._chosen()
        return [self._mined(rows, chosen) for rows in of_sample.values()]

    def _chosen(self) -> list[list[_Chosen]]:
        """The negatives of each row. Out of whole tables: to read them number by number takes many times as long."""
        choice = self.choice
        tables = zip(
            choice.rows_QN.tolist(),
            choice.ranks_QN.tolist(),
            choice.scores_QN.tolist(),
            choice.relaxed_QN.tolist(),
            choice.ranks_QNS.tolist(),
            choice.own_scores_QNS.tolist(),
            choice.places_QN.tolist(),
            self._similarities().tolist(),
            strict=True,
        )
        return [[_Chosen(*each) for each in zip(*of_row, strict=True) if each[0] >= 0] for of_row in tables]

    def _similarities(self) -> "NDArray[np.float32]":
        """(R, N) the highest cosine of a negative with one of its row's positives; -1 where there is no negative."""
        import numpy as np

        from mining.search import pair_scores

        rows_RN = self.choice.rows_QN
        highest_RN = np.full(rows_RN.shape, -1, dtype=np.float32)
        row_P, place_P = np.nonzero(rows_RN >= 0)
        number_P = np.array([len(self.rows[row].places) for row in row_P.tolist()], dtype=np.int64)
        if len(row_P):
            passage_X = np.repeat(rows_RN[row_P, place_P], number_P)
            positive_X = np.concatenate([np.asarray(self.rows[row].places) for row in row_P.tolist()])
            score_X = pair_scores(self.positive_PD[positive_X], self.corpus_MD[passage_X])
            highest_RN[row_P, place_P] = np.maximum.reduceat(score_X, np.cumsum(number_P) - number_P)
        return highest_RN

    def _mined(self, rows: Sequence[int], chosen: Sequence[Sequence[_Chosen]]) -> Mined:
        choice, survey = self.choice, self.choice.survey
        found: dict[object, Negative] = {}
        for row in rows:
            for each in chosen[row]:
                negative = self._negative(row, each)
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

    def _negative(self, row: int, chosen: _Chosen) -> Negative:
        of_row, sample = self.rows[row], self.rows[row].sample
        passage = self.corpus[chosen.row]
        shared = max(overlap(passage.text, positive) for positive in of_row.positives)
        relevance, of_positive = self._relevances(row, chosen.candidate)
        flags: list[NegativeFlag] = ["near_positive"] if chosen.similarity >= self.settings.near_positive else []
        flags += ["near_duplicate"] if shared >= self.settings.near_duplicate else []
        if relevance is not None and of_positive is not None:
            flags += ["above_reranker"] if relevance >= of_positive else []
        by_miner = zip(self.names, chosen.ranks, chosen.own_scores, strict=True)
        return Negative(
            sample.sample_id,
            sample.revision_id,
            passage.text_id,
            "mined",
            chosen.rank or min(rank for rank in chosen.ranks if rank),
            chosen.score,
            float(self.choice.survey.positive_scores_Q[row]),
            miners=tuple(FoundBy(name, rank, score) for name, rank, score in by_miner if rank),
            relevance=relevance,
            positive_relevance=of_positive,
            positive_similarity=chosen.similarity,
            overlap=shared,
            flags=tuple(flags),
            relaxed=RELAXED.get(chosen.relaxed, ()),
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
