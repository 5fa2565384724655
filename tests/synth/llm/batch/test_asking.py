"""An engine, its desks and its budget together: what is handed in, what it costs, what is asked online."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from synth.llm.account import Account
from synth.llm.batch import asking as asking_module
from synth.llm.batch import steps
from synth.llm.batch.asking import MOST_ROUNDS, Asked, ask_in_batches, refuse_pending
from synth.llm.batch.watch import cancel_batch
from synth.llm.budget import Budget
from synth.llm.ceilings import Ceilings
from synth.llm.config import Endpoint, LLMConfig
from synth.llm.engine import Engine
from synth.llm.journal import Journal
from synth.llm.prompt_size import most_tokens
from synth.records import BudgetSpent, LLMError, Stopped, UserError, key_of, new_id
from tests.batch_server import BatchServer, Fate, Trouble
from tests.chat_server import ChatServer
from tests.synth.llm.asking import asking, config_for, echo
from tests.synth.llm.batch.batches import AT_ONCE, batches_of

PRICES = {"price_in": 1.0, "price_out": 2.0, "batch_price_in": 0.5, "batch_price_out": 1.0}
KEY = "sk-the-key-of-this-server-0123456789"
Lines = list[bytes]


def questions(number: int) -> Callable[[], Iterator[Asked]]:
    return lambda: (Asked(asking(f"text {n:04}"), 0, None, key_of("seed", n)) for n in range(number))


MOST_PROMPT = most_tokens(asking("text 0000"))


@asynccontextmanager
async def opened(
    server: ChatServer,
    journal: Journal,
    *,
    ceilings: Ceilings | None = None,
    notes: list[str] | None = None,
    **settings: Any,
) -> AsyncIterator[Engine]:
    budget = Budget(ceilings or Ceilings())
    config = config_for(server, max_tokens=100, **PRICES | settings)
    on_note = (notes if notes is not None else []).append
    async with Engine(config, journal, budget=budget, on_note=on_note) as engine:
        yield engine


async def ask(engine: Engine, journal: Journal, number: int, *, ceilings: Ceilings | None = None) -> list[str]:
    """Ask so many questions in batches; returns the states that were told."""
    states: list[str] = []
    folder = batches_of(journal)
    await ask_in_batches(engine, questions(number), folder, ceilings=ceilings or Ceilings(), state=states.append)
    return states


async def replies_to(engine: Engine, number: int) -> int:
    """How many get a reply when they are asked as a stage asks them."""
    asked = (engine.complete(each.messages, seed_id=each.seed_id) for each in questions(number)())
    return len(await asyncio.gather(*asked))


async def until(condition: Callable[[], object], *, seconds: float = 0.01) -> None:
    for _ in range(5000):
        if condition():
            return
        await asyncio.sleep(seconds)
    raise AssertionError("it never came to that")


def without_usage(lines: Lines) -> Lines:
    found = [json.loads(line) for line in lines]
    for each in found:
        del each["response"]["body"]["usage"]
    return [json.dumps(each).encode() for each in found]


async def test_calls_counts_and_budget_say_what_the_server_says(journal: Journal) -> None:
    async with BatchServer(reply=echo) as server, opened(server, journal) as engine:
        await ask(engine, journal, 30)
        assert await replies_to(engine, 30) == server.paid == 30
        usage, spent, receipts = engine.usage, engine.budget.spent, engine.take_receipts()
    assert (usage.requests, usage.replies, usage.lost) == (30, 30, 0)
    assert usage.cost == spent.cost == pytest.approx(sum(receipt.reply.cost or 0.0 for receipt in receipts))
    assert usage.tokens_in + usage.tokens_out == spent.tokens and spent.requests == 30
    assert {receipt.seed_id for receipt in receipts} == {key_of("seed", n) for n in range(30)}
    assert usage.cost == pytest.approx((usage.tokens_in * 0.5 + usage.tokens_out * 1.0) / 1e6)


async def test_replies_without_usage_count_as_the_most_that_they_can_take(journal: Journal) -> None:
    ceilings, notes = Ceilings(max_tokens=10 * (MOST_PROMPT + 100)), []
    async with (
        BatchServer(reply=echo, results=without_usage) as server,
        opened(server, journal, ceilings=ceilings, notes=notes) as engine,
    ):
        with pytest.raises(BudgetSpent, match="--max-tokens"):
            await ask(engine, journal, 40)
        assert server.paid == 10 and engine.budget.spent.lost_tokens == ceilings.max_tokens
        assert any("does not say" in note for note in notes)


async def test_a_reply_that_must_not_be_kept_is_paid_for_and_has_a_receipt(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    notes: list[str] = []
    ceilings = Ceilings(max_cost=1.0)
    async with (
        BatchServer(reply=lambda _: f"it is {KEY}", key=KEY) as server,
        opened(server, journal, ceilings=ceilings, notes=notes) as engine,
    ):
        await ask(engine, journal, 4)
        spent, receipts = engine.budget.spent, engine.take_receipts()
        assert server.paid == 4 and len(journal) == 0
    assert spent.cost == engine.usage.cost and spent.cost == sum(receipt.reply.cost or 0.0 for receipt in receipts) > 0
    assert {(receipt.fault, receipt.reply.batch, receipt.attempt) for receipt in receipts} == {
        ("unusable", "batch_0", 0)
    }
    assert {receipt.seed_id for receipt in receipts} == {key_of("seed", n) for n in range(4)}
    assert (engine.usage.requests, spent.requests, engine.usage.replies) == (4, 4, 0)


async def test_replies_that_the_server_counts_and_does_not_hand_out_are_lost(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(steps, "MOST_LOOKS", 1)
    async with (
        BatchServer(reply=echo, results=lambda lines: lines[:3]) as server,
        opened(server, journal) as engine,
    ):
        await ask(engine, journal, 5)
        assert (engine.usage.replies, engine.usage.lost) == (3, 2)
        assert engine.usage.lost_tokens == 2 * (MOST_PROMPT + 100)


async def test_a_ceiling_makes_a_handful_of_batches_and_says_so(journal: Journal) -> None:
    notes: list[str] = []
    ceilings = Ceilings(max_tokens=40 * (MOST_PROMPT + 100))
    async with BatchServer(reply=echo) as server, opened(server, journal, ceilings=ceilings, notes=notes) as engine:
        with pytest.raises(BudgetSpent) as raised:
            await ask(engine, journal, 2000, ceilings=ceilings)
        spent = engine.budget.spent
        assert str(raised.value) == (
            "batches were waited for 5 times after one another, as often as one run does;"
            f" {spent.tokens:,} tokens of --max-tokens {ceilings.max_tokens:,} are spent, and more requests fit: the"
            " same command goes on as it is"
        )
        assert len(server.batches) == MOST_ROUNDS
        assert len(server.batches[0].lines) == 40 and server.paid == sum(len(each.lines) for each in server.batches)
        assert server.paid == spent.requests == engine.usage.requests and spent.in_flight_tokens == 0
        assert spent.tokens <= 40 * (MOST_PROMPT + 100)
    assert [note for note in notes if note.startswith("40 of 2,000 requests fit below the ceiling in the worst case")]


async def test_a_batch_that_is_far_smaller_than_the_first_is_not_handed_in(journal: Journal) -> None:
    def dear(lines: Lines) -> Lines:
        """What each took is all that could be set aside for it, but for a little."""
        found = [json.loads(line) for line in lines]
        for each in found:
            each["response"]["body"]["usage"] = {"prompt_tokens": MOST_PROMPT - 10, "completion_tokens": 95}
        return [json.dumps(each).encode() for each in found]

    ceilings = Ceilings(max_cost=1.0, max_tokens=40 * (MOST_PROMPT + 100))
    async with BatchServer(reply=echo, results=dear) as server, opened(server, journal, ceilings=ceilings) as engine:
        with pytest.raises(
            BudgetSpent,
            match=r"^only [1-3] more fit below the ceiling now, .*: too few for another batch, .*; \$0\.0[\d]+ of"
            r" --max-cost \$1\.00 and [\d,]+ tokens of --max-tokens [\d,]+ are spent; raise --max-cost or",
        ):
            await ask(engine, journal, 100, ceilings=ceilings)
        assert len(server.batches) == 1 and engine.budget.spent.requests == 40


async def test_the_last_few_requests_are_handed_in_however_few(journal: Journal) -> None:
    ceilings = Ceilings(max_tokens=40 * (MOST_PROMPT + 100))
    async with BatchServer(reply=echo) as server, opened(server, journal, ceilings=ceilings) as engine:
        await ask(engine, journal, 42)
        assert [len(batch.lines) for batch in server.batches] == [40, 2]


async def test_what_a_batch_does_not_answer_is_said_with_the_price_at_which_it_is_asked_online(
    journal: Journal,
) -> None:
    notes: list[str] = []
    async with (
        BatchServer(reply=echo, fates=[Fate.EXPIRED]) as server,
        opened(server, journal, notes=notes) as engine,
    ):
        await ask(engine, journal, 10)
        assert (engine.usage.requests, engine.budget.spent.requests) == (5, 5)
        assert await replies_to(engine, 10) == server.paid == 10
        assert engine.usage.requests == engine.budget.spent.requests == 10
    assert notes == [
        "5 requests of 10 got no reply in a batch (5 expired): asked online now, at $1.00 (prompts) and $2.00 (replies)"
        " per million tokens of test-model"
    ]


async def test_what_a_batch_of_an_earlier_run_does_not_answer_is_handed_in_again(journal: Journal) -> None:
    async with BatchServer(reply=echo, lasts={"in_progress": 60}) as server:
        await hand_in_and_stop(server, journal, 10)
        server.batches[0].cancelled = time.monotonic()
        server.let_end()
        notes: list[str] = []
        async with opened(server, journal, notes=notes) as engine:
            await ask(engine, journal, 10)
            assert engine.usage.requests == server.paid == len(journal) == 10 and not notes
        assert [len(batch.lines) for batch in server.batches] == [10, 10]


async def hand_in_and_stop(server: BatchServer, journal: Journal, number: int, **settings: Any) -> Engine:
    async with opened(server, journal, **settings) as engine:
        asked = asyncio.create_task(ask(engine, journal, number))
        await until(lambda: server.batches)
        await asyncio.sleep(0.05)
        engine.stop()
        with pytest.raises(Stopped, match="1 batch goes on at"):
            await asked
    return engine


async def test_a_run_that_stops_has_sent_nothing_and_the_one_that_fetches_has_paid(journal: Journal) -> None:
    async with BatchServer(reply=echo, lasts={"in_progress": 60}) as server:
        first = await hand_in_and_stop(server, journal, 10)
        assert (first.usage.requests, first.usage.replies, first.usage.cost) == (0, 0, 0.0)
        server.let_end()
        async with opened(server, journal, ceilings=Ceilings(max_requests=12)) as engine:
            await ask(engine, journal, 12)
            assert engine.usage.requests == engine.budget.spent.requests == server.paid == 12


@pytest.mark.parametrize("point", ["upload", "create", "created", "look", "download"])
async def test_a_stop_is_heard_wherever_the_server_hangs_and_nothing_is_bought_twice(
    journal: Journal, point: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(steps, "GRACE_SECONDS", 0.1)
    monkeypatch.setattr(asking_module, "POLL_SECONDS", AT_ONCE)
    async with BatchServer(reply=echo, troubles={point: [Trouble.HANGS]}) as server:
        async with opened(server, journal) as engine:
            asked = asyncio.create_task(ask(engine, journal, 6))
            await server.reached[point].wait()
            started = time.monotonic()
            engine.stop()
            with pytest.raises(Stopped):
                await asked
            assert time.monotonic() - started < 1
        async with opened(server, journal) as engine:
            await ask(engine, journal, 6)
            assert await replies_to(engine, 6) == 6
        assert set(server.bought.values()) == {1} and len(server.bought) == 6


async def test_a_stop_while_requests_are_written_leaves_nothing_pending(journal: Journal) -> None:
    async with BatchServer(reply=echo) as server, opened(server, journal) as engine:
        asked = asyncio.create_task(ask(engine, journal, 20_000))
        await until(lambda: list(batches_of(journal).glob("*/*.jsonl")), seconds=0)
        engine.stop()
        with pytest.raises(Stopped, match="no batch is under way"):
            await asked
        assert not server.batches
        refuse_pending(batches_of(journal), engine)


async def test_what_was_fetched_before_a_stop_is_counted(journal: Journal) -> None:
    async with BatchServer(reply=echo, models=["a", "b"], lasts={"in_progress": 60}) as server:
        async with opened(server, journal, model="a") as engine:
            asked = asyncio.create_task(ask(engine, journal, 3))
            await until(lambda: server.batches)
            engine.stop()
            with pytest.raises(Stopped):
                await asked
        server.batches[0].created -= 100
        async with opened(server, journal, model="a") as engine:
            asked = asyncio.create_task(ask(engine, journal, 6))
            await until(lambda: len(server.batches) == 2 and len(journal) == 3)
            engine.stop()
            with pytest.raises(Stopped, match="3 requests"):
                await asked
            assert engine.usage.replies == engine.usage.requests == 3
            assert engine.budget.spent.tokens == engine.usage.tokens_in + engine.usage.tokens_out > 0


@pytest.mark.parametrize("in_batches", [True, False])
async def test_what_cancel_has_fetched_is_counted_by_the_next_run_and_once(journal: Journal, in_batches: bool) -> None:
    async with BatchServer(reply=echo, lasts={"in_progress": 60}) as server:
        first = await hand_in_and_stop(server, journal, 10)
        server.let_end()
        cancelled = await cancel_batch(batches_of(journal), first.config.endpoints, "batch_0", journal.folder)
        assert cancelled is not None and cancelled.cost
        for cost, requests in ((cancelled.cost, 10), (0.0, 0)):
            notes: list[str] = []
            with Journal(journal.folder) as later:
                async with opened(server, later, ceilings=Ceilings(max_cost=1.0), notes=notes) as engine:
                    if in_batches:
                        await ask(engine, later, 10)
                    else:
                        refuse_pending(batches_of(later), engine)
                    assert await replies_to(engine, 10) == server.paid == 10
                    usage, spent = engine.usage, engine.budget.spent
            assert usage.cost == spent.cost == pytest.approx(cost)
            assert usage.requests == usage.replies == spent.requests == requests
            assert [
                note.endswith("of batch batch_0, which was fetched before, are counted in this run") for note in notes
            ] == [True] * bool(cost)


async def test_what_was_fetched_by_a_run_that_was_killed_before_it_counted_it_is_counted_by_the_next(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    def killed(*_: object) -> None:
        raise Killed

    async with BatchServer(reply=echo) as server:
        with monkeypatch.context() as patched:
            patched.setattr(asking_module._Rounds, "_book", killed)
            async with opened(server, journal) as engine:
                with pytest.raises(Killed):
                    await ask(engine, journal, 10)
                assert (len(journal), engine.usage.requests) == (10, 0)
        async with opened(server, journal) as engine:
            await ask(engine, journal, 10)
            assert engine.usage.requests == engine.budget.spent.requests == server.paid == 10
            assert engine.usage.cost == engine.budget.spent.cost and engine.budget.spent.cost


async def test_what_a_run_has_counted_is_not_counted_by_the_next(journal: Journal) -> None:
    async with BatchServer(reply=echo) as server:
        for requests in (10, 0):
            async with opened(server, journal) as engine:
                await ask(engine, journal, 10)
                assert engine.usage.requests == engine.budget.spent.requests == requests


async def test_the_account_of_a_run_counts_what_its_batches_took(journal: Journal) -> None:
    with Account(journal.folder, key_of("a stage"), new_id(), at_once=True) as account:
        budget = Budget(Ceilings(max_tokens=10**6), account=account)
        async with (
            BatchServer(reply=echo, fates=[Fate.EXPIRED]) as server,
            Engine(config_for(server, max_tokens=100, **PRICES), journal, budget=budget) as engine,
        ):
            await ask(engine, journal, 10)
    totals, spent = account.totals, budget.spent
    assert (totals.requests, totals.tokens, totals.in_flight_tokens) == (spent.requests, spent.tokens, 0)
    assert totals.requests == server.paid == 5


async def test_online_a_pending_batch_is_refused_however_the_address_is_written(journal: Journal) -> None:
    async with BatchServer(reply=echo, lasts={"in_progress": 60}) as server:
        await hand_in_and_stop(server, journal, 3)
        for base_url in (server.base_url, f"{server.base_url}/", "http://elsewhere.example/v1"):
            async with opened(server, journal, base_url=base_url) as engine:
                with pytest.raises(UserError, match="3 requests for model test-model are in batch batch_0 at"):
                    refuse_pending(batches_of(journal), engine)
        async with opened(server, journal, model="another") as engine:
            refuse_pending(batches_of(journal), engine)


async def test_a_batch_is_taken_up_at_an_address_with_a_slash_and_not_bought_again_at_another(journal: Journal) -> None:
    async with BatchServer(reply=echo, lasts={"in_progress": 60}) as server, BatchServer(reply=echo) as other:
        await hand_in_and_stop(server, journal, 3)
        async with opened(other, journal) as engine:
            with pytest.raises(UserError, match=r"are in batch batch_0 at .*: name that address"):
                await ask(engine, journal, 3)
        server.let_end()
        async with opened(server, journal, base_url=f"{server.base_url}/") as engine:
            await ask(engine, journal, 3)
        assert (server.paid, len(server.batches), other.paid, len(journal)) == (3, 1, 0, 3)


async def test_batches_at_another_endpoint_of_the_same_model_are_fetched_too(journal: Journal) -> None:
    async with BatchServer(reply=echo, lasts={"in_progress": 60}) as second, BatchServer(reply=echo) as first:
        await hand_in_and_stop(second, journal, 3)
        second.let_end()
        endpoints = tuple(Endpoint(each.base_url, "test-model") for each in (first, second))
        async with Engine(LLMConfig(endpoints), journal) as engine:
            await ask(engine, journal, 0)
        assert len(journal) == 3 and not first.batches


async def test_a_server_without_batches_leaves_the_budget_as_it_was(journal: Journal) -> None:
    async with ChatServer(echo) as server, opened(server, journal) as engine:
        with pytest.raises(LLMError, match="has no Batch API"):
            await ask(engine, journal, 3)
        spent = engine.budget.spent
        assert (spent.tokens, spent.requests, spent.in_flight_tokens) == (0, 0, 0)


async def test_batches_without_a_price_leave_the_cost_unknown(journal: Journal) -> None:
    unpriced = {"batch_price_in": None, "batch_price_out": None}
    async with BatchServer(reply=echo) as server, opened(server, journal, **unpriced) as engine:
        await ask(engine, journal, 3)
        assert engine.usage.replies == 3 and engine.usage.cost is None
