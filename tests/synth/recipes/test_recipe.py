"""What all recipes have in common, and asking again after a reply that did not fit."""

import json
from typing import Any

import pytest

from synth.checks import num_words
from synth.recipes import RECIPES
from synth.recipes.recipe import Recipe, asking_again
from synth.records import BadReply, Passage, new_id, text_id

TEXTS = {
    "English": "Cats purr by moving the muscles of the larynx. They do so when they rest, and also when in pain. " * 3,
    "Chinese": "猫通过喉部肌肉的快速收缩发出咕噜声，休息时如此，疼痛时也是如此。" * 3,
    "short": "Cats purr.",
    "no words": "--- ***",
}


def passage_of(text: str) -> Passage:
    return Passage(text_id(text), text, "", new_id())


def test_every_recipe_stands_under_its_own_task_and_operation() -> None:
    recipes: dict[Any, Any] = {(recipe.task, recipe.operation): recipe for recipe in RECIPES.values()}
    assert recipes == RECIPES and len({recipe.prompt_version for recipe in RECIPES.values()}) == len(RECIPES)
    assert len({recipe.parser_version for recipe in RECIPES.values()}) == len(RECIPES)


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=lambda recipe: recipe.prompt_version)
def test_a_prompt_speaks_of_json_as_json_modes_demand(recipe: Recipe) -> None:
    messages = recipe.messages(passage_of(TEXTS["English"]), 2)
    assert recipe.schema is None or any("JSON" in message["content"] for message in messages)


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
@pytest.mark.parametrize("recipe", RECIPES.values(), ids=lambda recipe: recipe.prompt_version)
def test_an_example_reply_fits_its_recipe_and_grows_with_the_number_of_queries(recipe: Recipe, text: str) -> None:
    seed = passage_of(text)
    replies = [recipe.example_reply(seed, number) for number in (1, 2, 8)]
    for reply in replies:
        assert recipe.parse(reply, seed).repaired == ""
        assert set(json.loads(reply)) <= set((recipe.schema or {})["properties"])
    assert len(replies[0]) < len(replies[1]) < len(replies[2])


@pytest.mark.parametrize("language", ["English", "Chinese", "short"])
def test_an_example_query_has_the_usual_length_in_any_script(language: str) -> None:
    (recipe,) = RECIPES.values()
    (query,) = json.loads(recipe.example_reply(passage_of(TEXTS[language]), 1))["queries"]
    assert 9 <= num_words(query) <= 15


def test_asking_again_shows_the_reply_and_what_was_wrong_with_it() -> None:
    (recipe,) = RECIPES.values()
    seed = passage_of(TEXTS["English"])
    messages = recipe.messages(seed, 2)
    reply = '<think>{"a": 1}</think>{"queries": "why do cats purr?"}'
    with pytest.raises(BadReply) as caught:
        recipe.parse(reply, seed)
    again = asking_again(messages, reply, str(caught.value))
    assert again[:2] == messages == recipe.messages(seed, 2)
    assert [message["role"] for message in again] == ["system", "user", "assistant", "user"]
    assert again[2]["content"] == '{"queries": "why do cats purr?"}'
    assert "queries: Input should be a valid list" in again[3]["content"] and "JSON" in again[3]["content"]


@pytest.mark.parametrize("reply", ["", "   ", "<think>all there is</think>"])
def test_an_empty_reply_is_not_sent_back_empty(reply: str) -> None:
    assert asking_again([], reply, "nothing")[0]["content"] == "(nothing)"


def test_a_long_reply_is_sent_back_in_part() -> None:
    assert len(asking_again([], "x" * 1_000_000, "no object")[0]["content"]) < 5_000
