"""SQL for people: everything can be read, nothing else can be done."""

import csv
import io
import json
from pathlib import Path

import duckdb
import pytest
from pyarrow import parquet

from synth.records import Draft, Retrieval, Source, StoreError, UserError, new_id
from synth.store import samples
from synth.store.connection import Store
from synth.store.console import query, write_result

VIEWS = ("sources", "passages", "samples", "negatives", "reviews", "runs", "releases", "lineage")


@pytest.mark.parametrize("view", VIEWS)
def test_every_documented_view_answers(store: Store, view: str) -> None:
    assert query(store, f"FROM {view}").num_rows == 0


@pytest.mark.parametrize("sql", ["DESCRIBE samples", "SUMMARIZE runs", "SHOW TABLES", "EXPLAIN FROM runs", "SELECT 1;"])
def test_statements_that_read_are_run(store: Store, sql: str) -> None:
    assert query(store, sql).num_rows > 0


@pytest.mark.parametrize(
    "sql",
    [
        "DELETE FROM source",
        "WITH gone AS (DELETE FROM source RETURNING *) FROM gone",
        "EXPLAIN ANALYZE DELETE FROM source",
        "SELECT 1; DELETE FROM source",
        "DROP TABLE source",
        "ATTACH 'other.duckdb'",
        "COPY source TO 'stolen.csv'",
        "INSTALL httpfs",
        "SET enable_external_access = true",
        "SELECT * FROM read_csv('/etc/passwd')",
        "SELECT * FROM read_text('/etc/passwd')",
        "SELECT * FROM glob('/*')",
        "SELECT * FROM '/etc/passwd'",
        "PRAGMA database_list",
        "",
    ],
)
def test_nothing_can_be_written_or_read_outside(store: Store, training_source: Source, sql: str) -> None:
    with pytest.raises(UserError):
        query(store, sql)
    assert query(store, "FROM sources").num_rows == 1


def test_columns_of_one_name_are_all_kept(store: Store) -> None:
    assert query(store, "SELECT 1 AS a, 2 AS a, 3 AS a").to_pylist() == [{"a": 1, "a_1": 2, "a_2": 3}]


def test_variables_of_this_process_are_out_of_reach(store: Store) -> None:
    import pyarrow

    secret = pyarrow.table({"key": ["sk-123"]})
    with pytest.raises(UserError, match="secret"):
        query(store, "SELECT * FROM secret")
    assert secret.num_rows == 1


def test_a_query_that_runs_too_long_is_stopped(store: Store) -> None:
    with pytest.raises(StoreError, match="longer than"):
        query(store, "SELECT count(*) FROM range(100000000000) a, range(1000) b", timeout=0.3)


@pytest.fixture
def with_a_sample(store: Store, training_source: Source) -> Store:
    """A store with one sample whose texts try to break every format."""
    content = Retrieval('a "quoted", query\n=1+1', ("first", "second; DROP"))
    with store.write() as cursor:
        samples.add_drafts(cursor, [Draft(content, training_source.source_id, "query")], new_id())
    return store


def test_csv_and_json_carry_the_texts_unchanged(with_a_sample: Store, capsys: pytest.CaptureFixture[str]) -> None:
    result = query(with_a_sample, "SELECT query, positives, sample_id FROM samples")
    write_result(result, "csv", None)
    [row] = csv.DictReader(io.StringIO(capsys.readouterr().out))
    assert (row["query"], json.loads(row["positives"])) == ('a "quoted", query\n=1+1', ["first", "second; DROP"])
    write_result(result, "json", None)
    [row] = json.loads(capsys.readouterr().out)
    assert row["positives"] == ["first", "second; DROP"]


def test_parquet_goes_to_a_file_that_duckdb_can_read(with_a_sample: Store, tmp_path: Path) -> None:
    result = query(with_a_sample, "SELECT query, positives FROM samples")
    write_result(result, "parquet", tmp_path / "out.parquet")
    assert duckdb.sql(f"SELECT positives[2] FROM '{tmp_path}/out.parquet'").fetchall() == [("second; DROP",)]
    assert parquet.read_table(tmp_path / "out.parquet").num_rows == 1
    with pytest.raises(UserError, match="--output"):
        write_result(result, "parquet", None)
    with pytest.raises(UserError, match="cannot be written"):
        write_result(result, "json", tmp_path / "missing" / "out.json")
