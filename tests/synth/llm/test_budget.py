"""The budget: what is spent and in flight never passes a ceiling, and nobody waits for nothing."""

import asyncio
import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

from synth.llm.budget import Budget, dollars
from synth.llm.ceilings import Ceilings
from synth.llm.config import Endpoint
from synth.llm.prompt_size import MESSAGE_TOKENS, REQUEST_TOKENS, most_tokens
from synth.records import BudgetSpent, UserError
from tests.synth.llm.budgeting import in_time, settled, soon


@pytest.mark.parametrize("most", [0, -1, math.nan, math.inf])
@pytest.mark.parametrize("name", ["max_cost", "max_tokens", "max_requests"])
def test_a_ceiling_is_a_number_above_zero(name: str, most: float) -> None:
    with pytest.raises(UserError, match=f"--{name.replace('_', '-')} must be more than 0"):
        Ceilings(**{name: most})


@pytest.mark.parametrize("name", ["max_cost", "max_tokens", "max_requests"])
def test_a_ceiling_that_no_run_could_reach_is_refused(name: str) -> None:
    for most in (1e300, 10**40):
        with pytest.raises(UserError, match=r"and at most 1,000,000,000,000(,000)?; leave it out"):
            Ceilings(**{name: most})
    Ceilings(max_cost=1e12, max_tokens=10**15, max_requests=10**15)


def test_a_ceiling_on_money_needs_every_price() -> None:
    priced = Endpoint("http://localhost:1/v1", "priced", price_in=0.0, price_out=0.0)
    unpriced = Endpoint("http://localhost:2/v1", "unpriced", batch_price_in=1.0, batch_price_out=1.0)
    Ceilings(max_cost=1.0).check_prices([priced])
    Ceilings(max_tokens=1).check_prices([priced, unpriced])
    with pytest.raises(UserError, match=r"price of unpriced at .*price_in and price_out.*never guessed"):
        Ceilings(max_cost=1.0).check_prices([priced, unpriced])
    Ceilings(max_cost=1.0).check_prices([unpriced], batch=True)
    with pytest.raises(UserError, match="batch_price_in"):
        Ceilings(max_cost=1.0).check_prices([priced], batch=True)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"base_url": "http://a/v1", "model": "small", "price_in": 1.0}, "price of small at http://a/v1, which holds"),
        (
            {"price_in": 1.0, "endpoints": [{"base_url": "http://a/v1", "model": "one"}, {"model": "two"}]},
            "price of one at http://a/v1, two at None, which holds",
        ),
        ({"model": "small", "batch_price_in": 1.0}, "several models; prices are never guessed"),
        ({}, "several models; prices are never guessed"),
    ],
)
def test_a_price_that_is_missing_is_told_beside_those_that_are_stated(settings: dict[str, object], said: str) -> None:
    with pytest.raises(UserError, match=f"price of large at .*{said}"):
        Ceilings(max_cost=1.0).check_prices([Endpoint("http://localhost:2/v1", "large")], settings=settings)


async def test_without_ceilings_all_is_let_through_and_counted() -> None:
    budget = Budget(Ceilings())
    held = [await budget.reserve(tokens=10**9, cost=1e6) for _ in range(3)]
    held[0].settle(100, 0.25)
    held[1].lose()
    spent = budget.spent
    assert (spent.tokens, spent.cost, spent.requests) == (100, 0.25, 3)
    assert (spent.lost_tokens, spent.lost_cost) == (10**9, 1e6)
    assert (spent.in_flight_tokens, spent.in_flight_cost) == (10**9, 1e6)
    assert not budget.notes


async def test_without_prices_costs_are_unknown() -> None:
    budget = Budget(Ceilings(max_tokens=100))
    (await budget.reserve(tokens=60, cost=None)).settle(50, None)
    assert budget.spent.tokens == 50
    assert budget.spent.cost is budget.spent.lost_cost is budget.spent.in_flight_cost is None


async def test_what_does_not_fit_beside_what_is_in_flight_waits() -> None:
    budget = Budget(Ceilings(max_tokens=100))
    first = await budget.reserve(tokens=60, cost=0)
    second = await soon(budget, 60)
    assert not second.done()
    first.settle(40, 0)
    (await in_time(second)).settle(60, 0)
    assert budget.spent.tokens == 100 and budget.spent.in_flight_tokens == 0


async def test_what_was_released_costs_nothing() -> None:
    budget = Budget(Ceilings(max_cost=1.0))
    first = await budget.reserve(tokens=1, cost=1.0)
    second = await soon(budget, 1, 1.0)
    first.release()
    await in_time(second)
    assert budget.spent.cost == 0 and budget.spent.requests == 2


async def test_a_request_that_was_never_sent_is_not_counted() -> None:
    budget = Budget(Ceilings(max_requests=1))
    (await budget.reserve(tokens=1, cost=0)).release(sent=False)
    await settled(budget, 1)
    assert budget.spent.requests == 1


async def test_nobody_overtakes_those_that_wait() -> None:
    budget = Budget(Ceilings(max_tokens=100))
    held = await budget.reserve(tokens=50, cost=0)
    large, small = await soon(budget, 80), await soon(budget, 10)
    assert not large.done() and not small.done()  # the small one would fit
    held.settle(0, 0)
    await in_time(large)
    assert (await in_time(small)).held


async def test_what_can_never_fit_ends_the_budget_for_all_in_the_same_words() -> None:
    budget = Budget(Ceilings(max_tokens=100), spent_tokens=20)
    held = await budget.reserve(tokens=60, cost=0)
    waiting = [await soon(budget, 50), await soon(budget, 30)]
    held.settle(40, 0)
    told = await in_time(asyncio.gather(*waiting, return_exceptions=True))
    with pytest.raises(BudgetSpent) as late:
        await budget.reserve(tokens=1, cost=0)
    assert len({str(each) for each in (*told, late.value)}) == 1
    assert len({id(each) for each in (*told, late.value)}) == 3  # or their tracebacks would grow into each other
    assert str(late.value) == (
        "the next request could pass --max-tokens: of 100 tokens, 60 tokens are spent (earlier runs of the same"
        " settings included), and it may take up to 50 tokens; raise --max-tokens, or lower max_tokens in synth.toml:"
        " the longest reply allowed has to fit"
    )


async def test_it_ends_as_soon_as_waiting_is_vain() -> None:
    budget = Budget(Ceilings(max_cost=1.0))
    await settled(budget, 1, 0.75)
    _in_flight = await budget.reserve(tokens=1, cost=0.2)
    with pytest.raises(BudgetSpent, match=r"of \$1.00, \$0.750 are spent, and it may take up to \$0.300"):
        await in_time(budget.reserve(tokens=1, cost=0.3))


async def test_sums_of_money_are_exact() -> None:
    budget = Budget(Ceilings(max_cost=0.3))
    for _ in range(3):  # as floats, 0.1 + 0.1 + 0.1 > 0.3
        await settled(budget, 1, 0.1)
    assert budget.spent.cost == 0.3
    with pytest.raises(BudgetSpent):
        await budget.reserve(tokens=1, cost=1e-9)


async def test_who_cannot_wait_is_told_whether_it_fits_now() -> None:
    budget = Budget(Ceilings(max_tokens=100))
    held = budget.reserve_now(tokens=60, cost=0)
    assert held is not None
    assert budget.reserve_now(tokens=60, cost=0) is None
    waiting = await soon(budget, 80)
    assert budget.reserve_now(tokens=1, cost=0) is None  # it does not overtake either
    held.release()
    (await in_time(waiting)).settle(50, 0)
    with pytest.raises(BudgetSpent):
        budget.reserve_now(tokens=60, cost=0)


async def test_a_lost_reply_counts_in_full_and_so_does_its_second_try() -> None:
    budget = Budget(Ceilings(max_tokens=100, max_requests=9))
    reservation = await budget.reserve(tokens=30, cost=0)
    reservation.lose()
    await reservation.again()
    assert (budget.spent.lost_tokens, budget.spent.in_flight_tokens, budget.spent.requests) == (30, 30, 2)
    reservation.settle(10, 0)
    with pytest.raises(
        BudgetSpent, match="10 tokens are spent, up to 30 tokens more may be charged for replies that were lost,"
    ):
        await budget.reserve(tokens=61, cost=0)


async def test_a_second_try_goes_ahead_of_those_that_come_first() -> None:
    budget = Budget(Ceilings(max_tokens=120))
    other, broken = await budget.reserve(tokens=60, cost=0), await budget.reserve(tokens=40, cost=0)
    newcomer = await soon(budget, 70)
    broken.lose()
    second_try = asyncio.create_task(broken.again())
    await asyncio.sleep(0)
    assert not second_try.done()
    other.settle(10, 0)
    await in_time(second_try)
    assert not newcomer.done()
    broken.settle(10, 0)
    with pytest.raises(BudgetSpent):
        await newcomer


async def test_a_refused_request_keeps_its_place_and_counts_again() -> None:
    budget = Budget(Ceilings(max_tokens=100, max_requests=3))
    reservation = await budget.reserve(tokens=60, cost=0)
    waiting = await soon(budget, 60)
    await in_time(reservation.again())  # it cannot have to wait for those that wait for it
    await in_time(reservation.again())
    with pytest.raises(BudgetSpent, match="3 requests are sent"):
        await reservation.again()
    with pytest.raises(BudgetSpent, match="3 requests are sent"):
        await waiting
    assert budget.spent.requests == 3 and budget.spent.in_flight_tokens == 0


async def test_what_was_released_can_be_reserved_again() -> None:
    budget = Budget(Ceilings(max_tokens=100))
    reservation = await budget.reserve(tokens=60, cost=0)
    reservation.release()
    await settled(budget, 40)
    await in_time(reservation.again())
    assert reservation.held and budget.spent.in_flight_tokens == 60 and budget.spent.requests == 3


async def test_one_that_may_not_be_sent_again_is_told_why() -> None:
    budget = Budget(Ceilings(max_requests=1))
    with await budget.reserve(tokens=1, cost=0) as reservation:
        with pytest.raises(BudgetSpent, match="--max-requests 1 is reached: 1 requests are sent; raise it"):
            await reservation.again()
        assert not reservation.held
    assert budget.spent.lost_tokens == 0


async def test_what_is_left_without_a_word_is_lost() -> None:
    budget = Budget(Ceilings(max_tokens=100))
    with pytest.raises(ConnectionResetError), await budget.reserve(tokens=30, cost=0.5):
        raise ConnectionResetError
    with await budget.reserve(tokens=30, cost=0.5) as reservation:
        reservation.settle(20, 0.25)
    assert (budget.spent.lost_tokens, budget.spent.lost_cost, budget.spent.tokens) == (30, 0.5, 20)


async def test_a_server_that_does_not_count_is_charged_the_most_it_can_take() -> None:
    budget = Budget(Ceilings(max_tokens=100))
    for _ in range(2):
        (await budget.reserve(tokens=40, cost=0.5)).settle(None, None)
    assert budget.spent.tokens == 80 and budget.spent.cost == 1.0
    assert len(budget.notes) == 1 and "does not say" in budget.notes[0]


async def test_when_one_reply_takes_more_than_it_may_more_is_expected_of_the_others() -> None:
    budget = Budget(Ceilings(max_tokens=1000))
    held = await budget.reserve(tokens=100, cost=0)
    (await budget.reserve(tokens=100, cost=0)).settle(300, 0)
    assert budget.spent.tokens == 300 and budget.spent.in_flight_tokens == 300
    (await budget.reserve(tokens=100, cost=0)).settle(250, 0)
    waiting = await soon(budget, 100)  # 550 spent, 300 in flight, 300 to come
    assert not waiting.done()
    held.lose()
    with pytest.raises(BudgetSpent, match="may take up to 300 tokens"):
        await waiting
    assert budget.spent.lost_tokens == 300


async def test_one_that_is_not_sent_yet_gives_way_once_another_took_more_than_it_may() -> None:
    budget = Budget(Ceilings(max_tokens=1000))
    first, sent, unsent = [await budget.reserve(tokens=100, cost=0) for _ in range(3)]
    assert unsent.still_fits()
    first.settle(400, 0)  # 400 spent, and 400 may follow of each
    assert not unsent.still_fits()
    unsent.release(sent=False)
    assert sent.still_fits()  # alone
    again = asyncio.create_task(unsent.again())
    await asyncio.sleep(0)
    assert not again.done()
    sent.settle(100, 0)
    await in_time(again)
    assert unsent.still_fits() and budget.spent.requests == 3


async def test_a_server_that_ignores_max_tokens_takes_no_more_than_what_was_sent_before_it_was_seen() -> None:
    budget, places = Budget(Ceilings(max_tokens=2000)), asyncio.Semaphore(2)

    async def request() -> None:
        with await budget.reserve(tokens=100, cost=0) as reservation:
            while True:
                async with places:
                    if reservation.still_fits():
                        await asyncio.sleep(0)
                        return reservation.settle(500, 0)
                reservation.release(sent=False)
                await reservation.again()

    told = await in_time(asyncio.gather(*(request() for _ in range(20)), return_exceptions=True))
    assert {type(each) for each in told} == {type(None), BudgetSpent}
    assert 1500 < budget.spent.tokens <= 2000 and budget.spent.requests == told.count(None) == 4
    assert budget.spent.in_flight_tokens == budget.spent.lost_tokens == 0


async def test_without_ceilings_everything_still_fits() -> None:
    budget = Budget(Ceilings())
    unsent = await budget.reserve(tokens=100, cost=0)
    (await budget.reserve(tokens=100, cost=0)).settle(10**9, 0)
    assert unsent.still_fits()


async def test_that_a_server_takes_more_than_it_may_is_noted_once() -> None:
    budget = Budget(Ceilings(max_tokens=10**6))
    for taken in (100, 300, 500):
        (await budget.reserve(tokens=100, cost=0)).settle(taken, 0)
    assert len(budget.notes) == 1 and "took 300 tokens where 100 is the most it should" in budget.notes[0]


async def test_one_that_was_cancelled_while_it_waited_holds_nobody_up() -> None:
    budget = Budget(Ceilings(max_tokens=100))
    held = await budget.reserve(tokens=60, cost=0)
    large, small = await soon(budget, 80), await soon(budget, 40)
    large.cancel()
    await in_time(small)
    held.settle(60, 0)
    assert large.cancelled() and budget.spent.requests == 2


async def test_one_that_was_cancelled_in_the_moment_it_was_let_through_gives_its_place_back() -> None:
    budget = Budget(Ceilings(max_tokens=100))
    held = await budget.reserve(tokens=100, cost=0)
    first, second = await soon(budget, 100), await soon(budget, 100)
    held.release()
    first.cancel()  # it was let through above, and has not run since
    await in_time(second)
    assert first.cancelled() and budget.spent.requests == 2 and budget.spent.in_flight_tokens == 100


@given(seed=st.integers(0, 2**32), most=st.integers(1, 3000), cost=st.floats(0.001, 1.0), requests=st.integers(1, 40))
@settings(max_examples=60, deadline=None)
def test_whatever_happens_a_budget_never_ends_above_its_ceilings(
    seed: int, most: int, cost: float, requests: int
) -> None:
    budget = Budget(Ceilings(max_cost=cost, max_tokens=most, max_requests=requests))
    asyncio.run(asyncio.wait_for(_everything_that_happens(budget, random.Random(seed)), 10))
    spent = budget.spent
    assert spent.cost is not None and spent.lost_cost is not None
    assert spent.tokens + spent.lost_tokens <= most and spent.requests <= requests
    assert spent.cost + spent.lost_cost <= cost + 1e-12
    assert spent.in_flight_tokens == 0 and spent.in_flight_cost == 0


async def _everything_that_happens(budget: Budget, chance: random.Random) -> None:
    async def request() -> None:
        tokens = chance.randint(1, 300)
        with await budget.reserve(tokens=tokens, cost=tokens / 7000) as reservation:
            while True:
                await asyncio.sleep(chance.choice([0, 0.0001]))
                match chance.choice(["served", "served", "served", "refused", "broken", "rejected", "bug"]):
                    case "served":
                        taken = chance.randint(0, tokens)
                        return reservation.settle(taken, taken / 7000)
                    case "rejected":
                        return reservation.release()
                    case "bug":
                        raise RuntimeError
                    case "broken":
                        reservation.lose()
                await reservation.again()

    tasks = [asyncio.create_task(request()) for _ in range(40)]
    for task in chance.sample(tasks, 8):
        await asyncio.sleep(0)
        task.cancel()
    for outcome in await asyncio.gather(*tasks, return_exceptions=True):
        if isinstance(outcome, BaseException) and not isinstance(
            outcome, (BudgetSpent, RuntimeError, asyncio.CancelledError)
        ):
            raise outcome


@pytest.fixture(scope="module")
def byte_level() -> Tokenizer:
    """A byte-level BPE with few merges, which composes texts first: as many tokens as such a tokenizer ever makes."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=260, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(["the cat sat on the mat"], trainer)
    return tokenizer


@given(st.lists(st.text(), max_size=3))
@settings(deadline=None)
def test_no_prompt_has_more_tokens_than_the_bound(byte_level: Tokenizer, texts: list[str]) -> None:
    tokens = sum(len(byte_level.encode(text).ids) for text in texts)
    template = MESSAGE_TOKENS * len(texts) + REQUEST_TOKENS
    assert tokens <= most_tokens([{"content": text} for text in texts]) - template


def test_a_prompt_of_combining_marks_is_counted_in_time() -> None:
    assert most_tokens([{"content": "\u0315" * 200_000 + "\u0300" * 200_000}]) > 800_000


def test_the_bound_takes_the_longer_form_the_schema_and_half_a_pair() -> None:
    bare = most_tokens([{"role": "user", "content": ""}])
    assert most_tokens([{"role": "user", "content": "\U0001d160"}]) == bare + 12  # four bytes that NFC makes twelve
    assert most_tokens([{"role": "user", "content": "\ud800"}]) == bare + 3
    assert most_tokens([{"role": "user", "content": ""}], {"type": "object"}) >= bare + len('{"type":"object"}')


@pytest.mark.parametrize(
    ("amount", "shown"),
    [
        (0, "$0.00"),
        (1234.567, "$1,234.57"),
        (1.0, "$1.00"),
        (0.25, "$0.250"),
        (0.00041, "$0.000410"),
        (1e-15, "$0.000000000000"),
    ],
)
def test_small_amounts_are_shown_with_three_digits(amount: float, shown: str) -> None:
    assert dollars(amount) == shown
