"""
Two writers flat out and five readers, ten times a second each, on one store, for so many seconds.

Example: python benchmarks/store_crowd.py copy/store.duckdb --seconds 60

Writers store batches of 100 new samples (add_drafts), readers ask for their next 20 cards; all through leases, or with
--retry through the peer: DuckDB's own way between processes, a connection for each transaction, tried until the lock is
free. The store is changed: give a copy. Ends with one line of JSON: rows_per_s of both writers, least_share (the slower
writer's rows by half of both's), reads, and read_p50_ms, read_p95_ms, read_max_ms of a reader's call, waiting included.
"""

import argparse
import json
import multiprocessing
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

if TYPE_CHECKING:
    import duckdb

    from synth.records import Draft
    from synth.store.connection import Store

NUM_WRITERS, NUM_READERS = 2, 5
BATCH = 100  # samples a writer stores in one lease
CARDS = 20  # what a reader asks for
READ_EVERY = 0.1  # seconds from the start of a reader's call to the start of its next one, unless stated
PATIENCE = 120.0  # seconds beyond the stated time after which a process counts as lost


def main() -> None:
    """Run the crowd and print its figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").strip().splitlines()[0])
    parser.add_argument("store", type=Path, help="the file of a store with samples; it is changed")
    parser.add_argument("--seconds", type=float, default=60.0, help="how long they write and read")
    parser.add_argument("--retry", action="store_true", help="the peer: a connection for each transaction, and retries")
    parser.add_argument("--read-every", type=float, default=READ_EVERY, help="seconds between a reader's calls")
    options = parser.parse_args()
    if not options.store.is_file():
        parser.error(f"{options.store}: there is no store here; benchmarks/store.py --store FOLDER makes some")
    figures = crowd(options.store, options.seconds, read_every=options.read_every, retrying=options.retry)
    sys.stdout.write(json.dumps({key: round(value, 3) for key, value in figures.items()}) + "\n")


def crowd(path: Path, seconds: float, *, read_every: float, retrying: bool) -> dict[str, float]:
    """The figures of one crowd. Raises SystemExit if a row that a writer counted is not there, or one more is."""
    context = multiprocessing.get_context("spawn")
    together, results = context.Barrier(NUM_WRITERS + NUM_READERS), context.Queue()
    with ProcessPoolExecutor(1, mp_context=context) as other:
        before = other.submit(_num_revisions, path).result()
        jobs = [partial(_write, path) for _ in range(NUM_WRITERS)]
        jobs += [partial(_read, path, number, read_every) for number in range(NUM_READERS)]
        processes = [context.Process(target=job, args=(retrying, together, results, seconds)) for job in jobs]
        for process in processes:
            process.start()
        told = [results.get(timeout=seconds + PATIENCE) for _ in processes]
        for process in processes:
            process.join()
        stored = other.submit(_num_revisions, path).result() - before
    written = [rows for kind, rows in told if kind == "rows"]
    reads = sorted(each for kind, took in told if kind == "reads" for each in took)
    if stored != sum(written):
        raise SystemExit(f"{path}: the writers counted {sum(written)} rows, and {stored} are there")
    return {
        "rows_per_s": sum(written) / seconds,
        "least_share": min(written) / (sum(written) / len(written)),
        "reads": len(reads),
        "read_p50_ms": statistics.median(reads),
        "read_p95_ms": reads[int(0.95 * len(reads))],
        "read_max_ms": reads[-1],
    }


def _num_revisions(path: Path) -> int:
    from synth.store.connection import Store

    with Store.open(path).read() as cursor:
        [(num,)] = cursor.execute("SELECT count(*) FROM revision").fetchall()
    return int(num)


def _opened(path: Path, retrying: bool) -> "Store":
    from synth.store.connection import Store

    return _connecting(path) if retrying else Store.open(path)


def _write(path: Path, retrying: bool, together: Any, results: Any, seconds: float) -> None:
    """Store batches of new samples until the time is up; the last one may end a little later."""
    from synth.records import new_id
    from synth.store.samples import add_drafts

    store, run_id = _opened(path, retrying), new_id()
    with store.read() as cursor:
        [(source_id,)] = cursor.execute("SELECT min(source_id) FROM source").fetchall()
        texts = cursor.execute("SELECT query, positives[1] FROM revision LIMIT 10000").fetchall()
    together.wait()
    ends, rows = time.monotonic() + seconds, 0
    while time.monotonic() < ends:
        drafts = [_draft(texts, rows + place, f"{run_id} {rows + place}", source_id) for place in range(BATCH)]
        with store.write() as cursor:
            rows += add_drafts(cursor, drafts, run_id)
    results.put(("rows", rows))


def _draft(texts: Sequence[tuple[str, str]], place: int, mark: str, source_id: UUID) -> "Draft":
    """A sample like those of the store; `mark` makes it a new one."""
    from synth.records import Draft, Retrieval

    query, _ = texts[place % len(texts)]
    _, positive = texts[7 * place % len(texts)]
    return Draft(Retrieval(f"{query} {mark}", (positive,)), source_id, "query", "llm")


def _read(path: Path, number: int, every: float, retrying: bool, together: Any, results: Any, seconds: float) -> None:
    """Ask for cards every so many seconds; a reader who waited longer than that asks again at once."""
    from synth.store.queues import cards

    store = _opened(path, retrying)
    took: list[float] = []
    together.wait()
    ends = time.monotonic() + seconds
    time.sleep(every * number / NUM_READERS)  # people do not ask in step
    while (started := time.monotonic()) < ends:
        cards(store, reviewer=f"reader {number}", limit=CARDS)
        took.append(1e3 * (time.monotonic() - started))
        time.sleep(max(0.0, started + every - time.monotonic()))
    results.put(("reads", took))


def _connecting(path: Path) -> "Store":
    """A store whose leases are connections of their own, tried again and again, at most for a minute."""
    import duckdb
    import tenacity

    from synth.store.connection import Store

    patient = tenacity.retry(
        retry=tenacity.retry_if_exception_type(duckdb.IOException),
        wait=tenacity.wait_random_exponential(multiplier=0.005, max=0.2),
        stop=tenacity.stop_after_delay(60),
        reraise=True,
    )

    class Connecting(Store):
        @contextmanager
        def read(self) -> Iterator["duckdb.DuckDBPyConnection"]:
            with patient(duckdb.connect)(path, read_only=True) as connection:
                yield connection

        @contextmanager
        def write(self) -> Iterator["duckdb.DuckDBPyConnection"]:
            with patient(duckdb.connect)(path) as connection:
                connection.execute("BEGIN TRANSACTION")
                yield connection
                connection.execute("COMMIT")

    return Connecting(path)


if __name__ == "__main__":
    main()
