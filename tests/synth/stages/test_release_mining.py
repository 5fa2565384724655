"""The mining whose negatives a release takes: each sample's latest, or the one that the policy names."""

from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from synth.records import Classification, Negative, Retrieval, Task, UserError, Verdict, new_id, text_id
from synth.stages.release import Released
from synth.stages.release_diff import compare_releases
from synth.stages.release_files import read_manifest, read_rows
from synth.store import runs
from synth.store.connection import Store
from synth.store.console import query
from synth.store.minings import Minable
from tests.synth.stages.mining_runs import BOATS, PASSAGES, a_mine_run, asked, mined, negative, with_corpora
from tests.synth.stages.releasing import add, approve_all, create, give_negatives, heads, judge

QUERIES = ("who dug it?", "who lit it?", "who sailed it?")


class Minings:
    """Three approved samples. The small encoder mined two of them, in two runs; the large one after it all three."""

    def __init__(self, store: Store) -> None:
        with_corpora(store)
        self.samples = asked(store, *QUERIES)
        first, second, third = self.samples
        self.small = a_mine_run(store, mined(first, negative(first, 10), negative(first, 11)))
        self.small_again = a_mine_run(store, mined(second, negative(second, 12)))
        of_first = mined(first, negative(first, 11), negative(first, 20))
        of_others = [mined(each, negative(each, 21)) for each in (second, third)]
        self.large = a_mine_run(store, of_first, *of_others, encoder="large")
        approve_all(store)


@pytest.fixture
def minings(store: Store) -> Minings:
    return Minings(store)


def chosen(store: Store, folder: Path, mining: UUID | str, **policy: Any) -> Released:
    name = f"r{len(list(folder.iterdir()))}"
    return create(store, folder, name, mining=str(mining), near_duplicates=False, **policy)


def numbers(released: Released) -> dict[str, list[int]]:
    """The mined negatives of each query, as numbers of passages."""
    return {
        row["query"]: [PASSAGES.index(each["text"]) for each in row["negatives"] if each["origin"] == "mined"]
        for row in read_rows(released.path, Task.RETRIEVAL)
    }


def test_a_release_takes_the_latest_mining_of_each_sample_unless_the_policy_names_one(
    store: Store, tmp_path: Path, minings: Minings
) -> None:
    assert numbers(create(store, tmp_path)) == {QUERIES[0]: [11, 20], QUERIES[1]: [21], QUERIES[2]: [21]}
    released = chosen(store, tmp_path, minings.large)
    assert released.digest == create(store, tmp_path).digest
    assert released.counts["samples_not_mined"] == 0


def test_of_a_mining_that_went_on_in_another_run_all_runs_are_taken(
    store: Store, tmp_path: Path, minings: Minings
) -> None:
    found = [chosen(store, tmp_path, run) for run in (minings.small, minings.small_again)]
    assert numbers(found[0]) == {QUERIES[0]: [10, 11], QUERIES[1]: [12], QUERIES[2]: []}
    assert found[0].digest == found[1].digest


def test_samples_that_the_mining_did_not_mine_are_counted_wherever_a_release_is_told_of(
    store: Store, tmp_path: Path, minings: Minings
) -> None:
    latest, small = create(store, tmp_path), chosen(store, tmp_path, minings.small)
    assert small.counts["samples_not_mined"] == 1
    assert read_manifest(small.path)["counts"] == small.counts
    assert "samples_not_mined | 1" in (small.path / "README.md").read_text(encoding="utf-8")
    assert "samples_not_mined" not in latest.counts
    difference = compare_releases(latest.path, small.path, rows=False)
    assert difference.totals["negatives"] == 3
    assert difference.policy["mining"] == ("", str(minings.small))
    left = chosen(store, tmp_path, minings.small, min_negatives=1)
    assert (left.left_out, left.counts["samples_not_mined"]) == ({"too_few_negatives": 1}, 0)


def test_a_sample_that_a_mining_found_nothing_for_is_mined(store: Store, tmp_path: Path, minings: Minings) -> None:
    third = minings.samples[2]
    nothing = a_mine_run(store, mined(third, status="none", reason="all above the cap"))
    released = chosen(store, tmp_path, nothing)
    assert (numbers(released)[QUERIES[2]], released.counts["samples_not_mined"]) == ([], 0)


@pytest.mark.parametrize("shown", [str, lambda run: str(run)[-12:], lambda run: str(run).upper()])
def test_a_run_is_named_as_elsewhere_and_the_release_keeps_its_id(
    store: Store, tmp_path: Path, minings: Minings, shown: Any
) -> None:
    released = chosen(store, tmp_path, shown(minings.small))
    assert read_manifest(released.path)["policy"]["mining"] == str(minings.small)
    stored = query(store, "SELECT config->>'mining' AS mining FROM runs WHERE kind = 'release'").to_pylist()
    assert stored == [{"mining": str(minings.small)}]


def test_last_is_no_run_that_mined_nothing(store: Store, tmp_path: Path, minings: Minings) -> None:
    a_mine_run(store, encoder="failed")
    create(store, tmp_path)
    assert read_manifest(chosen(store, tmp_path, "last").path)["policy"]["mining"] == str(minings.large)


def test_negatives_that_were_not_mined_are_taken_whatever_the_mining(
    store: Store, tmp_path: Path, minings: Minings
) -> None:
    give_negatives(store, QUERIES[2], [(PASSAGES[21], "labelled", None), (PASSAGES[30], "relabelled", None)])
    rows = read_rows(chosen(store, tmp_path, minings.small).path, Task.RETRIEVAL)
    origins = {row["query"]: [each["origin"] for each in row["negatives"]] for row in rows}
    assert origins[QUERIES[2]] == ["labelled", "relabelled"]


def test_flags_are_those_of_the_named_mining(store: Store, tmp_path: Path, minings: Minings) -> None:
    first = minings.samples[0]
    a_mine_run(store, mined(first, negative(first, 10, flags=("near_positive",))), encoder="flagging")
    released = chosen(store, tmp_path, minings.small, flagged_negatives="leave_out")
    assert numbers(released)[QUERIES[0]] == [10, 11]


def test_an_edit_that_leaves_the_query_takes_along_what_the_mining_had_found(
    store: Store, tmp_path: Path, minings: Minings
) -> None:
    edited = Retrieval(QUERIES[0], ("Another answer.",))
    judge(store, QUERIES[0], Verdict.APPROVE, edit=edited, edited_id=new_id())
    small, large = chosen(store, tmp_path, minings.small), chosen(store, tmp_path, minings.large)
    assert (numbers(small)[QUERIES[0]], numbers(large)[QUERIES[0]]) == ([10, 11], [11, 20])
    assert (small.counts["samples_not_mined"], large.counts["samples_not_mined"]) == (1, 0)


def test_what_an_edit_took_along_gives_way_when_the_mining_goes_on(
    store: Store, tmp_path: Path, minings: Minings
) -> None:
    judge(store, QUERIES[0], Verdict.APPROVE, edit=Retrieval(QUERIES[0], ("Another answer.",)), edited_id=new_id())
    sample_id, revision_id = heads(store)[QUERIES[0]]
    anew = Minable(sample_id, revision_id, QUERIES[0], (), (), (), None, BOATS.name)
    a_mine_run(store, mined(anew, negative(anew, 40)))
    assert numbers(chosen(store, tmp_path, minings.small))[QUERIES[0]] == [40]


def test_an_edit_of_the_query_is_not_mined(store: Store, tmp_path: Path, minings: Minings) -> None:
    edited = Retrieval("who dug the harbour?", ("Another answer.",))
    judge(store, QUERIES[0], Verdict.APPROVE, edit=edited, edited_id=new_id())
    released = chosen(store, tmp_path, minings.large)
    assert (numbers(released)["who dug the harbour?"], released.counts["samples_not_mined"]) == ([], 1)


def test_a_mining_is_of_one_task_and_samples_of_others_take_their_latest(
    store: Store, tmp_path: Path, minings: Minings
) -> None:
    add(store, BOATS, Classification("it floats", "boat"), Classification("it flies", "bird"))
    approve_all(store)
    sample_id, revision_id = heads(store)["it floats"]
    floats = Minable(sample_id, revision_id, "it floats", (), (), (), None, BOATS.name)
    give_negatives(store, "it flies", [("it floats", "labelled", None)])
    give_negatives(store, "it floats", [("it flies", "labelled", None)])
    with store.write() as cursor:
        cursor.execute("DELETE FROM negative WHERE origin = 'labelled'")  # their texts are there now
    flies = Negative(sample_id, revision_id, text_id("it flies"), "mined", 1, 0.5, positive_score=0.7)
    classes = a_mine_run(store, mined(floats, flies), encoder="classes")
    small, of_classes = chosen(store, tmp_path, minings.small), chosen(store, tmp_path, classes)
    for released in (small, of_classes):
        rows = {row["text"]: row["negatives"] for row in read_rows(released.path, Task.CLASSIFICATION)}
        assert [each["text"] for each in rows["it floats"]] == ["it flies"]
    assert numbers(of_classes)[QUERIES[0]] == [11, 20]
    assert (small.counts["samples_not_mined"], of_classes.counts["samples_not_mined"]) == (1, 1)


def test_a_run_that_is_unknown_or_mined_nothing_is_one_line_with_the_remedy(
    store: Store, tmp_path: Path, minings: Minings
) -> None:
    with runs.recorded(store, "judge", {}) as judged:
        pass
    empty = a_mine_run(store, encoder="failed")
    for mining, told in (
        ("beef" * 8, "no run's id ends with"),
        (str(judged.run_id), "is of the kind judge, and the release policy's mining must be a run of `synth mine`"),
        (str(empty), "mined no sample; .*`synth runs --kind mine`"),
    ):
        with pytest.raises(UserError, match=told) as caught:
            chosen(store, tmp_path, mining)
        assert "\n" not in str(caught.value)
        assert list(tmp_path.glob("r*")) == []


def test_last_of_no_mining_is_said_with_the_remedy(store: Store, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nothing was mined yet; run `synth mine` first"):
        chosen(store, tmp_path, "last")
