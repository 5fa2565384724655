"""Data sets of the real `datasets` library: saved folders, a hub on this machine, and what is refused."""

import json
from collections.abc import Iterator
from pathlib import Path

import datasets
import pytest
from huggingface_hub import HfFileSystem, constants

from synth.records import SkiffError, Use, UserError
from synth.stages.ingest import Outcome, ingest
from synth.store.connection import Store
from synth.store.console import query
from synth.store.sources import corpora
from tests.conftest import SAMPLE
from tests.synth.stages.hub_server import serve


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


@pytest.fixture
def asked() -> list[str]:
    """The paths that the hub was asked for."""
    return []


@pytest.fixture
def repository(tmp_path: Path, asked: list[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of the data set zoo/animals on a hub of this machine."""
    folder = tmp_path / "hub" / "zoo" / "animals"
    folder.mkdir(parents=True)
    with serve(tmp_path / "hub", asked) as url:
        template = url + "/{repo_id}/resolve/{revision}/{filename}"
        for name, value in {
            "huggingface_hub.constants.ENDPOINT": url,
            "huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE": template,
            "huggingface_hub.constants.HF_HUB_CACHE": str(tmp_path / "cache"),
            "datasets.config.HF_ENDPOINT": url,
            "datasets.config.HF_DATASETS_CACHE": tmp_path / "cache",
        }.items():
            monkeypatch.setattr(name, value)
        HfFileSystem.clear_instance_cache()
        yield folder
    HfFileSystem.clear_instance_cache()


def card(repository: Path, *configs: tuple[str, str, str]) -> None:
    """Write a card that says of configurations which file their one split is."""
    listed = "".join(
        f"- config_name: {name}\n  data_files:\n  - split: {split}\n    path: {path}\n" for name, split, path in configs
    )
    (repository / "README.md").write_text(f"---\nconfigs:\n{listed}---\n")


def test_a_data_set_of_the_hub_is_streamed(store: Store, banking: datasets.Dataset, repository: Path) -> None:
    (repository / "data").mkdir()
    for name, part in banking.train_test_split(10, seed=0).items():
        part.to_parquet(repository / "data" / f"{name}-00000-of-00001.parquet")
    outcome = run(store, "hf:zoo/animals")
    assert [(r.name, r.split, r.num_samples) for r in outcome.sources] == [
        ("animals", "test", 10),
        ("animals", "train", 50),
    ]
    labels = {row["label"] for row in query(store, "SELECT DISTINCT label FROM samples").to_pylist()}
    assert labels == set(banking.features["label"].names)
    [origin] = query(store, "SELECT DISTINCT origin FROM sources").to_pylist()
    assert origin == {"origin": "https://huggingface.co/datasets/zoo/animals"}


def test_a_retrieval_set_in_three_configurations_is_read_as_one(store: Store, repository: Path) -> None:
    parts = {
        "corpus": '{"_id": "1", "title": "Cats", "text": "A cat purrs."}\n',
        "queries": '{"_id": "q", "text": "what purrs?"}\n',
        "test": '{"query-id": "q", "corpus-id": "1", "score": 1}\n',
    }
    for name, line in parts.items():
        (repository / f"{name}.jsonl").write_text(line)
    configs = [("default", "test"), ("corpus", "corpus"), ("queries", "queries")]
    card(repository, *((name, split, f"{split}.jsonl") for name, split in configs))
    outcome = run(store, "hf:zoo/animals")
    assert [(r.kind, r.split, r.declared_use) for r in outcome.sources] == [
        ("retrieval", "corpus", Use.EVAL),
        ("retrieval", "test", Use.EVAL),
    ]
    assert query(store, "SELECT positives FROM samples").to_pylist() == [{"positives": ["Cats\nA cat purrs."]}]
    with pytest.raises(UserError, match=r"BuilderConfig 'nothing' not found"):
        run(store, "hf:zoo/animals:nothing")


@pytest.mark.parametrize(
    "path", ["{folder}/s.txt", "../zoo/s.txt", "{url}/s.txt", "a.zip::{url}/s.zip", "[a.txt, /s.txt]"]
)
@pytest.mark.parametrize("name", ["README.md", ".huggingface.yaml"])
def test_a_card_names_no_file_of_this_machine_and_no_address(
    store: Store, repository: Path, asked: list[str], tmp_path: Path, name: str, path: str
) -> None:
    (tmp_path / "s.txt").write_text("a secret")
    (repository / "a.txt").write_text("a text")
    named = path.format(folder=tmp_path, url=constants.ENDPOINT)
    card(repository, ("default", "train", named))
    if name != "README.md":
        (repository / name).write_text((repository / "README.md").read_text().strip("-\n"))
        (repository / "README.md").unlink()
    with pytest.raises(UserError, match=rf"hf:zoo/animals: its {name} names '.*, which is no file of the data set"):
        run(store, "hf:zoo/animals")
    assert not [each for each in asked if "s.txt" in each or "s.zip" in each]


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("animals.py", "raise SystemExit('run')", "Dataset scripts are no longer supported"),
        ("data.pkl", "cos\nsystem\n(S'touch run'\ntR.", "No .*data files found"),
        ("page.xml", "<a/>", "kept as 'xml', which is not read"),
        ("README.md", "---\nconfigs: [\n---\n", "`datasets` cannot read it"),
    ],
)
def test_no_code_of_a_data_set_is_run(
    store: Store, repository: Path, name: str, data: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (repository / name).write_text(data)
    with pytest.raises(UserError, match=message):
        run(store, "hf:zoo/animals")
    assert not (tmp_path / "run").exists()


def test_a_folder_of_the_name_of_a_data_set_is_not_taken_for_it(
    store: Store, repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here" / "zoo" / "animals").mkdir(parents=True)
    (tmp_path / "here" / "zoo" / "animals" / "train.jsonl").write_text('{"text": "a secret", "label": "x"}\n')
    (repository / "train.jsonl").write_text('{"text": "of the hub", "label": "x"}\n')
    monkeypatch.chdir(tmp_path / "here")
    run(store, "hf:zoo/animals")
    assert query(store, "SELECT text FROM samples").to_pylist() == [{"text": "of the hub"}]


@pytest.mark.parametrize(
    "spec", ["hf:", "hf:/", "hf:/tmp", "hf:.", "hf:../x", "hf:~/x", "hf:a/b/c", "hf:a/..", "hf:a b"]
)
def test_only_the_hub_is_meant_by_hf(store: Store, spec: str) -> None:
    with pytest.raises(UserError, match=r"names no data set of the hub; .* a folder is ingested by its path") as caught:
        run(store, spec)
    assert "\n" not in str(caught.value)


def test_a_reader_of_local_files_is_no_data_set(
    store: Store, repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (repository.parent.parent / "json").mkdir()
    (tmp_path / "train.json").write_text('{"text": "a secret", "label": "x"}\n')
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"hf:json: would be read from '/.*, which is no file of the data set"):
        run(store, "hf:json")


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


@pytest.mark.parametrize("linked", ["train", "train/data-00000-of-00001.arrow", "train/texts"])
def test_a_saved_folder_with_a_link_out_of_it_is_refused(
    store: Store, banking: datasets.Dataset, linked: str, tmp_path: Path
) -> None:
    datasets.DatasetDict({"train": banking}).save_to_disk(tmp_path / "in" / "banking")
    state = tmp_path / "in" / "banking" / "train" / "state.json"
    if linked == "train/texts":  # a name that says no kind of file
        (state.parent / "data-00000-of-00001.arrow").rename(state.parent / "texts")
        state.write_text(state.read_text().replace("data-00000-of-00001.arrow", "texts"))
    path = tmp_path / "in" / "banking" / linked
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UserError, match=f"{linked}: a link that leaves the folder"):
        run(store, tmp_path / "in")
