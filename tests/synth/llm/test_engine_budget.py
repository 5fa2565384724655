"""What an engine may spend: whatever goes wrong, the server has never charged more than was allowed."""

import asyncio
import socket
from pathlib import Path

import pytest

from synth.llm.budget import Budget
from synth.llm.ceilings import Ceilings
from synth.llm.config import LLMConfig
from synth.llm.engine import Engine
from synth.llm.journal import Journal
from synth.llm.prompt_size import most_tokens
from synth.records import BudgetSpent
from tests.chat_server import ChatServer, Fault
from tests.synth.llm.asking import asking, config_for, echo

PRICES = {"price_in": 1.0, "price_out": 4.0}


async def spend(server: ChatServer, journal: Journal, budget: Budget, number: int = 400, **settings: object) -> int:
    """Ask until the budget is spent; returns how many got a reply."""
    config = config_for(server, concurrency=16, max_tokens=40, max_retries=6, **PRICES, **settings)
    async with Engine(config, journal, budget=budget) as engine:
        asked = (engine.complete(asking(f"text {n}")) for n in range(number))
        results = await asyncio.gather(*asked, return_exceptions=True)
    assert all(isinstance(each, BudgetSpent) for each in results if isinstance(each, Exception))
    return sum(1 for each in results if not isinstance(each, Exception))


def charged(server: ChatServer) -> float:
    """What a provider would charge for all that it generated, in dollars."""
    texts = [body["messages"][-1]["content"] for body in server.asked]
    most = max(len(text) for text in texts)
    return server.paid * (most // 4 * 1.0 + (most + 10) // 4 * 4.0) / 1e6


FAULTS = {Fault.REFUSED: 0.05, Fault.BROKEN: 0.03, Fault.CUT_BODY: 0.05, Fault.RESET_AFTER: 0.05}


@pytest.mark.parametrize("faults", [{}, FAULTS])
async def test_a_ceiling_on_money_is_never_passed_and_nearly_reached(
    journal: Journal, faults: dict[Fault, float]
) -> None:
    budget = Budget(Ceilings(max_cost=0.02))
    async with ChatServer(echo, faults=faults, seed=2, latency=0.002, retry_after="0.01") as server:
        served = await spend(server, journal, budget, number=2000)
    spent = budget.spent
    assert spent.cost is not None and spent.lost_cost is not None
    assert charged(server) <= 0.02 and spent.cost + spent.lost_cost <= 0.02
    assert spent.cost + spent.lost_cost > 0.02 * 0.9
    assert 0 < served < 2000


async def test_a_ceiling_on_requests_counts_those_sent_again(journal: Journal) -> None:
    async with ChatServer(echo, faults={Fault.BROKEN: 0.3}, seed=1) as server:
        await spend(server, journal, Budget(Ceilings(max_requests=50)))
    assert 45 <= len(server.asked) <= 50


async def test_running_again_does_not_fill_the_budget_again(tmp_path: Path) -> None:
    async with ChatServer(echo) as server:
        with Journal(tmp_path) as journal:
            first = Budget(Ceilings(max_tokens=4000))
            served = await spend(server, journal, first)
        with Journal(tmp_path) as journal:
            spent = first.spent
            again = Budget(Ceilings(max_tokens=4000), spent_tokens=spent.tokens, spent_requests=spent.requests)
            assert await spend(server, journal, again) == served  # those of the journal
    assert server.paid == served


async def test_a_server_that_says_nothing_of_usage_is_counted_at_the_most(journal: Journal) -> None:
    def reply_without_usage(body: dict[str, object]) -> tuple[int, object]:
        message = {"role": "assistant", "content": "fine"}
        return 200, {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}

    budget = Budget(Ceilings(max_tokens=5000))
    async with ChatServer(error=reply_without_usage) as server:
        served = await spend(server, journal, budget)
    assert 0 < served < 40
    assert budget.spent.tokens == 0 and 3000 < budget.spent.lost_tokens <= 5000


async def test_a_server_that_is_not_there_costs_nothing(journal: Journal) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
    budget = Budget(Ceilings(max_requests=10))
    config = LLMConfig.of(address, "test-model", **PRICES)
    async with Engine(config, journal, budget=budget) as engine:
        tasks = [asyncio.create_task(engine.complete(asking(str(number)))) for number in range(5)]
        await asyncio.sleep(1)
        for task in tasks:  # as when another task of the run fails
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert engine.usage.requests == engine.usage.lost_tokens == 0
    assert (budget.spent.tokens, budget.spent.lost_tokens) == (0, 0)


async def test_what_is_in_flight_when_a_task_is_cancelled_counts_as_lost_and_what_waits_does_not(
    journal: Journal,
) -> None:
    budget = Budget(Ceilings(max_requests=10))
    async with ChatServer(echo, latency=1) as server:
        config = config_for(server, concurrency=2)
        async with Engine(config, journal, budget=budget) as engine:
            tasks = [asyncio.create_task(engine.complete(asking(str(number)))) for number in range(6)]
            await asyncio.sleep(0.3)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
    each = most_tokens(asking("0")) + 2048
    assert budget.spent.lost_tokens == 2 * each and budget.spent.requests == 2
