"""
The lines of a run that a terminal shows, drawn again and again in their place.

Imported where there is a terminal to draw on.
"""

import sys
from collections.abc import Callable, Sequence

from rich.console import Console
from rich.live import Live
from rich.text import Text

from synth.commands.figures import Figures, Part, requests, seeds, spending
from synth.screen import printable, silence

LABEL_WIDTH = 10
LONGEST_BAR, SHORTEST_BAR = 30, 6
SPARE_COLUMNS = 3  # for the ^C that the terminal itself prints behind the last line
SEPARATOR = " · "


class Frames:
    """
    A terminal with the frame of this moment at its bottom and the notes above it.

    A terminal that is closed meanwhile is no error: nobody looks any more, and the run goes on.
    """

    def __init__(self, description: str, terminal: Console) -> None:
        self._terminal = terminal
        # Standard output may be a pipe: what is written there must not be drawn here.
        self._live = Live(console=terminal, auto_refresh=False, redirect_stdout=False)
        self._draw(lambda: terminal.print(Text(printable(description), overflow="ellipsis", no_wrap=True)))
        self._draw(self._live.start)

    def note(self, text: str) -> None:
        """Print a line above the frame."""
        self._draw(lambda: self._terminal.print(Text(printable(text))))

    def show(self, figures: Figures) -> None:
        """Draw the frame; the last one stays."""
        drawn = frame(figures, self._terminal.width, coloured=self._terminal.color_system is not None)
        self._draw(lambda: self._live.update(drawn, refresh=True))
        if figures.over:
            self._draw(self._live.stop)

    def _draw(self, action: Callable[[], None]) -> None:
        try:
            action()
        except OSError:
            silence(sys.stderr)


def frame(figures: Figures, width: int, *, coloured: bool = True) -> Text:
    """The frame as one text of one to three lines, none as wide as a terminal of `width` columns."""
    room = max(width - LABEL_WIDTH - SPARE_COLUMNS, 1)
    bar = _bar(figures, room, coloured=coloured)
    lines = [_label("seeds") + bar + _fitted(seeds(figures), room - bar.cell_len)]
    for label, parts in (("requests", requests(figures)), ("spent", spending(figures))):
        lines += [_label(label) + _fitted(parts, room)] if parts else []
    return Text("\n", no_wrap=True, overflow="crop").join(lines)


def _label(word: str) -> Text:
    return Text(f"{word:<{LABEL_WIDTH}}", style="dim")


def _bar(figures: Figures, room: int, *, coloured: bool) -> Text:
    """A bar whose length depends on the terminal alone, so that it does not move; empty where there is no room."""
    width = min(room - 2 * len(f"{figures.total:,}") - len(" of  · 41/s · 59 min left  "), LONGEST_BAR)
    if width < SHORTEST_BAR:
        return Text()
    halves = 2 * width * min(figures.done, figures.total) // max(figures.total, 1)
    done = "━" * (halves // 2) + "╸" * (halves % 2)
    rest = ("━" if coloured else " ") * (width - len(done))
    return Text.assemble((done, "bar.complete"), (rest, "bar.back"), "  ")


def _fitted(parts: Sequence[Part], room: int) -> Text:
    """The parts in one line; the least important ones shrink or go until it fits."""
    kept = list(parts)
    while len(kept) > 1 and _joined(kept).cell_len > room:
        place = max(range(len(kept)), key=lambda each: kept[each].rank)
        short = kept[place].short
        kept[place : place + 1] = [Part(short, kept[place].rank)] if short else []
    line = _joined(kept)
    line.truncate(max(room, 1), overflow="ellipsis")
    return line


def _joined(parts: Sequence[Part]) -> Text:
    return Text(SEPARATOR, style="dim").join([Text(printable(part.text)) for part in parts])
