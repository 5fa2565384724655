"""
The plan of a run: which samples go into which step, worked out before the first one.

A plan is a pure function of a release and a configuration (its seed included), so a run can be repeated, resumed in the
middle and traced from a gradient step back to its samples. Every batch is of one dataset (the report's data grouping,
section 6). Suffixes: B samples of a batch, N negatives of one sample.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from synth.records import Task, UserError, key_of, normalise
from trainer.config import Config, Stage
from trainer.release import Release

if TYPE_CHECKING:
    import pyarrow as pa

Rows = NDArray[np.int32]
Picks = tuple[Rows, Rows, Rows]  # row_B, positive_B and negative_BN of a step
Key = tuple[Task, str]  # a dataset, as one task sees it


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """
    One batch. Row numbers are those of the task's table in the release, whose order is the release's own.

    Attributes:
        row_B: the samples.
        positive_B: retrieval: which of the sample's positives; classification: the row of another text of its class;
            sts: empty.
        negative_BN: retrieval: which of the sample's negatives, -1 where it has fewer than N; classification: rows of
            texts of other classes; sts: empty.
    """

    number: int
    stage: int
    task: Task
    dataset: str
    row_B: Rows
    positive_B: Rows
    negative_BN: Rows


@dataclass(frozen=True, slots=True)
class Plan:
    """
    All steps of a run, a hash of them, what a reader of the run should know (`notes`), and the rows of each dataset
    that are held out of training to measure on (`dev`).

    How many processes work at a step changes nothing in it: its texts are dealt out to them (trainer/ranks.py).
    """

    steps: tuple[Step, ...]
    digest: str
    notes: tuple[str, ...]
    dev: Mapping[Key, Rows]


def make_plan(release: Release, config: Config) -> Plan:
    """
    Plan a run.

    - A dataset's share of a stage is proportional to its size to the power `size_exponent`; retrieval's datasets
      together get `retrieval_share` of the stage's batches. It is a share of batches: where a batch of sts is larger
      than one of retrieval, retrieval's share of samples is lower. Shares are met to the batch, then the order is
      shuffled: in a short stage independent draws would leave a small dataset out by chance.
    - Within a stage and a dataset samples are drawn without replacement until all were used, then in a new order; no
      batch holds a sample twice. A dataset smaller than the batch gives batches of its own size, as the notes tell.
    - Negatives of retrieval are drawn among the sample's own, `hard_negatives` at most. Classification is by example:
      the positive is another text of the class, negatives are texts of other classes: first those that were mined for
      the sample, then others at random.

    Raises:
        UserError: a stage finds no samples to train on.
    """
    dev = _held_out(release, config)
    datasets, notes = _datasets(release, dev)
    if config.evaluate_steps and not dev:
        notes.append("nothing is held out to measure on, and no evaluation is made: no dataset has 20 samples")
    sizes = {key: len(dataset) for key, dataset in datasets.items()}
    steps: list[Step] = []
    for number, stage in enumerate(config.stages, start=1):
        quotas = _quotas(sizes, stage, config.size_exponent)
        if not quotas:
            wanted = {0.0: "sts or classification", 1.0: "retrieval"}.get(stage.retrieval_share, "usable")
            raise UserError(f"{release.path}: stage {number} finds no {wanted} samples: change its retrieval_share")
        notes += _stage_notes(quotas, sizes, stage, number)
        feeds = {key: _feed(datasets[key], key[0], stage, config, _random(config.seed, number, *key)) for key in quotas}
        order = [key for key, count in quotas.items() for _ in range(count)]
        for index in _random(config.seed, number, "order").permutation(len(order)):
            task, name = order[index]
            steps.append(Step(len(steps) + 1, number, task, name, *next(feeds[order[index]])))
    return Plan(tuple(steps), _digest(release, steps), tuple(notes), dev)


class _Dataset:
    """The usable samples of one dataset for one task, in the order of their rows (classification: of their class)."""

    def __init__(self, release: Release, task: Task, row_B: Rows) -> None:
        import pyarrow.compute as pc

        table = release.samples[task].take(row_B)
        self.row_B = row_B
        self.useless = ""  # why nothing can be learnt from it
        if task is Task.RETRIEVAL:
            self.num_positives_B = pc.list_value_length(table.column("positives")).to_numpy()
            self.num_negatives_B = pc.fill_null(pc.list_value_length(table.column("negatives")), 0).to_numpy()
            if len(row_B) == 1 and not self.num_negatives_B.any():
                self.useless = "its one sample has no negative to tell the positive from"
        elif task is Task.STS:
            if len(pc.unique(table.column("score"))) < 2:
                self.useless = "all its pairs have one score"
        else:
            self.mined_BW = _mined_rows(table, row_B)
            self._sort_by_class(np.array(table.column("label").to_pylist()))

    def _sort_by_class(self, label_B: NDArray[np.str_]) -> None:
        _, class_B, size_of_class = np.unique(label_B, return_inverse=True, return_counts=True)
        paired_B = size_of_class[class_B] > 1
        order = np.argsort(class_B[paired_B], kind="stable")
        self.row_B, self.mined_BW = self.row_B[paired_B][order], self.mined_BW[paired_B][order]
        class_B = class_B[paired_B][order]
        self.start_B = np.searchsorted(class_B, class_B, side="left")  # a class is one run of neighbours
        self.end_B = np.searchsorted(class_B, class_B, side="right")
        if len(np.unique(class_B)) < 2:
            self.useless = "it has no two classes of two texts each"

    def __len__(self) -> int:
        return len(self.row_B)


def _rows_of_datasets(release: Release) -> Iterator[tuple[Key, Rows]]:
    """The rows of every dataset, in the order of task and name."""
    for task, table in release.samples.items():
        names, of_row = np.unique(np.array(table.column("dataset").to_pylist()), return_inverse=True)
        for index, name in enumerate(names.tolist()):
            yield (task, name), np.flatnonzero(of_row == index).astype(np.int32)


def _held_out(release: Release, config: Config) -> dict[Key, Rows]:
    """Rows of each dataset to measure on while training: `dev_samples`, or a tenth if it has fewer than ten times."""
    found = {}
    for key, rows in _rows_of_datasets(release) if config.dev_samples else ():
        number = min(config.dev_samples, len(rows) // 10)
        if number > 1:
            found[key] = np.sort(_random(config.seed, "dev", *key).choice(rows, number, replace=False))
    return found


def _datasets(release: Release, dev: Mapping[Key, Rows]) -> tuple[dict[Key, _Dataset], list[str]]:
    """Every dataset in the order of task and name, and a note on each sample that cannot be used."""
    datasets: dict[Key, _Dataset] = {}
    notes = []
    for (task, name), all_rows in _rows_of_datasets(release):
        held_out = dev.get((task, name), ())
        if len(held_out):
            notes.append(f"{task} {name}: {len(held_out)} samples are held out to measure on")
        rows = np.setdiff1d(all_rows, held_out)
        dataset = _Dataset(release, task, rows)
        if dataset.useless:
            notes.append(f"{task} {name} is left out: {dataset.useless}")
            continue
        if left_out := len(rows) - len(dataset):
            notes.append(f"{task} {name}: {left_out} samples are left out: each is alone in its class")
        datasets[task, name] = dataset
    return datasets, notes


def _quotas(sizes: dict[Key, int], stage: Stage, exponent: float) -> dict[Key, int]:
    """How many batches of the stage each dataset gives: the weights of equation 4, rounded by the largest rest."""
    retrieval: dict[Key, float] = {}
    others: dict[Key, float] = {}
    for key, size in sizes.items():
        (retrieval if key[0] is Task.RETRIEVAL else others)[key] = size**exponent
    groups = ((stage.retrieval_share, retrieval), (1 - stage.retrieval_share, others))
    present = [(share, weights) for share, weights in groups if share and weights]
    whole = sum(share for share, _ in present)  # below 1 if one of the groups has no samples
    exact = {
        key: stage.steps * share / whole * weight / sum(weights.values())
        for share, weights in present
        for key, weight in weights.items()
    }
    counts = {key: int(count) for key, count in exact.items()}
    by_rest = sorted(exact, key=lambda key: (counts[key] - exact[key], key))
    for key in by_rest[: stage.steps - sum(counts.values())]:
        counts[key] += 1
    return counts


def _stage_notes(quotas: dict[Key, int], sizes: dict[Key, int], stage: Stage, number: int) -> Iterator[str]:
    for (task, name), count in quotas.items():
        size, wanted = sizes[task, name], _batch_size(task, stage)
        if not count:
            yield f"stage {number}: {task} {name} gets no batch: its share of {stage.steps} steps is below one"
        elif size < wanted:
            yield f"stage {number}: {task} {name}: batches of {size}, all that it has, not {wanted}"
    if 0 < stage.retrieval_share < 1 and len({task is Task.RETRIEVAL for task, _ in quotas}) == 1:
        yield f"stage {number}: one side of retrieval_share has no samples, the other gets every batch"


def _batch_size(task: Task, stage: Stage) -> int:
    return stage.sts_batch_size if task is Task.STS else stage.batch_size


def _feed(dataset: _Dataset, task: Task, stage: Stage, config: Config, random: np.random.Generator) -> Iterator[Picks]:
    """The batches of one dataset in one stage, without end."""
    none = np.empty(0, np.int32)
    for place_B in _epochs(len(dataset), _batch_size(task, stage), random):
        row_B = dataset.row_B[place_B]
        if task is Task.RETRIEVAL:
            positive_B = random.integers(dataset.num_positives_B[place_B], dtype=np.int32)
            yield row_B, positive_B, _own_negatives(dataset.num_negatives_B[place_B], config.hard_negatives, random)
        elif task is Task.STS:
            yield row_B, none, none.reshape(len(row_B), 0)
        else:
            positive_B, negative_BN = _examples(dataset, place_B, config.hard_negatives, random)
            mined_BN = _mined(dataset.mined_BW[place_B], negative_BN.shape[1], random)
            yield row_B, dataset.row_B[positive_B], _filled(mined_BN, dataset.row_B[negative_BN])


def _epochs(size: int, batch_size: int, random: np.random.Generator) -> Iterator[NDArray[np.int64]]:
    """Batches of distinct numbers below `size`; each number comes once before any comes again."""
    batch_size = min(size, batch_size)
    left = random.permutation(size)
    while True:
        if len(left) < batch_size:
            fresh = random.permutation(size)
            waiting = np.isin(fresh, left)
            # The rest of the old order opens the batch, so in the new one its samples wait until the end.
            left = np.concatenate([left, fresh[~waiting], fresh[waiting]])
        yield left[:batch_size]
        left = left[batch_size:]


def _own_negatives(num_negatives_B: Rows, most: int, random: np.random.Generator) -> Rows:
    """For each sample up to `most` of its negatives, drawn without replacement, then -1."""
    lottery = random.random((len(num_negatives_B), int(num_negatives_B.max())))
    lottery[np.arange(lottery.shape[1]) >= num_negatives_B[:, None]] = 2.0  # a ticket that loses to every real one
    chosen_BN = np.argsort(lottery, axis=1)[:, :most].astype(np.int32)
    chosen_BN[np.take_along_axis(lottery, chosen_BN, axis=1) == 2.0] = -1
    return chosen_BN


def _examples(
    dataset: _Dataset, place_B: NDArray[np.int64], most: int, random: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """For each text another of its class, and up to `most` of other classes, the same number for all."""
    start_B, end_B = dataset.start_B[place_B], dataset.end_B[place_B]
    positive_B = start_B + random.integers(end_B - start_B - 1)
    positive_B += positive_B >= place_B  # the draw was among the others: step over the text itself
    num_others_B = len(dataset) - (end_B - start_B)
    width = min(most, int(len(dataset) - (dataset.end_B - dataset.start_B).max()))
    negative_BN = np.stack([random.choice(others, width, replace=False) for others in num_others_B])
    negative_BN += np.where(negative_BN >= start_B[:, None], (end_B - start_B)[:, None], 0)
    return positive_B, negative_BN


def _mined(mined_BW: Rows, most: int, random: np.random.Generator) -> Rows:
    """For each text up to `most` of the rows mined for it, drawn without replacement, then -1."""
    chosen_BN = _own_negatives((mined_BW >= 0).sum(axis=1), most, random)
    return np.where(chosen_BN < 0, np.int32(-1), np.take_along_axis(mined_BW, np.maximum(chosen_BN, 0), axis=1))


def _filled(mined_BN: Rows, random_BN: Rows) -> Rows:
    """For each text the mined rows, then random ones that are not among them; as many as there are random ones."""
    again_BN = (random_BN[:, :, None] == mined_BN[:, None, :]).any(axis=2)
    both = np.concatenate([mined_BN, random_BN], axis=1)
    order = np.argsort(np.concatenate([mined_BN < 0, again_BN], axis=1), axis=1, kind="stable")
    filled_BN: Rows = np.take_along_axis(both, order, axis=1)[:, : random_BN.shape[1]]
    return filled_BN


def _mined_rows(table: "pa.Table", row_B: Rows) -> Rows:
    """
    (B, W) for each text of a dataset the rows of its negatives, then -1: texts of one class, another than its own.

    Args:
        table: the dataset's samples, whose rows of the release are `row_B`.
    """
    texts, labels = (table.column(name).to_pylist() for name in ("text", "label"))
    classes: dict[str, set[str]] = {}
    row_of: dict[str, int] = {}
    for text, label, row in zip(map(normalise, texts), labels, row_B.tolist(), strict=True):
        classes.setdefault(text, set()).add(label)
        row_of[text] = row
    found: list[list[int]] = []
    for label, negatives in zip(labels, table.column("negatives").to_pylist(), strict=True):
        known = [text for text in map(normalise, negatives or ()) if len(classes.get(text, ())) == 1]
        found.append(list(dict.fromkeys(row_of[text] for text in known if label not in classes[text])))
    mined_BW = np.full((len(found), max(map(len, found), default=0)), -1, dtype=np.int32)
    for row, each in enumerate(found):
        mined_BW[row, : len(each)] = each
    return mined_BW


def _random(*parts: object) -> np.random.Generator:
    return np.random.default_rng(key_of(*parts).int)


def _digest(release: Release, steps: list[Step]) -> str:
    """SHA-256 over the release's samples and every choice of the plan: equal runs have an equal digest."""
    sha = hashlib.sha256(release.digest.encode())
    for task, table in release.samples.items():
        sha.update(f"{task}\n".encode() + "\n".join(table.column("content_hash").to_pylist()).encode())
    for step in steps:
        sha.update(f"\n{step.stage} {step.task} {step.dataset} {step.negative_BN.shape}".encode())
        for rows in (step.row_B, step.positive_B, step.negative_BN):
            sha.update(rows.astype("<i4").tobytes())
    return sha.hexdigest()


def write_plan(steps: Sequence[Step], release: Release, path: Path) -> None:
    """
    Write steps of a plan as Parquet, a row for each: step, stage, task, dataset, sample_ids, positives and negatives.

    Positives and negatives are places in the sample's own lists (retrieval) or rows of the release's
    classification.parquet, from 0; a sample with fewer negatives than others has -1.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    ids = {task: np.array(table.column("sample_id").to_pylist()) for task, table in release.samples.items()}
    rows = [
        {
            "step": step.number,
            "stage": step.stage,
            "task": str(step.task),
            "dataset": step.dataset,
            "sample_ids": ids[step.task][step.row_B].tolist(),
            "positives": step.positive_B.tolist(),
            "negatives": step.negative_BN.tolist(),
        }
        for step in steps
    ]
    pq.write_table(pa.Table.from_pylist(rows), path)
