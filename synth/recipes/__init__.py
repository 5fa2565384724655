"""The recipes by task and operation. A recipe is one file: its prompt and its parser, side by side."""

from synth.recipes import retrieval_query
from synth.recipes.recipe import Recipe
from synth.records import Task

RECIPES: dict[tuple[Task, str], Recipe] = {
    (recipe.task, recipe.operation): recipe for recipe in (retrieval_query.RECIPE,)
}
