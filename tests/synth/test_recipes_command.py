"""`synth recipes`: what can be made, and exactly what is sent for it. Nothing is asked."""

import json
import re
from pathlib import Path

import pytest
from rich.cells import cell_len

from synth.recipes import RECIPES, paraphrase
from synth.recipes.recipe import Brief
from synth.records import Classification, Retrieval, Task
from synth.store.made import Finished
from synth.workspace import Workspace
from tests.synth.conftest import Run
from tests.synth.stages.reporting import ADDED, HARBOUR, HOSTILE, TOWER, a_run, added, draft, passage, with_sources

NOWHERE = "http://127.0.0.1:9/v1"  # a server that would be an error, were it asked
OWN = """\
from dataclasses import replace
from functools import partial
from synth.recipes import paraphrase

def asked(how, seed, brief):
    return [{"role": "user", "content": f"Say {brief.number} times {how}: {seed.content.query}"}]

RECIPES = [
    replace(paraphrase.RECIPES[0], operation="my-own", title="as I like it", messages=partial(asked, "in other words")),
    replace(paraphrase.RECIPES[2], per_seed=1),
]
"""


@pytest.fixture(autouse=True)
def with_samples(workspace: Workspace) -> None:
    with_sources(workspace.store)
    added(workspace.store, *ADDED.values())


def configure(workspace: Workspace, text: str) -> None:
    (workspace.root / "synth.toml").write_text(text)


def with_own(workspace: Workspace, text: str = OWN) -> None:
    folder = workspace.root / "recipes"
    folder.mkdir()
    (folder / "mine.py").write_text(text, encoding="utf-8")
    configure(workspace, 'recipes = "recipes"\n')


def sample_id(workspace: Workspace, task: Task) -> str:
    with workspace.store.read() as cursor:
        [(found,)] = cursor.execute("SELECT sample_id FROM sample_state WHERE task = ?", [task.value]).fetchall()
    return str(found)


def on_a_terminal(monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich takes this for a terminal
    monkeypatch.setenv("COLUMNS", str(columns))


def plain(out: str) -> str:
    return re.sub(r"\x1b\[[0-9;]*m", "", out)


def test_in_a_pipe_a_line_is_a_recipe_with_its_paper_and_its_checks_between_tabs(synth: Run) -> None:
    code, out, _ = synth("recipes")
    head, *rows = [line.split("\t") for line in out.splitlines()]
    assert code == 0 and head == ["operation", "task", "makes", "from", "per seed", "tries", "checks", "paper", "file"]
    for row, ((task, operation), recipe) in zip(rows, RECIPES.items(), strict=True):
        assert row[:4] == [operation, task, recipe.title, recipe.seeds]
        assert row[4:] == [
            str(recipe.per_seed),
            str(recipe.most_tries),
            ", ".join(recipe.checks),
            recipe.source,
            row[-1],
        ]
    told = json.loads(synth("recipes", "--json")[1])
    assert [(each["task"], each["operation"]) for each in told] == [(str(t), operation) for t, operation in RECIPES]
    assert {each["file"] for each in told} >= {"paraphrase.py", "augment.py", "retrieval_query.py"}
    assert not any(each["is_own"] for each in told)


@pytest.mark.parametrize(
    ("columns", "there", "left_out"),
    [(80, "makes", "tries"), (120, "tries", "paper"), (185, "file", "checks")],
)
def test_a_terminal_gets_the_columns_that_it_has_room_for_and_a_recipe_in_two_lines(
    synth: Run, monkeypatch: pytest.MonkeyPatch, columns: int, there: str, left_out: str
) -> None:
    on_a_terminal(monkeypatch, columns)
    _, head, _, *lines, _, last = plain(synth("recipes")[1]).splitlines()
    assert there in head.split() and left_out not in head.split()
    assert all(len(line) <= columns for line in lines) and len(lines) <= 3 * len(RECIPES)
    if "paper" in head:  # only what is made goes on in the next line
        assert all(any(recipe.source in line for line in lines) for recipe in RECIPES.values())
    assert last.startswith("what is sent: synth recipes show OPERATION")


def test_a_terminal_too_narrow_for_a_table_gets_a_value_a_line(synth: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    on_a_terminal(monkeypatch, 50)
    lines = plain(synth("recipes")[1]).splitlines()
    assert lines[:3] == ["-- 1", "operation: query", "task: retrieval"]


def test_a_table_with_chinese_titles_is_no_wider_than_the_terminal(
    synth: Run, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_own(workspace, OWN.replace("as I like it", "把查询和正例段落换一种说法再写一遍，意思不变，" * 4))
    on_a_terminal(monkeypatch, 80)
    lines = plain(synth("recipes")[1]).splitlines()
    assert any("把查询" in line for line in lines) and all(cell_len(line) <= 80 for line in lines[:-1])


def test_recipes_of_ones_own_folder_are_marked(synth: Run, workspace: Workspace) -> None:
    with_own(workspace)
    told = {(each["task"], each["operation"]): each for each in json.loads(synth("recipes", "--json")[1])}
    own = told["retrieval", "my-own"]
    assert (own["is_own"], own["file"], own["title"]) == (True, "recipes/mine.py", "as I like it")
    changed = told["classification", "paraphrase"]  # of which the folder has nothing but a number
    assert (changed["is_own"], changed["file"], changed["per_seed"]) == (True, "recipes", 1)
    assert told["sts", "paraphrase"]["is_own"] is False
    assert "as I like it (your own)" in synth("recipes")[1]
    shown = synth("recipes", "show", "my-own")[1]
    assert "file: recipes/mine.py" in shown and "Say 5 times in other words: who dug the harbour?" in shown


def test_what_a_recipe_of_ones_own_does_not_say_has_no_line(synth: Run, workspace: Workspace) -> None:
    with_own(workspace, OWN.replace('title="as I like it"', 'title="[bold]{x}", source="", checks=()'))
    lines = synth("recipes", "show", "my-own")[1].splitlines()
    assert "makes: [bold]{x} (your own)" in lines
    assert not [line for line in lines if line.startswith("paper:")]
    assert "checks: characters, leakage" in lines  # which are looked for in what any recipe makes


def test_the_messages_are_exactly_those_that_are_sent(synth: Run, workspace: Workspace) -> None:
    given = sample_id(workspace, Task.RETRIEVAL)
    told = json.loads(synth("recipes", "show", "paraphrase", "--sample", given[:20], "--json")[1])
    recipe = paraphrase.RECIPES[0]
    [seed] = [each for each in added(workspace.store, ADDED[Retrieval])]
    assert told["requests"] == [{"messages": recipe.messages(seed, Brief(recipe.per_seed)), "schema": recipe.schema}]
    assert (told["seed"], told["prompt_version"]) == ({"kind": "sample", "id": given}, recipe.prompt_version)
    out = synth("recipes", "show", "paraphrase", "--sample", given)[1]
    assert all(message["content"] in out for message in told["requests"][0]["messages"])
    assert f"prompt version: {recipe.prompt_version}" in out and "=== schema of the reply ===" in out


def test_a_recipe_of_passages_takes_a_passage_or_a_sample_that_was_made_of_one(
    synth: Run, workspace: Workspace
) -> None:
    seed = passage(TOWER)
    a_run(workspace.store, Finished(seed, [draft(Retrieval("灯塔多高？", (TOWER,)), seed, operation="query")]))
    [made] = [
        row["sample_id"]
        for row in json.loads(synth("sql", "FROM samples WHERE operation = 'query'", "--format", "json")[1])
    ]
    for given in (str(seed.text_id), made):
        told = json.loads(synth("recipes", "show", "query", "--sample", given, "--json")[1])
        assert told["seed"] == {"kind": "passage", "id": str(seed.text_id)}
        assert TOWER in told["requests"][0]["messages"][1]["content"]


def test_without_a_seed_the_next_pending_one_is_shown_and_no_server_is_asked(synth: Run, workspace: Workspace) -> None:
    for text in ("", f'[llm]\nbase_url = "{NOWHERE}"\nmodel = "small"\n'):
        configure(workspace, text)
        told = json.loads(synth("recipes", "show", "query", "--source", "guide", "--json")[1])
        assert told["seed"]["id"] == min(str(passage(text).text_id) for text in (HARBOUR, TOWER))
    assert not list(workspace.root.glob("journal/*"))


def test_a_recipe_that_asks_twice_shows_both_requests(synth: Run) -> None:
    told = json.loads(synth("recipes", "show", "persona-query", "--json")[1])
    assert len(told["requests"]) == 2 and told["facts"]
    out = synth("recipes", "show", "persona-query")[1]
    assert "=== request 1, user ===" in out and "=== request 2, user ===" in out
    assert '\n(as after the first reply {"character": 1, "question_type": ' in out
    assert f"which stands for {json.dumps(told['facts'])})" in out


def test_hostile_text_in_a_prompt_is_shown_and_not_obeyed(synth: Run, workspace: Workspace) -> None:
    [seed] = added(workspace.store, Classification(f"where is it? {HOSTILE}", HOSTILE))
    out = synth("recipes", "show", "paraphrase", "--task", "classification", "--sample", seed.sample_id)[1]
    assert "where is it? <script>" in out and "\\x1b[31m\\u202e" in out
    assert "\x1b" not in out and "\u202e" not in out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("show", "nothing"), "no recipe makes retrieval samples by the operation nothing"),
        (("show", "query", "--source", "nobody"), "nobody"),
        (("show", "paraphrase", "--sample", "abcdefabcdef"), "nothing is 'abcdefabcdef'"),
        (("show", "paraphrase", "--sample", "x"), "it is no id"),
        (("show", "paraphrase", "--sample", "abcdef", "--source", "guide"), "give one of them"),
        (("show", "paraphrase", "--language", "French"), "leave --language out"),
        (("show", "paraphrase", "--source", "atlas"), "there are no retrieval samples of atlas to start from"),
        (("--json", "show", "query"), "options go to the end: synth recipes show OPERATION"),
    ],
)
def test_a_mistake_is_told_in_one_line(synth: Run, arguments: tuple[str, ...], said: str) -> None:
    code, out, err = synth("recipes", *arguments)
    assert (code, out) == (2, "") and said in err and len(err.splitlines()) == 1


def test_what_is_no_seed_of_a_recipe_is_refused(synth: Run, workspace: Workspace) -> None:
    other_task = sample_id(workspace, Task.STS)
    code, _, err = synth("recipes", "show", "paraphrase", "--sample", other_task)
    assert code == 2 and f"the sample {other_task} is no seed of paraphrase, which starts from retrieval samples" in err
    text = str(passage().text_id)
    assert "is no seed of paraphrase" in synth("recipes", "show", "paraphrase", "--sample", text)[2]
    [seed] = added(workspace.store, ADDED[Retrieval])
    run_id = a_run(workspace.store, Finished(seed, [draft(Retrieval("by whom?", ("By hand.",)), seed)]))
    assert f"the run {run_id} is no seed" in synth("recipes", "show", "query", "--sample", run_id)[2]


def test_a_broken_folder_of_recipes_is_told_by_its_file(synth: Run, workspace: Workspace) -> None:
    with_own(workspace)
    (Path(workspace.root) / "recipes" / "mine.py").write_text("RECIPE = 1 / 0\n")
    code, _, err = synth("recipes")
    assert code == 2 and "mine.py: this recipe cannot be run: ZeroDivisionError" in err
