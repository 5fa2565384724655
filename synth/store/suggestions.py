"""What follows from what judges said: suggestions, for reviewers to see and releases to require."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from uuid import UUID

import duckdb

from synth.store.connection import Store

# What the view `suggestions` is made of: tables, and views in this order.
WITH_SAMPLES = ("judgement", "sample_state", "revision", "negative", "review")
SUGGESTING = ("judgements", "reviews", "negative_verdicts", "suggestions")


@dataclass(frozen=True, slots=True)
class Suggestion:
    """What follows from a judgement of a passage of a sample; docs/judge.md names the kinds."""

    suggestion: str
    text_id: UUID
    judge: str
    grade: int
    reason: str
    relevance: float | None


def suggestion_counts(store: Store, names: Sequence[str]) -> dict[str, int]:
    """How many of these judges' suggestions there are, by kind, but for those that a person overruled."""
    with store.read() as cursor:
        rows = cursor.execute(
            "SELECT suggestion, count(*) FROM suggestions WHERE judge IN (SELECT unnest($names)) AND NOT is_overruled"
            " GROUP BY 1 ORDER BY 1",
            {"names": list(names)},
        ).fetchall()
    return dict(rows)


def suggestions_of(store: Store, sample_ids: Sequence[UUID]) -> dict[UUID, list[Suggestion]]:
    """What judges suggest about the latest revisions of these samples, by revision, judges by name."""
    with store.read() as cursor:
        return suggestions_among(cursor, sample_ids)


def suggestions_among(cursor: duckdb.DuckDBPyConnection, sample_ids: Sequence[UUID]) -> dict[UUID, list[Suggestion]]:
    """As `suggestions_of`, for who holds the store already."""
    asked = {"ids": [str(each) for each in sample_ids]}
    judged = "SELECT 1 FROM judgement WHERE sample_id IN (SELECT unnest($ids::UUID[])) LIMIT 1"
    if not cursor.execute(judged, asked).fetchall():  # planning the query below takes a tenth of a second
        return {}
    rows = cursor.execute(
        f"{_suggestions_within()} SELECT revision_id, suggestion, text_id, judge, grade, reason, relevance"
        " FROM suggestions ORDER BY judge, text_id",
        asked,
    ).fetchall()
    found: dict[UUID, list[Suggestion]] = {}
    for revision_id, *fields in rows:
        found.setdefault(revision_id, []).append(Suggestion(*fields))
    return found


@cache
def _suggestions_within() -> str:
    """
    The view `suggestions` over the samples in $ids alone: a condition on the view reaches no table before everything is
    grouped, which at a million judgements takes a second, and a card has to be there at once.
    """
    views = files("synth.store").joinpath("views.sql").read_text(encoding="utf-8")
    body = dict(re.findall(r"^CREATE OR REPLACE VIEW (\w+) AS\n(.*?);$", views, re.MULTILINE | re.DOTALL))
    ids = "(SELECT unnest($ids::UUID[]))"
    narrow = [f"{table} AS (SELECT * FROM store.{table} WHERE sample_id IN {ids})" for table in WITH_SAMPLES]
    return "WITH " + ", ".join([*narrow, *(f"{view} AS ({body[view]})" for view in SUGGESTING)])
