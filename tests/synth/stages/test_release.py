"""Releases: frozen, complete, clean of held-out texts, the same on every machine."""

import json
import shutil
from pathlib import Path

import datasets
import pytest
from pyarrow import parquet

from synth.records import (
    Classification,
    Content,
    Draft,
    Negative,
    Retrieval,
    Source,
    Sts,
    UserError,
    key_of,
    new_id,
    text_id,
)
from synth.stages.release import Released, create_release
from synth.stages.review import apply_policy
from synth.store import releases, samples, sources
from synth.store.connection import Store
from synth.store.console import query
from synth.store.samples import Mined
from synth.store.sources import NewPassage

CAT = Retrieval("what purrs?", ("Cats\nA cat purrs.",))
DOG = NewPassage(text_id("A dog barks."), "A dog barks.", "", "2")
COW = NewPassage(text_id("A cow moos."), "A cow moos.", "", "3")


def add(store: Store, source: Source, *contents: Content) -> None:
    with store.write() as cursor:
        samples.add_drafts(cursor, [Draft(content, source.source_id, "ingest") for content in contents], new_id())


def mine(store: Store) -> None:
    key = key_of("k")
    with store.write() as cursor:
        sources.add_passages(cursor, key_of("s"), [DOG, COW])
    for sample in samples.minable(store, key):
        negatives = [
            Negative(sample.sample_id, sample.revision_id, passage.text_id, "mined", rank, 0.5 - rank / 100, 0.8)
            for rank, passage in ((12, COW), (11, DOG))
        ]
        with store.write() as cursor:
            samples.add_mined(cursor, key, new_id(), [Mined(sample, "full", "", 1, tuple(negatives))])


def create(store: Store, folder: Path, name: str = "first", max_negatives: int = 4) -> Released:
    return create_release(store, folder, name, max_negatives=max_negatives, on_progress=lambda _: None)


@pytest.fixture
def approved(store: Store, training_source: Source, held_out_source: Source) -> Store:
    """A store with approved samples of every task and a held-out retrieval set."""
    with store.write() as cursor:
        cat = NewPassage(text_id("Cats\nA cat purrs."), "Cats\nA cat purrs.", "Cats", "1")
        sources.add_passages(cursor, training_source.source_id, [cat])
    add(store, training_source, CAT, Sts("a", "b", 4.5), Classification("open the door", "door"))
    add(store, held_out_source, Retrieval("who purrs?", ("Cats\nA cat purrs.",)))
    mine(store)
    apply_policy(store, "labelled", max_rank=20)
    return store


def test_a_release_holds_the_samples_their_negatives_and_the_held_out_sets(approved: Store, tmp_path: Path) -> None:
    released = create(approved, tmp_path)
    [row] = parquet.read_table(released.path / "samples" / "retrieval.parquet").to_pylist()
    assert (row["query"], row["positives"], row["dataset"]) == ("what purrs?", ["Cats\nA cat purrs."], "guide")
    assert [n["text"] for n in row["negatives"]] == ["A dog barks.", "A cow moos."]
    assert parquet.read_table(released.path / "samples" / "sts.parquet").to_pylist()[0]["score"] == 4.5
    evaluation = released.path / "eval" / "retrieval" / "guide"
    corpus = [json.loads(line) for line in (evaluation / "corpus.jsonl").read_text().splitlines()]
    qrels = [json.loads(line) for line in (evaluation / "qrels.jsonl").read_text().splitlines()]
    assert [(row["title"], row["text"]) for row in corpus] == [("Cats", "A cat purrs.")]
    assert qrels[0]["doc_id"] == corpus[0]["doc_id"]
    manifest = json.loads((released.path / "manifest.json").read_text())
    assert manifest["counts"]["retrieval"] == 1
    assert manifest["sources"][0]["licence"] == "CC0-1.0"


def test_it_loads_with_the_datasets_library(approved: Store, tmp_path: Path) -> None:
    released = create(approved, tmp_path)
    files = str(released.path / "samples" / "retrieval.parquet")
    loaded = datasets.load_dataset("parquet", data_files=files, split="train", cache_dir=str(tmp_path / "cache"))
    assert loaded[0]["query"] == "what purrs?"


def test_the_best_ranked_negatives_are_kept(approved: Store, tmp_path: Path) -> None:
    released = create(approved, tmp_path, max_negatives=1)
    [row] = parquet.read_table(released.path / "samples" / "retrieval.parquet").to_pylist()
    assert [n["rank"] for n in row["negatives"]] == [11]


def test_the_same_content_is_the_same_release_and_other_content_needs_another_name(
    approved: Store, tmp_path: Path, training_source: Source
) -> None:
    first = create(approved, tmp_path)
    assert create(approved, tmp_path) == Released(first.path, first.digest, True, first.counts)
    add(approved, training_source, Sts("c", "d", 1.0))
    apply_policy(approved, "labelled", max_rank=20)
    with pytest.raises(UserError, match="choose another name"):
        create(approved, tmp_path)
    assert create(approved, tmp_path, "second").digest != first.digest
    assert query(approved, "SELECT name FROM releases ORDER BY name").to_pylist() == [
        {"name": "first"},
        {"name": "second"},
    ]


def test_a_sample_that_asks_what_a_held_out_set_asks_is_left_out_and_counted(
    approved: Store, tmp_path: Path, training_source: Source
) -> None:
    add(approved, training_source, Classification("Who  purrs?".lower(), "cat"))
    apply_policy(approved, "labelled", max_rank=20)
    released = create(approved, tmp_path)
    assert released.counts["left_out_contaminated"] == 1
    assert released.counts["classification"] == 1


def forget_releases(store: Store) -> None:
    with store.write() as cursor:
        cursor.execute("DELETE FROM release")
        cursor.execute("DELETE FROM release_item")


def test_a_folder_that_was_complete_but_not_recorded_when_killed_is_replaced(approved: Store, tmp_path: Path) -> None:
    first = create(approved, tmp_path)
    forget_releases(approved)
    (first.path / "junk").write_text("half")
    assert create(approved, tmp_path).digest == first.digest
    assert sorted(path.name for path in first.path.iterdir()) == ["README.md", "eval", "manifest.json", "samples"]
    assert [path.name for path in tmp_path.iterdir() if "partial" in path.name] == []


def test_a_folder_of_somebody_else_is_refused_and_kept(approved: Store, tmp_path: Path) -> None:
    (tmp_path / "first").mkdir()
    (tmp_path / "first" / "thesis.txt").write_text("years of work")
    with pytest.raises(UserError, match="no release; move it away"):
        create(approved, tmp_path)
    assert (tmp_path / "first" / "thesis.txt").read_text() == "years of work"


def test_a_release_whose_folder_was_deleted_is_written_again_and_recorded_once(approved: Store, tmp_path: Path) -> None:
    first = create(approved, tmp_path)
    shutil.rmtree(first.path)
    again = create(approved, tmp_path)
    assert (again.digest, (again.path / "manifest.json").is_file()) == (first.digest, True)
    assert query(approved, "FROM releases").num_rows == 1


def test_a_name_taken_by_another_process_meanwhile_is_refused(
    approved: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    create(approved, tmp_path)
    monkeypatch.setattr(releases, "find_release", lambda store, name: None)
    with pytest.raises(UserError, match="another process has just made"):
        create(approved, tmp_path)
    assert query(approved, "FROM releases").num_rows == 1


def test_nothing_approved_is_said(store: Store, training_source: Source, tmp_path: Path) -> None:
    add(store, training_source, CAT)
    with pytest.raises(UserError, match=r"nothing is approved \(1 samples are pending, 0 rejected\)"):
        create(store, tmp_path)


@pytest.mark.parametrize("text", ["WHO PURRS", " who\u200b purrs ?!", "\uff57ho purrs?", "¿who  purrs"])
def test_case_punctuation_width_and_invisible_characters_do_not_hide_a_held_out_text(
    approved: Store, tmp_path: Path, training_source: Source, text: str
) -> None:
    add(approved, training_source, Classification(text, "cat"))
    apply_policy(approved, "labelled", max_rank=20)
    assert create(approved, tmp_path).counts["left_out_contaminated"] == 1


def test_a_policy_applied_twice_at_once_says_each_thing_once(approved: Store) -> None:
    before = query(approved, "FROM reviews").num_rows
    with approved.write() as cursor:  # as the second of two processes, which read before the first one wrote
        cursor.execute("UPDATE sample_state SET status = 'pending'")
    apply_policy(approved, "labelled", max_rank=20)
    assert query(approved, "FROM reviews").num_rows == before


@pytest.mark.parametrize("name", ["", "../up", "a/b", ".hidden", "-x", "naïve", "a\nb", "x" * 101])
def test_a_name_that_no_folder_should_have_is_refused(approved: Store, tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match="cannot be called"):
        create(approved, tmp_path, name)


def test_the_datasheet_shows_hostile_names_as_text(
    store: Store, training_source: Source, tmp_path: Path, approved: Store
) -> None:
    with store.write() as cursor:
        cursor.execute("UPDATE source SET licence = '`](javascript:alert(1)) | <b>'")
    text = (create(store, tmp_path).path / "README.md").read_text()
    assert "| `'](javascript:alert(1)) / <b>` |" in text
