"""Many verdicts at once, by one person: stored as one run, and undone as one. docs/explore.md."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import TypeVar
from uuid import UUID

from synth.records import ReviewEvent, UserError, Verdict, new_id
from synth.store import runs
from synth.store.connection import Store
from synth.store.exploring import Head
from synth.store.reviews import add_reviews
from synth.store.rows import first
from synth.store.verdicts import LONGEST_NOTE

Each = TypeVar("Each")
KIND = "review"  # of the run; its config names the filter as `bulk`
NOTE = "bulk: "
CHUNK = 500  # events that are stored in one lease: others wait some tenths of a second
VERDICTS = (Verdict.APPROVE, Verdict.REJECT, Verdict.FLAG)
# The events of a run that still count.
STANDING = (
    "SELECT v.review_id, v.sample_id, v.revision_id, v.verdict FROM review v WHERE v.run_id = $run_id"
    " AND v.undoes IS NULL AND v.review_id NOT IN (SELECT u.undoes FROM review u WHERE u.undoes IS NOT NULL)"
)


@dataclass(frozen=True, slots=True)
class Decision:
    """What somebody says of many samples. `words`: which samples these are, for the note of every event."""

    reviewer: str
    verdict: Verdict
    words: str
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch of which `num_standing` verdicts are not undone."""

    run_id: UUID
    created_at: datetime
    verdict: Verdict
    words: str
    num_standing: int


def decide(store: Store, decision: Decision, heads: Iterable[Head]) -> int:
    """
    Store the verdict on each of these samples; returns how many events are new. The store is held for a few hundred at
    a time: whoever kills this in the middle keeps the ones before, which `undo` takes back like a whole batch.

    Raises UserError, storing none, if the verdict is none of these or the reason none of its.
    """
    if decision.verdict not in VERDICTS:
        raise UserError(f"many samples at once are approved, rejected or flagged, not {decision.verdict}")
    note = f"{NOTE}{decision.words}"[:LONGEST_NOTE]
    guideline = _guideline(store)

    def event(head: Head) -> ReviewEvent:
        return ReviewEvent(
            new_id(),
            decision.reviewer,
            *head,
            decision.verdict,
            reasons=decision.reasons,
            note=note,
            saw_scores=True,  # they stand in the list
            guideline=guideline,
        )

    config = {"bulk": decision.words, "verdict": decision.verdict, "reviewer": decision.reviewer}
    return _store(store, config, heads, event)


def last_batch(store: Store, reviewer: str) -> Batch | None:
    """The reviewer's last batch of which something still stands; None: there is none."""
    with store.read() as cursor:
        batches = cursor.execute(
            "SELECT run_id, started_at, config->>'$.verdict', config->>'$.bulk' FROM run WHERE kind = $kind"
            " AND config->>'$.reviewer' = $reviewer AND config->>'$.bulk' IS NOT NULL ORDER BY run_id DESC",
            {"kind": KIND, "reviewer": reviewer},
        ).fetchall()
        for run_id, started_at, verdict, words in batches:
            row = first(cursor.execute(f"SELECT count(*) FROM ({STANDING})", {"run_id": run_id}))
            if row and row[0]:
                return Batch(run_id, started_at, Verdict(verdict), words, row[0])
    return None


def undo(store: Store, reviewer: str, batch: Batch) -> int:
    """Take back what still stands of a batch; returns how many verdicts that are."""
    with store.read() as cursor:
        said = cursor.execute(f"{STANDING} ORDER BY v.review_id", {"run_id": batch.run_id}).fetchall()

    def event(each: tuple[UUID, UUID, UUID, str]) -> ReviewEvent:
        review_id, sample_id, revision_id, verdict = each
        note = f"{NOTE}undo of {batch.words}"[:LONGEST_NOTE]
        return ReviewEvent(new_id(), reviewer, sample_id, revision_id, Verdict(verdict), undoes=review_id, note=note)

    return _store(store, {"undoes": batch.run_id, "reviewer": reviewer}, said, event)


def _store(
    store: Store, config: Mapping[str, object], all_of: Iterable[Each], event: Callable[[Each], ReviewEvent]
) -> int:
    with runs.recorded(store, KIND, config) as run:
        for chunk in _chunks(all_of):
            run.count(decided=add_reviews(store, [event(each) for each in chunk], run_id=run.run_id))
    return run.counts.get("decided", 0)


def _chunks(all_of: Iterable[Each]) -> Iterator[list[Each]]:
    left = iter(all_of)
    while chunk := list(islice(left, CHUNK)):
        yield chunk


def _guideline(store: Store) -> int | None:
    """The number of the guideline in force."""
    with store.read() as cursor:
        row = first(cursor.execute("SELECT max(number) FROM guideline"))
    return row[0] if row else None
