"""
Relabel: the positive of a generated sample moves to the passage of its corpus that answers the query best.

The encoder finds candidates, an LLM ranks and grades them in two requests, and what follows is stored with the mark
that the sample is done.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from synth.recipes.relabelling import OPERATION, JudgedDraft, WithCandidates
from synth.records import Draft, Seed, SkiffError, Written
from synth.stages.asking.watch import Watch
from synth.stages.asking.work import Given, Outcome, Work, carried_out
from synth.stages.relabel.choice import LEAST_OF_POSITIVE, choose
from synth.stages.relabel.plan import RelabelPlan
from synth.store.connection import Cursor, Store
from synth.store.made import any_done
from synth.store.relabels import Relabelled, add_relabelled

OUTCOMES = ("moved", "stayed", "unanswered", "duplicate", "overtaken")


@dataclass(frozen=True, kw_only=True)
class RelabelOutcome(Outcome):
    """
    The outcome: of `num_done` samples `num_moved` have another positive, and `num_negatives` negatives are new.
    `outcomes` count the samples: moved, stayed, unanswered, duplicate, and overtaken by a reviewer (a word of theirs,
    or a card that they hold), which are not done.
    """

    num_moved: int
    num_negatives: int
    outcomes: Mapping[str, int]


async def relabel_samples(
    store: Store, plan: RelabelPlan, *, watch: Watch | None = None, stop: asyncio.Event | None = None
) -> RelabelOutcome:
    """
    Ask about the plan's samples, which have candidates, and store what follows.

    Args and errors are those of `carried_out`.
    """
    return await carried_out(Relabelling, store, plan, watch, stop)


class Relabelling(Work[Seed, Draft | Written, RelabelOutcome]):
    """Samples that were asked about, on their way into the store."""

    kind = OPERATION
    doing = "relabelling"

    def keep(
        self,
        cursor: Cursor,
        finished: Sequence[Given[Seed, Draft | Written]],
        begun: Sequence[Given[Seed, Draft | Written]],
    ) -> Mapping[str, int]:
        """Store what was said of the samples, and their new positives."""
        found = [_found(each) for each in finished]
        stored = add_relabelled(cursor, self.plan.stage_key, self.run.run_id, found)
        return {**stored.outcomes, "negatives": stored.num_negatives}

    def any_done(self) -> bool:
        """Whether any run of this plan has finished a sample."""
        return any_done(self.store, self.plan.stage_key)

    def outcome(self, ended: SkiffError | None) -> RelabelOutcome:
        """What has become of the run, which ended early for this reason."""
        counts = self.run.counts
        return RelabelOutcome(
            **vars(self.so_far(ended)),
            num_moved=counts.get("moved", 0),
            num_negatives=counts.get("negatives", 0),
            outcomes={name: counts[name] for name in OUTCOMES if counts.get(name)},
        )


def _found(given: Given[Seed, Draft | Written]) -> Relabelled:
    sample, [draft] = given.seed, given.made.made
    assert isinstance(sample, WithCandidates) and isinstance(draft, JudgedDraft)
    choice = choose(sample, draft.said)
    candidates = [
        {
            "text_id": str(each.text_id),
            "rank": each.said.candidate.rank or None,
            "score": each.said.candidate.score,
            "likelihood": each.said.likelihood,
            "grade": each.said.grade,
            "place": each.place,
        }
        for each in choice.placed
    ]
    return Relabelled(
        sample=sample,
        content=choice.content,
        outcome=choice.outcome,
        candidates=candidates,
        answers=[each.text_id for each in choice.placed if each.grade >= LEAST_OF_POSITIVE],
        negatives=choice.negatives,
        model=draft.model,
        prompt_version=draft.prompt_version,
        call_id=draft.call_id,
    )
