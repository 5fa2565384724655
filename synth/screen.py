"""
The edge between Skiff and a terminal: how an error, a progress bar and a hostile text reach the screen.

Both commands (`synth`, `trainer`) use it; nothing else writes to the terminal. Results go to standard output, progress
and errors to standard error, so that a pipe carries results alone.
"""

import sys
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NoReturn

import typer

from synth.records import SkiffError, UserError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

PIPE_WIDTH = 400
INTERRUPTED = 130  # what a shell reports of a process that Ctrl-C ended


def printable(text: str) -> str:
    """
    The text with every character shown that a terminal would obey or hide: control and escape characters, zero-width
    and direction-changing ones become `\\x1b`-like escapes. New lines and tabs stay.
    """
    return "".join(_escape(char) if _obeyed_or_hidden(char) else char for char in text)


def _obeyed_or_hidden(char: str) -> bool:
    return char not in "\n\t" and unicodedata.category(char) in {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"}


def _escape(char: str) -> str:
    return char.encode("unicode_escape").decode("ascii")


def console(*, stderr: bool = False) -> "Console":
    """A rich console that takes text as text: no markup, no emoji codes, no colouring of what looks like a number."""
    from rich.console import Console

    found = Console(stderr=stderr, markup=False, emoji=False, highlight=False)
    if not found.is_terminal:
        found.width = PIPE_WIDTH  # a pipe has no width to wrap at
    return found


def say(text: str) -> None:
    """Print one result to standard output, escaped for the terminal."""
    typer.echo(printable(text))


def show(table: "Table") -> None:
    """Print a rich table to standard output. Its cells must have gone through `cell`."""
    console().print(table)


def cell(value: object, *, width: int = 60) -> Any:
    """A table cell: the value as text on one line, escaped for the terminal, cut to `width` characters."""
    from rich.text import Text

    text = "" if value is None else printable(str(value).replace("\n", "⏎ ").replace("\t", " "))
    return Text(text if len(text) <= width else text[: width - 1] + "…")


def run_app(app: typer.Typer) -> None:
    """
    Run a command and leave the process with its exit code: every error that Skiff or the user can mend is one line on
    standard error, with code 2 for wrong input and 1 for a failure; Ctrl-C gives 130.
    """
    try:
        code = app(standalone_mode=False)
    except SkiffError as error:
        _leave_with(str(error), error.exit_code)
    except typer.TyperException as error:  # options and arguments that do not fit
        _leave_with(error.format_message() or "see --help", UserError.exit_code)
    if code == INTERRUPTED:
        typer.echo("stopped; what was done is kept, run the same command again to go on", err=True)
    sys.exit(code if isinstance(code, int) else 0)


def _leave_with(message: str, code: int) -> NoReturn:
    typer.echo(f"error: {printable(' '.join(message.split()))}", err=True)
    sys.exit(code)


def new_table(columns: Sequence[str]) -> "Table":
    """An empty table with these column names, to be filled with `cell`s and given to `show`."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(cell(column), overflow="fold")
    return table


@contextmanager
def progress(description: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """
    A progress bar with rate and, where the total is known, time left, on standard error; yields what advances it.

    Where standard error is no terminal, one line is written when it ends.
    """
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        ProgressColumn,
        Task,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )
    from rich.text import Text

    class Rate(ProgressColumn):
        def render(self, task: Task) -> Text:
            rate = task.finished_speed or task.speed
            return Text("" if rate is None else f"{rate:,.1f}/s")

    screen = console(stderr=True)
    if not screen.is_terminal:
        done = 0

        def count(step: int) -> None:
            nonlocal done
            done += step

        yield count
        sys.stderr.write(f"{description}: {done}{'' if total is None else f' of {total}'}\n")
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        Rate(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=screen) as bar:
        task = bar.add_task(description, total=total)
        yield lambda step: bar.advance(task, step)
