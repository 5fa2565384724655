"""Which passages of a corpus cannot be a sample's negatives, whatever their score, and which are the same."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from synth.checks import same_as
from synth.records import Passage, normalise, text_id
from synth.store.minings import Minable

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from mining.candidates import Candidates


class Masks:
    """Whatever answers a sample's query, in full or in part, its seed, its own text, and passages titled like it."""

    def __init__(self, corpus: Sequence[Passage]) -> None:
        self._row_of = {passage.text_id: row for row, passage in enumerate(corpus)}
        self._row_of_text = {passage.text: row for row, passage in enumerate(corpus)}  # spares most texts their id
        self._rows_of_title: dict[str, list[int]] = {}
        self._rows_like: dict[str, list[int]] = {}  # by the text without case, punctuation and width
        self._like: list[str] = []  # of each row
        self._first_like: list[int] = []  # of each row the first that is the same in this sense
        for row, passage in enumerate(corpus):
            self._rows_of_title.setdefault(normalise(passage.title), []).append(row)
            self._like.append(same_as(passage.text) or passage.text)
            rows = self._rows_like.setdefault(self._like[-1], [])
            rows.append(row)
            self._first_like.append(rows[0])

    def rows(self, sample: Minable) -> "NDArray[np.int64]":
        """Rows of the corpus, in any order, some perhaps twice."""
        import numpy as np

        ids = [*sample.graded, *([sample.seed_id] if sample.seed_id else [])]
        found = [self._row_of[each] for each in ids if each in self._row_of]
        rows: list[int] = []
        for text in (*sample.answers, sample.query):
            if (row := self._row(text)) is not None:
                found.append(row)
            elif same := same_as(text):
                rows += self._rows_like.get(same, [])
        rows += [row for each in found for row in self._rows_like[self._like[each]]]
        query = normalise(sample.query)
        if query:
            rows += self._rows_of_title.get(query, [])
        return np.array(rows, dtype=np.int64)

    def _row(self, text: str) -> int | None:
        row = self._row_of_text.get(text)
        return self._row_of.get(text_id(text)) if row is None else row

    def repeated(self, candidates: "Candidates") -> "NDArray[np.bool_]":
        """(Q, C) the candidates that say the same as one before them in their query's list."""
        import numpy as np

        first_QC = np.array([*self._first_like, -1], dtype=np.int64)[candidates.rows_QC]
        open_QC = candidates.inside_QC | candidates.below_QC
        key_QC = np.where(open_QC, first_QC + np.arange(len(first_QC))[:, None] * (len(self._first_like) + 1), -1)
        _, first_of = np.unique(key_QC, return_index=True)
        repeated_QC = open_QC.copy()
        repeated_QC.reshape(-1)[first_of] = False
        return repeated_QC
