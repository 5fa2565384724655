"""
Exporting a release to the formats that other tools train on (docs/export.md). Reads the release's folder alone, a batch
of rows at a time.

Nothing is lost in silence: an export says which samples its format has no room for, and what of the others.
"""

import csv
import json
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from synth.records import SkiffError, Task, UserError, text_id
from synth.stages.release_files import BATCH, COLUMNS, COMMON, read_complete_rows, read_manifest, samples_file

Row = Mapping[str, Any]
Write = Callable[[Row], None]
SHOWN_INSTRUCTIONS = 3


@dataclass(frozen=True)
class Exported:
    """The outcome: rows by file, samples left out by why, and what the format does not carry."""

    path: Path
    format: str
    files: Mapping[str, int]
    left_out: Mapping[str, int]
    notes: Sequence[str]


@dataclass(frozen=True)
class Format:
    """A format: what it is, for the help; what it does not carry; and what writes it into a folder."""

    summary: str
    lost: str
    write: Callable[["_Export"], None]


@dataclass(frozen=True)
class _Export:
    """An export under way: from where, to where, and what was counted."""

    release: Path
    folder: Path
    num_negatives: int
    files: Counter[str]
    left_out: Counter[str]

    def rows(self, *tasks: Task, fewest_negatives: int = 0) -> Iterator[dict[str, Any]]:
        """The samples of these tasks that have enough negatives; all others are counted as left out."""
        for task in Task:
            for row in read_complete_rows(self.release, task):
                if task not in tasks:
                    self.left_out[f"{task} samples: the format holds {' and '.join(tasks)} alone"] += 1
                elif len(row.get("negatives") or ()) < fewest_negatives:
                    needed = "no negative" if fewest_negatives == 1 else f"fewer than {fewest_negatives} negatives"
                    self.left_out[f"samples with {needed}"] += 1
                else:
                    yield row

    @contextmanager
    def lines(self, name: str) -> Iterator[Write]:
        """A file of JSON Lines."""
        with (self.folder / name).open("w", encoding="utf-8") as file:

            def write(row: Row) -> None:
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
                self.files[name] += 1

            yield write

    @contextmanager
    def table(self, name: str, columns: Sequence[str], separator: str = ",") -> Iterator[Write]:
        """A file of separated values, with a heading; lists as JSON."""
        with (self.folder / name).open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, delimiter=separator, lineterminator="\n")
            writer.writerow(columns)

            def write(row: Row) -> None:
                values = (row[column] for column in columns)
                writer.writerow(
                    json.dumps(value, ensure_ascii=False) if isinstance(value, list) else value for value in values
                )
                self.files[name] += 1

            yield write

    def parquet(self, name: str, rows: Iterable[Row], kinds: Mapping[str, str]) -> None:
        """A Parquet file of columns of these types (Arrow's names)."""
        import pyarrow
        from pyarrow import parquet

        schema = pyarrow.schema([(column, pyarrow.type_for_alias(kind)) for column, kind in kinds.items()])
        remaining = iter(rows)
        with parquet.ParquetWriter(self.folder / name, schema, compression="zstd") as file:
            while batch := list(islice(remaining, BATCH)):
                file.write_table(pyarrow.Table.from_pylist(batch, schema=schema))
                self.files[name] += len(batch)


def _write_beir(export: _Export) -> None:
    (export.folder / "qrels").mkdir()
    seen: set[bytes] = set()
    with ExitStack() as stack:
        corpus = stack.enter_context(export.lines("corpus.jsonl"))
        queries = stack.enter_context(export.lines("queries.jsonl"))
        qrels = stack.enter_context(export.table("qrels/train.tsv", ("query-id", "corpus-id", "score"), "\t"))
        for row in export.rows(Task.RETRIEVAL):
            queries({"_id": row["sample_id"], "text": row["query"]})
            positives = {text_id(text): text for text in row["positives"]}
            negatives = {text_id(negative["text"]): negative["text"] for negative in row["negatives"]}
            for passage_id, text in (positives | negatives).items():
                if passage_id.bytes not in seen:
                    seen.add(passage_id.bytes)
                    corpus({"_id": str(passage_id), "title": "", "text": text})
            for passage_id in positives:
                qrels({"query-id": row["sample_id"], "corpus-id": str(passage_id), "score": 1})


def _write_triplets(export: _Export) -> None:
    rows = (
        {"anchor": row["query"], "positive": positive, "negative": negative["text"]}
        for row in export.rows(Task.RETRIEVAL, fewest_negatives=1)
        for positive in row["positives"]
        for negative in row["negatives"]
    )
    export.parquet("train.parquet", rows, dict.fromkeys(("anchor", "positive", "negative"), "string"))


def _write_tuples(export: _Export) -> None:
    names = [f"negative_{number}" for number in range(1, export.num_negatives + 1)]
    rows = (
        {"anchor": row["query"], "positive": positive}
        | {name: negative["text"] for name, negative in zip(names, row["negatives"], strict=False)}
        for row in export.rows(Task.RETRIEVAL, fewest_negatives=export.num_negatives)
        for positive in row["positives"]
    )
    export.parquet("train.parquet", rows, dict.fromkeys(("anchor", "positive", *names), "string"))


def _write_pairs(export: _Export) -> None:
    rows = (
        {"sentence1": row["text1"], "sentence2": row["text2"], "score": row["score"]} for row in export.rows(Task.STS)
    )
    export.parquet("train.parquet", rows, {"sentence1": "string", "sentence2": "string", "score": "float64"})


def _write_flagembedding(export: _Export) -> None:
    with export.lines("train.jsonl") as write:
        for row in export.rows(Task.RETRIEVAL, fewest_negatives=1):
            prompt = {"prompt": row["instruction"]} if row["instruction"] else {}
            negatives = [negative["text"] for negative in row["negatives"]]
            write({"query": row["query"], "pos": row["positives"], "neg": negatives} | prompt)


def _write_tevatron(export: _Export) -> None:
    def passage(text: str) -> dict[str, str]:
        return {"docid": str(text_id(text)), "title": "", "text": text}

    with export.lines("train.jsonl") as write:
        for row in export.rows(Task.RETRIEVAL, fewest_negatives=1):
            write(
                {
                    "query_id": row["sample_id"],
                    "query": row["query"],
                    "positive_passages": [passage(text) for text in row["positives"]],
                    "negative_passages": [passage(negative["text"]) for negative in row["negatives"]],
                }
            )


def _write_csv(export: _Export) -> None:
    for task in _tasks(export.release):
        with export.table(f"{task}.csv", (*COMMON, *COLUMNS[task])) as write:
            for row in read_complete_rows(export.release, task):
                write(row)


def _write_jsonl(export: _Export) -> None:
    for task in _tasks(export.release):
        with export.lines(f"{task}.jsonl") as write:
            for row in read_complete_rows(export.release, task):
                write(row)


def _write_parquet(export: _Export) -> None:
    from pyarrow import parquet

    for task in _tasks(export.release):
        name = f"{task}.parquet"
        shutil.copyfile(samples_file(export.release, task), export.folder / name)
        export.files[name] = parquet.read_metadata(export.folder / name).num_rows


def _write_datasets(export: _Export) -> None:
    import datasets

    shown = datasets.is_progress_bar_enabled()
    datasets.disable_progress_bars()
    cache = export.folder / ".cache"
    try:
        for task in _tasks(export.release):
            source = str(samples_file(export.release, task))
            loaded = datasets.Dataset.from_parquet(source, cache_dir=str(cache))
            loaded.save_to_disk(export.folder / task)
            export.files[task] = loaded.num_rows
    finally:
        shutil.rmtree(cache, ignore_errors=True)
        if shown:
            datasets.enable_progress_bars()


def _tasks(release: Path) -> list[Task]:
    return [task for task in Task if samples_file(release, task).exists()]


PASSAGES_ONLY = "ids of revisions, sources, operations, and origins, ranks and scores of negatives"
FORMATS: Mapping[str, Format] = {
    "beir": Format(
        "a BEIR folder: corpus.jsonl, queries.jsonl, qrels/train.tsv",
        f"which query a negative belongs to (it is in the corpus), instructions, {PASSAGES_ONLY}",
        _write_beir,
    ),
    "triplets": Format(
        "sentence-transformers: anchor, positive, negative; a row for each pair of positive and negative",
        f"instructions (give them to the model as a prompt), {PASSAGES_ONLY}",
        _write_triplets,
    ),
    "tuples": Format(
        "sentence-transformers: anchor, positive, negative_1 to negative_N; a row for each positive",
        f"instructions (give them to the model as a prompt), {PASSAGES_ONLY}",
        _write_tuples,
    ),
    "pairs": Format(
        "sentence-transformers: sentence1, sentence2, score, on the scale of its source",
        "instructions, ids, and which source a pair is of",
        _write_pairs,
    ),
    "flagembedding": Format(
        "FlagEmbedding: JSON Lines of query, pos, neg and, where there is an instruction, prompt",
        PASSAGES_ONLY,
        _write_flagembedding,
    ),
    "tevatron": Format(
        "Tevatron: JSON Lines of query_id, query, positive_passages, negative_passages",
        f"instructions (give them as the query prefix), {PASSAGES_ONLY}",
        _write_tevatron,
    ),
    "csv": Format("a CSV file for each task, every column; lists and negatives as JSON", "", _write_csv),
    "jsonl": Format("a file of JSON Lines for each task, every column", "", _write_jsonl),
    "parquet": Format("a Parquet file for each task, every column", "", _write_parquet),
    "datasets": Format("a folder for each task that `datasets.load_from_disk` reads", "", _write_datasets),
}


def export_release(release: Path, name: str, destination: Path, *, num_negatives: int | None = None) -> Exported:
    """
    Write a release in the named format to a new folder, which appears when it is complete.

    `num_negatives` is how many negatives a row of `tuples` has; by default the most that a sample has.

    Raises UserError if the release cannot be read, the format is unknown or holds nothing of it, or the folder is there
    already; SkiffError if the disk fails.
    """
    read_manifest(release)
    if name not in FORMATS:
        raise UserError(f"no format is called {name!r:.40}: there are {', '.join(FORMATS)}")
    if num_negatives is not None and name != "tuples":
        raise UserError(f"the format {name} takes as many negatives as there are; only tuples is given a number")
    if destination.exists() or destination.is_symlink():
        raise UserError(f"{destination} is there already; name a new folder")
    if destination.resolve().is_relative_to(release.resolve()):
        raise UserError(f"{destination} is within the release, which never changes; name a folder elsewhere")
    most = (_most_negatives(release) or 1) if num_negatives is None and name == "tuples" else num_negatives or 1
    partial = destination.with_name(f".{destination.name}.partial")
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        export = _Export(release, partial, most, Counter(), Counter())
        FORMATS[name].write(export)
        if not export.files.total():
            left = "; ".join(f"{number} {reason}" for reason, number in export.left_out.items())
            raise UserError(f"{release}: nothing to export as {name}: {left or 'the release has no samples'}")
        partial.rename(destination)
    except OSError as error:
        raise SkiffError(f"{destination}: cannot be written ({error.strerror}); nothing of it is kept") from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return Exported(destination, name, dict(export.files), dict(export.left_out), _notes(name, release))


def _most_negatives(release: Path) -> int:
    return max((len(row["negatives"] or ()) for row in read_complete_rows(release, Task.RETRIEVAL)), default=0)


def _notes(name: str, release: Path) -> list[str]:
    lost = FORMATS[name].lost
    notes = [f"not carried: {lost}"] if lost else []
    if name == "pairs":
        notes += _scales(release)
    if "instructions" in lost:
        tasks = [Task.STS] if name == "pairs" else [Task.RETRIEVAL]
        found = {row["instruction"] for task in tasks for row in read_complete_rows(release, task)} - {""}
        shown = ", ".join(repr(text) for text in sorted(found)[:SHOWN_INSTRUCTIONS])
        more = f" and {len(found) - SHOWN_INSTRUCTIONS} more" if len(found) > SHOWN_INSTRUCTIONS else ""
        notes += [f"the instructions: {shown}{more}"] if found else []
    return notes


def _scales(release: Path) -> list[str]:
    """Where pairs of several sources go into one file, what their scores are like."""
    least: dict[str, float] = {}
    most: dict[str, float] = {}
    for row in read_complete_rows(release, Task.STS):
        source, score = row["dataset"], row["score"]
        least[source] = min(score, least.get(source, score))
        most[source] = max(score, most.get(source, score))
    told = ", ".join(f"{source} from {least[source]:g} to {most[source]:g}" for source in sorted(least))
    return [f"scores stay on the scale of their source: {told}"] if len(least) > 1 else []
