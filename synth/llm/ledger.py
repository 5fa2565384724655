"""
What a run under a ceiling has in flight, on the disk: a process that is killed cannot say what it had asked, and the
next one may not spend that again.

One file a run, appended to before a request is sent and when it is known what it took. A run that ends takes its file
away, for its record in the store says what it lost; the file of a killed one stays and is counted by all that follow.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from synth.records import SkiffError, new_id

_MOST = 10**18  # tokens or millionths of a millionth of a dollar; more is no sum of ours


@dataclass(frozen=True, slots=True)
class InFlight:
    """What requests without a known end can have taken at most; `cost` in US dollars."""

    num_requests: int = 0
    tokens: int = 0
    cost: float = 0.0


class Ledger:
    """
    The requests in flight of one run. Use as a context manager; `close` it once the run's end is recorded.

    Args:
        folder: of the journal.
        stage_key: of the runs that share a ceiling; only one of them is under way at a time.
    """

    def __init__(self, folder: Path, stage_key: UUID) -> None:
        self._folder, self._stage_key = folder, stage_key
        self._path = folder / f"{stage_key.hex}.{new_id().hex}.ledger"
        self._file = -1

    def earlier(self) -> InFlight:
        """
        What runs that were killed had in flight. That a later run got the reply does not matter: it was asked twice.

        Raises:
            SkiffError: a file cannot be read.
        """
        found = InFlight()
        try:
            for path in sorted(self._folder.glob(f"{self._stage_key.hex}.*.ledger")):
                if path.is_file() and path != self._path:
                    for tokens, picodollars in _open_entries(path.read_bytes()):
                        cost = found.cost + picodollars / 10**12
                        found = InFlight(found.num_requests + 1, found.tokens + tokens, cost)
        except OSError as error:
            raise self._unusable(error) from None
        return found

    def sent(self, key: UUID, tokens: int, cost: float) -> None:
        """A request is about to be sent, and can take so much. Raises SkiffError if that cannot be written."""
        self._write(f"+{key.hex} {tokens} {round(cost * 10**12)}\n")

    def known(self, key: UUID) -> None:
        """It is known what it took: its reply is in the journal, or nothing was charged."""
        self._write(f"-{key.hex}\n")

    def close(self) -> None:
        """The run's end is recorded: take the file away."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
            self._path.unlink(missing_ok=True)

    def _write(self, line: str) -> None:
        try:
            if self._file < 0:
                flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC
                self._file = os.open(self._path, flags, 0o600)
            os.write(self._file, line.encode())
        except OSError as error:
            raise self._unusable(error) from None

    def _unusable(self, error: OSError) -> SkiffError:
        return SkiffError(
            f"cannot keep account of what is in flight in {self._folder}: {error.strerror}; free space or permit"
            " writing there, then run the same command again"
        )


def _open_entries(content: bytes) -> list[tuple[int, int]]:
    """
    Tokens and cost of what has no known end. A request that was sent again stands there as often; its end is that of
    the last time. What is torn or damaged is passed over.
    """
    entries: dict[UUID, list[tuple[int, int]]] = {}
    for line in content.splitlines():
        fields = line[1:].split()
        try:
            key = UUID(fields[0].decode("ascii"))
            if line.startswith(b"-"):
                entries[key].pop()
            else:
                tokens, picodollars = (min(max(int(field), 0), _MOST) for field in fields[1:])
                entries.setdefault(key, []).append((tokens, picodollars))
        except (ValueError, LookupError):  # no UUID, no numbers, too few, an end without a beginning
            continue
    return [each for sent in entries.values() for each in sent]
