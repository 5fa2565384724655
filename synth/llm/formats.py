"""
How a reply's form is asked for on the wire: response_format, as far as each server takes it.

Three formats, best first: a JSON schema, any JSON object, nothing but the prompt. With the setting "auto" the best is
tried and each rejection that can be about it goes one step down; what was served is remembered in a file beside the
journal. Servers say no in many words and with many statuses (LM Studio takes a schema and no JSON mode, DeepSeek the
other way round, llama-cpp-python answers 500), so what is asked is whether the next format is served, not what was
said. A server that takes a format and ignores it does no harm: each reply is parsed and checked anyway.
"""

import asyncio
import json
import os
import re
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, cast

from synth.llm.config import Endpoint, ResponseFormat
from synth.llm.faults import Fault, Rejected, Transient
from synth.records import new_id

if TYPE_CHECKING:
    from pydantic import BaseModel

Format = Literal["json_schema", "json_object", "none"]
FORMATS: tuple[Format, ...] = ("json_schema", "json_object", "none")  # best first

# A server that was brought up to date takes more than it did: it is tried again after so long.
REMEMBERED_SECONDS = 28 * 24 * 3600.0
# A format is rejected before anything is generated. Nobody waits longer than this for the first reply of a server.
SCOUT_SECONDS = 2.0

_FILE = "formats.json"
_LONGEST_FILE = 1 << 20  # bytes; thousands of servers
_JSON_OBJECT = {"type": "json_object"}
_NAMES_THE_FORMAT = re.compile(
    r"response.?format|json.?(?:schema|object|mode)|structured.?output|guided.?(?:json|decoding)|grammar"
    r"|requested parameters",
    re.IGNORECASE,
)
# The server takes the format, and its model did not keep to it: this request's own misfortune.
_NOT_KEPT_TO = re.compile(r"failed.?to.?generate|failed.?generation|validate.?failed|generated json", re.IGNORECASE)


class Formats:
    """What each server and model takes, by a file in `folder`. `notes`: one line each on what could not be written."""

    def __init__(self, folder: Path) -> None:
        self.notes: list[str] = []
        self._path = folder / _FILE

    def of(self, endpoint: Endpoint, setting: ResponseFormat) -> "ReplyFormat":
        """The format for one endpoint; any setting but "auto" is kept to, whatever the server says."""
        if setting != "auto":
            return ReplyFormat(setting)
        key = f"{endpoint.base_url} {endpoint.model}"

        def remember(taken: Format) -> None:
            self._write(_known(self._path) | {key: {"takes": taken, "since": int(time.time())}})

        found = _known(self._path).get(key)
        return ReplyFormat(found["takes"] if found else None, remember)

    def _write(self, known: Mapping[str, Any]) -> None:
        """Whole or not at all. Of two processes at once one may forget what the other found: it is found again."""
        partial = self._path.with_name(f"{_FILE}.{new_id().hex}")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            partial.write_text(json.dumps(known, indent=1, sort_keys=True) + "\n", encoding="utf-8")
            os.replace(partial, self._path)
        except OSError as error:
            with suppress(OSError):
                partial.unlink()
            self.notes.append(f"cannot note in {self._path} which response_format servers take: {error.strerror}")


class ReplyFormat:
    """
    The format that one server and model is asked for. For one event loop, any number of tasks.

    For each request: `wire` gives what to send, and either `served` or `downgrade` is told what came of it. Around
    them stands `async with format.scouting()`, so that of many first requests one alone finds out.

    Args:
        fixed: the one to keep to, or, with `remember`, the one that the server took lately, None if that is unknown.
        remember: is told what was served; None: the format is the user's choice.
    """

    __slots__ = ("_format", "_known", "_open", "_remember", "_scout", "_served")

    def __init__(self, fixed: Format | None, remember: Callable[[Format], None] | None = None) -> None:
        self._remember = remember
        self._known = fixed
        self._format: Format = fixed or FORMATS[0]
        self._open = fixed is not None  # nobody needs to wait for a scout
        self._served = remember is None  # in this process: from then on, what is rejected is rejected for itself
        self._scout: asyncio.Event | None = None  # set when those behind it may go on

    @property
    def is_known(self) -> bool:
        """Whether nobody needs to be the scout."""
        return self._open

    def wire(self, schema: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
        """
        What goes into the body as response_format; None: no such field.

        Args:
            schema: a strict schema (`strict_schema`) that the reply must fit; None: the reply may be any text.
        """
        if schema is None or self._format == "none":
            return None
        if self._format == "json_object":
            return _JSON_OBJECT
        return {"type": "json_schema", "json_schema": {"name": schema["title"], "strict": True, "schema": schema}}

    def served(self, sent: Mapping[str, Any] | None) -> None:
        """A reply came to a request with this response_format."""
        if self._served or (sent is None and self._format != "none"):  # a question without a schema proves nothing
            return
        self._format = _format_of(sent)
        self._served = True
        self._open_up()
        if self._remember is not None and self._format != self._known:
            self._known = self._format
            self._remember(self._format)

    def downgrade(self, sent: Mapping[str, Any] | None, fault: Fault) -> bool:
        """
        Whether a request that failed with this response_format should be sent again, with what `wire` now gives.

        If nothing but the prompt is rejected too, it was not the format: the next request begins with the best again.
        """
        if self._remember is None:
            return False
        if sent is None:
            if isinstance(fault, Rejected) and not self._served:
                self._format = self._known or FORMATS[0]
            return False
        if not self._may_be_about_it(fault):
            return False
        lesser = FORMATS.index(_format_of(sent)) + 1
        if FORMATS.index(self._format) < lesser:  # else another request has gone that step already
            self._format = FORMATS[lesser]
            self._served = False
        return True

    def scouting(self) -> "Scouting":
        """Around a request, its repetitions included: while nobody knows what the server takes, one goes first."""
        return Scouting(self)

    def _may_be_about_it(self, fault: Fault) -> bool:
        said = str(fault)
        if _NOT_KEPT_TO.search(said):
            return False
        named = bool(_NAMES_THE_FORMAT.search(said))
        if isinstance(fault, Rejected):
            vague = fault.status in (400, 422) and not self._served
            return not fault.alone and (vague or (named and fault.status in (400, 404, 405, 415, 422)))
        return named and isinstance(fault, Transient) and fault.cause.startswith("5")

    def _open_up(self) -> None:
        self._open = True
        if self._scout is not None:
            self._scout.set()

    async def _go_first_or_wait(self) -> asyncio.TimerHandle | None:
        """The timer that lets the others follow, for whoever is the scout; None for those that waited for it."""
        while not self._open:
            if self._scout is None:
                self._scout = asyncio.Event()
                return asyncio.get_running_loop().call_later(SCOUT_SECONDS, self._open_up)
            await self._scout.wait()
        return None

    def _scout_is_back(self) -> None:
        """It may have failed for a reason of its own: then the next one goes."""
        assert self._scout is not None
        self._scout.set()
        self._scout = None


class Scouting:
    """An async context manager around one request; free once it is known what the server takes."""

    __slots__ = ("_format", "_timer")

    def __init__(self, reply_format: ReplyFormat) -> None:
        self._format = reply_format
        self._timer: asyncio.TimerHandle | None = None

    async def __aenter__(self) -> None:
        if not self._format._open:
            self._timer = await self._format._go_first_or_wait()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._format._scout_is_back()


def strict_schema(model: "type[BaseModel]") -> dict[str, Any]:
    """
    The JSON schema of a pydantic model, in the words that OpenAI's strict mode, vLLM, llama.cpp and Ollama all take.

    Every property is required and no other allowed, definitions stand where they are used, and bounds (lengths,
    numbers, patterns, formats) are left out: some servers refuse them, and the parser checks them anyway. The model's
    own docstring is for readers of the code and left out too; descriptions of fields stay.

    Raises:
        TypeError: a field has a type that not all of them know: any value, a free mapping, a tuple, a type in itself.
    """
    schema = model.model_json_schema()
    strict = _strict(schema, schema.get("$defs", {}), ())
    name = re.sub(r"[^a-zA-Z0-9_-]", "_", model.__name__)[:64]  # all that the schema's name may have
    return {"title": name} | {key: value for key, value in strict.items() if key != "description"}


def _strict(schema: Mapping[str, Any], definitions: Mapping[str, Any], within: tuple[str, ...]) -> dict[str, Any]:
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        if name in within:
            raise TypeError(f"{name} contains itself: no strict schema says so")
        found = {key: value for key, value in definitions[name].items() if key != "description"}
        own = {key: value for key, value in schema.items() if key != "$ref"}
        return _strict(found | own, definitions, (*within, name))
    strict = {key: schema[key] for key in ("type", "enum", "description") if key in schema}
    if "const" in schema:
        strict["enum"] = [schema["const"]]
    choices = schema.get("anyOf", schema.get("oneOf"))
    if choices:
        strict["anyOf"] = [_strict(choice, definitions, within) for choice in choices]
    elif strict.get("type") == "object" and "properties" in schema:
        properties = schema["properties"]
        strict["properties"] = {name: _strict(each, definitions, within) for name, each in properties.items()}
        strict["required"] = list(properties)
        strict["additionalProperties"] = False
    elif strict.get("type") == "array" and "items" in schema:
        strict["items"] = _strict(schema["items"], definitions, within)
    elif strict.get("type") in (None, "object", "array"):
        raise TypeError(f"no strict schema says {json.dumps(schema)}")
    return strict


def _format_of(sent: Mapping[str, Any] | None) -> Format:
    return "none" if sent is None else cast(Format, sent["type"])


def _known(path: Path) -> dict[str, dict[str, Any]]:
    """What a file remembers that is neither damaged nor old; whatever else it holds is found out anew."""
    try:
        if not path.is_file():  # opening a pipe would wait for a writer
            return {}
        with path.open("rb") as file:
            entries = json.loads(file.read(_LONGEST_FILE))
    except (OSError, ValueError, RecursionError):
        return {}
    if not isinstance(entries, dict):
        return {}
    return {key: entry for key, entry in entries.items() if _is_fresh(entry)}


def _is_fresh(entry: object) -> bool:
    if not isinstance(entry, dict) or entry.get("takes") not in FORMATS:
        return False
    since = entry.get("since")
    return type(since) is int and 0 <= time.time() - since < REMEMBERED_SECONDS
