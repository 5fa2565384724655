"""A folder of recipes of one's own."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from synth.recipes import RECIPES
from synth.recipes.folder import recipes_with
from synth.recipes.recipe import Brief, NewSample
from synth.records import Passage, Retrieval, Task, UserError, new_id, text_id
from synth.stages.generate.plan import Wanted
from synth.workspace import Workspace
from tests.conftest import REPOSITORY

[TITLES] = re.findall(
    r"```python recipes/title.py\n(.*?)```", (REPOSITORY / "docs" / "recipes.md").read_text(encoding="utf-8"), re.DOTALL
)

Write = Callable[[str, str], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a file of a folder of recipes; the folder."""
    folder = tmp_path / "own"
    folder.mkdir()

    def written(name: str, text: str) -> Path:
        (folder / name).write_text(text, encoding="utf-8")
        return folder

    return written


PASSAGE = Passage(text_id("A skiff is a boat."), "A skiff is a boat.", "", new_id())


def test_a_recipe_of_ones_own_stands_beside_the_others(write: Write) -> None:
    recipes = recipes_with(write("titles.py", TITLES))
    assert {key: recipe for key, recipe in recipes.items() if key in RECIPES} == RECIPES
    recipe = recipes[Task.RETRIEVAL, "title"]
    assert recipe.parse(" Small\nboats ", PASSAGE, Brief(1)).made == [
        NewSample(Retrieval("Small boats", (PASSAGE.text,)))
    ]
    assert [each.reason for each in recipe.parse("Boats", PASSAGE, Brief(1)).rejections] == ["title"]
    assert recipe.prompt_version.startswith("retrieval-title-")


def test_a_recipe_of_the_same_task_and_operation_takes_the_place_of_ours(write: Write) -> None:
    recipes = recipes_with(write("mine.py", TITLES.replace('"title"', '"query"')))
    assert recipes.keys() == RECIPES.keys()
    assert recipes[Task.RETRIEVAL, "query"].title == "titles"


def test_a_changed_parser_is_another_parser(write: Write) -> None:
    before = recipes_with(write("titles.py", TITLES))[Task.RETRIEVAL, "title"]
    version, parsing = before.prompt_version, before.parsing
    after = recipes_with(write("titles.py", TITLES.replace("most=20", "most=30")))[Task.RETRIEVAL, "title"]
    assert after.prompt_version == version and after.parsing != parsing


def test_several_recipes_may_stand_in_a_file(write: Write) -> None:
    both = TITLES + '\nimport dataclasses\nRECIPES = [RECIPE, dataclasses.replace(RECIPE, operation="heading")]\n'
    recipes = recipes_with(write("titles.py", both))
    assert {(Task.RETRIEVAL, "title"), (Task.RETRIEVAL, "heading")} <= recipes.keys()


def test_a_file_with_an_underscore_is_for_the_others_and_that_of_the_folder_at_hand(write: Write) -> None:
    shared = "from skiff_recipes._shared import SOURCE\n" + TITLES.replace('"ours"', "SOURCE")
    for source in ("ours", "a paper of 2026"):
        write("_shared.py", f"SOURCE = {source!r}")
        assert recipes_with(write("titles.py", shared))[Task.RETRIEVAL, "title"].source == source


def test_two_files_that_make_the_same_are_refused(write: Write) -> None:
    write("a.py", TITLES)
    with pytest.raises(UserError, match=r"b\.py: a\.py makes title for retrieval already"):
        recipes_with(write("b.py", TITLES))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x = 1", r"bad\.py: holds no RECIPE = Recipe\(\.\.\.\); see docs/recipes\.md"),
        ("RECIPE = 'text'", r"bad\.py: holds no RECIPE"),
        ("RECIPES = []", r"bad\.py: holds no RECIPE"),
        ("RECIPES = 7", r"bad\.py: holds no RECIPE"),
        ("def f(:", r"bad\.py: this recipe cannot be run: SyntaxError"),
        ("import nothing_of_this_name", r"bad\.py: this recipe cannot be run: ModuleNotFoundError"),
        ("1 / 0", r"bad\.py: this recipe cannot be run: ZeroDivisionError: division by zero"),
        ("raise SystemExit(3)", r"bad\.py: this recipe cannot be run: SystemExit: 3"),
        ("\x00", r"bad\.py: this recipe cannot be run: "),
    ],
)
def test_a_file_that_is_no_recipe_is_named_with_what_is_wrong(write: Write, text: str, said: str) -> None:
    with pytest.raises(UserError, match=said) as caught:
        recipes_with(write("bad.py", text))
    assert "\n" not in str(caught.value)


def test_a_recipe_whose_prompt_cannot_be_made_is_refused_before_anything_is_asked(write: Write) -> None:
    broken = TITLES.replace("{passage.text}", "{passage.txt}")
    with pytest.raises(UserError, match=r"own.titles\.py: its messages about a made-up seed fail: AttributeError"):
        recipes_with(write("titles.py", broken))


def test_a_folder_that_is_not_there_is_an_error_that_names_the_setting(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no such folder of recipes \(`recipes` in synth\.toml\)"):
        recipes_with(tmp_path / "none")


def test_a_workspace_names_its_folder(workspace: Workspace) -> None:
    (workspace.root / "own").mkdir()
    (workspace.root / "own" / "titles.py").write_text(TITLES)
    (workspace.root / "synth.toml").write_text('recipes = "own"\n')
    recipes = Workspace.open(workspace.root).recipes
    assert (Task.RETRIEVAL, "title") in recipes
    assert Wanted(operation="title", recipes=recipes).recipes is recipes


def test_a_reply_is_text_to_a_recipe_of_ones_own_whatever_it_holds(write: Write) -> None:
    recipe = recipes_with(write("titles.py", TITLES))[Task.RETRIEVAL, "title"]
    hostile = json.dumps({"__class__": "{passage.__class__} in a title"}) + "\x1b]0;title\x07"
    (made,) = recipe.parse(hostile, PASSAGE, Brief(1)).made
    assert isinstance(made, NewSample) and isinstance(made.content, Retrieval)
    assert made.content.query == hostile


def test_a_parser_that_fails_at_a_reply_is_one_line(write: Write) -> None:
    broken = TITLES.replace("    found = ", "    {}[reply]\n    found = ")
    recipe = recipes_with(write("titles.py", broken))[Task.RETRIEVAL, "title"]
    with pytest.raises(UserError, match=r"titles.py: its parse fails at a reply, which is kept; .*: KeyError: 'Boats'"):
        recipe.parse("Boats", PASSAGE, Brief(1))


@pytest.mark.parametrize(
    ("written", "changed", "said"),
    [
        ("else Parsed([sample], [])", "else None", "its parse gives NoneType, not Parsed"),
        ('Task.RETRIEVAL, "title"', 'Task.RETRIEVAL, "edit"', "edit is what the store calls something else"),
        ('"passages", 1,', '"passages", 0,', "per_seed and most_tries must be 1 or more"),
    ],
)
def test_what_a_recipe_gets_wrong_at_its_edges_is_one_line(write: Write, written: str, changed: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        recipes = recipes_with(write("titles.py", TITLES.replace(written, changed)))
        recipes[Task.RETRIEVAL, "title"].parse("Small boats", PASSAGE, Brief(1))
