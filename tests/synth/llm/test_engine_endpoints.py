"""Several servers and models: who is asked what, and who stands in for one that fails."""

import asyncio
import socket
from collections import Counter
from typing import Any

import pytest

from synth.llm import server as server_module
from synth.llm.config import Endpoint, LLMConfig
from synth.llm.engine import Engine
from synth.llm.journal import Journal
from synth.records import LLMError
from tests.chat_server import ChatServer, Fault
from tests.synth.llm.asking import asking, echo

TEXTS = [f"text {number}" for number in range(200)]


def config(*endpoints: Endpoint, **settings: Any) -> LLMConfig:
    return LLMConfig(endpoints, **{"max_retries": 2, **settings})


async def ask_all(engine: Engine, texts: list[str] = TEXTS) -> list[str]:
    replies = await asyncio.gather(*(engine.complete(asking(text)) for text in texts))
    assert [reply.text for reply in replies] == [f"you said: {text}" for text in texts]
    return [f"{reply.asked} at {reply.server}" for reply in replies]


def nowhere() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}/v1"


async def test_models_share_the_requests_by_weight_and_each_request_keeps_its_model(journal: Journal) -> None:
    async with ChatServer(echo) as server:
        both = config(Endpoint(server.base_url, "small", weight=3.0), Endpoint(server.base_url, "large"))
        async with Engine(both, journal) as engine:
            asked = await ask_all(engine)
        shares = Counter(name.split()[0] for name in asked)
        assert 120 < shares["small"] < 180 and shares.total() == 200
        reordered = config(Endpoint(server.base_url, "large"), Endpoint(server.base_url, "small", weight=3.0))
        async with Engine(reordered, journal) as engine:
            assert await ask_all(engine) == asked
    assert server.paid == 200


async def test_a_model_that_is_added_takes_its_share_and_nothing_is_asked_twice(journal: Journal) -> None:
    async with ChatServer(echo) as server:
        async with Engine(config(Endpoint(server.base_url, "first")), journal) as engine:
            await ask_all(engine, TEXTS[:100])
        both = config(Endpoint(server.base_url, "first"), Endpoint(server.base_url, "second"))
        async with Engine(both, journal) as engine:
            asked = await ask_all(engine)
    assert server.paid == 200
    assert {name.split()[0] for name in asked[:100]} == {"first"}
    assert Counter(name.split()[0] for name in asked[100:])["second"] > 25


async def test_two_servers_of_one_model_work_side_by_side(journal: Journal) -> None:
    async with ChatServer(echo, latency=0.01) as one, ChatServer(echo, latency=0.01) as other:
        both = config(Endpoint(one.base_url, "m"), Endpoint(other.base_url, "m"))
        async with Engine(both, journal) as engine:
            await ask_all(engine)
    assert one.paid + other.paid == 200 and min(one.paid, other.paid) > 50


async def test_requests_that_come_at_once_are_spread_even_while_nobody_knows_the_servers(journal: Journal) -> None:
    schema = {"title": "A", "type": "object", "properties": {}, "required": [], "additionalProperties": False}
    async with ChatServer(echo, latency=0.05) as one, ChatServer(echo, latency=0.05) as other:
        both = config(Endpoint(one.base_url, "m"), Endpoint(other.base_url, "m"))
        async with Engine(both, journal) as engine:
            await asyncio.gather(*(engine.complete(asking(text), schema=schema) for text in TEXTS))
    assert one.paid + other.paid == 200 and min(one.paid, other.paid) >= 90


async def test_a_server_that_is_not_there_is_stood_in_for_at_once(journal: Journal) -> None:
    async with ChatServer(echo) as server:
        away = Endpoint(nowhere(), "m")
        async with asyncio.timeout(4), Engine(config(away, Endpoint(server.base_url, "m")), journal) as engine:
            await ask_all(engine)
    assert server.paid == 200


async def test_a_server_that_refuses_its_key_is_stood_in_for_by_another_model(journal: Journal) -> None:
    async with ChatServer(echo, key="a key that we do not have") as strict, ChatServer(echo) as server:
        both = config(Endpoint(strict.base_url, "a"), Endpoint(server.base_url, "b"))
        async with Engine(both, journal) as engine:
            asked = await ask_all(engine)
    assert {name.split()[0] for name in asked} == {"b"} and strict.paid == 0


async def test_a_server_that_is_back_is_asked_again(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "OUT_SECONDS", 0.2)
    notes: list[str] = []
    failing = {"now": True}

    def error(_: dict[str, Any]) -> tuple[int, Any] | None:
        return (401, {"error": {"message": "who are you?"}}) if failing["now"] else None

    async with ChatServer(echo, error=error) as server, ChatServer(echo) as other:
        both = config(Endpoint(server.base_url, "m"), Endpoint(other.base_url, "m"))
        async with Engine(both, journal, on_note=notes.append) as engine:
            await ask_all(engine, TEXTS[:100])
            failing["now"] = False
            await asyncio.sleep(0.3)
            await ask_all(engine, TEXTS[100:])
    assert server.paid > 10 and other.paid >= 100
    assert any("serves again" in note for note in notes)


async def test_when_no_server_is_left_the_error_names_each_with_its_reason(journal: Journal) -> None:
    async with ChatServer(key="another") as strict, ChatServer(faults={Fault.BROKEN: 1.0}) as broken:
        both = config(Endpoint(strict.base_url, "a"), Endpoint(broken.base_url, "b"), max_retries=1)
        async with Engine(both, journal) as engine:
            with pytest.raises(LLMError) as caught:
                await engine.complete(asking("hello"))
            with pytest.raises(LLMError, match="500: out of memory"):
                await engine.complete(asking("another"))
    assert "(401)" in str(caught.value) and "500: out of memory" in str(caught.value)


async def test_requests_that_fail_one_after_the_other_do_not_end_the_run_of_a_server_that_serves(
    journal: Journal,
) -> None:
    def error(body: dict[str, Any]) -> tuple[int, Any] | None:
        return (500, {"error": "no"}) if "bad" in body["messages"][-1]["content"] else None

    async with ChatServer(echo, error=error) as server:
        alone = config(Endpoint(server.base_url, "m"), max_retries=0)
        async with Engine(alone, journal) as engine:
            failed = await asyncio.gather(
                *(engine.complete(asking(f"bad {number}")) for number in range(8)), return_exceptions=True
            )
            await ask_all(engine, TEXTS[:5])
    assert not any(isinstance(each, LLMError) for each in failed)
