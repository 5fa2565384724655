"""
What a stage that makes something of seeds is going to do: which seeds, of which servers, under which ceilings.

A seed is whatever is asked about by itself: a passage, a sample, a sample with candidates or with passages to grade.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar
from uuid import UUID

from synth.llm.ceilings import Ceilings
from synth.llm.config import LLMConfig
from synth.llm.crew import Crew
from synth.records import SkiffError
from synth.stages.asking.watch import Watch
from synth.store.calls import Call
from synth.store.connection import Store
from synth.store.failures import Failure
from synth.store.made import Rejected

LOADED_SEEDS = 500  # read from the store at once


class AnySeed(Protocol):
    """Anything with an id that calls and failures can be stored under."""

    @property
    def seed_id(self) -> UUID: ...


S = TypeVar("S", bound=AnySeed)
S_co = TypeVar("S_co", bound=AnySeed, covariant=True)
M = TypeVar("M")


class Seeding(Protocol[S_co]):
    """Where seeds are found: `kind` is what they are called, in the plural."""

    @property
    def kind(self) -> str: ...

    def load(self, store: Store, seed_ids: Sequence[UUID]) -> Iterable[S_co]:
        """These of them."""

    def untried(self, store: Store, stage_key: UUID) -> list[UUID]:
        """Those that are not done and never failed."""


@dataclass(frozen=True, slots=True)
class Made(Generic[M]):
    """
    What one seed gave, and what the checks rejected. With a `failure` the seed is not done: it is left for another run;
    `others` are failures of further requests about it. `passed_over`: an earlier run learnt that, and nothing was sent
    now. `ended`: a ceiling or a stop came between two requests; what was made counts, and another run goes on.
    """

    made: Sequence[M] = ()
    rejections: Sequence[Rejected] = ()
    failure: Failure | None = None
    others: Sequence[Failure] = ()
    passed_over: bool = False
    ended: SkiffError | None = None


async def _nothing() -> None:
    pass


@dataclass(frozen=True, slots=True)
class Opened(Generic[S, M]):
    """A plan's engine while it is open."""

    make: Callable[[S], Awaitable[Made[M]]]
    crew: Crew  # who makes
    prepare: Callable[[], Awaitable[None]] = _nothing  # what there is to do before the first seed
    take_calls: Callable[[], Sequence[Call]] = list  # those paid for since they were last taken
    stop: Callable[[], None] = lambda: None  # ask nothing more; what is in flight is finished
    found: Callable[[], Sequence[str]] = list  # what there is to say at the end
    over: Callable[[], str] = str  # which ceiling has ended it, by the sums as they are now; "" if none has
    recorded: Callable[[], None] = lambda: None  # the run's end is in the store


Opener = Callable[["Plan[S, M]", Store, Watch, asyncio.Event, UUID], AbstractAsyncContextManager[Opened[S, M]]]


@dataclass(frozen=True, slots=True)
class Asking:
    """Which servers are asked, where what they are paid for is kept, and what may be spent."""

    llm: LLMConfig
    journal: Path
    ceilings: Ceilings
    batches: Path  # where batches are kept track of
    in_batches: bool = False

    def check_prices(self) -> None:
        """Raise UserError for a ceiling on money where a price is not stated."""
        self.ceilings.check_prices(self.llm.endpoints)
        if self.in_batches:
            self.ceilings.check_prices(self.llm.endpoints, batch=True)


@dataclass(frozen=True, kw_only=True)
class Plan(Generic[S, M]):
    """
    What a stage will do: which seeds, with what. `settings`, the model and the prompt determine what a seed gives;
    `config` is all that a run has to be told to be repeated.
    """

    stage_key: UUID  # seeds done under this key are done for this plan
    engine: str  # one line to print: what makes something of the seeds
    model: str
    prompt_version: str
    settings: Mapping[str, Any]
    config: Mapping[str, Any]
    of: Seeding[S]  # where the seeds are found
    opened: Opener[S, M]  # the engine of a run
    seeds: Sequence[UUID] = ()  # their ids, in order
    asking: Asking | None = None  # None: no server is asked
    device: str = ""  # one line: what computes here, if anything does
    notes: Sequence[str] = ()  # what there is to say at the end, beside what the run finds

    def loaded(self, store: Store) -> Iterator[S]:
        """The seeds, some hundred in memory at a time."""
        for start in range(0, len(self.seeds), LOADED_SEEDS):
            yield from self.of.load(store, self.seeds[start : start + LOADED_SEEDS])
