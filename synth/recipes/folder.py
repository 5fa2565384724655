"""
A folder of recipes of one's own: each Python file holds a `RECIPE`, or several as `RECIPES`, as the files here do.

They are programs of whoever owns the workspace, and run as such. A file whose name begins with an underscore is for the
others, as in `from skiff_recipes._words import STOP_WORDS`. Whatever is wrong with a file is a UserError in one line
that names the file: when the folder is read, and later, when a function of a recipe is called.

The recipes here check each text against the one that it was made from. What one's own makes is looked at for what no
text may hold, whether it does so itself or not.
"""

import importlib
import json
import os
import re
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial, update_wrapper
from pathlib import Path
from types import ModuleType
from typing import Any

from synth.checks import Rejection, leaked
from synth.recipes import RECIPES, Recipes
from synth.recipes.findings import unreadable
from synth.recipes.recipe import Brief, Checked, First, Made, NewSample, Parsed, Recipe, parsed
from synth.records import BadReply, Sample, Seed, Task, UserError, Written, is_plain_name, normalise

RESERVED = ("ingest", "edit", "relabel")
PACKAGE = "skiff_recipes"  # what the folder is called, whatever its name
SECRET = re.compile("KEY|TOKEN|SECRET|PASSWORD", re.IGNORECASE)  # in the name of a variable of the environment
SHORTEST_KEY = 8  # characters
MOST_SAID = 300  # characters of an error that a file raised
REMEDY = "mend it, or take it out of the folder"
LOOKED_FOR = ("characters", "leakage")  # in what a reply gave, whatever the recipe looks for
TEXTS = ("text", "query", "positives", "text1", "text2")  # of a passage, a negative, and of contents; no label
AGAIN = "the reply is kept: mend the recipe and run the same again"

Function = Callable[..., Any]
Wrong = Callable[[Any], str]  # what is wrong with what a function gave; "" if nothing


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_line(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip()) and value.isprintable()


def _is_operation(value: object) -> bool:
    return isinstance(value, str) and is_plain_name(value) and not value.startswith("-") and " " not in value


def _is_number(value: object) -> bool:
    return type(value) is int and value >= 1


def _is_schema(value: object) -> bool:
    try:
        json.dumps(value, default=dict)  # as the version of the prompt is made of it
    except (TypeError, ValueError, RecursionError):
        return False
    return value is None or isinstance(value, Mapping)


def _is_first(value: object) -> bool:
    if not isinstance(value, First):
        return value is None
    return callable(value.messages) and callable(value.read) and _is_schema(value.schema) and _is_text(value.example)


# Of each field of a recipe: whether a value fits, and what it must be.
FIELDS: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "task": (lambda value: isinstance(value, Task), "Task.RETRIEVAL, Task.STS or Task.CLASSIFICATION"),
    "operation": (_is_operation, "a name without spaces, as in 'my-title'"),
    "title": (_is_line, "a text in one line"),
    "source": (lambda value: value == "" or _is_line(value), "a text in one line, or ''"),
    "seeds": (lambda value: value in ("passages", "samples"), "'passages' or 'samples'"),
    "per_seed": (_is_number, "a whole number, 1 or more"),
    "messages": (callable, "a function"),
    "schema": (_is_schema, "a JSON schema as a dict, or None"),
    "parse": (callable, "a function"),
    "example_reply": (callable, "a function"),
    "checks": (lambda value: isinstance(value, (list, tuple)) and all(map(_is_line, value)), "a list of names"),
    "most_tries": (_is_number, "a whole number, 1 or more"),
    "parser_version": (_is_text, "a text"),
    "first": (_is_first, "First(...) of functions, a schema and a text, or None"),
    "makes": (lambda value: value in ("samples", "negatives"), "'samples' or 'negatives'"),
    "language": (lambda value: value in ("seed", "any", "needed"), "'seed', 'any' or 'needed'"),
    "again": (_is_text, "a text"),
}


def recipes_with(folder: Path) -> Recipes:
    """
    The recipes, and those of the folder's files, which take the place of those of the same task and operation.

    Raises UserError, naming the file, if one cannot be run or holds no recipe, or two make the same.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: there is no such folder of recipes (`recipes` in synth.toml)")
    try:
        paths = sorted(path for path in folder.iterdir() if path.match("[!_.]*.py"))
    except OSError as error:
        raise UserError(f"{folder}: this folder of recipes cannot be read ({error.strerror}); allow it") from None
    _make_package(folder)
    own: dict[tuple[Task, str], Recipe] = {}
    found: dict[tuple[Task, str], Path] = {}
    for path in paths:
        for recipe in _recipes_of(path):
            key = recipe.task, recipe.operation
            if key in found:
                made = f"{recipe.operation} for {recipe.task}"
                raise UserError(f"{path}: {found[key].name} makes {made} already; name the operation of one otherwise")
            found[key], own[key] = path, recipe
    return {**RECIPES, **own}


def _make_package(folder: Path) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == PACKAGE]:  # of another folder, or older
        del sys.modules[name]
    package = ModuleType(PACKAGE)
    package.__path__ = [str(folder)]
    sys.modules[PACKAGE] = package
    importlib.invalidate_caches()


def _recipes_of(path: Path) -> list[Recipe]:
    _check_file(path)
    with _in_a_line(path, "this recipe cannot be run", REMEDY):
        module = importlib.import_module(f"{PACKAGE}.{path.stem}")
        several = getattr(module, "RECIPES", None)
        held = (None if several is RECIPES else several) or getattr(module, "RECIPE", None)  # it may import ours
        listed = list(held) if isinstance(held, (list, tuple)) else [held]
    found = [each for each in listed if isinstance(each, Recipe)]
    if not found or len(found) < len(listed):
        raise UserError(
            f"{path}: holds no RECIPE = Recipe(...), see docs/recipes.md; what is only for the others is in a file"
            " whose name begins with an underscore"
        )
    for recipe in found:
        _check_fields(path, recipe)
        tried = _guarded(recipe, path, "a made-up seed")
        with _in_a_line(path, "the versions of its prompt and parser cannot be told", REMEDY, told=UserError):
            _ = tried.prompt_version, tried.parsing
    return [_guarded(recipe, path, "a seed") for recipe in found]


def _check_file(path: Path) -> None:
    try:
        if not path.is_file():
            raise UserError(f"{path}: is no file (a folder, a broken link?); take it out of the folder of recipes")
        with path.open("rb"):
            pass
    except OSError as error:
        raise UserError(f"{path}: this recipe cannot be read ({error.strerror}); allow it") from None
    if "." in path.stem:
        named = f"{path.stem.replace('.', '-')}.py"
        raise UserError(f"{path}: a recipe's file has one dot in its name, the one before py; call it {named}")


def _check_fields(path: Path, recipe: Recipe) -> None:
    for name, (fits, must) in FIELDS.items():
        value = getattr(recipe, name)
        if not fits(value):
            raise UserError(f"{path}: its {name} must be {must}, not {value!r:.60}")
    if recipe.operation in RESERVED:
        raise UserError(f"{path}: {recipe.operation} is what the store calls something else; name it otherwise")


def _guarded(recipe: Recipe, path: Path, seed: str) -> Recipe:
    """
    The same; what its functions raise (but for BadReply), and what they should not give, is told in a line, and what no
    text may hold is rejected.
    """

    def of_seed(name: str, function: Function, wrong: Wrong) -> Function:
        return _watched(function, path, f"`{name}` fails at {seed}", f"`{name}` gives", REMEDY, wrong)

    def of_reply(name: str, function: Function, wrong: Wrong) -> Function:
        return _watched(_reading(function), path, f"`{name}` fails at a reply", f"`{name}` gives", AGAIN, wrong)

    first = recipe.first and replace(
        recipe.first,
        messages=of_seed("first.messages", recipe.first.messages, _wrong_messages),
        read=of_reply("first.read", recipe.first.read, _wrong_facts),
    )
    return replace(
        recipe,
        messages=of_seed("messages", recipe.messages, _wrong_messages),
        parse=_looked_at(of_reply("parse", recipe.parse, _wrong_parsed)),
        checks=tuple(dict.fromkeys([*recipe.checks, *LOOKED_FOR])),
        example_reply=of_seed("example_reply", recipe.example_reply, _wrong_text),
        first=first,
    )


def _watched(function: Function, path: Path, failing: str, giving: str, remedy: str, wrong: Wrong) -> Function:
    def watched(*arguments: Any) -> Any:
        with _in_a_line(path, failing, remedy, told=BadReply):
            found = function(*arguments)
            said = wrong(found)
        if said:
            raise UserError(f"{path}: {giving} {said}; {remedy}")
        return found

    update_wrapper(watched, _written(function))
    # The version of a parser is a hash of the file it is from. What is from none (`str`) is from the recipe's.
    if not getattr(sys.modules.get(watched.__module__), "__file__", None):
        watched.__module__ = f"{PACKAGE}.{path.stem}"
    return watched


def _written(function: Function) -> Function:
    """The function that somebody wrote, of which others are made."""
    while isinstance(function, partial):
        function = function.func
    return function


def _reading(function: Function) -> Function:
    """The same; where it finds that a reply is no JSON, the reply does not fit the recipe: no fault of the program."""

    def reading(*arguments: Any) -> Any:
        try:
            return function(*arguments)
        except json.JSONDecodeError as error:
            raise BadReply(f"the reply is no JSON: {error}") from error

    return update_wrapper(reading, _written(function))


def _looked_at(parse: Function) -> Function:
    """The same, without what holds a text that no sample may: rejected for one of the reasons LOOKED_FOR."""

    def looked_at(reply_text: str, seed: Seed, brief: Brief) -> Parsed:
        given = parse(reply_text, seed, brief)
        held = _texts_of(seed.content if isinstance(seed, Sample) else seed)
        found = parsed([_checked(each, held) for each in given.made], given.repaired)
        return replace(found, rejections=[*given.rejections, *found.rejections])

    return update_wrapper(looked_at, parse)


def _checked(made: Made, held: Sequence[str]) -> Checked:
    """`held`: the texts of the seed, of which a sample may have one as it is."""
    original, known = "\n".join(held), {normalise(text) for text in held}
    of = [made] if isinstance(made, Written) else [made.content, *made.written]
    for text in [text for each in of for text in _texts_of(each)]:
        if normalise(text) not in known:
            yield "characters", text, unreadable(text, original)
            yield "leakage", text, leaked(text, original)
    yield made


def _texts_of(held: object) -> list[str]:
    """The texts of a passage, a negative or a content. What should be one and is none, the store refuses."""
    values = [getattr(held, name, ()) for name in TEXTS]
    listed = [text for value in values for text in (value if isinstance(value, (list, tuple)) else [value])]
    return [text for text in listed if _is_text(text)]


def _wrong_messages(found: object) -> str:
    if not isinstance(found, list):
        return f"{type(found).__name__}, not a list of messages"
    for each in found:
        if not isinstance(each, dict) or not all(_is_text(each.get(name)) for name in ("role", "content")):
            return f"{each!r:.60} as a message, which must be a dict with the texts `role` and `content`"
    return "" if found else "no message"


def _wrong_parsed(found: object) -> str:
    if not isinstance(found, Parsed):
        return f"{type(found).__name__}, not Parsed"
    if not isinstance(found.made, Sequence) or not isinstance(found.rejections, Sequence):
        return "Parsed of what is no list"
    strays = [type(each).__name__ for each in found.made if not isinstance(each, (NewSample, Written))]
    if strays:
        return f"{strays[0]} as what was made, which must be NewSample or Written"
    if any(not isinstance(each.written, (list, tuple)) for each in found.made if isinstance(each, NewSample)):
        return "NewSample with `written` that is no list"
    written = [each for made in found.made if isinstance(made, NewSample) for each in made.written]
    strays = [type(each).__name__ for each in written if not isinstance(each, Written)]
    if strays:
        return f"{strays[0]} as a negative of a sample, which must be Written"
    strays = [type(each).__name__ for each in found.rejections if not isinstance(each, Rejection)]
    return f"{strays[0]} as a rejection, which must be what `rejected` gives" if strays else ""


def _wrong_facts(found: object) -> str:
    fits = isinstance(found, Mapping) and all(map(_is_text, (*found, *found.values())))
    return "" if fits else f"{found!r:.60}, not a dict of texts"


def _wrong_text(found: object) -> str:
    return "" if _is_text(found) else f"{type(found).__name__}, not a text"


@contextmanager
def _in_a_line(
    path: Path, what: str, remedy: str, *, told: type[Exception] | tuple[type[Exception], ...] = ()
) -> Iterator[None]:
    """
    Whatever a program of the user's raises is theirs to mend: it is raised as one line, with its cause behind it; but
    for errors that are `told` already.
    """
    try:
        yield
    except told:
        raise
    except (Exception, SystemExit) as error:
        # `str` may itself fail for an error of the user's; of a SyntaxError alone it has the line.
        said = f"SyntaxError: {error}" if isinstance(error, SyntaxError) else traceback.format_exception_only(error)[0]
        line = f"{_without_keys(' '.join(said.split())):.{MOST_SAID}}{_line_of(path, error)}"
        raise UserError(f"{path}: {what}: {line}; {remedy}") from error


def _without_keys(said: str) -> str:
    """What a program said without the keys of the environment: it stands on screens and in the store."""
    keys = [value for name, value in os.environ.items() if SECRET.search(name) and len(value) >= SHORTEST_KEY]
    for key in sorted(keys, key=len, reverse=True):
        said = said.replace(key, "***")
    return said


def _line_of(path: Path, error: BaseException) -> str:
    """Where in the file it was raised, if it was there."""
    frames = traceback.walk_tb(error.__traceback__)
    lines = [line for frame, line in frames if Path(frame.f_code.co_filename) == path.absolute()]
    return f" (line {lines[-1]})" if lines else ""
