"""Generate: however a run ends, nothing that was paid for is lost, and no ceiling is passed."""

import asyncio
import errno
import sys
from asyncio.subprocess import PIPE
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from synth.llm.account import Account
from synth.llm.ceilings import Ceilings
from synth.llm.journal import Journal
from synth.recipes import RECIPES
from synth.records import LLMError, SkiffError, StoreError, StoreLocked, Task, new_id
from synth.stages.generate.plan import Wanted, plan_generate
from synth.stages.generate.run import generate_samples
from synth.store import runs
from synth.store.connection import Store
from synth.store.console import query
from tests.chat_server import ChatServer, Fault
from tests.conftest import REPOSITORY
from tests.synth.stages.generating import CALLS, asking, plan, run, samples


async def test_what_came_before_the_server_died_is_kept_and_the_next_run_goes_on(
    with_passages: Store, tmp_path: Path
) -> None:
    async with ChatServer(script=[None, None], faults={Fault.BROKEN: 1.0}) as server:
        with pytest.raises(LLMError, match="test-model"):
            await run(with_passages, plan(with_passages, tmp_path, server.base_url))
    kept = len({tuple(row["positives"]) for row in samples(with_passages)})  # type: ignore[arg-type]
    async with ChatServer() as server:
        outcome = await run(with_passages, plan(with_passages, tmp_path, server.base_url))
    assert 1 <= kept == 5 - outcome.num_seeds
    assert query(with_passages, "SELECT status FROM runs ORDER BY started_at").to_pylist() == [
        {"status": "failed"},
        {"status": "done"},
    ]


async def test_a_reply_taken_from_the_journal_after_a_crash_is_the_same_call(
    with_passages: Store, tmp_path: Path
) -> None:
    async with ChatServer() as server:
        await run(with_passages, plan(with_passages, tmp_path, server.base_url))
        before = query(with_passages, CALLS).to_pylist()
        with with_passages.write() as cursor:  # as if killed before the first lease, the second time with calls kept
            for table in ("generated", "revision", "sample_state", "llm_call"):
                cursor.execute(f"DELETE FROM {table}")
        await run(with_passages, plan(with_passages, tmp_path, server.base_url))
        with with_passages.write() as cursor:
            cursor.execute("DELETE FROM generated")
        again = await run(with_passages, plan(with_passages, tmp_path, server.base_url))
    assert query(with_passages, CALLS).to_pylist() == before
    assert (server.paid, again.usage.cost) == (5, 0.0)


async def test_a_ceiling_ends_the_run_cleanly_and_counts_what_earlier_runs_spent(
    with_passages: Store, tmp_path: Path
) -> None:
    ceilings = Ceilings(max_requests=3)
    async with ChatServer() as server:
        for _ in range(2):
            made = plan_generate(
                with_passages, Wanted(per_seed=3), asking(tmp_path, server.base_url, ceilings=ceilings)
            )
            outcome = await run(with_passages, made)
            assert outcome.exit_code == 3 and "--max-requests 3 is reached" in outcome.ended
            assert len(server.asked) == server.paid == 3
    statuses = query(with_passages, "SELECT status, reason FROM runs").to_pylist()
    assert all(row["status"] == "stopped" and "--max-requests" in row["reason"] for row in statuses)
    assert len({tuple(row["positives"]) for row in samples(with_passages)}) == 3  # type: ignore[arg-type]


async def test_a_stop_stores_what_was_in_flight_and_the_same_command_goes_on(
    with_passages: Store, tmp_path: Path
) -> None:
    stop = asyncio.Event()
    async with ChatServer(latency=0.2) as server:
        made = plan(with_passages, tmp_path, server.base_url)
        task = asyncio.create_task(generate_samples(with_passages, made, stop=stop))
        await asyncio.sleep(0.1)
        stop.set()
        outcome = await task
        assert 1 <= outcome.num_done == server.paid < 5 and outcome.exit_code == 130
        again = await run(with_passages, plan(with_passages, tmp_path, server.base_url))
        assert again.num_done == 5 - outcome.num_done
    assert server.paid == 5


async def test_what_a_killed_run_had_spent_and_in_flight_counts_against_the_ceiling_of_the_next(
    with_passages: Store, tmp_path: Path
) -> None:
    async with ChatServer() as server:
        bounded = asking(tmp_path, server.base_url, ceilings=Ceilings(max_requests=5))
        made = plan_generate(with_passages, Wanted(per_seed=3), bounded)
        (tmp_path / "journal").mkdir()
        with Account(tmp_path / "journal", made.stage_key, new_id(), at_once=True) as killed:
            killed.totals.requests = 3
            killed.changed()
        outcome = await run(with_passages, made)
    assert (server.paid, outcome.num_done, outcome.exit_code) == (2, 2, 3)
    assert len(list((tmp_path / "journal").glob("*.account"))) == 1  # that of the killed run, for those that follow


async def test_what_is_paid_for_is_stored_though_the_ceiling_is_reached(with_passages: Store, tmp_path: Path) -> None:
    async with ChatServer() as server:
        await run(with_passages, plan(with_passages, tmp_path, server.base_url))
        with with_passages.write() as cursor:  # as if killed between the replies and the first lease
            for table in ("generated", "revision", "sample_state", "llm_call"):
                cursor.execute(f"DELETE FROM {table}")
        [path] = (tmp_path / "journal").glob("*.jsonl")
        path.write_text("".join(path.read_text().splitlines(keepends=True)[1:]))  # one is not known
        bounded = asking(tmp_path, server.base_url, ceilings=Ceilings(max_requests=5))
        outcome = await run(with_passages, plan_generate(with_passages, Wanted(per_seed=3), bounded))
    assert (server.paid, outcome.num_done, outcome.exit_code) == (5, 4, 3)


async def test_a_run_whose_end_cannot_be_recorded_leaves_its_account(
    with_passages: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise StoreError("the disk is full")

    async with ChatServer() as server:
        with monkeypatch.context() as patched, pytest.raises(StoreError):
            patched.setattr(runs, "_add_end", fails)
            await run(with_passages, plan(with_passages, tmp_path, server.base_url))
        assert len(list((tmp_path / "journal").glob("*.account"))) == 1


ASKING = """
import sys
from pathlib import Path
from synth.records import key_of
from synth.store.locks import sole
with sole(Path(sys.argv[1]), key_of("asking", "test-model", sys.argv[2]), "asking"):
    print("here", flush=True)
    sys.stdin.read()
"""


async def test_two_runs_at_once_that_share_a_model_do_not_pay_for_the_same_twice(
    with_passages: Store, tmp_path: Path
) -> None:
    version = RECIPES[Task.RETRIEVAL, "query"].prompt_version
    other = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", ASKING, str(with_passages.path), version), stdin=PIPE, stdout=PIPE, cwd=REPOSITORY
    )
    assert other.stdin is not None and other.stdout is not None and await other.stdout.readline() == b"here\n"
    async with ChatServer() as server:
        with pytest.raises(StoreLocked, match="asking test-model for the same"):
            await run(with_passages, plan(with_passages, tmp_path, server.base_url))
    assert server.asked == []
    other.stdin.close()
    await other.wait()


async def test_when_the_credit_ends_what_is_in_flight_is_finished_and_stored(
    with_passages: Store, tmp_path: Path
) -> None:
    asked = count()

    def error(_: dict[str, Any]) -> tuple[int, Any] | None:
        return (402, {"error": "pay up"}) if next(asked) == 3 else None

    async with ChatServer(error=error, latency=0.3) as server:
        llm = asking(tmp_path, server.base_url, concurrency=4, response_format="none")
        with pytest.raises(LLMError, match="pay up"):
            await run(with_passages, plan_generate(with_passages, Wanted(per_seed=3), llm))
        assert server.paid == 3
    assert len({tuple(row["positives"]) for row in samples(with_passages)}) == 3  # type: ignore[arg-type]


async def test_a_journal_that_cannot_be_written_is_found_out_before_anything_is_paid_for(
    with_passages: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Journal) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(Journal, "_open_own", full)
    async with ChatServer() as server:
        with pytest.raises(SkiffError, match=r"cannot use the journal of replies .* Read-only file system"):
            await run(with_passages, plan(with_passages, tmp_path, server.base_url))
    assert server.asked == []
