"""The gate in virtual servers: how many it lets through, and what it learns."""

import asyncio
import random
import time
from collections.abc import Callable

import pytest

from synth.llm.limiter import Gate

Server = Callable[[int], float | None]  # what is under way -> seconds asked to wait, None if served


async def send(gate: Gate, server: Server, *, latency: float = 0.002, number: int, tasks: int = 64) -> list[int]:
    """Send `number` requests until each is served; returns how many were under way at each sending."""
    under_way, sent, pending = 0, [], iter(range(number))

    async def worker() -> None:
        nonlocal under_way
        for _ in pending:
            while True:
                async with gate.turn() as turn:
                    sent.append(under_way + 1)
                    turn.refused_for = server(under_way)
                    if turn.refused_for is None:
                        under_way += 1
                        await asyncio.sleep(latency)
                        under_way -= 1
                        break
                await asyncio.sleep(turn.refused_for)

    async with asyncio.TaskGroup() as group:
        for _ in range(tasks):
            group.create_task(worker())
    return sent


async def test_a_server_that_takes_all_is_never_held_back() -> None:
    gate = Gate(16)
    sent = await send(gate, lambda _: None, number=200)
    assert len(sent) == 200 and max(sent) == gate.limit == 16


@pytest.mark.parametrize("at_once", [1, 5, 20])
async def test_the_limit_settles_near_what_the_server_takes_at_once(at_once: int) -> None:
    gate = Gate(64)
    sent = await send(gate, lambda now: 0.002 if now >= at_once else None, number=60 * at_once)
    assert gate.limit <= at_once * 1.5 + 2
    assert max(sent) <= 64 and sum(1 for now in sent[-20:] if now > at_once) < 12


async def test_one_burst_of_refusals_is_one_decrease() -> None:
    gate = Gate(64)

    async def refused() -> None:
        async with gate.turn() as turn:
            await asyncio.sleep(0.001)
            turn.refused_for = 0.001

    await asyncio.gather(*(refused() for _ in range(64)))
    assert gate.limit == 32


async def test_a_refusal_here_and_there_does_not_shrink_the_gate() -> None:
    gate, chance = Gate(64), random.Random(5)
    await send(gate, lambda _: 0.001 if chance.random() < 0.05 else None, number=2000)
    assert gate.limit >= 48


async def test_the_limit_never_falls_below_one_and_grows_again() -> None:
    gate, refusals = Gate(8), iter([0.001] * 60)
    await send(gate, lambda _: next(refusals, None), number=1, tasks=1)
    assert gate.limit == 2  # one, and one more for the request that was served at last
    await send(gate, lambda _: None, number=200)
    assert gate.limit == 8


async def test_a_full_server_pauses_everybody_for_as_long_as_it_asks() -> None:
    gate = Gate(4)

    async def request(refused_for: float | None) -> float:
        async with gate.turn() as turn:
            turn.refused_for = refused_for
            return time.monotonic()

    await asyncio.gather(*(request(0.1) for _ in range(3)))
    started = time.monotonic()
    entered = await asyncio.gather(*(request(None) for _ in range(3)))
    assert min(entered) - started >= 0.09


async def test_a_cancelled_task_leaves_its_place_to_the_next() -> None:
    gate = Gate(1)
    async with gate.turn():
        waiting = [asyncio.create_task(send(gate, lambda _: None, number=1, tasks=1)) for _ in range(3)]
        await asyncio.sleep(0)
        waiting[0].cancel()
        await asyncio.sleep(0)
    await asyncio.wait_for(asyncio.gather(*waiting[1:]), 1)
    assert waiting[0].cancelled()


async def test_a_task_cancelled_in_the_moment_it_is_let_through_leaves_its_place() -> None:
    gate = Gate(1)
    async with gate.turn():
        waiting = [asyncio.create_task(send(gate, lambda _: None, number=1, tasks=1)) for _ in range(2)]
        await asyncio.sleep(0)
    waiting[0].cancel()  # it was let through above, and has not run since
    await asyncio.wait_for(waiting[1], 1)


async def test_an_error_inside_gives_the_place_back_and_tells_nothing() -> None:
    gate = Gate(2)
    for _ in range(10):
        with pytest.raises(ConnectionResetError):
            async with gate.turn():
                raise ConnectionResetError
    assert gate.limit == 2
    await asyncio.wait_for(send(gate, lambda _: None, number=4, tasks=4), 1)


async def test_one_reply_that_takes_long_does_not_keep_the_limit_from_growing() -> None:
    gate, refusals = Gate(16), iter([0.001] * 9)

    async def slow() -> None:
        async with gate.turn():
            await asyncio.sleep(0.3)

    task = asyncio.create_task(slow())
    await send(gate, lambda _: next(refusals, None), number=100)
    assert not task.done() and gate.limit > 8
    await task
