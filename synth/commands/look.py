"""Commands that look at what the store holds."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from synth.commands.screens import JsonOption, WorkspaceOption, print_json, print_table
from synth.records import UserError
from synth.screen import say

SHOWN_ROWS = 1000  # of a result as a table
COUNTED = """
SELECT source, task, operation, count(*) FILTER (status = 'approved') AS approved,
       count(*) FILTER (status = 'rejected') AS rejected, count(*) FILTER (status = 'disputed') AS disputed,
       count(*) FILTER (status = 'pending' AND declared_use = 'train') AS pending,
       count(*) FILTER (declared_use = 'eval') AS held_out
FROM statuses GROUP BY ALL ORDER BY ALL
"""
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
    Ask the store in SQL. The views are sources, passages, samples, statuses, revisions, negatives, negative_verdicts,
    reviews, runs, run_steps, training_steps, calls, failures, generations, rejections, minings, mining_candidates,
    pair_boundaries, judgements, suggestions, judge_vs_people, triages, gold_samples, guidelines, roles, votes,
    relabellings, releases, release_samples, lineage, eval_overlaps, near_duplicates.

    Nothing can be written, and no file outside the store can be read.

    Example: synth sql "SELECT source, status, count(*) AS n FROM statuses WHERE declared_use = 'train' GROUP BY ALL"
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
        shown = rows_of(result.slice(0, SHOWN_ROWS))
        print_table(result.column_names, [tuple(row.values()) for row in shown])
        if result.num_rows > SHOWN_ROWS:
            say(f"the first {SHOWN_ROWS:,} of {result.num_rows:,} rows; --format csv or json has them all")
    else:
        write_result(result, output_format, output)


@app.command()
def show(
    thing: Annotated[
        str,
        typer.Argument(help="A release's name, or the id (or enough of its first digits) of a sample, run, text, ..."),
    ],
    workspace: WorkspaceOption = Path("."),
    as_json: JsonOption = False,
) -> None:
    """
    Print the whole life of a sample as a tree: source and licence, seed passage or sample, run, prompt, reply, tokens
    and cost, revisions, relabellings, negatives, what judges said, reviews, overlaps, releases. Of a revision, review
    or negative: of its sample. A run, text, call or release is told as well.

    Example: synth show first
    """
    from synth.commands.trees import print_life
    from synth.stages.lineage import life_with_replies
    from synth.workspace import Workspace

    opened = Workspace.open(workspace)
    told = life_with_replies(opened.store, opened.journal, thing)
    if as_json:
        print_json(told)
    else:
        print_life(told)


@app.command()
def stats(workspace: WorkspaceOption = Path("."), as_json: JsonOption = False) -> None:
    """
    Count what the store holds: samples by source, operation and verdict. Held-out samples are never reviewed. What
    there is none of has no column in the table.

    Example: synth stats
    """
    from synth.store.console import query
    from synth.workspace import Workspace

    counted = query(Workspace.open(workspace).store, COUNTED)
    rows = counted.to_pylist()
    if as_json:
        print_json(rows)
    else:
        shown = [name for name in counted.column_names if not rows or any(row[name] != 0 for row in rows)]
        print_table(shown, [[row[name] for name in shown] for row in rows])
