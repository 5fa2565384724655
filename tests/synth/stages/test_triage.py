"""Triage of a store: for what each task's samples are suspicious, what is stored again, and the queue's order."""

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from synth.records import Classification, Draft, ReviewEvent, Source, Sts, Task, Use, UserError, Verdict, new_id
from synth.screen import progress
from synth.stages.mine.boundary import mine_boundaries, plan_boundaries
from synth.stages.mine.settings import MineSettings
from synth.stages.triage import run as stage
from synth.stages.triage.run import TriageOutcome, plan_triage, triage
from synth.store import queues, samples
from synth.store.connection import Store
from synth.store.console import query
from synth.store.reviews import add_reviews
from synth.store.sample_history import Row
from synth.store.samples import rebuild_state
from tests.review_app import seeding
from tests.synth.stages.labelled import add_samples, at_angles, say

QUERIES = [f"When does harbour {number} open?" for number in range(8)]
NEAR, FAR = "The harbour closes at nine.", "Boats are painted in March."
MOODS = {f"glad {n}": float(n) for n in range(8)} | {f"sad {n}": 90.0 - n for n in range(8)}


def run(store: Store, folder: Path, *names: str, tasks: tuple[Task, ...] = (), encoder: str = "") -> TriageOutcome:
    settings = MineSettings(encoder) if encoder else MineSettings()
    return triage(store, plan_triage(store, settings, tasks, names, folder / "cache", device="cpu"), steps=progress)


def found(store: Store) -> dict[str, Row]:
    """The triage of each latest revision by what it asks, with its parts as name -> value."""
    rows = query(
        store,
        "SELECT coalesce(s.query, s.text, s.text1) AS asked, t.priority, t.parts, t.labels, s.priority AS queued,"
        " s.sample_id::VARCHAR AS sample_id FROM triages t JOIN samples s USING (revision_id)",
    ).to_pylist()
    return {row["asked"]: row | {"parts": {part["name"]: part["value"] for part in row["parts"]}} for row in rows}


def scores(store: Store, asked: str) -> dict[str, float]:
    sql = (
        "SELECT coalesce(s.query, s.text, s.text1) AS asked, t.parts FROM triages t JOIN samples s USING (revision_id)"
    )
    [parts] = [row["parts"] for row in query(store, sql).to_pylist() if row["asked"] == asked]
    return {part["name"]: part["score"] for part in parts}


def mined(store: Store, known: Mapping[str, Mapping[str, Any]] | None = None) -> None:
    """Retrieval samples of which the first alone has what is known of negatives, and the others little."""
    seeding.add_samples(store, QUERIES[1:], known={NEAR: {"positive_similarity": 0.5}})
    seeding.add_samples(store, QUERIES[:1], known=known or {NEAR: {"positive_similarity": 0.9}})


def moods(store: Store, folder: Path) -> str:
    add_samples(store, *(Classification(text, text.split()[0]) for text in MOODS if text != "sad 0"))
    add_samples(store, Classification("sad 0", "glad"))
    return at_angles(folder / "vectors", MOODS)


def test_the_sample_whose_negative_is_nearest_to_its_positive_is_the_most_suspicious(
    store: Store, tmp_path: Path
) -> None:
    mined(store)
    outcome = run(store, tmp_path)
    assert (outcome.num_samples, outcome.num_new, outcome.num_changed, outcome.encoder) == (8, 8, 0, "")
    first = found(store)[QUERIES[0]]
    assert first["parts"] == {"similarity": pytest.approx(0.9), "flagged": 0.0}
    assert first["priority"] == pytest.approx(math.sqrt(7))  # one of eight stands out
    assert {each: row["priority"] for each, row in found(store).items() if each != QUERIES[0]} == dict.fromkeys(
        QUERIES[1:], 0.0
    )
    assert outcome.suspects[0].text == QUERIES[0] and len(outcome.suspects) == 1


def test_rerankers_flags_and_judges_count_each_by_itself(store: Store, tmp_path: Path) -> None:
    relevant = {"positive_similarity": 0.5, "relevance": 0.8, "positive_relevance": 0.6, "flags": ("above_reranker",)}
    seeding.add_samples(store, QUERIES[1:], known={NEAR: {"relevance": 0.2, "positive_relevance": 0.6}})
    seeding.add_samples(store, QUERIES[:1], known={NEAR: relevant})
    seeding.grade(store, {NEAR: 3, FAR: 0}, judge="stern")
    seeding.grade(store, {NEAR: 0, FAR: 0}, judge="mild")
    run(store, tmp_path)
    parts = found(store)[QUERIES[0]]["parts"]
    assert parts == {
        "similarity": 0.5,
        "reranker": pytest.approx(0.2),
        "judge": 1.0,  # two steps to one judge, none to the other
        "flagged": 1.0,
    }
    assert found(store)[QUERIES[1]]["parts"]["reranker"] == 0.0


def test_a_positive_that_a_judge_finds_wanting_is_suspicious(store: Store, tmp_path: Path) -> None:
    seeding.add_samples(store, QUERIES[:1], positive="The harbour is old.")
    seeding.add_samples(store, QUERIES[1:])
    seeding.grade(store, {"The harbour is old.": 0, "The harbour opens at six.": 3})
    run(store, tmp_path)
    assert found(store)[QUERIES[0]]["parts"]["judge"] == 2.0
    assert found(store)[QUERIES[1]]["parts"]["judge"] == 0.0


def test_hardness_is_the_last_resort(store: Store, tmp_path: Path) -> None:
    seeding.add_samples(store, QUERIES)
    run(store, tmp_path)
    hardness = query(store, "SELECT query, hardness FROM samples").to_pylist()
    assert {row["query"]: row["hardness"] for row in hardness} == {
        asked: pytest.approx(row["parts"]["hardness"]) for asked, row in found(store).items()
    }
    mined(store)  # the same samples, mined again
    run(store, tmp_path)
    assert all("hardness" not in row["parts"] for row in found(store).values())


def test_of_several_minings_the_latest_one_counts(store: Store, tmp_path: Path) -> None:
    mined(store)
    seeding.mine(store, QUERIES[:1], [FAR], {FAR: {"positive_similarity": 0.4}})
    run(store, tmp_path)
    assert found(store)[QUERIES[0]]["parts"]["similarity"] == pytest.approx(0.4)


def test_negatives_that_a_person_has_looked_at_make_nothing_suspicious(store: Store, tmp_path: Path) -> None:
    mined(store)
    ids = "negative_id::VARCHAR AS n, sample_id::VARCHAR AS s, revision_id::VARCHAR AS r"
    sql = f"SELECT {ids}, query, text FROM negatives"
    rows = query(store, sql).to_pylist()
    [row] = [each for each in rows if (each["query"], each["text"]) == (QUERIES[0], NEAR)]
    sample = UUID(row["s"]), UUID(row["r"])
    add_reviews(store, [ReviewEvent(new_id(), "ada", *sample, Verdict.KEEP, negative_id=UUID(row["n"]))])
    run(store, tmp_path)
    assert "similarity" not in found(store)[QUERIES[0]]["parts"]


def test_pairs_are_suspicious_by_how_far_apart_the_ranks_of_score_and_cosine_are(store: Store, tmp_path: Path) -> None:
    angles = {f"ship {n}": 10.0 * n for n in range(5)}
    add_samples(store, *(Sts(text, "a boat", 5.0 - n) for n, text in enumerate(angles) if n), name="boats")
    add_samples(store, Sts("ship 0", "a boat", 0.0), name="boats")  # the nearest, with the lowest score
    vectors = at_angles(tmp_path / "vectors", angles | {"a boat": 0.0})
    run(store, tmp_path, encoder=vectors)
    ranks = {asked: row["parts"]["ranks"] for asked, row in found(store).items()}
    assert ranks == {"ship 0": 1.0} | {f"ship {n}": pytest.approx(0.25) for n in range(1, 5)}


def test_cosines_that_mining_stored_are_not_computed_again(store: Store, tmp_path: Path) -> None:
    add_samples(store, Sts("a ship", "a boat", 5.0), Sts("a cat", "a boat", 0.0), name="boats")
    vectors = at_angles(tmp_path / "vectors", {"a ship": 1.0, "a cat": 80.0, "a boat": 0.0})
    mine_boundaries(
        store, plan_boundaries(store, MineSettings(vectors), [], tmp_path / "cache", device="cpu"), steps=progress
    )
    outcome = run(store, tmp_path, encoder=vectors)
    steps = query(store, "SELECT step FROM run_steps WHERE run_kind = 'triage'").to_pylist()
    assert [row["step"] for row in steps] == ["store"]
    assert outcome.num_new == 2


def test_labels_are_suspicious_by_their_neighbours_whose_votes_are_stored(store: Store, tmp_path: Path) -> None:
    vectors = moods(store, tmp_path)
    outcome = run(store, tmp_path, encoder=vectors)
    wrong = found(store)["sad 0"]
    assert wrong["parts"] == {"neighbours": pytest.approx(0.7)}
    assert wrong["labels"] == ["sad", "glad"]
    assert outcome.suspects[0].text == "sad 0"
    assert "faiss" in outcome.search.lower() or "torch" in outcome.search


def test_scores_are_of_a_source_so_that_another_scale_in_another_one_changes_nothing(
    store: Store, tmp_path: Path
) -> None:
    vectors = moods(store, tmp_path)
    run(store, tmp_path, encoder=vectors)
    before = scores(store, "sad 0")
    add_samples(store, *(Classification(text, text) for text in MOODS if text != "sad 0"), name="noise")
    run(store, tmp_path, encoder=vectors)
    assert scores(store, "sad 0") == before


def rewritten(store: Store, original: str, *texts: str, operation: str = "paraphrase") -> None:
    """Samples made from one that is added first."""
    add_samples(store, Classification(original, "port"), name="ports")
    rows = query(store, "SELECT revision_id::VARCHAR AS id, text FROM samples WHERE source = 'ports'").to_pylist()
    [parent] = [UUID(row["id"]) for row in rows if row["text"] == original]
    source = Source("ports", "train", Use.TRAIN, "labelled", "a test", "CC0-1.0", "1")
    drafts = [
        Draft(Classification(text, "port"), source.source_id, operation, "llm", parent_id=parent) for text in texts
    ]
    with store.write() as cursor:
        samples.add_drafts(cursor, drafts, new_id())


def test_a_rewrite_with_other_numbers_stands_out_among_rewrites_and_is_compared_once(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = "The ferry to the island leaves at 6 in the morning."
    good = ["At 6 the morning boat goes to the isle.", "One sails for the isle at 6 every morning."]
    wrong = "Every day a boat for the isle sails at 8."
    rewritten(store, original, *good, wrong)
    vectors = at_angles(tmp_path / "vectors", dict.fromkeys((original, *good, wrong, "late"), 5.0))
    run(store, tmp_path, encoder=vectors)
    parts = found(store)
    assert (parts[wrong]["parts"]["digits"], "digits" in parts[good[0]]["parts"]) == (1.0, False)
    assert scores(store, wrong)["digits"] == pytest.approx(math.sqrt(2))  # of three rewrites, not of four samples
    monkeypatch.setattr(stage.triages, "rewrites", lambda *given: [] if not given[-1] else pytest.fail("looked again"))
    assert run(store, tmp_path, encoder=vectors).num_changed == 0
    assert found(store) == parts


def test_only_what_is_new_or_changed_is_stored_again(store: Store, tmp_path: Path) -> None:
    mined(store)
    run(store, tmp_path)
    again = run(store, tmp_path)
    assert (again.num_samples, again.num_new, again.num_changed) == (8, 0, 0)
    assert [each.text for each in again.suspects] == [QUERIES[0]]  # what is there is told all the same
    seeding.add_samples(store, ["Who paints boats?"], known={NEAR: {"positive_similarity": 0.5}})
    third = run(store, tmp_path)
    assert (third.num_new, third.num_changed) == (1, 1)  # one of nine stands out further than one of eight
    assert query(store, "SELECT count(*) AS n FROM triages").to_pylist() == [{"n": 9}]


def test_a_run_that_was_stopped_goes_on_behind_the_blocks_that_it_stored(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mined(store)
    monkeypatch.setattr(stage, "BLOCK", 3)
    add, blocks = stage.triages.add_triaged, []

    def stopped(*given: Any) -> None:
        blocks.append(given)
        if len(blocks) == 2:
            raise KeyboardInterrupt
        add(*given)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(stage.triages, "add_triaged", stopped)
        run(store, tmp_path)
    assert len(found(store)) == 3
    assert run(store, tmp_path).num_new == 5
    assert [row["status"] for row in query(store, "SELECT status FROM runs WHERE kind = 'triage'").to_pylist()] == [
        "stopped",
        "done",
    ]


def test_the_queue_shows_the_most_suspicious_first_and_the_state_can_be_derived_anew(
    store: Store, tmp_path: Path, plain_queues: None
) -> None:
    mined(store)
    run(store, tmp_path)
    [card] = queues.cards(store, reviewer="ada", limit=1)
    assert (card.content.query, card.parts[0].name) == (QUERIES[0], "similarity")  # type: ignore[union-attr]
    assert found(store)[QUERIES[0]]["queued"] == found(store)[QUERIES[0]]["priority"]
    assert rebuild_state(store) == 0


def test_samples_that_are_held_out_or_rejected_are_left_alone(store: Store, tmp_path: Path) -> None:
    vectors = moods(store, tmp_path)
    add_samples(store, Classification("glad 0", "glad"), name="exam", use=Use.EVAL)
    say(store, Verdict.REJECT, "sad 0")
    outcome = run(store, tmp_path, encoder=vectors)
    assert (outcome.num_samples, "sad 0" in found(store)) == (15, False)


def test_a_part_of_the_store_can_be_looked_at_alone(store: Store, tmp_path: Path) -> None:
    vectors = moods(store, tmp_path)
    mined(store)
    assert run(store, tmp_path, tasks=(Task.RETRIEVAL,)).num_samples == 8
    assert run(store, tmp_path, "moods", encoder=vectors).num_samples == 16
    with pytest.raises(UserError, match="no source is called tunes"):
        run(store, tmp_path, "tunes")


def test_another_encoder_looks_at_everything_again(store: Store, tmp_path: Path) -> None:
    vectors = moods(store, tmp_path)
    run(store, tmp_path, encoder=vectors)
    other = at_angles(tmp_path / "other", {text: angle / 2 for text, angle in MOODS.items()})
    assert run(store, tmp_path, encoder=other).num_changed == 16


def test_an_empty_store_has_nothing_to_look_at(store: Store, tmp_path: Path) -> None:
    outcome = run(store, tmp_path)
    assert replace(outcome, run_id="") == TriageOutcome("", "", "", 0, 0, 0, [], [], [])
