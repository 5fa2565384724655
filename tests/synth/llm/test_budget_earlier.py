"""What earlier runs spent, lost and found worse than expected counts for the budget of the next."""

import math

import pytest

from synth.llm.budget import Budget
from synth.llm.ceilings import Ceilings
from synth.records import BudgetSpent
from tests.synth.llm.budgeting import in_time, settled, soon


async def test_a_run_goes_on_where_the_last_one_stopped() -> None:
    budget = Budget(Ceilings(max_requests=2), spent_requests=1)
    await settled(budget, 1)
    with pytest.raises(BudgetSpent, match=r"2 is reached: 2 requests are sent \(earlier runs .* included\); raise it"):
        await budget.reserve(tokens=1, cost=0)


async def test_what_earlier_runs_paid_counts() -> None:
    budget = Budget(Ceilings(max_cost=1.0, max_tokens=100), spent_cost=0.9, spent_tokens=90)
    await settled(budget, 10, 0.05)
    assert (budget.spent.cost, budget.spent.tokens) == (0.95, 100)
    with pytest.raises(BudgetSpent, match=r"--max-cost: of \$1.00, \$0.950 are spent"):
        await budget.reserve(tokens=1, cost=0.06)


async def test_what_earlier_runs_may_have_lost_counts_and_is_told_apart_from_what_they_paid() -> None:
    budget = Budget(Ceilings(max_cost=0.08), spent_cost=0.002, lost_cost=0.07, lost_tokens=500)
    (await budget.reserve(tokens=1, cost=0.0035)).lose()
    with pytest.raises(BudgetSpent) as caught:
        await budget.reserve(tokens=1, cost=0.01)
    assert (
        "of $0.0800, $0.00200 are spent, up to $0.0735 more may be charged for replies that were lost (earlier runs of"
        " the same settings included), and it may take up to $0.0100;"
    ) in str(caught.value)
    spent = budget.spent
    assert (spent.cost, spent.lost_cost, spent.tokens, spent.lost_tokens) == (0.072, 0.0035, 500, 1)


@pytest.mark.parametrize("absurd", [1e308, math.inf, math.nan])
async def test_an_absurd_cost_of_earlier_replies_counts_as_more_than_any_ceiling(absurd: float) -> None:
    added = Budget(Ceilings(max_cost=1.0))
    added.add_earlier(10, absurd)
    for budget in (added, Budget(Ceilings(max_cost=1.0), spent_cost=absurd), Budget(Ceilings(1.0), lost_cost=absurd)):
        assert budget.spent.cost == 1e12
        with pytest.raises(BudgetSpent, match=r"1,000,000,000,000\.00"):
            await budget.reserve(tokens=1, cost=0.01)


async def test_what_was_lost_can_be_stored_however_much_it_is() -> None:
    budget = Budget(Ceilings())
    (await budget.reserve(tokens=10**6, cost=1.0)).settle(10**30, 1e308)
    for _ in range(3):
        (await budget.reserve(tokens=10**7, cost=1e6)).lose()
    assert budget.spent.lost_tokens <= 10**15 and budget.spent.tokens <= 10**15
    assert budget.spent.cost == 1e12


async def test_what_an_earlier_run_could_not_record_is_added() -> None:
    budget = Budget(Ceilings(max_tokens=100))
    held = await budget.reserve(tokens=40, cost=0)
    waiting = await soon(budget, 70)
    budget.add_earlier(50, 0.5)
    with pytest.raises(BudgetSpent):
        await in_time(waiting)
    held.settle(40, 0)
    assert (budget.spent.tokens, budget.spent.cost, budget.spent.requests) == (90, 0.5, 2)


async def test_what_an_earlier_run_learnt_of_the_server_holds_from_the_first_request() -> None:
    budget = Budget(Ceilings(max_cost=10.0, max_tokens=1000), excess=5)
    held = await budget.reserve(tokens=100, cost=0.5)
    assert (budget.spent.in_flight_tokens, budget.spent.in_flight_cost) == (500, 2.5)
    with pytest.raises(BudgetSpent, match="may take up to 1,005 tokens"):
        await budget.reserve(tokens=201, cost=0)
    held.settle(100, 0.5)
    assert len(budget.notes) == 1 and "took 5 times the most" in budget.notes[0]
    assert not Budget(Ceilings(max_tokens=1000), excess=0.3).notes
