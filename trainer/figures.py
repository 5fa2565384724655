"""
Scores as pictures, drawn by matplotlib: SVG, PNG or PDF, by the file's name.

Names of sets come from imported data: they are drawn as text, never as markup or formulas.
"""

import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Any

from synth.records import UserError
from synth.screen import printable
from trainer.checkpoint import check_place, write_atomically
from trainer.compare import MAIN, Change
from trainer.metrics import Interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes

KINDS = (".svg", ".png", ".pdf")
BEFORE, AFTER, GRID = "#777777", "#0b6e99", "#dddddd"
LINES = (
    "#0b6e99",
    "#d1495b",
    "#4b8b3b",
    "#8e5ea2",
    "#b8860b",
    "#444444",
    "#c06000",
    "#20a0a0",
)  # told apart in grey too
MARKERS = "os^Dv*PX"
ROW, WIDTH = 0.34, 7.5  # inches
COLUMNS, TITLE = 3, 20  # of panels, and letters in a line of a title
FONTS = ("DejaVu Sans", "Noto Sans CJK SC", "Noto Sans CJK JP", "WenQuanYi Micro Hei", "Microsoft YaHei", "PingFang SC")


def check_figure(path: Path) -> None:
    """Raise UserError unless a picture can be written there, before an hour is spent on what it shows."""
    if path.suffix.lower() not in KINDS:
        raise UserError(f"{path}: a figure's name must end in {', '.join(KINDS)}")
    check_place(path)


def draw_changes(path: Path, changes: Sequence[Change], before: str, after: str) -> None:
    """
    The main measure of each set, a row each: of two models with the interval of the change, which may be chance where
    it reaches the score before, or of one with its own.

    Raises:
        OSError: the disk did not take it.
    """
    rows = [
        each for each in changes if each.after is not None and (each.measure in MAIN.values() or not each.num_items)
    ]
    with _axes(path, height=1.2 + ROW * max(len(rows), 1)) as axes:
        for place, each in enumerate(reversed(rows)):
            assert each.after is not None
            spread = each.after_interval
            if each.before is not None:
                moved = each.change_interval
                spread = moved and Interval(each.before + moved.low, each.before + moved.high)
            _dot(axes, each.after, spread, place, AFTER)
            if each.before is not None:  # over the line, to be seen where that reaches it
                _dot(axes, each.before, None, place, BEFORE, hollow=True)
        names = [f"{printable(each.set)}  {each.measure}" for each in reversed(rows)]
        axes.set_yticks(range(len(rows)), names)
        axes.set_ylim(-0.6, len(rows) - 0.4)
        axes.grid(axis="x", color=GRID)
        told = [(BEFORE, "none", before)] if before else []
        for edge, face, name in [*told, (AFTER, AFTER, after)]:
            axes.plot([], [], "o", color=edge, markerfacecolor=face, label=_short(name))
        axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2, frameon=False)
        line = "95 of 100 resampled changes end on the line" if before else "95 of 100 resamples are on the line"
        axes.set_xlabel(f"score; {line}")


def draw_curve(path: Path, points: Mapping[str, Sequence[tuple[float, Sequence[float]]]], label: str) -> None:
    """
    Lines of scores over a number, a line a set: the mean over seeds, and a point for each seed.

    Args:
        points: name -> (x, a score for each seed), by x.
        label: of the x axis.

    Raises:
        OSError: the disk did not take it.
    """
    with _axes(path, height=4.5) as axes:
        for number, (name, found) in enumerate(points.items()):
            colour, marker = LINES[number % len(LINES)], MARKERS[number % len(MARKERS)]
            axes.plot(
                [x for x, _ in found], [sum(scores) / len(scores) for _, scores in found],
                color=colour, marker=marker, label=_short(name),
            )  # fmt: skip
            for x, scores in found:
                axes.plot([x] * len(scores), scores, ".", color=colour, alpha=0.4, markersize=4)
        axes.grid(color=GRID)
        axes.set_xlabel(label)
        axes.set_ylabel("score")
        axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)


def draw_panels(path: Path, rows: Sequence[str], panels: Mapping[str, Sequence[Sequence[float]]]) -> None:
    """
    A panel for each set side by side, a row for each way to make a model: the mean of its seeds, and each of them. A
    line marks where the first row stands. All panels are as wide, so that a small change looks small.

    Args:
        panels: title -> for each row a score of each seed.

    Raises:
        OSError: the disk did not take it.
    """
    height = (1.0 + ROW * len(rows)) * math.ceil(len(panels) / COLUMNS)
    ends = {title: (min(map(min, found)), max(map(max, found))) for title, found in panels.items()}
    width = 1.1 * max((high - low for low, high in ends.values()), default=0) or 0.1
    with _panes(path, height=height, number=len(panels)) as panes:
        for number, (axes, (title, found)) in enumerate(zip(panes, panels.items(), strict=True)):
            for place, scores in enumerate(found):
                mean = sum(scores) / len(scores)
                axes.plot([mean], [-place], "o", color=BEFORE if not place else AFTER, markersize=6)
                axes.plot(scores, [-place] * len(scores), "|", color=AFTER, markersize=9)
            first = found[0]
            axes.axvline(sum(first) / len(first), color=BEFORE, linewidth=0.8, linestyle=":")
            axes.set_yticks([-place for place in range(len(rows))], rows if number % COLUMNS == 0 else [""] * len(rows))
            axes.set_xlim(sum(ends[title]) / 2 - width / 2, sum(ends[title]) / 2 + width / 2)
            axes.set_title(fill(printable(title), TITLE), fontsize=9)
            axes.grid(axis="x", color=GRID)
            axes.tick_params(labelsize=8)


def _dot(
    axes: "Axes", value: float, spread: Interval | None, place: float, colour: str, *, hollow: bool = False
) -> None:
    if spread is not None:
        axes.plot([spread.low, spread.high], [place, place], color=colour, linewidth=1.5)
    axes.plot([value], [place], "o", color=colour, markerfacecolor="white" if hollow else colour, markersize=6)


def _short(name: str) -> str:
    name = printable(name)
    return name if len(name) <= 40 else f"…{name[-39:]}"


@contextmanager
def _axes(path: Path, *, height: float) -> "Iterator[Axes]":
    """One pair of axes, as `_panes` gives several."""
    with _panes(path, height=height, number=1) as [axes]:
        yield axes


@contextmanager
def _panes(path: Path, *, height: float, number: int) -> "Iterator[Sequence[Axes]]":
    """
    Axes to draw on, in rows of `COLUMNS`; the picture is written when the block ends. Nothing of it depends on the time
    or the screen.
    """
    from matplotlib import font_manager, rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    there = {font.name for font in font_manager.fontManager.ttflist}
    settings: dict[str, Any] = {
        "font.family": [name for name in FONTS if name in there],  # each character from the first that has it
        "text.parse_math": False,
        "svg.fonttype": "none",
        "svg.hashsalt": "skiff",
    }
    with rc_context(settings):  # type: ignore[arg-type]  # its keys are listed one by one
        columns = min(number, COLUMNS)
        figure = Figure(figsize=(WIDTH, height), layout="constrained" if number > 1 else None)
        FigureCanvasAgg(figure)
        panes = list(figure.subplots(math.ceil(number / columns), columns, squeeze=False).flat)
        for pane in panes:
            pane.spines[["top", "right"]].set_visible(False)
        for spare in panes[number:]:
            spare.set_visible(False)
        yield panes[:number]
        content = BytesIO()
        kind = path.suffix.lower().removeprefix(".")
        stamp: dict[str, Any] = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(kind, {})
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Glyph .* missing from font")  # it is drawn as a box
            figure.savefig(content, format=kind, dpi=150, bbox_inches="tight", metadata=stamp)
    write_atomically(path, content.getvalue())
