"""`synth store`: look after the store."""

from pathlib import Path

import typer

from synth.commands.screens import JsonOption, WorkspaceOption, print_json
from synth.screen import say

app = typer.Typer(help="Look after the store.", no_args_is_help=True, rich_markup_mode=None)


@app.command("rebuild")
def store_rebuild(workspace: WorkspaceOption = Path("."), as_json: JsonOption = False) -> None:
    """
    Derive every sample's status and counts anew from the logs of revisions, negatives and reviews.

    Example: synth store rebuild
    """
    from synth.store.samples import rebuild_state
    from synth.workspace import Workspace

    differed = rebuild_state(Workspace.open(workspace).store)
    if as_json:
        print_json({"differed": differed})
    else:
        say(f"the rows of {differed} samples differed" if differed else "nothing differed from the logs")
