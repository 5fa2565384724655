"""
Check: which samples to train on repeat an evaluation set, and which say nearly what another one says.

Findings are recorded in the store, each once; nothing else is changed. A release looks for itself once more, with the
defaults of synth.overlaps, and takes only the similar ones from what was recorded here. Runs of words that are compared
otherwise are counted and shown, not recorded.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

from synth.overlaps import NGRAM, THRESHOLD, EvalIndex, EvalText, Overlap, asked_texts, near_duplicates, near_text
from synth.records import UserError
from synth.stages.similarity import Similarity, load_query_encoder
from synth.store import overlaps, runs
from synth.store.connection import Store
from synth.store.overlaps import EvalSet, FoundDuplicate, FoundOverlap

if TYPE_CHECKING:
    from mining.encode import Encoder

SLICE = 10_000  # samples compared between two leases
SIMILAR_SLICE = 100_000  # samples whose vectors are looked up together: each look-up reads the whole cache
NUM_EXAMPLES = 5  # of each kind
POSITIVE = "positive"


@dataclass(frozen=True)
class CheckSettings:
    """What counts as an overlap. Defaults and their evidence: docs/contamination.md."""

    ngram: int  # words
    threshold: float  # share of the shorter text's n-grams
    similar: float | None = None  # cosine of two asked texts; None: not looked at
    encoder: str = ""  # whose vectors are compared
    encode_missing: bool = False  # else every vector must be in the cache
    seed: int = 0  # of the search for near-duplicates

    @property
    def is_standard(self) -> bool:
        """Whether runs of words are compared as releases compare them; what is found otherwise is not recorded."""
        return (self.ngram, self.threshold) == (NGRAM, THRESHOLD)


@dataclass(frozen=True)
class CheckPlan:
    """What is compared with what."""

    settings: CheckSettings
    eval_sets: Sequence[EvalSet]
    num_samples: int
    encoder: "Encoder | None"
    device: str

    @property
    def num_steps(self) -> int:
        """How often a sample is looked at, all in all."""
        return self.num_samples * (2 + (self.encoder is not None))


@dataclass(frozen=True, slots=True)
class CheckRow:
    """How many samples of a source have a field that repeats an evaluation set."""

    source: str
    eval_set: str
    field: str
    kind: str
    num_samples: int


@dataclass(frozen=True, slots=True)
class Example:
    """One finding, with both texts."""

    source: str
    eval_set: str
    field: str
    kind: str
    value: float
    text: str
    eval_text: str


@dataclass(frozen=True)
class CheckOutcome:
    """What was found. A sample is flagged if a text that it asks about repeats an evaluation text."""

    eval_sets: Sequence[str]
    num_samples: int
    num_flagged: int
    num_near_duplicates: int
    num_new_overlaps: int
    num_new_near_duplicates: int
    encoder: str  # with its device and precision; "" if none was used
    search: str
    rows: Sequence[CheckRow]
    examples: Sequence[Example]
    notes: Sequence[str]


def plan_check(
    store: Store, settings: CheckSettings, against: Sequence[str], folder: Path, *, device: str
) -> CheckPlan:
    """
    Find the evaluation sets named (all, if none is) and, for similarity, the encoder, whose cache is in `folder`.

    Raises UserError for a name that is no held-out source, or an encoder that cannot be loaded.
    """
    known = overlaps.eval_sets(store)
    for name in against:
        if name not in {each.name for each in known}:
            raise UserError(_unknown(name, known))
    chosen = [each for each in known if not against or each.name in against]
    encoder = None
    if settings.similar is not None and chosen:
        encoder = load_query_encoder(settings.encoder, folder, device=device, encode_missing=settings.encode_missing)
    return CheckPlan(settings, chosen, overlaps.num_training(store), encoder, device)


def _unknown(name: str, known: Sequence[EvalSet]) -> str:
    if Path(name).exists():
        return f"{name} is a path, and sets are compared in the store: run `synth ingest {name} --use eval` first"
    names = ", ".join(dict.fromkeys(each.name for each in known)) or "none yet"
    return f"no held-out source is called {name}; this store has: {names} (`synth ingest PATH --use eval` adds one)"


def check(store: Store, plan: CheckPlan, folder: Path, *, on_progress: Callable[[int], None]) -> CheckOutcome:
    """
    Compare, record and count.

    Evaluation texts are in memory for the whole time, and so is, to find near-duplicates, one text of every sample.

    Args:
        folder: where vectors are cached.
        on_progress: told how many more samples were looked at, of `plan.num_steps`.

    Raises UserError if vectors are missing that may not be encoded, or the encoder or the search cannot work.
    """
    texts = [EvalText(*row) for row in overlaps.eval_texts(store, [each.source_id for each in plan.eval_sets])]
    findings = _Findings(plan.eval_sets, texts)
    config = asdict(plan.settings) | {"against": [_title(each) for each in plan.eval_sets]}
    encoder = plan.encoder.description if plan.encoder else ""
    with runs.recorded(store, "check", config, model=encoder, seed=plan.settings.seed, device=encoder) as run:
        new = 0
        similarity = None
        if plan.encoder is not None and plan.settings.similar is not None:  # first: it may end for want of vectors
            similarity = Similarity(plan.encoder, folder, texts, least=plan.settings.similar, device=plan.device)
            for rows in overlaps.training_slices(store, SIMILAR_SLICE):
                new += _record(store, run.run_id, findings.take(rows, similarity.similar(rows)))
                on_progress(len(rows))
        index = EvalIndex(texts, ngram=plan.settings.ngram, threshold=plan.settings.threshold)
        for rows in overlaps.training_slices(store, SLICE):
            found = findings.take(rows, _repeated(rows, index))
            new += _record(
                store, run.run_id, [each for each in found if each.kind == "exact" or plan.settings.is_standard]
            )
            on_progress(len(rows))
        duplicates = _near_duplicates(store, plan.settings.seed, on_progress)
        with store.write() as cursor:
            new_duplicates = overlaps.add_near_duplicates(cursor, run.run_id, duplicates)
        run.count(samples=plan.num_samples, flagged=len(findings.flagged), overlaps=new, near_duplicates=new_duplicates)
    return CheckOutcome(
        eval_sets=[_title(each) for each in plan.eval_sets],
        num_samples=plan.num_samples,
        num_flagged=len(findings.flagged),
        num_near_duplicates=len(duplicates),
        num_new_overlaps=new,
        num_new_near_duplicates=new_duplicates,
        encoder=encoder,
        search=similarity.search if similarity else "",
        rows=findings.rows(),
        examples=sorted(findings.examples, key=lambda each: each.kind),
        notes=similarity.notes if similarity else [],
    )


def _title(each: EvalSet) -> str:
    return f"{each.name}/{each.split}"


def _record(store: Store, run_id: UUID, found: Sequence[FoundOverlap]) -> int:
    if not found:
        return 0
    with store.write() as cursor:
        return overlaps.add_overlaps(cursor, run_id, found)


class _Findings:
    """What was found so far: counted, and a few shown with both texts."""

    def __init__(self, eval_sets: Sequence[EvalSet], texts: Sequence[EvalText]) -> None:
        self.flagged: set[UUID] = set()
        self.examples: list[Example] = []
        self._titles = {each.source_id: _title(each) for each in eval_sets}
        self._texts = texts
        self._counts: Counter[tuple[str, str, str, str]] = Counter()
        self._shown: Counter[str] = Counter()

    def take(self, rows: Sequence[Mapping[str, Any]], found: Sequence[FoundOverlap]) -> Sequence[FoundOverlap]:
        """Count and show what was found in these rows; gives it back."""
        row_of = {row["sample_id"]: row for row in rows}
        for each in found:
            row, title = row_of[each.sample_id], self._titles[each.eval_source_id]
            self._counts[row["source"], title, each.field, each.kind] += 1
            if each.field != POSITIVE:
                self.flagged.add(each.sample_id)
                if self._shown[each.kind] < NUM_EXAMPLES:
                    self._shown[each.kind] += 1
                    eval_text = " / ".join(t.text for t in self._texts if t.eval_id == each.eval_id)
                    self.examples.append(
                        Example(row["source"], title, each.field, each.kind, each.value, row[each.field], eval_text)
                    )
        return found

    def rows(self) -> list[CheckRow]:
        """The counts, by source, evaluation set, field and kind."""
        return [CheckRow(*key, number) for key, number in sorted(self._counts.items())]


def _repeated(rows: Sequence[Mapping[str, Any]], index: EvalIndex) -> list[FoundOverlap]:
    """The strongest overlap of each field with each evaluation set, by the words of the texts."""
    found = []
    for row in rows:
        texts = [*asked_texts(row).items(), *((POSITIVE, positive) for positive in row["positives"] or ())]
        best: dict[tuple[str, UUID], Overlap] = {}
        for field, text in texts:
            for overlap in index.find_all(text):
                known = best.setdefault((field, overlap.eval_source_id), overlap)
                if overlap.strength > known.strength:
                    best[field, overlap.eval_source_id] = overlap
        for (field, _), overlap in best.items():
            found.append(FoundOverlap(row["sample_id"], row["revision_id"], field, **asdict(overlap)))
    return found


def _near_duplicates(store: Store, seed: int, on_progress: Callable[[int], None]) -> list[FoundDuplicate]:
    """Of samples that say nearly the same the oldest is kept."""
    revisions: dict[UUID, UUID] = {}

    def texts() -> Iterator[tuple[UUID, str]]:
        for rows in overlaps.training_slices(store, SLICE):
            for row in rows:
                revisions[row["sample_id"]] = row["revision_id"]
                yield row["sample_id"], near_text(row)
            on_progress(len(rows))

    dropped = near_duplicates(texts(), seed=seed)
    return [FoundDuplicate(sample_id, revisions[sample_id], *kept) for sample_id, kept in dropped.items()]
