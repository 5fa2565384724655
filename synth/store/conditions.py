"""
Conditions in SQL that people give: which samples a command is about.

A condition is a person's text, so it runs where `synth sql` runs: in a process of its own, which can only read the
store. It must be one expression; that it cannot leave the parentheses it is put into is decided by DuckDB's own
tokens, in which comments, quotes and `$$` are no riddle.
"""

from typing import TYPE_CHECKING

import duckdb

from synth.records import UserError
from synth.store.connection import Store
from synth.store.console import query_apart

if TYPE_CHECKING:
    import pyarrow

TIMEOUT = 600.0  # seconds


def matching_samples(store: Store, condition: str) -> "pyarrow.Table":
    """
    The samples for which a condition over the view `samples` holds: columns sample_id and revision_id, UUIDs as text.

    Raises UserError if it is no single expression, does not run, or could reach outside; StoreError if it takes too
    long.
    """
    _refuse_unless_enclosed(condition)
    ids = "sample_id::VARCHAR AS sample_id, revision_id::VARCHAR AS revision_id"
    return query_apart(store, f"SELECT {ids} FROM samples WHERE (\n{condition}\n)", timeout=TIMEOUT)


def _refuse_unless_enclosed(condition: str) -> None:
    if "\0" in condition or not _is_enclosed(condition):
        raise UserError(
            f"the condition {condition!r:.100} is not one SQL expression; give what stands after WHERE, "
            "for example \"source = 'squad-en' AND hardness > -0.1\""
        )


def _is_enclosed(condition: str) -> bool:
    """Whether there is something, no statement ends in it, and every parenthesis closes one that it opened."""
    text = condition.encode()
    tokens = [(start, kind) for start, kind in duckdb.tokenize(condition) if kind != duckdb.token_type.comment]
    depth = 0
    for start, kind in tokens:  # offsets are of bytes
        sign = text[start : start + 1] if kind == duckdb.token_type.operator else b""
        depth += (sign == b"(") - (sign == b")")
        if depth < 0 or sign == b";":
            return False
    return bool(tokens) and depth == 0
