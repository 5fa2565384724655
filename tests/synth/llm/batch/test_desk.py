"""Batches: what is handed in comes back into the journal, whatever the limits, over any number of runs."""

import asyncio
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from synth.llm.batch import steps
from synth.llm.batch.desk import Batch, Request
from synth.llm.batch.files import BatchFolder, Step, read_batches
from synth.llm.config import Endpoint
from synth.llm.faults import Rejected
from synth.llm.journal import Journal
from synth.records import LLMError, SkiffError, Stopped
from tests.batch_server import BatchServer, Fate
from tests.chat_server import ChatServer
from tests.synth.llm.batch.batches import AT_ONCE, MODEL, batches_of, desk_for, endpoint_for, key, requests


async def test_every_reply_of_a_batch_is_journalled_under_the_key_of_its_request(journal: Journal) -> None:
    async with (
        BatchServer(reply=lambda messages: f"on {messages[0]['content']}") as server,
        desk_for(server, journal, batch_price_in=1.0, batch_price_out=2.0) as desk,
    ):
        [batch] = await desk.submit(requests(1, 2, 3))
        settled = await desk.settle(poll_seconds=AT_ONCE)
    assert settled.replied == 3 and not settled.failed
    for number in (1, 2, 3):
        reply = journal.get(key(number))
        assert reply is not None and reply.text == f"on 1 text {number}"
        assert (reply.asked, reply.server, reply.batch) == (MODEL, server.base_url, batch.batch_id)
        assert reply.cost == (reply.tokens_in + 2 * reply.tokens_out) / 1e6
    assert settled.cost == pytest.approx((settled.tokens_in + 2 * settled.tokens_out) / 1e6)
    assert settled.tokens_out > 0


async def test_what_is_submitted_is_pending_until_it_is_fetched_and_is_not_submitted_again(journal: Journal) -> None:
    async with BatchServer(lasts={"in_progress": 0.1}) as server:
        async with desk_for(server, journal) as desk:
            await desk.submit(requests(1, 2, 2))
            assert desk.pending() == {key(1), key(2)}
        async with desk_for(server, journal) as desk:
            assert desk.pending() == {key(1), key(2)}
            await desk.submit(requests(2, 3))
            settled = await desk.settle(poll_seconds=AT_ONCE)
            assert not desk.pending()
    assert settled.replied == 3 and set(server.bought.values()) == {1}


async def test_a_desk_leaves_no_texts_on_the_disk_once_they_are_answered(journal: Journal) -> None:
    async with BatchServer() as server, desk_for(server, journal) as desk:
        await desk.submit(requests(1))
        assert len(files(journal, "jsonl")) == len(files(journal, "keys")) == 1
        await desk.settle(poll_seconds=AT_ONCE)
    assert [path.suffix for path in files(journal, "*")] == [".json"]
    [batch] = known(journal)
    assert (batch.step, batch.status, batch.done, batch.failed) == (Step.FETCHED, "completed", 1, 0)


async def test_requests_are_cut_into_batches_within_the_limits(journal: Journal) -> None:
    async with BatchServer() as server, desk_for(server, journal) as desk:
        by_number = await desk.submit(requests(*range(25)), most_requests=10)
        long = Request(
            key(99), b'{"model": "test-model", "messages": [{"role": "user", "content": "%s"}]}' % (b"x" * 900)
        )
        by_bytes = await desk.submit([*requests(*range(30, 40)), long], most_bytes=1000)
        settled = await desk.settle(poll_seconds=AT_ONCE)
    assert [batch.num_requests for batch in by_number] == [10, 10, 5]
    assert sum(batch.num_requests for batch in by_bytes) == 11 and len(by_bytes) > 2
    uploaded = [content for name, content in server.files.items() if b'"method"' in content]
    assert all(len(content) <= 1000 or content.count(b"\n") in (1, 5, 10) for content in uploaded)
    assert settled.replied == 36 and set(server.bought.values()) == {1}


async def test_requests_are_read_one_by_one_as_they_are_written(journal: Journal) -> None:
    async with BatchServer() as server, desk_for(server, journal) as desk:
        lines_before_last = []

        def one_by_one() -> Iterator[Request]:
            yield from requests(*range(2000))
            lines_before_last.append(sum(path.stat().st_size for path in files(journal, "jsonl")))
            yield from requests(2000)

        await desk.submit(one_by_one(), most_requests=500)
    assert lines_before_last[0] > 2000 * 100


async def test_a_request_that_its_batch_fails_is_handed_back_with_what_is_to_be_done_about_it(journal: Journal) -> None:
    def error(body: dict[str, object]) -> tuple[int, object] | None:
        text = str(body["messages"])
        if "text 1'" in text:
            return 400, {"error": {"message": "too long", "code": "context_length_exceeded"}}
        return (500, {"error": {"message": "out of memory"}}) if "text 2'" in text else None

    async with BatchServer(error=error) as server, desk_for(server, journal) as desk:
        await desk.submit(requests(1, 2, 3))
        settled = await desk.settle(poll_seconds=AT_ONCE)
    assert settled.replied == 1 and settled.failed.keys() == {key(1), key(2)}
    fault = settled.failed[key(1)]
    assert isinstance(fault, Rejected) and fault.alone and "too long" in str(fault)
    assert settled.to_ask_again == [key(2)]
    assert settled.causes == {"400": 1, "500": 1}


async def test_what_an_expired_batch_has_done_is_kept_and_the_rest_may_be_asked_again(journal: Journal) -> None:
    async with BatchServer(fates=[Fate.EXPIRED]) as server, desk_for(server, journal) as desk:
        await desk.submit(requests(*range(10)))
        settled = await desk.settle(poll_seconds=AT_ONCE)
        assert settled.replied == 5 and settled.causes == {"expired": 5}
        assert not desk.pending()
        await desk.submit([each for each in requests(*range(10)) if each.key in settled.to_ask_again])
        assert (await desk.settle(poll_seconds=AT_ONCE)).replied == 5
    assert set(server.bought.values()) == {1} and len(journal) == 10


async def test_a_batch_that_the_server_finds_invalid_costs_nothing_and_says_which_request_is_at_fault(
    journal: Journal,
) -> None:
    problem = {"code": "invalid_json_line", "line": 2, "message": "no valid JSON"}
    async with BatchServer(fates=[Fate.FAILED], problems=[problem]) as server, desk_for(server, journal) as desk:
        await desk.submit(requests(1, 2, 3))
        settled = await desk.settle(poll_seconds=AT_ONCE)
    assert settled.replied == 0 and not server.bought
    assert isinstance(settled.failed[key(2)], Rejected) and "no valid JSON" in str(settled.failed[key(2)])
    assert set(settled.to_ask_again) == {key(1), key(3)}


@pytest.mark.parametrize(
    "problems",
    [
        [{"code": "model_not_found", "line": 1, "message": "no such model"}],
        [{"code": "billing_hard_limit_reached", "line": None, "message": "no such model"}],
        [{"line": 10**9, "message": "no such model"}],
    ],
)
async def test_a_batch_that_is_invalid_as_a_whole_rejects_all_of_its_requests(
    journal: Journal, problems: list[dict[str, object]]
) -> None:
    async with BatchServer(fates=[Fate.FAILED], problems=problems) as server, desk_for(server, journal) as desk:
        await desk.submit(requests(1, 2))
        settled = await desk.settle(poll_seconds=AT_ONCE)
    assert settled.failed.keys() == {key(1), key(2)} and not settled.to_ask_again
    assert all("no such model" in str(fault) for fault in settled.failed.values())


async def test_batches_that_the_server_has_no_room_for_are_sent_again_as_others_end(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(steps, "ROOM_SECONDS", 0.02)
    at_once: list[int] = []

    def on_progress(batches: Sequence[Batch]) -> None:
        at_once.append(sum(batch.status == "validating" for batch in batches if batch.earlier))

    async with (
        BatchServer(most_enqueued=10, lasts={"validating": 0.05, "in_progress": 0.05}) as server,
        desk_for(server, journal) as desk,
    ):
        await desk.submit(requests(*range(40)), most_requests=10)
        settled = await desk.settle(on_progress, poll_seconds=AT_ONCE)
    assert settled.replied == 40 and set(server.bought.values()) == {1}
    assert set(at_once) == {0, 1}


async def test_a_batch_that_there_never_is_room_for_is_halved(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(steps, "ROOM_SECONDS", 0.02)
    monkeypatch.setattr(steps, "MOST_ROOM_SECONDS", 0.05)
    monkeypatch.setattr(steps, "SMALLEST_HALVED", 5)
    async with BatchServer(most_enqueued=10) as server, desk_for(server, journal) as desk:
        await desk.submit(requests(*range(33)))
        settled = await desk.settle(poll_seconds=AT_ONCE)
    assert settled.replied == 33 and set(server.bought.values()) == {1} and len(server.bought) == 33
    assert max(batch.num_requests for batch in known(journal)) <= 10


async def test_progress_tells_how_far_the_server_is(journal: Journal) -> None:
    seen: list[tuple[str, int]] = []

    def on_progress(batches: Sequence[Batch]) -> None:
        seen.extend((batch.status, batch.done) for batch in batches)

    lasts = {"validating": 0.1, "in_progress": 0.3}
    async with BatchServer(lasts=lasts) as server, desk_for(server, journal) as desk:
        await desk.submit(requests(*range(10)))
        await desk.settle(on_progress, poll_seconds=AT_ONCE)
    assert seen[0][0] == "validating" and seen[-1] == ("completed", 10)
    assert any(status == "in_progress" and 0 < done < 10 for status, done in seen)


async def test_stopped_while_it_waits_a_desk_says_that_the_batches_go_on_and_the_next_takes_them_up(
    journal: Journal,
) -> None:
    async with BatchServer(lasts={"in_progress": 0.3}) as server:
        async with desk_for(server, journal) as desk:
            await desk.submit(requests(1, 2))
            settling = asyncio.create_task(desk.settle(poll_seconds=(60.0, 60.0)))
            await asyncio.sleep(0.05)
            desk.stop()
            with pytest.raises(Stopped, match=r"1 batch goes on at .*2 requests: the same command"):
                await settling
        async with desk_for(server, journal) as desk:
            assert (await desk.settle(poll_seconds=AT_ONCE)).replied == 2
    assert set(server.bought.values()) == {1}


async def test_two_processes_cannot_be_at_the_same_batches(journal: Journal) -> None:
    async with BatchServer() as server, desk_for(server, journal):
        with pytest.raises(SkiffError, match="another process is at the batches for model test-model"):
            async with desk_for(server, journal):
                pass
    async with desk_for(server, journal):  # it is let go of
        pass


async def test_the_batches_of_another_model_are_another_desks(journal: Journal) -> None:
    async with (
        BatchServer() as server,
        desk_for(server, journal) as desk,
        desk_for(server, journal, model="b") as other,
    ):
        await desk.submit(requests(1))
        assert not other.pending() and not other.batches
        assert (await other.settle(poll_seconds=AT_ONCE)).replied == 0
        assert desk.pending() == {key(1)}


@pytest.mark.parametrize("status", [404, 405, 501])
async def test_a_server_without_batches_is_told_in_one_line_and_nothing_stays_pending(
    journal: Journal, status: int
) -> None:
    troubles = {"upload": [status]}
    async with BatchServer(troubles=troubles) as server, desk_for(server, journal) as desk:
        with pytest.raises(LLMError, match=r"has no Batch API \(.*\): run the command without --batch"):
            await desk.submit(requests(1, 2), most_requests=1)
        assert not desk.pending() and not files(journal, "*")


async def test_a_plain_chat_server_is_one_without_batches(journal: Journal) -> None:
    async with ChatServer() as server, desk_for(server, journal) as desk:
        with pytest.raises(LLMError, match="has no Batch API"):
            await desk.submit(requests(1))


async def test_a_rejected_key_is_one_line_with_the_remedy_and_the_key_in_none(journal: Journal) -> None:
    async with BatchServer(key="sk-the-right-key-of-this-server") as server:
        wrong = "sk-a-wrong-key-of-another-server"
        async with desk_for(server, journal, server_key=wrong) as desk:
            with pytest.raises(LLMError, match="set the environment variable OPENAI_API_KEY") as raised:
                await desk.submit(requests(1))
            assert wrong not in str(raised.value) and not desk.pending()
        async with desk_for(server, journal, server_key="sk-the-right-key-of-this-server") as desk:
            await desk.submit(requests(1))
            assert (await desk.settle(poll_seconds=AT_ONCE)).replied == 1


async def test_a_batch_that_the_server_does_not_know_says_how_to_give_it_up(journal: Journal) -> None:
    async with BatchServer(lasts={"in_progress": 60}) as server, desk_for(server, journal) as desk:
        await desk.submit(requests(1))
        server.batches.clear()
        with pytest.raises(LLMError, match="synth batches cancel batch_0"):
            await desk.settle(poll_seconds=AT_ONCE)
        assert desk.pending() == {key(1)}


def files(journal: Journal, kind: str) -> list[Path]:
    return [path for path in batches_of(journal).glob(f"*/*.{kind}") if path.suffix]


def known(journal: Journal) -> list[Batch]:
    [folder] = batches_of(journal).iterdir()
    return read_batches(folder)


@pytest.mark.parametrize(
    ("one", "other", "is_same"),
    [
        ("https://API.example.com/v1/", "https://api.example.com:443/v1", True),
        ("http://127.0.0.1:80", "http://127.0.0.1/", True),
        ("http://[::1]:8000/v1", "http://[::1]:8000/v1//", True),
        ("https://api.example.com/v1", "https://api.example.com/V1", False),
        ("https://api.example.com/v1", "http://api.example.com/v1", False),
    ],
)
def test_an_address_is_one_however_it_is_written(tmp_path: Path, one: str, other: str, is_same: bool) -> None:
    paths = {BatchFolder(tmp_path, Endpoint(each, MODEL)).path for each in (one, other)}
    assert (len(paths) == 1) is is_same


def test_a_damaged_batch_stops_everything_since_it_may_be_paid_for(tmp_path: Path) -> None:
    folder = BatchFolder(tmp_path, endpoint_for(ChatServer(), base_url="http://127.0.0.1/v1"))
    with folder.held():
        [batch] = folder.write(requests(1), most_requests=10, most_bytes=1000, now=0.0)
    path = folder.path / f"{batch.tag}.json"
    good = path.read_text()
    bad = [good[:50], "[]", good.replace('"created": 0.0', '"created": NaN'), good.replace("test-model", "\\u001b[2J")]
    bad += [good.replace('"step": "written"', '"step": "paid"'), good.replace('"unbooked": false', '"unbooked": "no"')]
    for damaged in (*bad, json.dumps(json.loads(good) | {"x": 1})):
        path.write_text(damaged)
        with (
            pytest.raises(SkiffError, match="is damaged, which stands for a batch that may be paid for"),
            folder.held(),
        ):
            pass
