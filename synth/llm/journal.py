"""
The journal: every reply that was paid for, one JSON line each, written before anything else happens to it.

Append-only. A process writes to a file of its own, made at its first reply, and reads those of all earlier processes,
so two may run at once. A line reaches the operating system before `append` returns: a killed process loses nothing
that it was told. It reaches the disk every SYNC_SECONDS and on close: a power cut costs the replies of that time.
"""

import json
import os
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from uuid import UUID

from synth.records import SkiffError, new_id

SYNC_SECONDS = 5.0
_KEY_STARTS, _KEY_ENDS = len(b'{"key": "'), len(b'{"key": "') + 36


@dataclass(frozen=True, slots=True)
class Reply:
    """
    What the LLM answered. Tokens are as the server counted them, 0 where it did not say; `seconds` from sending to
    having the whole reply. `replayed`: it comes from the journal, was paid for earlier and costs nothing now.
    """

    text: str
    model: str
    finish_reason: str
    tokens_in: int
    tokens_out: int
    seconds: float
    replayed: bool = False


@dataclass(frozen=True, slots=True)
class _Place:
    path: Path
    start: int
    length: int


class Journal:
    """
    The replies of a folder of journal files by request key; opening reads them all.

    Only keys and places stay in memory. `notes` says, one line each, what could not be read: those requests will be
    asked again. Use as a context manager, from one thread.
    """

    def __init__(self, folder: Path) -> None:
        self.notes: list[str] = []
        self._folder = folder
        self._places: dict[UUID, _Place] = {}
        self._own: Path | None = None  # the file of this process, and its descriptor
        self._file = -1
        self._length = 0
        self._synced_at = time.monotonic()

    def __enter__(self) -> "Journal":
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            for path in sorted(self._folder.glob("*.jsonl")):
                self._replay(path)
        except OSError as error:
            raise _unusable(self._folder, error) from None
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if self._own is None:
            return
        try:
            os.fsync(self._file)
        except OSError as failure:
            raise _unusable(self._folder, failure) from error
        finally:
            os.close(self._file)

    def __len__(self) -> int:
        """How many requests have their reply here."""
        return len(self._places)

    def get(self, key: UUID) -> Reply | None:
        """The reply to the request of this key, marked as replayed, or None if it was never paid for."""
        place = self._places.get(key)
        if place is None:
            return None
        try:
            with place.path.open("rb") as file:
                file.seek(place.start)
                line = file.read(place.length)
        except OSError as error:
            raise _unusable(self._folder, error) from None
        reply = _reply_of(line)
        if reply is None:
            del self._places[key]
            self.notes.append(f"the journal's reply {key} in {self._folder} is damaged; its request is asked again")
        return reply

    def append(self, key: UUID, reply: Reply) -> None:
        """
        Write one reply.

        Raises:
            SkiffError: the disk is full or not writable. What was half written is taken back.
        """
        fields = {name: value for name, value in asdict(reply).items() if name != "replayed"}
        line = json.dumps({"key": str(key), **fields}).encode() + b"\n"
        try:
            own = self._own or self._open_own()
            self._write(line)
            self._places[key] = _Place(own, self._length, len(line))
            self._length += len(line)
            if time.monotonic() - self._synced_at > SYNC_SECONDS:
                os.fsync(self._file)
                self._synced_at = time.monotonic()
        except OSError as error:
            raise _unusable(self._folder, error) from None

    def _open_own(self) -> Path:
        path = self._folder / f"{new_id()}.jsonl"
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._own = path
        return path

    def _write(self, line: bytes) -> None:
        written = 0
        try:
            while written < len(line):
                written += os.write(self._file, line[written:])
        except OSError:
            os.ftruncate(self._file, self._length)  # half a line would spoil the one written after it
            raise

    def _replay(self, path: Path) -> None:
        unreadable = 0
        for start, line in _lines(path):
            key = _key_of_line(line)
            if key is None:
                unreadable += 1
            else:
                self._places[key] = _Place(path, start, len(line))
        if unreadable:
            lines = "line that is" if unreadable == 1 else "lines that are"
            self.notes.append(f"ignored {unreadable} {lines} torn or damaged in {path}; those requests are asked again")


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    start = 0
    with path.open("rb") as file:
        for line in file:
            yield start, line
            start += len(line)


def _key_of_line(line: bytes) -> UUID | None:
    """The key of a whole line. Only `get` reads the rest: a journal of gigabytes opens in seconds."""
    if not (line.startswith(b'{"key": "') and line.endswith(b"}\n")):
        return None
    try:
        return UUID(line[_KEY_STARTS:_KEY_ENDS].decode("ascii"))
    except ValueError:
        return None


def _reply_of(line: bytes) -> Reply | None:
    try:
        fields = json.loads(line)
        del fields["key"]
        reply = Reply(**fields, replayed=True)
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    texts, counts = (reply.text, reply.model, reply.finish_reason), (reply.tokens_in, reply.tokens_out)
    sound = all(isinstance(text, str) for text in texts) and all(isinstance(count, int) for count in counts)
    return reply if sound else None


def _unusable(folder: Path, error: OSError) -> SkiffError:
    return SkiffError(
        f"cannot use the journal of replies in {folder}: {error.strerror}; what is in it is kept: "
        "free space or permit writing there, then run the same command again"
    )
