"""What is measured of sets in the layouts that can be ingested."""

from pathlib import Path

import pytest

from synth.records import UserError
from tests.trainer.conftest import write_lines
from trainer.sets import LabelledSet, PairSet, RetrievalSet, read_sets


def write_beir(folder: Path, splits: dict[str, str]) -> None:
    write_lines(folder / "corpus.jsonl", [{"_id": f"d{n}", "title": f"T{n}", "text": f"text {n}"} for n in range(4)])
    write_lines(folder / "queries.jsonl", [{"_id": f"q{n}", "text": f"query {n}"} for n in range(4)])
    (folder / "qrels").mkdir()
    for split, lines in splits.items():
        (folder / "qrels" / f"{split}.tsv").write_text(f"query-id\tcorpus-id\tscore\n{lines}")


def read_one(path: Path, split: str = "") -> RetrievalSet | PairSet | LabelledSet:
    [found], _ = read_sets(path, split)
    return found


def test_a_beir_folder_is_measured_on_its_test_split_with_its_grades(tmp_path: Path):
    write_beir(
        tmp_path / "nf", {"train": "q0\td0\t1\n", "dev": "q1\td1\t1\n", "test": "q2\td1\t2\nq2\td3\t1\nq3\td0\t0\n"}
    )
    found = read_one(tmp_path / "nf")
    assert isinstance(found, RetrievalSet)
    assert found.name == "nf" and found.queries == {"q2": "query 2"} and found.qrels == {"q2": {"d1": 2.0, "d3": 1.0}}
    assert found.corpus == {f"d{n}": f"T{n}\ntext {n}" for n in range(4)}
    dev = read_one(tmp_path / "nf", "dev")
    assert isinstance(dev, RetrievalSet) and dev.qrels == {"q1": {"d1": 1.0}}
    with pytest.raises(UserError, match="no row of the split 'other'"):
        read_sets(tmp_path / "nf", "other")


def test_without_a_test_split_all_that_is_held_out_is_measured(tmp_path: Path):
    write_beir(tmp_path / "nf", {"train": "q0\td0\t1\n", "dev": "q1\td1\t1\n", "validation": "q2\td1\t1\n"})
    found = read_one(tmp_path / "nf")
    assert isinstance(found, RetrievalSet) and list(found.queries) == ["q1", "q2"]


def test_what_was_judged_in_two_splits_counts_twice_and_what_cannot_count_is_told(tmp_path: Path):
    write_beir(tmp_path / "two", {"dev": "q0\td0\t1\nq1\td0\t2\nq1\td0\t0\n", "validation": "q0\td1\t1\nq9\td1\t1\n"})
    found = read_one(tmp_path / "two")
    assert isinstance(found, RetrievalSet) and found.qrels == {"q0": {"d0": 1.0, "d1": 1.0}}  # the last word on q1 is 0
    note = "1 queries without a positive are not counted; 1 judgements are of queries that are not there"
    assert found.note == note


def test_what_has_only_a_split_to_train_on_is_told_and_left(tmp_path: Path):
    write_beir(tmp_path / "nf", {"train": "q0\td0\t1\n"})
    write_lines(tmp_path / "pairs.jsonl", [{"text1": "a", "text2": "b", "score": n} for n in range(3)])
    found, notes = read_sets(tmp_path)
    assert [one.name for one in found] == ["pairs"]
    assert [note for note in notes if note.startswith("nf is not measured: it has no row that is held out")]


def test_a_classifier_has_the_splits_to_train_on(tmp_path: Path):
    rows = [{"text": f"text {n}", "label": "ab"[n % 2], "split": ("train", "test", "dev")[n % 3]} for n in range(9)]
    write_lines(tmp_path / "moods.jsonl", rows)
    found = read_one(tmp_path / "moods.jsonl")
    assert isinstance(found, LabelledSet)
    assert found.texts == ["text 1", "text 4", "text 7"] and found.labels == ["b", "a", "b"]
    assert found.fitted_texts == ["text 0", "text 3", "text 6"] and found.fitted_labels == ["a", "b", "a"]


def test_queries_with_their_positives_are_searched_among_all_passages_of_the_file(tmp_path: Path):
    rows = [
        {"query": "one", "positive": "p1", "negative": "n1", "split": "train"},
        {"query": "two", "positive": "p2", "negative": "p1", "split": "test"},
        {"query": "two", "positive": "p3", "split": "test"},
    ]
    write_lines(tmp_path / "asked.jsonl", rows)
    found = read_one(tmp_path / "asked.jsonl")
    assert isinstance(found, RetrievalSet)
    assert sorted(found.corpus.values()) == ["n1", "p1", "p2", "p3"] and list(found.queries.values()) == ["two"]
    [answers] = found.qrels.values()
    assert sorted(found.corpus[key] for key in answers) == ["p2", "p3"]
    assert found.note == "the corpus is the 4 passages of its rows"


def test_a_set_that_is_known_has_its_instruction_and_sources_toml_goes_before(tmp_path: Path):
    write_beir(tmp_path / "scifact", {"test": "q0\td0\t1\n"})
    assert read_one(tmp_path / "scifact").instruction.startswith("Given a scientific claim")
    (tmp_path / "sources.toml").write_text('[scifact]\nname = "mine"\ninstruction = "Find it"\n')
    found = read_one(tmp_path)
    assert (found.name, found.instruction) == ("mine", "Find it")
