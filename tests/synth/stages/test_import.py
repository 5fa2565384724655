"""Imports as their user lives them: lines left out and reported, new versions, splits by file, killed imports."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from pyarrow import parquet

from synth.records import Use, UserError
from synth.stages import intake, spool
from synth.stages.ingest import Outcome, read_checked, store_checked
from synth.stages.layouts import Described
from synth.stages.spool import OnError, Spool, spool_folder
from synth.store.connection import Store
from synth.store.console import query
from tests.conftest import REPOSITORY, SAMPLE


def run(store: Store, path: Path, **options: Any) -> Outcome:
    with read_checked(store, path, on_progress=lambda _: None, **({"declared_use": None} | options)) as checked:
        return store_checked(store, checked, on_progress=lambda _: None)


def rows(store: Store, sql: str) -> list[tuple[Any, ...]]:
    return [tuple(row.values()) for row in query(store, sql).to_pylist()]


def write(path: Path, lines: Iterable[object]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(line if isinstance(line, str) else json.dumps(line) + "\n" for line in lines))
    return path


PAIR = {"text1": "a", "text2": "b", "score": 1}


def test_lines_that_cannot_be_used_are_left_out_counted_and_reported(store: Store, tmp_path: Path) -> None:
    lines = [PAIR, '{"text1": \n', PAIR | {"score": "high"}, PAIR | {"score": "\u202elow"}, PAIR | {"text1": "c"}]
    path = write(tmp_path / "pairs.jsonl", lines)
    outcome = run(store, path, on_error=OnError.SKIP)
    assert [(r.num_samples, r.num_new) for r in outcome.sources] == [(2, 2)]
    assert outcome.left_out == {"not valid JSON": 1, "`score` must be a number": 2}
    assert outcome.report is not None
    assert outcome.report.parent == store.path.parent
    [run_id] = rows(store, "SELECT run_id FROM runs WHERE kind = 'ingest'")[0]
    assert outcome.report.name == f"ingest-report-{run_id}.jsonl"
    text = outcome.report.read_text(encoding="utf-8")
    assert "\u202e" not in text
    entries = [json.loads(line) for line in text.splitlines()]
    assert [(entry["file"], entry["line"]) for entry in entries] == [(str(path), n) for n in (2, 3, 4)]
    assert entries[0]["text"] == '{"text1":'
    assert "must be a number, not 'high'" in entries[1]["reason"]
    assert rows(store, "SELECT counts ->> 'left_out' FROM runs WHERE kind = 'ingest'") == [("3",)]


def test_a_long_line_is_shown_by_its_beginning(store: Store, tmp_path: Path) -> None:
    path = write(tmp_path / "pairs.jsonl", [PAIR, {"text1": "x" * 5000}])
    outcome = run(store, path, on_error=OnError.SKIP, report=tmp_path / "report.jsonl")
    assert outcome.report == tmp_path / "report.jsonl"
    [entry] = [json.loads(line) for line in outcome.report.read_text().splitlines()]
    assert len(entry["text"]) == 200


def test_a_report_never_takes_the_place_of_a_file(store: Store, tmp_path: Path) -> None:
    path = write(tmp_path / "pairs.jsonl", [PAIR, {}])
    precious = write(tmp_path / "precious.jsonl", ["mine\n"])
    with pytest.raises(UserError, match="is there already"):
        run(store, path, on_error=OnError.SKIP, report=precious)
    assert precious.read_text() == "mine\n"
    assert rows(store, "FROM sources") == []
    with pytest.raises(UserError, match="--on-error skip"):
        run(store, path, report=tmp_path / "report.jsonl")
    with pytest.raises(UserError, match="its folder does not exist"):
        run(store, path, on_error=OnError.SKIP, report=tmp_path / "nowhere" / "report.jsonl")


def test_a_report_comes_last_so_that_a_killed_import_can_be_repeated(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("synth.store.bulk.ROWS_PER_LEASE", 1)
    monkeypatch.setattr(spool, "MAX_ROWS", 1)
    path = write(tmp_path / "pairs.jsonl", [PAIR, {}, PAIR | {"text1": "c"}])
    report = tmp_path / "report.jsonl"

    def stop(_: int) -> None:
        raise KeyboardInterrupt

    with (
        read_checked(
            store, path, declared_use=None, on_progress=lambda _: None, on_error=OnError.SKIP, report=report
        ) as checked,
        pytest.raises(KeyboardInterrupt),
    ):
        store_checked(store, checked, on_progress=stop)
    assert not report.exists()
    outcome = run(store, path, on_error=OnError.SKIP, report=report)
    assert [(r.num_samples, r.num_new) for r in outcome.sources] == [(2, 1)]
    assert len(report.read_text().splitlines()) == 1


@pytest.mark.parametrize("name", ["store.duckdb", "store.duckdb.wal", "STORE.DUCKDB.WAL", "synth.toml", "releases/a"])
def test_a_report_is_no_file_of_the_workspace(store: Store, tmp_path: Path, name: str) -> None:
    path = write(tmp_path / "data" / "pairs.jsonl", [PAIR, {}])
    with pytest.raises(UserError, match="belongs to the workspace"):
        run(store, path, on_error=OnError.SKIP, report=store.path.parent / name)
    assert rows(store, "FROM sources") == []


def test_what_holds_no_line_that_can_be_used_is_refused_with_the_reason(store: Store, tmp_path: Path) -> None:
    path = write(tmp_path / "pairs.jsonl", [PAIR | {"score": "a"}, PAIR | {"score": "b"}, "[1]\n"])
    with pytest.raises(UserError, match="all 3 lines were left out; 2 of them: `score` must be a number"):
        run(store, path, on_error=OnError.SKIP, report=tmp_path / "report.jsonl")
    assert len((tmp_path / "report.jsonl").read_text().splitlines()) == 3
    with pytest.raises(UserError, match=r"one\.jsonl: its only line was left out: `score` must be a number"):
        run(store, write(tmp_path / "one.jsonl", [PAIR | {"score": "a"}]), on_error=OnError.SKIP)
    (tmp_path / "header.csv").write_text("text,label\n")
    with pytest.raises(UserError, match="holds no row"):
        run(store, tmp_path / "header.csv")


def test_a_retrieval_set_without_its_broken_rows_is_consistent(store: Store, tmp_path: Path) -> None:
    folder = tmp_path / "animals"
    corpus = [{"_id": "1", "text": "cat"}, {"_id": "1", "text": "dog"}, {"_id": "2"}, {"_id": "3", "title": "Fish"}]
    write(folder / "corpus.jsonl", corpus)
    write(folder / "queries.jsonl", [{"_id": "q", "text": "purrs?"}, {"_id": "q", "text": "barks?"}])
    judged = [("q", "1", 2), ("q", "2", 1), ("q", "9", 1), ("q", "3", 1), ("q", "3", 1), ("other", "3", 1)]
    write(folder / "qrels" / "train.tsv", [f"{query_id}\t{key}\t{grade}\n" for query_id, key, grade in judged])
    outcome = run(store, folder, on_error=OnError.SKIP)
    assert rows(store, "SELECT query, positives FROM samples") == [("purrs?", ["cat", "Fish"])]
    assert rows(store, "SELECT text FROM passages ORDER BY text") == [("Fish",), ("cat",)]
    assert sum(outcome.left_out.values()) == 5
    assert outcome.left_out["an id that is taken by an earlier line"] == 2
    assert outcome.left_out["a judgement of a passage that is not there"] == 2
    assert outcome.notes == [
        "animals: 1 judgement of a query that is not there was passed over",
        "animals: 1 grade above 1 counts as 1: it says which passage answers, not how well",
    ]


def test_a_broken_page_of_a_folder_is_left_out(store: Store, tmp_path: Path) -> None:
    (tmp_path / "guide").mkdir()
    (tmp_path / "guide" / "a.html").write_text("<h1>Boats</h1><p>A skiff is a small boat.</p>")
    (tmp_path / "guide" / "b.md").write_bytes("# Déjà vu".encode("latin-1"))
    outcome = run(store, tmp_path / "guide", on_error=OnError.SKIP)
    assert rows(store, "SELECT title, text FROM passages") == [("Boats", "Boats\nA skiff is a small boat.")]
    assert outcome.left_out == {"neither UTF-8 nor UTF-16; convert the file first, or move it away": 1}


def test_a_new_version_brings_only_what_is_new_and_says_so(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "triplets.jsonl"
    first = [{"anchor": f"q{n}", "positive": f"p{n}"} for n in range(3)]
    assert run(store, write(path, first)).notes == []
    outcome = run(store, write(path, [*first[1:], {"anchor": "q3", "positive": "p3"}]))
    assert [(r.split, r.num_new) for r in outcome.sources] == [("train", 1)]
    [note] = outcome.notes
    assert note.startswith("triplets: an earlier version is there, of 20")
    assert "1 of 3 samples are new, and what only that one has stays; samples that are known keep the source" in note
    assert rows(store, "SELECT count(*), count(DISTINCT query) FROM samples") == [(4, 4)]
    assert [r.num_new for r in run(store, path).sources] == [0]


def test_the_version_is_that_of_the_content_and_not_of_the_place(store: Store, tmp_path: Path) -> None:
    assert run(store, write(tmp_path / "here" / "pairs.jsonl", [PAIR])).notes == []
    parquet.write_table(pyarrow.Table.from_pylist([PAIR]), tmp_path / "pairs.parquet")
    for path in (write(tmp_path / "there" / "pairs.jsonl", [PAIR]), tmp_path / "pairs.parquet"):
        [note] = run(store, path).notes
        assert note.startswith("pairs: ingested before, on 20")
        assert note.endswith("; 0 of 1 samples are new")
    assert rows(store, "SELECT count(*) FROM sources") == [(1,)]


def test_files_named_as_splits_are_one_set_named_after_their_folder(store: Store, tmp_path: Path) -> None:
    folder = tmp_path / "banking"
    for name, text in (
        ("train-00000-of-00002", "a"),
        ("train-00001-of-00002", "b"),
        ("test", "c"),
        ("validation", "d"),
    ):
        write(folder / f"{name}.jsonl", [{"text": text, "label": "x"}])
    write(folder / "testimonials.jsonl", [{"text": "e", "label": "x"}])
    found = [(r.name, r.split, r.declared_use, r.num_samples) for r in run(store, folder).sources]
    assert found == [
        ("banking", "test", Use.EVAL, 1),
        ("banking", "train", Use.TRAIN, 2),
        ("banking", "validation", Use.EVAL, 1),
        ("testimonials", "train", Use.TRAIN, 1),
    ]


@pytest.mark.parametrize(
    ("name", "source", "split", "use"),
    [
        ("holdout", "set", "holdout", Use.EVAL),
        ("Test_v2", "set", "test_v2", Use.EVAL),
        ("held-out", "set", "held-out", Use.EVAL),
        ("验证集", "set", "验证集", Use.EVAL),
        ("train2", "set", "train2", Use.TRAIN),
        ("nq-test", "nq-test", "test", Use.EVAL),
        ("sts_dev.v2", "sts_dev.v2", "dev", Use.EVAL),
        ("faq-hold_out", "faq-hold_out", "hold_out", Use.EVAL),
        ("nq-train", "nq-train", "train", Use.TRAIN),
        ("devices", "devices", "train", Use.TRAIN),
        ("latest", "latest", "train", Use.TRAIN),
    ],
)
def test_a_files_name_says_its_split_by_whole_words(
    store: Store, tmp_path: Path, name: str, source: str, split: str, use: Use
) -> None:
    outcome = run(store, write(tmp_path / "set" / f"{name}.jsonl", [PAIR, PAIR | {"score": 2, "split": " "}]))
    assert [(r.name, r.split, r.declared_use) for r in outcome.sources] == [(source, split, use)]
    told = source == name and use is Use.EVAL
    assert outcome.notes == (
        [f"{name}: its file's name says `{split}`, so rows without a split are held out (unless --use train)"]
        if told
        else []
    )


def test_an_empty_split_says_nothing(store: Store, tmp_path: Path) -> None:
    path = write(tmp_path / "set" / "dev.csv", ["text,label,split\na,x,\nb,x,train\nc,x,  \n"])
    assert [(r.split, r.num_samples) for r in run(store, path).sources] == [("dev", 2), ("train", 1)]


def test_rows_of_label_zero_are_positives_if_the_user_says_so_and_are_told_of(store: Store, tmp_path: Path) -> None:
    lines = ["anchor,positive,label\nq1,p1,1\nq2,p2,0\nq3,p3,0\n"]
    path = write(tmp_path / "judged.csv", lines)
    with pytest.raises(UserError, match="because of `label`"):
        run(store, path)
    parquet.write_table(pyarrow.table({"query": ["q"], "answer": ["a"], "score": [0.0]}), tmp_path / "p.parquet")
    for table, number in ((path, "2 rows have"), (tmp_path / "p.parquet", "1 row has")):
        [note] = run(store, table, given=Described(format="tuples")).notes
        assert f": {number} a label or score of 0, and " in note
    assert rows(store, "SELECT count(*) FROM samples") == [(4,)]


def test_why_rows_are_not_new_is_said(store: Store, tmp_path: Path) -> None:
    path = write(tmp_path / "faq.csv", ["question,answer\n" + "q,a\n" * 3])
    assert run(store, path).notes == ["faq: 1 of 3 samples are new; the others are repeated in it"]
    [note] = run(store, write(tmp_path / "other.csv", ["question,answer\nq,a\nr,b\n"])).notes
    assert note.startswith("other: 1 of 2 samples are new; the others are repeated in it, or came with another data")
    [note] = run(store, path, given=Described(licence="MIT")).notes
    assert "0 of 3 samples are new" in note
    assert "samples that are known keep the source, and so the licence, that they came with" in note
    found = rows(store, "SELECT licence, num_samples FROM sources WHERE name = 'faq' ORDER BY licence")
    assert found == [("", 1), ("MIT", 0)]


def test_a_table_without_rows_among_others_is_told_of(store: Store, tmp_path: Path) -> None:
    write(tmp_path / "set" / "a.csv", ["text,label\n"])
    write(tmp_path / "set" / "b.csv", ["text,label\nt,x\n"])
    assert run(store, tmp_path / "set").notes == ["a: holds no row that could be stored"]


def test_the_user_can_name_describe_and_split_a_single_set(store: Store, tmp_path: Path) -> None:
    path = write(tmp_path / "faq.csv", ["ask,reply,split\nq,a,train\n"])
    given = Described(name="faq-en", licence="CC0-1.0", split="dev", map={"query": "ask", "positive": "reply"})
    run(store, path, given=given)
    found = rows(store, "SELECT name, split, declared_use, licence FROM sources ORDER BY split")
    assert found == [("faq-en", "dev", "eval", "CC0-1.0")]
    for name in ("a", "b"):
        write(tmp_path / "two" / f"{name}.csv", ["text,label\na,b\n"])
    with pytest.raises(UserError, match=r"holds 2 data sets \(a.csv, b.csv\), and a name is for one"):
        run(store, tmp_path / "two", given=Described(name="x"))


def test_a_column_of_ids_taken_for_splits_is_refused(store: Store, tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", [{"text": "t", "label": "x", "split": f"s{n}"} for n in range(300)])
    with pytest.raises(UserError, match=r"a\.jsonl:201: the 201th different split.*--split"):
        run(store, path)
    assert [r.num_samples for r in run(store, path, given=Described(split="train")).sources] == [300]


@pytest.mark.parametrize(
    ("manifest", "message"),
    [
        ('["animals"]\nmap = {query = 3}', "map: query must be the name of a column"),
        ('["animals"]\nformat = "pairs"', "a retrieval folder has its own columns"),
        ('["."]\nname = "x"', "holds 2 sets; list each"),
    ],
)
def test_a_manifest_that_does_not_fit_is_named(store: Store, tmp_path: Path, manifest: str, message: str) -> None:
    for name in ("a", "b"):
        write(tmp_path / f"{name}.jsonl", [PAIR])
    for name in ("corpus", "queries", "qrels"):
        write(tmp_path / "animals" / f"{name}.jsonl", [{"_id": "1", "text": "t"}])
    (tmp_path / "sources.toml").write_text(manifest)
    with pytest.raises(UserError, match=message):
        run(store, tmp_path)


def test_memory_is_bounded_by_pieces_that_make_no_difference(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool, "MAX_ROWS", 7)
    monkeypatch.setattr("synth.store.bulk.ROWS_PER_LEASE", 11)
    monkeypatch.setattr("synth.store.scratch.FETCH", 2048)
    outcome = run(store, SAMPLE / "retrieval" / "cmrc-zh")
    whole = Store.create(tmp_path / "whole.duckdb")
    monkeypatch.undo()
    assert run(whole, SAMPLE / "retrieval" / "cmrc-zh").sources == outcome.sources
    for sql in ("SELECT version FROM sources ORDER BY ALL", "SELECT text FROM passages ORDER BY text_id"):
        assert rows(store, sql) == rows(whole, sql)


def test_a_digest_tells_rows_apart_that_look_alike_when_joined(tmp_path: Path) -> None:
    def digest(*added: tuple[str | None, list[str]]) -> str:
        each = Spool(tmp_path / "s.parquet", {"text": "string", "texts": "texts"})
        for text, texts in added:
            each.add(text, texts, characters=0)
        each.close()
        return each.digest()

    assert digest(("a", ["b"])) == digest(("a", ["b"]))
    different: list[list[tuple[str | None, list[str]]]] = [
        [("ab", [])],
        [("a", ["b"])],
        [("", ["ab"])],
        [(None, ["ab"])],
        [("", ["a", "b"])],
        [("", ["a"]), ("", ["b"])],
        [("a", []), ("b", [])],
        [("b", []), ("a", [])],
    ]
    assert len({digest(*each) for each in different}) == len(different)


def test_progress_tells_of_rows_read_and_rows_stored(store: Store, tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", [{"text": f"t{n}", "label": "x"} for n in range(intake.TICK + 5)])
    read: list[int] = []
    stored: list[int] = []
    with read_checked(store, path, declared_use=None, on_progress=read.append) as checked:
        assert checked.num_rows == intake.TICK + 5
        store_checked(store, checked, on_progress=stored.append)
    assert sum(read) == sum(stored) == intake.TICK + 5


def test_nothing_is_left_beside_the_store_when_an_import_ends_or_fails(store: Store, tmp_path: Path) -> None:
    run(store, write(tmp_path / "data" / "a.jsonl", [PAIR]))
    with pytest.raises(UserError):
        run(store, write(tmp_path / "data" / "b.jsonl", [PAIR, "broken\n"]))
    assert not list(store.path.parent.glob(".ingest*"))


def test_what_a_killed_import_left_goes_with_the_next_and_one_under_way_is_let_be(store: Store, tmp_path: Path) -> None:
    big = write(tmp_path / "data" / "big.jsonl", [PAIR] * 300_000)
    script = (
        "import sys\nfrom pathlib import Path\nfrom synth.stages.ingest import ingest\n"
        "from synth.store.connection import Store\n"
        "ingest(Store.open(Path(sys.argv[1])), Path(sys.argv[2]), declared_use=None, on_progress=lambda _: None)"
    )
    process = subprocess.Popen([sys.executable, "-c", script, str(store.path), str(big)], cwd=REPOSITORY)
    deadline = time.monotonic() + 60
    while not list(store.path.parent.glob(".ingest-*/0/samples.parquet")):
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.02)
    [under_way] = store.path.parent.glob(".ingest-*")
    small = write(tmp_path / "data" / "small.jsonl", [{"text": "a", "label": "b"}])
    run(store, small)
    assert under_way.exists()
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    run(store, small)
    assert not list(store.path.parent.glob(".ingest-*"))
    assert rows(store, "SELECT name FROM sources") == [("small",)]


def test_a_folder_that_only_looks_like_a_leftover_is_not_followed(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.mkdir()
    (tmp_path / ".ingest-1-link").symlink_to(kept)
    (tmp_path / ".ingest-1-old").mkdir()
    with spool_folder(tmp_path) as folder:
        assert folder.is_dir()
        assert not (tmp_path / ".ingest-1-old").exists()
    assert kept.is_dir()


def test_a_leftover_that_belongs_to_another_user_is_let_be(tmp_path: Path) -> None:
    folder = Path(tempfile.mkdtemp())  # pytest's own is closed to other users
    try:
        folder.chmod(0o777)
        (folder / ".ingest-999-abc").mkdir(mode=0)
        with as_nobody(), spool_folder(folder) as made:
            assert made.is_dir()
        assert [each.name for each in folder.iterdir()] == [".ingest-999-abc"]
    finally:
        shutil.rmtree(folder)


@contextmanager
def as_nobody() -> Iterator[None]:
    """As a user whom the modes of files stop, if these tests are run as root."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        if user == 0:
            os.seteuid(user)


def test_a_spool_holds_every_type_it_is_told_to(tmp_path: Path) -> None:
    each = Spool(tmp_path / "s.parquet", {"place": "int64", "text": "string", "texts": "texts", "score": "double"})
    each.add(1, "a\0b", ["c", "轻舟"], 0.5, characters=4)
    each.add(2, None, [], None, characters=0)
    each.close()
    assert parquet.read_table(tmp_path / "s.parquet").to_pylist() == [
        {"place": 1, "text": "a\0b", "texts": ["c", "轻舟"], "score": 0.5},
        {"place": 2, "text": None, "texts": [], "score": None},
    ]
