"""What the documentation says is so: commands, views, SQL and links."""

import dataclasses
import re
import subprocess
from pathlib import Path

import duckdb
import pytest

from synth.llm.config import Endpoint, LLMConfig
from synth.stages.mine.settings import MineSettings
from synth.store.connection import Store
from synth.store.console import query
from synth.store.guidelines import ReviewSettings
from synth.store.release_policy import ReleasePolicy
from synth.workspace import TEMPLATE
from tests import cookbook, settings_reference
from tests.command_reference import COMMANDS, help_of, reference
from tests.conftest import REPOSITORY
from trainer.config import Config, Stage

README = (REPOSITORY / "README.md").read_text()
SQL_PAGE = (REPOSITORY / "docs" / "sql.md").read_text()
VIEWS_SQL = (REPOSITORY / "synth" / "store" / "views.sql").read_text()
VIEWS = tuple(re.findall(r"^CREATE OR REPLACE VIEW (\w+)", VIEWS_SQL, re.MULTILINE))
QUESTIONS = re.findall(r"^### (\d+)\..*?```sql\n(.*?)```\n\n```text\n(.*?)```", SQL_PAGE, re.MULTILINE | re.DOTALL)
PAGES = sorted([REPOSITORY / "README.md", REPOSITORY / "CHANGELOG.md", *(REPOSITORY / "docs").glob("*.md")])


@pytest.mark.parametrize("command", [f"{program} {name}" for program, names in COMMANDS for name in names])
def test_every_command_stands_in_the_readmes_table(command: str) -> None:
    assert re.search(rf"^\| `{command}\b", README, re.MULTILINE)


def test_the_reference_of_commands_is_what_help_prints() -> None:
    page = (REPOSITORY / "docs" / "commands.md").read_text()
    assert page == reference(), "docs/commands.md is out of date: run `make docs`"


def test_the_reference_of_settings_is_what_the_code_says() -> None:
    page = (REPOSITORY / "docs" / "settings.md").read_text()
    assert page == settings_reference.page(), "docs/settings.md is out of date: run `make docs`"


@pytest.mark.parametrize("record", [ReleasePolicy, ReviewSettings, Config, Stage])
def test_every_setting_says_what_it_means(record: type) -> None:
    assert [each.name for each in settings_reference.settings_of(record) if not each.means] == []


@pytest.mark.parametrize("record", [Endpoint, LLMConfig, MineSettings])
def test_a_new_workspace_names_every_setting(record: type) -> None:
    named = set(re.findall(r"^(?:# )?(\w+) = ", TEMPLATE, re.MULTILINE))
    assert {field.name for field in dataclasses.fields(record)} - {"endpoints"} <= named


@pytest.mark.parametrize("view", VIEWS)
def test_every_column_of_every_view_is_documented_and_no_other(store: Store, view: str) -> None:
    [row] = re.findall(rf"^\| `{view}` \|.*$", SQL_PAGE, re.MULTILINE)
    documented = re.findall(r"`(\w+)`", re.sub(r"\([^)]*\)", "", row))[1:]
    described = query(store, f"DESCRIBE {view}").to_pylist()
    assert documented == [column["column_name"] for column in described]


@pytest.fixture(scope="module")
def asked_store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """The store that the questions of docs/sql.md are asked of."""
    return cookbook.build(tmp_path_factory.mktemp("cookbook") / "store")


@pytest.mark.parametrize(("number", "sql", "answer"), QUESTIONS, ids=[number for number, _, _ in QUESTIONS])
def test_every_question_has_the_answer_that_stands_below_it(
    asked_store: Store, number: str, sql: str, answer: str
) -> None:
    assert answer == cookbook.printed(asked_store, sql), f"question {number} is out of date: run `make docs`"


def test_every_view_answers_in_any_duckdb_that_opens_the_file(asked_store: Store) -> None:
    with duckdb.connect(asked_store.path, read_only=True) as shell:
        for view in VIEWS:
            columns = shell.sql(f"FROM {view} LIMIT 1").columns
            assert columns == [each["column_name"] for each in query(asked_store, f"DESCRIBE {view}").to_pylist()]


def test_the_page_holds_twenty_questions_one_on_judges_three_on_mining_and_no_other_sql() -> None:
    assert [number for number, _, _ in QUESTIONS] == [str(number) for number in range(1, 25)]
    assert SQL_PAGE.count("```sql") == len(QUESTIONS)


def test_the_help_of_sql_names_every_view() -> None:
    assert set(VIEWS) <= set(re.findall(r"\w+", help_of("synth", "sql")))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_to_a_file_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text()):
        if not target.startswith(("http://", "https://")):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_the_readmes_two_commands_exist_and_ci_runs_them() -> None:
    for command in ("demo", "test"):
        assert f"make {command}" in README
        subprocess.run(["make", "--dry-run", command], cwd=REPOSITORY, check=True, capture_output=True)
    ci = (REPOSITORY / ".ci" / "run").read_text()
    assert ci.index("make demo") < ci.index("make test")
