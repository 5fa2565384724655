"""Checking the store with what lies beside it: its own rules, and the folder of every release."""

from collections.abc import Iterator
from pathlib import Path

from synth.records import UserError
from synth.stages.release_check import verify_release
from synth.stages.release_files import MANIFEST
from synth.store.connection import Store
from synth.store.engine import Damaged
from synth.store.releases import ReleaseRecord, recorded_releases
from synth.store.verify import READABLE, Problem, verify

RELEASED = "every release is what was released"
KNOWN = "every release in the folder is in the store"


def check_store(store: Store, releases: Path) -> list[Problem]:
    """
    What `verify` finds in the store; what `verify_release` finds in any release of the store; and the releases in the
    folder `releases` that the store does not know. None if all is sound.

    Raises Damaged if not even the names of the tables can be read.
    """
    # The folders first: a release that is made meanwhile is recorded by the time its folder has its name.
    folders = sorted(manifest.parent for manifest in releases.glob(f"[!.]*/{MANIFEST}"))
    problems = verify(store)
    try:
        recorded = recorded_releases(store)
    except Damaged:
        if any(problem.rule == READABLE for problem in problems):
            return problems
        raise
    for release in recorded:  # in this folder first: a workspace that was copied has releases of its own
        problems += _changed(release, releases / release.name, Path(release.path))
    known = {release.name for release in recorded}
    return [*problems, *(_unknown(folder) for folder in folders if folder.name not in known)]


def _changed(release: ReleaseRecord, *places: Path) -> Iterator[Problem]:
    """What is not as it was released, in the first of the places that is a folder."""
    folder = next((place for place in places if place.is_dir()), None)
    if folder is None:
        yield Problem(
            RELEASED,
            1,
            f"release {release.name}: its folder {places[-1]} is gone; restore it from a copy, or make it anew with "
            f"`synth release create {release.name}`, which works while its policy still takes the same samples",
        )
        return
    try:
        lines = verify_release(folder, release.digest, release.manifest_sha256).problems
    except UserError as error:
        lines = [str(error)]
    for line in lines:
        yield Problem(RELEASED, 1, f"release {release.name}: {' '.join(line.split())}; restore {folder} from a copy")


def _unknown(folder: Path) -> Problem:
    return Problem(
        KNOWN,
        1,
        f"{folder}: the store does not know this release (was the store restored from an older backup?); move it away, "
        "or restore a newer copy of the store",
    )
