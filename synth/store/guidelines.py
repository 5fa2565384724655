"""What reviewers are told to go by, with its settings: versions, of which the highest number is in force."""

import json
from dataclasses import asdict, dataclass, fields, replace
from datetime import datetime
from typing import Any

import duckdb

from synth.records import UserError
from synth.store.connection import Store
from synth.store.roles import Role, role_of
from synth.store.rows import first, insert, now

MOST_OVERLAPPING = 1_000_000
LONGEST_TEXT = 20_000  # characters; what the app draws of a text


@dataclass(frozen=True, slots=True)
class ReviewSettings:
    """
    How many opinions are wanted and what is mixed into a queue; shares are from 0 to 1.

    Attributes:
        overlap_first: of each task so many samples, those that people judged first, get a second opinion.
        overlap_share: of all others such a share does, chosen by the sample's id, and those that triage finds very
            suspicious.
        gold_share: of the cards that a reviewer is shown, samples whose verdict is known.
        repeat_share: of these cards, samples that the same reviewer judged before.
    """

    overlap_first: int = 100
    overlap_share: float = 0.1
    gold_share: float = 0.05
    repeat_share: float = 0.02

    def as_json(self) -> str:
        """As the table `guideline` holds it."""
        return json.dumps(asdict(self))


@dataclass(frozen=True, slots=True)
class Guideline:
    """One version of what reviewers are told; `number` counts from 1."""

    number: int
    text: str
    settings: ReviewSettings
    author: str
    created_at: datetime


def settings_in_force(cursor: duckdb.DuckDBPyConnection) -> ReviewSettings:
    """The settings of the latest guideline; what it does not name, or names otherwise, is as it is without one."""
    row = first(cursor.execute("SELECT settings::VARCHAR FROM guideline ORDER BY number DESC, created_at DESC LIMIT 1"))
    return _settings(row[0] if row else None)


def guidelines(store: Store) -> list[Guideline]:
    """Every version, the one in force first."""
    with store.read() as cursor:
        rows = cursor.execute(
            "SELECT number, text, settings::VARCHAR, author, created_at FROM guideline"
            " ORDER BY number DESC, created_at DESC"
        ).fetchall()
    return [Guideline(row[0], row[1], _settings(row[2]), row[3], row[4]) for row in rows]


def add_guideline(store: Store, *, author: str, text: str, settings: ReviewSettings, after: int) -> int:
    """
    Put a new version in force; returns its number. `after` is the number of the one that its author had before them,
    0 for none.

    Raises UserError, storing nothing, if the author is no admin, somebody else wrote a version meanwhile, nothing was
    changed, or the text or a setting cannot be one.
    """
    _refuse_unfit(text, settings)
    with store.write() as cursor:
        if role_of(cursor, author) is not Role.ADMIN:
            raise UserError(f"{author} is no admin, and admins alone write the guideline; ask one")
        row = first(cursor.execute("SELECT number, text FROM guideline ORDER BY number DESC, created_at DESC LIMIT 1"))
        number, said = row or (0, "")
        if number != after:
            raise UserError(f"version {number} came meanwhile; read it first, then write yours after it")
        if number and said == text and settings_in_force(cursor) == settings:
            raise UserError(f"version {number} says the same already")
        fresh = {"number": number + 1, "text": text, "settings": settings.as_json(), "author": author}
        insert(cursor, "guideline", [fresh | {"created_at": now()}])
    return int(number) + 1


def _refuse_unfit(text: str, settings: ReviewSettings) -> None:
    if not text.strip():
        raise UserError("the guideline is empty; write what reviewers shall go by")
    if len(text) > LONGEST_TEXT:
        raise UserError(f"the guideline has {len(text):,} characters; {LONGEST_TEXT:,} at most")
    if text.encode(errors="replace").decode() != text or "\0" in text:
        raise UserError("the guideline holds something that is no Unicode text")
    for name, value in asdict(settings).items():
        if not _fits(name, value):
            wanted = f"from 0 to {MOST_OVERLAPPING:,}" if name == "overlap_first" else "a share from 0 to 1"
            raise UserError(f"{name} is {value!r:.40}; it is {wanted}")


def _settings(stored: str | None) -> ReviewSettings:
    found: Any = json.loads(stored) if stored else {}
    given = {name: value for name, value in (found.items() if isinstance(found, dict) else ()) if _fits(name, value)}
    return replace(ReviewSettings(), **given)


def _fits(name: str, value: object) -> bool:
    if name == "overlap_first":
        return type(value) is int and 0 <= value <= MOST_OVERLAPPING
    is_share = name in {each.name for each in fields(ReviewSettings)}
    return is_share and type(value) in (int, float) and 0 <= value <= 1  # type: ignore[operator]  # NaN is not
