"""
Review by a policy: verdicts given by a stated rule, under the rule's name, so that nothing pretends to be a person.

A policy decides what no person did, also again after mining or another policy changed what it saw; a person's verdict
always counts before a policy's.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from synth.records import ReviewEvent, Task, Verdict, new_id
from synth.stages.gate import Gate
from synth.store import reviews, runs
from synth.store.connection import Store
from synth.store.review_figures import AUDITED, Stratum, strata
from synth.store.reviews import Candidate
from synth.store.sources import small_corpora

LEAST_TIMES = 4  # `max_rank`, of passages: of fewer it is no wonder that the positive is within it
MOST_TOLD = 4  # corpora named in a line
LABELLED_OPERATION = "ingest"
MAX_RANK = 50  # of `consistent`, unless another is given
MAX_ERROR = 0.05  # of `audited`
SAID = {Verdict.APPROVE: "approved", Verdict.REJECT: "rejected"}


@dataclass(frozen=True, slots=True)
class Terms:
    """What policies go by: of `consistent` the positive's worst rank, of `audited` the gate of each stratum."""

    max_rank: int = MAX_RANK
    gates: Mapping[tuple[str, str], Gate] = field(default_factory=dict)  # by source and operation


@dataclass(frozen=True, slots=True)
class Decision:
    """What a policy says of one sample; None leaves it to people."""

    verdict: Verdict | None
    reason: str


def labelled(candidate: Candidate, terms: Terms) -> Decision:
    """Approves what people labelled (everything that came in by ingest); leaves the rest to people."""
    if candidate.operation == LABELLED_OPERATION:
        return Decision(Verdict.APPROVE, "labelled by people")
    return Decision(None, "left to people")


def consistent(candidate: Candidate, terms: Terms) -> Decision:
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
    if candidate.positive_rank > terms.max_rank:
        return Decision(Verdict.REJECT, f"positive ranks beyond {terms.max_rank}")
    if candidate.num_negatives == 0:
        return Decision(Verdict.REJECT, "no negative")
    return Decision(Verdict.APPROVE, f"positive ranks within {terms.max_rank}")


def everything(candidate: Candidate, terms: Terms) -> Decision:
    """Approves every sample that nobody decided."""
    return Decision(Verdict.APPROVE, "everything approved")


def audited(candidate: Candidate, terms: Terms) -> Decision:
    """
    Approves the undecided samples of a stratum whose random part, read by people, has so few errors that its gate is
    open; leaves to people all others, what they changed or flagged, and what another policy decided.
    """
    if candidate.decided_by not in (None, AUDITED):
        return Decision(None, f"decided by {candidate.decided_by}")
    gate = terms.gates.get((candidate.source, candidate.operation))
    if candidate.is_flagged or gate is None:
        return Decision(None, "changed or flagged by people")
    if not gate.passes:
        return Decision(None, "too little read, or too many errors")
    return Decision(Verdict.APPROVE, f"{gate.errors} wrong of {gate.num_read} read; {gate.limit:g} allowed")


POLICIES: Mapping[str, Callable[[Candidate, Terms], Decision]] = {
    "labelled": labelled,
    "consistent": consistent,
    "everything": everything,
    "audited": audited,
}


@dataclass(frozen=True, slots=True)
class Audit:
    """What people read of a stratum, and whether that opens its gate."""

    stratum: Stratum
    gate: Gate

    @property
    def state(self) -> Literal["open", "failing", "too small", "read on"]:
        """Too small: its random part is, even if nothing more is wrong in it. Failing: more is wrong than allowed."""
        gate = self.gate
        if gate.passes:
            return "open"
        if gate.num_read + gate.num_more > self.stratum.num_random:
            return "too small"
        return "failing" if gate.errors > gate.limit * gate.num_read else "read on"


@dataclass(frozen=True)
class PolicyOutcome:
    """
    What a policy said: verdicts by (task, verdict or left, reason), and how many of them it had not said before.
    `warning`: one line on why they say little, "" if nothing is known against them. `audits`: what `audited` goes by,
    by source and operation; of other policies none.
    """

    reviewer: str
    counts: Mapping[tuple[str, str, str], int]
    num_new: int
    warning: str = ""
    audits: Sequence[Audit] = ()


def apply_policy(store: Store, name: str, *, max_rank: int = MAX_RANK, max_error: float = MAX_ERROR) -> PolicyOutcome:
    """
    Give the named policy's verdict to every sample to train on that no person decided, recorded as `policy:NAME`.

    The counts are of all it looked at; an event is stored only where it differs from what a policy said before.
    Raises UserError if `max_error` is no share that reading can show to be kept.
    """
    reviewer = f"policy:{name}"
    counts: Counter[tuple[str, str, str]] = Counter()
    events = []
    audits = audits_of(store, max_error) if name == "audited" else []
    terms = Terms(max_rank, {(each.stratum.source, each.stratum.operation): each.gate for each in audits})
    asked = {"max_error": max_error} if name == "audited" else {"max_rank": max_rank}
    with runs.recorded(store, "review", {"policy": name, **asked}) as run:
        for candidate in reviews.undecided(store):
            decision = POLICIES[name](candidate, terms)
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
    warning = _too_easy(store, max_rank) if name == "consistent" else _shut_since(audits)
    return PolicyOutcome(reviewer, dict(counts), len(events), warning, audits)


def audits_of(store: Store, max_error: float) -> list[Audit]:
    """What people read of every stratum, and whether so few errors show that no more than `max_error` are wrong."""
    Gate(0, 0, max_error)  # a share that cannot be one is refused where there is no stratum, too
    return [
        Audit(each, Gate(each.read.num_read, each.read.errors, max_error))
        for each in strata(store)
        if each.num_random or each.num_pending
    ]


def _shut_since(audits: Sequence[Audit]) -> str:
    """Names the strata that were approved before and fail now; "" if there are none."""
    shut = [each.stratum for each in audits if each.stratum.num_audited and not each.gate.passes]
    if not shut:
        return ""
    told = ", ".join(f"{each.source} {each.operation} {each.num_audited:,}" for each in shut[:MOST_TOLD])
    others = f" and {len(shut) - MOST_TOLD:,} strata more" if len(shut) > MOST_TOLD else ""
    return (
        f"approved unread before, and would not be now ({told}{others}): look at them with synth review --queue audit"
    )


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
