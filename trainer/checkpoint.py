"""
What survives a kill: a folder beside the output in which a run keeps its settings, its log and its last checkpoint.

The same command again goes on from there to the same bits. A run with other data, settings or hardware is refused
rather than mixed in.
"""

import fcntl
import json
import os
import pickle
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from synth.records import SkiffError, UserError

if TYPE_CHECKING:
    import torch

RUN_FILE = "run.json"
CHECKPOINT_FILE = "checkpoint.pt"
Identity = Mapping[str, Any]  # what must be equal for a run to be gone on with; JSON


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The state after a step; the seed of everything that follows, as dropout is off and the plan is fixed."""

    step: int
    model: "dict[str, torch.Tensor]"
    optimizer: dict[str, Any]


def is_finished(output: Path, identity: Identity) -> bool:
    """
    Whether the output folder holds this run's model.

    Raises:
        UserError: something else is there.
    """
    if not output.exists():
        return False
    there = read_json(output / RUN_FILE)
    if there is None:
        raise UserError(f"{output} exists and was not made by this command: choose another --output")
    _refuse_other(there, identity, output)
    return True


@contextmanager
def run_folder(output: Path, identity: Identity) -> Iterator[Path]:
    """
    The folder OUTPUT.training, made or found again, for this process alone. One without a checkpoint starts anew.

    Raises:
        UserError: it holds another run, or another process is at work in it.
        OSError: it cannot be written.
    """
    folder = _run_folder(output)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(
                f"another process is training into {output}: wait for it, or choose another --output"
            ) from None
        there = read_json(folder / RUN_FILE)
        if there is None or not (folder / CHECKPOINT_FILE).exists():
            write_atomically(folder / RUN_FILE, json.dumps(identity, indent=2, ensure_ascii=False).encode())
        else:
            _refuse_other(there, identity, folder)
        yield folder


def _run_folder(output: Path) -> Path:
    return output.with_name(f"{output.name}.training")


def remove_run_folder(output: Path) -> None:
    """Remove what only an unfinished run needs; its lock may be held while it goes."""
    shutil.rmtree(_run_folder(output), ignore_errors=True)


def _refuse_other(there: Identity, identity: Identity, folder: Path) -> None:
    difference = next(_differences("", there, identity), None)
    if difference:
        raise UserError(
            f"{folder} holds a run with another {difference}: choose another --output, or remove that folder"
        )


def _differences(key: str, there: Any, here: Any) -> Iterator[str]:
    """What `here` has otherwise; what it does not name may be as it likes."""
    if isinstance(there, dict) and isinstance(here, dict):
        for name, value in here.items():
            yield from _differences(f"{key}.{name}" if key else name, there.get(name), value)
    elif there != here:
        yield f"{key} ({there} there, {here} here)" if len(f"{there}{here}") < 200 else key


def read_json(path: Path) -> dict[str, Any] | None:
    """A JSON object from a file of ours, or None if there is no such file or it is none of ours."""
    try:
        found = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that a reader, or a machine that lost its power, finds the old one or the new one whole."""
    part = path.with_name(f"{path.name}.part")
    try:
        with part.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        raise SkiffError(f"cannot write {path}: {error.strerror}: mend that and run the same command again") from None


def save_checkpoint(folder: Path, checkpoint: Checkpoint) -> None:
    """
    Replace the folder's checkpoint.

    Raises:
        SkiffError: the disk did not take it; the earlier checkpoint is still there.
    """
    import torch

    part = folder / f"{CHECKPOINT_FILE}.part"
    state = {"step": checkpoint.step, "model": checkpoint.model, "optimizer": checkpoint.optimizer}
    try:
        with part.open("wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        part.replace(folder / CHECKPOINT_FILE)
    except (OSError, RuntimeError) as error:  # torch reports a full disk as a RuntimeError
        first_line = str(error).splitlines()[0]
        raise SkiffError(f"cannot write {part}: {first_line}: free space and run the same command again") from None


def load_checkpoint(folder: Path) -> Checkpoint | None:
    """
    The folder's checkpoint, on the CPU, or None if the run had not come to its first.

    Raises:
        SkiffError: it was damaged after it was written.
    """
    import torch

    path = folder / CHECKPOINT_FILE
    if not path.exists():
        return None
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        return Checkpoint(state["step"], state["model"], state["optimizer"])
    except (RuntimeError, EOFError, KeyError, pickle.UnpicklingError):
        raise SkiffError(f"{path} is damaged: remove {folder} and train from the beginning") from None


def cut_log(path: Path, steps: int) -> None:
    """Keep the log's lines of the first `steps` steps: those after the checkpoint are trained, and logged, again."""
    lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
    write_atomically(path, b"".join(lines[:steps]))
