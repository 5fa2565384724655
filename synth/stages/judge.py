"""
Judge: an LLM grades the passages of retrieval samples, and what it says is stored beside them.

Replies are in the journal before they come here, and judgements are stored some hundred samples at a time; the same
command again goes on where the last one stopped, however it stopped, and asks only about what is not graded yet.
"""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field

from synth.llm.account import Account
from synth.llm.budget import Budget
from synth.llm.ceilings import Ceilings
from synth.llm.engine import Engine
from synth.llm.journal import Journal
from synth.llm.usage import Usage
from synth.records import BudgetSpent, LLMError, SkiffError, Stopped, key_of
from synth.stages.generate import Watch
from synth.stages.judge_asking import Answer, JudgeAsker
from synth.stages.judge_plan import JudgePlan
from synth.stages.spending import spent_before
from synth.store import failures, judgements, runs
from synth.store.calls import Call, add_calls
from synth.store.connection import Store
from synth.store.failures import Failure, add_failures
from synth.store.judgements import Judgement, add_judgements

FLUSH_SAMPLES, FLUSH_SECONDS = 200, 2.0  # a lease is worth taking for so many samples, or after so long


@dataclass(frozen=True)
class Judged:
    """
    The outcome. `failures` counts the samples that are left, by kind and reason, of which `num_passed_over` were not
    asked about again, for an earlier run learnt that no usable reply comes. `ended` says why the run ended before all
    was done, "" if it did not.
    """

    num_samples: int
    num_done: int
    num_judgements: int
    failures: Mapping[tuple[str, str], int]
    num_passed_over: int
    usage: Usage
    notes: Sequence[str]
    ended: str = ""
    exit_code: int = 0


async def judge_samples(
    store: Store, plan: JudgePlan, *, watch: Watch | None = None, stop: asyncio.Event | None = None
) -> Judged:
    """
    Ask about the plan's samples, as many at a time as the engine has workers for, and store what the judge says.

    Args:
        watch: told how it goes.
        stop: once it is set nothing new is asked: what is in flight is finished and stored.

    Raises LLMError if no server can serve; what was said before is stored. A ceiling that was reached, and a stop, end
    the run early and are told in the outcome.
    """
    watch, stop = watch or Watch(), stop or asyncio.Event()
    config = {**plan.config, "stage_key": plan.judge.key, "num_samples": len(plan.revisions)}
    ended: SkiffError | None = None
    work: _Work | None = None
    with ExitStack() as alone:
        alone.enter_context(store.sole(plan.judge.key, "judging with the same settings"))
        for model in sorted(plan.judge.names):  # by two at once it would be paid twice
            asked = key_of("asking", model, plan.judge.version)
            alone.enter_context(store.sole(asked, f"asking {model} to judge"))
        try:
            with runs.recorded(
                store,
                "judge",
                config,
                model=" + ".join(plan.judge.names),
                prompt_version=plan.judge.version,
                seed=plan.seed,
            ) as run:
                work = _Work(store, plan, run, watch)
                if plan.revisions:
                    await work.done(stop)
        except (BudgetSpent, Stopped) as error:
            ended = error
        finally:
            if work is not None and work.account is not None and work.run.is_recorded:
                work.account.remove()
    assert work is not None
    return work.outcome(ended)


@dataclass
class _Work:
    """The samples of one run on their way into the store."""

    store: Store
    plan: JudgePlan
    run: runs.Run
    watch: Watch
    num_done: int = 0
    num_judgements: int = 0
    num_passed_over: int = 0
    failures: Counter[tuple[str, str]] = field(default_factory=Counter)
    usage: Usage = field(default_factory=Usage)
    notes: list[str] = field(default_factory=list)
    account: Account | None = None
    _said: list[Judgement] = field(default_factory=list)
    _failed: list[Failure] = field(default_factory=list)
    _calls: list[Call] = field(default_factory=list)
    _waiting: int = 0
    _flushed_at: float = field(default_factory=time.monotonic)

    async def done(self, stop: asyncio.Event) -> None:
        """Ask and store. Raises Stopped, BudgetSpent, LLMError; what was said before is stored."""
        plan = self.plan
        async with _opened(self, stop) as engine:
            asker = JudgeAsker(engine, plan.judge, plan.seed, plan.attempts)
            try:
                await self._all(engine, asker, stop)
            finally:
                self._record(engine)
                self._calls += asker.take_calls()
                self._flush()
        num_asked = sum(self.failures.values()) - self.num_passed_over
        if num_asked and not self.num_done and not judgements.any_judged(self.store, plan.judge):
            _, reason = next(iter(self.failures))
            raise LLMError(f"not one of {num_asked} samples got a reply that can be used: {reason}")

    async def _all(self, engine: Engine, asker: JudgeAsker, stop: asyncio.Event) -> None:
        ended: list[SkiffError] = []
        waiting = self.plan.loaded(self.store)

        async def one() -> bool:
            for sample in waiting:  # one shared iterator: every sample goes to exactly one worker
                if stop.is_set() or ended:
                    return False
                try:
                    answer = await asker.ask(sample)
                except Stopped:
                    return True
                except SkiffError as error:  # a ceiling, or no server is of use; what is in flight is paid for
                    ended.append(error)
                    if not isinstance(error, BudgetSpent):
                        engine.stop()
                    return False
                self._calls += asker.take_calls()
                self._add(answer)
                await asyncio.sleep(0)  # replies from the journal never wait, and Ctrl-C must be heard
                return True
            return False

        try:
            await engine.crew.work(one)
        except ExceptionGroup as errors:  # bugs: show one
            raise errors.exceptions[0] from None
        if ended:
            why = min(ended, key=lambda error: isinstance(error, BudgetSpent))  # a failure tells more than a ceiling
            raise BudgetSpent(engine.budget.over or str(why)) if isinstance(why, BudgetSpent) else why
        if stop.is_set():
            raise Stopped("stopped; what was in flight has been finished and stored")

    def _add(self, answer: Answer) -> None:
        self.watch.advance(1)
        self._said += answer.judgements
        if answer.failure is not None:
            self.watch.fail(1)
            self.num_passed_over += answer.passed_over
            self.failures[answer.failure.kind, answer.failure.reason] += 1
            self._failed.append(answer.failure)
        else:
            self.num_done += 1
        self._waiting += 1
        if self._waiting >= FLUSH_SAMPLES or time.monotonic() - self._flushed_at > FLUSH_SECONDS:
            self._flush()

    def _flush(self) -> None:
        said, self._said = self._said, []
        failed, self._failed = self._failed, []
        calls, self._calls = self._calls, []
        self._waiting, self._flushed_at = 0, time.monotonic()
        if not (said or failed or calls):
            return
        with self.store.write() as cursor:
            add_judgements(cursor, self.plan.judge, self.run.run_id, said)
            add_calls(cursor, calls, self.run.run_id)
            add_failures(cursor, failed, self.run.run_id)
        self.num_judgements += len(said)
        samples = len({each.revision_id for each in said})
        self.run.count(samples=samples, judgements=len(said), failed=len(failed))

    def _record(self, engine: Engine) -> None:
        self.usage = usage = engine.usage
        self.notes += [*engine.found, *engine.budget.notes]
        run = self.run
        run.requests = usage.requests
        run.tokens_in, run.tokens_out, run.cost = usage.tokens_in, usage.tokens_out, usage.cost
        run.lost_tokens, run.lost_cost, run.excess = usage.lost_tokens, usage.lost_cost, usage.excess

    def outcome(self, ended: SkiffError | None) -> Judged:
        """What has become of the run, which ended early for this reason."""
        return Judged(
            num_samples=len(self.plan.revisions),
            num_done=self.num_done,
            num_judgements=self.num_judgements,
            failures=dict(self.failures),
            num_passed_over=self.num_passed_over,
            usage=self.usage,
            notes=self.notes,
            ended=str(ended or ""),
            exit_code=ended.exit_code if ended else 0,
        )


@asynccontextmanager
async def _opened(work: _Work, stop: asyncio.Event) -> AsyncIterator[Engine]:
    """The engine, with the journal, what may be spent, and what is known to fail; it stops when `stop` is set."""
    plan, asking, watch = work.plan, work.plan.asking, work.watch
    at_once = asking.ceilings != Ceilings()
    with (
        Journal(asking.journal) as journal,
        Account(asking.journal, plan.judge.key, work.run.run_id, at_once=at_once) as account,
    ):
        for note in journal.notes:
            watch.note(note)
        work.account = account
        spent = spent_before(work.store, plan.judge.key, asking.journal)
        budget = Budget(
            asking.ceilings,
            spent_cost=spent.cost,
            spent_tokens=spent.tokens,
            spent_requests=spent.requests,
            lost_cost=spent.lost_cost,
            lost_tokens=spent.lost_tokens,
            excess=spent.excess,
            account=account,
        )
        hopeless = failures.hopeless(work.store, plan.judge.key)
        async with Engine(asking.llm, journal, budget=budget, hopeless=hopeless, on_note=watch.note) as engine:
            watch.usage, watch.spent = lambda: engine.usage, lambda: budget.spent

            async def stop_when_asked() -> None:
                await stop.wait()
                engine.stop()

            stopping = asyncio.create_task(stop_when_asked())
            try:
                yield engine
            finally:
                stopping.cancel()
