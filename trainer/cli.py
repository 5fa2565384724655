"""The `trainer` command: options to one call, its outcome to the screen. Decides nothing."""

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from synth.screen import cell, new_table, run_app, say, show

if TYPE_CHECKING:
    from trainer.evaluate import Evaluation
    from trainer.loop import Outcome

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Train a text-embedding model on a release, and measure it on what the release holds out.",
)

ReleaseOption = Annotated[str, typer.Option(help="A release's directory, or its name in WORKSPACE/releases.")]
WorkspaceOption = Annotated[Path, typer.Option("--workspace", "-w", help="Folder made by `synth init`.")]
DeviceOption = Annotated[str | None, typer.Option(help="auto, cpu, cuda, cuda:1, mps.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the outcome as JSON.")]


@app.command()
def run(
    release: ReleaseOption,
    config: Annotated[str, typer.Option(help="demo, qzhou, or a TOML file.")],
    workspace: WorkspaceOption = Path(),
    output: Annotated[Path | None, typer.Option(help="Default: WORKSPACE/models/RELEASE-CONFIG.")] = None,
    model: Annotated[str | None, typer.Option(help="Base model, in place of the configuration's.")] = None,
    seed: Annotated[int | None, typer.Option(help="In place of the configuration's.")] = None,
    device: DeviceOption = None,
    as_json: JsonOption = False,
) -> None:
    """
    Train a model on a release. Stopped anywhere, the same command goes on where it was.

    Example: trainer run --release first --config demo
    """
    from synth.stages.release_files import find_folder
    from trainer.config import check_config, read_config
    from trainer.release import read_release

    settings = read_config(config)
    settings = dataclasses.replace(
        settings,
        model=settings.model if model is None else model,
        seed=settings.seed if seed is None else seed,
        device=settings.device if device is None else device,
    )
    check_config(settings, "options")
    found = find_folder(release, workspace / "releases")
    release_read = read_release(found)
    _quiet()
    from trainer.lineage import recorded_in
    from trainer.loop import train

    place = output or workspace / "models" / f"{found.resolve().name}-{Path(config).stem}"
    what = dataclasses.asdict(settings) | {"output": str(place)}
    with recorded_in(workspace, "train", release_read, what, model=settings.model, seed=settings.seed) as recorded:
        outcome = train(release_read, settings, place)
        recorded.count(steps=0 if outcome.already_finished else outcome.num_steps - outcome.resumed_at)
    _show_outcome(outcome, as_json=as_json)


@app.command()
def evaluate(
    model: Annotated[str, typer.Argument(help="A model folder, an installed package with a model, or a hub name.")],
    release: ReleaseOption,
    baseline: Annotated[
        str | None, typer.Option(help="What to compare with. Default: the base model, if `trainer run` made MODEL.")
    ] = None,
    sets: Annotated[
        Path | None, typer.Option(help="Held-out sets in a release's layout. Default: RELEASE/eval.")
    ] = None,
    workspace: WorkspaceOption = Path(),
    device: DeviceOption = None,
    as_json: JsonOption = False,
) -> None:
    """
    Measure a model on held-out sets, before and after training, and write the scores into its folder.

    Example: trainer evaluate models/first-demo --release first
    """
    from synth.stages.release_files import find_folder
    from trainer.release import read_release

    found = find_folder(release, workspace / "releases")
    release_read = read_release(found)
    _quiet()
    from trainer.evaluate import evaluate as evaluate_model
    from trainer.evaluate import made_here
    from trainer.lineage import recorded_in

    record = made_here(model)
    compared = baseline if baseline is not None else record["config"]["model"] if record else ""
    with recorded_in(workspace, "evaluate", release_read, {"baseline": compared}, model=model) as recorded:
        outcome = evaluate_model(
            model, release_read, sets or found / "eval", baseline=compared, device=device or "auto"
        )
        recorded.count(scores=len(outcome.scores))
    _show_evaluation(outcome, as_json=as_json)


def _quiet() -> None:
    """Leave the screen to our own progress: no bars and advice of the libraries."""
    from huggingface_hub.utils import logging as hub_logging
    from transformers.utils.logging import disable_progress_bar, set_verbosity_error

    hub_logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    disable_progress_bar()  # type: ignore[no-untyped-call]
    set_verbosity_error()  # type: ignore[no-untyped-call]


def _show_outcome(outcome: "Outcome", *, as_json: bool) -> None:
    if as_json:
        say(json.dumps(dataclasses.asdict(outcome), indent=2, default=str))
        return
    for note in outcome.notes:
        say(f"note: {note}")
    if outcome.already_finished:
        say(f"{outcome.output} is finished: nothing was trained; choose another --output to train again")
        return
    went_on = f", went on after step {outcome.resumed_at}" if outcome.resumed_at else ""
    say(f"trained {outcome.num_steps} steps in {outcome.seconds} s on {outcome.hardware}{went_on}")
    for task, (first, last) in outcome.losses.items():
        say(f"loss of {task}: {first:.3f} in the first quarter of its steps, {last:.3f} in the last")
    say(f"model: {outcome.output}")


def _show_evaluation(evaluation: "Evaluation", *, as_json: bool) -> None:
    if as_json:
        say(json.dumps(dataclasses.asdict(evaluation), indent=2))
        return
    before = f"before: {evaluation.baseline}" if evaluation.baseline else "no baseline"
    say(f"after: {evaluation.model}, {before}, measured on {evaluation.device}")
    table = new_table(("set", "measure", "before", "after", "change", "note"))
    for row in evaluation.scores:
        change = "" if row.change is None else f"{row.change:+.4f}"
        numbers = ("" if value is None else f"{value:.4f}" for value in (row.before, row.after))
        table.add_row(*(cell(value) for value in (row.set, row.measure, *numbers, change, row.note)))
    show(table)


def main() -> None:
    """Entry of the console script."""
    run_app(app)
