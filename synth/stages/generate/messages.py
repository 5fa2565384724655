"""What a recipe would send about a seed, to be looked at. Nothing is asked, and nothing is written."""

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

from synth.recipes import RECIPES
from synth.recipes.recipe import Brief, Recipe
from synth.records import Sample, Seed, UserError
from synth.stages.asking.plan import Asking
from synth.stages.asking.question import Request
from synth.stages.generate.plan import Wanted, plan_generate
from synth.store.connection import Store
from synth.store.history import life
from synth.store.seeds import Seeds
from synth.store.sources import check_sources

NO_STAGE = UUID(int=0)  # a stage that has done nothing: of all seeds, none is done


@dataclass(frozen=True, slots=True)
class Sent:
    """
    All that is sent about a seed if every reply is taken as it comes: one request, or two, where a recipe begins with
    one that decides `facts`, which are then those of an example.
    """

    seed: Seed
    requests: tuple[Request, ...]
    facts: Mapping[str, str]

    @property
    def seed_kind(self) -> str:
        """What the seed is."""
        return "sample" if isinstance(self.seed, Sample) else "passage"


def sent(recipe: Recipe, seed: Seed, language: str) -> Sent:
    """
    What a recipe sends about a seed.

    Args:
        language: as for `Brief`.

    Raises UserError if the recipe needs a language and is given none, or takes none and is given one.
    """
    recipe.check_language(language)
    brief = Brief(recipe.per_seed, language=language)
    requests = []
    if recipe.first is not None:
        requests.append(Request(recipe.first.messages(seed, brief), recipe.first.schema))
        brief = replace(brief, facts=recipe.first.read(recipe.first.example, seed))
    requests.append(Request(recipe.messages(seed, brief), recipe.schema))
    return Sent(seed, tuple(requests), dict(brief.facts))


def seed_named(store: Store, recipe: Recipe, given: str) -> Seed:
    """
    The seed that `given` names, the id (or enough of its first digits) of a passage or a sample; a recipe that starts
    from passages takes a sample for the passage it was made from.

    Raises UserError if there is none, or it is no seed of this recipe.
    """
    told = life(store, given)
    named = {"text": "passage"}.get(told["thing"], told["thing"])
    of = Seeds(recipe.seeds, recipe.task)
    seed_id: UUID | None = None
    if recipe.seeds == "samples" and named == "sample":
        seed_id = told["revision_id"]
    elif recipe.seeds == "passages" and named == "passage":
        seed_id = told["id"]
    elif recipe.seeds == "passages" and named == "sample" and told["seed"]:
        seed_id = told["seed"]["text_id"]
    found = of.load(store, [seed_id]) if seed_id else []
    if not found:
        starts = (
            "passages to train on"
            if recipe.seeds == "passages"
            else (f"{recipe.task} samples to train on that nobody rejected and that were not made from another sample")
        )
        raise UserError(f"the {named} {told['id']} is no seed of {recipe.operation}, which starts from {starts}")
    return found[0]


def first_seed(store: Store, recipe: Recipe, wanted: Wanted, asking: Asking | None) -> Seed:
    """
    The first seed that a run with these servers would come to, or, where none is left or no server is configured, the
    first of all. Raises UserError if there is none.
    """
    check_sources(store, wanted.names)
    of = Seeds(recipe.seeds, recipe.task, wanted.names)
    pending = list(plan_generate(store, wanted, asking).seeds) if asking and of.exist(store) else []
    found = of.load(store, pending[:1] or of.pending(store, NO_STAGE, limit=1))
    if not found:
        where = f" of {', '.join(wanted.names)}" if wanted.names else ""
        what = "passages" if recipe.seeds == "passages" else f"{recipe.task} samples"
        raise UserError(f"there are no {what}{where} to start from: ingest some for training first")
    return found[0]


def file_of(recipe: Recipe, folder: Path | None) -> tuple[str, bool]:
    """The file that a recipe stands in, in synth/recipes or in one's own `folder`, and whether it is of the latter."""
    is_own = RECIPES.get((recipe.task, recipe.operation)) is not recipe
    paths = [_file(each) for each in (recipe.messages, recipe.parse, recipe.example_reply)]
    if not is_own or folder is None:
        return paths[0].name, False
    here = folder.resolve()
    own = [path for path in paths if path.is_relative_to(here)]
    return (f"{folder.name}/{own[0].relative_to(here)}" if own else folder.name), True


def _file(function: Callable[..., Any]) -> Path:
    """Where a function, or an object that is called like one, was written."""
    while isinstance(function, partial):
        function = function.func
    return Path(str(sys.modules[function.__module__].__file__)).resolve()
