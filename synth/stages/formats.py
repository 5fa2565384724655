"""
The columns that `synth ingest` knows, and what a row of each becomes: a dict of layouts, and pure functions.

Every layout is read from every kind of file. docs/formats.md shows a line of each.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from synth.overlaps import fold
from synth.records import UserError
from synth.stages.lines import BadLine, Row

IDS = ("id", "_id", "query_id", "query-id", "qid", "pair_id", "doc_id", "docid")
COMMON = {"instruction": ("instruction",), "split": ("split",), "id": IDS}  # what every layout may have
# A row with one of these and no negative may be a pair that does not match: no triplet unless the user says so.
JUDGED = ("label", "labels", "score", "scores", "similarity_score")
NUMBERED = re.compile(r"negative_\d{1,6}")
NUMBER = re.compile(r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]{1,3})?")
VISIBLE = re.compile(r"[!-~\u3041-\u3096\u4e00-\u9fff]")  # some characters that are: most texts have one
REMEDY = "; say which is which with --map ROLE=COLUMN"
# The scores that the data set all-nli of sentence-transformers gives to the classes of natural language inference.
INFERENCE = {"entailment": 1.0, "neutral": 0.5, "contradiction": 0.0}


@dataclass(frozen=True)
class Layout:
    """The columns of a data set: what each row must have and may have; role -> names of its column, best first."""

    kind: str  # of the source that it becomes: retrieval, pairs, labelled or documents
    needs: Mapping[str, tuple[str, ...]]
    takes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def roles(self) -> dict[str, tuple[str, ...]]:
        """What a column of this layout can be."""
        own = {**self.needs, **self.takes}
        return own | {role: names for role, names in COMMON.items() if role not in own}


PAIR = {"text1": ("text1", "sentence1", "sentence_A"), "text2": ("text2", "sentence2", "sentence_B")}
LAYOUTS: dict[str, Layout] = {
    "tevatron": Layout(
        "retrieval",
        {"query": ("query",), "positive": ("positive_passages",)},
        {"negative": ("negative_passages",)},
    ),
    "flagembedding": Layout(
        "retrieval", {"query": ("query",), "positive": ("pos",)}, {"negative": ("neg",), "instruction": ("prompt",)}
    ),
    "tuples": Layout(
        "retrieval",
        {
            "query": ("query", "anchor", "question"),
            "positive": ("positive", "positives", "answer", "passage"),
        },
        {"negative": ("negative", "negatives")},
    ),
    "inference": Layout(
        "pairs", {"text1": ("premise",), "text2": ("hypothesis",), "label": ("label", "labels", "gold_label")}
    ),
    "pairs": Layout("pairs", {**PAIR, "score": ("score", "scores", "similarity_score", "label", "labels")}),
    "labelled": Layout("labelled", {"text": ("text", "sentence"), "label": ("label", "labels", "label_text")}),
    "documents": Layout("documents", {"text": ("text",)}, {"title": ("title",), "path": ("path",)}),
}
# What the tables of a BEIR folder hold; they are recognised by their files, not by their columns.
CORPUS = Layout("corpus", {"id": ("doc_id", "_id", "id", "docid"), "text": ("text",)}, {"title": ("title",)})
QUERIES = Layout("queries", {"id": ("query_id", "_id", "id"), "text": ("text", "query")})
JUDGEMENTS = Layout(
    "judgements",
    {"query": ("query_id", "query-id"), "passage": ("doc_id", "corpus-id", "docid")},
    {"score": ("score",)},
)
ROLES = tuple(dict.fromkeys(role for layout in LAYOUTS.values() for role in layout.roles))


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
        return next((name for name in names if row.get(name) is not None), names[0])

    def text(self, row: Row, role: str) -> str:
        """The text in a role. Raises BadLine if it is missing, no text, or `is_blank`."""
        value = self.value(row, role)
        if not isinstance(value, str) or is_blank(value):
            raise BadLine(f"`{self.name(row, role)}` must be a text that is not empty", f", not {_shown(value)}")
        return value

    def number(self, row: Row, role: str) -> float:
        """The finite number in a role, from a text too. Raises BadLine if it is none."""
        value = self.value(row, role)
        if isinstance(value, str) and NUMBER.fullmatch(value.strip()):
            value = float(value)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) < 1e300:
            raise BadLine(f"`{self.name(row, role)}` must be a number", f", not {_shown(value)}")
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


def _shown(value: object) -> str:
    return f"{value!r:.60}"


def parse_mapping(said: Sequence[str]) -> dict[str, str]:
    """ROLE=COLUMN each, as a dict. Raises UserError for anything else, and for a role that comes twice."""
    mapping: dict[str, str] = {}
    for each in said:
        role, equals, column = each.partition("=")
        if not (role and equals and column):
            raise UserError(f"--map {each:.60}: write ROLE=COLUMN, as in --map query=question")
        if role in mapping:
            raise UserError(f"--map {each:.60}: the role {role} has the column {mapping[role]} already")
        mapping[role] = column
    return mapping


def recognise(path: str, columns: tuple[str, ...], *, wanted: str, mapping: Mapping[str, str]) -> str:
    """
    The name of the layout that these columns have, the first if there are several.

    Args:
        wanted: the layout that the user named, "" for any.
        mapping: role -> column, as the user said.

    Raises UserError if it is none, or if the user named a role, column or layout that is not there.
    """
    _check_mapping(path, columns, mapping)
    if wanted and wanted not in LAYOUTS:
        raise UserError(f"{wanted!r:.60} is no layout of a table; they are {', '.join(LAYOUTS)}")
    # with a mapping of its own columns a table is nobody's but the user's
    names = ["tuples", *LAYOUTS] if "positive" in mapping else [*LAYOUTS]
    for name in names:
        if wanted in ("", name) and _fits(name, LAYOUTS[name], columns, mapping, wanted=wanted):
            return name
    if wanted:
        raise UserError(f"{path}: its columns are {_listed(columns)}; {wanted} needs {_needs(LAYOUTS[wanted])}{REMEDY}")
    if _has_needed(LAYOUTS["tuples"], columns, mapping):
        raise _undecided(path, columns, mapping)
    tried = "; ".join(f"{_needs(layout)} ({name})" for name, layout in LAYOUTS.items())
    raise UserError(f"{path}: its columns are {_listed(columns)}; a layout needs {tried}{REMEDY}")


def _check_mapping(path: str, columns: tuple[str, ...], mapping: Mapping[str, str]) -> None:
    """Raise UserError if a role is none, or a column is not there."""
    for role, column in mapping.items():
        if role not in ROLES:
            raise UserError(f"--map {role}={column}: {role!r:.60} is no role; the roles are {', '.join(ROLES)}")
        if column not in columns:
            raise UserError(f"{path}: there is no column {column!r:.60}; its columns are {_listed(columns)}")


def _listed(columns: tuple[str, ...]) -> str:
    return f"{', '.join(columns):.300}"


def _needs(layout: Layout) -> str:
    return ", ".join("/".join(names) for names in layout.needs.values())


def _fits(name: str, layout: Layout, columns: tuple[str, ...], mapping: Mapping[str, str], *, wanted: str) -> bool:
    if name == "tuples" and name != wanted and not mapping.keys() >= layout.needs.keys() and set(JUDGED) & set(columns):
        negatives = {"negative", "negatives", *mapping.values()} & set(columns) or any(map(NUMBERED.fullmatch, columns))
        if not negatives:
            return False
    return _has_needed(layout, columns, mapping)


def _has_needed(layout: Layout, columns: tuple[str, ...], mapping: Mapping[str, str]) -> bool:
    return mapping.keys() <= layout.roles.keys() and all(
        role in mapping or any(column in columns for column in names) for role, names in layout.needs.items()
    )


def _undecided(path: str, columns: tuple[str, ...], mapping: Mapping[str, str]) -> UserError:
    """A query and a positive with a judgement beside them: what is in the way, and both ways out."""
    names = LAYOUTS["tuples"].needs
    query, positive = (mapping.get(role) or next(name for name in names[role] if name in columns) for role in names)
    judged = next(name for name in JUDGED if name in columns)
    return UserError(
        f"{path}: its columns are {_listed(columns)}; because of `{judged}` a row may be a pair that does not match:"
        f" for pairs that all match say --format tuples, for scored pairs --format pairs --map text1={query} --map"
        f" text2={positive}"
    )


def reader_of(layout: Layout, mapping: Mapping[str, str], classes: Mapping[str, tuple[str, ...]]) -> Reader:
    """The roles of a layout bound to columns, the user's mapping first."""
    names = {role: (mapping[role],) if role in mapping else found for role, found in layout.roles.items()}
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


def tuple_of(reader: Reader, row: Row) -> Tuple:
    """A row of the layouts whose positives and negatives stand beside the query. Raises BadLine."""
    query = reader.text(row, "query")
    positives = {each.text: each for each in _texts(reader, row, "positive", reader.value(row, "positive"))}
    if not positives:
        raise BadLine(f"`{reader.name(row, 'positive')}` holds no passage")
    found: dict[str, Text] = {}
    for role, value in _negatives(reader, row):
        if value is not None and value != "":  # as a table leaves a cell empty
            found |= {each.text: each for each in _texts(reader, row, role, value)}
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


def _texts(reader: Reader, row: Row, role: str, value: object) -> Iterator[Text]:
    for each in value if isinstance(value, list) else [value]:
        title, body, key = "", each, ""
        if isinstance(each, dict):  # Tevatron's passages, and the negatives of a release
            title, body = each.get("title") or "", each.get("text")
            key = str(each.get("docid") or "")
        if not isinstance(body, str) or is_blank(body) or not isinstance(title, str):
            name = reader.name(row, role) if role in reader.names else role
            raise BadLine(f"`{name}` must be texts that are not empty", f", not {_shown(each)}")
        yield passage_of(title, body, key)


def score_of(reader: Reader, row: Row) -> float:
    """The score of a pair; a class of natural language inference becomes 1, 0.5 or 0. Raises BadLine."""
    if "label" not in reader.names:
        return reader.number(row, "score")
    label = _class_of(reader, reader.value(row, "label"), tuple(INFERENCE))
    if label.casefold() not in INFERENCE:
        raise BadLine(f"`{reader.name(row, 'label')}` must be one of {', '.join(INFERENCE)}", f", not {_shown(label)}")
    return INFERENCE[label.casefold()]


def label_of(reader: Reader, row: Row) -> str:
    """The class of a text: a name, or a whole number, which its data set may name. Raises BadLine."""
    value = reader.value(row, "label")
    return _class_of(reader, value, ()) if type(value) is int else reader.text(row, "label")


def _class_of(reader: Reader, value: object, default: tuple[str, ...]) -> str:
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
