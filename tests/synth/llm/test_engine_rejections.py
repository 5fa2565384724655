"""A server that refuses: what is said of it, and which request it stops."""

import asyncio
from typing import Any

import pytest

from synth.llm.journal import Journal
from synth.records import BadReply, LLMError
from tests.chat_server import ChatServer, Fault
from tests.synth.llm.asking import asking, echo, engine_for


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
    [("86400", "wait 86400 s"), ("Wed, 21 Oct 2099 07:28:00 GMT", "wait 31536000 s"), ("1e9", "wait 31536000 s")],
)
async def test_a_spent_quota_ends_the_run_and_says_how_long_to_wait(
    retry_after: str, said: str, journal: Journal
) -> None:
    server = ChatServer(script=[Fault.REFUSED], retry_after=retry_after)
    async with server, engine_for(server, journal) as engine:
        with pytest.raises(LLMError, match=f"{said}, then run the same command"):
            await engine.complete(asking("hello"))
