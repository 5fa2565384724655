"""
Texts to vectors at an OpenAI-compatible embeddings server (a hosted API, vLLM, Text Embeddings Inference, Ollama,
llama.cpp), behind the same few methods as a model on this machine (mining/encode.py). N texts, D dimensions.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from synth.llm.config import Endpoint
from synth.llm.embedding_server import EmbeddingServer, Spent
from synth.records import UserError


@dataclass(frozen=True)
class EndpointEncoder:
    """
    An encoder behind an HTTP endpoint. Made by `open_endpoint`; its first use asks the server for the vectors of two
    sentences, to know its dimension and to recognise its model.
    """

    server: EmbeddingServer = field(repr=False)
    query_instruction: str
    passage_instruction: str
    instruction: str | None = None  # put before every text; None: neither side's

    @property
    def name(self) -> str:
        """The model, as the server knows it."""
        return self.server.endpoint.model

    @cached_property
    def fingerprint(self) -> str:
        """
        32 hexadecimal digits: of the model's name, its vectors for fixed texts, their dimension and the instruction (of
        neither side, both). Not of the address: a server that moves keeps its vectors.
        """
        both = [self.query_instruction, self.passage_instruction]
        instructions = both if self.instruction is None else [self.instruction]
        parts = ["endpoint", self.name, self.dimension, self.server.identity, *instructions]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]

    @property
    def dimension(self) -> int:
        """D, the length of a vector."""
        return int(self.server.probe_PD.shape[1])

    @property
    def description(self) -> str:
        """One line to print and to store: model, server and dimension."""
        instruction = f", instruction {self.instruction!r}" if self.instruction else ""
        return f"{self.name} at {self.server.endpoint.base_url}, {self.dimension} dimensions{instruction}"

    @property
    def spent(self) -> Spent:
        """What the server was asked so far, for both sides."""
        return self.server.spent

    def for_queries(self) -> "EndpointEncoder":
        """The same model with the instruction for queries."""
        return replace(self, instruction=self.query_instruction)

    def for_passages(self) -> "EndpointEncoder":
        """The same model with the instruction for passages."""
        return replace(self, instruction=self.passage_instruction)

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """
        Encode texts, several requests at a time. Not for use inside an event loop.

        Args:
            texts: N texts. Of one that the server finds too long, the first half counts, or quarter, ...; `spent` says
                of how many.

        Returns:
            (N, D) float32, L2-normalised.

        Raises:
            LLMError: the server cannot be reached, refuses, or gives no usable vectors. UserError: see `dimension`.
        """
        self.server.probe_PD  # noqa: B018 (the dimension that all vectors must have)
        return self.server.vectors([(self.instruction or "") + text for text in texts])


def open_endpoint(
    base_url: str,
    model: str,
    *,
    folder: Path,
    api_key_env: str = "OPENAI_API_KEY",
    dimensions: int | None = None,
    query_instruction: str = "",
    passage_instruction: str = "",
) -> EndpointEncoder:
    """
    An encoder behind an OpenAI-compatible server. Nothing is asked of it yet.

    Args:
        base_url: the address before /embeddings, often ending in /v1.
        folder: of the cache of vectors.
        api_key_env: the variable that holds the key, if the server wants one.
        dimensions: asked of the server, of models whose vectors can be shortened; None: the model's own.
        query_instruction: put before each query, as the model was trained to see it; "passage" alike.

    Raises:
        UserError: a setting makes no sense.
    """
    if dimensions is not None and dimensions < 1:
        raise UserError(f"the settings of the encoder: dimensions must be 1 or more, not {dimensions}")
    try:
        endpoint = Endpoint(base_url, model, api_key_env)
    except UserError as error:  # it speaks of the LLM
        raise UserError(f"the settings of the encoder: {str(error).partition(': ')[2]}") from None
    return EndpointEncoder(EmbeddingServer(endpoint, dimensions, folder), query_instruction, passage_instruction)
