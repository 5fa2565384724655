"""synth.stages.tables: real files of every kind, and broken ones, a row at a time."""

import csv
import gzip
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from pyarrow import parquet

from synth.records import UserError
from synth.stages import json_rows, lines, tables
from synth.stages.lines import BadLine
from synth.stages.tables import open_table
from tests.conftest import REPOSITORY, SAMPLE

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
        ("a.jsonl", b'{"a": 1}\n{"a": "\\ud800"}\n{"a": 3}\n', "half of a surrogate pair"),
        ("a.jsonl", b'{"a": 1}\n{"a": "\\u00e9", "b": ' + b"[" * 900 + b"]" * 900 + b'}\n{"a": 3}\n', "too deep"),
        ("a.json", b'[{"a": 1}, {"a": ' + b'{"b":' * 200 + b"1" + b"}" * 201 + b', {"a": 3}]', "too deep"),
    ],
)
def test_a_broken_line_is_named_and_those_after_it_are_read(
    name: str, data: bytes, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (lines, json_rows, tables):
        monkeypatch.setattr(module, "MAX_LINE", 4096)
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
        ("a.csv", b'a\n"x\n",' + b'"x\n",' * 1000, r"a\.csv:2: the quotes or cells of this row do not come to an end"),
        ("a.json", b"[1, 2", "not valid JSON"),
        ("a.json", b'[\n{"a": 1}\n{"a": 2}]', r"a\.json:3: not valid JSON \(no comma"),
        ("a.json", b'[\n{"a": 1},\n{"a": x}]', r"a\.json:3: not valid JSON \(Expecting value\)"),
        ("a.json", b'[{"a": 1}] {"a": 2}', "more behind the end of the array"),
        ("a.json", b'[{"a": "' + b"x" * 5000 + b'"}]', "a row of more than"),
        ("a.json", b"[[" + b"[]," * 5000, "a row of more than"),
        ("a.json", b"[" * 100_000, "too deep or too large"),
        ("a.json", b'["\xff"]', "not UTF-8"),
        ("a.jsonl", b"", "this file is empty"),
        ("a.jsonl.gz", gzip.compress(b'{"a": 1}\n' * 1000, mtime=0)[:-20], "a damaged gzip file"),
        ("a.jsonl.gz", b"no gzip", "a damaged gzip file"),
        ("a.parquet", b"PAR1no", "cannot be read as Parquet"),
        ("a.parquet", b"", "cannot be read as Parquet"),
    ],
)
def test_a_file_that_is_broken_as_a_whole_is_refused(
    name: str, data: bytes, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (lines, json_rows, tables):
        monkeypatch.setattr(module, "MAX_LINE", 4096)
    monkeypatch.setattr(json_rows, "PIECE", 1000)
    (tmp_path / name).write_bytes(data)
    with pytest.raises(UserError, match=message):
        read(tmp_path / name)


@pytest.mark.parametrize("piece", [5, 6, 7, 11, 1000])
@pytest.mark.parametrize("indent", [None, 2])
def test_an_array_is_read_in_pieces_that_make_no_difference(
    piece: int, indent: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(json_rows, "PIECE", piece)
    rows = [*ROWS, {"text": '\\"]},[{ 轻舟 😀', "n": [1234, -0.5e3, None, True, {}]}, {}]
    (tmp_path / "a.json").write_text("\ufeff" + json.dumps(rows, indent=indent, ensure_ascii=False), encoding="utf-8")
    assert [row for _, row in read(tmp_path / "a.json")] == rows
    (tmp_path / "numbers.json").write_text("[12345, 678 ]\n")
    assert [number for number, _ in tables.open_table(tmp_path / "a.json").rows(())] == [1, 2, 3, 4]
    assert [value for value, _ in json_rows.elements(tmp_path / "numbers.json")] == [12345, 678]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("array.json.gz", "[],"),
        ("line.jsonl.gz", '{"":1},'),
        ("string.jsonl.gz", '"\\u00e9'),
        ("cells.csv.gz", '"a\n",'),
        ("wide.csv.gz", "ab,"),
    ],
)
@pytest.mark.slow
def test_a_small_file_that_becomes_a_large_one_takes_little_memory(name: str, text: str, tmp_path: Path) -> None:
    with gzip.open(tmp_path / name, "wt", compresslevel=1) as file:
        file.write("[[" if name == "array.json.gz" else "")
        for _ in range(512):
            file.write(text * ((1 << 20) // len(text)))
    script = (
        "import resource, sys\nfrom pathlib import Path\nfrom synth.records import UserError\n"
        "from synth.stages.tables import open_table\n"
        "resource.setrlimit(resource.RLIMIT_AS, (700 << 20, resource.RLIM_INFINITY))\n"
        "try:\n    table = open_table(Path(sys.argv[1]))\n"
        "    print(sum(1 for _ in table.rows(table.columns)))\n"
        "except UserError as error:\n    print(error)"
    )
    command = [sys.executable, "-c", script, tmp_path / name]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=REPOSITORY)
    assert done.returncode == 0, done.stderr
    assert "more than 8 MiB" in done.stdout


def test_a_date_that_python_does_not_know_is_one_broken_row(tmp_path: Path) -> None:
    for number, kind in enumerate((pyarrow.timestamp("us"), pyarrow.timestamp("ms", tz="UTC"), pyarrow.duration("ms"))):
        column = pyarrow.array([0, 2**62, 0]).view(kind)
        parquet.write_table(pyarrow.table({"a": column}), tmp_path / f"{number}.parquet")
        first, broken, last = read(tmp_path / f"{number}.parquet")
        assert (first[0], last[0]) == (1, 3)
        assert "holds a date or time that cannot be read" in broken[1]


def test_a_parquet_file_with_two_columns_of_one_name_is_refused(tmp_path: Path) -> None:
    table = pyarrow.Table.from_arrays([pyarrow.array(["x"]), pyarrow.array(["y"])], names=["a", "a"])
    parquet.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(UserError, match=r"a\.parquet: two columns are called 'a'"):
        read(tmp_path / "a.parquet")


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
