"""
Generate: passages become samples, by an LLM with a recipe, or by the extractive engine without any model.

A seed is a passage; what it gave and that it is done are stored together, so the same command again goes on where the
last one stopped, however it stopped. Replies of an LLM are in its journal before they come here.
"""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from uuid import UUID

from synth.llm.engine import Engine, LLMConfig, Receipt, Usage
from synth.llm.extractive import ExtractiveEngine
from synth.llm.journal import Journal
from synth.recipes import RECIPES
from synth.recipes.recipe import Recipe
from synth.records import BadReply, Draft, LLMError, Passage, Retrieval, Task, Use, UserError, key_of
from synth.store import runs, samples, sources
from synth.store.calls import Call, add_calls
from synth.store.connection import Store

FLUSH_SEEDS, FLUSH_SECONDS = 200, 2.0  # a lease is worth taking for so many seeds, or after so long
QUERY = "query"


@dataclass(frozen=True, slots=True)
class Made:
    """
    What one seed gave: drafts, and rejected candidates by reason. With a `failure` the seed is not done: the next run
    comes back to it.
    """

    drafts: Sequence[Draft] = ()
    rejections: Mapping[str, int] | None = None
    failure: str = ""


@dataclass(frozen=True, slots=True)
class Opened:
    """
    A plan's engine while it is open: what makes, what was paid so far, the calls since they were last taken, and what
    it has to say.
    """

    make: Callable[[Passage], Awaitable[Made]]
    usage: Callable[[], Usage] = Usage
    take_calls: Callable[[], Sequence[Call]] = list
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class Plan:
    """What a generate stage will do: which seeds, with what. `settings` and the engine determine what a seed gives."""

    engine: str  # one line to print: what makes the samples
    model: str
    prompt_version: str
    settings: Mapping[str, object]
    seeds: Sequence[Passage]
    concurrency: int
    opened: Callable[[], AbstractAsyncContextManager[Opened]]
    llm: LLMConfig | None = None  # None: no server is asked

    @property
    def stage_key(self) -> UUID:
        """Seeds done under this key are done for this plan."""
        return key_of("generate", self.model, self.prompt_version, dict(self.settings))


@dataclass(frozen=True)
class Generated:
    """The outcome: `num_known` drafts had content that the store has already; `failures` are left for the next run."""

    num_seeds: int
    num_stored: int
    num_known: int
    rejections: Mapping[str, int]
    failures: Mapping[str, int]
    tokens_in: int
    tokens_out: int
    cost: float | None  # US dollars, for what was bought now; None where no price is stated
    notes: Sequence[str]


def plan_generate(
    store: Store,
    *,
    llm: LLMConfig | None,
    journal: Path,
    task: Task,
    operation: str,
    names: Sequence[str],
    num_queries: int,
    seed: int,
    limit: int | None,
) -> Plan:
    """
    Find the seeds that are not done: passages of the named sources, or of all, that are declared for training.

    Args:
        llm: the server to ask; None takes the extractive engine, which serves retrieval queries only.
        journal: the folder of the replies already paid for.
        seed: of the extractive engine's choices.
        limit: at most so many seeds, in the order of their text ids.

    Raises UserError for an unknown source, an empty corpus, or an operation that nothing here can do.
    """
    recipe = _recipe(task, operation)
    sources.check_sources(store, names)
    corpora = sources.corpora(store, names, declared_use=Use.TRAIN)
    if not corpora:
        where = f" of {', '.join(names)}" if names else ""
        raise UserError(f"the corpus{where} is empty: ingest documents or a retrieval set for training first")
    if llm is None:
        plan = _extractive_plan(corpora, seed=seed, num_queries=num_queries)
    else:
        plan = _llm_plan(llm, journal, recipe, num_queries=num_queries)
    done = samples.seeds_done(store, plan.stage_key)
    pending = {p.text_id: p for corpus in corpora.values() for p in corpus if p.text_id not in done}
    return replace(plan, seeds=[pending[text_id] for text_id in sorted(pending)][:limit])


def _recipe(task: Task, operation: str) -> Recipe:
    recipe = RECIPES.get((task, operation))
    if recipe is None:
        known = ", ".join(f"{known_operation} for {known_task}" for known_task, known_operation in RECIPES)
        raise UserError(f"no recipe makes {task} samples by the operation {operation}; there is: {known}")
    return recipe


def _extractive_plan(corpora: Mapping[str, Sequence[Passage]], *, seed: int, num_queries: int) -> Plan:
    @asynccontextmanager
    async def opened() -> AsyncIterator[Opened]:
        engines = {
            name: ExtractiveEngine(corpus, seed=seed, num_queries=num_queries) for name, corpus in corpora.items()
        }
        name_of = {passage.text_id: name for name, corpus in corpora.items() for passage in corpus}

        async def make(passage: Passage) -> Made:
            found = engines[name_of[passage.text_id]].queries(passage)
            drafts = [
                Draft(
                    Retrieval(each.query, (each.positive,)),
                    passage.source_id,
                    QUERY,
                    method=each.method,
                    seed_id=passage.text_id,
                    model=ExtractiveEngine.name,
                    prompt_version=ExtractiveEngine.version,
                )
                for each in found
            ]
            return Made(drafts, {} if drafts else {"too short or no prose": 1})

        yield Opened(make)

    return Plan(
        "extractive (no model; configure base_url and model for an LLM)",
        ExtractiveEngine.name,
        ExtractiveEngine.version,
        {"seed": seed, "num_queries": num_queries},
        seeds=(),
        concurrency=1,
        opened=opened,
    )


def _llm_plan(config: LLMConfig, journal_folder: Path, recipe: Recipe, *, num_queries: int) -> Plan:
    @asynccontextmanager
    async def opened() -> AsyncIterator[Opened]:
        with Journal(journal_folder) as journal:
            async with Engine(config, journal) as engine:
                outcomes: dict[UUID, str] = {}

                async def make(passage: Passage) -> Made:
                    return await _ask(engine, recipe, passage, num_queries, outcomes)

                def take_calls() -> list[Call]:
                    return _calls(engine.take_receipts(), outcomes, config, recipe)

                yield Opened(make, lambda: engine.usage, take_calls, journal.notes)

    return Plan(
        f"{config.model} at {config.base_url}",
        config.model,
        recipe.prompt_version,
        {"num_queries": num_queries, "temperature": config.temperature},
        seeds=(),
        # The engine bounds what is in flight; more workers than that fill in for those told to wait.
        concurrency=2 * config.concurrency,
        opened=opened,
        llm=config,
    )


async def _ask(engine: Engine, recipe: Recipe, passage: Passage, num_queries: int, outcomes: dict[UUID, str]) -> Made:
    """What one passage gave; what became of the reply goes into `outcomes`, by call id."""
    try:
        reply = await engine.complete(recipe.messages(passage, num_queries), seed_id=passage.text_id)
    except BadReply as error:  # no reply: the seed stays pending
        return Made(failure=str(error))
    assert reply.call_id is not None
    try:
        drafts, rejections = recipe.parse(reply.text, passage)
    except BadReply:  # a reply that the recipe cannot use: asking the same again would replay it
        outcomes[reply.call_id] = "unusable"
        return Made((), {"reply not as asked": 1})
    outcomes[reply.call_id] = "used" if drafts else "rejected"
    counted = Counter(rejection.reason for rejection in rejections)
    return Made([replace(draft, model=reply.model, call_id=reply.call_id) for draft in drafts], counted)


def _calls(receipts: Sequence[Receipt], outcomes: Mapping[UUID, str], config: LLMConfig, recipe: Recipe) -> list[Call]:
    """The receipts as calls. A reply that nobody read to its end is left out: the journal has it for the next run."""
    return [
        Call(
            call_id=receipt.call_id,
            seed_id=receipt.seed_id,
            model=receipt.model,
            prompt_version="" if receipt.fault == "probe" else recipe.prompt_version,
            sampling=config.sampling,
            attempt=receipt.attempt,
            outcome=receipt.fault or outcomes[receipt.call_id],
            tokens_in=receipt.tokens_in,
            tokens_out=receipt.tokens_out,
            cost=config.cost(receipt.tokens_in, receipt.tokens_out),
            seconds=receipt.seconds,
        )
        for receipt in receipts
        if receipt.fault or receipt.call_id in outcomes
    ]


async def generate_samples(store: Store, plan: Plan, *, on_progress: Callable[[int], None]) -> Generated:
    """
    Make samples of the plan's seeds, `plan.concurrency` at a time, and store them.

    Args:
        on_progress: called with the number of seeds that were just finished.

    Raises LLMError if the server cannot serve; what was made before is stored.
    """
    config = {**plan.settings, "engine": plan.engine, "num_seeds": len(plan.seeds)}
    if plan.llm is not None:
        config |= plan.llm.sampling
    seed = plan.settings.get("seed")
    with (
        store.sole(plan.stage_key, "generating with the same settings"),
        runs.recorded(
            store,
            "generate",
            config,
            model=plan.model,
            prompt_version=plan.prompt_version,
            seed=seed if isinstance(seed, int) else None,
        ) as run,
    ):
        writer = _Writer(store, plan.stage_key, run, on_progress)
        notes: Sequence[str] = ()
        if plan.seeds:
            async with plan.opened() as opened:
                notes = opened.notes
                try:
                    await _work(plan, opened, writer)
                finally:
                    run.tokens_in, run.tokens_out = opened.usage().tokens_in, opened.usage().tokens_out
                    run.cost = plan.llm.cost(run.tokens_in, run.tokens_out) if plan.llm else None
                if sum(writer.failures.values()) == len(plan.seeds):
                    raise LLMError(f"not one of {len(plan.seeds)} passages got a reply: {next(iter(writer.failures))}")
    return Generated(
        len(plan.seeds),
        writer.num_stored,
        writer.num_known,
        writer.rejections,
        writer.failures,
        run.tokens_in,
        run.tokens_out,
        run.cost,
        notes,
    )


async def _work(plan: Plan, opened: Opened, writer: "_Writer") -> None:
    pending = iter(plan.seeds)

    async def worker() -> None:
        for passage in pending:  # one shared iterator: every seed goes to exactly one worker
            made = await opened.make(passage)
            writer.collect(opened.take_calls())
            await writer.add(passage.text_id, made)

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(min(plan.concurrency, len(plan.seeds))):
                group.create_task(worker())
    except ExceptionGroup as errors:  # workers fail alike (a rejected key, a dead server): show it once
        raise errors.exceptions[0] from None
    finally:
        writer.collect(opened.take_calls())  # also those of seeds that the server's end left without a word
        writer.flush()


class _Writer:
    """Collects what the workers made, and what was paid for it, and stores it a batch at a time."""

    def __init__(self, store: Store, key: UUID, run: runs.Run, on_progress: Callable[[int], None]) -> None:
        self._store, self._key, self._run, self._on_progress = store, key, run, on_progress
        self._waiting: list[tuple[UUID, Sequence[Draft], Mapping[str, int]]] = []
        self._calls: list[Call] = []
        self._flushed_at = time.monotonic()
        self.num_stored = self.num_known = 0
        self.rejections: Counter[str] = Counter()
        self.failures: Counter[str] = Counter()

    def collect(self, calls: Sequence[Call]) -> None:
        """Keep calls until the samples that were made of them are stored."""
        self._calls += calls

    async def add(self, seed_id: UUID, made: Made) -> None:
        self._on_progress(1)
        if made.failure:
            self.failures[made.failure] += 1
            return
        self.rejections.update(made.rejections or {})
        self._waiting.append((seed_id, made.drafts, made.rejections or {}))
        if len(self._waiting) >= FLUSH_SEEDS or time.monotonic() - self._flushed_at > FLUSH_SECONDS:
            self.flush()
        await asyncio.sleep(0)  # makers that never wait must leave Ctrl-C a gap

    def flush(self) -> None:
        """Store what waits, on the event loop's own thread: a lease takes some milliseconds."""
        finished, self._waiting = self._waiting, []
        calls, self._calls = self._calls, []
        self._flushed_at = time.monotonic()
        if not finished and not calls:
            return
        with self._store.write() as cursor:
            stored = samples.add_generated(cursor, self._key, self._run.run_id, finished)
            add_calls(cursor, calls, self._run.run_id)
        known = sum(len(drafts) for _, drafts, _ in finished) - stored
        self.num_stored += stored
        self.num_known += known
        self._run.count(seeds=len(finished), stored=stored, known=known)
