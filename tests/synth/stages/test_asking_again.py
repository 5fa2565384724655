"""What the checks reject is asked for again, with what was found; nothing of it is paid for twice."""

import asyncio
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from synth.llm.ceilings import Ceilings
from synth.recipes.recipe import NewSample, Parsed
from synth.records import Classification, LLMError, ReviewEvent, Source, Sts, UserError, Verdict, new_id
from synth.stages.generate.asking import MOST_FRUITLESS
from synth.stages.generate.plan import plan_retry
from synth.store.connection import Store
from synth.store.console import query
from synth.store.reviews import add_reviews
from tests.chat_server import ChatServer
from tests.conftest import REPOSITORY
from tests.synth.stages.generating import asking
from tests.synth.stages.lines import CHOICE, IN_A_TONE, LINES, add_texts, saying, write

NEW = "SELECT text FROM samples WHERE operation = 'lines' ORDER BY text"
REFUSED = (400, {"error": {"message": "maximum context length is 10 tokens", "code": "context_length_exceeded"}})


@pytest.fixture
def texts(store: Store, training_source: Source) -> Store:
    """A store with a sample to start from."""
    add_texts(store, training_source, "alpha")
    return store


def later(body: dict[str, Any]) -> tuple[int, Any] | None:
    """A server that takes only what begins a conversation."""
    return REFUSED if len(body["messages"]) > 1 else None


def rows(store: Store, sql: str) -> list[dict[str, Any]]:
    return query(store, sql).to_pylist()


def made(store: Store) -> list[str]:
    return [row["text"] for row in rows(store, NEW)]


async def test_what_was_rejected_is_asked_for_again_with_what_was_found_until_there_is_enough(
    texts: Store, tmp_path: Path
) -> None:
    async with ChatServer(saying("one\nno two", "one\nno three", "two")) as server:
        outcome = await write(texts, tmp_path, server.base_url)
    assert (outcome.num_done, outcome.num_stored, outcome.num_short, made(texts)) == (1, 2, 0, ["one", "two"])
    assert outcome.rejections == {"refused": 2, "known": 1}
    first, second, third = (asked["messages"] for asked in server.asked)
    assert second[:2] == [*first, {"role": "assistant", "content": "one\nno two"}]
    assert '"no two": found: no two' in second[2]["content"] and "exactly 1 new" in second[2]["content"]
    assert third[:2] == [*first, {"role": "assistant", "content": "one\nno three"}]  # the last reply alone: no longer
    calls = rows(texts, "SELECT turn, outcome, reason FROM calls ORDER BY turn")
    assert [(call["turn"], call["outcome"]) for call in calls] == [(0, "used"), (1, "rejected"), (2, "used")]
    assert calls[1]["reason"] == "known, refused"


async def test_every_sample_and_every_rejection_leads_to_its_own_reply_prompt_and_seed(
    texts: Store, tmp_path: Path
) -> None:
    async with ChatServer(saying("one\nno two", "two")) as server:
        await write(texts, tmp_path, server.base_url)
    lineage = (
        "SELECT s.text, c.turn, p.text AS of FROM samples s JOIN calls c USING (call_id)"
        " JOIN lineage l ON l.revision_id = s.revision_id"
        " JOIN revisions p ON p.revision_id = l.parent_id AND p.revision_id = c.seed_id"
        f" WHERE s.prompt_version = '{LINES.prompt_version}' AND c.prompt_version = s.prompt_version ORDER BY c.turn"
    )
    one, two = rows(texts, lineage)
    assert one == {"text": "one", "turn": 0, "of": "alpha"} and two == {"text": "two", "turn": 1, "of": "alpha"}
    told = "SELECT r.text, c.turn, c.seed_id = r.seed_id AS same FROM rejections r JOIN calls c USING (call_id)"
    assert rows(texts, told) == [{"text": "no two", "turn": 0, "same": True}]


@pytest.mark.parametrize(
    ("replies", "max_tries", "num_asked", "num_rejected"),
    [
        (("one\nno 1", "no 2", "two"), 2, 2, 2),  # as many tries as were wanted
        (
            ("one", *(f"no {turn}" for turn in range(9))),
            None,
            1 + MOST_FRUITLESS,
            MOST_FRUITLESS,
        ),  # told what is wrong, in vain
        (("one", "one"), None, 3, 2),  # then it would be asked the same again
    ],
)
async def test_tries_end(
    texts: Store, tmp_path: Path, replies: tuple[str, ...], max_tries: int | None, num_asked: int, num_rejected: int
) -> None:
    async with ChatServer(saying(*replies)) as server:
        outcome = await write(texts, tmp_path, server.base_url, max_tries=max_tries)
    assert (len(server.asked), outcome.num_done, outcome.num_short, made(texts)) == (num_asked, 1, 1, ["one"])
    assert len(rows(texts, "FROM rejections")) == num_rejected


async def test_a_sample_of_which_nothing_was_accepted_is_done_and_not_asked_again(texts: Store, tmp_path: Path) -> None:
    async with ChatServer(saying(*(f"no {turn}" for turn in range(9)))) as server:
        outcome = await write(texts, tmp_path, server.base_url)
        assert (outcome.num_done, outcome.num_stored, outcome.num_short) == (1, 0, 1)
        assert len(rows(texts, "FROM rejections")) == len(server.asked) == MOST_FRUITLESS
        assert (await write(texts, tmp_path, server.base_url)).num_seeds == 0


async def test_with_more_tries_only_what_is_missing_is_asked_for(texts: Store, tmp_path: Path) -> None:
    async with ChatServer(saying("one", "no 1", "two")) as server:
        assert (await write(texts, tmp_path, server.base_url, max_tries=2)).num_short == 1
        outcome = await write(texts, tmp_path, server.base_url, max_tries=3)
    assert (outcome.num_done, outcome.num_short, outcome.usage.requests, len(server.asked)) == (1, 0, 1, 3)
    assert made(texts) == ["one", "two"]


async def test_a_try_that_can_never_be_answered_keeps_what_was_accepted_before(texts: Store, tmp_path: Path) -> None:
    async with ChatServer(saying("one"), error=later) as server:
        outcome = await write(texts, tmp_path, server.base_url)
    assert (outcome.num_done, outcome.num_short, outcome.failures, made(texts)) == (1, 1, {}, ["one"])


async def test_a_try_that_can_never_be_answered_leaves_a_sample_that_gave_nothing(texts: Store, tmp_path: Path) -> None:
    async with ChatServer(saying("no one"), error=later) as server:
        with pytest.raises(LLMError, match="not one of 1 samples"):
            await write(texts, tmp_path, server.base_url)
        outcome = await write(texts, tmp_path, server.base_url)
    [(kind, _)] = outcome.failures
    assert (kind, outcome.num_passed_over, len(server.asked)) == ("too_long", 1, 2)


async def test_a_server_that_breaks_in_a_later_try_leaves_the_sample_and_no_reply_is_bought_again(
    texts: Store, tmp_path: Path
) -> None:
    broken = {"now": True}

    def error(body: dict[str, Any]) -> tuple[int, Any] | None:
        return (500, {"error": "broken"}) if broken["now"] and len(body["messages"]) > 1 else None

    async with ChatServer(saying("one\nno two", "two"), error=error) as server:
        with pytest.raises(LLMError):
            await write(texts, tmp_path, server.base_url)
        assert made(texts) == [] and [row["turn"] for row in rows(texts, "FROM calls")] == [0]
        broken["now"], before = False, len(server.asked)
        outcome = await write(texts, tmp_path, server.base_url)
    assert [len(asked["messages"]) for asked in server.asked[before:]] == [3]
    assert (outcome.usage.requests, outcome.usage.replayed, made(texts), server.paid) == (1, 1, ["one", "two"], 2)
    assert [row["turn"] for row in rows(texts, "FROM calls ORDER BY turn")] == [0, 1]


async def test_a_sample_that_was_edited_since_it_failed_is_not_asked_about_as_it_was(
    texts: Store, tmp_path: Path
) -> None:
    async with ChatServer(lambda _: "?") as server:
        with pytest.raises(LLMError):
            await write(texts, tmp_path, server.base_url)
        with texts.read() as cursor:
            [(sample, revision)] = cursor.execute("SELECT sample_id, revision_id FROM samples").fetchall()
        edit = Classification("alpha, better said", "x")
        event = ReviewEvent(new_id(), "ann", sample, revision, Verdict.APPROVE, edited_id=new_id(), edit=edit)
        add_reviews(texts, [event])
        recipes = {(LINES.task, LINES.operation): LINES}
        with pytest.raises(UserError, match="none of what was left is a seed any more: it was edited"):
            plan_retry(texts, "last", (), asking(tmp_path, server.base_url), recipes)


async def test_a_ceiling_between_two_tries_keeps_what_was_accepted_and_leaves_the_rest_to_the_next_run(
    texts: Store, tmp_path: Path
) -> None:
    async with ChatServer(saying("one\nno two", "two")) as server:
        outcome = await write(texts, tmp_path, server.base_url, ceilings=Ceilings(max_requests=1))
        assert (outcome.exit_code, outcome.num_done, made(texts), server.paid) == (3, 0, ["one"], 1)
        outcome = await write(texts, tmp_path, server.base_url)
    assert (outcome.num_done, outcome.num_stored, made(texts), server.paid) == (1, 1, ["one", "two"], 2)
    assert rows(texts, "SELECT sum(cost) = (SELECT sum(cost) FROM calls) AS all FROM runs") == [{"all": True}]


async def test_a_stop_between_two_tries_leaves_the_sample_to_the_next_run(
    texts: Store, training_source: Source, tmp_path: Path
) -> None:
    add_texts(texts, training_source, "beta", "gamma")
    stop, say = asyncio.Event(), saying("one\nno two", "two")

    def reply(conversation: list[dict[str, str]]) -> str:
        stop.set()
        return say(conversation)

    async with ChatServer(reply, latency=0.1) as server:
        outcome = await write(texts, tmp_path, server.base_url, stop=stop)
        assert (outcome.exit_code, outcome.num_done, server.paid) == (130, 0, 1)
        outcome = await write(texts, tmp_path, server.base_url)
    assert (outcome.num_done, outcome.usage.replayed, server.paid) == (3, 1, 6)


async def test_a_store_that_lost_what_was_made_gets_it_from_the_journal_try_by_try(
    texts: Store, tmp_path: Path
) -> None:
    calls = "SELECT call_id, seed_id, turn, outcome, reason, cost FROM calls ORDER BY ALL"
    async with ChatServer(saying("one\nno two", "?", "no three", "two")) as server:
        await write(texts, tmp_path, server.base_url)
        before, num_paid = (made(texts), rows(texts, calls)), server.paid
        with texts.write() as cursor:  # as if killed between the last reply and the first lease
            for table in ("generated", "llm_call", "rejection"):
                cursor.execute(f"DELETE FROM {table}")
            cursor.execute("DELETE FROM sample_state WHERE operation = 'lines'")
            cursor.execute("DELETE FROM revision WHERE operation = 'lines'")
        outcome = await write(texts, tmp_path, server.base_url)
    assert before[0] == ["one", "two"] and (made(texts), rows(texts, calls)) == before
    assert (outcome.usage.requests, server.paid) == (0, num_paid)


WRITE = """
import asyncio, sys
from pathlib import Path
from synth.store.connection import Store
from tests.synth.stages.lines import write
asyncio.run(write(Store.open(Path(sys.argv[1])), Path(sys.argv[2]), sys.argv[3]))
"""


async def test_a_run_killed_between_tries_buys_at_most_what_was_in_flight_again(
    texts: Store, training_source: Source, tmp_path: Path
) -> None:
    add_texts(texts, training_source, "beta", "gamma", "delta", "epsilon", "zeta")

    def reply(conversation: list[dict[str, str]]) -> str:  # the same to the same request, as often as it is sent
        about, found = conversation[0]["content"].split()[-1], conversation[-1]["content"]
        if len(conversation) == 1:
            return f"one {about}\nno two"
        return "no three" if "no two" in found else f"two {about}"

    async with ChatServer(reply, latency=0.05) as server:
        for num_paid in (4, 10):
            arguments = ("-c", WRITE, str(texts.path), str(tmp_path), server.base_url)
            process = await asyncio.create_subprocess_exec(sys.executable, *arguments, cwd=REPOSITORY)
            while server.paid < num_paid:
                assert process.returncode is None
                await asyncio.sleep(0.01)
            process.kill()
            await process.wait()
        await write(texts, tmp_path, server.base_url)
    assert len(made(texts)) == 12 and 18 <= server.paid <= 18 + 2  # one is in flight at a time
    assert rows(texts, "SELECT count(*) AS n FROM generations") == [{"n": 6}]


async def test_facts_that_a_first_request_decides_stand_in_the_second(texts: Store, tmp_path: Path) -> None:
    def reply(conversation: list[dict[str, str]]) -> str:
        if not conversation[0]["content"].startswith(CHOICE):
            return "one\ntwo"
        return "grave" if len(conversation) > 1 else "any"

    async with ChatServer(reply) as server:
        outcome = await write(texts, tmp_path, server.base_url, IN_A_TONE)
    contents = [asked["messages"][-1]["content"] for asked in server.asked]
    assert "it names no tone" in contents[1] and contents[2].endswith("The tone is grave.")
    assert (outcome.num_done, made(texts)) == (1, ["one", "two"])
    calls = rows(texts, "SELECT outcome, repaired, turn, prompt_version FROM calls ORDER BY created_at, call_id")
    assert sorted((call["outcome"], call["repaired"]) for call in calls) == [
        ("unusable", ""),
        ("used", ""),
        ("used", "asked again"),
    ]
    assert {call["turn"] for call in calls} == {0}
    assert {call["prompt_version"] for call in calls} == {IN_A_TONE.prompt_version} != {LINES.prompt_version}


async def test_facts_that_never_come_leave_the_sample(texts: Store, tmp_path: Path) -> None:
    async with ChatServer(lambda _: "any") as server:
        with pytest.raises(LLMError, match="nor is the one to a second request: it names no tone"):
            await write(texts, tmp_path, server.base_url, IN_A_TONE)
    assert len(server.asked) == 2


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (NewSample(Classification(" ", "x")), "leaves a text empty"),
        (NewSample(Classification("half \ud800", "x")), "holds something that is no Unicode text"),
        (NewSample(Sts("a", "b", 1.0)), "is no sample of classification"),
    ],
)
async def test_what_a_recipe_makes_and_no_store_can_take_ends_the_run_in_a_line(
    texts: Store, tmp_path: Path, made: NewSample, said: str
) -> None:
    recipe = replace(LINES, parse=lambda reply_text, seed, brief: Parsed([made], []))
    async with ChatServer(saying("one\ntwo")) as server:
        with pytest.raises(UserError, match=f"the recipe lines makes what {said}; the reply is kept"):
            await write(texts, tmp_path, server.base_url, recipe=recipe)


async def test_no_more_is_taken_of_a_reply_than_was_asked_for(texts: Store, tmp_path: Path) -> None:
    async with ChatServer(saying("one\ntwo\nthree\nfour")) as server:
        outcome = await write(texts, tmp_path, server.base_url)
    assert (outcome.num_stored, made(texts)) == (2, ["one", "two"])
