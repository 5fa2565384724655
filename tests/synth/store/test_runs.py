"""Runs: how each ended and why, and what a configuration has spent."""

import asyncio
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID

import pytest

from synth.records import BudgetSpent, LLMError, Stopped, StoreError, UserError, key_of
from synth.store import runs
from synth.store.calls import Call, add_calls
from synth.store.connection import Store
from synth.store.console import query

KEY = key_of("a configuration")


def ended(store: Store) -> tuple[str, str | None]:
    [row] = query(store, "SELECT status, reason FROM runs").to_pylist()
    return row["status"], row["reason"]


@pytest.mark.parametrize(
    ("error", "status", "reason"),
    [
        (BudgetSpent("$1 is spent"), "stopped", "$1 is spent"),
        (Stopped("stopped; what was in flight is stored"), "stopped", "stopped; what was in flight is stored"),
        (KeyboardInterrupt(), "stopped", "stopped by Ctrl-C"),
        (asyncio.CancelledError(), "stopped", "stopped by Ctrl-C"),
        (LLMError("no server\nserves \x1b[31m"), "failed", "no server serves \\x1b[31m"),
        (UserError("no such source"), "failed", "no such source"),
        (OSError(28, "whatever"), "failed", "OSError: No space left on device"),
        (FileNotFoundError(2, "whatever", "a/file"), "failed", "FileNotFoundError: No such file or directory: a/file"),
        (socket.gaierror(-2, "http://ann:secret@host"), "failed", "gaierror"),
        (ConnectionError("401 for http://ann:secret@host"), "failed", "ConnectionError"),
        (ZeroDivisionError("sk-secret"), "failed", "ZeroDivisionError"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else "",
)
def test_a_run_says_how_it_ended_and_why(store: Store, error: BaseException, status: str, reason: str) -> None:
    with pytest.raises(type(error)) as raised, runs.recorded(store, "generate", {}) as run:
        run.count(stored=3)
        raise error
    assert raised.value is error
    assert ended(store) == (status, reason)
    assert query(store, "SELECT counts FROM runs").to_pylist() == [{"counts": '{"stored": 3}'}]


@pytest.mark.parametrize(
    ("error", "raised"),
    [(LLMError("the server is gone"), LLMError), (Stopped("stopped"), StoreError), (KeyboardInterrupt(), StoreError)],
)
def test_a_run_that_failed_says_why_though_its_end_cannot_be_stored(
    store: Store, error: BaseException, raised: type[BaseException]
) -> None:
    with pytest.raises(raised), runs.recorded(store, "generate", {}):
        store.path.rename(store.path.with_name("moved.duckdb"))
        raise error


def test_a_run_that_is_done_has_no_reason_and_one_that_was_killed_no_end(store: Store) -> None:
    with runs.recorded(store, "mine", {}):
        assert ended(store) == ("unfinished", None)
    assert ended(store) == ("done", "")


def test_what_a_run_sent_and_lost_is_stored(store: Store) -> None:
    with runs.recorded(store, "generate", {}) as run:
        run.requests, run.tokens_in, run.tokens_out, run.cost = 7, 100, 20, 0.5
        run.lost_tokens, run.lost_cost = 30, 0.125
    columns = "requests, tokens_in, tokens_out, cost, lost_tokens, lost_cost"
    assert list(query(store, f"SELECT {columns} FROM runs").to_pylist()[0].values()) == [7, 100, 20, 0.5, 30, 0.125]


def test_a_step_is_stored_when_it_is_done_with_its_time_and_what_it_did_so_many_of(store: Store) -> None:
    with runs.recorded(store, "mine", {}) as run:
        with run.step("encode passages", 300, "cpu, bf16"):
            time.sleep(0.01)
        with run.step("search") as step:
            step.number, step.detail = 7, "torch"
        rows = query(store, "SELECT * EXCLUDE (created_at) FROM run_steps ORDER BY created_at").to_pylist()
        with pytest.raises(ZeroDivisionError), run.step("rerank"):
            raise ZeroDivisionError
    assert 0.01 <= rows[0].pop("seconds") < 5 and 0 <= rows[1].pop("seconds") < 5
    of = {"run_id": str(run.run_id), "run_kind": "mine"}
    assert rows == [
        of | {"step": "encode passages", "number": 300, "detail": "cpu, bf16"},
        of | {"step": "search", "number": 7, "detail": "torch"},
    ]
    assert query(store, "FROM run_steps").num_rows == 2  # what failed is none
    with runs.Run().step("epoch") as step:  # of a run that no store records
        assert step.number is None


@contextmanager
def generating(store: Store, names: str, *, key: UUID = KEY, price: float | None = 0.25) -> Iterator[runs.Run]:
    """A run of a configuration that buys a call for each letter: 10 tokens, at a price."""
    with runs.recorded(store, "generate", {"stage_key": key}) as run:
        settings: dict[str, Any] = {"sampling": {}, "attempt": 0, "outcome": "used", "seconds": 1.0}
        calls = [
            Call(key_of(name), None, "m", "p", **settings, tokens_in=8, tokens_out=2, cost=price, server="s", asked="m")
            for name in names
        ]
        with store.write() as cursor:
            add_calls(cursor, calls, run.run_id)
        yield run


def test_what_a_configuration_spent_is_what_its_runs_say_at_their_end(store: Store) -> None:
    with generating(store, "ab") as run:
        run.requests, run.tokens_in, run.tokens_out, run.cost = 5, 16, 4, 0.5
        run.lost_tokens, run.lost_cost, run.excess = 40, 0.25, 3.0
    with generating(store, "bc") as run:  # the replies were bought before
        run.requests = 1
    with generating(store, "xyz", key=key_of("another configuration")) as run:
        run.requests = 9
    assert runs.spent(store, KEY) == runs.Spent(0.5, 20, 6, lost_cost=0.25, lost_tokens=40, excess=3.0)


def test_a_run_that_did_not_end_has_spent_what_is_stored_of_it(store: Store) -> None:
    with generating(store, "abc") as run:
        assert runs.spent(store, KEY) == runs.Spent(0.75, 30, 3, 0.0, 0, 1.0)
        assert runs.spent(store, KEY, but_not=[run.run_id]) == runs.Spent(0.0, 0, 0, 0.0, 0, 1.0)


def test_calls_without_a_price_cost_nothing_and_count_their_tokens(store: Store) -> None:
    with generating(store, "ab", price=None):
        assert runs.spent(store, KEY) == runs.Spent(0.0, 20, 2, 0.0, 0, 1.0)


def test_a_configuration_that_never_ran_has_spent_nothing(store: Store) -> None:
    with runs.recorded(store, "ingest", {}):
        pass
    assert runs.spent(store, KEY) == runs.Spent(0.0, 0, 0, 0.0, 0, 1.0)
