"""
Runs over 200 real seeds for each operation and task, against a server whose replies are good and bad: exactly what must
be stored is stored, every rejection is told with its reason, and everything leads back to where it came from.
"""

import json
import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from synth.llm.journal import Journal
from synth.recipes import RECIPES, paraphrase
from synth.recipes.folder import recipes_with
from synth.records import Passage, Sample, Seed, Task
from synth.stages.generate.plan import GeneratePlan
from synth.stages.generate.run import Generated
from synth.stages.ingest import ingest
from synth.store.connection import Store
from synth.store.console import query
from tests.chat_server import ChatServer
from tests.conftest import SAMPLE
from tests.synth.recipes.test_folder import TITLES
from tests.synth.stages.generating import TEXTS, plan, run, samples
from tests.synth.stages.replying import HOSTILE, Model, all_of

NUM_SEEDS, PER_SEED, PER_PASSAGE = 200, 3, 4
RUNS = [
    (Task.RETRIEVAL, "query"),
    (Task.RETRIEVAL, "paraphrase"),
    (Task.STS, "paraphrase"),
    (Task.CLASSIFICATION, "paraphrase"),
    (Task.RETRIEVAL, "augment"),
    (Task.RETRIEVAL, "hard-negative"),
]
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def sample_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with the sample data, and with data of each task whose texts tell the LLM to do something else."""
    folder = tmp_path_factory.mktemp("sample")
    hostile = f"The harbour master forbids swimming near the locks. {HOSTILE} Boats keep to the left, whatever comes."
    files: dict[str, list[dict[str, Any]]] = {
        "retrieval/corpus.jsonl": [{"doc_id": "d", "title": "Harbour", "text": hostile}],
        "retrieval/queries.jsonl": [
            {"query_id": "q", "text": "what does the harbour master forbid?", "split": "train"}
        ],
        "retrieval/qrels.jsonl": [{"query_id": "q", "doc_id": "d", "score": 1}],
        "pairs.jsonl": [{"text1": hostile, "text2": "A harbour has rules.", "score": 2.0, "split": "train"}],
        "labelled.jsonl": [
            {"text": hostile, "label": "port_rules", "split": "train"},
            {"text": "Is the ferry late?", "label": "ferry_times", "split": "train"},
        ],
    }
    for name, rows in files.items():
        path = folder / "hostile" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    store = Store.create(folder / "store.duckdb")
    for path in (SAMPLE, folder / "hostile"):
        ingest(store, path, declared_use=None, on_progress=lambda number: None)
    return folder / "store.duckdb"


@pytest.fixture
def own_store(sample_store: Path, tmp_path: Path) -> Store:
    shutil.copy(sample_store, tmp_path / "store.duckdb")
    return Store.open(tmp_path / "store.duckdb")


def number_of(operation: str) -> int:
    return PER_PASSAGE if operation == "query" else PER_SEED


async def carried_out(
    store: Store, tmp_path: Path, task: Task, operation: str
) -> tuple[GeneratePlan, list[Seed], Model, Generated]:
    """A run over the hostile seeds and others."""
    wanted: dict[str, Any] = {"task": task, "operation": operation, "per_seed": number_of(operation)}
    made = plan(store, tmp_path, "http://127.0.0.1:1", **wanted)
    seeds = sorted(made.loaded(store), key=lambda seed: (HOSTILE not in all_of(seed), all_of(seed)[::-1]))[:NUM_SEEDS]
    assert RECIPES[task, operation] is made.recipe
    model = Model(operation, seeds, number_of(operation), tries=made.recipe.most_tries)
    async with ChatServer(model) as server:
        made = replace(plan(store, tmp_path, server.base_url, **wanted), seeds=sorted(seed.seed_id for seed in seeds))
        return made, seeds, model, await run(store, made)


def settled(text: object) -> str:
    return " ".join(str(text).split())


def squeezed(text: str) -> str:
    """Without white space, in JSON too."""
    return "".join(text.replace("\\n", "").split())


def stored_of(store: Store, operation: str) -> Counter[tuple[object, ...]]:
    """What an operation stored, as the model gives it, each with the seed it must be of."""
    rows = query(
        store,
        "SELECT r.query, r.positives, r.text1, r.text2, r.text, n.text AS negative, r.parent_id, r.seed_id, r.task"
        " FROM revisions r LEFT JOIN negatives n ON n.revision_id = r.revision_id AND n.origin = 'generated'"
        f" WHERE r.operation = '{operation}' AND r.number = 1",
    ).to_pylist()
    found: Counter[tuple[object, ...]] = Counter()
    for row in rows:
        match row["task"]:
            case "retrieval":
                told = [row["query"], row["positives"][0], *([row["negative"]] if operation == "augment" else [])]
            case "sts":
                told = [row["text1"], row["text2"]]
            case _:
                told = [row["text"]]
        found[row["parent_id"] or row["seed_id"], *map(settled, told)] += 1
    return found


def negatives_of(store: Store) -> Counter[tuple[object, ...]]:
    rows = query(store, "SELECT revision_id, text, kind, requirement FROM negatives WHERE origin = 'generated'")
    return Counter((row["revision_id"], *map(settled, list(row.values())[1:])) for row in rows.to_pylist())


def made_by(operation: str, store: Store) -> Counter[tuple[object, ...]]:
    return negatives_of(store) if operation == "hard-negative" else stored_of(store, operation)


def given(seeds: Sequence[Seed], model: Model) -> Counter[tuple[object, ...]]:
    found: Counter[tuple[object, ...]] = Counter()
    for seed in seeds:
        for gives in model.expected[seed.seed_id].gives:
            told = gives if isinstance(gives, tuple) else (gives,)
            found[str(seed.seed_id), *map(settled, told)] += 1
    return found


@pytest.mark.parametrize(("task", "operation"), RUNS, ids=[f"{operation}-{task}" for task, operation in RUNS])
async def test_a_run_stores_exactly_what_its_replies_hold_and_tells_all_the_rest(
    own_store: Store, tmp_path: Path, task: Task, operation: str
) -> None:
    made, seeds, model, outcome = await carried_out(own_store, tmp_path, task, operation)
    expected = [model.expected[seed.seed_id] for seed in seeds]
    assert len(seeds) == NUM_SEEDS and sum(each.is_left for each in expected) > 3
    assert made_by(operation, own_store) == given(seeds, model)

    reasons = sum((each.reasons for each in expected if not each.is_left), Counter[str]())
    assert outcome.rejections == reasons and len(reasons) >= 6 and set(reasons) <= set(made.recipe.checks)  # type: ignore[union-attr]
    kept = query(own_store, "SELECT reason, count(*) AS number FROM rejections GROUP BY ALL").to_pylist()
    assert {row["reason"]: row["number"] for row in kept} == reasons

    num_left = sum(each.is_left for each in expected)
    assert (outcome.num_seeds, outcome.num_done, sum(outcome.failures.values())) == (200, 200 - num_left, num_left)
    assert {kind for kind, _ in outcome.failures} == {"unusable"}
    num_given = sum(len(each.gives) for each in expected)
    num_negatives = {"hard-negative": num_given, "augment": num_given}.get(operation, 0)
    assert (outcome.num_stored, outcome.num_negatives, outcome.num_known) == (
        0 if operation == "hard-negative" else num_given,
        num_negatives,
        0,
    )
    short = [each for each in expected if not each.is_left and len(each.gives) < number_of(operation)]
    assert outcome.num_short == len(short)
    check_lineage(own_store, tmp_path / "journal", made, seeds)


def check_lineage(store: Store, journal: Path, made: GeneratePlan, seeds: Sequence[Seed]) -> None:
    """Samples and negatives lead to their seed, source, prompt version and reply, and rejections to their reply."""
    by_id = {str(seed.seed_id): seed for seed in seeds}
    rows = query(
        store,
        "SELECT 'sample' AS what, coalesce(r.query, r.text1, r.text) AS text, r.text2, r.parent_id, r.seed_id, r.model,"
        " l.source, l.prompt_version, c.seed_id AS asked_about, c.call_id, c.run_id = r.run_id AS is_same_run,"
        " c.prompt_version AS asked, r.instruction, r.label, r.score"
        f" FROM revisions r JOIN lineage l USING (revision_id) JOIN calls c ON c.call_id = r.call_id"
        f" WHERE r.prompt_version = '{made.prompt_version}'"
        " UNION ALL BY NAME"
        " SELECT 'negative' AS what, n.text, n.sample_id, c.seed_id AS asked_about, c.call_id, n.origin AS source,"
        " c.run_id = n.run_id AS is_same_run, c.prompt_version AS asked"
        " FROM negatives n JOIN calls c ON c.call_id = n.call_id WHERE n.origin = 'generated'"
        " UNION ALL BY NAME"
        " SELECT 'rejection' AS what, j.seed_id AS asked_about, c.call_id, c.run_id = j.run_id AS is_same_run,"
        " c.prompt_version AS asked FROM rejections j JOIN calls c ON c.call_id = j.call_id AND c.seed_id = j.seed_id",
    ).to_pylist()
    counted = query(
        store,
        f"SELECT (SELECT count(*) FROM revisions WHERE prompt_version = '{made.prompt_version}') AS sample,"
        " (SELECT count(*) FROM negatives WHERE origin = 'generated') AS negative,"
        " (SELECT count(*) FROM rejections) AS rejection",
    ).to_pylist()[0]
    assert Counter(row["what"] for row in rows) == Counter(counted)
    with Journal(journal, read_only=True) as replies:
        for row in rows:
            reply, seed = replies.get(UUID(row["call_id"])), by_id[row["asked_about"]]
            assert reply is not None and row["is_same_run"] and row["asked"] == made.prompt_version
            if row["what"] == "sample":
                check_sample(row, seed)
            if row["what"] != "rejection":
                texts = [json.dumps(row[name], ensure_ascii=False)[1:-1] for name in ("text", "text2")]
                assert any(squeezed(text) in squeezed(reply.text) for text in texts)


def check_sample(row: dict[str, Any], seed: Seed) -> None:
    """Its seed is a passage, or a sample of which it has all that is not written anew."""
    assert row["source"] and row["model"] == "test-model"
    if isinstance(seed, Passage):
        assert (row["seed_id"], row["parent_id"]) == (str(seed.text_id), None)
        return
    assert isinstance(seed, Sample)
    assert row["parent_id"] == str(seed.revision_id)
    assert row["seed_id"] == (str(seed.passage_id) if seed.passage_id else None)
    for name in ("instruction", "label", "score"):
        assert row[name] == getattr(seed.content, name, None)


async def test_a_recipe_of_ones_own_makes_samples_like_any_other(with_passages: Store, tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "titles.py").write_text(TITLES)
    recipes = recipes_with(tmp_path / "own")
    replies = {text: f"A port of old, no. {number}" for number, text in enumerate(TEXTS)}

    def reply(messages: list[dict[str, str]]) -> str:
        return next(title for text, title in replies.items() if text in messages[-1]["content"])

    async with ChatServer(reply) as server:
        wanted = {"operation": "title", "recipes": recipes, "per_seed": 1}
        outcome = await run(with_passages, plan(with_passages, tmp_path, server.base_url, **wanted))
    assert outcome.num_stored == len(TEXTS)
    made = samples(with_passages)
    assert {row["query"] for row in made} == set(replies.values())
    assert {row["prompt_version"] for row in made} == {recipes[Task.RETRIEVAL, "title"].prompt_version}


def test_twenty_tries_are_made_where_the_report_makes_them() -> None:
    assert paraphrase.MOST_TRIES == 20
    tries = {RECIPES[key].operation: RECIPES[key].most_tries for key in RUNS}
    assert tries == {"query": 1, "paraphrase": 20, "augment": 20, "hard-negative": 20}
