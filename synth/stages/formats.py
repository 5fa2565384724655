"""
The columns that `synth ingest` knows: a dict of layouts, and which of them a table has.

Every layout is read from every kind of file. docs/formats.md shows a line of each.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from synth.records import UserError

IDS = ("id", "_id", "query_id", "query-id", "qid", "pair_id", "doc_id", "docid")
COMMON = {"instruction": ("instruction",), "split": ("split",), "id": IDS}  # what every layout may have
# A row with one of these and no negative may be a pair that does not match: of the `PAIRED` only if the user says so.
JUDGED = ("label", "labels", "score", "scores", "similarity_score")
NUMBERED = re.compile(r"negative_\d{1,6}")
PAIRED = ("tuples", "reading", "titled")
REMEDY = "; say which is which with --map ROLE=COLUMN"


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
    "reading": Layout(
        "retrieval", {"context": ("context",), "query": ("question", "query"), "positive": ("answers", "answer")}
    ),
    "claims": Layout(
        "retrieval",
        {
            "query": ("claim",),
            "positive": ("evidence", "evidence_text"),
            "label": ("label", "evidence_label", "verdict"),
        },
    ),
    "chat": Layout("retrieval", {"messages": ("messages", "conversations", "conversation")}),
    "tuples": Layout(
        "retrieval",
        {
            "query": ("query", "anchor", "question"),
            "positive": ("positive", "positives", "answer", "answers", "response", "passage"),
        },
        {"negative": ("negative", "negatives")},
    ),
    "inference": Layout(
        "pairs", {"text1": ("premise",), "text2": ("hypothesis",), "label": ("label", "labels", "gold_label")}
    ),
    "pairs": Layout("pairs", {**PAIR, "score": ("score", "scores", "similarity_score", "label", "labels")}),
    "labelled": Layout("labelled", {"text": ("text", "sentence"), "label": ("label", "labels", "label_text")}),
    "documents": Layout("documents", {"text": ("text",)}, {"title": ("title",), "path": ("path",)}),
    "titled": Layout(
        "retrieval",
        {
            "query": ("title", "headline"),
            "positive": ("abstract", "abst", "body", "content", "article", "text"),
        },
    ),
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
    for name in ("tuples", "titled"):
        if _has_needed(LAYOUTS[name], columns, mapping):
            raise _undecided(path, name, columns, mapping)
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
    if name in PAIRED and name != wanted and not mapping.keys() >= layout.needs.keys() and set(JUDGED) & set(columns):
        negatives = {"negative", "negatives", *mapping.values()} & set(columns) or any(map(NUMBERED.fullmatch, columns))
        if not negatives:
            return False
    return _has_needed(layout, columns, mapping)


def _has_needed(layout: Layout, columns: tuple[str, ...], mapping: Mapping[str, str]) -> bool:
    return mapping.keys() <= layout.roles.keys() and all(
        role in mapping or any(column in columns for column in names) for role, names in layout.needs.items()
    )


def _undecided(path: str, name: str, columns: tuple[str, ...], mapping: Mapping[str, str]) -> UserError:
    """A query and a positive with a judgement beside them: what is in the way, and both ways out."""
    names = LAYOUTS[name].needs
    query, positive = (mapping.get(role) or next(name for name in names[role] if name in columns) for role in names)
    judged = next(name for name in JUDGED if name in columns)
    because = f"{path}: its columns are {_listed(columns)}; because of `{judged}`"
    if name == "titled":
        return UserError(
            f"{because} its texts may have a class: for texts with a class say --format labelled --map text={positive},"
            f" for titles as queries of their texts --format titled"
        )
    return UserError(
        f"{because} a row may be a pair that does not match: for pairs that all match say --format tuples, for scored"
        f" pairs --format pairs --map text1={query} --map text2={positive}"
    )
