"""What a generate stage is going to do: which recipe, which seeds, which engine."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from uuid import UUID

from synth.llm.account import Account
from synth.llm.batch.asking import Asked, ask_in_batches, refuse_pending
from synth.llm.budget import Budget
from synth.llm.ceilings import Ceilings
from synth.llm.crew import Crew
from synth.llm.engine import Engine
from synth.llm.extractive import ExtractiveEngine
from synth.llm.journal import Journal
from synth.recipes import RECIPES
from synth.recipes.recipe import Recipe
from synth.records import Draft, Passage, Retrieval, Task, Use, UserError
from synth.stages.asking import Asker, Made
from synth.stages.generate import Asking, Opened, Plan, Watch
from synth.stages.spending import spent_before
from synth.store import failures, sources
from synth.store.connection import Store
from synth.store.run_history import find_run, generate_config, num_not_reached

QUERY = "query"


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to make of which sources: all that a run has to be told, but for the engine."""

    task: Task = Task.RETRIEVAL
    operation: str = QUERY
    names: tuple[str, ...] = ()  # of sources; empty: all
    num_queries: int = 4
    seed: int = 0  # of the extractive engine's choices
    limit: int | None = None  # at most so many seeds, in the order of their text ids


def plan_generate(
    store: Store, wanted: Wanted, asking: Asking | None, *, anew: Mapping[UUID, int] | None = None
) -> Plan:
    """
    Find the seeds that are not done: passages of the named sources, or of all, that are declared for training.

    Args:
        asking: the servers to ask; None takes the extractive engine, which serves retrieval queries only.
        anew: only these seeds, each asked under this attempt number, to get another reply than the last time.

    Raises UserError for an unknown source, an empty corpus, an operation that nothing here can do, or a ceiling on
    money without prices.
    """
    recipe = _recipe(wanted.task, wanted.operation)
    sources.check_sources(store, wanted.names)
    if not sources.has_train_passages(store, wanted.names):
        where = f" of {', '.join(wanted.names)}" if wanted.names else ""
        raise UserError(f"the corpus{where} is empty: ingest documents or a retrieval set for training first")
    if asking is None:
        plan = _extractive_plan(wanted)
    else:
        asking.ceilings.check_prices(asking.llm.endpoints)
        if asking.in_batches:
            asking.ceilings.check_prices(asking.llm.endpoints, batch=True)
        plan = _llm_plan(asking, recipe, wanted, anew or {})
    if anew is None:
        seeds = sources.pending_passages(store, wanted.names, plan.stage_key, limit=wanted.limit)
    else:
        seeds = sorted(anew)[: wanted.limit]
    return replace(plan, seeds=seeds)


def plan_retry(store: Store, run: str, kinds: Sequence[str], asking: Asking | None) -> Plan:
    """
    Ask again for the seeds of a run that failed in one of these ways (any, if none is named), under the next attempt
    number of each.

    Raises UserError if the run is unknown, asked no LLM, was told other things than this version can do, or has no such
    failures; or if no LLM is configured now.
    """
    told = find_run(store, run)
    config = generate_config(store, told)
    if asking is None:
        raise UserError("no LLM is configured: name base_url and model in [llm] of synth.toml")
    wanted = Wanted(
        task=Task(config["task"]),
        operation=config["operation"],
        names=tuple(config["sources"]),
        num_queries=config["num_queries"],
    )
    anew = failures.to_ask_again(store, told, kinds)
    if not anew:
        of = f" as {' or '.join(kinds)}" if kinds else ""
        if others := failures.left(store, told):
            left = " and ".join(f"{number:,} as {kind}" for kind, number in others.items())
            only = failures.only_for(others.keys())
            raise UserError(f"run {run} left nothing{of}, but {left}: `--only {only}` asks for that again")
        if unreached := num_not_reached(store, told):
            raise UserError(
                f"run {run} left nothing{of}, but did not come to {unreached:,} of its passages: run `synth generate`"
                " again with its options"
            )
        raise UserError(f"nothing of run {run} is left{of}; `synth runs show` tells what became of it")
    return plan_generate(store, wanted, asking, anew=anew)


def _recipe(task: Task, operation: str) -> Recipe:
    recipe = RECIPES.get((task, operation))
    if recipe is None:
        known = ", ".join(f"{known_operation} for {known_task}" for known_task, known_operation in RECIPES)
        raise UserError(f"no recipe makes {task} samples by the operation {operation}; there is: {known}")
    return recipe


def _config(wanted: Wanted) -> dict[str, object]:
    return {
        "task": wanted.task,
        "operation": wanted.operation,
        "sources": list(wanted.names),
        "limit": wanted.limit,
    }


def _extractive_plan(wanted: Wanted) -> Plan:
    @asynccontextmanager
    async def opened(
        plan: Plan, store: Store, watch: Watch, stop: asyncio.Event, run_id: UUID
    ) -> AsyncIterator[Opened]:
        corpora = sources.corpora(store, wanted.names, declared_use=Use.TRAIN)
        engines = {
            name: ExtractiveEngine(corpus, seed=wanted.seed, num_queries=wanted.num_queries)
            for name, corpus in corpora.items()
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

        yield Opened(make, Crew(1))

    return Plan(
        "extractive (no model; configure base_url and model for an LLM)",
        ExtractiveEngine.name,
        ExtractiveEngine.version,
        {"seed": wanted.seed, "num_queries": wanted.num_queries},
        _config(wanted),
        wanted.names,
        opened,
    )


def _llm_plan(asking: Asking, recipe: Recipe, wanted: Wanted, anew: Mapping[UUID, int]) -> Plan:
    llm = asking.llm

    @asynccontextmanager
    async def opened(
        plan: Plan, store: Store, watch: Watch, stop: asyncio.Event, run_id: UUID
    ) -> AsyncIterator[Opened]:
        has_ceilings = asking.ceilings != Ceilings()
        with (
            Journal(asking.journal) as journal,
            Account(asking.journal, plan.stage_key, run_id, at_once=has_ceilings) as account,
        ):
            for note in journal.notes:
                watch.note(note)
            budget = _budget(store, plan.stage_key, asking, account)
            hopeless = failures.hopeless(store, plan.stage_key)
            async with Engine(llm, journal, budget=budget, hopeless=hopeless, on_note=watch.note) as engine:
                asker = Asker(engine, recipe, wanted.num_queries, anew, plan.stage_key, hopeless)
                watch.usage, watch.spent = lambda: engine.usage, lambda: budget.spent

                def questions() -> Iterator[Asked]:
                    return map(asker.asked, plan.passages(store))

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

    return Plan(
        str(llm),
        " + ".join(llm.models),
        recipe.prompt_version,
        # not all that is asked for: seeds that are done stay done where max_tokens changes, and only the rest is asked
        {
            "num_queries": wanted.num_queries,
            "temperature": llm.temperature,
            "parser_version": recipe.parser_version,
        },
        _config(wanted) | llm.sampling,
        wanted.names,
        opened,
        asking=asking,
        recipe=recipe,
    )


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


def _nothing() -> None:
    pass


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
