"""Results of queries: whole, as they are, and not beyond the life of whoever asked."""

import csv
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from synth.records import UserError
from synth.store.connection import Store
from synth.store.console import query, query_apart, refuse_output, rows_of, write_result

LARGEST = 2**128 - 1


def test_whole_numbers_of_128_bits_without_a_sign_are_whole(store: Store) -> None:
    sql = f"SELECT {LARGEST}::UHUGEINT AS a, [{LARGEST}::UHUGEINT] AS b, {{'k': 1::UHUGEINT}} AS a, 7 AS d"
    [row] = rows_of(query_apart(store, sql, timeout=20))
    assert row == {"a": str(LARGEST), "b": [str(LARGEST)], "a_1": {"k": "1"}, "d": 7}


@pytest.mark.parametrize("rows", [0, 1, 2, 4999, 5000])
def test_what_is_written_in_pieces_is_one_file(store: Store, tmp_path: Path, rows: int) -> None:
    result = query(store, f"SELECT range AS n, 'a\nb' AS t, [range] AS l FROM range({rows})")
    for name in ("json", "csv"):
        write_result(result, name, tmp_path / name)
    wanted = [{"n": n, "t": "a\nb", "l": [n]} for n in range(rows)]
    assert json.loads((tmp_path / "json").read_text()) == wanted
    assert (tmp_path / "json").read_text() == json.dumps(wanted, indent=1) + "\n"
    assert (tmp_path / "csv").read_bytes().count(b'"a\nb"') == rows
    assert b"\r" not in (tmp_path / "csv").read_bytes()  # a shell would take it for a part of the last field


def test_every_text_comes_back_from_csv(store: Store, tmp_path: Path) -> None:
    texts = ["a\rb", "a\r\nb", "\r\n", "\n", "a,b", 'a "b"', "", " a ", "日本"]
    sql = " UNION ALL ".join(f"SELECT {place} AS n, '{text}' AS t" for place, text in enumerate(texts))
    write_result(query(store, f"{sql} ORDER BY n"), "csv", tmp_path / "csv")
    with (tmp_path / "csv").open(newline="", encoding="utf-8") as file:
        assert [row["t"] for row in csv.DictReader(file)] == texts


@pytest.mark.parametrize("name", ["synth.toml", "store.duckdb", "store.duckdb.lock", "releases/x.csv"])
def test_nothing_of_a_workspace_whose_store_is_a_link_is_written_over(tmp_path: Path, store: Store, name: str) -> None:
    linked = tmp_path / "linked"
    linked.mkdir()
    (linked / "store.duckdb").symlink_to(store.path)
    for folder in (linked, store.path.parent):
        with pytest.raises(UserError, match="belongs to the workspace"):
            refuse_output(folder / name, Store.open(linked / "store.duckdb"))


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux can be asked for it")
def test_a_query_ends_with_the_command_that_asked(store: Store) -> None:
    endless = "SELECT count(*) FROM range(10000000000) a, range(1000) b"
    script = (
        "import sys; from pathlib import Path; from synth.store.connection import Store\n"
        "from synth.store.console import query_apart\nprint('ready', flush=True)\n"
        f"query_apart(Store.open(Path(sys.argv[1])), {endless!r}, timeout=600)\n"
    )
    asking = subprocess.Popen([sys.executable, "-c", script, str(store.path)], stdout=subprocess.PIPE)
    assert asking.stdout is not None
    asking.stdout.readline()
    children = Path(f"/proc/{asking.pid}/task/{asking.pid}/children")
    while not (child := children.read_text().split()):
        time.sleep(0.05)
    time.sleep(1.0)
    asking.send_signal(signal.SIGKILL)
    asking.wait()
    asking.stdout.close()
    with Store.open(store.path, lock_timeout=10).write() as cursor:
        cursor.execute("DELETE FROM source")
    assert not is_running(int(child[0]))


def is_running(process_id: int) -> bool:
    try:
        return Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
