"""What each server takes as response_format: found out once, remembered, and never in the way."""

import asyncio
import json
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import aiohttp
import pytest
from pydantic import BaseModel, Field

from synth.llm import formats
from synth.llm.config import Endpoint
from synth.llm.faults import Fault, Refused, Rejected, TimedOut, Transient
from synth.llm.formats import REMEMBERED_SECONDS, Format, Formats, ReplyFormat, strict_schema
from tests.chat_server import ChatServer

SCHEMA = {"title": "Reply", "type": "object", "properties": {}, "required": [], "additionalProperties": False}
SENT: dict[Format, Mapping[str, Any] | None] = {
    "json_schema": {"type": "json_schema", "json_schema": {"name": "Reply", "strict": True, "schema": SCHEMA}},
    "json_object": {"type": "json_object"},
    "none": None,
}
REFUSED_IN_THE_WILD = [
    (400, "Invalid parameter: 'response_format' of type 'json_schema' is not supported with this model."),
    (400, "This response_format type is unavailable now"),
    (400, "'response_format.type' must be 'json_schema' or 'text'"),
    (400, "Bad Request"),
    (404, "No endpoints found that can handle the requested parameters."),
    (422, "[{'type': 'extra_forbidden', 'loc': ('body', 'response_format'), 'msg': 'Extra inputs are not permitted'}]"),
    (422, "Unexpected fields in the request: {'response_format'}"),
    (500, 'response_format type must be one of "text" or "json_object", but got: json_schema'),
]


def format_asked(body: Mapping[str, Any]) -> str:
    return str(body.get("response_format", {}).get("type", "none"))


def takes(*taken: Format, status: int = 400, said: str = "no") -> Callable[[dict[str, Any]], tuple[int, Any] | None]:
    """The `error` of a ChatServer that rejects every other format."""
    return lambda body: None if format_asked(body) in taken else (status, {"error": {"message": said}})


async def post(server: ChatServer, response_format: Mapping[str, Any] | None) -> None:
    body: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "1 JSON object"}]}
    if response_format is not None:
        body["response_format"] = response_format
    async with aiohttp.request("POST", f"{server.base_url}/chat/completions", json=body) as response:
        said = await response.text()
        if response.status >= 500:
            raise Transient(said, str(response.status))
        if response.status >= 400:
            raise Rejected(said, response.status)


async def ask(server: ChatServer, reply_format: ReplyFormat) -> None:
    """As the engine asks."""
    async with reply_format.scouting():
        while True:
            sent = reply_format.wire(SCHEMA)
            try:
                await post(server, sent)
            except (Rejected, Transient) as fault:
                if not reply_format.downgrade(sent, fault):
                    raise
            else:
                reply_format.served(sent)
                return


def formats_asked(server: ChatServer) -> list[str]:
    return [format_asked(body) for body in server.asked]


def files_in(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def endpoint_of(server: ChatServer, model: str = "m") -> Endpoint:
    return Endpoint(server.base_url, model)


async def test_a_server_that_takes_schemas_is_sent_one_in_the_form_of_openai(tmp_path: Path) -> None:
    async with ChatServer() as server:
        await ask(server, Formats(tmp_path).of(endpoint_of(server), "auto"))
    assert [body["response_format"] for body in server.asked] == [SENT["json_schema"]]


@pytest.mark.parametrize(("status", "said"), REFUSED_IN_THE_WILD)
@pytest.mark.parametrize("taken", ["json_object", "none"])
async def test_a_rejection_steps_down_whatever_its_words(tmp_path: Path, taken: Format, status: int, said: str) -> None:
    async with ChatServer(error=takes(taken, status=status, said=said)) as server:
        reply_format = Formats(tmp_path).of(endpoint_of(server), "auto")
        await ask(server, reply_format)
        await ask(server, reply_format)
    steps: list[Format] = ["json_schema", "json_object", "none"]
    assert formats_asked(server) == [*steps[: steps.index(taken) + 1], taken]


async def test_what_was_found_out_is_remembered_by_the_next_run_for_this_model_alone(tmp_path: Path) -> None:
    async with ChatServer(error=takes("json_object")) as server:
        await ask(server, Formats(tmp_path).of(endpoint_of(server), "auto"))
        await ask(server, Formats(tmp_path).of(endpoint_of(server), "auto"))
        await ask(server, Formats(tmp_path).of(endpoint_of(server, "another"), "auto"))
        await ask(server, Formats(tmp_path).of(endpoint_of(server), "auto"))
    asked = formats_asked(server)
    assert asked == ["json_schema", "json_object", "json_object", "json_schema", "json_object", "json_object"]
    assert files_in(tmp_path) == ["formats.json"]


async def test_a_request_that_no_format_heals_teaches_nothing(tmp_path: Path) -> None:
    async with ChatServer(error=lambda body: (400, "temperature must be 1")) as server:
        reply_format = Formats(tmp_path).of(endpoint_of(server), "auto")
        with pytest.raises(Rejected):
            await ask(server, reply_format)
    assert formats_asked(server) == ["json_schema", "json_object", "none"]
    assert reply_format.wire(SCHEMA) == SENT["json_schema"]
    assert not files_in(tmp_path)


@pytest.mark.parametrize(
    "fault",
    [
        Rejected("this passage is too odd", 400),
        Rejected("response_format and a context_length exceeded", 400, alone=True),
        Rejected("no such model", 404),
        Rejected("wrong key for response_format", 401),
        Rejected("Failed to generate JSON. Please adjust your prompt for response_format.", 400),
        Transient("500: out of memory", "500"),
        Transient("a reply that is cut: {'content': 'what is a json_schema", "not JSON", paid=True),
        Refused("too many requests with a response_format", 429, 1.0),
        TimedOut("no reply to response_format within 2 s"),
    ],
)
def test_once_a_server_has_served_a_format_other_rejections_leave_it_alone(tmp_path: Path, fault: Fault) -> None:
    reply_format = Formats(tmp_path).of(Endpoint("http://localhost:1/v1", "m"), "auto")
    reply_format.served(reply_format.wire(SCHEMA))
    assert not reply_format.downgrade(SENT["json_schema"], fault)
    assert reply_format.wire(SCHEMA) == SENT["json_schema"]


def test_a_server_that_takes_a_format_no_longer_is_noticed(tmp_path: Path) -> None:
    endpoint = Endpoint("http://localhost:1/v1", "m")
    reply_format = Formats(tmp_path).of(endpoint, "auto")
    reply_format.served(SENT["json_schema"])
    assert reply_format.downgrade(SENT["json_schema"], Rejected("unknown response_format", 400))
    reply_format.served(SENT["json_object"])
    assert Formats(tmp_path).of(endpoint, "auto").wire(SCHEMA) == SENT["json_object"]


def test_many_rejections_of_one_format_are_one_step_down() -> None:
    reply_format = ReplyFormat(None, lambda taken: None)
    fault = Rejected("unknown response_format", 400)
    assert all(reply_format.downgrade(SENT["json_schema"], fault) for _ in range(64))
    assert reply_format.wire(SCHEMA) == SENT["json_object"]
    assert reply_format.downgrade(SENT["json_object"], fault) and reply_format.downgrade(SENT["json_schema"], fault)
    assert reply_format.wire(SCHEMA) is None


def test_a_refusal_or_a_break_teaches_nothing_of_the_format() -> None:
    reply_format = ReplyFormat(None, lambda taken: None)
    for sent in (SENT["json_schema"], SENT["json_object"]):
        assert reply_format.downgrade(sent, Rejected("no", 400))
    for fault in (Refused("too many requests", 429, 1.0), Transient("reset", "reset")):
        assert not reply_format.downgrade(None, fault)
    assert reply_format.wire(SCHEMA) is None


@pytest.mark.parametrize("setting", ["json_schema", "json_object", "none"])
def test_a_stated_format_is_kept_to_and_nothing_is_remembered(tmp_path: Path, setting: Format) -> None:
    reply_format = Formats(tmp_path).of(Endpoint("http://localhost:1/v1", "m"), setting)
    sent = reply_format.wire(SCHEMA)
    assert sent == SENT[setting]
    assert not reply_format.downgrade(sent, Rejected("unknown response_format", 400))
    reply_format.served(sent)
    assert reply_format.wire(SCHEMA) == sent and not files_in(tmp_path)


@pytest.mark.parametrize("setting", ["auto", "json_schema", "json_object", "none"])
def test_a_reply_that_may_be_any_text_is_asked_for_without_a_format(tmp_path: Path, setting: Any) -> None:
    reply_format = Formats(tmp_path).of(Endpoint("http://localhost:1/v1", "m"), setting)
    assert reply_format.wire(None) is None
    reply_format.served(None)
    assert not files_in(tmp_path)


async def test_of_many_first_requests_one_alone_finds_out(tmp_path: Path) -> None:
    async with ChatServer(error=takes("none"), latency=0.02) as server:
        reply_format = Formats(tmp_path).of(endpoint_of(server), "auto")
        await asyncio.gather(*(ask(server, reply_format) for _ in range(64)))
    asked = formats_asked(server)
    assert asked.count("json_schema") == asked.count("json_object") == 1 and asked.count("none") == 64
    assert server.most_at_once > 8


async def test_nobody_waits_long_for_the_first_reply(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formats, "SCOUT_SECONDS", 0.02)
    async with ChatServer(latency=0.5) as server:
        reply_format = Formats(tmp_path).of(endpoint_of(server), "auto")
        started = time.monotonic()
        await asyncio.gather(*(ask(server, reply_format) for _ in range(8)))
    assert time.monotonic() - started < 0.9 and server.most_at_once == 8


async def test_a_scout_that_fails_for_its_own_reason_or_is_cancelled_is_followed_by_the_next() -> None:
    reply_format = ReplyFormat(None, lambda taken: None)
    turns: list[int] = []

    async def goes(number: int) -> None:
        async with reply_format.scouting():
            turns.append(number)
            if number == 0:
                raise Rejected("too long", 400, alone=True)
            await asyncio.sleep(0.01 if number > 1 else 60)
            reply_format.served(reply_format.wire(SCHEMA))

    tasks = [asyncio.create_task(goes(number)) for number in range(4)]
    await asyncio.sleep(0.005)
    assert turns == [0, 1]
    tasks[1].cancel()
    async with asyncio.timeout(1):
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [Rejected, asyncio.CancelledError, type(None), type(None)]
    assert turns == [0, 1, 2, 3]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xfe",
        b"[]",
        b"{" * 100_000,
        b'{"http://localhost:1/v1 m": "json_object"}',
        b'{"http://localhost:1/v1 m": {"takes": "yaml", "since": 1}}',
        b'{"http://localhost:1/v1 m": {"takes": ["none"], "since": 1}}',
        b'{"http://localhost:1/v1 m": {"takes": "none", "since": 1e999}}',
        b'{"http://localhost:1/v1 m": {"takes": "none", "since": true}}',
        b'{"http://localhost:1/v1 m": {"takes": "none", "since": 99999999999}}',
        b'{"http://localhost:1/v1 m": {"takes": "none"}}',
    ],
)
def test_a_damaged_or_hostile_file_is_as_good_as_none_and_is_mended(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "formats.json"
    file.write_bytes(content)
    endpoint = Endpoint("http://localhost:1/v1", "m")
    reply_format = Formats(tmp_path).of(endpoint, "auto")
    assert reply_format.wire(SCHEMA) == SENT["json_schema"]
    reply_format.served(SENT["json_object"])
    assert Formats(tmp_path).of(endpoint, "auto").wire(SCHEMA) == SENT["json_object"]


def test_what_was_found_out_weeks_ago_is_found_out_anew(tmp_path: Path) -> None:
    old = {"takes": "none", "since": int(time.time() - REMEMBERED_SECONDS - 1)}
    (tmp_path / "formats.json").write_text(json.dumps({"http://localhost:1/v1 m": old}))
    assert Formats(tmp_path).of(Endpoint("http://localhost:1/v1", "m"), "auto").wire(SCHEMA) == SENT["json_schema"]


def test_asking_all_the_time_does_not_put_off_the_day_when_it_is_found_out_anew(tmp_path: Path) -> None:
    known = json.dumps({"http://localhost:1/v1 m": {"takes": "json_object", "since": int(time.time()) - 1000}})
    (tmp_path / "formats.json").write_text(known)
    reply_format = Formats(tmp_path).of(Endpoint("http://localhost:1/v1", "m"), "auto")
    reply_format.served(reply_format.wire(SCHEMA))
    assert (tmp_path / "formats.json").read_text() == known


def test_a_pipe_in_the_place_of_the_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "formats.json")
    assert Formats(tmp_path).of(Endpoint("http://localhost:1/v1", "m"), "auto").wire(SCHEMA) == SENT["json_schema"]


def test_a_folder_that_cannot_be_written_costs_a_note(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    known = Formats(tmp_path / "file")
    reply_format = known.of(Endpoint("http://localhost:1/v1", "m"), "auto")
    reply_format.served(SENT["json_schema"])
    assert len(known.notes) == 1 and "formats.json" in known.notes[0]


class Mood(BaseModel):
    """A word for readers of the code."""

    name: Literal["glad", "sad"]
    strength: Annotated[int, Field(ge=1, le=5)] = 3
    version: Literal["1"]


class Pairs(BaseModel):
    """A word for readers of the code."""

    first: str = Field(min_length=1, description="written first")
    moods: list[Mood] = Field(max_length=9)
    last: Mood | None = None


def test_a_strict_schema_requires_all_allows_no_more_and_says_nothing_that_a_server_refuses() -> None:
    mood = {
        "type": "object",
        "properties": {
            "name": {"type": "string", "enum": ["glad", "sad"]},
            "strength": {"type": "integer"},
            "version": {"type": "string", "enum": ["1"]},
        },
        "required": ["name", "strength", "version"],
        "additionalProperties": False,
    }
    assert strict_schema(Pairs) == {
        "title": "Pairs",
        "type": "object",
        "properties": {
            "first": {"type": "string", "description": "written first"},
            "moods": {"type": "array", "items": mood},
            "last": {"anyOf": [mood, {"type": "null"}]},
        },
        "required": ["first", "moods", "last"],
        "additionalProperties": False,
    }


class Tree(BaseModel):
    branches: list["Tree"]


class AnyValue(BaseModel):
    value: Any


class FreeMapping(BaseModel):
    by_name: dict[str, int]


class Pair(BaseModel):
    pair: tuple[int, str]


@pytest.mark.parametrize("model", [Tree, AnyValue, FreeMapping, Pair])
def test_what_no_strict_schema_can_say_is_an_error_of_the_recipe(model: type[BaseModel]) -> None:
    with pytest.raises(TypeError, match="strict schema"):
        strict_schema(model)
