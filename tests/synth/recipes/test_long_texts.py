"""Long replies and long seeds: looked at in time, whatever is in them."""

import json
import time
from typing import Any
from uuid import UUID

import pytest

from synth.recipes import RECIPES, augment, hard_negative, paraphrase, retrieval_query
from synth.recipes.recipe import Brief, Parsed, Recipe
from synth.records import Classification, Content, Passage, Retrieval, Sample, Seed, Sts, Task, text_id

OURS = [retrieval_query.RECIPE, *paraphrase.RECIPES, augment.RECIPE, hard_negative.RECIPE]
ALL = pytest.mark.parametrize("recipe", OURS, ids=lambda recipe: f"{recipe.operation}-{recipe.task}")
HARBOUR = "The harbour was dug by hand in 1780. Its lighthouse guides every skiff at night."
LONG = " ".join(
    f"Harbour number {number} was dug in {1000 + number} by some {number * 7} hands." for number in range(300)
)


def seed_of(recipe: Recipe, text: str, query: str = "when was it dug?") -> Seed:
    if recipe.seeds == "passages":
        return Passage(text_id(text), text, "", UUID(int=0))
    contents: dict[Task, Content] = {
        Task.RETRIEVAL: Retrieval(query, (text,)),
        Task.STS: Sts(text, "Another text.", 1.0),
        Task.CLASSIFICATION: Classification(text, "harbours"),
    }
    return Sample(UUID(int=1), UUID(int=1), contents[recipe.task], UUID(int=0))


def filled(recipe: Recipe, *texts: str) -> str:
    """A reply with a text wherever it has room for one."""
    (key, listed), *_ = json.loads(recipe.example_reply(seed_of(recipe, HARBOUR), 1)).items()

    def entry(text: str) -> Any:
        if isinstance(listed[0], str):
            return text
        return {name: value if name in ("kind", "of") else text for name, value in listed[0].items()}

    return json.dumps({key: [entry(text) for text in texts]}, ensure_ascii=False)


def parsed_in(seconds: float, recipe: Recipe, reply: str, seed: Seed) -> Parsed:
    started = time.process_time()
    found = recipe.parse(reply, seed, Brief(5))
    assert time.process_time() - started < seconds
    return found


@pytest.mark.parametrize(
    "text",
    [
        "word " * 10_000,
        "字" * 50_000,
        "a" + "\u0300\u0315" * 25_000,
        "\u200b" * 50_000,
        "1. x\n" * 10_000,
        "`" * 50_000,
    ],
    ids=["words", "characters", "marks", "hidden", "list", "fence"],
)
@ALL
def test_a_reply_of_megabytes_is_refused_in_time_and_kept_in_part(recipe: Recipe, text: str) -> None:
    found = parsed_in(4, recipe, filled(recipe, *[text] * 60), seed_of(recipe, HARBOUR))
    assert {rejection.reason for rejection in found.rejections} == {"length"} and not found.made
    assert all(len(rejection.text) <= 4_000 and len(rejection.found) < 200 for rejection in found.rejections)


@ALL
def test_many_texts_as_long_as_a_long_seed_are_compared_in_time(recipe: Recipe) -> None:
    texts = [LONG[::-1].replace("r", "x" * (number % 2) + "r").title()[: len(LONG)] for number in range(10)]
    parsed_in(6, recipe, filled(recipe, *texts, *[LONG] * 10), seed_of(recipe, LONG, query=LONG))


def test_a_passage_of_three_thousand_words_is_rewritten_and_its_length_asked_for() -> None:
    recipe = RECIPES[Task.RETRIEVAL, "paraphrase"]
    seed = seed_of(recipe, LONG)
    assert "(some 3300 words)" in recipe.messages(seed, Brief(1))[-1]["content"]
    said = " ".join(f"In {1000 + n}, about {n * 7} people dug port no. {n} without tools." for n in range(300))
    reply = json.dumps({"rewritings": [{"query": "what year was it?", "passage": said}]})
    assert len(parsed_in(2, recipe, reply, seed).made) == 1
