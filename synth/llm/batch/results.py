"""
Reads the files that a batch leaves at the server: one JSON object a line, in any order, each with the reply to one
request or with what went wrong with it. They are hostile input, as everything is that a server says.
"""

import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Protocol
from uuid import UUID

from synth.llm.completion import Completion, Reader
from synth.llm.config import Endpoint
from synth.llm.faults import Fault, Transient, Unusable
from synth.llm.journal import MOST_BYTES, Reply
from synth.llm.server import reply_of

_KEY = re.compile(rb'"custom_id": ?"([0-9a-f-]{36})"')
_KEY_WITHIN = 1000  # bytes from the start of a line that is too long to be read
_CAUSES = {"batch_expired": "expired", "batch_cancelled": "cancelled"}


class Replies(Protocol):
    """Where replies are kept: the journal. After `sync` they are on the disk."""

    def append(self, key: UUID, reply: Reply) -> None: ...

    def sync(self) -> None: ...


class Harvest:
    """
    What came of one batch: replies go into the journal at once, each only once however often its file is read.

    `failed` has the fault of every other request that was heard of; `unkept` what was paid for those whose reply must
    not be kept, as a reply without its text.
    """

    def __init__(self, keys: Iterable[UUID], endpoint: Endpoint, batch_id: str, replies: Replies) -> None:
        self.failed: dict[UUID, Fault] = {}
        self.unkept: dict[UUID, Reply] = {}
        self.num_replied = 0
        self.tokens_in = self.tokens_out = 0
        self._waiting = set(keys)
        self._endpoint, self._batch_id, self._replies = endpoint, batch_id, replies

    @property
    def cost(self) -> float | None:
        """In US dollars, None where the price of batches is not stated."""
        return self._endpoint.cost(self.tokens_in, self.tokens_out, batch=True)

    @property
    def num_heard(self) -> int:
        return self.num_replied + len(self.failed)

    def take(self, key: UUID | None, outcome: Completion | Fault) -> None:
        """
        One line of results; one of another batch's request, or of one that has its reply, says nothing. A reply counts
        whatever else is said of its request.
        """
        if key is None or key not in self._waiting:
            return
        if isinstance(outcome, Completion):
            self._replies.append(key, reply_of(outcome, self._endpoint, key, batch=self._batch_id))
            self._waiting.remove(key)
            self.failed.pop(key, None)
            self.num_replied += 1
            self._paid(outcome.tokens_in, outcome.tokens_out)
        elif key not in self.failed:
            self.failed[key] = outcome
            if isinstance(outcome, Unusable):
                self.unkept[key] = self._without_text(outcome.tokens_in, outcome.tokens_out)
                self._paid(outcome.tokens_in, outcome.tokens_out)

    def close(self, fault: Fault) -> None:
        """Nothing more comes: requests that were not heard of failed with this fault."""
        for key in self._waiting - self.failed.keys():
            self.failed[key] = fault

    def _without_text(self, tokens_in: int, tokens_out: int) -> Reply:
        return Reply(
            text="",
            model=self._endpoint.model,
            finish_reason="",
            tokens_in=tokens_in,
            tokens_out=tokens_out,
            seconds=0.0,
            asked=self._endpoint.model,
            server=self._endpoint.base_url,
            cost=self._endpoint.cost(tokens_in, tokens_out, batch=True),
            batch=self._batch_id,
        )

    def _paid(self, tokens_in: int, tokens_out: int) -> None:
        self.tokens_in += tokens_in
        self.tokens_out += tokens_out


def read_results(path: Path, reader: Reader) -> Iterator[tuple[UUID | None, Completion | Fault]]:
    """Each line's request and what came of it; None as the request where the line does not say."""
    with path.open("rb") as file:
        while line := file.readline(MOST_BYTES):
            if len(line) == MOST_BYTES and not line.endswith(b"\n"):
                rest = line
                while rest and not rest.endswith(b"\n"):
                    rest = file.readline(MOST_BYTES)
                found = _KEY.search(line, 0, _KEY_WITHIN)
                key = _key(found[1].decode()) if found else None
                yield key, Unusable(f"a reply of more than the {MOST_BYTES >> 20} MB that it may have")
            elif line.strip():
                yield _result(line, reader)


def _result(line: bytes, reader: Reader) -> tuple[UUID | None, Completion | Fault]:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return None, Transient("a line of results that is no JSON", "no JSON", paid=True)
    if not isinstance(found, dict):
        return None, Transient("a line of results that is no object", "no JSON", paid=True)
    return _key(found.get("custom_id")), _outcome(found.get("response"), found.get("error"), reader)


def _outcome(response: Any, error: Any, reader: Reader) -> Completion | Fault:
    status = response.get("status_code") if isinstance(response, dict) else None
    if type(status) is int and 200 <= status < 300:
        try:
            return reader.completion(response.get("body"), seconds=0.0)  # nobody measured how long it took
        except Fault as fault:
            return fault
    if type(status) is int and status > 0:
        return reader.fault(status, response.get("body"))
    code, message = (
        reader.line(str(error.get(name) or "")) if isinstance(error, dict) else "" for name in ("code", "message")
    )
    return Transient(f"not answered in its batch: {message or code}", _CAUSES.get(code, "batch"))


def _key(name: Any) -> UUID | None:
    try:
        return UUID(name) if isinstance(name, str) else None
    except ValueError:
        return None
