"""What the tests of batches share: requests, and a desk at a server on loopback."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

from synth.llm.batch.desk import BatchDesk, Request
from synth.llm.config import Endpoint
from synth.llm.journal import Journal
from synth.records import key_of
from tests.chat_server import ChatServer

MODEL = "test-model"
AT_ONCE = (0.01, 0.05)  # seconds between two looks


def key(number: int) -> UUID:
    return key_of("request", number)


def requests(*numbers: int) -> list[Request]:
    return [Request(key(number), body(number)) for number in numbers]


def body(number: int, model: str = MODEL) -> bytes:
    return json.dumps({"model": model, "messages": [{"role": "user", "content": f"1 text {number}"}]}).encode()


def endpoint_for(server: ChatServer, **settings: Any) -> Endpoint:
    return Endpoint(**{"base_url": server.base_url, "model": MODEL, **settings})


@asynccontextmanager
async def desk_for(
    server: ChatServer, journal: Journal, *, server_key: str = "", notes: list[str] | None = None, **settings: Any
) -> AsyncIterator[BatchDesk]:
    """A desk whose batches are beside the journal."""
    on_note = (notes if notes is not None else []).append
    endpoint = endpoint_for(server, **settings)
    async with BatchDesk(endpoint, server_key, batches_of(journal), journal, on_note=on_note) as desk:
        yield desk


def batches_of(journal: Journal) -> Path:
    return journal.folder.parent / "batches"
