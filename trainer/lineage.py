"""Training and evaluation as runs in the store of the workspace they happen in, beside all other runs."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from synth.store.runs import Run, recorded
from synth.workspace import Workspace, find_store
from trainer.release import Release


@contextmanager
def recorded_in(
    workspace: Path, kind: str, release: Release | None, config: dict[str, Any], *, model: str, seed: int | None = None
) -> Iterator[Run]:
    """
    Record a run of `kind` with the release's name and digest (if it is of one) and this configuration; how it ended is
    recorded too.

    Outside a workspace nothing is recorded but what the model's folder says of itself.
    """
    if find_store(workspace) is None or os.environ.get("RANK", "0") != "0":  # of several processes the first records
        yield Run()
        return
    of = {"release": release.name, "release_digest": release.digest} if release else {}
    full = {**of, **config}
    with recorded(Workspace.open(workspace).store, kind, full, model=model, seed=seed) as run:
        yield run


def record_steps(run: Run, model: Path) -> None:
    """
    Record which samples went into which step of the run that wrote a model folder; those of all its processes. Does
    nothing if that is recorded already: a process may be killed when the folder is written and this is not.
    """
    if run.store is None:
        return
    import pyarrow.parquet as pq

    from synth.store.trained import TrainedStep, add_steps, holds_steps
    from trainer.loop import read_log

    losses = {row["step"]: row["loss"] for row in read_log(model)}
    if holds_steps(run.store, str(model), list(losses.values())):
        return
    planned = pq.read_table(model / "steps.parquet", columns=["step", "stage", "task", "dataset", "sample_ids"])
    add_steps(
        run.store,
        run.run_id,
        [TrainedStep(loss=losses[row["step"]], **row) for row in planned.to_pylist() if row["step"] in losses],
    )
