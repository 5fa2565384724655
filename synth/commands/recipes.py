"""`synth recipes`: what can be made, and exactly what an LLM is sent for it."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from synth.commands.asking import asking_of
from synth.commands.screens import JsonOption, SourceOption, WorkspaceOption, print_json, print_table
from synth.records import Task, UserError
from synth.screen import cell, console, new_table, say, show

if TYPE_CHECKING:
    from synth.recipes.recipe import Recipe
    from synth.records import Seed
    from synth.stages.generate.messages import Sent
    from synth.workspace import Workspace

OWN = "your own"
COLUMNS = {  # of the table, in order, with what each is called in JSON
    "operation": "operation",
    "task": "task",
    "makes": "title",
    "from": "seeds",
    "per seed": "per_seed",
    "tries": "most_tries",
    "checks": "checks",
    "paper": "source",
    "file": "file",
}
NUMERIC = {"per seed", "tries"}
MAKES = "makes"  # the column that gives way to the others
LEAST_MADE = 40  # columns of the terminal that it has at least
BETWEEN = 2  # columns of the terminal between two of the table
LEFT_OUT = (
    ("checks",),
    ("checks", "paper", "file"),
    ("checks", "paper", "file", "from", "per seed", "tries"),
)  # of the columns, the narrower the terminal is; `synth recipes show` has them all
MOST_CELL = 300  # characters

app = typer.Typer(invoke_without_command=True, rich_markup_mode=None)


@app.callback()
def recipes(
    context: typer.Context,
    workspace: WorkspaceOption = Path("."),
    as_json: JsonOption = False,
) -> None:
    """
    List the recipes, each an operation on a task: what it makes and from what, how many of each seed, in how many
    requests at most, which paper it follows, and in which file it stands; as much of it as the terminal has room for.
    Those of your own folder (`recipes` in synth.toml) are marked.

    In a pipe a line is a recipe, with all of it and what is checked, between tabs: synth recipes | cut -f 1,2

    Example: synth recipes
    """
    if context.invoked_subcommand is not None:
        if (workspace, as_json) != (Path("."), False):
            raise UserError(f"options go to the end: synth recipes {context.invoked_subcommand} OPERATION [OPTIONS]")
        return
    from synth.workspace import Workspace

    opened = Workspace.open(workspace)
    found = [_described(opened, recipe) for recipe in opened.recipes.values()]
    if as_json:
        print_json(found)
    elif console().is_terminal:
        _print_recipes(found)
        say(f"what is sent: synth recipes show OPERATION --task TASK -w {workspace}")
    else:
        for cells in (tuple(COLUMNS), *(_cells(recipe, COLUMNS) for recipe in found)):
            say("\t".join(cells))


@app.command("show")
def recipes_show(
    operation: Annotated[str, typer.Argument(metavar="OPERATION", help="As `synth recipes` lists them.")],
    task: Annotated[Task, typer.Option(help="What the samples train.")] = Task.RETRIEVAL,
    sample: Annotated[
        str | None,
        typer.Option(metavar="ID", help="Start from this sample or passage: its id, or enough of its first digits."),
    ] = None,
    source: SourceOption = None,
    language: Annotated[str, typer.Option(help="Of what is to be written, as for `synth generate`.")] = "",
    workspace: WorkspaceOption = Path("."),
    as_json: JsonOption = False,
) -> None:
    """
    Print exactly what an LLM would be sent about a seed: about --sample, or about the next one that `synth generate`
    would come to. Nothing is asked.

    Example: synth recipes show paraphrase --task retrieval --source squad-en
    """
    from synth.recipes import find_recipe
    from synth.stages.generate.messages import seed_named, sent
    from synth.workspace import Workspace

    if sample is not None and source:
        raise UserError("--sample names one seed, and --source where to look for one: give one of them")
    opened = Workspace.open(workspace)
    recipe = find_recipe(task, operation, opened.recipes)
    seed = seed_named(opened.store, recipe, sample) if sample is not None else _next(opened, recipe, source, language)
    found = sent(recipe, seed, language)
    if as_json:
        print_json(_described(opened, recipe) | _as_json(found))
    else:
        _tell(_described(opened, recipe), found, recipe.first.example if recipe.first else "")


def _next(opened: "Workspace", recipe: "Recipe", source: Sequence[str] | None, language: str) -> "Seed":
    from synth.llm.ceilings import Ceilings
    from synth.stages.generate.messages import first_seed
    from synth.stages.generate.plan import Wanted

    asking = asking_of(opened, opened.llm(base_url=None, model=None), Ceilings())
    wanted = Wanted(
        recipe.task, recipe.operation, tuple(source or ()), language=language, limit=1, recipes=opened.recipes
    )
    return first_seed(opened.store, recipe, wanted, asking)


def _described(opened: "Workspace", recipe: "Recipe") -> dict[str, Any]:
    from synth.stages.generate.messages import file_of

    folder = opened.root / opened.config.recipes if opened.config.recipes else None
    file, is_own = file_of(recipe, folder)
    names = ("operation", "task", "title", "source", "seeds", "per_seed", "most_tries", "language", "prompt_version")
    described = {name: getattr(recipe, name) for name in names}
    return described | {"parser_version": recipe.parsing, "checks": list(recipe.checks), "file": file, "is_own": is_own}


def _print_recipes(found: Sequence[Mapping[str, Any]]) -> None:
    """A table, or, where the terminal is too narrow, one value a line."""
    columns = _columns_that_fit(found)
    if not columns:
        print_table(list(COLUMNS), [_cells(recipe, COLUMNS) for recipe in found])
        return
    table = new_table(columns, numeric=[column in NUMERIC for column in columns])
    for column in table.columns:
        column.no_wrap = str(column.header) != MAKES
    for recipe in found:
        table.add_row(*(cell(text, width=MOST_CELL) for text in _cells(recipe, columns)))
    show(table)


def _columns_that_fit(found: Sequence[Mapping[str, Any]]) -> list[str]:
    """Those that leave room to say what is made in a line or two; none where there is room for none."""
    for left_out in LEFT_OUT:
        columns = [column for column in COLUMNS if column not in left_out]
        if sum(_width(found, column) for column in columns) + BETWEEN * len(columns) <= console().width:
            return columns
    return []


def _width(found: Sequence[Mapping[str, Any]], column: str) -> int:
    """How many columns of the terminal it takes: a Chinese character takes two."""
    if column == MAKES:
        return LEAST_MADE
    widths: list[int] = [cell(_told(recipe, COLUMNS[column]), width=MOST_CELL).cell_len for recipe in found]
    return max(len(column), *widths)


def _cells(recipe: Mapping[str, Any], columns: Iterable[str]) -> tuple[str, ...]:
    return tuple(cell(_told(recipe, COLUMNS[column]), width=MOST_CELL).plain for column in columns)


def _told(recipe: Mapping[str, Any], name: str) -> str:
    if name == "checks":
        return ", ".join(recipe["checks"])
    return f"{recipe[name]} ({OWN})" if name == "title" and recipe["is_own"] else str(recipe[name])


def _as_json(found: "Sent") -> dict[str, Any]:
    return {
        "seed": {"kind": found.seed_kind, "id": found.seed.seed_id},
        "requests": [{"messages": each.messages, "schema": each.schema} for each in found.requests],
        "facts": found.facts,
    }


def _tell(described: Mapping[str, Any], found: "Sent", first_reply: str) -> None:
    """`first_reply`: that of which the facts are, where there is a first request."""
    for column, text in zip(COLUMNS, _cells(described, COLUMNS), strict=True):
        if text:  # a recipe of one's own may follow no paper
            say(f"{column}: {text}")
    say(f"prompt version: {described['prompt_version']}, parser version: {described['parser_version']}")
    say(f"{found.seed_kind}: {found.seed.seed_id}")
    for number, request in enumerate(found.requests, start=1):
        which = f"request {number}, " if len(found.requests) > 1 else ""
        if number > 1:
            decided = json.dumps(dict(found.facts), ensure_ascii=False)
            say(f"\n(as after the first reply {first_reply}, which stands for {decided})")
        for message in request.messages:
            say(f"\n=== {which}{message['role']} ===\n{message['content']}")
        if request.schema is not None:
            say(f"\n=== {which}schema of the reply ===\n{json.dumps(request.schema, indent=1, ensure_ascii=False)}")
