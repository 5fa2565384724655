"""Samples for the review app's tests, put into a store as the stages put them."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any
from uuid import UUID

from synth.records import (
    Content,
    Draft,
    Negative,
    Retrieval,
    ReviewEvent,
    Source,
    Use,
    Verdict,
    key_of,
    new_id,
    text_id,
)
from synth.store import minings, reviews, samples, sources
from synth.store.connection import Store
from synth.store.judgements import Judge, Judgement, add_judgements

GUIDE = Source("guide", "train", Use.TRAIN, "retrieval", "a test", "CC0-1.0", "1")


def add_samples(
    store: Store,
    queries: Sequence[str],
    *,
    positive: str = "The harbour opens at six.",
    negatives: Sequence[str] = ("The harbour closes at nine.", "Boats are painted in March."),
    known: Mapping[str, Mapping[str, Any]] = MappingProxyType({}),
) -> list[UUID]:
    """
    One mined retrieval sample per query; ids in the order in which the queue shows them. `known` is what is known of
    negatives, by their text: fields of `Negative`.
    """
    drafts = [Draft(Retrieval(query, (positive,)), GUIDE.source_id, "query", "llm") for query in queries]
    run_id = new_id()
    with store.write() as cursor:
        sources.add_source(cursor, GUIDE, run_id)
        passages = [sources.NewPassage(text_id(text), text, "", "") for text in (positive, *negatives)]
        sources.add_passages(cursor, GUIDE.source_id, passages)
        samples.add_drafts(cursor, drafts, run_id)
    mined = mine(store, queries, negatives, known)
    by_query = {each.sample.query: each.sample.sample_id for each in mined}
    return [by_query[query] for query in queries]


def mine(
    store: Store, queries: Sequence[str], negatives: Sequence[str], known: Mapping[str, Mapping[str, Any]]
) -> list[minings.Mined]:
    """Find these negatives for the samples of these queries."""
    stage = new_id()
    mined = [
        minings.Mined(
            minable, "full", "", 1, tuple(_negatives(minable, negatives, queries.index(minable.query), known))
        )
        for minable in minings.minable(store, stage)
        if minable.query in queries
    ]
    with store.write() as cursor:
        minings.add_mined(cursor, stage, new_id(), mined)
    return mined


def _negatives(
    minable: minings.Minable, texts: Sequence[str], place: int, known: Mapping[str, Mapping[str, Any]]
) -> list[Negative]:
    """Scores fall with the sample's place, so that the queue (most contested first) keeps the order."""
    ids = minable.sample_id, minable.revision_id
    return [
        replace(
            Negative(*ids, text_id(text), "mined", rank, 0.7 - place / 1000 - rank / 10, 0.8), **known.get(text, {})
        )
        for rank, text in enumerate(texts, start=1)
    ]


def add_unmined(store: Store, content: Content) -> None:
    """One sample without negatives."""
    with store.write() as cursor:
        sources.add_source(cursor, GUIDE, new_id())
        samples.add_drafts(cursor, [Draft(content, GUIDE.source_id, "ingest")], new_id())


def approve_by_policy(store: Store, sample_ids: Sequence[UUID]) -> None:
    """What `synth judge` stores."""
    reviews.add_reviews(
        store,
        [
            ReviewEvent(new_id(), "policy:everything", each, each, Verdict.APPROVE, reviewer_kind="policy")
            for each in sample_ids
        ],
    )


def grade(store: Store, grades: Mapping[str, int], *, judge: str = "judge-7b", reason: str = "so it says") -> None:
    """What a judge says of passages by their text, wherever one stands in a sample."""
    with store.read() as cursor:
        rows = cursor.execute(
            "SELECT sample_id, revision_id, unnest(positives) AS text, true FROM samples UNION ALL"
            " SELECT sample_id, revision_id, text, false FROM negatives"
        ).fetchall()
    said = [
        Judgement(sample_id, revision_id, text_id(text), is_positive, judge, grades[text], reason=reason)
        for sample_id, revision_id, text, is_positive in rows
        if text in grades
    ]
    with store.write() as cursor:
        add_judgements(cursor, Judge((judge,), "llm", "judge-00000000", key_of(judge)), new_id(), said)


def verdicts(store: Store, reviewer: str = "ada") -> list[tuple[str, str]]:
    """A reviewer's verdicts on samples as (query, verdict), oldest first; undos and what they undid are left out."""
    with store.read() as cursor:
        return cursor.execute(
            "SELECT s.query, v.verdict FROM reviews v JOIN samples s USING (sample_id) WHERE v.reviewer = ?"
            " AND v.negative_id IS NULL AND NOT v.is_undo AND NOT v.is_undone ORDER BY v.review_id",
            [reviewer],
        ).fetchall()


def num_events(store: Store) -> int:
    """Every stored event, of whatever kind."""
    with store.read() as cursor:
        return int(cursor.execute("SELECT count(*) FROM reviews").fetchall()[0][0])
