"""The engine against a real server on loopback: what it asks, and what it hands out."""

import asyncio
import json
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from synth.llm.engine import Engine
from synth.llm.journal import Journal, Reply
from synth.llm.receipts import NoReply
from synth.records import BadReply, FailureKind
from tests.chat_server import ChatServer, Fault
from tests.synth.llm.asking import asking, config_for, echo, engine_for


def lines_of(folder: Path) -> list[str]:
    return [line for path in folder.iterdir() for line in path.read_text().splitlines()]


async def test_every_reply_has_a_receipt_the_replayed_the_cut_and_the_empty_one_too(
    journal: Journal,
) -> None:
    script = [None, Fault.CUT_REPLY]
    replies = iter(["one it is", "two", " "])
    async with ChatServer(lambda _: next(replies), script=script) as server, engine_for(server, journal) as engine:
        first = await engine.complete(asking("one"), seed_id=UUID(int=1))
        again = await engine.complete(asking("one"), attempt=0)
        await engine.complete(asking("two"), attempt=3)
        with pytest.raises(NoReply, match="empty"):
            await engine.complete(asking("three"))
        receipts = engine.take_receipts()
        assert engine.take_receipts() == []
    assert first.call_id == again.call_id == receipts[0].call_id == receipts[1].call_id
    assert [(r.fault, r.attempt, r.seed_id) for r in receipts] == [
        (None, 0, UUID(int=1)),
        (None, 0, None),
        (None, 3, None),
        ("empty", 0, None),
    ]
    assert receipts[0].reply == first and [r.reply.replayed for r in receipts] == [False, True, False, False]


async def test_the_question_whether_a_server_serves_is_paid_for_as_well(journal: Journal) -> None:
    def refuse_long(body: dict[str, Any]) -> tuple[int, Any] | None:
        return (400, "too long") if "long" in body["messages"][-1]["content"] else None

    async with ChatServer(echo, error=refuse_long) as server, engine_for(server, journal) as engine:
        with pytest.raises(BadReply):
            await engine.complete(asking("a long one"))
        assert [receipt.fault for receipt in engine.take_receipts()] == ["probe"]


async def test_a_reply_carries_text_model_tokens_and_time(journal: Journal) -> None:
    async with ChatServer(echo, latency=0.02) as server, engine_for(server, journal) as engine:
        reply = await engine.complete(asking("a cat purrs"))
    assert reply.text == "you said: a cat purrs"
    assert (reply.model, reply.finish_reason, reply.replayed) == ("test-model", "stop", False)
    assert reply.tokens_in == len("a cat purrs") // 4 and reply.tokens_out == len(reply.text) // 4
    assert 0.02 <= reply.seconds < 5


SCHEMA = {
    "title": "Answer",
    "type": "object",
    "properties": {"answer": {"type": "string"}},
    "required": ["answer"],
    "additionalProperties": False,
}


async def test_the_request_says_what_the_settings_say(journal: Journal) -> None:
    async with ChatServer(echo) as server:
        async with engine_for(server, journal, temperature=0.3, max_tokens=77) as engine:
            await engine.complete(asking("hello"), schema=SCHEMA)
        async with engine_for(server, journal, response_format="json_object") as engine:
            await engine.complete(asking("hello"), schema=SCHEMA)
            await engine.complete(asking("hello"))
    first, second, third = server.asked
    assert first == {
        "model": "test-model",
        "messages": asking("hello"),
        "temperature": 0.3,
        "max_tokens": 77,
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "Answer", "strict": True, "schema": SCHEMA},
        },
    }
    assert second["response_format"] == {"type": "json_object"}
    assert "response_format" not in third


async def test_a_server_without_schemas_is_asked_for_json_and_that_is_remembered(journal: Journal) -> None:
    def error(body: dict[str, Any]) -> tuple[int, Any] | None:
        asked = body.get("response_format", {}).get("type")
        return (400, {"error": {"message": "response_format json_schema"}}) if asked == "json_schema" else None

    async with ChatServer(echo, error=error, latency=0.01) as server:
        for first in (0, 20):
            async with engine_for(server, journal) as engine:
                asked = (engine.complete(asking(str(first + number)), schema=SCHEMA) for number in range(20))
                await asyncio.gather(*asked)
    assert server.paid == 40 and len(server.asked) == 41  # one was rejected, once and for all


async def test_the_same_request_asked_at_once_by_many_is_bought_once(journal: Journal) -> None:
    async with ChatServer(echo, latency=0.02) as server, engine_for(server, journal) as engine:
        replies = await asyncio.gather(*(engine.complete(asking("hello")) for _ in range(10)))
    assert server.paid == 1 and len({reply.text for reply in replies}) == 1
    assert sum(reply.replayed for reply in replies) == 9


async def test_a_request_known_to_be_hopeless_is_not_sent(journal: Journal) -> None:
    async with ChatServer(echo) as server:
        async with engine_for(server, journal) as engine:
            _, key = engine.first_asked(asking("far too long"))
        assert key is not None
        hopeless: dict[UUID, tuple[FailureKind, str]] = {key: ("too_long", "8192 tokens are the most")}
        async with Engine(config_for(server), journal, hopeless=hopeless) as engine:
            with pytest.raises(NoReply, match="8192 tokens are the most") as caught:
                await engine.complete(asking("far too long"))
            await engine.complete(asking("far too long"), attempt=1)
    assert (caught.value.kind, caught.value.permanent, caught.value.num_attempts) == ("too_long", True, 0)
    assert len(server.asked) == 1


async def test_the_same_request_is_never_asked_twice(tmp_path: Path) -> None:
    async with ChatServer(echo) as server:
        for replayed in (False, True):
            with Journal(tmp_path) as journal:
                async with engine_for(server, journal) as engine:
                    reply = await engine.complete(asking("hello"))
                    assert reply.replayed is replayed
                    assert engine.usage.replayed == replayed and engine.usage.tokens_out == reply.tokens_out * (
                        not replayed
                    )
    assert len(server.asked) == server.paid == 1


async def test_another_attempt_text_schema_model_or_sampling_is_another_request(journal: Journal) -> None:
    async with ChatServer(echo) as server:
        base = config_for(server)
        others = (config_for(server, model="other"), replace(base, temperature=0.5), replace(base, max_tokens=9))
        for config in (base, *others):
            async with Engine(config, journal) as engine:
                await engine.complete(asking("hello"))
        async with Engine(base, journal) as engine:
            await engine.complete(asking("hello"), attempt=1)
            await engine.complete(asking("hello!"))
            await engine.complete(asking("hello"), schema=SCHEMA)
        async with Engine(
            config_for(server, concurrency=2, timeout_seconds=5.0, price_in=1, price_out=1), journal
        ) as e:
            assert (await e.complete(asking("hello"))).replayed
    assert len(server.asked) == 7


async def test_a_reply_cut_at_the_limit_is_handed_out_as_what_it_is(journal: Journal) -> None:
    async with ChatServer(echo, script=[Fault.CUT_REPLY]) as server, engine_for(server, journal) as engine:
        reply = await engine.complete(asking("hello"))
    assert (reply.finish_reason, reply.text) == ("length", "you sai")


async def test_an_empty_reply_is_a_bad_reply(journal: Journal) -> None:
    async with ChatServer(lambda _: "  ") as server, engine_for(server, journal) as engine:
        with pytest.raises(BadReply, match="is empty"):
            await engine.complete(asking("hello"))


async def test_a_reply_is_in_the_journal_before_anyone_sees_it(tmp_path: Path) -> None:
    async with ChatServer(echo) as server:
        with Journal(tmp_path) as journal:
            async with engine_for(server, journal) as engine:
                reply = await engine.complete(asking("hello"))
                (line,) = lines_of(tmp_path)
    fields = json.loads(line)
    fields.pop("key")
    assert Reply(**fields) == reply
    assert (reply.asked, reply.server) == ("test-model", server.base_url)
