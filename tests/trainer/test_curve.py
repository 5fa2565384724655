"""A learning curve: parts hold smaller parts, every point is trained once, and another curve is no part of it."""

from dataclasses import replace
from pathlib import Path

import pytest

from synth.records import Task, UserError
from trainer.compare import Settings
from trainer.config import Config
from trainer.curve import learning_curve, part_of, read_fractions
from trainer.evaluate import Asked
from trainer.release import Release

CPU = Settings(device="cpu")


def ids(release: Release, task: Task) -> set[str]:
    return set(release.samples[task].column("sample_id").to_pylist())


def test_a_part_has_its_share_of_each_dataset_and_holds_every_smaller_part(release: Release):
    parts = [part_of(release, fraction, seed=3) for fraction in (0.1, 0.5, 1.0)]
    for task in Task:
        small, middle, whole = (ids(part, task) for part in parts)
        assert small < middle < whole
    names = parts[1].samples[Task.RETRIEVAL].column("dataset").to_pylist()
    assert (names.count("animals"), names.count("beasts")) == (18, 5)  # of 36 and 9
    assert ids(part_of(release, 0.5, seed=4), Task.RETRIEVAL) != ids(parts[1], Task.RETRIEVAL)
    assert len({part.digest for part in parts}) == 3


def test_points_are_kept_and_trained_once(release: Release, config: Config, tmp_path: Path):
    first = learning_curve(release, config, [0.5], [5], tmp_path / "curve", asked=Asked(), settings=CPU)
    assert [(point.fraction, point.seed, point.num_samples) for point in first.points] == [(0, 0, 0), (0.5, 5, 43)]
    assert first.points[1].scores.keys() == {"animals nDCG@10", "pairs Spearman", "moods accuracy"}
    assert sorted(path.name for path in (tmp_path / "curve").iterdir()) == ["curve.json"]  # the models are gone
    written = (tmp_path / "curve" / "curve.json").stat().st_mtime_ns
    again = learning_curve(release, config, [0.5], [5], tmp_path / "curve", asked=Asked(), settings=CPU)
    assert again == first and (tmp_path / "curve" / "curve.json").stat().st_mtime_ns == written
    more = learning_curve(release, config, [0.5, 1.0], [5], tmp_path / "curve", asked=Asked(), settings=CPU)
    assert more.points[:2] == first.points and more.points[2].num_samples == 85
    other = replace(config, temperature=0.5)
    with pytest.raises(UserError, match="holds a curve with another config"):
        learning_curve(release, other, [0.5], [5], tmp_path / "curve", asked=Asked(), settings=CPU)


@pytest.mark.parametrize("said", ["", "0", "1.5", "a", "0.1,,1", "nan", "-0.5,1"])
def test_fractions_that_are_none_are_refused(said: str):
    with pytest.raises(UserError, match="write numbers above 0 and 1 at most"):
        read_fractions(said)
    assert read_fractions("1,0.1, 0.3,0.1") == [0.1, 0.3, 1.0]
