"""Writing a release's folder (docs/release-format.md): samples slice by slice, held-out sets, datasheet, manifest."""

import json
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any
from uuid import UUID

from synth.checks import scripts
from synth.overlaps import ASKED
from synth.records import Task, text_id
from synth.stages.datasheet import datasheet
from synth.stages.release_files import FORMAT, MANIFEST, samples_file, schema, settle
from synth.stages.release_plan import CHECKS, Plan
from synth.store import selection
from synth.store.connection import Store
from synth.store.releases import HeldOut


def write_release(
    store: Store, plan: Plan, folder: Path, name: str, made_at: datetime, on_progress: Callable[[int], None]
) -> None:
    """Write a planned release into the folder, every file forced to the disk; `on_progress` is told of samples."""
    (folder / "samples").mkdir(parents=True)
    scripts: Counter[str] = Counter()
    for task in Task:
        if plan.counts[task]:
            scripts += _write_samples(store, plan.work, folder, task, on_progress)
    for each in plan.held_out:
        _write_held_out(plan, folder / "eval", each)
    composition = plan.composition | {
        "script": [{"script": script, "num_samples": number} for script, number in sorted(scripts.items())]
    }
    held_out = sorted({each.name for each in plan.held_out})
    manifest = {
        "format": FORMAT,
        "name": name,
        "created_at": made_at.isoformat(timespec="seconds") + "+00:00",
        "made_by": version("skiff-embeddings"),
        "digest": plan.digest,
        "policy": asdict(plan.policy) | {"exclude_sources": list(plan.policy.exclude_sources)},
        "checks": CHECKS,
        "counts": plan.counts,
        "left_out": plan.left_out,
        "overlaps": plan.overlaps,
        "composition": composition,
        "sources": plan.sources,
        "held_out": held_out,
        "compared_with": plan.compared_with,
    }
    (folder / "README.md").write_text(datasheet(manifest), encoding="utf-8")
    manifest["files"] = settle(folder)
    (folder / MANIFEST).write_text(json.dumps(manifest, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
    settle(folder)


def _write_samples(
    store: Store, work: Path, folder: Path, task: Task, on_progress: Callable[[int], None]
) -> Counter[str]:
    """Write a task's file, a slice at a time. Returns how many samples are written in which script."""
    from pyarrow import parquet

    scripts: Counter[str] = Counter()
    wanted = schema(task)
    with parquet.ParquetWriter(samples_file(folder, task), wanted, compression="zstd") as file:
        for table in selection.chosen_texts(store, work, task):
            file.write_table(table.select(wanted.names).cast(wanted))
            asked = next(field for field in ASKED if field in wanted.names)
            scripts.update(_script(text) for text in table.column(asked).to_pylist())
            on_progress(table.num_rows)
    return scripts


def _script(text: str) -> str:
    """The script of most words at the beginning of a text."""
    words = scripts(text[:300])
    return max(words, key=lambda script: (words[script], script)) if words else "no letters"


def _write_held_out(plan: Plan, folder: Path, each: HeldOut) -> None:
    if each.task == Task.RETRIEVAL:
        target = folder / "retrieval" / each.name
        target.mkdir(parents=True)
        shutil.copyfile(plan.corpora[each.name], target / "corpus.jsonl")
        asked = _by_query_id(each.rows)
        _write_lines(target / "queries.jsonl", ({"query_id": key, "text": query} for key, (query, _) in asked.items()))
        _write_lines(
            target / "qrels.jsonl",
            (
                {"query_id": key, "doc_id": str(passage_id), "score": 1}
                for key, (_, answers) in asked.items()
                for passage_id in answers
            ),
        )
        return
    kind, columns = ("pairs", ("text1", "text2", "score")) if each.task == Task.STS else ("labelled", ("text", "label"))
    _write_lines(folder / kind / f"{each.name}.jsonl", ({key: row[key] for key in columns} for row in each.rows))


def _by_query_id(rows: Sequence[Mapping[str, Any]]) -> dict[str, tuple[str, list[UUID]]]:
    """
    The queries and the ids of their answers, by the ids that they came with; by those of their texts, where they came
    with none, or with one that another query (of another split) has too. Rows of one id are one query.
    """
    queries: dict[str, set[UUID]] = {}
    for row in rows:
        queries.setdefault(row["external_id"], set()).add(text_id(row["query"]))
    found: dict[str, tuple[str, list[UUID]]] = {}
    for row in rows:
        given = row["external_id"]
        key = given if given and len(queries[given]) == 1 else str(text_id(row["query"]))
        answers = found.setdefault(key, (row["query"], []))[1]
        answers += [each for each in map(text_id, row["positives"]) if each not in answers]
    return found


def _write_lines(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8") as lines:
        lines.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
