"""What goes wrong on the way of a batch: a network that breaks, and a server that sends what it should not."""

import asyncio
import itertools
import json
from collections.abc import Callable
from uuid import UUID

import aiohttp
import pytest

from synth.llm.batch import steps
from synth.llm.batch.files import Step
from synth.llm.faults import Unusable
from synth.llm.journal import MOST_BYTES, Journal
from synth.records import LLMError
from tests.batch_server import BatchServer, Fate, Trouble
from tests.synth.llm.batch.batches import AT_ONCE, desk_for, key, requests

KEY = "sk-0123456789abcdef0123456789abcdef"
Lines = list[bytes]


@pytest.fixture(autouse=True)
def no_long_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps, "GRACE_SECONDS", 0.1)
    monkeypatch.setattr(steps, "ROOM_SECONDS", 0.02)


@pytest.mark.parametrize(
    ("point", "trouble"),
    [
        *itertools.product(["upload", "create", "created", "look", "download"], [Trouble.RESET, 500, 503]),
        *itertools.product(["upload", "create", "look", "download"], [429]),
    ],
)
async def test_a_fault_at_any_point_is_waited_out_and_nothing_is_bought_twice(
    journal: Journal, point: str, trouble: Trouble | int
) -> None:
    notes: list[str] = []
    troubles = {point: [trouble, trouble], "list": [trouble]}
    async with BatchServer(troubles=troubles) as server, desk_for(server, journal, notes=notes) as desk:
        await desk.submit(requests(1, 2, 3))
        settled = await desk.settle(poll_seconds=AT_ONCE)
    assert settled.replied == 3 and not settled.failed and len(journal) == 3
    assert server.bought == {str(key(number)): 1 for number in (1, 2, 3)}
    assert len(notes) in (1, 2) and all("asked again from time to time" in note for note in notes)


async def test_a_batch_whose_making_was_not_heard_of_is_found_by_its_tag_among_many(journal: Journal) -> None:
    async with BatchServer(lasts={"in_progress": 0.1}) as server, desk_for(server, journal) as desk:
        server.trouble("created", Trouble.RESET)
        await desk.submit(requests(1))
        async with aiohttp.ClientSession() as session:  # batches that others have made meanwhile
            for _ in range(120):
                await session.post(f"{server.base_url}/batches", json={"input_file_id": "file-0"})
        server.batches[1:] = [batch for batch in server.batches[1:] if setattr(batch, "file_id", "another") is None]
        settled = await desk.settle(poll_seconds=AT_ONCE)
    assert settled.replied == 1
    assert [reply.batch for reply in [journal.get(key(1))] if reply] == ["batch_0"]
    assert server.passed["list"] == 2 and server.passed["create"] == 121


async def test_a_server_that_forgets_metadata_is_asked_for_the_batch_of_the_file(journal: Journal) -> None:
    troubles = {"created": [Trouble.RESET]}
    async with BatchServer(troubles=troubles, keeps_metadata=False) as server, desk_for(server, journal) as desk:
        await desk.submit(requests(1))
        assert (await desk.settle(poll_seconds=AT_ONCE)).replied == 1
    assert len(server.batches) == 1


async def test_a_batch_that_there_was_no_room_for_is_not_taken_for_the_one_that_is_sent_in_its_place(
    journal: Journal,
) -> None:
    troubles = {"create": [None, Trouble.RESET]}
    async with (
        BatchServer(troubles=troubles, fates=[Fate.NO_ROOM]) as server,
        desk_for(server, journal) as desk,
    ):
        await desk.submit(requests(1))
        assert (await desk.settle(poll_seconds=AT_ONCE)).replied == 1
        assert [(batch.batch_id, batch.earlier) for batch in desk.batches] == [("batch_1", ("batch_0",))]


async def test_while_it_is_unsure_a_batch_is_not_sent_again(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps, "GRACE_SECONDS", 60.0)
    async with BatchServer(troubles={"created": [Trouble.RESET]}) as server:
        for _ in range(2):  # a run of the command, and another one
            async with desk_for(server, journal) as desk:
                await desk.submit(requests(1))
                assert desk.pending() == {key(1)} and desk.batches[0].step is Step.SENDING
        assert server.passed["create"] == 1


async def test_a_server_that_is_away_is_told_of_once_and_waited_for(journal: Journal) -> None:
    notes: list[str] = []
    server = BatchServer(lasts={"in_progress": 0.1})
    async with server, desk_for(server, journal, notes=notes) as desk:
        await desk.submit(requests(1))
        server.trouble("look", *[Trouble.RESET] * 10)
        assert (await desk.settle(poll_seconds=AT_ONCE)).replied == 1
    assert len(notes) == 1 and "its batches go on" in notes[0]


async def test_a_server_that_is_not_there_is_told_at_once_if_there_is_nothing_to_wait_for(journal: Journal) -> None:
    async with BatchServer() as server:
        pass
    async with desk_for(server, journal) as desk:
        with pytest.raises(LLMError, match=r"cannot be reached: .*; start it, or correct base_url"):
            await desk.submit(requests(1))
        assert not desk.pending()


@pytest.mark.parametrize("page", ['{"object": "list"}', "[]", "<html>", '{"data": {}}'])
async def test_a_list_that_is_none_does_not_pass_for_one_without_the_batch(journal: Journal, page: str) -> None:
    server = BatchServer(troubles={"created": [Trouble.RESET]}, lists=[page, page])
    async with server, desk_for(server, journal) as desk:
        await desk.submit(requests(1))
        assert (await desk.settle(poll_seconds=AT_ONCE)).replied == 1
    assert len(server.batches) == 1


async def test_a_key_that_is_taken_back_stops_the_waiting_and_loses_nothing(journal: Journal) -> None:
    async with BatchServer(lasts={"in_progress": 0.1}) as server, desk_for(server, journal) as desk:
        await desk.submit(requests(1))
        server.trouble("look", 401)
        with pytest.raises(LLMError, match="set the environment variable OPENAI_API_KEY"):
            await desk.settle(poll_seconds=AT_ONCE)
        assert desk.pending() == {key(1)}
        assert (await desk.settle(poll_seconds=AT_ONCE)).replied == 1


@pytest.mark.parametrize("trouble", [Trouble.TORN, Trouble.SHORT])
async def test_results_that_arrive_in_part_are_fetched_again(journal: Journal, trouble: Trouble) -> None:
    async with BatchServer(troubles={"download": [trouble]}) as server, desk_for(server, journal) as desk:
        await desk.submit(requests(*range(10)))
        settled = await desk.settle(poll_seconds=AT_ONCE)
    assert settled.replied == 10 and len(journal) == 10 and not settled.failed
    lines = [line for path in journal.folder.iterdir() for line in path.read_bytes().splitlines()]
    assert len(lines) == 10  # what had arrived the first time is not written again


async def test_results_that_the_server_has_deleted_are_given_up_after_some_looks(journal: Journal) -> None:
    async with BatchServer() as server, desk_for(server, journal) as desk:
        await desk.submit(requests(1, 2))
        server.trouble("download", *[404] * 100)
        settled = await desk.settle(poll_seconds=AT_ONCE)
        assert not desk.pending()
    assert settled.replied == 0 and set(settled.to_ask_again) == {key(1), key(2)}
    assert set(settled.lost) == {key(1), key(2)}  # what the server has done, it may charge for
    assert server.passed["download"] == steps.MOST_LOOKS


def other_ids(lines: Lines) -> Lines:
    strange = [lines[0].replace(str(key(1)).encode(), name) for name in (b"x", str(UUID(int=7)).encode(), b"")]
    return [*strange, *lines]


def twice(lines: Lines) -> Lines:
    return [*lines, *(line.replace(b"text", b"other") for line in lines)]


def broken_lines(lines: Lines) -> Lines:
    nested = b"[" * 100_000
    return [b"", b"{", b"[]", b"null", b"\xff\xfe", nested, b'{"custom_id": {}}', b'{"custom_id": 1e999}', *lines]


def long_line_of_another(lines: Lines) -> Lines:
    return [b'{"id": "x", "custom_id": "y", "response": "' + b"z" * (10 << 20) + b'"}', *lines]


def without_the_last_new_line(lines: Lines) -> Lines:
    return [b"\n".join(lines)]


@pytest.mark.parametrize(
    "results",
    [other_ids, twice, broken_lines, long_line_of_another, without_the_last_new_line, lambda lines: lines[::-1]],
)
async def test_lines_that_should_not_be_there_cost_no_reply(
    journal: Journal, results: Callable[[Lines], Lines]
) -> None:
    async with (
        BatchServer(reply=lambda messages: messages[0]["content"], results=results) as server,
        desk_for(server, journal) as desk,
    ):
        await desk.submit(requests(1, 2, 3))
        settled = await desk.settle(poll_seconds=AT_ONCE)
    assert settled.replied == 3 and not settled.failed
    assert [reply.text for number in (1, 2, 3) if (reply := journal.get(key(number)))] == [
        f"1 text {number}" for number in (1, 2, 3)
    ]


def changed(**fields: object) -> Callable[[Lines], Lines]:
    """The first line with other fields of its response."""

    def change(lines: Lines) -> Lines:
        lines.sort(key=lambda line: str(key(1)).encode() not in line)
        first = json.loads(lines[0])
        return [json.dumps(first | fields).encode(), *lines[1:]]

    return change


def completed(content: object, usage: object = None) -> object:
    choice = {"message": {"content": content}, "finish_reason": "stop"}
    return {"status_code": 200, "body": {"choices": [choice], "usage": usage}}


@pytest.mark.parametrize(
    ("fields", "cause"),
    [
        ({"response": completed(f"my key is {KEY}")}, "unusable"),
        ({"response": completed("half a pair: \ud800")}, "unusable"),
        ({"response": completed({"a": 1})}, "no choices"),
        ({"response": {"status_code": 200, "body": None}}, "no choices"),
        ({"response": {"status_code": 200, "body": "text"}}, "no choices"),
        ({"response": {"status_code": True, "body": {}}}, "batch"),
        ({"response": {"status_code": 0, "body": {}}}, "batch"),
        ({"response": []}, "batch"),
        ({"response": None, "error": {"code": "batch_expired", "message": f"{KEY} \x1b[2J"}}, "expired"),
        ({"response": None, "error": "no object"}, "batch"),
    ],
)
async def test_a_reply_in_a_batch_is_read_as_carefully_as_one_that_is_asked_for_online(
    journal: Journal, fields: dict[str, object], cause: str
) -> None:
    async with (
        BatchServer(key=KEY, results=changed(**fields)) as server,
        desk_for(server, journal, server_key=KEY) as desk,
    ):
        await desk.submit(requests(1, 2))
        settled = await desk.settle(poll_seconds=AT_ONCE)
    assert settled.replied == 1 and settled.causes == {cause: 1}
    said = str(settled.failed[key(1)])
    assert KEY not in said and said.isprintable()


async def test_tokens_of_a_reply_that_must_not_be_kept_are_counted_and_absurd_ones_are_not(journal: Journal) -> None:
    usage = {"prompt_tokens": 7, "completion_tokens": 10**30}
    results = changed(response=completed(f"my key is {KEY}", usage))
    async with BatchServer(results=results) as server, desk_for(server, journal, server_key=KEY) as desk:
        await desk.submit(requests(1))
        settled = await desk.settle(poll_seconds=AT_ONCE)
    assert (settled.tokens_in, settled.tokens_out) == (7, 0)
    reply = settled.unkept[key(1)]
    assert (reply.text, reply.tokens_in, reply.batch, reply.server) == ("", 7, "batch_0", server.base_url)


async def test_a_line_of_more_than_a_reply_may_have_is_a_fault_of_its_request(journal: Journal) -> None:
    results = changed(response=completed("x" * MOST_BYTES))
    async with BatchServer(results=results) as server, desk_for(server, journal) as desk:
        await desk.submit(requests(1, 2))
        settled = await desk.settle(poll_seconds=AT_ONCE)
    assert settled.replied == 1 and isinstance(settled.failed[key(1)], Unusable)


async def test_what_a_server_says_of_a_batch_can_neither_lead_out_of_its_address_nor_reach_the_screen(
    journal: Journal,
) -> None:
    async with BatchServer() as server, desk_for(server, journal) as desk:
        await desk.submit(requests(1))
        server.batches[0].status = "\x1b]0;title\x07completed"
        settling = asyncio.create_task(desk.settle(poll_seconds=AT_ONCE))
        await asyncio.sleep(0.1)
        assert desk.batches[0].status == "\ufffd]0;title\ufffdcompleted"
        server.batches[0].results = {"output_file_id": "../../stats", "error_file_id": ".."}
        server.batches[0].status = "completed"
        settled = await settling
    assert settled.causes == {"completed": 1} and server.passed["download"] == 0


@pytest.mark.parametrize("answer", [b"", b"null", b"[]", b"<html>", b'{"id": "../x"}', b'{"id": 7}', b'{"id": ".."}'])
async def test_an_answer_that_is_no_batch_is_never_taken_for_one(journal: Journal, answer: bytes) -> None:
    from aiohttp import web

    async def odd(request: web.Request) -> web.Response:
        await request.read()
        return web.Response(body=answer, content_type="application/json")

    app = web.Application(client_max_size=1 << 20)
    app.router.add_route("*", "/v1/{tail:.*}", odd)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        server = BatchServer()
        server.base_url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
        async with desk_for(server, journal) as desk:
            with pytest.raises(LLMError, match="has no Batch API"):
                await desk.submit(requests(1))
            assert not desk.pending()
    finally:
        await runner.cleanup()
