"""
Judge by a cross-encoder: the relevance of each passage to its query, and a grade by stated thresholds.

What was scored once is not scored again: other thresholds grade all of it anew before anything else, so that the grades
that stand under one name go by one set of thresholds.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING
from uuid import UUID

from synth.records import UserError, key_of
from synth.stages.judge.plan import why_nothing
from synth.stages.vectors import mining_errors
from synth.store import judgements, runs, sources
from synth.store.connection import Store
from synth.store.judgements import Judge, Judgement, Scope, Ungraded, Unjudged, add_judgements

if TYPE_CHECKING:
    from mining.rerank import Reranker

BLOCK = 200  # samples scored and stored together
BLOCK_KNOWN = 10_000  # passages graded again that are in memory as rows


@dataclass(frozen=True, slots=True)
class Thresholds:
    """
    The relevances from which a passage is on the topic, answers in part, and answers in full: grades 1, 2 and 3.

    Raises UserError if they are not from 0 to 1, in this order.
    """

    topic: float
    part: float
    full: float

    def __post_init__(self) -> None:
        if not 0.0 <= self.topic <= self.part <= self.full <= 1.0:
            raise UserError(
                f"--topic {self.topic:g}, --part {self.part:g} and --full {self.full:g} must be from 0 to 1, none above"
                " the next"
            )

    def grade(self, relevance: float) -> int:
        """From 0 to 3."""
        return sum(relevance >= least for least in (self.topic, self.part, self.full))


@dataclass(frozen=True)
class EncoderPlan:
    """What a cross-encoder will score: the revisions with passages that are new to it, or why there are none."""

    judge: Judge
    encoder: "Reranker"
    thresholds: Thresholds
    revisions: Sequence[UUID]
    scope: Scope
    config: dict[str, object]
    nothing: str


@dataclass(frozen=True)
class EncoderOutcome:
    """
    What was done: passages of `num_samples` were scored. `num_known` of the judgements are of relevances that were
    stored before, of whichever samples.
    """

    encoder: str
    num_samples: int
    num_judgements: int
    num_known: int


def plan_encoder(
    store: Store,
    name: str,
    thresholds: Thresholds,
    names: Sequence[str],
    *,
    limit: int | None,
    device: str,
    scope: Scope = "open",
) -> EncoderPlan:
    """
    Load the cross-encoder and find the samples of the scope with passages that it has not scored.

    Raises UserError for an unknown source, no samples at all, or a model that cannot be loaded or is none.
    """
    from mining.rerank import load_reranker

    sources.check_sources(store, names)
    with mining_errors():
        encoder = load_reranker(name, device=device)
    key = key_of("judge", encoder.fingerprint, asdict(thresholds))
    judge = Judge((name,), "encoder", encoder.fingerprint, key)
    revisions = judgements.pending(store, judge, names, limit=limit, scope=scope)
    nothing = "" if revisions else why_nothing(store, judge, names, scope)
    config = {"encoder": name, "sources": list(names), "limit": limit, "scope": scope, **asdict(thresholds)}
    return EncoderPlan(judge, encoder, thresholds, revisions, scope, config, nothing)


def judge_by_encoder(store: Store, plan: EncoderPlan, *, on_progress: Callable[[int], None]) -> EncoderOutcome:
    """
    Grade again at once what was graded by other thresholds; then score, grade and store, BLOCK samples at a time. The
    same again goes on where it was stopped.

    Raises UserError if the encoder gives no numbers.
    """
    with (
        mining_errors(),
        # whatever its thresholds: two sets at once would leave grades of both
        store.sole(key_of("judge", plan.encoder.name, plan.encoder.fingerprint), "judging by the same cross-encoder"),
        runs.recorded(
            store,
            "judge",
            plan.config | {"stage_key": plan.judge.key, "num_samples": len(plan.revisions)},
            model=plan.encoder.name,
            prompt_version="",
            device=plan.encoder.description,
        ) as run,
    ):
        known = judgements.graded_otherwise(store, plan.judge, plan.thresholds.grade)
        if known:
            with store.write() as cursor:
                for start in range(0, len(known), BLOCK_KNOWN):
                    add_judgements(cursor, plan.judge, run.run_id, known[start : start + BLOCK_KNOWN])
        run.count(judgements=len(known), known=len(known))
        num_judgements = len(known)
        for start in range(0, len(plan.revisions), BLOCK):
            block = judgements.unjudged(store, plan.judge, plan.revisions[start : start + BLOCK], scope=plan.scope)
            graded = list(_graded(plan, block))
            with store.write() as cursor:
                add_judgements(cursor, plan.judge, run.run_id, graded)
            num_judgements += len(graded)
            run.count(samples=len(block), judgements=len(graded))
            on_progress(len(block))
    return EncoderOutcome(plan.encoder.description, len(plan.revisions), num_judgements, len(known))


def _graded(plan: EncoderPlan, samples: Sequence[Unjudged]) -> Iterator[Judgement]:
    pairs = [(sample, passage) for sample in samples for passage in sample.passages]
    found = plan.encoder.relevances([(sample.query, passage.text) for sample, passage in pairs])
    for (sample, passage), relevance in zip(pairs, found, strict=True):
        yield _judgement(plan, sample, passage, float(relevance))


def _judgement(plan: EncoderPlan, sample: Unjudged, passage: Ungraded, relevance: float) -> Judgement:
    return Judgement(
        sample_id=sample.sample_id,
        revision_id=sample.revision_id,
        text_id=passage.text_id,
        is_positive=passage.is_positive,
        judge=plan.encoder.name,
        grade=plan.thresholds.grade(relevance),
        relevance=relevance,
    )
