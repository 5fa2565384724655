"""`synth mine`: options become settings and one run; what it did goes to the screen."""

from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from synth.commands.figures import counted
from synth.commands.mine_labels import mine_labels
from synth.commands.screens import MAX_SEED, JsonOption, SourceOption, WorkspaceOption, print_json, print_table
from synth.records import Task, UserError
from synth.screen import progress, say, warn

if TYPE_CHECKING:
    from synth.stages.mine.forecast import MineForecast
    from synth.stages.mine.run import MineOutcome

MAX_RANK = 10**6
FORECAST_COLUMNS = ("source", "samples", "passages", "ranks", "texts to encode")
STATUSES = {
    "full": "all negatives from the window of ranks",
    "widened": "too few in the window below the cap, so a rule was given up for some (they are marked)",
    "short": "fewer negatives than asked for",
    "none": "no negative",
}
FLAGS = {
    "near_positive": "as near to a positive as if it were one (cosine)",
    "near_duplicate": "nearly all words in common with a positive",
    "above_reranker": "as relevant as the positive to the reranker",
}


class Ranks(StrEnum):
    """What a rank counts."""

    RETRIEVAL = "retrieval"
    SURVIVORS = "survivors"


class Choice(StrEnum):
    """How negatives are chosen out of the window."""

    RANDOM = "random"
    TOP = "top"
    SOFTMAX = "softmax"


class Relax(StrEnum):
    """What is given up where negatives are wanting."""

    WINDOW = "window"
    CAP = "cap"
    NOTHING = "nothing"


def mine(
    task: Annotated[
        Task, typer.Option(help="Whose samples; of classification and sts see docs/mining-labels.md.")
    ] = Task.RETRIEVAL,
    source: SourceOption = None,
    limit: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=10**9,
            help="At most so many samples, source by source in the order of their names (--source names those that are"
            " meant); the same command again goes on.",
        ),
    ] = None,
    encoder: Annotated[
        str | None,
        typer.Option(
            help="sentence-transformers model (folder, hub name, package) or folder of vectors. With [mine]'s base_url"
            " the name of a model there, unless it is a folder or a package here."
        ),
    ] = None,
    miner: Annotated[
        list[str] | None,
        typer.Option(help="dense (the encoder), then bm25 or dense:ENCODER; may be given several times."),
    ] = None,
    rank_min: Annotated[int | None, typer.Option(min=1, max=MAX_RANK, help="Best rank of a negative: 10.")] = None,
    rank_max: Annotated[int | None, typer.Option(min=1, max=MAX_RANK, help="Worst rank of a negative: 30.")] = None,
    ranks: Annotated[
        Ranks | None, typer.Option(help="Ranks among all candidates (retrieval), or among those below the cap.")
    ] = None,
    relative_cap: Annotated[
        float | None,
        typer.Option(
            min=0.0, max=1.0, help="A negative scores below this share of the positive's score: 0.95; 0: no cap."
        ),
    ] = None,
    num_negatives: Annotated[
        int | None, typer.Option(min=1, max=1000, help="Negatives of one sample (or positive): 4.")
    ] = None,
    choice: Annotated[Choice | None, typer.Option(help="Out of the window: random, top or softmax.")] = None,
    relax: Annotated[
        list[Relax] | None,
        typer.Option(help="What is given up where negatives are wanting: window (the default), cap, or nothing."),
    ] = None,
    rerank: Annotated[
        str | None,
        typer.Option(metavar="MODEL", help="A cross-encoder that drops what is as relevant as the positive."),
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, max=MAX_SEED, help="Of the random choice in the window.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, or several by commas: cuda:0,cuda:1.")] = "auto",
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Tell what would be mined, in which corpora and with what; encode and store nothing."
        ),
    ] = False,
    workspace: WorkspaceOption = Path("."),
    as_json: JsonOption = False,
) -> None:
    """
    Find hard negatives for retrieval samples: exact search in their source's corpus, a window of ranks and a cap
    relative to the positive's score. Positives, the seed passage and duplicates are never negatives.

    Every option but --task, --source, --limit, --device and --dry-run can stand in [mine] of synth.toml, with
    more; docs/mining.md tells all.

    Example: synth mine --encoder BAAI/bge-m3 --miner dense --miner bm25 --rank-min 5
    """
    from synth.stages.mine.forecast import forecast_mine
    from synth.stages.mine.plan import plan_mine
    from synth.stages.mine.run import mine_negatives
    from synth.stages.mine.settings import set_aside, with_options
    from synth.workspace import Workspace

    opened = Workspace.open(workspace)
    options = {
        "encoder": encoder,
        "miners": miner,
        "rank_min": rank_min,
        "rank_max": rank_max,
        "ranks": None if ranks is None else ranks.value,
        "relative_cap": relative_cap,
        "num_negatives": num_negatives,
        "choice": None if choice is None else choice.value,
        "relax": None if relax is None else _rules(relax),
        "reranker": rerank,
        "seed": seed,
    }
    given: dict[str, Any] = {name: value for name, value in options.items() if value is not None}
    settings = with_options(opened.config.mine, given)
    if note := set_aside(opened.config.mine, settings):
        warn(note)
    if task is not Task.RETRIEVAL:
        asked = [*given, *(["limit"] if limit else []), *(["dry_run"] if dry_run else [])]
        mine_labels(opened, task, settings, asked, source or [], device=device, as_json=as_json)
        return
    plan = plan_mine(opened.store, settings, source or [], opened.embeddings, device=device, limit=limit)
    if dry_run:
        found = forecast_mine(opened.store, plan)
        print_json(asdict(found)) if as_json else _tell_forecast(found)
        return
    outcome = mine_negatives(opened.store, plan, steps=progress)
    if as_json:
        print_json(asdict(outcome))
        return
    _tell(outcome, workspace)


def _rules(relax: "list[Relax]") -> list[str]:
    if Relax.NOTHING in relax and len(relax) > 1:
        raise UserError("--relax nothing and another --relax contradict each other; give one of them")
    return [each.value for each in relax if each is not Relax.NOTHING]


def _tell_forecast(found: "MineForecast") -> None:
    from synth.commands.mining_settings import settings_line

    _tell_means(found)
    say(settings_line(found.settings))
    if not found.num_samples:
        say(found.nothing_left)
        return
    rows = [
        (each.source, each.num_samples, each.num_passages, f"{each.rank_min} to {each.rank_max}", each.num_to_encode)
        for each in found.sources
    ]
    print_table(FORECAST_COLUMNS, rows)
    left = f"; beyond --limit {found.num_left:,} are left" if found.num_left else ""
    say(f"{counted(found.num_samples, 'sample')} would be mined{left}")


def _tell_means(found: "MineForecast | MineOutcome") -> None:
    say(f"encoder: {found.encoder}")
    say(f"search: {found.search}")
    if found.reranker:
        say(f"reranker: {found.reranker}")


def _tell(outcome: "MineOutcome", workspace: Path) -> None:
    _tell_means(outcome)
    say(f"stored {counted(outcome.num_negatives, 'negative')} for {counted(outcome.num_samples, 'sample')}")
    for status, number in sorted(outcome.statuses.items()):
        say(f"{number} {status}: {STATUSES[status]}")
    for flag, number in sorted(outcome.flags.items()):
        say(f"{number} negatives flagged {flag}: {FLAGS[flag]}")
    if outcome.num_deep_positives:
        say(f"{outcome.num_deep_positives} samples whose positive ranks beyond 50: does it answer the query?")
    if outcome.seconds:
        rows = [(name, f"{seconds:.1f}") for name, seconds in outcome.seconds.items()]
        print_table(["step", "seconds"], rows)
    for note in outcome.notes:
        say(note)
    if outcome.num_samples:
        say(f"next: synth report {outcome.run_id} -w {workspace}; then synth review -w {workspace}")
