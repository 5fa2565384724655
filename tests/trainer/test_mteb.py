"""mteb's own tasks, from copies of their data; and our measures against the library's on the same data."""

import json
from pathlib import Path
from typing import Any

import pytest

from synth.records import UserError
from tests.trainer.conftest import ANIMALS, COLOURS, passage, write_lines
from trainer.compare import Settings
from trainer.evaluate import Asked, evaluate
from trainer.mteb_tasks import measure_tasks

CPU = Settings(device="cpu", resamples=100)


def write_scifact(folder: Path) -> None:
    """A set as the hub has it: three configurations, named in the front matter of its README."""
    corpus = [
        {"_id": f"{animal}-{colour}", "title": "", "text": passage(animal, colour)}
        for animal in ANIMALS
        for colour in COLOURS
    ]
    queries = [{"_id": f"q-{row['_id']}", "text": f"the {row['_id'].replace('-', ' is ')}"} for row in corpus]
    qrels = [
        {"query-id": f"q-{row['_id']}", "corpus-id": other["_id"], "score": 2.0 if other is row else 1.0}
        for row in corpus
        for other in corpus
        if other is row or other["_id"].split("-")[0] == row["_id"].split("-")[0] < "h"
    ]
    write_lines(folder / "corpus.jsonl", corpus)
    write_lines(folder / "queries.jsonl", queries)
    write_lines(folder / "qrels" / "test.jsonl", qrels)
    (folder / "README.md").write_text(
        "---\nconfigs:\n- config_name: default\n  data_files:\n  - split: test\n    path: qrels/test.jsonl\n"
        "- config_name: corpus\n  data_files:\n  - split: corpus\n    path: corpus.jsonl\n"
        "- config_name: queries\n  data_files:\n  - split: queries\n    path: queries.jsonl\n---\n"
    )


def scores(model: Path, sets: Path) -> dict[str, Any]:
    evaluation, _ = evaluate(str(model), None, Asked([sets]), settings=CPU)
    return {row.measure: row.after for row in evaluation.scores}


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What `datasets` makes of a copy goes away with the test."""
    import datasets.config

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def test_retrieval_scores_what_mteb_scores(models: dict[str, Path], tmp_path: Path):
    write_scifact(tmp_path / "copies" / "SciFact")
    [row], device = measure_tasks(str(models["bert"]), str(models["qwen"]), ["SciFact"], tmp_path / "copies", CPU)
    assert (row.set, row.measure, device) == ("SciFact", "nDCG@10", "cpu, fp32") and row.note.startswith("mteb 2.")
    beir = tmp_path / "mine"
    for name in ("corpus.jsonl", "queries.jsonl"):
        (beir / "qrels").mkdir(parents=True, exist_ok=True)
        (beir / name).write_text((tmp_path / "copies" / "SciFact" / name).read_text())
    rows = [
        json.loads(line) for line in (tmp_path / "copies" / "SciFact" / "qrels" / "test.jsonl").read_text().splitlines()
    ]
    lines = [f"{row['query-id']}\t{row['corpus-id']}\t{row['score']:.0f}\n" for row in rows]
    (beir / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\n" + "".join(lines))
    ours = scores(models["bert"], beir)
    assert 0.05 < ours["nDCG@10"] < 0.95
    assert row.after == pytest.approx(ours["nDCG@10"], abs=1e-5)
    assert row.change == pytest.approx(row.after - row.before)


def test_a_copy_is_read_as_it_is_now_and_one_that_is_broken_is_told(models: dict[str, Path], tmp_path: Path):
    copy = tmp_path / "copies" / "SciFact"
    write_scifact(copy)

    def score() -> float | None:
        [row], _ = measure_tasks(str(models["bert"]), "", ["SciFact"], tmp_path / "copies", CPU)
        return row.after

    first = score()
    judged = (copy / "qrels" / "test.jsonl").read_text()
    (copy / "qrels" / "test.jsonl").write_text(judged.splitlines()[0] + "\n")
    assert score() != first
    (copy / "corpus.jsonl").write_text('{"x": 1}\n')
    with pytest.raises(UserError, match="SciFact"):
        score()


def test_classes_are_told_apart_as_often_as_by_mteb(models: dict[str, Path], tmp_path: Path):
    train = [
        {
            "text": f"the {ANIMALS[n % 12]} is {COLOURS[n % 6]} and {n}",
            "label": n % 7 % 3,
            "label_text": COLOURS[n % 7 % 3],
        }
        for n in range(120)
    ]
    test = [row | {"text": f"a {row['text']}"} for row in train[::3]]
    copy = tmp_path / "copies" / "Banking77Classification.v2"
    write_lines(copy / "train.jsonl", train)
    write_lines(copy / "test.jsonl", test)
    [row], _ = measure_tasks(str(models["bert"]), "", ["Banking77Classification.v2"], tmp_path / "copies", CPU)
    own = tmp_path / "own"
    both = [
        each | {"split": split, "label": each["label_text"]}
        for split, rows in (("train", train), ("test", test))
        for each in rows
    ]
    write_lines(own / "colours.jsonl", [{key: each[key] for key in ("text", "label", "split")} for each in both])
    assert row.after == pytest.approx(scores(models["bert"], own)["accuracy"], abs=0.02)  # mteb does not normalise


def test_a_task_whose_data_are_not_to_be_had_says_what_to_do(models: dict[str, Path], tmp_path: Path):
    with pytest.raises(UserError, match=r"the data of SciFact cannot be had .*--mteb-data FOLDER"):
        measure_tasks(str(models["bert"]), "", ["SciFact"], None, CPU)
