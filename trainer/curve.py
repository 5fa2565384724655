"""
The learning curve: what a model scores that was trained on a part of a release, for several parts and seeds.

Every model is trained as long as the others, on fewer samples that come round more often: what changes is the data
alone. A part is drawn from each dataset, and holds every smaller part of the same seed. Each point is kept when it is
measured, so that a curve that was stopped goes on where it was.
"""

import fcntl
import hashlib
import json
import math
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mining import MiningError
from synth.records import UserError
from synth.screen import printable
from trainer.checkpoint import read_json, write_atomically
from trainer.compare import MAIN, Settings, measurer_of
from trainer.config import Config
from trainer.evaluate import Asked, sets_to_measure
from trainer.loop import train
from trainer.measure import measure
from trainer.release import Release
from trainer.sets import EvaluationSet

if TYPE_CHECKING:
    import pyarrow as pa

FILE = "curve.json"


@dataclass(frozen=True, slots=True)
class Point:
    """What one model scores: the main measure of each set, by "SET MEASURE". Fraction 0 is the model as it comes."""

    fraction: float
    seed: int
    num_samples: int
    scores: dict[str, float]


@dataclass(frozen=True, slots=True)
class Curve:
    """All points, by fraction and seed, and what they were made of."""

    release: str
    release_digest: str
    model: str
    device: str
    points: tuple[Point, ...]
    notes: tuple[str, ...]

    def by_set(self) -> dict[str, list[tuple[int, list[float]]]]:
        """By set and measure: for each fraction, in rising order, its number of samples and the score of every seed."""
        found: dict[str, dict[float, tuple[int, list[float]]]] = {}
        for point in self.points:
            for name, value in point.scores.items():
                found.setdefault(name, {}).setdefault(point.fraction, (point.num_samples, []))[1].append(value)
        return {name: [parts[fraction] for fraction in sorted(parts)] for name, parts in found.items()}


def read_fractions(said: str) -> list[float]:
    """Numbers above 0 and 1 at most, with commas between them, in rising order. Raises UserError for anything else."""
    try:
        found = sorted({float(each) for each in said.split(",")})
    except ValueError:
        found = []
    if not found or not all(0 < each <= 1 for each in found):
        raise UserError(f"--fractions {said}: write numbers above 0 and 1 at most, as in 0.1,0.3,1")
    return found


def learning_curve(
    release: Release, config: Config, fractions: Sequence[float], seeds: Sequence[int], output: Path, *,
    asked: Asked, settings: Settings,
) -> Curve:  # fmt: skip
    """
    Train and measure a model for each fraction and seed. Of the models nothing is kept.

    Args:
        fractions: as `read_fractions` gives them.
        output: a folder for the points; a curve of other settings that is there is refused.

    Raises:
        UserError: nothing to measure on, another curve in the folder, or whatever `train` refuses.
    """
    sets, notes = sets_to_measure(release, asked)
    with _claimed(output):
        points, device = _measured(release, config, fractions, seeds, output, sets, settings)
    return Curve(release.name, release.digest, config.model, device, tuple(points), tuple(notes))


def _measured(
    release: Release, config: Config, fractions: Sequence[float], seeds: Sequence[int], output: Path,
    sets: Sequence[EvaluationSet], settings: Settings,
) -> tuple[list[Point], str]:  # fmt: skip
    """The points that are wanted, and the device; those that are not there yet are made, and kept one by one."""
    identity = _identity(release, config, sets, settings)
    there, device = _points_there(output, identity)
    for fraction, seed in [(0.0, 0), *((fraction, seed) for fraction in fractions for seed in seeds)]:
        place = output / f"model-{fraction:g}-{seed}"
        if (fraction, seed) not in there:
            model, number = config.model, 0
            if fraction:
                part = part_of(release, fraction, seed)
                model, number = str(train(part, replace(config, seed=seed), place).output), _size(part)
            scores, device = _scores(model, sets, release, settings)
            there[fraction, seed] = Point(fraction, seed, number, scores)
            kept = {**identity, "device": device, "points": [asdict(there[key]) for key in sorted(there)]}
            write_atomically(output / FILE, json.dumps(kept, indent=2, ensure_ascii=False).encode())
        if place.is_dir():  # also where an earlier run was killed when it had kept the point
            shutil.rmtree(place)
    wanted = {0.0, *fractions}
    return [there[key] for key in sorted(there) if key[0] in wanted and (key[1] in seeds or not key[0])], device


@contextmanager
def _claimed(output: Path) -> Iterator[None]:
    """The folder, made or found again, and locked."""
    try:
        output.mkdir(parents=True, exist_ok=True)
        folder = os.open(output, os.O_RDONLY)
    except OSError as error:
        raise UserError(f"{output}: {error.strerror}: name another --output") from None
    try:
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"another curve is being made in {output}: wait for it, or name another --output") from None
        yield
    finally:
        os.close(folder)


def part_of(release: Release, fraction: float, seed: int) -> Release:
    """A release with a part of each dataset, one sample of it at least, drawn by the samples' content and the seed."""
    if fraction == 1:
        return release
    samples = {task: _part(table, fraction, seed) for task, table in release.samples.items()}
    return replace(release, digest=f"{release.digest}, {fraction:g} of it by seed {seed}", samples=samples)


def _part(table: "pa.Table", fraction: float, seed: int) -> "pa.Table":
    datasets: dict[str, list[tuple[bytes, int]]] = {}
    names, hashes = table.column("dataset").to_pylist(), table.column("content_hash").to_pylist()
    for row, (name, content) in enumerate(zip(names, hashes, strict=True)):
        datasets.setdefault(name, []).append((hashlib.sha256(f"{seed} {content}".encode()).digest(), row))
    chosen = [row for drawn in datasets.values() for _, row in sorted(drawn)[: math.ceil(fraction * len(drawn))]]
    return table.take(sorted(chosen))


def _size(release: Release) -> int:
    return sum(table.num_rows for table in release.samples.values())


def _identity(
    release: Release, config: Config, sets: Sequence[EvaluationSet], settings: Settings
) -> dict[str, Any]:  # fmt: skip
    trained = json.loads(json.dumps(asdict(config)))
    for key in ("seed", "device", "precision", "mini_batch_tokens", "gradient_cache", "sharded"):
        del trained[key]
    content = hashlib.sha256()
    for one in sets:
        content.update(json.dumps([type(one).__name__, asdict(one)]).encode())
    measured = {"sets": content.hexdigest(), "precision": settings.precision}
    return {"release": release.name, "release_digest": release.digest, "config": trained, **measured}


def _points_there(output: Path, identity: dict[str, Any]) -> tuple[dict[tuple[float, int], Point], str]:
    """The points that are kept, and the device that they were measured on."""
    path = output / FILE
    if not path.exists():
        return {}, ""
    kept = read_json(path) or {}
    try:
        points = [Point(**point) for point in kept["points"]]
        for point in points:
            float(point.fraction), int(point.seed), int(point.num_samples)
            [f"{name.strip()} {value:.4f}" for name, value in point.scores.items()]
    except (KeyError, TypeError, ValueError, AttributeError):
        raise UserError(f"{path}: broken, or of another version: remove it, or name another --output") from None
    other = next((key for key, value in identity.items() if kept.get(key) != value), None)
    if other:
        raise UserError(f"{output}: holds a curve with another {other}: name another --output, or remove that folder")
    return {(point.fraction, point.seed): point for point in points}, printable(str(kept.get("device", "")))


def _scores(
    model: str, sets: Sequence[EvaluationSet], release: Release, settings: Settings
) -> tuple[dict[str, float], str]:
    measurer = measurer_of(model, release, settings)
    found: dict[str, float] = {}
    notes: list[str] = []
    for one in sets:
        try:
            result = measure(one, measurer)
        except MiningError as error:
            raise UserError(f"{one.name}: {error}") from None
        main = MAIN[type(one)]
        found |= {f"{one.name} {main}": each.value for each in result.measures if each.name == main}
        notes += [] if result.measures else [f"{one.name}: {result.note}"]
    if not found:
        raise UserError("; ".join(["there is nothing to measure", *notes]))
    return found, f"{', '.join(measurer.encoder.devices)}, {measurer.encoder.precision}"
