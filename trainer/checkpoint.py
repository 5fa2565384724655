"""
What survives a kill: a folder beside the output in which a run keeps its settings, its log and its last checkpoint.

The same command again goes on from there to the same bits. A run with other data, settings or hardware is refused
rather than mixed in.
"""

import fcntl
import json
import math
import os
import pickle
import shutil
import warnings
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from synth.records import SkiffError, UserError
from trainer.ranks import Ranks

RUN_FILE = "run.json"
CHECKPOINTS, PART, PROGRESS = "checkpoints", "unfinished", "progress.json"
WRITING = ".part"  # after the name of a file that is not whole yet
LONGEST_NAME = 255  # bytes, on every file system in use
Identity = Mapping[str, Any]  # what must be equal for a run to be gone on with; JSON


@dataclass(frozen=True, slots=True)
class Progress:
    """
    How far a run is; with the weights and the optimiser's state the seed of everything that follows, as dropout is off
    and the plan is fixed.

    Attributes:
        step: the last one that was trained.
        best_step, best_score: where the evaluation was best so far; step 0 if there was none.
        num_worse: evaluations since then, within the stage.
        ended_stage: the stage that ended early at this step; 0 if none did.
    """

    step: int
    best_step: int = 0
    best_score: float = -1.0
    num_worse: int = 0
    ended_stage: int = 0


def is_finished(output: Path, identity: Identity) -> bool:
    """
    Whether the output folder holds this run's model.

    Raises:
        UserError: something else is there.
    """
    if not output.exists() and not output.is_symlink():
        return False
    there = read_json(output / RUN_FILE)
    if there is None:
        raise UserError(f"{output} exists and was not made by this command: choose another --output")
    _refuse_other(there, identity, output)
    return True


@contextmanager
def run_folder(output: Path, identity: Identity, ranks: Ranks) -> Iterator[Path]:
    """
    The folder OUTPUT.training, made or found again, for these processes alone. One without a checkpoint starts anew.

    Raises:
        UserError: it holds another run, or another process is at work in it.
        OSError: it cannot be written.
    """
    folder = _run_folder(output)
    if not ranks.is_first:
        if not ranks.as_the_first(0.0):
            raise UserError("the first process says why this cannot begin")
        yield folder
        return
    with ExitStack() as held:
        try:
            held.enter_context(_claimed(folder, output, identity))
        except (UserError, OSError):
            ranks.as_the_first(0.0)  # the others wait to be told
            raise
        ranks.as_the_first(1.0)
        yield folder


@contextmanager
def _claimed(folder: Path, output: Path, identity: Identity) -> Iterator[None]:
    """The folder, made or found again, and locked."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(
                f"another process is training into {output}: wait for it, or choose another --output"
            ) from None
        there = read_json(folder / RUN_FILE)
        if there is None or not _checkpoints(folder / CHECKPOINTS):
            write_atomically(folder / RUN_FILE, json.dumps(identity, indent=2, ensure_ascii=False).encode())
        else:
            _refuse_other(there, identity, folder)
        yield


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
    except (FileNotFoundError, NotADirectoryError, ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def check_place(path: Path) -> None:
    """
    Raise UserError unless `write_atomically` can write there, as far as can be told before an hour is spent on what it
    writes.
    """
    if len(os.fsencode(f"{path.name}{WRITING}")) > LONGEST_NAME:
        raise UserError(f"{path}: the name is too long; give a shorter one")
    if not path.parent.is_dir():
        raise UserError(f"{path}: its folder does not exist; make it first")
    if path.is_symlink() or (path.exists() and not path.is_file()):
        raise UserError(f"{path}: is no plain file; give another name")


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that a reader, or a machine that lost its power, finds the old one or the new one whole."""
    part = path.with_name(f"{path.name}{WRITING}")
    try:
        with part.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        with suppress(OSError):
            part.unlink()
        raise SkiffError(f"cannot write {path}: {error.strerror}: mend that and run the same command again") from None


def save_checkpoint(folder: Path, progress: Progress, model: Any, optimizer: Any, ranks: Ranks, *, keep: int) -> None:
    """
    Write a checkpoint in torch's distributed format, each process its part, then give it its name and remove the
    oldest: those beside the latest `keep` and the best.

    Raises:
        SkiffError: the disk did not take it; the earlier checkpoints are still there.
    """
    from torch.distributed.checkpoint.api import CheckpointException
    from torch.distributed.checkpoint.state_dict import get_optimizer_state_dict
    from torch.distributed.checkpoint.state_dict_saver import save

    home = folder / CHECKPOINTS
    part, whole = home / PART, home / _name(progress.step)
    try:
        if ranks.is_first:
            shutil.rmtree(part, ignore_errors=True)  # of a process that was killed while it wrote
            part.mkdir(parents=True)
        ranks.wait()
        state = {"model": _trained_weights(model), "optimizer": get_optimizer_state_dict(model, optimizer)}
        with _alone_is_meant():
            save(state, checkpoint_id=part, no_dist=ranks.size == 1)
        if ranks.is_first:
            write_atomically(part / PROGRESS, json.dumps(asdict(progress)).encode())
            shutil.rmtree(whole, ignore_errors=True)
            part.rename(whole)
            _sync(home)
            for old in _old(home, keep, progress.best_step):
                shutil.rmtree(old, ignore_errors=True)
    except (OSError, RuntimeError, CheckpointException) as error:  # torch has a kind of its own for a full disk
        first_line = str(error.__cause__ or error).strip().splitlines()[0]
        raise SkiffError(f"cannot write {part}: {first_line}: free space and run the same command again") from None
    ranks.wait()


def read_progress(folder: Path) -> Progress | None:
    """How far the folder's latest checkpoint is; None if the run had not come to its first."""
    found = _checkpoints(folder / CHECKPOINTS)
    if not found:
        return None
    try:
        return Progress(**(read_json(found[-1] / PROGRESS) or {}))
    except TypeError:
        raise _damaged(found[-1], folder) from None


def load_checkpoint(folder: Path, step: int, model: Any, optimizer: Any | None) -> None:
    """
    Put the weights of a step's checkpoint into the model, and the optimiser's state into the optimiser, if one is
    given.

    Raises:
        SkiffError: it was damaged after it was written.
    """
    from torch.distributed.checkpoint.api import CheckpointException
    from torch.distributed.checkpoint.state_dict import (
        StateDictOptions,
        get_optimizer_state_dict,
        set_model_state_dict,
        set_optimizer_state_dict,
    )
    from torch.distributed.checkpoint.state_dict_loader import load

    path = folder / CHECKPOINTS / _name(step)
    state: dict[str, Any] = {"model": _trained_weights(model)}
    if optimizer is not None:
        state["optimizer"] = get_optimizer_state_dict(model, optimizer)
    try:
        with _alone_is_meant():
            load(state, checkpoint_id=path, no_dist=not _is_joined())
    except (OSError, RuntimeError, ValueError, EOFError, pickle.UnpicklingError, CheckpointException):
        raise _damaged(path, folder) from None
    set_model_state_dict(model, state["model"], options=StateDictOptions(strict=False))
    if optimizer is not None:
        set_optimizer_state_dict(model, optimizer, state["optimizer"])


@contextmanager
def _alone_is_meant() -> Iterator[None]:
    """Without torch's warning that a single process saves or loads alone."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*torch.distributed is disabled, unavailable or uninitialized.*")
        yield


def _trained_weights(model: Any) -> dict[str, Any]:
    """What training changes; the rest is as the base model has it."""
    from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

    return get_model_state_dict(model, options=StateDictOptions(ignore_frozen_params=True))


def _damaged(path: Path, folder: Path) -> SkiffError:
    return SkiffError(f"{path} is damaged: remove {folder} and train from the beginning")


def _is_joined() -> bool:
    from torch import distributed

    return distributed.is_available() and distributed.is_initialized()


def _name(step: int) -> str:
    return f"step-{step:08d}"


def _checkpoints(home: Path) -> list[Path]:
    """The folder's whole checkpoints, the oldest first."""
    return sorted(path for path in home.glob("step-????????") if path.is_dir())


def _old(home: Path, keep: int, best_step: int) -> list[Path]:
    return [path for path in _checkpoints(home)[:-keep] if path.name != _name(best_step)]


def _sync(folder: Path) -> None:
    """Have a folder's names on the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def cut_log(path: Path, steps: int) -> None:
    """Keep the log's lines of the first `steps` steps: those after the checkpoint are trained, and logged, again."""
    lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
    write_atomically(path, b"".join(line for line in lines if _step_of(line) <= steps))


def _step_of(line: bytes) -> float:
    """The step that a line of the log is of; infinite if a kill cut it short."""
    try:
        return float(json.loads(line)["step"]) if line.endswith(b"\n") else math.inf
    except (ValueError, KeyError, TypeError):
        return math.inf
