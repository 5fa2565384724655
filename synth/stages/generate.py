"""
Generate: seeds become samples, by an LLM with a recipe, or by the extractive engine without any model.

A seed is a passage or a sample; what it gave and that it is done are stored together, so the same command again goes on
where the last one stopped, however it stopped. Replies of an LLM are in its journal before they come here.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID

from synth.llm.budget import Budget, Spent
from synth.llm.ceilings import Ceilings
from synth.llm.config import LLMConfig
from synth.llm.crew import Crew
from synth.llm.usage import Usage
from synth.recipes.recipe import Recipe
from synth.records import BudgetSpent, LLMError, Seed, SkiffError, Stopped, key_of
from synth.stages.asking import Made
from synth.store import runs
from synth.store.calls import Call, add_calls
from synth.store.connection import Store
from synth.store.failures import Failure, add_failures
from synth.store.made import Finished, add_finished, add_made, any_done
from synth.store.seeds import Seeds

FLUSH_SEEDS, FLUSH_SECONDS = 200, 2.0  # a lease is worth taking for so many seeds, or after so long
BREATH_SECONDS = 0.01
LOADED_SEEDS = 500  # read from the store at once


@dataclass
class Watch:
    """
    What somebody who looks on is told while a stage works: seeds done, lines that cannot wait, what it is busy with;
    and what they may ask for at any moment: `usage`, and where the budget stands.
    """

    advance: Callable[[int], None] = lambda number: None
    fail: Callable[[int], None] = lambda number: None  # so many of them gave nothing
    note: Callable[[str], None] = lambda text: None
    state: Callable[[str], None] = lambda text: None
    usage: Callable[[], Usage] = Usage
    spent: Callable[[], Spent] = lambda: Budget(Ceilings()).spent
    ended: Callable[["Generated"], None] = lambda outcome: None  # told the outcome, before an error too


async def _nothing() -> None:
    pass


@dataclass(frozen=True, slots=True)
class Opened:
    """A plan's engine while it is open."""

    make: Callable[[Seed], Awaitable[Made]]
    crew: Crew  # who makes
    prepare: Callable[[], Awaitable[None]] = _nothing  # what there is to do before the first seed
    take_calls: Callable[[], Sequence[Call]] = list  # those paid for since they were last taken
    stop: Callable[[], None] = lambda: None  # ask nothing more; what is in flight is finished
    found: Callable[[], Sequence[str]] = list  # what there is to say at the end
    over: Callable[[], str] = str  # which ceiling has ended it, by the sums as they are now; "" if none has
    recorded: Callable[[], None] = lambda: None  # the run's end is in the store


@dataclass(frozen=True, slots=True)
class Asking:
    """Which servers are asked, where what they are paid for is kept, and what may be spent."""

    llm: LLMConfig
    journal: Path
    ceilings: Ceilings
    batches: Path  # where batches are kept track of
    in_batches: bool = False


@dataclass(frozen=True)
class Plan:
    """
    What a generate stage will do: which seeds, with what. `settings`, the model and the prompt determine what a seed
    gives; `config` is all that a run has to be told to be repeated.
    """

    engine: str  # one line to print: what makes the samples
    model: str
    prompt_version: str
    settings: Mapping[str, object]
    config: Mapping[str, object]
    of: Seeds  # where the seeds are found
    opened: Callable[["Plan", Store, Watch, asyncio.Event, UUID], AbstractAsyncContextManager[Opened]]  # of a run
    seeds: Sequence[UUID] = ()  # their ids, in order
    per_seed: int = 0  # how many of each are asked for; 0 where nobody asks
    can_sample: bool = True  # some seeds can be asked first, to measure what the others will take
    asking: Asking | None = None  # None: no server is asked
    recipe: Recipe | None = None  # of what a server is asked

    @property
    def stage_key(self) -> UUID:
        """Seeds done under this key are done for this plan."""
        return key_of("generate", self.model, self.prompt_version, dict(self.settings))

    def loaded(self, store: Store) -> Iterator[Seed]:
        """The seeds, some hundred in memory at a time."""
        for start in range(0, len(self.seeds), LOADED_SEEDS):
            yield from self.of.load(store, self.seeds[start : start + LOADED_SEEDS])


@dataclass(frozen=True)
class Generated:
    """
    The outcome: `num_stored` samples and `num_negatives` negatives are new; `num_known` more had content that the store
    has already; `num_short` seeds gave fewer than asked for, after all tries; `failures` count the seeds that are left,
    by kind and reason, of which an earlier run had left `num_passed_over` that were not asked again. `ended` says why
    the run ended before all was done, "" if it did not.
    """

    num_seeds: int
    num_done: int
    num_stored: int
    num_known: int
    num_negatives: int
    num_short: int
    rejections: Mapping[str, int]
    failures: Mapping[tuple[str, str], int]
    usage: Usage  # tokens and money are those of this run alone
    notes: Sequence[str]
    ended: str = ""
    exit_code: int = 0
    num_passed_over: int = 0


async def generate_samples(
    store: Store, plan: Plan, *, watch: Watch | None = None, stop: asyncio.Event | None = None
) -> Generated:
    """
    Make samples of the plan's seeds, as many at a time as its engine has workers for, and store them.

    Args:
        watch: told how it goes.
        stop: once it is set, no new seed is begun: what is in flight is finished and stored.

    Raises LLMError if no server can serve; what was made before is stored. A ceiling that was reached, and a stop, end
    the run early and are told in the outcome.
    """
    watch = watch or Watch()
    config = {**plan.settings, **plan.config, "engine": plan.engine, "stage_key": plan.stage_key}
    seed = plan.settings.get("seed")
    ended: SkiffError | None = None
    work: _Work | None = None
    with ExitStack() as alone:
        alone.enter_context(store.sole(plan.stage_key, "generating with the same settings"))
        for model in sorted(plan.asking.llm.models) if plan.asking else ():  # by two at once it would be paid twice
            asked = key_of("asking", model, plan.prompt_version)
            alone.enter_context(store.sole(asked, f"asking {model} for the same"))
        try:
            with runs.recorded(
                store,
                "generate",
                config | {"num_seeds": len(plan.seeds)},
                model=plan.model,
                prompt_version=plan.prompt_version,
                seed=seed if isinstance(seed, int) else None,
            ) as run:
                work = _Work(store, plan, run, watch)
                if plan.seeds:
                    await work.done(stop or asyncio.Event())
        except (BudgetSpent, Stopped) as error:
            ended = error
        finally:
            if work is not None:
                watch.ended(work.outcome(ended))
                if work.run.is_recorded:
                    work.recorded()
    assert work is not None
    return work.outcome(ended)


@dataclass
class _Work:
    """The seeds of one run on their way into the store, a batch at a time."""

    store: Store
    plan: Plan
    run: runs.Run
    watch: Watch
    num_done: int = 0
    num_stored: int = 0
    num_known: int = 0
    num_negatives: int = 0
    num_short: int = 0
    num_passed_over: int = 0
    rejections: Counter[str] = field(default_factory=Counter)
    failures: Counter[tuple[str, str]] = field(default_factory=Counter)
    usage: Usage = field(default_factory=Usage)
    notes: list[str] = field(default_factory=list)
    recorded: Callable[[], None] = lambda: None
    _finished: list[Finished] = field(default_factory=list)
    _begun: list[Finished] = field(default_factory=list)
    _failed: list[Failure] = field(default_factory=list)
    _calls: list[Call] = field(default_factory=list)
    _flushed_at: float = field(default_factory=time.monotonic)
    _breathed_at: float = field(default_factory=time.monotonic)

    async def done(self, stop: asyncio.Event) -> None:
        """Make and store what all seeds give. Raises Stopped, BudgetSpent, LLMError; what was made before is stored."""
        async with self.plan.opened(self.plan, self.store, self.watch, stop, self.run.run_id) as opened:
            self.recorded = opened.recorded
            try:
                await self._all(opened, stop)
            finally:
                self._record_usage()  # first: the store may be what fails
                self._calls += opened.take_calls()  # also those of seeds that the server's end left without a word
                self.notes += opened.found()
                self._flush()
        none_served = sum(self.failures.values()) == len(self.plan.seeds)
        num_asked = len(self.plan.seeds) - self.num_passed_over
        if none_served and num_asked and not any_done(self.store, self.plan.stage_key):
            _, reason = next(iter(self.failures))
            raise LLMError(f"not one of {num_asked} {self.plan.of.kind} got a reply that can be used: {reason}")

    def outcome(self, ended: SkiffError | None) -> Generated:
        """What has become of the run, which ended early for this reason."""
        return Generated(
            num_seeds=len(self.plan.seeds),
            num_done=self.num_done,
            num_stored=self.num_stored,
            num_known=self.num_known,
            num_negatives=self.num_negatives,
            num_short=self.num_short,
            rejections=dict(self.rejections),
            failures=dict(self.failures),
            usage=self.usage,
            notes=self.notes,
            ended=str(ended or ""),
            exit_code=ended.exit_code if ended else 0,
            num_passed_over=self.num_passed_over,
        )

    async def _all(self, opened: Opened, stop: asyncio.Event) -> None:
        ended: list[SkiffError] = []
        try:
            await opened.prepare()
        except (BudgetSpent, Stopped, LLMError) as error:
            ended.append(error)
            opened.stop()
        has_come = bool(ended)  # what has come by now is stored, whatever came between
        is_spent = False
        pending = self.plan.loaded(self.store)

        async def one() -> bool:
            nonlocal is_spent
            for seed in pending:  # one shared iterator: every seed goes to exactly one worker
                if not has_come and (stop.is_set() or (ended and not is_spent)):
                    return False
                try:
                    made = await opened.make(seed)
                    if made.ended is not None:
                        self._begun.append(Finished(seed, made.made))
                        raise made.ended
                except Stopped:
                    return True
                except BudgetSpent as error:  # what others have begun is within the ceiling, and what is known is free
                    if not is_spent:
                        ended.append(error)
                    is_spent = True
                    await self._breathe()
                    return True
                except SkiffError as error:  # no server is of use, or the disk is full; what is in flight is paid for
                    if self.watch.usage().in_flight:  # else it is said in a moment anyway, as the last line
                        self.watch.note(str(error))
                    ended.append(error)
                    is_spent = False
                    opened.stop()
                    return False
                self._calls += opened.take_calls()
                self._add(seed, made)
                await self._breathe()
                return True
            return False

        try:
            await opened.crew.work(one)
        except ExceptionGroup as errors:  # bugs: show one
            raise errors.exceptions[0] from None
        if ended:
            why = min(ended, key=lambda error: isinstance(error, BudgetSpent))  # a failure tells more than a ceiling
            raise BudgetSpent(opened.over() or str(why)) if isinstance(why, BudgetSpent) else why
        if stop.is_set():
            raise Stopped("stopped; what was in flight has been finished and stored")

    async def _breathe(self) -> None:
        """Makers that never wait must leave Ctrl-C and the display a gap."""
        if time.monotonic() - self._breathed_at > BREATH_SECONDS:
            await asyncio.sleep(0)
            self._breathed_at = time.monotonic()

    def _add(self, seed: Seed, made: Made) -> None:
        self.watch.advance(1)
        if made.failure is not None:
            self.watch.fail(1)
            self.num_passed_over += made.passed_over
            self.failures[made.failure.kind, made.failure.reason] += 1
            self._failed.append(made.failure)
        else:
            self.num_done += 1
            self.num_short += len(made.made) < self.plan.per_seed
            self.rejections.update(rejection.reason for rejection in made.rejections)
            self._finished.append(Finished(seed, made.made, made.rejections))
        waiting = len(self._finished) + len(self._failed)
        if waiting >= FLUSH_SEEDS or time.monotonic() - self._flushed_at > FLUSH_SECONDS:
            self._flush()

    def _flush(self) -> None:
        """Store what waits, on the event loop's own thread: a lease takes some milliseconds."""
        finished, self._finished = self._finished, []
        begun, self._begun = self._begun, []
        failed, self._failed = self._failed, []
        calls, self._calls = self._calls, []
        self._flushed_at = time.monotonic()
        if not (finished or begun or failed or calls):
            return
        key, run_id = self.plan.stage_key, self.run.run_id
        with self.store.write() as cursor:
            stored = [add_finished(cursor, key, run_id, finished), add_made(cursor, run_id, begun)]
            add_calls(cursor, calls, run_id)
            add_failures(cursor, failed, run_id)
        num_samples, num_negatives = (sum(numbers) for numbers in zip(*stored, strict=True))
        known = sum(each.num_made for each in [*finished, *begun]) - num_samples - num_negatives
        self.num_stored += num_samples
        self.num_negatives += num_negatives
        self.num_known += known
        self.run.count(
            seeds=len(finished), failed=len(failed), stored=num_samples, negatives=num_negatives, known=known
        )

    def _record_usage(self) -> None:
        self.usage = usage = self.watch.usage()
        run = self.run
        run.requests = usage.requests
        run.tokens_in, run.tokens_out, run.cost = usage.tokens_in, usage.tokens_out, usage.cost
        run.lost_tokens, run.lost_cost, run.excess = usage.lost_tokens, usage.lost_cost, usage.excess
