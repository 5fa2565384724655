"""A server that is slow, busy, broken or not there: what is asked again, and when it is given up."""

import asyncio
import socket
import time

import pytest

from synth.llm.config import LLMConfig
from synth.llm.engine import Engine
from synth.llm.journal import Journal
from synth.records import BadReply, LLMError
from tests.chat_server import ChatServer, Fault
from tests.synth.llm.asking import asking, echo, engine_for


@pytest.mark.parametrize(
    "fault", [Fault.BROKEN, Fault.RESET, Fault.RESET_AFTER, Fault.CUT_BODY, Fault.NOT_JSON, Fault.NO_CHOICES]
)
async def test_what_broke_on_the_way_is_asked_again(fault: Fault, journal: Journal) -> None:
    async with ChatServer(echo, script=[fault, fault]) as server, engine_for(server, journal) as engine:
        assert (await engine.complete(asking("hello"))).text == "you said: hello"
    assert len(server.asked) == 3
    assert server.done[fault] == 2


@pytest.mark.parametrize("fault", [Fault.REFUSED, Fault.BUSY])
async def test_a_refusal_is_waited_out_however_often_it_comes(fault: Fault, journal: Journal) -> None:
    script = [fault] * 5  # more than max_retries
    async with ChatServer(echo, script=script, retry_after="0.06") as server, engine_for(server, journal) as engine:
        started = time.monotonic()
        await engine.complete(asking("hello"))
        assert time.monotonic() - started > 5 * 0.06
        assert sum(engine.usage.retries.values()) == 5 and engine.usage.requests == 6


@pytest.mark.parametrize("retry_after", [None, "soon", "nan", "-5"])
async def test_a_refusal_without_a_sensible_time_is_waited_out_too(retry_after: str | None, journal: Journal) -> None:
    server = ChatServer(echo, script=[Fault.REFUSED], retry_after=retry_after)
    async with server, engine_for(server, journal) as engine:
        assert (await engine.complete(asking("hello"))).text == "you said: hello"


async def test_a_server_that_says_at_once_for_ever_is_asked_less_and_less(journal: Journal) -> None:
    async with (
        ChatServer(faults={Fault.REFUSED: 1.0}, retry_after="0") as server,
        engine_for(server, journal) as engine,
    ):
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(engine.complete(asking("hello")), 1)
    assert 4 <= len(server.asked) <= 8


async def test_all_of_a_thousand_requests_arrive_through_faults_of_every_kind(journal: Journal) -> None:
    faults = {Fault.REFUSED: 0.1, Fault.BROKEN: 0.02, Fault.CUT_BODY: 0.01, Fault.RESET_AFTER: 0.01, Fault.RESET: 0.01}
    server = ChatServer(echo, faults=faults, seed=3, latency=0.01)
    texts = [f"text {number}" for number in range(1000)]
    async with server, engine_for(server, journal, concurrency=64, max_retries=6) as engine:
        replies = await asyncio.gather(*(engine.complete(asking(text)) for text in texts))
    assert [reply.text for reply in replies] == [f"you said: {text}" for text in texts]
    paid_and_lost = server.done[Fault.CUT_BODY] + server.done[Fault.RESET_AFTER]
    assert paid_and_lost and server.paid == 1000 + paid_and_lost == len(journal) + paid_and_lost


async def test_no_more_requests_are_under_way_than_the_settings_allow(journal: Journal) -> None:
    async with ChatServer(echo, latency=0.02) as server, engine_for(server, journal, concurrency=3) as engine:
        await asyncio.gather(*(engine.complete(asking(str(number))) for number in range(20)))
    assert server.most_at_once == 3


async def test_a_server_that_takes_four_at_a_time_is_kept_busy_without_being_stormed(journal: Journal) -> None:
    server = ChatServer(echo, latency=0.02, at_once=4, retry_after="0.02")
    async with server, engine_for(server, journal, concurrency=32) as engine:
        await asyncio.gather(*(engine.complete(asking(str(number))) for number in range(200)))
    assert (server.paid, server.most_at_once) == (200, 4)
    assert server.done[Fault.REFUSED] < 150


async def test_one_request_that_always_fails_is_a_bad_reply_and_the_next_is_served(journal: Journal) -> None:
    server = ChatServer(echo, script=[Fault.NOT_JSON] * 2)
    async with server, engine_for(server, journal, max_retries=1) as engine:
        with pytest.raises(BadReply, match="several attempts; the last: a reply that is no JSON: <html>a proxy"):
            await engine.complete(asking("hello"))
        assert (await engine.complete(asking("again"))).text == "you said: again"


async def test_a_server_that_never_serves_is_an_error_at_the_first_request(journal: Journal) -> None:
    async with ChatServer(faults={Fault.BROKEN: 1.0}) as server, engine_for(server, journal, max_retries=1) as engine:
        errors = await asyncio.gather(
            *(engine.complete(asking(text)) for text in ("hello", "again")), return_exceptions=True
        )
    assert all(isinstance(error, LLMError) and "500: out of memory" in str(error) for error in errors)
    assert len(server.asked) <= 2 * 2 + 1  # each twice, and one question whether it serves at all


async def test_a_server_that_fails_every_request_after_the_first_ends_in_an_error(journal: Journal) -> None:
    server = ChatServer(echo, script=[None], faults={Fault.BROKEN: 1.0})
    async with server, engine_for(server, journal, max_retries=1) as engine:
        await engine.complete(asking("hi"))
        for expected in (BadReply, BadReply, LLMError):
            with pytest.raises(expected, match="500: out of memory"):
                await engine.complete(asking("hello"))


async def test_a_server_that_hangs_is_not_waited_for_longer_than_stated(journal: Journal) -> None:
    server = ChatServer(script=[Fault.HANGS] * 3)
    async with server, engine_for(server, journal, timeout_seconds=0.1, max_retries=6) as engine:
        with pytest.raises(BadReply, match=r"no (whole )?reply within 0\.1 s"):
            await engine.complete(asking("hello"))
    assert len(server.asked) == 3 + 1  # each may be paid: not six times more; and one whether it serves at all


@pytest.mark.slow
async def test_a_server_that_is_not_there_is_given_up_soon_by_all_tasks_with_the_same_words(journal: Journal) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    config = LLMConfig.of(f"http://127.0.0.1:{port}/v1", "test-model", concurrency=2)
    async with asyncio.timeout(60), Engine(config, journal) as engine:
        errors = await asyncio.gather(
            *(engine.complete(asking(str(number))) for number in range(30)), return_exceptions=True
        )
    assert all(isinstance(error, LLMError) for error in errors)
    assert {str(error) for error in errors} == {str(errors[0])}
    assert f"127.0.0.1:{port}" in str(errors[0]) and "start it" in str(errors[0])
