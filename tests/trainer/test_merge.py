"""Models merged: their weights lie between, all else is the first one's, and nothing half-made stays."""

import json
import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from synth.records import UserError
from trainer.merge import merge


@pytest.fixture
def pair(tmp_path: Path) -> list[Path]:
    found = []
    for number, direction in enumerate(([1.0, 0.0], [0.0, 2.0])):
        folder = tmp_path / f"model-{number}"
        folder.mkdir()
        save_file({"a": torch.tensor(direction), "n": torch.tensor([number])}, folder / "model.safetensors")
        for name in ("config.json", "run.json", "modules.json"):
            (folder / name).write_text(json.dumps({"of": number}))
        found.append(folder)
    return found


def weights(folder: Path) -> list[float]:
    found: list[float] = load_file(folder / "model.safetensors")["a"].tolist()
    return found


def test_a_soup_is_the_weighted_mean_and_says_what_it_is_made_of(pair: list[Path], tmp_path: Path):
    merge(pair, tmp_path / "soup", method="soup", weights=[3, 1])
    assert weights(tmp_path / "soup") == [0.75, 0.5]
    assert sorted(path.name for path in (tmp_path / "soup").iterdir()) == [
        "config.json", "merge.json", "model.safetensors", "modules.json",
    ]  # fmt: skip
    told = json.loads((tmp_path / "soup" / "merge.json").read_text())
    assert (told["method"], told["weights"], told["models"]) == ("soup", [0.75, 0.25], list(map(str, pair)))
    merge([*pair, pair[1]], tmp_path / "three", method="soup")
    assert weights(tmp_path / "three") == pytest.approx([1 / 3, 4 / 3])


def test_slerp_goes_along_the_arc(pair: list[Path], tmp_path: Path):
    merge(pair, tmp_path / "arc", method="slerp")
    half = math.sin(math.pi / 4)
    assert weights(tmp_path / "arc") == pytest.approx([half, 2 * half])
    merge([pair[0], pair[0]], tmp_path / "same", method="slerp")
    assert weights(tmp_path / "same") == [1.0, 0.0]


@pytest.mark.parametrize(
    ("method", "given", "told"),
    [
        ("soup", [1.0], "give one number of 0 or more for each of the 2"),
        ("soup", [0.0, 0.0], "give one number of 0 or more"),
        ("soup", [1.0, math.nan], "give one number of 0 or more"),
        ("soup", [1e308, 1e308], "give one number of 0 or more"),
        ("slerp", [1.0, 1.0, 1.0], "give one number of 0 or more"),
    ],
)
def test_weights_that_do_not_fit_are_refused(pair: list[Path], tmp_path: Path, method, given, told):
    with pytest.raises(UserError, match=told):
        merge(pair, tmp_path / "merged", method=method, weights=given)
    assert not (tmp_path / "merged").exists()


def test_models_of_another_make_too_few_of_them_and_a_folder_that_is_there_are_refused(
    pair: list[Path], tmp_path: Path
):
    with pytest.raises(UserError, match="merges two models or more, not 1"):
        merge(pair[:1], tmp_path / "merged", method="soup")
    with pytest.raises(UserError, match="exists"):
        merge(pair, pair[0], method="soup")
    save_file({"a": torch.zeros(3)}, pair[1] / "model.safetensors")
    with pytest.raises(UserError, match=r"model-1 is of another make than .*model-0 \(weight a\)"):
        merge(pair, tmp_path / "merged", method="soup")
    save_file({"a": torch.tensor([math.nan, 0.0]), "n": torch.tensor([1])}, pair[1] / "model.safetensors")
    with pytest.raises(UserError, match="weights that are no numbers"):
        merge(pair, tmp_path / "merged", method="soup")
    (pair[1] / "model.safetensors").write_bytes(b"no weights")
    with pytest.raises(UserError, match=r"model-1.*: one cannot be read"):
        merge(pair, tmp_path / "merged", method="soup")
    (pair[1] / "model.safetensors").unlink()
    with pytest.raises(UserError, match=r"has no model\.safetensors"):
        merge(pair, tmp_path / "merged", method="soup")
    assert not list(tmp_path.glob(".*merged*")) and not (tmp_path / "merged").exists()
