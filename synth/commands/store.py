"""`synth store`: look after the store."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from synth.commands.screens import JsonOption, WorkspaceOption, print_json
from synth.screen import say

app = typer.Typer(help="Look after the store.", no_args_is_help=True, rich_markup_mode=None)


@app.command("verify")
def store_verify(workspace: WorkspaceOption = Path("."), as_json: JsonOption = False) -> None:
    """
    Check the store: every value can be read, no id dangles, nothing is stored twice, every status is what the logs say,
    every release is what was released, and `releases` holds no other one.

    Exit code 1 if a rule does not hold; each is one line with the remedy.

    Example: synth store verify
    """
    from synth.stages.store_check import check_store
    from synth.workspace import Workspace

    opened = Workspace.open(workspace)
    problems = check_store(opened.store, opened.releases)
    if as_json:
        print_json([asdict(problem) for problem in problems])
    else:
        for problem in problems:
            say(problem.message)
        if not problems:
            say("the store is sound")
    if problems:
        raise typer.Exit(1)


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


@app.command("compact")
def store_compact(workspace: WorkspaceOption = Path("."), as_json: JsonOption = False) -> None:
    """
    Write the store anew without the free space that many small changes leave, and without expired claims.

    Everybody else waits meanwhile. The disk must have room for a second store; stopped at any moment, the old or the
    new one is there, whole.

    Example: synth store compact
    """
    from synth.store.copies import megabytes
    from synth.store.upkeep import compact
    from synth.workspace import Workspace

    outcome = compact(Workspace.open(workspace).store)
    if as_json:
        print_json(asdict(outcome))
    else:
        before, after = megabytes(outcome.size_before), megabytes(outcome.size_after)
        say(f"{before} before, {after} after, {outcome.num_claims_dropped} expired claims dropped")


@app.command("backup")
def store_backup(
    target: Annotated[Path, typer.Argument(help="The copy: a file that is not there yet.")],
    workspace: WorkspaceOption = Path("."),
    as_json: JsonOption = False,
) -> None:
    """
    Copy the store to a file, which appears when it is complete, on the disk, and every value of it was read. A damaged
    store is not copied.

    Everybody else waits meanwhile. Releases and the journal are plain files beside the store: copy them as such. To
    restore, put the copy in the store's place while no command runs, and delete store.duckdb.wal if it is there.
    docs/store.md tells what becomes of what was made since.

    Example: synth store backup /backups/store.duckdb
    """
    from synth.store.copies import megabytes
    from synth.store.upkeep import back_up
    from synth.workspace import Workspace

    outcome = back_up(Workspace.open(workspace).store, target)
    if as_json:
        print_json(asdict(outcome))
    else:
        say(f"{outcome.path}: {outcome.num_rows:,} rows, {megabytes(outcome.size)}")
