"""Two runs of two models over the same seeds, and two releases with an edit between them, for tests of comparisons."""

from collections.abc import Sequence
from pathlib import Path
from uuid import UUID

from synth.records import Classification, Content, Draft, Retrieval, ReviewEvent, Source, Use, Verdict, key_of, new_id
from synth.stages.release import create_release
from synth.store import samples, sources
from synth.store.comparing import Kind, Side
from synth.store.connection import Store
from synth.store.release_policy import read_policy
from synth.store.reviews import add_reviews
from synth.store.runs import recorded

SOURCE = Source("guide", "train", Use.TRAIN, "retrieval", "a test", "CC0-1.0", "1")
SMALL, LARGE = Side(Kind.MODEL, "small"), Side(Kind.MODEL, "large")
FIRST, SECOND = Side(Kind.RELEASE, "first"), Side(Kind.RELEASE, "second")


def add_run(store: Store, model: str, contents: Sequence[tuple[str, Content]], prompt: str = "") -> UUID:
    """A run of a model, which makes these of seeds, named by anything; returns its id."""
    drafts = [
        Draft(content, SOURCE.source_id, "query", "llm", key_of(seed), model, prompt or f"{model}-prompt")
        for seed, content in contents
    ]
    with recorded(store, "generate", {}, model=model, prompt_version=prompt) as run, store.write() as cursor:
        sources.add_source(cursor, SOURCE, run.run_id)
        samples.add_drafts(cursor, drafts, run.run_id)
    return run.run_id


def add_models(store: Store, pairs: Sequence[tuple[str, str]], positive: str = "It opens at six.") -> None:
    """Of each pair of queries the first is made by `small`, the second by `large`, both of one seed."""
    for model, place in (("small", 0), ("large", 1)):
        add_run(
            store,
            model,
            [(f"seed {n}", Retrieval(each[place], (positive,))) for n, each in enumerate(pairs)],
            "query-1",
        )


def ids_of(store: Store, model: str) -> list[UUID]:
    """A model's samples, oldest first."""
    with store.read() as cursor:
        rows = cursor.execute("SELECT sample_id FROM samples WHERE model = ? ORDER BY sample_id", [model]).fetchall()
    return [sample_id for (sample_id,) in rows]


def judge(store: Store, sample_id: UUID, verdict: Verdict, *reasons: str, difficulty: int | None = None) -> None:
    """What ada says of a sample's first revision."""
    event = ReviewEvent(new_id(), "ada", sample_id, sample_id, verdict, reasons=reasons, difficulty=difficulty)
    add_reviews(store, [event])


def add_releases(store: Store, before: str, after: str) -> None:
    """Two labelled texts, frozen as `first`; then the one that said `before` is edited, and `second` is frozen."""
    add_run(store, "small", [("one", Classification(before, "water")), ("two", Classification("A dry hill.", "land"))])
    for sample_id in ids_of(store, "small"):
        judge(store, sample_id, Verdict.APPROVE)
    freeze(store, "first")
    edited = next(each for each in ids_of(store, "small") if _text(store, each) == before)
    edit = Classification(after, "water")
    add_reviews(store, [ReviewEvent(new_id(), "ada", edited, edited, Verdict.APPROVE, edited_id=new_id(), edit=edit)])
    freeze(store, "second")


def freeze(store: Store, name: str) -> Path:
    """A release of what is approved, in the store's folder."""
    return create_release(
        store, store.path.parent / "releases", name, read_policy(None), on_progress=lambda _: None
    ).path


def _text(store: Store, sample_id: UUID) -> str:
    with store.read() as cursor:
        return str(cursor.execute("SELECT text FROM samples WHERE sample_id = ?", [sample_id]).fetchall()[0][0])
