"""What the documentation says is so: commands, views, SQL and links."""

import re
import subprocess
from pathlib import Path

import pytest

from synth.store.connection import Store
from synth.store.console import query
from tests.command_reference import COMMANDS, reference
from tests.conftest import REPOSITORY

README = (REPOSITORY / "README.md").read_text()
SQL_PAGE = (REPOSITORY / "docs" / "sql.md").read_text()
VIEWS_SQL = (REPOSITORY / "synth" / "store" / "views.sql").read_text()
VIEWS = tuple(re.findall(r"^CREATE OR REPLACE VIEW (\w+)", VIEWS_SQL, re.MULTILINE))
PAGES = sorted([REPOSITORY / "README.md", REPOSITORY / "CHANGELOG.md", *(REPOSITORY / "docs").glob("*.md")])


@pytest.mark.parametrize("command", [f"{program} {name}" for program, names in COMMANDS for name in names])
def test_every_command_stands_in_the_readmes_table(command: str) -> None:
    assert re.search(rf"^\| `{command}\b", README, re.MULTILINE)


def test_the_reference_of_commands_is_what_help_prints() -> None:
    page = (REPOSITORY / "docs" / "commands.md").read_text()
    assert page == reference(), "docs/commands.md is out of date: run `make docs`"


@pytest.mark.parametrize("view", VIEWS)
def test_every_column_of_every_view_is_documented_and_no_other(store: Store, view: str) -> None:
    [row] = re.findall(rf"^\| `{view}` \|.*$", SQL_PAGE, re.MULTILINE)
    documented = re.findall(r"`(\w+)`", re.sub(r"\([^)]*\)", "", row))[1:]
    described = query(store, f"DESCRIBE {view}").to_pylist()
    assert documented == [column["column_name"] for column in described]


@pytest.mark.parametrize("sql", re.findall(r"```sql\n(.*?)```", SQL_PAGE, re.DOTALL))
def test_every_documented_query_runs(store: Store, sql: str) -> None:
    query(store, sql)


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
