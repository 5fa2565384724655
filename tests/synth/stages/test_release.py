"""Releases: frozen, complete, clean of held-out texts, the same on every machine."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pyarrow import parquet

from synth.records import (
    Classification,
    Draft,
    Negative,
    Retrieval,
    Source,
    Sts,
    Task,
    Use,
    UserError,
    Verdict,
    key_of,
    new_id,
    text_id,
)
from synth.stages.ingest import ingest
from synth.stages.release import create_release
from synth.stages.release_check import verify_release
from synth.stages.release_diff import compare_releases
from synth.stages.release_files import read_manifest, read_rows
from synth.stages.review import apply_policy
from synth.store import minings, releases, samples, sources
from synth.store.connection import Store
from synth.store.console import query
from synth.store.minings import Mined
from synth.store.overlaps import FoundOverlap, add_overlaps
from synth.store.release_policy import ReleasePolicy
from synth.store.runs import recorded
from synth.store.sources import NewPassage
from synth.store.upkeep import back_up
from tests.synth.stages.releasing import add, create, files, give_negatives, heads, judge, retrieval, source

CAT = Retrieval("what purrs?", ("Cats\nA cat purrs.",))
DOG = NewPassage(text_id("A dog barks."), "A dog barks.", "", "2")
COW = NewPassage(text_id("A cow moos."), "A cow moos.", "", "3")


def mine(store: Store) -> None:
    key = key_of("k")
    with store.write() as cursor:
        sources.add_passages(cursor, key_of("s"), [DOG, COW])
    for sample in minings.minable(store, key):
        negatives = [
            Negative(sample.sample_id, sample.revision_id, passage.text_id, "mined", rank, 0.5 - rank / 100, 0.8)
            for rank, passage in ((12, COW), (11, DOG))
        ]
        with store.write() as cursor:
            minings.add_mined(cursor, key, new_id(), [Mined(sample, "full", "", 1, tuple(negatives))])


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


def test_the_best_ranked_negatives_are_kept(approved: Store, tmp_path: Path) -> None:
    released = create(approved, tmp_path, max_negatives=1)
    [row] = parquet.read_table(released.path / "samples" / "retrieval.parquet").to_pylist()
    assert [n["rank"] for n in row["negatives"]] == [11]


def test_the_same_content_is_the_same_release_and_other_content_needs_another_name(
    approved: Store, tmp_path: Path, training_source: Source
) -> None:
    first = create(approved, tmp_path)
    assert create(approved, tmp_path) == replace(first, existed=True)
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
    assert released.left_out["contaminated"] == 1
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
    with pytest.raises(UserError, match="no release that this store knows"):
        create(approved, tmp_path)
    assert (tmp_path / "first" / "thesis.txt").read_text() == "years of work"


def test_a_release_that_the_store_does_not_know_is_refused_and_kept(
    approved: Store, tmp_path: Path, training_source: Source
) -> None:
    backup = tmp_path / "backup.duckdb"
    back_up(approved, backup)
    first = create(approved, tmp_path)
    manifest = (first.path / "manifest.json").read_bytes()
    shutil.copy(backup, approved.path)
    add(approved, training_source, Sts("c", "d", 1.0))
    apply_policy(approved, "labelled", max_rank=20)
    with pytest.raises(UserError, match="restored from a backup"):
        create(approved, tmp_path)
    assert (first.path / "manifest.json").read_bytes() == manifest


def test_the_datasheet_names_the_sources_that_something_comes_from(approved: Store, tmp_path: Path) -> None:
    other = source(approved, "other")
    add(approved, other, retrieval(1))
    add(approved, source(approved, "other", Use.EVAL), retrieval(2))
    apply_policy(approved, "everything", max_rank=20)
    manifest = json.loads((create(approved, tmp_path, where="source = 'guide'").path / "manifest.json").read_text())
    assert {(each["name"], each["declared_use"]) for each in manifest["sources"]} == {
        ("guide", "train"),
        ("guide", "eval"),
        ("other", "eval"),
    }


def test_nothing_of_an_excluded_source_goes_in_but_its_evaluation_set_is_compared(
    approved: Store, tmp_path: Path
) -> None:
    add(approved, source(approved, "other"), retrieval(1), retrieval(2))
    add(approved, source(approved, "other", Use.EVAL), retrieval(3))
    add(approved, source(approved, "third"), Retrieval(retrieval(3).query.upper(), ("A passage.",)))
    apply_policy(approved, "everything", max_rank=20)
    released = create(approved, tmp_path, exclude_sources=("other",))
    manifest = json.loads((released.path / "manifest.json").read_text())
    assert (manifest["held_out"], manifest["compared_with"]) == (["guide"], ["guide", "other"])
    assert "other" not in {each["name"] for each in manifest["sources"]}
    assert [path.name for path in (released.path / "eval" / "retrieval").iterdir()] == ["guide"]
    assert (released.left_out["contaminated"], released.left_out["source_excluded"]) == (1, 2)


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
    assert create(approved, tmp_path).left_out["contaminated"] == 1


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


def test_what_was_found_is_recorded_with_the_releases_run_and_told_by_evaluation_set(
    approved: Store, tmp_path: Path, training_source: Source
) -> None:
    add(approved, training_source, Classification("WHO purrs", "cat"))
    apply_policy(approved, "labelled", max_rank=20)
    told = [{"eval_source": "guide", "eval_split": "test", "kind": "exact", "num_samples": 1}]
    assert create(approved, tmp_path).overlaps == told
    manifest = read_manifest(tmp_path / "first")
    assert (manifest["overlaps"], manifest["left_out"]) == (told, {"contaminated": 1})
    [row] = query(approved, "SELECT source, field, eval_split, kind, value, run_id FROM eval_overlaps").to_pylist()
    [run] = query(approved, "SELECT run_id FROM runs WHERE kind = 'release'").to_pylist()
    assert tuple(row.values()) == ("guide", "text", "test", "exact", 1.0, run["run_id"])
    assert "| `guide` | `test` | exact | 1 |" in (tmp_path / "first" / "README.md").read_text()
    taken = create(approved, tmp_path, "all", contamination=False)
    assert (taken.left_out, taken.counts["classification"]) == ({}, 2)
    assert "Not looked for" in (taken.path / "README.md").read_text()


@pytest.mark.parametrize(("field", "left"), [("query", {"contaminated": 1}), ("positive", {})])
def test_what_synth_check_found_similar_is_left_out_but_not_for_its_positive(
    approved: Store, tmp_path: Path, field: str, left: dict[str, int], held_out_source: Source
) -> None:
    sample_id, revision_id = heads(approved)["what purrs?"]
    found = FoundOverlap(sample_id, revision_id, field, held_out_source.source_id, new_id(), "similar", 0.97)
    with recorded(approved, "check", {"similar": 0.95}) as run, approved.write() as cursor:
        add_overlaps(cursor, run.run_id, [found])
    assert create(approved, tmp_path).left_out == left


def test_a_release_survives_what_happens_to_the_store_byte_for_byte(
    approved: Store, tmp_path: Path, training_source: Source
) -> None:
    released = create(approved, tmp_path)
    before = files(released.path)
    give_negatives(approved, "what purrs?", [("A dog barks.", "mined", 1), ("A new one.", "mined", 2)])
    judge(approved, "what purrs?", Verdict.REJECT)
    add(approved, training_source, retrieval(5))
    apply_policy(approved, "everything", max_rank=20)
    samples.rebuild_state(approved)
    Store.open(approved.path)
    assert files(released.path) == before
    assert verify_release(released.path, released.digest).problems == []
    create(approved, tmp_path, "second")
    assert files(released.path) == before
    sql = "SELECT name, num_samples, num_negatives FROM releases ORDER BY name"
    assert [tuple(row.values()) for row in query(approved, sql).to_pylist()] == [("first", 3, 2), ("second", 3, 0)]


def test_an_edited_sample_is_released_as_edited_and_the_diff_says_changed(approved: Store, tmp_path: Path) -> None:
    first = create(approved, tmp_path)
    edited = Retrieval("what purrs at night?", CAT.positives)
    judge(approved, "what purrs?", Verdict.APPROVE, edit=edited, edited_id=new_id())
    second = create(approved, tmp_path, "second")
    assert [row["query"] for row in read_rows(second.path, Task.RETRIEVAL)] == ["what purrs at night?"]
    assert compare_releases(first.path, second.path, rows=False).totals["changed"] == 1


def test_two_machines_that_made_the_same_have_the_same_digest(tmp_path: Path) -> None:
    made = []
    for number in range(2):
        (tmp_path / str(number)).mkdir()
        store = Store.create(tmp_path / str(number) / "store.duckdb")
        source = Source("guide", "train", Use.TRAIN, "retrieval", "a test", "CC0-1.0", "1")
        with store.write() as cursor:
            sources.add_source(cursor, source, new_id())
        order = range(8) if number else reversed(range(8))
        add(store, source, *(retrieval(each) for each in order))
        apply_policy(store, "everything", max_rank=20)
        made.append(create(store, tmp_path / str(number)))
    assert made[0].digest == made[1].digest
    ids = [[row["content_hash"] for row in read_rows(each.path, Task.RETRIEVAL)] for each in made]
    assert ids[0] == ids[1] == sorted(ids[0])


def test_hostile_texts_come_out_as_they_went_in(store: Store, tmp_path: Path, training_source: Source) -> None:
    texts = ("\x1b[31m red \u202e", "```| <b>", "emoji 🐈\u200d⬛, 猫", "x" * 100_000)
    add(store, training_source, *(Retrieval(text, (f"{text} indeed",)) for text in texts))
    apply_policy(store, "everything", max_rank=20)
    released = create(store, tmp_path)
    assert {row["query"] for row in read_rows(released.path, Task.RETRIEVAL)} == set(texts)
    assert verify_release(released.path, released.digest).problems == []


def test_folders_that_look_like_partitions_change_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "split=train" / "query=overwritten" / "dataset=evil" / "task=sts" / "sample_id=1"
    folder.mkdir(parents=True)
    (folder / "questions.jsonl").write_text('{"query": "who purrs?", "positive": "A cat.", "split": "train"}\n')
    (folder / "sums.jsonl").write_text('{"query": "one and one?", "positive": "Two.", "split": "test"}\n')
    store = Store.create(folder / "store.duckdb")
    ingest(store, folder, declared_use=None, on_progress=lambda _: None)
    assert query(store, "SELECT query, declared_use FROM samples ORDER BY ALL").to_pylist() == [
        {"query": "one and one?", "declared_use": "eval"},
        {"query": "who purrs?", "declared_use": "train"},
    ]
    apply_policy(store, "everything", max_rank=20)
    first = create(store, folder / "releases")
    [row] = read_rows(first.path, Task.RETRIEVAL)
    assert (row["query"], row["dataset"], first.counts["sts"]) == ("who purrs?", "questions", 0)
    assert compare_releases(first.path, create(store, tmp_path / "plain").path, rows=True).totals["same"] == 1


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_queries_of_two_splits_that_came_with_one_id_keep_their_own_answers(approved: Store, tmp_path: Path) -> None:
    barks, moos = ("dev", "1", "who barks?", "A dog."), ("test", "1", "who moos?", "A cow.")
    for split, external_id, query_text, answer in (barks, moos, ("test", "", "who moos?", "An ox.")):
        part = replace(source(approved, "farm", Use.EVAL), split=split)
        with approved.write() as cursor:
            sources.add_source(cursor, part, new_id())
            draft = Draft(Retrieval(query_text, (answer,)), part.source_id, "ingest", external_id=external_id)
            samples.add_drafts(cursor, [draft], new_id())
    folder = create(approved, tmp_path).path / "eval" / "retrieval" / "farm"
    queries = {row["query_id"]: row["text"] for row in lines(folder / "queries.jsonl")}
    corpus = {row["doc_id"]: row["text"] for row in lines(folder / "corpus.jsonl")}
    answers = {(queries[row["query_id"]], corpus[row["doc_id"]]) for row in lines(folder / "qrels.jsonl")}
    assert sorted(queries.values()) == ["who barks?", "who moos?"]
    assert len(lines(folder / "queries.jsonl")) == len(queries)
    assert answers == {("who barks?", "A dog."), ("who moos?", "A cow."), ("who moos?", "An ox.")}


def test_answers_that_are_not_in_the_corpus_of_a_held_out_set_join_it(
    approved: Store, tmp_path: Path, held_out_source: Source
) -> None:
    add(approved, held_out_source, Retrieval("who neighs?", ("A horse.",)))
    folder = create(approved, tmp_path).path / "eval" / "retrieval" / "guide"
    judged = {row["doc_id"] for row in lines(folder / "qrels.jsonl")}
    assert judged <= {row["doc_id"] for row in lines(folder / "corpus.jsonl")}


def test_what_comes_in_while_a_release_is_written_is_not_in_it(
    approved: Store, tmp_path: Path, training_source: Source
) -> None:
    def meanwhile(_: int) -> None:
        with approved.write() as cursor:
            late = NewPassage(text_id("A late text."), "A late text.", "", "9")
            sources.add_passages(cursor, training_source.source_id, [late])
            sources.add_source(cursor, replace(training_source, version="2"), new_id())

    released = create_release(approved, tmp_path, "first", ReleasePolicy(), on_progress=meanwhile)
    corpus = lines(released.path / "eval" / "retrieval" / "guide" / "corpus.jsonl")
    assert [row["text"] for row in corpus] == ["A cat purrs."]
    assert {row["version"] for row in read_manifest(released.path)["sources"]} == {training_source.version}


def test_a_release_whose_folder_lost_a_file_is_said_to_be_so(approved: Store, tmp_path: Path) -> None:
    first = create(approved, tmp_path)
    shutil.rmtree(first.path / "samples")
    with pytest.raises(UserError, match=r"samples/classification\.parquet is missing or changed; restore the folder"):
        create(approved, tmp_path)
