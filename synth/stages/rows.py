"""
What a row of each layout becomes: the values in its columns, checked. Pure functions of rows.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from synth.overlaps import fold
from synth.stages.formats import JUDGED, NUMBERED, Layout
from synth.stages.lines import BadLine, Row

NUMBER = re.compile(r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]{1,3})?")
VISIBLE = re.compile(r"[!-~\u3041-\u3096\u4e00-\u9fff]")  # some characters that are: most texts have one
# The scores that the data set all-nli of sentence-transformers gives to the classes of natural language inference. Only
# their order counts, and it is that of QZhou-Embedding's 2, 1 and 0.
INFERENCE = {"entailment": 1.0, "neutral": 0.5, "contradiction": 0.0}


@dataclass(frozen=True)
class Reader:
    """How one table is read: the layout's roles bound to the table's columns."""

    kind: str
    names: Mapping[str, tuple[str, ...]]  # role -> the columns it may stand in
    classes: tuple[str, ...]  # names of the label's whole numbers

    @property
    def columns(self) -> tuple[str, ...]:
        """Every column that is looked at, beside the numbered negatives."""
        return tuple({name: None for names in self.names.values() for name in names})

    def value(self, row: Row, role: str) -> Any:
        """What a row holds in a role; None if nothing."""
        for name in self.names.get(role, ()):
            value = row.get(name)
            if value is not None:
                return value
        return None

    def name(self, row: Row, role: str) -> str:
        """The column of a role, for messages: the one that is there, else the first that could be."""
        names = self.names[role]
        return next((name for name in names if row.get(name) is not None), (*names, role)[0])

    def text(self, row: Row, role: str) -> str:
        """The text in a role. Raises BadLine if it is missing, no text, or `is_blank`."""
        value = self.value(row, role)
        if not isinstance(value, str) or is_blank(value):
            raise BadLine(f"`{self.name(row, role)}` must be a text that is not empty", f", not {shown(value)}")
        return value

    def number(self, row: Row, role: str) -> float:
        """The finite number in a role, from a text too. Raises BadLine if it is none."""
        value = self.value(row, role)
        if isinstance(value, str) and NUMBER.fullmatch(value.strip()):
            value = float(value)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) < 1e300:
            raise BadLine(f"`{self.name(row, role)}` must be a number", f", not {shown(value)}")
        return float(value)

    def key(self, row: Row, role: str = "id") -> str:
        """The id in a role, as text; "" if there is none."""
        value = self.value(row, role)
        if isinstance(value, (str, int)) and not isinstance(value, bool) and str(value).strip():
            return str(value)
        return ""

    def needed_key(self, row: Row, role: str) -> str:
        """The id in a role. Raises BadLine if there is none."""
        key = self.key(row, role)
        if not key:
            raise BadLine(f"needs an id under {' or '.join(f'`{name}`' for name in self.names[role])}")
        return key

    def optional(self, row: Row, role: str) -> str:
        """The text in a role that may be left out; "" for anything else."""
        value = self.value(row, role)
        return value if isinstance(value, str) else ""


def is_blank(text: str) -> bool:
    """Whether nothing of a text is seen: it is white space, or characters that have no width."""
    return VISIBLE.search(text) is None and not fold(text)


def shown(value: object) -> str:
    """A value as a message shows it."""
    return f"{value!r:.60}"


def reader_of(layout: Layout, mapping: Mapping[str, str], classes: Mapping[str, tuple[str, ...]]) -> Reader:
    """The roles of a layout bound to columns, the user's mapping first."""
    taken = set(mapping.values())  # a column that the user gave a role is nothing else by its name
    names = {
        role: (mapping[role],) if role in mapping else tuple(name for name in found if name not in taken)
        for role, found in layout.roles.items()
    }
    named = next((classes[column] for column in names.get("label", ()) if column in classes), ())
    return Reader(layout.kind, names, named)


@dataclass(frozen=True, slots=True)
class Text:
    """A passage as it will be stored: `text` is what is embedded, the title its first line."""

    text: str
    title: str = ""
    external_id: str = ""


def passage_of(title: str, body: str, external_id: str = "") -> Text:
    """A passage of a title (or none) and a body."""
    if not title:
        return Text(body, "", external_id)
    title = " ".join(title.split())
    return Text(f"{title}\n{body}" if title else body, title, external_id)


@dataclass(frozen=True, slots=True)
class Tuple:
    """A query with its passages."""

    query: str
    positives: tuple[Text, ...]
    negatives: tuple[Text, ...]
    num_contradictory: int  # negatives that were among the positives, and are left out
    has_more: bool = False  # of a conversation: it goes on after what was read


def tuple_of(reader: Reader, row: Row) -> Tuple:
    """A row of the layouts whose positives and negatives stand beside the query. Raises BadLine."""
    query = reader.text(row, "query")
    positives = {each.text: each for each in texts_of(reader, row, "positive", reader.value(row, "positive"))}
    if not positives:
        raise BadLine(f"`{reader.name(row, 'positive')}` holds no passage")
    found: dict[str, Text] = {}
    for role, value in _negatives(reader, row):
        if value is not None and value != "":  # as a table leaves a cell empty
            found |= {each.text: each for each in texts_of(reader, row, role, value)}
    negatives = tuple(each for text, each in found.items() if text not in positives)
    return Tuple(query, tuple(positives.values()), negatives, len(found) - len(negatives))


def is_judged_zero(row: Row) -> bool:
    """Whether a label or score beside a pair is 0, or false: it may say that the pair does not match."""
    return any(name in row and _is_zero(row[name]) for name in JUDGED)


def _is_zero(value: object) -> bool:
    if isinstance(value, str):
        text = value.strip()
        return text.casefold() == "false" or (NUMBER.fullmatch(text) is not None and float(text) == 0)
    return isinstance(value, (bool, int, float)) and value == 0


def _negatives(reader: Reader, row: Row) -> Iterator[tuple[str, object]]:
    yield "negative", reader.value(row, "negative")
    for name in row:
        if name.startswith("negative_") and NUMBERED.fullmatch(name):
            yield name, row[name]


def texts_of(reader: Reader, row: Row, role: str, value: object) -> Iterator[Text]:
    """The passages in a role: a text, or a list of texts or of objects with a text. Raises BadLine."""
    for each in value if isinstance(value, list) else [value]:
        title, body, key = "", each, ""
        if isinstance(each, dict):  # Tevatron's passages, and the negatives of a release
            title, body = each.get("title") or "", each.get("text")
            key = str(each.get("docid") or "")
        if not isinstance(body, str) or is_blank(body) or not isinstance(title, str):
            name = reader.name(row, role) if role in reader.names else role
            raise BadLine(f"`{name}` must be texts that are not empty", f", not {shown(each)}")
        yield passage_of(title, body, key)


def score_of(reader: Reader, row: Row) -> float:
    """The score of a pair; a class of natural language inference becomes 1, 0.5 or 0. Raises BadLine."""
    if "label" not in reader.names:
        return reader.number(row, "score")
    label = class_of(reader, reader.value(row, "label"), tuple(INFERENCE))
    if label.casefold() not in INFERENCE:
        raise BadLine(f"`{reader.name(row, 'label')}` must be one of {', '.join(INFERENCE)}", f", not {shown(label)}")
    return INFERENCE[label.casefold()]


def label_of(reader: Reader, row: Row) -> str:
    """The class of a text: a name, or a whole number, which its data set may name. Raises BadLine."""
    value = reader.value(row, "label")
    return class_of(reader, value, ()) if type(value) is int else reader.text(row, "label")


def class_of(reader: Reader, value: object, default: tuple[str, ...]) -> str:
    """The name of a class; of a whole number that of its data set, else the default. Raises BadLine if it has none."""
    names = reader.classes or default
    number = int(value) if isinstance(value, str) and default and re.fullmatch(r"-?\d{1,9}", value) else value
    if type(number) is int and names:
        if not 0 <= number < len(names):
            raise BadLine(f"a class that is none of the {len(names)} that are named", f": {number}")
        return names[number]
    return str(value)


def row_text(row: Row) -> str:
    """A row as one line, for reports."""
    return json.dumps(row, ensure_ascii=False, default=str)
