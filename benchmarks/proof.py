"""
Does the data help? What each part of the pipeline adds, on sets that people labelled, with queries that no step saw.

Example: python benchmarks/proof.py --data data/sample --work made

Runs the commands as a user would, trains a small model on what each part made (as many pairs each time, several seeds),
and measures all models on the same held-out queries. Stopped anywhere, the same command goes on where it was. Ends with
one line of JSON.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # mining.py beside this is not the package

RESAMPLES, QUICK_STEPS = 2000, 3
QUICK_ARMS = ("in_batch", "documents", "stage1", "stage2")
PLANTED = "planted"

# What `--where` takes: what people asked, what the engine made, and of this what is not about a test query's answer.
ASKED, MADE = "operation = 'ingest' AND task = 'retrieval'", "operation = 'query'"
ELSEWHERE = f"""{MADE} AND seed_id NOT IN (SELECT text_id FROM passages WHERE text IN
    (SELECT unnest(positives) FROM samples WHERE declared_use = 'eval'))"""


@dataclass(frozen=True, slots=True)
class Arm:
    """A way to make a model: what it is trained on, with how many hard negatives, and what it begins with."""

    name: str
    short: str  # heads a column
    title: str
    release: str
    hard_negatives: int = 1
    after: str = ""  # the arm whose model it goes on from, with stage 2


ARMS = [
    Arm("in_batch", "in-batch", "documents, in-batch negatives alone", "docs", 0),
    Arm("naive", "ranks 1-4", "documents, ranks 1 to 4 as negatives", "docs_naive"),
    Arm("documents", "documents", "documents, synth mine", "docs"),
    Arm("elsewhere", "elsewhere", "documents that answer no test query, synth mine", "elsewhere"),
    Arm("people", "people", "people's queries, synth mine", "people"),
    Arm("stage1", "both", "both, stage 1", "all"),
    Arm("stage2", "stage 2", "both, stages 1 and 2", "all", after="stage1"),
    Arm("planted", "planted", "people's queries and planted tests, unchecked", "unchecked"),
]
BASE = "base"


def main() -> None:
    """Make the data, train and measure; the table goes to standard output."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").strip().splitlines()[0])
    parser.add_argument("--data", type=Path, default=ROOT / "data" / "sample", help="default: the bundled sample")
    parser.add_argument("--exclude", action="append", default=[], help="a set that takes no part; may be repeated")
    parser.add_argument("--work", type=Path, default=Path("proof"), help="where everything is made")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument(
        "--arm", action="append", choices=[arm.name for arm in ARMS], help="may be repeated; default: all"
    )
    parser.add_argument("--quick", action="store_true", help="three steps, one seed, four arms: that it runs")
    parser.add_argument("--figure", type=Path, help="draw it: a name ending in .svg, .png or .pdf")
    parser.add_argument("--markdown", action="store_true", help="print the tables of docs/results.md as well")
    options = parser.parse_args()
    start = time.monotonic()
    seeds = range(1 if options.quick else options.seeds)
    wanted = options.arm or (QUICK_ARMS if options.quick else [arm.name for arm in ARMS])
    arms = [arm for arm in ARMS if arm.name in wanted]
    if missing := {arm.after for arm in arms} - {"", *wanted}:
        parser.error(f"--arm {missing.pop()} is needed, too: another goes on from it")
    made = make_data(options.data, options.exclude, options.work)
    scores = Scores(options.work, made)
    scores.measure(BASE, 0, scores.config(ARMS[0], 0).model)
    for seed in seeds:
        for arm in arms:
            scores.train(arm, seed, QUICK_STEPS if options.quick else 0)
    show(arms, seeds, scores, made, markdown=options.markdown)
    if options.figure:
        draw(options.figure, arms, seeds, scores)
    figures = {**summary(arms, seeds, scores), **made["counts"], "seconds": round(time.monotonic() - start)}
    print(json.dumps(figures))  # noqa: T201


def make_data(data: Path, exclude: Sequence[str], work: Path) -> dict[str, Any]:
    """The workspace and its releases; what they hold. Does nothing that is done."""
    done = work / "made.json"
    if done.exists():
        return json.loads(done.read_text())
    ws = work / "workspace"
    if not (ws / "synth.toml").exists():
        synth("init", ws)
    for path in [data] if not exclude else [each for each in sorted(data.glob("*/*")) if each.stem not in exclude]:
        synth("ingest", path.resolve(), "-w", ws)
    synth("generate", "--task", "retrieval", "-w", ws)
    synth("mine", "-w", ws)
    synth("review", "--policy", "consistent", "-w", ws)
    aware = last_mining(ws)
    synth("mine", "--rank-min", 1, "--rank-max", 4, "--relative-cap", 0, "--choice", "top", "-w", ws)
    naive = last_mining(ws)
    releases = {
        "docs": release("docs", ws, "--where", MADE, "--mining", aware),
        "docs_naive": release("docs_naive", ws, "--where", MADE, "--mining", naive),
        "elsewhere": release("elsewhere", ws, "--where", ELSEWHERE, "--mining", aware),
        "people": release("people", ws, "--where", ASKED, "--mining", aware),
        "all": release("all", ws, "--mining", aware),
    }
    counts = plant(ws, work, releases, aware)
    found = {"workspace": str(ws), "releases": releases, "counts": counts, "data": data.name}
    done.write_text(json.dumps(found, indent=2))
    return found


def plant(ws: Path, work: Path, releases: dict[str, Any], mining: str) -> dict[str, Any]:
    """Bring the held-out queries in as data to train on, and release with the check and without it."""
    eval_sets = ws / "releases" / "people" / "eval" / "retrieval"
    rows = []
    for folder in sorted(path for path in eval_sets.iterdir() if path.is_dir()):
        corpus = {row["doc_id"]: row for row in lines(folder / "corpus.jsonl")}
        queries = {row["query_id"]: row["text"] for row in lines(folder / "queries.jsonl")}
        for row in lines(folder / "qrels.jsonl"):
            passage = corpus[row["doc_id"]]
            rows.append(
                {"query": queries[row["query_id"]], "positive": f"{passage['title']}\n{passage['text']}".strip()}
            )
    (work / f"{PLANTED}.jsonl").write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    synth("ingest", work / f"{PLANTED}.jsonl", "--use", "train", "-w", ws)
    synth("review", "--policy", "consistent", "-w", ws)
    # they have no mined negatives: `synth mine` takes no query that is held out, whatever its source is said to be
    both = ("--where", ASKED, "--mining", mining)
    releases["checked"] = release("checked", ws, *both)
    (work / "unchecked.toml").write_text("contamination = false\n")
    releases["unchecked"] = release("unchecked", ws, "--policy", work / "unchecked.toml", *both)
    return {
        "planted": len(rows),
        "planted_in_checked": planted_in(ws / "releases" / "checked"),
        "planted_in_unchecked": planted_in(ws / "releases" / "unchecked"),
        "checked_is_people": training_set(ws, "checked") == training_set(ws, "people"),
    }


def training_set(ws: Path, name: str) -> dict[str, Any]:
    """What is trained on in a release: sample id -> query, positives and negatives."""
    import pyarrow.parquet as pq

    wanted = ["sample_id", "query", "positives", "negatives"]
    rows = pq.read_table(ws / "releases" / name / "samples" / "retrieval.parquet", columns=wanted).to_pylist()
    for row in rows:
        row["negatives"] = [each["text"] for each in row["negatives"]]
    return {row["sample_id"]: row for row in rows}


def planted_in(folder: Path) -> int:
    """Samples of the planted source in a release."""
    import pyarrow.parquet as pq

    names = pq.read_table(folder / "samples" / "retrieval.parquet", columns=["dataset"]).column("dataset").to_pylist()
    return names.count(PLANTED)


def release(name: str, ws: Path, *options: object) -> dict[str, Any]:
    """Make a release; what it holds."""
    folder = ws / "releases" / name
    if not folder.exists():
        synth("release", "create", name, "-w", ws, *options)
    manifest = json.loads((folder / "manifest.json").read_text())
    return {"digest": manifest["digest"], "counts": manifest["counts"]}


def last_mining(ws: Path) -> str:
    """The id of the latest mine run."""
    found = synth("sql", "SELECT run_id FROM runs WHERE kind = 'mine' ORDER BY started_at DESC LIMIT 1", "-w", ws,
                  "--format", "json")  # fmt: skip
    return str(json.loads(found)[0]["run_id"])


def synth(*line: object) -> str:
    """Run a command as a user would; its output."""
    told = " ".join(map(str, line))
    sys.stderr.write(f"$ synth {told}\n")
    found = subprocess.run(
        [sys.executable, "-c", "from synth.cli import main; main()", *map(str, line)],
        stdout=subprocess.PIPE, text=True, check=False, env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    if found.returncode:
        sys.exit(f"synth {told}: exit code {found.returncode}")
    return found.stdout


def lines(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of a JSON Lines file."""
    with path.open(encoding="utf-8") as file:
        yield from map(json.loads, file)


class Scores:
    """What each arm's models score: a file an arm and seed, with a share of each item for each set."""

    def __init__(self, work: Path, made: dict[str, Any]) -> None:
        from synth.stages.release_files import find_folder
        from trainer.release import read_release
        from trainer.sets import read_sets

        self.work, self.made = work, made
        releases = Path(made["workspace"]) / "releases"
        self.releases = {name: read_release(find_folder(name, releases)) for name in made["releases"]}
        self.sets, _ = read_sets(releases / "all" / "eval")
        (work / "scores").mkdir(parents=True, exist_ok=True)

    def path(self, name: str, seed: int) -> Path:
        """Where an arm's scores stand."""
        return self.work / "scores" / f"{name}-{seed}.npz"

    def config(self, arm: Arm, seed: int, steps: int = 0) -> Any:
        """The demo's configuration, one stage of it: as many pairs for each arm."""
        from trainer.config import read_config

        config = read_config("demo")
        first, second = config.stages
        stage = second if arm.after else first
        if steps:
            stage = replace(stage, steps=steps, warmup_steps=min(stage.warmup_steps, steps - 1))
        model = str(self.work / "models" / f"{arm.after}-{seed}") if arm.after else config.model
        return replace(config, seed=seed, model=model, hard_negatives=arm.hard_negatives, stages=(stage,))

    def train(self, arm: Arm, seed: int, steps: int) -> None:
        """Train and measure an arm, unless that is done."""
        from transformers.utils.logging import disable_progress_bar

        from trainer.loop import train

        disable_progress_bar()  # type: ignore[no-untyped-call]

        if self.path(arm.name, seed).exists():
            return
        place = self.work / "models" / f"{arm.name}-{seed}"
        train(self.releases[arm.release], self.config(arm, seed, steps), place)
        self.measure(arm.name, seed, str(place))

    def measure(self, name: str, seed: int, model: str) -> None:
        """Measure a model, unless that is done."""
        from trainer.compare import Settings, measurer_of
        from trainer.measure import measure

        if self.path(name, seed).exists():
            return
        measurer = measurer_of(model, self.releases["all"], Settings(precision="auto"))
        found: dict[str, Any] = {"device": f"{measurer.encoder.devices[0]}, {measurer.encoder.precision}"}
        for one in self.sets:
            result = measure(one, measurer)
            for each in result.measures[:1]:
                key = f"{one.name} {each.name}"
                found |= {key: each.value, f"items {key}": each.item_N}
                if not each.is_mean:  # a rank correlation, of these cosines with people's scores
                    found[f"people {key}"] = np.array(one.scores)
        np.savez(self.path(name, seed), **found)

    def read(self, name: str, seeds: Sequence[int]) -> list[Any]:
        """What stands in an arm's files, one for each seed; the model as it comes has none."""
        return [np.load(self.path(name, seed)) for seed in (seeds if name != BASE else [0])]

    def values(self, name: str, seeds: Sequence[int]) -> dict[str, list[float]]:
        """Set and measure -> a score for each seed."""
        read = self.read(name, seeds)
        keys = [key.removeprefix("items ") for key in read[0] if key.startswith("items ")]
        return {key: [float(each[key]) for each in read] for key in keys}

    def change(self, name: str, against: str, key: str, seeds: Sequence[int]) -> tuple[float, Any]:
        """How much an arm's mean over seeds is above another's, and its interval over the set's items."""
        from trainer.metrics import bootstrap, interval, mean_of, spearman_of

        def statistic(arm: str) -> Any:
            read = self.read(arm, seeds)
            if f"people {key}" in read[0]:
                each_seed = [spearman_of(each[f"items {key}"].astype(float), each[f"people {key}"]) for each in read]
                return lambda row_RN: np.mean([one(row_RN) for one in each_seed], axis=0)
            return mean_of(np.mean([each[f"items {key}"] for each in read], axis=0))

        mean = statistics.fmean(self.values(name, seeds)[key]) - statistics.fmean(self.values(against, seeds)[key])
        number = len(self.read(name, seeds)[0][f"items {key}"])
        drawn = bootstrap([statistic(against), statistic(name)], number, resamples=RESAMPLES, seed=0)
        return mean, interval(drawn[1] - drawn[0])


def show(arms: Sequence[Arm], seeds: Sequence[int], scores: Scores, made: dict[str, Any], *, markdown: bool) -> None:
    """The scores of every arm, and what each part changes."""
    keys = list(scores.values(BASE, seeds))
    each_arm = [scores.values(name, seeds) for name in (BASE, *(arm.name for arm in arms))]
    rows = [[key, *(cell(values[key]) for values in each_arm)] for key in keys]
    write_table("Scores", ["set", "as it comes", *(arm.short for arm in arms)], rows, markdown=markdown)
    there = {BASE, *(arm.name for arm in arms)}
    for title, wanted in COMPARED.items():
        compared = [each for each in wanted if {each[0], each[1]} <= there]
        rows = [[key, *(changed(*scores.change(*each[:2], key, seeds)) for each in compared)] for key in keys]
        if compared:
            write_table(title, ["set", *(each[2] for each in compared)], rows, markdown=markdown)
    counts = made["counts"]
    say(
        f"planted: {counts['planted']} answers of held-out queries; in the release with the check "
        f"{counts['planted_in_checked']}, without it {counts['planted_in_unchecked']}; the checked release is that of "
        f"people's queries alone: {'yes' if counts['checked_is_people'] else 'no'}"
    )
    device = scores.read(BASE, seeds)[0]["device"]
    say(f"measured on {device}; {len(seeds)} seeds; {machine()}")


def machine() -> str:
    """What this was run on, and of which commit."""
    import platform

    import torch

    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout.strip()
    names = [line.partition(":")[2].strip() for line in lines_of_cpu() if line.startswith("model name")]
    name = names[0] if names else platform.processor()
    return f"commit {commit or 'unknown'}, {name}, {os.cpu_count()} cores, torch {torch.__version__}"


def lines_of_cpu() -> list[str]:
    """What Linux says of the processors; nothing elsewhere."""
    path = Path("/proc/cpuinfo")
    return path.read_text().splitlines() if path.exists() else []


COMPARED = {
    "Against the model as it comes": [
        ("documents", BASE, "unlabelled documents"),
        ("elsewhere", BASE, "those that answer no test query"),
        ("people", BASE, "people's queries"),
        ("stage1", BASE, "both"),
    ],
    "Which negatives, with documents alone": [
        ("documents", "in_batch", "synth mine, against in-batch alone"),
        ("documents", "naive", "synth mine, against ranks 1 to 4"),
        ("naive", "in_batch", "ranks 1 to 4, against in-batch alone"),
    ],
    "What people's queries and documents add to each other": [
        ("documents", "elsewhere", "all documents, against those that answer no test query"),
        ("elsewhere", "people", "those that answer none, against people's queries"),
        ("stage1", "people", "both, against people's queries"),
        ("stage1", "documents", "both, against documents"),
    ],
    "What stage 2 adds": [
        ("stage2", "stage1", "against stage 1 alone"),
        ("stage2", BASE, "against the model as it comes"),
    ],
    "Test queries planted among the training data": [("planted", "people", "unchecked, against checked")],
}


def cell(values: Sequence[float]) -> str:
    """The mean of the seeds, and in brackets how far the lowest and the highest are apart."""
    mean = f"{statistics.fmean(values):.3f}"
    return mean if len(values) == 1 else f"{mean} ({max(values) - min(values):.3f})"


def changed(mean: float, spread: Any) -> str:
    """A change and its interval."""
    return f"{mean:+.3f}" if spread is None else f"{mean:+.3f} [{spread.low:+.3f}, {spread.high:+.3f}]"


def write_table(title: str, head: Sequence[str], rows: Sequence[Sequence[str]], *, markdown: bool) -> None:
    """To standard output."""
    if markdown:
        say(f"### {title}\n\n| {' | '.join(head)} |\n|{'---|' * len(head)}")
        say("\n".join(f"| {' | '.join(row)} |" for row in rows) + "\n")
        return
    widths = [max(len(row[place]) for row in [head, *rows]) for place in range(len(head))]
    say(f"{title}:")
    for row in [head, *rows]:
        say("  ".join(value.ljust(width) for value, width in zip(row, widths, strict=True)).rstrip())
    say("")


def say(text: str) -> None:
    """A line to standard output."""
    sys.stdout.write(text + "\n")


def summary(arms: Sequence[Arm], seeds: Sequence[int], scores: Scores) -> dict[str, float]:
    """Every score, by arm, set and measure."""
    found = {}
    for name in (BASE, *(arm.name for arm in arms)):
        for key, values in scores.values(name, seeds).items():
            found[f"{name} {key}"] = round(statistics.fmean(values), 4)
    return found


def draw(path: Path, arms: Sequence[Arm], seeds: Sequence[int], scores: Scores) -> None:
    """A panel for each set, a row for each arm: the mean of the seeds, and each of them."""
    from trainer.figures import draw_panels

    keys = list(scores.values(BASE, seeds))
    rows = [("the model as it comes", BASE), *((arm.title, arm.name) for arm in arms)]
    draw_panels(
        path, [title for title, _ in rows], {key: [scores.values(name, seeds)[key] for _, name in rows] for key in keys}
    )


if __name__ == "__main__":
    main()
