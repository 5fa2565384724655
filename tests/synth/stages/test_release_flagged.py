"""Negatives that mining flagged: a release keeps them, or leaves out those that no person has kept by name."""

import json
from pathlib import Path
from typing import Any

import pytest

from synth.records import NegativeFlag, Task, Verdict
from synth.stages.release import Released
from synth.stages.release_diff import compare_releases
from synth.stages.release_files import read_manifest, read_rows
from synth.store.connection import Store
from synth.store.minings import Minable
from tests.synth.stages.mining_runs import (
    PASSAGES,
    a_mine_run,
    asked,
    graded,
    mined,
    negative,
    reviewed,
    with_corpora,
)
from tests.synth.stages.releasing import approve_all, create, give_negatives

QUERIES = ("who dug it?", "who lit it?")
DROPPED = (Verdict.REJECT, Verdict.FALSE_NEGATIVE, Verdict.PARTIAL)


def flagged(sample: Minable, rank: int, *flags: NegativeFlag) -> Any:
    return negative(sample, rank, flags=flags or ("near_positive",))


@pytest.fixture
def samples(store: Store) -> list[Minable]:
    """Two approved samples: of the first's four negatives 11 and 13 are flagged, of the second's two none."""
    with_corpora(store)
    first, second = asked(store, *QUERIES)
    of_first = (
        negative(first, 10),
        flagged(first, 11),
        negative(first, 12),
        flagged(first, 13, "near_duplicate", "above_reranker"),
    )
    a_mine_run(store, mined(first, *of_first), mined(second, negative(second, 10), negative(second, 14)))
    approve_all(store)
    return [first, second]


def leave_out(store: Store, folder: Path, name: str = "first", **policy: Any) -> Released:
    return create(store, folder, name, flagged_negatives="leave_out", near_duplicates=False, **policy)


def numbers(path: Path, query: str = QUERIES[0]) -> list[int]:
    """The negatives of a query in a release, as numbers of passages."""
    return next(
        [PASSAGES.index(each["text"]) for each in row["negatives"]]
        for row in read_rows(path, Task.RETRIEVAL)
        if row["query"] == query
    )


def test_a_release_keeps_flagged_negatives_unless_the_policy_says_otherwise(
    store: Store, tmp_path: Path, samples: list[Minable]
) -> None:
    kept = create(store, tmp_path)
    assert numbers(kept.path) == [10, 11, 12, 13]
    assert "negatives_left_out_as_flagged" not in kept.counts
    left = leave_out(store, tmp_path, "second")
    assert (numbers(left.path), numbers(left.path, QUERIES[1])) == ([10, 12], [10, 14])


def test_what_is_left_out_as_flagged_is_counted_wherever_a_release_is_told_of(
    store: Store, tmp_path: Path, samples: list[Minable]
) -> None:
    kept, left = create(store, tmp_path, "kept"), leave_out(store, tmp_path, "left")
    assert (kept.counts["negatives"], left.counts["negatives"]) == (6, 4)
    assert left.counts["negatives_left_out_as_flagged"] == 2
    assert read_manifest(left.path)["counts"] == left.counts
    assert "negatives_left_out_as_flagged | 2" in (left.path / "README.md").read_text(encoding="utf-8")
    difference = compare_releases(kept.path, left.path, rows=False)
    assert (difference.totals["negatives"], difference.totals["same"]) == (1, 1)
    assert [each["negatives_removed"] for each in difference.counts] == [2]
    assert difference.policy["flagged_negatives"] == ("keep", "leave_out")


def test_the_digest_is_of_what_is_left_out_and_not_of_the_policys_words(
    store: Store, tmp_path: Path, samples: list[Minable]
) -> None:
    left = leave_out(store, tmp_path)
    assert leave_out(store, tmp_path, "second").digest == left.digest
    assert create(store, tmp_path, "kept").digest != left.digest
    where = f"query = '{QUERIES[1]}'"  # nothing of it is flagged
    assert leave_out(store, tmp_path, "a", where=where).digest == create(store, tmp_path, "b", where=where).digest


def test_what_a_person_has_kept_by_name_stays_flag_or_not(store: Store, tmp_path: Path, samples: list[Minable]) -> None:
    reviewed(store, samples[0], Verdict.KEEP, 11)
    left = leave_out(store, tmp_path)
    assert (numbers(left.path), left.counts["negatives_left_out_as_flagged"]) == ([10, 11, 12], 1)


def test_the_approval_of_a_sample_keeps_none_of_its_flagged_negatives(
    store: Store, tmp_path: Path, samples: list[Minable]
) -> None:
    reviewed(store, samples[0], Verdict.APPROVE)
    assert numbers(leave_out(store, tmp_path).path) == [10, 12]


@pytest.mark.parametrize("verdict", DROPPED)
def test_what_a_reviewer_dropped_is_not_counted_as_flagged(
    store: Store, tmp_path: Path, samples: list[Minable], verdict: Verdict
) -> None:
    reviewed(store, samples[0], verdict, 11)
    assert leave_out(store, tmp_path).counts["negatives_left_out_as_flagged"] == 1


def test_a_flag_counts_whoever_else_found_the_text_but_not_where_people_labelled_it(
    store: Store, tmp_path: Path, samples: list[Minable]
) -> None:
    give_negatives(store, QUERIES[0], [(PASSAGES[11], "generated", None), (PASSAGES[13], "labelled", None)])
    left = leave_out(store, tmp_path, generated_share=1.0)
    assert (numbers(left.path), left.counts["negatives_left_out_as_flagged"]) == ([13, 10, 12], 1)


def test_a_flag_of_an_earlier_mining_counts_no_more(store: Store, tmp_path: Path, samples: list[Minable]) -> None:
    first = samples[0]
    a_mine_run(store, mined(first, negative(first, 11), flagged(first, 12)), encoder="large")
    left = leave_out(store, tmp_path)
    assert (numbers(left.path), left.counts["negatives_left_out_as_flagged"]) == ([11], 1)


def test_a_sample_left_with_too_few_negatives_is_left_out_and_its_flagged_ones_are_not_counted(
    store: Store, tmp_path: Path, samples: list[Minable]
) -> None:
    reviewed(store, samples[0], Verdict.REJECT, 10)
    left = leave_out(store, tmp_path, min_negatives=2)
    assert left.left_out == {"too_few_negatives": 1}
    assert left.counts["negatives_left_out_as_flagged"] == 0


def test_judges_and_flags_are_counted_apart(store: Store, tmp_path: Path, samples: list[Minable]) -> None:
    first = samples[0]
    reviewed(store, samples[1], Verdict.APPROVE)
    with store.write() as cursor:
        cursor.execute("DELETE FROM review WHERE reviewer_kind = 'policy'")
    graded(store, first, (10, 0), (11, 3), (12, 3), (13, 0))
    with store.write() as cursor:  # and of the positive
        cursor.execute(
            "INSERT INTO judgement BY NAME SELECT * REPLACE (uuidv7() AS judgement_id, text_id_of($text) AS text_id,"
            " true AS is_positive, 3 AS grade) FROM judgement WHERE grade = 0 LIMIT 1",
            {"text": first.positives[0]},
        )
    approve_all(store)
    left = leave_out(store, tmp_path, judged="any")
    assert numbers(left.path) == [10]
    counts = {key: value for key, value in left.counts.items() if key.startswith("negatives_left")}
    assert counts == {"negatives_left_out_by_judges": 2, "negatives_left_out_as_flagged": 1}
    assert json.loads((left.path / "manifest.json").read_text())["counts"] == left.counts
