"""What people see of a run: lines that fit, notes once, nothing torn on a real terminal, no control codes elsewhere."""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synth.commands.figures import Figures, as_json, duration, line
from synth.commands.frames import SPARE_COLUMNS, frame
from synth.commands.live import live
from synth.llm.budget import Spent
from synth.llm.ceilings import Ceilings
from synth.llm.usage import Usage
from synth.screen import printable
from tests.conftest import REPOSITORY
from tests.synth.pty_terminal import Terminal

PROGRAM = Path(__file__).parent / "stoppable.py"
SHOWN = ["ask", "seeds", "requests", "spent"]
BUSY = Usage(
    requests=1310,
    replies=1204,
    in_flight=60,
    waiting=12,
    limit=64,
    retries={"429": 30, "500": 8, "reset": 3, "timeout": 1},
    tokens_in=496_000,
    tokens_out=126_400,
    cost=0.15,
    last_error="HTTP 429: slow down",
)
HALF_WAY = Figures(1204, 3000, 30.0, BUSY, 41.2)


def test_all_is_in_one_line() -> None:
    assert line(HALF_WAY) == (
        "1,204 of 3,000; 41/s; 44 s left; 60 of 64 in flight; 12 waiting; "
        "42 retries (30x 429, 8x 500, 3x reset, 1x timeout); last: HTTP 429: slow down; "
        "496 k tokens in, 126 k out; $0.150; about $0.374 at the end"
    )


@pytest.mark.parametrize(
    ("columns", "shown"),
    [
        (
            100,
            """\
seeds     ━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━  1,204 of 3,000 · 41/s · 44 s left
requests  60 of 64 in flight · 12 waiting · 42 retries (30x 429, 8x 500, 3x reset, 1x timeout)
spent     496 k tokens in, 126 k out · $0.150 · about $0.374 at the end · $0.400 left""",
        ),
        (
            60,
            """\
seeds     ━━━━━━━━━━  1,204 of 3,000 · 41/s · 44 s left
requests  60 of 64 in flight · 42 retries
spent     $0.150 · about $0.374 at the end · $0.400 left""",
        ),
    ],
)
def test_a_frame_says_what_matters_in_the_columns_there_are(columns: int, shown: str) -> None:
    assert frame(replace(HALF_WAY, left={"cost": 0.4}), columns).plain == shown


def test_what_failed_is_counted_beside_what_is_done() -> None:
    assert line(replace(HALF_WAY, failed=12)).startswith("1,204 of 3,000; 12 failed; 41/s; ")
    assert line(replace(HALF_WAY, failed=12, over=True)).startswith("1,204 of 3,000 after 30 s; 12 failed; ")
    assert "12 failed" not in frame(replace(HALF_WAY, failed=12), 60).plain  # what comes to the end is worth more


def test_a_budget_that_will_not_do_says_how_far_it_goes() -> None:
    assert "; $0.0500 left, enough for about 401 more" in line(replace(HALF_WAY, left={"cost": 0.05}))
    assert "; 1,796 requests left" not in line(replace(HALF_WAY, left={"requests": 500}))
    assert "500 requests left, enough for about 459 more" in line(replace(HALF_WAY, left={"requests": 500}))
    assert line(replace(HALF_WAY, left={"tokens": 9e6})).endswith("; 9.00 M tokens left")


def test_what_was_lost_is_said_in_money_or_else_in_tokens() -> None:
    lost = replace(BUSY, lost=3, lost_tokens=7000, lost_cost=0.02)
    assert "; at most $0.0200 lost" in line(replace(HALF_WAY, usage=lost))
    assert "; at most 7.00 k tokens lost" in line(replace(HALF_WAY, usage=replace(lost, cost=None, lost_cost=None)))


def test_what_a_second_ctrl_c_broke_off_is_the_last_that_a_narrow_frame_leaves_out() -> None:
    broken_off = replace(BUSY, tokens_in=0, tokens_out=0, cost=0.0, lost_tokens=7000, lost_cost=0.02)
    over = replace(HALF_WAY, done=0, usage=broken_off, over=True)
    assert "; at most $0.0200 lost or uncounted" in line(over)
    assert "at most $0.0200 lost or uncounted" in frame(over, 60).plain


def test_what_has_no_price_says_so_instead_of_a_sum() -> None:
    said = line(replace(HALF_WAY, usage=replace(BUSY, cost=None)))
    assert "; no price stated;" in said and "$" not in said


def test_the_commonest_causes_of_retries_are_named() -> None:
    retries = {"429": 9, "500": 8, "503": 7, "reset": 6, "timeout": 5, "502": 2, "no JSON": 1}
    assert "38 retries (9x 429, 8x 500, 7x 503, 6x reset, 5x timeout, 3x other)" in line(
        replace(HALF_WAY, usage=replace(BUSY, retries=retries))
    )


@pytest.mark.parametrize("columns", [60, 70, 80, 100, 130])
def test_an_error_is_cut_between_words(columns: int) -> None:
    error = "no connection to the server at example.com: its certificate is of an authority that nobody here trusts"
    usage = replace(BUSY, retries={}, waiting=0, last_error=error)
    said = frame(replace(HALF_WAY, usage=usage), columns).plain
    for told in re.findall("last: (.*)\\.\\.\\.", said):
        assert error.startswith(f"{told} ")
    assert columns < 80 or "last: no connection" in said


def test_replies_from_the_journal_cost_nothing_and_promise_nothing() -> None:
    resumed = Usage(requests=10, replies=10, replayed=990, limit=64, tokens_in=4000, tokens_out=1000, cost=0.01)
    figures = Figures(1000, 2000, 5.0, resumed)
    assert figures.made == pytest.approx(10)
    assert figures.at_the_end(0.01) == pytest.approx(0.01 + 1000 * 0.001)
    assert "990 from the journal" in line(figures)


def test_nothing_is_projected_from_nothing() -> None:
    for figures in (
        Figures(0, 10, 1.0, Usage()),
        Figures(5, 10, 1.0, Usage(replayed=5)),
        Figures(10, 10, 1.0, BUSY),
        Figures(0, 0, 0.0, Usage()),
    ):
        assert figures.at_the_end(1.0) is None
        assert "end" not in line(figures)


def test_an_engine_that_asks_nobody_shows_seeds_alone() -> None:
    assert frame(Figures(5, 10, 1.0, Usage(), 5.0), 100).plain.splitlines()[1:] == []


def test_while_it_waits_for_more_than_replies_it_promises_no_time() -> None:
    waiting = replace(HALF_WAY, usage=replace(BUSY, in_flight=0), state="waiting for 2 batches")
    assert "left" not in line(waiting)
    assert "; waiting for 2 batches; 12 waiting" not in line(waiting)
    assert "; waiting for 2 batches; 42 retries" in line(waiting)


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0.4, "0 s"),
        (59.4, "59 s"),
        (59.6, "1 min 00 s"),
        (200, "3 min 20 s"),
        (1100, "18 min"),
        (7500, "2 h 05 min"),
        (86400 * 3.2, "3 d 4 h"),
    ],
)
def test_a_time_is_said_as_people_say_it(seconds: float, said: str) -> None:
    assert duration(seconds) == said


amounts = st.integers(0, 10**12)
usages = st.builds(
    Usage,
    requests=amounts,
    replies=amounts,
    replayed=amounts,
    in_flight=amounts,
    waiting=amounts,
    limit=amounts,
    retries=st.dictionaries(st.text(max_size=20), amounts, max_size=6),
    tokens_in=amounts,
    tokens_out=amounts,
    cost=st.none() | st.floats(0, 1e12),
    lost=amounts,
    lost_tokens=amounts,
    lost_cost=st.none() | st.floats(0, 1e12),
    last_error=st.text(),
)


@settings(max_examples=150, deadline=None)
@given(
    usage=usages,
    done=amounts,
    total=amounts,
    rate=st.none() | st.floats(1e-12, 1e9),
    state=st.text(),
    left=st.dictionaries(st.sampled_from(["cost", "tokens", "requests"]), st.floats(-1e3, 1e12)),
    columns=st.integers(20, 130),
    over=st.booleans(),
)
def test_no_figures_and_no_hostile_text_break_a_frame(
    usage: Usage,
    done: int,
    total: int,
    rate: float | None,
    state: str,
    left: Mapping[str, float],
    columns: int,
    over: bool,
) -> None:
    figures = Figures(done, total, 1.0, usage, rate, state, left, over)
    drawn = frame(figures, columns)
    rows = drawn.split("\n")
    assert 1 <= len(rows) <= 3
    assert all(row.cell_len <= columns - SPARE_COLUMNS for row in rows)
    assert printable(drawn.plain) == drawn.plain
    assert "\n" not in line(figures)
    json.dumps(as_json(figures))


# Where standard error is no terminal: the test's own.


def of(read: Usage) -> Any:
    return lambda: read


def test_a_short_run_leaves_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with live("ask", 3, of(Usage()), as_json=False) as shown:
        shown.advance(2)
        shown.advance()
    assert tuple(capsys.readouterr()) == ("", "ask: 3 of 3 in 0 s\n")


def test_a_long_run_says_now_and_then_where_it_stands_and_each_note_once(capsys: pytest.CaptureFixture[str]) -> None:
    with live("ask", 3000, of(BUSY), as_json=False, every_seconds=0.5) as shown:
        shown.advance(1204)
        for _ in range(3):
            shown.note("the server takes 50\nrequests \x1b[31mat a time")
        time.sleep(1.6)
    said = capsys.readouterr().err.splitlines()
    assert said[0] == "the server takes 50 requests \\x1b[31mat a time"
    assert 3 <= len(said) <= 5
    assert all(each.startswith("ask: 1,204 of 3,000") for each in said[1:])


def test_with_json_every_line_is_an_object(capsys: pytest.CaptureFixture[str]) -> None:
    ceilings = Ceilings(max_cost=5.0, max_requests=2000)
    spent = Spent(3.15, 622_400, 2031, 0.05, 1000, 0.1, 9000)
    with live("ask", 3000, of(BUSY), as_json=True, ceilings=ceilings, spent=of(spent)) as shown:
        shown.advance(1204)
        shown.fail()
        shown.note('a "note"')
    note, figures = [json.loads(each) for each in capsys.readouterr().err.splitlines()]
    assert note == {"note": 'a "note"'}
    assert (
        figures.items()
        >= {"done": 1204, "failed": 1, "total": 3000, "requests": 1310, "replayed": 0, "cost": 0.15}.items()
    )
    assert figures["left"] == {"cost": 1.8, "requests": 0}  # an earlier run was allowed more
    assert figures["retries"] == {"429": 30, "500": 8, "reset": 3, "timeout": 1}


def test_an_unknown_price_is_said_once(capsys: pytest.CaptureFixture[str]) -> None:
    unpriced = ("small at http://one/v1", "large at http://two/v1")
    usage = of(replace(BUSY, cost=None))
    with live("ask", 3000, usage, as_json=False, unpriced=unpriced, every_seconds=0.3) as shown:
        shown.advance(1204)
        time.sleep(1)
    err = capsys.readouterr().err
    assert err.count("unknown price of small at http://one/v1, large at http://two/v1: tokens only") == 1
    assert "$" not in err
    assert "about 1.55 M at the end" in err


def test_an_error_in_the_run_passes_and_the_figures_stand_above_it(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ZeroDivisionError), live("ask", 3, of(Usage()), as_json=False) as shown:
        shown.advance()
        raise ZeroDivisionError
    assert capsys.readouterr().err == "ask: 1 of 3 after 0 s\n"


# On a real terminal.


@pytest.fixture
def terminals() -> Iterator[list[Terminal]]:
    """Those that a test opened; none of their commands outlives it."""
    opened: list[Terminal] = []
    yield opened
    for each in opened:
        each.process.kill()
        each.process.communicate()


def run(terminals: list[Terminal], *options: str, columns: int = 100, **environment: str) -> Terminal:
    command = [sys.executable, str(PROGRAM), "--live", *options]
    terminals.append(Terminal(command, {"PYTHONPATH": str(REPOSITORY), **environment}, columns=columns))
    return terminals[-1]


@pytest.mark.parametrize("columns", [100, 60])
def test_a_terminal_shows_one_frame_that_is_drawn_in_its_place(terminals: list[Terminal], columns: int) -> None:
    terminal = run(terminals, "--total", "64", "--seconds", "0.15", columns=columns)
    assert terminal.end() == (0, "ready\nsent 64, lost 0\n")
    rows = terminal.screen.splitlines()
    assert [row.split(" ")[0] for row in rows] == SHOWN
    assert "64 of 64 in 1 s" in rows[1] or "64 of 64 in 2 s" in rows[1]
    assert terminal.shows_cursor


@pytest.mark.parametrize("columns", [100, 60])
def test_ctrl_c_once_tears_nothing_and_says_what_happens(terminals: list[Terminal], columns: int) -> None:
    terminal = run(terminals, "--seconds", "0.8", columns=columns)
    terminal.read(lambda each: "8 of 8 in flight" in each.screen)
    terminal.type("\x03")
    code, out = terminal.end()
    assert (code, out.splitlines()[-1].split(", ")[1]) == (130, "lost 0")
    said = terminal.screen.replace("\n", " ")
    assert said.count("stopping: 8 requests in flight will be finished (at most 120 s)") == 1
    assert re.findall("^(?:ask|seeds|requests|spent)\\b", terminal.screen, re.MULTILINE) == SHOWN
    assert "^C" not in terminal.screen
    assert terminal.shows_cursor


def test_ctrl_c_twice_leaves_the_cursor_and_whole_lines(terminals: list[Terminal]) -> None:
    terminal = run(terminals, "--seconds", "60")
    terminal.read(lambda each: "8 of 8 in flight" in each.screen)
    terminal.type("\x03")
    terminal.read(lambda each: "stopping: " in each.screen)
    terminal.type("\x03")
    code, _ = terminal.end()
    rows = terminal.screen.splitlines()
    assert code == 130
    assert [row.split(" ")[0] for row in rows] == ["ask", "stopping:", "seeds", "requests", "stopped;"]
    assert terminal.shows_cursor


def test_a_terminal_that_takes_nothing_holds_up_no_request(terminals: list[Terminal]) -> None:
    terminal = run(terminals, "--total", "64", "--seconds", "0.1")
    terminal.read(lambda each: "8 of 8 in flight" in each.screen)
    terminal.type("\x13")  # Ctrl-S
    assert terminal.process.stdout
    assert [terminal.process.stdout.readline() for _ in range(2)] == ["ready\n", "sent 64, lost 0\n"]
    assert terminal.process.poll() is None
    terminal.type("\x11")  # Ctrl-Q
    assert terminal.end()[0] == 0
    assert "64 of 64" in terminal.screen


def test_a_terminal_that_is_closed_stops_the_run_cleanly(terminals: list[Terminal]) -> None:
    terminal = run(terminals, "--seconds", "0.8")
    terminal.read(lambda each: "8 of 8 in flight" in each.screen)
    terminal.close()
    code, out = terminal.end()
    assert (code, out) == (130, "ready\nsent 8, lost 0\n")


@pytest.mark.parametrize(
    "environment", [{"TERM": "dumb"}, {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}]
)
def test_a_terminal_that_cannot_draw_gets_plain_lines(
    terminals: list[Terminal], environment: Mapping[str, str]
) -> None:
    terminal = run(terminals, "--total", "16", "--seconds", "0.1", **environment)
    assert terminal.end()[0] == 0
    assert re.match("ask: 16 of 16 in [0-5] s; 16 sent; ", terminal.screen)
    assert "\x1b" not in terminal.raw


def test_a_file_gets_no_control_codes_whatever_is_said_of_colours(tmp_path: Path) -> None:
    with (tmp_path / "err").open("w") as err:
        subprocess.run(
            [sys.executable, str(PROGRAM), "--live", "--total", "16", "--seconds", "0.1"],
            stderr=err,
            stdout=subprocess.DEVNULL,
            env=os.environ | {"PYTHONPATH": str(REPOSITORY), "FORCE_COLOR": "1", "TTY_COMPATIBLE": "1"},
            check=True,
        )
    said = (tmp_path / "err").read_text()
    assert re.match("ask: 16 of 16 in [0-5] s; 16 sent; ", said)
    assert "\x1b" not in said
