"""The edge to the terminal: hostile text is shown, errors are one line, progress stays off the results."""

import sys
from io import StringIO

import pytest
import typer
from rich.console import Console

from synth.records import LLMError, UserError
from synth.screen import cell, printable, progress, run_app


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain 中文 é 👍\n\t", "plain 中文 é 👍\n\t"),
        ("\x1b]0;owned\x07", "\\x1b]0;owned\\x07"),
        ("a\u202eb\u200bc\u2066", "a\\u202eb\\u200bc\\u2066"),
        ("line\u2028end\r", "line\\u2028end\\r"),
        ("\x9b31m", "\\x9b31m"),
    ],
)
def test_what_a_terminal_would_obey_or_hide_is_shown(text: str, shown: str) -> None:
    assert printable(text) == shown


def test_a_cell_is_one_line_of_plain_text_cut_to_its_width() -> None:
    assert cell("a\nb [bold]x[/bold]").plain == "a⏎ b [bold]x[/bold]"
    assert cell("x" * 100, width=10).plain == "x" * 9 + "…"
    assert cell(None).plain == ""


def app_that_raises(error: BaseException) -> typer.Typer:
    app = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False)

    @app.command()
    def command() -> None:
        raise error

    return app


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (UserError("no such\nfile \x1b[31m"), 2, "error: no such file \\x1b[31m\n"),
        (LLMError("the server is gone"), 1, "error: the server is gone\n"),
        (KeyboardInterrupt(), 130, "stopped; what was done is kept, run the same command again to go on\n"),
    ],
)
def test_an_error_is_one_line_on_standard_error_with_its_exit_code(
    error: BaseException, code: int, line: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["test"])
    with pytest.raises(SystemExit) as left:
        run_app(app_that_raises(error))
    assert (left.value.code, *capsys.readouterr()) == (code, "", line)


def test_a_bug_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["test"])
    with pytest.raises(ZeroDivisionError):
        run_app(app_that_raises(ZeroDivisionError()))


def test_progress_leaves_one_line_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with progress("encode", 5) as advance:
        advance(2)
        advance(3)
    assert tuple(capsys.readouterr()) == ("", "encode: 5 of 5\n")


def test_what_is_told_of_a_step_is_a_line_now_and_then_where_there_is_no_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with progress("training", 3) as advance:
        advance(1, "loss 3")  # too soon after the start for a line
        monkeypatch.setattr("synth.screen.SILENCE", 0)
        advance(1, "loss 2\x1b[2J")
        advance(1)
    assert capsys.readouterr().err == "training: 2 of 3; loss 2\\x1b[2J\ntraining: 3 of 3\n"


def test_what_is_told_of_a_step_stands_below_the_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Console(file=StringIO(), force_terminal=True, width=60, markup=False, color_system=None)
    monkeypatch.setattr("synth.screen.console", lambda *, stderr: screen)
    with progress("training", 2) as advance:
        advance(1, "retrieval loss 1.500, \x1b[2J" + "9" * 90)
        advance(1, "retrieval loss 1.250")
    assert isinstance(screen.file, StringIO)
    last = screen.file.getvalue()
    bar, told, _ = last.rsplit("\n", 2)
    assert "2/2" in bar and told == "retrieval loss 1.250"
    assert "\x1b[2J9" not in last


def test_a_description_is_shown_not_obeyed(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    with progress("measuring \x1b[31mX[/b]", 1) as advance:
        advance(1)
    assert capsys.readouterr().err == "measuring \\x1b[31mX[/b]: 1 of 1\n"
    screen = Console(file=StringIO(), force_terminal=True, width=90, markup=False, color_system=None)
    monkeypatch.setattr("synth.screen.console", lambda *, stderr: screen)
    with progress("measuring \x1b[31mX[/b]", 1) as advance:
        advance(1)
    assert isinstance(screen.file, StringIO)
    assert "measuring \\x1b[31mX[/b]" in screen.file.getvalue()
