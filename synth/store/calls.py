"""Calls: every reply of an LLM that was paid for, beside what was made of it."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from uuid import UUID

import duckdb

from synth.store.rows import batch, now


@dataclass(frozen=True, slots=True)
class Call:
    """
    One reply that was paid for. `call_id` is made of the request, so that the same reply, read again after a crash, is
    the same call.

    `outcome` is `used` (samples were made of it), `rejected` (whatever it offered failed a check), `unusable` (not what
    was asked for), `cut` (at max_tokens), `withheld` (by a content filter), `empty`, or `probe` (asked to find out
    whether the server serves at all). `cost` is in US dollars, None where no price is stated; `seconds` is from sending
    to having the whole reply, None where nobody measured.
    """

    call_id: UUID
    seed_id: UUID | None
    model: str
    prompt_version: str
    sampling: Mapping[str, float | int | str]
    attempt: int
    outcome: str
    tokens_in: int
    tokens_out: int
    cost: float | None
    seconds: float | None


def add_calls(cursor: duckdb.DuckDBPyConnection, calls: Sequence[Call], run_id: UUID) -> int:
    """Store calls, each once however often its reply is read. Returns how many are new."""
    created_at = now()
    rows = [
        asdict(call)
        | {"sampling": json.dumps(call.sampling, sort_keys=True), "run_id": run_id, "created_at": created_at}
        for call in {call.call_id: call for call in calls}.values()
    ]
    if not rows:
        return 0
    with batch(cursor, rows):
        added = cursor.execute(
            "INSERT INTO llm_call BY NAME SELECT * FROM batch b"
            " WHERE NOT EXISTS (SELECT 1 FROM llm_call c WHERE c.call_id = b.call_id::UUID)"
        ).fetchall()
    return int(added[0][0])
