"""
What every page of a report is made of: no script, nothing from elsewhere, figures as SVG.

What an LLM or a data set wrote is hostile here: every text goes through `escaped`, and the page's own policy lets a
browser neither run nor fetch anything.
"""

import html
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from synth.records import UserError, new_id
from synth.screen import printable
from synth.stages.report.figures import Histogram
from synth.store.console import refuse_output
from synth.workspace import Workspace

# Bars are seen on white and on black.
COLOURS = ("#23808b", "#c8553d", "#8a5fa8", "#b58900", "#4c6ef5", "#2f9e44", "#868e96", "#d6336c")
LABELS, BARS, NUMBERS, ROW = 130, 200, 120, 20  # of a figure: widths of its columns and the height of a row
LONGEST_LABEL = 20  # Latin letters; a Chinese character is as wide as two
BEGINNING = '<!doctype html>\n<html lang="en">\n<head>\n<meta name="generator" content="synth report">\n'
STYLE = """
:root { color-scheme: light dark; --text: #1b1f23; --paper: #fff; --faint: #57606a; --line: #d8dbde; --title: #f2f4f5;
  --warning: #9c2a10; }
html { font-size: 15px; }
body { font: 1rem/1.5 system-ui, "Noto Sans", "Noto Sans CJK SC", "PingFang SC", "Microsoft YaHei", sans-serif;
  max-width: 1100px; margin: 2rem auto; padding: 0 1rem; color: var(--text); background: var(--paper);
  overflow-wrap: break-word; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2.2rem; border-bottom: 1px solid var(--line); }
h3 { font-size: 1rem; margin: 1.4rem 0 .3rem; }
p { margin: .15rem 0; } .warning { color: var(--warning); font-weight: 600; }
table { border-collapse: collapse; margin: .6rem 0; width: auto; } table.texts { width: 100%; table-layout: fixed; }
th, td { text-align: left; vertical-align: top; padding: .2rem .8rem .2rem 0; border-bottom: 1px solid var(--line); }
.number { text-align: right; white-space: nowrap; } div.wide { overflow-x: auto; } div.wide td { min-width: 4rem; }
col.notes { width: 26%; }
div.text { white-space: pre-wrap; overflow: hidden; }
th.title { background: var(--title); font-weight: 600; padding: .3rem .4rem; }
.name { color: var(--faint); font-size: .85rem; } .figures { display: flex; flex-wrap: wrap; gap: 0 2rem; }
figure { margin: 0 0 1rem; min-width: 0; max-width: 100%; overflow-wrap: anywhere; }
figcaption { font-size: .9rem; max-width: 450px; } figure p { font-size: .9rem; }
svg { max-width: 100%; height: auto; }
svg text { font: 12px system-ui, sans-serif; fill: var(--text); }
@media screen and (prefers-color-scheme: dark) { :root { --text: #d8dde3; --paper: #15181c; --faint: #9aa4ae;
  --line: #3a4046; --title: #22272d; --warning: #ff9a80; } }
@media screen and (max-width: 640px) { .texts colgroup { display: none; }
  .texts tr, .texts td, .texts th { display: block; }
  .texts td:first-child { border-bottom: 0; padding-right: 0; }
  .texts td + td { padding: 0 0 .6rem .8rem; } }
@media print { html { font-size: 11px; } body { margin: 0; max-width: none; }
  figure { width: 46%; } figure, tr { break-inside: avoid; } h2 { break-after: avoid; } }
"""


def document(title: str, parts: Iterable[str]) -> str:
    """The whole page, of parts that are HTML."""
    body = "\n".join(parts)
    return (
        f'{BEGINNING}<meta charset="utf-8">\n'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n"
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escaped(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n{body}\n</body>\n</html>\n"
    )


def check_page(path: Path, workspace: Workspace) -> None:
    """
    Raise UserError unless a page may be written there: to a new file, or over an older report; to none of the
    workspace's own files, nor into its folder of recipes.
    """
    refuse_output(path, workspace.store)
    root, recipes = workspace.root.resolve(), (workspace.root / workspace.config.recipes).resolve()
    if not root.is_relative_to(recipes) and Path(os.path.realpath(path)).is_relative_to(recipes):
        raise UserError(f"{path}: is in your folder of recipes; name another file")
    if not path.parent.is_dir():
        raise UserError(f"{path}: its folder does not exist; make it first, or name a file in another one")
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            begins = file.read(len(BEGINNING))
    except FileNotFoundError:
        return
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror}); name another file") from None
    if begins not in ("", BEGINNING):
        raise UserError(f"{path}: is there already, and is no report; name another file, or take it away first")


def write_page(path: Path, text: str) -> None:
    """Write a page to a file that appears when it is complete. Raises UserError if it cannot be there."""
    partial = path.with_name(f".{new_id().hex}.partial")
    try:
        try:
            partial.write_text(text, encoding="utf-8")
            os.replace(partial, path)
        finally:
            partial.unlink(missing_ok=True)
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror}); name a file in a folder that exists") from None


def escaped(text: str) -> str:
    """A text as a browser shows it and obeys none of it; what it would hide is shown as on a terminal."""
    return html.escape(printable(text))


def paragraphs(lines: Iterable[str]) -> Iterator[str]:
    """A paragraph of each line; what begins with `warning:` looks like one."""
    for line in lines:
        warns = ' class="warning"' if line.startswith("warning:") else ""
        yield f"<p{warns}>{escaped(line)}</p>"


def titled(lines: Sequence[str]) -> str:
    """The beginning of a part of a table of texts."""
    return f'<tbody><tr><th class="title" colspan="2">{"<br>".join(escaped(line) for line in lines)}</th></tr>'


def table(columns: Sequence[str], rows: Sequence[Sequence[object]], *, num_words: int = 1) -> str:
    """A table that scrolls by itself: the first `num_words` columns hold words, the others figures."""

    def row(tag: str, values: Sequence[object]) -> str:
        told = [escaped(f"{value:,}" if isinstance(value, int) else str(value)) for value in values]
        words = "".join(f"<{tag}>{value}</{tag}>" for value in told[:num_words])
        figures = "".join(f'<{tag} class="number">{value}</{tag}>' for value in told[num_words:])
        return f"<tr>{words}{figures}</tr>"

    return f'<div class="wide"><table>{row("th", columns)}{"".join(row("td", each) for each in rows)}</table></div>'


def figure(caption: str, drawn: str, below: str = "") -> str:
    """What was drawn with its caption above it, and HTML below."""
    return f"<figure><figcaption>{escaped(caption)}</figcaption>{drawn}{below}</figure>"


def named(name: str, text: str) -> str:
    """A text with what it is above it."""
    return f'<div class="name">{escaped(name)}</div><div class="text" dir="auto">{escaped(text)}</div>'


def drawn_histogram(found: Histogram, labels: Sequence[str], colour: str, other: Histogram | None = None) -> str:
    """
    The counts as bars; with another distribution, the shares, and those of the other one as outlines, which none needs
    that is compared with itself.
    """
    if other is None:
        return drawn_bars(labels, [Bar(count, f"{count:,}") for count in found.counts], colour)
    if other is found:
        return drawn_bars(
            labels, [Bar(count / found.num, f"{count / found.num:.0%}") for count in found.counts], colour
        )
    both = [(count / found.num, of / other.num) for count, of in zip(found.counts, other.counts, strict=True)]
    return drawn_bars(labels, [Bar(share, f"{share:.0%}", outline) for share, outline in both], colour)


@dataclass(frozen=True, slots=True)
class Bar:
    """How long, what stands behind it, and how long the outline is that it is compared with."""

    length: float
    said: str
    outline: float = 0.0


def drawn_bars(labels: Sequence[str], bars: Sequence[Bar], colour: str) -> str:
    """Horizontal bars: what they are of on the left, how many on the right. Prints as it looks, without backgrounds."""
    most = max(max(bar.length, bar.outline) for bar in bars)
    width, height = LABELS + BARS + NUMBERS, ROW * len(bars)
    drawn = [f'<svg viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img">']
    for place, (label, bar) in enumerate(zip(labels, bars, strict=True)):
        top, length, outline = place * ROW, BARS * bar.length / most, BARS * bar.outline / most
        drawn.append(
            f"<g><title>{escaped(f'{label}: {bar.said}')}</title>"
            f'<text x="{LABELS - 8}" y="{top + 14}" text-anchor="end">{escaped(_short(label))}</text>'
            f'<rect x="{LABELS}" y="{top + 3}" width="{length:.1f}" height="{ROW - 6}" fill="{colour}"/>'
            f'<text x="{LABELS + max(length, outline) + 6:.1f}" y="{top + 14}">{escaped(bar.said)}</text>'
        )
        if bar.outline:
            box = f'x="{LABELS}" y="{top + 1.5}" width="{outline:.1f}" height="{ROW - 3}"'
            drawn.append(f'<rect {box} fill="none" stroke="{COLOURS[0]}" stroke-width="1.5"/>')
        drawn.append("</g>")
    return "".join([*drawn, "</svg>"])


def _short(label: str) -> str:
    """As much of it as there is room for."""
    from rich.cells import cell_len, chop_cells

    shown = printable(label)
    return shown if cell_len(shown) <= LONGEST_LABEL else f"{chop_cells(shown, LONGEST_LABEL - 1)[0]}…"
