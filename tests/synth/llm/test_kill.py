"""A process that is killed in the middle: what it paid for is there when it comes again."""

import json
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import REPOSITORY

CONCURRENCY, REQUESTS = 8, 120
ASK_ALL = f"""
import asyncio, sys
from pathlib import Path
from synth.llm.config import LLMConfig
from synth.llm.engine import Engine
from synth.llm.journal import Journal

async def main(base_url, folder):
    with Journal(Path(folder)) as journal:
        async with Engine(LLMConfig.of(base_url, "test-model", concurrency={CONCURRENCY}), journal) as engine:
            asked = (engine.complete([{{"role": "user", "content": f"1 text {{n}}"}}]) for n in range({REQUESTS}))
            await asyncio.gather(*asked)

asyncio.run(main(*sys.argv[1:]))
"""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """A chat server in a process of its own; its base_url."""
    port_file = tmp_path / "port"
    script = REPOSITORY / "tests" / "chat_server.py"
    process = subprocess.Popen([sys.executable, str(script), "--port-file", str(port_file), "--latency", "0.05"])
    try:
        wait_for(port_file.exists)
        yield f"http://127.0.0.1:{port_file.read_text()}/v1"
    finally:
        process.kill()
        process.wait()


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def stats(base_url: str) -> dict[str, Any]:
    with urllib.request.urlopen(base_url.removesuffix("/v1") + "/stats") as reply:
        return dict(json.load(reply))


@pytest.mark.slow
def test_after_kill_9_no_more_is_paid_twice_than_was_under_way(server: str, tmp_path: Path) -> None:
    command = [sys.executable, "-c", ASK_ALL, server, str(tmp_path / "journal")]
    process = subprocess.Popen(command, cwd=REPOSITORY)
    wait_for(lambda: stats(server)["paid"] >= REQUESTS // 2)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    assert stats(server)["asked"] < REQUESTS
    subprocess.run(command, cwd=REPOSITORY, check=True)
    assert REQUESTS <= stats(server)["asked"] <= REQUESTS + CONCURRENCY
    asked = stats(server)["asked"]
    subprocess.run(command, cwd=REPOSITORY, check=True)
    assert stats(server)["asked"] == asked
