"""Stopping: what is in flight is finished, nothing more is sent, nobody waits for what will not come."""

import asyncio
import time

import pytest

from synth.llm.journal import Journal
from synth.records import Stopped
from tests.chat_server import ChatServer, Fault
from tests.synth.llm.asking import asking, echo, engine_for


async def test_a_stop_finishes_what_is_in_flight_and_sends_nothing_more(journal: Journal) -> None:
    async with (
        ChatServer(echo, latency=0.1) as server,
        engine_for(server, journal, concurrency=4) as engine,
    ):
        tasks = [asyncio.create_task(engine.complete(asking(str(number)))) for number in range(20)]
        await asyncio.sleep(0.05)
        assert engine.usage.in_flight == 4
        engine.stop()
        results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(each) for each in results].count(Stopped) == 16
    assert server.paid == len(server.asked) == len(journal) == 4


@pytest.mark.parametrize("fault", [Fault.REFUSED, Fault.BROKEN])
async def test_a_stop_does_not_wait_for_requests_that_wait_to_be_sent_again(fault: Fault, journal: Journal) -> None:
    async with (
        ChatServer(faults={fault: 1.0}, retry_after="30") as server,
        engine_for(server, journal, max_retries=50) as engine,
    ):
        tasks = [asyncio.create_task(engine.complete(asking(str(number)))) for number in range(40)]
        await asyncio.sleep(0.3)
        started = time.monotonic()
        engine.stop()
        results = await asyncio.gather(*tasks, return_exceptions=True)
    assert time.monotonic() - started < 1
    assert all(isinstance(each, Stopped) for each in results)


async def test_after_a_stop_the_journal_still_answers(journal: Journal) -> None:
    async with ChatServer(echo) as server, engine_for(server, journal) as engine:
        await engine.complete(asking("hello"))
        engine.stop()
        assert (await engine.complete(asking("hello"))).replayed
        with pytest.raises(Stopped):
            await engine.complete(asking("another"))
