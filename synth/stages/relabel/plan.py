"""What relabelling is going to do: which samples, and which passages of their corpora may answer their queries."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

from synth.recipes.relabelling import MOST_CANDIDATES, OPERATION, RECIPE
from synth.records import Passage, Task, Use, UserError
from synth.stages.asking.plan import Asking
from synth.stages.generate.plan import GeneratePlan, Wanted, plan_generate, stage_key
from synth.stages.relabel.candidates import Retrieved, Searching, search_candidates
from synth.stages.vectors import mining_errors
from synth.store import sources
from synth.store.connection import Store
from synth.store.relabels import Relabelable, any_eligible, attempts_anew, relabelable

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
class RelabelPlan(GeneratePlan):
    """A plan whose samples have no candidates yet, until `with_candidates` has searched for them."""

    encoder: "Encoder"
    how: RelabelSettings
    pending: Sequence[Relabelable]
    corpora: Mapping[str, Sequence[Passage]]  # of their sources, by name
    search: str = ""  # one line: what searched
    any_eligible: bool = True  # whether there is a sample that could be relabelled, done or not

    @property
    def num_texts(self) -> int:
        """How many texts the encoder will be given, those in its cache and those given twice included."""
        return sum(map(len, self.corpora.values())) + 2 * len(self.pending)


def plan_relabel(store: Store, settings: RelabelSettings, asking: Asking | None, folder: Path) -> RelabelPlan:
    """
    Find the encoder, whose cache is in `folder`, and the generated samples that are not done.

    Raises UserError for an unknown source, an encoder that cannot be loaded, no LLM, or a store without samples.
    """
    from mining.encode import load_encoder

    if not 2 <= settings.num_candidates <= MOST_CANDIDATES:
        raise UserError(f"{settings.num_candidates} candidates: give 2 to {MOST_CANDIDATES}")
    plan = _asking_plan(store, settings, asking)
    with mining_errors():
        encoder = load_encoder(settings.encoder, device=settings.device, folder=folder)
    chosen = {"encoder_fingerprint": encoder.fingerprint, "candidates": settings.num_candidates, "seed": settings.seed}
    config = {**plan.config, "encoder": settings.encoder}
    told = {**plan.settings, **chosen}
    key = stage_key(plan.model, plan.prompt_version, told)
    plan = replace(plan, stage_key=key, settings=told, config=config, device=encoder.description)
    found = relabelable(store, plan.stage_key, settings.names)
    if settings.again:
        anew = attempts_anew(store, plan.stage_key)
        plan = replace(plan, opened=_asking_plan(store, settings, asking, anew).opened)
        found = [each for each in found if each.sample.revision_id in anew]
    corpora = sources.corpora(store, sorted({each.source for each in found}), declared_use=Use.TRAIN) if found else {}
    pending = [each for each in found if len(corpora[each.source]) > 1][: settings.limit]
    names = {each.source for each in pending}
    return RelabelPlan(
        **vars(plan) | {"seeds": [each.sample.revision_id for each in pending]},
        pending=pending,
        corpora={name: corpora[name] for name in sorted(names)},
        encoder=encoder,
        how=settings,
        any_eligible=bool(pending) or any_eligible(store, settings.names),
    )


def _asking_plan(
    store: Store, settings: RelabelSettings, asking: Asking | None, anew: Mapping[UUID, int] | None = None
) -> GeneratePlan:
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
    of = Retrieved("samples", Task.RETRIEVAL, wanted.names, samples=samples, places=places, shuffle=wanted.seed)
    return replace(plan, of=of, search=search, notes=notes)
