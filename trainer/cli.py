"""The `trainer` command: options to one call, its outcome to the screen. Decides nothing."""

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from synth.screen import cell, new_table, run_app, say, show

if TYPE_CHECKING:
    from trainer.config import Config
    from trainer.evaluate import Evaluation
    from trainer.forecast import Forecast
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
ConfigOption = Annotated[str, typer.Option(help="demo, qzhou, or a TOML file.")]
ModelOption = Annotated[str | None, typer.Option(help="Base model, in place of the configuration's.")]
SeedOption = Annotated[int | None, typer.Option(help="In place of the configuration's.")]
DeviceOption = Annotated[str | None, typer.Option(help="auto, cpu, cuda, cuda:1, mps.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the outcome as JSON.")]


@app.command()
def run(
    release: ReleaseOption,
    config: ConfigOption,
    workspace: WorkspaceOption = Path(),
    output: Annotated[Path | None, typer.Option(help="Default: WORKSPACE/models/RELEASE-CONFIG.")] = None,
    model: ModelOption = None,
    seed: SeedOption = None,
    device: DeviceOption = None,
    track: Annotated[
        list[str] | None, typer.Option(help="Tell the log to tensorboard, trackio or wandb, too. May be repeated.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """
    Train a model on a release. Stopped anywhere, the same command goes on where it was.

    On several GPUs: torchrun --nproc-per-node 8 -m trainer run --release first --config qzhou

    Example: trainer run --release first --config demo
    """
    from synth.stages.release_files import find_folder
    from trainer.release import read_release
    from trainer.tracking import check_trackers

    settings = _settings(config, model=model, seed=seed, device=device)
    check_trackers(track or ())
    found = find_folder(release, workspace / "releases")
    release_read = read_release(found)
    _quiet()
    from trainer.lineage import record_steps, recorded_in
    from trainer.loop import train
    from trainer.ranks import speaks

    place = output or workspace / "models" / f"{found.resolve().name}-{Path(config).stem}"
    what = dataclasses.asdict(settings) | {"output": str(place)}
    with recorded_in(workspace, "train", release_read, what, model=settings.model, seed=settings.seed) as recorded:
        outcome = train(release_read, settings, place, trackers=track or ())
        recorded.count(steps=0 if outcome.already_finished else outcome.num_steps - outcome.resumed_at)
        record_steps(recorded, place)
    if speaks():
        _show_outcome(outcome, as_json=as_json)


@app.command()
def plan(
    release: ReleaseOption,
    config: ConfigOption,
    workspace: WorkspaceOption = Path(),
    model: ModelOption = None,
    seed: SeedOption = None,
    device: DeviceOption = None,
    processes: Annotated[int, typer.Option(min=1, help="GPUs that share the work.")] = 1,
    teraflops: Annotated[
        float | None, typer.Option(help="What each of them reaches in a matrix product. Default: measured here.")
    ] = None,
    price_per_hour: Annotated[float | None, typer.Option(help="Of one of them.")] = None,
    as_json: JsonOption = False,
) -> None:
    """
    Say what a run would take: batches of each dataset, tokens, memory, time and money. Trains nothing.

    Example: trainer plan --release first --config demo
    """
    from synth.stages.release_files import find_folder
    from trainer.release import read_release

    settings = _settings(config, model=model, seed=seed, device=device)
    release_read = read_release(find_folder(release, workspace / "releases"))
    _quiet()
    from trainer.forecast import forecast

    found = forecast(release_read, settings, processes=processes, teraflops=teraflops, price_per_hour=price_per_hour)
    _show_forecast(found, as_json=as_json)


@app.command()
def merge(
    models: Annotated[list[Path], typer.Argument(help="Model folders of one make, the first one's prompts are kept.")],
    output: Annotated[Path, typer.Option(help="The folder to make.")],
    method: Annotated[str, typer.Option(help="soup: the weighted mean; slerp: on the arc between two.")] = "soup",
    weight: Annotated[list[float] | None, typer.Option(help="How much each counts, in their order.")] = None,
) -> None:
    """
    Make one model of several that were trained from the same base.

    Example: trainer merge models/first-demo models/second-demo --output models/merged
    """
    from synth.records import UserError
    from trainer.merge import METHODS
    from trainer.merge import merge as merge_models

    if method not in METHODS:
        raise UserError(f"--method {method}: there are {', '.join(METHODS)}")
    _quiet()
    merge_models(models, output, method=METHODS[method], weights=weight or ())
    say(f"model: {output}")


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


def _settings(config: str, *, model: str | None, seed: int | None, device: str | None) -> "Config":
    """A configuration with what options put in place of its own."""
    from trainer.config import check_config, read_config

    settings = read_config(config)
    settings = dataclasses.replace(
        settings,
        model=settings.model if model is None else model,
        seed=settings.seed if seed is None else seed,
        device=settings.device if device is None else device,
    )
    return check_config(settings, "options")


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


def _show_forecast(found: "Forecast", *, as_json: bool) -> None:
    if as_json:
        say(json.dumps(dataclasses.asdict(found), indent=2))
        return
    for note in found.notes:
        say(f"note: {note}")
    columns = ("stage", "task", "dataset", "batches", "samples", "passes", "tokens")
    table = new_table(columns, numeric=[name not in ("task", "dataset") for name in columns])
    for each in found.shares:
        numbers = (f"{each.batches:,}", f"{each.samples:,}", f"{each.passes:.2f}", f"{each.tokens:,}")
        table.add_row(*(cell(value) for value in (each.stage, each.task, each.dataset, *numbers)))
    show(table)
    say(f"{found.num_steps:,} steps, about {found.tokens:,} tokens (plan {found.plan[:12]})")
    trained = "all" if found.trained_weights == found.weights else f"{found.trained_weights:,}"
    say(f"weights: {found.weights:,}, of which {trained} are trained")
    memory = f"{found.memory / 2**30:.1f} GiB"
    say(f"memory: about {memory} for each of {found.processes} processes, beside the program's own")
    hours = f"{found.hours:.1f} hours" if found.hours >= 1 else f"{60 * found.hours:.1f} minutes"
    say(
        f"time: about {hours}, for {found.operations:.2g} operations at {found.speed / 1e12:.2g} teraflops each"
        f" ({found.speed_from})"
    )
    if found.cost is not None:
        say(f"cost: about {found.cost:,.2f}")


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
