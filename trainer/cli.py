"""The `trainer` command: options to one call, its outcome to the screen. Decides nothing."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from synth.screen import run_app, say
from trainer.screens import show_curve, show_evaluation, show_forecast, show_outcome

if TYPE_CHECKING:
    from trainer.config import Config

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
        show_outcome(outcome, as_json=as_json)


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
    show_forecast(found, as_json=as_json)


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
    release: Annotated[
        str | None,
        typer.Option(help="Measure on what it holds out. Default: the release that `trainer run` made MODEL of."),
    ] = None,
    sets: Annotated[
        list[Path] | None,
        typer.Option(help="Measure on these: a folder or file that `synth ingest` could read. May be repeated."),
    ] = None,
    split: Annotated[str, typer.Option(help="Of these sets. Default: test, else all that are held out.")] = "",
    mteb: Annotated[
        list[str] | None, typer.Option(help="Measure on a task of mteb, by its name. May be repeated.")
    ] = None,
    mteb_data: Annotated[
        Path | None, typer.Option(help="Copies of the tasks' data sets, each in a folder of the task's name.")
    ] = None,
    against: Annotated[
        str | None,
        typer.Option(help='What to compare with ("": nothing). Default: the base model, if `trainer run` made MODEL.'),
    ] = None,
    items: Annotated[
        Path | None, typer.Option(help="Write what each query, pair and text scores, as JSON Lines.")
    ] = None,
    examples: Annotated[int, typer.Option(min=0, help="Show so many queries that rose and fell most.")] = 0,
    figure: Annotated[Path | None, typer.Option(help="Draw the scores: a name ending in .svg, .png or .pdf.")] = None,
    max_length: Annotated[
        int | None, typer.Option(min=1, help="Tokens of a text that are read. Default: the model's own.")
    ] = None,
    precision: Annotated[str, typer.Option(help="fp32, bf16, or auto: what is fast here.")] = "fp32",
    resamples: Annotated[int, typer.Option(min=100, max=100_000, help="Of the bootstrap.")] = 2000,
    seed: Annotated[int, typer.Option(min=0, max=(1 << 63) - 1, help="Of the bootstrap.")] = 0,
    workspace: WorkspaceOption = Path(),
    device: DeviceOption = None,
    as_json: JsonOption = False,
) -> None:
    """
    Measure a model on sets that people labelled, against the model that it was trained from, or any other.

    A folder that `trainer run` made is given the scores: evaluation.json, and its card.

    Example: trainer evaluate models/first-demo --examples 3
    """
    from synth.records import UserError
    from synth.stages.release_files import find_folder
    from trainer.encoder import find_model
    from trainer.figures import check_figure
    from trainer.release import read_release

    if figure is not None:
        check_figure(figure)
    find_model(model)
    name = release or ("" if sets or mteb else _release_of(model, workspace))
    release_read = read_release(find_folder(name, workspace / "releases")) if name else None
    _quiet()
    from trainer.compare import Settings
    from trainer.evaluate import Asked, check_items, keep_scores, made_here, write_items
    from trainer.evaluate import evaluate as evaluate_model
    from trainer.lineage import recorded_in

    if items is not None:
        check_items(items, sets or ())
        if figure is not None and items.resolve() == figure.resolve():
            raise UserError(f"{items}: is named for --items and for --figure; name two files")
    if mteb_data is not None and (not mteb or not mteb_data.is_dir()):
        raise UserError(f"--mteb-data {mteb_data}: name a folder that is there, and the tasks with --mteb")
    record = made_here(model)
    compared = against if against is not None else record["config"]["model"] if record else ""
    asked = Asked(sets or (), split, mteb or (), mteb_data)
    settings = Settings(device or "auto", precision, max_length, resamples, seed)
    what = {"against": compared, "sets": [str(path) for path in asked.sets], "mteb": list(asked.tasks), "split": split}
    with recorded_in(workspace, "evaluate", release_read, what, model=model, seed=seed) as recorded:
        outcome, results = evaluate_model(model, release_read, asked, against=compared, settings=settings)
        recorded.count(scores=len(outcome.scores))
    show_evaluation(outcome, results, examples=examples, as_json=as_json)  # first, lest a full disk should take it
    keep_scores(outcome)
    if items is not None:
        write_items(items, results)
    if figure is not None:
        from trainer.figures import draw_changes

        draw_changes(figure, outcome.scores, compared, model)


@app.command()
def curve(
    release: ReleaseOption,
    config: ConfigOption,
    fractions: Annotated[str, typer.Option(help="Of the release's samples, with commas between them.")] = "0.1,0.3,1",
    seeds: Annotated[int, typer.Option(min=1, max=100, help="Models of each fraction.")] = 1,
    sets: Annotated[
        list[Path] | None, typer.Option(help="Measure on these. Default: what the release holds out. May be repeated.")
    ] = None,
    split: Annotated[str, typer.Option(help="Of these sets. Default: test, else all that are held out.")] = "",
    workspace: WorkspaceOption = Path(),
    output: Annotated[Path | None, typer.Option(help="Default: WORKSPACE/curves/RELEASE-CONFIG.")] = None,
    figure: Annotated[Path | None, typer.Option(help="Draw the curve: a name ending in .svg, .png or .pdf.")] = None,
    model: ModelOption = None,
    seed: SeedOption = None,
    device: DeviceOption = None,
    precision: Annotated[str, typer.Option(help="Of measuring: fp32, bf16, or auto.")] = "fp32",
    as_json: JsonOption = False,
) -> None:
    """
    Train on parts of a release and measure each model: would more data help?

    All are trained for the same number of steps. Models are removed when they are measured. Stopped anywhere, the same
    command goes on where it was.

    Example: trainer curve --release first --config demo --fractions 0.1,0.3,1 --figure curve.svg
    """
    from synth.stages.release_files import find_folder
    from trainer.figures import check_figure, draw_curve
    from trainer.release import read_release

    if figure is not None:
        check_figure(figure)
    settings = _settings(config, model=model, seed=seed, device=device)
    found = find_folder(release, workspace / "releases")
    release_read = read_release(found)
    _quiet()
    from trainer.compare import Settings
    from trainer.curve import learning_curve, read_fractions
    from trainer.evaluate import Asked

    parts = read_fractions(fractions)
    place = output or workspace / "curves" / f"{found.resolve().name}-{Path(config).stem}"
    drawn = learning_curve(
        release_read, settings, parts, range(settings.seed, settings.seed + seeds), place,
        asked=Asked(sets or (), split), settings=Settings(settings.device, precision),
    )  # fmt: skip
    show_curve(drawn, as_json=as_json)
    if figure is not None:
        draw_curve(figure, drawn.by_set(), "samples")


def _release_of(model: str, workspace: Path) -> str:
    """The release that a model was trained on, if it is there."""
    from trainer.evaluate import made_here

    record = made_here(model)
    name = str(record["release"]["name"]) if record else ""
    return name if name and (workspace / "releases" / name).is_dir() else ""


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


def main() -> None:
    """Entry of the console script."""
    run_app(app)
