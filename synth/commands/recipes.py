"""`synth recipes`: what can be made, and exactly what an LLM is sent for it."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from synth.commands.screens import JsonOption, SourceOption, WorkspaceOption, print_json
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
FOR_WIDE = ("checks", "paper", "file")  # what only a terminal of so many columns has room for
WIDE = 140
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
    requests at most, what is checked, which paper it follows, and in which file it stands. Those of your own folder
    (`recipes` in synth.toml) are marked.

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
    else:
        _print_recipes(found)
        say(f"what is sent: synth recipes show OPERATION --task TASK -w {workspace}")


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
        _tell(_described(opened, recipe), found)


def _next(opened: "Workspace", recipe: "Recipe", source: Sequence[str] | None, language: str) -> "Seed":
    from synth.llm.ceilings import Ceilings
    from synth.stages.asking.plan import Asking
    from synth.stages.generate.messages import first_seed
    from synth.stages.generate.plan import Wanted

    llm = opened.llm(base_url=None, model=None)
    asking = Asking(llm, opened.journal, Ceilings(), opened.batches) if llm else None
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
    columns = [column for column in COLUMNS if column not in FOR_WIDE or console().width >= WIDE]
    table = new_table(columns, numeric=[column in NUMERIC for column in columns])
    for recipe in found:
        table.add_row(*(cell(_told(recipe, COLUMNS[column]), width=MOST_CELL) for column in columns))
    show(table)


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


def _tell(described: Mapping[str, Any], found: "Sent") -> None:
    for column, name in COLUMNS.items():
        say(f"{column}: {cell(_told(described, name), width=MOST_CELL).plain}")
    say(f"prompt version: {described['prompt_version']}, parser version: {described['parser_version']}")
    say(f"{found.seed_kind}: {found.seed.seed_id}")
    for number, request in enumerate(found.requests, start=1):
        which = f"request {number}, " if len(found.requests) > 1 else ""
        if number > 1 and found.facts:
            say(f"\n(the first reply decides, for example: {json.dumps(dict(found.facts), ensure_ascii=False)})")
        for message in request.messages:
            say(f"\n=== {which}{message['role']} ===\n{message['content']}")
        if request.schema is not None:
            say(f"\n=== {which}schema of the reply ===\n{json.dumps(request.schema, indent=1, ensure_ascii=False)}")
