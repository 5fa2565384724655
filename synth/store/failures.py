"""Failures: requests to an LLM that got no reply, so that people see why, and a later run knows what to ask again."""

import re
from collections.abc import Collection, Sequence, Set
from dataclasses import asdict, dataclass
from uuid import UUID

import duckdb

from synth.records import FailureKind, new_id
from synth.store.connection import Store
from synth.store.rows import insert, now

LONGEST_REASON = 300  # characters
_USER = re.compile(r"(?<=://)[^\s/?#]*@")  # of an address, and the password


def one_line(reason: str) -> str:
    """
    A reason as it is stored: one printable line, cut to LONGEST_REASON, addresses without user and password. What a
    server says may be anything.
    """
    line = _USER.sub("", " ".join(reason[: 4 * LONGEST_REASON].split()))
    shown = "".join(char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in line)
    return shown if len(shown) <= LONGEST_REASON else f"{shown[: LONGEST_REASON - 1]}…"


@dataclass(frozen=True, slots=True)
class Failure:
    """
    A request that got no usable reply. `asked` is the model as it is configured, at the address `server`; `request_key`
    is what the reply's call_id is, or would have been. `reason` is what the server said.

    `permanent`: the same request would fail again. `attempt` is the number that the request was made with, which tells
    apart requests that are otherwise the same; `attempts` is how often it was sent now, 0 where the journal
    had its reply, or an earlier run had learnt that none comes.
    """

    stage_key: UUID
    seed_id: UUID
    request_key: UUID
    asked: str
    server: str
    prompt_version: str
    attempt: int
    kind: FailureKind
    reason: str
    permanent: bool
    attempts: int


def add_failures(cursor: duckdb.DuckDBPyConnection, failures: Sequence[Failure], run_id: UUID) -> None:
    """Store failures of a run, each with its reason as one printable line."""
    created_at = now()
    rows = [
        asdict(failure)
        | {
            "failure_id": new_id(),
            "run_id": run_id,
            "reason": one_line(failure.reason),
            "created_at": created_at,
        }
        for failure in failures
    ]
    insert(cursor, "llm_failure", rows)


def hopeless(store: Store, stage_key: UUID) -> dict[UUID, tuple[FailureKind, str]]:
    """
    The requests of a configuration that would fail again as they are, by their keys, with the kind and the reason of
    their latest failure. Whatever changes a request (max_tokens, a corrected passage) makes it another one.
    """
    with store.read() as cursor:
        rows = cursor.execute(
            "SELECT request_key, arg_max(kind, created_at), arg_max(reason, created_at) FROM llm_failure"
            " WHERE stage_key = ? AND permanent GROUP BY request_key",
            [stage_key],
        ).fetchall()
    return {key: (kind, reason) for key, kind, reason in rows}


def left_for_good(store: Store, stage_key: UUID) -> set[UUID]:
    """The seeds of a configuration of which a request, if only a later one, would fail again as it is."""
    with store.read() as cursor:
        rows = cursor.execute(
            "SELECT DISTINCT seed_id FROM llm_failure WHERE stage_key = ? AND permanent", [stage_key]
        ).fetchall()
    return {seed_id for (seed_id,) in rows}


def only_for(kinds: Set[str]) -> str:
    """
    The value of `--only` with which `synth runs retry` asks again for all of these kinds: `failed` is those that no
    reply with anything in it came for.
    """
    replied = kinds & {"cut", "unusable"}
    if not replied:
        return "failed"
    return "all" if len(kinds) > 1 else min(replied)


def left(store: Store, run_id: UUID) -> dict[str, int]:
    """How many seeds failed in a run and are not finished since, by kind, the most frequent first."""
    with store.read() as cursor:
        rows = cursor.execute(
            "SELECT kind, count(DISTINCT seed_id) AS seeds FROM failures WHERE run_id = ? AND NOT is_finished"
            " GROUP BY kind ORDER BY seeds DESC, kind",
            [run_id],
        ).fetchall()
    return dict(rows)


def to_ask_again(store: Store, run_id: UUID, kinds: Collection[str] = ()) -> dict[UUID, int]:
    """
    The seeds that failed in a run (in one of these ways, if any is named) and are not finished since, ordered by id:
    each with the number of the attempt to make, a new one where the same request would fail again.
    """
    with store.read() as cursor:
        rows = cursor.execute(
            "WITH left_over AS (SELECT f.stage_key, f.seed_id FROM llm_failure f"
            " ANTI JOIN generated g ON g.stage_key = f.stage_key AND g.seed_id = f.seed_id"
            " WHERE f.run_id = $run AND (len($kinds) = 0 OR f.kind IN (SELECT unnest($kinds))))"
            " SELECT seed_id, max(attempt + permanent::INTEGER) FROM llm_failure"
            " SEMI JOIN left_over USING (stage_key, seed_id) GROUP BY seed_id ORDER BY seed_id",
            {"run": run_id, "kinds": list(kinds)},
        ).fetchall()
    return dict(rows)
