"""
One POST to an OpenAI-compatible embeddings server, through the openai package: vectors, or the fault (faults.py) sorted
by what is to be done about it. Importing this file imports openai, which takes a second.

What a server says is hostile input: whatever comes out of here is finite numbers in the shape that was asked for.
"""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import openai
import orjson
from numpy.typing import NDArray

from synth.llm.config import Endpoint
from synth.llm.faults import Fault, Rejected, Transient, Unusable
from synth.llm.journal import MOST_TOKENS
from synth.llm.openai_client import OpenAIClient

VectorFormat = Literal["base64", "float"]

MOST_BYTES = 256 << 20  # of one reply: 128 vectors of 16,384 numbers, written out in full, are 50 MB
# llama.cpp says so with a 500: a text of more tokens than its physical batch
_TOO_LONG = "too large to process"


@dataclass(frozen=True, slots=True)
class Embedded:
    """The vectors of one request, (N, D), as the server gave them; `tokens` as it counts them, 0 where it does not."""

    vectors_ND: NDArray[np.float32]
    tokens: int


class EmbeddingClient(OpenAIClient):
    """One server, one key ("" for none). Open it with `async with`."""

    def __init__(self, endpoint: Endpoint, key: str, *, dimensions: int | None, timeout_seconds: float) -> None:
        super().__init__(endpoint, key, silent_seconds=timeout_seconds, most_bytes=MOST_BYTES)
        self._model, self._dimensions, self._timeout_seconds = endpoint.model, dimensions, timeout_seconds
        self._headers = {} if key else {"Authorization": openai.Omit()}

    async def post(self, texts: Sequence[str], vector_format: VectorFormat) -> Embedded:
        """
        Send one request.

        Args:
            texts: N texts, none of them empty.
            vector_format: how the vectors are asked for; a server may give them as it likes.

        Returns:
            Vectors (N, D), in the order of the texts. They may be of any length, and hold NaN.

        Raises:
            Transient, TimedOut, Refused, Unreachable, Rejected, Unusable: see each.
        """
        async with self._asking(self._timeout_seconds):
            answer = await self._client.embeddings.with_raw_response.create(
                model=self._model,
                input=list(texts),
                dimensions=openai.omit if self._dimensions is None else self._dimensions,
                encoding_format=vector_format,  # stated, or the package would make lists of what it is given
                extra_headers=self._headers,
            )
            content = answer.content
        return self._read(content, len(texts))

    def _fault(self, error: openai.APIStatusError) -> Fault:
        fault = super()._fault(error)
        if isinstance(fault, Transient) and _TOO_LONG in str(fault):
            return Rejected(str(fault), error.status_code, alone=True, kind="too_long")
        return fault

    def _broken(self, error: BaseException) -> Fault:
        fault = super()._broken(error)
        return Transient(f"the connection broke: {fault}", "reset", paid=True) if fault.cause == "reset" else fault

    def _read(self, content: bytes, num_texts: int) -> Embedded:
        try:
            body = orjson.loads(content)
        except orjson.JSONDecodeError:
            said = self.reader.line(content.decode(errors="replace"))
            raise Transient(f"a reply that is no JSON: {said}", "no JSON", paid=True) from None
        rows = body.get("data") if isinstance(body, dict) else None
        if not isinstance(rows, list):
            said = self.reader.line(str(body))
            paid = not (isinstance(body, dict) and body.get("error"))
            raise Transient(f"a reply without vectors: {said}", "no vectors", paid=paid)
        tokens = _tokens(body.get("usage"))
        if len(rows) != num_texts:
            raise Unusable(f"{len(rows)} vectors for {num_texts} texts", tokens)
        vectors = [_vector(row.get("embedding") if isinstance(row, dict) else None) for row in rows]
        if len({vector.shape for vector in vectors}) != 1 or vectors[0].ndim != 1 or not vectors[0].size:
            raise Unusable("vectors that are no lists of as many numbers each", tokens)
        vectors_ND = np.empty((num_texts, vectors[0].size), dtype=np.float32)
        vectors_ND[_places(rows, tokens)] = vectors
        return Embedded(vectors_ND, tokens)


def _vector(found: Any) -> NDArray[np.float32]:
    """A vector in base64 (little-endian float32) or as a list; of what is none, an empty one. null becomes NaN."""
    try:
        if isinstance(found, str):
            return np.frombuffer(base64.b64decode(found, validate=True), dtype="<f4").astype(np.float32)
        with np.errstate(over="ignore"):  # what float32 cannot hold is infinite, and told of as that
            return np.asarray(found if isinstance(found, list) else [], dtype=np.float32)
    except (ValueError, TypeError, OverflowError):
        return np.empty(0, dtype=np.float32)


def _places(rows: Sequence[Mapping[str, Any]], tokens: int) -> list[int]:
    """Which text each vector belongs to, by its `index`; where none has one, they stand in the order of the texts."""
    places = [row.get("index") for row in rows]
    if all(place is None for place in places):
        return list(range(len(rows)))
    wanted = set(range(len(rows)))
    if any(type(place) is not int for place in places) or set(places) != wanted:
        raise Unusable("vectors whose `index` does not say which text they belong to", tokens)
    return [int(place) for place in places if place is not None]


def _tokens(usage: Any) -> int:
    found = usage.get("prompt_tokens") if isinstance(usage, dict) else None
    return found if type(found) is int and 0 < found <= MOST_TOKENS else 0
