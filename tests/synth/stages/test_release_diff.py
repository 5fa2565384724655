"""Comparing releases, against a case made by hand."""

import json
from pathlib import Path
from typing import Any

import pytest
from pyarrow import Table, parquet

from synth.records import Task, UserError
from synth.stages.release_diff import compare_releases
from synth.stages.release_files import schema

COMMON: dict[str, Any] = {"dataset": "guide", "operation": "ingest", "method": "", "instruction": ""}


def row(
    number: int, revision: int, *negatives: str, source: str = "guide", operation: str = "ingest"
) -> dict[str, Any]:
    return COMMON | {
        "sample_id": f"s{number}",
        "revision_id": f"r{revision}",
        "content_hash": f"h{revision}",
        "dataset": source,
        "operation": operation,
        "query": "q",
        "positives": ["p"],
        "negatives": [{"text": text, "origin": "mined"} for text in negatives],
    }


def release(folder: Path, rows: list[dict[str, Any]], **policy: Any) -> Path:
    samples = folder / "samples"
    samples.mkdir(parents=True)
    parquet.write_table(Table.from_pylist(rows, schema=schema(Task.RETRIEVAL)), samples / "retrieval.parquet")
    pair = COMMON | {"sample_id": "pair", "revision_id": "rp", "content_hash": "hp"}
    pair |= {"text1": "a", "text2": "b", "score": 1.0}
    parquet.write_table(Table.from_pylist([pair], schema=schema(Task.STS)), samples / "sts.parquet")
    manifest = {"format": 1, "name": folder.name, "digest": "d", "policy": policy, "counts": {}, "sources": []}
    (folder / "manifest.json").write_text(json.dumps(manifest | {"held_out": []}))
    return folder


@pytest.fixture
def two(tmp_path: Path) -> tuple[Path, Path]:
    """
    From a to b: sample 1 stays, 2 goes, 3 is edited and gets another negative, 4 loses one of two negatives, 5 has them
    in another order, 6 and 7 come. The pair stays.
    """
    a = [row(1, 1, "x"), row(2, 2), row(3, 3, "x"), row(4, 4, "x", "y"), row(5, 5, "x", "y")]
    b = [row(1, 1, "x"), row(3, 33, "z"), row(4, 4, "x"), row(5, 5, "y", "x"), row(6, 6, "x")]
    b.append(row(7, 7, source="web", operation="query"))
    return release(tmp_path / "a", a, seed=0, where=""), release(tmp_path / "b", b, seed=0, where="true")


def test_the_difference_is_what_was_done_by_hand(two: tuple[Path, Path]) -> None:
    found = compare_releases(*two, rows=True)
    assert found.totals == {"added": 2, "removed": 1, "changed": 1, "negatives": 2, "same": 2}
    assert found.policy == {"where": ("", "true")}
    assert [tuple(each.values()) for each in found.counts] == [
        ("added", "guide", "ingest", 1, 0, 0),
        ("added", "web", "query", 1, 0, 0),
        ("changed", "guide", "ingest", 1, 1, 1),
        ("negatives", "guide", "ingest", 2, 0, 1),
        ("removed", "guide", "ingest", 1, 0, 0),
    ]
    assert [(each["change"], each["sample_id"], each["revision_a"], each["revision_b"]) for each in found.rows] == [
        ("added", "s6", None, "r6"),
        ("added", "s7", None, "r7"),
        ("changed", "s3", "r3", "r33"),
        ("negatives", "s4", "r4", "r4"),
        ("negatives", "s5", "r5", "r5"),
        ("removed", "s2", "r2", None),
    ]


def test_backwards_what_came_goes(two: tuple[Path, Path]) -> None:
    found = compare_releases(*reversed(two), rows=False)
    assert found.totals == {"added": 1, "removed": 2, "changed": 1, "negatives": 2, "same": 2}
    assert found.rows == []


def test_a_release_is_the_same_as_itself(two: tuple[Path, Path]) -> None:
    found = compare_releases(two[0], two[0], rows=True)
    assert (found.totals["same"], found.counts, found.rows, found.policy) == (6, [], [], {})


def classes(folder: Path, negative: str = "") -> Path:
    """A release of one text with a class and a negative; without one, as before classes were mined."""
    made = release(folder, [row(1, 1)])
    text = COMMON | {"sample_id": "t", "revision_id": "rt", "content_hash": "ht", "text": "it floats", "label": "boat"}
    columns = schema(Task.CLASSIFICATION)
    if negative:
        text |= {"negatives": [{"text": negative, "origin": "mined"}]}
    else:
        columns = columns.remove(columns.get_field_index("negatives"))
    parquet.write_table(Table.from_pylist([text], schema=columns), made / "samples" / "classification.parquet")
    return made


def test_other_negatives_of_a_text_with_a_class_are_a_difference(tmp_path: Path) -> None:
    before, old = classes(tmp_path / "b", "it flies"), classes(tmp_path / "o")
    for other, removed in ((classes(tmp_path / "a", "it sinks"), 1), (old, 0)):  # old: from before classes were mined
        found = compare_releases(other, before, rows=True)
        assert (found.totals["negatives"], found.totals["same"]) == (1, 2)
        [changed] = found.rows
        assert (changed["sample_id"], changed["negatives_added"], changed["negatives_removed"]) == ("t", 1, removed)
    assert compare_releases(old, old, rows=False).totals["same"] == 3


def test_a_setting_that_an_earlier_version_did_not_have_differs_from_its_default_alone(tmp_path: Path) -> None:
    old = release(tmp_path / "a", [row(1, 1)], seed=0)
    same = release(tmp_path / "b", [row(1, 1)], seed=0, flagged_negatives="keep", mining="")
    other = release(tmp_path / "c", [row(1, 1)], seed=0, flagged_negatives="leave_out", mining="")
    assert compare_releases(old, same, rows=False).policy == {}
    assert compare_releases(other, old, rows=False).policy == {"flagged_negatives": ("leave_out", "keep")}


def test_a_file_that_is_no_parquet_or_lacks_a_column_is_one_line(two: tuple[Path, Path]) -> None:
    parquet.write_table(Table.from_pylist([{"sample_id": "x"}]), two[0] / "samples" / "sts.parquet")
    with pytest.raises(UserError, match=r"cannot be compared: .*revision_id.*"):
        compare_releases(*two, rows=False)
    (two[0] / "samples" / "sts.parquet").write_text("no parquet")
    with pytest.raises(UserError, match="cannot be compared") as caught:
        compare_releases(*two, rows=False)
    assert "\n" not in str(caught.value)
