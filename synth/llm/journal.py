"""
The journal: every reply that was paid for, one JSON line each, written before anything else happens to it.

Append-only. A process writes to a file of its own, made at its first reply, and reads those of all earlier processes,
so two may run at once. A line reaches the operating system before `append` returns: a killed process loses nothing
that it was told. It reaches the disk every SYNC_SECONDS and on close: a power cut costs the replies of that time.
"""

import json
import math
import os
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import BinaryIO
from uuid import UUID

import orjson

from synth.llm.places import Places
from synth.records import SkiffError, new_id

SYNC_SECONDS = 5.0
# What a reply may be; whatever a server or a file says beyond it is no reply.
MOST_BYTES = 8 << 20  # of its body, and so characters of its text; far more than any model writes at once
MOST_NAME = 200  # characters of the model's name and of finish_reason
MOST_ADDRESS = 1000  # characters of a server's address; servers take no longer ones
MOST_TOKENS = 10**9
MOST_COST = 2e9  # US dollars of one reply: MOST_TOKENS there and back, at a dollar each
HALF_A_PAIR = re.compile("[\ud800-\udfff]")  # no text: cannot be encoded, stored or printed
_LONGEST_LINE = 7 * MOST_BYTES  # a control character becomes six
_KEY = re.compile(rb'\{"key": ?"([0-9a-f-]{36})", ?')
MOST_FILES = 1 << 24


@dataclass(slots=True)  # frozen, it would take three times as long to make
class Reply:
    """
    What the LLM answered. `model` and `finish_reason` are printable and short, `model` as the server names it; `asked`
    is what the model was asked for as, `server` where. Tokens are as the server counted them, 0 where it did not say;
    `cost` is in US dollars by the prices of that day, None where they were not stated; `seconds` is from sending to
    having the whole reply. `batch` names the batch it came in, "" for one asked online.

    `replayed`: it comes from the journal, was paid for earlier and costs nothing now. `call_id` is the key of its
    request: the same reply has the same, whenever it is read.
    """

    text: str
    model: str
    finish_reason: str
    tokens_in: int
    tokens_out: int
    seconds: float
    asked: str = ""
    server: str = ""
    cost: float | None = None
    batch: str = ""
    replayed: bool = False
    call_id: UUID | None = field(default=None, compare=False)


class Journal:
    """
    The replies of a folder of journal files by request key; opening reads them all.

    Only where they stand is kept in memory. `notes` says, one line each, what could not be read: those requests will be
    asked again. Use as a context manager, from one thread.
    """

    def __init__(self, folder: Path, *, read_only: bool = False) -> None:
        self.folder = folder
        self._read_only = read_only
        self.notes: list[str] = []
        self._places = Places()
        self._files: list[Path] = []
        self._read: tuple[int, BinaryIO] | None = None  # the file that was last read of, by its number
        self._own = -1  # the file of this process, by its number, and its descriptor
        self._file = -1
        self._length = 0
        self._synced_at = time.monotonic()

    def __enter__(self) -> "Journal":
        try:
            if not self._read_only:
                self.folder.mkdir(parents=True, exist_ok=True)
            for path in sorted(self.folder.glob("*.jsonl")):
                if path.is_file():
                    self._replay(path)
                else:  # opening a pipe would wait for a writer
                    self.notes.append(f"ignored {path}: it is no regular file")
        except OSError as error:
            raise _unusable(self.folder, error) from None
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if self._read is not None:
            self._read[1].close()
        if self._own < 0:
            return
        try:
            os.fsync(self._file)
        except OSError as failure:
            raise _unusable(self.folder, failure) from error
        finally:
            os.close(self._file)
            if not self._length:
                self._files[self._own].unlink(missing_ok=True)

    def __len__(self) -> int:
        """How many requests have their reply here."""
        return len(self._places)

    def has(self, key: UUID) -> bool:
        """Whether there is a reply to the request of this key, as far as the index knows."""
        return self._places.get(key) is not None

    def get(self, key: UUID) -> Reply | None:
        """The reply to the request of this key, marked as replayed, or None if it was never paid for."""
        place = self._places.get(key)
        if place is None:
            return None
        try:
            line = self._line(*place)
        except OSError as error:
            raise _unusable(self.folder, error) from None
        found = _key_of_line(line)
        if found is not None and found != key:  # of another request, whose key shares half of its bits
            return None
        reply = _reply_of(line, key) if found else None
        if reply is None:
            self.notes.append(f"the journal's reply {key} in {self.folder} is damaged; its request is asked again")
        return reply

    def prepare(self) -> None:
        """Find out whether a reply could be written, before one is paid for. Raises as `append`."""
        if self._own < 0:
            try:
                self._open_own()
            except OSError as error:
                raise _unusable(self.folder, error) from None

    def append(self, key: UUID, reply: Reply) -> None:
        """
        Write one reply.

        Raises:
            SkiffError: the disk is full or not writable. What was half written is taken back.
        """
        line = _line_of(key, reply)
        try:
            self.prepare()
            self._write(line)
            self._places.put(key, self._own, self._length)
            self._length += len(line)
            if time.monotonic() - self._synced_at > SYNC_SECONDS:
                self._sync()
        except OSError as error:
            raise _unusable(self.folder, error) from None

    def sync(self) -> None:
        """Have all replies on the disk now. Raises as `append`."""
        try:
            if self._own >= 0:
                self._sync()
        except OSError as error:
            raise _unusable(self.folder, error) from None

    def _sync(self) -> None:
        os.fsync(self._file)
        self._synced_at = time.monotonic()

    def _open_own(self) -> None:
        path = self.folder / f"{new_id()}.jsonl"
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._own = self._number(path)

    def _number(self, path: Path) -> int:
        if len(self._files) == MOST_FILES:
            raise SkiffError(f"the journal in {self.folder} has too many files; put some into one: `cat a b > c`")
        self._files.append(path)
        return len(self._files) - 1

    def _write(self, line: bytes) -> None:
        written = 0
        try:
            while written < len(line):
                written += os.write(self._file, line[written:])
        except OSError:
            os.ftruncate(self._file, self._length)  # half a line would spoil the one written after it
            raise

    def _line(self, number: int, start: int) -> bytes:
        if self._read is None or self._read[0] != number:
            if self._read is not None:
                self._read[1].close()
                self._read = None
            self._read = number, self._files[number].open("rb")
        file = self._read[1]
        file.seek(start)
        return file.readline(_LONGEST_LINE)

    def _replay(self, path: Path) -> None:
        number, unreadable = self._number(path), 0
        for start, line in _lines(path):
            key = _key_of_line(line)
            if key is None:
                unreadable += 1
            else:
                self._places.put(key, number, start)
        if unreadable:
            lines = "line that is" if unreadable == 1 else "lines that are"
            self.notes.append(f"ignored {unreadable} {lines} torn or damaged in {path}; those requests are asked again")


def _line_of(key: UUID, reply: Reply) -> bytes:
    fields = {
        "key": key,
        "text": reply.text,
        "model": reply.model,
        "finish_reason": reply.finish_reason,
        "tokens_in": reply.tokens_in,
        "tokens_out": reply.tokens_out,
        "seconds": reply.seconds,
        "asked": reply.asked,
        "server": reply.server,
        "cost": reply.cost,
        "batch": reply.batch,
    }
    return orjson.dumps(fields, option=orjson.OPT_APPEND_NEWLINE)


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    start = 0
    with path.open("rb") as file:
        while line := file.readline(_LONGEST_LINE):
            yield start, line
            start += len(line)


def _key_of_line(line: bytes) -> UUID | None:
    """The key of a whole line. Only `get` reads the rest: a journal of gigabytes opens in seconds."""
    found = _KEY.match(line)
    if found is None or not line.endswith(b"}\n"):
        return None
    try:
        return UUID(found[1].decode())
    except ValueError:
        return None


def _reply_of(line: bytes, key: UUID) -> Reply | None:
    try:
        fields = json.loads(line)
        del fields["key"]
        reply = Reply(**fields, replayed=True, call_id=key)
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    return reply if _sound(reply) else None


def _sound(reply: Reply) -> bool:
    """Whether a reply is what the client would let pass: a journal may be older than its rules, or edited."""
    return (
        isinstance(reply.text, str)
        and len(reply.text) <= MOST_BYTES
        and not HALF_A_PAIR.search(reply.text)
        and all(_is_name(name) for name in (reply.model, reply.finish_reason, reply.asked, reply.batch))
        and isinstance(reply.server, str)
        and len(reply.server) <= MOST_ADDRESS
        and reply.server.isprintable()
        and all(type(count) is int and 0 <= count <= MOST_TOKENS for count in (reply.tokens_in, reply.tokens_out))
        and type(reply.seconds) is float
        and math.isfinite(reply.seconds)
        and (reply.cost is None or (type(reply.cost) is float and 0 <= reply.cost <= MOST_COST))
    )


def _is_name(name: object) -> bool:
    return isinstance(name, str) and len(name) <= MOST_NAME and name.isprintable()


def _unusable(folder: Path, error: OSError) -> SkiffError:
    return SkiffError(
        f"cannot use the journal of replies in {folder}: {error.strerror}; what is in it is kept: "
        "free space or permit writing there, then run the same command again"
    )
