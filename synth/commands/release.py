"""`synth release`: freeze what was approved."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from synth.commands.screens import JsonOption, WorkspaceOption, print_json, print_query, print_table
from synth.screen import progress, say

app = typer.Typer(help="Freeze approved samples into releases.", no_args_is_help=True, rich_markup_mode=None)


@app.command("create")
def release_create(
    name: Annotated[str, typer.Argument(help="Of the release, and of its folder.")],
    max_negatives: Annotated[int, typer.Option(min=0, max=1000, help="At most so many negatives of each sample.")] = 4,
    workspace: WorkspaceOption = Path("."),
    as_json: JsonOption = False,
) -> None:
    """
    Freeze what is approved into a folder that never changes; `trainer run` reads only that.

    Example: synth release create first
    """
    from synth.stages.release import create_release
    from synth.workspace import Workspace

    opened = Workspace.open(workspace)
    with progress("release", None) as advance:
        released = create_release(opened.store, opened.releases, name, max_negatives=max_negatives, on_progress=advance)
    if as_json:
        print_json(asdict(released))
        return
    say(f"release {name} {'was made before' if released.existed else 'is made'}: {released.path}")
    say(f"digest: {released.digest}")
    print_table(["what", "count"], list(released.counts.items()))
    say(f"next: trainer run --release {name} --config demo -w {workspace}")


@app.command("list")
def release_list(workspace: WorkspaceOption = Path("."), as_json: JsonOption = False) -> None:
    """
    List the releases of a workspace.

    Example: synth release list
    """
    query = (
        "SELECT name, date_trunc('second', created_at) AS created_at, num_samples, num_negatives,"
        " digest[:12] AS digest FROM releases ORDER BY created_at"
    )
    print_query(query, workspace, as_json)
