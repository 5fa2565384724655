"""Recipes whose seeds are passages, in a run against a server: what is stored, and where it came from."""

import json
from pathlib import Path
from typing import Any

import pytest

from synth.records import Passage, Source, Use, UserError, new_id, text_id
from synth.store import sources
from synth.store.connection import Store
from synth.store.console import query
from synth.store.sources import NewPassage
from tests.chat_server import ChatServer, Messages
from tests.synth.recipes.passage_replies import REPLIES, cases, passage_of, recipe_of
from tests.synth.stages.generating import plan, run

NAMES = sorted(path.stem for path in REPLIES.glob("*.jsonl"))
SAMPLES = (
    "SELECT operation, source, seed_id, prompt_version, model, instruction, query, positives, text1, text2, score,"
    " (SELECT {'text': any_value(text), 'kind': any_value(kind), 'missing': any_value(requirement)} FROM negatives n"
    " WHERE n.sample_id = s.sample_id AND n.origin = 'generated' AND n.call_id = s.call_id) AS negative FROM samples s"
    " WHERE call_id IN (SELECT call_id FROM calls)"
)


def good_cases(name: str, language: str) -> list[dict[str, Any]]:
    found = [each.values[1] for each in cases(name)]
    return [each for each in found if each["case"].startswith("a good") and each.get("language", "") == language]


def add_passages(store: Store, texts: list[str]) -> None:
    source = Source("shore", "corpus", Use.TRAIN, "documents", "a test", "CC0-1.0", "1")
    with store.write() as cursor:
        sources.add_source(cursor, source, new_id())
        passages = [NewPassage(text_id(text), text, "", str(number)) for number, text in enumerate(texts)]
        sources.add_passages(cursor, source.source_id, passages)


def told(row: dict[str, Any], seed: Passage) -> dict[str, Any]:
    """A stored sample in the words of a case."""
    if row["text1"] is not None:
        return {key: row[key] for key in ("text1", "text2", "score")}
    found = {"query": row["query"]}
    if row["positives"] != [seed.text]:
        found["positives"] = row["positives"]
    if row["instruction"]:
        found["instruction"] = row["instruction"]
    if row["negative"]["text"]:
        found |= {"negative": row["negative"]["text"], **{key: row["negative"][key] for key in ("kind", "missing")}}
    return found


@pytest.mark.parametrize("name", NAMES)
async def test_a_run_stores_what_the_replies_hold_with_the_way_back_to_seed_prompt_and_reply(
    name: str, store: Store, tmp_path: Path
) -> None:
    recipe, language = recipe_of(name), cases(name)[0].values[1].get("language", "")
    good = good_cases(name, language)
    add_passages(store, [each["passage"] for each in good])
    mended: set[str] = set()

    def reply(messages: Messages) -> str:
        asked = messages[1]["content"]
        case = next(each for each in good if each["passage"] in asked)
        if "Reply as {" + '"character"' in asked:
            types = '"question_type": "acquire_knowledge", "difficulty": "university"'
            return f'{{"character": 5, {types}}}'
        if case["passage"] not in mended:  # the first time a text that is rejected
            mended.add(case["passage"])
            return json.dumps(json.loads(case["reply"]), ensure_ascii=False).replace(first_text(case), "x " * 2000)
        return str(case["reply"])

    per_seed = len(good[0]["made"])
    changes = {"task": recipe.task, "operation": recipe.operation, "language": language, "per_seed": per_seed}
    async with ChatServer(reply) as server:
        outcome = await run(store, plan(store, tmp_path, server.base_url, **changes))
        again = await run(store, plan(store, tmp_path, server.base_url, **changes))
    rows = query(store, SAMPLES).to_pylist()
    seeds = {passage_of(each["passage"]).text_id: each for each in good}
    for seed_id, case in seeds.items():
        seed = passage_of(case["passage"])
        of_seed = [told(row, seed) for row in rows if row["seed_id"] == str(seed_id)]
        assert sorted(of_seed, key=str) == sorted(case["made"], key=str)
    assert {row["prompt_version"] for row in rows} == {recipe.prompt_version}
    assert {(row["operation"], row["source"], row["model"]) for row in rows} == {
        (recipe.operation, "shore", "test-model")
    }
    assert outcome.num_stored == len(rows) == sum(len(each["made"]) for each in good)
    assert outcome.rejections == {"length": len(good)} and not outcome.failures
    assert again.num_seeds == 0


def first_text(case: dict[str, Any]) -> str:
    """The first text of a case that a reply of it holds."""
    return str(case["made"][0].get("query") or case["made"][0]["text1"])


def test_a_bitext_without_the_other_language_is_refused_before_anything_is_asked(store: Store, tmp_path: Path) -> None:
    add_passages(store, ["A skiff is a small flat boat."])
    with pytest.raises(UserError, match=r"bitext needs .* language"):
        plan(store, tmp_path, "http://127.0.0.1:9/v1", task="sts", operation="bitext")
