"""The examples of docs/recipes.md are what the recipes make of such replies."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from synth.recipes import RECIPES
from synth.recipes.recipe import Brief
from synth.records import Classification, Passage, Retrieval, Sample, Seed, Sts, Task, new_id, text_id
from tests.conftest import REPOSITORY

PAGE = (Path(REPOSITORY) / "docs" / "recipes.md").read_text(encoding="utf-8")
EXAMPLE = re.compile(r"```json (\S+) (\S+) (seed|reply)\n(.*?)\n```", re.DOTALL)


def examples() -> Iterator[tuple[str, Task, dict[str, object], str]]:
    found = EXAMPLE.findall(PAGE)
    for (operation, task, is_seed, seed), (*others, reply) in zip(found[::2], found[1::2], strict=True):
        assert [is_seed, *others] == ["seed", operation, task, "reply"]
        yield operation, Task(task), json.loads(seed), reply


def seed_of(task: Task, given: dict[str, object]) -> Seed:
    if "passage" in given:
        text = str(given["passage"])
        return Passage(text_id(text), text, text.split("\n")[0], new_id())
    made = {Task.RETRIEVAL: Retrieval, Task.STS: Sts, Task.CLASSIFICATION: Classification}[task]
    content = made(**{name: tuple(value) if isinstance(value, list) else value for name, value in given.items()})
    return Sample(new_id(), new_id(), content, new_id())


@pytest.mark.parametrize(("operation", "task", "given", "reply"), list(examples()))
def test_a_recipe_takes_all_of_its_example(operation: str, task: Task, given: dict[str, object], reply: str) -> None:
    recipe, seed = RECIPES[task, operation], seed_of(task, given)
    facts = recipe.first.read(recipe.first.example, seed) if recipe.first else {}
    parsed = recipe.parse(reply, seed, Brief(5, language=str(given.get("language", "")), facts=facts))
    assert [(each.reason, each.found, each.text) for each in parsed.rejections] == []
    *_, offered = json.loads(reply).values()
    assert len(parsed.made) == len(offered) * (2 if operation in ("triple", "bitext") else 1)


@pytest.mark.parametrize("key", list(RECIPES), ids="-".join)
def test_every_recipe_has_an_example_in_both_languages(key: tuple[Task, str]) -> None:
    task, operation = key
    replies = [reply for each, of, _, reply in examples() if (of, each) == (task, operation)]
    assert any(re.search("[\u4e00-\u9fff]", reply) for reply in replies)
    assert any(not re.search("[\u4e00-\u9fff]", reply) for reply in replies)


@pytest.mark.parametrize("key", list(RECIPES), ids="-".join)
def test_every_recipe_stands_in_the_table_with_its_number(key: tuple[Task, str]) -> None:
    recipe = RECIPES[key]
    starts = "a passage" if recipe.seeds == "passages" else "a sample"
    [row] = re.findall(rf"^\| `{recipe.operation}` \| {recipe.task} \|.*$", PAGE, re.MULTILINE)
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert (cells[2], cells[4]) == (starts, str(recipe.per_seed))
