"""Folders as people keep them: one corpus of documents at any depth, and a word on whatever is not read."""

from pathlib import Path

import pytest

from synth.records import UserError
from synth.stages.ingest import Outcome, read_checked, store_checked
from synth.stages.layouts import Described
from synth.store.connection import Store
from synth.store.console import query
from synth.workspace import Workspace
from tests.conftest import SAMPLE

PAIR = '{"text1": "a", "text2": "b", "score": 1}\n'


def run(store: Store, path: Path, **given: str) -> Outcome:
    with read_checked(store, path, declared_use=None, on_progress=lambda _: None, given=Described(**given)) as checked:  # type: ignore[arg-type]
        return store_checked(store, checked, on_progress=lambda _: None)


def pages(store: Store) -> list[tuple[str, str]]:
    found = query(store, "SELECT source, external_id FROM passages ORDER BY ALL").to_pylist()
    return [(row["source"], row["external_id"]) for row in found]


def fill(root: Path, *names: str) -> Path:
    """Write pages and tables; every page says something of its own."""
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(PAIR if path.suffix == ".jsonl" else f"# Title\n\nThe text of {name}, to be read.\n")
    return root


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A documentation folder with pages of one name in several folders."""
    return fill(tmp_path / "tree", "r.md", "a/img/p.md", "b/img/p.md", "c/P.MD")


IDS = ["a/img/p.md#1", "b/img/p.md#1", "c/P.MD#1", "r.md#1"]


def test_all_documents_below_a_folder_are_one_set_of_its_name(store: Store, tree: Path) -> None:
    outcome = run(store, tree)
    assert pages(store) == [("tree", each) for each in IDS]
    assert [(r.name, r.kind, r.num_passages) for r in outcome.sources] == [("tree", "documents", 4)]
    assert outcome.notes == []
    run(store, tree, name="handbook")
    assert pages(store)[:4] == [("handbook", each) for each in IDS]


def test_an_entry_for_the_folder_itself_is_all_of_it_but_what_other_entries_name(store: Store, tree: Path) -> None:
    fill(tree, "b/pairs.jsonl", "c/pairs.jsonl", "d/q.md")
    (tree / "sources.toml").write_text(
        '["."]\nname = "handbook"\n["b"]\nname = "part"\n["b/pairs.jsonl"]\n["d/q.md"]\nname = "q"\n'
    )
    outcome = run(store, tree)
    kept = [("handbook", each) for each in IDS if not each.startswith("b")]
    assert pages(store) == [*kept, ("part", "img/p.md#1"), ("q", "q.md#1")]
    assert [r.name for r in outcome.sources] == ["handbook", "part", "pairs", "q"]
    assert outcome.notes == [f"{tree}: 1 file is part of no entry of sources.toml (c/pairs.jsonl)"]


def test_data_sets_among_documents_stay_sets_of_their_own_with_what_lies_in_them(store: Store, tree: Path) -> None:
    fill(tree, "a/pairs.jsonl", "zoo/qrels/notes.md", "zoo/page.md", "zoo/README.md", ".git/x.md", ".x.md")
    for name in ("corpus", "queries"):
        (tree / "zoo" / f"{name}.jsonl").write_text('{"_id": "1", "text": "cat"}\n')
    (tree / "zoo" / "qrels" / "train.tsv").write_text("1\t1\t1\n")
    (tree / "loop").symlink_to(tree)
    outcome = run(store, tree)
    assert [r.name for r in outcome.sources] == ["tree", "pairs", "zoo", "zoo"]
    assert [each for source, each in pages(store) if source == "tree"] == IDS
    assert outcome.notes == [
        f"{tree}: 2 files are left out: in a retrieval set's folder and no part of it (zoo/page.md, zoo/qrels/notes.md)"
    ]


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (["README.md", "a/p.md"], ["README.md#1", "a/p.md#1"]),
        (["a/README.md", "b/p.md", "b/pairs.jsonl"], ["a/README.md#1", "b/p.md#1"]),
        (["README.md", "a/p.md", "b/pairs.jsonl"], ["a/p.md#1"]),
        (["README.md", "p.md", "pairs.jsonl"], ["README.md#1", "p.md#1"]),
        (["README.md", "b/LICENSE.txt", "b/pairs.jsonl"], []),
    ],
)
def test_a_readme_is_a_page_unless_it_tells_of_data_sets(
    store: Store, tmp_path: Path, names: list[str], found: list[str]
) -> None:
    outcome = run(store, fill(tmp_path / "tree", *names))
    assert [each for _, each in pages(store)] == found
    assert outcome.notes == []


def test_readmes_alone_are_nothing_to_ingest(store: Store, tmp_path: Path) -> None:
    fill(tmp_path / "tree", "README.md", "a/CHANGELOG.md", "b.pdf")
    with pytest.raises(UserError, match=r"here can be read; 1 file is of no kind that is read \(1 \.pdf\); see"):
        run(store, tmp_path / "tree")


def test_files_of_no_kind_that_is_read_are_counted_by_suffix(store: Store, tree: Path) -> None:
    fill(tree, "x.pdf", "a/y.pdf", "z.docx", "Makefile", ".hidden", ".git/config.ini", "LICENSE.txt")
    (tree / "package.json").write_text('{\n "name": "x"\n}\n')
    [note] = run(store, tree).notes
    assert note == f"{tree}: 5 files are of no kind that is read (2 .pdf, 1 .docx, 1 .json, 1 without a suffix)"
    fill(tree, *(f"f.{number}" for number in range(9)))
    [note, _] = run(store, tree).notes
    assert note.endswith("14 files are of no kind that is read (2 .pdf, 1 .0, 1 .1, 1 .2, 1 .3 and 8 more)")


def test_documents_without_text_are_named_up_to_a_few(store: Store, tree: Path) -> None:
    (tree / "a" / "title.md").write_text("# Only a title\n")
    assert run(store, tree).notes == ["tree: 1 document holds no text but headings, and gave no passage: a/title.md"]
    for number in range(5):
        (tree / f"e{number}.txt").touch()
    [note, *_] = run(store, tree).notes
    assert note.endswith(
        " 6 documents hold no text but headings, and gave no passage: e0.txt, e1.txt, e2.txt and 3 more"
    )


def test_the_bundled_data_leaves_nothing_unread(store: Store) -> None:
    assert not [note for note in run(store, SAMPLE).notes if str(SAMPLE) in note]


def test_a_workspace_in_the_folder_is_passed_over_and_said_to_be(store: Store, tree: Path) -> None:
    other = Workspace.create(tree / "b" / "w")
    fill(other.root, "releases/r1/pairs.jsonl", "mine.md")
    outcome = run(store, tree)
    assert pages(store) == [("tree", each) for each in IDS]
    assert outcome.notes == [f"{tree}: 1 Skiff workspace is passed over (b/w)"]


def test_of_a_folder_that_is_a_workspace_what_the_workspace_keeps_is_passed_over(tree: Path) -> None:
    home = Workspace.create(tree)
    fill(tree, "releases/r1/pairs.jsonl", "models/m/README.md", "journal/x.jsonl", "ingest-report-1.jsonl")
    outcome = run(home.store, tree)
    assert pages(home.store) == [("tree", each) for each in IDS]
    assert outcome.notes == [f"{tree}: this folder is a Skiff workspace; what it keeps itself is passed over"]
