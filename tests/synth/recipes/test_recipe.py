"""Finding the JSON object in a reply, whatever else a model or an attacker puts there."""

from typing import Any

import pytest

from synth.recipes import RECIPES
from synth.recipes.recipe import json_object
from synth.records import BadReply

OBJECT = '{"queries": ["what is {light}?", "a \\"quoted\\" one"]}'
EXPECTED = {"queries": ["what is {light}?", 'a "quoted" one']}


@pytest.mark.parametrize(
    "reply",
    [
        OBJECT,
        f"\n {OBJECT} \n",
        f"```json\n{OBJECT}\n```",
        f"```\n{OBJECT}\n```",
        f"Here are the queries:\n{OBJECT}\nI hope they help!",
        f'<think>They want {{"queries": []}}, so I</think>\n{OBJECT}',
    ],
)
def test_the_object_is_found_in_what_models_put_around_it(reply: str) -> None:
    assert json_object(reply) == EXPECTED


@pytest.mark.parametrize(
    "reply",
    [
        "",
        "no object",
        "null",
        "[1, 2]",
        '"text"',
        OBJECT[:-3],
        "{'queries': ['python, not JSON']}",
        '__import__("os").system("echo harm")',
        "} {",
        "[" * 100_000,
        '{"a":' * 100_000,
        '{"a": ' + "9" * 10_000 + "}",
    ],
)
def test_a_reply_without_an_object_is_a_bad_reply_in_one_short_line(reply: str) -> None:
    with pytest.raises(BadReply, match="no JSON object") as caught:
        json_object(reply)
    assert len(str(caught.value)) < 200 and "\n" not in str(caught.value)


def test_what_is_shown_of_a_reply_is_escaped() -> None:
    with pytest.raises(BadReply) as caught:
        json_object("\x1b[31m\ud800")
    assert str(caught.value).isascii() and "\x1b" not in str(caught.value)


def test_every_recipe_stands_under_its_own_task_and_operation() -> None:
    recipes: dict[Any, Any] = {(recipe.task, recipe.operation): recipe for recipe in RECIPES.values()}
    assert recipes == RECIPES and len({recipe.prompt_version for recipe in RECIPES.values()}) == len(RECIPES)
