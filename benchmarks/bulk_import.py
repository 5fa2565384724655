"""
Bulk import against its floor: one Arrow insert of the same rows, from the same batches, into a fresh DuckDB file.

Example: python benchmarks/bulk_import.py --quick

A sample is a query of about 80 characters, a positive of 330, a labelled negative of 170 and ten columns that describe
it; words are drawn by seed from the bundled data, three rows in ten in Chinese. Both sides read the batches from a
file, each in a process of its own, in turns. Ends with one JSON line.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.compute

DATA = Path(__file__).parent.parent / "data" / "sample"
CHARACTERS = {"query": 80, "positives": 330, "negatives": 170}
BATCH = 122_880  # rows; what a lease of ours takes, and what DuckDB's own insert is fastest with
SHARE_CHINESE = 0.3
NUM_PROBES = 3  # runs of either side, in turns; the best of each counts


def words(language: str) -> list[str]:
    """The words of the bundled passages in their own frequencies; of Chinese, runs of three characters."""
    found: list[str] = []
    for path in sorted(DATA.glob(f"retrieval/*-{language}/corpus.jsonl")):
        for line in path.read_text(encoding="utf-8").splitlines():
            text = "".join(json.loads(line)["text"].split()) if language == "zh" else json.loads(line)["text"]
            found += [text[at : at + 3] for at in range(0, len(text), 3)] if language == "zh" else text.split()
    return found


def texts(rng: np.random.Generator, vocabulary: list[str], length: float, number: int, between: str) -> pyarrow.Array:
    """(number,) texts whose number of words is normally distributed about `length`."""
    lengths = np.maximum(2, rng.normal(length, 0.3 * length, number)).astype(np.int32)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    drawn = pyarrow.array(vocabulary).take(pyarrow.array(rng.integers(0, len(vocabulary), offsets[-1])))
    return pyarrow.compute.binary_join(pyarrow.ListArray.from_arrays(pyarrow.array(offsets), drawn), between)


def batches(num_samples: int, seed: int = 0) -> Iterator[pyarrow.RecordBatch]:
    """The samples: query, positives, negatives and the columns that come with them."""
    rng = np.random.default_rng(seed)
    english, chinese = words("en"), words("zh")
    for start in range(0, num_samples, BATCH):
        number = min(BATCH, num_samples - start)
        num_chinese = int(number * SHARE_CHINESE)
        order = pyarrow.array(rng.permutation(number))
        columns: dict[str, pyarrow.Array] = {}
        for name, characters in CHARACTERS.items():
            one = texts(rng, english, characters / 5.9, number - num_chinese, " ")
            other = texts(rng, chinese, characters / 9, num_chinese, "")  # a character is three bytes
            column = pyarrow.concat_arrays([one, other]).take(order)
            offsets = pyarrow.array(np.arange(number + 1, dtype=np.int32))
            columns[name] = column if name == "query" else pyarrow.ListArray.from_arrays(offsets, column)
        columns["external_id"] = pyarrow.array([f"row-{start + row}" for row in range(number)])
        for name in ("instruction", "method", "model", "prompt_version"):
            columns[name] = pyarrow.array([name] * number)
        yield pyarrow.record_batch(columns)


def raw(rows: Path, folder: Path) -> float:
    """One statement: a table with the rows' columns and those that say what they are. Seconds, the checkpoint's too."""
    import duckdb

    with duckdb.connect(folder / "raw.duckdb") as connection, pyarrow.OSFile(str(rows)) as file:
        reader = pyarrow.ipc.open_stream(file)
        connection.register("incoming", reader)
        started = time.perf_counter()
        connection.execute(
            "CREATE TABLE sample AS SELECT *, 'retrieval' AS task, 'ingest' AS operation, 'source' AS source_id,"
            " 'run' AS run_id, now()::TIMESTAMP AS created_at FROM incoming"
        )
        connection.execute("CHECKPOINT")
        return time.perf_counter() - started


def ours(rows: Path, folder: Path) -> float:
    """The import as `synth ingest` does it: a lease for each batch. Seconds."""
    from synth.records import Source, Task, Use, new_id
    from synth.store import sources
    from synth.store.bulk import add_rows
    from synth.store.connection import Store

    source = Source("bulk", "train", Use.TRAIN, "retrieval", "a benchmark", "CC0-1.0", "1")
    store = Store.create(folder / "store.duckdb")
    with store.write() as cursor:
        sources.add_source(cursor, source, new_id())
    num_new, run_id = 0, new_id()
    with pyarrow.OSFile(str(rows)) as file:
        started = time.perf_counter()
        for batch in pyarrow.ipc.open_stream(file):
            with store.write() as cursor:
                table = pyarrow.Table.from_batches([batch])
                added = add_rows(cursor, Task.RETRIEVAL, table, source_id=source.source_id, run_id=run_id)
            num_new += added.num_new
        seconds = time.perf_counter() - started
    if num_new == 0:
        raise SystemExit("nothing was imported")
    return seconds


SIDES = {"raw": raw, "ours": ours}


def _in_a_process(side: str, rows: Path, folder: Path) -> dict[str, float]:
    """Seconds of wall and of processor, peak resident MB and bytes of the file, of one side."""
    with tempfile.TemporaryDirectory(dir=folder) as place:
        command = [sys.executable, __file__, "--side", side, str(rows), place]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def measure(num_samples: int, folder: Path) -> dict[str, float]:
    """
    Import `num_samples` synthetic samples both ways, in turns, in `folder` (which needs about 2 KB for each).

    Returns import_vs_arrow (our seconds by the raw insert's, best of each), the same of processor time, and of both
    sides rows per second, peak resident memory of the process in MB and bytes of the file per sample.
    """
    rows = folder / "rows.arrow"
    stream = batches(num_samples)
    first = next(stream)
    with pyarrow.OSFile(str(rows), "wb") as file, pyarrow.ipc.new_stream(file, first.schema) as writer:
        writer.write_batch(first)
        for batch in stream:
            writer.write_batch(batch)
    runs = [{side: _in_a_process(side, rows, folder) for side in SIDES} for _ in range(NUM_PROBES)]
    rows.unlink()
    best = {side: {key: min(run[side][key] for run in runs) for key in runs[0][side]} for side in SIDES}
    return {
        "num_samples": num_samples,
        "import_vs_arrow": best["ours"]["seconds"] / best["raw"]["seconds"],
        "import_vs_arrow_cpu": best["ours"]["cpu_seconds"] / best["raw"]["cpu_seconds"],
        "import_rows_per_s": num_samples / best["ours"]["seconds"],
        "arrow_rows_per_s": num_samples / best["raw"]["seconds"],
        "import_peak_memory_mb": best["ours"]["peak_mb"],
        "arrow_peak_memory_mb": best["raw"]["peak_mb"],
        "import_bytes_per_sample": best["ours"]["bytes"] / num_samples,
        "arrow_bytes_per_sample": best["raw"]["bytes"] / num_samples,
    }


def _one_side(side: str, rows: Path, folder: Path) -> dict[str, float]:
    cpu = time.process_time()
    seconds = SIDES[side](rows, folder)
    return {
        "seconds": seconds,
        "cpu_seconds": time.process_time() - cpu,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "bytes": sum(path.stat().st_size for path in folder.glob("*.duckdb")),
    }


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=1_000_000)
    parser.add_argument("--quick", action="store_true", help="100,000 samples: under a minute")
    parser.add_argument("--side", nargs=3, metavar=("SIDE", "ROWS", "FOLDER"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        side, rows, folder = options.side
        sys.stdout.write(json.dumps(_one_side(side, Path(rows), Path(folder))) + "\n")
        return
    with tempfile.TemporaryDirectory() as place:
        found = measure(100_000 if options.quick else options.samples, Path(place))
    for name, value in found.items():
        sys.stdout.write(f"{name:26} {value:12,.2f}\n")
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
