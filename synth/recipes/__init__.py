"""The recipes by task and operation. A recipe is one file: its prompt and its parser, side by side."""

from collections.abc import Mapping

from synth.recipes import (
    augment,
    e5_long_short,
    e5_matching,
    e5_short_long,
    e5_similarity,
    hard_negative,
    paraphrase,
    persona_query,
    retrieval_query,
    summary_query,
)
from synth.recipes.recipe import Recipe
from synth.records import Task, UserError

Recipes = Mapping[tuple[Task, str], Recipe]

RECIPES: Recipes = {
    (recipe.task, recipe.operation): recipe
    for recipe in (
        retrieval_query.RECIPE,
        persona_query.RECIPE,
        summary_query.RECIPE,
        e5_short_long.RECIPE,
        e5_long_short.RECIPE,
        *e5_matching.RECIPES,
        *e5_similarity.RECIPES,
        *paraphrase.RECIPES,
        augment.RECIPE,
        hard_negative.RECIPE,
    )
}


def find_recipe(task: Task, operation: str, recipes: Recipes) -> Recipe:
    """The recipe of an operation on a task. Raises UserError if there is none."""
    recipe = recipes.get((task, operation))
    if recipe is None:
        tasks = [str(each) for each, known_operation in recipes if known_operation == operation]
        of_task = ", ".join(known_operation for each, known_operation in recipes if each == task)
        if tasks:
            raise UserError(
                f"no recipe makes {task} samples by the operation {operation}, which is for {' and '.join(tasks)}"
                f" (--task {tasks[0]}); for {task} there is: {of_task or 'none'}"
            )
        known = ", ".join(f"{known_operation} for {known_task}" for known_task, known_operation in recipes)
        raise UserError(f"no recipe makes {task} samples by the operation {operation}; there is: {known}")
    return recipe
