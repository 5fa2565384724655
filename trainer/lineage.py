"""Training and evaluation as runs in the store of the workspace they happen in, beside all other runs."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from synth.store.runs import Run, recorded
from synth.workspace import Workspace, find_store
from trainer.release import Release


@contextmanager
def recorded_in(
    workspace: Path, kind: str, release: Release, config: dict[str, Any], *, model: str, seed: int | None = None
) -> Iterator[Run]:
    """
    Record a run of `kind` with the release's name and digest and this configuration; how it ended is recorded too.

    Outside a workspace nothing is recorded but what the model's folder says of itself.
    """
    if find_store(workspace) is None:
        yield Run()
        return
    full = {"release": release.name, "release_digest": release.digest, **config}
    with recorded(Workspace.open(workspace).store, kind, full, model=model, seed=seed) as run:
        yield run
