"""
Replies about passages, read from tests/replies, and what a recipe makes of them.

A line is a case: the passage, what was asked for besides (`number`, `language`, `facts`, `earlier` queries or first
texts), the reply, and either the `error` or what is `made` and the reasons `rejected`. Adding a case is adding a line.
"""

import json
from typing import Any
from uuid import UUID

import pytest

from synth.recipes import RECIPES
from synth.recipes.recipe import Brief, NewSample, Recipe
from synth.records import BadReply, Passage, Retrieval, Sts, Task, text_id
from tests.conftest import REPOSITORY

REPLIES = REPOSITORY / "tests" / "replies"


def recipe_of(name: str) -> Recipe:
    """The recipe whose replies are in the file of this name, as in short-long-retrieval."""
    operation, _, task = name.rpartition("-")
    return RECIPES[Task(task), operation]


def cases(*names: str) -> list[Any]:
    """The cases of some files, each with its name, for pytest."""
    found = []
    for name in names:
        for line in (REPLIES / f"{name}.jsonl").read_text(encoding="utf-8").splitlines():
            case = json.loads(line)
            found.append(pytest.param(name, case, id=f"{name}: {case['case']}"))
    return found


def passage_of(text: str) -> Passage:
    return Passage(text_id(text), text, "", UUID(int=0))


def expect(name: str, case: dict[str, Any]) -> None:
    """Put a case's reply through its recipe, and compare."""
    recipe, seed = recipe_of(name), passage_of(case["passage"])
    brief = Brief(
        case.get("number", 1),
        tuple(map(_taken(recipe), case.get("earlier", ()))),
        case.get("language", ""),
        case.get("facts", {}),
    )
    if "error" in case:
        with pytest.raises(BadReply) as caught:
            recipe.parse(case["reply"], seed, brief)
        assert case["error"] in str(caught.value)
        return
    parsed = recipe.parse(case["reply"], seed, brief)
    assert [_told(made, seed, like) for made, like in zip(parsed.made, case["made"], strict=True)] == case["made"]
    assert [each.reason for each in parsed.rejections] == case["rejected"]
    assert {each.reason for each in parsed.rejections} <= set(recipe.checks)
    assert parsed.repaired == case.get("repaired", "")
    for rejection in parsed.rejections:
        assert rejection.found.isprintable() and f"{rejection.text}{rejection.found}".encode()


def _taken(recipe: Recipe) -> Any:
    def sample(text: str) -> NewSample:
        return NewSample(Sts(text, "other", 4.5) if recipe.task is Task.STS else Retrieval(text, ("other",)))

    return sample


def _told(made: Any, seed: Passage, like: dict[str, Any]) -> dict[str, Any]:
    """What was made in the words of a case; the passage as the positive and what a case does not name are left out."""
    if isinstance(made.content, Sts):
        told = {"text1": made.content.text1, "text2": made.content.text2, "score": made.content.score}
        return told | ({"instruction": made.content.instruction} if "instruction" in like else {})
    told = {"query": made.content.query}
    if list(made.content.positives) != [seed.text]:
        told["positives"] = list(made.content.positives)
    if made.content.instruction:
        told["instruction"] = made.content.instruction
    for written in made.written:
        told |= {"negative": written.text, "kind": written.kind, "missing": written.requirement}
    return told
