"""The gate's turns: who is let through and when, who waits for how long, what is cancelled; in real time."""

import asyncio
import time

import aiohttp
import pytest

from synth.llm.gate.gate import Gate
from synth.llm.gate.pushback import START
from tests.chat_server import ChatServer, Fault


async def hold(gate: Gate, seconds: float = 0.0, order: list[str] | None = None, name: str = "", **turn: bool) -> None:
    """One request that is served after some seconds."""
    async with gate.turn(**turn) as place:
        if order is not None:
            order.append(name)
        await asyncio.sleep(seconds)
        place.served()


async def refuse(gate: Gate, seconds: float | None) -> float:
    """One request that is refused at once."""
    async with gate.turn() as place:
        await asyncio.sleep(0)
        return place.refused(seconds)


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_it_starts_low_and_grows_to_the_most_while_all_is_served() -> None:
    gate = Gate(40)
    assert gate.limit == START
    await asyncio.gather(*(hold(gate, 0.001) for _ in range(START + 40)))
    assert gate.limit == 40


async def test_a_limit_that_is_not_used_does_not_grow() -> None:
    gate = Gate(40)
    for _ in range(50):
        await hold(gate)
    assert gate.limit == START


async def test_no_more_than_the_limit_are_let_through() -> None:
    gate = Gate(3)
    tasks = [asyncio.create_task(hold(gate, 0.01)) for _ in range(10)]
    await settle()
    assert (gate.in_flight, gate.waiting) == (3, 7)
    await asyncio.gather(*tasks)
    assert (gate.in_flight, gate.waiting) == (0, 0)


async def test_first_come_first_served_but_those_that_come_again_go_ahead() -> None:
    gate, order = Gate(1), list[str]()
    async with gate.turn():
        names = ["first", "second", "again 1", "third", "again 2"]
        tasks = [asyncio.create_task(hold(gate, 0, order, name, again="again" in name)) for name in names]
        await settle()
    await asyncio.gather(*tasks)
    assert order == ["again 1", "again 2", "first", "second", "third"]


async def test_one_refusal_here_and_there_delays_that_request_alone() -> None:
    gate = Gate(16)
    for _ in range(3):
        await asyncio.gather(*(hold(gate, 0.01) for _ in range(16)))
    wait = await refuse(gate, 0.5)
    assert 0.5 <= wait <= 0.55
    started = time.monotonic()
    await hold(gate)
    assert time.monotonic() - started < 0.2


async def test_a_server_that_refuses_all_makes_everybody_wait_as_long_as_it_asks() -> None:
    gate = Gate(4)
    await asyncio.gather(*(hold(gate, 0.01) for _ in range(8)))
    for _ in range(6):
        last = time.monotonic()
        if await refuse(gate, 1.5) == 0.0:
            break
    await hold(gate)
    assert 1.4 < time.monotonic() - last < 1.8


async def test_a_server_that_says_at_once_again_and_again_is_asked_less_and_less() -> None:
    gate, asked = Gate(4), 0
    until = time.monotonic() + 2.0
    while time.monotonic() < until:
        asked += 1
        await asyncio.sleep(await refuse(gate, 0.0))
    assert asked < 12


@pytest.mark.parametrize("seconds", [float("nan"), -1.0, float("inf"), 1e300])
async def test_a_retry_after_that_makes_no_sense_does_no_harm(seconds: float) -> None:
    gate = Gate(16)
    await asyncio.gather(*(hold(gate) for _ in range(64)))
    assert 0 <= await refuse(gate, seconds) <= 150
    await asyncio.wait_for(hold(gate), 1)


async def test_a_cancelled_task_leaves_its_place_to_the_next() -> None:
    gate = Gate(1)
    async with gate.turn():
        waiting = [asyncio.create_task(hold(gate)) for _ in range(3)]
        await settle()
        waiting[0].cancel()
        await settle()
        assert gate.waiting == 2
    await asyncio.wait_for(asyncio.gather(*waiting[1:]), 1)
    assert waiting[0].cancelled() and gate.in_flight == 0


async def test_a_task_cancelled_in_the_moment_it_is_let_through_leaves_its_place() -> None:
    gate = Gate(1)
    async with gate.turn():
        waiting = [asyncio.create_task(hold(gate)) for _ in range(2)]
        await settle()
    waiting[0].cancel()  # it was let through above, and has not run since
    await asyncio.wait_for(waiting[1], 1)
    assert gate.in_flight == 0


async def test_many_cancelled_at_once_all_find_out() -> None:
    gate = Gate(4)
    tasks = [asyncio.create_task(hold(gate, 60)) for _ in range(50)]
    await settle()
    for task in tasks:
        task.cancel()
    ends = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(end, asyncio.CancelledError) for end in ends)
    assert (gate.in_flight, gate.waiting) == (0, 0)


async def test_a_task_cancelled_under_way_leaves_its_place() -> None:
    gate = Gate(1)
    task = asyncio.create_task(hold(gate, 60))
    await settle()
    task.cancel()
    await asyncio.wait_for(hold(gate), 1)
    assert gate.in_flight == 0


async def test_a_task_cancelled_while_a_ceiling_holds_it_back_takes_nothing_from_it() -> None:
    gate = Gate(8, requests_per_minute=120)  # two at once, then one each half second
    await asyncio.gather(hold(gate), hold(gate))
    started = time.monotonic()
    waiting = [asyncio.create_task(hold(gate)) for _ in range(5)]
    await settle()
    for task in waiting[:4]:
        task.cancel()
    await waiting[4]
    assert 0.4 < time.monotonic() - started < 0.8


async def test_an_error_inside_gives_the_place_back_and_tells_nothing() -> None:
    gate = Gate(2)
    for _ in range(10):
        with pytest.raises(ConnectionResetError):
            async with gate.turn():
                raise ConnectionResetError
    assert (gate.limit, gate.in_flight, gate.found()) == (2, 0, "")


async def test_one_reply_that_takes_long_does_not_keep_the_limit_from_growing() -> None:
    gate = Gate(64)
    slow = asyncio.create_task(hold(gate, 60))
    for _ in range(4):
        await asyncio.gather(*(hold(gate, 0.005) for _ in range(gate.limit)))
    assert not slow.done() and gate.limit == 64
    slow.cancel()


async def test_a_turn_costs_little() -> None:
    gate = Gate(64)
    await asyncio.gather(*(hold(gate) for _ in range(500)))
    best = 1.0
    for _ in range(5):
        started = time.process_time()
        for _ in range(2000):
            async with gate.turn(400) as turn:
                turn.served(tokens=400)
        best = min(best, (time.process_time() - started) / 2000)
    assert best < 20e-6


def test_on_uvloop_the_gate_wakes_far_less_than_once_per_request_while_it_paces() -> None:
    uvloop = pytest.importorskip("uvloop")
    rings = 0

    async def paced() -> None:
        nonlocal rings
        gate = Gate(64, requests_per_minute=60_000)  # a thousand each second: one per millisecond
        ring = gate._ring

        def count() -> None:
            nonlocal rings
            rings += 1
            ring()

        gate._ring = count  # type: ignore[method-assign]
        await asyncio.gather(*(hold(gate) for _ in range(2000)))

    started = time.monotonic()
    uvloop.run(paced())
    assert 0.8 < time.monotonic() - started < 3  # a second's worth goes at once, the others in a second
    assert 0 < rings < 0.75 * 1000


async def ask_all(server: ChatServer, gate: Gate, number: int, tasks: int) -> None:
    """So many requests over HTTP, each until it is served."""
    pending = iter(range(number))

    async def worker(session: aiohttp.ClientSession) -> None:
        for _ in pending:
            again, wait = False, 0.0
            while wait is not None:
                await asyncio.sleep(wait)
                async with gate.turn(again=again) as turn:
                    wait, again = await ask_once(server, session, turn), True

    async with aiohttp.ClientSession() as session, asyncio.TaskGroup() as group:
        for _ in range(tasks):
            group.create_task(worker(session))


async def ask_once(server: ChatServer, session: aiohttp.ClientSession, turn: object) -> float | None:
    """None if it was served, else the seconds to wait."""
    body = {"model": "m", "messages": [{"role": "user", "content": "hello there"}]}
    async with session.post(f"{server.base_url}/chat/completions", json=body) as response:
        await response.read()
        if response.status == 200:
            turn.served()
            return None
        return turn.refused(float(response.headers["Retry-After"]))


async def test_over_http_what_a_server_takes_at_once_is_found_and_held() -> None:
    async with ChatServer(latency=0.1, at_once=20) as server:
        gate = Gate(64)
        await ask_all(server, gate, number=700, tasks=64)
    assert server.done[Fault.REFUSED] < 0.05 * 700  # a short run: the wall is found once
    assert 17 <= gate.limit <= 21 and gate.found().endswith("requests at a time")


async def test_over_http_refusals_by_chance_do_not_shrink_the_gate() -> None:
    async with ChatServer(latency=0.02, faults={Fault.REFUSED: 0.1}, seed=3) as server:
        gate = Gate(32)
        await ask_all(server, gate, number=700, tasks=48)
    assert gate.limit == 32
