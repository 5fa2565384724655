"""
What is kept on disk of each batch, in three files named by its tag: a kill or a power cut between any two steps may
neither buy a request twice nor lose a reply that is paid for.

    TAG.jsonl   what is uploaded, one request a line          gone once the replies are in the journal
    TAG.keys    the keys of its requests, 16 bytes each       gone with it
    TAG.json    the Batch, always replaced as a whole; it is written last and so says that the other two are complete

They stand in a folder of their own for each server and model, with the lock of who is at work there.
"""

import fcntl
import hashlib
import json
import os
import secrets
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import BinaryIO
from urllib.parse import urlsplit
from uuid import UUID

from synth.llm.config import Endpoint
from synth.records import SkiffError

MOST_REQUESTS, MOST_BYTES = 50_000, 200_000_000  # of one batch, as OpenAI's Batch API takes them
# Of every request, whatever the path of base_url: the server reads it, nobody connects to it.
_LINE = b'{"custom_id":"%s","method":"POST","url":"/v1/chat/completions","body":%s}\n'
_MOST_STATE = 1 << 20  # bytes of TAG.json; ours have about a thousand
LARGEST = 2 * 10**11  # number in it: Unix seconds of years that have four digits
_PORTS = {"http": 80, "https": 443}


class Step(StrEnum):
    """How far a batch has come, as far as this side can know."""

    WRITTEN = "written"  # on disk here; the server has no batch of it
    SENDING = "sending"  # the server may have made it, or not: it has to be looked for
    SENT = "sent"  # the server has it, as batch_id
    FETCHED = "fetched"  # every reply that it brought is in the journal


@dataclass(frozen=True, slots=True)
class Request:
    """One chat request. `key` is what its reply is journalled under; `body` is what would be posted, as JSON."""

    key: UUID
    body: bytes


@dataclass(frozen=True, slots=True)
class Batch:
    """
    Requests to one model that were, or will be, sent in one file.

    `status` is the server's word, "" before it has said one. `done` and `failed` are the server's counts until the
    batch is fetched, then those of what was found in it. Times are Unix seconds.
    """

    tag: str  # ours, random; the server shows it as metadata and in the file's name
    base_url: str
    model: str
    num_requests: int
    created: float
    step: Step = Step.WRITTEN
    status: str = ""
    batch_id: str = ""
    submitted: float | None = None
    done: int = 0
    failed: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    cost: float | None = None  # US dollars, once it is fetched; None where no price is stated
    file_id: str = ""  # of the uploaded requests
    uploaded: float = 0.0  # by the server's clock
    earlier: tuple[str, ...] = ()  # ids of the batches of this file that the server had no room for
    whole: str = ""  # the tag of the batch that this one is half of
    unbooked: bool = False  # fetched, and no run has counted yet what it took

    @property
    def name(self) -> str:
        """What people call it by: the server's id, our tag while there is none."""
        return self.batch_id or self.tag


class InUse(SkiffError):
    """Another process is at these batches."""


class BatchFolder:
    """
    The batches for one server and model, here and on the disk alike. Nothing here talks to the server.

    Use it while it is `held`. `root`: the folder of all batches of a workspace.
    """

    def __init__(self, root: Path, endpoint: Endpoint) -> None:
        name = hashlib.sha256(f"{address(endpoint.base_url)}\n{endpoint.model}".encode()).hexdigest()[:16]
        self.path = root / name
        self._endpoint = endpoint
        self._batches: dict[str, Batch] = {}

    @contextmanager
    def held(self) -> Iterator[None]:
        """
        Let nobody else change these batches meanwhile, read them, and clear away what a killed process left half done.

        Raises:
            InUse: somebody else is at work here. SkiffError: a batch cannot be read.
        """
        with self._disk():
            self.path.mkdir(parents=True, exist_ok=True)
            lock = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise InUse(
                    f"another process is at the batches for model {self._endpoint.model} at {self._endpoint.base_url}; "
                    "wait for it, or stop it (what it has submitted goes on), then run again"
                ) from None
            found = self.batches()
            self._sweep(found)
            self._batches = {batch.tag: batch for batch in found if batch.step is not Step.FETCHED}
            yield
        finally:
            os.close(lock)

    def __contains__(self, tag: str) -> bool:
        return tag in self._batches

    def __getitem__(self, tag: str) -> Batch:
        return self._batches[tag]

    def batches(self) -> list[Batch]:
        """All of them as they are on the disk, the oldest first, whoever holds them. Raises as `read_batches`."""
        return read_batches(self.path)

    @property
    def current(self) -> list[Batch]:
        """Those that were pending when they were taken hold of, and those that came since; the oldest first."""
        return list(self._batches.values())

    @property
    def pending(self) -> list[Batch]:
        """Those whose requests must not be asked again, the oldest first: they are paid for, or may be."""
        return [batch for batch in self._batches.values() if batch.step is not Step.FETCHED]

    def write(
        self, requests: Iterable[Request | None], *, most_requests: int, most_bytes: int, now: float
    ) -> Iterator[Batch | None]:
        """
        The requests as batches within these limits; each is on the disk for good when it is yielded. A None among the
        requests is yielded as it comes: whoever waits may have a turn.
        """
        part = None
        try:
            for request in requests:
                if request is None:
                    yield None
                    continue
                line = _LINE % (str(request.key).encode(), request.body.replace(b"\n", b" "))
                if part and (len(part.keys) >= most_requests or part.num_bytes + len(line) > most_bytes):
                    yield self._seal(part, now)
                    part = None
                with self._disk():
                    part = part or _Part(self.path)
                    part.add(request.key, line)
            if part:
                yield self._seal(part, now)
        finally:
            if part:
                part.close()

    def halve(self, batch: Batch) -> list[Batch]:
        """Two batches of half its requests each in its place: from the moment that it is removed, they count."""
        keys = self.keys(batch)
        half = (len(keys) + 1) // 2
        halves = []
        with self._disk(), self.requests(batch) as lines:
            for some in (keys[:half], keys[half:]):
                part = _Part(self.path)
                for key in some:
                    part.add(key, lines.readline())
                halves.append(self._seal(part, batch.created, whole=batch.tag))
        self.remove(batch)
        return halves

    def save(self, batch: Batch) -> Batch:
        """Replace what is known of a batch; it is on the disk when this returns."""
        path = self.path / f"{batch.tag}.json"
        partial = self.path / f"{batch.tag}.partial"
        with self._disk():
            with partial.open("w", encoding="utf-8") as file:
                json.dump(asdict(batch), file, indent=1)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(path)
            self._sync()
        self._batches[batch.tag] = batch
        return batch

    def finish(self, batch: Batch) -> Batch:
        """Save a fetched batch; its requests are not needed any more."""
        self.save(batch)
        self._remove_beside(batch.tag)
        return batch

    def remove(self, batch: Batch) -> None:
        """Forget a batch as if it had never been written."""
        with self._disk():
            (self.path / f"{batch.tag}.json").unlink()
            self._sync()
        del self._batches[batch.tag]
        self._remove_beside(batch.tag)

    def keys(self, batch: Batch) -> list[UUID]:
        """The keys of a batch's requests, in the order of its lines."""
        path = self.path / f"{batch.tag}.keys"
        with self._disk():
            packed = path.read_bytes()
        if len(packed) != 16 * batch.num_requests:
            raise SkiffError(
                f"{path} is damaged, which says what batch {batch.name} asks: restore it, or delete {batch.tag}.json "
                "beside it, and its requests are asked again"
            )
        return [UUID(bytes=packed[start : start + 16]) for start in range(0, len(packed), 16)]

    def requests(self, batch: Batch) -> BinaryIO:
        """The file to upload, open."""
        with self._disk():
            return (self.path / f"{batch.tag}.jsonl").open("rb")

    @contextmanager
    def results(self, batch: Batch) -> Iterator[Path]:
        """An empty file for what is downloaded of a batch. Errors of the disk are told as such."""
        path = self.path / f"{batch.tag}.output"
        with self._disk():
            path.write_bytes(b"")
            yield path

    def _seal(self, part: "_Part", now: float, *, whole: str = "") -> Batch:
        with self._disk():
            part.seal()
        endpoint = self._endpoint
        return self.save(Batch(part.tag, endpoint.base_url, endpoint.model, len(part.keys), created=now, whole=whole))

    def _sweep(self, batches: Sequence[Batch]) -> None:
        """Remove what belongs to no batch, or to one that does not need it any more."""
        is_fetched = {batch.tag: batch.step is Step.FETCHED for batch in batches}
        with self._disk():
            for path in sorted(self.path.iterdir()):
                tag, _, kind = path.name.partition(".")
                is_needed = {
                    "json": tag in is_fetched,  # unless it is half of a batch that is still whole
                    "jsonl": not is_fetched.get(tag, True),
                    "keys": not is_fetched.get(tag, True),
                    "output": False,
                    "partial": False,
                }
                if not is_needed.get(kind, True):
                    path.unlink()

    def _remove_beside(self, tag: str) -> None:
        with self._disk():
            for kind in ("jsonl", "keys", "output"):
                (self.path / f"{tag}.{kind}").unlink(missing_ok=True)

    def _sync(self) -> None:
        """What was renamed or removed survives a power cut."""
        folder = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    @contextmanager
    def _disk(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise SkiffError(
                f"cannot use the batches in {self.path}: {error.strerror}; what is submitted goes on: free space or "
                "permit writing there, then run the same command again"
            ) from None


class _Part:
    """The file of requests that is being written."""

    def __init__(self, folder: Path) -> None:
        self.tag = secrets.token_hex(8)
        self.keys: list[UUID] = []
        self.num_bytes = 0
        self._keys_path = folder / f"{self.tag}.keys"
        self._file = (folder / f"{self.tag}.jsonl").open("xb")

    def add(self, key: UUID, line: bytes) -> None:
        self._file.write(line)
        self.keys.append(key)
        self.num_bytes += len(line)

    def seal(self) -> None:
        """Both files are complete, and on the disk."""
        with self._file as file:
            file.flush()
            os.fsync(file.fileno())
        with self._keys_path.open("xb") as file:
            file.write(b"".join(key.bytes for key in self.keys))
            file.flush()
            os.fsync(file.fileno())

    def close(self) -> None:
        self._file.close()


def address(base_url: str) -> str:
    """What is the same for all ways to write one address: capitals in the host, the usual port, a slash at the end."""
    parts = urlsplit(base_url)
    port = "" if parts.port in (None, _PORTS.get(parts.scheme)) else f":{parts.port}"
    return f"{parts.scheme}://{parts.hostname}{port}{parts.path.rstrip('/')}"


def kept_batches(root: Path) -> dict[Path, list[Batch]]:
    """
    All batches of a workspace, by their folders: one for each server and model.

    Raises:
        SkiffError: as `read_batches`.
    """
    folders = sorted(folder for folder in root.iterdir() if folder.is_dir()) if root.is_dir() else []
    return {folder: read_batches(folder) for folder in folders}


def read_batches(folder: Path) -> list[Batch]:
    """
    The batches of one folder, the oldest first; none of a folder that is not there.

    Raises:
        SkiffError: one cannot be read: it may stand for replies that are paid for.
    """
    found = [batch for path in folder.glob("*.json") if (batch := _read(path)) is not None]
    tags = {batch.tag for batch in found}
    # A half whose whole is still there was never sent: a killed process did not come to the end of halving it.
    counted = [batch for batch in found if batch.whole not in tags]
    return sorted(counted, key=lambda batch: (batch.created, batch.tag))


def _read(path: Path) -> Batch | None:
    """The batch of a file; None if it is gone, since whoever holds the batches has removed it just now."""
    try:
        with path.open("rb") as file:
            known = json.loads(file.read(_MOST_STATE))
        batch = Batch(**{**known, "step": Step(known["step"]), "earlier": tuple(known["earlier"])})
        if batch.tag != path.stem or not _is_sound(batch):
            raise ValueError
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        raise SkiffError(
            f"{path} is damaged, which stands for a batch that may be paid for: restore it, or delete it, and its "
            "requests are asked again"
        ) from None
    return batch


def _is_sound(batch: Batch) -> bool:
    """Whether every value is of its type: a file may have been edited."""
    texts = (batch.tag, batch.base_url, batch.model, batch.status, batch.batch_id, batch.file_id, batch.whole)
    counts = (batch.num_requests, batch.done, batch.failed, batch.tokens_in, batch.tokens_out)
    numbers = (batch.created, batch.uploaded, batch.submitted or 0.0, batch.cost or 0.0)
    return (
        all(isinstance(text, str) and (text.isprintable() or not text) for text in (*texts, *batch.earlier))
        and type(batch.unbooked) is bool
        and all(type(count) is int for count in counts)
        and all(type(number) in (int, float) and 0 <= number <= LARGEST for number in (*counts, *numbers))
    )
