"""Writes docs/settings.md from the code's own records and templates: `make docs`."""

import ast
import inspect
import json
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from synth.store.guidelines import ReviewSettings
from synth.store.release_policy import ReleasePolicy
from synth.workspace import TEMPLATE
from trainer.config import BUNDLED, Config, Stage


@dataclass(frozen=True)
class Setting:
    """One field of a record."""

    name: str
    kind: str
    default: str  # "" if it must be given
    means: str


def settings_of(record: type[Any]) -> Iterator[Setting]:
    """A record's fields, with the comment beside each, or what the docstring's Attributes say of it."""
    source = inspect.getsource(record)
    lines = source.splitlines()
    [found] = ast.parse(source).body
    assert isinstance(found, ast.ClassDef)
    told = dict(re.findall(r"^ {8}(\w+): (.*(?:\n {12}.*)*)", inspect.getsource(record), re.MULTILINE))
    for node in found.body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            name, line = node.target.id, lines[(node.end_lineno or 0) - 1]
            comment = line[node.end_col_offset or 0 :].strip().removeprefix("#").strip()
            means = comment or " ".join(told.get(name, "").split())
            default = "" if node.value is None else _toml(ast.literal_eval(node.value))
            yield Setting(name, _kind(ast.unparse(node.annotation)), default, means)


def _kind(annotation: str) -> str:
    if annotation.startswith("Literal["):
        return " or ".join(f"`{each}`" for each in re.findall(r"'([^']*)'", annotation))
    names = {"tuple[str, ...]": "list of texts", "tuple[int, ...]": "list of whole numbers", "str": "text",
             "int": "whole number", "float": "number", "bool": "`true` or `false`",
             "tuple[Stage, ...]": "tables, see below"}  # fmt: skip
    return names[annotation]


def _toml(value: object) -> str:
    """A default as a TOML file would have it."""
    return json.dumps(list(value) if isinstance(value, tuple) else value)


def table(record: type[Any]) -> str:
    """The fields as a Markdown table."""
    settings = list(settings_of(record))
    with_default = any(each.default for each in settings)
    head = ["setting", "value", *(["default"] if with_default else []), "means"]
    rows = [
        [f"`{each.name}`", each.kind, *([f"`{each.default}`"] if with_default else []), each.means.replace("|", "\\|")]
        for each in settings
    ]
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def page() -> str:
    """docs/settings.md."""
    bundled = "\n\n".join(
        f"### `{path.stem}`\n\n```toml\n{path.read_text()}```" for path in sorted(BUNDLED.glob("*.toml"))
    )
    return f"""# Settings

This page is made from the code by `make docs`. Every file is TOML; a key that nobody knows is refused with the one that was
meant. What a command's option names goes before what a file says ([commands](commands.md)).

## A workspace: `synth.toml`

`synth init` writes this file; what stands in comments are the defaults or examples. [Asking an LLM](llm.md) and
[mining](mining.md) tell more.

```toml
{TEMPLATE}```

## A release's policy: `synth release create NAME --policy FILE`

[A release on disk](release-format.md) tells more.

{table(ReleasePolicy)}

## Review: the Guidelines page of the app

They are kept in the store, a version each time they change; shares are from 0 to 1.

{table(ReviewSettings)}

## A training run: `trainer run --config FILE`

Every key must be there. [Training](training.md) tells more.

{table(Config)}

Each table `[[stages]]`:

{table(Stage)}

{bundled}

## The environment

| variable | read by | means |
|---|---|---|
| `OPENAI_API_KEY`, or what `api_key_env` names | `synth generate`, `judge`, `relabel`, `mine` with a server | the server's key; never stored or logged |
| `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY`, `NO_PROXY` | whatever asks a server | the proxy |
| `HF_HUB_OFFLINE`, `HF_HOME`, `HF_TOKEN` | whatever loads a model or a data set of the hub | those of huggingface_hub |
| `RANK`, `LOCAL_RANK`, `WORLD_SIZE` | `trainer run` | set by `torchrun` |
| `CUDA_VISIBLE_DEVICES`, `OMP_NUM_THREADS` | whatever computes | those of CUDA and OpenMP |
"""  # noqa: E501 - rows of a table


if __name__ == "__main__":
    sys.stdout.write(page())
