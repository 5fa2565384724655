"""Verifying a release: any byte that was changed is found, and named."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pyarrow import Table, parquet

from synth.records import Task, Use, UserError, key_of
from synth.stages.release_check import verify_release
from synth.stages.release_files import MANIFEST, find_folder, read_manifest, samples_file, schema, settle, sha256_of
from synth.store.connection import Store
from tests.synth.stages.releasing import add, approve_all, create, give_negatives, retrieval, source, sts


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A release of six samples with negatives, four pairs and a held-out set."""
    folder = tmp_path_factory.mktemp("made")
    store = Store.create(folder / "store.duckdb")
    add(store, source(store), *(retrieval(number) for number in range(6)), *(sts(number) for number in range(4)))
    add(store, source(store, use=Use.EVAL), retrieval(99))
    for number in range(6):
        give_negatives(store, retrieval(number).query, [(f"Not {number}.", "mined", 3), ("No.", "labelled", None)])
    approve_all(store)
    return create(store, folder / "releases").path


@pytest.fixture
def release(made: Path, tmp_path: Path) -> Path:
    """A copy of it to be changed."""
    return Path(shutil.copytree(made, tmp_path / "releases" / "first"))


def rewrite(release: Path, task: Task, change: Callable[[list[dict[str, Any]]], object]) -> None:
    """Change a task's rows and make the manifest agree about the file, as a forger would."""
    path = samples_file(release, task)
    rows = parquet.read_table(path).to_pylist()
    change(rows)
    path.chmod(0o644)
    parquet.write_table(Table.from_pylist(rows, schema=schema(task)), path)
    relist(release)


def relist(release: Path) -> None:
    manifest = read_manifest(release)
    (release / MANIFEST).unlink()
    manifest["files"] = settle(release)
    (release / MANIFEST).write_text(json.dumps(manifest))


def problems(release: Path, recorded: str | None = None) -> list[str]:
    return verify_release(release, recorded).problems


def test_a_release_is_what_was_released_wherever_it_is_copied(release: Path, tmp_path: Path) -> None:
    shutil.copytree(release, tmp_path / "copy")
    shutil.rmtree(release)
    verified = verify_release(tmp_path / "copy", read_manifest(tmp_path / "copy")["digest"])
    assert (verified.problems, verified.num_samples, verified.num_files) == ([], 10, 6)


def test_files_are_read_only(release: Path) -> None:
    assert {path.stat().st_mode & 0o222 for path in release.rglob("*") if path.is_file()} == {0}


def test_every_file_that_is_changed_missing_or_new_is_named(release: Path) -> None:
    (release / "README.md").chmod(0o644)
    (release / "README.md").write_text("# Mine\n")
    corpus = release / "eval" / "retrieval" / "guide" / "queries.jsonl"
    corpus.chmod(0o644)
    corpus.write_text(corpus.read_text().replace("which", "whlch"))
    (release / "eval" / "retrieval" / "guide" / "qrels.jsonl").unlink()
    (release / "samples" / "more.parquet").write_text("x")
    told = problems(release)
    assert [line.split(":")[0] for line in told] == [
        "eval/retrieval/guide/qrels.jsonl",
        "samples/more.parquet",
        "README.md",
        "eval/retrieval/guide/queries.jsonl",
    ]
    assert "is missing" in told[0]
    assert "no file of this release" in told[1]
    assert "has 7 bytes" in told[2]
    assert "was changed" in told[3]


def test_a_changed_text_is_named_by_its_sample_though_the_manifest_agrees(release: Path) -> None:
    rewrite(release, Task.RETRIEVAL, lambda rows: rows[4].update(query="what else?"))
    sample_id = parquet.read_table(samples_file(release, Task.RETRIEVAL)).to_pylist()[4]["sample_id"]
    assert problems(release) == [
        f"samples/retrieval.parquet: 1 samples are not what their content_hash says: {sample_id}"
    ]


@pytest.mark.parametrize(
    ("task", "change", "told"),
    [
        (Task.RETRIEVAL, lambda rows: rows[0]["negatives"][0].update(text="Other."), "the digest of the samples is"),
        (Task.RETRIEVAL, lambda rows: rows[0]["negatives"].pop(), "11 negatives are there, the manifest counts 12"),
        (Task.RETRIEVAL, lambda rows: rows.pop(), "5 retrieval are there, the manifest counts 6"),
        (Task.STS, lambda rows: rows[0].update(score=9.0), "not what their content_hash says"),
        (Task.STS, lambda rows: rows[0].update(text1=None), "not what their content_hash says"),
        (Task.STS, lambda rows: rows.reverse(), "not in the order of their content"),
        (Task.STS, lambda rows: rows[0].update(dataset="other"), "the digest of the samples is"),
    ],
)
def test_a_forged_sample_is_found(
    release: Path, task: Task, change: Callable[[list[dict[str, Any]]], object], told: str
) -> None:
    rewrite(release, task, change)
    assert any(told in line for line in problems(release))


def test_a_forged_digest_is_found_by_what_the_store_recorded(release: Path) -> None:
    recorded = read_manifest(release)["digest"]
    rewrite(release, Task.STS, lambda rows: rows[0].update(dataset="other"))
    forged = read_manifest(release) | {"digest": problems(release)[0].split()[6].rstrip(",")}
    (release / "manifest.json").write_text(json.dumps(forged))
    assert problems(release) == []
    assert problems(release, recorded) == [
        f"the manifest's digest is {forged['digest']!r}, the store recorded {recorded}"
    ]


def test_a_file_that_is_no_parquet_is_one_problem(release: Path) -> None:
    path = samples_file(release, Task.STS)
    path.chmod(0o644)
    path.write_bytes(b"PAR1 not really PAR1")
    assert any("sts.parquet: cannot be read" in line for line in problems(release))


def test_links_and_missing_lists_are_told(release: Path, tmp_path: Path) -> None:
    manifest = read_manifest(release)
    (release / "manifest.json").write_text(json.dumps({key: manifest[key] for key in manifest if key != "files"}))
    assert "lists no files" in problems(release)[0]
    (release / "manifest.json").write_text(json.dumps(manifest))
    (release / "README.md").unlink()
    os.symlink("/etc/passwd", release / "README.md")
    with pytest.raises(UserError, match="is a link or a device"):
        problems(release)


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"format": 1}', '{"format": 9}', "[" * 100_000, '{"format": "x"}'])
def test_a_broken_manifest_is_one_line(release: Path, text: str) -> None:
    (release / "manifest.json").write_text(text)
    with pytest.raises(UserError, match=r"manifest\.json: ") as caught:
        problems(release)
    assert "\n" not in str(caught.value)


def test_a_release_is_found_by_name_before_path_and_the_message_lists_those_there(release: Path) -> None:
    assert find_folder("first", release.parent) == release
    assert find_folder(str(release), Path("elsewhere")) == release
    with pytest.raises(UserError, match="has first"):
        find_folder("second", release.parent)
    with pytest.raises(UserError, match="make one with `synth release create`"):
        find_folder(str(key_of("x")), Path("elsewhere"))


def test_whoever_changes_a_file_and_what_the_manifest_says_of_it_is_found_by_the_store(release: Path) -> None:
    recorded = sha256_of(release / MANIFEST)
    manifest = read_manifest(release)
    assert verify_release(release, manifest["digest"], recorded).problems == []
    readme = release / "README.md"
    readme.chmod(0o644)
    readme.write_text(f"{readme.read_text()}\n<script>alert(1)</script>\n")
    for each in manifest["files"]:
        if each["path"] == "README.md":
            each |= {"size": readme.stat().st_size, "sha256": sha256_of(readme)}
    manifest["sources"][0]["licence"] = "MIT"
    (release / MANIFEST).chmod(0o644)
    (release / MANIFEST).write_text(json.dumps(manifest))
    assert verify_release(release, manifest["digest"]).problems == []
    [problem] = verify_release(release, manifest["digest"], recorded).problems
    assert problem.startswith("manifest.json: was changed")
