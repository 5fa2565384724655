"""
What the LLM engine costs and what it loses, each figure against a floor, an ideal or a peer in the same run.

Example: python benchmarks/engine.py --quick

The server and every client are processes of their own. benchmarks/README.md says what each figure means and how the
peers' environments are made. Ends with one line of JSON: the figures, the bounds, and which of them are missed.
"""

import argparse
import heapq
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from engine_job import RETRY_AFTER, Job, fault_of
from store import Figures, Goal

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
PATIENCE = 300.0  # seconds after which a client counts as stalled

GOALS = (
    Goal("cpu_vs_aiohttp", "", 1.5, "CPU of a request by raw aiohttp's, 256 in flight"),
    Goal("cpu_vs_aiohttp_64", "", 1.5, "the same, 64 in flight"),
    Goal("cpu_vs_aiohttp_1024", "", 1.5, "the same, 1,024 in flight"),
    Goal("rps_vs_curator", "", 3, "requests/s by curator's, 256 in flight", "", True),
    Goal("rps_vs_distilabel", "", 3, "requests/s by distilabel's, 256 in flight", "", True),
    Goal("quick_rps_vs_curator", "", 3, "the same with replies after 20 ms", "", True),
    Goal("quick_rps_vs_distilabel", "", 3, "... by distilabel's pipeline", "", True),
    Goal("quick_rps_vs_distilabel_LLM", "", 3, "... by distilabel's LLM class alone", "", True),
    Goal("memory_100k_vs_10k", "", 1.1, "peak memory of 100,000 requests by that of 10,000"),
    Goal("faults_completed", "", 1, "3,000 requests, 13 in 100 broken or refused: share completed", "", True),
    Goal("faults_time_vs_ideal", "", 1.2, "... and seconds by those of an ideal client"),
    Goal("edit_paid", "requests", 11, "500 rows done, 1 corrected and 10 added: requests of the second run"),
    Goal("edit_right", "rows", 510, "... and rows with the right answer", "", True),
    Goal("kill_paid_again_vs_in_flight", "", 1, "ten times kill -9: requests paid twice by those in flight then"),
    Goal("kill_right", "", 1, "... share of the rows with the right answer in the end", "", True),
    Goal("at_once_held", "", 0.9, "a server that takes 50 at a time: share of it that is used", "", True),
    Goal("at_once_refused", "", 0.02, "... share of the requests refused"),
    Goal("bucket_held", "", 0.9, "600 a minute by a token bucket that says nothing: share used", "", True),
    Goal("bucket_refused", "", 0.02, "... share refused"),
    Goal("window_held", "", 0.9, "600 in each minute, said in headers: share used", "", True),
    Goal("window_refused", "", 0.02, "... share refused"),
    Goal("estimate_off_unasked", "", 0.1, "the estimate before anything is asked: off the final cost by"),
    Goal("estimate_off", "", 0.1, "... after `--sample 30`"),
    Goal("budget_spent_vs_ceiling", "", 1, "a budget on a server with faults, stopped and raised: most spent of it"),
)


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


Table = list[Sequence[object]]  # its head first


@dataclass(slots=True)
class Report:
    """What all parts found: figures for the last line, tables for people."""

    figures: Figures = field(default_factory=dict)
    tables: dict[str, Table] = field(default_factory=dict)

    def markdown(self) -> str:
        """Every table, and at last what has a bound."""
        lines = []
        for title, (head, *rows) in self.tables.items():
            lines += [f"#### {title}", "", _line(head), _line(["---"] * len(head)), *map(_line, rows), ""]
        lines += ["#### Bounds", "", _line(["what", "figure", "measured", "floor or peer", "bound", "met"])]
        lines += [_line(["---"] * 6), *(goal.row(self.figures) for goal in GOALS if goal.key in self.figures), ""]
        return "\n".join(lines)

    def last_line(self) -> str:
        """Everything as one line of JSON."""
        goals = [goal for goal in GOALS if goal.key in self.figures]
        missed = [goal.key for goal in goals if not _met(goal, self.figures[goal.key])]
        bounds = {goal.key: f"at {'least' if goal.at_least else 'most'} {goal.bound:g}" for goal in goals}
        rounded = {key: round(value, 4) for key, value in self.figures.items()}
        return json.dumps({**rounded, "bounds": bounds, "missed": missed})


def _line(cells: Sequence[object]) -> str:
    return f"| {' | '.join(f'{cell:,.4g}' if isinstance(cell, float) else str(cell) for cell in cells)} |"


def _met(goal: Goal, value: float) -> bool:
    return value >= goal.bound if goal.at_least else value <= goal.bound


def main() -> None:
    """Run the parts that were asked for; figures go to standard output, progress to standard error."""
    parsed = _parsed()
    report = Report({"cpus": os.cpu_count() or 1})
    with tempfile.TemporaryDirectory() as scratch:
        options = Options(
            quick=parsed.quick,
            data=parsed.data.resolve(),
            peers=parsed.peers and parsed.peers.resolve(),
            in_flight=tuple(parsed.in_flight or ([MAIN] if parsed.quick else IN_FLIGHT)),
            tokens=parsed.tokens,
            scratch=Path(scratch),
        )
        for name in parsed.only or (QUICK if parsed.quick else PARTS):
            started = time.perf_counter()
            PARTS[name](options, report)
            _say(f"{name}: {time.perf_counter() - started:.1f} s")
    if parsed.markdown:
        sys.stdout.write(report.markdown() + "\n")
    sys.stdout.write(report.last_line() + "\n")


def _parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").strip().splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="under a minute: floors only, 256 in flight, fewer parts")
    parser.add_argument("--only", action="append", choices=PARTS, help="only this part (repeatable)")
    parser.add_argument(
        "--in-flight", action="append", type=int, metavar="N", help="of the throughput (repeatable): 64, 256 and 1024"
    )
    parser.add_argument(
        "--data", type=Path, default=HERE.parent / "data" / "sample", help="a folder like data/sample, for the texts"
    )
    parser.add_argument("--peers", type=Path, help="the folder of the peers' environments; those that are there run")
    parser.add_argument("--tokens", default="wordpiece", help="of the estimate: `wordpiece`, or a .tiktoken file")
    parser.add_argument("--markdown", action="store_true", help="print the tables of benchmarks/README.md as well")
    options = parser.parse_args()
    if not (options.data / "retrieval" / "squad-en" / "corpus.jsonl").is_file():
        parser.error(f"{options.data}: has no retrieval/squad-en/corpus.jsonl; name a folder like data/sample")
    if options.peers and not any((options.peers / folder).is_dir() for folder in PEERS.values()):
        parser.error(f"{options.peers}: has none of {', '.join(set(PEERS.values()))}; benchmarks/README.md makes them")
    return options


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")


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
    _say(
        f"  {job.client}, {job.in_flight} in flight: {outcome.got} of {job.rows} in {outcome.seconds:.2f} s, "
        f"{outcome.cpu_per_1000:.3f} CPU-s per 1,000 {outcome.error}"
    )
    return outcome


def alone(options: Options, job: Job, *server_options: str) -> Outcome:
    """A client's job with a server of its own."""
    with serving(*server_options) as server:
        return run(options, server, job)


def throughput(options: Options, report: Report) -> None:
    """Requests per second and CPU of a request, all served; Skiff and raw aiohttp in turn, then the others once."""
    head = ["client", "in flight", "requests/s", "CPU-s per 1,000", "peak MB", "connections"]
    table: Table = [head]
    report.tables["All requests served"] = table
    for in_flight in options.in_flight:
        rows = max(4000, 24 * in_flight)
        pairs = [
            [alone(options, options.job(client, in_flight, rows)) for client in ("aiohttp", "skiff")]
            for _ in range(3 if options.quick else 5)
        ]
        suffix = "" if in_flight == MAIN else f"_{in_flight}"
        floors, ours = (list(column) for column in zip(*pairs, strict=True))
        # of the whole and not of the middle: a machine that others share is slower in one half minute than in the next
        report.figures |= {
            f"cpu_vs_aiohttp{suffix}": sum(each.cpu for each in ours) / sum(each.cpu for each in floors),
            f"rps_vs_aiohttp{suffix}": sum(each.seconds for each in floors) / sum(each.seconds for each in ours),
        }
        others = [] if options.quick else ["openai", *options.clients]
        outcomes = [_middle(floors), *(alone(options, options.job(name, in_flight, rows)) for name in others)]
        skiff = _middle(ours)
        for outcome in [*outcomes, skiff]:
            name = outcome.job.client.replace(" ", "_")
            report.figures[f"rps_{in_flight}_{name}"] = outcome.rps
            report.figures[f"cpu_{in_flight}_{name}"] = outcome.cpu_per_1000
            table.append(_throughput_row(outcome))
        for outcome in outcomes:
            if outcome.job.client in PEERS and outcome.rps and in_flight == MAIN:
                name = outcome.job.client.replace(" ", "_")
                report.figures[f"rps_vs_{name}"] = skiff.rps / outcome.rps
                report.figures[f"cpu_{name}_vs_skiff"] = outcome.cpu_per_1000 / skiff.cpu_per_1000


def quick_replies(options: Options, report: Report) -> None:
    """Replies after 20 ms, 256 in flight: what a client can do, where 200 ms let nobody pass 1,280 a second."""
    table: Table = [["client", "in flight", "requests/s", "CPU-s per 1,000", "peak MB", "connections"]]
    report.tables["All requests served, after 20 ms"] = table
    peers = [name for name in options.clients if name != "data-designer"]
    outcomes = {
        client: alone(options, options.job(client, MAIN, 10_000), "--latency", "0.02")
        for client in ("aiohttp", "openai", *peers, "skiff")
    }
    table += map(_throughput_row, outcomes.values())
    for client, outcome in outcomes.items():
        name = client.replace(" ", "_")
        report.figures[f"quick_rps_{name}"] = outcome.rps
        if client in PEERS and outcome.rps:
            report.figures[f"quick_rps_vs_{name}"] = outcomes["skiff"].rps / outcome.rps


def _middle(outcomes: list[Outcome]) -> Outcome:
    return sorted(outcomes, key=lambda outcome: outcome.cpu_per_1000)[len(outcomes) // 2]


def _throughput_row(outcome: Outcome) -> Sequence[object]:
    job = outcome.job
    if outcome.note:
        return [job.client, job.in_flight, outcome.note, "", "", ""]
    connections = outcome.server["connections"] - 1  # one asked for the counts
    return [job.client, job.in_flight, outcome.rps, outcome.cpu_per_1000, outcome.peak_mb, connections]


def memory(options: Options, report: Report) -> None:
    """Peak memory of 10,000 and of 100,000 requests."""
    few, many = (alone(options, options.job("skiff", 1024, rows)).peak_mb for rows in (10_000, 100_000))
    report.figures |= {"memory_mb_10k": few, "memory_mb_100k": many, "memory_100k_vs_10k": many / few}


def faults(options: Options, report: Report) -> None:
    """3,000 requests, of which 13 in 100 are refused, break, or come back cut."""
    in_flight, rows = 64, 3000
    job = options.job("skiff", in_flight, rows)
    ideal = ideal_seconds(job)
    table: Table = [
        ["client", "completed", "lost", "seconds", "CPU-s", "paid", "peak MB"],
        ["an ideal client", rows, 0, ideal, "", "", ""],
    ]
    report.tables["10 % 429, 2 % 500, 0.5 % resets, 0.5 % cut bodies"] = table
    others = [] if options.quick else ["aiohttp, no retry", "aiohttp", "openai", "openai, 10 retries", *options.clients]
    for client in (*others, "skiff"):
        outcome = alone(options, options.job(client, in_flight, rows), "--faults")
        cells = [outcome.right, rows - outcome.right, outcome.seconds, outcome.cpu]
        if outcome.note:
            cells = [outcome.note, "", "", ""]
        table.append([client, *cells, outcome.server["paid"], outcome.peak_mb])
    report.figures |= {
        "faults_completed": outcome.right / rows,
        "faults_seconds": outcome.seconds,
        "faults_ideal_seconds": ideal,
        "faults_time_vs_ideal": outcome.seconds / ideal,
        "faults_time_vs_no_waits": outcome.seconds / (outcome.server["paid"] * LATENCY / in_flight),
    }


def ideal_seconds(job: Job) -> float:
    """
    How long a client takes that needs no time of its own, never leaves a place empty while something may be sent, asks
    again what broke before anything new, and never comes before it was told to.
    """
    now, fresh = 0.0, iter(range(job.rows))
    places = [0.0] * job.in_flight  # when each gets free
    again: list[tuple[float, int]] = []  # when each may be asked again
    attempts = [0] * job.rows
    upcoming = next(fresh, None)
    while upcoming is not None or again:
        now = max(now, heapq.heappop(places))
        if again and (again[0][0] <= now or upcoming is None):
            at, number = heapq.heappop(again)
            now = max(now, at)
        else:
            assert upcoming is not None
            number, upcoming = upcoming, next(fresh, None)
        fault = fault_of(job.row(number), attempts[number])
        attempts[number] += 1
        done = now if fault in ("429", "500") else now + LATENCY
        heapq.heappush(places, done)
        if fault:
            heapq.heappush(again, (now + RETRY_AFTER if fault == "429" else done, number))
    return max(places)


def edit(options: Options, report: Report) -> None:
    """500 rows done; one corrected and ten added, asked again."""
    table: Table = [["client", "paid by the second run", "rows right"]]
    report.tables["500 rows done, one corrected and ten added: 11 would do"] = table
    for client in (*[name for name in options.clients if name != "distilabel LLM"], "skiff"):
        job = options.job(client, 64, 500)
        with serving() as server:
            paid = run(options, server, job).server["paid"]
            outcome = run(options, server, replace(job, rows=510, corrected=7))
        paid = outcome.server["paid"] - paid
        table.append([client, paid, outcome.note or f"{outcome.right} of 510"])
    report.figures |= {"edit_paid": paid, "edit_right": outcome.right}


def kill(options: Options, report: Report) -> None:
    """kill -9 ten times at random moments of one job, then to its end; the peers once, when 60 % are done."""
    table: Table = [["client", "kills", "paid twice", "in flight at the kills", "rows right", "seconds for the rest"]]
    report.tables["kill -9, and the same command again (4,000 rows, 64 in flight)"] = table
    chance = random.Random(20261121)
    for client in (*[name for name in options.clients if name != "distilabel LLM"], "skiff"):
        job, in_flight = options.job(client, 64, 4000), []
        with serving() as server:
            for _ in range(10 if client == "skiff" else 1):
                moment = chance.uniform(0.02, 1.2) if client == "skiff" else None
                in_flight.append(_killed(options, server, job, moment))
            outcome = run(options, server, job)
        again = outcome.server["paid_again"]
        right = outcome.note or f"{outcome.right} of {job.rows}"
        table.append([client, len(in_flight), again, sum(in_flight), right, outcome.seconds])
    report.figures |= {
        "kill_paid_again": again,
        "kill_in_flight": sum(in_flight),
        "kill_paid_again_vs_in_flight": again / sum(in_flight),
        "kill_right": outcome.right / job.rows,
    }


def _killed(options: Options, server: Server, job: Job, moment: float | None) -> int:
    """
    Kill a client so many seconds after its first request, or with 60 % of the rows paid.

    Returns:
        How many requests were in flight.
    """
    before = server.stats()["asked"]
    process = subprocess.Popen(
        options.command(replace(job, base_url=server.base_url)),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    enough = 0 if moment is not None else 0.6 * job.rows
    while server.stats()["asked"] <= before + enough and process.poll() is None:
        time.sleep(0.005)
    time.sleep(moment or 0.0)
    if process.poll() is not None:
        raise SystemExit(f"the client {job.client} ended before it was killed")
    os.killpg(process.pid, signal.SIGSTOP)  # so that the count is that of one moment
    in_flight: int = server.stats()["busy_connections"]
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    return in_flight


def limits(options: Options, report: Report) -> None:
    """Servers that take so much and no more, for so many seconds: how much of it is used, and how much is refused."""
    table: Table = [["server", "seconds", "taken", "could be taken", "refused"]]
    report.tables["Servers with a limit that nobody was told of"] = table
    at_once, bucket, window = 60.0, 180.0, 180.0
    cases = (
        ("at_once", "50 at a time", 256, at_once, at_once * 50 / LATENCY, ["--at-once", "50"]),
        ("bucket", "600 a minute, 60 at once", 64, bucket, 60 + 10 * bucket, ["--bucket", "600", "--burst", "60"]),
        ("window", "600 in each minute", 64, window, 10 * window, ["--window", "600"]),
    )
    for name, meaning, in_flight, seconds, could, server_options in cases:
        job = replace(options.job("skiff", in_flight, 10**6), seconds=seconds)
        seen = alone(options, job, *server_options).server
        report.figures |= {f"{name}_held": seen["paid"] / could, f"{name}_refused": seen["refused"] / seen["asked"]}
        table.append([meaning, seconds, seen["paid"], could, f"{seen['refused']} of {seen['asked']}"])


PRICE_IN, PRICE_OUT = 0.15, 0.60  # US dollars per million tokens
SETTINGS = """
[llm]
base_url = "{base_url}"
model = "bench-model"
max_tokens = 512
price_in = {price_in}
price_out = {price_out}
"""


def estimate(options: Options, report: Report) -> None:
    """
    What `synth generate --dry-run` says of the queries for all of the data, before anything is asked and after a sample
    of 30, against what the server has charged in the end. And ceilings on a server with faults, each kept twice.
    """
    with serving("--tokens", options.tokens) as server:
        workspace = _workspace(options, server)
        unasked = _dry_run(workspace)
        rest = _dry_run(workspace, "--sample", "30")
        sampled = _charged(server) + rest
        _synth("generate", "-w", workspace)
        final = _charged(server)
    ceilings, spent = [final / 10, final / 3, final / 2], []
    with serving("--tokens", options.tokens, "--faults") as server:
        workspace = _workspace(options, server)
        for ceiling in [each for each in ceilings for _ in range(2)]:
            _synth("generate", "-w", workspace, "--max-cost", f"{ceiling:.6f}", stops=True)
            spent.append(_charged(server) / ceiling)
    report.figures |= {
        "cost_estimated_unasked": unasked,
        "cost_estimated": sampled,
        "cost_final": final,
        "estimate_off_unasked": abs(unasked - final) / final,
        "estimate_off": abs(sampled - final) / final,
        "budget_spent_vs_ceiling": max(spent),
        "budget_least_used": min(spent),
    }


def _workspace(options: Options, server: Server) -> str:
    workspace = options.folder()
    _synth("init", workspace)
    _synth("ingest", str(options.data), "-w", workspace)
    settings = SETTINGS.format(base_url=server.base_url, price_in=PRICE_IN, price_out=PRICE_OUT)
    (Path(workspace) / "synth.toml").write_text(settings)
    return workspace


def _dry_run(workspace: str, *options: str) -> float:
    """What the estimate says that all that is left will cost."""
    printed = _synth("generate", "-w", workspace, "--dry-run", "--json", *options)
    cost: float = json.loads(printed.strip().splitlines()[-1])["estimate"]["cost"]
    return cost


def _charged(server: Server) -> float:
    """What the server has charged so far, broken replies included."""
    seen = server.stats()
    return float(seen["tokens_in"] * PRICE_IN + seen["tokens_out"] * PRICE_OUT) / 1e6


def _synth(*arguments: str, stops: bool = False) -> str:
    """What a command prints. `stops`: its budget may end it before it is done."""
    synth = str(Path(sys.executable).with_name("synth"))
    try:
        done = subprocess.run([synth, *arguments], capture_output=True, text=True, timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        raise SystemExit(f"synth {' '.join(arguments)} hung: stopped after {PATIENCE:.0f} s") from None
    if done.returncode and not (stops and "--max-cost" in done.stderr + done.stdout):
        raise SystemExit(f"synth {' '.join(arguments)} failed: {done.stderr[-2000:]}")
    return done.stdout


Part = Callable[[Options, Report], None]
PARTS: dict[str, Part] = {
    "throughput": throughput,
    "quick_replies": quick_replies,
    "memory": memory,
    "faults": faults,
    "edit": edit,
    "kill": kill,
    "limits": limits,
    "estimate": estimate,
}
QUICK = ("throughput", "faults", "edit")

if __name__ == "__main__":
    main()
