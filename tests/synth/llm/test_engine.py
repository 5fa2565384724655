"""The engine against a real server on loopback: what it asks, what it survives, what it says."""

import asyncio
import json
import logging
import socket
import time
import traceback
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from synth.llm.engine import Engine, LLMConfig
from synth.llm.journal import Journal, Reply
from synth.records import BadReply, LLMError, UserError
from tests.chat_server import ChatServer, Fault

KEY = "sk-a-key-that-nobody-may-see-0123456789"


BAD_ADDRESSES = [
    "http://[::1",
    "http://[zz]/",
    "http://[127.0.0.1]/v1",
    "http://h:abc/v1",
    "http://h:/v1",
    "http://h:0/v1",
    "http://h:99999/v1",
    "http://..../v1",
    "http://a..b/v1",
    f"http://{'a' * 300}/v1",
    "http://1.2.3.400/v1",
    "http://\x1b[31m/v1",
    "http://h/\ud800",
    "http://h/v1\n",
    f"http://h/{'a' * 2000}",
]


def asking(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def lines_of(folder: Path) -> list[str]:
    return [line for path in folder.iterdir() for line in path.read_text().splitlines()]


def config_for(server: ChatServer, **settings: Any) -> LLMConfig:
    return LLMConfig(**{"base_url": server.base_url, "model": "test-model", "max_retries": 3, **settings})


@pytest.fixture(autouse=True)
def no_key_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID", "OPENAI_CUSTOM_HEADERS"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    with Journal(tmp_path / "journal") as opened:
        yield opened


@asynccontextmanager
async def engine_for(server: ChatServer, journal: Journal, **settings: Any) -> AsyncIterator[Engine]:
    async with Engine(config_for(server, **settings), journal) as engine:
        yield engine


def echo(messages: list[dict[str, str]]) -> str:
    return f"you said: {messages[-1]['content']}"


async def test_every_reply_has_a_receipt_the_replayed_the_cut_and_the_engines_own_question_too(
    journal: Journal,
) -> None:
    script = [None, Fault.CUT_REPLY]
    async with ChatServer(echo, script=script) as server, engine_for(server, journal) as engine:
        first = await engine.complete(asking("one"), seed_id=UUID(int=1))
        again = await engine.complete(asking("one"), attempt=0)
        with pytest.raises(BadReply, match="max_tokens"):
            await engine.complete(asking("two"), attempt=3)
        receipts = engine.take_receipts()
        assert engine.take_receipts() == []
    assert first.call_id == again.call_id == receipts[0].call_id == receipts[1].call_id
    assert [(r.fault, r.attempt, r.seed_id) for r in receipts] == [
        ("", 0, UUID(int=1)),
        ("", 0, None),
        ("cut", 3, None),
    ]
    assert receipts[0].tokens_in == first.tokens_in and receipts[2].tokens_out > 0


async def test_the_question_whether_a_server_serves_is_paid_for_as_well(journal: Journal) -> None:
    def refuse_long(body: dict[str, Any]) -> tuple[int, Any] | None:
        return (400, "too long") if "long" in body["messages"][-1]["content"] else None

    async with ChatServer(echo, error=refuse_long) as server, engine_for(server, journal) as engine:
        with pytest.raises(BadReply):
            await engine.complete(asking("a long one"))
        assert [receipt.fault for receipt in engine.take_receipts()] == ["probe"]


@pytest.mark.parametrize(
    ("prices", "said"),
    [
        ({"price_in": 1.0}, "go together"),
        ({"price_out": 0.0}, "go together"),
        ({"price_in": -1.0, "price_out": 1.0}, "must be 0 to"),
        ({"price_in": float("nan"), "price_out": 1.0}, "must be 0 to"),
        ({"price_in": float("inf"), "price_out": 1.0}, "must be 0 to"),
        ({"price_in": 1.0, "price_out": 1e308}, "must be 0 to"),
    ],
)
def test_a_price_that_makes_no_sense_is_refused(prices: dict[str, float], said: str) -> None:
    with pytest.raises(UserError, match=said):
        LLMConfig("http://localhost/v1", "m", **prices)


async def test_a_reply_carries_text_model_tokens_and_time(journal: Journal) -> None:
    async with ChatServer(echo, latency=0.02) as server, engine_for(server, journal) as engine:
        reply = await engine.complete(asking("a cat purrs"))
    assert reply.text == "you said: a cat purrs"
    assert (reply.model, reply.finish_reason, reply.replayed) == ("test-model", "stop", False)
    assert reply.tokens_in == len("a cat purrs") // 4 and reply.tokens_out == len(reply.text) // 4
    assert 0.02 <= reply.seconds < 5


async def test_the_request_says_what_the_settings_say(journal: Journal) -> None:
    async with ChatServer(echo) as server:
        async with engine_for(server, journal, temperature=0.3, max_tokens=77) as engine:
            await engine.complete(asking("hello"))
        async with engine_for(server, journal, response_format="none") as engine:
            await engine.complete(asking("hello"))
    first, second = server.asked
    assert first == {
        "model": "test-model",
        "messages": asking("hello"),
        "temperature": 0.3,
        "max_tokens": 77,
        "response_format": {"type": "json_object"},
    }
    assert "response_format" not in second


async def test_the_same_request_is_never_asked_twice(tmp_path: Path) -> None:
    async with ChatServer(echo) as server:
        for replayed in (False, True):
            with Journal(tmp_path) as journal:
                async with engine_for(server, journal) as engine:
                    reply = await engine.complete(asking("hello"))
                    assert reply.replayed is replayed
                    assert engine.usage.replayed == replayed and engine.usage.tokens_out == reply.tokens_out * (
                        not replayed
                    )
    assert len(server.asked) == server.paid == 1


async def test_another_attempt_text_model_or_sampling_is_another_request(journal: Journal) -> None:
    async with ChatServer(echo) as server:
        base = config_for(server)
        for config in (base, replace(base, model="other"), replace(base, temperature=0.5), replace(base, max_tokens=9)):
            async with Engine(config, journal) as engine:
                await engine.complete(asking("hello"))
        async with Engine(base, journal) as engine:
            await engine.complete(asking("hello"), attempt=1)
            await engine.complete(asking("hello!"))
        async with Engine(replace(base, concurrency=2, timeout_seconds=5.0), journal) as engine:
            assert (await engine.complete(asking("hello"))).replayed
    assert len(server.asked) == 6


@pytest.mark.parametrize(
    "fault", [Fault.BROKEN, Fault.RESET, Fault.RESET_AFTER, Fault.CUT_BODY, Fault.NOT_JSON, Fault.NO_CHOICES]
)
async def test_what_broke_on_the_way_is_asked_again(fault: Fault, journal: Journal) -> None:
    async with ChatServer(echo, script=[fault, fault]) as server, engine_for(server, journal) as engine:
        assert (await engine.complete(asking("hello"))).text == "you said: hello"
    assert len(server.asked) == 3
    assert server.done[fault] == 2


@pytest.mark.parametrize("fault", [Fault.REFUSED, Fault.BUSY])
async def test_a_refusal_is_waited_out_however_often_it_comes(fault: Fault, journal: Journal) -> None:
    script = [fault] * 5  # more than max_retries
    async with ChatServer(echo, script=script, retry_after="0.06") as server, engine_for(server, journal) as engine:
        started = time.monotonic()
        await engine.complete(asking("hello"))
        assert time.monotonic() - started > 5 * 0.06
        assert engine.usage.refusals == 5 and engine.usage.requests == 6


@pytest.mark.parametrize("retry_after", [None, "soon", "nan", "-5"])
async def test_a_refusal_without_a_sensible_time_is_waited_out_too(retry_after: str | None, journal: Journal) -> None:
    server = ChatServer(echo, script=[Fault.REFUSED], retry_after=retry_after)
    async with server, engine_for(server, journal) as engine:
        assert (await engine.complete(asking("hello"))).text == "you said: hello"


async def test_a_server_that_says_at_once_for_ever_is_asked_less_and_less(journal: Journal) -> None:
    async with (
        ChatServer(faults={Fault.REFUSED: 1.0}, retry_after="0") as server,
        engine_for(server, journal) as engine,
    ):
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(engine.complete(asking("hello")), 1)
    assert 4 <= len(server.asked) <= 8


async def test_all_of_a_thousand_requests_arrive_through_faults_of_every_kind(journal: Journal) -> None:
    faults = {Fault.REFUSED: 0.1, Fault.BROKEN: 0.02, Fault.CUT_BODY: 0.01, Fault.RESET_AFTER: 0.01, Fault.RESET: 0.01}
    server = ChatServer(echo, faults=faults, seed=3, latency=0.01)
    texts = [f"text {number}" for number in range(1000)]
    async with server, engine_for(server, journal, concurrency=64, max_retries=6) as engine:
        replies = await asyncio.gather(*(engine.complete(asking(text)) for text in texts))
    assert [reply.text for reply in replies] == [f"you said: {text}" for text in texts]
    paid_and_lost = server.done[Fault.CUT_BODY] + server.done[Fault.RESET_AFTER]
    assert paid_and_lost and server.paid == 1000 + paid_and_lost == len(journal) + paid_and_lost


async def test_no_more_requests_are_under_way_than_the_settings_allow(journal: Journal) -> None:
    async with ChatServer(echo, latency=0.02) as server, engine_for(server, journal, concurrency=3) as engine:
        await asyncio.gather(*(engine.complete(asking(str(number))) for number in range(20)))
    assert server.most_at_once == 3


async def test_a_server_that_takes_four_at_a_time_is_kept_busy_without_being_stormed(journal: Journal) -> None:
    server = ChatServer(echo, latency=0.02, at_once=4, retry_after="0.02")
    async with server, engine_for(server, journal, concurrency=32) as engine:
        await asyncio.gather(*(engine.complete(asking(str(number))) for number in range(200)))
    assert (server.paid, server.most_at_once) == (200, 4)
    assert server.done[Fault.REFUSED] < 150


async def test_one_request_that_always_fails_is_a_bad_reply_and_the_next_is_served(journal: Journal) -> None:
    server = ChatServer(echo, script=[Fault.NOT_JSON] * 2)
    async with server, engine_for(server, journal, max_retries=1) as engine:
        with pytest.raises(BadReply, match="several attempts; the last: a reply that is no JSON: <html>a proxy"):
            await engine.complete(asking("hello"))
        assert (await engine.complete(asking("again"))).text == "you said: again"


async def test_a_server_that_never_serves_is_an_error_at_the_first_request(journal: Journal) -> None:
    async with ChatServer(faults={Fault.BROKEN: 1.0}) as server, engine_for(server, journal, max_retries=1) as engine:
        errors = await asyncio.gather(
            *(engine.complete(asking(text)) for text in ("hello", "again")), return_exceptions=True
        )
    assert all(isinstance(error, LLMError) and "500: out of memory" in str(error) for error in errors)
    assert len(server.asked) <= 2 * 2 + 1  # each twice, and one question whether it serves at all


async def test_a_server_that_fails_every_request_after_the_first_ends_in_an_error(journal: Journal) -> None:
    server = ChatServer(echo, script=[None], faults={Fault.BROKEN: 1.0})
    async with server, engine_for(server, journal, max_retries=1) as engine:
        await engine.complete(asking("hi"))
        for expected in (BadReply, BadReply, LLMError):
            with pytest.raises(expected, match="500: out of memory"):
                await engine.complete(asking("hello"))


async def test_a_server_that_hangs_is_not_waited_for_longer_than_stated(journal: Journal) -> None:
    server = ChatServer(script=[Fault.HANGS] * 3)
    async with server, engine_for(server, journal, timeout_seconds=0.1, max_retries=6) as engine:
        with pytest.raises(BadReply, match=r"no (whole )?reply within 0\.1 s"):
            await engine.complete(asking("hello"))
    assert len(server.asked) == 3 + 1  # each may be paid: not six times more; and one whether it serves at all


@pytest.mark.slow
async def test_a_server_that_is_not_there_is_given_up_soon_by_all_tasks_with_the_same_words(journal: Journal) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    config = LLMConfig(f"http://127.0.0.1:{port}/v1", "test-model", concurrency=2)
    async with asyncio.timeout(60), Engine(config, journal) as engine:
        errors = await asyncio.gather(
            *(engine.complete(asking(str(number))) for number in range(30)), return_exceptions=True
        )
    assert all(isinstance(error, LLMError) for error in errors)
    assert {str(error) for error in errors} == {str(errors[0])}
    assert f"127.0.0.1:{port}" in str(errors[0]) and "start it" in str(errors[0])


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (
            401,
            {"error": {"message": "no such key"}},
            r"\(401\): no such key; set the environment variable OPENAI_API_KEY",
        ),
        (403, {"error": "not for you"}, r"\(403\): not for you; ask its owner"),
        (404, {"detail": "no such model"}, r"\(404\): no such model; check the name of the model"),
        (404, "<html>nothing here</html>", r"\(404\): <html>nothing here</html>"),
        (400, {"error": {"message": "unknown response_format"}}, r"unknown response_format; .*response_format to none"),
        (429, {"error": {"message": "pay up", "code": "insufficient_quota"}}, r"pay up; the account .* has no credit"),
        (302, "", r"\(302\): Found; it redirects"),
        (302, "302: Found", r"\(302\): Found; it redirects"),
    ],
)
async def test_a_rejection_is_not_retried_and_names_server_model_cause_and_remedy(
    status: int, body: Any, expected: str, journal: Journal
) -> None:
    async with ChatServer(error=lambda _: (status, body)) as server, engine_for(server, journal) as engine:
        with pytest.raises(LLMError, match=expected) as caught:
            await engine.complete(asking("hello"))
        assert server.base_url in str(caught.value) and "test-model" in str(caught.value)
        assert "\n" not in str(caught.value)
        with pytest.raises(LLMError, match=expected):
            await engine.complete(asking("another"))
        assert len(server.asked) == (2 if status == 400 else 1)  # 400 may be of its text alone: asked with another


async def test_what_a_server_says_is_cut_to_one_short_line(journal: Journal) -> None:
    said = {"error": {"message": "no\nno " * 10_000}}
    async with ChatServer(error=lambda _: (400, said)) as server, engine_for(server, journal) as engine:
        with pytest.raises(LLMError) as caught:
            await engine.complete(asking("hello"))
    assert len(str(caught.value)) < 700 and "\n" not in str(caught.value)


async def test_a_passage_too_long_for_the_model_does_not_stop_the_run(journal: Journal) -> None:
    said = {"error": {"message": "This model's maximum context length is 8192 tokens", "code": None}}

    def error(body: dict[str, Any]) -> tuple[int, Any] | None:
        return (400, said) if body["messages"] == asking("long") else None

    async with ChatServer(echo, error=error) as server, engine_for(server, journal) as engine:
        for _ in range(4):
            with pytest.raises(BadReply, match="maximum context length"):
                await engine.complete(asking("long"))
        await engine.complete(asking("short"))


async def test_a_model_for_which_every_text_is_too_long_is_an_error(journal: Journal) -> None:
    said = {"error": {"message": "maximum context length is 512 tokens, 2048 of them asked for the reply"}}
    async with ChatServer(error=lambda _: (400, said)) as server, engine_for(server, journal) as engine:
        with pytest.raises(LLMError, match=r"512 tokens.*check model, temperature and max_tokens"):
            await engine.complete(asking("hello"))


async def test_a_rejected_first_request_does_not_stop_a_run_whose_settings_are_right(journal: Journal) -> None:
    def error(body: dict[str, Any]) -> tuple[int, Any] | None:
        return (400, {"error": "no sense"}) if "nonsense" in body["messages"][0]["content"] else None

    async with ChatServer(echo, error=error) as server, engine_for(server, journal) as engine:
        errors = await asyncio.gather(
            *(engine.complete(asking(f"nonsense {number}")) for number in range(5)), return_exceptions=True
        )
        assert all(isinstance(error, BadReply) and "no sense" in str(error) for error in errors)
        assert len(server.asked) == 5 + 1  # whether it serves at all is asked once
        assert engine.usage.tokens_in > 0 and engine.usage.replies == len(journal) == 0
        await engine.complete(asking("hello"))


async def test_once_served_a_request_that_is_rejected_is_alone_in_that(journal: Journal) -> None:
    def error(body: dict[str, Any]) -> tuple[int, Any] | None:
        return (400, {"error": "no sense"}) if body["messages"] == asking("nonsense") else None

    async with ChatServer(echo, error=error) as server, engine_for(server, journal) as engine:
        await engine.complete(asking("hello"))
        with pytest.raises(BadReply, match="no sense"):
            await engine.complete(asking("nonsense"))
        await engine.complete(asking("hello again"))


async def test_a_server_that_knows_the_limit_by_its_newer_name_only_is_asked_so(journal: Journal) -> None:
    def error(body: dict[str, Any]) -> tuple[int, Any] | None:
        said = "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead."
        return (400, {"error": {"message": said}}) if "max_tokens" in body else None

    async with ChatServer(echo, error=error) as server, engine_for(server, journal, max_tokens=7) as engine:
        await engine.complete(asking("hello"))
        await engine.complete(asking("hello again"))
    assert [body.get("max_completion_tokens") for body in server.asked] == [None, 7, 7]


@pytest.mark.parametrize(
    ("retry_after", "said"),
    [("86400", "wait 86400 s"), ("Wed, 21 Oct 2099 07:28:00 GMT", r"wait \d{9,} s"), ("1e9", "wait 1000000000 s")],
)
async def test_a_spent_quota_ends_the_run_and_says_how_long_to_wait(
    retry_after: str, said: str, journal: Journal
) -> None:
    server = ChatServer(script=[Fault.REFUSED], retry_after=retry_after)
    async with server, engine_for(server, journal) as engine:
        with pytest.raises(LLMError, match=f"{said}, then run the same command"):
            await engine.complete(asking("hello"))


async def test_a_reply_cut_at_the_limit_is_journalled_and_says_to_raise_it(tmp_path: Path) -> None:
    async with ChatServer(echo, script=[Fault.CUT_REPLY]) as server:
        for _ in range(2):  # paid for once
            with Journal(tmp_path) as journal:
                async with engine_for(server, journal) as engine:
                    with pytest.raises(BadReply, match="cut at max_tokens = 2048; raise max_tokens"):
                        await engine.complete(asking("hello"))
    assert len(server.asked) == 1


async def test_an_empty_reply_is_a_bad_reply(journal: Journal) -> None:
    async with ChatServer(lambda _: "  ") as server, engine_for(server, journal) as engine:
        with pytest.raises(BadReply, match="is empty"):
            await engine.complete(asking("hello"))


async def test_the_key_goes_to_the_server_and_nowhere_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY + "\n")
    caplog.set_level(logging.DEBUG)
    seen = []
    async with ChatServer(echo, key=KEY) as server, ChatServer(key="another") as strict:
        with Journal(tmp_path) as journal:
            async with engine_for(server, journal) as engine:
                seen += [repr(await engine.complete(asking("hello"))), repr(engine), repr(engine.config)]
            async with engine_for(strict, journal) as engine:
                with pytest.raises(LLMError, match=r"Incorrect API key provided: Bearer \*\*\*") as caught:
                    await engine.complete(asking("hello again"))
            seen += traceback.format_exception(caught.value)
    assert server.headers[0]["Authorization"] == f"Bearer {KEY}"
    seen += [record.getMessage() for record in caplog.records] + lines_of(tmp_path)
    assert caplog.records and not [text for text in seen if KEY in text]


async def test_a_server_that_needs_no_key_is_asked_without_one(journal: Journal) -> None:
    async with ChatServer(echo) as server, engine_for(server, journal, api_key_env="NO_SUCH_KEY") as engine:
        assert (await engine.complete(asking("hello"))).text == "you said: hello"


@pytest.mark.parametrize("key", ["sk-one\nsk-two", "sk-one sk-two", "sk-öne"])
async def test_a_key_with_characters_that_no_key_has_is_refused_without_being_shown(
    key: str, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", key)
    with pytest.raises(UserError, match="OPENAI_API_KEY") as caught:
        async with Engine(LLMConfig("http://localhost/v1", "test-model"), journal):
            pass
    assert "sk-" not in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"base_url": "localhost:8000/v1"}, "base_url"),
        ({"base_url": "ftp://localhost/v1"}, "base_url"),
        ({"base_url": "http:///v1"}, "base_url"),
        ({"base_url": "https://me:secret@host/v1"}, "base_url"),
        ({"base_url": "https://host/v1?key=secret"}, "base_url"),
        *(({"base_url": url}, "base_url") for url in BAD_ADDRESSES),
        *(({"model": model}, "model") for model in ("", " ", "a\ud800", "a\x1b[31m", "a\nb", "a" * 201)),
        ({"api_key_env": "sk-secret"}, "api_key_env"),
        ({"api_key_env": "sk_secret"}, "api_key_env"),
        ({"temperature": -0.1}, "temperature"),
        ({"temperature": float("nan")}, "temperature"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"concurrency": 0}, "concurrency"),
        ({"timeout_seconds": 0.0}, "timeout_seconds"),
        ({"max_retries": -1}, "max_retries"),
    ],
)
def test_settings_that_make_no_sense_are_refused_by_name(settings: dict[str, Any], named: str) -> None:
    with pytest.raises(UserError, match=named) as caught:
        LLMConfig(**{"base_url": "http://localhost:8000/v1", "model": "test-model", **settings})
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "url", ["http://[::1]:8000/v1", "https://api.example.com", "http://10.0.0.7:65535/", "http://llm.internal./a_b/v1"]
)
async def test_addresses_of_every_kind_are_taken(url: str, journal: Journal) -> None:
    async with Engine(LLMConfig(url, "test-model"), journal) as engine:
        assert engine.config.base_url == url


async def test_a_reply_is_in_the_journal_before_anyone_sees_it(tmp_path: Path) -> None:
    async with ChatServer(echo) as server:
        with Journal(tmp_path) as journal:
            async with engine_for(server, journal) as engine:
                reply = await engine.complete(asking("hello"))
                (line,) = lines_of(tmp_path)
    fields = json.loads(line)
    fields.pop("key")
    assert Reply(**fields) == reply
