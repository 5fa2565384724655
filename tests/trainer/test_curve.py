"""A learning curve: parts hold smaller parts, every point is trained once, and another curve is no part of it."""

import fcntl
import os
from dataclasses import replace
from pathlib import Path

import pytest

from synth.records import Task, UserError
from tests.trainer.conftest import write_lines
from trainer.compare import Settings
from trainer.config import Config
from trainer.curve import Curve, Point, learning_curve, part_of, read_fractions
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
    (tmp_path / "curve" / "model-0.5-5").mkdir()  # of a run that was killed when it had kept the point
    again = learning_curve(release, config, [0.5], [5], tmp_path / "curve", asked=Asked(), settings=CPU)
    assert not (tmp_path / "curve" / "model-0.5-5").exists()
    assert again == first and (tmp_path / "curve" / "curve.json").stat().st_mtime_ns == written
    more = learning_curve(release, config, [0.5, 1.0], [5], tmp_path / "curve", asked=Asked(), settings=CPU)
    assert more.points[:2] == first.points and more.points[2].num_samples == 85
    drawn = more.by_set()
    assert [number for number, _ in drawn["pairs Spearman"]] == [0, 43, 85]


def test_another_curve_or_a_broken_one_is_refused_before_anything_is_trained(
    release: Release, config: Config, tmp_path: Path
):
    asked = Asked([tmp_path / "pairs.jsonl"])
    write_lines(tmp_path / "pairs.jsonl", [{"text1": f"the {n}", "text2": "a cat", "score": n} for n in range(5)])

    def curve(config: Config = config, settings: Settings = CPU) -> Curve:
        return learning_curve(release, config, [1.0], [5], tmp_path / "curve", asked=asked, settings=settings)

    assert len(curve().points) == 2
    with pytest.raises(UserError, match="holds a curve with another config"):
        curve(replace(config, temperature=0.5))
    with pytest.raises(UserError, match="holds a curve with another precision"):
        curve(settings=replace(CPU, precision="bf16"))
    write_lines(tmp_path / "pairs.jsonl", [{"text1": f"the {n}", "text2": "a dog", "score": n} for n in range(5)])
    with pytest.raises(UserError, match="holds a curve with another sets"):
        curve()
    kept = tmp_path / "curve" / "curve.json"
    for broken in ('{"release": "tiny", cut', "{}", '{"points": [1]}', '{"points": [{"fraction": 1}]}'):
        kept.write_text(broken)
        with pytest.raises(UserError, match=r"curve\.json: broken, or of another version: remove it"):
            curve()
    kept.unlink()
    held = os.open(tmp_path / "curve", os.O_RDONLY)
    fcntl.flock(held, fcntl.LOCK_EX)
    with pytest.raises(UserError, match="another curve is being made"):
        curve()
    os.close(held)
    write_lines(tmp_path / "pairs.jsonl", [{"text1": f"the {n}", "text2": "a cat", "score": 1} for n in range(5)])
    with pytest.raises(UserError, match="there is nothing to measure; pairs: all pairs have one score"):
        curve()
    assert not kept.exists()
    (tmp_path / "taken").write_text("")
    with pytest.raises(UserError, match=r"taken: .*: name another --output"):
        learning_curve(release, config, [1.0], [5], tmp_path / "taken", asked=asked, settings=CPU)


def test_fractions_of_as_many_samples_are_no_seeds_of_one_another():
    points = tuple(Point(fraction, 5, 27, {"pairs Spearman": fraction}) for fraction in (0.3, 0.31))
    assert Curve("r", "d", "m", "cpu", points, ()).by_set() == {"pairs Spearman": [(27, [0.3]), (27, [0.31])]}


@pytest.mark.parametrize("said", ["", "0", "1.5", "a", "0.1,,1", "nan", "-0.5,1"])
def test_fractions_that_are_none_are_refused(said: str):
    with pytest.raises(UserError, match="write numbers above 0 and 1 at most"):
        read_fractions(said)
    assert read_fractions("1,0.1, 0.3,0.1") == [0.1, 0.3, 1.0]
