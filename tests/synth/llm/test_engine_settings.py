"""Keys, addresses, prices and limits: what is refused, and that a key goes nowhere else."""

import logging
import traceback
from pathlib import Path
from typing import Any

import pytest

from synth.llm.config import LLMConfig
from synth.llm.engine import Engine
from synth.llm.journal import Journal
from synth.records import LLMError, UserError
from tests.chat_server import ChatServer
from tests.synth.llm.asking import asking, echo, engine_for

KEY = "sk-a-key-that-nobody-may-see-0123456789"

BAD_ADDRESSES = [
    "http://[::1",
    "http://[zz]/",
    "http://[127.0.0.1]/v1",
    "http://h:abc/v1",
    "http://h:/v1",
    "http://h:0/v1",
    "http://h:99999/v1",
    "http://..../v1",
    "http://a..b/v1",
    f"http://{'a' * 300}/v1",
    "http://1.2.3.400/v1",
    "http://\x1b[31m/v1",
    "http://h/\ud800",
    "http://h/v1\n",
    f"http://h/{'a' * 2000}",
]


def lines_of(folder: Path) -> list[str]:
    return [line for path in folder.iterdir() for line in path.read_text().splitlines()]


@pytest.mark.parametrize(
    ("prices", "said"),
    [
        ({"price_in": 1.0}, "go together"),
        ({"price_out": 0.0}, "go together"),
        ({"price_in": -1.0, "price_out": 1.0}, "must be 0 to"),
        ({"price_in": float("nan"), "price_out": 1.0}, "must be 0 to"),
        ({"price_in": float("inf"), "price_out": 1.0}, "must be 0 to"),
        ({"price_in": 1.0, "price_out": 1e308}, "must be 0 to"),
    ],
)
def test_a_price_that_makes_no_sense_is_refused(prices: dict[str, float], said: str) -> None:
    with pytest.raises(UserError, match=said):
        LLMConfig.of("http://localhost/v1", "m", **prices)


@pytest.mark.parametrize("key", ["sk-one\nsk-two", "sk-one sk-two", "sk-öne"])
async def test_a_key_with_characters_that_no_key_has_is_refused_without_being_shown(
    key: str, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", key)
    with pytest.raises(UserError, match="OPENAI_API_KEY") as caught:
        async with Engine(LLMConfig.of("http://localhost/v1", "test-model"), journal):
            pass
    assert "sk-" not in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"base_url": "localhost:8000/v1"}, "base_url"),
        ({"base_url": "ftp://localhost/v1"}, "base_url"),
        ({"base_url": "http:///v1"}, "base_url"),
        ({"base_url": "https://me:secret@host/v1"}, "base_url"),
        ({"base_url": "https://host/v1?key=secret"}, "base_url"),
        *(({"base_url": url}, "base_url") for url in BAD_ADDRESSES),
        *(({"model": model}, "model") for model in ("", " ", "a\ud800", "a\x1b[31m", "a\nb", "a" * 201)),
        ({"api_key_env": "sk-secret"}, "api_key_env"),
        ({"api_key_env": "sk_secret"}, "api_key_env"),
        ({"temperature": -0.1}, "temperature"),
        ({"temperature": float("nan")}, "temperature"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"concurrency": 0}, "concurrency"),
        ({"timeout_seconds": 0.0}, "timeout_seconds"),
        ({"max_retries": -1}, "max_retries"),
        ({"weight": 1e308}, "weight must be 0.000001 to 1,000,000"),
        ({"weight": 5e-324}, "weight"),
        ({"temperature": 1e308}, "temperature must be 0 to 100"),
        ({"max_tokens": 2**63 - 1}, "max_tokens must be 1 to 10,000,000"),
        ({"concurrency": 2**63 - 1}, "concurrency must be 1 to 10,000"),
        ({"requests_per_minute": 0}, "requests_per_minute must be 1 to"),
        ({"tokens_per_minute": 2**63 - 1}, "tokens_per_minute must be 1 to"),
        ({"timeout_seconds": 1e300}, "timeout_seconds must be more than 0, and at most 86,400"),
        ({"max_retries": 2**63 - 1}, "max_retries must be 0 to 1,000"),
    ],
)
def test_settings_that_make_no_sense_are_refused_by_name(settings: dict[str, Any], named: str) -> None:
    with pytest.raises(UserError, match=named) as caught:
        LLMConfig.of(**{"base_url": "http://localhost:8000/v1", "model": "test-model", **settings})
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "url", ["http://[::1]:8000/v1", "https://api.example.com", "http://10.0.0.7:65535/", "http://llm.internal./a_b/v1"]
)
async def test_addresses_of_every_kind_are_taken(url: str, journal: Journal) -> None:
    async with Engine(LLMConfig.of(url, "test-model"), journal) as engine:
        assert engine.config.endpoints[0].base_url == url


async def test_the_key_goes_to_the_server_and_nowhere_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY + "\n")
    caplog.set_level(logging.DEBUG)
    seen = []
    async with ChatServer(echo, key=KEY) as server, ChatServer(key="another") as strict:
        with Journal(tmp_path) as journal:
            async with engine_for(server, journal) as engine:
                seen += [repr(await engine.complete(asking("hello"))), repr(engine), repr(engine.config)]
            async with engine_for(strict, journal) as engine:
                with pytest.raises(LLMError, match=r"Incorrect API key provided: Bearer \*\*\*") as caught:
                    await engine.complete(asking("hello again"))
            seen += traceback.format_exception(caught.value)
    assert server.headers[0]["Authorization"] == f"Bearer {KEY}"
    seen += [record.getMessage() for record in caplog.records] + lines_of(tmp_path)
    assert not [text for text in seen if KEY in text]


async def test_a_server_that_needs_no_key_is_asked_without_one(journal: Journal) -> None:
    async with ChatServer(echo) as server, engine_for(server, journal, api_key_env="NO_SUCH_KEY") as engine:
        assert (await engine.complete(asking("hello"))).text == "you said: hello"
