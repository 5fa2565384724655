"""What came, went and changed between two releases, from their folders alone."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from synth.records import Task
from synth.stages.release_files import read_manifest, samples_file
from synth.store.comparison import compare
from synth.store.release_policy import ReleasePolicy


@dataclass(frozen=True)
class Difference:
    """
    From release `a` to release `b`. `totals` counts samples by change: added, removed, changed (another revision),
    negatives (the same revision with others), same. `policy` has the settings that differ: (in a, in b).
    """

    a: str
    b: str
    totals: dict[str, int]
    counts: Sequence[dict[str, Any]]  # by change, source and operation
    policy: dict[str, tuple[Any, Any]]
    rows: Sequence[dict[str, Any]]  # every sample that differs, if they were asked for


def compare_releases(a: Path, b: Path, *, rows: bool) -> Difference:
    """
    Compare two releases' folders.

    Raises UserError if one of them cannot be read.
    """
    before, after = read_manifest(a), read_manifest(b)
    totals, counts, listed = compare(_files(a), _files(b), rows=rows)
    defaults = asdict(ReleasePolicy())  # of what one lacks: whoever adds a setting lets it be as it was before
    settings = sorted(before["policy"].keys() | after["policy"].keys())
    both = {key: tuple(each["policy"].get(key, defaults.get(key)) for each in (before, after)) for key in settings}
    changed = {key: (old, new) for key, (old, new) in both.items() if old != new}
    number = {row["change"]: row["num_samples"] for row in totals}
    kinds = ("added", "removed", "changed", "negatives", "same")
    return Difference(
        before["name"], after["name"], {kind: number.get(kind, 0) for kind in kinds}, counts, changed, listed
    )


def _files(folder: Path) -> dict[str, Path]:
    return {task.value: samples_file(folder, task) for task in Task if samples_file(folder, task).exists()}
