"""What a reviewer chose for themselves: by name, of each the latest."""

import json
from typing import Any

from synth.store.connection import Store
from synth.store.rows import first, insert, now


def reviewer_setting(store: Store, reviewer: str, name: str) -> Any:
    """What a reviewer set last under a name, as JSON's values; None if nothing."""
    with store.read() as cursor:
        row = first(
            cursor.execute(
                "SELECT value::VARCHAR FROM reviewer_setting WHERE reviewer = ? AND name = ?"
                " ORDER BY created_at DESC LIMIT 1",
                [reviewer, name],
            )
        )
    return json.loads(row[0]) if row and row[0] else None


def set_reviewer_setting(store: Store, reviewer: str, name: str, value: Any) -> None:
    """Keep what a reviewer chose; what they chose before stays in the table."""
    with store.write() as cursor:
        row = {"reviewer": reviewer, "name": name, "value": json.dumps(value), "created_at": now()}
        insert(cursor, "reviewer_setting", [row])
