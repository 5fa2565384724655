"""
The learning curve: what a model scores that was trained on a part of a release, for several parts and seeds.

Every model is trained as long as the others, on fewer samples that come round more often: what changes is the data
alone. A part is drawn from each dataset, and holds every smaller part of the same seed. Each point is kept when it is
measured, so that a curve that was stopped goes on where it was.
"""

import hashlib
import json
import math
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mining import MiningError
from synth.records import UserError
from trainer.checkpoint import read_json, write_atomically
from trainer.compare import MAIN, Settings, measurer_of
from trainer.config import Config
from trainer.evaluate import Asked, sets_to_measure
from trainer.loop import train
from trainer.measure import Measurer, measure
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
        """By set and measure: for each number of samples the score of every seed."""
        found: dict[str, dict[int, list[float]]] = {}
        for point in self.points:
            for name, value in point.scores.items():
                found.setdefault(name, {}).setdefault(point.num_samples, []).append(value)
        return {name: sorted(parts.items()) for name, parts in found.items()}


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
    identity = _identity(release, config, asked)
    there = _points_there(output, identity)
    device = ""
    for fraction, seed in [(0.0, 0), *((fraction, seed) for fraction in fractions for seed in seeds)]:
        if (fraction, seed) in there:
            continue
        own = replace(config, seed=seed)
        if fraction:
            part = part_of(release, fraction, seed)
            place = output / f"model-{fraction:g}-{seed}"
            model, number = str(train(part, own, place).output), _size(part)
        else:
            model, number = config.model, 0
        scores, device = _scores(model, sets, release, settings)
        there[fraction, seed] = Point(fraction, seed, number, scores)
        points = [there[key] for key in sorted(there)]
        kept = {**identity, "device": device, "points": [asdict(point) for point in points]}
        output.mkdir(parents=True, exist_ok=True)
        write_atomically(output / FILE, json.dumps(kept, indent=2, ensure_ascii=False).encode())
        if fraction:
            shutil.rmtree(model)
    wanted = {0.0, *fractions}
    points = [there[key] for key in sorted(there) if key[0] in wanted and (key[1] in seeds or not key[0])]
    device = device or str((read_json(output / FILE) or {}).get("device", ""))
    return Curve(release.name, release.digest, config.model, device, tuple(points), tuple(notes))


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


def _identity(release: Release, config: Config, asked: Asked) -> dict[str, Any]:
    settings = json.loads(json.dumps(asdict(config)))
    for key in ("seed", "device", "precision", "mini_batch_tokens", "gradient_cache", "sharded"):
        del settings[key]
    measured = [*map(str, asked.sets), asked.split]
    return {"release": release.name, "release_digest": release.digest, "config": settings, "sets": measured}


def _points_there(output: Path, identity: dict[str, Any]) -> dict[tuple[float, int], Point]:
    kept = read_json(output / FILE)
    if kept is None:
        return {}
    other = next((key for key, value in identity.items() if kept.get(key) != value), None)
    if other:
        raise UserError(f"{output}: holds a curve with another {other}: name another --output, or remove that folder")
    points = [Point(**point) for point in kept["points"]]
    return {(point.fraction, point.seed): point for point in points}


def _scores(
    model: str, sets: Sequence[EvaluationSet], release: Release, settings: Settings
) -> tuple[dict[str, float], str]:
    measurer = measurer_of(model, release, settings)
    try:
        found = dict(_main_scores(sets, measurer))
    except MiningError as error:
        raise UserError(str(error)) from None
    return found, f"{', '.join(measurer.encoder.devices)}, {measurer.encoder.precision}"


def _main_scores(sets: Sequence[EvaluationSet], measurer: Measurer) -> Iterator[tuple[str, float]]:
    for one in sets:
        for measured in measure(one, measurer).measures:
            if measured.name == MAIN[type(one)]:
                yield f"{one.name} {measured.name}", measured.value
