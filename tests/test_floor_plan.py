"""The floor plan: who may import whom. Walks every file, imports inside functions and TYPE_CHECKING included."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

PACKAGES = ("synth", "mining", "review_app", "trainer")
MAY_IMPORT = {
    "mining": {"mining"},
    "synth": {"synth", "mining"},
    "review_app": {"review_app", "synth"},
    "trainer": {"trainer", "synth", "mining"},
}
# Inside synth, a layer may import itself and those to its right.
LAYERS = (
    "cli",
    "commands",
    "workspace",
    "stages",
    "recipes",
    "overlaps",
    "likeness",
    "checks",
    "languages",
    "phrases",
    "llm",
    "sentences",
    "store",
    "screen",
    "settings",
    "units",
    "records",
)
ABOVE_ALL = {"screen", "settings", "units"}  # they know the records alone
OWNERS = {
    "duckdb": ("synth/store/",),
    "faiss": ("mining/faiss_library.py", "mining/flat.py"),
    "streamlit": ("review_app/",),
    "openai": ("synth/llm/",),
    "aiohttp": ("synth/llm/",),
    "httpx": ("synth/llm/",),
    "httpx2": ("synth/llm/",),
    "tenacity": ("synth/llm/",),
    "torch": ("trainer/", "mining/"),
    "transformers": ("trainer/", "mining/"),
    "sentence_transformers": ("trainer/", "mining/"),
}
FILES = sorted(path for package in PACKAGES for path in (REPOSITORY / package).rglob("*.py"))


def imports(source: str) -> Iterator[str]:
    """Every module that a file's text imports, as dotted names."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                yield "." * node.level
            else:
                # `from synth import store` imports synth.store
                yield from (f"{node.module}.{alias.name}" for alias in node.names)


def refused(path: str, source: str) -> list[str]:
    """The imports of a file (path from the repository's root) that run against the floor plan."""
    package = path.split("/")[0]
    wrong = []
    for name in imports(source):
        root = name.split(".")[0]
        if name.startswith("."):
            wrong.append(f"{path}: relative import")
        elif root in PACKAGES and root not in MAY_IMPORT[package]:
            wrong.append(f"{path}: {package} may not import {name}")
        elif root in OWNERS and not path.startswith(OWNERS[root]):
            wrong.append(f"{path}: only {' and '.join(OWNERS[root])} may import {root}")
        elif root == package == "synth" and not _downwards(path, name):
            wrong.append(f"{path}: may not import {name}, which is above it")
    return wrong


def _downwards(path: str, name: str) -> bool:
    parts = path.removesuffix(".py").split("/")
    if len(parts) < 2 or parts[1] == "__init__" or len(name.split(".")) < 2:
        return True
    layer, imported = parts[1], name.split(".")[1]
    if imported not in LAYERS:
        return layer in LAYERS
    if layer in ABOVE_ALL:
        return imported in {layer, "records"}
    return LAYERS.index(imported) >= LAYERS.index(layer)


def test_every_import_follows_the_floor_plan() -> None:
    assert FILES
    wrong = [each for path in FILES for each in refused(str(path.relative_to(REPOSITORY)), path.read_text())]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("mining/search.py", "from synth.records import Task"),
        ("synth/stages/mine/run.py", "import duckdb"),
        ("synth/stages/mine/run.py", "def f():\n    import torch"),
        ("synth/store/samples.py", "from synth.stages import mine"),
        ("synth/records.py", "from synth import store"),
        ("synth/records.py", "from synth.screen import say"),
        ("synth/llm/engine.py", "from synth.cli import app"),
        ("review_app/app.py", "import trainer.loop"),
        ("trainer/loop.py", "from . import config"),
        ("trainer/loop.py", "import openai"),
    ],
)
def test_an_import_against_the_floor_plan_is_refused(path: str, source: str) -> None:
    assert refused(path, source)


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("synth/cli.py", "from synth.stages.mine.run import mine_negatives"),
        ("synth/stages/mine/run.py", "from mining import search"),
        ("trainer/cli.py", "from synth.screen import say"),
        ("synth/store/samples.py", "import duckdb"),
    ],
)
def test_an_import_along_the_floor_plan_is_allowed(path: str, source: str) -> None:
    assert not refused(path, source)


def test_the_wheel_carries_every_package_and_data_file() -> None:
    import tomllib

    setuptools = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["tool"]["setuptools"]
    on_disk = {".".join(path.relative_to(REPOSITORY).parent.parts) for path in FILES}
    assert set(setuptools["packages"]) == on_disk
    for package in PACKAGES:
        for path in (REPOSITORY / package).rglob("*"):
            if path.is_file() and path.suffix not in {".py", ".pyc"}:
                assert _declared(path.relative_to(REPOSITORY), setuptools["package-data"]), path


def _declared(path: Path, package_data: dict[str, list[str]]) -> bool:
    return any(
        path.is_relative_to(package.replace(".", "/")) and path.relative_to(package.replace(".", "/")).match(pattern)
        for package, patterns in package_data.items()
        for pattern in patterns
    )
