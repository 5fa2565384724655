"""Asking a budget for reservations."""

import asyncio
from collections.abc import Coroutine
from typing import Any

from synth.llm.budget import Budget, Reservation


async def soon(budget: Budget, tokens: int, cost: float = 0.0) -> asyncio.Task[Reservation]:
    """A task that asks for a reservation, once it has got as far as it gets."""
    task = asyncio.create_task(budget.reserve(tokens=tokens, cost=cost))
    await asyncio.sleep(0)
    return task


async def settled(budget: Budget, tokens: int, cost: float = 0.0) -> None:
    (await budget.reserve(tokens=tokens, cost=cost)).settle(tokens, cost)


async def in_time(waiting: Coroutine[Any, Any, Any]) -> Any:
    return await asyncio.wait_for(waiting, 1)
