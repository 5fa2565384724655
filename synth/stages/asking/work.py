"""
Seeds on their way into the store: as many at a time as the engine has workers for, stored some hundred together.

What a seed gave and that it is done are stored in one lease, so the same command again goes on where the last one
stopped, however it stopped. Replies of an LLM are in its journal before they come here.
"""

import asyncio
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import ClassVar, Generic, TypeVar

from synth.llm.usage import Usage
from synth.records import BudgetSpent, LLMError, SkiffError, Stopped, key_of
from synth.stages.asking.plan import M, Made, Opened, Plan, S
from synth.stages.asking.watch import Watch
from synth.store import runs
from synth.store.calls import Call, add_calls
from synth.store.connection import Cursor, Store
from synth.store.failures import add_failures

FLUSH_SEEDS, FLUSH_SECONDS = 200, 2.0  # a lease is worth taking for so many seeds, or after so long
BREATH_SECONDS = 0.01


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """
    What has become of a run: `failures` count the seeds that are left, by kind and reason, of which an earlier run had
    left `num_passed_over` that were not asked again. `ended` says why the run ended before all was done, "" if it did
    not.
    """

    num_seeds: int
    num_done: int
    failures: Mapping[tuple[str, str], int]
    num_passed_over: int
    usage: Usage  # tokens and money are those of this run alone
    notes: Sequence[str]
    ended: str = ""
    exit_code: int = 0


O_co = TypeVar("O_co", bound=Outcome, covariant=True)


@dataclass(frozen=True, slots=True)
class Given(Generic[S, M]):
    """A seed and what it gave."""

    seed: S
    made: Made[M]


class Work(ABC, Generic[S, M, O_co]):
    """The seeds of one run on their way into the store, a batch at a time."""

    kind: ClassVar[str]  # of the run
    doing: ClassVar[str]  # what other processes are told, as in `generating`

    def __init__(self, store: Store, plan: Plan[S, M], run: runs.Run, watch: Watch) -> None:
        self.store, self.plan, self.run, self.watch = store, plan, run, watch
        self.num_done = self.num_passed_over = 0
        self.failures: Counter[tuple[str, str]] = Counter()
        self.rejections: Counter[str] = Counter()
        self.usage = Usage()
        self.notes: list[str] = []
        self.recorded: Callable[[], None] = lambda: None
        self._finished: list[Given[S, M]] = []
        self._begun: list[Given[S, M]] = []
        self._failed: list[Made[M]] = []
        self._calls: list[Call] = []
        self._flushed_at = self._breathed_at = time.monotonic()

    @abstractmethod
    def keep(self, cursor: Cursor, finished: Sequence[Given[S, M]], begun: Sequence[Given[S, M]]) -> Mapping[str, int]:
        """
        Store what `finished` seeds gave and that they are done, and what `begun` ones gave. Returns what the run is
        to count of it, once it is in the store.
        """

    @abstractmethod
    def any_done(self) -> bool:
        """Whether any run of this plan has finished a seed."""

    @abstractmethod
    def outcome(self, ended: SkiffError | None) -> O_co:
        """What has become of the run, which ended early for this reason."""

    def so_far(self, ended: SkiffError | None) -> Outcome:
        """What every run can say of itself."""
        return Outcome(
            num_seeds=len(self.plan.seeds),
            num_done=self.num_done,
            failures=dict(self.failures),
            num_passed_over=self.num_passed_over,
            usage=self.usage,
            notes=[*self.plan.notes, *self.notes],
            ended=str(ended or ""),
            exit_code=ended.exit_code if ended else 0,
        )

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
        if none_served and num_asked and not self.any_done():
            _, reason = next(iter(self.failures))
            raise LLMError(f"not one of {num_asked} {self.plan.of.kind} got a reply that can be used: {reason}")

    async def _all(self, opened: Opened[S, M], stop: asyncio.Event) -> None:
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
                        self._begun.append(Given(seed, made))
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
                self._add(Given(seed, made))
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

    def _add(self, given: Given[S, M]) -> None:
        self.watch.advance(1)
        if given.made.failure is None:
            self._finished.append(given)
        else:
            self.watch.fail(1)
            self._failed.append(given.made)
            if given.made.made:
                self._begun.append(given)
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
        with self.store.write() as cursor:
            counts = self.keep(cursor, finished, begun)
            add_calls(cursor, calls, self.run.run_id)
            failures = [each for made in failed for each in (made.failure, *made.others) if each]
            add_failures(cursor, failures, self.run.run_id)
        self.run.count(seeds=len(finished), failed=len(failed), **counts)
        self.num_done += len(finished)
        self.rejections.update(rejection.reason for given in finished for rejection in given.made.rejections)
        self.num_passed_over += sum(made.passed_over for made in failed)
        self.failures.update((made.failure.kind, made.failure.reason) for made in failed if made.failure)

    def _record_usage(self) -> None:
        self.usage = usage = self.watch.usage()
        run = self.run
        run.requests = usage.requests
        run.tokens_in, run.tokens_out, run.cost = usage.tokens_in, usage.tokens_out, usage.cost
        run.lost_tokens, run.lost_cost, run.excess = usage.lost_tokens, usage.lost_cost, usage.excess


async def carried_out(
    kind: type[Work[S, M, O_co]],
    store: Store,
    plan: Plan[S, M],
    watch: Watch | None,
    stop: asyncio.Event | None,
) -> O_co:
    """
    Ask about a plan's seeds, and store what they give.

    Args:
        kind: how what seeds give is kept.
        watch: told how it goes.
        stop: once it is set, no new seed is begun: what is in flight is finished and stored.

    Raises LLMError if no server can serve; what was made before is stored. A ceiling that was reached, and a stop, end
    the run early and are told in the outcome.
    """
    watch, stop = watch or Watch(), stop or asyncio.Event()
    config = {**plan.settings, **plan.config, "engine": plan.engine, "stage_key": plan.stage_key}
    ended: SkiffError | None = None
    work: Work[S, M, O_co] | None = None
    with ExitStack() as alone:
        alone.enter_context(store.sole(plan.stage_key, f"{kind.doing} with the same settings"))
        for model in sorted(plan.asking.llm.models) if plan.asking else ():  # by two at once it would be paid twice
            asked = key_of("asking", model, plan.prompt_version)
            alone.enter_context(store.sole(asked, f"asking {model} for the same"))
        try:
            with runs.recorded(
                store,
                kind.kind,
                config | {"num_seeds": len(plan.seeds)},
                model=plan.model,
                prompt_version=plan.prompt_version,
                seed=plan.settings.get("seed"),
                device=plan.device,
            ) as run:
                work = kind(store, plan, run, watch)
                if plan.seeds:
                    await work.done(stop)
        except (BudgetSpent, Stopped) as error:
            ended = error
        finally:
            if work is not None:
                watch.ended(work.outcome(ended))
                if run.is_recorded:
                    work.recorded()
    assert work is not None
    return work.outcome(ended)
