"""Which negatives a release takes: those nobody objects to, people's first, and no more generated ones than stated."""

from pathlib import Path

import pytest

from synth.records import Retrieval, Task, Verdict
from synth.stages.release_files import read_rows
from synth.store.connection import Store
from tests.synth.stages.releasing import add, approve_all, create, give_negatives, judge, retrieval, source

ASKED = retrieval(0).query
TEXTS = ("A cow moos.", "A dog barks.", "An owl hoots.")
OBJECTIONS = (Verdict.REJECT, Verdict.FALSE_NEGATIVE, Verdict.PARTIAL)


@pytest.fixture
def mined(store: Store) -> Store:
    """One approved sample with three mined negatives."""
    add(store, source(store), retrieval(0))
    approve_all(store)
    give_negatives(store, ASKED, [(text, "mined", rank) for rank, text in enumerate(TEXTS, start=1)])
    return store


def released(store: Store, folder: Path, **policy: object) -> list[dict[str, object]]:
    """The negatives of the one sample."""
    name = f"r{len(list(folder.iterdir()))}"
    [row] = read_rows(create(store, folder, name, **policy).path, Task.RETRIEVAL)
    return list(row["negatives"])


def texts(negatives: list[dict[str, object]]) -> list[object]:
    return [negative["text"] for negative in negatives]


@pytest.mark.parametrize("verdict", OBJECTIONS)
def test_a_text_that_one_reviewer_objects_to_stays_out_also_when_it_is_mined_again(
    mined: Store, tmp_path: Path, verdict: Verdict
) -> None:
    found = [(text, "mined", rank) for rank, text in enumerate(TEXTS, start=1)]
    again = give_negatives(mined, ASKED, found)
    judge(mined, ASKED, verdict, "ann", negative_id=again[TEXTS[0]])
    judge(mined, ASKED, Verdict.KEEP, "bob", negative_id=again[TEXTS[0]])
    assert texts(released(mined, tmp_path)) == list(TEXTS[1:])
    give_negatives(mined, ASKED, found)
    assert texts(released(mined, tmp_path)) == list(TEXTS[1:])


def test_a_reviewers_own_keep_or_undo_brings_a_text_back(mined: Store, tmp_path: Path) -> None:
    again = give_negatives(mined, ASKED, [(text, "mined", rank) for rank, text in enumerate(TEXTS, start=1)])
    judge(mined, ASKED, Verdict.REJECT, "ann", negative_id=again[TEXTS[0]])
    judge(mined, ASKED, Verdict.KEEP, "ann", negative_id=again[TEXTS[0]])
    event = judge(mined, ASKED, Verdict.REJECT, "ann", negative_id=again[TEXTS[1]])
    judge(mined, ASKED, Verdict.REJECT, "ann", negative_id=again[TEXTS[1]], undoes=event)
    assert texts(released(mined, tmp_path)) == list(TEXTS)


def test_a_positive_is_never_a_negative_however_it_is_spaced(store: Store, tmp_path: Path) -> None:
    add(store, source(store), Retrieval(ASKED, ("The  café\u3000purrs.", "It hums.")))
    approve_all(store)
    give_negatives(
        store, ASKED, [("The cafe\u0301 purrs.", "mined", 1), ("It hums.", "mined", 2), (TEXTS[0], "mined", 3)]
    )
    assert texts(released(store, tmp_path, max_negatives=1)) == [TEXTS[0]]


def test_labelled_negatives_come_first_without_rank_and_a_text_counts_once(mined: Store, tmp_path: Path) -> None:
    give_negatives(mined, ASKED, [(TEXTS[2], "labelled", None), ("A hen clucks.", "labelled", None)])
    found = released(mined, tmp_path, max_negatives=3)
    assert [(n["origin"], n["rank"], n["score"]) for n in found[:2]] == [("labelled", None, None)] * 2
    assert set(texts(found[:2])) == {TEXTS[2], "A hen clucks."}
    assert texts(found[2:]) == [TEXTS[0]]


def test_what_the_latest_mining_did_not_take_an_earlier_one_does_not_bring_back(mined: Store, tmp_path: Path) -> None:
    give_negatives(mined, ASKED, [("A hen clucks.", "mined", 9), (TEXTS[1], "mined", 12)])
    assert texts(released(mined, tmp_path, max_negatives=3)) == ["A hen clucks.", TEXTS[1]]


def test_samples_with_fewer_negatives_than_asked_are_left_out(mined: Store, tmp_path: Path) -> None:
    add(mined, source(mined, "other"), retrieval(1))
    approve_all(mined)
    made = create(mined, tmp_path, min_negatives=1)
    assert (made.counts["retrieval"], made.left_out) == (1, {"too_few_negatives": 1})


def shares(store: Store, folder: Path, **policy: object) -> tuple[int, int, set[str]]:
    made = create(store, folder, f"r{len(list(folder.iterdir()))}", **policy)
    found = [negative for row in read_rows(made.path, Task.RETRIEVAL) for negative in row["negatives"]]
    generated = {negative["text"] for negative in found if negative["origin"] == "generated"}
    return len(generated), len(found), generated


@pytest.fixture
def generated(store: Store) -> Store:
    """Twenty approved samples with three generated negatives each, the first ten with four mined ones, too."""
    add(store, source(store), *(retrieval(number) for number in range(20)))
    approve_all(store)
    for number in range(20):
        made = [(f"Of {number}, written {n}.", "generated", None) for n in range(3)]
        mined = [(f"Of {number}, found {n}.", "mined", n + 1) for n in range(4 if number < 10 else 0)]
        give_negatives(store, retrieval(number).query, made + mined)
    return store


@pytest.mark.parametrize(("share", "of_four"), [(0.0, 0), (0.24, 0), (0.25, 1), (0.3, 1), (0.5, 2), (1.0, 3)])
def test_at_most_the_stated_share_of_a_samples_negatives_is_generated_and_never_all(
    generated: Store, tmp_path: Path, share: float, of_four: int
) -> None:
    # what a generated one does not take is left to a mined one, and where nothing was mined there is none
    assert shares(generated, tmp_path, generated_share=share)[:2] == (of_four * 10, 40)


def test_one_negative_is_not_generated_however_many_generated_ones_may_be(generated: Store, tmp_path: Path) -> None:
    assert shares(generated, tmp_path, generated_share=1.0, max_negatives=2)[:2] == (10, 20)
    assert shares(generated, tmp_path, generated_share=1.0, max_negatives=1)[:2] == (0, 10)


@pytest.mark.parametrize(
    ("origins", "num_generated"),
    [(["mined"] * 2, 0), (["mined"] * 3, 1), (["labelled"] * 3, 1), (["labelled"] * 4, 0), (["relabelled"] * 3, 1)],
)
def test_one_of_four_is_generated_where_three_others_leave_it_room(
    store: Store, tmp_path: Path, origins: list[str], num_generated: int
) -> None:
    add(store, source(store), retrieval(0))
    approve_all(store)
    others = [(f"Found {n}.", origin, n) for n, origin in enumerate(origins, start=1)]
    give_negatives(store, ASKED, [("Written.", "generated", None), *others])
    found = released(store, tmp_path)
    assert [negative["origin"] for negative in found].count("generated") == num_generated
    assert len(found) == len(origins) + num_generated


def test_the_draw_is_the_seeds_and_the_same_every_time(generated: Store, tmp_path: Path) -> None:
    first = shares(generated, tmp_path, seed=1)[2]
    assert shares(generated, tmp_path, seed=1)[2] == first
    assert shares(generated, tmp_path, seed=2)[2] != first


def test_the_misleading_target_of_a_short_answer_stands_alone_and_no_other_written_negative_does(
    store: Store, tmp_path: Path
) -> None:
    guide = source(store)
    add(store, guide, retrieval(0), operation="long-short")
    add(store, guide, retrieval(1), operation="augment")
    approve_all(store)
    for number in range(2):
        give_negatives(store, retrieval(number).query, [("A cow moos.", "generated", None)])
    rows = read_rows(create(store, tmp_path, "both").path, Task.RETRIEVAL)
    assert {row["query"]: len(row["negatives"]) for row in rows} == {retrieval(0).query: 1, retrieval(1).query: 0}
