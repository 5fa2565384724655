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
    not asked for online. `turn` is how many requests about the seed went before in the run, because too little of what
    they brought was accepted. `cost` is in US dollars, None where no price is stated; `seconds` is from sending to
    having the whole reply, None where nobody measured.
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
    turn: int = 0


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
    """
    What it took to ask about a seed once; of one that is done, how many times as much all requests about it took, and
    how many they were.
    """

    seed_id: UUID
    tokens_in: int
    tokens_out: int
    times: float | None
    num_requests: int | None


def paid_calls(store: Store, models: Sequence[str], prompt_version: str, *, per_seed: int, limit: int) -> list[Paid]:
    """
    The seeds that these models (as configured) were asked about last, with a prompt of this version that asked for so
    much, newest first.
    """
    with store.read() as cursor:
        rows = cursor.execute(
            "WITH call AS (SELECT c.*,"
            " coalesce(c.turn, 0) = 0 AND coalesce(c.repaired, '') <> 'asked again' AS is_first"
            " FROM llm_call c JOIN run r USING (run_id)"
            " WHERE coalesce(c.asked, c.model) IN (SELECT unnest($models)) AND c.prompt_version = $version"
            " AND c.seed_id IS NOT NULL AND json_extract_string(r.config, '$.per_seed') = $per_seed)"
            ", asked AS (SELECT seed_id, count(DISTINCT run_id) FILTER (is_first) AS often,"
            " max(created_at) FILTER (is_first) AS latest,"
            " sum(tokens_in) FILTER (is_first) AS first_in, sum(tokens_out) FILTER (is_first) AS first_out,"
            " sum(tokens_in + tokens_out) AS tokens, count(*) AS requests FROM call GROUP BY seed_id),"
            " done AS (SELECT DISTINCT seed_id FROM generated)"
            " SELECT a.seed_id, (first_in / often)::BIGINT, (first_out / often)::BIGINT,"
            " CASE WHEN d.seed_id IS NOT NULL THEN coalesce(tokens / nullif(first_in + first_out, 0), 1.0) END,"
            " CASE WHEN d.seed_id IS NOT NULL THEN (requests / often)::BIGINT END"
            " FROM asked a LEFT JOIN done d ON d.seed_id = a.seed_id WHERE often > 0"
            " ORDER BY latest DESC, a.seed_id LIMIT $limit",
            {
                "models": list(models),
                "version": prompt_version,
                "per_seed": str(per_seed),
                "limit": limit,
            },
        ).fetchall()
    return [Paid(*row) for row in rows]
