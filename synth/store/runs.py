"""Runs: what was done, with its full configuration and its outcome."""

import asyncio
import json
import os
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from typing import Any, NamedTuple
from uuid import UUID

from synth.records import BudgetSpent, SkiffError, Stopped, StoreError, new_id
from synth.store.connection import Store
from synth.store.failures import one_line
from synth.store.rows import insert, now

KINDS = ("ingest", "generate", "relabel", "mine", "judge", "triage", "review", "check", "release", "train", "evaluate")
SPENT = ("tokens_in", "tokens_out", "cost", "requests", "lost_tokens", "lost_cost", "excess")


@dataclass
class Step:
    """A part of a run under way: what it did so many of, and on which device, in which precision, with which memory."""

    number: int | None = None
    detail: str = ""


@dataclass
class Run:
    """
    A run under way: stages add what they counted and spent; both are stored when it ends, however it ends. Its steps
    are stored as they end; those of a run that no store records (`store` is None), nowhere.

    `requests` counts what was sent to an LLM. Replies that never arrived may be charged all the same: `lost_tokens` and
    `lost_cost` are the most that they can have cost, and are in none of the other numbers. `excess`: how many times the
    most that was expected of it the worst request took. `is_recorded`: its end is stored.
    """

    run_id: UUID = field(default_factory=new_id)
    counts: dict[str, int] = field(default_factory=dict)
    tokens_in: int = 0
    tokens_out: int = 0
    cost: float | None = None  # US dollars; None where nothing is paid for, or no price is stated
    requests: int = 0
    lost_tokens: int = 0
    lost_cost: float | None = None
    excess: float = 1
    reason: str = ""  # why it failed or stopped
    is_recorded: bool = False
    store: Store | None = None

    def count(self, **numbers: int) -> None:
        """Add to the named counts."""
        for name, number in numbers.items():
            self.counts[name] = self.counts.get(name, 0) + number

    @contextmanager
    def step(self, name: str, number: int | None = None, detail: str = "") -> Iterator[Step]:
        """
        Time a step of the run, such as "encode passages", and store it when it is done; one that fails or is stopped is
        not. A step may be taken many times: each is a row. What is yielded may be told its number and detail later.
        """
        step = Step(number, detail)
        started = time.monotonic()
        yield step
        seconds = time.monotonic() - started
        if self.store:
            row = {"run_id": self.run_id, "step": name, "seconds": seconds, **asdict(step), "created_at": now()}
            with self.store.write() as cursor:
                insert(cursor, "run_step", [row])


@contextmanager
def recorded(
    store: Store,
    kind: str,
    config: Mapping[str, Any],
    *,
    model: str = "",
    prompt_version: str = "",
    seed: int | None = None,
    device: str = "",
) -> Iterator[Run]:
    """
    Record a run: a row when it starts, another when it ends (`done`, `failed`, or `stopped` by Ctrl-C or at a ceiling),
    with the reason in one line: a SkiffError's own, of other errors their kind.

    A run with no second row was killed, or is under way; the view `runs` calls it unfinished.
    """
    run = Run(store=store)
    row = {
        "run_id": run.run_id,
        "kind": kind,
        "started_at": now(),
        "config": json.dumps(dict(config), ensure_ascii=False, sort_keys=True, default=str),
        "code_version": version("skiff-embeddings"),
        "model": model,
        "prompt_version": prompt_version,
        "seed": seed,
        "device": device,
    }
    with store.write() as cursor:
        insert(cursor, "run", [row])
    started = time.monotonic()
    try:
        yield run
    except BaseException as error:
        status, run.reason = _why(error)
        try:
            _add_end(store, run, status, time.monotonic() - started)
        except StoreError:
            if status != "failed":
                raise
        raise  # of two failures the first: it tells why
    _add_end(store, run, "done", time.monotonic() - started)


def _why(error: BaseException) -> tuple[str, str]:
    """How a run ended with this error, and why. What others raise may hold a key, or an address with a password."""
    match error:
        case KeyboardInterrupt() | asyncio.CancelledError():  # Ctrl-C reaches a coroutine as a cancellation
            return "stopped", "stopped by Ctrl-C"
        case Stopped() | BudgetSpent():
            return "stopped", str(error)
        case SkiffError():
            return "failed", str(error)
        case OSError(errno=int(number)) if number > 0:
            where = f": {error.filename}" if isinstance(error.filename, str) else ""
            return "failed", f"{type(error).__name__}: {os.strerror(number)}{where}"
    return "failed", type(error).__name__


def _add_end(store: Store, run: Run, status: str, seconds: float) -> None:
    end = {name: getattr(run, name) for name in ("run_id", *SPENT)} | {
        "ended_at": now(),
        "status": status,
        "seconds": seconds,
        "reason": one_line(run.reason),
        "counts": json.dumps(run.counts),
    }
    with store.write() as cursor:
        insert(cursor, "run_end", [end])
    run.is_recorded = True


class Spent(NamedTuple):
    """
    What runs have spent, and apart from it the most that lost replies can have taken; tokens are those sent and replied
    together. `excess`: how many times the most that was expected of it the worst request took, at least 1.
    """

    cost: float  # US dollars; replies without a stated price count as nothing
    tokens: int
    requests: int
    lost_cost: float
    lost_tokens: int
    excess: float


def spent(store: Store, stage_key: UUID, *, but_not: Collection[UUID] = ()) -> Spent:
    """
    What all runs of one configuration (those whose config has this `stage_key`) have spent, `but_not` those of these
    ids. A run that was killed, or is under way, says no more than the replies that are stored as its own.
    """
    with store.read() as cursor:
        [row] = cursor.execute(
            "WITH chosen AS (SELECT run_id FROM run WHERE json_extract_string(config, '$.stage_key') = $key"
            " AND run_id NOT IN (SELECT unnest($but_not::UUID[]))),"
            " ended AS (SELECT e.* FROM run_end e SEMI JOIN chosen USING (run_id)),"
            " paid AS (SELECT cost, tokens_in + tokens_out AS tokens FROM llm_call SEMI JOIN chosen USING (run_id)"
            " WHERE run_id NOT IN (SELECT run_id FROM ended)),"
            " spent AS (SELECT cost, tokens_in + tokens_out AS tokens, requests, lost_cost, lost_tokens, excess"
            " FROM ended UNION ALL SELECT cost, tokens, 1, 0, 0, 1 FROM paid)"
            " SELECT coalesce(sum(cost), 0)::DOUBLE, coalesce(sum(tokens), 0)::BIGINT,"
            " coalesce(sum(requests), 0)::BIGINT, coalesce(sum(lost_cost), 0)::DOUBLE,"
            " coalesce(sum(lost_tokens), 0)::BIGINT, greatest(1, coalesce(max(excess), 1))::DOUBLE FROM spent",
            {"key": str(stage_key), "but_not": [str(each) for each in but_not]},
        ).fetchall()
    return Spent(*row)
