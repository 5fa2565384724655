"""
What the LLM engine costs and what it loses, each figure against a floor, an ideal or a peer in the same run.

Example: python benchmarks/engine.py --quick

The server and every client are processes of their own. benchmarks/README.md says what each figure means and how the
peers' environments are made. Ends with one line of JSON: the figures, the bounds, and which of them are missed.
"""

import argparse
import heapq
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from engine_estimate import estimate
from engine_job import RETRY_AFTER, Job, fault_of
from engine_report import Report, Table
from engine_runs import HERE, IN_FLIGHT, LATENCY, MAIN, PEERS, Options, Outcome, Server, alone, run, say, serving

# No real server takes as long for each reply as for the next; only the parts that have an ideal client need that.
UNEVEN = ("--spread", "0.25")


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
            say(f"{name}: {time.perf_counter() - started:.1f} s")
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


def throughput(options: Options, report: Report) -> None:
    """Requests per second and CPU of a request, all served; Skiff and raw aiohttp in turn, then the others once."""
    head = ["client", "in flight", "requests/s", "CPU-s per 1,000", "peak MB", "connections"]
    table: Table = [head]
    report.tables["All requests served"] = table
    for in_flight in options.in_flight:
        rows = max(4000, 24 * in_flight)
        pairs = [
            [alone(options, options.job(client, in_flight, rows), *UNEVEN) for client in ("aiohttp", "skiff")]
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
        outcomes = [_middle(floors), *(alone(options, options.job(name, in_flight, rows), *UNEVEN) for name in others)]
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
