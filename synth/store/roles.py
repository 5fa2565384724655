"""Who may settle what others disagree on, and who may change the guideline."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

import duckdb

from synth.records import UserError
from synth.store.connection import Store
from synth.store.rows import first, insert, now

LONGEST_NAME = 100  # characters, as of a reviewer of an event


class Role(StrEnum):
    """What somebody may do beside reviewing: nothing, settle disagreements, or that and all the rest."""

    REVIEWER = "reviewer"
    ADJUDICATOR = "adjudicator"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody who gave verdicts or was granted a role; `granted_by` and `since` are of that role, if any."""

    reviewer: str
    role: Role
    num_verdicts: int
    granted_by: str | None
    since: datetime | None


def role_of(cursor: duckdb.DuckDBPyConnection, reviewer: str) -> Role:
    """A reviewer's role: what was granted last, else `reviewer`; while nobody has one, everybody is an admin."""
    row = first(
        cursor.execute("SELECT arg_max(r.role, r.created_at) FILTER (r.reviewer = ?), count(*) FROM role r", [reviewer])
    )
    granted, num_granted = row or (None, 0)
    if not num_granted:
        return Role.ADMIN
    return Role(granted) if granted in set(Role) else Role.REVIEWER


def people(store: Store) -> list[Person]:
    """Everybody who gave a verdict on a sample or has a role, admins first."""
    with store.read() as cursor:
        rows = cursor.execute(
            "SELECT reviewer, coalesce(v.num, 0), r.role, r.granted_by, r.created_at FROM ("
            " SELECT reviewer, count(*) AS num FROM reviews WHERE reviewer_kind = 'human' AND negative_id IS NULL"
            " AND NOT is_undo AND NOT is_undone GROUP BY reviewer"
            ") v FULL JOIN roles r USING (reviewer) ORDER BY reviewer"
        ).fetchall()
    nobody_has_one = all(role is None for _, _, role, _, _ in rows)
    of_others = Role.ADMIN if nobody_has_one else Role.REVIEWER
    found = [
        Person(reviewer, Role(role) if role in set(Role) else of_others, num, granted_by, since)
        for reviewer, num, role, granted_by, since in rows
    ]
    return sorted(found, key=lambda each: [*Role].index(each.role), reverse=True)


def grant_role(store: Store, *, granted_by: str, reviewer: str, role: Role) -> None:
    """
    Give somebody a role, instead of the one they have.

    Raises UserError, storing nothing, if whoever grants it is no admin, the name is none, or no admin would be left.
    """
    if not reviewer.strip() or not reviewer.isprintable() or len(reviewer) > LONGEST_NAME:
        raise UserError(f"{reviewer!r:.120} is no name; a reviewer has one of one line")
    with store.write() as cursor:
        if role_of(cursor, granted_by) is not Role.ADMIN:
            raise UserError(f"{granted_by} is no admin, and admins alone grant roles; ask one")
        others = cursor.execute(
            "SELECT count(*) FROM (SELECT r.reviewer, arg_max(r.role, r.created_at) AS role FROM role r GROUP BY ALL)"
            " WHERE role = 'admin' AND reviewer <> ?",
            [reviewer],
        )
        [num_other_admins] = first(others) or (0,)
        if role is not Role.ADMIN and not num_other_admins:
            raise UserError("nobody would be an admin; make somebody one first (yourself, perhaps)")
        fresh = {"reviewer": reviewer, "role": role.value, "granted_by": granted_by, "created_at": now()}
        insert(cursor, "role", [fresh])
