"""Which seeds a run begins with: of samples those that a condition chooses, and a line where most are unproven."""

import re
from pathlib import Path

import pytest

from synth.records import Draft, Retrieval, Source, Task, UserError, new_id
from synth.stages.generate.plan import GeneratePlan, Wanted, plan_generate
from synth.store import samples
from synth.store.connection import Store
from tests.synth.stages.generating import asking

LABELLED, GENERATED = "who dug the harbour?", "which harbour has a lighthouse?"


@pytest.fixture
def filled(store: Store, training_source: Source) -> Store:
    """A sample that people labelled, and one that an LLM wrote."""
    drafts = [
        Draft(Retrieval(query, (f"{query} It says so here.",)), training_source.source_id, operation)
        for query, operation in ((LABELLED, "ingest"), (GENERATED, "query"))
    ]
    with store.write() as cursor:
        samples.add_drafts(cursor, drafts, new_id())
    return store


def plan(store: Store, folder: Path, where: str | None = None, operation: str = "paraphrase") -> GeneratePlan:
    wanted = Wanted(Task.RETRIEVAL, operation, where=where)
    return plan_generate(store, wanted, asking(folder, "http://127.0.0.1:9/v1"))


def seeds(store: Store, made: GeneratePlan) -> list[str]:
    return [str(getattr(seed, "content", seed)) for seed in made.loaded(store)]


def test_a_condition_over_samples_chooses_the_seeds_and_is_kept_with_the_run(filled: Store, tmp_path: Path) -> None:
    both = plan(filled, tmp_path)
    made = plan(filled, tmp_path, "operation = 'ingest'")
    assert len(both.seeds) == 2 and made.config["where"] == "operation = 'ingest'"
    [seed] = seeds(filled, made)
    assert LABELLED in seed and made.of.untried(filled, made.stage_key) == list(made.seeds)
    assert made.stage_key == both.stage_key  # what is done stays done, whatever chose it


def test_seeds_that_nobody_approved_are_counted_in_a_line(filled: Store, tmp_path: Path) -> None:
    [note] = plan(filled, tmp_path).notes
    assert note.startswith("1 of 2 seeds were generated, and nobody approved them; to choose: --where ")
    assert plan(filled, tmp_path, "operation = 'ingest'").notes == []


@pytest.mark.parametrize(
    ("where", "operation", "said"),
    [
        (
            "operation = 'ingest'",
            "query",
            "--where chooses among samples, and query starts from passages",
        ),
        ("query = 'none'", "paraphrase", "no retrieval sample to start from meets the condition \"query = 'none'\""),
        ("true); DROP TABLE sample_state; --", "paraphrase", "is not one SQL expression"),
        ("no_column = 1", "paraphrase", "no_column"),
        ("", "paraphrase", "the condition '' is not one SQL expression"),
    ],
)
def test_a_condition_that_chooses_nothing_is_refused(
    filled: Store, tmp_path: Path, where: str, operation: str, said: str
) -> None:
    with pytest.raises(UserError, match=re.escape(said)):
        plan(filled, tmp_path, where, operation)
