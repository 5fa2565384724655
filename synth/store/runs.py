"""Runs: what was done, with its full configuration and its outcome."""

import asyncio
import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any
from uuid import UUID

from synth.records import new_id
from synth.store.connection import Store
from synth.store.rows import insert, now

KINDS = ("ingest", "generate", "mine", "review", "check", "release", "train", "evaluate")


@dataclass
class Run:
    """A run under way: stages add what they counted and spent; both are stored when it ends, however it ends."""

    run_id: UUID = field(default_factory=new_id)
    counts: dict[str, int] = field(default_factory=dict)
    tokens_in: int = 0
    tokens_out: int = 0
    cost: float | None = None  # US dollars; None where nothing is paid for, or no price is stated

    def count(self, **numbers: int) -> None:
        """Add to the named counts."""
        for name, number in numbers.items():
            self.counts[name] = self.counts.get(name, 0) + number


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
    Record a run: a row when it starts, another when it ends (`done`, `failed`, or `stopped` by Ctrl-C).

    A run with no second row was killed; the view `runs` calls it unfinished.
    """
    run = Run()
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
    status = "failed"
    try:
        yield run
        status = "done"
    except (KeyboardInterrupt, asyncio.CancelledError):  # Ctrl-C reaches a coroutine as a cancellation
        status = "stopped"
        raise
    finally:
        end = {
            "run_id": run.run_id,
            "ended_at": now(),
            "status": status,
            "counts": json.dumps(run.counts),
            "tokens_in": run.tokens_in,
            "tokens_out": run.tokens_out,
            "seconds": time.monotonic() - started,
            "cost": run.cost,
        }
        with store.write() as cursor:
            insert(cursor, "run_end", [end])
