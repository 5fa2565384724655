"""
The `synth` command: options become one call of a stage, and its outcome goes to the screen. Decides nothing.

Heavy imports (duckdb, torch, openai) stand inside the commands, so that `--help` is instant.
"""

from contextlib import ExitStack
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from synth.commands import batches, check, look, recipes, release, runs, store
from synth.commands.generate import generate, retry
from synth.commands.judge import judge
from synth.commands.mine import mine
from synth.commands.relabel import relabel
from synth.commands.report import report
from synth.commands.screens import JsonOption, WorkspaceOption, print_json, print_table
from synth.commands.triage import triage
from synth.records import Use
from synth.screen import progress, run_app, say
from synth.stages.spool import OnError

if TYPE_CHECKING:
    from synth.stages.review import Audit

app = typer.Typer(
    help="Make training data for text-embedding models: ingest, generate, mine, review, release.\n\n"
    "Every command goes on where it was stopped when it is run again. Exit codes: 0 done, 1 failed, 2 wrong input, "
    "3 a ceiling reached, 130 stopped by Ctrl-C.",
    no_args_is_help=True,
    invoke_without_command=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


@app.callback()
def common(
    version: Annotated[bool, typer.Option("--version", help="Print the version and leave.")] = False,
) -> None:
    if version:
        from importlib.metadata import version as installed

        say(f"skiff-embeddings {installed('skiff-embeddings')}")
        raise typer.Exit


MAX_RANK = 10**6


class PolicyName(StrEnum):
    """The policies of `synth review --policy`."""

    LABELLED = "labelled"
    CONSISTENT = "consistent"
    EVERYTHING = "everything"
    AUDITED = "audited"


class QueueName(StrEnum):
    """What the review app shows."""

    UNREVIEWED = "unreviewed"
    AUDIT = "audit"
    DISPUTED = "disputed"
    SUGGESTED = "suggested"
    FLAGGED = "flagged"
    ADJUDICATION = "adjudication"


def main() -> None:
    """Run the command and leave the process with its exit code."""
    run_app(app)


@app.command()
def init(
    folder: Annotated[Path, typer.Argument(help="The workspace to make.")] = Path("."),
    lake: Annotated[
        bool, typer.Option("--lake", help="Keep the store as a DuckLake: a catalogue, and Parquet files beside it.")
    ] = False,
) -> None:
    """
    Make a workspace: a folder with synth.toml and an empty store. What is there already is kept.

    Example: synth init my-search
    """
    from synth.workspace import Workspace

    workspace = Workspace.create(folder, lake=lake)
    say(f"workspace {workspace.root} is ready; next: synth ingest PATH --workspace {workspace.root}")


@app.command()
def ingest(
    path: Annotated[Path, typer.Argument(help="A file, a folder, or hf:OWNER/NAME[:CONFIG] of the Hugging Face hub.")],
    use: Annotated[
        Use | None, typer.Option(help="Declare everything to train on or held out, whatever its split says.")
    ] = None,
    layout: Annotated[
        str,
        typer.Option(
            "--format",
            help="Read columns as tevatron, flagembedding, reading, claims, chat, tuples, inference, pairs, labelled,"
            " documents or titled.",
        ),
    ] = "",
    column: Annotated[
        list[str] | None, typer.Option("--map", help="ROLE=COLUMN: which column is which; may be given repeatedly.")
    ] = None,
    split: Annotated[str, typer.Option(help="The split of every row, over what it says itself.")] = "",
    name: Annotated[str, typer.Option(help="The name of the data set; its file's or folder's, if left out.")] = "",
    licence: Annotated[str, typer.Option(help="Its licence, for datasheets.")] = "",
    on_error: Annotated[
        OnError, typer.Option(help="At a line that cannot be used: refuse everything, or skip it and report.")
    ] = OnError.REFUSE,
    report: Annotated[
        Path | None, typer.Option(help="Where skipped lines are listed; beside the store, if left out.")
    ] = None,
    workspace: WorkspaceOption = Path("."),
    as_json: JsonOption = False,
) -> None:
    """
    Read data sets and documents into the store; one broken line, and nothing of the path is stored.

    Takes BEIR folders; .jsonl, .json, .csv, .tsv and .parquet files with the columns of sentence-transformers,
    FlagEmbedding, Tevatron, scored pairs or classes, conversations, claims with evidence, reading comprehension, titles
    with texts; folders of .md, .rst, .txt and .html files, which are one corpus with all folders below; and data sets
    of the `datasets` library, saved or from the hub. A sources.toml in the folder names sets, licences and origins.
    Rows of the splits test, dev, validation are held out from training. docs/formats.md shows a line of each.

    Example: synth ingest faq.csv --map query=question --map positive=answer --on-error skip
    """
    from synth.stages.formats import parse_mapping
    from synth.stages.ingest import read_checked, store_checked
    from synth.stages.layouts import Described
    from synth.workspace import Workspace

    given = Described(name=name, licence=licence, format=layout, split=split, map=parse_mapping(column or []))
    opened = Workspace.open(workspace)
    with ExitStack() as stack:
        with progress("read rows", None) as advance:
            checked = stack.enter_context(
                read_checked(
                    opened.store,
                    path,
                    declared_use=use,
                    on_progress=advance,
                    given=given,
                    on_error=on_error,
                    report=report,
                )
            )
        with progress("store", checked.num_rows) as advance:
            outcome = store_checked(opened.store, checked, on_progress=advance)
    if as_json:
        print_json(asdict(outcome))
        return
    rows = [
        (r.name, r.split, r.declared_use, r.kind, r.num_passages or "", r.num_samples or "", r.num_new)
        for r in outcome.sources
    ]
    print_table(["source", "split", "use", "kind", "passages", "samples", "new"], rows)
    for reason, number in sorted(outcome.left_out.items()):
        say(f"left out {number}: {reason}")
    if outcome.report is not None:
        say(f"what was left out: {outcome.report}")
    for note in outcome.notes:
        say(note)
    say(f"next: synth generate -w {workspace}, or synth mine -w {workspace} if you have queries")


app.add_typer(recipes.app, name="recipes")
app.command()(generate)
app.command()(relabel)
app.command()(report)


app.command()(mine)
app.command()(judge)
app.command()(triage)


@app.command()
def review(
    policy: Annotated[
        PolicyName | None, typer.Option(help="Let a policy decide what nobody has, instead of opening the app.")
    ] = None,
    max_rank: Annotated[
        int, typer.Option(min=1, max=MAX_RANK, help="Of the policy `consistent`: the positive's worst rank.")
    ] = 50,
    max_error: Annotated[
        float, typer.Option(help="Of the policy `audited`: the greatest share of wrong samples, 0.001 to 0.5.")
    ] = 0.05,
    reviewer: Annotated[str | None, typer.Option(help="Your name in the app.")] = None,
    queue: Annotated[
        QueueName,
        typer.Option(
            help="What the app shows: undecided, approved by a policy only, disputed, what a judge suggests to mend,"
            " what has negatives that mining flagged, or what is for an adjudicator to settle."
        ),
    ] = QueueName.UNREVIEWED,
    port: Annotated[int, typer.Option(min=1, max=65535, help="Of the app, on this machine only.")] = 8501,
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open the page in a browser.")] = True,
    workspace: WorkspaceOption = Path("."),
    as_json: JsonOption = False,
) -> None:
    """
    Open the review app, or with --policy give verdicts by a stated rule, recorded under the policy's name.

    Policies: `labelled` approves what people labelled; `consistent` also approves generated samples whose positive the
    miner finds within --max-rank, and rejects the other mined ones; `everything` approves all; `audited` approves what
    is left of a source's operation where people have read enough of its random part to show that no more than
    --max-error of it are wrong.

    Example: synth review --policy consistent
    """
    from synth.workspace import Workspace

    opened = Workspace.open(workspace)
    if policy is None:
        _open_review_app(opened.root, reviewer, queue, port, browser=browser)
        return
    from synth.stages.review import apply_policy

    outcome = apply_policy(opened.store, policy, max_rank=max_rank, max_error=max_error)
    audits = [_as_read(audit) for audit in outcome.audits]
    if as_json:
        names = ("task", "verdict", "reason", "count")
        counts = [dict(zip(names, (*key, n), strict=True)) for key, n in outcome.counts.items()]
        print_json(
            {"reviewer": outcome.reviewer, "counts": counts, "num_new": outcome.num_new, "warning": outcome.warning}
            | ({"audits": audits} if policy is PolicyName.AUDITED else {})
        )
        return
    say(f"reviewer: {outcome.reviewer}")
    if audits:
        shown = ("source", "operation", "pending", "random", "read", "wrong", "at_most", "more", "gate")
        rows = [tuple(f"{row[name]:.1%}" if name == "at_most" else row[name] for name in shown) for row in audits]
        print_table([name.replace("_", " ") for name in shown], rows)
    print_table(["task", "verdict", "reason", "samples"], [(*key, n) for key, n in sorted(outcome.counts.items())])
    say(f"{outcome.num_new} of these verdicts are new")
    if outcome.warning:
        say(f"warning: {outcome.warning}")
    say(
        f"next: synth release create NAME -w {workspace}, or look at what was decided: synth review --queue audit"
        f" -w {workspace}"
    )


def _as_read(audit: "Audit") -> dict[str, str | int | float]:
    """A stratum: what was read, what was wrong with it, and what is missing."""
    stratum, gate = audit.stratum, audit.gate
    return {
        "source": stratum.source,
        "operation": stratum.operation,
        "pending": stratum.num_pending,
        "random": stratum.num_random,
        "read": gate.num_read,
        "wrong": gate.errors,
        "rejected": stratum.read.num_rejected,
        "mended": stratum.read.num_mended,
        "open": stratum.read.num_open,
        "out_of_turn": stratum.read.num_out_of_turn,
        "at_most": round(gate.bound, 4),
        "more": gate.num_more,
        "gate": audit.state,
    }


def _open_review_app(root: Path, reviewer: str | None, queue: QueueName, port: int, *, browser: bool) -> None:
    import os
    import sys

    command = [sys.executable, "-m", "review_app", str(root.resolve()), "--port", str(port), "--queue", queue]
    if reviewer:
        command += ["--reviewer", reviewer]
    if not browser:
        command += ["--no-browser"]
    os.execv(sys.executable, command)  # the app takes this process's place, so that signals reach it


runs.app.command()(retry)
app.add_typer(runs.app, name="runs")
app.add_typer(batches.app, name="batches")
app.add_typer(release.app, name="release")
app.add_typer(store.app, name="store")
app.add_typer(check.app)
app.add_typer(look.app)
