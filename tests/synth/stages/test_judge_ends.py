"""A judge's run that fails or ends early: what was said is kept, and nothing is paid for twice."""

import asyncio
import json
from pathlib import Path

import pytest

from synth.llm.ceilings import Ceilings
from synth.records import LLMError, Retrieval
from synth.stages.judge.run import judge_samples
from synth.store.connection import Store
from synth.store.console import query
from tests.chat_server import ChatServer, Fault, Messages
from tests.synth.stages.judging import GRADES, SAMPLES, by_the_rule, fill, grades, plan, run, said, shown
from tests.synth.stages.releasing import add, give_negatives, source


@pytest.fixture
def filled(store: Store) -> Store:
    fill(store)
    return store


async def test_what_a_reply_leaves_out_is_asked_for_once_and_then_left(filled: Store, tmp_path: Path) -> None:
    def forgetful(messages: Messages) -> str:
        _, passages = shown(messages)
        said = grades(passages)
        if len(messages) == 2:  # the first request: one is forgotten
            return json.dumps({"grades": said[1:]})
        assert "there is no grade for 1 of " in messages[-1]["content"]
        return json.dumps({"grades": said if "艾" not in str(passages) else said[1:]}, ensure_ascii=False)

    async with ChatServer(forgetful) as server:
        outcome = await run(filled, plan(filled, tmp_path, server.base_url))
        assert (outcome.num_done, server.paid) == (2, 6)
        [((kind, reason), number)] = outcome.failures.items()
        assert (kind, number) == ("unusable", 1) and "no grade for 1 of 3 passages" in reason
        passed_over = await run(filled, plan(filled, tmp_path, server.base_url))
        assert (passed_over.num_seeds, passed_over.num_passed_over, server.paid) == (1, 1, 6)
    async with ChatServer(by_the_rule) as server:
        await run(filled, plan(filled, tmp_path, server.base_url, again=True))
        assert server.paid == 1
    assert said(filled) == GRADES
    outcomes = query(filled, "SELECT outcome, repaired, count(*) AS n FROM calls GROUP BY ALL ORDER BY ALL").to_pylist()
    assert [tuple(row.values()) for row in outcomes] == [
        ("unusable", "", 3),
        ("unusable", "asked again", 1),
        ("used", "", 1),
        ("used", "asked again", 2),
    ]


async def test_again_asks_about_what_got_no_usable_reply_and_about_nothing_else(filled: Store, tmp_path: Path) -> None:
    left = "earlier runs with these settings left nothing"
    async with ChatServer(by_the_rule, script=[None], faults={Fault.BROKEN: 1.0}) as server:
        await run(filled, plan(filled, tmp_path, server.base_url, concurrency=1, max_retries=1))
    add(filled, source(filled), Retrieval("who is new?", ("I am.",)))
    broken = plan(filled, tmp_path, server.base_url, again=True)
    assert sorted(broken.attempts.values()) == [0, 0]  # such a request may be served as it is
    assert plan(filled, tmp_path, server.base_url, again=True, limit=1).seeds == broken.seeds[:1]
    async with ChatServer(lambda _: "no") as server:
        await run(filled, plan(filled, tmp_path, server.base_url, again=True, limit=1))
    async with ChatServer(by_the_rule) as server:
        anew = plan(filled, tmp_path, server.base_url, again=True)
        assert (sorted(anew.attempts.values()), sorted(anew.seeds)) == ([0, 1], sorted(broken.seeds))
        assert (await run(filled, anew)).num_done == 2 and server.paid == 2
        assert "I am." not in said(filled)
        mined = [asked for asked, passages in SAMPLES.items() if set(passages) <= set(said(filled))]
        for asked in mined:  # what was graded since is not what was left
            give_negatives(filled, asked, [("Mined since.", "mined", 9)])
        nothing = plan(filled, tmp_path, server.base_url, again=True)
        assert (list(nothing.seeds), nothing.nothing) == ([], left)
        others = plan(filled, tmp_path, server.base_url)
    assert (len(others.seeds), others.nothing) == (4, "")


async def test_what_was_graded_in_part_before_a_failure_is_left(store: Store, tmp_path: Path) -> None:
    add(store, source(store), Retrieval("which is it?", ("This.",)))
    give_negatives(store, "which is it?", [(f"Passage number {n}.", "mined", n + 1) for n in range(30)])
    asked: list[Messages] = []

    def first_alone(messages: Messages) -> str:
        asked.append(messages)
        return by_the_rule(messages) if len(asked) == 1 else "no"

    async with ChatServer(first_alone) as server:
        await run(store, plan(store, tmp_path, server.base_url))
    assert 0 < len(said(store)) < 31
    async with ChatServer(by_the_rule) as server:
        await run(store, plan(store, tmp_path, server.base_url, again=True))
    assert len(said(store)) == 31


async def test_of_several_requests_those_that_were_answered_are_stored_and_no_other_is_asked_for_again(
    store: Store, tmp_path: Path
) -> None:
    add(store, source(store), Retrieval("which is it?", ("This.",)))
    give_negatives(store, "which is it?", [(f"Passage number {n}.", "mined", n + 1) for n in range(61)])
    bad = {"Passage number 7.", "Passage number 8."}

    def two_are_bad(messages: Messages) -> str:
        return "no" if bad & set(shown(messages)[1].values()) else by_the_rule(messages)

    async with ChatServer(two_are_bad) as server:
        outcome = await run(store, plan(store, tmp_path, server.base_url))
        first = server.paid
        assert sum(outcome.failures.values()) == 1 and outcome.num_judgements == len(said(store))
        again = await run(store, plan(store, tmp_path, server.base_url))
        assert (server.paid, again.num_judgements, again.num_passed_over) == (first, 0, 1)
    num_left = 62 - len(said(store))
    async with ChatServer(by_the_rule) as server:
        outcome = await run(store, plan(store, tmp_path, server.base_url, again=True))
        num_bad = first - 4  # of each bad one a second request was made
        assert (outcome.num_judgements, server.paid) == (num_left, num_bad)
    assert num_bad == 2 and num_left in (30, 31, 32) and len(said(store)) == 62


async def test_a_ceiling_between_two_requests_keeps_what_the_first_gave(store: Store, tmp_path: Path) -> None:
    add(store, source(store), Retrieval("which is it?", ("This.",)))
    give_negatives(store, "which is it?", [(f"Passage number {n}.", "mined", n + 1) for n in range(30)])
    async with ChatServer(by_the_rule) as server:
        made = plan(store, tmp_path, server.base_url, ceilings=Ceilings(max_requests=1))
        outcome = await run(store, made)
        assert (outcome.exit_code, outcome.num_done, outcome.num_judgements) == (3, 0, len(said(store)))
        assert 0 < len(said(store)) < 31
        await run(store, plan(store, tmp_path, server.base_url))
    assert (len(said(store)), server.paid) == (31, 2)


async def test_a_ceiling_ends_the_run_and_the_next_one_goes_on(filled: Store, tmp_path: Path) -> None:
    async with ChatServer(by_the_rule) as server:
        made = plan(filled, tmp_path, server.base_url, ceilings=Ceilings(max_requests=2), concurrency=1)
        outcome = await run(filled, made)
        assert (outcome.exit_code, outcome.num_done, server.paid) == (3, 2, 2) and "--max-requests" in outcome.ended
        assert (await run(filled, plan(filled, tmp_path, server.base_url))).num_done == 1
    assert said(filled) == GRADES and server.paid == 3
    assert not list((tmp_path / "journal").glob("*.account"))


async def test_ctrl_c_finishes_what_is_in_flight(filled: Store, tmp_path: Path) -> None:
    stop = asyncio.Event()

    def stopping(messages: Messages) -> str:
        stop.set()
        return by_the_rule(messages)

    async with ChatServer(stopping, latency=0.05) as server:
        outcome = await judge_samples(filled, plan(filled, tmp_path, server.base_url, concurrency=1), stop=stop)
    assert (outcome.exit_code, outcome.num_done, server.paid) == (130, 1, 1)
    assert query(filled, "SELECT status FROM runs").to_pylist() == [{"status": "stopped"}]


async def test_a_server_that_breaks_costs_nothing_twice(filled: Store, tmp_path: Path) -> None:
    async with ChatServer(by_the_rule, script=[None], faults={Fault.BROKEN: 1.0}) as server:
        outcome = await run(filled, plan(filled, tmp_path, server.base_url, concurrency=1, max_retries=1))
        assert (outcome.num_done, sum(outcome.failures.values()), server.paid) == (1, 2, 1)
    with filled.write() as cursor:  # as if killed before anything was stored
        cursor.execute("DELETE FROM judgement")
    async with ChatServer(by_the_rule) as server:
        await run(filled, plan(filled, tmp_path, server.base_url))
    assert server.paid == 2 and said(filled) == GRADES


async def test_no_server_is_an_error_and_what_came_before_it_is_stored(filled: Store, tmp_path: Path) -> None:
    async with ChatServer(by_the_rule) as server:
        await run(filled, plan(filled, tmp_path, server.base_url, limit=1))
    with pytest.raises(LLMError):
        await run(filled, plan(filled, tmp_path, "http://127.0.0.1:9/v1", max_retries=0))
    assert 3 <= len(said(filled)) <= 4


async def test_a_reply_that_is_cut_says_what_to_raise(filled: Store, tmp_path: Path) -> None:
    async with ChatServer(by_the_rule, faults={Fault.CUT_REPLY: 1.0}) as server:
        with pytest.raises(LLMError, match="raise max_tokens"):
            await run(filled, plan(filled, tmp_path, server.base_url))
    assert said(filled) == {}
