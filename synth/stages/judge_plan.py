"""What a judge is going to be asked: which LLM, and about which samples."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from synth.recipes import judging
from synth.records import UserError, key_of
from synth.stages.generate import Asking
from synth.store import judgements, sources
from synth.store.connection import Store
from synth.store.judgements import Judge, Unjudged

LOADED_SAMPLES = 500  # read from the store at once


@dataclass(frozen=True)
class JudgePlan:
    """What an LLM will be asked to judge: the revisions with passages that it has not graded."""

    judge: Judge
    asking: Asking
    seed: int
    revisions: Sequence[UUID]
    attempts: Mapping[UUID, int]
    config: Mapping[str, object]

    def loaded(self, store: Store) -> Iterator[Unjudged]:
        """The samples, some hundred in memory at a time."""
        for start in range(0, len(self.revisions), LOADED_SAMPLES):
            yield from judgements.unjudged(store, self.judge, self.revisions[start : start + LOADED_SAMPLES])


def plan_judge(
    store: Store,
    asking: Asking,
    names: Sequence[str],
    *,
    seed: int,
    limit: int | None,
    again: bool,
    suggested: bool = False,
) -> JudgePlan:
    """
    Find the retrieval samples to train on, of the named sources or of all, with passages that this LLM has not graded.

    Args:
        seed: shuffles the passages of a request.
        again: ask anew for what got no usable reply.
        suggested: only of samples that another judge has a suggestion about.

    Raises UserError for an unknown source, no samples at all, or a ceiling on money without prices.
    """
    asking.ceilings.check_prices(asking.llm.endpoints)
    sources.check_sources(store, names)
    version, llm = judging.prompt_version(), asking.llm
    settings = {"seed": seed, "temperature": llm.temperature, "parser_version": judging.PARSER_VERSION}
    judge = Judge(llm.models, "llm", version, key_of("judge", " + ".join(llm.models), version, settings))
    revisions = judgements.pending(store, judge, names, limit=limit, suggested=suggested)
    refuse_nothing(store, names, revisions)
    attempts = judgements.next_attempts(store, judge) if again else {}
    config = {
        "engine": str(llm),
        "sources": list(names),
        "limit": limit,
        "suggested": suggested,
        **settings,
        **llm.sampling,
    }
    return JudgePlan(judge, asking, seed, revisions, attempts, config)


def refuse_nothing(store: Store, names: Sequence[str], pending: Sequence[UUID]) -> None:
    """Raises UserError where nothing is pending because there are no retrieval samples to train on."""
    if not pending and not judgements.num_judgeable(store, names):
        where = f" of {', '.join(names)}" if names else ""
        raise UserError(f"there are no retrieval samples{where} to judge: ingest or generate some for training first")
