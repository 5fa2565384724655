"""What a judge is going to be asked: which LLM, and about which samples."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar
from uuid import UUID

from synth.recipes import judging
from synth.records import UserError, key_of
from synth.stages.asking.opening import asked_by
from synth.stages.asking.plan import Asking, Plan
from synth.stages.asking.question import Questions
from synth.stages.judge.asking import JudgeAsker
from synth.store import judgements, sources
from synth.store.connection import Store
from synth.store.judgements import Judge, Judgement, Scope, Unjudged

AGAIN = "synth judge --again"


@dataclass(frozen=True, slots=True)
class Samples:
    """The samples with passages that a judge has not graded, of the named sources or of all."""

    judge: Judge
    names: tuple[str, ...]
    scope: Scope
    kind: ClassVar[str] = "samples"

    def load(self, store: Store, revision_ids: Sequence[UUID]) -> list[Unjudged]:
        """These of them, with what the judge has not graded."""
        return judgements.unjudged(store, self.judge, revision_ids, scope=self.scope)

    def untried(self, store: Store, stage_key: UUID) -> list[UUID]:
        """Those about which no request has failed."""
        return judgements.pending(store, self.judge, self.names, limit=None, scope=self.scope, untried=True)


@dataclass(frozen=True, kw_only=True)
class JudgePlan(Plan[Unjudged, Judgement]):
    """
    What an LLM will be asked to judge. `attempts` are the numbers of those revisions that are asked anew; `nothing`
    tells why there are no seeds.
    """

    judge: Judge
    shuffle: int
    attempts: Mapping[UUID, int]
    nothing: str


def plan_judge(
    store: Store,
    asking: Asking,
    names: Sequence[str],
    *,
    seed: int,
    limit: int | None,
    again: bool,
    scope: Scope = "open",
) -> JudgePlan:
    """
    Find the retrieval samples to train on, of the named sources or of all, with passages that this LLM has not graded.

    Args:
        seed: shuffles the passages of a request.
        again: ask anew, and only about those of which no usable reply came.
        scope: of which samples.

    Raises UserError for an unknown source, no samples at all, or a ceiling on money without prices.
    """
    asking.check_prices()
    sources.check_sources(store, names)
    version, llm = judging.prompt_version(), asking.llm
    settings = {"seed": seed, "temperature": llm.temperature, "parser_version": judging.PARSER_VERSION}
    model = " + ".join(llm.models)
    judge = Judge(llm.models, "llm", version, key_of("judge", model, version, settings))
    of = Samples(judge, tuple(names), scope)
    attempts = judgements.attempts_anew(store, judge) if again else {}
    revisions = judgements.pending(store, judge, names, limit=None if again else limit, scope=scope)
    if again:
        revisions = [each for each in revisions if each in attempts][:limit]
    return JudgePlan(
        stage_key=judge.key,
        engine=str(llm),
        model=model,
        prompt_version=version,
        settings=settings,
        config={"sources": list(names), "limit": limit, "scope": scope, **llm.sampling},
        of=of,
        opened=asked_by(
            asking,
            lambda engine, key, hopeless: JudgeAsker(Questions(engine, key, version, hopeless, AGAIN), seed, attempts),
        ),
        seeds=revisions,
        asking=asking,
        judge=judge,
        shuffle=seed,
        attempts=attempts,
        nothing="" if revisions else why_nothing(store, judge, names, scope, again=again),
    )


def why_nothing(store: Store, judge: Judge, names: Sequence[str], scope: Scope, *, again: bool = False) -> str:
    """
    Why a judge has nothing to do, in one line.

    Raises UserError where there are no retrieval samples to train on.
    """
    where = f" of {', '.join(names)}" if names else ""
    if judgements.any_judgeable(store, judge, names, scope):
        left = "earlier runs with these settings left nothing"
        return left if again else "nothing is left to judge with these settings"
    if not judgements.any_judgeable(store, judge, names, "open"):
        raise UserError(f"there are no retrieval samples{where} to judge: ingest or generate some for training first")
    if scope == "flagged":
        return f"mining flagged no negative of a sample{where}"
    if scope == "reviewed":
        return f"people have decided no sample{where} yet: run synth review first"
    return f"no other judge has a suggestion about a sample{where}: let another one judge first"
