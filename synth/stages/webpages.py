"""
Web pages as paragraphs and headings. Pure functions; a page is hostile input: nothing that it names is fetched or run.

Scripts, styles, navigation and controls are dropped; entities are decoded; what no tag closes ends with the page. Read
in one pass: the parser of the standard library takes a minute for a third of a megabyte that was built to stall it.
"""

import html
import re
from collections import Counter
from collections.abc import Iterator

MOST_CHARACTERS = 5_000_000  # a longer page is cut off there
DROPPED = frozenset(
    {"script", "style", "template", "noscript", "nav", "svg", "iframe", "object", "select", "button", "textarea"}
)
# A tag of these ends the paragraph before it, and its own end ends its own.
BLOCKS = frozenset(
    {
        *(
            "address",
            "article",
            "aside",
            "blockquote",
            "body",
            "center",
            "dd",
            "details",
            "div",
            "dl",
            "dt",
            "fieldset",
        ),
        *("figcaption", "figure", "footer", "form", "h1", "h2", "h3", "h4", "h5", "h6", "head", "header", "hr", "html"),
        *("legend", "li", "main", "ol", "p", "pre", "section", "summary", "table", "tbody", "tfoot", "thead", "title"),
        *("tr", "ul", "caption", "fieldset"),
    }
)
RAW = frozenset({"script", "style", "textarea"})  # no tags in them but their own end
TAG = re.compile(r"<(/?)([a-zA-Z][^\s/>]{0,40})")
TAG_END = re.compile(r"[^>\"']*(?:\"[^\"]*\"[^>\"']*|'[^']*'[^>\"']*)*>")  # a quoted value may hold a `>`
CHARSET = re.compile(rb"<meta[^>]{0,200}?charset\s*=\s*[\"']?\s*([\w.:-]{1,40})", re.IGNORECASE)


def read_page(text: str) -> list[tuple[str, int, bool]]:
    """
    The paragraphs of a page in order: text, level from 1 if it is a heading (0 if not), and whether it is code, whose
    lines and spaces mean something. The page's title is a heading of level 1, until the page has one of its own.
    """
    page = _Page()
    for tag, data in _tokens(text[:MOST_CHARACTERS]):
        if not tag:
            page.text(data)
        elif tag.startswith("/"):
            page.end(tag[1:])
        else:
            page.begin(tag)
    page.end_block()
    return page.blocks


def unescaped(text: str) -> str:
    """The text with its entities decoded; one whose number no computer can hold leaves them as they are."""
    try:
        return html.unescape(text)
    except ValueError:
        return text


def _tokens(text: str) -> Iterator[tuple[str, str]]:
    """The tags of a page in order, without attributes ("p", "/p"), and between them "" with the text."""
    place, quotes_close = 0, True
    while (start := text.find("<", place)) >= 0:
        tag = TAG.match(text, start)
        if tag is None and text[start + 1 : start + 2] not in ("!", "?", "/"):
            yield "", text[place : start + 1]  # a `<` that means itself
            place = start + 1
            continue
        yield "", unescaped(text[place:start])
        if tag is None:
            comment = text.startswith("<!--", start)
            closing = text.find("-->" if comment else ">", start + 2)
            if closing < 0:
                return
            place = closing + (3 if comment else 1)
            continue
        end = TAG_END.match(text, tag.end()) if quotes_close else None
        quotes_close = end is not None  # looked for once in vain, they are not looked for again
        place = end.end() if end else text.find(">", tag.end()) + 1
        if not place:
            return
        name = tag[2].lower()
        yield tag[1] + name, ""
        if not tag[1] and name in RAW:
            closing_tag = re.compile(rf"</{name}", re.IGNORECASE).search(text, place)
            if closing_tag is None:
                return
            place = closing_tag.start()
    yield "", unescaped(text[place:])


def declared_encoding(data: bytes) -> str | None:
    """The encoding that a page declares at its beginning, if any."""
    declared = CHARSET.search(data[:2048])
    return declared[1].decode("ascii", errors="replace") if declared else None


class _Page:
    """A page as its tags and texts come."""

    def __init__(self) -> None:
        self.blocks: list[tuple[str, int, bool]] = []
        self._parts: list[str] = []
        self._dropping = Counter[str]()  # how many of each dropped tag are open
        self._lists: list[int] = []  # of each list that is open: the number of its next item, 0 for a bullet
        self._marker = ""  # of the item that has just begun
        self._level = 0  # of the heading that is open
        self._pre = 0  # how many <pre> are open
        self._cells = 0  # of the row that is open

    def begin(self, tag: str) -> None:
        """A tag opens."""
        if tag in DROPPED:
            self._dropping[tag] += 1
        if self._dropping:
            return
        if tag in BLOCKS:
            self.end_block()
        match tag:
            case "h1" | "h2" | "h3" | "h4" | "h5" | "h6":
                self._level = int(tag[1])
            case "title":
                self._level = 1
            case "br":
                self._parts.append("\n" if self._pre else " ")
            case "ul" | "ol":
                self._lists.append(0 if tag == "ul" else 1)
            case "li":
                self._begin_item()
            case "pre":
                self._pre += 1
            case "tr":
                self._cells = 0
            case "td" | "th":
                self._parts.append(" | " if self._cells else "")
                self._cells += 1

    def _begin_item(self) -> None:
        number = self._lists[-1] if self._lists else 0
        self._marker = f"{number}. " if number else "- "
        if number:
            self._lists[-1] += 1

    def end(self, tag: str) -> None:
        """A tag closes."""
        if self._dropping:
            self._dropping -= Counter([tag])
            return
        if tag in BLOCKS:
            self.end_block()
        if tag in ("ul", "ol") and self._lists:
            self._lists.pop()
        elif tag == "pre" and self._pre:
            self._pre -= 1

    def text(self, data: str) -> None:
        """Text between tags."""
        if not self._dropping:
            self._parts.append(data)

    def end_block(self) -> None:
        """What was read since the last block is one."""
        text = "".join(self._parts)
        if text.strip():
            code = self._pre > 0
            self.blocks.append((self._marker + (text.strip("\n") if code else text.strip()), self._level, code))
            self._marker = ""
        self._parts = []
        self._level = 0
