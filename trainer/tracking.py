"""
The log, told to trackers besides: TensorBoard's files in the model folder, a local trackio, or Weights & Biases.

None is a dependency; one that is asked for and not installed is refused with the line that installs it. Weights &
Biases sends the log to its server unless WANDB_MODE says otherwise.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from synth.records import UserError

BOARD = "tensorboard"
TRACKERS = {BOARD: "tensorboard", "trackio": "trackio", "wandb": "wandb"}  # and the package of each
PROJECT = "skiff"
Track = Callable[[Mapping[str, Any]], None]


def check_trackers(names: Sequence[str]) -> None:
    """Raises UserError for a name that is no tracker's, or of one that is not installed."""
    for name in names:
        if name not in TRACKERS:
            raise UserError(f"--track {name}: no such tracker; there are {', '.join(TRACKERS)}")
        if find_spec(TRACKERS[name]) is None:
            raise UserError(f"--track {name}: not installed; run: pip install {TRACKERS[name]}")


@contextmanager
def tracked(folder: Path, names: Sequence[str]) -> Iterator[Track]:
    """What tells these trackers a row of the log."""
    with ExitStack() as open_ones:
        tracks = [open_ones.enter_context(OPENERS[name](folder)) for name in names]

        def track(row: Mapping[str, Any]) -> None:
            numbers = {**row, **row.get("scores", {})}
            for each in tracks:
                each({name: value for name, value in numbers.items() if isinstance(value, (int, float))})

        yield track


@contextmanager
def _board(folder: Path) -> Iterator[Track]:
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(folder / BOARD)) as writer:

        def track(row: Mapping[str, Any]) -> None:
            for name, value in row.items():
                writer.add_scalar(name, value, row["step"])

        yield track


@contextmanager
def _trackio(folder: Path) -> Iterator[Track]:
    import trackio  # type: ignore[import-not-found]

    trackio.init(project=PROJECT, name=folder.stem, resume="allow")
    try:
        yield lambda row: trackio.log(dict(row), step=row["step"])
    finally:
        trackio.finish()


@contextmanager
def _wandb(folder: Path) -> Iterator[Track]:
    import wandb  # type: ignore[import-not-found]

    run = wandb.init(project=PROJECT, name=folder.stem, id=folder.stem, resume="allow", dir=str(folder))
    try:
        yield lambda row: run.log(dict(row), step=row["step"])
    finally:
        run.finish()


OPENERS = {BOARD: _board, "trackio": _trackio, "wandb": _wandb}
