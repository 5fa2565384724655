"""`synth batches`: what was handed in to the Batch APIs of servers."""

import asyncio
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from synth.commands.screens import JsonOption, WorkspaceOption, print_json, print_table
from synth.llm.budget import dollars
from synth.records import UserError
from synth.screen import say, warn

if TYPE_CHECKING:
    from synth.llm.batch.files import Batch
    from synth.llm.config import Endpoint
    from synth.workspace import Workspace

COLUMNS = ("batch", "model", "submitted", "requests", "status", "done", "failed", "cost")
_HIDDEN = {"file_id", "uploaded", "earlier", "whole", "unbooked"}  # from --json: what only the next step needs

app = typer.Typer(invoke_without_command=True, rich_markup_mode=None)


@app.callback()
def batches(context: typer.Context, workspace: WorkspaceOption = Path("."), as_json: JsonOption = False) -> None:
    """
    List what was handed in with `--batch` (of `synth generate` and `synth judge`), the oldest first, as the servers see
    it now. Times are UTC.

    A batch is `fetched` when its replies are in the journal, and then has its cost in US dollars, where prices of
    batches are stated; `written`, when its server has not taken it yet.

    Example: synth batches
    """
    if context.invoked_subcommand is not None:
        if (workspace, as_json) != (Path("."), False):
            raise UserError(f"options go to the end: synth batches {context.invoked_subcommand} ID [OPTIONS]")
        return
    from synth.llm.batch.watch import watch_batches
    from synth.workspace import Workspace

    opened = Workspace.open(workspace)
    watched = asyncio.run(watch_batches(opened.batches, _endpoints(opened)))
    for note in watched.notes:
        warn(note)
    if as_json:
        print_json([_as_json(batch) for batch in watched.batches])
    elif not watched.batches:
        say("nothing was handed in yet; begin with: synth generate --batch")
    else:
        print_table(COLUMNS, [_row(batch) for batch in watched.batches])


@app.command("cancel")
def batches_cancel(
    batch: Annotated[str, typer.Argument(metavar="ID", help="The batch, as `synth batches` shows it.")],
    workspace: WorkspaceOption = Path("."),
    as_json: JsonOption = False,
) -> None:
    """
    Cancel a batch at its server. What is done of it by then is paid for, and is fetched as soon as the server has
    ended it: at once, by this command given again, or by the
    command that handed it in. What it cost is counted by the next
    run that asks this model there. The rest is not asked, and may be asked again. One that its server never got, does
    not know or did not begin is forgotten.

    Example: synth batches cancel batch_68f1c0
    """
    from synth.llm.batch.watch import cancel_batch
    from synth.workspace import Workspace

    opened = Workspace.open(workspace)
    left = asyncio.run(cancel_batch(opened.batches, _endpoints(opened), batch, opened.journal))
    if as_json:
        print_json(None if left is None else _as_json(left))
    elif left is None:
        say(f"batch {batch} is forgotten: its server has nothing of it, and its requests may be asked again")
    else:
        say(_told(left))


def _told(batch: "Batch") -> str:
    """What has become of a batch that was cancelled."""
    from synth.llm.batch.files import Step

    done = f"{batch.done:,} of {batch.num_requests:,} requests are done and paid for"
    if batch.step is Step.FETCHED:
        return (
            f"batch {batch.name} is {batch.status}: {done}{_paid(batch)}; their replies are in the journal, the rest"
            " may be asked"
        )
    return (
        f"batch {batch.name} is {batch.status}: {done} so far; once its server has ended it, the same command, or"
        " the one that handed it in, fetches them"
    )


def _paid(batch: "Batch") -> str:
    """What a batch that was cancelled and fetched took, and where that is counted."""
    if not (batch.tokens_in or batch.tokens_out):
        return ""
    cost = "no price stated" if batch.cost is None else dollars(batch.cost)
    return (
        f", {batch.tokens_in:,} tokens in, {batch.tokens_out:,} out, {cost}, which the next run that asks this model"
        " there counts"
    )


def _endpoints(workspace: "Workspace") -> "tuple[Endpoint, ...]":
    config = workspace.llm(base_url=None, model=None)
    return config.endpoints if config else ()


def _row(batch: "Batch") -> tuple[object, ...]:
    submitted = "" if batch.submitted is None else f"{datetime.fromtimestamp(batch.submitted, UTC):%Y-%m-%d %H:%M}"
    cost = "" if batch.cost is None else dollars(batch.cost)
    return (batch.name, batch.model, submitted, batch.num_requests, _status(batch), batch.done, batch.failed, cost)


def _status(batch: "Batch") -> str:
    """The server's word for it, ours while it has none."""
    from synth.llm.batch.files import Step

    match batch.step:
        case Step.FETCHED:
            return f"{batch.status}, fetched"
        case Step.SENT:
            return batch.status
        case _:
            return batch.status or str(batch.step)


def _as_json(batch: "Batch") -> dict[str, Any]:
    return {name: value for name, value in asdict(batch).items() if name not in _HIDDEN}
