"""A process that ends between any two steps of a batch: the next one neither buys a request again nor loses a reply."""

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from synth.llm.batch import steps
from synth.llm.batch.server import BatchServer as Client
from synth.llm.journal import Journal
from tests.batch_server import BatchServer, Fate, Trouble
from tests.conftest import REPOSITORY
from tests.synth.llm.batch.batches import batches_of, desk_for, key, requests

# Hands in twelve requests and waits for them; with a step named, it says so there and hangs.
HAND_IN = """
import asyncio, sys, time
from pathlib import Path
from synth.llm.batch import steps
from synth.llm.journal import Journal
from tests.synth.llm.batch.batches import AT_ONCE, desk_for, requests
from tests.chat_server import ChatServer

base_url, folder, hang_at = sys.argv[1:]
steps.GRACE_SECONDS = 0.3

def hang():
    print("there", flush=True)
    time.sleep(60)

def asked(journal):
    for number, request in enumerate(requests(*range(12))):
        if hang_at == "writing" and number == 7:
            hang()
        if journal.get(request.key) is None:
            yield request

class Kept(Journal):
    def append(self, key, reply):
        super().append(key, reply)
        if hang_at == "journalling" and len(self) == 5:
            hang()

    def sync(self):
        super().sync()
        if hang_at == "journalled":
            hang()

async def main():
    server = ChatServer()
    server.base_url = base_url
    with Kept(Path(folder)) as journal:
        async with desk_for(server, journal) as desk:
            await desk.submit(asked(journal), most_requests=5)
            await desk.settle(poll_seconds=AT_ONCE)
    if hang_at == "done":
        hang()

asyncio.run(main())
"""
NUMBERS, FEW = range(12), range(5)


@pytest.mark.slow
@pytest.mark.parametrize(
    "step",
    ["writing", "upload", "create", "created", "look", "download", "journalling", "journalled", "done"],
)
async def test_after_kill_9_at_any_step_nothing_is_bought_twice_and_nothing_is_lost(tmp_path: Path, step: str) -> None:
    async with BatchServer(lasts={"in_progress": 0.1}) as server:
        is_the_servers = step in ("upload", "create", "created", "look", "download")
        if is_the_servers:
            server.trouble(step, Trouble.HANGS)
        process = await start(server, tmp_path, "" if is_the_servers else step)
        assert process.stdout is not None
        reached = server.reached[step].wait() if is_the_servers else process.stdout.readline()
        async with asyncio.timeout(60):
            assert await reached
        os.kill(process.pid, signal.SIGKILL)
        await process.wait()
        again = await start(server, tmp_path, "")
        async with asyncio.timeout(60):
            assert await again.wait() == 0
    assert server.bought == {str(key(number)): 1 for number in NUMBERS}
    with Journal(tmp_path / "journal") as journal:
        assert all(journal.get(key(number)) for number in NUMBERS)
    assert not [path for path in (tmp_path / "batches").glob("*/*") if path.suffix not in (".json", "")]


async def start(server: BatchServer, folder: Path, hang_at: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", HAND_IN, server.base_url, str(folder / "journal"), hang_at),
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        stdout=asyncio.subprocess.PIPE,
    )


class Killed(BaseException):
    """The process ends here."""


class Life:
    """Ends before its `last` step; a step is whatever changes the disk, the journal or the server."""

    def __init__(self, last: int) -> None:
        self.last, self.steps = last, 0

    def step(self) -> None:
        self.steps += 1
        if self.steps == self.last:
            raise Killed

    def lead(self, patch: pytest.MonkeyPatch) -> None:
        """Every step that is taken from here on is one of this life."""
        patch.setattr(os, "fsync", lambda file: self.step())  # what a power cut would need, and a kill does not
        for owner, name in ((Path, "replace"), (Path, "unlink"), (Journal, "append")):
            patch.setattr(owner, name, self._before(getattr(owner, name)))
        for name in ("upload", "create", "find", "download"):
            patch.setattr(Client, name, self._around(getattr(Client, name)))

    def _before(self, act: Callable[..., Any]) -> Callable[..., Any]:
        def stepping(*arguments: Any, **options: Any) -> Any:
            self.step()
            return act(*arguments, **options)

        return stepping

    def _around(self, act: Callable[..., Any]) -> Callable[..., Any]:
        async def stepping(*arguments: Any) -> Any:
            self.step()
            answer = await act(*arguments)
            self.step()  # the server has done it, and nobody here knows
            return answer

        return stepping


async def live(server: BatchServer, folder: Path, life: Life, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Hand the requests in and wait for them. Whether this life came to its end before."""
    with Journal(folder / "journal") as journal, monkeypatch.context() as patched:
        life.lead(patched)
        try:
            async with desk_for(server, journal) as desk:
                missing = [each for each in requests(*FEW) if journal.get(each.key) is None]
                await desk.submit(missing, most_requests=3)
                await desk.settle(poll_seconds=(0.001, 0.001))
        except Killed:
            return True
    return False


NO_ROOM_AT_FIRST = [Fate.NO_ROOM, Fate.COMPLETED, Fate.NO_ROOM, Fate.NO_ROOM]  # ... so that one is halved


@pytest.mark.slow
@pytest.mark.parametrize("fates", [[], NO_ROOM_AT_FIRST])
async def test_a_life_that_ends_before_any_of_its_steps_is_taken_up_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fates: list[Fate]
) -> None:
    for name, value in {"GRACE_SECONDS": 0.0, "ROOM_SECONDS": 0.0, "SMALLEST_HALVED": 2}.items():
        monkeypatch.setattr(steps, name, value)
    last, ended = 0, True
    async with BatchServer() as server:
        while ended:
            last += 1
            folder = tmp_path / str(last)
            server.begin_again(fates)
            ended = await live(server, folder, Life(last), monkeypatch)
            assert not await live(server, folder, Life(0), monkeypatch)
            assert server.bought == {str(key(number)): 1 for number in FEW}, f"killed before step {last}"
            with Journal(folder / "journal") as journal:
                assert all(journal.get(key(number)) for number in FEW), f"killed before step {last}"
                assert not [path for path in batches_of(journal).glob("*/*") if path.suffix not in (".json", "")]
    assert last > 30
