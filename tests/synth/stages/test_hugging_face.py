"""Data sets of the real `datasets` library: saved folders, folders laid out as on the hub, and what is refused."""

import json
from pathlib import Path

import datasets
import pytest

from synth.records import SkiffError, Use, UserError
from synth.stages.ingest import Outcome, ingest
from synth.store.connection import Store
from synth.store.console import query
from synth.store.sources import corpora
from tests.conftest import SAMPLE


def run(store: Store, path: Path | str) -> Outcome:
    return ingest(store, Path(path), declared_use=None, on_progress=lambda _: None)


@pytest.fixture
def banking() -> datasets.Dataset:
    """Real texts with their classes as numbers that have names."""
    lines = (SAMPLE / "labelled" / "banking77-en.jsonl").read_text(encoding="utf-8").splitlines()[:60]
    rows = [{key: row[key] for key in ("text", "label")} for row in map(json.loads, lines)]
    return datasets.Dataset.from_list(rows).class_encode_column("label")


def test_a_saved_data_set_keeps_its_splits_and_the_names_of_its_classes(
    store: Store, banking: datasets.Dataset, tmp_path: Path
) -> None:
    datasets.DatasetDict(banking.train_test_split(10, seed=0)).save_to_disk(tmp_path / "banking")
    outcome = run(store, tmp_path / "banking")
    assert [(r.name, r.split, r.declared_use, r.num_samples) for r in outcome.sources] == [
        ("banking", "test", Use.EVAL, 10),
        ("banking", "train", Use.TRAIN, 50),
    ]
    labels = {row["label"] for row in query(store, "SELECT DISTINCT label FROM samples").to_pylist()}
    assert labels == set(banking.features["label"].names)


def test_one_saved_split_among_other_sets_is_found(store: Store, banking: datasets.Dataset, tmp_path: Path) -> None:
    banking.save_to_disk(tmp_path / "sets" / "banking")
    (tmp_path / "sets" / "pairs.jsonl").write_text('{"text1": "a", "text2": "b", "score": 1}\n')
    assert [(r.name, r.num_samples) for r in run(store, tmp_path / "sets").sources] == [("pairs", 1), ("banking", 60)]


def test_triplets_of_sentence_transformers_bring_negatives_and_a_corpus(store: Store, tmp_path: Path) -> None:
    rows = {"anchor": ["q1", "q2"], "positive": ["p1", "p2"], "negative_1": ["n1", "p1"], "negative_2": ["n2", None]}
    datasets.Dataset.from_dict(rows).save_to_disk(tmp_path / "triplets")
    run(store, tmp_path / "triplets")
    found = query(store, "SELECT query, text, origin FROM negatives ORDER BY ALL").to_pylist()
    assert [tuple(row.values()) for row in found] == [
        ("q1", "n1", "labelled"),
        ("q1", "n2", "labelled"),
        ("q2", "p1", "labelled"),
    ]
    [corpus] = corpora(store).values()
    assert sorted(passage.text for passage in corpus) == ["n1", "n2", "p1", "p2"]


def test_a_folder_laid_out_as_on_the_hub_is_streamed(store: Store, banking: datasets.Dataset, tmp_path: Path) -> None:
    (tmp_path / "hub" / "data").mkdir(parents=True)
    for name, part in banking.train_test_split(10, seed=0).items():
        part.to_parquet(tmp_path / "hub" / "data" / f"{name}-00000-of-00001.parquet")
    outcome = run(store, f"hf:{tmp_path / 'hub'}")
    assert [(r.name, r.split, r.num_samples) for r in outcome.sources] == [("hub", "test", 10), ("hub", "train", 50)]
    labels = {row["label"] for row in query(store, "SELECT DISTINCT label FROM samples").to_pylist()}
    assert labels == set(banking.features["label"].names)


def test_a_retrieval_set_in_three_configurations_is_read_as_one(store: Store, tmp_path: Path) -> None:
    parts = {
        "corpus": '{"_id": "1", "title": "Cats", "text": "A cat purrs."}\n',
        "queries": '{"_id": "q", "text": "what purrs?"}\n',
        "test": '{"query-id": "q", "corpus-id": "1", "score": 1}\n',
    }
    for name, line in parts.items():
        (tmp_path / f"{name}.jsonl").write_text(line)
    configs = [("default", "test"), ("corpus", "corpus"), ("queries", "queries")]
    card = "".join(
        f"- config_name: {name}\n  data_files:\n  - split: {split}\n    path: {split}.jsonl\n"
        for name, split in configs
    )
    (tmp_path / "README.md").write_text(f"---\nconfigs:\n{card}---\n")
    outcome = run(store, f"hf:{tmp_path}")
    assert [(r.kind, r.split, r.declared_use) for r in outcome.sources] == [
        ("retrieval", "corpus", Use.EVAL),
        ("retrieval", "test", Use.EVAL),
    ]
    assert query(store, "SELECT positives FROM samples").to_pylist() == [{"positives": ["Cats\nA cat purrs."]}]
    with pytest.raises(UserError, match=r"BuilderConfig 'nothing' not found"):
        run(store, f"hf:{tmp_path}:nothing")


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("evil.py", "raise SystemExit('run')", "Dataset scripts are no longer supported"),
        ("data.pkl", "cos\nsystem\n(S'touch run'\ntR.", "No .*data files found"),
        ("page.xml", "<a/>", "kept as 'xml', which is not read"),
    ],
)
def test_no_code_of_a_data_set_is_run(
    store: Store, name: str, data: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "evil").mkdir()
    (tmp_path / "evil" / name).write_text(data)
    with pytest.raises(UserError, match=message):
        run(store, f"hf:{tmp_path / 'evil'}")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("spec", "message"),
    [("hf:", "names no data set"), ("hf:/nowhere/at/all", "there is no folder"), ("hf:a/b/c/d", "hf:a/b/c/d: ")],
)
def test_what_names_no_data_set_is_one_line(store: Store, spec: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        run(store, spec)
    assert "\n" not in str(caught.value)


def test_a_hub_that_cannot_be_reached_is_one_line(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(SkiffError, match=r"hf:no/such: the hub cannot be reached; check the network"):
        run(store, "hf:no/such")


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("state.json", '{"_data_files": [{"filename": "../../secret.arrow"}]}', "names a file outside of its folder"),
        ("state.json", "{", "not as `datasets` writes it"),
        ("dataset_info.json", "[]", "not as `datasets` writes it"),
        ("data-00000-of-00001.arrow", "no arrow", "`datasets` cannot read it"),
    ],
)
def test_a_saved_folder_that_was_tampered_with_is_refused(
    store: Store, banking: datasets.Dataset, file: str, text: str, message: str, tmp_path: Path
) -> None:
    banking.save_to_disk(tmp_path / "banking")
    (tmp_path / "banking" / file).write_text(text)
    with pytest.raises(UserError, match=message):
        run(store, tmp_path / "banking")
