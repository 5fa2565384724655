"""Kill -9 in the middle, then the same command again: nothing paid is lost, nothing is stored twice."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from synth.settings import CONFIG
from synth.stages.ingest import ingest
from synth.store.connection import Store
from synth.store.console import query
from synth.workspace import Workspace
from tests.conftest import REPOSITORY, SAMPLE

pytestmark = pytest.mark.slow
IN_FLIGHT = 16


def start(*arguments: object) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", "from synth.cli import main; main()", *map(str, arguments)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd=REPOSITORY,
    )


def kill_when(process: subprocess.Popen[bytes], reached: Any) -> None:
    """Kill -9 as soon as `reached()`; fails if the process ends before."""
    deadline = time.monotonic() + 90
    while not reached():
        assert process.poll() is None, f"it ended before it could be killed, with code {process.returncode}"
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()


def finish(*arguments: object) -> None:
    process = start(*arguments)
    assert process.wait(timeout=150) == 0


def value(store: Store, sql: str) -> Any:
    [row] = query(store, sql).to_pylist()
    return next(iter(row.values()))


@pytest.fixture
def opened(tmp_path: Path) -> Workspace:
    """A workspace with a real retrieval set."""
    workspace = Workspace.create(tmp_path / "w")
    (workspace.root / CONFIG).write_text(f"[llm]\nconcurrency = {IN_FLIGHT}\n")
    ingest(workspace.store, SAMPLE / "retrieval" / "squad-en", declared_use=None, on_progress=lambda _: None)
    return workspace


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """A chat server in a process of its own: its base URL."""
    port_file = tmp_path / "port"
    process = subprocess.Popen(
        [sys.executable, "tests/chat_server.py", "--port-file", str(port_file), "--latency", "0.2"], cwd=REPOSITORY
    )
    while not port_file.exists() or not port_file.read_text().strip():
        assert process.poll() is None
        time.sleep(0.05)
    yield f"http://127.0.0.1:{port_file.read_text().strip()}"
    process.kill()
    process.wait()


def paid(server: str) -> int:
    with urllib.request.urlopen(f"{server}/stats") as answer:
        return int(json.load(answer)["paid"])


def test_generate_killed_twice_buys_at_most_what_was_in_flight_again(opened: Workspace, server: str) -> None:
    command = ("generate", "-w", opened.root, "--base-url", f"{server}/v1", "--model", "test-model")
    num_passages = value(opened.store, "SELECT count(*) FROM passages")
    kill_when(start(*command), lambda: paid(server) >= 40)
    kill_when(start(*command), lambda: paid(server) >= 120)
    finish(*command)
    assert num_passages <= paid(server) <= num_passages + 2 * IN_FLIGHT
    assert value(opened.store, "SELECT count(DISTINCT seed_id) FROM generated") == num_passages
    assert value(opened.store, "SELECT count(*) FROM generated") == num_passages
    assert value(opened.store, "SELECT count(*) - count(DISTINCT content_hash) FROM revision") == 0
    assert value(opened.store, "SELECT count(*) FROM runs WHERE status = 'unfinished'") == 2
