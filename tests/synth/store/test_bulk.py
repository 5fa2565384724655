"""Bulk writes: what Python and SQL call the same is the same, content once, labelled negatives as rows of their own."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pyarrow
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from synth.records import (
    Classification,
    Content,
    Draft,
    Retrieval,
    Source,
    StoreError,
    Sts,
    Task,
    Use,
    UserError,
    content_hash,
    key_of,
    new_id,
    normalise,
    text_id,
)
from synth.store import bulk, migrate, samples, sources
from synth.store.bulk import Added, add_passage_rows, add_rows
from synth.store.connection import Store
from synth.store.console import query

# White space of every kind, marks that compose or reorder, jamo, separators, and characters that Unicode added late.
NASTY = st.text(
    st.one_of(
        st.sampled_from(" \t\n\0\x1c\x1d\x1e\x1f\x85\xa0\u1680\u2003\u2028\u3000\u200b\ufeff"),
        st.sampled_from(
            "aeK\u00e9\u0301\u0323\u0345\u0338\u212b\u1100\u1161\u11a8\uac00\u0958\u2126\u037e\uff76\uff9e"
        ),
        st.sampled_from("\u0897\u1acf\U00010efd\U00011f41\U0001e4ec\U0001e08f\U00011099\U000110ba\U0001d15e\U0002f800"),
        st.characters(exclude_categories=["Cs"]),
    ),
    max_size=12,
)
CONTENT: st.SearchStrategy[Content] = st.one_of(
    st.builds(Retrieval, NASTY, st.lists(NASTY, max_size=3).map(tuple), NASTY),
    st.builds(Sts, NASTY, NASTY, st.floats() | st.integers(-9, 9).map(float), NASTY),
    st.builds(Classification, NASTY, NASTY, NASTY),
)
TASKS = {Retrieval: "retrieval", Sts: "sts", Classification: "classification"}


@pytest.fixture(scope="module")
def macros(tmp_path_factory: pytest.TempPathFactory) -> Iterator[duckdb.DuckDBPyConnection]:
    """A lease on an empty store, for the macros in it."""
    with Store.create(tmp_path_factory.mktemp("macros") / "store.duckdb").read() as cursor:
        yield cursor


@given(st.lists(NASTY, min_size=1, max_size=30))
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@example(["", " ", "\0", "a\0\u0301", "\u3000a \u2003b\u0301 ", "\u0301", " \u0301"])
def test_sql_and_python_agree_on_every_text(macros: duckdb.DuckDBPyConnection, texts: list[str]) -> None:
    macros.register("given", pyarrow.table({"text": texts}))
    found = macros.execute("SELECT text, normalised(text), text_id_of(text) FROM given").fetchall()
    macros.unregister("given")
    assert found == [(text, normalise(text), text_id(text)) for text in texts]


def test_however_many_marks_a_text_has_it_is_stored_in_time(store: Store) -> None:
    many = "a" + "\u0315" * 150_000 + "\u0300" * 150_000
    source = Source("marks", "corpus", Use.TRAIN, "documents", "a test", "CC0-1.0", "1")
    texts = ["plain", many, None]
    with store.write() as cursor:
        sources.add_source(cursor, source, new_id())
        rows = pyarrow.table({"text": texts[:2], "title": texts[1:]})
        assert add_passage_rows(cursor, rows, source_id=source.source_id) == 2
        rows = pyarrow.table({"query": ["plain"], "positives": [["plain", many]]})
        assert add_rows(cursor, Task.RETRIEVAL, rows, source_id=source.source_id, run_id=new_id()).num_new == 1
    found = query(store, "SELECT text_id, text FROM passages ORDER BY length(text)").to_pylist()
    assert found == [{"text_id": str(text_id(text)), "text": normalise(text)} for text in ("plain", many)]
    assert query(store, "SELECT positives FROM samples").to_pylist() == [{"positives": ["plain", normalise(many)]}]


def test_every_character_between_marks_is_the_same_in_sql(macros: duckdb.DuckDBPyConnection) -> None:
    codes = [*range(0xD800), *range(0xE000, 0x20000), *range(0x2F800, 0x2FA20)]  # beyond are ideographs and nothing
    texts = [f"a{chr(code)}\u0301 q\u0345{chr(code)}\u0323" for code in codes]
    macros.register("given", pyarrow.table({"text": texts, "python": [normalise(text) for text in texts]}))
    wrong = macros.execute("SELECT text FROM given WHERE normalised(text) <> python").fetchall()
    macros.unregister("given")
    assert wrong == []


@given(st.lists(CONTENT, min_size=1, max_size=20))
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@example(
    [Sts("a", "b", 0.0), Sts("a", "b", -0.0), Sts("a", "b", float("-nan")), Sts("a", "b", 1e22), Sts("a", "b", 0.1)]
)
@example([Retrieval("", ()), Retrieval("", ("",)), Retrieval("q", ("a\x1eb", "\x1fc"))])
def test_sql_and_python_agree_on_every_content(macros: duckdb.DuckDBPyConnection, contents: list[Content]) -> None:
    names = ("instruction", "query", "positives", "text1", "text2", "score", "text", "label")
    columns: dict[str, list[Any]] = {name: [getattr(each, name, None) for each in contents] for name in names}
    types = {"positives": pyarrow.list_(pyarrow.string()), "score": pyarrow.float64()}
    table = {name: pyarrow.array(column, types.get(name, pyarrow.string())) for name, column in columns.items()}
    macros.register("given", pyarrow.table({"task": [TASKS[type(each)] for each in contents]} | table))
    found = macros.execute(f"SELECT content_hash_of(task, {', '.join(names)}) FROM given").fetchall()
    macros.unregister("given")
    assert [value for (value,) in found] == [content_hash(each) for each in contents]


def add(store: Store, source: Source, rows: list[dict[str, Any]], task: Task = Task.RETRIEVAL) -> Added:
    with store.write() as cursor:
        table = pyarrow.Table.from_pylist(rows)
        return add_rows(cursor, task, table, source_id=source.source_id, run_id=new_id())


ROWS = [
    {"query": "what purrs?", "positives": ["A cat purrs."], "negatives": ["A dog barks.", "A cow moos."]},
    {"query": "what barks?", "positives": ["A dog barks."], "negatives": ["A cow moos."]},
    {"query": "what  barks?", "positives": ["A dog\nbarks."], "negatives": ["A duck quacks."]},
]


def test_rows_are_stored_once_with_their_labelled_negatives(store: Store, training_source: Source) -> None:
    assert add(store, training_source, ROWS) == Added(num_new=2, num_known=1)
    assert add(store, training_source, ROWS) == Added(num_new=0, num_known=3)
    rows = query(store, "SELECT query, text, origin, rank, score FROM negatives ORDER BY query, text").to_pylist()
    assert [(row["query"], row["text"]) for row in rows] == [
        ("what barks?", "A cow moos."),
        ("what purrs?", "A cow moos."),
        ("what purrs?", "A dog barks."),
    ]
    assert {(row["origin"], row["rank"], row["score"]) for row in rows} == {("labelled", None, None)}
    assert query(store, "FROM text").num_rows == 2


def test_a_negative_that_is_blank_or_an_answer_is_left_out_and_repeated_ones_count_once(
    store: Store, training_source: Source
) -> None:
    negatives = [" A  cat purrs.", "what purrs?", "", "\n", "A dog barks.", "A dog\tbarks."]
    add(store, training_source, [{"query": "what purrs?", "positives": ["A cat purrs."], "negatives": negatives}])
    assert query(store, "SELECT text_id::VARCHAR AS t FROM negative").to_pylist() == [
        {"t": str(text_id("A dog barks."))}
    ]
    assert query(store, "SELECT num_negatives FROM samples").to_pylist() == [{"num_negatives": 1}]


@pytest.mark.parametrize(
    ("task", "row"),
    [
        (Task.RETRIEVAL, ROWS[0] | {"instruction": "find", "external_id": "7"}),
        (Task.RETRIEVAL, {"query": "q", "positives": ["p"], "negatives": None}),
        (Task.STS, {"text1": "a", "text2": "b", "score": 3}),
        (Task.CLASSIFICATION, {"text": "a", "label": "b", "instruction": None}),
    ],
)
@pytest.mark.parametrize("declared_use", list(Use))
def test_the_state_of_new_samples_is_what_the_logs_say(
    store: Store, task: Task, row: dict[str, Any], declared_use: Use
) -> None:
    source = Source("s", "x", declared_use, "retrieval", "a test", "CC0-1.0", "1")
    with store.write() as cursor:
        sources.add_source(cursor, source, new_id())
    assert add(store, source, [row], task).num_new == 1
    assert samples.rebuild_state(store) == 0
    assert query(store, "SELECT status FROM samples").to_pylist() == [{"status": "pending"}]


def test_a_row_and_a_draft_of_the_same_content_are_the_same_sample(store: Store, training_source: Source) -> None:
    drafts = [
        Draft(
            Retrieval("what purrs?", ("A cat purrs.",)),
            training_source.source_id,
            "query",
            model="m",
            call_id=key_of(1),
        ),
        Draft(Sts("a", "b", 1), training_source.source_id, "ingest", seed_id=text_id("s"), external_id="e"),
    ]
    with store.write() as cursor:
        assert samples.add_drafts(cursor, drafts, new_id()) == 2
    assert add(store, training_source, ROWS[:1]) == Added(0, 1)
    assert add(store, training_source, [{"text1": "a", "text2": "b", "score": 1.0}], Task.STS) == Added(0, 1)
    columns = "actor, model, call_id = uuid '{}' AS called, external_id, seed_id = uuid '{}' AS seeded, number"
    columns = columns.format(key_of(1), text_id("s"))
    found = query(store, f"SELECT {columns} FROM revision ORDER BY task").to_pylist()
    assert [tuple(row.values()) for row in found] == [("m", "m", True, "", None, 1), ("ingest", "", None, "e", True, 1)]


def test_what_python_hashed_is_found_in_the_store(store: Store, training_source: Source) -> None:
    add(store, training_source, ROWS)
    hashes = {content_hash(Retrieval(row["query"], tuple(row["positives"]))) for row in ROWS}
    with store.read() as cursor:
        assert {value for (value,) in cursor.execute("SELECT content_hash FROM revision").fetchall()} == hashes


def test_the_first_of_equal_passages_counts_and_one_of_the_corpus_is_not_new(
    store: Store, training_source: Source
) -> None:
    rows = pyarrow.table({"text": ["t\nx", "t x", "u"], "title": ["t", "", None], "external_id": ["1", "2", "3"]})
    with store.write() as cursor:
        assert add_passage_rows(cursor, rows, source_id=training_source.source_id) == 2
        assert add_passage_rows(cursor, rows.select(["text"]), source_id=training_source.source_id) == 0
        assert add_passage_rows(cursor, rows.select(["text"]), source_id=key_of("another")) == 2
    found = query(store, "SELECT title, text, external_id FROM passages ORDER BY external_id").to_pylist()
    assert [tuple(row.values()) for row in found] == [("t", "t\nx", "1"), ("", "u", "3")]
    assert query(store, "FROM text").num_rows == 2


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"query": ["q"]}, "the column positives is missing"),
        ({"query": [None], "positives": [["p"]]}, "query holds a null"),
        ({"query": ["q"], "positives": [["p", None]]}, "a list of positives holds a null"),
        ({"query": ["q"], "positives": [["p"]], "negative": ["n"]}, "no use for the column negative"),
    ],
)
def test_rows_that_cannot_be_samples_are_one_line_and_store_nothing(
    store: Store, training_source: Source, columns: dict[str, list[Any]], message: str
) -> None:
    with pytest.raises(UserError, match=message), store.write() as cursor:
        table = pyarrow.table(columns)
        add_rows(cursor, Task.RETRIEVAL, table, source_id=training_source.source_id, run_id=new_id())
    assert query(store, "FROM revision").num_rows == 0


def test_rows_of_a_source_that_is_not_there_are_refused(store: Store) -> None:
    with pytest.raises(StoreError, match="no source"), store.write() as cursor:
        add_rows(cursor, Task.RETRIEVAL, pyarrow.Table.from_pylist(ROWS), source_id=new_id(), run_id=new_id())


def test_what_went_wrong_is_not_hidden_by_what_comes_after_it(store: Store, training_source: Source) -> None:
    row = {"query": "q", "positives": ["p"], "seed_id": "no id"}
    with pytest.raises(duckdb.ConversionException, match="no id"):
        add(store, training_source, [row])
    assert add(store, training_source, ROWS) == Added(2, 1)


def test_several_chunks_and_no_rows_are_stored_alike(
    store: Store, training_source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk, "CHUNK", 7)
    rows = [{"query": f"query {n % 40}?", "positives": [f"answer {n % 40}"]} for n in range(100)]
    assert add(store, training_source, rows) == Added(40, 60)
    with store.write() as cursor:
        empty = pyarrow.Table.from_pylist(rows).slice(0, 0)
        assert add_rows(cursor, Task.RETRIEVAL, empty, source_id=training_source.source_id, run_id=new_id()) == Added(
            0, 0
        )


def test_the_ids_of_an_older_store_are_recomputed(tmp_path: Path) -> None:
    path = tmp_path / "store.duckdb"
    old = [key_of(n) for n in range(3)]
    with duckdb.connect(path) as connection:
        connection.execute(
            "CREATE TABLE schema_migration (number INT, name VARCHAR, checksum VARCHAR, applied_at TIMESTAMP)"
        )
        for each in migrate.history()[:2]:
            connection.execute(each.sql)
            row = [each.number, each.name, each.checksum]
            connection.execute("INSERT INTO schema_migration VALUES (?, ?, ?, now()::TIMESTAMP)", row)
        connection.execute("INSERT INTO source (source_id, name, declared_use) VALUES (?, 's', 'train')", [old[0]])
        for ident, text in zip(old, ("a\0b", "a b", "c"), strict=True):
            connection.execute("INSERT INTO text VALUES (?, ?, now()::TIMESTAMP)", [ident, text])
            connection.execute("INSERT INTO passage VALUES (?, ?, '', ?)", [old[0], ident, text])
            connection.execute("INSERT INTO negative (text_id) VALUES (?)", [ident])
            connection.execute("INSERT INTO generated (text_id) VALUES (?)", [ident])
        connection.execute(
            "INSERT INTO revision (revision_id, content_hash, task, instruction, text1, text2, score, seed_id)"
            " VALUES (uuid(), uuid(), 'sts', '', 'x', 'y', 2, ?)",
            [old[2]],
        )
    store = Store.open(path)
    with store.read() as cursor:
        both = sorted([text_id("a b"), text_id("c")])
        assert [each for (each,) in cursor.execute("SELECT text_id FROM text ORDER BY 1").fetchall()] == both
        assert [each for (each,) in cursor.execute("SELECT text_id FROM passage ORDER BY 1").fetchall()] == both
        assert len(cursor.execute("FROM negative SEMI JOIN text USING (text_id)").fetchall()) == 3
        assert len(cursor.execute("FROM generated g SEMI JOIN text t ON t.text_id = g.seed_id").fetchall()) == 3
        [row] = cursor.execute("SELECT content_hash, seed_id FROM revision").fetchall()
    assert row == (content_hash(Sts("x", "y", 2)), text_id("c"))
