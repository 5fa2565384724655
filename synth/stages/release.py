"""
Release: freeze what was approved into a directory that never changes (docs/release-format.md).

The directory is complete before it gets its name, and is recorded in the store at that moment.
"""

import hashlib
import json
import os
import shutil
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from synth.records import Passage, SkiffError, Task, UserError, is_plain_name, text_id
from synth.store import releases, runs
from synth.store.connection import Store
from synth.store.releases import HeldOut

if TYPE_CHECKING:
    import pyarrow

FORMAT = 1
COMMON = ("sample_id", "revision_id", "content_hash", "dataset", "operation", "method", "instruction")
COLUMNS = {
    Task.RETRIEVAL: ("query", "positives", "negatives"),
    Task.STS: ("text1", "text2", "score"),
    Task.CLASSIFICATION: ("text", "label"),
}
NAME_CHARACTERS = "letters, digits, '.', '_' and '-', beginning with a letter or digit"


@dataclass(frozen=True, slots=True)
class ReleasePolicy:
    """What goes into a release: approved samples, at most so many negatives of each, none that is held out."""

    max_negatives: int
    verdicts: str = "approved by a person, else by a policy"
    contamination: str = (
        "left out if any of its texts (positives and negatives apart) is a held-out text, whatever its case, "
        "punctuation and spacing"
    )


@dataclass(frozen=True)
class Released:
    """The outcome: where the release is, whether it was there already, and its counts."""

    path: Path
    digest: str
    existed: bool
    counts: Mapping[str, Any]


def create_release(
    store: Store, folder: Path, name: str, *, max_negatives: int, on_progress: Callable[[int], None]
) -> Released:
    """
    Freeze the approved samples as release `name` under `folder`.

    The same name with the same content is the same release, and is left as it is.

    Raises UserError for a name that cannot be a folder's, for one taken by other content, or if nothing is approved.
    """
    _check_name(name)
    held_out = releases.held_out(store)
    policy = ReleasePolicy(max_negatives)
    rows, left_out = _without_contaminated(releases.approved(store), held_out)
    if not rows:
        raise UserError(_why_nothing(releases.count_statuses(store), left_out))
    for row in rows:
        row["negatives"] = row["negatives"][:max_negatives]
    digest = _digest(rows)
    path = folder / name
    counts = _counts(rows, held_out, left_out)
    known = releases.find_release(store, name)
    if known is not None:
        if known.digest != digest:
            raise UserError(f"the release {name} exists and differs from what is approved now; choose another name")
        if path.is_dir():
            return Released(path, digest, True, counts)
    elif path.exists() and not _is_leftover(path, name):
        raise UserError(f"{path} is there already and no release; move it away, or choose another name")
    with runs.recorded(store, "release", {"name": name, **asdict(policy)}) as run:
        manifest = _manifest(store, name, digest, policy, counts, rows, held_out)
        partial = folder / f".{name}.{os.getpid()}.partial"
        try:
            _write(partial, manifest, rows, held_out, on_progress)
            with store.write() as cursor:
                made = known is None and releases.add_release(
                    cursor,
                    name=name,
                    digest=digest,
                    policy=asdict(policy),
                    counts=counts,
                    path=str(path.resolve()),
                    run_id=run.run_id,
                    items=[_item(row) for row in rows],
                )
                if known is None and not made:
                    raise UserError(f"another process has just made a release called {name}; run again to compare")
                shutil.rmtree(path, ignore_errors=True)  # left by a command that was killed before it was recorded
                partial.rename(path)
        except OSError as error:
            reason = error.strerror or "the disk is full?"
            raise SkiffError(f"{path}: the release cannot be written ({reason}); nothing of it is kept") from None
        finally:
            shutil.rmtree(partial, ignore_errors=True)
        run.count(**{key: value for key, value in counts.items() if isinstance(value, int)})
    return Released(path, digest, False, counts)


def _why_nothing(statuses: Mapping[str, int], left_out: Counter[str]) -> str:
    if left_out:
        return f"all {left_out['contaminated']} approved samples ask what held-out sets ask; ingest others to train on"
    there = f"{statuses.get('pending', 0)} samples are pending, {statuses.get('rejected', 0)} rejected"
    return f"nothing is approved ({there}): review them with `synth review`, or `synth review --policy NAME`"


def _is_leftover(path: Path, name: str) -> bool:
    """Whether a folder is a release of this name that was complete, but killed before it was recorded."""
    try:
        manifest = json.loads((path / "manifest.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(manifest, dict) and manifest.get("name") == name and manifest.get("format") == FORMAT


def _check_name(name: str) -> None:
    safe = name and name[0].isascii() and name[0].isalnum()
    if not safe or not all(c.isascii() and (c.isalnum() or c in "._-") for c in name) or len(name) > 100:
        raise UserError(f"a release cannot be called {name!r}: use {NAME_CHARACTERS}")


def _item(row: Mapping[str, Any]) -> tuple[Any, Any, list[Any]]:
    return row["sample_id"], row["revision_id"], [negative["negative_id"] for negative in row["negatives"]]


def _without_contaminated(
    rows: Sequence[dict[str, Any]], held_out: Sequence[HeldOut]
) -> tuple[list[dict[str, Any]], Counter[str]]:
    forbidden = {_trace(text) for each in held_out for row in each.rows for text in _asked_texts(row)}
    kept, left_out = [], Counter[str]()
    for row in rows:
        if any(_trace(text) in forbidden for text in _asked_texts(row)):
            left_out["contaminated"] += 1
        else:
            kept.append(row)
    return kept, left_out


def _asked_texts(row: Mapping[str, Any]) -> Iterable[str]:
    """The texts that an evaluation asks about: a query, both texts of a pair, a labelled text. Not its corpus."""
    return (row[key] for key in ("query", "text1", "text2", "text") if row[key] is not None)


def _trace(text: str) -> str:
    """What two texts have in common that differ in case, punctuation, white space, width and invisible characters."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    letters = "".join(char if unicodedata.category(char)[0] in "LNMS" else " " for char in _visible(folded))
    return " ".join(letters.split()) or folded


def _visible(text: str) -> str:
    return "".join(char for char in text if unicodedata.category(char) != "Cf")


def _digest(rows: Sequence[Mapping[str, Any]]) -> str:
    """
    SHA-256 over the content of every sample and its negatives, in the order of content.

    Revision ids are left out: they hold the time, and two machines that made the same would not agree.
    """
    lines = sorted(
        "\t".join([str(row["content_hash"]), row["dataset"], *(str(text_id(n["text"])) for n in row["negatives"])])
        for row in rows
    )
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _counts(rows: Sequence[Mapping[str, Any]], held_out: Sequence[HeldOut], left_out: Counter[str]) -> dict[str, Any]:
    tasks = Counter(row["task"] for row in rows)
    return {
        **{task.value: tasks[task.value] for task in Task},
        "negatives": sum(len(row["negatives"]) for row in rows),
        "held_out_sets": len(held_out),
        "left_out_contaminated": left_out["contaminated"],
    }


def _manifest(
    store: Store,
    name: str,
    digest: str,
    policy: ReleasePolicy,
    counts: Mapping[str, Any],
    rows: Sequence[Mapping[str, Any]],
    held_out: Sequence[HeldOut],
) -> dict[str, Any]:
    names = sorted({row["dataset"] for row in rows} | {each.name for each in held_out})
    return {
        "format": FORMAT,
        "name": name,
        "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "digest": digest,
        "policy": asdict(policy),
        "counts": dict(counts),
        "sources": releases.source_cards(store, names),
        "held_out": [each.name for each in held_out],
    }


def _write(
    folder: Path,
    manifest: Mapping[str, Any],
    rows: Sequence[Mapping[str, Any]],
    held_out: Sequence[HeldOut],
    on_progress: Callable[[int], None],
) -> None:
    from pyarrow import parquet

    shutil.rmtree(folder, ignore_errors=True)
    (folder / "samples").mkdir(parents=True)
    for task in Task:
        of_task = [row for row in rows if row["task"] == task]
        if of_task:
            parquet.write_table(_table(task, of_task), folder / "samples" / f"{task}.parquet", compression="zstd")
        on_progress(len(of_task))
    for each in held_out:
        _write_held_out(folder / "eval", each)
    (folder / "manifest.json").write_text(json.dumps(manifest, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
    (folder / "README.md").write_text(_datasheet(manifest), encoding="utf-8")


def _table(task: Task, rows: Sequence[Mapping[str, Any]]) -> "pyarrow.Table":
    import pyarrow

    negative = pyarrow.struct(
        [
            ("text", pyarrow.string()),
            ("origin", pyarrow.string()),
            ("rank", pyarrow.int32()),
            ("score", pyarrow.float32()),
            ("positive_score", pyarrow.float32()),
        ]
    )
    types = {
        "positives": pyarrow.list_(pyarrow.string()),
        "negatives": pyarrow.list_(negative),
        "score": pyarrow.float64(),
    }
    names = (*COMMON, *COLUMNS[task])
    schema = pyarrow.schema([(column, types.get(column, pyarrow.string())) for column in names])
    ids = ("sample_id", "revision_id", "content_hash")
    plain = [{column: str(row[column]) if column in ids else row[column] for column in names} for row in rows]
    return pyarrow.Table.from_pylist(plain, schema=schema)


def _write_held_out(folder: Path, each: HeldOut) -> None:
    if not is_plain_name(each.name):
        raise UserError(f"the source {each.name!r:.120} has a name that no file can have; ingest it under another one")
    if each.kind == "retrieval":
        target = folder / "retrieval" / each.name
        ids = [(row["external_id"] or str(text_id(row["query"])), row) for row in each.rows]
        _write_lines(target / "corpus.jsonl", (_corpus_row(passage) for passage in each.corpus))
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
    kind, columns = ("pairs", ("text1", "text2", "score")) if each.kind == "pairs" else ("labelled", ("text", "label"))
    _write_lines(folder / kind / f"{each.name}.jsonl", ({key: row[key] for key in columns} for row in each.rows))


def _corpus_row(passage: Passage) -> dict[str, str]:
    body = passage.text.removeprefix(f"{passage.title}\n") if passage.title else passage.text
    return {"doc_id": str(passage.text_id), "title": passage.title, "text": body}


def _write_lines(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8") as lines:
        lines.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def _datasheet(manifest: Mapping[str, Any]) -> str:
    """A Hugging Face dataset card. Names and licences come from outside: they stand in code spans only."""
    configs = "".join(
        f"- config_name: {task}\n  data_files: samples/{task}.parquet\n" for task in Task if manifest["counts"][task]
    )
    counts = "\n".join(f"| {key} | {value} |" for key, value in manifest["counts"].items())
    lines = [
        f"| {_code(s['name'])} | {_code(s['split'])} | {s['declared_use']} | {_code(s['licence'])} |"
        f" {_code(s['origin'])} |"
        for s in manifest["sources"]
    ]
    return f"""---
configs:
{configs}---
# Release {manifest["name"]}

Made by Skiff on {manifest["created_at"]}; digest `{manifest["digest"]}`. The layout is described in
docs/release-format.md of the project. It holds what was {manifest["policy"]["verdicts"]}; a sample was
{manifest["policy"]["contamination"]}.

| what | count |
|---|---|
{counts}

| source | split | use | licence | origin |
|---|---|---|---|---|
""" + "\n".join([*lines, ""])


def _code(text: str) -> str:
    clean = "".join(c for c in text if c.isprintable()).replace("`", "'").replace("|", "/")
    return f"`{clean}`" if clean.strip() else "not stated"
