"""Writing a release's folder (docs/release-format.md): samples slice by slice, held-out sets, datasheet, manifest."""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from synth.checks import scripts
from synth.overlaps import ASKED
from synth.records import Passage, Task, text_id
from synth.stages.datasheet import datasheet
from synth.stages.release_files import FORMAT, MANIFEST, samples_file, schema, settle
from synth.stages.release_plan import CHECKS, Plan
from synth.store import releases, selection
from synth.store.connection import Store
from synth.store.releases import HeldOut
from synth.store.sources import corpora


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
        _write_held_out(store, folder / "eval", each)
    composition = plan.composition | {
        "script": [{"script": script, "num_samples": number} for script, number in sorted(scripts.items())]
    }
    held_out = sorted({each.name for each in plan.held_out})
    sampled = {row["source"] for row in composition["source"]}
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
        "sources": releases.source_cards(store, sampled=sampled, held_out=held_out),
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


def _write_held_out(store: Store, folder: Path, each: HeldOut) -> None:
    if each.task == Task.RETRIEVAL:
        target = folder / "retrieval" / each.name
        ids = [(row["external_id"] or str(text_id(row["query"])), row) for row in each.rows]
        corpus = corpora(store, [each.name]).get(each.name, [])
        _write_lines(target / "corpus.jsonl", (_corpus_row(passage) for passage in corpus))
        _write_lines(target / "queries.jsonl", ({"query_id": key, "text": row["query"]} for key, row in ids))
        _write_lines(
            target / "qrels.jsonl",
            (
                {"query_id": key, "doc_id": str(text_id(positive)), "score": 1}
                for key, row in ids
                for positive in row["positives"]
            ),
        )
        return
    kind, columns = ("pairs", ("text1", "text2", "score")) if each.task == Task.STS else ("labelled", ("text", "label"))
    _write_lines(folder / kind / f"{each.name}.jsonl", ({key: row[key] for key in columns} for row in each.rows))


def _corpus_row(passage: Passage) -> dict[str, str]:
    body = passage.text.removeprefix(f"{passage.title}\n") if passage.title else passage.text
    return {"doc_id": str(passage.text_id), "title": passage.title, "text": body}


def _write_lines(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8") as lines:
        lines.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
