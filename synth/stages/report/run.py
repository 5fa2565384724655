"""
Report: what became of a generate run, as figures and as examples. Reads the store alone, and changes nothing.

All that is drawn at random is drawn by `seed`. Distributions are of at most MOST_COMPARED samples and negatives.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from synth.checks import num_words, scripts
from synth.likeness import difference, length_change
from synth.stages.report.agreement import Agreement
from synth.stages.report.figures import Histogram, histogram
from synth.stages.report.leak import CHANCE, MOST_PAIRS, SourceLeak, source_leak
from synth.stages.report.scores import Similarity
from synth.store import run_report
from synth.store.connection import Store
from synth.store.run_report import Beside, Scope, Shown

MOST_COMPARED = 2000
NUM_EXAMPLES = 10
LENGTH, DIFFERENCE, WORDS = "length change", "difference", "words"


@dataclass(frozen=True, slots=True)
class Reason:
    """Why texts were rejected: how many, and which share that is of all that replies offered."""

    reason: str
    num: int
    share: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """
    A run in figures. Replies offered `num_offered` samples or negatives, of which the checks accepted `num_accepted`;
    the store had `num_known` of those already (None: the run did not end), and new are `num_samples` and
    `num_negatives`, some of which came with a sample. Of its `num_seeds` seeds `num_done` were done, of these
    `num_short` with fewer than were asked for (None: no number was); the others failed, or were begun (asked about, and
    not finished), or were not reached.

    `cost_per_stored` (US dollars) and `tokens_per_stored` are of a new sample, or, where the run wrote negatives alone,
    of a negative; None where nothing is new, or no price was stated.
    """

    run_id: UUID
    started_at: datetime  # UTC
    status: str
    reason: str
    task: str
    operation: str
    model: str
    prompt_version: str
    num_seeds: int
    num_done: int
    num_short: int | None
    num_failed: int
    num_begun: int
    num_not_reached: int
    tries: Mapping[int, int]
    num_offered: int
    num_accepted: int
    num_known: int | None
    num_samples: int
    num_negatives: int
    rejections: Sequence[Reason]
    requests: int
    tokens_in: int
    tokens_out: int
    cost: float | None
    cost_per_stored: float | None
    tokens_per_stored: float | None

    @property
    def stored_unit(self) -> str:
        """What the costs are of."""
        return "negative" if self.num_negatives and not self.num_samples else "sample"


@dataclass(frozen=True, slots=True)
class Spread:
    """
    How a measure (LENGTH and DIFFERENCE against the original, as synth/likeness.py has them; or WORDS) is distributed
    over the texts of one sort (queries, passages, ...), in all and by script, if there is more than one.
    """

    measure: str
    of: str
    histogram: Histogram
    by_script: Mapping[str, Histogram]


@dataclass(frozen=True, slots=True)
class Report:
    """
    A run's outcome; distributions over `num_compared` of what it stored; some of what was accepted and rejected. Then,
    of the run or of `sources`: the `source_leak` (None: an LLM wrote no passages, or too few), measured on at most
    `num_written` passages; and, if an encoder was asked, the `similarity` of texts and its `agreement` with scores.
    """

    outcome: Outcome
    num_compared: int
    spreads: Sequence[Spread]
    accepted: Sequence[Shown]
    rejected: Sequence[Shown]
    sources: Sequence[str]
    num_written: int
    source_leak: SourceLeak | None
    similarity: Similarity | None = None
    agreement: Agreement | None = None


def report(store: Store, scope: Scope) -> Report:
    """What became of the generate run of a scope."""
    run_id, seed = scope.run_id, scope.seed
    made = run_report.accepted(store, run_id, limit=MOST_COMPARED, seed=seed)
    written = run_report.written_and_real(store, scope, limit=MOST_PAIRS)
    return Report(
        outcome(store, run_id),
        len(made),
        list(_spreads([part for each in made for part in each.parts])),
        made[:NUM_EXAMPLES],
        run_report.rejected(store, run_id, limit=NUM_EXAMPLES, seed=seed),
        scope.names,
        len(written),
        source_leak(written, seed=seed),
    )


def outcome(store: Store, run_id: UUID) -> Outcome:
    """A run in figures, as they stand now: of one that is under way, what is stored so far."""
    told = run_report.run_counts(store, run_id)
    config: Mapping[str, Any] = told["config"] or {}
    num_rejected = sum(row["n"] for row in told["rejections"])
    num_offered = told["num_accepted"] + num_rejected
    num_asked = told["num_done"] + told["num_failed"] + told["num_begun"]
    num_seeds = int(config.get("num_seeds") or num_asked)
    num_stored = told["num_samples"] or told["num_negatives"]
    tokens = told["tokens_in"] + told["tokens_out"]
    is_paid = bool(num_stored and told["requests"])
    return Outcome(
        run_id=run_id,
        started_at=told["started_at"],
        status=told["status"],
        reason=told["reason"] or "",
        task=str(config.get("task", "")),
        operation=str(config.get("operation", "")),
        model=told["model"] or "",
        prompt_version=told["prompt_version"] or "",
        num_seeds=num_seeds,
        num_done=told["num_done"],
        num_short=told["num_short"],
        num_failed=told["num_failed"],
        num_begun=told["num_begun"],
        num_not_reached=max(num_seeds - num_asked, 0),
        tries=told["tries"],
        num_offered=num_offered,
        num_accepted=told["num_accepted"],
        num_known=None if told["counts"] is None else int(told["counts"].get("known", 0)),
        num_samples=told["num_samples"],
        num_negatives=told["num_negatives"],
        rejections=[Reason(row["reason"], row["n"], row["n"] / num_offered) for row in told["rejections"]],
        requests=told["requests"],
        tokens_in=told["tokens_in"],
        tokens_out=told["tokens_out"],
        cost=told["cost"],
        cost_per_stored=told["cost"] / num_stored if is_paid and told["cost"] is not None else None,
        tokens_per_stored=tokens / num_stored if is_paid else None,
    )


def as_json(found: Report) -> dict[str, Any]:
    """All of it, for machines."""
    leak = found.source_leak
    told = asdict(found)
    outcome = told.pop("outcome")
    if leak is not None:
        told["source_leak"] |= {"chance": CHANCE, "is_above_chance": leak.is_above_chance}
    return {**outcome, **told}


def _spreads(parts: Sequence[Beside]) -> Iterator[Spread]:
    for name in dict.fromkeys(part.name for part in parts):
        of_name = [part for part in parts if part.name == name]
        rewritten = [part for part in of_name if part.is_rewriting]
        written = [part for part in of_name if not part.is_rewriting]
        measured = {
            LENGTH: [(part, length_change(part.text, part.original)) for part in rewritten],
            DIFFERENCE: [(part, difference(part.text, part.original)) for part in rewritten],
            WORDS: [(part, num_words(part.text)) for part in written],
        }
        for measure, values in measured.items():
            if (found := histogram([value for _, value in values], are_whole=measure == WORDS)) is not None:
                yield Spread(measure, name, found, _by_script(values, found))


def _by_script(values: Sequence[tuple[Beside, float]], all_of_them: Histogram) -> dict[str, Histogram]:
    """By the script that most words of a text are in, the most frequent first; nothing if there is only one."""
    found: dict[str, list[float]] = {}
    for part, value in values:
        counted = scripts(part.text)
        script = min(counted, key=lambda name: (-counted[name], name), default="none")
        found.setdefault(script, []).append(value)
    if len(found) < 2:
        return {}
    ordered = sorted(found, key=lambda script: (-len(found[script]), script))
    edges, are_whole = all_of_them.edges, all_of_them.is_whole
    drawn = {script: histogram(found[script], edges, are_whole=are_whole) for script in ordered}
    return {script: each for script, each in drawn.items() if each is not None}
