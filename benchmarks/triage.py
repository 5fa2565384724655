"""
How many more of the errors in real data the first tenth of the triaged queue holds than a tenth drawn at random.

Example: python benchmarks/triage.py --quick

Errors are put into 5 % of the samples of each set of --data: scores of another pair, at least 0.4 of the range away;
labels drawn at random, and the label of the nearest text of another class (confusable); and negatives that answer
their query: a positive that qrels name and the sample is not told of (hidden), the positive in capitals, without
punctuation or without one sentence (copy), and half of its sentences (excerpt). Retrieval samples are mined with the
defaults of `synth mine` before that, and the false negative takes the place of one of the four, with its figures as
mining would store them. Then `synth triage` sorts.

Prints tables as Markdown: the factor of each task, set and kind of error, by the priority and by each part alone. 1 is
chance, 10 the most that there can be. Ends with one line of JSON, and with an error if a task's factor is below 5.
"""

import argparse
import json
import random
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # mining.py beside this is not the package
from benchmarks.false_negatives import _edits as edits
from benchmarks.false_negatives import read_set
from synth.likeness import overlap
from synth.records import Classification, Draft, Negative, Retrieval, Source, Sts, Task, Use, new_id, text_id
from synth.sentences import sentences
from synth.stages.mine.plan import plan_mine
from synth.stages.mine.run import mine_negatives
from synth.stages.mine.settings import MineSettings
from synth.stages.mine.symmetric import symmetric_vectors
from synth.stages.triage.run import plan_triage, triage
from synth.store import minings, samples, sources
from synth.store.connection import Store
from synth.store.console import query

HERE = Path(__file__).resolve().parent
SHARE = 0.05  # of the samples, that get an error
FIRST = 0.1  # of the queue
LEAST = 5.0  # times as many as in a tenth drawn at random
FURTHEST = 0.4  # of the range of scores, that a wrong one is away at least
QUERIES, QUICK = 400, 120  # of a retrieval set
PASSAGES = 1500  # of a corpus, and all others that answer a query
LABELLED, QUICK_LABELLED = 3000, 400  # samples of any other set
ROUNDS, QUICK_ROUNDS = 3, 1

Truth = dict[str, str]  # the kind of error, by the id of the sample
Key = tuple[str, str, str, str]  # task, set, kind of error and part that a figure is of; "all" of the second and third


@dataclass(frozen=True)
class Sample:
    """A sample of the queue, as triage left it."""

    sample_id: str
    task: str
    source: str
    priority: float
    hardness: float
    parts: Mapping[str, float]  # by name


@dataclass(frozen=True)
class Bench:
    """Where a round takes place, and what is drawn."""

    store: Store
    settings: MineSettings
    cache: Path
    device: str
    chance: random.Random

    def add(self, name: str, kind: str, contents: Iterable[Any]) -> Source:
        """A source of these samples."""
        source = Source(name, "train", Use.TRAIN, kind, "a benchmark", "as its source", "1")
        with self.store.write() as cursor:
            sources.add_source(cursor, source, new_id())
            samples.add_drafts(cursor, [Draft(each, source.source_id, "ingest") for each in contents], new_id())
        return source

    def ids_of(self, name: str, *columns: str) -> dict[Any, str]:
        """Ids of a source's samples, by these columns."""
        chosen = ", ".join(columns)
        rows = query(self.store, f"SELECT sample_id::VARCHAR AS id, source, {chosen} FROM samples").to_pylist()
        return {tuple(row[column] for column in columns): row["id"] for row in rows if row["source"] == name}

    def drawn(self, items: Sequence[Any]) -> list[int]:
        """The places of those that get an error."""
        return self.chance.sample(range(len(items)), round(SHARE * len(items)))


def wrong_scores(bench: Bench, name: str, rows: Sequence[Mapping[str, Any]]) -> Truth:
    """Scored pairs, some with the score of another pair."""
    contents = [Sts(row["text1"], row["text2"], float(row["score"])) for row in rows]
    scores = [each.score for each in contents]
    far = FURTHEST * (max(scores) - min(scores))
    wrong = {}
    for place in bench.drawn(contents):
        others = [score for score in scores if abs(score - scores[place]) >= far]
        contents[place] = replace(contents[place], score=bench.chance.choice(others))
        wrong[contents[place].text1, contents[place].text2, contents[place].score] = "score"
    bench.add(name, "pairs", contents)
    ids = bench.ids_of(name, "text1", "text2", "score")
    return {ids[key]: kind for key, kind in wrong.items() if key in ids}


def wrong_labels(bench: Bench, name: str, rows: Sequence[Mapping[str, Any]]) -> Truth:
    """Labelled texts, some with another label: in turn any, and that of the nearest text of another class."""
    contents = [Classification(row["text"], row["label"]) for row in rows]
    labels = sorted({each.label for each in contents})
    vectors = symmetric_vectors(bench.settings, bench.cache, [], device=bench.device)
    text_ND = vectors.queries([each.text for each in contents], lambda number: None)
    wrong = {}
    for number, place in enumerate(bench.drawn(contents)):
        own = contents[place].label
        kind = ("random", "confusable")[number % 2]
        if kind == "random":
            label = bench.chance.choice([label for label in labels if label != own])
        else:
            order = np.argsort(-(text_ND @ text_ND[place]), kind="stable").tolist()
            label = next(rows[each]["label"] for each in order if rows[each]["label"] != own)
        contents[place] = replace(contents[place], label=label)
        wrong[contents[place].text, label] = kind
    bench.add(name, "labelled", contents)
    ids = bench.ids_of(name, "text", "label")
    return {ids[key]: kind for key, kind in wrong.items() if key in ids}


def false_negatives(bench: Bench, folder: Path, num_queries: int, num_passages: int) -> Truth:
    """Mined samples, some with a negative that answers their query."""
    bodies, answers = read_set(folder)
    passages = [f"{title}\n{body}" if title else body for title, body in bodies]
    queries = bench.chance.sample(sorted(answers), min(num_queries, len(answers)))
    positives = {each: [passages[row] for row in answers[each]] for each in queries}
    several = [each for each in queries if len(positives[each]) > 1]
    number = round(SHARE * len(queries))
    hidden = {each: positives[each].pop() for each in bench.chance.sample(several, min(len(several), number // 2))}
    rest = bench.chance.sample([each for each in queries if each not in hidden], number - len(hidden))
    planted = {each: ("hidden", text) for each, text in hidden.items()}
    for place, each in enumerate(rest):
        kind = ("copy", "excerpt")[place % 2]
        planted[each] = kind, _rewritten(kind, positives[each][0], bench.chance)
    name = folder.name
    kept = {text for each in queries for text in (*positives[each], *planted.get(each, ("", ""))[1:])}
    corpus = list(dict.fromkeys([*(text for text in passages if text in kept), *passages[:num_passages]]))
    source = bench.add(name, "retrieval", [Retrieval(each, tuple(positives[each])) for each in queries])
    with bench.store.write() as cursor:
        sources.add_passages(cursor, source.source_id, [_passage(text) for text in corpus])
    mine_negatives(
        bench.store, plan_mine(bench.store, bench.settings, [name], bench.cache, device=bench.device), steps=quiet
    )
    ids = bench.ids_of(name, "query")
    _plant(bench, source, planted)
    return {ids[each,]: kind for each, (kind, _) in planted.items() if (each,) in ids}


def _passage(text: str) -> sources.NewPassage:
    return sources.NewPassage(text_id(text), text, "", "")


def _rewritten(kind: str, text: str, chance: random.Random) -> str:
    parts = [text[each.start : each.end] for each in sentences(text)]
    if kind == "copy":
        edited = [each for each in edits(text, chance) if each != text]
        return chance.choice(edited) if edited else text.upper()
    start = chance.randrange(len(parts) - len(parts) // 2 + 1) if len(parts) > 1 else 0
    return " ".join(parts[start : start + max(1, len(parts) // 2)]).strip()


def _plant(bench: Bench, source: Source, planted: Mapping[str, tuple[str, str]]) -> None:
    """Put each text in the place of one of the negatives of its query, as a later mining that found it."""
    with bench.store.write() as cursor:
        sources.add_passages(cursor, source.source_id, [_passage(text) for _, text in planted.values()])
    vectors = symmetric_vectors(bench.settings, bench.cache, [], device=bench.device)
    stage, found = new_id(), []
    for sample in minings.minable(bench.store, stage, [source.name]):
        if sample.query in planted:
            text = planted[sample.query][1]
            query_D, own_D, *positive_PD = (
                *vectors.queries([sample.query], lambda number: None),
                *vectors.passages([text, *sample.positives], lambda number: None),
            )
            similarity = max(float(own_D @ each) for each in positive_PD)
            shared = max(overlap(text, each) for each in sample.positives)
            flags = ["near_positive"] * (similarity >= bench.settings.near_positive)
            flags += ["near_duplicate"] * (shared >= bench.settings.near_duplicate)
            negatives = _mined(bench.store, sample)
            own = replace(
                bench.chance.choice(negatives),
                text_id=text_id(text),
                score=float(query_D @ own_D),
                positive_similarity=similarity,
                overlap=shared,
                flags=tuple(flags),  # type: ignore[arg-type]
            )
            kept = bench.chance.sample(negatives, len(negatives) - 1)
            found.append(minings.Mined(sample, "full", "", 1, (own, *kept)))
    with bench.store.write() as cursor:
        minings.add_mined(cursor, stage, new_id(), found)


def _mined(store: Store, sample: minings.Minable) -> list[Negative]:
    sql = (
        "SELECT text_id::VARCHAR AS text_id, origin, rank, score, positive_score, positive_similarity, overlap, flags"
        f" FROM negatives WHERE revision_id = '{sample.revision_id}'"
    )
    ids = {"sample_id": sample.sample_id, "revision_id": sample.revision_id}
    return [
        Negative(**ids, **(row | {"text_id": UUID(row["text_id"]), "flags": tuple(row["flags"] or ())}))
        for row in query(store, sql).to_pylist()
    ]


def queue(store: Store) -> list[Sample]:
    """All samples, as triage left them."""
    sql = (
        "SELECT s.sample_id::VARCHAR AS sample_id, s.task, s.source, s.priority, coalesce(s.hardness, -9) AS hardness,"
        " t.parts FROM statuses s JOIN triages t USING (revision_id)"
    )
    return [
        Sample(**(row | {"parts": {part["name"]: part["value"] for part in row["parts"]}}))
        for row in query(store, sql).to_pylist()
    ]


def factor(order: Sequence[Sample], wrong: set[str]) -> float:
    """How many more of these the first tenth holds than a tenth drawn at random; not a number where there are none."""
    number = max(1, round(FIRST * len(order)))
    of_all = sum(each.sample_id in wrong for each in order)
    found = sum(each.sample_id in wrong for each in order[:number])
    return found / of_all * len(order) / number if of_all else float("nan")


def sorted_by(found: Iterable[Sample], part: str) -> list[Sample]:
    """The queue by the priority, by the margin of query and negative, or by one part alone."""
    if part == "priority":
        return sorted(found, key=lambda each: (-each.priority, -each.hardness, each.sample_id))
    if part == "margin":
        return sorted(found, key=lambda each: (-each.hardness, each.sample_id))
    return sorted(found, key=lambda each: (-each.parts.get(part, -1.0), each.sample_id))


def main() -> None:
    """Measure every round, and print the means."""
    options = _options()
    figures: dict[Key, list[float]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        for number in range(options.rounds):
            for key, value in _round(options, Path(scratch), number):
                figures.setdefault(key, []).append(value)
            say(f"round {number + 1} of {options.rounds} done")
    _print({key: float(np.nanmean(each)) for key, each in figures.items() if not np.isnan(each).all()})


def _round(options: argparse.Namespace, scratch: Path, number: int) -> Iterator[tuple[Key, float]]:
    """Put errors into all sets, triage, and compare."""
    store, cache = Store.create(scratch / f"store-{number}.duckdb"), options.cache or scratch / "vectors"
    bench = Bench(store, MineSettings(), cache, options.device, random.Random(number))
    wrong = _with_errors(bench, options)
    triage(store, plan_triage(store, bench.settings, [], [], cache, device=options.device), steps=quiet)
    found = queue(store)
    for task in Task:
        yield from _factors(task, [each for each in found if each.task == task], wrong)


def _with_errors(bench: Bench, options: argparse.Namespace) -> Truth:
    wrong: Truth = {}
    for path in sorted((options.data / "pairs").glob("*.jsonl")):
        wrong |= wrong_scores(bench, path.stem, _rows(path, bench.chance, options.labelled))
    for path in sorted((options.data / "labelled").glob("*.jsonl")):
        wrong |= wrong_labels(bench, path.stem, _rows(path, bench.chance, options.labelled))
    for folder in sorted(path.parent for path in (options.data / "retrieval").glob("*/qrels.jsonl")):
        say(folder.name)
        wrong |= false_negatives(bench, folder, options.queries, options.passages)
    return wrong


def _factors(task: Task, found: Sequence[Sample], wrong: Truth) -> Iterator[tuple[Key, float]]:
    parts = sorted({name for each in found for name in each.parts})
    for part in ("priority", *parts, *(["margin"] if task is Task.RETRIEVAL else [])):
        yield (task, "all", "all", part), factor(sorted_by(found, part), set(wrong))
    for name in sorted({each.source for each in found}):
        order = sorted_by([each for each in found if each.source == name], "priority")
        yield (task, name, "all", "priority"), factor(order, set(wrong))
    for kind in sorted(set(wrong.values())):
        chosen = {each for each, of_kind in wrong.items() if of_kind == kind}
        for part in ("priority", *parts):
            yield (task, "all", kind, part), factor(sorted_by(found, part), chosen)


def _rows(path: Path, chance: random.Random, most: int) -> list[dict[str, Any]]:
    with path.open(encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    return chance.sample(rows, min(most, len(rows)))


def _print(means: Mapping[Key, float]) -> None:
    """Of each task the parts, the sets and the kinds of error, then the line of JSON."""
    headline = {}
    for task in Task:
        of_task = {key[1:]: f"{value:.1f}" for key, value in means.items() if key[0] == task}
        if not of_task:
            continue
        headline[str(task)] = round(means[task, "all", "all", "priority"], 2)
        parts = [(key[2], value) for key, value in of_task.items() if key[:2] == ("all", "all")]
        sets = [(key[0], value) for key, value in of_task.items() if key[0] != "all"]
        kinds = [(f"{key[1]}, by {key[2]}", value) for key, value in of_task.items() if key[1] != "all"]
        _table((f"{task}: sorted by", "factor"), parts)
        _table((f"{task}: set, by priority", "factor"), sets)
        _table((f"{task}: kind of error", "factor"), kinds)
    sys.stdout.write(json.dumps(headline) + "\n")
    if low := [task for task, value in headline.items() if value < LEAST]:
        raise SystemExit(f"below {LEAST:g}: {', '.join(low)}")


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    lines = [head, ["---", *(["---:"] * (len(head) - 1))], *rows]
    sys.stdout.write("".join(f"| {' | '.join(cells)} |\n" for cells in lines) + "\n")


@contextmanager
def quiet(description: str, total: int | None) -> Iterator[Any]:
    """A step of the work that nobody is shown."""
    yield lambda number: None


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").strip().splitlines()[0])
    parser.add_argument("--data", type=Path, default=HERE.parent / "data" / "sample", help="a folder like data/sample")
    parser.add_argument("--cache", type=Path, help="folder of vectors; what it holds is not encoded again")
    parser.add_argument("--quick", action="store_true", help="under a minute: fewer samples, one round")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument("--queries", type=int, help=f"drawn of each retrieval set; {QUERIES} unless told")
    parser.add_argument("--passages", type=int, default=PASSAGES, help=f"of a corpus at least; {PASSAGES} unless told")
    parser.add_argument("--rounds", type=int, help=f"with other errors; {ROUNDS} unless told")
    options = parser.parse_args()
    options.queries = options.queries or (QUICK if options.quick else QUERIES)
    options.labelled = QUICK_LABELLED if options.quick else LABELLED
    options.rounds = options.rounds or (QUICK_ROUNDS if options.quick else ROUNDS)
    return options


def say(line: str) -> None:
    """Progress."""
    sys.stderr.write(f"{line}\n")


if __name__ == "__main__":
    main()
