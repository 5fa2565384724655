"""SQL for people: everything can be read, nothing else can be done."""

import csv
import fcntl
import io
import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import duckdb
import pyarrow
import pytest
from pyarrow import parquet

from synth.records import Draft, Retrieval, Source, StoreError, UserError, new_id
from synth.store import samples
from synth.store.connection import Store
from synth.store.console import query, query_apart, refuse_output, rows_of, write_result


@pytest.mark.parametrize(
    "sql",
    [
        *(
            "DESCRIBE samples",
            "SUMMARIZE runs",
            "SHOW TABLES",
            "SELECT 1;",
            "TABLE schema_migration",
            "VALUES (1)",
        ),
        *(
            "EXPLAIN FROM runs",
            "explain (FORMAT json) FROM runs",
            "-- why?\nEXPLAIN ANALYZE SELECT 1",
            "EXPLAIN (SELECT 1)",
        ),
        "WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t WHERE n < 9) FROM t",
        "SELECT * FROM query('SELECT 1')",
    ],
)
def test_statements_that_read_are_run(store: Store, sql: str) -> None:
    assert query(store, sql).num_rows > 0


@pytest.mark.parametrize(
    "sql",
    [
        "DELETE FROM source",
        "WITH gone AS (DELETE FROM source RETURNING *) FROM gone",
        "WITH gone AS (UPDATE source SET name = 'x' RETURNING *) FROM gone",
        "WITH more AS (INSERT INTO source FROM source RETURNING *) FROM more",
        "SELECT * FROM query('DELETE FROM source')",
        "EXPLAIN ANALYZE DELETE FROM source",
        "EXPLAIN ANALYZE COPY source TO '{store}.wal'",
        "EXPLAIN ANALYZE COPY source TO '{store}' (USE_TMP_FILE false)",
        "EXPLAIN (ANALYZE, FORMAT json) COPY source TO '{store}.wal'",
        "EXPLAIN ANALYZE /* /* */ SELECT 1 -- */ COPY source TO '{store}.wal'",
        "EXPLAIN ANALYZE CREATE TEMP TABLE t AS FROM range(9)",
        "EXPLAIN COPY source TO 'stolen.csv'",
        "EXPLAIN WITH gone AS (DELETE FROM source RETURNING *) FROM gone",
        "SELECT 1; DELETE FROM source",
        "SELECT 1 /* ; */; DELETE FROM source",
        "DROP TABLE source",
        "TRUNCATE source",
        "ALTER TABLE source DROP COLUMN name",
        "COMMENT ON TABLE source IS 'x'",
        "MERGE INTO source USING source o ON true WHEN MATCHED THEN DELETE",
        "PIVOT source ON name USING count(*)",
        "CREATE TEMP TABLE t AS SELECT 1",
        "CREATE SECRET (TYPE s3)",
        "ATTACH 'other.duckdb'",
        "ATTACH '{store}' AS again",
        "DETACH store",
        "USE memory",
        "COPY source TO 'stolen.csv'",
        "COPY FROM DATABASE store TO memory",
        "EXPORT DATABASE 'stolen'",
        "IMPORT DATABASE 'stolen'",
        "CALL pragma_version()",
        "CHECKPOINT",
        "VACUUM",
        "BEGIN",
        "PREPARE p AS SELECT 1",
        "UPDATE EXTENSIONS",
        "INSTALL httpfs",
        "LOAD httpfs",
        "RESET lock_configuration",
        "SET VARIABLE a = 1",
        "FROM enable_logging()",
        "FROM enable_profiling()",
        "SELECT getenv('HOME')",
        "FROM read_blob('/etc/passwd')",
        "FROM read_json('/etc/passwd')",
        "FROM read_parquet('/etc/passwd')",
        "FROM parquet_metadata('/etc/passwd')",
        "FROM sniff_csv('/etc/passwd')",
        "FROM query('FROM read_text(''/etc/passwd'')')",
        "FROM query_table('/etc/passwd')",
        "FROM json_execute_serialized_sql(json_serialize_sql('FROM read_text(''/etc/passwd'')'))",
        "FROM '/proc/self/environ'",
        "FROM 'http://127.0.0.1/x.csv'",
        "DESCRIBE FROM '/etc/passwd'",
        "SUMMARIZE '/etc/passwd'",
        "SET enable_external_access = true",
        "SELECT * FROM read_csv('/etc/passwd')",
        "SELECT * FROM read_text('/etc/passwd')",
        "SELECT * FROM glob('/*')",
        "SELECT * FROM '/etc/passwd'",
        "PRAGMA database_list",
        "PRAGMA memory_limit = '1TB'",
        "-- nothing",
        ";;",
        "",
    ],
)
def test_nothing_can_be_written_or_read_outside(
    store: Store, training_source: Source, monkeypatch: pytest.MonkeyPatch, sql: str
) -> None:
    folder = store.path.parent
    monkeypatch.chdir(folder)
    before = {path: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(UserError) as refused:
        query(store, sql.replace("{store}", str(store.path)))
    assert "\n" not in str(refused.value)
    assert {path: path.read_bytes() for path in folder.iterdir()} == before
    assert query(store, "FROM sources").num_rows == 1


@pytest.mark.parametrize("bomb", ["(" * 3000 + "1" + ")" * 3000, "+".join(["1"] * 20_000), "NOT " * 20_000 + "true"])
def test_a_statement_that_nests_without_end_is_the_users_error(store: Store, bomb: str) -> None:
    with pytest.raises(UserError, match="expression depth"):
        query_apart(store, f"SELECT {bomb}", timeout=60)


@pytest.mark.parametrize(
    "bomb",
    [
        "WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t) SELECT max(n) FROM t",
        "SELECT range(1000000000)",
        "SELECT count(*) FROM range(100000) a, range(100000) b, range(100000) c",
    ],
)
def test_a_query_without_end_ends(store: Store, bomb: str) -> None:
    with pytest.raises(StoreError, match=r"longer than|memory"):
        query_apart(store, bomb, timeout=1)


def test_columns_of_one_name_are_all_kept(store: Store) -> None:
    assert query(store, "SELECT 1 AS a, 2 AS a, 3 AS a").to_pylist() == [{"a": 1, "a_1": 2, "a_2": 3}]


def test_variables_of_this_process_are_out_of_reach(store: Store) -> None:
    secret = pyarrow.table({"key": ["sk-123"]})
    with pytest.raises(UserError, match="secret"):
        query(store, "SELECT * FROM secret")
    assert secret.num_rows == 1


def test_a_query_that_runs_too_long_is_stopped(store: Store) -> None:
    with pytest.raises(StoreError, match="longer than"):
        query(store, "SELECT count(*) FROM range(100000000000) a, range(1000) b", timeout=0.3)


# One call of a function, in which DuckDB does not look whether it was interrupted; hours of work.
ENDLESS = "SELECT levenshtein(repeat('a', 2000000), repeat('b', 2000000))"


def test_a_query_apart_gives_what_a_query_here_gives(store: Store, training_source: Source) -> None:
    sql = "SELECT name, created_at, [1, NULL] AS a, 1::HUGEINT AS a, '1 day'::INTERVAL, {} FROM sources;"
    assert query_apart(store, sql, timeout=60).equals(query(store, sql))


def test_a_query_apart_ends_in_time_whatever_it_does_and_lets_the_store_go(store: Store) -> None:
    with pytest.raises(StoreError, match=r"longer than 0\.5 s"):
        query_apart(store, ENDLESS, timeout=0.5)
    with (store.path.parent / "store.duckdb.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)


@pytest.mark.parametrize("sql", ["SELEC 1", "DROP TABLE source", "", "SELECT * FROM '/etc/passwd'"])
def test_a_wrong_statement_is_the_users_error_apart_too(store: Store, sql: str) -> None:
    with pytest.raises(UserError) as here:
        query(store, sql)
    with pytest.raises(UserError) as apart:
        query_apart(store, sql, timeout=60)
    assert str(apart.value) == str(here.value)


@pytest.mark.parametrize("timeout", [0, -1, 1e6, float("inf"), float("nan")])
def test_a_timeout_that_cannot_be_kept_is_refused(store: Store, timeout: float) -> None:
    with pytest.raises(UserError, match="cannot be kept"):
        query_apart(store, "SELECT 1", timeout=timeout)


def test_a_locked_store_is_a_failure_apart_too(store: Store) -> None:
    store.lock_timeout = 0.2
    with (store.path.parent / "store.duckdb.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(StoreError, match="another process has kept the store"):
            query_apart(store, "SELECT 1", timeout=60)


def test_a_result_that_is_too_large_is_refused(store: Store) -> None:
    with pytest.raises(StoreError, match="1024 are the most"):
        query_apart(store, "SELECT repeat('a', 1000000) || i FROM range(1200) t(i)", timeout=60)


def test_a_query_that_takes_more_than_its_share_of_memory_is_a_failure(store: Store) -> None:
    script = (
        "import resource, pathlib, sys\n"
        "resource.setrlimit(resource.RLIMIT_AS, (3 << 30, 3 << 30))\n"
        "from synth.store import connection, console\n"
        "console.query_apart(connection.Store(pathlib.Path(sys.argv[1])), sys.argv[2], timeout=60)\n"
    )
    sql = "SELECT list(repeat('x', 1000000) || i) FROM range(1000000) t(i)"
    done = subprocess.run([sys.executable, "-c", script, store.path, sql], capture_output=True, text=True, check=False)
    assert done.stderr.endswith("StoreError: the query needs more memory than it may take; narrow it\n")


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("'infinity'::TIMESTAMP", "infinity"),
        ("'-infinity'::TIMESTAMPTZ", "-infinity"),
        ("'290000-01-01'::DATE", "290000-01-01"),
        ("'290000-01-01'::TIMESTAMP_S", "290000-01-01 00:00:00"),
        ("TIMESTAMP '2026-11-21 08:00:00.5'", "2026-11-21 08:00:00.5"),
        ("'1 year 2 days'::INTERVAL", "1 year 2 days"),
        ("union_value(a := 1)", "1"),
        ("'\\xFF'::BLOB", "\\xFF"),
        ("{}", {}),
        ("['-infinity'::DATE, NULL]", ["-infinity", None]),
        ("['infinity'::DATE]::DATE[1]", ["infinity"]),
        ("{'a b\"': 'infinity'::DATE, 'n': [1.5::DOUBLE], 'e': {}}", {'a b"': "infinity", "n": [1.5], "e": {}}),
        ("MAP {'k': 'infinity'::DATE}", [("k", "infinity")]),
        ("NULL", None),
    ],
)
def test_a_value_that_python_cannot_hold_is_shown_as_text(store: Store, value: str, shown: object) -> None:
    result = query(store, f"SELECT {value} AS a, 7 AS a")
    assert rows_of(result) == [{"a": shown, "a_1": 7}]
    for output_format in ("csv", "json"):
        write_result(result, output_format, None)


def test_a_type_that_parquet_does_not_know_is_one_line_and_leaves_nothing(store: Store, tmp_path: Path) -> None:
    result = query(store, "SELECT '1 year'::INTERVAL AS a")
    with pytest.raises(UserError, match="cast the column to VARCHAR"):
        write_result(result, "parquet", tmp_path / "out.parquet")
    assert not list(tmp_path.glob("*out.parquet*"))


@pytest.mark.parametrize(
    "name",
    [
        *("store.duckdb", "STORE.duckdb", "store.duckdb.lock", "store.duckdb.wal", "x/../store.duckdb", "to_store"),
        *("synth.toml", "journal/replies.jsonl", "releases/first/manifest.json"),
    ],
)
def test_a_result_is_never_written_over_the_workspaces_own_files(store: Store, tmp_path: Path, name: str) -> None:
    (tmp_path / "x").mkdir()
    (tmp_path / "to_store").symlink_to("store.duckdb")
    with pytest.raises(UserError, match="belongs to the workspace"):
        refuse_output(tmp_path / name, store)


@pytest.mark.parametrize("name", ["", ".", "..", "/", "/dev/null", "pipe"])
def test_a_result_goes_to_a_file_alone(store: Store, tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UserError, match="name a file"):
        refuse_output(Path(name) if name != "pipe" else tmp_path / name, store)
    refuse_output(tmp_path / "results.csv", store)


@pytest.mark.parametrize("output_format", ["json", "parquet"])
def test_a_path_that_cannot_be_is_wrong_and_a_full_disk_is_a_failure(
    store: Store, tmp_path: Path, output_format: str
) -> None:
    result = query(store, "SELECT 1 AS a")
    for name in ("a" * 255, "a" * 5000, "missing/out", "store.duckdb/out"):
        with pytest.raises(UserError, match="cannot be written"):
            write_result(result, output_format, tmp_path / name)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, limits[1]))  # every write fails, as on a full disk
    try:
        with pytest.raises(StoreError, match="cannot be written"):
            write_result(result, output_format, tmp_path / "out")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not list(tmp_path.glob("*out*"))


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


def test_json_has_null_where_a_number_is_none_that_json_knows(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    sql = "SELECT 'nan'::DOUBLE AS a, 'inf'::FLOAT AS b, ['-inf'::DOUBLE, 1.5] AS c, {'d': 'nan'::DOUBLE} AS d"
    result = query(store, sql)
    write_result(result, "json", None)
    assert json.loads(capsys.readouterr().out, parse_constant=pytest.fail) == [
        {"a": None, "b": None, "c": [None, 1.5], "d": {"d": None}}
    ]
    write_result(result, "csv", None)
    assert capsys.readouterr().out.splitlines()[1] == 'nan,inf,"[null, 1.5]","{""d"": null}"'


def test_parquet_goes_to_a_file_that_duckdb_can_read(with_a_sample: Store, tmp_path: Path) -> None:
    result = query(with_a_sample, "SELECT query, positives FROM samples")
    write_result(result, "parquet", tmp_path / "out.parquet")
    assert duckdb.sql(f"SELECT positives[2] FROM '{tmp_path}/out.parquet'").fetchall() == [("second; DROP",)]
    assert parquet.read_table(tmp_path / "out.parquet").num_rows == 1
    with pytest.raises(UserError, match="--output"):
        write_result(result, "parquet", None)
    with pytest.raises(UserError, match="cannot be written"):
        write_result(result, "json", tmp_path / "missing" / "out.json")


@pytest.mark.parametrize("reader", ["read_text", "read_blob", "glob"])
def test_the_stores_own_file_is_not_read_as_a_file(store: Store, reader: str) -> None:
    with pytest.raises(UserError):
        query(store, f"SELECT * FROM {reader}('{store.path}')")


def test_no_secret_is_told(store: Store) -> None:
    assert query(store, "FROM duckdb_secrets()").num_rows == 0
