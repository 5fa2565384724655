"""Which passages of a corpus cannot be a sample's negatives, whatever their score."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from synth.checks import same_as
from synth.records import Passage, normalise, text_id
from synth.store.minings import Minable

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Masks:
    """Whatever answers a sample's query, in full or in part, its seed, its own text, and passages titled like it."""

    def __init__(self, corpus: Sequence[Passage]) -> None:
        self._row_of = {passage.text_id: row for row, passage in enumerate(corpus)}
        self._rows_of_title: dict[str, list[int]] = {}
        self._rows_like: dict[str, list[int]] = {}  # by the text without case, punctuation and width
        for row, passage in enumerate(corpus):
            self._rows_of_title.setdefault(normalise(passage.title), []).append(row)
            self._rows_like.setdefault(same_as(passage.text), []).append(row)

    def rows(self, sample: Minable) -> "NDArray[np.int64]":
        """Rows of the corpus, in any order, some perhaps twice."""
        import numpy as np

        ids = [*sample.graded, *([sample.seed_id] if sample.seed_id else [])]
        rows = [self._row_of[each] for each in ids if each in self._row_of]
        for text in (*sample.answers, sample.query):
            rows += [row] if (row := self._row_of.get(text_id(text))) is not None else []
            rows += self._rows_like.get(same, []) if (same := same_as(text)) else []
        query = normalise(sample.query)
        if query:
            rows += self._rows_of_title.get(query, [])
        return np.array(rows, dtype=np.int64)
