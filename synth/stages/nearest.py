"""
Which samples are alike: their queries or first texts, by cosine, from the vectors that are cached on disk.

Shapes: N samples, D dimensions, K of them kept by a filter.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING
from uuid import UUID

import numpy as np
import pyarrow
import pyarrow.compute as pc
from numpy.typing import NDArray

from synth.records import UserError, text_id
from synth.stages.encoders import open_encoder
from synth.stages.mine.plan import encoder_settings
from synth.stages.mine.settings import MineSettings
from synth.stages.vectors import mining_errors, vectors_of
from synth.store.connection import Store
from synth.store.exploring import Filter, Head, first_texts, head_of, num_kept, text_of

if TYPE_CHECKING:
    from mining.encode import Encoder

MOST_BYTES = 1 << 29  # of vectors in memory
MOST_POINTS = 100_000  # of the map
BLOCK = 128  # texts that are encoded between two looks at the clock
SECONDS = 4.0  # of encoding, before somebody is shown what there is

Vectors = NDArray[np.float32]


@dataclass(frozen=True)
class Space:
    """
    The samples that have vectors, in the order of `draw`, so that the first of them are a random part.

    Attributes:
        sample_ids: of N samples, as text; `revision_ids` likewise.
        vectors_ND: L2-normalised.
        num_without: samples that have none yet, or that there was no room for.
        encoder: as it encodes queries; `folder` is its cache's.
        may_encode: whether those without can get one here: no server would be paid for it.
    """

    sample_ids: pyarrow.Array
    revision_ids: pyarrow.Array
    vectors_ND: Vectors
    num_without: int
    encoder: "Encoder"
    folder: Path
    may_encode: bool

    def heads(self, rows: Sequence[int]) -> list[Head]:
        """The samples at these places."""
        return [Head(UUID(self.sample_ids[row].as_py()), UUID(self.revision_ids[row].as_py())) for row in rows]

    def kept(self, revision_ids: pyarrow.Array) -> NDArray[np.intp]:
        """The places (K,) of the samples with these latest revisions, in order."""
        return np.flatnonzero(pc.is_in(self.revision_ids, value_set=revision_ids).to_numpy(zero_copy_only=False))


def open_space(store: Store, settings: MineSettings, folder: Path, *, seconds: float = SECONDS) -> Space:
    """
    The vectors of the samples to train on: those in the cache, and of the others as many as can be encoded in so many
    seconds (a model at a server is asked for none). What is encoded is cached.

    Args:
        settings: of mining, whose encoder is meant.
        folder: where vectors are cached.

    Raises UserError if there is no such encoder, or the cache cannot be read.
    """
    with mining_errors():
        encoder = _encoder(settings, folder)
        found = first_texts(store, MOST_BYTES // (4 * encoder.dimension))
        texts = found["text"].to_pylist()
        vectors_ND, known_N = _cached(encoder, texts, folder)
        may_encode = not settings.base_url
        if may_encode:
            _encode(encoder, texts, folder, vectors_ND, known_N, seconds)
    rows = np.flatnonzero(known_N)
    num_all = num_kept(store, Filter())
    of = [found[name].combine_chunks().take(pyarrow.array(rows)) for name in ("sample_id", "revision_id")]
    return Space(of[0], of[1], vectors_ND[rows], num_all - len(rows), encoder, folder, may_encode)


def nearest(
    store: Store, space: Space, sample_id: UUID, kept: NDArray[np.intp], number: int
) -> list[tuple[Head, float]]:
    """
    The `number` samples nearest to one, among those at the places `kept` (K,), each with its cosine; the sample itself
    first, whatever is kept. Ties are broken by place.

    Raises UserError if there is no such sample, or it has no vector and none can be made here.
    """
    head = head_of(store, sample_id)
    own_D = _vector(store, space, head)
    cosine_K = space.vectors_ND[kept] @ own_D
    best = np.lexsort((kept, -cosine_K))[: number + 1]
    found = list(zip(space.heads(kept[best].tolist()), cosine_K[best].tolist(), strict=True))
    return [(head, 1.0), *(each for each in found if each[0] != head)][:number]


def project(space: Space, kept: NDArray[np.intp]) -> tuple[NDArray[np.intp], Vectors]:
    """
    The samples kept on the two axes along which they differ most (principal components, found in all of them).

    Returns the places (P,) of at most 100,000 of them, a random part, and where they are, (P, 2). The signs are such
    that the greatest part of each axis is positive: the same vectors give the same map.
    """
    chosen = kept[:MOST_POINTS]
    vectors_PD = space.vectors_ND[chosen]
    if len(chosen) < 2:
        return chosen, np.zeros((len(chosen), 2), dtype=np.float32)
    centred_PD = vectors_PD - vectors_PD.mean(axis=0)
    _, axes_DD = np.linalg.eigh(centred_PD.T @ centred_PD)  # the greatest last
    axes_D2 = axes_DD[:, :-3:-1]
    axes_D2 = axes_D2 * np.sign(axes_D2[np.abs(axes_D2).argmax(axis=0), [0, 1]])
    return chosen, np.asarray(centred_PD @ axes_D2, dtype=np.float32)


def _vector(store: Store, space: Space, head: Head) -> Vectors:
    """(D,): from the space, or else encoded now."""
    place = pc.index(space.revision_ids, pyarrow.scalar(str(head.revision_id), space.revision_ids.type)).as_py()
    if place >= 0:
        return np.asarray(space.vectors_ND[place])
    text = text_of(store, head)
    with mining_errors():
        vectors_1D, known_1 = _cached(space.encoder, [text], space.folder)
        if not known_1[0] and not space.may_encode:
            raise UserError(f"sample {head.sample_id} has no vector of {space.encoder.name} yet; run `synth mine`")
        return np.asarray((vectors_1D if known_1[0] else vectors_of(space.encoder, [text], space.folder, []))[0])


def _cached(encoder: "Encoder", texts: Sequence[str], folder: Path) -> tuple[Vectors, NDArray[np.bool_]]:
    """Vectors (N, D), and for which texts there are any."""
    from mining.precomputed import PrecomputedEncoder
    from mining.shards import fill_from_disk, join_ids

    if isinstance(encoder, PrecomputedEncoder) or not texts:  # they are on this disk already
        return encoder.encode(texts), np.ones(len(texts), dtype=np.bool_)
    raw = np.frombuffer(b"".join([text_id(text).bytes for text in texts]), dtype=np.uint8)
    keys_U, first_U, of_N = np.unique(join_ids(raw.reshape(-1, 16)), return_index=True, return_inverse=True)
    vectors_ND = np.zeros((len(texts), encoder.dimension), dtype=np.float32)
    known_U, _ = fill_from_disk(
        folder / encoder.fingerprint, keys_U, first_U, vectors_ND, _are_sound, "embedding cache"
    )
    return vectors_ND[first_U[of_N]], known_U[of_N]


def _are_sound(vectors_SD: Vectors) -> bool:
    return bool(np.allclose(np.einsum("sd,sd->s", vectors_SD, vectors_SD), 1.0, rtol=0, atol=2e-3))


def _encode(
    encoder: "Encoder",
    texts: Sequence[str],
    folder: Path,
    vectors_ND: Vectors,
    known_N: NDArray[np.bool_],
    seconds: float,
) -> None:
    """Fill in what is missing, in order, until the time is up. The clock starts when the model is loaded."""
    missing = np.flatnonzero(~known_N)
    end = None
    for start in range(0, len(missing), BLOCK):
        rows = missing[start : start + BLOCK]
        vectors_ND[rows] = vectors_of(encoder, [texts[row] for row in rows], folder, [])
        known_N[rows] = True
        end = end or monotonic() + seconds
        if monotonic() > end:
            return


def _encoder(settings: MineSettings, folder: Path) -> "Encoder":
    """The first miner's, as it encodes queries."""
    return open_encoder(encoder_settings(settings), folder, device="auto", precision=settings.precision).for_queries()
