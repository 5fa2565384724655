"""What two sides hold, in figures and in pairs, and what votes on the pairs say."""

from dataclasses import replace
from math import isclose
from uuid import UUID

import pytest

from synth.records import Retrieval, Sts, UserError, Verdict, new_id
from synth.store.comparing import Histogram, Kind, Side, figures, histograms, known_sides, num_pairs, pairs
from synth.store.connection import Store
from synth.store.votes import Choice, Tally, Vote, add_vote, next_ballot, tally
from tests.synth.store.two_sides import (
    FIRST,
    LARGE,
    SECOND,
    SMALL,
    add_models,
    add_releases,
    add_run,
    ids_of,
    judge,
)

QUESTIONS = [(f"When does harbour {n} open?", f"At what hour does port {n} open?") for n in range(30)]
NOBODY = Side(Kind.MODEL, "unheard of")


def vote(store: Store, reviewer: str, choice: Choice, a: Side = SMALL, b: Side = LARGE) -> Vote:
    asked = next_ballot(store, reviewer, a, b)
    assert asked
    given = Vote(new_id(), reviewer, asked[0], choice, 2.5)
    assert add_vote(store, given)
    return given


def better(store: Store, reviewer: str, side: Side) -> None:
    """The reviewer finds what `side` made the better one."""
    asked = next_ballot(store, reviewer, SMALL, LARGE)
    assert asked
    choice = Choice.LEFT if asked[0].left_side == side else Choice.RIGHT
    assert add_vote(store, Vote(new_id(), reviewer, asked[0], choice))


@pytest.mark.parametrize("address", ["", "first", "release:", "model", "person:ada", "run:7", "run:' OR 1=1"])
def test_what_is_no_address_of_a_side_is_refused_in_one_line(address: str) -> None:
    with pytest.raises(UserError, match=r"is no side; it is release:NAME"):
        Side.of(address)


@pytest.mark.parametrize("side", [FIRST, Side(Kind.RUN, str(new_id())), Side(Kind.MODEL, "a:b' \u202e\n")])
def test_a_side_is_what_its_address_says(side: Side) -> None:
    assert Side.of(side.address) == side


def test_releases_runs_prompts_and_models_can_be_chosen(store: Store) -> None:
    add_releases(store, "A wet harbour.", "A rainy harbour.")
    run_id = add_run(store, "large", [("three", Retrieval("What is wet?", ("The sea.",)))])
    found = {each.side.address: (each.num_samples, each.what) for each in known_sides(store)}
    assert found["release:first"] == found["release:second"] == (2, "")
    assert found[f"run:{run_id}"] == (1, "generate large")
    assert found["model:small"] == found["prompt:small-prompt"] == (2, "")
    assert found["model:large"] == found["prompt:large-prompt"] == (1, "")
    assert len(found) == 8
    assert known_sides(store)[0].side == SECOND  # releases first, the newest first


def test_figures_of_each_side_are_its_own(store: Store) -> None:
    add_models(store, QUESTIONS[:3])
    small, large = ids_of(store, "small"), ids_of(store, "large")
    judge(store, small[0], Verdict.APPROVE, difficulty=2)
    judge(store, small[1], Verdict.REJECT, "duplicate", "too-easy", difficulty=4)
    judge(store, large[0], Verdict.REJECT, "duplicate")
    one, other = figures(store, SMALL, LARGE)
    assert (one.num_samples, one.num_pending, one.num_approved, one.num_rejected, one.num_disputed) == (3, 1, 1, 1, 0)
    assert (other.num_samples, other.num_pending, other.num_rejected) == (3, 2, 1)
    assert (one.difficulty, other.difficulty, one.hardness, one.priority) == (3.0, None, None, None)
    assert one.reasons == {"duplicate": 1, "too-easy": 1}
    assert other.reasons == {"duplicate": 1}


def test_acceptance_is_of_each_sides_random_part_read_in_turn(store: Store) -> None:
    number = 0
    while len(chance := by_draw(store, "small", is_random=True)) < 4:  # ids are made by chance
        number += 1
        add_models(store, [(f"{one} {number}", f"{other} {number}") for one, other in QUESTIONS])
    judge(store, by_draw(store, "small", is_random=False)[0], Verdict.REJECT)  # of the suspicious: says nothing of all
    judge(store, chance[0], Verdict.APPROVE)
    judge(store, chance[1], Verdict.REJECT)
    judge(store, chance[3], Verdict.APPROVE)  # beyond the gap
    one, other = figures(store, SMALL, LARGE)
    assert (one.read.num_decided, one.read.num_approved, one.read.num_out_of_turn) == (2, 1, 1)
    assert other.read.num_read == 0


def by_draw(store: Store, model: str, *, is_random: bool) -> list[UUID]:
    with store.read() as cursor:
        rows = cursor.execute(
            "SELECT sample_id FROM samples JOIN sample_state USING (sample_id) WHERE model = ? AND is_random = ?"
            " ORDER BY draw",
            [model, is_random],
        ).fetchall()
    return [sample_id for (sample_id,) in rows]


def test_a_side_that_holds_nothing_has_figures_of_nothing(store: Store) -> None:
    add_models(store, QUESTIONS[:1])
    _, other = figures(store, SMALL, NOBODY)
    assert (other.num_samples, other.hardness, other.reasons, other.read.num_read) == (0, None, {}, 0)
    assert num_pairs(store, SMALL, NOBODY) == 0
    assert tally(store, SMALL, NOBODY) == Tally(0, 0, 0, 0, 0, 0, 0)


def test_scores_fall_into_bins_that_both_sides_share(store: Store) -> None:
    add_run(store, "small", [("x", Sts("A boat.", "A ship.", 4.0)), ("y", Sts("A boat.", "A quay.", 0.0))])
    add_run(store, "large", [("x", Sts("One boat.", "A ship.", 4.1)), ("y", Sts("A boat.", "One hat.", 2.0))])
    found = histograms(store, SMALL, LARGE)
    score = found["score"]
    assert isclose(score.width, 0.2)
    assert (sum(score.a), sum(score.b)) == (2, 2)
    assert (score.a[0], score.a[20], score.b[20], score.b[10]) == (1, 1, 1, 1)
    assert len(score.a) == len(score.b) == 21
    assert found["hardness"] == Histogram(0.0, 1.0)


def test_a_value_that_all_have_is_one_bin(store: Store) -> None:
    add_run(store, "small", [("x", Sts("A boat.", "A ship.", 3.0))])
    score = histograms(store, SMALL, NOBODY)["score"]
    assert (score.a, score.b) == ((1,), (0,))
    assert isclose(score.start, 3.0)


def test_two_releases_are_paired_by_the_samples_that_were_edited(store: Store) -> None:
    add_releases(store, "A wet harbour.", "A rainy harbour.")
    [pair] = pairs(store, FIRST, SECOND, 1)
    assert pair.a.sample_id == pair.b.sample_id
    assert (pair.a.content.text, pair.b.content.text) == ("A wet harbour.", "A rainy harbour.")  # type: ignore[union-attr]
    assert pair.b.operation == "query"  # of what made the sample, not of the edit


def test_what_a_person_made_of_a_sample_is_no_part_of_its_models_side(store: Store) -> None:
    add_releases(store, "A wet harbour.", "A rainy harbour.")
    add_run(store, "large", [("one", replace(pairs(store, FIRST, SECOND, 1)[0].a.content, text="A damp harbour."))])
    [pair] = pairs(store, SMALL, LARGE, 1)
    assert pair.a.content.text == "A wet harbour."  # type: ignore[union-attr]


def test_other_sides_are_paired_by_their_seeds_the_first_with_the_first(store: Store) -> None:
    add_models(store, QUESTIONS[:2])
    add_run(store, "small", [("seed 0", Retrieval("Which port is open?", ("It opens at six.",)))])
    add_run(store, "large", [("seed 9", Retrieval("Where is it?", ("There.",)))])
    found = {(pair.a.content.query, pair.b.content.query) for pair in pairs(store, SMALL, LARGE, 1)}  # type: ignore[union-attr]
    assert found == {QUESTIONS[0], QUESTIONS[1]}


def test_what_is_on_both_sides_makes_no_pair(store: Store) -> None:
    add_models(store, QUESTIONS[:2])
    assert pairs(store, SMALL, SMALL, 1) == []
    assert pairs(store, SMALL, Side(Kind.PROMPT, "query-1"), 1) == []


def test_a_page_has_twenty_pairs_and_the_pages_have_them_all(store: Store) -> None:
    add_models(store, QUESTIONS)
    one, two = pairs(store, SMALL, LARGE, 1), pairs(store, SMALL, LARGE, 2)
    assert (len(one), len(two), num_pairs(store, SMALL, LARGE)) == (20, 10, 30)
    assert len({pair.a.revision_id for pair in (*one, *two)}) == 30


def test_nobody_is_asked_the_same_pair_twice_whatever_the_sides_are_called(store: Store) -> None:
    add_models(store, QUESTIONS[:5])
    asked = {frozenset((given.ballot.left_id, given.ballot.right_id)) for given in _all_votes(store, "ada")}
    assert len(asked) == 5
    assert next_ballot(store, "ada", LARGE, SMALL) is None
    runs = [each.side for each in known_sides(store) if each.side.kind is Kind.RUN]
    assert next_ballot(store, "ada", *runs) is None
    assert next_ballot(store, "bob", SMALL, LARGE) is not None


def _all_votes(store: Store, reviewer: str) -> list[Vote]:
    found = []
    while next_ballot(store, reviewer, SMALL, LARGE):
        found.append(vote(store, reviewer, Choice.LEFT))
    return found


def test_a_vote_that_comes_twice_is_stored_once(store: Store) -> None:
    add_models(store, QUESTIONS[:2])
    given = vote(store, "ada", Choice.EQUAL)
    assert not add_vote(store, given)
    assert not add_vote(store, replace(given, choice=Choice.RIGHT))  # the other button, before the page has changed
    assert not add_vote(store, replace(given, vote_id=new_id()))  # another tab
    assert tally(store, SMALL, LARGE).num_votes == 1
    with store.read() as cursor:
        rows = cursor.execute("SELECT reviewer, choice, left_side, seconds FROM votes").fetchall()
    assert rows == [("ada", "equal", given.ballot.left_side.address, 2.5)]


def test_a_vote_of_nobody_or_of_one_revision_is_refused(store: Store) -> None:
    add_models(store, QUESTIONS[:1])
    asked = next_ballot(store, "ada", SMALL, LARGE)
    assert asked
    with pytest.raises(UserError, match="nobody votes"):
        add_vote(store, Vote(new_id(), "", asked[0], Choice.LEFT))
    with pytest.raises(UserError, match="stands on both sides"):
        twice = replace(asked[0], right_id=asked[0].left_id)
        add_vote(store, Vote(new_id(), "ada", twice, Choice.LEFT))


def test_sides_change_places_and_stay_for_one_reviewer(store: Store) -> None:
    add_models(store, QUESTIONS)
    places = []
    for number in range(16):
        asked = next_ballot(store, f"reviewer {number}", SMALL, LARGE)
        again = next_ballot(store, f"reviewer {number}", LARGE, SMALL)
        assert asked and again
        ballot, pair, left = asked
        assert left == 30
        assert (pair.a.revision_id, pair.b.revision_id) == (ballot.left_id, ballot.right_id)
        places.append(ballot.left_side == SMALL)
        assert ballot.left_id in ids_of(store, ballot.left_side.name)
    assert 1 <= sum(places) <= 15  # all alike: once in 30,000


def test_the_side_that_is_better_wins_wherever_it_stood(store: Store) -> None:
    add_models(store, QUESTIONS[:9])
    for _ in range(8):
        better(store, "ada", SMALL)
    vote(store, "ada", Choice.CANNOT_TELL)
    found = tally(store, SMALL, LARGE)
    assert found == Tally(8, 0, 0, 1, 8, 0, 0)
    assert found.p is not None and isclose(found.p, 2 / 2**8)
    assert tally(store, LARGE, SMALL) == Tally(0, 8, 0, 1, 0, 8, 0)


def test_a_pair_counts_once_for_the_sign_test_however_many_vote(store: Store) -> None:
    add_models(store, QUESTIONS[:1])
    for reviewer, side in (("ada", SMALL), ("bob", SMALL), ("eve", LARGE)):
        better(store, reviewer, side)
    assert tally(store, SMALL, LARGE) == Tally(2, 1, 0, 0, 1, 0, 0)
    better(store, "dan", LARGE)
    found = tally(store, SMALL, LARGE)
    assert found == Tally(2, 2, 0, 0, 0, 0, 1)
    assert found.p is None
