"""Candidates scored by a cross-encoder, and which of them are clearly less relevant than the positive."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from synth.records import Passage, text_id
from synth.stages.mine.found import Row

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from mining.negatives import Proposal
    from mining.rerank import Reranker


@dataclass(frozen=True)
class Reranked:
    """Relevances, 0 to 1, of C candidates of R rows (not a number: not asked for), and of the positives."""

    relevance_RC: "NDArray[np.float32]"
    positive_R: "NDArray[np.float32]"  # the lowest of a row's positives

    def unasked(self) -> "NDArray[np.bool_]":
        """(R, C) the candidates that were not scored."""
        import numpy as np

        return np.isnan(self.relevance_RC)

    def refused(self, cap: float) -> "NDArray[np.bool_]":
        """(R, C) the candidates that reach this share of the positive's relevance; with 0 none is refused."""
        return (self.relevance_RC >= cap * self.positive_R[:, None]) & (cap > 0)


@dataclass(frozen=True)
class Reranking:
    """What scores, and for which rows: `folder` is where relevances are cached, `notes` says what was damaged there."""

    reranker: "Reranker"
    rows: Sequence[Row]
    corpus: Sequence[Passage]
    folder: Path
    notes: list[str]

    def rerank(self, proposal: "Proposal", repeated_RC: "NDArray[np.bool_]", cap: float) -> Reranked:
        """
        Score the candidates of the window, and where too few of them may be chosen, those below it, a few at a time.

        Args:
            repeated_RC: (R, C) candidates that need no score.
            cap: see `Reranked.refused`.
        """
        import numpy as np

        candidates, window = proposal.candidates, proposal.window
        found = Reranked(np.full(candidates.rows_QC.shape, np.nan, dtype=np.float32), self._positives())
        asked_RC = candidates.inside_QC & ~repeated_RC
        while True:
            row_P, place_P = np.nonzero(asked_RC)
            texts = [self.corpus[row].text for row in candidates.rows_QC[row_P, place_P].tolist()]
            found.relevance_RC[row_P, place_P] = self._relevances(row_P.tolist(), texts)
            num_allowed_R = (~found.unasked() & ~found.refused(cap)).sum(axis=1)
            left_RC = candidates.below_QC & ~repeated_RC & found.unasked() & ("window" in window.relax)
            asked_RC = left_RC & (left_RC.cumsum(axis=1) <= window.num_negatives - num_allowed_R[:, None])
            if not asked_RC.any():
                break
        return found

    def _positives(self) -> "NDArray[np.float32]":
        import numpy as np

        pairs = [(number, text) for number, row in enumerate(self.rows) for text in row.positives]
        lowest_R = np.full(len(self.rows), np.inf, dtype=np.float32)
        numbers = [number for number, _ in pairs]
        np.minimum.at(
            lowest_R, np.array(numbers, dtype=np.int64), self._relevances(numbers, [text for _, text in pairs])
        )
        return lowest_R

    def _relevances(self, numbers: Sequence[int], texts: Sequence[str]) -> "NDArray[np.float32]":
        """(P,) of the query of each of these rows and a passage."""
        from mining.relevances import relevances_cached

        queries = [self.rows[number].sample.query for number in numbers]

        def pairs(chosen: "NDArray[np.int64]") -> list[tuple[str, str]]:
            return [(queries[at], texts[at]) for at in chosen.tolist()]

        scored = relevances_cached(self.reranker, _ids(queries), _ids(texts), pairs, self.folder, lambda number: None)
        self.notes.extend(f"damaged, removed and scored again: {shard}" for shard in scored.damaged)
        return scored.relevance_N


def _ids(texts: Sequence[str]) -> "NDArray[np.uint8]":
    import numpy as np

    return np.frombuffer(b"".join(text_id(text).bytes for text in texts), dtype=np.uint8).reshape(-1, 16)
