"""The processes of the engine's benchmark: its servers, and the clients that each do a job against one of them."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from engine_job import Job

HERE = Path(__file__).resolve().parent
LATENCY = 0.2  # seconds that the server takes for a reply
IN_FLIGHT = (64, 256, 1024)
MAIN = 256  # the number in flight whose figures have no number in their names
PEERS = {  # by the folder of their environment
    "curator": "curator",
    "distilabel": "distilabel",
    "distilabel LLM": "distilabel",
    "data-designer": "designer",
}
PATIENCE = 240.0  # seconds after which a client counts as stalled


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line asks for."""

    quick: bool
    data: Path
    peers: Path | None
    in_flight: Sequence[int]
    tokens: str
    scratch: Path

    @property
    def clients(self) -> list[str]:
        """The peers whose environments are there."""
        if self.peers is None or self.quick:
            return []
        return [name for name, folder in PEERS.items() if (self.peers / folder / "bin" / "python").exists()]

    def folder(self) -> str:
        """A new folder for a client to keep things in."""
        return tempfile.mkdtemp(dir=self.scratch)

    def job(self, client: str, in_flight: int, rows: int) -> Job:
        """A job whose server is not known yet."""
        return Job(client, "", in_flight, rows, self.folder(), str(self.data))

    def command(self, job: Job) -> list[str]:
        """The command line of a client."""
        python, script = sys.executable, "engine_clients.py"
        if job.client in PEERS:
            assert self.peers is not None
            python, script = str(self.peers / PEERS[job.client] / "bin" / "python"), "engine_peers.py"
        return [python, str(HERE / script), json.dumps(asdict(job))]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a client did, and what the server saw of it."""

    job: Job
    got: int = 0
    right: int = 0
    lost: int = 0
    error: str = ""
    seconds: float = 0.0
    cpu: float = 0.0
    peak_mb: float = 0.0
    note: str = ""  # why there is nothing else
    server: dict[str, Any] = field(default_factory=dict)

    @property
    def rps(self) -> float:
        return self.got / self.seconds if self.seconds else 0.0

    @property
    def cpu_per_1000(self) -> float:
        return 1000 * self.cpu / self.got if self.got else 0.0


@dataclass(frozen=True, slots=True)
class Server:
    """A running server of engine_server.py."""

    base_url: str

    def stats(self) -> dict[str, Any]:
        """What it has counted so far."""
        with urllib.request.urlopen(self.base_url.removesuffix("v1") + "stats", timeout=10) as response:
            counted: dict[str, Any] = json.load(response)
        return counted


@contextmanager
def serving(*options: str) -> Iterator[Server]:
    """A server in a process of its own, for as long as it is needed."""
    command = [sys.executable, str(HERE / "engine_server.py"), "--latency", str(LATENCY), *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield Server(f"http://127.0.0.1:{int(process.stdout.readline())}/v1")
    finally:
        process.kill()
        process.communicate()


def run(options: Options, server: Server, job: Job) -> Outcome:
    """What a client does with its job; a `note` says so if it stalls or cannot run."""
    job = replace(job, base_url=server.base_url)
    log = Path(job.folder) / "log"
    with log.open("w") as errors:
        process = subprocess.Popen(
            options.command(job), stdout=subprocess.PIPE, stderr=errors, text=True, start_new_session=True
        )
        try:
            printed, _ = process.communicate(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)  # with the processes that it has started
            process.communicate()
            return Outcome(job, note=f"stalled: stopped after {PATIENCE:.0f} s", server=server.stats())
    if process.returncode:
        last = (log.read_text().strip().splitlines() or ["no word"])[-1][:200]
        if job.client not in PEERS:
            raise SystemExit(f"the client {job.client} failed: {log.read_text()[:3000]}")
        return Outcome(job, note=f"failed: {last}", server=server.stats())
    measured = json.loads(printed.strip().splitlines()[-1])
    outcome = Outcome(job, **measured, server=server.stats())
    say(
        f"  {job.client}, {job.in_flight} in flight: {outcome.got} of {job.rows} in {outcome.seconds:.2f} s, "
        f"{outcome.cpu_per_1000:.3f} CPU-s per 1,000 {outcome.error}"
    )
    return outcome


def alone(options: Options, job: Job, *server_options: str) -> Outcome:
    """A client's job with a server of its own."""
    with serving(*server_options) as server:
        return run(options, server, job)


def say(text: str) -> None:
    sys.stderr.write(text + "\n")
