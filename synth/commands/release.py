"""`synth release`: freeze what was approved, look at it, compare it, check it, take it elsewhere."""

from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from synth.commands.screens import MAX_SEED, JsonOption, WorkspaceOption, print_json, print_query, print_table
from synth.screen import progress, say

app = typer.Typer(help="Freeze approved samples into releases.", no_args_is_help=True, rich_markup_mode=None)
ReleaseArgument = Annotated[str, typer.Argument(help="A release's name in the workspace, or any release's folder.")]
MOST = 10**6


class Verdicts(StrEnum):
    """Whose word decided."""

    ANY = "any"
    PERSON = "person"
    POLICY = "policy"


class FlaggedNegatives(StrEnum):
    """What becomes of negatives that mining flagged."""

    KEEP = "keep"
    LEAVE_OUT = "leave_out"


class FormatName(StrEnum):
    """The formats of `synth release export`."""

    BEIR = "beir"
    TRIPLETS = "triplets"
    TUPLES = "tuples"
    PAIRS = "pairs"
    FLAGEMBEDDING = "flagembedding"
    TEVATRON = "tevatron"
    CSV = "csv"
    JSONL = "jsonl"
    PARQUET = "parquet"
    DATASETS = "datasets"


@app.command("create")
def release_create(
    name: Annotated[str, typer.Argument(help="Of the release, and of its folder.")],
    policy: Annotated[Path | None, typer.Option(help="A TOML file; the options below are laid over it.")] = None,
    where: Annotated[str | None, typer.Option(help="A condition in SQL over the view samples (docs/sql.md).")] = None,
    verdicts: Annotated[
        Verdicts | None, typer.Option(help="Whose word must have approved: any is a person's, else a policy's.")
    ] = None,
    min_reviewers: Annotated[int | None, typer.Option(min=0, max=MOST, help="People who judged a sample.")] = None,
    min_agreement: Annotated[
        float | None, typer.Option(min=0, max=1, help="Share of the people who judged a sample that approve.")
    ] = None,
    judged: Annotated[
        str | None,
        typer.Option(help="Leave out what this judge, any or all of them would, and what they have not graded."),
    ] = None,
    generated_share: Annotated[
        float | None, typer.Option(min=0, max=1, help="At most this share of a sample's negatives was generated.")
    ] = None,
    max_negatives: Annotated[
        int | None, typer.Option(min=0, max=1000, help="At most so many negatives of each sample.")
    ] = None,
    flagged_negatives: Annotated[
        FlaggedNegatives | None,
        typer.Option(help="Keep negatives that mining flagged, or leave out those that no person has kept by name."),
    ] = None,
    mining: Annotated[
        str | None,
        typer.Option(
            metavar="RUN",
            help="Take the mined negatives of this mining, not each sample's latest: the id of a mine run, or the end"
            " of it that `synth runs` shows, or `last`, the latest that mined retrieval samples.",
        ),
    ] = None,
    exclude_source: Annotated[
        list[str] | None, typer.Option(help="Nothing of this source; may be given repeatedly.")
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, max=MAX_SEED, help="Draws among generated negatives.")] = None,
    workspace: WorkspaceOption = Path("."),
    as_json: JsonOption = False,
) -> None:
    """
    Freeze what is approved into a folder that never changes; `trainer run` reads only that. What repeats an evaluation
    set is left out, and of samples that say nearly the same all but one. docs/release-format.md has the whole policy.

    Example: synth release create first --where "source = 'squad-en' AND hardness > -0.1"
    """
    from synth.stages.release import create_release
    from synth.store.release_policy import read_policy
    from synth.workspace import Workspace

    opened = Workspace.open(workspace)
    stated = read_policy(
        policy,
        where=where,
        verdicts=verdicts and verdicts.value,
        min_reviewers=min_reviewers,
        min_agreement=min_agreement,
        judged=judged,
        generated_share=generated_share,
        max_negatives=max_negatives,
        flagged_negatives=flagged_negatives and flagged_negatives.value,
        mining=mining,
        exclude_sources=tuple(exclude_source) if exclude_source else None,
        seed=seed,
    )
    with progress("release", None) as advance:
        released = create_release(opened.store, opened.releases, name, stated, on_progress=advance)
    if as_json:
        print_json(asdict(released))
        return
    say(f"release {name} {'was made before' if released.existed else 'is made'}: {released.path}")
    say(f"digest: {released.digest}")
    print_table(["what", "count"], list(released.counts.items()))
    _print_left_out(released.left_out, released.overlaps)
    if released.minings:
        say("minings that its mined negatives are of:")
        _print_rows(released.minings)
    for note in released.notes:
        say(note)
    say(f"next: trainer run --release {name} --config demo -w {workspace}")


def _print_left_out(left_out: object, overlaps: object) -> None:
    from synth.stages.datasheet import LEFT_OUT

    if isinstance(left_out, dict) and left_out:
        say("left out:")
        print_table(["samples", "reason"], [(number, LEFT_OUT.get(key, key)) for key, number in left_out.items()])
    if isinstance(overlaps, list) and overlaps:
        columns = ("eval_source", "eval_split", "kind", "num_samples")
        rows = [tuple(row.get(column) for column in columns) for row in overlaps if isinstance(row, dict)]
        print_table(["evaluation set", "split", "overlap", "samples left out"], rows)


@app.command("list")
def release_list(workspace: WorkspaceOption = Path("."), as_json: JsonOption = False) -> None:
    """
    List the releases of a workspace.

    Example: synth release list
    """
    query = (
        "SELECT name, date_trunc('second', created_at) AS created_at, num_samples, num_negatives, {digest}"
        " FROM releases ORDER BY created_at"
    )
    print_query(query.format(digest="digest, path" if as_json else "digest[:12] AS digest"), workspace, as_json)


@app.command("show")
def release_show(release: ReleaseArgument, workspace: WorkspaceOption = Path("."), as_json: JsonOption = False) -> None:
    """
    Show a release: its policy, what is in it, what was left out and why, its sources.

    Example: synth release show first
    """
    from synth.stages.datasheet import shown_setting
    from synth.stages.release_files import find_folder, read_manifest

    folder = find_folder(release, workspace / "releases")
    manifest = read_manifest(folder)
    if as_json:
        print_json(manifest)
        return
    say(f"release {manifest['name']} of {manifest.get('created_at')}: {folder}")
    say(f"digest: {manifest['digest']}")
    policy = [(key, shown_setting(key, value)) for key, value in manifest["policy"].items()]
    print_table(["policy", "value"], policy)
    print_table(["what", "count"], list(manifest["counts"].items()))
    _print_left_out(manifest.get("left_out"), manifest.get("overlaps"))
    composition = manifest.get("composition")
    for rows in composition.values() if isinstance(composition, dict) else ():
        _print_rows(rows)
    columns = ("name", "split", "declared_use", "licence", "origin")
    _print_rows([{key: row.get(key) for key in columns} for row in manifest["sources"] if isinstance(row, dict)])


def _print_rows(rows: object) -> None:
    from synth.stages.datasheet import shown_cell

    if isinstance(rows, list) and rows and all(isinstance(row, dict) and row.keys() == rows[0].keys() for row in rows):
        print_table(list(rows[0]), [tuple(map(shown_cell, row.values())) for row in rows])


@app.command("diff")
def release_diff(
    a: ReleaseArgument,
    b: ReleaseArgument,
    rows: Annotated[bool, typer.Option("--rows", help="List every sample that differs, too.")] = False,
    workspace: WorkspaceOption = Path("."),
    as_json: JsonOption = False,
) -> None:
    """
    Compare two releases: samples added, removed and changed (another revision), and other negatives of the same one.

    Example: synth release diff first second
    """
    from synth.stages.datasheet import shown_setting
    from synth.stages.release_diff import compare_releases
    from synth.stages.release_files import find_folder

    folders = [find_folder(each, workspace / "releases") for each in (a, b)]
    difference = compare_releases(*folders, rows=rows)
    if as_json:
        print_json(asdict(difference))
        return
    say(f"from {difference.a} to {difference.b}")
    print_table(["change", "samples"], list(difference.totals.items()))
    columns = ("before", "after")
    _print_rows(
        [
            {"setting": key} | {name: shown_setting(key, value) for name, value in zip(columns, both, strict=True)}
            for key, both in difference.policy.items()
        ]
    )
    _print_rows(difference.counts)
    _print_rows(difference.rows)


@app.command("verify")
def release_verify(
    release: ReleaseArgument, workspace: WorkspaceOption = Path("."), as_json: JsonOption = False
) -> None:
    """
    Check that a release is what was released: files, counts, every text's identity and the digest, which is computed
    anew. Says what differs, and then ends with exit code 1.

    Example: synth release verify first
    """
    from synth.stages.release_check import verify_in_store, verify_release
    from synth.stages.release_files import find_folder
    from synth.workspace import Workspace, find_store

    folder = find_folder(release, workspace / "releases")
    if find_store(workspace) is not None and folder.absolute().parent == (workspace / "releases").absolute():
        verified = verify_in_store(folder, Workspace.open(workspace).store)
    else:
        verified = verify_release(folder, None)
    if as_json:
        print_json(asdict(verified))
    else:
        for problem in verified.problems:
            say(f"problem: {problem}")
        outcome = f"{len(verified.problems)} problems" if verified.problems else "all is as it was released"
        say(f"release {verified.name}: {verified.num_files} files, {verified.num_samples} samples: {outcome}")
    if verified.problems:
        raise typer.Exit(1)


@app.command("export")
def release_export(
    release: ReleaseArgument,
    format_name: Annotated[FormatName, typer.Argument(metavar="FORMAT", help="docs/export.md describes each.")],
    destination: Annotated[Path, typer.Argument(metavar="DEST", help="A new folder.")],
    negatives: Annotated[
        int | None, typer.Option(min=1, max=1000, help="Of a row of tuples. Default: the most that a sample has.")
    ] = None,
    workspace: WorkspaceOption = Path("."),
    as_json: JsonOption = False,
) -> None:
    """
    Write a release in a format that other tools train on. Says what the format has no room for.

    Example: synth release export first flagembedding flag-data
    """
    from synth.stages.export import export_release
    from synth.stages.release_files import find_folder

    folder = find_folder(release, workspace / "releases")
    exported = export_release(folder, format_name.value, destination, num_negatives=negatives)
    if as_json:
        print_json(asdict(exported))
        return
    say(f"exported as {exported.format}: {exported.path}")
    print_table(["file", "rows"], list(exported.files.items()))
    for reason, number in exported.left_out.items():
        say(f"left out: {number} {reason}")
    for note in exported.notes:
        say(note)
