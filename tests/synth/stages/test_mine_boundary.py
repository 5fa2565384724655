"""Mining scored pairs: where cosines part the upper half of scores from the lower, and which pairs lie near."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from synth.records import Sts, Use, UserError, Verdict
from synth.screen import progress
from synth.stages.mine.boundary import BoundaryOutcome, draw_boundary, mine_boundaries, plan_boundaries
from synth.stages.mine.settings import MineSettings
from synth.store.connection import Store
from synth.store.console import query
from tests.synth.stages.labelled import add_samples, at_angles, say

BASE = "a boat"
ANGLES = {BASE: 0.0, "a ship": 10.0, "a raft": 30.0, "a car": 50.0, "a train": 60.0, "a cat": 70.0}
SCORES = {"a ship": 5.0, "a raft": 4.0, "a car": 1.0, "a train": 3.0, "a cat": 0.0}


@pytest.fixture
def pairs(store: Store) -> Store:
    """Five pairs of one source; one of them lies on the wrong side."""
    add_samples(store, *(Sts(text, BASE, score) for text, score in SCORES.items()), name="boats")
    return store


def run(store: Store, folder: Path, angles: dict[str, float] = ANGLES, **changes: Any) -> BoundaryOutcome:
    if not (folder / "vectors").is_dir():
        at_angles(folder / "vectors", angles)
    settings = replace(MineSettings(str(folder / "vectors")), **changes)
    return mine_boundaries(store, plan_boundaries(store, settings, [], folder / "cache", device="cpu"), steps=progress)


def shown(store: Store) -> list[dict[str, Any]]:
    return query(store, "FROM pair_boundaries ORDER BY distance").to_pylist()


def test_each_pair_has_its_cosine_beside_the_boundary_and_its_side(pairs: Store, tmp_path: Path) -> None:
    outcome = run(pairs, tmp_path)
    rows = {row["text1"]: row for row in shown(pairs)}
    assert rows["a raft"]["cosine"] == pytest.approx(0.8660254, abs=1e-6)
    [drawn] = outcome.boundaries
    assert (drawn.source, drawn.least_score, drawn.num_pairs, drawn.num_correct) == ("boats", 3.0, 5, 4)
    assert drawn.boundary == pytest.approx((0.8660254 + 0.6427876) / 2, abs=1e-6)  # between the raft and the car
    for row in rows.values():
        assert row["boundary"] == drawn.boundary
        assert row["distance"] == pytest.approx(abs(row["cosine"] - drawn.boundary))
        assert row["is_wrong_side"] == (row["text1"] == "a train")
        assert (row["source"], row["encoder"]) == ("boats", str(tmp_path / "vectors"))
        assert row["run_id"] == outcome.run_id


def test_a_second_run_scores_nothing_and_new_pairs_draw_the_boundary_anew(pairs: Store, tmp_path: Path) -> None:
    first = run(pairs, tmp_path, ANGLES | {"a tram": 45.0})
    again = run(pairs, tmp_path)
    assert (again.num_pairs, again.boundaries) == (0, [])
    add_samples(pairs, Sts("a tram", BASE, 4.5), name="boats")
    later = run(pairs, tmp_path)
    assert later.num_pairs == 1 and later.boundaries[0].num_pairs == 6
    assert {row["boundary"] for row in shown(pairs)} == {later.boundaries[0].boundary}
    assert later.boundaries[0].boundary < first.boundaries[0].boundary
    assert len(shown(pairs)) == 6
    with pairs.read() as cursor:
        kept = cursor.execute("SELECT boundary FROM pair_boundary ORDER BY created_at").fetchall()
    assert kept == [(first.boundaries[0].boundary,), (later.boundaries[0].boundary,)]


def test_another_encoder_has_boundaries_of_its_own(pairs: Store, tmp_path: Path) -> None:
    run(pairs, tmp_path)
    other = at_angles(tmp_path / "other", {text: angle / 2 for text, angle in ANGLES.items()})
    assert run(pairs, tmp_path, encoder=other).num_pairs == 5
    assert {row["encoder"] for row in shown(pairs)} == {str(tmp_path / "vectors"), other}
    assert len({(row["encoder"], row["boundary"]) for row in shown(pairs)}) == 2


def test_held_out_and_rejected_pairs_are_not_looked_at(pairs: Store, tmp_path: Path) -> None:
    add_samples(pairs, Sts("an exam", BASE, 2.0), name="boats", use=Use.EVAL)
    say(pairs, Verdict.REJECT, "a train")
    assert run(pairs, tmp_path).num_pairs == 4
    assert {row["text1"] for row in shown(pairs)} == {"a ship", "a raft", "a car", "a cat"}
    say(pairs, Verdict.REJECT, "a cat")
    assert {row["text1"] for row in shown(pairs)} == {"a ship", "a raft", "a car"}


def test_pairs_of_one_score_are_told_and_nothing_is_stored(store: Store, tmp_path: Path) -> None:
    add_samples(store, Sts("a ship", BASE, 1.0), Sts("a raft", BASE, 1.0), name="flat")
    outcome = run(store, tmp_path)
    assert outcome.notes == ["flat: all its pairs have one score, so nothing parts them"]
    assert (outcome.num_pairs, shown(store)) == (0, [])


def test_an_unknown_source_is_one_line(pairs: Store, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no source is called tunes"):
        plan_boundaries(pairs, MineSettings(), ["tunes"], tmp_path)


@pytest.mark.parametrize(
    ("scores", "least"),
    [
        ([0, 0, 0, 1], 1),
        ([0, 1, 1, 1], 1),
        ([0, 1, 2, 3], 2),
        ([0, 0, 1, 2, 2], 1),
        ([0, 1, 2], 1),
    ],
)
def test_scores_are_cut_where_the_halves_are_most_nearly_equal(scores: list[float], least: float) -> None:
    assert draw_boundary("", scores, scores).least_score == least


def test_of_equally_good_places_the_widest_gap_is_taken_and_its_middle() -> None:
    drawn = draw_boundary("", [0, 1, 0, 1], [0.1, 0.2, 0.6, 0.8])
    assert (drawn.boundary, drawn.num_correct) == (pytest.approx(0.7), 3)


def test_an_encoder_that_has_it_upside_down_gets_no_boundary_between_pairs() -> None:
    drawn = draw_boundary("", [1, 1, 0, 0], [0.1, 0.2, 0.3, 0.4])
    assert (drawn.boundary, drawn.num_correct) == (0.1, 2)
    above = draw_boundary("", [1, 0, 0], [0.1, 0.3, 0.4])
    assert above.boundary > 0.4 and above.num_correct == 2


PAIR = st.tuples(st.integers(0, 3).map(float), st.integers(-4, 4).map(lambda n: n / 4))


@given(st.lists(PAIR, min_size=2, max_size=12).filter(lambda found: len({score for score, _ in found}) > 1))
def test_no_cosine_parts_the_halves_better(found: list[tuple[float, float]]) -> None:
    scores, cosines = [score for score, _ in found], [cosine for _, cosine in found]
    drawn = draw_boundary("", scores, cosines)

    def num_correct(boundary: float) -> int:
        return sum((score >= drawn.least_score) == (cosine >= boundary) for score, cosine in found)

    assert drawn.num_correct == num_correct(drawn.boundary)
    assert drawn.num_correct == max(num_correct(place / 8) for place in range(-9, 10))
