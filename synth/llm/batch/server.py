"""
The files and batches of an OpenAI-compatible server, through the openai package: what a desk asks of it, and the faults
(faults.py) that come of it. Importing this file imports openai, which takes a second.

Nothing is sent twice by itself: a batch that is made twice is paid for twice, and only the desk can find out.
"""

import math
import re
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import openai

from synth.llm.batch.files import LARGEST
from synth.llm.config import Endpoint
from synth.llm.faults import Transient, Unusable
from synth.llm.journal import MOST_BYTES, MOST_NAME
from synth.llm.openai_client import OpenAIClient

NOT_OF_THIS_API = "no batch"  # the cause of the fault: a proxy speaks, or a server that has a page for every address
ENDED = frozenset({"completed", "failed", "expired", "cancelled"})
CALL_SECONDS = 60.0  # of a call that carries no file, from sending to the whole answer
FILE_SECONDS = 7200.0  # of an upload or a download
_SILENT_SECONDS = 120.0  # at most so long without a byte in the middle of a file
_PAGE, _MOST_PAGES = 100, 200  # batches on a page of the list, as many as OpenAI gives; pages looked through
_MOST_RESULT = 1 << 20  # bytes of one request's line of results, on average
_MOST_PROBLEMS, _MOST_SAID = 1000, 300
_NAME = re.compile(r"(?!\.+$)[!-.0-~]{1,200}")  # printable ASCII without a slash
_TAG = "skiff"  # the name of the metadata that carries it


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a batch failed as a whole. `line` is that of the request at fault, from 1; None where it is no single one."""

    code: str
    line: int | None
    said: str


@dataclass(frozen=True, slots=True)
class Seen:
    """What the server says of a batch, each value fit to be shown and kept. `created` is by the server's clock."""

    batch_id: str
    status: str
    done: int
    failed: int
    created: float
    tag: str
    file_id: str
    results: tuple[str, ...]  # ids of the files of replies and of errors
    problems: tuple[Problem, ...]

    @property
    def has_ended(self) -> bool:
        return self.status in ENDED


class BatchServer(OpenAIClient):
    """One server, one key ("" for none). Open it with `async with`. Every call raises the faults of faults.py."""

    def __init__(self, endpoint: Endpoint, key: str) -> None:
        super().__init__(endpoint, key, silent_seconds=_SILENT_SECONDS, most_bytes=MOST_BYTES)

    async def upload(self, file: BinaryIO, name: str) -> tuple[str, float]:
        """Send a file of requests. Returns its id, and when it came by the server's clock."""
        async with self._asking(FILE_SECONDS):
            found: Any = await self._client.files.create(file=(name, file), purpose="batch")
        return self._id(found), _number(getattr(found, "created_at", None))

    async def create(self, file_id: str, tag: str) -> Seen:
        """Have the requests of a file answered: this is what costs money."""
        async with self._asking(CALL_SECONDS):
            found = await self._client.batches.create(
                input_file_id=file_id,
                endpoint="/v1/chat/completions",
                completion_window="24h",
                metadata={_TAG: tag},
            )
        return self._seen(found)

    async def look(self, batch_id: str) -> Seen:
        """What has become of a batch."""
        async with self._asking(CALL_SECONDS):
            found = await self._client.batches.retrieve(batch_id)
        return self._seen(found)

    async def cancel(self, batch_id: str) -> Seen:
        """Stop a batch; what is done of it by then stays, and is paid for."""
        async with self._asking(CALL_SECONDS):
            found = await self._client.batches.cancel(batch_id)
        return self._seen(found)

    async def find(self, tag: str, file_id: str, since: float, but_not: Collection[str]) -> Seen | None:
        """
        The batch that was made with this tag, or else of this file (some servers drop what they are told as metadata),
        among those made since then by the server's clock; None if there is none, or only ones in `but_not`.
        """
        after: Any = openai.omit
        for _ in range(_MOST_PAGES):
            async with self._asking(CALL_SECONDS):
                page: Any = await self._client.batches.list(after=after, limit=_PAGE)
            items = getattr(page, "data", None)
            if not isinstance(items, list):
                raise self._not_of_this_api(page)
            listed = [self._seen(item) for item in items]
            for seen in listed:
                if seen.batch_id not in but_not and (seen.tag == tag or seen.file_id == file_id):
                    return seen
            if not listed or page.has_more is False or _are_older(listed, since):
                return None
            after = listed[-1].batch_id
        raise Transient(f"more than {_PAGE * _MOST_PAGES:,} batches to look through for {tag}", "no end")

    async def download(self, file_id: str, to: Path, num_requests: int) -> None:
        """Add a file of results, and a new line, to the file `to`. Raises OSError if that cannot be written."""
        left = MOST_BYTES + _MOST_RESULT * num_requests
        streaming = self._client.files.with_streaming_response
        with to.open("ab") as file:
            async with self._asking(FILE_SECONDS), streaming.content(file_id) as response:
                async for chunk in response.iter_bytes():
                    left -= len(chunk)
                    if left < 0:
                        raise Unusable(f"results of more than {_MOST_RESULT >> 20} MB a request")
                    file.write(chunk)
            file.write(b"\n")  # not every server ends its last line

    @asynccontextmanager
    async def _asking(self, seconds: float) -> AsyncIterator[None]:
        try:
            async with super()._asking(seconds):
                yield
        # what becomes of an answer in the package if it is no JSON, or JSON of another shape than it expects
        except (ValueError, TypeError, AttributeError, LookupError, RecursionError) as error:
            raise self._not_of_this_api(error) from None

    def _seen(self, found: Any) -> Seen:
        """The openai package does not check what it gets: any value may be of any kind, or missing."""
        counts = getattr(found, "request_counts", None)
        metadata = getattr(found, "metadata", None)
        results = (getattr(found, "output_file_id", None), getattr(found, "error_file_id", None))
        problems = getattr(getattr(found, "errors", None), "data", None)
        return Seen(
            batch_id=self._id(found),
            status=self._text(getattr(found, "status", None)),
            done=int(_number(getattr(counts, "completed", None))),
            failed=int(_number(getattr(counts, "failed", None))),
            created=_number(getattr(found, "created_at", None)),
            tag=self._text(metadata.get(_TAG)) if isinstance(metadata, dict) else "",
            file_id=self._name(getattr(found, "input_file_id", None)),
            results=tuple(name for name in map(self._name, results) if name),
            problems=tuple(map(self._problem, problems[:_MOST_PROBLEMS])) if isinstance(problems, list) else (),
        )

    def _problem(self, found: Any) -> Problem:
        line = getattr(found, "line", None)
        return Problem(
            code=self._text(getattr(found, "code", None)),
            line=line if type(line) is int and line > 0 else None,
            said=self._text(getattr(found, "message", None), most=_MOST_SAID),
        )

    def _id(self, found: Any) -> str:
        """
        Raises:
            Transient: what the server answered has none. It may have done what it was asked.
        """
        name = self._name(getattr(found, "id", None))
        if not name:
            raise self._not_of_this_api(found)
        return name

    def _not_of_this_api(self, found: Any) -> Transient:
        said = self.reader.line(str(found))
        return Transient(f"an answer that is not of the Batch API: {said}", NOT_OF_THIS_API, paid=True)

    def _name(self, found: Any) -> str:
        """An id that can stand in a URL and in a file of ours; "" if it is none."""
        is_name = isinstance(found, str) and _NAME.fullmatch(found) and self.reader.line(found) == found
        return found if is_name else ""

    def _text(self, found: Any, most: int = MOST_NAME) -> str:
        return self.reader.line(found, most=most) if isinstance(found, str) else ""


def _are_older(listed: Sequence[Seen], since: float) -> bool:
    """Whether a list that has come so far, and shows the newest first, will show nothing that was made since."""
    created = [seen.created for seen in listed]
    return created == sorted(created, reverse=True) and 0 < created[-1] < since


def _number(found: Any) -> float:
    is_number = type(found) in (int, float) and math.isfinite(found) and 0 <= found <= LARGEST
    return float(found) if is_number else 0.0
