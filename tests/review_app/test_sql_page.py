"""The SQL page: what it runs, what it refuses, and what it shows. docs/explore.md and docs/sql.md state the rules."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from pyarrow import parquet
from streamlit.testing.v1 import AppTest

from review_app import sql_page
from review_app.sql_page import as_file, ask, on_screen, questions
from synth.store.connection import Store
from synth.store.console import query
from tests.conftest import REPOSITORY
from tests.review_app.conftest import ShowPage
from tests.review_app.seeding import add_samples
from tests.review_app.test_pages import HOSTILE

Open = Callable[[], AppTest]
RUNAWAY = "SELECT count(*) FROM range(10000000) a, range(10000000) b WHERE a.range * b.range % 7 = 3"
# What may not be done here, each a statement that some database would run.
ATTEMPTS = (
    "DELETE FROM review",
    "INSERT INTO role VALUES ('eve', 'admin', 'eve', now()::TIMESTAMP)",
    "UPDATE sample_state SET status = 'approved'",
    "DROP TABLE review",
    "CREATE TABLE mine AS FROM samples",
    "WITH a AS (INSERT INTO role VALUES ('eve', 'admin', 'eve', now()::TIMESTAMP) RETURNING *) FROM a",
    "EXPLAIN ANALYZE INSERT INTO role VALUES ('eve', 'admin', 'eve', now()::TIMESTAMP)",
    "SELECT 1; DELETE FROM review",
    "SELECT * FROM read_csv('/etc/passwd')",
    "SELECT * FROM read_text('/etc/passwd')",
    "FROM '/etc/passwd'",
    "FROM glob('/*')",
    "COPY (SELECT 1) TO 'out.csv'",
    "EXPORT DATABASE 'out'",
    "ATTACH 'other.duckdb'",
    "INSTALL httpfs",
    "LOAD httpfs",
    "SET enable_external_access = true",
    "PRAGMA disable_optimizer",
    "CHECKPOINT",
    "BEGIN TRANSACTION",
    "CALL pragma_version()",
    "SELECT nextval('s')",
    "SELECT getenv('HOME')",
)


@pytest.fixture
def opened(show_page: ShowPage) -> AppTest:
    """The page on the test's store."""
    return show_page("sql_page")


def run(page: AppTest, sql: str) -> AppTest:
    page.text_area[0].set_value(sql)
    (button,) = [each for each in page.button if each.label == "Run"]
    button.click().run()
    assert not page.exception
    return page


def texts(page: AppTest) -> str:
    return "\n".join(each.value for each in page.text)


@pytest.mark.parametrize("sql", ATTEMPTS)
def test_what_writes_or_reaches_outside_is_refused_in_one_line(store: Store, sql: str) -> None:
    add_samples(store, ["When?"])
    before = store.path.read_bytes()
    answer = ask(store, sql)
    assert answer.result is None
    assert answer.trouble and "\n" not in answer.trouble
    assert store.path.read_bytes() == before


def test_a_runaway_join_is_stopped_when_its_time_is_up(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    assert sql_page.TIMEOUT == 10
    monkeypatch.setattr(sql_page, "TIMEOUT", 1.0)
    assert "ran longer than 1 s and was stopped" in ask(store, RUNAWAY).trouble


def test_a_result_is_shown_with_its_number_of_rows(opened: AppTest, store: Store) -> None:
    add_samples(store, ["When?", "Where?"])
    page = run(opened, "SELECT query, num_negatives FROM samples ORDER BY query")
    assert page.dataframe[0].value.values.tolist() == [["When?", 2], ["Where?", 2]]
    assert "2 rows" in texts(page)
    assert "1 row" in texts(run(page, "SELECT 1 AS one"))


def test_no_more_than_a_thousand_rows_are_shown_and_the_true_number_is_said(opened: AppTest) -> None:
    page = run(opened, "SELECT range AS n FROM range(12345)")
    assert len(page.dataframe[0].value) == 1000
    assert "12,345 rows, of which these are the first 1,000" in texts(page)


def test_an_error_is_told_as_text_and_the_statement_stays(opened: AppTest) -> None:
    page = run(opened, "SELECT nothing FROM nowhere")
    assert page.error[0].value == "There is no result."
    assert "the SQL does not run" in texts(page) and not page.dataframe
    assert page.text_area[0].value == "SELECT nothing FROM nowhere"


def test_every_question_of_the_cookbook_can_be_started_from_and_runs(opened: AppTest, store: Store) -> None:
    page = (REPOSITORY / "docs" / "sql.md").read_text(encoding="utf-8")
    assert len(questions()) == page.count("```sql\n") >= 24
    question, sql = next(iter(questions().items()))
    opened.selectbox[0].select(question).run()
    assert opened.text_area[0].value == sql
    for each in questions().values():
        query(store, each)


def test_hostile_cells_are_text_with_what_is_hidden_named(opened: AppTest, store: Store) -> None:
    add_samples(store, [HOSTILE])
    page = run(opened, f'SELECT query, [query] AS many, 1 AS "{HOSTILE.replace(chr(34), "")}" FROM samples')
    shown = page.dataframe[0].value
    expected = HOSTILE
    for sign in ("\u202e", "\u202c", "\u200b"):
        expected = expected.replace(sign, f"⟨U+{ord(sign):04X}⟩")
    assert shown.iloc[0, 0] == expected
    assert "⟨U+202E⟩" in shown.iloc[0, 1] and "⟨U+202E⟩" in shown.columns[2]
    drawn = "\n".join(each.value for each in (*page.markdown, *page.caption, *page.error))
    assert "attacker" not in drawn


def test_values_of_every_kind_are_shown(store: Store) -> None:
    sql = (
        "SELECT 1 AS n, 0.5::DOUBLE AS x, true AS yes, NULL AS nothing, DATE '2026-01-02' AS day, [1, 2] AS many,"
        " {'a': 'b'} AS one, 'x'::BLOB AS bytes, 1::HUGEINT AS big, uuid() AS id, INTERVAL 2 DAY AS span, MAP {'k': 1}"
        " AS pairs"
    )
    [row] = on_screen(query(store, sql)).to_pylist()
    assert (row["n"], row["x"], row["yes"], row["nothing"]) == (1, 0.5, True, None)
    assert (row["day"], row["many"], row["one"]) == ("2026-01-02", "[1, 2]", '{"a": "b"}')


def test_names_that_look_alike_are_told_apart() -> None:
    table = pyarrow.table({"a\u200b": [1], "a⟨U+200B⟩": [2]})
    assert on_screen(table).column_names == ["a⟨U+200B⟩", "a⟨U+200B⟩ (2)"]


def test_a_file_has_all_rows_and_texts_as_they_are(store: Store) -> None:
    add_samples(store, ["When\u200b?"])
    result = query(store, "SELECT query, range AS n FROM samples, range(1500)")
    found = parquet.read_table(io.BytesIO(as_file(result, "parquet")))
    assert (found.num_rows, found["query"][0].as_py()) == (1500, "When\u200b?")
    lines = as_file(result, "csv").decode().splitlines()
    assert (len(lines), lines[0], lines[1].split(",")[0]) == (1501, "query,n", "When\u200b?")


def test_what_is_plain_hides_nothing() -> None:
    from review_app.segments import visible

    plain = [chr(code) for code in range(0x11000) if sql_page.PLAIN.fullmatch(chr(code))]
    assert [sign for sign in plain if visible(sign) != sign] == []


def test_the_page_offers_files_of_the_result(opened: AppTest) -> None:
    page: Any = run(opened, "SELECT 1 AS one")
    assert [each.label for each in page.get("download_button")] == ["Save as CSV", "Save as Parquet"]
    assert Path(sql_page.__file__).with_name("cookbook.md").is_file()
