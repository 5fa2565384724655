"""
Judge: an LLM grades the passages of retrieval samples, and what it says is stored beside them.

Nothing marks a sample as done: what this judge has graded is not asked about again, and a passage that is new is.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from synth.records import SkiffError
from synth.stages.asking.watch import Watch
from synth.stages.asking.work import Given, Outcome, Work, carried_out
from synth.stages.judge.plan import JudgePlan
from synth.store import judgements
from synth.store.connection import Cursor, Store
from synth.store.judgements import Judgement, Unjudged, add_judgements


@dataclass(frozen=True, kw_only=True)
class Judged(Outcome):
    """The outcome: `num_judgements` passages of samples are graded."""

    num_judgements: int


async def judge_samples(
    store: Store, plan: JudgePlan, *, watch: Watch | None = None, stop: asyncio.Event | None = None
) -> Judged:
    """
    Ask about the plan's samples, and store what the judge says.

    Args and errors are those of `carried_out`.
    """
    return await carried_out(Judging, store, plan, watch, stop)


class Judging(Work[Unjudged, Judgement, Judged]):
    """Samples that were asked about, on their way into the store."""

    kind = "judge"
    doing = "judging"
    plan: JudgePlan

    def keep(
        self,
        cursor: Cursor,
        finished: Sequence[Given[Unjudged, Judgement]],
        begun: Sequence[Given[Unjudged, Judgement]],
    ) -> Mapping[str, int]:
        """Store what the judge said."""
        said = [judgement for given in [*finished, *begun] for judgement in given.made.made]
        add_judgements(cursor, self.plan.judge, self.run.run_id, said)
        return {"judgements": len(said)}

    def any_done(self) -> bool:
        """Whether the judge, as it is set now, has graded anything."""
        return judgements.any_judged(self.store, self.plan.judge)

    def outcome(self, ended: SkiffError | None) -> Judged:
        """What has become of the run, which ended early for this reason."""
        return Judged(**vars(self.so_far(ended)), num_judgements=self.run.counts.get("judgements", 0))
