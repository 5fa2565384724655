"""Calls: every reply of an LLM that was paid for, beside what was made of it."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from uuid import UUID

import duckdb

from synth.store.connection import Store
from synth.store.failures import one_line
from synth.store.rows import batch, now


@dataclass(frozen=True, slots=True)
class Call:
    """
    One reply that was paid for. `call_id` is made of the request, so that the same reply, read again after a crash, is
    the same call. `asked` is the model as it is configured, at the address `server`; `model` is as the server names it.

    `outcome` is `used` (samples were made of it), `rejected` (whatever it offered failed a check), `unusable` (not what
    was asked for), `cut` (at max_tokens), `withheld` (by a content filter), `empty`, or `probe` (asked to find out
    whether the server serves at all); `reason` says why it was not used. `repaired` says how JSON was found in a reply
    that is not strict JSON: `found`, `cut` or `asked again`. `batch` is the id in the Batch API of a reply that was
    not asked for online. `cost` is in US dollars, None where no price is stated; `seconds` is from sending to having
    the whole reply, None where nobody measured.
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
    server: str
    asked: str
    reason: str = ""
    repaired: str = ""
    batch: str = ""


def add_calls(cursor: duckdb.DuckDBPyConnection, calls: Sequence[Call], run_id: UUID) -> int:
    """Store calls, each once however often its reply is read. Returns how many are new."""
    created_at = now()
    rows = [
        asdict(call)
        | {
            "sampling": json.dumps(call.sampling, sort_keys=True),
            "reason": one_line(call.reason),
            "run_id": run_id,
            "created_at": created_at,
        }
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


@dataclass(frozen=True, slots=True)
class Paid:
    """What a reply about a seed took."""

    seed_id: UUID
    tokens_in: int
    tokens_out: int


def paid_calls(store: Store, models: Sequence[str], prompt_version: str, *, num_queries: int, limit: int) -> list[Paid]:
    """
    The latest calls of these models (as configured) with a prompt of this version that asked for so many queries,
    newest first. A second request, which shows the LLM its first reply, is none of them.
    """
    with store.read() as cursor:
        rows = cursor.execute(
            "SELECT c.seed_id, c.tokens_in, c.tokens_out FROM llm_call c JOIN run r USING (run_id)"
            " WHERE coalesce(c.asked, c.model) IN (SELECT unnest($models)) AND c.prompt_version = $version"
            " AND c.seed_id IS NOT NULL AND coalesce(c.repaired, '') <> 'asked again'"
            " AND json_extract_string(r.config, '$.num_queries') = $num_queries"
            " ORDER BY c.created_at DESC, c.call_id LIMIT $limit",
            {
                "models": list(models),
                "version": prompt_version,
                "num_queries": str(num_queries),
                "limit": limit,
            },
        ).fetchall()
    return [Paid(*row) for row in rows]
