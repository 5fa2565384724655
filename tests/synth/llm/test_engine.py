"""The engine against a real server on loopback: what it asks, and what it hands out."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from synth.llm.engine import Engine
from synth.llm.journal import Journal, Reply
from synth.records import BadReply
from tests.chat_server import ChatServer, Fault
from tests.synth.llm.asking import asking, config_for, echo, engine_for


def lines_of(folder: Path) -> list[str]:
    return [line for path in folder.iterdir() for line in path.read_text().splitlines()]


async def test_every_reply_has_a_receipt_the_replayed_the_cut_and_the_engines_own_question_too(
    journal: Journal,
) -> None:
    script = [None, Fault.CUT_REPLY]
    async with ChatServer(echo, script=script) as server, engine_for(server, journal) as engine:
        first = await engine.complete(asking("one"), seed_id=UUID(int=1))
        again = await engine.complete(asking("one"), attempt=0)
        with pytest.raises(BadReply, match="max_tokens"):
            await engine.complete(asking("two"), attempt=3)
        receipts = engine.take_receipts()
        assert engine.take_receipts() == []
    assert first.call_id == again.call_id == receipts[0].call_id == receipts[1].call_id
    assert [(r.fault, r.attempt, r.seed_id) for r in receipts] == [
        ("", 0, UUID(int=1)),
        ("", 0, None),
        ("cut", 3, None),
    ]
    assert receipts[0].tokens_in == first.tokens_in and receipts[2].tokens_out > 0


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


async def test_the_request_says_what_the_settings_say(journal: Journal) -> None:
    async with ChatServer(echo) as server:
        async with engine_for(server, journal, temperature=0.3, max_tokens=77) as engine:
            await engine.complete(asking("hello"))
        async with engine_for(server, journal, response_format="none") as engine:
            await engine.complete(asking("hello"))
    first, second = server.asked
    assert first == {
        "model": "test-model",
        "messages": asking("hello"),
        "temperature": 0.3,
        "max_tokens": 77,
        "response_format": {"type": "json_object"},
    }
    assert "response_format" not in second


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


async def test_another_attempt_text_model_or_sampling_is_another_request(journal: Journal) -> None:
    async with ChatServer(echo) as server:
        base = config_for(server)
        for config in (base, replace(base, model="other"), replace(base, temperature=0.5), replace(base, max_tokens=9)):
            async with Engine(config, journal) as engine:
                await engine.complete(asking("hello"))
        async with Engine(base, journal) as engine:
            await engine.complete(asking("hello"), attempt=1)
            await engine.complete(asking("hello!"))
        async with Engine(replace(base, concurrency=2, timeout_seconds=5.0), journal) as engine:
            assert (await engine.complete(asking("hello"))).replayed
    assert len(server.asked) == 6


async def test_a_reply_cut_at_the_limit_is_journalled_and_says_to_raise_it(tmp_path: Path) -> None:
    async with ChatServer(echo, script=[Fault.CUT_REPLY]) as server:
        for _ in range(2):  # paid for once
            with Journal(tmp_path) as journal:
                async with engine_for(server, journal) as engine:
                    with pytest.raises(BadReply, match="cut at max_tokens = 2048; raise max_tokens"):
                        await engine.complete(asking("hello"))
    assert len(server.asked) == 1


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
