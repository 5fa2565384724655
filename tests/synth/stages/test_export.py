"""Exports, each read back by the library or in the layout that owns the format."""

import csv
import json
from pathlib import Path
from typing import Any

import datasets
import pytest
from pyarrow import parquet

from synth.records import SkiffError, Task, Use, UserError
from synth.stages.export import FORMATS, Exported, export_release
from synth.stages.release_files import read_rows
from synth.store.connection import Store
from tests.synth.stages.releasing import add, approve_all, create, files, give_negatives, retrieval, source, sts


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four queries with 3, 2, 1 and no negatives, two pairs, and a held-out set; the first query has two positives."""
    folder = tmp_path_factory.mktemp("exported")
    store = Store.create(folder / "store.duckdb")
    first = retrieval(0)
    first = type(first)(first.query, (*first.positives, 'Cats\nA cat, "quoted", 猫\x1b[31m.'), "Find animals")
    add(store, source(store), first, *(retrieval(number) for number in range(1, 4)), sts(1), sts(2))
    add(store, source(store, use=Use.EVAL), retrieval(99))
    for number in range(3):
        found = [(f"Not {n}.", "mined", n + 1) for n in range(3 - number)]
        give_negatives(store, retrieval(number).query, found)
    approve_all(store)
    return create(store, folder / "releases").path


def export(release: Path, folder: Path, name: str, **options: Any) -> Exported:
    return export_release(release, name, folder / name, **options)


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def load(path: Path, cache: Path) -> "datasets.Dataset":
    kind = "parquet" if path.suffix == ".parquet" else "json" if path.suffix == ".jsonl" else "csv"
    return datasets.load_dataset(kind, data_files=str(path), split="train", cache_dir=str(cache))


def test_the_release_itself_loads_with_a_config_for_each_task(release: Path, tmp_path: Path) -> None:
    assert datasets.get_dataset_config_names(str(release)) == ["retrieval", "sts"]
    loaded = datasets.load_dataset(str(release), split="train", cache_dir=str(tmp_path))
    assert loaded.column_names[7:] == ["query", "positives", "negatives"]
    pairs = datasets.load_dataset(str(release), "sts", split="train", cache_dir=str(tmp_path))
    assert (loaded.num_rows, pairs.num_rows) == (4, 2)


def test_beir_has_every_passage_once_and_qrels_that_resolve(release: Path, tmp_path: Path) -> None:
    exported = export(release, tmp_path, "beir")
    corpus = {row["_id"]: row["text"] for row in lines(exported.path / "corpus.jsonl")}
    queries = {row["_id"]: row["text"] for row in lines(exported.path / "queries.jsonl")}
    with (exported.path / "qrels" / "train.tsv").open(encoding="utf-8") as file:
        qrels = list(csv.DictReader(file, delimiter="\t"))
    assert len(set(corpus.values())) == len(corpus) == 5 + 3
    assert len(queries) == 4
    asked = {(queries[row["query-id"]], corpus[row["corpus-id"]], row["score"]) for row in qrels}
    assert (retrieval(3).query, retrieval(3).positives[0], "1") in asked
    assert len(asked) == len(qrels) == 5
    assert exported.left_out == {"sts samples: the format holds retrieval alone": 2}


def test_triplets_are_every_pair_of_positive_and_negative(release: Path, tmp_path: Path) -> None:
    exported = export(release, tmp_path, "triplets")
    loaded = load(exported.path / "train.parquet", tmp_path / "cache")
    assert (loaded.column_names, loaded.num_rows) == (["anchor", "positive", "negative"], 2 * 3 + 2 + 1)
    assert exported.left_out["samples with no negative"] == 1
    assert any("'Find animals'" in note for note in exported.notes)


def test_tuples_have_as_many_negatives_as_asked_and_leave_out_the_rest(release: Path, tmp_path: Path) -> None:
    exported = export(release, tmp_path, "tuples", num_negatives=2)
    loaded = load(exported.path / "train.parquet", tmp_path / "cache")
    assert loaded.column_names == ["anchor", "positive", "negative_1", "negative_2"]
    assert loaded.num_rows == 2 + 1
    assert all(value for row in loaded for value in row.values())
    assert exported.left_out["samples with fewer than 2 negatives"] == 2
    most = export_release(release, "tuples", tmp_path / "most")
    assert parquet.read_schema(most.path / "train.parquet").names[-1] == "negative_3"


def test_pairs_of_sources_with_other_scales_are_said_to_keep_them(store: Store, tmp_path: Path) -> None:
    for name, number in (("stars", 4), ("nli", 1)):
        add(store, source(store, name), sts(number))
    approve_all(store)
    made = create(store, tmp_path)
    assert export(made.path, tmp_path, "pairs").notes[-1] == (
        "scores stay on the scale of their source: nli from 1 to 1, stars from 4 to 4"
    )


def test_pairs_keep_their_scores(release: Path, tmp_path: Path) -> None:
    loaded = load(export(release, tmp_path, "pairs").path / "train.parquet", tmp_path / "cache")
    pairs = {(row["sentence1"], row["sentence2"], row["score"]) for row in loaded}
    assert pairs == {(sts(number).text1, sts(number).text2, float(sts(number).score)) for number in (1, 2)}


def test_flagembedding_has_its_keys_and_the_instruction_as_prompt(release: Path, tmp_path: Path) -> None:
    rows = lines(export(release, tmp_path, "flagembedding").path / "train.jsonl")
    by_query = {row["query"]: row for row in rows}
    first = by_query[retrieval(0).query]
    assert (first["prompt"], len(first["pos"]), first["neg"]) == ("Find animals", 2, ["Not 0.", "Not 1.", "Not 2."])
    assert by_query[retrieval(1).query].keys() == {"query", "pos", "neg"}
    assert all(row["neg"] for row in rows)


def test_tevatron_has_passages_with_ids(release: Path, tmp_path: Path) -> None:
    rows = lines(export(release, tmp_path, "tevatron").path / "train.jsonl")
    assert {key for row in rows for key in row} == {"query_id", "query", "positive_passages", "negative_passages"}
    passages = [p for row in rows for p in row["positive_passages"] + row["negative_passages"]]
    assert {tuple(passage) for passage in passages} == {("docid", "title", "text")}
    assert len({passage["docid"] for passage in passages}) == len({passage["text"] for passage in passages})


@pytest.mark.parametrize("name", ["csv", "jsonl", "parquet"])
def test_plain_tables_hold_every_row_and_column(release: Path, tmp_path: Path, name: str) -> None:
    exported = export(release, tmp_path, name)
    assert exported.files == {f"retrieval.{name}": 4, f"sts.{name}": 2}
    for task in (Task.RETRIEVAL, Task.STS):
        loaded = load(exported.path / f"{task}.{name}", tmp_path / "cache").to_list()
        if name == "csv":
            parsed = ("positives", "negatives") if task == Task.RETRIEVAL else ()
            nothing = {"method": "", "instruction": ""}
            loaded = [row | {key: value for key, value in nothing.items() if row[key] is None} for row in loaded]
            loaded = [row | {key: json.loads(row[key]) for key in parsed} for row in loaded]
        assert loaded == list(read_rows(release, task))
    assert (exported.left_out, exported.notes) == ({}, [])


def test_a_saved_folder_is_read_by_load_from_disk(release: Path, tmp_path: Path) -> None:
    exported = export(release, tmp_path, "datasets")
    assert sorted(path.name for path in exported.path.iterdir()) == ["retrieval", "sts"]
    assert datasets.load_from_disk(exported.path / "retrieval").to_list() == list(read_rows(release, Task.RETRIEVAL))


@pytest.mark.parametrize("name", FORMATS)
def test_an_export_leaves_the_release_as_it_was_and_refuses_what_is_there(
    release: Path, tmp_path: Path, name: str
) -> None:
    before = files(release)
    export(release, tmp_path, name)
    assert files(release) == before
    with pytest.raises(UserError, match="is there already; name a new folder"):
        export(release, tmp_path, name)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_an_export_that_fails_leaves_nothing(release: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is within the release"):
        export_release(release, "csv", release / "csv")
    with pytest.raises(UserError, match="only tuples is given a number"):
        export(release, tmp_path, "csv", num_negatives=2)
    with pytest.raises(UserError, match="nothing to export as tuples: 4 samples with fewer than 9 negatives; 2 sts"):
        export(release, tmp_path, "tuples", num_negatives=9)
    with pytest.raises(UserError, match="no format is called 'xml'"):
        export(release, tmp_path, "xml")
    (tmp_path / "file").write_text("")
    with pytest.raises(SkiffError, match="cannot be written"):
        export_release(release, "csv", tmp_path / "file" / "x")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["triplets", "tuples", "pairs"])
def test_losses_of_sentence_transformers_take_the_columns_as_they_come(
    release: Path, tmp_path: Path, name: str
) -> None:
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.data_collator import SentenceTransformerDataCollator
    from sentence_transformers.sentence_transformer.losses import CoSENTLoss, MultipleNegativesRankingLoss
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding
    from tokenizers import Tokenizer, models, pre_tokenizers

    tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0, "which": 1, "the": 2, "a": 3}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    model = SentenceTransformer(modules=[StaticEmbedding(tokenizer, embedding_dim=8)], device="cpu")
    loaded = load(export(release, tmp_path, name).path / "train.parquet", tmp_path / "cache")
    batch = SentenceTransformerDataCollator(model.preprocess)(loaded.to_list())
    columns = [column for column in loaded.column_names if column != "score"]
    features = [
        {key.removeprefix(f"{column}_"): value for key, value in batch.items() if key.startswith(f"{column}_")}
        for column in columns
    ]
    loss = CoSENTLoss(model) if name == "pairs" else MultipleNegativesRankingLoss(model)
    value = loss(features, batch.get("label", torch.tensor([])))
    assert torch.isfinite(value)
    assert ("label" in batch) == (name == "pairs")
