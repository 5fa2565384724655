"""
The edge between Skiff and a terminal: how an error, a progress bar and a hostile text reach the screen.

Both commands (`synth`, `trainer`) use it; nothing else writes to the terminal. Results go to standard output, progress
and errors to standard error, so that a pipe carries results alone.
"""

import io
import os
import sys
import time
import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, NoReturn, Protocol, TextIO

import typer

from synth.records import SkiffError, UserError

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.table import Table

PIPE_WIDTH = 400
SILENCE = 30  # seconds without a line, where there is no bar
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


def warn(text: str) -> None:
    """Print a line to standard error, escaped for the terminal: what people may want to know while a command runs."""
    _complain(printable(text))


def silence(stream: TextIO) -> None:
    """Send the rest of a stream nowhere, once it failed: Python would fail again on it when the process ends."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, stream.fileno())


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
    Run a command and leave the process with its exit code: every error that Skiff, the user or the machine's
    administrator can mend is one line on standard error, with code 2 for wrong input and 1 for a failure; Ctrl-C gives
    130. What a reader of standard output no longer wants (`| head`) is dropped without a word.
    """
    code = None
    try:
        _prepare_streams()
        _refuse_undecodable(sys.argv[1:])
        code = app(standalone_mode=False)
    except SkiffError as error:
        _leave_with(str(error), error.exit_code)
    except typer.TyperException as error:  # options and arguments that do not fit
        if error.format_message().startswith("Usage:"):  # there were none at all
            _complain(error.format_message())
            sys.exit(UserError.exit_code)
        _leave_with(error.format_message() or "see --help", UserError.exit_code)
    except OSError as error:
        _leave_with(_told(error), SkiffError.exit_code)
    except KeyboardInterrupt:  # before or after what typer guards
        code = INTERRUPTED
    if code == INTERRUPTED:
        _complain("stopped; what was done is kept, run the same command again to go on")
    if unwritten := _end_output():
        _leave_with(f"standard output: {unwritten}", SkiffError.exit_code)
    sys.exit(code if isinstance(code, int) else 0)


def _prepare_streams() -> None:
    """
    Let no character stop a line (an ASCII terminal shows escapes), and no file of ours take the place of a stream that
    was closed: it would receive what is meant for the screen. Raises SkiffError if there is nowhere to write results.
    """
    if sys.stderr is None:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 2)
        sys.stderr = open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115 - lives as long as the process
    if sys.stdout is None:
        raise SkiffError(f"standard output is closed; send it to a file, or to {os.devnull}")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _refuse_undecodable(arguments: Sequence[str]) -> None:
    for argument in arguments:
        if any("\ud800" <= char <= "\udfff" for char in argument):
            raise UserError(
                f"the argument {_shortened(argument)} is not UTF-8 text, or the locale is not; "
                "write it in UTF-8 and run under LC_ALL=C.UTF-8"
            )


def _told(error: OSError) -> str:
    reason = error.strerror or str(error) or type(error).__name__
    if error.filename is None:  # what was written to a stream; a file that fails has a name
        return f"input or output failed: {reason}; check disk space and where standard output goes"
    return f"{_shortened(os.fsdecode(error.filename))}: {reason}"


def _shortened(text: str) -> str:
    return text if len(text) <= 100 else f"{text[:100]}… ({len(text)} characters)"


def _leave_with(message: str, code: int) -> NoReturn:
    if sys.stdout is not None:
        _end_output()
    _complain(f"error: {printable(' '.join(message.split()))}")
    sys.exit(code)


def _complain(line: str) -> None:
    try:
        sys.stderr.write(f"{line}\n")
        sys.stderr.flush()
    except OSError:  # a full disk: the exit code has to say it
        silence(sys.stderr)


def _end_output() -> str:
    """Write out what standard output holds back; why that cannot be, "" if it can or if nobody reads it."""
    try:
        sys.stdout.flush()
    except OSError as error:
        silence(sys.stdout)
        return "" if isinstance(error, BrokenPipeError) else error.strerror or str(error)
    return ""


def is_too_wide(columns: Sequence[str], rows: Sequence[Sequence[object]], *, gap: int) -> bool:
    """Whether a table of these rows, a `gap` by each column, would not fit the terminal. A pipe has room for any."""
    screen = console()
    if not screen.is_terminal:
        return False
    widths = [
        max((cell(value).cell_len for value in (column, *values)), default=0)
        for column, *values in zip(columns, *rows, strict=True)
    ]
    return sum(widths) + gap * len(widths) > screen.width


def new_table(columns: Sequence[str], *, numeric: Sequence[bool] = (), gap: int = 2) -> "Table":
    """
    An empty table with these column names (numeric ones flush right), to be filled with `cell`s and `show`n. A gap of 1
    by each column, in place of 2, leaves the line out.
    """
    from rich import box
    from rich.table import Table

    if gap == 1:
        table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    else:
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for place, column in enumerate(columns):
        right = place < len(numeric) and numeric[place]
        table.add_column(cell(column), overflow="fold", justify="right" if right else "left")
    return table


class Advance(Protocol):
    """Moves a progress bar on by so many steps, and shows beside it what is told of the latest."""

    def __call__(self, steps: int, told: str = "") -> None: ...


@contextmanager
def progress(description: str, total: int | None) -> Iterator[Advance]:
    """
    A progress bar with rate and, where the total is known, time left, on standard error; yields what advances it.

    Where standard error is no terminal, one line is written when it ends, and one each half minute of what is told.
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

    screen, description = console(stderr=True), printable(description)
    if not screen.is_terminal:
        done, spoken = 0, time.monotonic()

        def say_how_far(told: str) -> None:
            with suppress(OSError):  # the work is done, whether this can be said or not
                sys.stderr.write(f"{description}: {done}{'' if total is None else f' of {total}'}{told}\n")

        def count(steps: int, told: str = "") -> None:
            nonlocal done, spoken
            done += steps
            if told and time.monotonic() - spoken >= SILENCE:
                spoken = time.monotonic()
                say_how_far(f"; {printable(told)}")

        yield count
        say_how_far("")
        return
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        Rate(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    latest = ""

    class Bar(Progress):
        def get_renderables(self) -> Iterator["RenderableType"]:
            yield from super().get_renderables()
            if latest:
                yield Text(latest, overflow="ellipsis", no_wrap=True)

    with Bar(*columns, console=screen) as bar:
        task = bar.add_task(description, total=total)

        def advance(steps: int, told: str = "") -> None:
            nonlocal latest
            latest = printable(told)
            bar.advance(task, steps)

        yield advance
