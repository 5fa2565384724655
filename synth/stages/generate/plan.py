"""What a generate stage is going to do: which recipe, which seeds, which engine."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import UUID

from synth.languages import untold
from synth.llm.crew import Crew
from synth.llm.extractive import ExtractiveEngine
from synth.recipes import RECIPES, Recipes, find_recipe
from synth.recipes.recipe import Brief, Recipe
from synth.records import Draft, Passage, Retrieval, Seed, Task, Use, UserError, Written, key_of
from synth.stages.asking.opening import asked_by
from synth.stages.asking.plan import Asking, Made, Opened, Plan
from synth.stages.asking.watch import Watch
from synth.stages.generate.asking import RecipeAsker
from synth.store import failures, sources
from synth.store.conditions import matching_samples
from synth.store.connection import Store
from synth.store.made import Rejected
from synth.store.run_history import find_run, generate_config, num_unfinished
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
    where: str | None = None  # which samples are seeds: a condition in SQL over the view samples
    recipes: Recipes = field(default_factory=lambda: RECIPES)


@dataclass(frozen=True, kw_only=True)
class GeneratePlan(Plan[Seed, Draft | Written]):
    """Which seeds, and the recipe that an LLM is asked by; None where nobody is asked."""

    of: Seeds
    task: Task
    per_seed: int = 0  # how many of each are asked for; 0 where nobody asks
    recipe: Recipe | None = None


def plan_generate(
    store: Store, wanted: Wanted, asking: Asking | None, *, anew: Mapping[UUID, int] | None = None
) -> GeneratePlan:
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
    of = _seeds(store, recipe, wanted)
    if asking is None:
        if (wanted.task, wanted.operation) != (Task.RETRIEVAL, QUERY):
            raise UserError(
                f"the operation {wanted.operation} needs an LLM: name base_url and model in [llm] of synth.toml"
            )
        plan = _extractive_plan(wanted, of)
    else:
        asking.check_prices()
        plan = _llm_plan(asking, recipe, wanted, of, anew or {})
    seeds = of.pending(store, plan.stage_key, limit=wanted.limit if anew is None else None)
    if anew is not None:
        return replace(plan, seeds=sorted(anew.keys() & set(seeds)))
    return replace(plan, seeds=seeds, notes=[*plan.notes, *_unproven(of.num_unproven(store, seeds), len(seeds))])


def _seeds(store: Store, recipe: Recipe, wanted: Wanted) -> Seeds:
    """Where seeds are found. Raises UserError where there are none, or for a condition that cannot be used."""
    of = Seeds(recipe.seeds, wanted.task, wanted.names)
    if wanted.where is not None:
        if recipe.seeds == "passages":
            raise UserError(f"--where chooses among samples, and {recipe.operation} starts from passages: use --source")
        rows = matching_samples(store, wanted.where).column("revision_id").to_pylist()
        of = replace(of, chosen=frozenset(map(UUID, rows)))
    if of.exist(store):
        return of
    of_which = f" of {', '.join(wanted.names)}" if wanted.names else ""
    if recipe.seeds == "passages":
        raise UserError(f"the corpus{of_which} is empty: ingest documents or a retrieval set for training first")
    if wanted.where is not None and replace(of, chosen=None).exist(store):
        raise UserError(f"no {wanted.task} sample{of_which} to start from meets the condition {wanted.where!r:.100}")
    raise UserError(
        f"there are no {wanted.task} samples{of_which} to start from: ingest some for training, or generate some"
    )


def _unproven(number: int, num_seeds: int) -> list[str]:
    if not number:
        return []
    return [
        f"{number:,} of {num_seeds:,} seeds were generated, and nobody approved them; to choose: --where with a"
        " condition over samples, as \"status = 'approved'\""
    ]


def plan_retry(
    store: Store, run: str, kinds: Sequence[str], asking: Asking | None, recipes: Recipes = RECIPES
) -> GeneratePlan:
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
    if unfinished := num_unfinished(store, told):
        return UserError(
            f"run {run} left nothing{of}, but did not finish {unfinished:,} of its seeds: run `synth generate`"
            " again with its options"
        )
    return UserError(f"nothing of run {run} is left{of}; `synth runs show` tells what became of it")


def _config(wanted: Wanted) -> dict[str, object]:
    return {
        "task": wanted.task,
        "operation": wanted.operation,
        "sources": list(wanted.names),
        "limit": wanted.limit,
        "where": wanted.where,
    }


def _extractive_plan(wanted: Wanted, of: Seeds) -> GeneratePlan:
    num_queries = wanted.per_seed or EXTRACTIVE_QUERIES

    @asynccontextmanager
    async def opened(
        plan: Plan[Seed, Draft | Written], store: Store, watch: Watch, stop: asyncio.Event, run_id: UUID
    ) -> AsyncIterator[Opened[Seed, Draft | Written]]:
        corpora = sources.corpora(store, wanted.names, declared_use=Use.TRAIN)
        engines = {
            name: ExtractiveEngine(corpus, seed=wanted.seed, num_queries=num_queries)
            for name, corpus in corpora.items()
        }
        name_of = {passage.text_id: name for name, corpus in corpora.items() for passage in corpus}

        async def make(passage: Seed) -> Made[Draft | Written]:
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

    settings = {"seed": wanted.seed, "num_queries": num_queries}
    return GeneratePlan(
        stage_key=stage_key(ExtractiveEngine.name, ExtractiveEngine.version, settings),
        engine="extractive (no model; configure base_url and model for an LLM)",
        model=ExtractiveEngine.name,
        prompt_version=ExtractiveEngine.version,
        settings=settings,
        config=_config(wanted),
        of=of,
        opened=opened,
        task=wanted.task,
    )


def _llm_plan(asking: Asking, recipe: Recipe, wanted: Wanted, of: Seeds, anew: Mapping[UUID, int]) -> GeneratePlan:
    llm = asking.llm
    brief = Brief(wanted.per_seed or recipe.per_seed, language=wanted.language)
    max_tries = wanted.max_tries or recipe.most_tries

    # not all that is asked for: seeds that are done stay done where max_tokens changes, and only the rest is asked
    settings = {
        "per_seed": brief.number,
        "language": brief.language,
        "max_tries": max_tries,
        "temperature": llm.temperature,
        "parser_version": recipe.parsing,
    }
    model = " + ".join(llm.models)
    return GeneratePlan(
        stage_key=stage_key(model, recipe.prompt_version, settings),
        engine=str(llm),
        model=model,
        prompt_version=recipe.prompt_version,
        settings=settings,
        config=_config(wanted) | llm.sampling,
        of=of,
        opened=asked_by(
            asking,
            lambda engine, key, hopeless: RecipeAsker(engine, recipe, brief, max_tries, anew, key, hopeless),
        ),
        per_seed=brief.number,
        notes=[note] if (note := untold(wanted.language)) else (),
        asking=asking,
        recipe=recipe,
        task=wanted.task,
    )


def stage_key(model: str, prompt_version: str, settings: Mapping[str, Any]) -> UUID:
    """What seeds are done under: the model, the prompt and the settings determine what a seed gives."""
    return key_of("generate", model, prompt_version, dict(settings))
