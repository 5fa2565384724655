"""Verifying a release: whether its folder still is what was released, and what exactly is not."""

import heapq
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from synth.records import Task, UserError
from synth.stages.release_files import (
    MANIFEST,
    digest_line,
    digest_of,
    files_in,
    is_content_of,
    read_manifest,
    read_rows,
    sha256_of,
)
from synth.store.connection import Store
from synth.store.releases import find_release

SHOWN = 5  # samples of one kind that are named; more are counted


@dataclass(frozen=True)
class Verified:
    """What was looked at, and every problem that was found, one line each."""

    path: Path
    name: str
    digest: str
    num_files: int
    num_samples: int
    problems: list[str]


def verify_release(folder: Path, recorded_digest: str | None, recorded_manifest: str | None = None) -> Verified:
    """
    Look at every file, count, content hash and text of a release, and compute its digest anew from its samples.

    Args:
        recorded_digest: what the store has for this name; None if there is no store to ask.
        recorded_manifest: the manifest's SHA-256 as the store has it. With it nothing in the folder can have been
            changed unseen; without it, whoever changes a file can change what the manifest says of it too.

    Raises UserError if the folder has no manifest that can be read.
    """
    manifest = read_manifest(folder)
    problems = list(_file_problems(folder, manifest))
    if recorded_manifest is not None and sha256_of(folder / MANIFEST) != recorded_manifest:
        problems.append(f"{MANIFEST}: was changed (its SHA-256 is not the one that the store recorded)")
    look = _Look(folder)
    try:
        digest = digest_of(heapq.merge(*(look.lines(task) for task in Task)))
    except UserError as error:  # no Parquet, a column missing
        problems.append(str(error))
    else:
        problems += look.told()
        if digest != manifest["digest"]:
            problems.append(
                f"the digest of the samples is {digest}, the manifest says {manifest['digest']!r:.80}: samples, "
                "sources' names or negatives differ from those released"
            )
        counted = {**{task.value: look.num_samples[task] for task in Task}, "negatives": look.num_negatives}
        for key, number in counted.items():
            if manifest["counts"].get(key) != number:
                problems.append(f"{number} {key} are there, the manifest counts {manifest['counts'].get(key)!r:.40}")
    if recorded_digest is not None and recorded_digest != manifest["digest"]:
        problems.append(f"the manifest's digest is {manifest['digest']!r:.80}, the store recorded {recorded_digest}")
    num_files = len(manifest.get("files") or [])
    return Verified(folder, manifest["name"], manifest["digest"], num_files, sum(look.num_samples.values()), problems)


def verify_in_store(folder: Path, store: Store) -> Verified:
    """
    What `verify_release` finds, held against what the store that released it has recorded.

    Raises UserError if the folder has no manifest that can be read.
    """
    name = read_manifest(folder)["name"]
    problems = []
    if (called := folder.absolute().name) != name:
        problems.append(f"the folder is called {called}, and what is in it is the release {name}")
    recorded = find_release(store, name)
    if recorded is None:
        problems.append(f"the store knows no release called {name}")
        verified = verify_release(folder, None)
    else:
        verified = verify_release(folder, recorded.digest, recorded.manifest_sha256)
    return replace(verified, problems=[*problems, *verified.problems])


class _Look:
    """One pass over the samples: what is counted and found on the way."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._unlike: dict[Task, list[str]] = {task: [] for task in Task}
        self._num_unlike = dict.fromkeys(Task, 0)
        self._unsorted = dict.fromkeys(Task, False)
        self.num_samples = dict.fromkeys(Task, 0)
        self.num_negatives = 0

    def lines(self, task: Task) -> Iterator[str]:
        """The digest's lines of a task, in the order of the file."""
        before = ""
        for row in read_rows(self._folder, task):
            line = digest_line(row)
            self._unsorted[task] |= line < before
            before = line
            self.num_samples[task] += 1
            self.num_negatives += len(row.get("negatives") or ())
            if not is_content_of(task, row):
                self._num_unlike[task] += 1
                if self._num_unlike[task] <= SHOWN:
                    self._unlike[task].append(str(row["sample_id"]))
            yield line

    def told(self) -> Iterator[str]:
        """A line for each kind of thing that is wrong with a task's samples."""
        for task in Task:
            if self._num_unlike[task]:
                more = " and others" if self._num_unlike[task] > SHOWN else ""
                yield (
                    f"samples/{task}.parquet: {self._num_unlike[task]} samples are not what their content_hash says: "
                    f"{', '.join(self._unlike[task])}{more}"
                )
            if self._unsorted[task]:
                yield f"samples/{task}.parquet: the samples are not in the order of their content"


def _file_problems(folder: Path, manifest: Mapping[str, Any]) -> Iterator[str]:
    listed = manifest.get("files")
    if not isinstance(listed, list) or not all(isinstance(each, dict) for each in listed):
        yield f"{MANIFEST} lists no files: it was made by an older Skiff, or was changed"
        return
    expected = {str(each.get("path")): each for each in listed}
    found = {path.relative_to(folder).as_posix(): path for path in files_in(folder)}
    for name in sorted(expected.keys() - found.keys()):
        yield f"{name}: is missing"
    for name in sorted(found.keys() - expected.keys() - {MANIFEST}):
        yield f"{name}: is no file of this release"
    for name in sorted(expected.keys() & found.keys()):
        size, sha256 = _measure(found[name])
        if size != expected[name].get("size"):
            yield f"{name}: has {size} bytes, released were {expected[name].get('size')!r:.40}"
        elif sha256 != expected[name].get("sha256"):
            yield f"{name}: was changed (its SHA-256 is {sha256})"


def _measure(path: Path) -> tuple[int, str]:
    if path.is_symlink() or not path.is_file():
        raise UserError(f"{path}: is a link or a device, where a release has files; copy the release anew")
    try:
        return path.stat().st_size, sha256_of(path)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); make it readable and run again") from None
