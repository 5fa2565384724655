"""
Generate: seeds become samples, by an LLM with a recipe, or by the extractive engine without any model.

A seed is a passage or a sample; what it gave and that it is done are stored together.
"""

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from synth.records import Draft, Seed, SkiffError, Written
from synth.stages.asking.watch import Watch
from synth.stages.asking.work import Given, Outcome, Work, carried_out
from synth.stages.generate.plan import GeneratePlan
from synth.store.connection import Cursor, Store
from synth.store.made import Finished, add_finished, add_made, any_done


@dataclass(frozen=True, kw_only=True)
class Generated(Outcome):
    """
    The outcome: `num_stored` samples and `num_negatives` negatives are new; `num_known` more had content that the store
    has already; `num_short` seeds gave fewer than asked for, after all tries.
    """

    num_stored: int
    num_known: int
    num_negatives: int
    num_short: int
    rejections: Mapping[str, int]


async def generate_samples(
    store: Store, plan: GeneratePlan, *, watch: Watch | None = None, stop: asyncio.Event | None = None
) -> Generated:
    """
    Make samples of the plan's seeds, as many at a time as its engine has workers for, and store them.

    Args and errors are those of `carried_out`.
    """
    return await carried_out(Generating, store, plan, watch, stop)


class Generating(Work[Seed, Draft | Written, Generated]):
    """Seeds on their way to samples."""

    kind = "generate"
    doing = "generating"
    plan: GeneratePlan

    def keep(
        self,
        cursor: Cursor,
        finished: Sequence[Given[Seed, Draft | Written]],
        begun: Sequence[Given[Seed, Draft | Written]],
    ) -> Mapping[str, int]:
        """Store samples and negatives."""
        done, other = _finished(finished), _finished(begun)
        stored = [
            add_finished(cursor, self.plan.stage_key, self.run.run_id, done),
            add_made(cursor, self.run.run_id, other),
        ]
        num_samples, num_negatives = (sum(numbers) for numbers in zip(*stored, strict=True))
        return {
            "stored": num_samples,
            "negatives": num_negatives,
            "known": sum(each.num_made for each in [*done, *other]) - num_samples - num_negatives,
            "short": sum(len(each.made) < self.plan.per_seed for each in done),
        }

    def any_done(self) -> bool:
        """Whether any run of this plan has finished a seed."""
        return any_done(self.store, self.plan.stage_key)

    def outcome(self, ended: SkiffError | None) -> Generated:
        """What has become of the run, which ended early for this reason."""
        counts = Counter(self.run.counts)
        return Generated(
            **vars(self.so_far(ended)),
            num_stored=counts["stored"],
            num_known=counts["known"],
            num_negatives=counts["negatives"],
            num_short=counts["short"],
            rejections=dict(self.rejections),
        )


def _finished(given: Sequence[Given[Seed, Draft | Written]]) -> list[Finished]:
    return [Finished(each.seed, each.made.made, each.made.rejections) for each in given]
