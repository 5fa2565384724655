"""
Relabel: the positive of a generated sample moves to the passage of its corpus that answers the query best.

The encoder finds candidates, an LLM ranks and grades them in two requests, and what follows is stored with the mark
that the sample is done. Requests, ceilings and stops are those of generate.py.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

from synth.recipes.relabelling import MOST_CANDIDATES, OPERATION, RECIPE, JudgedDraft, WithCandidates
from synth.records import BudgetSpent, Passage, SkiffError, Stopped, Task, Use, UserError, key_of
from synth.stages.generate import Asking, Generated, Plan, Watch, _Work
from synth.stages.generate_plan import Wanted, plan_generate
from synth.stages.mine import mining_errors
from synth.stages.relabel_candidates import Retrieved, Searching, search_candidates
from synth.stages.relabel_choice import LEAST_OF_POSITIVE, choose
from synth.store import runs, sources
from synth.store.calls import add_calls
from synth.store.connection import Store
from synth.store.failures import add_failures
from synth.store.made import Finished
from synth.store.relabels import Relabelable, Relabelled, add_relabelled, any_eligible, attempts_anew, relabelable

if TYPE_CHECKING:
    from mining.encode import Encoder


@dataclass(frozen=True, slots=True)
class RelabelSettings:
    """Which samples, and how their candidates are found: `num_candidates` of each, shuffled by `seed`."""

    encoder: str
    num_candidates: int = 20
    seed: int = 0
    device: str = "auto"
    names: tuple[str, ...] = ()  # of sources; empty: all
    limit: int | None = None  # at most so many samples
    again: bool = False  # only those that earlier runs left, each asked under another attempt number


@dataclass(frozen=True, kw_only=True)
class RelabelPlan(Plan):
    """A plan whose samples have no candidates yet, until `with_candidates` has searched for them."""

    encoder: "Encoder"
    how: RelabelSettings
    pending: Sequence[Relabelable]
    corpora: Mapping[str, Sequence[Passage]]  # of their sources, by name
    search: str = ""  # one line: what searched
    notes: Sequence[str] = ()
    any_eligible: bool = True  # whether there is a sample that could be relabelled, done or not

    @property
    def num_texts(self) -> int:
        """How many texts the encoder will be given, those in its cache and those given twice included."""
        return sum(map(len, self.corpora.values())) + 2 * len(self.pending)


@dataclass(frozen=True)
class RelabelOutcome(Generated):
    """
    The outcome: `num_stored` positives moved, of `num_done` samples. `outcomes` count these: moved, stayed, unanswered,
    duplicate, and overtaken by a person's word, which are not done.
    """

    outcomes: Mapping[str, int] = field(default_factory=dict)
    encoder: str = ""
    search: str = ""


def plan_relabel(store: Store, settings: RelabelSettings, asking: Asking | None) -> RelabelPlan:
    """
    Load the encoder and find the generated samples that are not done.

    Raises UserError for an unknown source, an encoder that cannot be loaded, no LLM, or a store without samples.
    """
    from mining.encode import load_encoder

    if not 2 <= settings.num_candidates <= MOST_CANDIDATES:
        raise UserError(f"{settings.num_candidates} candidates: give 2 to {MOST_CANDIDATES}")
    plan = _asking_plan(store, settings, asking)
    with mining_errors():
        encoder = load_encoder(settings.encoder, device=settings.device)
    chosen = {"encoder_fingerprint": encoder.fingerprint, "candidates": settings.num_candidates, "seed": settings.seed}
    config = {**plan.config, "encoder": settings.encoder}
    plan = replace(plan, settings={**plan.settings, **chosen}, config=config)
    found = relabelable(store, plan.stage_key, settings.names)
    if settings.again:
        anew = attempts_anew(store, plan.stage_key)
        plan = replace(plan, opened=_asking_plan(store, settings, asking, anew).opened)
        found = [each for each in found if each.sample.revision_id in anew]
    corpora = sources.corpora(store, sorted({each.source for each in found}), declared_use=Use.TRAIN) if found else {}
    pending = [each for each in found if len(corpora[each.source]) > 1][: settings.limit]
    names = {each.source for each in pending}
    return RelabelPlan(
        **(_fields_of(plan, Plan) | {"seeds": [each.sample.revision_id for each in pending], "can_sample": False}),
        pending=pending,
        corpora={name: corpora[name] for name in sorted(names)},
        encoder=encoder,
        how=settings,
        any_eligible=bool(pending) or any_eligible(store, settings.names),
    )


def _asking_plan(
    store: Store, settings: RelabelSettings, asking: Asking | None, anew: Mapping[UUID, int] | None = None
) -> Plan:
    wanted = Wanted(
        Task.RETRIEVAL,
        OPERATION,
        settings.names,
        per_seed=1,
        max_tries=1,
        limit=settings.limit,
        recipes={(Task.RETRIEVAL, OPERATION): RECIPE},
    )
    return plan_generate(store, wanted, asking, anew=anew)


def _fields_of(value: object, kind: type) -> dict[str, Any]:
    return {each.name: getattr(value, each.name) for each in fields(kind)}


def with_candidates(plan: RelabelPlan, folder: Path, *, on_progress: Callable[[int], None]) -> RelabelPlan:
    """
    The plan with the candidates of its samples.

    Args:
        folder: where vectors are cached.
        on_progress: called with the number of texts that were just encoded or found in the cache.

    Raises UserError if the encoder or the search cannot work.
    """
    from mining.search import describe_search

    wanted = plan.how
    with mining_errors():
        search = describe_search(wanted.device)
    notes: list[str] = []
    searching = Searching(plan.encoder, wanted.device, wanted.num_candidates, folder, notes)
    places, samples = {}, {}
    for each, neighbours, place in search_candidates(searching, plan.pending, plan.corpora, on_progress):
        places[each.sample.revision_id] = (neighbours, place)
        samples[each.sample.revision_id] = each.sample
    of = Retrieved("samples", Task.RETRIEVAL, wanted.names, samples, places, wanted.seed)
    return replace(plan, of=of, search=search, notes=notes)


async def relabel_samples(
    store: Store, plan: RelabelPlan, *, watch: Watch | None = None, stop: asyncio.Event | None = None
) -> RelabelOutcome:
    """
    Ask about the plan's samples, and store what follows.

    Args:
        plan: with candidates.
        watch: told how it goes.
        stop: once it is set, no new sample is begun: what is in flight is finished and stored.

    Raises LLMError if no server can serve; what was found before is stored. A ceiling that was reached, and a stop, end
    the run early and are told in the outcome.
    """
    assert plan.asking is not None
    watch = watch or Watch()
    config = {**plan.settings, **plan.config, "engine": plan.engine, "stage_key": plan.stage_key}
    ended: SkiffError | None = None
    work: _Relabelling | None = None
    with ExitStack() as alone:
        alone.enter_context(store.sole(plan.stage_key, "relabelling with the same settings"))
        for model in sorted(plan.asking.llm.models):  # by two at once it would be paid twice
            asked = key_of("asking", model, plan.prompt_version)
            alone.enter_context(store.sole(asked, f"asking {model} for the same"))
        try:
            with runs.recorded(
                store,
                OPERATION,
                config | {"num_seeds": len(plan.seeds)},
                model=plan.model,
                prompt_version=plan.prompt_version,
                seed=plan.how.seed,
                device=plan.encoder.description,
            ) as run:
                work = _Relabelling(store, plan, run, watch)
                if plan.seeds:
                    await work.done(stop or asyncio.Event())
        except (BudgetSpent, Stopped) as error:
            ended = error
        finally:
            if work is not None:
                watch.ended(_outcome(work, plan, ended))
                if work.run.is_recorded:
                    work.recorded()
    assert work is not None
    return _outcome(work, plan, ended)


@dataclass
class _Relabelling(_Work):
    """Samples that were asked about, on their way into the store."""

    outcomes: Counter[str] = field(default_factory=Counter)

    def _flush(self) -> None:
        finished, self._finished = self._finished, []
        failed, self._failed = self._failed, []
        calls, self._calls = self._calls, []
        self._flushed_at = time.monotonic()
        if not (finished or failed or calls):
            return
        with self.store.write() as cursor:
            found = [_found(each) for each in finished]
            stored = add_relabelled(cursor, self.plan.stage_key, self.run.run_id, found)
            add_calls(cursor, calls, self.run.run_id)
            add_failures(cursor, failed, self.run.run_id)
        self.outcomes.update(stored.outcomes)
        self.num_stored += stored.outcomes.get("moved", 0)
        self.num_negatives += stored.num_negatives
        numbers = {"samples": len(finished), "failed": len(failed), "negatives": stored.num_negatives}
        self.run.count(**numbers, **stored.outcomes)


def _found(finished: Finished) -> Relabelled:
    sample, [draft] = finished.seed, finished.made
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


def _outcome(work: _Relabelling, plan: RelabelPlan, ended: SkiffError | None) -> RelabelOutcome:
    return RelabelOutcome(
        **(_fields_of(work.outcome(ended), Generated) | {"notes": [*plan.notes, *work.notes]}),
        outcomes={name: number for name, number in sorted(work.outcomes.items()) if number},
        encoder=plan.encoder.description,
        search=plan.search,
    )
