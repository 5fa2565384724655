"""
Release: freeze what a policy takes of what was approved into a folder that never changes (docs/release-format.md).

The folder is complete before it gets its name, and is recorded in the store at that moment. Killed anywhere, the same
command makes the same release, and clears away what was left.
"""

import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID

from synth.records import SkiffError, UserError, key_of
from synth.stages.release_files import FORMAT, MANIFEST, is_release_name, missing_files, sha256_of
from synth.stages.release_plan import Plan, make_plan
from synth.stages.release_write import write_release
from synth.store import releases, runs
from synth.store.connection import Store
from synth.store.overlaps import add_near_duplicates, add_overlaps
from synth.store.release_policy import ReleasePolicy
from synth.store.releases import ReleaseRecord
from synth.store.rows import now
from synth.store.sources import check_sources


@dataclass(frozen=True)
class Released:
    """The outcome: where the release is, whether it was there already, what is in it and what was left out, by why."""

    path: Path
    digest: str
    existed: bool
    counts: Mapping[str, int]
    left_out: Mapping[str, int]
    overlaps: Sequence[Mapping[str, Any]]  # what was left out as contaminated, by evaluation set and kind
    minings: Sequence[Mapping[str, Any]]  # that its mined negatives are of
    notes: Sequence[str]  # what whoever makes it should know of it, a line each


def create_release(
    store: Store, folder: Path, name: str, policy: ReleasePolicy, *, on_progress: Callable[[int], None]
) -> Released:
    """
    Freeze what the policy takes as release `name` under `folder`; `on_progress` is told of samples as they are written.

    The same name with the same content is the same release, and is left as it is.

    Raises UserError for a name that cannot be a folder's or is taken by other content, an unknown source, a wrong
    condition, or if nothing is left to release; StoreLocked if another process is making a release of this name.
    """
    if not is_release_name(name):
        raise UserError(
            f"a release cannot be called {name!r:.120}: use letters, digits, '.', '_' and '-', beginning with a letter "
            "or digit"
        )
    check_sources(store, policy.exclude_sources)
    path, partial = folder / name, folder / f".{name}.partial"
    with store.sole(key_of("release", name), f"making the release {name}"):
        try:
            shutil.rmtree(partial, ignore_errors=True)  # left by a command that was killed
            work = partial / "work"
            work.mkdir(parents=True)
            plan = make_plan(store, policy, work)
            return _release(store, plan, name, path, partial, on_progress)
        except OSError as error:
            reason = error.strerror or "the disk is full?"
            raise SkiffError(f"{path}: the release cannot be written ({reason}); nothing of it is kept") from None
        finally:
            shutil.rmtree(partial, ignore_errors=True)


def _release(
    store: Store, plan: Plan, name: str, path: Path, partial: Path, on_progress: Callable[[int], None]
) -> Released:
    known = releases.find_release(store, name)
    if known is not None and known.digest != plan.digest:
        raise UserError(
            f"the release {name} exists, with other content than this policy takes now; choose another name"
        )
    existed = known is not None and path.is_dir()
    if existed and (missing := missing_files(path)):
        raise UserError(
            f"{path}: the release was made before, and {missing[0]} is missing or changed; restore the folder from a "
            "copy, or move it away and run again"
        )
    if not existed:
        if known is None and os.path.lexists(path) and not _is_leftover(path, plan.digest):
            raise UserError(
                f"{path} is there already, and is no release that this store knows (was the store restored from a "
                "backup, or the folder copied here?); move it away, or choose another name"
            )
        with runs.recorded(store, "release", {"name": name, **asdict(plan.policy)}, seed=plan.policy.seed) as run:
            made_at = known.created_at if known else now()
            complete = partial / "release"
            write_release(store, plan, complete, name, made_at, on_progress)
            with store.write() as cursor:
                manifest_sha256 = sha256_of(complete / MANIFEST)
                _record(cursor, plan, name, known, path.resolve(), manifest_sha256, run.run_id, made_at)
                shutil.rmtree(path, ignore_errors=True)  # left by a command that was killed before it was recorded
                complete.rename(path)
                _settle_name(path)
            run.count(**plan.counts)
    minings = plan.composition["minings"]
    return Released(path, plan.digest, existed, plan.counts, plan.left_out, plan.overlaps, minings, plan.notes)


def _record(
    cursor: Any,
    plan: Plan,
    name: str,
    known: ReleaseRecord | None,
    path: Path,
    manifest_sha256: str,
    run_id: UUID,
    made_at: datetime,
) -> None:
    """Record the release and what its checks found; of one whose folder was lost, where it is written again."""
    if known is not None:
        releases.record_rewritten(cursor, name, path, manifest_sha256)
        return
    counts = plan.counts | {"left_out": plan.left_out}
    made = releases.add_release(
        cursor,
        name=name,
        digest=plan.digest,
        policy=plan.policy,
        counts=counts,
        path=path,
        manifest_sha256=manifest_sha256,
        run_id=run_id,
        created_at=made_at,
        folder=plan.work,
    )
    if not made:
        raise UserError(f"another process has just made a release called {name}; run again to compare")
    add_overlaps(cursor, run_id, plan.found.overlaps)
    add_near_duplicates(cursor, run_id, plan.found.duplicates)


def _settle_name(path: Path) -> None:
    """Force the folder's new name to the disk: the store must not know a release that a power cut takes back."""
    descriptor = os.open(path.parent, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _is_leftover(path: Path, digest: str) -> bool:
    """Whether a folder is this very release, complete, but killed before it was recorded."""
    try:
        manifest = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(manifest, dict) and manifest.get("digest") == digest and manifest.get("format") == FORMAT
