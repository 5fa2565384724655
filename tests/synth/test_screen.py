"""The edge to the terminal: hostile text is shown, errors are one line, progress stays off the results."""

import sys

import pytest
import typer

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
