"""Commands that look at what the store holds."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from synth.commands.screens import JsonOption, WorkspaceOption, print_query, print_table
from synth.records import UserError

app = typer.Typer()


class SqlFormat(StrEnum):
    """How a query's result is written."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"
    PARQUET = "parquet"


@app.command()
def sql(
    query: Annotated[str, typer.Argument(help="One statement that reads.")],
    output_format: Annotated[SqlFormat, typer.Option("--format", help="How the result is written.")] = SqlFormat.TABLE,
    output: Annotated[Path | None, typer.Option(help="Write to this file; parquet needs it.")] = None,
    timeout: Annotated[
        float, typer.Option(min=0.1, max=86_400.0, help="Seconds after which the query is stopped.")
    ] = 60.0,
    workspace: WorkspaceOption = Path("."),
) -> None:
    """
    Ask the store in SQL. The views are sources, passages, samples, negatives, reviews, runs, releases, lineage, calls,
    eval_overlaps and near_duplicates.

    Nothing can be written, and no file outside the store can be read.

    Example: synth sql "SELECT source, status, count(*) AS n FROM samples GROUP BY ALL ORDER BY ALL"
    """
    from synth.store.console import query_apart, refuse_output, rows_of, write_result
    from synth.workspace import Workspace

    store = Workspace.open(workspace).store
    if output is not None:
        if output_format is SqlFormat.TABLE:
            raise UserError("a table is for the screen; choose --format csv, json or parquet for a file")
        refuse_output(output, store)
    result = query_apart(store, query, timeout=timeout)
    if output_format is SqlFormat.TABLE:
        print_table(result.column_names, [tuple(row.values()) for row in rows_of(result)])
    else:
        write_result(result, output_format, output)


@app.command()
def stats(workspace: WorkspaceOption = Path("."), as_json: JsonOption = False) -> None:
    """
    Count what the store holds: samples by source, operation and verdict. Held-out samples are never reviewed.

    Example: synth stats
    """
    query = (
        "SELECT source, task, operation, count(*) FILTER (status = 'approved') AS approved,"
        " count(*) FILTER (status = 'rejected') AS rejected,"
        " count(*) FILTER (status = 'pending' AND declared_use = 'train') AS pending,"
        " count(*) FILTER (declared_use = 'eval') AS held_out FROM samples GROUP BY ALL ORDER BY ALL"
    )
    print_query(query, workspace, as_json)
