"""Reading a release: what is kept of it, and each way in which it can be broken."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from synth.records import Task, UserError
from tests.trainer.conftest import Write, columns, retrieval_rows, samples, sts_rows
from trainer.release import read_release


def test_a_release_is_read_with_its_samples_by_task(write_release: Write):
    release = read_release(write_release())
    assert (release.name, release.digest) == ("tiny", "d1")
    assert {task: table.num_rows for task, table in release.samples.items()} == {
        Task.RETRIEVAL: 45,
        Task.STS: 16,
        Task.CLASSIFICATION: 24,
    }
    negatives = release.samples[Task.RETRIEVAL].column("negatives").to_pylist()
    assert negatives[3] == [each["text"] for each in samples()["retrieval"][3]["negatives"]]


def test_a_task_without_samples_may_have_no_file_or_an_empty_one(write_release: Write):
    path = write_release({"retrieval": retrieval_rows("animals", 4)})
    table = pa.Table.from_pylist(sts_rows("pairs", 2))
    pq.write_table(table.slice(0, 0), path / "samples" / "sts.parquet")
    assert list(read_release(path).samples) == [Task.RETRIEVAL]


def test_several_row_groups_and_samples_without_negatives_are_read(write_release: Write):
    rows = retrieval_rows("animals", 8)
    rows[3]["negatives"] = None
    path = write_release({"retrieval": rows})
    pq.write_table(pa.Table.from_pylist(rows), path / "samples" / "retrieval.parquet", row_group_size=3)
    negatives = read_release(path).samples[Task.RETRIEVAL].column("negatives").to_pylist()
    assert [len(each or []) for each in negatives] == [0, 1, 2, 0, 0, 1, 2, 3]


@pytest.mark.parametrize(
    ("manifest", "told"),
    [
        ({"format": 2}, "format 2 is newer than this Skiff reads"),
        ({"format": "1"}, "format is missing or of the wrong type"),
        ({"digest": None}, "digest is missing or of the wrong type"),
        ({"sources": ["squad"]}, "sources is not a list of objects"),
    ],
)
def test_a_wrong_manifest_is_refused(write_release: Write, manifest: dict[str, Any], told: str):
    with pytest.raises(UserError, match=told):
        read_release(write_release(**manifest))


@pytest.mark.parametrize("content", ["{", "[1]", "\x00"])
def test_a_broken_manifest_is_refused(write_release: Write, content: str):
    path = write_release()
    (path / "manifest.json").write_text(content)
    with pytest.raises(UserError, match=r"manifest\.json: .*make the release again"):
        read_release(path)


def test_a_directory_without_a_manifest_is_no_release(tmp_path: Path):
    with pytest.raises(UserError, match=r"manifest\.json: cannot be read"):
        read_release(tmp_path)


def test_a_release_without_samples_is_refused(write_release: Write):
    with pytest.raises(UserError, match="this release has no samples: approve some"):
        read_release(write_release({}))


def test_a_file_that_is_no_parquet_is_refused(write_release: Write):
    path = write_release()
    (path / "samples" / "sts.parquet").write_bytes(b"PAR1 not really")
    with pytest.raises(UserError, match=r"sts\.parquet: cannot be read"):
        read_release(path)


@pytest.mark.parametrize(
    ("task", "change", "told"),
    [
        ("retrieval", {"query": " \t"}, "retrieval.parquet, row 2: query is blank"),
        ("retrieval", {"query": None}, "retrieval.parquet, row 2: query is blank"),
        ("retrieval", {"positives": []}, "retrieval.parquet, row 2: positives is blank"),
        ("retrieval", {"positives": ["a", ""]}, "retrieval.parquet, row 2: positives is blank"),
        ("retrieval", {"negatives": [{"text": ""}]}, "retrieval.parquet, row 2: negatives is blank"),
        ("sts", {"score": float("nan")}, "sts.parquet, row 2: score is blank or no number"),
        ("classification", {"label": ""}, "classification.parquet, row 2: label is blank"),
    ],
)
def test_a_row_that_no_step_could_use_is_named(write_release: Write, task: str, change: dict[str, Any], told: str):
    rows = samples()[task]
    rows[1] |= change
    with pytest.raises(UserError) as caught:
        read_release(write_release({task: rows}))
    assert told in str(caught.value)


@pytest.mark.parametrize("rows", [[{"text1": "a"}], [columns("a", 1) | {"text1": "a", "text2": "b", "score": "high"}]])
def test_missing_columns_and_wrong_types_are_refused(write_release: Write, rows: list[dict[str, Any]]):
    with pytest.raises(UserError, match=r"sts\.parquet: .*make the release again"):
        read_release(write_release({"sts": rows}))


def test_half_a_character_in_a_manifest_is_refused(write_release: Write):
    with pytest.raises(UserError, match="half a character"):
        read_release(write_release(sources=[{"name": "\ud800"}]))


def test_odd_columns_are_refused_before_they_stop_a_run(write_release: Write):
    path = write_release() / "samples" / "sts.parquet"
    table = pq.read_table(path)
    pq.write_table(table.append_column("text1", table.column("text1")), path)
    with pytest.raises(UserError, match="has a column twice"):
        read_release(path.parent.parent)
    for name in ("text1", "instruction"):
        place = table.column_names.index(name)
        broken = pa.array([b"\xff\xfe"] * len(table), pa.binary()).view(pa.string())
        pq.write_table(table.set_column(place, name, broken), path)
        with pytest.raises(UserError, match=r"sts\.parquet: cannot be read"):
            read_release(path.parent.parent)


def test_samples_none_of_which_has_negatives_are_read(write_release: Write):
    rows = [row | {"negatives": None} for row in samples()["retrieval"]]
    assert read_release(write_release({"retrieval": rows})).samples[Task.RETRIEVAL].num_rows == len(rows)
    path = write_release({"retrieval": [row | {"negatives": "a"} for row in rows]}, name="other")
    with pytest.raises(UserError, match="negatives are string, not a list"):
        read_release(path)
