"""Ingest: real sets come in whole, once; a broken line is named and nothing is kept."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from synth.records import Use, UserError, key_of
from synth.stages.ingest import Ingested, ingest
from synth.stages.release import create_release
from synth.stages.release_plan import ReleasePolicy
from synth.stages.review import apply_policy
from synth.store import minings, sources
from synth.store.connection import Store
from synth.store.console import query
from tests.conftest import SAMPLE


def run(store: Store, path: Path, use: Use | None = None) -> list[Ingested]:
    return ingest(store, path, declared_use=use, on_progress=lambda _: None).sources


def rows(store: Store, sql: str) -> list[dict[str, Any]]:
    return query(store, sql).to_pylist()


def write_lines(path: Path, *lines: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(line if isinstance(line, str) else json.dumps(line) + "\n" for line in lines))
    return path


@pytest.fixture
def beir(tmp_path: Path) -> Path:
    """A tiny retrieval set in BEIR's layout, with BEIR's own key names."""
    folder = tmp_path / "animals"
    write_lines(
        folder / "corpus.jsonl",
        {"_id": "1", "title": "Cats", "text": "A cat purrs."},
        {"_id": "2", "title": "", "text": "A dog barks."},
    )
    write_lines(folder / "queries.jsonl", {"_id": "q", "text": "what purrs?"}, {"_id": "r", "text": "what flies?"})
    write_lines(
        folder / "qrels.jsonl",
        {"query-id": "q", "corpus-id": "1", "score": 1},
        {"query-id": "q", "corpus-id": "2", "score": 0},
    )
    return folder


def test_the_bundled_sample_comes_in_with_licences_and_held_out_splits(store: Store) -> None:
    results = run(store, SAMPLE)
    by_split = {(r.name, r.split): r for r in results}
    assert by_split["cmrc-zh", "corpus"].num_passages == 141
    assert by_split["squad-en", "test"].declared_use is Use.EVAL
    assert by_split["stsb-zh", "dev"].num_samples == 200
    assert by_split["documents-zh", "corpus"].num_passages > 50
    assert rows(store, "SELECT count(*) AS n FROM sources WHERE licence = ''") == [{"n": 0}]
    held_out = rows(store, "SELECT DISTINCT split FROM samples WHERE declared_use = 'eval' ORDER BY ALL")
    assert [row["split"] for row in held_out] == ["dev", "test"]


def test_a_second_run_stores_nothing_new(store: Store, beir: Path) -> None:
    assert sum(r.num_new for r in run(store, beir)) == 3
    assert sum(r.num_new for r in run(store, beir)) == 0


def test_a_retrieval_set_takes_only_positive_judgements_and_puts_titles_on_the_first_line(
    store: Store, beir: Path
) -> None:
    run(store, beir)
    assert rows(store, "SELECT query, positives FROM samples") == [
        {"query": "what purrs?", "positives": ["Cats\nA cat purrs."]}
    ]


def test_beirs_own_qrels_files_are_read_with_their_names_as_splits(store: Store, beir: Path) -> None:
    (beir / "qrels.jsonl").unlink()
    (beir / "qrels").mkdir()
    (beir / "qrels" / "train.tsv").write_text("query-id\tcorpus-id\tscore\nq\t1\t1\n")
    (beir / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\nr\t2\t1\nr\t1\t0\n")
    assert [(r.split, r.declared_use, r.num_samples) for r in run(store, beir)] == [
        ("corpus", Use.TRAIN, 0),
        ("test", Use.EVAL, 1),
        ("train", Use.TRAIN, 1),
    ]


def test_a_query_judged_in_a_held_out_split_too_is_held_out(store: Store, beir: Path) -> None:
    with (beir / "qrels.jsonl").open("a") as file:
        file.write('{"query-id": "q", "corpus-id": "2", "score": 1, "split": "test"}\n')
        file.write('{"query-id": "q", "corpus-id": "2", "score": 1, "split": "train"}\n')
    assert {r.split: r.declared_use for r in run(store, beir)} == {"corpus": Use.EVAL, "test": Use.EVAL}


@pytest.mark.parametrize("line", ["q\t1", "q 1 1", "q\t1\thigh"])
def test_a_broken_line_of_a_qrels_file_is_named(store: Store, beir: Path, line: str) -> None:
    (beir / "qrels.jsonl").unlink()
    with pytest.raises(UserError, match=r"need qrels\.jsonl or qrels/SPLIT\.tsv"):
        run(store, beir)
    (beir / "qrels").mkdir()
    (beir / "qrels" / "test.tsv").write_text(f"query-id\tcorpus-id\tscore\n{line}\n")
    with pytest.raises(UserError, match=r"test\.tsv:2: needs query-id"):
        run(store, beir)


def test_a_set_whose_queries_are_all_held_out_holds_its_corpus_out_too(store: Store, beir: Path) -> None:
    write_lines(beir / "queries.jsonl", {"_id": "q", "text": "what purrs?", "split": "test"})
    assert {r.declared_use for r in run(store, beir)} == {Use.EVAL}


def test_the_use_can_be_declared_for_all(store: Store, beir: Path) -> None:
    assert {r.declared_use for r in run(store, beir, Use.EVAL)} == {Use.EVAL}


def test_documents_in_a_folder_or_as_json_lines_become_passages(store: Store, tmp_path: Path) -> None:
    (tmp_path / "guide").mkdir()
    (tmp_path / "guide" / "a.md").write_text("# Boats\n\nA skiff is a small boat that one person can row.\n")
    write_lines(
        tmp_path / "pages.jsonl", {"doc_id": 1, "path": "b.md", "text": "# 船\n\n轻舟已过万重山，两岸猿声啼不住。"}
    )
    run(store, tmp_path)
    found = rows(store, "SELECT source, title FROM passages ORDER BY source")
    assert sorted(row["title"] for row in found) == ["Boats", "船"]
    assert {row["source"] for row in found} == {tmp_path.name, "pages"}


def test_a_readme_beside_data_sets_is_no_document_but_one_among_pages_is(
    store: Store, beir: Path, tmp_path: Path
) -> None:
    (tmp_path / "README.md").write_text("# About\n\nWhere the data is from, in many more words than a title.\n")
    assert {r.name for r in run(store, tmp_path)} == {"animals"}
    (tmp_path / "page.md").write_text("# Page\n\nA page of a guide with more than a title in it.\n")
    assert {r.kind for r in run(store, tmp_path)} == {"documents", "retrieval"}


def test_a_link_that_leads_back_is_not_followed(store: Store, beir: Path) -> None:
    (beir.parent / "loop").mkdir()
    (beir.parent / "loop" / "back").symlink_to(beir.parent)
    assert {r.name for r in run(store, beir.parent)} == {"animals"}


@pytest.mark.parametrize(
    "split",
    [
        *("test", " TEST ", "dev1", "devtest", "tests", "test-2019", "validation_matched", "held-out", "heldout"),
        *("ｔｅｓｔ", "Validation", "eval", "测试集", "holdout", "test_v2", "hold out", "my_held_out"),
    ],
)
def test_a_split_that_sounds_held_out_is_held_out(store: Store, tmp_path: Path, split: str) -> None:
    path = write_lines(tmp_path / "classes.jsonl", {"text": "a", "label": "b", "split": split})
    assert [r.declared_use for r in run(store, path)] == [Use.EVAL]


@pytest.mark.parametrize("split", ["train", "training", "latest", "part 1", "train_contrast"])
def test_other_splits_are_to_train_on(store: Store, tmp_path: Path, split: str) -> None:
    path = write_lines(tmp_path / "classes.jsonl", {"text": "a", "label": "b", "split": split})
    assert [r.declared_use for r in run(store, path)] == [Use.TRAIN]


def test_what_is_declared_held_out_later_is_no_seed_not_mined_and_not_released(
    store: Store, beir: Path, tmp_path: Path
) -> None:
    run(store, beir)
    assert [r.num_new for r in run(store, beir, Use.EVAL)] == [2, 1]
    assert sources.corpora(store, declared_use=Use.TRAIN) == {}
    assert minings.minable(store, key_of("any settings")) == []
    apply_policy(store, "everything", max_rank=50)
    with pytest.raises(UserError, match="nothing to release: 1 contaminated"):
        create_release(store, tmp_path / "releases", "first", ReleasePolicy(), on_progress=lambda _: None)


def test_documents_in_json_lines_need_no_path_and_keep_their_title(store: Store, tmp_path: Path) -> None:
    lines = [{"text": "A skiff is a small boat.", "title": "Skiffs"}, {"text": "A raft floats.", "doc_id": "v1.2"}]
    run(store, write_lines(tmp_path / "pages.jsonl", *lines))
    assert rows(store, "SELECT title, text FROM passages ORDER BY title") == [
        {"title": "", "text": "A raft floats."},
        {"title": "Skiffs", "text": "Skiffs\nA skiff is a small boat."},
    ]


def test_a_link_out_of_the_folder_and_what_is_no_file_are_refused(store: Store, tmp_path: Path) -> None:
    secret = tmp_path / "secret.md"
    secret.write_text("# Secret\n\nNobody should read these words in a corpus.\n")
    for name, make in {
        "link.md": lambda path: path.symlink_to(secret),
        "sources.toml": lambda path: path.symlink_to(secret),
        "pipe.jsonl": lambda path: os.mkfifo(path),
        "zero.jsonl": lambda path: path.symlink_to("/dev/zero"),
        "loop.jsonl": lambda path: path.symlink_to(path),
    }.items():
        folder = tmp_path / name.split(".")[0]
        folder.mkdir()
        make(folder / name)
        with pytest.raises(UserError, match=rf"{name}: (a link that leaves|not a regular file)"):
            run(store, folder)
    with pytest.raises(UserError, match="not a regular file"):
        run(store, tmp_path / "pipe" / "pipe.jsonl")


@pytest.mark.parametrize("name", ["../up", "/abs", "a/b", "a\\\\b", ".hidden", "x" * 101, " ", "a\u202eb", "a\\u0000b"])
def test_a_source_cannot_have_a_name_that_no_file_can_have(store: Store, beir: Path, name: str) -> None:
    (beir.parent / "sources.toml").write_text(f'["animals"]\nname = "{name}"\n')
    with pytest.raises(UserError, match=r"is no name for a source|name must be a text without NUL"):
        run(store, beir.parent)


def test_judgements_in_a_linked_folder_outside_are_refused(store: Store, beir: Path, tmp_path: Path) -> None:
    (beir / "qrels.jsonl").unlink()
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "train.tsv").write_text("q\t1\t1\n")
    (beir / "qrels").symlink_to(tmp_path / "secret")
    with pytest.raises(UserError, match="qrels: a link that leaves the folder"):
        run(store, beir)
    (beir / "qrels").unlink()
    (tmp_path / "secret").rename(beir / "judged")
    (beir / "qrels").symlink_to(beir / "judged")
    assert sum(r.num_samples for r in run(store, beir)) == 1


def test_a_name_stands_for_one_layout_only(store: Store, tmp_path: Path) -> None:
    run(store, write_lines(tmp_path / "one" / "s.jsonl", {"text": "a", "label": "b", "split": "test"}))
    with pytest.raises(UserError, match="s is the name of labelled in this store, and this is pairs"):
        run(store, write_lines(tmp_path / "two" / "s.jsonl", PAIR))


PAIR = {"text1": "a", "text2": "b", "score": 1}
BROKEN = [
    ("pairs.jsonl", [PAIR, '{"text1": '], r"pairs\.jsonl:2: not valid JSON"),
    ("pairs.jsonl", [PAIR, "[1]\n"], r"pairs\.jsonl:2: not a JSON object"),
    ("pairs.jsonl", [PAIR, PAIR | {"score": "high"}], r"pairs\.jsonl:2: `score` must be a number"),
    ("pairs.jsonl", [PAIR, PAIR | {"score": float("nan")}], r"pairs\.jsonl:2: `score` must be a number"),
    ("pairs.jsonl", [PAIR, '{"text1": "a", "text2": "b", "score": 1' + "0" * 5000 + "}\n"], r"pairs\.jsonl:2"),
    ("pairs.jsonl", [PAIR, "[" * 100_000 + "\n"], r"pairs\.jsonl:2"),
    ("pairs.jsonl", [PAIR, PAIR | {"text2": " "}], r"pairs\.jsonl:2: `text2` must be a text that is not empty"),
    ("pairs.jsonl", [PAIR, PAIR | {"text2": "\ud83d"}], r"pairs\.jsonl:2: holds half of a surrogate pair"),
    ("pairs.jsonl", [PAIR, PAIR | {"split": False}], r"pairs\.jsonl:2: `split` must be a short text"),
    ("pairs.jsonl", [PAIR, PAIR | {"split": "tr\ud800"}], r"pairs\.jsonl:2: holds half of a surrogate pair"),
    ("pairs.jsonl", [PAIR, PAIR | {"split": 3}], r"pairs\.jsonl:2: `split` must be a short text"),
    ("classes.jsonl", [{"text": "a", "label": "b"}, {"text": "a"}], r"classes\.jsonl:2: `label`"),
    ("what.jsonl", [{"foo": 1}], r"what\.jsonl: its columns are foo; a layout needs"),
    ("empty.jsonl", [], r"empty\.jsonl: this file is empty"),
    ("page.md", ["# \n"], "hold no text"),
]


@pytest.mark.parametrize(("name", "lines", "message"), BROKEN)
def test_a_broken_line_is_named_and_nothing_is_stored(
    store: Store, beir: Path, name: str, lines: list[object], message: str
) -> None:
    write_lines(beir.parent / "broken" / name, *lines)
    with pytest.raises(UserError, match=message):
        run(store, beir.parent)
    assert rows(store, "FROM sources") == []


@pytest.mark.parametrize(
    ("name", "line", "message"),
    [
        ("qrels.jsonl", {"query_id": "q", "doc_id": "9", "score": 1}, "the passage 9 is not in corpus"),
        ("corpus.jsonl", {"_id": "1", "text": "again"}, "the id 1 is taken"),
        ("queries.jsonl", {"_id": "q", "text": "again"}, "the id q is taken"),
        ("corpus.jsonl", {"_id": True, "text": "t"}, "needs an id"),
        ("corpus.jsonl", {"text": "no id"}, "needs an id under `doc_id` or `_id`"),
    ],
)
def test_a_retrieval_set_that_contradicts_itself_is_refused(
    store: Store, beir: Path, name: str, line: object, message: str
) -> None:
    with (beir / name).open("a") as file:
        file.write(json.dumps(line) + "\n")
    with pytest.raises(UserError, match=message):
        run(store, beir)


def test_an_empty_corpus_is_refused(store: Store, beir: Path) -> None:
    (beir / "corpus.jsonl").write_text("")
    with pytest.raises(UserError, match="empty corpus"):
        run(store, beir)


def test_a_file_that_is_not_utf8_is_named(store: Store, tmp_path: Path) -> None:
    (tmp_path / "page.md").write_bytes("# Déjà vu".encode("latin-1"))
    with pytest.raises(UserError, match=r"page\.md: neither UTF-8 nor UTF-16"):
        run(store, tmp_path)


@pytest.mark.parametrize(
    ("manifest", "message"),
    [
        ('["../secret"]\nname = "x"', "leaves the folder"),
        ('["nowhere"]\nname = "x"', "does not exist"),
        ('["animals"]\nlicense = "x"', "did you mean licence"),
        ('["animals"]\nname = 3', "name must be a text"),
        ("[animals", "cannot be read"),
    ],
)
def test_a_broken_manifest_is_named(store: Store, beir: Path, manifest: str, message: str) -> None:
    (beir.parent / "sources.toml").write_text(manifest)
    with pytest.raises(UserError, match=message):
        run(store, beir.parent)


def test_two_sets_of_one_name_are_refused(store: Store, beir: Path) -> None:
    shutil.copytree(beir, beir.parent / "more" / "animals")
    with pytest.raises(UserError, match="would be named animals"):
        run(store, beir.parent)


def test_what_is_not_there_is_named(store: Store, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        run(store, tmp_path / "nowhere")
    with pytest.raises(UserError, match="nothing here can be read"):
        run(store, tmp_path / "store.duckdb.lock")
