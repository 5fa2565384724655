"""What the tests of vectors from a server share: an encoder at one, texts, and what should come of them."""

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from synth.llm.embeddings import EndpointEncoder
from synth.records import LLMError, SkiffError
from tests.embedding_server import vector_of

Opener = Callable[..., EndpointEncoder]

TEXTS = ["a cat", "a dog that barks", "", "a pike in the reeds of a lake", "冬天"]


def expected(texts: list[str]) -> NDArray[np.float32]:
    rows = np.stack([vector_of(text) for text in texts])
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def error_of(doing: Callable[[], object], kind: type[SkiffError] = LLMError) -> str:
    with pytest.raises(kind) as caught:
        doing()
    said = str(caught.value)
    assert said.isprintable() and len(said) < 700
    return said


def assert_encoded(encoder: EndpointEncoder, texts: list[str]) -> None:
    found = encoder.encode(texts)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected([text or " " for text in texts]), atol=1e-6)
