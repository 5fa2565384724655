"""What a report is told with on the screen: lines, bars, and texts side by side."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from synth.screen import cell, console, say, show

if TYPE_CHECKING:
    from synth.stages.report.figures import Histogram

LONGEST_BAR = 30  # characters
MOST_SHOWN = 400  # characters of a text on the screen; a page and --json have it whole
NARROWEST = 40  # columns, for two texts side by side
WIDEST = 160  # two texts side by side are read no better on a wider screen


def tell_lines(lines: Iterable[str]) -> None:
    """Each on a line of its own, whatever is in it."""
    for line in lines:
        say(cell(line, width=MOST_SHOWN).plain)


def tell_bars(labels: Sequence[str], found: "Histogram") -> None:
    """A line for each count."""
    block = "#" if console().options.ascii_only else "█"
    longest, most = max(map(len, labels)), max(found.counts)
    for label, count in zip(labels, found.counts, strict=True):
        bar = block * max(round(LONGEST_BAR * count / most), int(count > 0))
        say(f"  {label:>{longest}}  {bar} {count:,}".rstrip())


def tell_beside(
    lines: Sequence[str], parts: Iterable[tuple[str, str]], *, ratios: tuple[int, int] = (1, 1), most: int = MOST_SHOWN
) -> None:
    """
    Pairs of texts side by side, with lines above them, of which the first is the title; `ratios` share out the width,
    and `most` characters of a text are shown.
    """
    from rich.table import Table

    say("")
    first, *others = lines
    tell_lines([f"-- {first}", *others])
    width = min(max(console().width, NARROWEST), WIDEST)
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0), width=width)
    for ratio in ratios:
        table.add_column(overflow="fold", ratio=ratio)
    for left, right in parts:
        table.add_row(cell(left, width=most), cell(right, width=most))
    show(table)
