"""
What the sample store costs at a million samples, each figure against a floor or a peer in the same run.

Example: python benchmarks/store.py --quick

Every part runs in a process of its own, so that it starts cold and its memory is its own. The million samples are made
by SQL (store_rows.sql) in seconds. benchmarks/README.md says what each figure means. Ends with one line of JSON.
"""

import argparse
import hashlib
import json
import multiprocessing
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
MILLION = 1_000_000
SMALL = 200_000  # samples of the smaller shared store
CARDS = 20  # what a reviewer is given at a time
MEGABYTE = 1e6

Figures = dict[str, float]


@dataclass(frozen=True, slots=True)
class Goal:
    """A figure with a stated bound. `floor` is the figure it is measured against."""

    key: str
    unit: str
    bound: float
    meaning: str
    floor: str = ""
    at_least: bool = False

    def row(self, figures: Figures) -> str:
        """A line of the results' table in Markdown."""
        value = figures[self.key]
        met = value >= self.bound if self.at_least else value <= self.bound
        against = f"{figures[self.floor]:,.5g} {self.unit}" if self.floor in figures else ""
        bound = f"{'at least' if self.at_least else 'at most'} {self.bound:,g} {self.unit}".rstrip()
        cells = (self.meaning, f"`{self.key}`", f"{value:,.5g} {self.unit}", against, bound, "yes" if met else "no")
        return f"| {' | '.join(cells)} |"


GOALS = (
    Goal("import_vs_arrow", "", 1.5, "bulk import, seconds by those of one raw Arrow insert"),
    Goal("queue_ms_1m", "ms", 25, "a reviewer's next 20, median", "queue_floor_ms_1m"),
    Goal("claim_ms_1m", "ms", 25, "the same, claimed for the reviewer", "queue_floor_ms_1m"),
    Goal("decision_ms_1m", "ms", 15, "one decision, median", "decision_floor_ms_1m"),
    Goal("dashboard_ms_1m", "ms", 50, "the slowest group-by, median", "dashboard_floor_ms_1m"),
    Goal("shared_rows_per_s", "rows/s", 5000, "two writers together, five readers beside", "retry_rows_per_s", True),
    Goal("shared_read_p95_ms", "ms", 150, "a reader's next 20 meanwhile, 95 in 100", "retry_read_p95_ms"),
    Goal("shared_least_share", "", 0.4, "the slower writer's rows by half of both's", "retry_least_share", True),
    Goal("shared_1m_rows_per_s", "rows/s", 5000, "the same on a store of a million", "", True),
    Goal("shared_1m_read_p95_ms", "ms", 150, "the same on a store of a million"),
    Goal("store_mb_1m", "MB", 550, "the store, compacted", "parquet_mb_1m"),
)


def main() -> None:
    """Run the parts that were asked for; figures go to standard output, progress to standard error."""
    options = _options()
    figures: Figures = {"samples": MILLION, "cpus": os.cpu_count() or 1}
    with tempfile.TemporaryDirectory() as scratch:
        kept = options.store or Path(scratch)
        for name in options.part or PARTS:
            started = time.perf_counter()
            figures |= PARTS[name](options.quick, options.data, kept, Path(scratch))
            sys.stderr.write(f"{name}: {time.perf_counter() - started:.1f} s\n")
    lines = [goal.row(figures) for goal in GOALS if goal.key in figures]
    if options.markdown:
        sys.stdout.write("| what | figure | measured | floor or peer | bound | met |\n|---|---|---|---|---|---|\n")
        sys.stdout.write("\n".join([*lines, "", ""]))
    sys.stdout.write(json.dumps({key: round(value, 3) for key, value in figures.items()}) + "\n")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").strip().splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="under a minute: floors only, shorter and smaller runs")
    parser.add_argument(
        "--data", type=Path, default=HERE.parent / "data" / "sample", help="folder whose texts are cut up"
    )
    parser.add_argument("--store", type=Path, help="keep the made stores in this folder, and use those that are there")
    parser.add_argument("--part", action="append", choices=PARTS, help="only this part (repeatable)")
    parser.add_argument("--markdown", action="store_true", help="print the table of benchmarks/README.md as well")
    options = parser.parse_args()
    if not any(options.data.glob("retrieval/*/corpus.jsonl")):
        parser.error(
            f"{options.data}: has no retrieval/*/corpus.jsonl to take texts from; name a folder like data/sample"
        )
    if options.store and not options.store.is_dir():
        parser.error(f"{options.store}: is no folder; make it first, with room for 2 GB")
    return options


def apart(function: Callable[..., Any], *arguments: Any) -> Any:
    """What the function returns, from a new process."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


@dataclass(frozen=True, slots=True)
class Took:
    """What one of several equal calls took, in milliseconds: median, the 95th in 100, and median CPU of all threads."""

    median: float
    p95: float
    cpu: float

    def figures(self, name: str) -> Figures:
        """Under their names in the outcome."""
        return {f"{name}_ms_1m": self.median, f"{name}_p95_ms_1m": self.p95, f"{name}_cpu_ms_1m": self.cpu}


def timed(call: Callable[[], Any], times: int) -> Took:
    """Time so many calls, one after the other, in this process."""
    took, cpu = [], []
    for _ in range(times):
        started, used = time.perf_counter(), time.process_time()
        call()
        took.append(1e3 * (time.perf_counter() - started))
        cpu.append(1e3 * (time.process_time() - used))
    return Took(statistics.median(took), sorted(took)[int(0.95 * times)], statistics.median(cpu))


def import_part(quick: bool, data: Path, kept: Path, scratch: Path) -> Figures:
    """Bulk import against one raw Arrow insert, as benchmarks/bulk_import.py measures it."""
    samples = 100_000 if quick else MILLION
    measured = _last_line([str(HERE / "bulk_import.py"), "--samples", str(samples)])
    return {"import_samples" if key == "num_samples" else key: value for key, value in measured.items()}


def made_store(data: Path, kept: Path, num_samples: int) -> Path:
    """A store of so many samples, made unless `kept` has it: of these rows, these tables and these texts."""
    from synth.store import engine, migrate

    tables = sorted(Path(migrate.__file__).parent.rglob("*.sql"))
    recipe = [
        path.read_bytes() for path in (HERE / "store_rows.sql", *tables, *sorted(data.glob("retrieval/*/corpus.jsonl")))
    ]
    folder = kept / f"{num_samples}-{hashlib.sha256(b''.join([*recipe, b'%d' % engine.ROW_GROUP])).hexdigest()[:12]}"
    if not folder.exists():
        unfinished = kept / f".{folder.name}.{os.getpid()}"
        unfinished.mkdir()
        apart(_fill, unfinished / "store.duckdb", data, num_samples)
        unfinished.rename(folder)
    return folder / "store.duckdb"


def _fill(path: Path, data: Path, num_samples: int) -> None:
    from synth.store import samples
    from synth.store.connection import Store

    words, characters = _fragments(data)
    store = Store.create(path)
    with store.write() as cursor:
        cursor.execute("SET VARIABLE fragments = $all::VARCHAR[]", {"all": words + characters})
        for name, value in (("num_words", len(words)), ("num_characters", len(characters)), ("num", num_samples)):
            cursor.execute(f"SET VARIABLE {name} = {value}")
        cursor.execute((HERE / "store_rows.sql").read_text(encoding="utf-8"))
    samples.rebuild_state(store)


def _fragments(data: Path) -> tuple[list[str], list[str]]:
    """The corpora in pieces of three words and a space; of six characters, where there are no spaces."""
    from synth.records import normalise

    words: list[str] = []
    characters = ""
    for corpus in sorted(data.glob("retrieval/*/corpus.jsonl")):
        with corpus.open(encoding="utf-8") as lines:
            texts = [normalise(json.loads(line)["text"]) for line in lines]
        for text in texts:
            if len(text.split()) * 20 > len(text):
                words += text.split()
            else:
                characters += "".join(text.split())
    return (
        [" ".join(words[start : start + 3]) + " " for start in range(0, len(words) - 2, 3)],
        [characters[start : start + 6] for start in range(0, len(characters) - 5, 6)],
    )


def queue_part(quick: bool, data: Path, kept: Path, scratch: Path) -> Figures:
    """A reviewer's next 20 cards, in a new process and warm, with and without claims, against one read of 20 texts."""
    path = _copy(made_store(data, kept, MILLION), scratch)
    cold = statistics.median(apart(_first_cards, path) for _ in range(1 if quick else 3))
    return {"queue_cold_ms_1m": cold, **apart(_measure_queue, path, 20 if quick else 50)}


def _first_cards(path: Path) -> float:
    from synth.store import queues
    from synth.store.connection import Store

    return timed(lambda: queues.cards(Store.open(path), reviewer="ada", limit=CARDS), 1).median


def _measure_queue(path: Path, times: int) -> Figures:
    from synth.store import queues
    from synth.store.connection import Store

    store = Store.open(path)
    ids = [str(card.revision_id) for card in queues.cards(store, reviewer="ada", limit=CARDS)]

    def keyed_read() -> None:
        with store.read() as cursor:
            cursor.execute(
                "SELECT query, positives FROM revision WHERE rowid IN"
                " (SELECT rowid FROM revision WHERE revision_id IN (SELECT unnest($ids::UUID[])))",
                {"ids": ids},
            ).fetchall()

    claim_for = timedelta(minutes=15)
    floor = timed(keyed_read, times)
    plain = timed(lambda: queues.cards(store, reviewer="ada", limit=CARDS), times)
    claimed = timed(lambda: queues.cards(store, reviewer="ada", limit=CARDS, claim_for=claim_for), times)
    figures = plain.figures("queue") | claimed.figures("claim") | floor.figures("queue_floor")
    return figures | {"queue_vs_floor": plain.median / floor.median}


def decision_part(quick: bool, data: Path, kept: Path, scratch: Path) -> Figures:
    """Storing one review event and what follows from it, against a one-row insert through a lease."""
    return apart(_measure_decision, _copy(made_store(data, kept, MILLION), scratch), 20 if quick else 50)  # type: ignore[no-any-return]


def _measure_decision(path: Path, times: int) -> Figures:
    from synth.records import ReviewEvent, Verdict, new_id
    from synth.store import queues, reviews
    from synth.store.connection import Store

    store = Store.open(path)
    waiting = iter(queues.cards(store, reviewer="ada", limit=2 * times))

    def decide() -> None:
        card = next(waiting)
        event = ReviewEvent(
            new_id(), "ada", card.sample_id, card.revision_id, Verdict.APPROVE, difficulty=2, seconds=7.0
        )
        reviews.add_reviews(store, [event])

    def insert_one() -> None:
        with store.write() as cursor:
            cursor.execute("INSERT INTO claim VALUES ($id, 'nobody', TIMESTAMP '2000-01-01')", {"id": new_id()})

    insert_one()
    decide()
    floor, took = timed(insert_one, times), timed(decide, times)
    return (
        took.figures("decision") | floor.figures("decision_floor") | {"decision_vs_floor": took.median / floor.median}
    )


GROUP_BYS = {
    "stats": "SELECT source, task, operation, status, count(*) AS n FROM statuses GROUP BY ALL ORDER BY ALL",
    "difficulty": "SELECT task, status, count(*) AS n, avg(difficulty) AS mean, quantile_cont(hardness, 0.9) AS hardest"
    " FROM statuses GROUP BY ALL",
    "prompts": "SELECT prompt_version, floor(hardness * 10) / 10 AS bucket, count(*) AS n,"
    " avg((status = 'approved')::INTEGER) AS approved FROM samples WHERE num_reviews > 0 GROUP BY ALL",
    "days": "SELECT created_at::DATE AS day, model, prompt_version, count(*) AS n FROM revisions GROUP BY ALL",
    "reviewers": "SELECT reviewer, verdict, count(*) AS n, median(seconds) AS seconds FROM reviews"
    " WHERE negative_id IS NULL AND NOT is_undo AND NOT is_undone GROUP BY ALL",
}


def dashboards_part(quick: bool, data: Path, kept: Path, scratch: Path) -> Figures:
    """Group-bys over the documented views through a lease, against the same on a connection that stays open."""
    return apart(_measure_dashboards, made_store(data, kept, MILLION), 5 if quick else 20)  # type: ignore[no-any-return]


def _measure_dashboards(path: Path, times: int) -> Figures:
    import duckdb

    from review_app import figures as page
    from synth.store.connection import Store
    from synth.store.console import query

    store = Store.open(path)

    def leased(sql: str) -> None:
        with store.read() as cursor:
            cursor.execute(sql).fetchall()

    took = {name: timed(partial(leased, sql), times) for name, sql in GROUP_BYS.items()}
    figures = timed(lambda: query(store, GROUP_BYS["stats"]), times).figures("sandboxed_stats")
    figures |= timed(lambda: page.progress(store), times).figures("progress_page")
    slowest = max(took, key=lambda name: took[name].median)
    with duckdb.connect(path, read_only=True) as connection:
        floor = timed(lambda: connection.execute(GROUP_BYS[slowest]).fetchall(), times)
    figures |= took[slowest].figures("dashboard") | floor.figures("dashboard_floor")
    figures |= {f"dashboard_{name}_ms_1m": each.median for name, each in took.items()}
    return figures | {"dashboard_vs_floor": took[slowest].median / floor.median}


def shared_part(quick: bool, data: Path, kept: Path, scratch: Path) -> Figures:
    """Two writers and five readers at once, as benchmarks/store_crowd.py measures them; in full also its peer."""
    seconds = 8 if quick else 60
    figures = {"shared_seconds": float(seconds)}
    figures |= _crowd("shared", _copy(made_store(data, kept, SMALL), scratch), seconds)
    if not quick:
        figures |= _crowd("retry", _copy(made_store(data, kept, SMALL), scratch), seconds // 3, "--retry")
        figures["shared_vs_retry"] = figures["shared_rows_per_s"] / figures["retry_rows_per_s"]
        figures |= _crowd("shared_1m", _copy(made_store(data, kept, MILLION), scratch), seconds)
    return figures


def _crowd(name: str, path: Path, seconds: int, *options: str) -> Figures:
    measured = _last_line([str(HERE / "store_crowd.py"), str(path), "--seconds", str(seconds), *options])
    return {f"{name}_{key}": value for key, value in measured.items()}


def _last_line(command: Sequence[str]) -> Figures:
    """The figures that another benchmark ends with."""
    done = subprocess.run([sys.executable, *command], stdout=subprocess.PIPE, text=True, check=True)
    figures: Figures = json.loads(done.stdout.splitlines()[-1])
    return figures


def size_part(quick: bool, data: Path, kept: Path, scratch: Path) -> Figures:
    """Bytes of the whole schema, against its texts; in full after `synth store compact`, and against zstd Parquet."""
    path = made_store(data, kept, MILLION)
    if quick:
        return {"store_mb_1m": path.stat().st_size / MEGABYTE}
    return apart(_measure_size, _copy(path, scratch), scratch / "parquet")  # type: ignore[no-any-return]


def _measure_size(path: Path, parquet: Path) -> Figures:
    from synth.store.connection import Store
    from synth.store.upkeep import compact

    store = Store.open(path)
    compact(store)
    parquet.mkdir()
    with store.read() as cursor:
        tables = cursor.execute("SELECT table_name FROM duckdb_tables() WHERE database_name = 'store'").fetchall()
        for (table,) in tables:
            cursor.execute(f"COPY {table} TO '{parquet / table}.parquet' (FORMAT parquet, COMPRESSION zstd)")
        [(texts,)] = cursor.execute(
            "SELECT (SELECT sum(strlen(query) + strlen(array_to_string(positives, ''))) FROM revision)"
            " + (SELECT sum(strlen(text)) FROM text)"
        ).fetchall()
    size = path.stat().st_size / MEGABYTE
    return {
        "store_mb_1m": size,
        "texts_mb_1m": float(texts) / MEGABYTE,
        "parquet_mb_1m": sum(file.stat().st_size for file in parquet.iterdir()) / MEGABYTE,
        "store_vs_texts": size * MEGABYTE / float(texts),
    }


def export_part(quick: bool, data: Path, kept: Path, scratch: Path) -> Figures:
    """Time and peak memory of `synth release create` of what is approved."""
    path = _copy(made_store(data, kept, SMALL if quick else MILLION), scratch)
    command = [
        str(Path(sys.executable).with_name("synth")),
        "release",
        "create",
        "bench",
        "-w",
        str(path.parent),
        "--json",
    ]
    started = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert process.stdout
    answer = process.stdout.read()
    _, status, used = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - started
    if status:
        raise SystemExit(f"{path.parent}: synth release create failed, see above")
    counts = json.loads(answer)["counts"]
    return {
        "export_samples": counts["retrieval"],
        "export_samples_per_s": counts["retrieval"] / seconds,
        "export_peak_mb": used.ru_maxrss * 1024 / MEGABYTE,
    }


def _copy(path: Path, scratch: Path) -> Path:
    """A copy to write to, as the store of a workspace; it takes the place of the one before."""
    folder = scratch / "workspace"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    return Path(shutil.copy(path, folder / "store.duckdb"))


PARTS: dict[str, Callable[[bool, Path, Path, Path], Figures]] = {
    "import": import_part,
    "queue": queue_part,
    "decision": decision_part,
    "dashboards": dashboards_part,
    "shared": shared_part,
    "size": size_part,
    "export": export_part,
}

if __name__ == "__main__":
    main()
