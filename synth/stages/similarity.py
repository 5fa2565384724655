"""Similarity: evaluation texts that come near to what samples ask, by the cosine of an encoder's vectors."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

from mining import MiningError
from synth.overlaps import EvalText, asked_texts
from synth.stages.vectors import mining_errors, vectors_of
from synth.store.overlaps import FoundOverlap

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from mining.encode import Encoder


def load_query_encoder(name: str, folder: Path, *, device: str, encode_missing: bool) -> "Encoder":
    """
    The encoder of queries, with its cache in `folder`; unless `encode_missing`, one that refuses to encode, so that the
    cache must have everything.

    Raises UserError if it cannot be loaded.
    """
    from mining.encode import load_encoder

    with mining_errors():
        encoder = load_encoder(name, device=device, folder=folder).for_queries()
    return encoder if encode_missing else _CachedOnly(encoder)


class Similarity:
    """Evaluation texts as vectors, to be searched by the asked texts of samples."""

    def __init__(
        self, encoder: "Encoder", folder: Path, texts: Sequence[EvalText], *, least: float, device: str
    ) -> None:
        """
        Encode the evaluation texts, or find them in the cache.

        Args:
            encoder: see `load_query_encoder`.
            folder: of the cache.
            texts: of one or more evaluation sets.
            least: cosine from which a text counts as similar.
            device: that searches.

        Raises UserError if vectors are missing that may not be encoded, or the encoder or the search cannot work.
        """
        from mining.search import describe_search

        self._encoder, self._folder, self._least, self._device = encoder, folder, least, device
        self.notes: list[str] = []
        with mining_errors():
            self.search = describe_search(device)
        by_set: dict[UUID, list[EvalText]] = {}
        for text in texts:
            by_set.setdefault(text.eval_source_id, []).append(text)
        self._sets = [(each, self._vectors([text.text for text in each])) for each in by_set.values()]

    def similar(self, rows: Sequence[Mapping[str, Any]]) -> list[FoundOverlap]:
        """The nearest text of each evaluation set, where its cosine is high enough. Raises as the constructor."""
        from mining.search import search

        asked = [(row, field, text) for row in rows for field, text in asked_texts(row).items()]
        query_ND = self._vectors([text for _, _, text in asked])
        found = []
        for texts, eval_MD in self._sets:
            with mining_errors():
                scores_N1, rows_N1 = search(query_ND, eval_MD, 1, device=self._device)
            for (row, field, _), score, place in zip(asked, scores_N1[:, 0], rows_N1[:, 0], strict=True):
                if score >= self._least:
                    nearest = texts[int(place)]
                    found.append(
                        FoundOverlap(
                            row["sample_id"],
                            row["revision_id"],
                            field,
                            nearest.eval_source_id,
                            nearest.eval_id,
                            "similar",
                            float(score),
                        )
                    )
        return found

    def _vectors(self, texts: Sequence[str]) -> "NDArray[np.float32]":
        with mining_errors():
            return vectors_of(self._encoder, texts, self._folder, self.notes)


class _CachedOnly:
    """An encoder that encodes nothing: what its cache has not is an error."""

    def __init__(self, encoder: "Encoder") -> None:
        self.name, self.fingerprint = encoder.name, encoder.fingerprint
        self.dimension, self.description = encoder.dimension, encoder.description

    def for_queries(self) -> "Encoder":
        """Itself: it is for queries already."""
        return self

    def for_passages(self) -> "Encoder":
        """Itself."""
        return self

    def encode(self, texts: Sequence[str]) -> "NDArray[np.float32]":
        """Raises MiningError."""
        raise MiningError(
            f"the cache of {self.name} lacks the vectors of {len(texts)} texts or more; "
            f"give `--encoder {self.name}` to encode them"
        )
