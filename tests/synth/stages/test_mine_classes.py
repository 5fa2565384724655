"""Mining classification samples: the nearest texts of other classes, and what is none of them."""

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyarrow import parquet

from synth.records import Classification, Draft, Task, Use, UserError, Verdict, new_id
from synth.screen import progress
from synth.stages.mine import other_classes
from synth.stages.mine.classes import ClassOutcome, mine_classes, plan_classes
from synth.stages.mine.settings import MineSettings
from synth.stages.release_files import read_rows, samples_file
from synth.store import samples, sources
from synth.store.connection import Store
from synth.store.console import query
from synth.store.verify import verify
from tests.synth.stages.labelled import add_samples, at_angles, say
from tests.synth.stages.releasing import approve_all, create

ANGLES = {
    "what a joy": 0.0,
    "such a delight": 20.0,
    "so very sad": 30.0,
    "a sorry sight": 60.0,
    "how furious": 90.0,
    "mad as hell": 130.0,
}
MOODS = ["glad", "glad", "sad", "sad", "angry", "angry"]


def settings(folder: Path, angles: dict[str, float] | None = None, **changes: Any) -> MineSettings:
    encoder = at_angles(folder / "vectors", angles or ANGLES) if not (folder / "vectors").is_dir() else None
    known = MineSettings(encoder or str(folder / "vectors"), num_negatives=2, near_positive=0.99)
    return replace(known, **changes)


def run(store: Store, folder: Path, chosen: MineSettings, *names: str) -> ClassOutcome:
    plan = plan_classes(store, chosen, names, folder / "cache", device="cpu")
    return mine_classes(store, plan, steps=progress)


def found(store: Store, more: str = "") -> dict[str, list[dict[str, Any]]]:
    """The negatives of each text, by rank."""
    sql = f"SELECT s.text AS asked, n.* FROM negatives n JOIN samples s USING (sample_id) {more} ORDER BY n.rank"
    by_text: dict[str, list[dict[str, Any]]] = {}
    for row in query(store, sql).to_pylist():
        by_text.setdefault(row["asked"], []).append(row)
    return by_text


def texts(rows: list[dict[str, Any]]) -> list[str]:
    return [row["text"] for row in rows]


@pytest.fixture
def moods(store: Store) -> Store:
    """Two texts of each of three classes."""
    add_samples(store, *(Classification(text, label) for text, label in zip(ANGLES, MOODS, strict=True)))
    return store


def test_negatives_are_the_nearest_texts_of_other_classes_with_rank_and_scores(moods: Store, tmp_path: Path) -> None:
    outcome = run(moods, tmp_path, settings(tmp_path))
    rows = found(moods)
    assert texts(rows["what a joy"]) == ["so very sad", "a sorry sight"]
    assert texts(rows["so very sad"]) == ["such a delight", "what a joy"]
    assert texts(rows["mad as hell"]) == ["a sorry sight", "so very sad"]
    assert [row["rank"] for row in rows["what a joy"]] == [1, 2]
    cosines = [float(np.cos(np.radians(degrees))) for degrees in (30, 60)]
    assert [row["score"] for row in rows["what a joy"]] == pytest.approx(cosines, abs=1e-6)
    assert rows["what a joy"][0]["positive_score"] == pytest.approx(float(np.cos(np.radians(20))), abs=1e-6)
    assert {row["origin"] for each in rows.values() for row in each} == {"mined"}
    assert (outcome.num_samples, outcome.num_negatives, outcome.statuses) == (6, 12, {"full": 6})
    ours = ("negative", "mined", "sample_state")
    assert not [problem for problem in verify(moods) if problem.rule.startswith(ours)]


def test_a_sample_nearer_to_another_class_than_to_its_own_is_counted_and_has_a_rank(
    moods: Store, tmp_path: Path
) -> None:
    outcome = run(moods, tmp_path, settings(tmp_path))
    ranks = query(moods, "SELECT text, positive_rank FROM minings JOIN samples USING (sample_id)").to_pylist()
    assert {row["text"]: row["positive_rank"] for row in ranks} == {
        "what a joy": 1, "such a delight": 2, "so very sad": 2, "a sorry sight": 1, "how furious": 2, "mad as hell": 1
    }  # fmt: skip
    assert outcome.num_nearer_others == 3


@pytest.mark.parametrize(("most_masked", "block"), [(0, 5000), (60, 5000), (10**6, 5000), (10**6, 4)])
def test_classes_searched_together_or_one_by_one_find_what_a_plain_search_finds(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most_masked: int, block: int
) -> None:
    monkeypatch.setattr(other_classes, "MOST_MASKED", most_masked)
    monkeypatch.setattr(other_classes, "BLOCK", block)
    random = np.random.default_rng(7)
    angles = {f"text {number} {'abcd'[number % 4] * 9}": float(random.uniform(0, 180)) for number in range(24)}
    label_of = {text: f"class {int(random.integers(5))}" for text in angles}
    add_samples(store, *(Classification(text, label) for text, label in label_of.items()))
    run(store, tmp_path, settings(tmp_path, angles, num_negatives=6, near_positive=0.97, near_duplicate=1.0))
    rows = found(store)
    for asked, angle in angles.items():
        others = sorted((abs(angle - angles[text]), text) for text in angles if label_of[text] != label_of[asked])
        num_near = sum(float(np.cos(np.radians(apart))) >= 0.97 for apart, _ in others)
        aside, wanted = others[: min(num_near, other_classes.MOST_ASIDE)], others[num_near : num_near + 6]
        assert texts(rows[asked]) == [text for _, text in aside + wanted]
        assert sum(bool(row["flags"]) for row in rows[asked]) == len(aside)
        own = min(abs(angle - angles[text]) for text in angles if label_of[text] == label_of[asked] and text != asked)
        assert rows[asked][0]["positive_score"] == pytest.approx(float(np.cos(np.radians(own))), abs=1e-5)


def test_nearly_the_same_text_in_another_class_is_set_aside_with_its_flag_and_takes_no_place(
    store: Store, tmp_path: Path
) -> None:
    angles = ANGLES | {"pure happiness": 1.0, "what a joy oh": 25.0}
    add_samples(store, *(Classification(text, label) for text, label in zip(ANGLES, MOODS, strict=True)))
    add_samples(store, Classification("pure happiness", "sad"), Classification("what a joy oh", "angry"))
    outcome = run(store, tmp_path, settings(tmp_path, angles, near_duplicate=0.7))
    rows = found(store)["what a joy"]
    flagged = {row["text"]: row["flags"] for row in rows if row["flags"]}
    assert flagged == {"pure happiness": ["near_positive"], "what a joy oh": ["near_duplicate"]}
    assert texts([row for row in rows if not row["flags"]]) == ["so very sad", "a sorry sight"]
    assert [row["rank"] for row in rows] == [1, 2, 3, 4]
    assert rows[0]["positive_similarity"] == pytest.approx(float(np.cos(np.radians(1))), abs=1e-6)
    assert rows[1]["overlap"] == 0.75
    assert outcome.flags["near_duplicate"] == 2  # each for the other
    fallen = query(store, "SELECT fallen FROM minings JOIN samples USING (sample_id) WHERE text = 'what a joy'")
    assert fallen.to_pylist() == [{"fallen": '{"near_duplicate": 1, "near_positive": 1}'}]


def test_what_is_held_out_or_rejected_or_of_another_source_is_no_negative(moods: Store, tmp_path: Path) -> None:
    add_samples(moods, Classification("So very SAD!", "sad"), name="exam", use=Use.EVAL)
    add_samples(moods, Classification("elsewhere", "odd"), Classification("yonder", "even"), name="other")
    say(moods, Verdict.REJECT, "a sorry sight")
    outcome = run(moods, tmp_path, settings(tmp_path), "moods")
    assert set(found(moods)) == {"what a joy", "such a delight", "how furious", "mad as hell"}
    for rows in found(moods).values():
        assert not {"so very sad", "a sorry sight", "elsewhere", "yonder"} & set(texts(rows))
    assert outcome.left_out == {"held_out": 1}


def test_a_text_with_two_classes_is_no_negative_until_one_of_them_is_rejected(moods: Store, tmp_path: Path) -> None:
    add_samples(moods, Classification("So, very sad", "angry"))
    outcome = run(moods, tmp_path, settings(tmp_path))
    assert outcome.left_out == {"several_classes": 2, "alone": 1}
    assert "so very sad" not in {text for rows in found(moods).values() for text in texts(rows)}
    say(moods, Verdict.REJECT, "So, very sad")
    again = run(moods, tmp_path, settings(tmp_path))
    assert (again.num_samples, again.left_out) == (2, {})
    assert texts(found(moods)["so very sad"]) == ["such a delight", "what a joy"]


def test_texts_that_differ_in_case_and_punctuation_are_one_negative_and_no_positive_of_each_other(
    moods: Store, tmp_path: Path
) -> None:
    add_samples(moods, Classification("So very sad!", "sad"))
    run(moods, tmp_path, settings(tmp_path))
    [one] = {text for text in texts(found(moods)["what a joy"]) if "so very sad" in text.lower()}
    both = [found(moods)[text] for text in ("so very sad", "So very sad!")]
    assert texts(both[0]) == texts(both[1])
    assert both[0][0]["positive_score"] == pytest.approx(float(np.cos(np.radians(30))), abs=1e-6)
    assert one


def test_a_text_alone_in_its_class_and_a_source_of_one_class_wait(store: Store, tmp_path: Path) -> None:
    add_samples(store, Classification("what a joy", "glad"), Classification("such a delight", "glad"))
    assert run(store, tmp_path, settings(tmp_path)).left_out == {"no_other_class": 2}
    add_samples(store, Classification("so very sad", "sad"))
    outcome = run(store, tmp_path, settings(tmp_path))
    assert (outcome.left_out, outcome.statuses) == ({"alone": 1}, {"short": 2})
    reasons = query(store, "SELECT DISTINCT reason FROM minings").to_pylist()
    assert reasons == [{"reason": "1 texts of other classes, 0 of them nearly the same text"}]


def test_a_second_run_mines_what_is_new_alone_and_other_settings_mine_again(moods: Store, tmp_path: Path) -> None:
    first = run(moods, tmp_path, settings(tmp_path))
    assert run(moods, tmp_path, settings(tmp_path)).num_samples == 0
    add_samples(moods, Classification("Mad as hell!?", "angry"))
    assert run(moods, tmp_path, settings(tmp_path)).num_samples == 1
    assert run(moods, tmp_path, settings(tmp_path, num_negatives=1)).num_samples == 7
    assert asdict(first)["statuses"] == {"full": 6}
    stated = "config->>'task' AS task, config->>'rank_min' AS rank_min, config->>'num_negatives' AS number"
    kinds = query(moods, f"SELECT {stated} FROM runs WHERE kind = 'mine' ORDER BY started_at").to_pylist()
    assert kinds[-1] == {"task": "classification", "rank_min": None, "number": "1"}  # what does not count is not stated


def test_a_run_that_was_stopped_goes_on_behind_the_groups_that_it_stored(
    moods: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(other_classes, "BLOCK", 2)
    mine, groups = other_classes.OtherClasses.mine, []

    def stopped(self: other_classes.OtherClasses, group: Any) -> Any:
        groups.append(group)
        if len(groups) == 2:
            raise KeyboardInterrupt
        return mine(self, group)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(other_classes.OtherClasses, "mine", stopped)
        run(moods, tmp_path, settings(tmp_path))
    assert len(found(moods)) == 2
    assert run(moods, tmp_path, settings(tmp_path)).num_samples == 4
    assert {len(rows) for rows in found(moods).values()} == {2} and len(found(moods)) == 6


def test_negatives_asked_for_must_be_some(moods: Store, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="num_negatives is 0: ask for 1 or more"):
        run(moods, tmp_path, settings(tmp_path, num_negatives=0))
    with pytest.raises(UserError, match="no source is called tunes"):
        run(moods, tmp_path, settings(tmp_path), "tunes")


def released(store: Store, folder: Path, name: str, **policy: Any) -> dict[str, list[str]]:
    path = create(store, folder, name, near_duplicates=False, **policy).path
    return {row["text"]: texts(row["negatives"]) for row in read_rows(path, Task.CLASSIFICATION)}


def test_a_release_takes_negatives_by_rank_and_only_texts_that_are_in_it(moods: Store, tmp_path: Path) -> None:
    run(moods, tmp_path, settings(tmp_path))
    approve_all(moods)
    negatives = released(moods, tmp_path, "all", judged="any")
    assert negatives["what a joy"] == ["so very sad", "a sorry sight"]
    assert released(moods, tmp_path, "one", max_negatives=1)["what a joy"] == ["so very sad"]
    say(moods, Verdict.REJECT, "so very sad")
    assert released(moods, tmp_path, "fewer", max_negatives=1)["what a joy"] == ["a sorry sight"]
    add_samples(moods, Classification("a  sorry sight", "zany"))  # now of two classes
    approve_all(moods)
    assert released(moods, tmp_path, "none")["what a joy"] == []


def test_a_release_takes_no_negative_that_was_set_aside_by_the_latest_mining(moods: Store, tmp_path: Path) -> None:
    run(moods, tmp_path, settings(tmp_path))
    run(moods, tmp_path, settings(tmp_path, near_positive=0.85, num_negatives=1))
    approve_all(moods)
    assert "so very sad" in texts(found(moods)["what a joy"])
    assert released(moods, tmp_path, "first")["what a joy"] == ["a sorry sight"]


def test_what_repeats_a_set_held_out_since_is_no_negative_in_a_release(moods: Store, tmp_path: Path) -> None:
    run(moods, tmp_path, settings(tmp_path))
    add_samples(moods, Classification("so very sad", "sad"), name="exam", use=Use.EVAL)
    approve_all(moods)
    negatives = released(moods, tmp_path, "first", max_negatives=1)
    assert "so very sad" not in negatives
    assert negatives["what a joy"] == ["a sorry sight"]


def test_a_release_from_before_classes_were_mined_reads_as_one_without_negatives(moods: Store, tmp_path: Path) -> None:
    approve_all(moods)
    path = create(moods, tmp_path, near_duplicates=False).path
    file = samples_file(path, Task.CLASSIFICATION)
    table = parquet.read_table(file)
    file.chmod(0o644)
    parquet.write_table(table.drop_columns(["negatives"]), file)
    assert [row["negatives"] for row in read_rows(path, Task.CLASSIFICATION)] == [[]] * 6
    parquet.write_table(table.drop_columns(["label"]), file)
    with pytest.raises(UserError, match="misses the columns label"):
        list(read_rows(path, Task.CLASSIFICATION))


def test_a_paraphrase_keeps_its_class_and_is_mined_like_any_text(moods: Store, tmp_path: Path) -> None:
    with moods.write() as cursor:
        [(source_id,)] = cursor.execute("SELECT source_id FROM source").fetchall()
        samples.add_drafts(cursor, [Draft(Classification("overjoyed", "glad"), source_id, "paraphrase")], new_id())
    run(moods, tmp_path, settings(tmp_path, ANGLES | {"overjoyed": 10.0}))
    assert texts(found(moods)["overjoyed"]) == ["so very sad", "a sorry sight"]
    assert sources.source_names(moods) == ["moods"]
