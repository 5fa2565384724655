"""
Review by a policy: verdicts given by a stated rule, under the rule's name, so that nothing pretends to be a person.

A policy decides what no person did, also again after mining or another policy changed what it saw; a person's verdict
always counts before a policy's.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from synth.records import ReviewEvent, Task, Verdict, new_id
from synth.store import reviews, runs
from synth.store.connection import Store
from synth.store.reviews import Candidate
from synth.store.sources import small_corpora

LEAST_TIMES = 4  # `max_rank`, of passages: of fewer it is no wonder that the positive is within it
MOST_TOLD = 4  # corpora named in a line
LABELLED_OPERATION = "ingest"
SAID = {Verdict.APPROVE: "approved", Verdict.REJECT: "rejected"}


@dataclass(frozen=True, slots=True)
class Decision:
    """What a policy says of one sample; None leaves it to people."""

    verdict: Verdict | None
    reason: str


def labelled(candidate: Candidate, max_rank: int) -> Decision:
    """Approves what people labelled (everything that came in by ingest); leaves the rest to people."""
    if candidate.operation == LABELLED_OPERATION:
        return Decision(Verdict.APPROVE, "labelled by people")
    return Decision(None, "left to people")


def consistent(candidate: Candidate, max_rank: int) -> Decision:
    """
    Approves what people labelled, and a generated retrieval sample if the miner finds its positive within the best
    `max_rank` of the corpus and at least one negative (the ranking-consistency filter of KaLM-Embedding,
    arXiv 2501.01028); rejects the other mined ones, leaves what was not mined, and other tasks, to people.
    """
    if candidate.operation == LABELLED_OPERATION:
        return Decision(Verdict.APPROVE, "labelled by people")
    if candidate.task != Task.RETRIEVAL:
        return Decision(None, "retrieval samples only; --policy everything takes these")
    if candidate.positive_rank is None:
        return Decision(None, "not mined yet")
    if candidate.positive_rank > max_rank:
        return Decision(Verdict.REJECT, f"positive ranks beyond {max_rank}")
    if candidate.num_negatives == 0:
        return Decision(Verdict.REJECT, "no negative")
    return Decision(Verdict.APPROVE, f"positive ranks within {max_rank}")


def everything(candidate: Candidate, max_rank: int) -> Decision:
    """Approves every sample that nobody decided."""
    return Decision(Verdict.APPROVE, "everything approved")


POLICIES: Mapping[str, Callable[[Candidate, int], Decision]] = {
    "labelled": labelled,
    "consistent": consistent,
    "everything": everything,
}


@dataclass(frozen=True)
class PolicyOutcome:
    """
    What a policy said: verdicts by (task, verdict or left, reason), and how many of them it had not said before.
    `warning`: one line on why they say little, "" if nothing is known against them.
    """

    reviewer: str
    counts: Mapping[tuple[str, str, str], int]
    num_new: int
    warning: str = ""


def apply_policy(store: Store, name: str, *, max_rank: int) -> PolicyOutcome:
    """
    Give the named policy's verdict to every sample to train on that no person decided, recorded as `policy:NAME`.

    The counts are of all it looked at; an event is stored only where it differs from what a policy said before.
    """
    reviewer = f"policy:{name}"
    counts: Counter[tuple[str, str, str]] = Counter()
    events = []
    with runs.recorded(store, "review", {"policy": name, "max_rank": max_rank}) as run:
        for candidate in reviews.undecided(store):
            decision = POLICIES[name](candidate, max_rank)
            counts[candidate.task, decision.verdict or "left", decision.reason] += 1
            if decision.verdict is not None and SAID[decision.verdict] != candidate.status:
                events.append(
                    ReviewEvent(
                        new_id(),
                        reviewer,
                        candidate.sample_id,
                        candidate.revision_id,
                        decision.verdict,
                        reasons=(decision.reason,),
                        reviewer_kind="policy",
                    )
                )
        reviews.add_reviews(store, events, run_id=run.run_id)
        run.count(decided=len(events))
    warning = _too_easy(store, max_rank) if name == "consistent" else ""
    return PolicyOutcome(reviewer, dict(counts), len(events), warning)


def _too_easy(store: Store, max_rank: int) -> str:
    """Names the corpora that are so small that a rank within `max_rank` says little; "" if there are none."""
    small = small_corpora(store, LEAST_TIMES * max_rank)
    if not small:
        return ""
    told = ", ".join(f"{name} {number:,}" for name, number in list(small.items())[:MOST_TOLD])
    others = f" and {len(small) - MOST_TOLD:,} corpora more" if len(small) > MOST_TOLD else ""
    return (
        f"within {max_rank} says little of a corpus of fewer than {LEAST_TIMES * max_rank:,} passages ({told}{others}):"
        " give a smaller --max-rank"
    )
