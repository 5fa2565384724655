"""The chat server of the tests does what it says: other tests are proofs only as far as it does."""

import asyncio
import random
import statistics
import time
from dataclasses import replace
from typing import Any

import aiohttp
import pytest

from tests.chat_formats import Takes, smallest
from tests.chat_limits import Capacity, Latency, Move, Rate, span
from tests.chat_server import ChatServer, Fault

Answers = list[tuple[int, dict[str, str], Any]]


async def ask(server: ChatServer, number: int = 1, *, at_once: bool = False, **fields: Any) -> Answers:
    """The status, the headers and the body of so many answers."""
    messages = [{"role": "user", "content": "hello"}]

    async with aiohttp.ClientSession() as session:

        async def one() -> tuple[int, dict[str, str], Any]:
            body = {"model": "test-model", "messages": messages, **fields}
            async with session.post(f"{server.base_url}/chat/completions", json=body) as answer:
                return answer.status, dict(answer.headers), await answer.json()

        if at_once:
            return list(await asyncio.gather(*(one() for _ in range(number))))
        return [await one() for _ in range(number)]


def statuses(answers: Answers) -> list[int]:
    return [status for status, _, _ in answers]


def test_latencies_have_the_stated_median_and_spread_and_grow_with_the_reply() -> None:
    latency, chance = Latency(median=2.0, sigma=0.5, per_token=0.01), random.Random(0)
    drawn = sorted(latency.seconds(chance, 0) for _ in range(4000))
    assert statistics.median(drawn) == pytest.approx(2.0, rel=0.05)
    assert drawn[3360] / 2.0 == pytest.approx(1.65, rel=0.1)  # e to the sigma, at 84 %
    assert Latency(1.0, per_token=0.01).seconds(chance, 150) == 2.5


def served(rate: Rate, *, every: float, seconds: float, tokens: int = 10) -> list[float]:
    """When requests are admitted that come at this pace, each waiting for as long as it is told to."""
    meter, now, admitted = rate.meter(), 1000.0, []
    while now < 1000.0 + seconds:
        wait = meter.admit(tokens, now)
        if not wait:
            admitted.append(now - 1000.0)
        now += max(wait, every)
    return admitted


@pytest.mark.parametrize("burst", [None, 0.1])
@pytest.mark.parametrize("rate", [Rate(requests=600), Rate(tokens=6000)])
def test_over_ten_minutes_a_rate_is_held_and_retry_after_is_right(rate: Rate, burst: float | None) -> None:
    admitted = served(replace(rate, burst=burst), every=0.01, seconds=600)
    assert len(admitted) == pytest.approx(6000, rel=0.02)
    in_the_first_second = sum(moment < 1 for moment in admitted)
    assert in_the_first_second == pytest.approx(100 if burst is None else 70, abs=2)  # all there is, or 60 and 10 more


def test_a_request_of_more_tokens_than_a_minute_has_is_served_alone() -> None:
    assert len(served(Rate(tokens=1000), every=1.0, seconds=600, tokens=5000)) == 10
    assert len(served(Rate(tokens=1000, burst=1.0), every=1.0, seconds=600, tokens=5000)) == 2


def test_the_headers_tell_what_is_left() -> None:
    meter = Rate(requests=600, tokens=90_000, headers=True, burst=1.0).meter()
    for _ in range(10):
        assert meter.admit(150, 5.0) == 0.0
    assert meter.headers(5.0) == {
        "x-ratelimit-limit-requests": "600",
        "x-ratelimit-remaining-requests": "590",
        "x-ratelimit-reset-requests": "1s",
        "x-ratelimit-limit-tokens": "90000",
        "x-ratelimit-remaining-tokens": "88500",
        "x-ratelimit-reset-tokens": "1s",
    }
    assert [span(360), span(0.12), span(59.97), span(0)] == ["6m0s", "120ms", "60s", "0ms"]


async def test_a_rate_refuses_with_the_right_time_and_says_nothing_if_told_so() -> None:
    rate = Capacity(rate=Rate(requests=2, seconds=0.3, headers=True))
    async with ChatServer(capacity=rate) as server:
        answers = await ask(server, 3)
        assert statuses(answers) == [200, 200, 429]
        assert answers[1][1]["x-ratelimit-remaining-requests"] == "0"
        await asyncio.sleep(float(answers[2][1]["Retry-After"]))
        assert statuses(await ask(server)) == [200]
    assert (server.paid, server.done) == (3, {Fault.REFUSED: 1})
    async with ChatServer(capacity=rate, retry_after=None) as server:
        assert "Retry-After" not in (await ask(server, 3))[2][1]


async def test_what_waits_for_a_slot_takes_longer_and_is_served() -> None:
    async with ChatServer(capacity=Capacity(slots=2), latency=0.05) as server:
        started = time.monotonic()
        assert statuses(await ask(server, 8, at_once=True)) == [200] * 8
        assert 0.2 <= time.monotonic() - started < 1
    assert server.most_at_once == 8


async def test_a_capacity_moves_after_requests() -> None:
    async with ChatServer(at_once=0, moves=[Move(Capacity(), after_requests=3)]) as server:
        assert statuses(await ask(server, 5)) == [429, 429, 429, 200, 200]


async def test_a_capacity_moves_after_seconds_from_the_first_request() -> None:
    async with ChatServer(moves=[Move(Capacity(at_once=0), after_seconds=0.2)]) as server:
        assert statuses(await ask(server)) == [200]
        await asyncio.sleep(0.2)
        assert statuses(await ask(server)) == [429]


SCHEMA = {
    "type": "object",
    "properties": {
        "queries": {"type": "array", "items": {"$ref": "#/$defs/Query"}, "minItems": 2},
        "kind": {"enum": ["short", "long"]},
        "score": {"type": "integer", "minimum": 1},
        "note": {"anyOf": [{"type": "string"}, {"type": "null"}]},
        "extra": {"type": "boolean"},
    },
    "required": ["queries", "kind", "score", "note"],
    "$defs": {"Query": {"type": "string", "minLength": 3}},
}


def test_the_smallest_instance_of_a_schema_has_what_is_required() -> None:
    assert smallest(SCHEMA) == {"queries": ["xxx", "xxx"], "kind": "short", "score": 1, "note": "x"}


@pytest.mark.parametrize(
    ("takes", "expected"),
    [
        (Takes.ANYTHING, [200, 200, 200]),
        (Takes.SCHEMAS, [200, 200, 200]),
        (Takes.OBJECTS, [200, 200, 400]),
        (Takes.NOTHING, [200, 400, 400]),
    ],
)
async def test_formats_are_taken_ignored_or_refused(takes: Takes, expected: list[int]) -> None:
    schema = {"type": "json_schema", "json_schema": {"name": "queries", "schema": SCHEMA}}
    async with ChatServer(lambda _: "free text", takes=takes) as server:
        answers = await ask(server)
        for response_format in ({"type": "json_object"}, schema):
            answers += await ask(server, response_format=response_format)
    assert statuses(answers) == expected
    if takes is Takes.SCHEMAS:
        texts = [body["choices"][0]["message"]["content"] for _, _, body in answers]
        assert texts[:2] == ["free text"] * 2 and texts[2].startswith('{"queries": ["xxx", "xxx"]')


async def test_a_model_that_it_does_not_have_is_not_found() -> None:
    async with ChatServer(models=["one", "two"]) as server:
        assert statuses(await ask(server, model="one") + await ask(server, model="three")) == [200, 404]


def test_an_answer_without_http_is_counted_like_one_with() -> None:
    server = ChatServer(lambda _: "a", models=["one"])
    body = {"model": "one", "messages": [{"role": "user", "content": "hello"}]}
    status, answer = server.answer(body)
    assert (status, answer["choices"][0]["message"]["content"]) == (200, "a")
    assert server.answer({**body, "model": "two"})[0] == 404
    assert (len(server.asked), server.paid) == (2, 1)
