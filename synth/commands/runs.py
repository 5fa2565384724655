"""`synth runs`: what was run, what it paid, and what failed."""

from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from synth.commands.figures import counted, duration
from synth.commands.screens import JsonOption, WorkspaceOption, print_json, print_table
from synth.llm.budget import dollars
from synth.records import UserError
from synth.screen import cell, is_too_wide, say, show

NARROWEST_MODEL = 12  # characters; the column of models gives way to the others
WIDTH = 400  # characters of a line (--json has it whole)
SHOWN = 20
MODEL, MADE_OF = "model", "made"
AND = ", "
# What a run made, in words.
MADE = {"num_samples": "samples", "num_moved": "moved", "num_judgements": "judged", "num_negatives": "negatives"}
COUNTED = {"outcomes": " (replies)", "rejections": " (texts)", "failures": " (requests)"}  # the numbers of each part
HOW_READ = {"repaired": "repaired", "cut": "cut and read in part", "asked_again": "asked again"}  # of replies, in words
NUMERIC = (MADE_OF, "requests", "tokens", "cost", "time")
LEFT_OUT = (
    (),
    ("requests",),
    ("requests", "time"),
    ("requests", "time", "tokens"),
)  # of the columns, the narrower the terminal is

RunArgument = Annotated[
    str, typer.Argument(metavar="RUN", help="`last`, or the id of a run, or the end of it that `synth runs` shows.")
]

app = typer.Typer(invoke_without_command=True, rich_markup_mode=None)


@app.callback()
def runs(
    context: typer.Context,
    kind: Annotated[
        str | None,
        typer.Option(
            help="Only this kind: ingest, generate, relabel, mine, judge, review, check, release, train or evaluate."
        ),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=10**6, help="At most so many.")] = SHOWN,
    workspace: WorkspaceOption = Path("."),
    as_json: JsonOption = False,
) -> None:
    """
    List what was run, newest first: what it made, asked and paid. Times are UTC; `unfinished` runs were killed, or are
    under way.

    Example: synth runs --kind generate
    """
    if context.invoked_subcommand is not None:
        if (kind, limit, workspace, as_json) != (None, SHOWN, Path("."), False):
            raise UserError(f"options go to the end: synth runs {context.invoked_subcommand} RUN [OPTIONS]")
        return
    from synth.store.run_history import num_runs, recent
    from synth.workspace import Workspace

    store = Workspace.open(workspace).store
    found = recent(store, kind=kind, limit=limit)
    if as_json:
        print_json(found)
    elif not found:
        begin = f"nothing was run yet; begin with: synth ingest PATH -w {workspace}"
        say(f"no run of the kind {kind} yet" if kind else begin)
    else:
        _print_runs([_summary(run, datetime.now(UTC)) for run in found])
        if len(found) < (number := num_runs(store, kind=kind)):
            say(f"{len(found):,} of {counted(number, 'run')}; --limit shows more")


@app.command("show")
def runs_show(run: RunArgument, workspace: WorkspaceOption = Path("."), as_json: JsonOption = False) -> None:
    """
    Tell one run: its configuration and outcome, what each model was paid, what became of the replies and why, and what
    failed. `synth show` tells what it left in the store.

    Example: synth runs show last
    """
    from synth.store.run_history import find_run, story
    from synth.workspace import Workspace

    store = Workspace.open(workspace).store
    told = story(store, find_run(store, run))
    if as_json:
        print_json(told)
        return
    for line in _lines(told):
        say(cell(line, width=WIDTH).plain)
    if left := {row["kind"] for row in told["failures"] if row["requests"] > row["finished_since"]}:
        say(f"{_remedy(told, left)} -w {workspace}")


def _remedy(told: Mapping[str, Any], left: Set[str]) -> str:
    """The command that asks again for what a run left, in these ways."""
    from synth.store.failures import only_for
    from synth.store.run_history import HAVE_AGAIN

    if told["kind"] in HAVE_AGAIN:
        return f"next, with the options of this run: synth {told['kind']} --again"
    return f"next: synth runs retry {told['ending']} --only {only_for(left)}"


def _summary(run: Mapping[str, Any], now: datetime) -> dict[str, str]:
    started = run["started_at"]
    return {
        "run": run["ending"],
        "kind": run["kind"],
        # as `ls -l`: the time of day tells runs of this year apart, the year older ones
        "started": f"{started:%m-%d %H:%M}" if started.year == now.year else f"{started:%Y-%m-%d}",
        "status": run["status"],
        MODEL: " + ".join(name.rpartition("/")[2] for name in run["model"].split(" + ")),
        MADE_OF: _made(run, _count),
        "requests": _count(run["requests"]),
        "tokens": _count(run["tokens_in"] + run["tokens_out"]),
        "cost": "" if run["cost"] is None else dollars(run["cost"]),
        "time": "" if run["seconds"] is None else duration(run["seconds"]),
    }


def _print_runs(runs: Sequence[Mapping[str, str]]) -> None:
    """A table whose columns stand as close as they can, or, where the terminal is too narrow, one value a line."""
    narrower = [{**run, MADE_OF: max(run[MADE_OF].split(AND), key=len)} for run in runs]  # one thing above another
    is_stacked = len(_columns_that_fit(runs)) < len(runs[0])
    columns = _columns_that_fit(narrower if is_stacked else runs)
    if not columns:
        print_table(list(runs[0]), [list(run.values()) for run in runs])
        return
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False)
    for column in columns:
        table.add_column(column, justify="right" if column in NUMERIC else "left", no_wrap=column != MODEL)
    for run in runs:
        cells = {column: cell(run[column]) for column in columns}
        cells[MODEL].no_wrap, cells[MODEL].overflow = True, "ellipsis"
        if is_stacked:
            cells[MADE_OF] = Text("\n").join(map(cell, run[MADE_OF].split(AND)))
        table.add_row(*cells.values())
    show(table)


def _columns_that_fit(runs: Sequence[Mapping[str, str]]) -> list[str]:
    """A narrow terminal gets shorter names of models, then fewer columns; none if there is no room for a line a run."""
    shortened = [{**run, MODEL: run[MODEL][:NARROWEST_MODEL]} for run in runs]
    for left_out in LEFT_OUT:
        columns = [column for column in runs[0] if column not in left_out]
        if not is_too_wide(columns, [[run[column] for column in columns] for run in shortened], gap=1):
            return columns
    return []


def _lines(told: Mapping[str, Any]) -> Iterator[str]:
    yield from _outcome(told)
    by = "retry" if told["kind"] == "generate" else "--again"
    parts: dict[str, Callable[[Sequence[Mapping[str, Any]]], Iterator[str]]] = {
        "models": _models,
        "outcomes": _outcomes,
        "rejections": _reasons,
        "failures": partial(_failures, by),
    }
    for part, lines in parts.items():
        if told[part]:
            yield f"{part}{COUNTED.get(part, '')}:"
            yield from (f"  {line}" for line in lines(told[part]))


def _outcome(run: Mapping[str, Any]) -> Iterator[str]:
    yield f"{run['kind']} {run['run_id']}: {run['status']}"
    if run["reason"]:
        yield run["reason"]
    took = "" if run["seconds"] is None else f", took {duration(run['seconds'])}"
    yield f"started {run['started_at']:%Y-%m-%d %H:%M:%S} UTC{took}, code {run['code_version']}"
    yield "config:"
    named = {name: run[name] for name in (MODEL, "prompt_version", "seed", "device")}
    for name, value in (named | (run["config"] or {})).items():
        if value not in (None, "", []):
            yield f"  {name}: {value}"
    if counts := ", ".join(f"{number:,} {name}" for name, number in (run["counts"] or {}).items() if number):
        yield f"counted {counts}"
    if made := _made(run, "{:,}".format):
        yield f"made: {made}"
    if run["requests"]:
        yield f"{counted(run['requests'], 'request')}, {_paid(run)}"
    if run["lost_tokens"]:
        price = "" if run["lost_cost"] is None else f", {dollars(run['lost_cost'])}"
        yield f"what was lost or not counted may be charged as well: at most {run['lost_tokens']:,} tokens{price}"


def _paid(row: Mapping[str, Any]) -> str:
    price = "no price stated" if row["cost"] is None else dollars(row["cost"])
    return f"{row['tokens_in']:,} tokens in, {row['tokens_out']:,} out, {price}"


def _models(models: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    for each in models:
        where = each["server"] and f" at {each['server']}"
        batched = each["batched"] and f" ({each['batched']:,} in batches)"
        median = "" if each["median_seconds"] is None else f", median {each['median_seconds']:.2f} s"
        replies = counted(each["calls"], "reply", "replies")
        yield f"{each[MODEL]}{where or ''}: {replies}{batched or ''}, {_paid(each)}{median}"


def _outcomes(outcomes: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    for each in outcomes:
        how = [f", {each[how]:,} of them {told}" for how, told in HOW_READ.items() if each[how]]
        yield f"{each['calls']:,} {each['outcome']}{''.join(how)}"
        yield from (f"  {line}" for line in _reasons(each["reasons"], each["other_reasons"]))


def _failures(by: str, failures: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    for each in failures:
        again = f"asked again by {by} alone" if each["permanent"] else "asked again by the same command"
        since = each["finished_since"] and f", {each['finished_since']:,} of them finished since"
        yield f"{each['requests']:,} {each['kind']}, {again}{since or ''}"
        yield from (f"  {line}" for line in _reasons(each["reasons"], each["other_reasons"]))


def _reasons(reasons: Sequence[Mapping[str, Any]], num_others: int = 0) -> Iterator[str]:
    yield from (f"{each['n']:,} x {each['reason']}" for each in reasons)
    if num_others:
        yield f"{num_others:,} x others"


def _made(run: Mapping[str, Any], told: Callable[[int], str]) -> str:
    """All that it brought, each number as it is `told`; nothing for nothing."""
    return AND.join(
        f"{told(number)} {made.removesuffix('s') if number == 1 else made}"
        for name, made in MADE.items()
        if (number := run[name])
    )


def _count(number: int) -> str:
    """At most six characters; nothing for none."""
    if number < 100_000:
        return f"{number:,}" if number else ""
    for size, unit in ((1e3, "k"), (1e6, "M"), (1e9, "G")):
        if number < 999.5 * size:
            return f"{number / size:.3g}{unit}"
    return f"{number / 1e12:.3g}T"
