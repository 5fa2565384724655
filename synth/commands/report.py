"""`synth report`: what became of a generate or of a mine run, on the screen, as JSON or as a page."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from synth.commands.screens import MAX_SEED, JsonOption, WorkspaceOption, print_json
from synth.commands.telling import tell_lines
from synth.records import UserError
from synth.screen import progress, say, warn

if TYPE_CHECKING:
    from uuid import UUID

    from synth.stages.report.agreement import Agreement
    from synth.stages.report.scores import Similarity
    from synth.store.run_report import Scope
    from synth.workspace import Workspace


class Kind(StrEnum):
    """The kinds of runs that have a report."""

    GENERATE = "generate"
    MINE = "mine"


def report(
    run: Annotated[
        str | None,
        typer.Argument(
            metavar="RUN",
            help="`last`, or the id of a generate or mine run, or the end of it that `synth runs` shows; if left out,"
            " `last`: the latest of both kinds that brought anything.",
        ),
    ] = None,
    kind: Annotated[Kind | None, typer.Option(help="`last` is the latest run of this kind alone.")] = None,
    scores: Annotated[
        bool,
        typer.Option(
            "--scores",
            help="Of a generate run: also encode pairs of texts, and show how near they are, and whether that agrees"
            " with their scores.",
        ),
    ] = False,
    encoder: Annotated[
        str | None, typer.Option(help="The model to encode with, over [mine] of synth.toml; gives --scores.")
    ] = None,
    threshold: Annotated[
        float | None,
        typer.Option(
            min=-1.0, max=1.0, help="Tell how many pairs of query and positive score below it; gives --scores."
        ),
    ] = None,
    source: Annotated[
        list[str] | None,
        typer.Option(
            help="Of a generate run: look at all samples of this source, not of the run, for scores and the classifier."
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, max=MAX_SEED, help="Of the draw of examples and of scored texts.")] = 0,
    html: Annotated[
        Path | None,
        typer.Option(
            "--html",
            metavar="FILE",
            help="Write the report as a page for a browser instead: to a new file, or over an older report.",
        ),
    ] = None,
    workspace: WorkspaceOption = Path("."),
    as_json: JsonOption = False,
) -> None:
    """
    Tell what became of a run. Of `synth generate`: what was accepted, rejected and why, what it cost, how the new texts
    differ from the old ones, and ten accepted and rejected ones beside what they were made from. Of `synth mine`: which
    samples got negatives, why candidates fell, how near positives and negatives lie, how many negatives are false as
    far as anybody judged them, ten samples, and what changed since an earlier mining of the same samples.

    Where an LLM wrote passages, a small classifier tries to tell them from real ones: if it can, an embedding model may
    learn to as well. Nothing is changed. docs/report.md tells how to read a report.

    Example: synth report last --kind mine --html report.html
    """
    from synth.commands.page_parts import check_page, write_page
    from synth.commands.report_words import failed_since_line
    from synth.store.reported_runs import failed_since, find_reported_run, mined_unreported, unreported_line
    from synth.store.run_history import LAST
    from synth.store.run_report import Scope
    from synth.store.sources import check_sources
    from synth.workspace import Workspace

    if html is not None and as_json:
        raise UserError("--html writes a page and --json prints; give one of them")
    with_scores = scores or encoder is not None or threshold is not None
    kinds = _kinds(kind, is_of_generate=with_scores or bool(source))
    opened = Workspace.open(workspace)
    if html is not None:
        check_page(html, opened)
    check_sources(opened.store, source or ())
    run_id, found_kind = find_reported_run(opened.store, run, kinds)
    if run in (None, LAST) and (later := mined_unreported(opened.store, run_id, kinds)):
        warn(f"a later {unreported_line(later)}")
    if found_kind == Kind.MINE:
        made = _of_mining(opened, run_id, seed)
    else:
        scope = Scope(run_id, tuple(source or ()), seed)
        scored = _encoder_scores(opened, scope, encoder, threshold) if with_scores else (None, None)
        made = _of_generating(opened, scope, *scored)
    if html is not None:
        write_page(html, made.page())
        say(f"wrote {html}")
    elif as_json:
        print_json({"kind": found_kind, **made.told()})
    else:
        made.tell()
    if not as_json and run in (None, LAST) and (failed := failed_since(opened.store, run_id, kinds)):
        tell_lines([failed_since_line(failed)])


@dataclass(frozen=True, slots=True)
class _Made:
    """A report in each of its forms."""

    page: Callable[[], str]
    told: Callable[[], dict[str, Any]]
    tell: Callable[[], None]


def _kinds(kind: Kind | None, *, is_of_generate: bool) -> tuple[Kind, ...]:
    """Of which kinds the run may be, some options being about generate runs."""
    if is_of_generate and kind is Kind.MINE:
        raise UserError("--scores, --encoder, --threshold and --source are about generate runs; leave out --kind mine")
    if is_of_generate:
        return (Kind.GENERATE,)
    return tuple(Kind) if kind is None else (kind,)


def _of_mining(opened: "Workspace", run_id: "UUID", seed: int) -> _Made:
    from synth.commands.mining_page import page
    from synth.commands.mining_screen import tell
    from synth.stages.report.mining import as_json, mining_report_of

    found = mining_report_of(opened.store, run_id, seed=seed)
    name = opened.root.resolve().name
    return _Made(lambda: page(found, workspace=name), lambda: as_json(found), lambda: tell(found))


def _of_generating(
    opened: "Workspace", scope: "Scope", similarity: "Similarity | None", agreement: "Agreement | None"
) -> _Made:
    from synth.commands.report_page import page
    from synth.commands.report_screen import tell
    from synth.stages.report.run import as_json, report

    found = replace(report(opened.store, scope), similarity=similarity, agreement=agreement)
    name = opened.root.resolve().name
    return _Made(lambda: page(found, workspace=name), lambda: as_json(found), lambda: tell(found))


def _encoder_scores(
    opened: "Workspace", scope: "Scope", encoder: str | None, threshold: float | None
) -> "tuple[Similarity | None, Agreement | None]":
    from synth.stages.report.scores import encoder_scores

    name = opened.config.mine.encoder if encoder is None else encoder
    if not name.strip():
        raise UserError("the encoder has an empty name; name one with --encoder, or in [mine] of synth.toml")
    with progress("encode", None) as advance:
        return encoder_scores(opened.store, scope, name, opened.embeddings, threshold=threshold, on_progress=advance)
