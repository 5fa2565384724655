"""A store with samples and a corpus, and mine runs of them that found what a test says."""

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from synth.records import Negative, Retrieval, Source, Use, Verdict, key_of, new_id, text_id
from synth.store import minings, runs, sources
from synth.store.connection import Store
from synth.store.minings import Fallen, Minable, Mined, Status
from synth.store.rows import insert, now
from synth.store.sources import NewPassage
from tests.synth.stages.reporting import added

BOATS = Source("boats", "train", Use.TRAIN, "retrieval", "a test", "CC0-1.0", "1")
BIRDS = Source("birds", "train", Use.TRAIN, "retrieval", "a test", "CC0-1.0", "1")
PASSAGES = [f"Passage {n} is about the harbour." for n in range(60)]
CONFIG = {"encoder": "small", "num_negatives": 4, "rank_min": 10, "sources": None}


def with_corpora(store: Store) -> None:
    """Two sources with the same corpus."""
    passages = [NewPassage(text_id(text), text, "", str(n)) for n, text in enumerate(PASSAGES)]
    with store.write() as cursor:
        for source in (BOATS, BIRDS):
            sources.add_source(cursor, source, new_id())
            sources.add_passages(cursor, source.source_id, passages)


def asked(store: Store, *queries: str, source: Source = BOATS, positive: str = "") -> list[Minable]:
    """Samples that can be mined, each with a positive of its own, unless one is given."""
    added(store, *(Retrieval(query, (positive or f"The answer to {query}",)) for query in queries), source=source)
    found = {each.query: each for each in minings.minable(store, key_of("none"), [source.name])}
    return [found[query] for query in queries]


def negative(sample: Minable, rank: int, score: float = 0.5, *, of: int | None = None, **known: Any) -> Negative:
    """A negative of a sample: the passage of its rank, or the one of a number."""
    text = PASSAGES[rank if of is None else of]
    known = {"positive_score": 0.75, **known}
    return Negative(sample.sample_id, sample.revision_id, text_id(text), "mined", rank, score, **known)


def mined(
    sample: Minable,
    *negatives: Negative,
    status: Status = "full",
    reason: str = "",
    positive_rank: int = 1,
    fallen: Mapping[str, int] | None = None,
    candidates: Sequence[tuple[int, float, str]] = (),
) -> Mined:
    """What mining a sample gave; `candidates` by rank, score and reason."""
    best = tuple(Fallen(text_id(PASSAGES[rank]), rank, score, why) for rank, score, why in candidates)
    return Mined(sample, status, reason, positive_rank, negatives, len(PASSAGES), 0, 0.75, fallen or {}, best)


def a_mine_run(store: Store, *results: Mined, encoder: str = "small", config: Mapping[str, Any] = CONFIG) -> UUID:
    """A mine run that gave this; of another encoder, another mining."""
    device = f"{encoder} on cpu in bf16"
    with (
        runs.recorded(store, "mine", config, model=encoder, seed=0, device=device) as run,
        run.step("encode queries", len(results), f"{device}; peak memory 90 MB"),
        store.write() as cursor,
    ):
        minings.add_mined(cursor, key_of("mine", encoder), run.run_id, results)
    return run.run_id


def graded(store: Store, sample: Minable, *grades: tuple[int, int | None], judge: str = "small") -> None:
    """A judge's grades of passages, by number."""
    rows = [
        {
            "judgement_id": new_id(),
            "sample_id": sample.sample_id,
            "revision_id": sample.revision_id,
            "text_id": text_id(PASSAGES[number]),
            "is_positive": False,
            "judge": judge,
            "grade": grade,
            "created_at": now(),
        }
        for number, grade in grades
    ]
    with store.write() as cursor:
        insert(cursor, "judgement", rows)


def reviewed(store: Store, sample: Minable, verdict: Verdict, number: int | None = None, kind: str = "human") -> None:
    """A word on a sample, or on its negative that is the passage of a number."""
    with store.write() as cursor:
        found = cursor.execute(
            "SELECT negative_id FROM negative WHERE sample_id = $sample AND text_id = $text",
            {"sample": sample.sample_id, "text": None if number is None else text_id(PASSAGES[number])},
        ).fetchall()
        row = {"review_id": new_id(), "created_at": now(), "reviewer": "ann", "reviewer_kind": kind, "reasons": []}
        row |= {"sample_id": sample.sample_id, "revision_id": sample.revision_id, "verdict": str(verdict)}
        insert(cursor, "review", [row | {"negative_id": found[0][0] if found else None}])
