"""A store with samples and passages, and generate runs that made something of them."""

from collections.abc import Sequence
from uuid import UUID

from synth.records import (
    Classification,
    Content,
    Draft,
    Passage,
    Retrieval,
    Sample,
    Seed,
    Source,
    Sts,
    Use,
    Written,
    key_of,
    new_id,
    text_id,
)
from synth.store import runs, samples, sources
from synth.store.calls import Call, add_calls
from synth.store.connection import Store
from synth.store.made import Finished, Rejected, add_finished
from synth.store.sources import NewPassage

SOURCE = Source("guide", "train", Use.TRAIN, "retrieval", "a test", "CC0-1.0", "1")
OTHER = Source("atlas", "train", Use.TRAIN, "retrieval", "a test", "CC0-1.0", "1")
HOSTILE = "<script>document.title='owned'</script><img src=x onerror=alert(1)>\x1b[31m\u202e[bold]& \"quoted\""
HARBOUR = "The harbour of Alder was dug in 1780 by hand. Its lighthouse guides every skiff at night."
TOWER = "灯塔由石头砌成。它每晚为小船指路。"
ADDED: dict[type[Content], Content] = {
    Retrieval: Retrieval("who dug the harbour?", (HARBOUR,), "Find harbours."),
    Sts: Sts("A boat sails.", "A ship is sailing.", 4.2),
    Classification: Classification("my card has not come", "card_arrival"),
}


def with_sources(store: Store) -> None:
    """Two sources, the first with two passages."""
    passages = [NewPassage(text_id(text), text, "", str(n)) for n, text in enumerate((HARBOUR, TOWER))]
    with store.write() as cursor:
        for source in (SOURCE, OTHER):
            sources.add_source(cursor, source, new_id())
        sources.add_passages(cursor, SOURCE.source_id, passages)


def passage(text: str = HARBOUR) -> Passage:
    return Passage(text_id(text), text, "", SOURCE.source_id)


def added(store: Store, *contents: Content, source: Source = SOURCE) -> list[Sample]:
    """Ingested samples, as seeds."""
    with store.write() as cursor:
        samples.add_drafts(cursor, [Draft(each, source.source_id, "ingest") for each in contents], new_id())
        rows = cursor.execute(
            "SELECT revision_id, coalesce(query, text1, text) FROM revision WHERE source_id = ?", [source.source_id]
        ).fetchall()
    id_of = {text: revision for revision, text in rows}
    return [Sample(id_of[_first(each)], id_of[_first(each)], each, source.source_id) for each in contents]


def draft(content: Content, seed: Seed, *, operation: str = "paraphrase", written: Sequence[Written] = ()) -> Draft:
    """What an LLM made of a seed."""
    return Draft(
        content,
        seed.source_id,
        operation,
        method="llm",
        seed_id=seed.passage_id if isinstance(seed, Sample) else seed.text_id,
        model="small",
        call_id=key_of("call", seed.seed_id),
        parent_id=seed.revision_id if isinstance(seed, Sample) else None,
        written=tuple(written),
    )


def a_run(
    store: Store,
    *finished: Finished,
    operation: str = "paraphrase",
    task: str = "retrieval",
    per_seed: int = 2,
    num_seeds: int | None = None,
    turns: Sequence[int] = (0,),
    cost: float | None = 0.5,
) -> UUID:
    """A generate run that these seeds are of, each asked about so often."""
    config = {"task": task, "operation": operation, "per_seed": per_seed, "num_seeds": num_seeds or len(finished)}
    with runs.recorded(store, "generate", config, model="small", prompt_version=f"{task}-{operation}-1") as run:
        with store.write() as cursor:
            stored = add_finished(cursor, new_id(), run.run_id, finished)
            calls = [_call(each.seed, turn, cost) for each in finished for turn in turns]
            add_calls(cursor, calls, run.run_id)
        num_made = sum(each.num_made for each in finished)
        known = num_made - stored.num_samples - stored.num_negatives
        run.count(seeds=len(finished), stored=stored.num_samples, negatives=stored.num_negatives, known=known)
        run.requests, run.tokens_in, run.tokens_out = len(calls), 100 * len(calls), 10 * len(calls)
        run.cost = None if cost is None else cost * len(calls)
    return run.run_id


def rejected(reason: str, text: str, found: str = "what was found") -> Rejected:
    return Rejected(reason, text, found)


def _call(seed: Seed, turn: int, cost: float | None) -> Call:
    return Call(new_id(), seed.seed_id, "small", "1", {}, 0, "used", 100, 10, cost, 1.0, "", "small", turn=turn)


def _first(content: Content) -> str:
    match content:
        case Retrieval(query):
            return query
        case Sts(text1):
            return text1
        case Classification(text):
            return text
