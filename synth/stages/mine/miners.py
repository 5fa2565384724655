"""What finds candidates: an encoder's vectors, and beside them BM25 or further encoders."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from synth.records import Passage
from synth.stages.mine.settings import DENSE, LEXICAL
from synth.stages.vectors import vectors_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from mining.candidates import Listed
    from mining.encode import Encoder
    from mining.search import Searcher

# Opens a step of the work: its name and how many it will do; what it gives is told how many more are done.
Steps = Callable[[str, int | None], AbstractContextManager[Callable[[int], None]]]


class Vectors:
    """An encoder behind its cache, for queries and for passages."""

    def __init__(self, encoder: "Encoder", folder: Path, notes: list[str]) -> None:
        self.encoder, self._folder, self._notes = encoder, folder, notes

    def passages(self, texts: Sequence[str], advance: Callable[[int], None]) -> "NDArray[np.float32]":
        """(N, D), L2-normalised."""
        return vectors_of(self.encoder.for_passages(), texts, self._folder, self._notes, advance)

    def queries(self, texts: Sequence[str], advance: Callable[[int], None]) -> "NDArray[np.float32]":
        """(N, D), L2-normalised."""
        return vectors_of(self.encoder.for_queries(), texts, self._folder, self._notes, advance)


class Miner(Protocol):
    """One beside the first: it lists candidates of its own."""

    name: str

    def open(self, corpus: Sequence[Passage], steps: Steps) -> None:
        """Get ready to search this corpus."""

    def listed(self, queries: Sequence[str], masked: "Sequence[NDArray[np.int64]]", number: int) -> "Listed":
        """Up to `number` candidates of each query, masked rows left out."""


class LexicalMiner:
    """BM25."""

    name = LEXICAL

    def open(self, corpus: Sequence[Passage], steps: Steps) -> None:
        """Index the corpus' words."""
        from mining.lexical import index_passages

        with steps("index words", len(corpus)) as advance:
            self._index = index_passages([passage.text for passage in corpus], on_progress=advance)

    def listed(self, queries: Sequence[str], masked: "Sequence[NDArray[np.int64]]", number: int) -> "Listed":
        """See `Miner`."""
        scores, rows = self._index.search(queries, number + max(map(len, masked), default=0))
        return _without_masked(scores, rows, masked, number)


class DenseMiner:
    """A further encoder."""

    def __init__(self, vectors: Vectors, searcher: "Searcher") -> None:
        self.name, self.vectors, self._searcher = f"{DENSE}:{vectors.encoder.name}", vectors, searcher

    def open(self, corpus: Sequence[Passage], steps: Steps) -> None:
        """Encode the corpus."""
        with steps(f"encode passages ({self.vectors.encoder.name})", len(corpus)) as advance:
            self._corpus_MD = self.vectors.passages([passage.text for passage in corpus], advance)

    def listed(self, queries: Sequence[str], masked: "Sequence[NDArray[np.int64]]", number: int) -> "Listed":
        """See `Miner`."""
        from mining.candidates import Listed

        query_QD = self.vectors.queries(queries, lambda number: None)
        found = self._searcher.scan(query_QD, self._corpus_MD, number, masked=masked)
        return Listed(found.rows_Nk, found.scores_Nk)


def _without_masked(
    scores_QL: "NDArray[np.float32]",
    rows_QL: "NDArray[np.int64]",
    masked: "Sequence[NDArray[np.int64]]",
    number: int,
) -> "Listed":
    """Move masked rows, and what is no row, behind all others, and cut."""
    import numpy as np

    from mining.candidates import Listed

    left_out_QL = rows_QL < 0
    for query, rows in enumerate(masked):
        left_out_QL[query] |= np.isin(rows_QL[query], rows)
    order_QL = np.argsort(left_out_QL, axis=1, kind="stable")[:, :number]
    left_out_QL = np.take_along_axis(left_out_QL, order_QL, axis=1)
    rows = np.where(left_out_QL, -1, np.take_along_axis(rows_QL, order_QL, axis=1))
    return Listed(rows, np.where(left_out_QL, np.nan, np.take_along_axis(scores_QL, order_QL, axis=1)))
