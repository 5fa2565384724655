"""
A folder of recipes of one's own: each Python file holds a `RECIPE`, or several as `RECIPES`, as the files here do.

They are programs of whoever owns the workspace, and run as such. A file whose name begins with an underscore is for the
others, as in `from skiff_recipes._words import STOP_WORDS`.
"""

import importlib
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import wraps
from pathlib import Path
from types import ModuleType
from typing import Any

from synth.recipes import RECIPES, Recipes
from synth.recipes.recipe import Brief, Parsed, Recipe
from synth.records import SkiffError, UserError

RESERVED = ("ingest", "edit", "relabel")
PACKAGE = "skiff_recipes"  # what the folder is called, whatever its name

Parse = Callable[[str, Any, Brief], Parsed]


def recipes_with(folder: Path) -> Recipes:
    """
    The recipes, and those of the folder's files, which take the place of those of the same task and operation.

    Raises UserError, naming the file, if one cannot be run or holds no recipe, or two make the same.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: there is no such folder of recipes (`recipes` in synth.toml)")
    _make_package(folder)
    own: dict[tuple[str, str], Recipe] = {}
    found: dict[tuple[str, str], Path] = {}
    for path in sorted(folder.glob("[!_.]*.py")):
        for recipe in _recipes_of(path):
            key = recipe.task, recipe.operation
            if key in found:
                raise UserError(f"{path}: {found[key].name} makes {recipe.operation} for {recipe.task} already")
            found[key], own[key] = path, recipe
    return {**RECIPES, **{(each.task, each.operation): each for each in own.values()}}


def _make_package(folder: Path) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == PACKAGE]:  # of another folder, or older
        del sys.modules[name]
    package = ModuleType(PACKAGE)
    package.__path__ = [str(folder)]
    sys.modules[PACKAGE] = package
    importlib.invalidate_caches()


def _recipes_of(path: Path) -> list[Recipe]:
    with _in_a_line(f"{path}: this recipe cannot be run"):
        module = importlib.import_module(f"{PACKAGE}.{path.stem}")
    found = getattr(module, "RECIPES", None) or [getattr(module, "RECIPE", None)]
    if not isinstance(found, (list, tuple)) or not all(isinstance(each, Recipe) for each in found):
        raise UserError(f"{path}: holds no RECIPE = Recipe(...); see docs/recipes.md")
    for recipe in found:
        if recipe.operation in RESERVED:
            raise UserError(f"{path}: {recipe.operation} is what the store calls something else; name it otherwise")
        if recipe.per_seed < 1 or recipe.most_tries < 1:
            raise UserError(f"{path}: per_seed and most_tries must be 1 or more")
        with _in_a_line(f"{path}: its messages about a made-up seed fail"):
            _ = recipe.prompt_version, recipe.parsing
    return [replace(recipe, parse=_guarded(recipe.parse, path)) for recipe in found]


def _guarded(parse: Parse, path: Path) -> Parse:
    """The same, with what it raises beside BadReply in a line."""

    @wraps(parse)  # the version of a parser is a hash of the file that it is from
    def guarded(reply_text: str, seed: Any, brief: Brief) -> Parsed:
        with _in_a_line(f"{path}: its parse fails at a reply, which is kept; mend it and run again"):
            parsed = parse(reply_text, seed, brief)
        if not isinstance(parsed, Parsed):
            raise UserError(f"{path}: its parse gives {type(parsed).__name__}, not Parsed; mend it and run again")
        return parsed

    return guarded


@contextmanager
def _in_a_line(what: str) -> Iterator[None]:
    """Whatever a program of the user's raises is theirs to mend: it is raised as one line, with its cause behind it."""
    try:
        yield
    except SkiffError:
        raise
    except (Exception, SystemExit) as error:
        raise UserError(f"{what}: {' '.join(f'{type(error).__name__}: {error}'.split())}") from error
