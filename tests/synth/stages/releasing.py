"""Stores to make releases of: samples with negatives of every origin, judged by people and policies."""

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from uuid import UUID

from synth.records import Content, Draft, Retrieval, ReviewEvent, Source, Sts, Use, Verdict, new_id, text_id
from synth.stages.release import Released, create_release
from synth.stages.review import apply_policy
from synth.store import reviews, samples, sources
from synth.store.connection import Store
from synth.store.console import query
from synth.store.release_policy import ReleasePolicy
from synth.store.rows import insert, now
from synth.store.sources import NewPassage


def _words(number: int) -> list[str]:
    digits = hashlib.sha256(str(number).encode()).hexdigest()
    return [digits[start : start + 6] for start in range(0, 24, 6)]


def retrieval(number: int) -> Retrieval:
    """A sample of its own words: not nearly the same as any other."""
    words = _words(number)
    return Retrieval(f"which {words[0]} is {words[1]} at {words[2]}?", (f"The {words[0]} {words[3]}.",))


def sts(number: int) -> Sts:
    """A scored pair of its own words."""
    words = _words(number)
    return Sts(f"a {words[0]} {words[1]} runs by", f"{words[2]} times an {words[3]} slept", number % 6)


def source(store: Store, name: str = "guide", use: Use = Use.TRAIN, licence: str = "CC0-1.0") -> Source:
    """A source of this name, in the store."""
    made = Source(name, "train" if use == Use.TRAIN else "test", use, "retrieval", "a test", licence, "1")
    with store.write() as cursor:
        sources.add_source(cursor, made, new_id())
    return made


def add(store: Store, source: Source, *contents: Content, operation: str = "ingest") -> None:
    """Store samples of a source."""
    with store.write() as cursor:
        drafts = [Draft(content, source.source_id, operation) for content in contents]
        samples.add_drafts(cursor, drafts, new_id())


def heads(store: Store) -> dict[str, tuple[UUID, UUID]]:
    """Sample and revision id of every sample to train on, by its query or text."""
    sql = (
        "SELECT coalesce(query, text1, text) AS asked, sample_id::VARCHAR AS s, revision_id::VARCHAR AS r FROM samples"
        " WHERE declared_use = 'train'"
    )
    return {row["asked"]: (UUID(row["s"]), UUID(row["r"])) for row in query(store, sql).to_pylist()}


def give_negatives(store: Store, asked: str, negatives: Iterable[tuple[str, str, int | None]]) -> dict[str, UUID]:
    """Give a sample negatives of one run: (text, origin, rank). Returns their ids by text."""
    sample_id, revision_id = heads(store)[asked]
    run_id = new_id()
    rows = [
        {
            "negative_id": new_id(),
            "sample_id": sample_id,
            "revision_id": revision_id,
            "text_id": text_id(text),
            "origin": origin,
            "rank": rank,
            "score": None if rank is None else 0.5,
            "positive_score": None if rank is None else 0.8,
            "run_id": run_id,
            "created_at": now(),
        }
        for text, origin, rank in negatives
    ]
    with store.write() as cursor:
        texts = [NewPassage(text_id(text), text, "", "") for text, _, _ in negatives]
        sources.add_passages(cursor, new_id(), texts)
        insert(cursor, "negative", rows)
        samples.refresh_state(cursor, [sample_id])
    return {text: row["negative_id"] for (text, _, _), row in zip(negatives, rows, strict=True)}


def judge(
    store: Store,
    asked: str,
    verdict: Verdict,
    reviewer: str = "ann",
    *,
    negative_id: UUID | None = None,
    **fields: Any,
) -> UUID:
    """One reviewer's word on a sample or one of its negatives. Returns the event's id."""
    sample_id, revision_id = heads(store)[asked]
    kind = "policy" if reviewer.startswith("policy:") else "human"
    event = ReviewEvent(
        new_id(), reviewer, sample_id, revision_id, verdict, negative_id=negative_id, reviewer_kind=kind, **fields
    )
    reviews.add_reviews(store, [event])
    return event.review_id


def approve_all(store: Store) -> None:
    """A policy's approval of everything."""
    apply_policy(store, "everything", max_rank=20)


def create(store: Store, folder: Path, name: str = "first", **policy: Any) -> Released:
    """A release under a policy of these settings."""
    return create_release(store, folder, name, ReleasePolicy(**policy), on_progress=lambda _: None)


def files(folder: Path) -> Mapping[str, bytes]:
    """Every file of a folder, by path."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
