"""What is told of a mine run: outcomes, why candidates fell, scores, false negatives, and an earlier mining."""

import pytest

from synth.records import FoundBy, Verdict, key_of
from synth.stages.mine.settings import MineSettings
from synth.stages.report.leak import wilson
from synth.stages.report.mining import Band, Shrunk, false_negatives, mining_report_of
from synth.store import minings, runs
from synth.store.connection import Store
from synth.store.mined_before import Change
from synth.store.mining_report import FIRST_MINER
from tests.synth.stages.mining_runs import (
    BIRDS,
    PASSAGES,
    a_mine_run,
    asked,
    graded,
    mined,
    negative,
    reviewed,
    with_corpora,
)

CAPPED = "{} of 21 candidates of ranks 10-30 score at or above the cap"


@pytest.fixture(autouse=True)
def corpora(store: Store) -> None:
    with_corpora(store)


def test_outcomes_and_why_candidates_fell_are_told_in_all_and_by_source(store: Store) -> None:
    one, two = asked(store, "who rows?", "who sails?")
    [bird] = asked(store, "who flies?", source=BIRDS)
    run_id = a_mine_run(
        store,
        mined(one, negative(one, 10), negative(one, 11), fallen={"capped": 2, "above_window": 9}),
        mined(two, negative(two, 40), status="widened", fallen={"capped": 30}),
        mined(bird, status="none", reason=CAPPED.format(21), fallen={"capped": 60, "above_window": 0}),
    )
    found = mining_report_of(store, run_id, seed=0)
    assert (found.status, found.model, found.device) == ("done", "small", "small on cpu in bf16")
    assert found.settings["num_negatives"] == 4
    assert (found.outcome.num_samples, found.outcome.num_negatives, found.outcome.num_candidates) == (3, 3, 180)
    assert found.outcome.statuses == {"full": 1, "widened": 1, "none": 1}
    assert list(found.outcome.fallen.items()) == [("capped", 92), ("above_window", 9)]
    birds, boats = found.sources
    assert (birds.source, birds.statuses, birds.fallen) == ("birds", {"none": 1}, {"capped": 60})
    assert (boats.num_samples, boats.fallen) == (2, {"capped": 32, "above_window": 9})


def test_the_seconds_of_a_step_taken_often_are_added_up_and_the_last_tells_the_memory(store: Store) -> None:
    with runs.recorded(store, "mine", {}) as run:
        for number, detail in ((5, "peak memory 80 MB"), (7, "peak memory 90 MB")):
            with run.step("encode passages", number, detail):
                pass
        with run.step("search"):
            pass
    encode, search = mining_report_of(store, run.run_id, seed=0).steps
    assert (encode.step, encode.number, encode.detail) == ("encode passages", 12, "peak memory 90 MB")
    assert (search.step, search.number, search.detail) == ("search", 0, "")
    with store.read() as cursor:
        [(seconds,)] = cursor.execute("SELECT sum(seconds) FROM run_step WHERE step LIKE 'encode%'").fetchall()
    assert encode.seconds == pytest.approx(seconds)


def test_reasons_that_differ_in_their_numbers_alone_are_one(store: Store) -> None:
    samples = asked(store, "a?", "b?", "c?", "d?")
    reasons = [CAPPED.format(3), CAPPED.format("1,204.5"), "the corpus holds only 7 candidates"]
    fell = [(2, 0.8, "capped"), (1, 0.9, "x")]
    short = [
        mined(sample, negative(sample, 12), status="short", reason=reason, candidates=fell)
        for sample, reason in zip(samples, reasons, strict=False)
    ]
    full = mined(samples[3], negative(samples[3], 12), reason="none of 1")
    run_id = a_mine_run(store, *short, full)
    found = mining_report_of(store, run_id, seed=0)
    assert [(each.reason, each.num) for each in found.reasons] == [
        ("N of N candidates of ranks N-N score at or above the cap", 2),
        ("the corpus holds only N candidates", 1),
    ]
    assert {each.query for each in found.wanting} == {"a?", "b?", "c?"}
    assert [(each.rank, each.score, each.reason, each.text) for each in found.wanting[0].candidates] == [
        (1, 0.9, "x", PASSAGES[1]),
        (2, 0.8, "capped", PASSAGES[2]),
    ]


def test_positives_of_a_rank_above_fifty_are_counted_and_the_deepest_shown(store: Store) -> None:
    samples = asked(store, *(f"{n}?" for n in range(9)))
    ranks = [0, 1, 50, 51, 52, 53, 54, 55, 56]
    run_id = a_mine_run(store, *(mined(each, positive_rank=rank) for each, rank in zip(samples, ranks, strict=True)))
    found = mining_report_of(store, run_id, seed=0).positives
    assert (found.num, found.num_deep, found.median_rank) == (8, 6, 52.5)  # a rank of 0 is none
    assert [each.rank for each in found.deepest] == [56, 55, 54, 53, 52]
    first = found.deepest[0]
    assert (first.query, first.positive, first.score, first.num_candidates) == ("8?", "The answer to 8?", 0.75, 60)


def test_scores_are_told_by_who_found_the_negatives_between_the_same_edges(store: Store) -> None:
    [sample] = asked(store, "who rows?")
    dense, bm25 = FoundBy("dense", 3, 0.5), FoundBy("bm25", 9, 12.5)
    run_id = a_mine_run(
        store,
        mined(
            sample,
            negative(sample, 10, 0.25, miners=(bm25,)),
            negative(sample, 11, 0.8, miners=(dense,)),
            negative(sample, 12, 0.5, miners=(dense, bm25)),
            negative(sample, 13, 0.5, miners=(bm25, dense)),
            negative(sample, 14, 0.1),
        ),
    )
    found = mining_report_of(store, run_id, seed=0).scores
    assert found is not None and found.positives.median == 0.75
    assert [(each.found_by, each.histogram.num, each.num_above) for each in found.negatives] == [
        ("bm25 and dense", 2, 0),
        ("bm25", 1, 0),
        ("dense", 1, 1),
        ("mined", 1, 0),
    ]
    assert len({each.histogram.edges for each in found.negatives} | {found.positives.edges}) == 1


def test_what_an_earlier_version_did_not_store_is_not_made_up(store: Store) -> None:
    [sample] = asked(store, "who rows?")
    run_id = a_mine_run(store, mined(sample, negative(sample, 10)))
    with store.write() as cursor:
        cursor.execute(
            "UPDATE mined SET num_candidates = NULL, fallen = NULL, positive_score = NULL, candidates = NULL"
        )
        cursor.execute("UPDATE negative SET miners = NULL, flags = NULL, relaxed = NULL")
        cursor.execute("DELETE FROM run_step")
    found = mining_report_of(store, run_id, seed=0)
    assert found.outcome.num_candidates is None and found.outcome.fallen == {} and found.steps == []
    assert found.scores is not None and found.scores.positives.median == 0.75  # the negatives have it too
    [example] = found.examples
    assert example.positive_score == 0.75 and example.negatives[0].miners == []


def test_a_judge_finds_false_what_it_grades_two_or_three_by_rank(store: Store) -> None:
    [sample] = asked(store, "who rows?")
    run_id = a_mine_run(store, mined(sample, *(negative(sample, rank) for rank in (3, 6, 10, 20, 55))))
    graded(store, sample, (3, 3), (6, 2), (10, 1), (20, None), (59, 3))
    graded(store, sample, (3, 0), judge="other")
    by = {each.judged_by: each for each in mining_report_of(store, run_id, seed=0).false_negatives}
    assert set(by) == {"judge small", "judge other"}
    bands = {(band.first, band.last): band for band in by["judge small"].bands}
    assert (bands[1, 5].num, bands[1, 5].num_judged, bands[1, 5].num_false) == (1, 1, 1)
    assert (bands[6, 10].num, bands[6, 10].num_judged, bands[6, 10].num_false) == (2, 2, 1)
    assert bands[6, 10].share == 0.5 and (bands[6, 10].low, bands[6, 10].high) == wilson(0.5, 2)
    assert (bands[11, 20].num, bands[11, 20].num_judged, bands[11, 20].share) == (1, 0, None)
    assert bands[51, None].num == 1 and (21, 30) not in bands  # no negative has such a rank
    assert (by["judge small"].all_ranks.num_judged, by["judge small"].all_ranks.num_false) == (3, 2)
    assert by["judge other"].all_ranks.num_false == 0


def test_a_judges_last_grade_counts(store: Store) -> None:
    [sample] = asked(store, "who rows?")
    run_id = a_mine_run(store, mined(sample, negative(sample, 3)))
    graded(store, sample, (3, 3))
    graded(store, sample, (3, 1))
    [by_judge] = mining_report_of(store, run_id, seed=0).false_negatives
    assert (by_judge.all_ranks.num_judged, by_judge.all_ranks.num_false) == (1, 0)


def test_people_judge_what_they_drop_what_they_keep_and_all_that_they_leave_in_what_they_approve(store: Store) -> None:
    approved, other = asked(store, "who rows?", "who sails?")
    reviewed(store, other, Verdict.APPROVE)  # before it was mined: of no negative
    run_id = a_mine_run(
        store,
        mined(approved, *(negative(approved, rank) for rank in (11, 12, 13))),
        mined(other, *(negative(other, rank) for rank in (21, 22, 23, 24, 25, 26))),
    )
    reviewed(store, approved, Verdict.FALSE_NEGATIVE, 11)
    reviewed(store, approved, Verdict.APPROVE)
    verdicts = (Verdict.PARTIAL, Verdict.PROMOTE, Verdict.REJECT, Verdict.KEEP, Verdict.SKIP)
    for number, verdict in enumerate(verdicts, start=21):
        reviewed(store, other, verdict, number)
    [by_people] = mining_report_of(store, run_id, seed=0).false_negatives
    bands = {band.first: (band.num, band.num_judged, band.num_false) for band in by_people.bands}
    assert by_people.judged_by == "reviewers"
    assert bands == {11: (3, 3, 1), 21: (6, 4, 2)}  # too easy, say, is a reason to drop one that is no answer


def test_an_approval_that_was_undone_judges_nothing(store: Store) -> None:
    [sample] = asked(store, "who rows?")
    run_id = a_mine_run(store, mined(sample, negative(sample, 11)))
    reviewed(store, sample, Verdict.APPROVE)
    with store.write() as cursor:
        cursor.execute(
            "INSERT INTO review BY NAME SELECT * REPLACE (uuid() AS review_id, review_id AS undoes) FROM review"
        )
    assert mining_report_of(store, run_id, seed=0).false_negatives == []


def test_negatives_that_an_edit_took_along_count_once(store: Store) -> None:
    [sample] = asked(store, "who rows?")
    run_id = a_mine_run(store, mined(sample, negative(sample, 11, flags=("near_positive",))))
    with store.write() as cursor:
        cursor.execute(
            "INSERT INTO negative BY NAME SELECT * REPLACE (uuid() AS negative_id, uuid() AS revision_id,"
            " negative_id AS original_id) FROM negative"
        )
    graded(store, sample, (11, 3))
    found = mining_report_of(store, run_id, seed=0)
    assert found.scores is not None and found.scores.negatives[0].histogram.num == found.num_flagged == 1
    assert found.false_negatives[0].all_ranks.num == found.false_negatives[0].all_ranks.num_judged == 1


def test_a_policy_judges_no_negative(store: Store) -> None:
    [sample] = asked(store, "who rows?")
    run_id = a_mine_run(store, mined(sample, negative(sample, 11)))
    reviewed(store, sample, Verdict.APPROVE, kind="policy")
    assert mining_report_of(store, run_id, seed=0).false_negatives == []


def test_bands_meet_without_a_gap() -> None:
    ranks = [{"rank": rank, "found_by": "", "num": 1} for rank in (1, 5, 6, 10, 11, 20, 21, 30, 31, 50, 51, 5000)]
    [found] = false_negatives(ranks, [{"judged_by": "judge a", "rank": 5000, "found_by": "", "num": 1, "num_false": 1}])
    assert [band.num for band in found.bands] == [2] * 6 and found.all_ranks.num == 12
    assert found.bands[-1] == Band(51, None, 2, 1, 1, 1.0, *wilson(1.0, 1))


def test_what_the_first_miner_did_not_find_is_in_no_band_of_its_ranks(store: Store) -> None:
    [sample] = asked(store, "who rows?")
    dense, bm25, other = FoundBy("dense", 3, 0.5), FoundBy("bm25", 3, 12.5), FoundBy("dense:other", 3, 0.4)
    run_id = a_mine_run(
        store,
        mined(
            sample,
            negative(sample, 1),  # of a version that kept no miners
            negative(sample, 2, miners=(bm25, dense)),
            negative(sample, 3, miners=(bm25,)),
            negative(sample, 4, miners=(bm25,)),
            negative(sample, 5, miners=(other, bm25)),
        ),
    )
    graded(store, sample, (1, 0), (2, 3), (3, 2))
    [by_judge] = mining_report_of(store, run_id, seed=0).false_negatives
    assert [(band.first, band.num, band.num_judged, band.num_false) for band in by_judge.bands] == [(1, 2, 2, 1)]
    others = [(band.found_by, band.num, band.num_judged, band.num_false) for band in by_judge.others]
    assert others == [("bm25", 2, 1, 1), ("bm25 and dense:other", 1, 0, 0)]
    assert (by_judge.all_ranks.num, by_judge.all_ranks.num_judged) == (5, 3)
    assert MineSettings().miners == [FIRST_MINER]


def test_flagged_negatives_and_those_that_a_rule_was_given_up_for_are_counted(store: Store) -> None:
    [sample] = asked(store, "who rows?")
    run_id = a_mine_run(
        store,
        mined(
            sample,
            negative(sample, 10, flags=("near_positive", "near_duplicate"), positive_similarity=0.97, overlap=0.86),
            negative(sample, 11, flags=("near_positive",), relaxed=("cap",)),
            negative(sample, 12),
        ),
    )
    found = mining_report_of(store, run_id, seed=0)
    assert (found.num_flagged, found.flags, found.relaxed) == (2, {"near_positive": 2, "near_duplicate": 1}, {"cap": 1})
    first = found.examples[0].negatives[0]
    assert (first.positive_similarity, first.overlap, list(first.flags)) == (
        0.97,
        0.86,
        ["near_positive", "near_duplicate"],
    )


def test_examples_are_drawn_by_the_seed_with_their_negatives_by_rank(store: Store) -> None:
    samples = asked(store, *(f"{n}?" for n in range(30)))
    run_id = a_mine_run(store, *(mined(each, negative(each, 12), negative(each, 11)) for each in samples))
    first, again, other = (mining_report_of(store, run_id, seed=seed).examples for seed in (0, 0, 1))
    assert len(first) == 10 and first == again
    assert {each.query for each in first} != {each.query for each in other}
    assert all([negative.rank for negative in each.negatives] == [11, 12] for each in first)


def test_a_second_mining_is_held_against_the_first_and_both_stay(store: Store) -> None:
    one, two, new = asked(store, "who rows?", "who sails?", "who swims?")
    first = a_mine_run(
        store,
        mined(one, negative(one, 10, 0.5), negative(one, 11, 0.4), positive_rank=60),
        mined(two, negative(two, 20, 0.3), status="short", reason="few", positive_rank=2),
    )
    second = a_mine_run(
        store,
        mined(one, negative(one, 12, 0.6, of=10), negative(one, 9, 0.2, of=11), positive_rank=3),
        mined(two, negative(two, 20, 0.7), negative(two, 30, 0.1), positive_rank=1),
        mined(new, negative(new, 10), positive_rank=99),
        encoder="trained",
    )
    assert mining_report_of(store, first, seed=0).before is None
    found = mining_report_of(store, second, seed=0).before
    assert found is not None
    assert (found.encoders, found.run_ids, found.num_samples) == (["small"], [first], 2)
    assert (found.num_kept, found.num_nearer, found.num_farther, found.num_same) == (3, 1, 1, 1)
    assert (found.before.num_negatives, found.now.num_negatives) == (3, 4)  # not those of the third sample
    assert (found.before.positive_rank, found.now.positive_rank) == (31, 2)
    assert (found.before.num_deep, found.now.num_deep) == (1, 0)
    assert (found.before.num_wanting, found.now.num_wanting) == (1, 0)
    assert (found.before.negative_score, found.now.negative_score) == (pytest.approx(0.4), pytest.approx(0.4))
    assert found.now.distance == pytest.approx(0.35) and found.now.positive_score == 0.75


def test_a_mining_that_took_two_runs_is_one_and_the_other_half_of_the_same_mining_is_no_earlier_one(
    store: Store,
) -> None:
    one, two = asked(store, "who rows?", "who sails?")
    halves = [a_mine_run(store, mined(each, negative(each, 10))) for each in (one, two)]
    assert mining_report_of(store, halves[1], seed=0).before is None
    again = a_mine_run(store, *(mined(each, negative(each, 10)) for each in (one, two)), encoder="trained")
    found = mining_report_of(store, again, seed=0).before
    assert found is not None and list(found.run_ids) == halves and found.num_samples == 2 and found.num_kept == 2


def test_ranks_of_two_miners_are_not_held_against_each_other(store: Store) -> None:
    [one] = asked(store, "who rows?")
    dense, bm25 = FoundBy("dense", 3, 0.5), FoundBy("bm25", 3, 12.5)
    a_mine_run(store, mined(one, negative(one, 10, miners=(dense,)), negative(one, 11, miners=(dense, bm25))))
    now = [negative(one, 2, of=10, miners=(bm25,)), negative(one, 12, of=11, miners=(dense,))]
    found = mining_report_of(store, a_mine_run(store, mined(one, *now), encoder="other"), seed=0).before
    assert found is not None
    assert (found.num_kept, found.num_nearer, found.num_farther, found.num_same) == (2, 0, 1, 0)


def test_the_settings_that_differ_from_the_last_run_of_the_earlier_mining_are_listed(store: Store) -> None:
    one, two = asked(store, "who rows?", "who sails?")
    rest = {"num_negatives": 4, "api_key_env": "KEY"}
    a_mine_run(store, mined(one, negative(one, 10)), config=rest | {"precision": "fp32", "relax": ["window"]})
    a_mine_run(store, mined(two, negative(two, 10)), config=rest | {"precision": "bf16", "relax": ["window"]})
    now = rest | {"precision": "bf16", "relax": ["window", "cap"], "new": 1}
    third = a_mine_run(store, mined(one), mined(two), encoder="trained", config=now)
    found = mining_report_of(store, third, seed=0).before
    assert found is not None
    assert found.changes == [
        Change("relax", ["window"], ["window", "cap"])
    ]  # what one of them does not know is no change


def test_a_corpus_too_small_for_the_window_is_told_by_source(store: Store) -> None:
    [boat], [bird] = asked(store, "who rows?"), asked(store, "who flies?", source=BIRDS)
    config = {"rank_min": 10, "rank_max": 30, "num_negatives": 4}
    with runs.recorded(store, "mine", config) as run:
        for size, result in ((59, mined(bird)), (60, mined(boat))):
            with run.step("encode passages", size):
                pass
            with store.write() as cursor:
                minings.add_mined(cursor, key_of("mine"), run.run_id, [result])
    birds, boats = mining_report_of(store, run.run_id, seed=0).sources
    assert (birds.source, birds.shrunk, boats.shrunk) == ("birds", Shrunk(59, 9, 29), None)


def test_corpora_that_cannot_be_told_from_one_another_are_not_told(store: Store) -> None:
    [boat] = asked(store, "who rows?")
    with runs.recorded(store, "mine", {}) as run:
        for size in (20, 30):
            with run.step("encode passages", size):
                pass
        with store.write() as cursor:
            minings.add_mined(cursor, key_of("mine"), run.run_id, [mined(boat)])
    [boats] = mining_report_of(store, run.run_id, seed=0).sources
    assert boats.shrunk is None


def test_a_run_that_stored_nothing_has_a_report(store: Store) -> None:
    with runs.recorded(store, "mine", {}) as run:
        pass
    found = mining_report_of(store, run.run_id, seed=0)
    assert found.outcome.num_samples == 0 and found.scores is None and found.examples == [] and found.before is None
