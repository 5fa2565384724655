"""A folder of recipes of one's own."""

import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import pytest

from synth.recipes import RECIPES
from synth.recipes.folder import recipes_with
from synth.recipes.recipe import Brief, NewSample, Recipe
from synth.records import BadReply, Passage, Retrieval, Sample, Task, UserError, new_id, text_id
from synth.stages.generate.messages import file_of
from synth.stages.generate.plan import Wanted
from synth.workspace import Workspace
from tests.conftest import REPOSITORY
from tests.synth.stages.test_import import as_nobody

PAGE = (REPOSITORY / "docs" / "recipes.md").read_text(encoding="utf-8")
TITLES, ASK = re.findall(r"```python recipes/(?:title|ask)\.py\n(.*?)```", PAGE, re.DOTALL)

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
    with pytest.raises(UserError, match=r"b\.py: a\.py makes title for retrieval already; name the operation of one"):
        recipes_with(write("b.py", TITLES))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x = 1", "holds no RECIPE = Recipe(...), see docs/recipes.md; what is only for the others"),
        ("RECIPE = 'text'", "holds no RECIPE"),
        ("RECIPES = []", "holds no RECIPE"),
        ("RECIPES = 7", "holds no RECIPE"),
        (f"{TITLES}\nRECIPES = [RECIPE, 7]", "holds no RECIPE"),
        ("def f(:", "this recipe cannot be run: SyntaxError: invalid syntax (bad.py, line 1)"),
        ("import nothing_of_this_name", "this recipe cannot be run: ModuleNotFoundError: No module"),
        ("x = 1\n1 / 0", "this recipe cannot be run: ZeroDivisionError: division by zero (line 2); mend it, or"),
        ("raise SystemExit(3)", "this recipe cannot be run: SystemExit: 3"),
        ("from synth.records import UserError\nraise UserError('no')", "this recipe cannot be run: synth.records.User"),
        ("class E(Exception):\n    def __str__(self): return self.x\nraise E", "E: <exception str() failed> (line 3)"),
        ("def __getattr__(name): raise RuntimeError(name)", "this recipe cannot be run: RuntimeError: "),
        ("raise ValueError('x' * 10_000)", "xxx (line 1); mend it"),
        ("\x00", "this recipe cannot be run: "),
    ],
)
def test_a_file_that_is_no_recipe_is_named_with_what_is_wrong_and_where(write: Write, text: str, said: str) -> None:
    told = refused(write("bad.py", text))
    assert "own/bad.py: " in told and said in told and "\n" not in told and len(told) < 600


def refused(folder: Path) -> str:
    """What is said of a folder that is refused."""
    with pytest.raises(UserError) as caught:
        recipes_with(folder)
    return str(caught.value)


def test_a_file_that_is_no_text_in_utf_8_is_named(write: Write) -> None:
    folder = write("titles.py", TITLES)
    (folder / "bad.py").write_bytes(b"x = '\xff'")
    assert "bad.py: this recipe cannot be run: SyntaxError: " in refused(folder)


@pytest.mark.parametrize("name", ["my-title.py", "class.py", "json.py", "1st title.py", "标题.py", "paraphrase.py"])
def test_a_file_may_have_any_name_without_a_second_dot(write: Write, name: str) -> None:
    recipe = recipes_with(write(name, TITLES))[Task.RETRIEVAL, "title"]
    assert file_of(recipe, write("_", "")) == (f"own/{name}", True)


def test_a_file_with_two_dots_in_its_name_is_told_a_better_one(write: Write) -> None:
    assert refused(write("my-x.y.py", TITLES)).endswith("one dot in its name, the one before py; call it my-x-y.py")


@pytest.mark.parametrize("kind", ["folder", "loop", "nowhere", "pipe"])
def test_what_is_no_file_is_named(write: Write, kind: str) -> None:
    path = write("titles.py", TITLES) / "thing.py"
    match kind:
        case "folder":
            path.mkdir()
        case "pipe":
            os.mkfifo(path)
        case _:
            path.symlink_to("thing.py" if kind == "loop" else "no.py")
    assert refused(path.parent).endswith(
        "thing.py: is no file (a folder, a broken link?); take it out of the folder of recipes"
    )


def test_a_file_or_a_folder_that_may_not_be_read_is_named() -> None:
    folder = Path(tempfile.mkdtemp())  # beside pytest's, which nobody else may enter
    folder.chmod(0o755)
    try:
        (folder / "titles.py").write_text(TITLES, encoding="utf-8")
        (folder / "titles.py").chmod(0)
        with as_nobody():
            assert refused(folder) == f"{folder}/titles.py: this recipe cannot be read (Permission denied); allow it"
        folder.chmod(0)
        with as_nobody():
            assert refused(folder).endswith(": this folder of recipes cannot be read (Permission denied); allow it")
    finally:
        shutil.rmtree(folder)


WRONG = {
    "task": "'retrieval'",
    "operation": "'My Own'",
    "title": "'a\\nb'",
    "source": "7",
    "seeds": "'texts'",
    "per_seed": "0",
    "messages": "None",
    "schema": "{'a': object()}",
    "parse": "'x'",
    "example_reply": "'A title'",
    "checks": "'length'",
    "most_tries": "True",
    "parser_version": "2",
    "first": "messages",
    "makes": "'texts'",
    "language": "'French'",
    "again": "None",
}


def test_a_wrong_value_is_known_for_every_field() -> None:
    assert list(WRONG) == [each.name for each in fields(Recipe)]


@pytest.mark.parametrize("name", WRONG)
def test_a_field_of_a_wrong_kind_is_named_with_what_it_must_be(write: Write, name: str) -> None:
    changed = f"{TITLES}\nfrom dataclasses import replace\nRECIPE = replace(RECIPE, {name}={WRONG[name]})\n"
    told = refused(write("titles.py", changed))
    assert f"own/titles.py: its {name} must be " in told and ", not " in told and "\n" not in told


@pytest.mark.parametrize(
    ("of_first", "said"),
    [
        ("First(messages, None, 7, 'x')", "its first must be First(...)"),
        ("First(messages, None, lambda reply, seed: 1 / 0, 'x')", "`first.read` fails at a reply: ZeroDivisionError"),
        ("First(messages, None, lambda reply, seed: [reply], 'x')", "`first.read` gives ['x'], not a dict of texts"),
        ("First(lambda *_: [], None, lambda *_: {}, 'x')", "`first.messages` gives no message"),
    ],
)
def test_a_first_request_is_looked_at_as_well(write: Write, of_first: str, said: str) -> None:
    changed = f"{TITLES}\nfrom dataclasses import replace\nfrom synth.recipes.recipe import First\n"
    assert said in refused(write("titles.py", f"{changed}RECIPE = replace(RECIPE, first={of_first})\n"))


@pytest.mark.parametrize(
    ("written", "changed", "said"),
    [
        ("{passage.text}", "{passage.txt}", "`messages` fails at a made-up seed: AttributeError: "),
        ('return [{"role"', 'return [] and [{"role"', "`messages` gives no message; mend it"),
        ('return [{"role"', '[{"role"', "`messages` gives NoneType, not a list of messages"),
        ('"role": "user"', '"role": 7', "as a message, which must be a dict with the texts `role` and `content`"),
    ],
)
def test_a_prompt_that_cannot_be_made_is_refused_before_anything_is_asked(
    write: Write, written: str, changed: str, said: str
) -> None:
    assert written in TITLES
    told = refused(write("titles.py", TITLES.replace(written, changed)))
    assert "own/titles.py: `messages` " in told and said in told


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
    hostile = "{passage.__class__} %s <script>alert(1)</script> ${HOME} in a title"
    (made,) = recipe.parse(hostile, PASSAGE, Brief(1)).made
    assert isinstance(made, NewSample) and isinstance(made.content, Retrieval)
    assert made.content.query == hostile


@pytest.mark.parametrize(
    ("reply", "reason", "found"),
    [
        ("Sorry, as an AI I cannot help with that.", "leakage", "contains 'as an ai i'"),
        ("Here is a title for the passage", "leakage", "contains 'here is a title for the passage'"),
        ("A title\x1b]0;that is\x07 seen", "characters", "contains the character U+001B"),
        ("Boats &amp; their rowers", "characters", "contains &amp;"),
        ("half \ud800 of a character", "characters", "contains the character U+D800"),
    ],
)
def test_what_no_text_may_hold_is_rejected_though_a_recipe_of_ones_own_does_not_look_for_it(
    write: Write, reply: str, reason: str, found: str
) -> None:
    recipe = recipes_with(write("titles.py", TITLES))[Task.RETRIEVAL, "title"]
    given = recipe.parse(reply, PASSAGE, Brief(1))
    assert given.made == []
    assert [(each.reason, each.found) for each in given.rejections] == [(reason, found)]
    assert recipe.checks == ("characters", "leakage")


def test_what_the_seed_says_itself_a_recipe_of_ones_own_may_say(write: Write) -> None:
    recipe = recipes_with(write("titles.py", TITLES))[Task.RETRIEVAL, "title"]
    text = "What chatbots say\u2060: as an AI I cannot help. R&amp;D asked for it."
    talk = Passage(text_id(text), text, "", new_id())
    reply = 'The chatbot\'s "As an AI I", and R&amp;D'
    assert recipe.parse(reply, talk, Brief(1)).made == [NewSample(Retrieval(reply, (text,)))]
    of_samples = TITLES.replace("passage.text", "passage.content.query").replace('"passages"', '"samples"')
    recipe = recipes_with(write("titles.py", of_samples))[Task.RETRIEVAL, "title"]
    sample = Sample(new_id(), new_id(), Retrieval(text, ("It is.",)), new_id())
    assert recipe.parse(reply, sample, Brief(1)).made == [NewSample(Retrieval(reply, (text,)))]


FAULTY = "as an AI I cannot"
OF_EACH_KIND = {
    "a positive": f"NewSample(Retrieval('who rows?', ('Sailors do.', '{FAULTY}')))",
    "a negative of a sample": f"NewSample(Retrieval('who?', ('Sailors.',)), (Written('{FAULTY}', 'inadequate'),))",
    "a negative": f"Written('{FAULTY}', 'inadequate')",
    "the second of two texts": f"NewSample(Sts('who rows?', '{FAULTY}', 3.0))",
    "a text with a class": f"NewSample(Classification('{FAULTY}', 'boats'))",
}


@pytest.mark.parametrize("made", OF_EACH_KIND.values(), ids=OF_EACH_KIND)
def test_every_text_that_a_recipe_of_ones_own_makes_is_looked_at_and_what_stands_beside_it_is_kept(
    write: Write, made: str
) -> None:
    making = TITLES.replace("    found = ", f"    return type(parsed([]))([{made}, GOOD], [BAD])\n    found = ")
    imports = "from synth.checks import rejected\nfrom synth.records import Classification, Sts, Written\n"
    constants = "\nGOOD, BAD = NewSample(Retrieval('who rows?', ('Sailors.',))), rejected('mine', 'x', 'y')\n"
    recipe = recipes_with(write("titles.py", imports + making + constants))[Task.RETRIEVAL, "title"]
    given = recipe.parse("Boats", PASSAGE, Brief(2))
    assert given.made == [NewSample(Retrieval("who rows?", ("Sailors.",)))]
    assert [(each.reason, each.text) for each in given.rejections] == [("mine", "x"), ("leakage", FAULTY)]


def test_an_instruction_or_a_label_may_speak_of_the_task(write: Write) -> None:
    said = "Given a question, find the passage that answers the query."
    making = TITLES.replace("(passage.text,))", f"(passage.text,), {said!r})")
    recipe = recipes_with(write("titles.py", making))[Task.RETRIEVAL, "title"]
    assert recipe.parse("Small boats", PASSAGE, Brief(1)).made == [
        NewSample(Retrieval("Small boats", (PASSAGE.text,), said))
    ]


def test_what_is_no_text_is_left_for_the_store_to_refuse(write: Write) -> None:
    recipe = recipes_with(write("titles.py", TITLES.replace("normalise(reply)", "None")))[Task.RETRIEVAL, "title"]
    (made,) = recipe.parse("Small boats", PASSAGE, Brief(1)).made
    assert isinstance(made, NewSample) and isinstance(made.content, Retrieval)
    assert made.content.query is None


def test_the_recipe_for_json_takes_its_questions_out_of_prose_and_checks_each(write: Write) -> None:
    recipe = recipes_with(write("ask.py", ASK))[Task.RETRIEVAL, "ask"]
    good, short, refusal = "which boat is it?", "why?", "I'm sorry, but I cannot help with it."
    reply = f"Of course!\n```json\n{json.dumps({'questions': [good, short, refusal]})}\n```"
    given = recipe.parse(reply, PASSAGE, Brief(3))
    assert given.made == [NewSample(Retrieval(good, (PASSAGE.text,)))] and given.repaired == "found"
    assert {each.reason: each.text for each in given.rejections} == {"length": short, "leakage": refusal}
    assert recipe.parse(recipe.example_reply(PASSAGE, 3), PASSAGE, Brief(3)).repaired == ""
    assert PASSAGE.text in recipe.messages(PASSAGE, Brief(3))[0]["content"]


@pytest.mark.parametrize("reply", ["Boats are small.", '{"questions": []}', '{"questions": "why?"}', ""])
def test_a_reply_without_the_json_that_a_recipe_reads_is_one_to_ask_about_again(write: Write, reply: str) -> None:
    recipe = recipes_with(write("ask.py", ASK))[Task.RETRIEVAL, "ask"]
    with pytest.raises(BadReply):
        recipe.parse(reply, PASSAGE, Brief(3))


def test_a_reply_that_pythons_own_json_cannot_read_is_one_to_ask_about_again(write: Write) -> None:
    loading = TITLES.replace("    found = ", "    json.loads(reply)\n    found = ")
    recipe = recipes_with(write("titles.py", f"import json\n{loading}"))[Task.RETRIEVAL, "title"]
    with pytest.raises(BadReply, match=r"^the reply is no JSON: Expecting value: line 1 column 1 \(char 0\)$"):
        recipe.parse("Small boats", PASSAGE, Brief(1))
    assert recipe.parse('["Small boats"]', PASSAGE, Brief(1)).rejections  # it is read, and a list is no title


def test_a_parser_that_fails_at_a_reply_is_one_line(write: Write) -> None:
    broken = TITLES.replace("    found = ", "    {}[reply]\n    found = ")
    recipe = recipes_with(write("titles.py", broken))[Task.RETRIEVAL, "title"]
    line = broken.splitlines().index("    {}[reply]") + 1
    said = (
        rf"titles.py: `parse` fails at a reply: KeyError: 'Boats' \(line {line}\); the reply is kept: mend the recipe"
    )
    with pytest.raises(UserError, match=said):
        recipe.parse("Boats", PASSAGE, Brief(1))


def test_a_parser_may_refuse_a_reply(write: Write) -> None:
    refusing = TITLES.replace("    found = ", "    raise BadReply('too short')\n    found = ")
    recipe = recipes_with(write("titles.py", f"from synth.records import BadReply\n{refusing}"))[
        Task.RETRIEVAL, "title"
    ]
    with pytest.raises(BadReply, match="too short"):
        recipe.parse("Boats", PASSAGE, Brief(1))


def test_messages_that_fail_at_one_seed_alone_are_one_line(write: Write) -> None:
    broken = TITLES.replace("    return [{", "    if 'boat.' in passage.text: passage.gone\n    return [{")
    recipe = recipes_with(write("titles.py", broken.replace("boat.", PASSAGE.text)))[Task.RETRIEVAL, "title"]
    with pytest.raises(
        UserError, match=r"titles.py: `messages` fails at a seed: AttributeError: .* \(line \d+\); mend it"
    ):
        recipe.messages(PASSAGE, Brief(1))


def test_a_function_of_any_sort_does_and_has_the_recipes_file_as_its_own(write: Write) -> None:
    odd = TITLES.replace('parse, lambda *_: "A title"', "functools.partial(parse), str")
    folder = write("titles.py", f"import functools\n{odd}")
    recipe = recipes_with(folder)[Task.RETRIEVAL, "title"]
    assert file_of(recipe, folder) == ("own/titles.py", True)
    assert recipe.parsing == recipes_with(folder)[Task.RETRIEVAL, "title"].parsing
    write("titles.py", f"import functools\n\n{odd}")
    assert recipe.parsing != recipes_with(folder)[Task.RETRIEVAL, "title"].parsing


@pytest.mark.parametrize(
    ("written", "changed", "said"),
    [
        ("return parsed(", "return None and parsed(", "`parse` gives NoneType, not Parsed"),
        (
            "return parsed(",
            "return type(parsed([]))(iter([]), []) or parsed(",
            "`parse` gives Parsed of what is no list",
        ),
        (
            "return parsed(",
            "return type(parsed([]))([reply], []) or parsed(",
            "`parse` gives str as what was made, which must be",
        ),
        (
            "return parsed(",
            "return type(parsed([]))([], [reply]) or parsed(",
            "`parse` gives str as a rejection, which must be",
        ),
        ("(passage.text,))", "(passage.text,)), reply", "`parse` gives NewSample with `written` that is no list"),
        ("(passage.text,))", "(passage.text,)), [reply]", "`parse` gives str as a negative of a sample, which must be"),
        ('Task.RETRIEVAL, "title"', 'Task.RETRIEVAL, "edit"', "edit is what the store calls something else"),
    ],
)
def test_what_a_recipe_gets_wrong_at_its_edges_is_one_line(write: Write, written: str, changed: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        recipes = recipes_with(write("titles.py", TITLES.replace(written, changed)))
        recipes[Task.RETRIEVAL, "title"].parse("Small boats", PASSAGE, Brief(1))


def test_an_example_that_is_no_text_is_one_line(write: Write) -> None:
    recipe = recipes_with(write("titles.py", TITLES.replace('"A title"', "7")))[Task.RETRIEVAL, "title"]
    with pytest.raises(UserError, match="`example_reply` gives int, not a text; mend it"):
        recipe.example_reply(PASSAGE, 1)


def test_recipes_that_a_file_imports_from_ours_are_not_taken_for_its_own(write: Write) -> None:
    folder = write("title.py", f"from synth.recipes import RECIPES\n{TITLES}")
    assert (Task.RETRIEVAL, "title") in recipes_with(folder)


def test_a_key_of_the_environment_is_in_no_error(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-none-of-your-business")
    folder = write("leaky.py", "import os\nraise ValueError(os.environ['OPENAI_API_KEY'] + ' is refused')")
    with pytest.raises(UserError, match=r"ValueError: \*\*\* is refused \(line 2\)"):
        recipes_with(folder)
