"""
Cutting documents into passages: Markdown, reStructuredText, web pages and plain text, along their headings and
paragraphs.

Pure functions, text in and passages out. A document is hostile input: nothing that it names is read (`include`, `raw`
and `csv-table` with a file do nothing), no HTML comes out, and a document built to stall a parser is read as plain
text. Lengths are counted in units: one CJK character or one word of another script (a word of more than 20 letters
counts as several).
"""

import math
import re
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from synth.records import UserError
from synth.stages.webpages import declared_encoding, read_page, unescaped
from synth.units import CJK, UNIT, count_units

if TYPE_CHECKING:
    from docutils import nodes
    from markdown_it.token import Token

MAX_UNITS = 200
TINY_UNITS = 30  # a section below this is read together with a neighbour
HEADING_UNITS = 60  # a heading above this is a paragraph that someone made large
# Above these a document is read as plain text. Marks are asterisks and backticks: a parser slows down with the square
# of those that a paragraph leaves open, and reports each one; docutils drops a document with a line of 10,000.
MOST_CHARACTERS, MOST_MARKS, MOST_IN_PARAGRAPH, MOST_MARKS_IN_PARAGRAPH, MOST_IN_LINE = (
    1_000_000,
    30_000,
    20_000,
    1_000,
    9_000,
)

_BREAK_IN_CJK = re.compile(rf"(?<=[{CJK}，。、；：？！（）])[ \t]*\n[ \t]*(?=[{CJK}，。、；：？！（）])")
_SENTENCE_END = re.compile(r"(?<=[。！？；])|(?<=[.!?])\s+")
_FRONT_MATTER = re.compile(r"\A---[ \t]*\n(?:[^\n]*\n){0,200}?(?:---|\.\.\.)[ \t]*\n")
_SHORTCODE = re.compile(r"^[ \t]*\{\{[<%][^\n]{0,200}[>%]\}\}[ \t]*$", re.MULTILINE)
_HEADING_ID = re.compile(r"\s*\{#[^{}]*\}\s*$")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\ufeff\ud800-\udfff]")
_ROLE = re.compile(r":[\w:+.-]+:`([^`]*)`")
_ROLE_TARGET = re.compile(r"\s*<[^<>]*>\s*$")
_DIRECTIVE = re.compile(r"\.\.[ \t]+([\w:+.-]+)::[ \t]*(.*)")
# Directives whose argument and body are names of files, navigation or layout, never prose.
_NAVIGATION = frozenset({"toctree", "highlight", "literalinclude", "include", "raw", "image", "index", "contents"})


@dataclass(frozen=True, slots=True)
class Cut:
    """One passage of a document: the headings that lead to it, joined by " > ", and its text."""

    title: str
    body: str


@dataclass(frozen=True, slots=True)
class _Block:
    """A paragraph, list item, table row or piece of code; or, with a level, a heading."""

    text: str
    level: int = 0


@dataclass(frozen=True, slots=True)
class _Section:
    path: tuple[str, ...]
    blocks: tuple[str, ...]
    grouped: bool = False  # holds short sections that stand below `path`, their headings among the blocks

    @property
    def units(self) -> int:
        return sum(map(count_units, self.blocks))


def decode_document(data: bytes, *, suffix: str = "") -> str | None:
    """
    The text of a file: UTF-8, UTF-16 with a byte order mark, or, of a web page, what it declares; None for anything
    else.
    """
    encoding = "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    text = _decoded(data, encoding)
    if text is None and suffix.lower() in (".html", ".htm"):
        text = _decoded(data, declared_encoding(data) or "utf-8")
    return None if text is None or "\x00" in text else text


def _decoded(data: bytes, encoding: str) -> str | None:
    try:
        return data.decode(encoding)
    except (UnicodeDecodeError, LookupError):  # the second: no encoding has this name
        return None


def cut_document(text: str, *, suffix: str, max_units: int = MAX_UNITS) -> list[Cut]:
    """
    Cut a document into passages.

    A passage never spans two headings, unless one of them leads to almost nothing: a short introduction is put before
    the first section below it, and short neighbours under one heading become one passage. Images, HTML tags and front
    matter are dropped; links, roles and unknown directives become their text; code and table rows stay as text.

    Args:
        text: the document; empty gives no passages.
        suffix: .md, .markdown, .rst, .html, .htm or .txt: how to read it.
        max_units: the most units (see the module) of a passage's body.

    Raises:
        UserError: a suffix that is none of these.
    """
    if suffix.lower() not in READERS:
        raise UserError(f"documents of kind {suffix!r} cannot be read: use one of {', '.join(READERS)}")
    clean = _CONTROL.sub("", text.replace("\r\n", "\n").replace("\r", "\n")).expandtabs(4)
    read = READERS[suffix.lower()]
    if read is not _read_html and not _is_safe_to_parse(clean):
        read = _read_plain
    sections = _merge_tiny(list(_sections(read(clean))), max_units)
    return [
        Cut(" > ".join(section.path), body) for section in sections for body in _pack(list(section.blocks), max_units)
    ]


def _is_safe_to_parse(text: str) -> bool:
    if len(text) > MOST_CHARACTERS or _marks(text) > MOST_MARKS:
        return False
    return not any(
        len(paragraph) > MOST_IN_PARAGRAPH
        or _marks(paragraph) > MOST_MARKS_IN_PARAGRAPH
        or max(map(len, paragraph.split("\n"))) > MOST_IN_LINE
        for paragraph in re.split(r"\n[ ]*\n", text)
    )


def _marks(text: str) -> int:
    return text.count("*") + text.count("`")


def _sections(blocks: list[_Block]) -> Iterator[_Section]:
    path: list[tuple[int, str]] = []
    texts: list[str] = []
    for block in blocks:
        if not block.level or count_units(block.text) > HEADING_UNITS:
            texts.append(block.text)
            continue
        if texts:
            yield _Section(tuple(title for _, title in path), tuple(texts))
        above = [(level, title) for level, title in path if level < block.level]
        repeats = bool(above) and above[-1][1] == block.text
        path = above if repeats else [*above, (block.level, block.text)]
        texts = []
    if texts:
        yield _Section(tuple(title for _, title in path), tuple(texts))


def _merge_tiny(sections: list[_Section], max_units: int) -> list[_Section]:
    merged: list[_Section] = []
    for section in sections:
        last = merged[-1] if merged else None
        joint = _merged(last, section) if last and last.units < TINY_UNITS else None
        if joint and joint.units <= max_units:
            merged[-1] = joint
        else:
            merged.append(section)
    return merged


def _merged(first: _Section, second: _Section) -> _Section | None:
    """A tiny section with the one after it: its child keeps its own title, a tiny sibling shares the parent's."""
    if not first.grouped and second.path[:-1] == first.path:
        return _Section(second.path, first.blocks + second.blocks)
    parent = first.path if first.grouped else first.path[:-1]
    if not parent or second.path[:-1] != parent or second.units >= TINY_UNITS:
        return None
    before = first.blocks if first.grouped else (first.path[-1], *first.blocks)
    return _Section(parent, (*before, second.path[-1], *second.blocks), grouped=True)


def _pack(blocks: list[str], max_units: int) -> Iterator[str]:
    """Join blocks into bodies of at most `max_units`, of about equal length, so that no scrap is left at the end."""
    pieces = [piece for block in blocks for piece in _pieces(block, max_units)]
    total = sum(units for _, units in pieces)
    goal = math.ceil(total / max(1, math.ceil(total / max_units)))
    body: list[str] = []
    size = 0
    for piece, units in pieces:
        if body and (size + units > max_units or size >= goal):
            yield "\n".join(body)
            body, size = [], 0
        body.append(piece)
        size += units
    if size:
        yield "\n".join(body)


def _pieces(block: str, max_units: int) -> Iterator[tuple[str, int]]:
    """A block, or if it is too long its lines, else its sentences, else runs of units; each with its length."""
    units = count_units(block)
    if units <= max_units:
        if block.strip():
            yield block, units
        return
    parts = block.split("\n")
    if len(parts) == 1:
        parts = [part for part in _SENTENCE_END.split(block) if part]
    if len(parts) == 1:
        ends = [match.end() for match in UNIT.finditer(block)][max_units - 1 :: max_units]
        yield from ((block[start:end], max_units) for start, end in zip([0, *ends], ends, strict=False))
        tail = block[ends[-1] :]
        if count_units(tail):
            yield tail, count_units(tail)
        return
    run, size = "", 0
    glue = "\n" if "\n" in block else " " if not re.search(rf"[{CJK}]", block) else ""
    for part in parts:
        part_units = count_units(part)
        if run and size + part_units > max_units:
            yield from _pieces(run, max_units)
            run, size = "", 0
        run = f"{run}{glue}{part}" if run else part
        size += part_units
    yield from _pieces(run, max_units)


def _flow(text: str) -> str:
    """The lines of a paragraph as one; Chinese needs no space where a line was broken."""
    return re.sub(r"\s+", " ", _BREAK_IN_CJK.sub("", text)).strip()


def _read_plain(text: str) -> list[_Block]:
    paragraphs = re.split(r"\n[ ]*\n", text)
    return [_Block(_flow(paragraph)) for paragraph in paragraphs if paragraph.strip()]


def _read_html(text: str) -> list[_Block]:
    return _drop_empty([_Block(part if code else _flow(part), level) for part, level, code in read_page(text)])


def _read_markdown(text: str) -> list[_Block]:
    from markdown_it import MarkdownIt

    text = _SHORTCODE.sub("", _FRONT_MATTER.sub("", text))
    blocks: list[_Block] = []
    row: list[str] | None = None  # the cells of the table row that is open
    markers: list[str] = []  # of each list that is open, the marker of its current item until it is used
    level = 0  # of the heading that is open
    for token in MarkdownIt("commonmark").enable("table").parse(text):
        match token.type:
            case "heading_open" if token.level == 0:
                level = int(token.tag[1])
            case "bullet_list_open" | "ordered_list_open":
                markers.append("")
            case "bullet_list_close" | "ordered_list_close":
                markers.pop()
            case "list_item_open":
                markers[-1] = f"{token.info}. " if token.info else "- "
            case "tr_open":
                row = []
            case "tr_close":
                blocks.append(_Block(" | ".join(row or [])))
                row = None
            case "fence" | "code_block":
                blocks.append(_Block(textwrap.dedent(token.content).strip("\n")))
            case "html_block":
                blocks.extend(_Block(_flow(part)) for part in re.split(r"\n\s*\n", _strip_html(token.content)))
            case "inline":
                content = _flow(_markdown_inline(token.children or []))
                if row is not None:
                    row.append(content)
                elif level:
                    blocks.append(_Block(_HEADING_ID.sub("", content), level))
                elif content:
                    blocks.append(_Block((markers[-1] if markers else "") + content))
                    markers[-1:] = [""] if markers else []
                level = 0
    return _drop_empty(blocks)


def _markdown_inline(tokens: "list[Token]") -> str:
    parts = []
    for token in tokens:
        match token.type:
            case "text" | "code_inline" | "text_special":
                parts.append(token.content)
            case "softbreak" | "hardbreak":
                parts.append("\n")
            case "html_inline" if token.content.lower().startswith("<br"):
                parts.append(" ")
    return "".join(parts)


def _strip_html(text: str) -> str:
    """The text between the tags; comments, scripts and styles go with their content."""
    for opening, closing in (("<!--", "-->"), ("<script", "</script>"), ("<style", "</style>")):
        kept, rest = [], text
        while opening in rest:
            before, _, rest = rest.partition(opening)
            _, _, rest = rest.partition(closing)
            kept.append(before)
        text = "".join([*kept, rest])
    return unescaped(re.sub(r"<[^<>]*>", " ", text))


def _read_rst(text: str) -> list[_Block]:
    blocks: list[_Block] = []
    try:
        _walk_rst(_parse_rst(text), 0, "", blocks)
    except RecursionError:  # nested deeper than any document written by a person
        return _read_plain(text)
    return _drop_empty(blocks)


def _parse_rst(text: str) -> "nodes.document":
    """Parsed, and not transformed: substitutions stay unexpanded, and unknown directives keep their source text."""
    from docutils.frontend import get_default_settings
    from docutils.parsers.rst import Parser
    from docutils.utils import new_document

    settings = get_default_settings(Parser())
    settings.file_insertion_enabled = False
    settings.raw_enabled = False
    settings.report_level = settings.halt_level = 5  # neither prints nor raises
    settings.syntax_highlight = "none"
    document = new_document("document", settings)
    Parser().parse(text, document)
    return document


def _walk_rst(node: "nodes.Node", depth: int, marker: str, blocks: list[_Block]) -> None:
    """Append the blocks below a node; `marker` is what its first paragraph gets (a bullet, a number)."""
    from docutils import nodes

    for child in node.children:
        match child:
            case nodes.section():
                _walk_rst(child, depth + 1, "", blocks)
            case nodes.title() if isinstance(node, nodes.section):
                blocks.append(_Block(_rst_inline(child), min(depth, 6)))
            case nodes.system_message():
                _walk_lost_source(child, depth, blocks)
            case nodes.comment() | nodes.substitution_definition() | nodes.target() | nodes.pending() | nodes.label():
                pass
            case nodes.literal_block() | nodes.doctest_block():
                blocks.append(_Block(child.astext().strip("\n")))
            case nodes.row():
                cells = (" ".join(_rst_blocks(entry, depth)) for entry in child.children)
                blocks.append(_Block(" | ".join(cells)))
            case nodes.list_item():
                number = node.children.index(child) + 1
                bullet = f"{number}. " if isinstance(node, nodes.enumerated_list) else "- "
                _walk_rst(child, depth, bullet, blocks)
            case nodes.definition_list_item() | nodes.field() | nodes.option_list_item():
                name, *body = (" ".join(_rst_blocks(part, depth)) for part in child.children)
                blocks.append(_Block(f"{marker}{name}: {' '.join(body)}"))
            case nodes.TextElement():
                blocks.append(_Block(marker + _rst_inline(child)))
            case _:
                _walk_rst(child, depth, marker, blocks)
                continue
        marker = ""


def _rst_blocks(node: "nodes.Node", depth: int) -> list[str]:
    from docutils import nodes

    if isinstance(node, nodes.TextElement):
        return [_rst_inline(node)]
    blocks: list[_Block] = []
    _walk_rst(node, depth, "", blocks)
    return [_flow(block.text) for block in blocks]


def _walk_lost_source(message: "nodes.system_message", depth: int, blocks: list[_Block]) -> None:
    """What the parser could not take (an unknown directive, a malformed table) comes back as text, if it is text."""
    from docutils import nodes

    for source in message.findall(nodes.literal_block):
        directive = _DIRECTIVE.match(source.astext())
        if not directive:
            if message["level"] >= 3:  # below this the text is in the document as well
                blocks.append(_Block(source.astext()))
            continue
        if directive[1].lower() in _NAVIGATION:
            continue
        body = textwrap.dedent(source.astext()[directive.end() :])
        body = re.sub(r"\A(?:\s*:[\w-]+:[^\n]*\n?)*", "", body)  # options
        blocks.append(_Block(_flow(directive[2])))
        _walk_rst(_parse_rst(body), depth, "", blocks)


def _rst_inline(node: "nodes.Element") -> str:
    """The text of a paragraph, roles that docutils does not know (Sphinx's) shown as their text."""
    from docutils import nodes

    parts = []
    for child in node.children:
        match child:
            case nodes.Text():
                parts.append(child.astext())
            case nodes.problematic():
                parts.append(_ROLE.sub(lambda role: _ROLE_TARGET.sub("", role[1]).lstrip("~!"), child.astext()))
            case nodes.image() | nodes.footnote_reference() | nodes.system_message():
                pass
            case nodes.Element():
                parts.append(_rst_inline(child))
    return _flow("".join(parts))


def _drop_empty(blocks: list[_Block]) -> list[_Block]:
    return [block for block in blocks if block.text.strip()]


READERS: dict[str, Callable[[str], list[_Block]]] = {
    ".md": _read_markdown,
    ".markdown": _read_markdown,
    ".rst": _read_rst,
    ".html": _read_html,
    ".htm": _read_html,
    ".txt": _read_plain,
}
