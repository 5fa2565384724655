"""The engine of a run that asks an LLM: with the journal, what may be spent, and what is known to fail."""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Protocol, TypeVar
from uuid import UUID

from synth.llm.account import Account
from synth.llm.batch.asking import Asked, ask_in_batches, refuse_pending
from synth.llm.budget import Budget
from synth.llm.ceilings import Ceilings
from synth.llm.engine import Engine
from synth.llm.journal import Journal
from synth.stages.asking.plan import AnySeed, Asking, M, Made, Opened, Opener, Plan, S
from synth.stages.asking.spending import spent_before
from synth.stages.asking.watch import Watch
from synth.store import failures
from synth.store.calls import Call
from synth.store.connection import Store

S_contra = TypeVar("S_contra", bound=AnySeed, contravariant=True)


class Asker(Protocol[S_contra, M]):
    """What asks about seeds, one at a time for each worker."""

    def asked(self, seed: S_contra) -> Iterable[Asked]:
        """The requests about a seed that can be sent before there is any reply."""

    async def ask(self, seed: S_contra) -> Made[M]:
        """What a seed gave. Raises what Engine.complete raises, but for NoReply."""

    def take_calls(self) -> Sequence[Call]:
        """The replies paid for since the calls were last taken."""

    @property
    def found(self) -> Sequence[str]:
        """What there is to say of the replies at the end, one line each."""


def asked_by(asking: Asking, asker_of: Callable[[Engine, UUID, Collection[UUID]], Asker[S, M]]) -> Opener[S, M]:
    """
    How a plan's engine is opened when an LLM is asked.

    Args:
        asker_of: given the engine, the plan's stage key, and the keys of the requests of which an earlier run learnt
            that no usable reply comes.
    """

    @asynccontextmanager
    async def opened(
        plan: Plan[S, M], store: Store, watch: Watch, stop: asyncio.Event, run_id: UUID
    ) -> AsyncIterator[Opened[S, M]]:
        has_ceilings = asking.ceilings != Ceilings()
        with (
            Journal(asking.journal) as journal,
            Account(asking.journal, plan.stage_key, run_id, at_once=has_ceilings) as account,
        ):
            for note in journal.notes:
                watch.note(note)
            budget = _budget(store, plan.stage_key, asking, account)
            hopeless = failures.hopeless(store, plan.stage_key)
            async with Engine(asking.llm, journal, budget=budget, hopeless=hopeless, on_note=watch.note) as engine:
                asker = asker_of(engine, plan.stage_key, hopeless)
                watch.usage, watch.spent = lambda: engine.usage, lambda: budget.spent

                def questions() -> Iterator[Asked]:
                    return (asked for seed in plan.loaded(store) for asked in asker.asked(seed))

                async def prepare() -> None:
                    await _settle_batches(asking, engine, questions, watch)

                stopping = asyncio.create_task(_when(stop, engine.stop))
                try:
                    yield Opened(
                        asker.ask,
                        engine.crew,
                        prepare,
                        asker.take_calls,
                        engine.stop,
                        lambda: [*asker.found, *engine.found, *budget.notes],
                        lambda: budget.over,
                        account.remove,
                    )
                finally:
                    stopping.cancel()

    return opened


def _budget(store: Store, stage_key: UUID, asking: Asking, account: Account) -> Budget:
    spent = spent_before(store, stage_key, asking.journal)
    return Budget(
        asking.ceilings,
        spent_cost=spent.cost,
        spent_tokens=spent.tokens,
        spent_requests=spent.requests,
        lost_cost=spent.lost_cost,
        lost_tokens=spent.lost_tokens,
        excess=spent.excess,
        account=account,
    )


async def _when(event: asyncio.Event, then: Callable[[], None]) -> None:
    await event.wait()
    then()


async def _settle_batches(
    asking: Asking, engine: Engine, questions: Callable[[], Iterator[Asked]], watch: Watch
) -> None:
    if asking.in_batches:
        await ask_in_batches(engine, questions, asking.batches, ceilings=asking.ceilings, state=watch.state)
    elif asking.batches.exists():
        refuse_pending(asking.batches, engine)
