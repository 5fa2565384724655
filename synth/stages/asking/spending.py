"""What all runs of the same settings have spent so far, those that were killed included."""

import math
from pathlib import Path
from uuid import UUID

from synth.llm.account import earlier
from synth.llm.budget import PICODOLLARS
from synth.store import runs
from synth.store.connection import Store
from synth.store.runs import Spent


def spent_before(store: Store, stage_key: UUID, journal: Path) -> Spent:
    """
    What counts against the ceilings of the next run: of a run that ended what the store says, of one that was killed
    what its account beside the journal says, all that was in flight then taken as lost.
    """
    killed = earlier(journal, stage_key)
    spent = runs.spent(store, stage_key, but_not=killed.keys())
    for totals in killed.values():
        lost_cost = totals.lost_cost + math.ceil(totals.in_flight_cost * totals.excess)
        spent = Spent(
            cost=spent.cost + totals.cost / PICODOLLARS,
            tokens=spent.tokens + totals.tokens,
            requests=spent.requests + totals.requests,
            lost_cost=spent.lost_cost + lost_cost / PICODOLLARS,
            lost_tokens=spent.lost_tokens + totals.lost_tokens + math.ceil(totals.in_flight_tokens * totals.excess),
            excess=max(spent.excess, totals.excess),
        )
    return spent
