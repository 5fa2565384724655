"""What the tests of the engine share: a request, an answer, and an engine that asks a server on loopback."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from synth.llm.config import LLMConfig
from synth.llm.engine import Engine
from synth.llm.journal import Journal
from tests.chat_server import ChatServer


def asking(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def config_for(server: ChatServer, **settings: Any) -> LLMConfig:
    return LLMConfig.of(**{"base_url": server.base_url, "model": "test-model", "max_retries": 3, **settings})


@asynccontextmanager
async def engine_for(server: ChatServer, journal: Journal, **settings: Any) -> AsyncIterator[Engine]:
    async with Engine(config_for(server, **settings), journal) as engine:
        yield engine


def echo(messages: list[dict[str, str]]) -> str:
    return f"you said: {messages[-1]['content']}"
