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

    def allowed(self, cap: float) -> "NDArray[np.bool_]":
        """(R, C) which candidates may be chosen: those below this share of the positive's relevance; 0: all scored."""
        import numpy as np

        scored_RC = ~np.isnan(self.relevance_RC)
        return scored_RC & (self.relevance_RC < cap * self.positive_R[:, None]) if cap else scored_RC


def rerank(
    reranker: "Reranker",
    rows: Sequence[Row],
    proposal: "Proposal",
    corpus: Sequence[Passage],
    folder: Path,
    notes: list[str],
) -> Reranked:
    """
    Score the candidates of the window, and as many below it as negatives are asked for, and the positives.

    Args:
        folder: where relevances are cached.
        notes: is given a line for each file of the cache that was damaged.
    """
    import numpy as np

    from mining.relevances import relevances_cached

    candidates = proposal.candidates
    next_RC = candidates.below_QC & (candidates.below_QC.cumsum(axis=1) <= proposal.window.num_negatives)
    row_P, place_P = np.nonzero(candidates.inside_QC | next_RC)
    pairs = [
        (int(row), corpus[int(place)].text)
        for row, place in zip(row_P, candidates.rows_QC[row_P, place_P], strict=True)
    ]
    pairs += [(number, text) for number, row in enumerate(rows) for text in row.positives]

    def texts_of(chosen: "NDArray[np.int64]") -> list[tuple[str, str]]:
        return [(rows[pairs[at][0]].sample.query, pairs[at][1]) for at in chosen.tolist()]

    queries, passages = [rows[number].sample.query for number, _ in pairs], [text for _, text in pairs]
    scored = relevances_cached(reranker, _ids(queries), _ids(passages), texts_of, folder, lambda number: None)
    notes.extend(f"damaged, removed and scored again: {shard}" for shard in scored.damaged)
    relevance_RC = np.full(candidates.rows_QC.shape, np.nan, dtype=np.float32)
    relevance_RC[row_P, place_P] = scored.relevance_N[: len(row_P)]
    positive_R = np.full(len(rows), np.inf, dtype=np.float32)
    of_positives = np.array([number for number, _ in pairs[len(row_P) :]], dtype=np.int64)
    np.minimum.at(positive_R, of_positives, scored.relevance_N[len(row_P) :])
    return Reranked(relevance_RC, positive_R)


def _ids(texts: Sequence[str]) -> "NDArray[np.uint8]":
    import numpy as np

    return np.frombuffer(b"".join(text_id(text).bytes for text in texts), dtype=np.uint8).reshape(-1, 16)
