"""
What importing a file costs in time and memory, against a floor in the same run.

Example: python benchmarks/file_import.py --quick

Three data sets of the same made-up triplets and passages: JSON Lines (floor: json.loads over the lines), Parquet
(floor: pyarrow reading it) and a BEIR folder (floor: json.loads over its corpus). Every import and every floor runs in
a process of its own; memory is the peak of its resident set. Ends with one line of JSON: NAME_rows_per_s,
NAME_floor_rows_per_s, NAME_peak_memory_mb, NAME_mb (of the files).
"""

import argparse
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

SEED = 0
ROW_BYTES = 620  # of a triplet as a line of JSON, about
NUM_BEIR = 1_000_000  # passages of the BEIR folder
QUICK = 100  # the part of each that --quick takes
MEMORY_FLOOR_MB = 1500  # no import may take more, however large the file


def main() -> None:
    """Make the files, run every part in a process of its own, print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a hundredth of the rows")
    parser.add_argument("--size", type=float, default=1e9, help="bytes of the JSON Lines file")
    parser.add_argument("--folder", type=Path, help="where to write (default: the folder for temporary files)")
    parser.add_argument("--part", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.part:
        kind, name, path = options.part
        sys.stdout.write(json.dumps(measured(PARTS[kind], name, Path(path))))
        return
    share = QUICK if options.quick else 1
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        figures = run(Path(folder), int(options.size / ROW_BYTES) // share, NUM_BEIR // share)
    sys.stdout.write(json.dumps(figures) + "\n")
    worst = max(value for key, value in figures.items() if key.endswith("peak_memory_mb"))
    if worst > MEMORY_FLOOR_MB:
        raise SystemExit(f"an import took {worst} MB, above {MEMORY_FLOOR_MB}")


def run(folder: Path, num_rows: int, num_beir: int) -> dict[str, float]:
    """The figures of all three data sets."""
    jsonl, parquet, beir = folder / "triplets.jsonl", folder / "columns.parquet", folder / "beir"
    write_json_lines(jsonl, triplets(num_rows))
    write_parquet(jsonl, parquet)
    write_beir(beir, num_beir)
    figures: dict[str, float] = {}
    for name, path in (("jsonl", jsonl), ("parquet", parquet), ("beir", beir)):
        sys.stderr.write(f"{name}\n")
        imported, floor = apart("import", name, path), apart("floor", name, path)
        files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
        figures |= {
            f"{name}_rows_per_s": round(imported["rows"] / imported["seconds"]),
            f"{name}_floor_rows_per_s": round(floor["rows"] / floor["seconds"]),
            f"{name}_peak_memory_mb": round(imported["memory_mb"]),
            f"{name}_rows": imported["rows"],
            f"{name}_mb": round(sum(file.stat().st_size for file in files) / 1e6),
        }
    return figures


def apart(kind: str, name: str, path: Path) -> dict[str, float]:
    """What one part measured, in a process of its own."""
    command = [sys.executable, __file__, "--part", kind, name, str(path)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return dict(json.loads(done.stdout))


def measured(part: Callable[[str, Path], int], name: str, path: Path) -> dict[str, float]:
    """Rows, seconds, and the peak of this process's memory."""
    started = time.perf_counter()
    rows = part(name, path)
    seconds = time.perf_counter() - started
    return {"rows": rows, "seconds": seconds, "memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


def import_file(_: str, path: Path) -> int:
    """Import into a fresh store beside the file."""
    from synth.stages.ingest import read_checked, store_checked
    from synth.workspace import Workspace

    workspace = Workspace.create(path.parent / f"workspace-{path.stem}")
    started = time.perf_counter()
    rows = 0

    def count(number: int) -> None:
        nonlocal rows
        rows += number

    with read_checked(workspace.store, path, declared_use=None, on_progress=count) as checked:
        read = time.perf_counter() - started
        store_checked(workspace.store, checked, on_progress=lambda _: None)
    stored = time.perf_counter() - started - read
    sys.stderr.write(f"  read and checked {rows} rows in {read:.1f} s, stored in {stored:.1f} s\n")
    return rows


def read_only(name: str, path: Path) -> int:
    """The least that any import does: take the file apart."""
    if name == "parquet":
        from pyarrow.parquet import ParquetFile

        return sum(batch.num_rows for batch in ParquetFile(path).iter_batches())
    with (path if path.is_file() else path / "corpus.jsonl").open("rb") as lines:
        return sum(1 for line in lines if json.loads(line))


def words(choose: random.Random, number: int) -> str:
    """A text of made-up words."""
    return " ".join(f"w{choose.randrange(50_000)}" for _ in range(number))


def triplets(number: int) -> Iterator[dict[str, Any]]:
    """Rows of sentence-transformers."""
    choose = random.Random(SEED)
    for _ in range(number):
        yield {"anchor": words(choose, 10), "positive": words(choose, 42), "negative": words(choose, 42)}


def write_json_lines(path: Path, rows: Iterator[dict[str, Any]]) -> None:
    """One object a line."""
    with path.open("w", encoding="utf-8") as lines:
        lines.writelines(json.dumps(row) + "\n" for row in rows)


def write_parquet(source: Path, path: Path) -> None:
    """The rows of a JSON Lines file as Parquet."""
    import pyarrow
    from pyarrow.parquet import ParquetWriter

    schema = pyarrow.schema([(name, pyarrow.string()) for name in ("anchor", "positive", "negative")])
    with source.open("rb") as lines, ParquetWriter(path, schema, compression="zstd") as writer:
        while batch := [json.loads(line) for _, line in zip(range(50_000), lines, strict=False)]:
            writer.write_table(pyarrow.Table.from_pylist(batch, schema=schema))


def write_beir(folder: Path, number: int) -> None:
    """So many passages, a query for every tenth, and two judgements of each query."""
    choose = random.Random(SEED)
    (folder / "qrels").mkdir(parents=True)
    corpus = ({"_id": str(n), "title": words(choose, 4), "text": words(choose, 60)} for n in range(number))
    write_json_lines(folder / "corpus.jsonl", corpus)
    queries = ({"_id": f"q{n}", "text": words(choose, 9)} for n in range(number // 10))
    write_json_lines(folder / "queries.jsonl", queries)
    with (folder / "qrels" / "train.tsv").open("w") as lines:
        lines.write("query-id\tcorpus-id\tscore\n")
        for n in range(number // 10):
            lines.writelines(f"q{n}\t{choose.randrange(number)}\t1\n" for _ in range(2))


PARTS: dict[str, Callable[[str, Path], int]] = {"import": import_file, "floor": read_only}

if __name__ == "__main__":
    main()
