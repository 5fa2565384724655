"""
Asking through the Batch API: what an engine would ask online goes to the desks of its servers (batch.py) first, and is
found in the journal when it is asked for. Ceilings hold for batches too: one is only as large as what is left allows.
"""

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

from synth.llm.batch import Batch, BatchDesk, Settled
from synth.llm.batch_files import BatchFolder, Request, Step
from synth.llm.budget import Reservation, most_tokens
from synth.llm.engine import Engine, canonical
from synth.llm.server import Messages, Question, Server, key_of
from synth.records import BudgetSpent, UserError


@dataclass(frozen=True, slots=True)
class Asked:
    """What `Engine.complete` will be asked."""

    messages: Messages
    attempt: int
    schema: Mapping[str, Any] | None


async def ask_in_batches(
    engine: Engine, questions: Callable[[], Iterator[Asked]], folder: Path, *, state: Callable[[str], None]
) -> None:
    """
    Put the replies to these questions into the engine's journal, as far as batches bring them; batches of earlier runs
    are waited for too.

    Args:
        questions: gives them all, as often as it is called: they are too many to keep.
        folder: of the workspace's batches.
        state: told in a line how far the servers are.

    Raises:
        BudgetSpent: no further request fits below a ceiling. Stopped: the batches go on at the server.
        LLMError: a server does not take batches, or does not let us in.
    """
    firsts = {server.endpoint.model: server for server in reversed(engine.servers)}
    async with AsyncExitStack() as stack:
        desks = {
            server: await stack.enter_async_context(
                BatchDesk(server.endpoint, key_of(server.endpoint), folder, engine.journal, on_note=engine.tally.note)
            )
            for server in firsts.values()
        }
        stopping = asyncio.create_task(_stop_with(engine.stopping, list(desks.values())))
        try:
            while await _round(engine, questions, desks, state):
                pass
        finally:
            stopping.cancel()
            state("")


def refuse_pending(folder: Path, engine: Engine) -> None:
    """Raise UserError if requests of an earlier run are in batches: asked online now, they would be paid for twice."""
    for server in engine.servers:
        for batch in BatchFolder(folder, server.endpoint).batches():
            if batch.step is not Step.FETCHED:
                raise UserError(
                    f"{batch.num_requests:,} requests for model {batch.model} are in a batch since an earlier run;"
                    " take it up with --batch, or give it up with `synth batches cancel`"
                )


async def _round(
    engine: Engine,
    questions: Callable[[], Iterator[Asked]],
    desks: Mapping[Server, BatchDesk],
    state: Callable[[str], None],
) -> bool:
    """Submit what fits, and wait for it. Returns whether something did not fit beside it and may do so now."""
    earlier = {key for desk in desks.values() for key in desk.pending()}
    reserved: dict[UUID, Reservation] = {}
    left: list[BudgetSpent | None] = []  # why a request was not handed in: the budget is spent, or held by the others
    for server, desk in desks.items():
        await desk.submit(_requests(engine, server, questions, earlier, reserved, left))

    def tell(_: Sequence[Batch]) -> None:
        batches = [batch for desk in desks.values() for batch in desk.batches if batch.step is not Step.FETCHED]
        if batches:
            done, of = sum(batch.done for batch in batches), sum(batch.num_requests for batch in batches)
            number = "1 batch" if len(batches) == 1 else f"{len(batches)} batches"
            state(f"waiting for {number}: {done:,} of {of:,} done at the server")

    tell([])
    for settled in await _all_settled(list(desks.values()), tell):
        engine.tally.replies += settled.replied
        engine.tally.bought(settled.tokens_in, settled.tokens_out, settled.cost)
    for key, reservation in reserved.items():
        reply = engine.journal.get(key)
        if reply is None:
            reservation.release()
        else:
            reservation.settle(reply.tokens_in + reply.tokens_out, reply.cost)
    for key in earlier - reserved.keys():
        if (reply := engine.journal.get(key)) is not None:
            engine.budget.add_earlier(reply.tokens_in + reply.tokens_out, reply.cost)
    for error in left:
        if error is not None:
            raise error
    return bool(left and reserved)


def _requests(
    engine: Engine,
    server: Server,
    questions: Callable[[], Iterator[Asked]],
    earlier: set[UUID],
    reserved: dict[UUID, Reservation],
    left: list[BudgetSpent | None],
) -> Iterator[Request]:
    """What this server is to be asked, as long as it fits below the ceilings; each is noted in `reserved`."""
    endpoint, most = server.endpoint, engine.config.max_tokens
    for asked in questions():
        model, key = engine.first_asked(asked.messages, asked.attempt, schema=asked.schema)
        if model != endpoint.model or key is None or key in reserved:
            continue
        tokens_in = most_tokens(asked.messages, asked.schema)
        cost = endpoint.cost(tokens_in, most, batch=True)
        try:
            reservation = engine.budget.reserve_now(tokens=tokens_in + most, cost=cost)
        except BudgetSpent as error:
            if key in earlier:  # it is on its way, whatever it costs
                continue
            left.append(error)
            return
        if reservation is not None:
            reserved[key] = reservation
        if key in earlier:
            continue
        if reservation is None:
            left.append(None)
            return
        engine.tally.requests += 1
        yield Request(key, server.body(Question(asked.messages, canonical(asked.messages), asked.schema, tokens_in)))


async def _all_settled(desks: Sequence[BatchDesk], tell: Callable[[Sequence[Batch]], None]) -> list[Settled]:
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(desk.settle(tell)) for desk in desks]
    except ExceptionGroup as errors:  # one server is enough to end the run
        raise errors.exceptions[0] from None
    return [task.result() for task in tasks]


async def _stop_with(event: asyncio.Event, desks: Sequence[BatchDesk]) -> None:
    await event.wait()
    for desk in desks:
        desk.stop()
