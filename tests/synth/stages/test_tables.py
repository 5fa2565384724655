"""synth.stages.tables: real files of every kind, and broken ones, a row at a time."""

import csv
import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from pyarrow import parquet

from synth.records import UserError
from synth.stages import tables
from synth.stages.tables import BadLine, open_table
from tests.conftest import SAMPLE

ROWS = [{"text": 'say "ah",\nthen; rest', "label": "a"}, {"text": "轻舟", "label": "b"}]
BANKING = SAMPLE / "labelled" / "banking77-en.jsonl"


def read(path: Path, *wanted: str) -> list[tuple[int, Any]]:
    table = open_table(path)
    return [
        (number, str(row) if isinstance(row, BadLine) else row) for number, row in table.rows(wanted or table.columns)
    ]


def write_csv(path: Path, dialect: str) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ["text", "label"], dialect=dialect)
        writer.writeheader()
        writer.writerows(ROWS)


WRITERS = {
    "rows.jsonl": lambda path: path.write_text("".join(json.dumps(row) + "\n" for row in ROWS)),
    "rows.ndjson": lambda path: path.write_text("\n" + "\n\n".join(json.dumps(row) for row in ROWS)),
    "rows.jsonl.gz": lambda path: path.write_bytes(gzip.compress("".join(json.dumps(r) + "\n" for r in ROWS).encode())),
    "array.json": lambda path: path.write_text(json.dumps(ROWS, indent=2)),
    "lines.json": lambda path: path.write_text("".join(json.dumps(row) + "\n" for row in ROWS)),
    "rows.csv": lambda path: write_csv(path, "unix"),
    "excel.csv": lambda path: write_csv(path, "excel"),
    "rows.tsv": lambda path: write_csv(path, "excel-tab"),
    "rows.parquet": lambda path: parquet.write_table(pyarrow.Table.from_pylist(ROWS), path),
}


@pytest.mark.parametrize("name", WRITERS)
def test_the_same_rows_come_out_of_every_kind_of_file(name: str, tmp_path: Path) -> None:
    WRITERS[name](tmp_path / name)
    assert [row for _, row in read(tmp_path / name)] == ROWS
    assert open_table(tmp_path / name).columns == ("text", "label")


def test_real_rows_survive_a_csv_file(tmp_path: Path) -> None:
    rows = [json.loads(line) for line in BANKING.read_text(encoding="utf-8").splitlines()]
    with (tmp_path / "b.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    assert [row["text"] for _, row in read(tmp_path / "b.csv")] == [row["text"] for row in rows]


def test_numbers_are_those_of_the_lines_in_the_file(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('\n{"a": 1}\n\n{"a": 2}\n')
    assert [number for number, _ in read(tmp_path / "a.jsonl")] == [2, 4]
    (tmp_path / "a.csv").write_text('a\n"one\ntwo"\n\nthree\n')
    assert read(tmp_path / "a.csv") == [(2, {"a": "one\ntwo"}), (5, {"a": "three"})]
    (tmp_path / "windows.csv").write_bytes(b'\xef\xbb\xbfa\r\n"one\r\ntwo"\r\nthree\r\n')
    assert [number for number, _ in read(tmp_path / "windows.csv")] == [2, 4]


def test_a_spreadsheets_semicolons_are_read(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('text;score\n"a;b";1\n')
    assert read(tmp_path / "a.csv") == [(2, {"text": "a;b", "score": "1"})]


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("a.csv", b"a,b\n1,2\n1\n3,4\n", "more or fewer cells than columns: 1 where the header names 2"),
        ("a.csv", b"a,b\n1,2\n1,\xff\n3,4\n", "not UTF-8"),
        ("a.jsonl", b'{"a": 1}\n{"a": \n{"a": 3}\n', "not valid JSON"),
        ("a.jsonl", b'{"a": 1}\n{"a": "\xff"}\n{"a": 3}\n', "not UTF-8"),
        ("a.jsonl", b'{"a": 1}\n' + b"x" * 5000 + b'\n{"a": 3}\n', "more than"),
        ("a.json", b'[{"a": 1}, 2, {"a": 3}]', "not a JSON object but int"),
        ("a.json", b'[{"a": 1}, {"a": "\\ud800"}, {"a": 3}]', "half of a surrogate pair"),
    ],
)
def test_a_broken_line_is_named_and_those_after_it_are_read(
    name: str, data: bytes, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "MAX_LINE", 4096)
    (tmp_path / name).write_bytes(data)
    first, broken, last = read(tmp_path / name)
    assert isinstance(first[1], dict)
    assert isinstance(last[1], dict)
    assert message in broken[1]
    assert last[0] == 3 or name == "a.csv"


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("a.csv", b"", "this file is empty"),
        ("a.csv", b"a,a\n1,2\n", "two columns are called 'a'"),
        ("a.csv", b'a\n1\n"never closed\n2\n', r"a\.csv:3: the quotes or cells of this row do not come to an end"),
        ("a.csv", b"a\xff\n1\n", r"a\.csv:1: not UTF-8"),
        ("a.json", b"[1, 2", "not valid JSON"),
        ("a.json", b"[" * 100_000, "too deep or too large"),
        ("a.json", b'["\xff"]', "not UTF-8"),
        ("a.jsonl", b"", "this file is empty"),
        ("a.jsonl.gz", gzip.compress(b'{"a": 1}\n' * 1000)[:-20], "a damaged gzip file"),
        ("a.jsonl.gz", b"no gzip", "a damaged gzip file"),
        ("a.parquet", b"PAR1no", "cannot be read as Parquet"),
        ("a.parquet", b"", "cannot be read as Parquet"),
    ],
)
def test_a_file_that_is_broken_as_a_whole_is_refused(name: str, data: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(UserError, match=message):
        read(tmp_path / name)


def test_an_array_too_large_to_be_read_whole_names_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "MAX_ARRAY", 10)
    (tmp_path / "a.json").write_text(json.dumps(ROWS))
    with pytest.raises(UserError, match="write one object a line"):
        read(tmp_path / "a.json")


def test_a_parquet_file_that_ends_in_the_middle_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    parquet.write_table(pyarrow.table({"a": ["x" * 1000] * 1000}), path, compression="none", use_dictionary=False)
    data = bytearray(path.read_bytes())
    data[4:2000] = b"\xff" * 1996
    path.write_bytes(bytes(data))
    with pytest.raises(UserError, match=r"a\.parquet: damaged"):
        read(path)


def test_a_parquet_text_that_is_not_utf8_is_one_broken_row(tmp_path: Path) -> None:
    column = pyarrow.array([b"a", b"\xff", b"c"], pyarrow.binary()).view(pyarrow.string())
    parquet.write_table(pyarrow.table({"a": column}), tmp_path / "a.parquet")
    assert read(tmp_path / "a.parquet") == [(1, {"a": "a"}), (2, "not UTF-8; convert the file first"), (3, {"a": "c"})]


def test_only_the_columns_that_are_wanted_are_read_from_parquet(tmp_path: Path) -> None:
    parquet.write_table(pyarrow.table({"a": [1], "vector": [[0.5] * 1000]}), tmp_path / "a.parquet")
    assert read(tmp_path / "a.parquet", "a", "absent") == [(1, {"a": 1})]


@pytest.mark.parametrize(
    ("text", "is_one"), [('{\n "a": "x"\n}', False), ('{"a": 1}\n', False), ('{"a": 1}\n{"a": 2}', True), ("[]", True)]
)
def test_a_json_file_of_settings_in_a_folder_is_no_table(text: str, is_one: bool, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(text)
    assert tables.is_table(tmp_path / "a.json") is is_one
