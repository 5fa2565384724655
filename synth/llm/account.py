"""
What a run has spent so far, on the disk before each request is sent: a process that is killed can say nothing more, and
the next one may not spend it again.

One file a run, of one line that is written over. A run whose end is recorded in the store takes its file away; that of
a killed one stays, and is counted by all that follow.
"""

import math
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from types import TracebackType
from uuid import UUID

from synth.records import SkiffError

_MOST = 10**30  # more is no sum of ours
_WIDTH = 512  # bytes of the line
_PATIENCE = 1.0  # seconds between two lines where no ceiling waits for them


@dataclass(slots=True)
class Totals:
    """
    Of one run: requests sent, tokens and cost of the replies, the most that those which were lost can have taken, and
    the most that those in flight can take. Costs are in millionths of a millionth of a US dollar. `excess`: how many
    times the most that was expected of it the worst request took, at least 1.
    """

    requests: int = 0
    tokens: int = 0
    cost: int = 0
    lost_tokens: int = 0
    lost_cost: int = 0
    in_flight_tokens: int = 0
    in_flight_cost: int = 0
    excess: float = 1


class Account:
    """
    The totals of one run on the disk.

    Args:
        folder: of the journal.
        stage_key: of the runs that share a ceiling; only one of them is under way at a time.
        at_once: write each change; else at most one a second.
    """

    def __init__(self, folder: Path, stage_key: UUID, run_id: UUID, *, at_once: bool) -> None:
        self.totals = Totals()
        self._folder = folder
        self._path = folder / f"{stage_key.hex}.{run_id.hex}.account"
        self._file = -1
        self._patience = 0.0 if at_once else _PATIENCE
        self._written_at = -math.inf

    def __enter__(self) -> "Account":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def changed(self) -> None:
        """
        Write the totals.

        Raises:
            SkiffError: they cannot be written.
        """
        if self._patience:
            now = time.monotonic()
            if now - self._written_at < self._patience:
                return
            self._written_at = now
        own = self.totals
        spent = own.requests, own.tokens, own.cost, own.lost_tokens, own.lost_cost
        line = b"%d %d %d %d %d %d %d %r" % (*spent, own.in_flight_tokens, own.in_flight_cost, own.excess)
        try:
            if self._file < 0:
                self._file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
            os.pwrite(self._file, line.ljust(_WIDTH - 1) + b"\n", 0)
        except OSError as error:
            raise _unusable(self._folder, error) from None

    def remove(self) -> None:
        """The run's end is recorded: take the file away."""
        self._path.unlink(missing_ok=True)


def earlier(folder: Path, stage_key: UUID) -> Mapping[UUID, Totals]:
    """
    The totals of the killed runs of a stage, by run. One whose line is damaged is left out.

    Raises:
        SkiffError: a file cannot be read.
    """
    found = {}
    try:
        for path in sorted(folder.glob(f"{stage_key.hex}.*.account")):
            if path.is_file():  # opening a pipe would wait for a writer
                with path.open("rb") as file:
                    totals = _read(file.read(_WIDTH))
                run = path.name.split(".")[1]
                if totals is not None and len(run) == 32:
                    found[UUID(run)] = totals
    except (OSError, ValueError) as error:
        raise _unusable(folder, error) from None
    return found


def _read(line: bytes) -> Totals | None:
    words = line.split()
    if len(words) != len(fields(Totals)) or not line.endswith(b"\n"):
        return None
    try:
        counts, excess = [min(max(int(word), 0), _MOST) for word in words[:-1]], float(words[-1])
    except ValueError:
        return None
    names = [field.name for field in fields(Totals)]
    return Totals(**dict(zip(names, counts, strict=False)), excess=excess) if excess >= 1 else None


def _unusable(folder: Path, error: OSError | ValueError) -> SkiffError:
    said = error.strerror if isinstance(error, OSError) else str(error)
    return SkiffError(
        f"cannot keep account of what is spent in {folder}: {said}; free space or permit writing there, then run the"
        " same command again"
    )
