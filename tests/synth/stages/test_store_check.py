"""Checking the store with its releases: what was changed, lost or never recorded is one line with the remedy."""

import shutil
from pathlib import Path

import pytest

from synth.records import Task
from synth.stages.release_files import MANIFEST, samples_file
from synth.stages.store_check import KNOWN, RELEASED, check_store
from synth.store.connection import Store
from synth.store.upkeep import back_up
from synth.store.verify import READABLE
from tests.synth.stages.releasing import add, approve_all, create, retrieval, source, sts
from tests.synth.store.damaging import damage_table


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace's folder with a store, a backup of it before the last release, and two releases."""
    folder = tmp_path_factory.mktemp("made")
    store = Store.create(folder / "store.duckdb")
    add(store, source(store), *(retrieval(number) for number in range(4)), *(sts(number) for number in range(4)))
    approve_all(store)
    with store.write() as cursor:  # `releasing` names runs that it does not record
        runs = "SELECT run_id FROM revision UNION SELECT run_id FROM source UNION SELECT run_id FROM review"
        cursor.execute(f"INSERT INTO run BY NAME SELECT run_id FROM ({runs} EXCEPT SELECT run_id FROM run)")
    create(store, folder / "releases", "first")
    back_up(store, folder / "backup.duckdb")
    create(store, folder / "releases", "second", seed=1)
    return folder


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    """A copy of it to be damaged. The store's paths lead to where the releases were made."""
    return Path(shutil.copytree(made, tmp_path / "workspace"))


def told(folder: Path, rule: str) -> list[str]:
    """The problems, which must all be of this rule and of one line."""
    problems = check_store(Store.open(folder / "store.duckdb"), folder / "releases")
    assert {problem.rule for problem in problems} <= {rule}
    assert all("\n" not in problem.message for problem in problems)
    return [problem.message for problem in problems]


def test_what_was_released_is_sound_in_a_copied_workspace_too(made: Path, folder: Path) -> None:
    assert told(made, RELEASED) == []
    assert told(folder, RELEASED) == []


def test_a_file_that_is_missing_is_told(folder: Path) -> None:
    samples_file(folder / "releases" / "second", Task.STS).unlink()
    lines = told(folder, RELEASED)
    assert lines[0].startswith("release second: samples/sts.parquet: is missing; restore ")
    assert not any("release first" in line for line in lines)


def test_a_byte_that_was_added_is_told(folder: Path) -> None:
    readme = folder / "releases" / "first" / "README.md"
    readme.chmod(0o644)
    readme.write_text(readme.read_text() + "x")
    [line] = told(folder, RELEASED)
    assert line.startswith("release first: README.md: has ")


@pytest.mark.parametrize("content", ["[]", "{", "\x00"])
def test_a_manifest_that_cannot_be_read_is_a_problem_not_a_crash(folder: Path, content: str) -> None:
    manifest = folder / "releases" / "first" / MANIFEST
    manifest.unlink()
    manifest.write_text(content)
    [line] = told(folder, RELEASED)
    assert line.startswith(f"release first: {manifest}: ")


def test_another_digest_than_the_store_recorded_is_told(folder: Path) -> None:
    with Store.open(folder / "store.duckdb").write() as cursor:
        cursor.execute("UPDATE release SET digest = 'd2' WHERE name = 'first'")
    [line] = told(folder, RELEASED)
    assert "the store recorded d2" in line


def test_a_release_is_looked_for_in_the_workspace_then_where_it_was_made(made: Path, folder: Path) -> None:
    shutil.rmtree(folder / "releases" / "first")
    assert told(folder, RELEASED) == []
    with Store.open(folder / "store.duckdb").write() as cursor:
        cursor.execute("UPDATE release SET path = '/nowhere/' || name")
    [line] = told(folder, RELEASED)
    assert line.startswith("release first: its folder /nowhere/first is gone; ")


def test_a_release_made_after_the_backup_that_was_restored_is_told(folder: Path) -> None:
    (folder / "backup.duckdb").replace(folder / "store.duckdb")
    [line] = told(folder, KNOWN)
    assert line.startswith(f"{folder / 'releases' / 'second'}: the store does not know this release")
    assert "move it away" in line


def test_what_is_no_release_in_the_folder_is_left_alone(folder: Path) -> None:
    (folder / "releases" / "notes").mkdir()
    (folder / "releases" / ".third.partial").mkdir()
    (folder / "releases" / ".third.partial" / MANIFEST).write_text("{}")
    (folder / "releases" / "list.txt").write_text("first, second")
    assert told(folder, KNOWN) == []


def test_releases_are_looked_at_beside_a_table_that_cannot_be_read(folder: Path) -> None:
    shutil.copytree(folder / "releases" / "first", folder / "releases" / "stranger")
    damage_table(Store.open(folder / "store.duckdb"), "source", "name")
    rules = [problem.rule for problem in check_store(Store.open(folder / "store.duckdb"), folder / "releases")]
    assert set(rules) == {READABLE, KNOWN}


def test_without_the_table_of_releases_the_damage_alone_is_told(folder: Path) -> None:
    damage_table(Store.open(folder / "store.duckdb"), "release", "name")
    assert told(folder, READABLE)
