"""What a generate stage is going to do: which recipe, which seeds, which engine."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from uuid import UUID

from synth.llm.account import Account
from synth.llm.batch.asking import Asked, ask_in_batches, refuse_pending
from synth.llm.budget import Budget
from synth.llm.ceilings import Ceilings
from synth.llm.crew import Crew
from synth.llm.engine import Engine
from synth.llm.extractive import ExtractiveEngine
from synth.llm.journal import Journal
from synth.recipes import RECIPES, Recipes, find_recipe
from synth.recipes.recipe import Brief, Recipe
from synth.records import Draft, Passage, Retrieval, Seed, Task, Use, UserError
from synth.stages.asking import Asker, Made
from synth.stages.generate import Asking, Opened, Plan, Watch
from synth.stages.spending import spent_before
from synth.store import failures, sources
from synth.store.connection import Store
from synth.store.made import Rejected
from synth.store.run_history import find_run, generate_config, num_not_reached
from synth.store.seeds import Seeds

QUERY = "query"
EXTRACTIVE_QUERIES = 4  # of a passage


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to make of which sources: all that a run has to be told, but for the engine."""

    task: Task = Task.RETRIEVAL
    operation: str = QUERY
    names: tuple[str, ...] = ()  # of sources; empty: all
    per_seed: int | None = None  # samples or negatives of each seed; None: as many as the recipe says
    language: str = ""  # of what is written; "" that of the seed
    max_tries: int | None = None  # requests about a seed for what the checks rejected; None: as the recipe says
    seed: int = 0  # of the extractive engine's choices
    limit: int | None = None  # at most so many seeds
    recipes: Recipes = field(default_factory=lambda: RECIPES)


def plan_generate(
    store: Store, wanted: Wanted, asking: Asking | None, *, anew: Mapping[UUID, int] | None = None
) -> Plan:
    """
    Find the seeds that are not done: passages or samples of the named sources, or of all, declared for training.

    Args:
        asking: the servers to ask; None takes the extractive engine, which serves retrieval queries only.
        anew: only these, as far as they are seeds and not done, each asked under this attempt number, to get another
            reply than the last time.

    Raises UserError for an unknown source, an empty corpus, an operation that nothing here can do, or a ceiling on
    money without prices.
    """
    recipe = find_recipe(wanted.task, wanted.operation, wanted.recipes)
    recipe.check_language(wanted.language)
    sources.check_sources(store, wanted.names)
    of = Seeds(recipe.seeds, wanted.task, wanted.names)
    if not of.exist(store):
        where = f" of {', '.join(wanted.names)}" if wanted.names else ""
        if recipe.seeds == "passages":
            raise UserError(f"the corpus{where} is empty: ingest documents or a retrieval set for training first")
        raise UserError(
            f"there are no {wanted.task} samples{where} to start from: ingest some for training, or generate some"
        )
    if asking is None:
        if (wanted.task, wanted.operation) != (Task.RETRIEVAL, QUERY):
            raise UserError(
                f"the operation {wanted.operation} needs an LLM: name base_url and model in [llm] of synth.toml"
            )
        plan = _extractive_plan(wanted, of)
    else:
        asking.ceilings.check_prices(asking.llm.endpoints)
        if asking.in_batches:
            asking.ceilings.check_prices(asking.llm.endpoints, batch=True)
        plan = _llm_plan(asking, recipe, wanted, of, anew or {})
    if anew is None:
        return replace(plan, seeds=of.pending(store, plan.stage_key, limit=wanted.limit))
    return replace(plan, seeds=sorted(anew.keys() & set(of.pending(store, plan.stage_key, limit=None))))


def plan_retry(store: Store, run: str, kinds: Sequence[str], asking: Asking | None, recipes: Recipes = RECIPES) -> Plan:
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
        per_seed=config["per_seed"],
        language=config["language"],
        max_tries=config["max_tries"],
        recipes=recipes,
    )
    anew = failures.to_ask_again(store, told, kinds)
    if not anew:
        raise _nothing_left(store, run, told, kinds)
    plan = plan_generate(store, wanted, asking, anew=anew)
    if not plan.seeds:
        raise UserError("none of what was left is a seed any more: it was edited, rejected or held out since")
    return plan


def _nothing_left(store: Store, run: str, told: UUID, kinds: Sequence[str]) -> UserError:
    """Why there is nothing of a run, as it was named, to ask again, and what there is instead."""
    of = f" as {' or '.join(kinds)}" if kinds else ""
    if others := failures.left(store, told):
        left = " and ".join(f"{number:,} as {kind}" for kind, number in others.items())
        only = failures.only_for(others.keys())
        return UserError(f"run {run} left nothing{of}, but {left}: `--only {only}` asks for that again")
    if unreached := num_not_reached(store, told):
        return UserError(
            f"run {run} left nothing{of}, but did not come to {unreached:,} of its seeds: run `synth generate`"
            " again with its options"
        )
    return UserError(f"nothing of run {run} is left{of}; `synth runs show` tells what became of it")


def _config(wanted: Wanted) -> dict[str, object]:
    return {
        "task": wanted.task,
        "operation": wanted.operation,
        "sources": list(wanted.names),
        "limit": wanted.limit,
    }


def _extractive_plan(wanted: Wanted, of: Seeds) -> Plan:
    num_queries = wanted.per_seed or EXTRACTIVE_QUERIES

    @asynccontextmanager
    async def opened(
        plan: Plan, store: Store, watch: Watch, stop: asyncio.Event, run_id: UUID
    ) -> AsyncIterator[Opened]:
        corpora = sources.corpora(store, wanted.names, declared_use=Use.TRAIN)
        engines = {
            name: ExtractiveEngine(corpus, seed=wanted.seed, num_queries=num_queries)
            for name, corpus in corpora.items()
        }
        name_of = {passage.text_id: name for name, corpus in corpora.items() for passage in corpus}

        async def make(passage: Seed) -> Made:
            assert isinstance(passage, Passage)
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
            return Made(drafts, [] if drafts else [Rejected("too short or no prose", passage.text, "no query in it")])

        yield Opened(make, Crew(1))

    return Plan(
        "extractive (no model; configure base_url and model for an LLM)",
        ExtractiveEngine.name,
        ExtractiveEngine.version,
        {"seed": wanted.seed, "num_queries": num_queries},
        _config(wanted),
        of,
        opened,
    )


def _llm_plan(asking: Asking, recipe: Recipe, wanted: Wanted, of: Seeds, anew: Mapping[UUID, int]) -> Plan:
    llm = asking.llm
    brief = Brief(wanted.per_seed or recipe.per_seed, language=wanted.language)
    max_tries = wanted.max_tries or recipe.most_tries

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
                asker = Asker(engine, recipe, brief, max_tries, anew, plan.stage_key, hopeless)
                watch.usage, watch.spent = lambda: engine.usage, lambda: budget.spent

                def questions() -> Iterator[Asked]:
                    return map(asker.asked, plan.loaded(store))

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
            "per_seed": brief.number,
            "language": brief.language,
            "max_tries": max_tries,
            "temperature": llm.temperature,
            "parser_version": recipe.parsing,
        },
        _config(wanted) | llm.sampling,
        of,
        opened,
        per_seed=brief.number,
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
