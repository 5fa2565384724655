"""What the commands share: options that many take, and outcomes as a table, as lines or as JSON."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from synth.screen import cell, is_too_wide, new_table, say, show
from synth.units import finite

WorkspaceOption = Annotated[Path, typer.Option("--workspace", "-w", help="Folder made by `synth init`.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the outcome as one line of JSON.")]
SourceOption = Annotated[list[str] | None, typer.Option("--source", help="Only this source; may be given repeatedly.")]
MAX_SEED = 2**63 - 1  # what the store's column holds


def print_query(query: str, workspace: Path, as_json: bool) -> None:
    """Print the result of a query of ours over the store of a workspace."""
    from synth.store.console import query as run_query
    from synth.workspace import Workspace

    result = run_query(Workspace.open(workspace).store, query)
    if as_json:
        print_json(result.to_pylist())
    else:
        print_table(result.column_names, [tuple(row.values()) for row in result.to_pylist()])


def print_json(outcome: Any) -> None:
    """Print an outcome for machines."""
    typer.echo(json.dumps(finite(outcome), default=str, ensure_ascii=True))


def print_table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """
    Print rows as a table, or, where the terminal is too narrow, one value a line. Of a float the digits are shown that
    it is sure to keep of a decimal number, not those that its binary form adds.
    """
    rows = [[_without_noise(value) for value in row] for row in rows]
    gap = next((gap for gap in (2, 1) if not is_too_wide(columns, rows, gap=gap)), None)
    if gap is None:  # one value a line, as wide results are read best
        for number, row in enumerate(rows, start=1):
            say(f"-- {number}")
            for column, value in zip(columns, row, strict=True):
                say(f"{column}: {cell(value, width=500).plain}")
        return
    numeric = [all(_is_number(row[place]) for row in rows) for place in range(len(columns))]
    table = new_table(columns, numeric=numeric, gap=gap)
    for row in rows:
        table.add_row(*(cell(value) for value in row))
    show(table)


def _without_noise(value: object) -> object:
    if not isinstance(value, float) or value.is_integer():  # whole numbers are exact up to 2 ** 53
        return value
    return float(f"{value:.{sys.float_info.dig}g}")


def _is_number(value: object) -> bool:
    return value in (None, "") or (isinstance(value, (int, float)) and not isinstance(value, bool))
